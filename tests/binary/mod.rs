//! Runs the softstep binary.

#![allow(dead_code)] // each test program uses its part

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What a run of the binary came to.
#[derive(Clone, Debug)]
pub struct Run {
    /// The exit code; -1 where a signal ended it.
    pub code: i32,
    /// What it printed as results.
    pub stdout: String,
    /// What it printed as notices, progress and errors.
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

    /// The last of them.
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
