//! Runs that are stopped, killed or robbed of their disk, and go on to the bits of an undisturbed run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::binary::{
    Run, change_checkpoint, checkpoints, end, finished, folder_with_places, in_places, signal, softstep, start,
    wait_for_checkpoint, with_places,
};
use crate::skip;
use pollster::block_on;
use softstep::backend::{Backend, Training};
use softstep::checkpoint::{self, Metadata};
use softstep::cpu::CpuBackend;
use softstep::data;
use softstep::gpu::{AdapterChoice, Gpu, GpuBackend, Readback};
use softstep::loss::Loss;
use softstep::model::{Activation, Architecture, Parameters};
use softstep::model_file;
use softstep::optimizer::TrainingState;
use softstep::trainer::{self, Event, Position, RunOptions, TrainingConfig};

/// Arguments of a run on the CPU with checkpoints, up to its folder.
const fn cpu(epochs: &'static str) -> [&'static str; 9] {
    let train = ["train", "-q", "--data=digits", "--backend=cpu", "--hidden=16", "--json", "--checkpoint-every=9"];
    let [train, quiet, data, backend, hidden, json, every] = train;
    [train, quiet, data, backend, hidden, epochs, json, every, "--out"]
}

/// Long enough to be disturbed.
const CPU: [&str; 9] = cpu("--epochs=3000");
/// Long enough to be killed 50 times.
const LONG_CPU: [&str; 9] = cpu("--epochs=9000");
/// Long enough to be killed 10 times on a software adapter.
const GPU: [&str; 9] = [
    "train",
    "-q",
    "--data=digits",
    "--backend=gpu",
    "--hidden=16",
    "--epochs=160",
    "--json",
    "--checkpoint-every=9",
    "--out",
];

/// What a run leaves behind: its model and its metrics, byte by byte.
#[derive(PartialEq)]
struct Outcome {
    model: Vec<u8>,
    metrics: Vec<u8>,
}

fn outcome(run: &Path) -> Outcome {
    let read = |name| fs::read(run.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    Outcome { model: read("model.safetensors"), metrics: read("metrics.jsonl") }
}

/// The outcome of a run that nothing disturbs, and how long it takes.
fn undisturbed(train: &[&str]) -> (Outcome, Duration) {
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    softstep(folder.path(), &[train, &["run"]].concat()).last_json();
    (outcome(&folder.path().join("run")), started.elapsed())
}

fn undisturbed_cpu() -> &'static (Outcome, Duration) {
    static RUN: OnceLock<(Outcome, Duration)> = OnceLock::new();
    RUN.get_or_init(|| undisturbed(&CPU))
}

fn undisturbed_gpu() -> &'static (Outcome, Duration) {
    static RUN: OnceLock<(Outcome, Duration)> = OnceLock::new();
    RUN.get_or_init(|| undisturbed(&GPU))
}

/// Goes on with a run and compares its outcome.
#[track_caller]
fn ends_in_the_same_bits(folder: &Path, run: &Path, expected: &Outcome) {
    let resumed =
        finished(in_places(folder, &["train", "-q", "--json", "--resume", run.to_str().unwrap()]).output().unwrap());
    assert_eq!(resumed.code, 0, "{resumed:?}");
    assert!(outcome(&folder.join(run)) == *expected, "other bits in {}", run.display());
}

/// Kills a run that often, at random moments from its start on, each time going on.
fn survives_kills(train: &[&str], (expected, duration): &(Outcome, Duration), kills: usize) {
    let folder = folder_with_places();
    let run = folder.path().join("run");
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let mut state = seed;
    let mut random = || {
        // SplitMix64 (Steele et al. 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    // How long it takes from the start of the program to that of training.
    let started = Instant::now();
    let mut child = start(folder.path(), &[train, &["run"]].concat());
    wait_for_checkpoint(&run, 0);
    let startup = started.elapsed();
    let steps = expected.metrics.split(|&byte| byte == b'\n').count();
    let last = || checkpoints(&run).last().map_or(0, |last| last.0);
    let longest = startup.mul_f64(1.25) + duration.mul_f64(0.75 / kills as f64);
    for kill in 0..kills {
        // At a random moment, and before it got through more than its share of the run.
        let (started, from, pause) = (Instant::now(), last(), longest.mul_f64(random()));
        while started.elapsed() < pause && last() - from < steps / (4 * kills) {
            std::thread::sleep(Duration::from_micros(200));
        }
        // On a busy machine checkpoints come to the disk late, and the share above is seen too late.
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success() && 2 * kill >= kills, "ended before kill {kill}, seed {seed}: {status}");
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        child = start(folder.path(), &["train", "-q", "--json", "--resume", "run"]);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    println!("killed {} times, then at step {}", kills + 1, last());
    ends_in_the_same_bits(folder.path(), Path::new("run"), expected);
}

#[test]
fn fifty_kills_at_random_moments_change_no_bit_on_the_cpu() {
    survives_kills(&LONG_CPU, &undisturbed(&LONG_CPU), 50);
}

#[test]
fn ten_kills_at_random_moments_change_no_bit_on_the_gpu() {
    survives_kills(&GPU, undisturbed_gpu(), 10);
}

/// Stops a run after each of these steps, hands its state as a file to a fresh backend, and goes on there.
fn goes_on_from<B: Backend>(new: impl Fn(&Parameters, &Training<'_>) -> B) {
    let data = data::digits().unwrap();
    let config = TrainingConfig::default().hidden(vec![9]).epochs(3).batch_size(100);
    let training = Training { optimizer: config.optimizer, ..Training::new(&data.train, 100) };
    let examples = data.train.len();
    let run = |from: Option<&[u8]>, stop_after: usize| {
        let stop = AtomicBool::new(false);
        let (mut file, mut losses) = (Vec::new(), Vec::new());
        let mut backend = new(&Parameters::new(&[64, 9, 10], 1).unwrap(), &training);
        let mut start = Position::START;
        if let Some(bytes) = from {
            let (metadata, state) = checkpoint::from_safetensors("c", bytes).unwrap();
            start = metadata.position;
            backend.restore(&state).unwrap();
        }
        let test = backend.upload(&data.test).unwrap();
        let options = RunOptions { from: start, best: None, checkpoint_every: None, stop: &stop, weights: &[] };
        let ended = block_on(trainer::train(&mut backend, &config, examples, None, &test, &options, |event| {
            match event {
                Event::Step { step, loss, .. } => {
                    losses.push(loss);
                    stop.fetch_or(step == stop_after, Ordering::Relaxed);
                }
                Event::Checkpoint { position, state } => {
                    let step = position.step(&config, examples);
                    let metadata = Metadata { position, step, ..metadata(&config, state) };
                    file = checkpoint::to_safetensors(&metadata, state)?;
                }
                _ => {}
            }
            Ok(())
        }))
        .unwrap();
        (ended, file, losses)
    };
    let (expected, last, losses) = run(None, usize::MAX);
    // The first step, the middle of an epoch, its last step.
    for stop_after in [1, 7, 15, 22] {
        let (ended, file, mut first) = run(None, stop_after);
        assert_eq!(ended, None);
        assert!(first.len() >= stop_after && first.len() < losses.len());
        let (ended, end, rest) = run(Some(&file), usize::MAX);
        first.extend(rest);
        assert!(first == losses, "other losses after step {stop_after}");
        assert!((ended, end) == (expected.clone(), last.clone()), "another end after step {stop_after}");
    }
}

fn metadata(config: &TrainingConfig, state: &TrainingState) -> Metadata {
    Metadata {
        format: Metadata::FORMAT,
        version: "0.1.0".into(),
        architecture: state.parameters.architecture.clone(),
        position: Position::START,
        step: 0,
        config: config.clone(),
        chosen: None,
        checkpoint_every: None,
        data: "digits".into(),
        data_sha256: "00".into(),
        train_sha256: None,
        shapes: None,
        backend: "cpu".into(),
        adapter: "a processor".into(),
        driver: "gemm".into(),
        preprocessing: None,
        image: None,
        metrics_bytes: 0,
    }
}

#[test]
fn a_run_goes_on_from_the_middle_of_an_epoch_with_the_same_bits() {
    goes_on_from(|parameters, training| CpuBackend::new(parameters, training).unwrap());
    let gpu = block_on(Gpu::open(&AdapterChoice::Auto)).expect("the tests need an adapter: see README");
    goes_on_from(|parameters, training| {
        block_on(GpuBackend::new(&gpu, parameters, training, Readback::Pipelined)).unwrap()
    });
}

#[test]
fn the_first_signal_saves_and_says_how_to_go_on() {
    let (expected, _) = undisturbed_cpu();
    for name in ["-INT", "-TERM"] {
        let folder = folder_with_places();
        let child = start(folder.path(), &[&CPU[..], &["my run"]].concat());
        wait_for_checkpoint(&folder.path().join("my run"), 100);
        signal(&child, name);
        let run = end(child, folder.path());
        assert_eq!(run.code, 130, "{run:?}");
        let stopped = run.json_lines().pop().unwrap();
        assert_eq!(stopped["event"], "stopped");
        assert!(run.stderr.ends_with("go on with:\nsoftstep train --resume 'my run'"), "{run:?}");
        // What was said is what is there: the step that was finished, and one before it.
        let steps: Vec<_> = checkpoints(&folder.path().join("my run")).iter().map(|(step, _)| *step).collect();
        assert_eq!((steps.len(), steps.last().copied()), (2, stopped["step"].as_u64().map(|step| step as usize)));
        ends_in_the_same_bits(folder.path(), Path::new("my run"), expected);
    }
}

#[test]
fn a_verified_run_goes_on_verified_with_the_same_bits() {
    let (expected, _) = undisturbed_gpu();
    let steps = 160 * 23;
    let folder = folder_with_places();
    let child = start(folder.path(), &[&GPU[..], &["run", "--verify=10"]].concat());
    wait_for_checkpoint(&folder.path().join("run"), 50);
    signal(&child, "-INT");
    let run = end(child, folder.path());
    assert!(run.code == 130 && run.stderr.ends_with("softstep train --resume run --verify=10"), "{run:?}");
    let from = run.json_lines().pop().unwrap()["step"].as_u64().unwrap();
    assert!((50..steps).contains(&from), "{from}");

    let resume = ["train", "-q", "--json", "--resume", "run", "--verify=10"];
    #[cfg(debug_assertions)] // a release build has no way to plant a bug
    {
        let bug =
            "update(at, sums[0]);=>update(at, sums[0] + select(0.0, 0.001, row_block == 3u && column_block == 1u));";
        // A copy, as the wrong numbers of steps that are not verified are saved.
        let copied = Command::new("cp").args(["-r", "run", "copy"]).current_dir(folder.path()).status().unwrap();
        assert!(copied.success());
        let resume = ["train", "-q", "--resume", "copy", "--verify=10"];
        let wrong = in_places(folder.path(), &resume).env("SOFTSTEP_ALTER_SHADERS", bug).output().unwrap();
        let wrong = finished(wrong);
        // The same steps are verified as in a run that was not stopped.
        let step = (from + 1..).find(|step| step % 10 == 1).unwrap();
        assert!(wrong.code == 1 && wrong.stderr.contains(&format!("error: step {step} is wrong")), "{wrong:?}");
        assert!(wrong.stderr.contains("but this device computed it"), "{wrong:?}");
    }
    let resumed = finished(in_places(folder.path(), &resume).output().unwrap());
    assert_eq!(resumed.code, 0, "{resumed:?}");
    let found = resumed.json_lines().into_iter().find(|line| line["event"] == "verification").unwrap();
    assert_eq!(found["steps"], (from + 1..=steps).filter(|step| step % 10 == 1).count());
    assert!(outcome(&folder.path().join("run")) == *expected);
}

#[cfg(debug_assertions)] // a release build has no way to lose its device
#[test]
fn a_device_lost_in_a_run_leaves_a_checkpoint_that_ends_in_the_same_bits() {
    let train = ["train", "-q", "--data=digits", "--backend=gpu", "--hidden=16", "--epochs=5", "--json"];
    // Lost while a checkpoint waits for its steps, in the middle of steps, and before an evaluation.
    for (settings, saved) in
        [(&["--checkpoint-every=7", "--out"][..], 49..50), (&["--batch-size=7", "--out"], 0..1), (&["--out"], 46..47)]
    {
        let train = [&train[..], settings].concat();
        let (expected, _) = undisturbed(&train);
        let folder = folder_with_places();
        let mut lost = in_places(folder.path(), &[&train[..], &["run"]].concat());
        let lost = finished(lost.env("SOFTSTEP_LOSE_DEVICE_AT", "50").output().unwrap());
        assert_eq!(lost.code, 1, "{lost:?}");
        let last = checkpoints(&folder.path().join("run")).pop().unwrap().0;
        assert!(saved.contains(&last), "{last}, not {saved:?}");
        for part in [
            "SOFTSTEP_LOSE_DEVICE_AT is set: the device will be destroyed at step 50",
            "was lost: ",
            &format!("the checkpoint of step {last} is whole, in run; later steps are computed again"),
        ] {
            assert!(lost.stderr.contains(part), "{part}: {lost:?}");
        }
        assert!(lost.stderr.ends_with("go on with:\nsoftstep train --resume run"), "{lost:?}");
        assert!(!folder.path().join("run/model.safetensors").exists());
        ends_in_the_same_bits(folder.path(), Path::new("run"), &expected);
    }
}

#[test]
fn the_second_signal_leaves_at_once() {
    let folder = folder_with_places();
    // A step that takes a second or more.
    let slow =
        ["train", "-q", "--data=digits", "--backend=cpu", "--hidden=3000,3000", "--batch-size=1438", "--out=run"];
    let child = start(folder.path(), &slow);
    wait_for_checkpoint(&folder.path().join("run"), 0);
    signal(&child, "-INT");
    std::thread::sleep(Duration::from_millis(50));
    signal(&child, "-TERM");
    let run = finished(child.wait_with_output().unwrap());
    assert_eq!((run.code, run.stderr.as_str()), (130, ""), "{run:?}");
    let (_, path) = checkpoints(&folder.path().join("run")).remove(0);
    checkpoint::from_safetensors("c", &fs::read(path).unwrap()).unwrap();
}

#[test]
fn a_folder_in_use_is_refused_and_one_of_a_dead_process_is_not() {
    let (expected, _) = undisturbed_cpu();
    let folder = folder_with_places();
    let mut child = start(folder.path(), &[&CPU[..], &["run"]].concat());
    wait_for_checkpoint(&folder.path().join("run"), 100);
    let second = softstep(folder.path(), &["train", "--resume", "run"]);
    assert!(second.code == 1 && second.stderr.contains("run is in use: another softstep"), "{second:?}");
    assert!(child.try_wait().unwrap().is_none(), "the first goes on");
    child.kill().unwrap();
    child.wait().unwrap();
    ends_in_the_same_bits(folder.path(), Path::new("run"), expected);
}

/// The run folder that an error names as the place where the state was saved.
fn rescued(folder: &Path, run: &Run) -> PathBuf {
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.starts_with("error: cannot write run/"), "{run:?}");
    let place = run.stderr.split_once("is saved in ").unwrap_or_else(|| panic!("{run:?}")).1;
    let place = PathBuf::from(place.split_once(';').unwrap().0);
    assert!(place.starts_with(folder.join("tmp")), "{}", place.display());
    assert!(run.stderr.ends_with(&format!("softstep train --resume {}", place.display())), "{run:?}");
    place
}

#[test]
fn a_vanished_folder_is_an_error_and_the_run_moves() {
    let (expected, _) = undisturbed_cpu();
    let folder = folder_with_places();
    let child = start(folder.path(), &[&CPU[..], &["run"]].concat());
    wait_for_checkpoint(&folder.path().join("run"), 100);
    fs::rename(folder.path().join("run"), folder.path().join("gone")).unwrap();
    fs::remove_dir_all(folder.path().join("gone")).unwrap();
    let place = rescued(folder.path(), &finished(child.wait_with_output().unwrap()));
    ends_in_the_same_bits(folder.path(), &place, expected);
}

#[cfg(unix)]
#[test]
fn a_run_whose_folder_was_moved_leaves_the_run_that_took_its_name_alone() {
    let (expected, _) = undisturbed_cpu();
    let folder = folder_with_places();
    let child = start(folder.path(), &[&CPU[..], &["run"]].concat());
    wait_for_checkpoint(&folder.path().join("run"), 100);
    signal(&child, "-STOP");
    fs::rename(folder.path().join("run"), folder.path().join("moved")).unwrap();
    let other = short_run(folder.path(), &["--out=run"]);
    assert_eq!(other.code, 0, "{other:?}");
    let before = outcome(&folder.path().join("run"));
    signal(&child, "-CONT");
    let run = finished(child.wait_with_output().unwrap());
    let place = rescued(folder.path(), &run);
    assert!(outcome(&folder.path().join("run")) == before, "the other run was changed");
    ends_in_the_same_bits(folder.path(), &place, expected);
    ends_in_the_same_bits(folder.path(), Path::new("moved"), expected);
}

#[cfg(unix)]
#[test]
fn a_folder_that_turns_read_only_keeps_its_checkpoint_and_the_run_moves() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    use std::os::unix::process::CommandExt;
    let (expected, _) = undisturbed_cpu();
    let folder = folder_with_places();
    let permit = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    // Permissions do not bind root: the run is nobody's then, with a copy of the program in its reach.
    let root = fs::metadata(folder.path()).unwrap().uid() == 0;
    let program = folder.path().join("softstep");
    fs::copy(env!("CARGO_BIN_EXE_softstep"), &program).unwrap();
    let as_user = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.current_dir(folder.path()).args(arguments).stdin(Stdio::null());
        with_places(&mut command, folder.path());
        if root {
            command.uid(65534).gid(65534);
        }
        command
    };
    if root {
        for path in [folder.path().to_path_buf(), folder.path().join("tmp")] {
            chown(path, Some(65534), Some(65534)).unwrap();
        }
    }
    let child = as_user(&[&CPU[..], &["run"]].concat()).spawn().unwrap();
    let run = folder.path().join("run");
    wait_for_checkpoint(&run, 100);
    permit(&run, 0o555);
    let place = rescued(folder.path(), &finished(child.wait_with_output().unwrap()));
    permit(&run, 0o755);
    // Both the old place and the new one are good to go on from.
    let resume =
        |place: &Path| finished(as_user(&["train", "-q", "--resume", place.to_str().unwrap()]).output().unwrap());
    for place in [&place, &run] {
        let resumed = resume(place);
        assert_eq!(resumed.code, 0, "{resumed:?}");
        assert!(outcome(place) == *expected, "{}", place.display());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_keeps_the_checkpoint_and_the_run_moves() {
    let (expected, _) = undisturbed_cpu();
    let folder = folder_with_places();
    // A disk of 200 kB in a mount namespace of its own; before it goes, the run is copied from it.
    fs::create_dir(folder.path().join("run")).unwrap();
    let script = "mount -t tmpfs -o size=200k none run || exit 99; \"$@\"; code=$?; cp -r run copy; exit $code";
    let unshare = |options: &str| {
        let mut command = Command::new("unshare");
        command.current_dir(folder.path()).stdin(Stdio::null());
        command.args([options, "--", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_softstep")]).args(CPU).arg("run");
        with_places(&mut command, folder.path());
        command.output().ok().map(finished).filter(|run| run.stderr.contains("cannot write"))
    };
    let Some(run) = unshare("-m").or_else(|| unshare("-rm")) else {
        skip::skipped("a full disk needs the right to mount one, as root or in a user namespace");
        return;
    };
    assert!(run.stderr.contains("No space left on device"), "{run:?}");
    let place = rescued(folder.path(), &run);
    ends_in_the_same_bits(folder.path(), &place, expected);
    ends_in_the_same_bits(folder.path(), Path::new("copy"), expected);
}

#[cfg(unix)]
#[test]
fn a_limit_on_every_file_leaves_no_place_and_keeps_the_last_checkpoint() {
    let (expected, _) = undisturbed_cpu();
    let folder = folder_with_places();
    // The metrics outgrow the limit.
    let script = "ulimit -f 200; exec \"$@\"";
    let mut command = Command::new("sh");
    command.current_dir(folder.path()).stdin(Stdio::null());
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_softstep")]).args(CPU).arg("run");
    with_places(&mut command, folder.path());
    let run = finished(command.output().unwrap());
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.starts_with("error: cannot write run/metrics.jsonl\n  caused by: File too large"), "{run:?}");
    assert!(
        run.stderr.contains("could not be saved anywhere else") && run.stderr.ends_with("softstep train --resume run"),
        "{run:?}"
    );
    assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0, "nothing half-written stays");
    ends_in_the_same_bits(folder.path(), Path::new("run"), expected);
}

/// A run of three short epochs with `--checkpoint-every 7`, stopped by nothing.
fn short_run(folder: &Path, more: &[&str]) -> Run {
    let train = ["train", "-q", "--data=digits", "--backend=cpu", "--epochs=3", "--checkpoint-every=7"];
    softstep(folder, &[&train[..], more].concat())
}

#[test]
fn a_run_that_has_ended_says_so_and_is_left_alone() {
    let folder = folder_with_places();
    assert_eq!(short_run(folder.path(), &["--out=run"]).code, 0);
    let run = folder.path().join("run");
    let before = outcome(&run);
    let resumed = softstep(folder.path(), &["train", "--resume", "run"]);
    assert_eq!((resumed.code, resumed.stderr.as_str()), (0, ""), "{resumed:?}");
    assert!(resumed.stdout.contains("this run has ended after all its 69 steps"), "{resumed:?}");
    let resumed = softstep(folder.path(), &["train", "--resume", "run", "--json"]).last_json();
    assert_eq!((&resumed["event"], &resumed["step"]), (&"finished".into(), &69.into()));
    assert!(outcome(&run) == before);
}

#[test]
fn another_setting_data_set_or_device_is_refused_by_name() {
    let folder = folder_with_places();
    assert_eq!(short_run(folder.path(), &["--out=run", "--hidden=5"]).code, 0);
    let run = folder.path().join("run");
    // As if it had been stopped in its last epoch.
    change_checkpoint(&run, |metadata| (metadata.position.epoch, metadata.position.steps) = (3, 23));
    let before: Vec<_> = checkpoints(&run).into_iter().map(|(_, path)| fs::read(path).unwrap()).collect();
    for (asked, refusal) in [
        (&["--lr=0.3"][..], "--lr 0.3 conflicts with the run in run, which uses --lr 0.15"),
        (&["--hidden=5,5"], "--hidden [5,5] conflicts with the run in run, which uses --hidden [5]"),
        (&["--epochs=4"], "--epochs 4 conflicts with the run in run, which uses --epochs 3"),
        (&["--nesterov"], "--nesterov true conflicts with the run in run, which uses --nesterov false"),
        (&["--schedule=step"], "--schedule \"step\" conflicts with the run in run, which uses --schedule \"cosine\""),
        (&["--seed=1", "--momentum=0.9"], "--seed 1 conflicts with the run in run, which uses --seed 0"),
    ] {
        let resumed = softstep(folder.path(), &[&["train", "--resume", "run"], asked].concat());
        assert!(resumed.code == 1 && resumed.stderr.contains(refusal), "{asked:?}: {resumed:?}");
    }
    let both = softstep(folder.path(), &["train", "--resume", "run", "--out", "b"]);
    assert!(both.code == 2 && both.stderr.contains("--out"), "{both:?}");
    let after: Vec<_> = checkpoints(&run).into_iter().map(|(_, path)| fs::read(path).unwrap()).collect();
    assert!(before == after, "a refusal changes nothing");
    // The same setting is no other one.
    let resumed = softstep(folder.path(), &["train", "--resume", "run", "--lr=0.15", "--hidden=5", "--momentum=0.9"]);
    assert_eq!(resumed.code, 0, "{resumed:?}");

    let stop = |metadata: &mut Metadata| (metadata.position.epoch, metadata.position.steps) = (3, 23);
    change_checkpoint(&run, |metadata| {
        stop(metadata);
        metadata.data_sha256 = "other".into();
    });
    let resumed = softstep(folder.path(), &["train", "--resume", "run"]);
    assert!(resumed.code == 1 && resumed.stderr.contains("--data digits: not the data of the run"), "{resumed:?}");
    assert!(resumed.stderr.contains("with SHA-256 other"), "{resumed:?}");
    change_checkpoint(&run, |metadata| {
        metadata.data_sha256 = data::digits().unwrap().sha256();
        (metadata.backend, metadata.adapter) = ("gpu".into(), "Another Adapter".into());
    });
    let resumed = softstep(folder.path(), &["train", "--resume", "run"]);
    assert!(
        resumed.code == 1 && resumed.stderr.contains("Another Adapter (gpu), which is not available"),
        "{resumed:?}"
    );
    let resumed = softstep(folder.path(), &["train", "-q", "--resume", "run", "--backend=cpu"]);
    assert!(resumed.code == 0 && resumed.stderr.contains("continues, not with the same bits, on"), "{resumed:?}");

    // One CPU is like another, as long as it computes alike.
    change_checkpoint(&run, |metadata| {
        stop(metadata);
        metadata.adapter = "Another Processor".into();
    });
    let resumed = softstep(folder.path(), &["train", "-q", "--resume", "run"]);
    assert!(resumed.code == 0 && !resumed.stderr.contains("bits"), "{resumed:?}");
    change_checkpoint(&run, |metadata| {
        stop(metadata);
        metadata.driver = "gemm 0.19, no fused multiply-add".into();
    });
    let resumed = softstep(folder.path(), &["train", "-q", "--resume", "run"]);
    assert!(resumed.code == 0 && resumed.stderr.contains("no fused multiply-add"), "{resumed:?}");
    assert!(resumed.stderr.contains("the bits may differ"), "{resumed:?}");
}

#[test]
fn settings_beside_resume_are_held_against_those_of_the_run_and_not_against_the_defaults() {
    let folder = folder_with_places();
    let settings = ["--optimizer=adamw", "--beta1=0.8", "--validation=0.1", "--patience=300"];
    let run = softstep(
        folder.path(),
        &[&["train", "--data=digits", "--epochs=3", "--backend=cpu", "-q", "--out=run"], &settings[..]].concat(),
    );
    assert_eq!(run.code, 0, "{run:?}");
    let run = folder.path().join("run");
    change_checkpoint(&run, |metadata| (metadata.position.epoch, metadata.position.steps) = (3, 20));
    for (asked, refusal) in [
        ("--beta1=0.7", "--beta1 0.7 conflicts with the run in run, which uses --beta1 0.8"),
        ("--patience=2", "--patience 2 conflicts with the run in run, which uses --patience 300"),
        ("--momentum=0.5", "--momentum is a setting of --optimizer sgd"),
        ("--optimizer=sgd", "--optimizer \"sgd\" conflicts with the run in run, which uses --optimizer \"adamw\""),
    ] {
        let resumed = softstep(folder.path(), &["train", "--resume", "run", asked]);
        assert!(resumed.code == 1 && resumed.stderr.contains(refusal), "{asked}: {resumed:?}");
    }
    let resumed = softstep(folder.path(), &["train", "-q", "--resume", "run", "--beta1=0.8", "--patience=300"]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
}

#[test]
fn a_damaged_checkpoint_is_set_aside_for_the_one_before() {
    let (expected, _) = undisturbed_cpu();
    let folder = folder_with_places();
    let mut child = start(folder.path(), &[&CPU[..], &["run"]].concat());
    let run = folder.path().join("run");
    wait_for_checkpoint(&run, 100);
    child.kill().unwrap();
    child.wait().unwrap();
    let (_, last) = checkpoints(&run).pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&last, bytes).unwrap();
    let name = format!("run/{}", last.file_name().unwrap().to_str().unwrap());
    let resumed = softstep(folder.path(), &["train", "-q", "--resume", "run"]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    assert!(resumed.stderr.starts_with(&format!("note: {name}: the checkpoint is damaged")), "{resumed:?}");
    assert!(folder.path().join(name + ".damaged").exists());
    assert!(outcome(&run) == *expected);

    for (_, path) in checkpoints(&run) {
        fs::write(path, "").unwrap();
    }
    let resumed = softstep(folder.path(), &["train", "--resume", "run"]);
    assert!(resumed.code == 1 && resumed.stderr.contains("the checkpoint is damaged"), "{resumed:?}");
    for (_, path) in checkpoints(&run) {
        fs::remove_file(path).unwrap();
    }
    for (folder_name, problem) in [("run", "the folder holds no checkpoint"), ("no", "there is no such folder")] {
        let resumed = softstep(folder.path(), &["train", "--resume", folder_name]);
        assert!(resumed.code == 1 && resumed.stderr.contains(problem), "{resumed:?}");
    }
}

#[test]
fn a_checkpoint_that_cannot_be_read_or_has_anothers_name_is_set_aside() {
    let folder = folder_with_places();
    let undisturbed = short_run(folder.path(), &["--out=undisturbed"]);
    assert_eq!(undisturbed.code, 0, "{undisturbed:?}");
    let run = short_run(folder.path(), &["--out=run"]);
    assert_eq!(run.code, 0, "{run:?}");
    let path = folder.path().join("run");
    let [(_, earlier), (_, last)] = <[_; 2]>::try_from(checkpoints(&path)).unwrap();
    fs::copy(&earlier, path.join("checkpoint-999999.safetensors")).unwrap();
    fs::remove_file(&last).unwrap();
    fs::create_dir(&last).unwrap();
    let resumed = softstep(folder.path(), &["train", "-q", "--resume", "run"]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    assert!(resumed.stderr.contains("by another name") && resumed.stderr.contains("is not a file"), "{resumed:?}");
    assert!(outcome(&path) == outcome(&folder.path().join("undisturbed")));
}

#[test]
fn divergence_keeps_the_last_good_checkpoint_to_start_from() {
    let folder = folder_with_places();
    let run = short_run(folder.path(), &["--hidden=16", "--lr=1e30", "--schedule=constant", "--out=run"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("training diverged at learning rate 1e30; try a smaller one"), "{run:?}");
    assert!(run.stderr.contains("to start from it, add --init run to a smaller --lr"), "{run:?}");
    let kept = checkpoints(&folder.path().join("run"));
    assert!(!kept.is_empty());
    for (_, path) in kept {
        checkpoint::from_safetensors("c", &fs::read(path).unwrap()).unwrap();
    }
    assert_eq!(short_run(folder.path(), &["--init=run", "--hidden=16", "--out=next"]).code, 0);
    let other = short_run(folder.path(), &["--init=run", "--hidden=3", "--out=third"]);
    assert!(other.code == 1 && other.stderr.contains("--init run is the model 64: linear:16,relu"), "{other:?}");

    // Here the loss is still good when the weights no longer are.
    let train = ["train", "-q", "--data=digits", "--backend=cpu", "--checkpoint-every=1", "--out=b"];
    let run = softstep(folder.path(), &[&train[..], &["--lr=3e38", "--weight-decay=1e6"]].concat());
    assert!(run.stderr.contains("after step 1 the weights of layer 1 are no longer finite"), "{run:?}");
    let kept: Vec<_> = checkpoints(&folder.path().join("b")).into_iter().map(|(step, _)| step).collect();
    assert_eq!((run.code, kept), (1, vec![0]));
}

#[test]
fn a_model_starts_another_run_where_it_was() {
    let folder = folder_with_places();
    assert_eq!(short_run(folder.path(), &["--out=a"]).code, 0);
    // At this rate nothing moves.
    let train = ["--init=a/model.safetensors", "--lr=1e-30", "--out=b"];
    assert_eq!(short_run(folder.path(), &train).code, 0);
    assert_eq!(outcome(&folder.path().join("a")).model, outcome(&folder.path().join("b")).model);
}

/// A small checkpoint, with values that are hard to keep.
fn small() -> (Metadata, TrainingState) {
    let mut parameters = Parameters::new(&[4, 3, 2], 3).unwrap();
    let mut moment = Parameters::new(&[4, 3, 2], 4).unwrap();
    parameters.layers[0].values[..2].copy_from_slice(&[-0.0, f32::from_bits(1)]);
    moment.layers[1].values[0] = f32::MAX;
    let state = TrainingState { parameters, moments: vec![moment], best: None, updates: 0 };
    let config = TrainingConfig::default().hidden(vec![3]).learning_rate(0.1 + f32::EPSILON);
    let position = Position { epoch: 2, steps: 5, loss_sum: 0.1 + 0.2, best: None };
    (Metadata { position, step: 28, ..metadata(&config, &state) }, state)
}

#[test]
fn a_checkpoint_comes_back_bit_by_bit() {
    let (mut metadata, state) = small();
    let mut numbers = vec![0.1 + 0.2, f64::MIN_POSITIVE, f64::MAX, 1.0 / 3.0, 2_718.281_828_459_045];
    numbers.extend((1..2000).map(|index| f64::from(index).sqrt() * 1e3));
    for loss_sum in numbers {
        metadata.position.loss_sum = loss_sum;
        let bytes = checkpoint::to_safetensors(&metadata, &state).unwrap();
        let (read, read_state) = checkpoint::from_safetensors("c", &bytes).unwrap();
        assert_eq!(read.position.loss_sum.to_bits(), loss_sum.to_bits());
        assert_eq!(read, metadata);
        let bits = |state: &TrainingState| (state.parameters.sha256(), state.moments[0].sha256());
        assert_eq!(bits(&read_state), bits(&state));
    }
}

#[test]
fn every_cut_and_every_flipped_bit_of_a_checkpoint_is_an_error() {
    let (metadata, state) = small();
    let good = checkpoint::to_safetensors(&metadata, &state).unwrap();
    let problem = |bytes: &[u8]| checkpoint::from_safetensors("runs/a/c", bytes).map(drop).unwrap_err().to_string();
    for length in 0..good.len() {
        assert!(problem(&good[..length]).starts_with("runs/a/c: the checkpoint is damaged"));
    }
    let mut bytes = good.clone();
    for bit in 0..8 * good.len() {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(problem(&bytes).starts_with("runs/a/c: the checkpoint is damaged"), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(checkpoint::from_safetensors("c", &bytes).is_ok());
}

#[test]
fn every_cut_and_flipped_bit_of_a_model_file_is_an_error_or_a_valid_model() {
    let (_, state) = small();
    let good = model_file::to_safetensors(
        &state.parameters,
        &model_file::Metadata::new(&state.parameters, "digits", 0, Loss::CrossEntropy),
    );
    let good = good.unwrap();
    for length in 0..good.len() {
        assert!(model_file::from_safetensors("m", &good[..length]).is_err(), "{length} bytes");
    }
    let mut bytes = good.clone();
    for bit in 0..8 * good.len() {
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok((read, _)) = model_file::from_safetensors("m", &bytes) {
            read.check().unwrap();
            assert_eq!(read.sizes(), [4, 3, 2]);
            assert!(read.layers.iter().flat_map(|layer| &layer.values).all(|value| value.is_finite()));
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn what_is_not_finite_or_of_another_shape_is_not_written() {
    let (metadata, state) = small();
    let mut other = state.clone();
    other.moments[0].layers[0].values[3] = f32::NAN;
    assert!(checkpoint::to_safetensors(&metadata, &other).unwrap_err().to_string().contains("moment0.0.weight"));
    let mut other = state.clone();
    other.moments.clear();
    assert!(checkpoint::to_safetensors(&metadata, &other).unwrap_err().to_string().contains("moments"));
    let architecture = Architecture::dense(&[4, 3], Activation::Relu).unwrap();
    assert!(checkpoint::to_safetensors(&Metadata { architecture, ..metadata.clone() }, &state).is_err());
    let bytes = checkpoint::to_safetensors(&Metadata { format: 9, ..metadata }, &state).unwrap();
    assert!(checkpoint::from_safetensors("c", &bytes).unwrap_err().to_string().contains("format version is 9"));
}
