//! Runs that several processes share by MPI, all on this machine. They need Open MPI's `mpirun`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::skip::{skipped, skipped_outside_ci};
use serde_json::Value;

const SOFTSTEP: &str = env!("CARGO_BIN_EXE_softstep");

/// Long enough to be stopped and killed in the middle.
const LONG: [&str; 7] =
    ["train", "--data=digits", "--backend=cpu", "--hidden=32", "--shards=8", "--epochs=300", "--checkpoint-every=50"];

/// Returns true if there is an `mpirun`; says that the test is skipped if not.
fn has_mpi() -> bool {
    let has = Command::new("mpirun").arg("--version").output().is_ok_and(|output| output.status.success());
    if !has {
        skipped_outside_ci("there is no mpirun");
    }
    has
}

fn mpirun(folder: &Path) -> Command {
    let mut command = Command::new("mpirun");
    // Ranks that wait let others compute: there may be more of them than processors.
    command.args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "--mca", "mpi_yield_when_idle", "1"]);
    command.current_dir(folder).stdin(Stdio::null()).env("RAYON_NUM_THREADS", "1");
    command
}

/// The command that trains on so many ranks; on one without `mpirun`.
fn on_ranks(folder: &Path, ranks: usize, arguments: &[&str]) -> Command {
    let mut command = match ranks {
        1 => {
            let mut command = Command::new(SOFTSTEP);
            command.current_dir(folder).stdin(Stdio::null());
            command
        }
        _ => {
            let mut command = mpirun(folder);
            command.args(["-n", &ranks.to_string(), SOFTSTEP]);
            command
        }
    };
    command.args(arguments);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The lines of standard output that a command printed, as JSON.
fn json_lines(output: &Output) -> Vec<Value> {
    let stdout = text(&output.stdout);
    assert!(output.status.success(), "{}\n{stdout}\n{}", output.status, text(&output.stderr));
    stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

/// What a run leaves behind: its model and its metrics, byte by byte.
fn outcome(run: &Path) -> [Vec<u8>; 2] {
    ["model.safetensors", "metrics.jsonl"].map(|name| fs::read(run.join(name)).unwrap())
}

/// Trains on so many ranks, and returns what the run leaves.
fn trained(folder: &Path, ranks: usize, arguments: &[&str]) -> [Vec<u8>; 2] {
    let out = format!("run-{ranks}");
    let output = on_ranks(folder, ranks, &[arguments, &["--json", "--out", &out]].concat()).output().unwrap();
    let lines = json_lines(&output);
    let events: Vec<&str> = lines.iter().filter_map(|line| line["event"].as_str()).collect();
    assert_eq!(events.iter().filter(|event| **event == "done").count(), 1, "one rank prints: {events:?}");
    let outcome = outcome(&folder.join(&out));
    fs::remove_dir_all(folder.join(&out)).unwrap();
    outcome
}

#[test]
fn any_number_of_ranks_gives_the_same_bits() {
    if !has_mpi() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let table = "a,b,y\n".to_owned()
        + &(0..200).map(|row| format!("{row},{},{}.5\n", row * row % 17, row / 3)).collect::<String>();
    fs::write(folder.path().join("table.csv"), table).unwrap();
    for arguments in [
        &["--data=digits", "--hidden=32", "--epochs=2", "--optimizer=adamw", "--clip-norm=0.5", "--lr=auto"][..],
        &[
            "--data=digits",
            "--layers=conv:4x3,batchnorm,relu,pool:2,dropout:0.2,linear:16,gelu",
            "--epochs=1",
            "--augment=shift=1,rotate=10",
            "--class-weights=balanced",
            "--label-smoothing=0.1",
            "--validation=0.1",
            "--keep=best",
        ],
        &["--data=digits", "--loss=huber", "--optimizer=lion", "--batch-size=20", "--epochs=1"],
        &["--data=table.csv", "--target=y", "--hidden=8", "--epochs=3", "--batch-size=50"],
    ] {
        let arguments = [&["train", "--backend=cpu", "--shards=8"], arguments].concat();
        let alone = trained(folder.path(), 1, &arguments);
        for ranks in [2, 4, 8] {
            assert!(trained(folder.path(), ranks, &arguments) == alone, "{arguments:?} on {ranks} ranks");
        }
    }
    for layers in ["--layers=conv:4x3,relu,pool:2", "--layers=conv:4x3,batchnorm,relu,pool:2,linear:16,batchnorm,relu"]
    {
        let arguments = ["train", "--backend=gpu", "--shards=4", "--data=digits", "--epochs=1", layers];
        let alone = trained(folder.path(), 1, &arguments);
        for ranks in [2, 4] {
            assert!(trained(folder.path(), ranks, &arguments) == alone, "{arguments:?} on {ranks} ranks");
        }
    }
}

/// The step of a run's last checkpoint; 0 if there is none.
fn last_checkpoint(run: &Path) -> usize {
    let names = fs::read_dir(run).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let step = |name: String| name.strip_prefix("checkpoint-")?.strip_suffix(".safetensors")?.parse().ok();
    names.filter_map(|name| step(name.into_string().ok()?)).max().unwrap_or(0)
}

/// Waits until a run has a checkpoint after `step`.
fn wait_for_checkpoint(run: &Path, step: usize, child: &mut Child) {
    let since = Instant::now();
    while last_checkpoint(run) <= step {
        assert!(child.try_wait().unwrap().is_none(), "the run has ended");
        assert!(since.elapsed() < Duration::from_secs(120), "no checkpoint");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The processes of the ranks that an `mpirun` started, in the order of the ranks.
fn ranks_of(mpirun: &Child) -> Vec<u32> {
    let children = Command::new("pgrep").args(["-P", &mpirun.id().to_string()]).output().unwrap();
    let mut ranks: Vec<u32> = text(&children.stdout).lines().filter_map(|line| line.parse().ok()).collect();
    ranks.sort_by_key(|process| {
        let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0).map(text);
        variables.find_map(|variable| variable.strip_prefix("OMPI_COMM_WORLD_RANK=")?.parse::<usize>().ok())
    });
    ranks
}

fn kill(signal: &str, process: u32) {
    assert!(Command::new("kill").args([signal, &process.to_string()]).status().unwrap().success());
}

fn start(folder: &Path, ranks: usize, arguments: &[&str]) -> Child {
    on_ranks(folder, ranks, arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Lines of standard error, without those of `mpirun`.
fn own_lines(stderr: &[u8]) -> Vec<String> {
    text(stderr)
        .lines()
        .filter(|line| line.starts_with("error: ") || line.starts_with("note: "))
        .map(Into::into)
        .collect()
}

#[test]
fn a_run_is_stopped_and_killed_and_goes_on_with_other_numbers_of_ranks_to_the_same_bits() {
    if !has_mpi() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let undisturbed = trained(folder.path(), 1, &LONG);
    let run: PathBuf = folder.path().join("run");
    let resume = ["train", "--json", "--resume=run"];

    // One rank is told to stop: all do, and the state is saved.
    let mut child = start(folder.path(), 4, &[&LONG[..], &["--json", "--out=run"]].concat());
    wait_for_checkpoint(&run, 0, &mut child);
    kill("-TERM", *ranks_of(&child).last().unwrap());
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success(), "{}", output.status);
    let stopped = text(&output.stdout).lines().filter(|line| line.contains("\"event\":\"stopped\"")).count();
    assert_eq!(stopped, 1, "{}\n{}", text(&output.stdout), text(&output.stderr));

    // One rank is killed: the others end, with one message and a saved state.
    let stopped = last_checkpoint(&run);
    let mut child = start(folder.path(), 2, &resume);
    wait_for_checkpoint(&run, stopped, &mut child);
    let ranks = ranks_of(&child);
    assert_eq!(ranks.len(), 2, "{:?}", child.try_wait());
    kill("-KILL", ranks[1]);
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success(), "{}", output.status);
    assert!(own_lines(&output.stderr).iter().filter(|line| line.starts_with("error: ")).count() <= 1);

    // Another number of ranks ends it, to the bits of a single process.
    json_lines(&on_ranks(folder.path(), 8, &resume).output().unwrap());
    assert!(outcome(&run) == undisturbed, "the bits differ");
}

#[test]
fn mpirun_that_is_interrupted_leaves_a_run_that_goes_on() {
    if !has_mpi() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run: PathBuf = folder.path().join("run");
    let mut child = start(folder.path(), 2, &[&LONG[..], &["--json", "--out=run"]].concat());
    wait_for_checkpoint(&run, 0, &mut child);
    kill("-INT", child.id());
    // It kills the ranks after a second: whether they are done by then, a busy machine decides.
    assert!(!child.wait_with_output().unwrap().status.success());
    json_lines(&on_ranks(folder.path(), 1, &["train", "--json", "--resume=run"]).output().unwrap());
}

#[test]
fn problems_of_any_rank_are_told_once() {
    if !has_mpi() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, shift) in [("one.csv", 0), ("other.csv", 1)] {
        let rows: String = (0..60).map(|row| format!("{},{}\n", row + shift * (row % 5), row % 3)).collect();
        fs::write(folder.path().join(name), "a,y\n".to_owned() + &rows).unwrap();
    }
    let digits = ["train", "--backend=cpu", "--data=digits", "--epochs=1", "--shards=4"];
    let data = |name| ["train", "--backend=cpu", "--target=y", "--epochs=1", "--shards=4", "--data", name];
    let sweep = |name| ["sweep", "--backend=cpu", "--target=y", "--lr=0.1/0.2", "--data", name];
    // The arguments of rank 0 and of the other ranks, and the message.
    for (first, others, message) in [
        (
            &[&digits[..], &["--epocs=1"]].concat()[..],
            &[&digits[..], &["--epocs=1"]].concat()[..],
            "unexpected argument",
        ),
        (&digits[..4], &digits[..4], "2 ranks for --shards 1: ranks must be a power of two"),
        (&data("nowhere.csv"), &data("nowhere.csv"), "nowhere.csv"),
        (&data("one.csv"), &data("nowhere.csv"), "rank 1: "),
        (&data("one.csv"), &data("other.csv"), "rank 1 has another data than rank 0"),
        (&digits, &[&digits[..], &["--seed=1"]].concat(), "rank 1 has another settings than rank 0"),
        (&[&digits[..], &["--seeds=2"]].concat(), &[&digits[..], &["--seeds=2"]].concat(), "ranks share one run"),
        (&SWEEP, &[&SWEEP[..], &["--momentum=0.5"]].concat(), "rank 1 has another command than rank 0"),
        (&[&SWEEP[..], &["--jobs=2"]].concat(), &[&SWEEP[..], &["--jobs=2"]].concat(), "--jobs is for one process"),
        (&sweep("one.csv"), &sweep("nowhere.csv"), "rank 1: "),
        (&sweep("one.csv"), &sweep("other.csv"), "has another"),
    ] {
        let mut command = mpirun(folder.path());
        command.args(["-n", "1", SOFTSTEP]).args(first).args([":", "-n", "1", SOFTSTEP]).args(others);
        let output = command.output().unwrap();
        assert!(!output.status.success());
        let errors: Vec<String> =
            own_lines(&output.stderr).into_iter().filter(|line| line.starts_with("error")).collect();
        assert!(errors.len() == 1 && errors[0].contains(message), "{message}: {}", text(&output.stderr));
        assert!(!folder.path().join("runs").exists(), "{message}: a run was begun");
        assert!(!folder.path().join("sweeps").exists(), "{message}: a sweep was begun");
    }
    let other = folder.path().join("softstep");
    fs::copy(SOFTSTEP, &other).unwrap();
    fs::OpenOptions::new()
        .append(true)
        .open(&other)
        .and_then(|mut file| std::io::Write::write_all(&mut file, b"x"))
        .unwrap();
    let mut command = mpirun(folder.path());
    command.args(["-n", "1", SOFTSTEP]).args(digits).args([":", "-n", "1"]).arg(&other).args(digits);
    let output = command.output().unwrap();
    assert!(text(&output.stderr).contains("rank 1 has another program than rank 0"), "{}", text(&output.stderr));
}

const SWEEP: [&str; 6] =
    ["sweep", "--data=digits", "--backend=cpu", "--lr=0.05..0.5", "--hidden=none/32/64", "--batch-size=8"];

/// The results of a sweep without times: its table, its best run and that run's model.
fn sweep_outcome(sweep: &Path) -> [String; 3] {
    let read = |name: &str| fs::read(sweep.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let table = text(&read("runs.csv"));
    let without_times: Vec<&str> = table.lines().map(|line| line.rsplit_once(',').unwrap().0).collect();
    [without_times.join("\n"), text(&read("best.json")), format!("{:?}", read("model.safetensors"))]
}

/// Lines of the journal of a sweep.
fn ended_runs(sweep: &Path) -> usize {
    fs::read_to_string(sweep.join("runs.jsonl")).map_or(0, |text| text.lines().count())
}

/// Waits until so many runs of a sweep have ended.
fn wait_for_runs(sweep: &Path, runs: usize, child: &mut Child) {
    let since = Instant::now();
    while ended_runs(sweep) < runs {
        assert!(child.try_wait().unwrap().is_none(), "the sweep has ended");
        assert!(since.elapsed() < Duration::from_secs(120), "no run ends");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn ranks_share_the_runs_of_a_sweep_and_leave_what_one_process_leaves() {
    if !has_mpi() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, more) in [
        ("whole", &["--epochs=2", "--runs=9"][..]),
        ("halved", &["--epochs=9", "--runs=9", "--halving", "--keep=best"]),
    ] {
        let outcome = |ranks: usize| {
            let out = format!("{name}-{ranks}");
            let arguments = [&SWEEP[..], more, &["--json", "--out", &out]].concat();
            let lines = json_lines(&on_ranks(folder.path(), ranks, &arguments).output().unwrap());
            let of = |event| lines.iter().filter(|line| line["event"] == event).count();
            assert_eq!(of("done"), 1, "one rank prints: {lines:?}");
            assert!(of("run") >= 9, "{lines:?}");
            sweep_outcome(&folder.path().join(out))
        };
        assert_eq!(outcome(1), outcome(3), "{name}");
    }
}

#[test]
fn a_sweep_loses_the_run_of_a_rank_that_is_killed_and_goes_on_to_the_same_table() {
    if !has_mpi() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let arguments = |out| [&SWEEP[..], &["--epochs=40", "--runs=24", "--json", "--out", out]].concat();
    json_lines(&on_ranks(folder.path(), 1, &arguments("alone")).output().unwrap());
    let alone = sweep_outcome(&folder.path().join("alone"));

    // MPI goes on without the rank: the others do its run.
    let sweep = folder.path().join("recovered");
    let mut command = mpirun(folder.path());
    command.args(["--enable-recovery", "-n", "3", SOFTSTEP]).args(arguments("recovered"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_runs(&sweep, 1, &mut child);
    kill("-KILL", ranks_of(&child)[2]);
    let output = child.wait_with_output().unwrap();
    let done = text(&output.stdout).lines().filter(|line| line.contains("\"event\":\"done\"")).count();
    assert_eq!(done, 1, "{}\n{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(sweep_outcome(&sweep), alone);

    // MPI ends with a rank, the first one among them, or one is told to stop, or Ctrl-C reaches mpirun: the same command goes
    // on. Each has a sweep of its own, so that most of its runs are still to be done when the signal comes.
    for (signal, rank, out) in [
        ("-KILL", Some(1), "killed"),
        ("-KILL", Some(0), "first"),
        ("-TERM", Some(2), "stopped"),
        ("-INT", None, "mpirun"),
    ] {
        let sweep = folder.path().join(out);
        let mut child = start(folder.path(), 3, &arguments(out));
        wait_for_runs(&sweep, 1, &mut child);
        let ranks = ranks_of(&child);
        kill(signal, rank.map_or(child.id(), |rank| ranks[rank]));
        let output = child.wait_with_output().unwrap();
        assert!(!output.status.success(), "{}", output.status);
        let told = own_lines(&output.stderr);
        assert!(told.len() <= 1, "{told:?}");
        // After Ctrl-C mpirun kills the ranks within a second: whether they are done by then, a busy machine decides.
        let kept = format!("which are kept in {out}; the same command goes on");
        assert!(signal != "-TERM" || told[0].contains(&kept), "{told:?}");
        wait_for_end(&ranks);
        json_lines(&on_ranks(folder.path(), 2, &arguments(out)).output().unwrap());
        assert_eq!(sweep_outcome(&sweep), alone, "{out}");
    }
}

#[test]
fn ranks_start_no_run_of_a_sweep_after_its_time() {
    if !has_mpi() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fn arguments<'a>(out: &'a str, more: &'a str) -> Vec<&'a str> {
        [&SWEEP[..], &["--epochs=10", "--json", "--out", out, more]].concat()
    }
    // On a busy machine the time of the first sweep may be over before it has begun.
    for (limit, out) in [("--for=1s", "one"), ("--for=8s", "eight"), ("--for=64s", "sixty-four")] {
        let sweep = folder.path().join(out);
        let output = on_ranks(folder.path(), 2, &arguments(out, limit)).output().unwrap();
        let runs = ended_runs(&sweep);
        if runs == 0 {
            continue;
        }
        json_lines(&output);
        let table = sweep_outcome(&sweep);
        let as_many = format!("--runs={runs}");
        json_lines(&on_ranks(folder.path(), 1, &arguments("alone", &as_many)).output().unwrap());
        assert_eq!(table, sweep_outcome(&folder.path().join("alone")));
        // No time is left: what there is stays.
        json_lines(&on_ranks(folder.path(), 2, &arguments(out, limit)).output().unwrap());
        assert_eq!((ended_runs(&sweep), sweep_outcome(&sweep)), (runs, table));
        return;
    }
    panic!("no run has begun in 64 seconds");
}

/// Waits until none of these processes runs, as those that are killed do for a moment.
fn wait_for_end(processes: &[u32]) {
    let since = Instant::now();
    // A process that has ended and that nobody has asked about is a zombie.
    let runs = |process: &u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
    };
    while processes.iter().any(runs) {
        assert!(since.elapsed() < Duration::from_secs(60), "a rank goes on without mpirun");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Two hosts are two network namespaces, joined by a veth pair; `mpirun` starts the ranks of the second by `ip netns exec`.
#[test]
fn ranks_on_two_hosts_give_the_same_bits() {
    if !has_mpi() {
        return;
    }
    // A container may not have the right to make namespaces, not even for root.
    let try_it = "ip netns add softstep-$$ && ip link add softstep$$ netns softstep-$$ type veth; result=$?
                  ip netns delete softstep-$$; exit $result";
    if !Command::new("bash").args(["-c", try_it]).output().unwrap().status.success() {
        skipped("this user cannot make network namespaces, which two hosts are");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["train", "--backend=cpu", "--data=digits", "--hidden=32", "--shards=8", "--epochs=3"];
    let alone = trained(folder.path(), 1, &arguments);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/two-hosts");
    let output = Command::new(script)
        .args([SOFTSTEP].iter().chain(&arguments))
        .args(["--json", "--out=run"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    json_lines(&output);
    assert!(outcome(&folder.path().join("run")) == alone, "the bits differ");
}
