//! Checkpoints as [safetensors](https://github.com/huggingface/safetensors) files: everything that a run needs to
//! resume and to end with the same bits.
//!
//! The parameters are stored as in a [model file](crate::model_file), and so are the moments of the optimizer, with the
//! prefix `moment0.` or `moment1.`, and the parameters after the best epoch, if they are kept, with the prefix `best.`.
//! The metadata entry `softstep-checkpoint` is a JSON object with the fields of [`Metadata`]. The last 32 bytes of the
//! file, in safetensors' terms the tensor `sha256`, are the SHA-256 of everything before them, so a truncated or
//! corrupted file is detected before any of it is used.

use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::data::{Preprocessing, Shapes};
use crate::error::{Error, Result};
use crate::model::Architecture;
use crate::model_file::{Tensor, deserialize, parameter_tensors, serialize, weight_tensors};
use crate::optimizer::TrainingState;
use crate::trainer::{Keep, Position, TrainingConfig};

/// Version of the format that is written, and the only one that is read.
const FORMAT: u32 = 1;
/// Largest file that is read: a model file's [`MAX_BYTES`](crate::model_file::MAX_BYTES) each for the parameters, two
/// moments and the best parameters.
pub const MAX_BYTES: u64 = 4 * crate::model_file::MAX_BYTES;
/// Name of the metadata entry.
const ENTRY: &str = "softstep-checkpoint";
/// Name of the last tensor of the file: safetensors orders tensors of bytes after those of floats.
const DIGEST: &str = "sha256";
const DIGEST_BYTES: usize = 32;
/// Name prefix of the best parameters.
const BEST: &str = "best.";

/// Metadata of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Version of the format, now 1.
    pub format: u32,
    /// Version of softstep that wrote the file.
    pub version: String,
    /// Architecture of the model.
    pub architecture: Architecture,
    /// Position of the run.
    pub position: Position,
    /// Steps since the start of the run.
    pub step: usize,
    /// Settings of the run.
    pub config: TrainingConfig,
    /// Settings that followed the data, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
    /// Interval of checkpoints, in steps.
    pub checkpoint_every: Option<std::num::NonZeroUsize>,
    /// Name of the data set.
    pub data: String,
    /// Hash of the data set: [`Data::sha256`](crate::data::Data::sha256).
    pub data_sha256: String,
    /// The [`train_sha256`](crate::model_file::Metadata::train_sha256) of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_sha256: Option<String>,
    /// Shapes of the training pictures of each class, if pictures are read as digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shapes: Option<Shapes>,
    /// Preprocessing of the data, if it is a table, images or arrays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocessing: Option<Preprocessing>,
    /// Height and width of an example, if it is an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<[usize; 2]>,
    /// Backend of the run: `gpu` or `cpu`.
    pub backend: String,
    /// Name of the adapter or processor.
    pub adapter: String,
    /// Driver or library, with its version.
    pub driver: String,
    /// Length of the run's `metrics.jsonl`, in bytes.
    pub metrics_bytes: u64,
}

impl Metadata {
    /// Version of the format that is written.
    pub const FORMAT: u32 = FORMAT;

    /// Returns true if the run has finished.
    pub fn finished(&self) -> bool {
        self.config.ended(&self.position)
    }

    fn check(&self) -> std::result::Result<(), String> {
        if self.format != FORMAT {
            return Err(format!(
                "its format version is {}, written by softstep {}; this one reads {FORMAT}",
                self.format, self.version
            ));
        }
        self.config.check().map_err(|error| format!("its settings are not those of a softstep run: {error}"))?;
        let of_settings = self.config.architecture(self.architecture.input(), self.architecture.output().len());
        if of_settings.as_ref().ok() != Some(&self.architecture) {
            return Err(format!("its model {} is not that of its settings", self.architecture));
        }
        let Position { epoch, steps, loss_sum, best } = self.position;
        let epochs = self.config.epochs;
        if epoch == 0 || epoch - 1 > epochs || steps > self.step || !loss_sum.is_finite() {
            return Err(format!(
                "its run of {epochs} epochs cannot be at step {steps} of epoch {epoch}, {} steps from its start",
                self.step
            ));
        }
        match best {
            Some(best) if !(1..epoch).contains(&best.epoch) || !best.loss.is_finite() => {
                Err(format!("its best epoch {}, of loss {}, cannot be before epoch {epoch}", best.epoch, best.loss))
            }
            _ => Ok(()),
        }
    }
}

/// Serialises a checkpoint; equal arguments give equal bytes.
///
/// # Errors
/// [`Error::Invalid`] if a value is infinite or not a number, or if the state does not match the architecture and
/// optimizer of the metadata.
pub fn to_safetensors(metadata: &Metadata, state: &TrainingState) -> Result<Vec<u8>> {
    state.check(&metadata.architecture, metadata.config.optimizer.moments())?;
    let mut tensors = parameter_tensors("", &state.parameters)?;
    for (index, moment) in state.moments.iter().enumerate() {
        tensors.extend(weight_tensors(&moment_prefix(index), moment)?);
    }
    if let Some(best) = &state.best {
        tensors.extend(parameter_tensors(BEST, best)?);
    }
    let digest =
        Tensor { name: DIGEST.into(), dtype: Dtype::U8, shape: vec![DIGEST_BYTES], bytes: vec![0; DIGEST_BYTES] };
    tensors.push(digest);
    let mut bytes = serialize(&tensors, ENTRY, metadata)?;
    let content = bytes.len() - DIGEST_BYTES;
    let digest = Sha256::digest(&bytes[..content]);
    bytes[content..].copy_from_slice(&digest);
    Ok(bytes)
}

/// Reads the bytes of a checkpoint file; `file` is the name in error messages.
///
/// # Errors
/// [`Error::Format`] with the file and the problem.
pub fn from_safetensors(file: &str, bytes: &[u8]) -> Result<(Metadata, TrainingState)> {
    read(bytes).map_err(|problem| Error::format(file, problem))
}

/// Returns true if the bytes look like a checkpoint, damaged or not.
pub fn is_checkpoint(bytes: &[u8]) -> bool {
    let header = &bytes[..bytes.len().min(4096)];
    header.windows(ENTRY.len()).any(|window| window == ENTRY.as_bytes())
}

fn read(bytes: &[u8]) -> std::result::Result<(Metadata, TrainingState), String> {
    let damaged = || "the checkpoint is damaged or incomplete: its SHA-256 is not what it ends in".to_string();
    let (content, digest) = bytes.split_last_chunk::<DIGEST_BYTES>().ok_or_else(damaged)?;
    if Sha256::digest(content).as_slice() != digest {
        return Err(damaged());
    }
    let (mut tensors, metadata): (_, Metadata) = deserialize(bytes, "checkpoint", ENTRY)?;
    metadata.check()?;
    let architecture = &metadata.architecture;
    let parameters = tensors.parameters("", architecture)?;
    let moments = (0..metadata.config.optimizer.moments())
        .map(|index| tensors.weights(&moment_prefix(index), architecture))
        .collect::<std::result::Result<_, String>>()?;
    let has_best = metadata.position.best.is_some() && metadata.config.keep == Keep::Best;
    let best = has_best.then(|| tensors.parameters(BEST, architecture)).transpose()?;
    tensors.bytes(DIGEST.into(), Dtype::U8, &[DIGEST_BYTES])?;
    if let Some(name) = tensors.unread() {
        return Err(format!("tensor {name} does not belong in a checkpoint of the model {architecture}"));
    }
    let state = TrainingState { parameters, moments, best, updates: metadata.step as u64 };
    state.check(architecture, metadata.config.optimizer.moments()).map_err(|error| error.to_string())?;
    Ok((metadata, state))
}

fn moment_prefix(index: usize) -> String {
    format!("moment{index}.")
}
