//! The folder of a sweep: its arguments (`sweep.json`), results of its runs so far (`runs.jsonl`), the states of runs that
//! may go on (`states/`), and the best run (`best.json`).

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use softstep::Error;

use super::trial::{Ended, Trial};
use crate::run::files::{open_own, read_json, write_whole};
use crate::run::folder::check_free;
use crate::run::lock::lock;
use crate::run::metrics::whole_lines;
use crate::run::several::SWEEP;
use crate::terminal;

/// Name of the file with a line for each run, or share of one, that has ended.
const RUNS: &str = "runs.jsonl";
/// Name of the folder of states.
const STATES: &str = "states";
/// Name of the file with the best run and its test.
const BEST: &str = "best.json";

/// Content of `sweep.json`.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    version: String,
    /// Arguments that make the sweep what it is.
    arguments: Vec<String>,
    /// [`Data::sha256`](softstep::data::Data::sha256) of the first run's data.
    data_sha256: String,
}

/// Content of `best.json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Best {
    /// Number of the run.
    pub run: usize,
    /// Command that trains it.
    pub command: String,
    /// SHA-256 of its parameters.
    pub parameters_sha256: String,
    /// Loss on the validation part.
    pub validation_loss: f64,
    /// Loss on the test part.
    pub test_loss: f64,
    /// Accuracy on the test part.
    pub test_accuracy: Option<f64>,
    /// R² on the test part.
    pub test_r_squared: Option<f64>,
    /// Number of test examples.
    pub test_examples: usize,
    /// Number of test examples that the model is right about.
    pub test_correct: usize,
}

/// Arguments of a run, and its share.
type Key = (Vec<String>, usize);

/// Results of runs, by their arguments and shares.
#[derive(Clone)]
pub struct Known(Arc<HashMap<Key, Ended>>);

impl Known {
    /// Returns the result of this share of a run.
    pub fn get(&self, trial: &Trial, share: usize) -> Option<&Ended> {
        self.0.get(&(trial.args.arguments.clone(), share))
    }
}

/// The folder of states.
#[derive(Clone)]
pub struct States(PathBuf);

impl States {
    fn of(&self, trial: &Trial) -> PathBuf {
        self.0.join(format!("{}.safetensors", trial.number))
    }

    /// Reads the state of a run, the bytes of a checkpoint.
    pub fn read(&self, trial: &Trial) -> Option<Vec<u8>> {
        fs::read(self.of(trial)).ok()
    }

    /// Keeps the state of a run that may go on. It need not survive a power cut: what is missing is trained again.
    pub fn write(&self, trial: &Trial, state: &[u8]) -> Result<()> {
        let path = self.of(trial);
        Ok(fs::write(&path, state).map_err(Error::io("write", path))?)
    }

    /// Removes the state of a run that does not go on.
    pub fn remove(&self, trial: &Trial) {
        let _ = fs::remove_file(self.of(trial));
    }

    /// Removes all, once no run goes on.
    pub fn remove_all(&self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The open folder of a sweep.
pub struct Journal {
    folder: PathBuf,
    file: File,
    /// Results of earlier commands, and those taken in by [`snapshot`](Self::snapshot).
    known: Known,
    /// Results since the last [`snapshot`](Self::snapshot).
    added: HashMap<Key, Ended>,
    /// Time that earlier commands spent.
    pub spent: f64,
    _lock: File,
}

impl Journal {
    /// Creates the folder of a sweep, or opens that of the same one.
    pub fn open(folder: &Path, arguments: Vec<String>, data_sha256: &str) -> Result<Self> {
        let about = folder.join(SWEEP);
        let place = folder.display();
        if about.exists() {
            let there: About = read_json(&about)?;
            if there.arguments != arguments {
                bail!(
                    "--out {place}: that folder has the sweep softstep sweep {}: choose another folder, or the same settings",
                    terminal::line(&there.arguments.join(" "))
                );
            }
            if there.data_sha256 != data_sha256 {
                bail!(
                    "{place}: the data have changed since that sweep began: bring them back, or choose another --out"
                );
            }
        } else {
            check_free("--out", folder)?;
        }
        let states = folder.join(STATES);
        fs::create_dir_all(&states).map_err(Error::io("create folder", &states))?;
        let lock = lock(folder)?;
        if !about.exists() {
            let version = env!("CARGO_PKG_VERSION").into();
            let text = serde_json::to_string_pretty(&About { version, arguments, data_sha256: data_sha256.into() })?;
            write_whole(&about, (text + "\n").as_bytes())?;
        }
        let path = folder.join(RUNS);
        let file = open_own(&path, OpenOptions::new().read(true).write(true).create(true).truncate(false));
        let mut file = file.map_err(Error::io("open", &path))?;
        let known = read_lines(&mut file, &path)?;
        let spent = known.values().map(|ended| ended.elapsed).fold(0.0, f64::max);
        let known = Known(Arc::new(known));
        Ok(Self { folder: folder.into(), file, known, added: HashMap::new(), spent, _lock: lock })
    }

    /// Path of the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the results of all runs so far.
    pub fn snapshot(&mut self) -> Known {
        Arc::make_mut(&mut self.known.0).extend(self.added.drain());
        self.known.clone()
    }

    /// Returns true if there is a result of this share of a run.
    pub fn has(&self, trial: &Trial, share: usize) -> bool {
        self.known.get(trial, share).is_some()
    }

    /// Number of lines.
    pub fn len(&self) -> usize {
        self.known.0.len() + self.added.len()
    }

    /// The folder of states.
    pub fn states(&self) -> States {
        States(self.folder.join(STATES))
    }

    /// Adds the result of a run.
    pub fn add(&mut self, ended: &Ended) -> Result<()> {
        let line = serde_json::to_string(ended)? + "\n";
        self.file.write_all(line.as_bytes()).map_err(Error::io("write", self.folder.join(RUNS)))?;
        self.added.insert((ended.arguments.clone(), ended.share), ended.clone());
        Ok(())
    }

    /// Reads `best.json`.
    pub fn best(&self) -> Option<Best> {
        read_json(&self.folder.join(BEST)).ok()
    }

    /// Writes `best.json`.
    pub fn write_best(&self, best: &Best) -> Result<()> {
        Ok(write_whole(&self.folder.join(BEST), (serde_json::to_string_pretty(best)? + "\n").as_bytes())?)
    }
}

/// Reads whole lines, and cuts off what a killed process left behind them.
fn read_lines(file: &mut File, path: &Path) -> Result<HashMap<Key, Ended>> {
    let mut read = || {
        let length = file.metadata()?.len();
        let whole = whole_lines(file, length)?;
        file.set_len(whole)?;
        file.seek(SeekFrom::Start(0))?;
        let lines = BufReader::new(&*file).lines().collect::<std::io::Result<Vec<String>>>()?;
        file.seek(SeekFrom::End(0))?;
        Ok(lines)
    };
    let lines = read().map_err(Error::io("read", path))?;
    // A line that is none, as after a power cut, is a run that is trained again.
    let ended = lines.iter().filter_map(|line| serde_json::from_str::<Ended>(line).ok());
    Ok(ended.map(|ended| ((ended.arguments.clone(), ended.share), ended)).collect())
}
