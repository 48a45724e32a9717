//! The folder of a training run: `config.json`, `metrics.jsonl` and `model.safetensors`.

use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::Serialize;
use softstep::Error;
use softstep::model::Parameters;
use softstep::model_file::{self, Metadata};

const MODEL: &str = "model.safetensors";

/// A run folder that belongs to this run alone.
pub struct RunFolder {
    path: PathBuf,
    metrics: BufWriter<File>,
}

impl RunFolder {
    /// Makes `out`, or takes it if it is empty; without it, makes a folder of its own below `runs`.
    pub fn create(out: Option<&Path>, data: &str) -> Result<Self> {
        let path = match out {
            Some(out) => {
                check_free(out)?;
                fs::create_dir_all(out).map_err(Error::io("create folder", out))?;
                out.to_path_buf()
            }
            None => create_named(data)?,
        };
        let metrics = create_new(&path.join("metrics.jsonl"))?;
        Ok(Self { path, metrics: BufWriter::new(metrics) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `config.json`.
    pub fn write_config(&self, config: &impl Serialize) -> Result<()> {
        let path = self.path.join("config.json");
        let mut file = create_new(&path)?;
        let text = serde_json::to_string_pretty(config)? + "\n";
        file.write_all(text.as_bytes()).map_err(Error::io("write", path))?;
        Ok(())
    }

    /// Adds a line to `metrics.jsonl`; [`flush`](Self::flush) brings it to the file.
    pub fn write_metrics(&mut self, line: &impl Serialize) -> softstep::Result<()> {
        let error = |source: std::io::Error| Error::io("write", self.path.join("metrics.jsonl"))(source);
        serde_json::to_writer(&mut self.metrics, line).map_err(|source| error(source.into()))?;
        self.metrics.write_all(b"\n").map_err(error)
    }

    /// Writes the lines that are still in memory.
    pub fn flush(&mut self) -> softstep::Result<()> {
        self.metrics.flush().map_err(Error::io("write", self.path.join("metrics.jsonl")))
    }

    /// Writes `model.safetensors`: it is there whole or not at all.
    pub fn write_model(&self, parameters: &Parameters, metadata: &Metadata) -> Result<PathBuf> {
        let bytes = model_file::to_safetensors(parameters, metadata)?;
        let path = self.path.join(MODEL);
        let write = || {
            let mut file = temporary_file(&self.path)?;
            file.write_all(&bytes)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)
        };
        write().map_err(Error::io("write", &path))?;
        Ok(path)
    }
}

/// Reads a model from a file, or from a run folder that holds one; also says which file that was.
pub fn read_model(model: &Path) -> Result<(PathBuf, Parameters, Metadata)> {
    let path = if model.is_dir() { model.join(MODEL) } else { model.to_path_buf() };
    let metadata = fs::metadata(&path).map_err(Error::io("read", &path))?;
    if !metadata.is_file() {
        bail!("{} is not a file: --model needs a model.safetensors, or a run folder that holds one", path.display());
    }
    if metadata.len() > model_file::MAX_BYTES {
        bail!("{} has {} bytes: the limit is {}", path.display(), metadata.len(), model_file::MAX_BYTES);
    }
    let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
    let (parameters, metadata) = model_file::from_safetensors(&path.display().to_string(), &bytes)?;
    Ok((path, parameters, metadata))
}

/// Refuses an `--out` that holds something, or is a file.
pub fn check_free(out: &Path) -> Result<()> {
    if out.exists() && !out.is_dir() {
        bail!("--out {} is a file: --out needs a folder, new or empty", out.display());
    }
    if out.is_dir() && fs::read_dir(out).map_err(Error::io("read folder", out))?.next().is_some() {
        bail!("--out {}: the folder is not empty; name a new one, or remove it first", out.display());
    }
    Ok(())
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

fn create_new(path: &Path) -> Result<File> {
    Ok(File::create_new(path).map_err(Error::io("create", path))?)
}

/// A temporary file with an ordinary file's permissions; by default they are readable for their owner alone.
fn temporary_file(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    #[cfg(unix)]
    builder.permissions(permissions);
    builder.tempfile_in(folder)
}
