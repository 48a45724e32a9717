//! Runs the softstep binary.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use softstep::checkpoint;
use tempfile::TempDir;

/// Exit code and output of a run of the binary.
#[derive(Clone, Debug)]
pub struct Run {
    /// The exit code; -1 where a signal ended it.
    pub code: i32,
    /// Standard output: results.
    pub stdout: String,
    /// Standard error: notices, progress and errors.
    pub stderr: String,
}

impl Run {
    /// The JSON Lines on standard output.
    pub fn json_lines(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}\n{self:?}")))
            .collect()
    }

    /// The last of the JSON Lines of a run whose exit code must be 0.
    #[track_caller]
    pub fn last_json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        self.json_lines().pop().expect("a line on standard output")
    }
}

/// The binary in `folder`, with these arguments and none of the caller's settings.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_softstep"));
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    for variable in ["RUST_LOG", "SOFTSTEP_DATA_DIR", "SOFTSTEP_MIRROR"] {
        command.env_remove(variable);
    }
    command
}

/// Runs it to its end.
pub fn softstep(folder: &Path, arguments: &[&str]) -> Run {
    finished(command(folder, arguments).output().unwrap())
}

/// The same for a command that was made or started elsewhere.
pub fn finished(output: Output) -> Run {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let stderr = text(output.stderr).trim_end().to_owned();
    Run { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr }
}

/// The checkpoints of a run by their steps, in order.
pub fn checkpoints(run: &Path) -> Vec<(usize, PathBuf)> {
    let Ok(entries) = fs::read_dir(run) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name()?.to_str()?.to_owned();
            Some((name.strip_prefix("checkpoint-")?.strip_suffix(".safetensors")?.parse().ok()?, path))
        })
        .collect();
    found.sort();
    found
}

/// Waits until the run has a checkpoint of this step or a later one.
pub fn wait_for_checkpoint(run: &Path, step: usize) {
    let started = Instant::now();
    while checkpoints(run).last().is_none_or(|(last, _)| *last < step) {
        assert!(started.elapsed() < Duration::from_secs(60), "no checkpoint in {}", run.display());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Returns the same run, whose exit code must be 0.
#[track_caller]
pub fn good(run: Run) -> Run {
    assert_eq!(run.code, 0, "{run:?}");
    run
}

/// Runs the binary to its end, which must have exit code 0.
#[track_caller]
pub fn succeeds(folder: &Path, arguments: &[&str]) -> Run {
    good(softstep(folder, arguments))
}

/// Joins arguments.
pub fn with<'a>(arguments: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [arguments, more].concat()
}

/// Reads the lines of `metrics.jsonl`.
pub fn metrics(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Reads `results.json`.
pub fn results(run: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(run.join("results.json")).unwrap()).unwrap()
}

/// Replaces the metadata of the last checkpoint of a run.
pub fn change_checkpoint(run: &Path, change: impl FnOnce(&mut checkpoint::Metadata)) {
    let (_, path) = checkpoints(run).pop().unwrap();
    let (mut metadata, state) = checkpoint::from_safetensors("c", &fs::read(&path).unwrap()).unwrap();
    change(&mut metadata);
    fs::write(path, checkpoint::to_safetensors(&metadata, &state).unwrap()).unwrap();
}

/// A folder with the folders `tmp` and `home`, for [`in_places`].
pub fn folder_with_places() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["tmp", "home"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    folder
}

/// The binary in `folder`, with temporary files and the user's files in folders of it.
pub fn in_places(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = command(folder, arguments);
    with_places(&mut command, folder);
    command
}

/// Sets the folders of temporary files and of the user, and pipes for the output.
pub fn with_places(command: &mut Command, folder: &Path) {
    command.env("TMPDIR", folder.join("tmp")).env("HOME", folder.join("home"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
}

/// The file in `folder` for the standard output of a run: a pipe that nobody reads would block the run once it is full.
pub fn stdout_file(folder: &Path) -> File {
    File::create(folder.join("stdout")).unwrap()
}

/// Starts the binary as [`in_places`], with its standard output in a file.
pub fn start(folder: &Path, arguments: &[&str]) -> Child {
    in_places(folder, arguments).stdout(stdout_file(folder)).spawn().unwrap()
}

/// Waits for a child of [`start`] to end.
pub fn end(child: Child, folder: &Path) -> Run {
    let run = finished(child.wait_with_output().unwrap());
    Run { stdout: fs::read_to_string(folder.join("stdout")).unwrap(), ..run }
}

/// Sends a signal, such as `-INT`, to a child.
pub fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}
