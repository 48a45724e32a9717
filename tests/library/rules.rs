//! The rules of `src/README.md`, "What never happens", as far as the source text shows whether they hold.
//! One more: every file of tests belongs to a program.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Modules of the binary; the rest of `src` is the library.
fn modules_of_the_binary() -> BTreeSet<String> {
    let main = std::fs::read_to_string(source("src/main.rs")).unwrap();
    let modules = main.lines().filter_map(|line| Some(line.strip_prefix("mod ")?.strip_suffix(';')?.to_owned()));
    let modules: BTreeSet<String> = modules.chain(["main".to_owned()]).collect();
    assert!(modules.contains("commands") && modules.contains("terminal"), "{modules:?}");
    modules
}

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Files of the library: their path below `src`, and their lines without comments and unit tests.
fn library() -> Vec<(String, String)> {
    let (root, binary) = (source("src"), modules_of_the_binary());
    let mut found = Vec::new();
    files(&root, &mut found);
    let name = |path: &Path| path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
    let rust = found.iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let library: Vec<(String, String)> = rust
        .map(|path| (name(path), std::fs::read_to_string(path).unwrap()))
        .filter(|(name, _)| !binary.contains(name.split(['/', '.']).next().unwrap()))
        .filter(|(name, _)| !name.starts_with("web/site/")) // a program of its own
        .map(|(name, text)| (name, code(&text)))
        .collect();
    assert!(library.len() > 60, "{} files", library.len());
    library
}

/// The text up to its unit tests, without comments.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let without_comment = |line: &str| line.split("//").next().unwrap().trim_end().to_owned();
    text.lines().map(without_comment).collect::<Vec<_>>().join("\n")
}

/// Files of the library that contain one of `texts`.
fn files_with(texts: &[&str]) -> BTreeSet<String> {
    library()
        .into_iter()
        .filter(|(_, code)| texts.iter().any(|text| code.contains(text)))
        .map(|(name, _)| name)
        .collect()
}

#[track_caller]
fn only(allowed: &[&str], texts: &[&str]) {
    let expected: BTreeSet<String> = allowed.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(files_with(texts), expected, "files that contain {texts:?}");
}

#[test]
fn only_gpu_uses_wgpu_and_only_any_backend_and_the_tab_depend_on_gpu() {
    let outside = |texts: &[&str]| {
        let found = files_with(texts);
        found.into_iter().filter(|name| name != "gpu.rs" && !name.starts_with("gpu/")).collect::<Vec<_>>()
    };
    // The first hands out the device of wgpu; the tab looks for adapters.
    assert_eq!(outside(&["wgpu::"]), ["any_backend.rs", "web.rs", "web/run.rs"]);
    assert_eq!(outside(&["crate::gpu", "gpu::Gpu"]), ["any_backend.rs", "web.rs"]);
}

#[test]
fn one_place_makes_pipelines_one_makes_bind_groups_and_one_submits() {
    only(&["gpu/compiler.rs"], &["create_compute_pipeline(", "create_shader_module(", "create_bind_group_layout("]);
    only(&["gpu/kernel.rs"], &["create_bind_group("]);
    only(&["gpu/device.rs"], &["queue.submit(", "create_buffer("]);
    only(&["gpu/device.rs"], &["PollType::"]);
    let callers_of_wait = files_with(&["gpu.wait(", "self.wait("]);
    assert_eq!(callers_of_wait.into_iter().collect::<Vec<_>>(), ["gpu/device.rs", "gpu/readback.rs"]);
}

#[test]
fn the_library_prints_nothing() {
    only(&[], &["println!", "print!(", "eprint", "dbg!", "stdout()", "stderr()"]);
}

#[test]
fn the_training_loop_the_backends_and_the_mathematics_know_no_clock_network_or_thread() {
    let found = files_with(&["Instant::", "SystemTime", "std::net", "ureq", "thread::spawn", "std::process"]);
    let core =
        ["backend.rs", "gpu", "loss", "math", "model", "optimizer", "plan.rs", "random.rs", "reference", "trainer"];
    let in_core = |name: &String| core.iter().any(|room| name.starts_with(room));
    let exempt = ["gpu/self_test.rs"]; // measures what a dispatch costs, on native targets only
    let found: Vec<String> = found.into_iter().filter(in_core).filter(|name| !exempt.contains(&&**name)).collect();
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn no_code_outside_data_depends_on_a_size_of_mnist() {
    let numbers = [" 784", "(784", "[784", "60_000", "60000", "10_000)", "(28", " 28 ", " 28,", "28]"];
    let found: Vec<String> = files_with(&numbers).into_iter().filter(|name| !name.starts_with("data")).collect();
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn no_float_is_added_atomically() {
    let mut found = Vec::new();
    files(&source("shaders"), &mut found);
    let atomics =
        found.iter().filter(|path| path.extension().is_some_and(|extension| extension == "wgsl")).flat_map(|path| {
            let code = code(&std::fs::read_to_string(path).unwrap());
            code.lines().filter(|line| line.contains("atomic<")).map(str::to_owned).collect::<Vec<_>>()
        });
    let atomics: Vec<String> = atomics.collect();
    assert!(!atomics.is_empty(), "evaluation counts with one");
    assert!(atomics.iter().all(|line| line.contains("atomic<u32>")), "{atomics:?}");
}

#[test]
fn every_file_of_tests_is_a_module_of_its_program() {
    for program in ["tests/library", "tests/command_line"] {
        let main = std::fs::read_to_string(source(program).join("main.rs")).unwrap();
        for entry in std::fs::read_dir(source(program)).unwrap() {
            let path = entry.unwrap().path();
            let (stem, is_rust) = (path.file_stem().unwrap().to_str().unwrap(), path.extension().is_some());
            let is_module = stem == "main" || main.contains(&format!("\nmod {stem};\n"));
            assert!(!is_rust || is_module, "{program}/main.rs lacks `mod {stem};`: its tests would never run");
        }
    }
}
