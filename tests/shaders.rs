//! The shaders, without any adapter: every program that can run is valid WGSL for naga and for tint.

mod skip;

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use naga::valid::{Capabilities, ValidationFlags, Validator};
use skip::skipped;
use softstep::gpu::kernel::{Program, StepRecord};
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
    let mut known: std::collections::BTreeMap<&str, BTreeSet<&str>> = Default::default();
    for program in programs() {
        let parts = program.parts.iter().map(|part| part.path).filter(|path| !path.starts_with("matmul/")).collect();
        assert_eq!(known.entry(program.name).or_insert_with(|| BTreeSet::clone(&parts)), &parts, "{}", program.name);
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
        ("first_block", std::mem::offset_of!(StepRecord, first_block)),
        ("batch", std::mem::offset_of!(StepRecord, batch)),
        ("first_row", std::mem::offset_of!(StepRecord, first_row)),
        ("learning_rate", std::mem::offset_of!(StepRecord, learning_rate)),
        ("weight", std::mem::offset_of!(StepRecord, weight)),
        ("first_tile", std::mem::offset_of!(StepRecord, first_tile)),
        ("moment_scales", std::mem::offset_of!(StepRecord, moment_scales)),
        ("key", std::mem::offset_of!(StepRecord, key)),
        ("first_part", std::mem::offset_of!(StepRecord, first_part)),
    ];
    assert_eq!(offsets, expected);
    assert_eq!(*span as usize, size_of::<StepRecord>());
}
