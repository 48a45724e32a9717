//! The folder of a training run: `config.json`, `metrics.jsonl`, `checkpoint-<step>.safetensors`, `model.safetensors`,
//! `results.json` and `report.html`.
//!
//! A checkpoint is written under a temporary name, synced and renamed, and the folder synced; only then are those removed
//! that come before it and the one that was written before. So at any moment there is a whole one. Training goes on
//! meanwhile. Where it cannot be written, the run moves: see [`RunFolder::rescue`]. An exclusive lock on `.lock`, which
//! the system takes back from a dead process, keeps a second run out.
//!
//! A folder may come from somebody else: [`open_own`] opens each of its files, and follows no link out of it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Result, bail};
use serde::Serialize;
use softstep::data::Preprocessing;
use softstep::loss::Loss;
use softstep::model::Parameters;
use softstep::optimizer::TrainingState;
use softstep::{Error, checkpoint, model_file};

use crate::run::events;
use crate::run::record::{Config, Results, sealed};
use crate::terminal;

/// The weights.
pub const MODEL: &str = "model.safetensors";
/// The settings.
pub const CONFIG: &str = "config.json";
/// A line for each step and epoch.
pub const METRICS: &str = "metrics.jsonl";
/// What training came to: [`Results`](crate::run::record::Results).
pub const RESULTS: &str = "results.json";
/// The page.
pub const REPORT: &str = "report.html";
const LOCK: &str = ".lock";
/// What the names of temporary files start with.
const TEMPORARY: &str = ".softstep-";
/// Bytes of metrics that are gathered before they are written.
const METRICS_BUFFER: usize = 1 << 16;

/// A checkpoint on its way to the disk.
type Saving = (checkpoint::Metadata, TrainingState);

/// A run folder that belongs to this run alone.
pub struct RunFolder {
    path: PathBuf,
    config: Vec<u8>,
    metrics: Metrics,
    /// The step of the last checkpoint here.
    saved: Option<usize>,
    /// The last checkpoint, as long as it is not here.
    unsaved: Option<Arc<Saving>>,
    /// Writes it, and gives its step.
    writing: Option<JoinHandle<softstep::Result<usize>>>,
    lock: Arc<File>,
}

impl RunFolder {
    /// Makes `out`, or takes it if it is free as [`check_free`] has it; without it, makes a folder of its own below
    /// `runs`.
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
            // Now that nobody else takes it.
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

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where its model is, once the run has ended.
    pub fn model(&self) -> PathBuf {
        self.path.join(MODEL)
    }

    /// The step of the last checkpoint in it.
    pub fn saved(&self) -> Option<usize> {
        self.saved
    }

    /// Returns true if it has a `config.json` that can be read.
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

    /// Adds a line to `metrics.jsonl`, in memory first. What cannot be written stays there until the next checkpoint,
    /// which then fails.
    pub fn write_metrics(&mut self, line: &impl Serialize) -> softstep::Result<()> {
        let error = |source: serde_json::Error| Error::io("write", self.path.join(METRICS))(source.into());
        serde_json::to_writer(&mut self.metrics.pending, line).map_err(error)?;
        self.metrics.pending.push(b'\n');
        // Before the first checkpoint there is nothing that a run could go on from, and the file stays empty.
        if self.metrics.pending.len() >= METRICS_BUFFER && self.saved.is_some() {
            let _ = self.flush();
        }
        Ok(())
    }

    /// Brings the lines that are still in memory to `metrics.jsonl`.
    pub fn flush(&mut self) -> softstep::Result<()> {
        self.metrics.flush().map_err(Error::io("write", self.path.join(METRICS)))
    }

    /// Saves a checkpoint, and with that of the end of the run its model. `metadata` need not know the length of the
    /// metrics.
    ///
    /// Training goes on meanwhile, with a copy of the state for the thread that writes. A checkpoint that comes before the
    /// last one is written is only kept in memory for [`save_last`](Self::save_last), unless it is to be `awaited`.
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
        // Kept until the disk has it, or a later one.
        self.unsaved = (self.saved != Some(saving.0.step)).then_some(saving);
        written
    }

    /// Begins to write a checkpoint, once the one before is written.
    fn begin(&mut self, saving: &Arc<Saving>) -> softstep::Result<()> {
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

    /// Waits until the disk has the last checkpoint.
    pub fn wait(&mut self) -> softstep::Result<()> {
        let Some(writing) = self.writing.take() else { return Ok(()) };
        let step = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        self.written(step);
        Ok(())
    }

    /// Writes the last checkpoint, if the disk does not have it yet.
    pub fn save_last(&mut self) -> softstep::Result<()> {
        self.wait()?;
        let Some(saving) = self.unsaved.clone() else { return Ok(()) };
        self.begin(&saving)?;
        self.wait()
    }

    /// Puts the run, with the checkpoint that could not be written here, into a folder elsewhere that `--resume` takes, and
    /// that is its owner's alone: the temporary folder is everybody's. `None` if there was no such checkpoint, `Some(None)` if there is no place.
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

    fn copy_to(&mut self, folder: &Path, saving: &Saving) -> softstep::Result<()> {
        write_whole_for(Access::Private, &folder.join(CONFIG), &self.config)?;
        // Through the open file, which is there even where its name is not.
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

/// Writes a checkpoint, and with that of the end of the run its model; then removes those that come before the one of
/// step `before`, which this run wrote last. Files with other numbers are not this run's, and do not count. With a
/// `lock`, the folder must be the one that holds it.
fn write_checkpoint(
    folder: &Path,
    (metadata, state): &Saving,
    lock: Option<&File>,
    before: Option<usize>,
    access: Access,
) -> softstep::Result<()> {
    let bytes = checkpoint::to_safetensors(metadata, state)?;
    if let Some(lock) = lock {
        check_locked(folder, lock)?;
    }
    if metadata.finished() {
        // Before the checkpoint: whoever finds that one at the end of the run finds the model, too.
        write_whole_for(access, &folder.join(MODEL), &model_of(metadata, state)?)?;
    }
    write_whole_for(access, &folder.join(checkpoint_name(metadata.step)), &bytes)?;
    // The run can do without this; what is wrong with the folder shows at the next checkpoint.
    let found = checkpoints(folder).unwrap_or_default();
    for (step, old) in found.into_iter().filter(|(step, _)| before.is_some_and(|before| *step < before)) {
        if let Err(error) = fs::remove_file(&old) {
            log::warn!("cannot remove the checkpoint of step {step}, {}: {error}", old.display());
        }
    }
    Ok(())
}

/// The model file of a run that has ended, from its last checkpoint.
fn model_of(metadata: &checkpoint::Metadata, state: &TrainingState) -> softstep::Result<Vec<u8>> {
    let parameters = state.best.as_ref().unwrap_or(&state.parameters);
    let config = &metadata.config;
    let described = model_file::Metadata::new(parameters, &metadata.data, config.seed, config.loss)
        .with_preprocessing(metadata.preprocessing.clone())
        .with_image(metadata.image)
        .with_train_sha256(metadata.train_sha256.clone());
    model_file::to_safetensors(parameters, &described)
}

/// `metrics.jsonl`, of which nothing is lost where it cannot be written.
struct Metrics {
    file: File,
    /// Bytes that are in the file for sure.
    written: u64,
    /// Those that follow.
    pending: Vec<u8>,
}

impl Metrics {
    fn flush(&mut self) -> std::io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        // Where an earlier attempt came half the way, this one writes over it.
        self.file.seek(SeekFrom::Start(self.written))?;
        self.file.write_all(&self.pending)?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }
}

/// The folder of a run that was stopped, with its last good checkpoint. Nothing in it is changed yet.
pub struct Stopped {
    path: PathBuf,
    lock: File,
    /// What the checkpoint says about the run.
    pub metadata: checkpoint::Metadata,
    /// Its state there.
    pub state: TrainingState,
    /// Later checkpoints that are damaged.
    damaged: Vec<PathBuf>,
}

impl Stopped {
    /// Takes the folder for this process and reads its last good checkpoint.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            bail!("--resume {}: there is no such folder; name the folder of a run", path.display());
        }
        if checkpoints(path)?.is_empty() {
            if fs::symlink_metadata(path.join(LOCK)).is_ok() && is_free(path)? {
                let path = path.display();
                bail!("--resume {path}: that run ended before its first checkpoint; start it anew, with --out {path}");
            }
            bail!("--resume {}: the folder holds no checkpoint; train anew, with another --out", path.display());
        }
        let lock = lock(path)?;
        let mut damaged = Vec::new();
        let (metadata, state) = last_checkpoint(path, &mut damaged)?;
        Ok(Self { path: path.to_path_buf(), lock, metadata, state, damaged })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the model of a run that has ended, if it is not there or damaged; gives where it is.
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

    /// Takes the run's files back to the checkpoint.
    pub fn go_on(self) -> Result<RunFolder> {
        let Self { path, lock, metadata, damaged, .. } = self;
        for file in damaged {
            let mut aside = file.clone().into_os_string();
            aside.push(".damaged");
            fs::rename(&file, aside).map_err(Error::io("rename", file))?;
        }
        for entry in fs::read_dir(&path).map_err(Error::io("read folder", &path))?.flatten() {
            // Left by a process that was killed while it wrote.
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                let _ = fs::remove_file(entry.path());
            }
        }
        let mut config = Vec::new();
        let name = path.join(CONFIG);
        // One that cannot be read is written anew.
        if Config::read(&name).is_ok() {
            let read =
                open_own(&name, OpenOptions::new().read(true)).and_then(|mut file| file.read_to_end(&mut config));
            read.map_err(Error::io("read", name))?;
        }
        let name = path.join(METRICS);
        let file = open_own(&name, OpenOptions::new().read(true).write(true).create(true).truncate(false));
        let mut file = file.map_err(Error::io("open", &name))?;
        let length = file.metadata().map_err(Error::io("read", &name))?.len();
        // A line that was cut off would be glued to the next.
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

/// The end of the last whole line in the first `length` bytes.
fn whole_lines(file: &mut File, length: u64) -> std::io::Result<u64> {
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(METRICS_BUFFER as u64);
        let mut chunk = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        Read::by_ref(file).take(end - start).read_to_end(&mut chunk)?;
        if let Some(at) = chunk.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// A model that was read.
pub struct Model {
    /// The file or folder that it was in.
    pub path: PathBuf,
    /// Its parameters.
    pub parameters: Parameters,
    /// The seed of its run.
    pub seed: u64,
    /// The loss that it was trained with.
    pub loss: Loss,
    /// How it reads tables, images or arrays, if it does.
    pub preprocessing: Option<Preprocessing>,
    /// The name of the data set that it was trained on.
    pub data: String,
    /// Rows and columns of an example, if it is an image.
    pub image: Option<[usize; 2]>,
    /// The hash of the examples that it was trained on, if it is known.
    pub train_sha256: Option<String>,
}

impl Model {
    fn of_checkpoint(path: PathBuf, (metadata, state): (checkpoint::Metadata, TrainingState)) -> Self {
        let checkpoint::Metadata { config, preprocessing, data, image, train_sha256, .. } = metadata;
        let (seed, loss) = (config.seed, config.loss);
        Self { path, parameters: state.parameters, seed, loss, preprocessing, data, image, train_sha256 }
    }
}

/// Reads a model from a file, a checkpoint, or a run folder (its model, or else its last checkpoint).
pub fn read_model(model: &Path) -> Result<Model> {
    let path = if model.is_dir() { model.join(MODEL) } else { model.to_path_buf() };
    if model.is_dir() && !path.exists() && !checkpoints(model)?.is_empty() {
        let (metadata, state) = last_checkpoint(model, &mut Vec::new())?;
        terminal::notice(&format!("{} has not ended: this is its model after step {}", model.display(), metadata.step));
        return Ok(Model::of_checkpoint(model.to_path_buf(), (metadata, state)));
    }
    if model.is_dir() {
        return read_own_model(&path);
    }
    if !fs::metadata(&path).map_err(Error::io("read", &path))?.is_file() {
        bail!("{} is not a file: a model is a model.safetensors, or a run folder that holds one", path.display());
    }
    let file = File::open(&path).map_err(Error::io("read", &path))?;
    model_in(path, file)
}

/// The model file in a run folder.
fn read_own_model(path: &Path) -> Result<Model> {
    let file = open_own(path, OpenOptions::new().read(true)).map_err(Error::io("read", path))?;
    model_in(path.to_path_buf(), file)
}

fn model_in(path: PathBuf, file: File) -> Result<Model> {
    let bytes = read_file(&path, file)?;
    let name = path.display().to_string();
    if checkpoint::is_checkpoint(&bytes) {
        return Ok(Model::of_checkpoint(path, checkpoint::from_safetensors(&name, &bytes)?));
    }
    let (parameters, metadata) = model_file::from_safetensors(&name, &bytes)?;
    let model_file::Metadata { seed, loss, preprocessing, data, image, train_sha256, .. } = metadata;
    Ok(Model { path, parameters, seed, loss, preprocessing, data, image, train_sha256 })
}

/// Reads a model file or a checkpoint, if it is no larger than these may be.
fn read_file(path: &Path, mut file: File) -> Result<Vec<u8>> {
    let length = file.metadata().map_err(Error::io("read", path))?.len();
    let mut bytes = Vec::new();
    Read::by_ref(&mut file).take(4096).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    let limit = if checkpoint::is_checkpoint(&bytes) { checkpoint::MAX_BYTES } else { model_file::MAX_BYTES };
    if length > limit {
        bail!("{} has {length} bytes: the limit is {limit}", path.display());
    }
    file.take(limit - bytes.len() as u64).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok(bytes)
}

/// What the last good checkpoint of a folder says about its run.
pub fn last_metadata(folder: &Path) -> Result<checkpoint::Metadata> {
    Ok(last_checkpoint(folder, &mut Vec::new())?.0)
}

/// Every good checkpoint of a folder, the first step first.
pub fn good_checkpoints(folder: &Path) -> Result<Vec<(checkpoint::Metadata, TrainingState)>> {
    let read = |(step, path): (usize, PathBuf)| {
        let file = open_own(&path, OpenOptions::new().read(true)).ok()?;
        let bytes = read_file(&path, file).ok()?;
        checkpoint::from_safetensors(&path.display().to_string(), &bytes).ok().filter(|(found, _)| found.step == step)
    };
    Ok(checkpoints(folder)?.into_iter().rev().filter_map(read).collect())
}

/// The last checkpoint that is good. Damaged ones after it are named in a notice and added to `damaged`.
fn last_checkpoint(folder: &Path, damaged: &mut Vec<PathBuf>) -> Result<(checkpoint::Metadata, TrainingState)> {
    let mut problems = Vec::new();
    for (step, path) in checkpoints(folder)? {
        let read = || -> Result<_> {
            let name = path.display().to_string();
            let file = open_own(&path, OpenOptions::new().read(true)).map_err(Error::io("read", &path))?;
            let (metadata, state) = checkpoint::from_safetensors(&name, &read_file(&path, file)?)?;
            if metadata.step != step {
                bail!("{name} is the checkpoint of step {} by another name", metadata.step);
            }
            Ok((metadata, state))
        };
        match read() {
            Ok(good) => {
                for problem in problems {
                    terminal::notice(&format!("{problem:#}; going on from the one before"));
                }
                return Ok(good);
            }
            Err(problem) => {
                problems.push(problem);
                damaged.push(path);
            }
        }
    }
    match problems.into_iter().next() {
        Some(problem) => Err(problem),
        None => bail!("{}: the folder holds no checkpoint", folder.display()),
    }
}

/// The checkpoints in a folder by their steps, the last first.
fn checkpoints(folder: &Path) -> softstep::Result<Vec<(usize, PathBuf)>> {
    let entries = fs::read_dir(folder).map_err(Error::io("read folder", folder))?;
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let step = name.strip_prefix("checkpoint-")?.strip_suffix(".safetensors")?.parse().ok()?;
            Some((step, entry.path()))
        })
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found)
}

fn checkpoint_name(step: usize) -> String {
    format!("checkpoint-{step}.safetensors")
}

/// Locks a folder for this process.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let file = open_own(&path, OpenOptions::new().write(true).create(true).truncate(false));
    let file = file.map_err(Error::io("open", &path))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            bail!("{} is in use: another softstep trains there; stop that one first", folder.display())
        }
        // A file system without locks: then the person has to see to it.
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", path)(error).into()),
        Ok(()) => Ok(file),
    }
}

/// Refuses a folder that is no longer the one which was locked: moved away, and perhaps another run's by that name.
fn check_locked(folder: &Path, lock: &File) -> softstep::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let path = folder.join(LOCK);
        let held = lock.metadata().map_err(Error::io("read", &path))?;
        let there = fs::metadata(&path).map_err(Error::io("write", &path))?;
        if (held.dev(), held.ino()) != (there.dev(), there.ino()) {
            let moved = std::io::Error::other("its folder was moved away, and the one by its name is not this run's");
            return Err(Error::io("write", &path)(moved));
        }
    }
    #[cfg(not(unix))]
    let _ = (folder, lock);
    Ok(())
}

/// Opens a file of a run folder: a regular one, and not what a link in its place leads to.
pub fn open_own(path: &Path, options: &mut OpenOptions) -> std::io::Result<File> {
    let check = |there: fs::Metadata| {
        let kind = there.file_type();
        let what = match kind {
            _ if kind.is_file() => return Ok(()),
            _ if kind.is_symlink() => "a symbolic link",
            _ if kind.is_dir() => "a folder",
            _ => "a pipe or a device",
        };
        Err(std::io::Error::other(format!("it is not a file of the run but {what}: move it away")))
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        there => check(there?)?,
    }
    // In case it becomes a link or a pipe meanwhile.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(path)?;
    check(file.metadata()?)?;
    Ok(file)
}

/// Who may read a file that is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Whom the umask lets.
    Usual,
    /// Its owner.
    Private,
}

/// Writes a file that is there whole or, at any moment and after any fault, as it was before.
pub fn write_whole(path: &Path, bytes: &[u8]) -> softstep::Result<()> {
    write_whole_for(Access::Usual, path, bytes)
}

fn write_whole_for(access: Access, path: &Path, bytes: &[u8]) -> softstep::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let mut file = temporary_file(folder, access)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        // The name, too.
        #[cfg(unix)]
        File::open(folder)?.sync_all()?;
        Ok(())
    };
    write().map_err(Error::io("write", path))
}

/// Writes a file that the person named with `flag`, in the place of nothing but one like it, with `mark` near its start;
/// into a pipe or a device, where it is one.
pub fn write_named(flag: &str, path: &Path, mark: &str, bytes: &[u8]) -> Result<()> {
    let place = match fs::metadata(path) {
        Ok(there) if there.is_dir() => bail!("{flag} {} is a folder: {flag} needs the name of a file", path.display()),
        Ok(there) if !there.is_file() => {
            let written = OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(bytes));
            return Ok(written.map_err(Error::io("write", path))?);
        }
        Ok(_) => {
            let mut start = Vec::new();
            let read = File::open(path).and_then(|file| file.take(1024).read_to_end(&mut start));
            read.map_err(Error::io("read", path))?;
            if !start.is_empty() && !String::from_utf8_lossy(&start).contains(mark) {
                bail!(
                    "{flag} {}: that file is there, and softstep did not write it so: choose another name",
                    path.display()
                );
            }
            // What a link leads to.
            path.canonicalize().map_err(Error::io("read", path))?
        }
        Err(_) => path.to_owned(),
    };
    Ok(write_whole(&place, bytes)?)
}

/// Refuses a folder to write, named with `flag`, that holds something, or is a file. What a run left there that ended
/// before its first checkpoint does not count.
pub fn check_free(flag: &str, folder: &Path) -> Result<()> {
    if folder.exists() && !folder.is_dir() {
        bail!("{flag} {} is a file: {flag} needs a folder, new or empty", folder.display());
    }
    if folder.is_dir() && !is_free(folder)? {
        bail!("{flag} {}: the folder is not empty; name a new one, or remove it first", folder.display());
    }
    Ok(())
}

/// Returns true if a folder holds nothing, or the lock of a run and what it makes before its first checkpoint.
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

/// `runs/<local time>-<data>`, with a number behind it if another run has that name.
fn create_named(data: &str) -> Result<PathBuf> {
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

/// A temporary file; by default they are readable for their owner alone.
fn temporary_file(folder: &Path, access: Access) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    #[cfg(unix)]
    if access == Access::Usual {
        builder.permissions(permissions);
    }
    #[cfg(not(unix))]
    let _ = access;
    builder.prefix(TEMPORARY);
    builder.tempfile_in(folder)
}
