//! Work that must not be lost: runs that are paused, muted, robbed of files or threads, and what `--resume` makes of them.

#![cfg(unix)]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::binary::{
    Run, checkpoints, command, end, finished, folder_with_places, in_places, results, signal, softstep, start,
    stdout_file, wait_for_checkpoint, with,
};
use serde_json::Value;
use softstep::checkpoint;

/// Short, on the CPU.
const SHORT: [&str; 7] =
    ["train", "-q", "--data=digits", "--backend=cpu", "--epochs=3", "--checkpoint-every=7", "--hidden=9"];
/// Long enough to be disturbed.
const LONG: [&str; 7] =
    ["train", "-q", "--data=digits", "--backend=cpu", "--epochs=12000", "--checkpoint-every=9", "--hidden=16"];

fn read(run: &Path, name: &str) -> Vec<u8> {
    fs::read(run.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The command that a run printed, as a shell takes it, run there.
#[track_caller]
fn run_printed(folder: &Path, run: &Run) -> Run {
    let line = run.stderr.lines().last().unwrap().strip_prefix("softstep ").unwrap_or_else(|| panic!("{run:?}"));
    let mut command = Command::new("bash");
    command.current_dir(folder).args(["-c", &format!("{} {line}", env!("CARGO_BIN_EXE_softstep"))]);
    finished(command.stdin(Stdio::null()).output().unwrap())
}

#[cfg(debug_assertions)] // a release build has no shorter time-out
#[test]
fn a_run_that_is_paused_for_longer_than_the_time_out_of_its_device_goes_on() {
    let folder = folder_with_places();
    let train = ["train", "-q", "--data=digits", "--backend=gpu", "--hidden=16", "--epochs=400", "--out=run"];
    let child = in_places(folder.path(), &train)
        .env("SOFTSTEP_DEVICE_TIMEOUT", "2")
        .stdout(stdout_file(folder.path()))
        .spawn()
        .unwrap();
    wait_for_checkpoint(&folder.path().join("run"), 20);
    for _ in 0..3 {
        signal(&child, "-STOP");
        std::thread::sleep(Duration::from_secs(3));
        signal(&child, "-CONT");
        std::thread::sleep(Duration::from_millis(300));
    }
    signal(&child, "-TERM");
    let run = end(child, folder.path());
    assert!(run.code == 130 && run.stderr.contains("stopped after step"), "{run:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn standard_output_on_a_full_disk_costs_a_notice_and_the_exit_code_but_not_the_run() {
    for more in [&[][..], &["--json"]] {
        let folder = folder_with_places();
        let train = with(&["train", "--data=digits", "--backend=cpu", "--epochs=3", "--out=run"], more);
        let full = File::create("/dev/full").unwrap();
        let run = finished(command(folder.path(), &train).stdout(full).stderr(Stdio::piped()).output().unwrap());
        assert_eq!(run.code, 1, "{run:?}");
        let notice = "note: cannot write standard output: No space left on device (os error 28); training goes on, and \
                      its results are in run";
        assert_eq!(run.stderr, notice);
        let run = folder.path().join("run");
        assert_eq!(results(&run)["outcome"], "ended");
        assert!(run.join("model.safetensors").exists() && run.join("report.html").exists());
    }
}

#[test]
fn every_signal_that_asks_for_an_end_saves_unless_it_is_ignored() {
    // A terminal that goes away sends SIGHUP twice, from the system and from the shell.
    for names in [&["-QUIT"][..], &["-HUP", "-HUP"], &["-TERM", "-HUP"]] {
        let folder = folder_with_places();
        let child = start(folder.path(), &with(&LONG, &["--out=run"]));
        wait_for_checkpoint(&folder.path().join("run"), 100);
        names.iter().for_each(|name| signal(&child, name));
        let run = end(child, folder.path());
        assert!(
            run.code == 130 && run.stderr.ends_with("go on with:\nsoftstep train --resume run"),
            "{names:?} {run:?}"
        );
        assert_eq!(results(&folder.path().join("run"))["outcome"], "stopped");
    }
    // As nohup starts it.
    let folder = folder_with_places();
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP QUIT; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_softstep")]).args(LONG);
    command.arg("--out=run").current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let run = folder.path().join("run");
    wait_for_checkpoint(&run, 20);
    let last = checkpoints(&run).pop().unwrap().0;
    signal(&child, "-HUP");
    signal(&child, "-QUIT");
    wait_for_checkpoint(&run, last + 200);
    signal(&child, "-TERM");
    assert_eq!(finished(child.wait_with_output().unwrap()).code, 130);
}

/// `config.json` but for the arguments of the command, which no checkpoint has.
fn without_arguments(run: &Path) -> Value {
    let mut config: Value = serde_json::from_slice(&fs::read(run.join("config.json")).unwrap()).unwrap();
    config["source"]["arguments"] = Value::Null;
    config
}

#[test]
fn resuming_a_run_that_has_ended_writes_what_is_missing_of_it() {
    let best = ["--validation=0.1", "--keep=best", "--lr=1.2", "--schedule=constant", "--epochs=9"];
    for more in [&[][..], &best] {
        let folder = folder_with_places();
        let train: Vec<_> = SHORT.iter().copied().filter(|word| more.is_empty() || *word != "--epochs=3").collect();
        assert_eq!(softstep(folder.path(), &[&train, more, &["--out=run"]].concat()).code, 0);
        let run = folder.path().join("run");
        let before: Vec<_> = ["model.safetensors", "metrics.jsonl"].map(|name| read(&run, name)).into();
        let before_config = without_arguments(&run);
        let expected = results(&run);
        let checks = || {
            let after: Vec<_> = ["model.safetensors", "metrics.jsonl"].map(|name| read(&run, name)).into();
            assert!(before == after && before_config == without_arguments(&run));
            let results = results(&run);
            for field in ["outcome", "step", "steps", "best", "parameters_sha256", "test"] {
                assert_eq!(results[field], expected[field], "{field}");
            }
            assert!(run.join("report.html").exists());
            assert_eq!(softstep(folder.path(), &["report", "run"]).code, 0);
        };
        // One file after another, a damaged one, and all that comes after the last checkpoint.
        for missing in [
            &["model.safetensors"][..],
            &["results.json"],
            &["report.html"],
            &["config.json"],
            &["model.safetensors", "results.json", "report.html"],
        ] {
            missing.iter().for_each(|name| fs::remove_file(run.join(name)).unwrap());
            let resumed = softstep(folder.path(), &["train", "--resume", "run"]);
            assert_eq!(resumed.code, 0, "{missing:?} {resumed:?}");
            checks();
        }
        for damaged in ["model.safetensors", "results.json", "config.json"] {
            let bytes = read(&run, damaged);
            fs::write(run.join(damaged), &bytes[..bytes.len() / 2]).unwrap();
            let resumed = softstep(folder.path(), &["train", "-q", "--json", "--resume", "run"]);
            assert_eq!(resumed.code, 0, "{damaged} {resumed:?}");
            checks();
        }
        // Now nothing is missing.
        let resumed = softstep(folder.path(), &["train", "--resume", "run"]);
        assert!(resumed.stdout.starts_with("this run has ended after all"), "{resumed:?}");
    }
}

/// A table whose two columns the model can learn from.
fn write_table(path: &Path) {
    let rows: String = (0..60).map(|row| format!("{},{}\n", row, ["a", "b"][row / 30])).collect();
    fs::write(path, format!("x,kind\n{rows}")).unwrap();
}

#[test]
fn a_run_that_has_ended_gives_its_model_without_its_data_and_keeps_its_results() {
    let folder = folder_with_places();
    write_table(&folder.path().join("t.csv"));
    let train = ["train", "-q", "--data=t.csv", "--target=kind", "--backend=cpu", "--epochs=3", "--out=run"];
    assert_eq!(softstep(folder.path(), &train).code, 0);
    let run = folder.path().join("run");
    let model = read(&run, "model.safetensors");
    let before = read(&run, "results.json");
    fs::rename(folder.path().join("t.csv"), folder.path().join("moved.csv")).unwrap();
    fs::remove_file(run.join("model.safetensors")).unwrap();
    let resumed = softstep(folder.path(), &["train", "--resume", "run"]);
    assert!(resumed.code == 0 && resumed.stderr.contains("model.safetensors was missing: written anew"), "{resumed:?}");
    assert!(read(&run, "model.safetensors") == model && read(&run, "results.json") == before);

    fs::remove_file(run.join("model.safetensors")).unwrap();
    fs::remove_file(run.join("results.json")).unwrap();
    let resumed = softstep(folder.path(), &["train", "--resume", "run"]);
    assert!(resumed.code == 1 && resumed.stderr.contains("--data beside --resume"), "{resumed:?}");
    assert!(read(&run, "model.safetensors") == model && !run.join("results.json").exists());
    let resumed = softstep(folder.path(), &["train", "-q", "--resume", "run", "--data=moved.csv"]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    let test = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap()["test"].clone();
    assert_eq!(test(&read(&run, "results.json")), test(&before));
}

#[test]
fn what_a_run_wrote_last_stays_beside_files_of_any_number() {
    let folder = folder_with_places();
    let long: Vec<_> = LONG.iter().copied().filter(|word| !word.starts_with("--epochs")).collect();
    let long = with(&long, &["--epochs=2000"]);
    assert_eq!(softstep(folder.path(), &with(&long, &["--out=undisturbed"])).code, 0);
    let child = start(folder.path(), &with(&long, &["--out=run"]));
    let run = folder.path().join("run");
    wait_for_checkpoint(&run, 100);
    for number in ["900000", "900001", "900002", "18446744073709551615"] {
        fs::write(run.join(format!("checkpoint-{number}.safetensors")), "no checkpoint").unwrap();
    }
    let own = || checkpoints(&run).into_iter().filter(|(step, _)| *step < 900_000).collect::<Vec<_>>();
    let from = own().pop().unwrap().0;
    let started = Instant::now();
    while own().last().is_none_or(|(last, _)| *last < from + 200) {
        assert!(started.elapsed() < Duration::from_secs(60), "no checkpoint stays: {:?}", checkpoints(&run));
        std::thread::sleep(Duration::from_millis(2));
    }
    signal(&child, "-INT");
    let stopped = end(child, folder.path());
    assert_eq!(stopped.code, 130, "{stopped:?}");
    assert!(own().len() == 2, "{:?}", own());
    // One that is damaged, just before the last, is not counted either.
    let (last, _) = own().pop().unwrap();
    let other = run.join(format!("checkpoint-{}.safetensors", last - 1));
    if !other.exists() {
        fs::write(&other, "no checkpoint").unwrap();
    }
    let resumed = softstep(folder.path(), &["train", "-q", "--resume", "run"]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    for name in ["model.safetensors", "metrics.jsonl"] {
        assert!(read(&run, name) == read(&folder.path().join("undisturbed"), name), "{name}");
    }
    let whole =
        own().into_iter().filter(|(_, path)| checkpoint::from_safetensors("c", &fs::read(path).unwrap()).is_ok());
    assert_eq!(whole.count(), 2);
}

/// The program as a user who is not root, whom limits bind.
fn as_user(folder: &Path, script: &str, arguments: &[&str]) -> Command {
    let root = fs::metadata(folder).unwrap().uid() == 0;
    let program = folder.join("softstep");
    fs::copy(env!("CARGO_BIN_EXE_softstep"), &program).unwrap();
    // A shell that knows more limits than POSIX does.
    let mut command = Command::new("bash");
    command.current_dir(folder).args(["-c", script, "bash"]).arg(&program).args(arguments).stdin(Stdio::null());
    command.env("TMPDIR", folder.join("tmp")).env("HOME", folder.join("home"));
    if root {
        [folder.to_path_buf(), folder.join("tmp"), folder.join("home")]
            .iter()
            .for_each(|path| chown(path, Some(65534), Some(65534)).unwrap());
        command.uid(65534).gid(65534);
    }
    command
}

#[cfg(target_os = "linux")]
#[test]
fn without_a_thread_to_be_had_training_goes_on_with_the_one_there_is() {
    let folder = folder_with_places();
    let script = "ulimit -u 1 && exec \"$@\"";
    let run = finished(as_user(folder.path(), script, &with(&SHORT, &["--out=run"])).output().unwrap());
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stderr.starts_with("note: the system grants no more than 1 thread"), "{run:?}");
    assert!(!run.stderr.contains("panicked"), "{run:?}");
    assert_eq!(results(&folder.path().join("run"))["outcome"], "ended");
    let one = command(folder.path(), &with(&SHORT, &["--out=one"])).env("RAYON_NUM_THREADS", "1").output().unwrap();
    assert_eq!(finished(one).code, 0);
    for name in ["model.safetensors", "metrics.jsonl"] {
        assert!(read(&folder.path().join("run"), name) == read(&folder.path().join("one"), name), "{name}");
    }
}

#[test]
fn an_absurd_number_of_threads_is_bounded() {
    let folder = folder_with_places();
    let started = Instant::now();
    let run = command(folder.path(), &with(&SHORT, &["--out=run"])).env("RAYON_NUM_THREADS", "99999").output().unwrap();
    let run = finished(run);
    assert!(run.code == 0 && run.stderr.starts_with("note: RAYON_NUM_THREADS=99999: using "), "{run:?}");
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

/// A run that was stopped somewhere in its middle.
fn stopped_run(folder: &Path, more: &[&str]) -> PathBuf {
    let child = start(folder, &[&LONG[..], &["--out=run"], more].concat());
    wait_for_checkpoint(&folder.join("run"), 100);
    signal(&child, "-INT");
    let run = end(child, folder);
    assert_eq!(run.code, 130, "{run:?}");
    folder.join("run")
}

#[test]
fn metrics_that_were_cut_in_the_middle_of_a_line_are_not_glued_together() {
    let folder = folder_with_places();
    let run = stopped_run(folder.path(), &[]);
    let metrics = read(&run, "metrics.jsonl");
    fs::write(run.join("metrics.jsonl"), &metrics[..metrics.len() - 7]).unwrap();
    let child = start(folder.path(), &["train", "-q", "--resume", "run"]);
    let last = checkpoints(&run).pop().unwrap().0;
    wait_for_checkpoint(&run, last + 100);
    signal(&child, "-INT");
    let resumed = end(child, folder.path());
    assert!(resumed.code == 130 && resumed.stderr.contains("lines before step"), "{resumed:?}");
    assert!(!resumed.stderr.contains("no report"), "{resumed:?}");
    let text = String::from_utf8(read(&run, "metrics.jsonl")).unwrap();
    assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    let report = softstep(folder.path(), &["report", "run"]);
    assert_eq!(report.code, 0, "{report:?}");
}

#[test]
fn lines_of_the_metrics_that_are_damaged_are_left_out_and_stop_nothing() {
    let folder = folder_with_places();
    let run = stopped_run(folder.path(), &["--tensorboard"]);
    let metrics = String::from_utf8(read(&run, "metrics.jsonl")).unwrap();
    let lines: Vec<&str> = metrics.lines().collect();
    let step = |line: &str| serde_json::from_str::<Value>(line).unwrap()["step"].as_u64();
    // No JSON, other bytes, a step that is too high, one that is too low, zeros, and a line beyond all bounds.
    let long = "x".repeat(3 << 20);
    type Damage<'a> = &'a dyn Fn(&str) -> Vec<u8>;
    let damages: [Damage<'_>; 6] = [
        &|line| line[..line.len() / 2].into(),
        &|line| [&b"\xff\xfe"[..], &line.as_bytes()[2..]].concat(),
        &|line| line.replacen("\"step\":", "\"step\":9", 1).into(),
        &|line| line.replacen("\"step\":4", "\"step\":", 1).into(),
        &|line| vec![0; line.len()],
        &|_| long.clone().into(),
    ];
    for damage in damages {
        let text: Vec<u8> = (lines.iter())
            .flat_map(|line| [if step(line) == Some(42) { damage(line) } else { line.as_bytes().into() }, b"\n".into()])
            .flatten()
            .collect();
        fs::write(run.join("metrics.jsonl"), text).unwrap();
        let report = softstep(folder.path(), &["report", "run"]);
        assert!(report.code == 0 && report.stderr.contains("metrics.jsonl: line 43 is damaged"), "{report:?}");
        let csv = softstep(folder.path(), &["report", "run", "--csv=steps.csv"]);
        let table = fs::read_to_string(folder.path().join("steps.csv")).unwrap();
        let steps: Vec<u64> =
            table.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().parse().unwrap()).collect();
        let all: Vec<u64> = lines.iter().filter_map(|line| step(line)).filter(|&step| step != 42).collect();
        assert!(steps == all, "{csv:?}");
        let last = checkpoints(&run).pop().unwrap().0;
        let child = start(folder.path(), &["train", "-q", "--resume", "run"]);
        wait_for_checkpoint(&run, last + 20);
        signal(&child, "-INT");
        let resumed = end(child, folder.path());
        assert!(resumed.code == 130 && !resumed.stderr.contains("no report"), "{resumed:?}");
    }
}

#[test]
fn a_configuration_that_is_lost_or_damaged_comes_from_the_checkpoint() {
    let folder = folder_with_places();
    let run = stopped_run(folder.path(), &[]);
    let (written, before) = (read(&run, "config.json"), without_arguments(&run));
    for damaged in [None, Some(&written[..written.len() / 2]), Some(b"")] {
        fs::remove_file(run.join("config.json")).unwrap();
        damaged.iter().for_each(|bytes| fs::write(run.join("config.json"), bytes).unwrap());
        let report = softstep(folder.path(), &["report", "run"]);
        assert!(
            report.code == 0 && report.stderr.contains("the settings are those of the last checkpoint"),
            "{report:?}"
        );
        let page = String::from_utf8(read(&run, "report.html")).unwrap();
        assert!(page.contains("64-16-10") && page.contains("digits"));
        let child = start(folder.path(), &["train", "-q", "--resume", "run"]);
        let last = checkpoints(&run).pop().unwrap().0;
        wait_for_checkpoint(&run, last + 50);
        signal(&child, "-INT");
        assert_eq!(end(child, folder.path()).code, 130);
        assert!(without_arguments(&run) == before);
    }
}

#[test]
fn a_rescued_run_goes_on_with_its_event_files() {
    let folder = folder_with_places();
    let child = start(folder.path(), &with(&LONG, &["--tensorboard", "--out=run"]));
    wait_for_checkpoint(&folder.path().join("run"), 100);
    fs::rename(folder.path().join("run"), folder.path().join("gone")).unwrap();
    let run = end(child, folder.path());
    let place = PathBuf::from(run.stderr.split_once("is saved in ").unwrap().1.split_once(';').unwrap().0);
    let is_events = |entry: &fs::DirEntry| entry.file_name().as_bytes().starts_with(b"events.out.tfevents.");
    let events = || {
        let entries = fs::read_dir(&place).unwrap().map(Result::unwrap).filter(is_events);
        entries.map(|entry| entry.metadata().unwrap().len()).collect::<Vec<_>>()
    };
    // All earlier steps are in it.
    let lines = read(&place, "metrics.jsonl").iter().filter(|&&byte| byte == b'\n').count();
    assert!(events().len() == 1 && events()[0] > 50 * lines as u64, "{:?} for {lines} lines", events());
    let child = start(folder.path(), &["train", "-q", "--resume", place.to_str().unwrap()]);
    wait_for_checkpoint(&place, checkpoints(&place).pop().unwrap().0 + 50);
    signal(&child, "-INT");
    assert_eq!(end(child, folder.path()).code, 130);
    assert_eq!(events().len(), 2);
}

#[test]
fn a_rescued_run_is_its_owners_alone() {
    let folder = folder_with_places();
    let child = start(folder.path(), &with(&LONG, &["--out=run"]));
    wait_for_checkpoint(&folder.path().join("run"), 100);
    fs::rename(folder.path().join("run"), folder.path().join("gone")).unwrap();
    let run = end(child, folder.path());
    let place = PathBuf::from(run.stderr.split_once("is saved in ").unwrap().1.split_once(';').unwrap().0);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place), 0o700);
    let files: Vec<_> = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 3, "{files:?}");
    files.iter().for_each(|file| assert_eq!(mode(file), 0o600, "{}", file.display()));
}

#[test]
fn a_test_loss_that_is_not_finite_leaves_a_start_and_no_command_that_fails_for_ever() {
    let folder = folder_with_places();
    let rows = |scale: f64| (0..60).map(|row| format!("{:e},{}\n", row as f64 * scale, row)).collect::<String>();
    fs::write(folder.path().join("t.csv"), format!("x,y\n{}", rows(1.0))).unwrap();
    fs::write(folder.path().join("test.csv"), format!("x,y\n{}", rows(5e37))).unwrap();
    let train = ["train", "-q", "--data=t.csv", "--test=test.csv", "--target=y", "--backend=cpu", "--out=run"];
    let run = softstep(folder.path(), &with(&train, &["--epochs=3", "--lr=0.01", "--hidden=256"]));
    assert!(run.code == 1 && run.stderr.contains("the test loss after epoch 1 is "), "{run:?}");
    assert!(run.stderr.ends_with("to start from it, add --init run to a smaller --lr"), "{run:?}");
    assert!(!run.stderr.contains("--resume"), "{run:?}");
}

#[test]
fn a_folder_that_a_run_left_before_its_first_checkpoint_is_taken_again() {
    let folder = folder_with_places();
    assert_eq!(softstep(folder.path(), &with(&SHORT, &["--out=whole"])).code, 0);
    let left = folder.path().join("left");
    let put = |names: &[&str]| {
        fs::create_dir(&left).unwrap();
        for name in names {
            match *name {
                "config.json" => drop(fs::copy(folder.path().join("whole/config.json"), left.join(name)).unwrap()),
                name => fs::write(left.join(name), "").unwrap(),
            }
        }
    };
    for names in [
        &[".lock"][..],
        &[".lock", "metrics.jsonl"],
        &[".lock", "metrics.jsonl", ".softstep-x1"],
        &[".lock", "metrics.jsonl", "config.json", ".softstep-x1", "events.out.tfevents.1795640000.softstep"],
    ] {
        put(names);
        let resumed = softstep(folder.path(), &["train", "--resume", "left"]);
        assert!(resumed.code == 1 && resumed.stderr.contains("start it anew, with --out left"), "{resumed:?}");
        let run = softstep(folder.path(), &with(&SHORT, &["--out=left"]));
        assert_eq!(run.code, 0, "{names:?}: {run:?}");
        for name in ["model.safetensors", "metrics.jsonl"] {
            assert!(read(&left, name) == read(&folder.path().join("whole"), name), "{name}");
        }
        assert!(!left.join(".softstep-x1").exists());
        fs::remove_dir_all(&left).unwrap();
    }
    // What may be somebody's is not.
    for names in [&["config.json"][..], &["metrics.jsonl"], &[".lock", "notes.txt"], &[".lock", "model.safetensors"]] {
        put(names);
        let run = softstep(folder.path(), &with(&SHORT, &["--out=left"]));
        assert!(run.code == 1 && run.stderr.contains("the folder is not empty"), "{names:?}: {run:?}");
        assert_eq!(fs::read_dir(&left).unwrap().count(), names.len());
        fs::remove_dir_all(&left).unwrap();
    }
    put(&[".lock"]);
    fs::write(left.join("metrics.jsonl"), "{\"step\":1,\"epoch\":1,\"loss\":1.0,\"lr\":0.1}\n").unwrap();
    assert_eq!(softstep(folder.path(), &with(&SHORT, &["--out=left"])).code, 1);
}

#[test]
fn the_printed_command_goes_on_whatever_the_name_of_the_folder() {
    for name in [&b"-x"[..], b"--help", b"it's $HOME", b"\xff\xfe a'b", b"line\nbreak", b"back\\slash"] {
        let folder = folder_with_places();
        let mut out = b"--out=".to_vec();
        out.extend(name);
        let train = with(&["train", "-q", "--data=digits", "--backend=cpu", "--hidden=16"], &["--epochs=3000"]);
        let mut command = in_places(folder.path(), &train);
        command.stdout(stdout_file(folder.path()));
        let child = command.arg(OsStr::from_bytes(&out)).spawn().unwrap();
        let run = folder.path().join(OsStr::from_bytes(name));
        wait_for_checkpoint(&run, 20);
        signal(&child, "-INT");
        let stopped = end(child, folder.path());
        assert_eq!(stopped.code, 130, "{stopped:?}");
        let resumed = run_printed(folder.path(), &stopped);
        assert_eq!(resumed.code, 0, "{stopped:?} {resumed:?}");
        assert!(run.join("model.safetensors").exists());
    }
}

#[test]
fn data_that_are_not_found_from_here_are_named_with_the_way_out() {
    let folder = folder_with_places();
    let there = folder.path().join("there");
    fs::create_dir(&there).unwrap();
    write_table(&there.join("t.csv"));
    let train = ["train", "-q", "--data=t.csv", "--target=kind", "--backend=cpu", "--epochs=30000", "--out=run"];
    let child = start(&there, &with(&train, &["--checkpoint-every=9"]));
    wait_for_checkpoint(&there.join("run"), 50);
    signal(&child, "-INT");
    assert_eq!(end(child, &there).code, 130);
    let resumed = softstep(folder.path(), &["train", "--resume", "there/run"]);
    assert!(resumed.code == 1 && resumed.stderr.contains("--data beside --resume"), "{resumed:?}");
    assert!(resumed.stderr.contains("t.csv"), "{resumed:?}");
    let child = start(folder.path(), &["train", "-q", "--resume", "there/run", "--data=there/t.csv"]);
    let last = checkpoints(&there.join("run")).pop().unwrap().0;
    wait_for_checkpoint(&there.join("run"), last + 20);
    signal(&child, "-INT");
    let stopped = end(child, folder.path());
    assert!(stopped.stderr.ends_with("softstep train --resume there/run --data there/t.csv"), "{stopped:?}");
    let help = softstep(folder.path(), &["train", "--help"]);
    assert!(help.stdout.contains("--data beside it"), "{}", help.stdout);
}
