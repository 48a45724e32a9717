//! A run folder and its life: created or resumed, filled by a training run, and rescued if it cannot be written.
//!
//! A checkpoint is written under a temporary name, synced and renamed, and the folder synced; only then are older
//! checkpoints removed, except the previous one. So at any moment there is a whole checkpoint. Training continues
//! meanwhile. If a checkpoint cannot be written, [`RunFolder::rescue`] saves the run elsewhere.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Result, bail};
use serde::Serialize;
use softstep::optimizer::TrainingState;
use softstep::trainer::Event;
use softstep::{Error, checkpoint};

use crate::run::checkpoints::{Checkpoint, checkpoint_name, checkpoints, last_checkpoint};
use crate::run::config::{CONFIG, Config};
use crate::run::events;
use crate::run::files::{Access, TEMPORARY, open_own, write_whole, write_whole_for};
use crate::run::lock::{LOCK, check_locked, lock};
use crate::run::metrics::{METRICS, METRICS_BUFFER, Metrics, whole_lines};
use crate::run::model::{MODEL, model_of, read_own_model};
use crate::run::results::{RESULTS, Results, sealed};
use crate::run::several;
use crate::terminal;

/// The folder of a run in progress, locked by this process.
pub struct RunFolder {
    path: PathBuf,
    config: Vec<u8>,
    metrics: Metrics,
    /// Step of the last written checkpoint.
    saved: Option<usize>,
    /// The last checkpoint, until it is written.
    unsaved: Option<Arc<Checkpoint>>,
    /// Thread that writes a checkpoint and returns its step.
    writing: Option<JoinHandle<softstep::Result<usize>>>,
    lock: Arc<File>,
}

impl RunFolder {
    /// Creates the folder `out`, or uses it if it is [free](check_free); without `out`, creates a folder in `runs`.
    pub fn create(out: Option<&Path>, data: &str) -> Result<Self> {
        let path = match out {
            Some(out) => {
                check_free("--out", out)?;
                fs::create_dir_all(out).map_err(Error::io("create folder", out))?;
                out.to_path_buf()
            }
            None => create_named(data)?,
        };
        let lock = lock(&path)?;
        if out.is_some() {
            // Again, now that no other process can take it.
            check_free("--out", &path)?;
            for entry in fs::read_dir(&path).map_err(Error::io("read folder", &path))?.flatten() {
                if entry.file_name() != LOCK {
                    fs::remove_file(entry.path()).map_err(Error::io("remove", entry.path()))?;
                }
            }
        }
        let metrics = path.join(METRICS);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&metrics);
        let metrics = Metrics { file: file.map_err(Error::io("create", &metrics))?, written: 0, pending: Vec::new() };
        Ok(Self { path, config: Vec::new(), metrics, saved: None, unsaved: None, writing: None, lock: Arc::new(lock) })
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of the model of a finished run.
    pub fn model(&self) -> PathBuf {
        self.path.join(MODEL)
    }

    /// Returns the step of the last written checkpoint.
    pub fn saved(&self) -> Option<usize> {
        self.saved
    }

    /// Returns true if the folder has a readable `config.json`.
    pub fn has_config(&self) -> bool {
        !self.config.is_empty()
    }

    /// Writes `config.json`.
    pub fn write_config(&mut self, config: &impl Serialize) -> Result<()> {
        self.config = (serde_json::to_string_pretty(config)? + "\n").into_bytes();
        Ok(write_whole(&self.path.join(CONFIG), &self.config)?)
    }

    /// Writes `results.json`.
    pub fn write_results(&self, results: &Results) -> Result<()> {
        Ok(write_whole(&self.path.join(RESULTS), sealed(results)?.as_bytes())?)
    }

    /// Adds the line of an event to `metrics.jsonl`, in memory first. A line that cannot be written stays in memory until
    /// the next checkpoint, which then fails.
    pub fn write_metrics(&mut self, event: Event<'_>) -> softstep::Result<()> {
        let error = |source: serde_json::Error| Error::io("write", self.path.join(METRICS))(source.into());
        self.metrics.add(event).map_err(error)?;
        // A run cannot be resumed before its first checkpoint, and until then the file stays empty.
        if self.metrics.pending.len() >= METRICS_BUFFER && self.saved.is_some() {
            let _ = self.flush();
        }
        Ok(())
    }

    /// Writes the lines in memory to `metrics.jsonl`.
    pub fn flush(&mut self) -> softstep::Result<()> {
        self.metrics.flush().map_err(Error::io("write", self.path.join(METRICS)))
    }

    /// Saves a checkpoint, and at the end of the run its model. The length of the metrics is set here.
    ///
    /// A thread writes a copy of the state while training continues. If the previous checkpoint is still being written, a
    /// checkpoint is only kept in memory for [`save_last`](Self::save_last), unless it is `awaited`.
    pub fn save(
        &mut self,
        mut metadata: checkpoint::Metadata,
        state: &TrainingState,
        awaited: bool,
    ) -> softstep::Result<()> {
        metadata.metrics_bytes = self.metrics.written + self.metrics.pending.len() as u64;
        let saving = Arc::new((metadata, state.clone()));
        if !awaited && self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            self.unsaved = Some(saving);
            return Ok(());
        }
        let written = self.begin(&saving).and_then(|()| if awaited { self.wait() } else { Ok(()) });
        // Kept in memory until this or a later one is on disk.
        self.unsaved = (self.saved != Some(saving.0.step)).then_some(saving);
        written
    }

    /// Starts to write a checkpoint after waiting for the previous one.
    fn begin(&mut self, saving: &Arc<Checkpoint>) -> softstep::Result<()> {
        self.wait()?;
        self.flush()?;
        let metrics = self.path.join(METRICS);
        let file = self.metrics.file.try_clone().map_err(Error::io("open", &metrics))?;
        let (folder, saving, lock) = (self.path.clone(), Arc::clone(saving), Arc::clone(&self.lock));
        let before = self.saved;
        let write = Arc::new(move || {
            file.sync_data().map_err(Error::io("write", &metrics))?;
            write_checkpoint(&folder, &saving, Some(&lock), before, Access::Usual)?;
            Ok(saving.0.step)
        });
        let in_thread = Arc::clone(&write);
        match std::thread::Builder::new().spawn(move || in_thread()) {
            Ok(writing) => self.writing = Some(writing),
            Err(error) => {
                log::info!("no thread to write the checkpoint with ({error}): training waits for it");
                self.written(write()?);
            }
        }
        Ok(())
    }

    fn written(&mut self, step: usize) {
        self.saved = Some(step);
        self.unsaved.take_if(|unsaved| unsaved.0.step == step);
    }

    /// Waits until the checkpoint in progress is written.
    pub fn wait(&mut self) -> softstep::Result<()> {
        let Some(writing) = self.writing.take() else { return Ok(()) };
        let step = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        self.written(step);
        Ok(())
    }

    /// Writes the last checkpoint if it is only in memory.
    pub fn save_last(&mut self) -> softstep::Result<()> {
        self.wait()?;
        let Some(saving) = self.unsaved.clone() else { return Ok(()) };
        self.begin(&saving)?;
        self.wait()
    }

    /// Saves the run with its unwritten checkpoint in a private folder elsewhere, which `--resume` accepts; returns its
    /// step and path. `None` if every checkpoint is written, `Some(None)` if no other place can be written.
    pub fn rescue(&mut self) -> Option<Option<(usize, PathBuf)>> {
        let saving = self.unsaved.take()?;
        let places = [Some(std::env::temp_dir()), self.path.parent().map(Path::to_path_buf), etcetera::home_dir().ok()];
        let place = places.into_iter().flatten().find_map(|place| {
            let place = if place.as_os_str().is_empty() { PathBuf::from(".") } else { place };
            let mut builder = tempfile::Builder::new();
            #[cfg(unix)]
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            #[cfg(unix)]
            builder.permissions(permissions);
            let folder = builder.prefix("softstep-run-").tempdir_in(place).ok()?;
            self.copy_to(folder.path(), &saving).ok()?;
            Some(folder.keep())
        });
        Some(place.map(|place| (saving.0.step, place)))
    }

    fn copy_to(&mut self, folder: &Path, saving: &Checkpoint) -> softstep::Result<()> {
        write_whole_for(Access::Private, &folder.join(CONFIG), &self.config)?;
        // The open file can be read even if its name is gone.
        let mut metrics = Vec::new();
        let all =
            self.metrics.file.seek(SeekFrom::Start(0)).and_then(|_| {
                Read::by_ref(&mut self.metrics.file).take(self.metrics.written).read_to_end(&mut metrics)
            });
        all.map_err(Error::io("read", self.path.join(METRICS)))?;
        metrics.extend_from_slice(&self.metrics.pending);
        write_whole_for(Access::Private, &folder.join(METRICS), &metrics)?;
        write_checkpoint(folder, saving, None, None, Access::Private)
    }
}

/// Writes a checkpoint, and at the end of the run its model; then removes the checkpoints before step `before`, the
/// previous one of this run. With a `lock`, the folder must be the locked one.
fn write_checkpoint(
    folder: &Path,
    (metadata, state): &Checkpoint,
    lock: Option<&File>,
    before: Option<usize>,
    access: Access,
) -> softstep::Result<()> {
    let bytes = checkpoint::to_safetensors(metadata, state)?;
    if let Some(lock) = lock {
        check_locked(folder, lock)?;
    }
    if metadata.finished() {
        // The model comes first: a folder with the last checkpoint also has its model.
        write_whole_for(access, &folder.join(MODEL), &model_of(metadata, state)?)?;
    }
    write_whole_for(access, &folder.join(checkpoint_name(metadata.step)), &bytes)?;
    // A failure to remove is no error: a problem of the folder shows at the next checkpoint.
    let found = checkpoints(folder).unwrap_or_default();
    for (step, old) in found.into_iter().filter(|(step, _)| before.is_some_and(|before| *step < before)) {
        if let Err(error) = fs::remove_file(&old) {
            log::warn!("cannot remove the checkpoint of step {step}, {}: {error}", old.display());
        }
    }
    Ok(())
}

/// The folder of a stopped run, locked by this process, with its last good checkpoint. Its files are still unchanged.
pub struct Stopped {
    path: PathBuf,
    /// `None` on a rank that the first one sent the checkpoint to.
    lock: Option<File>,
    /// Metadata of the checkpoint.
    pub metadata: checkpoint::Metadata,
    /// State of the checkpoint.
    pub state: TrainingState,
    /// Paths of later checkpoints, which are damaged.
    damaged: Vec<PathBuf>,
}

impl Stopped {
    /// Locks the folder and reads its last good checkpoint.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            bail!("--resume {}: there is no such folder; name the folder of a run", path.display());
        }
        if checkpoints(path)?.is_empty() {
            if fs::symlink_metadata(path.join(LOCK)).is_ok() && is_free(path)? {
                let path = path.display();
                bail!("--resume {path}: that run ended before its first checkpoint; start it anew, with --out {path}");
            }
            bail!("{}", several::not_resumable(path));
        }
        let lock = lock(path)?;
        let mut damaged = Vec::new();
        let (metadata, state) = last_checkpoint(path, &mut damaged)?;
        Ok(Self { path: path.to_path_buf(), lock: Some(lock), metadata, state, damaged })
    }

    /// Returns the checkpoint as it is sent to the other ranks.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        Ok(checkpoint::to_safetensors(&self.metadata, &self.state)?)
    }

    /// The run of a checkpoint that the first rank sent. Its folder is that rank's alone.
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self> {
        let (metadata, state) = checkpoint::from_safetensors("the checkpoint of rank 0", bytes)?;
        Ok(Self { path: path.to_path_buf(), lock: None, metadata, state, damaged: Vec::new() })
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the model of a finished run if it is missing or damaged; returns its path.
    pub fn write_model(&self) -> Result<PathBuf> {
        let path = self.path.join(MODEL);
        let there = fs::symlink_metadata(&path).is_ok();
        if !there || read_own_model(&path).is_err() {
            write_whole(&path, &model_of(&self.metadata, &self.state)?)?;
            let what = if there { "was damaged" } else { "was missing" };
            terminal::notice(&format!("{} {what}: written anew, from the last checkpoint", path.display()));
        }
        Ok(path)
    }

    /// Resets the files of the run to the checkpoint, and resumes it.
    pub fn go_on(self) -> Result<RunFolder> {
        let Self { path, lock: Some(lock), metadata, damaged, .. } = self else {
            bail!("{}: the folder belongs to rank 0", self.path.display());
        };
        for file in damaged {
            let mut aside = file.clone().into_os_string();
            aside.push(".damaged");
            fs::rename(&file, aside).map_err(Error::io("rename", file))?;
        }
        for entry in fs::read_dir(&path).map_err(Error::io("read folder", &path))?.flatten() {
            // A process that was killed while writing leaves a temporary file.
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                let _ = fs::remove_file(entry.path());
            }
        }
        let mut config = Vec::new();
        let name = path.join(CONFIG);
        // An unreadable file will be written again.
        if Config::read(&name).is_ok() {
            let read =
                open_own(&name, OpenOptions::new().read(true)).and_then(|mut file| file.read_to_end(&mut config));
            read.map_err(Error::io("read", name))?;
        }
        let name = path.join(METRICS);
        let file = open_own(&name, OpenOptions::new().read(true).write(true).create(true).truncate(false));
        let mut file = file.map_err(Error::io("open", &name))?;
        let length = file.metadata().map_err(Error::io("read", &name))?.len();
        // The next line must not continue an unfinished one.
        let written = whole_lines(&mut file, length.min(metadata.metrics_bytes)).map_err(Error::io("read", &name))?;
        if written < metadata.metrics_bytes {
            terminal::notice(&format!("{}: lines before step {} are missing", name.display(), metadata.step));
        }
        file.set_len(written).map_err(Error::io("write", &name))?;
        let metrics = Metrics { file, written, pending: Vec::new() };
        Ok(RunFolder {
            path,
            config,
            metrics,
            saved: Some(metadata.step),
            unsaved: None,
            writing: None,
            lock: Arc::new(lock),
        })
    }
}

/// Refuses a folder, named by the option `flag`, that is a file or not empty. Files of a run that ended before its first
/// checkpoint do not count.
pub fn check_free(flag: &str, folder: &Path) -> Result<()> {
    if folder.exists() && !folder.is_dir() {
        bail!("{flag} {} is a file: {flag} needs a folder, new or empty", folder.display());
    }
    if folder.is_dir() && !is_free(folder)? {
        bail!("{flag} {}: the folder is not empty; name a new one, or remove it first", folder.display());
    }
    Ok(())
}

/// Returns true if a folder is empty, or has only the files of a run before its first checkpoint.
fn is_free(folder: &Path) -> softstep::Result<bool> {
    let entries = fs::read_dir(folder).map_err(Error::io("read folder", folder))?;
    let entries = entries.collect::<std::io::Result<Vec<_>>>().map_err(Error::io("read folder", folder))?;
    let is_empty = |entry: &fs::DirEntry| entry.metadata().is_ok_and(|there| there.is_file() && there.len() == 0);
    let is_left = |entry: &fs::DirEntry| match entry.file_name().to_str() {
        Some(LOCK | METRICS) => is_empty(entry),
        Some(CONFIG) => Config::read(&entry.path()).is_ok(),
        Some(name) => {
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            is_file && (name.starts_with(TEMPORARY) || name.starts_with(events::PREFIX))
        }
        None => false,
    };
    Ok(entries.is_empty() || entries.iter().any(|entry| entry.file_name() == LOCK) && entries.iter().all(is_left))
}

/// Creates `runs/<local time>-<data>`, with a number at the end if the name is taken.
pub fn create_named(data: &str) -> Result<PathBuf> {
    let runs = Path::new("runs");
    fs::create_dir_all(runs).map_err(Error::io("create folder", runs))?;
    let data = Path::new(data).file_name().map_or_else(|| "data".into(), |name| name.to_string_lossy());
    let name = format!("{}-{data}", jiff::Zoned::now().strftime("%Y-%m-%d-%H%M%S"));
    let mut path = runs.join(&name);
    for number in 2.. {
        match fs::create_dir(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => path = runs.join(format!("{name}-{number}")),
            made => {
                made.map_err(Error::io("create folder", &path))?;
                break;
            }
        }
    }
    Ok(path)
}
