//! `checkpoint-<step>.safetensors`: names of checkpoints, and their reading.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use softstep::optimizer::TrainingState;
use softstep::{Error, checkpoint};

use crate::run::files::{open_own, read_safetensors};
use crate::terminal;

/// A checkpoint: its metadata and its state.
pub type Checkpoint = (checkpoint::Metadata, TrainingState);

/// File name of the checkpoint of a step.
pub fn checkpoint_name(step: usize) -> String {
    format!("checkpoint-{step}.safetensors")
}

/// Lists the checkpoints of a folder by their steps, the last first.
pub fn checkpoints(folder: &Path) -> softstep::Result<Vec<(usize, PathBuf)>> {
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

/// Reads the metadata of the last good checkpoint.
pub fn last_metadata(folder: &Path) -> Result<checkpoint::Metadata> {
    Ok(last_checkpoint(folder, &mut Vec::new())?.0)
}

/// Reads every good checkpoint, the first step first.
pub fn good_checkpoints(folder: &Path) -> Result<Vec<Checkpoint>> {
    let read = |(step, path): (usize, PathBuf)| {
        let file = open_own(&path, OpenOptions::new().read(true)).ok()?;
        let bytes = read_safetensors(&path, file).ok()?;
        checkpoint::from_safetensors(&path.display().to_string(), &bytes).ok().filter(|(found, _)| found.step == step)
    };
    Ok(checkpoints(folder)?.into_iter().rev().filter_map(read).collect())
}

/// Reads the last good checkpoint. Later ones that are damaged are added to `damaged`, each with a notice.
pub fn last_checkpoint(folder: &Path, damaged: &mut Vec<PathBuf>) -> Result<Checkpoint> {
    let mut problems = Vec::new();
    for (step, path) in checkpoints(folder)? {
        let read = || -> Result<_> {
            let name = path.display().to_string();
            let file = open_own(&path, OpenOptions::new().read(true)).map_err(Error::io("read", &path))?;
            let (metadata, state) = checkpoint::from_safetensors(&name, &read_safetensors(&path, file)?)?;
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
