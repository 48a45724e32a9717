//! Every input/output call of a run fails, is the first on a full disk, or is the last before the process is killed: each in
//! turn, and from what is left the run goes on to the bits of an undisturbed one.
//!
//! `inject.c` does that by ptrace(2), in every thread and whichever library makes the call. What it skips: calls on files
//! outside the folder of the test (the program itself, its libraries, `/proc`), `close`, `mmap`, and writes that come half
//! the way; on the GPU backend threads, too, of which drivers make their own and do not live without. By default some calls
//! are taken in each way, which begin at different ones: every third of a plain run, every twentieth of the other kinds;
//! `SOFTSTEP_TEST_STRIDE=1 cargo test --test command_line injection::` takes every one.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::binary::{Run, finished};
use crate::skip;
use serde_json::Value;
use tempfile::TempDir;

/// Takes every kind of file that a run has.
const TRAIN: [&str; 10] = [
    "train",
    "--data=digits",
    "--backend=cpu",
    "--epochs=2",
    "--batch-size=100",
    "--checkpoint-every=6",
    "--validation=0.1",
    "--keep=best",
    "--tensorboard",
    "--out=run",
];

/// A kind of run.
struct Kind {
    /// The command that trains it, in the folder `run`.
    train: &'static [&'static str],
    /// Makes what it needs in a folder.
    prepare: fn(&Path),
    /// Calls of which one is taken by default.
    stride: usize,
    /// Of a debug build: how much of the data the device may hold, so that the rest is streamed.
    resident_bytes: Option<&'static str>,
}

const PLAIN: Kind = Kind { train: &TRAIN, prepare: |_| {}, stride: 3, resident_bytes: None };

impl Kind {
    fn uses_gpu(&self) -> bool {
        self.train.contains(&"--backend=gpu")
    }
}

/// The tracer, compiled; `None` where there is no compiler or no right to trace.
fn tracer() -> Option<&'static Path> {
    static TRACER: OnceLock<Option<(TempDir, PathBuf)>> = OnceLock::new();
    let made = TRACER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inject");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/command_line/injection/inject.c");
        let compiled = Command::new("cc").args(["-O1", "-Wall", "-o"]).arg(&path).arg(source).status();
        let traces = |path: &Path| {
            let output = folder.path().join("count");
            let mut command = Command::new(path);
            command.args(["count", "0", "/nowhere"]).arg(output).arg("/bin/true").status().is_ok_and(|it| it.success())
        };
        (compiled.is_ok_and(|status| status.success()) && traces(&path)).then_some((folder, path))
    });
    made.as_ref().map(|(_, path)| path.as_path())
}

/// A folder of its own, with `tmp` and `home` in it.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["tmp", "home"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    folder
}

fn places(command: &mut Command, folder: &Path, kind: &Kind) {
    command.current_dir(folder).stdin(Stdio::null()).env("TMPDIR", folder.join("tmp")).env("HOME", folder.join("home"));
    command.env("RAYON_NUM_THREADS", "2");
    for variable in ["RUST_LOG", "SOFTSTEP_DATA_DIR", "XDG_CACHE_HOME"] {
        command.env_remove(variable);
    }
    if kind.uses_gpu() {
        // The driver keeps its shaders there: those are its files, not the run's.
        static SHADERS: OnceLock<TempDir> = OnceLock::new();
        command.env("XDG_CACHE_HOME", SHADERS.get_or_init(|| tempfile::tempdir().unwrap()).path());
        command.env("INJECT_FILES_ALONE", "1");
    }
    command.envs(kind.resident_bytes.map(|bytes| ("SOFTSTEP_RESIDENT_BYTES", bytes)));
}

/// Runs the program with its `call`th call disturbed; gives how many calls there were, too.
fn injected(folder: &Path, kind: &Kind, mode: &str, call: usize, arguments: &[&str]) -> (Run, usize) {
    let path = folder.canonicalize().unwrap();
    let counted = tempfile::NamedTempFile::new().unwrap();
    let [stdout, stderr] = ["stdout", "stderr"].map(|name| path.join(name));
    let mut command = Command::new(tracer().unwrap());
    command.args([mode, &call.to_string()]).arg(&path).arg(counted.path()).arg(env!("CARGO_BIN_EXE_softstep"));
    places(&mut command, &path, kind);
    // Files of the folder, so that writing to them is disturbed, too.
    command.stdout(fs::File::create(&stdout).unwrap()).stderr(fs::File::create(&stderr).unwrap());
    let status = command.args(arguments).status().unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|path| fs::read_to_string(path).unwrap());
    let calls = fs::read_to_string(counted.path()).unwrap().trim().parse().unwrap();
    (Run { code: status.code().unwrap_or(-1), stdout, stderr: stderr.trim_end().into() }, calls)
}

fn undisturbed(folder: &Path, kind: &Kind, arguments: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_softstep"));
    places(&mut command, folder, kind);
    finished(command.args(arguments).output().unwrap())
}

/// What a run leaves that is the same each time: its model, its metrics and its settings.
type Outcome = (Vec<u8>, Vec<u8>, Value);

/// The outcome of a run that left everything.
fn outcome(run: &Path) -> Option<Outcome> {
    let json = |name| serde_json::from_slice::<Value>(&fs::read(run.join(name)).ok()?).ok();
    let (mut config, results) = (json("config.json")?, json("results.json")?);
    // A config.json that was lost is written anew by --resume, which does not know the first command.
    config["source"].as_object_mut()?.remove("arguments");
    let is_whole = results["outcome"] == "ended" && results["test"].is_object() && run.join("report.html").exists();
    let read = |name| fs::read(run.join(name)).ok();
    is_whole.then_some((read("model.safetensors")?, read("metrics.jsonl")?, config))
}

/// The outcome of an undisturbed run.
fn expected(kind: &Kind) -> Outcome {
    let folder = folder();
    (kind.prepare)(folder.path());
    let run = undisturbed(folder.path(), kind, kind.train);
    assert_eq!(run.code, 0, "{run:?}");
    outcome(&folder.path().join("run")).expect("a whole run folder")
}

/// Disturbs a command on a run that `prepare` has prepared in each way at each call, or at one of so many as
/// `SOFTSTEP_TEST_STRIDE` says.
fn survives(name: &str, kind: &Kind, arguments: &[&str], prepare: impl Fn(&Path)) {
    if tracer().is_none() {
        skip::skipped_outside_ci("every call can fail where there is cc, and the right to trace a process");
        return;
    }
    let stride = std::env::var("SOFTSTEP_TEST_STRIDE").map_or(kind.stride, |stride| stride.parse().unwrap());
    let expected = expected(kind);
    // Its data may lie in another folder of the same making.
    let is_expected = |folder: &Path| {
        let outcome = outcome(folder);
        outcome.is_some_and(|outcome| without_places(outcome) == without_places(expected.clone()))
    };
    let sound = folder();
    prepare(sound.path());
    let (run, calls) = injected(sound.path(), kind, "count", 0, arguments);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(calls > 50 && is_expected(&sound.path().join("run")), "{name}: {calls} calls, {run:?}");
    let mut figures = Vec::new();
    for (index, mode) in ["kill", "fail", "full"].into_iter().enumerate() {
        let (mut cases, mut rescued, mut unharmed) = (0, 0, 0);
        // The order of calls in different threads varies, and so does their number a little.
        for call in (1 + index * stride / 3..=calls + 2).step_by(stride) {
            let what = format!("{name}, {mode} at call {call} of {calls}");
            let folder = folder();
            prepare(folder.path());
            let (run, _) = injected(folder.path(), kind, mode, call, arguments);
            let codes: &[i32] = if mode == "kill" { &[0, 137] } else { &[0, 1] };
            assert!(codes.contains(&run.code) && !run.stderr.contains("panicked"), "{what}: {run:?}");
            if run.code == 0 && !run.stderr.contains("no report") {
                assert!(is_expected(&folder.path().join("run")), "{what}: {run:?}");
                unharmed += 1;
            }
            if let Some((_, place)) = run.stderr.split_once("is saved in ") {
                let place = place.split_once(';').unwrap().0;
                let resumed = undisturbed(folder.path(), kind, &["train", "-q", "--resume", place]);
                assert_eq!(resumed.code, 0, "{what}: {run:?}\n{resumed:?}");
                assert!(is_expected(Path::new(place)), "{what}: {run:?}\n{resumed:?}");
                rescued += 1;
            }
            // By --resume or, before there is a checkpoint, by the same command again.
            let resumed = undisturbed(folder.path(), kind, &["train", "-q", "--resume=run"]);
            let ended = if resumed.code == 0 { resumed.clone() } else { undisturbed(folder.path(), kind, kind.train) };
            assert_eq!(ended.code, 0, "{what}: {run:?}\n{resumed:?}\n{ended:?}");
            assert!(is_expected(&folder.path().join("run")), "{what}: {run:?}\n{resumed:?}\n{ended:?}");
            cases += 1;
        }
        figures.push(format!("{mode}: {cases} of {calls} calls, {unharmed} unharmed, {rescued} moved"));
    }
    println!("{name}: {}", figures.join("; "));
}

/// An outcome without the folder that the test made.
fn without_places((model, metrics, mut config): Outcome) -> Outcome {
    for name in ["path", "data_dir", "test_path", "init"] {
        config["source"].as_object_mut().map(|source| source.remove(name));
    }
    (model, metrics, config)
}

#[test]
fn a_run_survives_whatever_call_fails() {
    survives("a run", &PLAIN, &TRAIN, |_| {});
}

#[test]
fn a_run_that_goes_on_survives_whatever_call_fails() {
    let run = OnceLock::new();
    survives("a run that goes on", &PLAIN, &["train", "--resume=run"], |folder| {
        assert!(
            Command::new("cp")
                .arg("-r")
                .arg(run.get_or_init(stopped).path().join("run"))
                .arg(folder)
                .status()
                .unwrap()
                .success()
        );
    });
}

/// A run that was killed between its first checkpoint and its last.
fn stopped() -> TempDir {
    // Where that is varies a little: threads take turns as they like.
    for call in 40..100 {
        let folder = folder();
        injected(folder.path(), &PLAIN, "kill", call, &TRAIN);
        let run = folder.path().join("run");
        let is_checkpoint = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("checkpoint-");
        let has_checkpoint = fs::read_dir(&run).unwrap().any(|entry| is_checkpoint(entry.unwrap()));
        if has_checkpoint && !run.join("model.safetensors").exists() {
            return folder;
        }
    }
    panic!("no kill leaves a run in its middle");
}

#[test]
fn a_run_that_has_ended_survives_whatever_call_fails_while_it_is_completed() {
    survives("a run that has ended", &PLAIN, &["train", "--resume=run"], |folder| {
        let run = undisturbed(folder, &PLAIN, &TRAIN);
        assert_eq!(run.code, 0, "{run:?}");
        for name in ["model.safetensors", "results.json", "report.html"] {
            fs::remove_file(folder.join("run").join(name)).unwrap();
        }
    });
}

/// A run of another kind.
fn kind_survives(name: &str, train: &'static [&'static str], resident_bytes: Option<&'static str>, prepare: fn(&Path)) {
    let kind = Kind { train, prepare, stride: 20, resident_bytes };
    survives(name, &kind, train, prepare);
}

#[test]
fn a_convolutional_run_survives_whatever_call_fails() {
    const TRAIN: [&str; 8] = [
        "train",
        "--data=digits",
        "--backend=cpu",
        "--epochs=2",
        "--batch-size=300",
        "--layers=conv:4x3,batchnorm,relu,pool:2,dropout:0.2,linear:8,relu",
        "--augment=shift=1",
        "--out=run",
    ];
    kind_survives("convolutional", &TRAIN, None, |_| {});
}

#[test]
fn a_run_on_a_table_survives_whatever_call_fails() {
    const TRAIN: [&str; 9] = [
        "train",
        "--data=plants.csv",
        "--target=kind",
        "--backend=cpu",
        "--epochs=6",
        "--validation=0.2",
        "--patience=2",
        "--checkpoint-every=5",
        "--out=run",
    ];
    kind_survives("on a table", &TRAIN, None, |folder| {
        let row = |row: usize| format!("{},{},{}\n", row % 7, row * 31 % 11, ["x", "y", "z"][row % 5 / 2]);
        let text = "a,b,kind\n".to_string() + &(0..240).map(row).collect::<String>();
        fs::write(folder.join("plants.csv"), text).unwrap();
    });
}

#[test]
fn a_run_on_a_folder_of_images_survives_whatever_call_fails() {
    const TRAIN: [&str; 7] =
        ["train", "--data=pictures", "--backend=cpu", "--epochs=8", "--checkpoint-every=3", "--hidden=5", "--out=run"];
    kind_survives("on images", &TRAIN, None, |folder| {
        for (class, names) in [("even", ["0.png", "2.png", "5.png"]), ("odd", ["3.png", "6.png", "7.png"])] {
            fs::create_dir_all(folder.join("pictures").join(class)).unwrap();
            for (name, copy) in names.into_iter().flat_map(|name| [(name, 0), (name, 1)]) {
                let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/digits").join(name);
                fs::copy(from, folder.join("pictures").join(class).join(format!("{copy}-{name}"))).unwrap();
            }
        }
    });
}

#[test]
fn a_run_from_a_model_survives_whatever_call_fails() {
    const TRAIN: [&str; 6] = ["train", "--data=digits", "--backend=cpu", "--epochs=2", "--init=first", "--out=run"];
    kind_survives("from a model", &TRAIN, None, |folder| {
        let first = ["train", "-q", "--data=digits", "--backend=cpu", "--epochs=1", "--out=first"];
        let run = undisturbed(folder, &PLAIN, &first);
        assert_eq!(run.code, 0, "{run:?}");
    });
}

#[test]
fn a_run_on_the_gpu_survives_whatever_call_fails() {
    const TRAIN: [&str; 8] = [
        "train",
        "--data=digits",
        "--backend=gpu",
        "--epochs=2",
        "--batch-size=100",
        "--checkpoint-every=10",
        "--hidden=8",
        "--out=run",
    ];
    kind_survives("on the GPU", &TRAIN, None, |_| {});
}

#[cfg(debug_assertions)] // a release build has no way to make the device smaller
#[test]
fn a_streamed_run_survives_whatever_call_fails() {
    const TRAIN: [&str; 6] = ["train", "--data=digits", "--backend=gpu", "--epochs=2", "--hidden=8", "--out=run"];
    kind_survives("streamed", &TRAIN, Some("60000"), |_| {});
}
