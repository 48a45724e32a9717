//! The shaders, without any adapter: every program that can run is valid WGSL for naga and for tint.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

use crate::skip::skipped;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use softstep::gpu::kernel::{Program, StepUniforms};
use softstep::gpu::kernels::programs;

fn parse(program: &Program) -> naga::Module {
    naga::front::wgsl::parse_str(&program.source())
        .unwrap_or_else(|error| panic!("{}: {}", program.name, error.emit_to_string(&program.source())))
}

#[test]
fn every_program_is_valid_for_naga() {
    for program in programs() {
        let module = parse(&program);
        Validator::new(ValidationFlags::all(), Capabilities::SUBGROUP)
            .validate(&module)
            .unwrap_or_else(|error| panic!("{}: {}", program.name, error.emit_to_string(&program.source())));
        assert!(
            module.entry_points.iter().any(|entry| entry.name == program.entry),
            "{}: no entry point {}",
            program.name,
            program.entry
        );
    }
}

/// tint is the compiler of browsers. Unlike naga it wants subgroups enabled in the text, and it rejects a broadcast
/// that not every lane is sure to reach.
#[test]
fn every_program_is_valid_for_tint() {
    if Command::new("tint").arg("--help").output().is_err() {
        skipped("tint is not on the PATH");
        return;
    }
    for program in programs() {
        let mut tint = Command::new("tint")
            .args(["--format", "wgsl", "--input-format", "wgsl", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let source = format!("enable subgroups;\n{}", program.source());
        tint.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
        let output = tint.wait_with_output().unwrap();
        assert!(output.status.success(), "{}: {}", program.name, String::from_utf8_lossy(&output.stderr));
    }
}

/// Every shader file, with its path below `shaders/`.
fn files() -> Vec<(String, String)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let (mut folders, mut files) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "wgsl") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
                files.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn every_shader_file_is_used_by_a_program() {
    let programs = programs();
    let used: BTreeSet<_> =
        programs.iter().flat_map(|program| program.parts.iter().map(|part| (part.path, part.text))).collect();
    for (path, text) in files() {
        assert!(used.contains(&(path.as_str(), text.as_str())), "no program uses {path}");
    }
}

#[test]
fn programs_of_one_name_differ_only_in_their_way_to_multiply() {
    let mut known: BTreeMap<&str, BTreeSet<&str>> = Default::default();
    for program in programs() {
        let parts = program.parts.iter().map(|part| part.path).filter(|path| !path.starts_with("matmul/")).collect();
        assert_eq!(known.entry(program.name).or_insert_with(|| BTreeSet::clone(&parts)), &parts, "{}", program.name);
    }
}

/// Names that a part provides to others, and that it needs of them.
#[derive(Default, PartialEq)]
struct Names {
    provides: BTreeSet<String>,
    needs: BTreeSet<String>,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        write!(f, "Provides: {} Needs: {}", list(&self.provides), list(&self.needs))
    }
}

/// Names of functions, bindings, overrides, constants and structs that a function refers to.
fn references(module: &naga::Module, function: &naga::Function) -> BTreeSet<String> {
    fn calls(module: &naga::Module, block: &naga::Block, names: &mut BTreeSet<String>) {
        for statement in block {
            match statement {
                naga::Statement::Call { function, .. } => names.extend(module.functions[*function].name.clone()),
                naga::Statement::Block(block) => calls(module, block, names),
                naga::Statement::If { accept, reject, .. } => {
                    [accept, reject].into_iter().for_each(|block| calls(module, block, names));
                }
                naga::Statement::Switch { cases, .. } => cases.iter().for_each(|case| calls(module, &case.body, names)),
                naga::Statement::Loop { body, continuing, .. } => {
                    [body, continuing].into_iter().for_each(|block| calls(module, block, names));
                }
                _ => (),
            }
        }
    }
    let mut names = BTreeSet::new();
    calls(module, &function.body, &mut names);
    let mut types: Vec<_> = function.arguments.iter().map(|argument| argument.ty).collect();
    types.extend(function.result.as_ref().map(|result| result.ty));
    types.extend(function.local_variables.iter().map(|(_, variable)| variable.ty));
    for (_, expression) in function.expressions.iter() {
        match *expression {
            naga::Expression::GlobalVariable(handle) => names.extend(module.global_variables[handle].name.clone()),
            naga::Expression::Override(handle) => names.extend(module.overrides[handle].name.clone()),
            naga::Expression::Constant(handle) => names.extend(module.constants[handle].name.clone()),
            naga::Expression::Compose { ty, .. } => types.push(ty),
            _ => (),
        }
    }
    names.extend(types.into_iter().filter_map(|ty| module.types[ty].name.clone()));
    names
}

/// What each part provides and needs in any program, by naga's reflection. Entry points are provided to the host.
fn reflected() -> BTreeMap<&'static str, Names> {
    let mut all: BTreeMap<&str, Names> = BTreeMap::new();
    for program in programs() {
        let module = parse(&program);
        // The part that declares a name; the texts of others do not.
        let declares = |text: &str, name: &str| {
            let starts = [format!("fn {name}("), format!("struct {name} "), format!("override {name}:")];
            let ends = [format!("> {name}:"), format!("const {name}:")];
            starts.iter().chain(&ends).any(|pattern| text.contains(pattern.as_str()))
        };
        let part_of = |name: &str| {
            let declaring: Vec<_> =
                program.parts.iter().filter(|part| declares(part.text, name)).map(|part| part.path).collect();
            assert_eq!(declaring.len(), 1, "{}: {name} is declared in {declaring:?}", program.name);
            declaring[0]
        };
        let functions = module.functions.iter().map(|(_, function)| function);
        let entries = module.entry_points.iter().map(|entry| (entry.name.clone(), &entry.function));
        let named = functions.map(|function| (function.name.clone().unwrap(), function)).chain(entries);
        for (name, function) in named {
            let user = part_of(&name);
            for used in references(&module, function) {
                let provider = part_of(&used);
                if provider != user {
                    all.entry(provider).or_default().provides.insert(used.clone());
                    all.entry(user).or_default().needs.insert(used);
                }
            }
        }
        for entry in &module.entry_points {
            all.entry(part_of(&entry.name)).or_default().provides.insert(entry.name.clone());
        }
        // An override may size another part's array, or be set by the host alone.
        for part in &program.parts {
            all.entry(part.path).or_default();
        }
    }
    all
}

/// The names that the comment at the head of a file lists after `Provides:` and `Needs:`.
fn listed(text: &str) -> Names {
    let comment: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("//")).collect();
    let list = |title: &str| {
        let comment = comment.join(" ");
        let Some((_, rest)) = comment.split_once(title) else { return BTreeSet::new() };
        let (names, _) = rest.split_once('.').unwrap_or_else(|| panic!("the list after {title} has no end: {rest}"));
        names.split(',').map(|name| name.trim().to_owned()).collect()
    };
    Names { provides: list("Provides:"), needs: list("Needs:") }
}

#[test]
fn every_part_says_what_it_provides_and_what_it_needs() {
    let reflected = reflected();
    let wrong: Vec<String> = files()
        .iter()
        .filter(|(path, text)| reflected.get(path.as_str()).is_some_and(|names| *names != listed(text)))
        .map(|(path, text)| format!("{path}: {:?}\n    its head: {:?}", reflected[path.as_str()], listed(text)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Files of the project with this extension, in these folders or at the root.
fn project_files(folders: &[&str], extensions: &[&str]) -> Vec<std::path::PathBuf> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut open: Vec<_> = folders.iter().map(|folder| root.join(folder)).collect();
    let mut files = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extensions.iter().any(|known| extension == *known)) {
            files.push(path);
        }
    }
    files
}

#[test]
fn every_shader_file_that_is_named_anywhere_exists() {
    let shaders = files();
    let exists = |name: &str| shaders.iter().any(|(path, _)| path == name || path.rsplit('/').next() == Some(name));
    let mut named = 0;
    for path in project_files(&["src", "shaders", "tests", "benches", "README.md"], &["rs", "wgsl", "md"]) {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || "_/.-".contains(c))) {
            let word = word.trim_matches('.');
            let Some(stem) = word.strip_suffix(".wgsl") else { continue };
            let name = word.strip_prefix("shaders/").unwrap_or(word);
            assert!(stem.is_empty() || exists(name), "{} names {word}, which does not exist", path.display());
            named += 1;
        }
    }
    assert!(named > 20, "only {named} names were found");
}

/// The tests of kernels are files of the kernels' names; a loss and an optimizer are kernels by themselves.
#[test]
fn every_kernel_has_a_test_of_its_name() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let stem = |path: &std::path::Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let mut kernels = BTreeSet::new();
    for path in project_files(&["src/gpu/kernels"], &["rs"]) {
        match stem(&path).as_str() {
            "loss" | "update" => {}
            name => drop(kernels.insert(name.to_owned())),
        }
    }
    for (path, text) in files() {
        let is_loss = path.starts_with("loss/") && ["fn train_row(", "fn error_loss("].iter().any(|f| text.contains(f));
        let is_optimizer = path.starts_with("optimizer/") && path != "optimizer/store_gradient.wgsl";
        if (is_loss && path != "loss/pointwise.wgsl") || is_optimizer {
            kernels.insert(stem(std::path::Path::new(&path)));
        }
    }
    let modules = std::fs::read_to_string(root.join("tests/library/kernels.rs")).unwrap();
    for kernel in kernels {
        let tests =
            std::fs::read_to_string(root.join(format!("tests/library/kernels/{kernel}.rs"))).unwrap_or_default();
        assert!(
            tests.contains("#[test]") && modules.contains(&format!("\nmod {kernel};\n")),
            "the kernel {kernel} has no test tests/library/kernels/{kernel}.rs, or tests/library/kernels.rs lacks it"
        );
    }
}

/// Chrome keeps what a variable of a loop held in the turn before where its declaration has no value, against WGSL.
#[test]
fn every_variable_in_a_loop_is_declared_with_a_value() {
    for (path, text) in files() {
        let mut depths: Vec<bool> = Vec::new(); // for each open brace whether it is a loop's
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap().trim();
            let is_loop = code.starts_with("for ") || code.starts_with("loop") || code.starts_with("while ");
            if code.starts_with("var ") && depths.contains(&true) {
                assert!(code.contains('='), "{path}, line {}: {code}", number + 1);
            }
            for character in code.chars() {
                match character {
                    '{' => depths.push(is_loop),
                    '}' => drop(depths.pop()),
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn the_step_record_has_the_layout_of_the_shaders_struct() {
    let module = parse(&programs()[0]);
    let step = module.types.iter().find(|(_, ty)| ty.name.as_deref() == Some("Step")).unwrap().1;
    let naga::TypeInner::Struct { members, span } = &step.inner else { panic!("Step is no struct") };
    let offsets: Vec<(&str, usize)> =
        members.iter().map(|member| (member.name.as_deref().unwrap(), member.offset as usize)).collect();
    let expected = [
        ("first_block", std::mem::offset_of!(StepUniforms, first_block)),
        ("batch", std::mem::offset_of!(StepUniforms, batch)),
        ("first_row", std::mem::offset_of!(StepUniforms, first_row)),
        ("learning_rate", std::mem::offset_of!(StepUniforms, learning_rate)),
        ("weight", std::mem::offset_of!(StepUniforms, weight)),
        ("first_tile", std::mem::offset_of!(StepUniforms, first_tile)),
        ("moment_scales", std::mem::offset_of!(StepUniforms, moment_scales)),
        ("key", std::mem::offset_of!(StepUniforms, key)),
        ("first_part", std::mem::offset_of!(StepUniforms, first_part)),
        ("others", std::mem::offset_of!(StepUniforms, others)),
        ("batch_row", std::mem::offset_of!(StepUniforms, batch_row)),
    ];
    assert_eq!(offsets, expected);
    assert_eq!(*span as usize, size_of::<StepUniforms>());
}
