//! `runs.json`: the list of the runs of one command, in the folder around theirs.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::run::config::CONFIG;
use crate::run::files::{read_json, write_whole};
use crate::shell;

/// Name of the file.
pub const LIST: &str = "runs.json";
/// Name of the file with the arguments of a sweep, in its folder.
pub const SWEEP: &str = "sweep.json";

/// Content of `runs.json`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct List {
    /// Version of the program that wrote the list.
    pub version: String,
    /// Arguments that the runs have in common.
    pub arguments: Vec<String>,
    /// Names of the runs, which are those of their folders.
    pub runs: Vec<String>,
    /// Arguments of the command, except its folder.
    #[serde(default)]
    pub command: Vec<String>,
}

impl List {
    /// Reads the list of a folder; `None` if the folder has none.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(LIST);
        if path.exists() { read_json(&path).map(Some) } else { Ok(None) }
    }

    /// Writes the list into a folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        Ok(write_whole(&folder.join(LIST), (serde_json::to_string_pretty(self)? + "\n").as_bytes())?)
    }

    /// Formats the command that resumes the runs of `folder`.
    pub fn command(&self, folder: &Path) -> String {
        let arguments: Vec<String> = self.command.iter().map(|argument| shell::word(argument)).collect();
        format!("softstep train {} --out {}", arguments.join(" "), shell::argument(folder))
    }

    /// Folder of the first run.
    fn first(&self, folder: &Path) -> PathBuf {
        self.runs.first().map_or_else(|| folder.to_path_buf(), |name| folder.join(name))
    }
}

/// Returns true if a folder is that of several runs or of a sweep.
pub fn has_runs(folder: &Path) -> bool {
    [LIST, SWEEP].iter().any(|name| folder.join(name).exists())
}

/// Says what a folder without the files of a run is, with the way to the runs that it is about.
pub fn not_a_run(folder: &Path) -> String {
    let place = folder.display();
    match List::read(folder) {
        Ok(Some(list)) => {
            format!("{place}: the folder of several runs: name one of them, such as {}", list.first(folder).display())
        }
        _ if folder.join(SWEEP).exists() => {
            format!(
                "{place}: the folder of a sweep, which keeps no run: best.json in it has the command of its best one"
            )
        }
        _ => format!("{place}: not a run folder: it has no {CONFIG}"),
    }
}

/// Says why a folder has no model yet, and how it gets one.
pub fn no_model(folder: &Path, model: &str) -> String {
    let place = folder.display();
    match List::read(folder) {
        Ok(Some(list)) => format!(
            "{place}: not all of its runs have ended, so it has no {model}: name one of them, such as {}, or continue \
             with {}",
            list.first(folder).display(),
            list.command(folder)
        ),
        _ if folder.join(SWEEP).exists() => {
            format!("{place}: the sweep has not ended, so it has no {model}: continue with the same command")
        }
        _ if folder.join(CONFIG).exists() => {
            format!("{place}: the run has neither a checkpoint nor a {model}: train it anew")
        }
        _ => format!("{place}: not a run folder: it has no {model}"),
    }
}

/// Says why `--resume` cannot continue a folder without a checkpoint, and what does.
pub fn not_resumable(folder: &Path) -> String {
    let place = folder.display();
    match List::read(folder) {
        Ok(Some(list)) => {
            format!("--resume {place}: the folder of several runs, which continue with {}", list.command(folder))
        }
        _ if folder.join(SWEEP).exists() => {
            format!("--resume {place}: the folder of a sweep, which continues with the same `softstep sweep` command")
        }
        _ => format!("--resume {place}: the folder holds no checkpoint; train anew, with another --out"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::run::folder::Stopped;
    use crate::run::model::{MODEL, read_model};
    use crate::run::record::Record;

    #[test]
    fn a_folder_around_runs_names_a_run_and_the_command_that_continues_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let said = || {
            [
                Record::read(path).err().unwrap().to_string(),
                read_model(path).err().unwrap().to_string(),
                Stopped::open(path).err().unwrap().to_string(),
            ]
        };
        let [record, model, stopped] = said();
        assert!(record.ends_with(": not a run folder: it has no config.json"), "{record}");
        assert!(model.ends_with(": not a run folder: it has no model.safetensors"), "{model}");
        assert!(stopped.ends_with("the folder holds no checkpoint; train anew, with another --out"), "{stopped}");

        let command = ["--data=my flowers.csv".to_string(), "--seeds=2".into()].to_vec();
        let runs = vec!["seed-0".into(), "seed-1".into()];
        List { version: String::new(), arguments: command[..1].to_vec(), runs, command }.write(path).unwrap();
        let [record, model, stopped] = said();
        let first = path.join("seed-0").display().to_string();
        let command = format!("softstep train '--data=my flowers.csv' --seeds=2 --out {}", path.display());
        assert!(
            record.ends_with(&format!("the folder of several runs: name one of them, such as {first}")),
            "{record}"
        );
        assert!(model.contains(MODEL) && model.contains(&first) && model.ends_with(&command), "{model}");
        assert!(stopped.ends_with(&format!("the folder of several runs, which continue with {command}")), "{stopped}");

        fs::rename(path.join(LIST), path.join(SWEEP)).unwrap();
        for text in said() {
            assert!(text.contains("sweep"), "{text}");
        }
    }
}
