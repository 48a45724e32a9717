//! `model.safetensors`: the trained model.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use softstep::data::{ArrayFormat, Elements, Preprocessing, Shapes, TableFormat};
use softstep::loss::Loss;
use softstep::model::Parameters;
use softstep::optimizer::TrainingState;
use softstep::{Error, checkpoint, model_file};

use crate::run::checkpoints::{Checkpoint, checkpoints, last_checkpoint};
use crate::run::files::{open_own, read_safetensors};
use crate::run::several;
use crate::terminal;

/// Name of the file.
pub const MODEL: &str = "model.safetensors";

/// A model that was read from a file.
pub struct Model {
    /// Path of its file or folder.
    pub path: PathBuf,
    /// Parameters.
    pub parameters: Parameters,
    /// Seed of its run.
    pub seed: u64,
    /// Loss that it was trained with.
    pub loss: Loss,
    /// Preprocessing of tables, images or arrays; `None` for IDX files.
    pub preprocessing: Option<Preprocessing>,
    /// Name of the data set that it was trained on.
    pub data: String,
    /// Rows and columns of an example, if it is an image.
    pub image: Option<[usize; 2]>,
    /// SHA-256 of the examples that it was trained on, if known.
    pub train_sha256: Option<String>,
    /// Shapes of the pictures that it was trained on, if known.
    pub shapes: Option<Shapes>,
}

/// Input of a model for one example.
pub enum Input<'a> {
    /// Bytes of an image, `[height, width, channels]`.
    Image([usize; 3]),
    /// Bytes in a row.
    Bytes(usize),
    /// Numbers in a row.
    Numbers(&'a ArrayFormat),
    /// Columns of a table.
    Table(&'a TableFormat),
}

impl Model {
    /// Returns the input of the model for one example.
    pub fn input(&self) -> Input<'_> {
        let features = self.parameters.features();
        let image = self.image.filter(|[height, width]| height * width > 0 && features.is_multiple_of(height * width));
        match &self.preprocessing {
            Some(Preprocessing::Table(table)) => Input::Table(table),
            Some(Preprocessing::Arrays(arrays)) if arrays.elements == Elements::Numbers => Input::Numbers(arrays),
            Some(Preprocessing::Images(_) | Preprocessing::Arrays(_)) | None => match image {
                Some([height, width]) => Input::Image([height, width, features / (height * width)]),
                None => Input::Bytes(features),
            },
        }
    }

    fn of_checkpoint(path: PathBuf, (metadata, state): Checkpoint) -> Self {
        let checkpoint::Metadata { config, preprocessing, data, image, train_sha256, shapes, .. } = metadata;
        let (seed, loss) = (config.seed, config.loss);
        Self { path, parameters: state.parameters, seed, loss, preprocessing, data, image, train_sha256, shapes }
    }
}

/// Encodes the model of a finished run from its last checkpoint.
pub fn model_of(metadata: &checkpoint::Metadata, state: &TrainingState) -> softstep::Result<Vec<u8>> {
    let parameters = state.best.as_ref().unwrap_or(&state.parameters);
    let config = &metadata.config;
    let described = model_file::Metadata::new(parameters, &metadata.data, config.seed, config.loss)
        .with_preprocessing(metadata.preprocessing.clone())
        .with_image(metadata.image)
        .with_train_sha256(metadata.train_sha256.clone())
        .with_shapes(metadata.shapes.clone());
    model_file::to_safetensors(parameters, &described)
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
        if !path.exists() {
            bail!("{}", several::no_model(model, MODEL));
        }
        return read_own_model(&path);
    }
    if !fs::metadata(&path).map_err(Error::io("read", &path))?.is_file() {
        bail!("{} is not a file: a model is a model.safetensors, or a run folder that holds one", path.display());
    }
    let file = File::open(&path).map_err(Error::io("read", &path))?;
    model_in(path, file)
}

/// Reads the model file of a run folder.
pub fn read_own_model(path: &Path) -> Result<Model> {
    let file = open_own(path, OpenOptions::new().read(true)).map_err(Error::io("read", path))?;
    model_in(path.to_path_buf(), file)
}

fn model_in(path: PathBuf, file: File) -> Result<Model> {
    let bytes = read_safetensors(&path, file)?;
    let name = path.display().to_string();
    if checkpoint::is_checkpoint(&bytes) {
        return Ok(Model::of_checkpoint(path, checkpoint::from_safetensors(&name, &bytes)?));
    }
    let (parameters, metadata) = model_file::from_safetensors(&name, &bytes)?;
    let model_file::Metadata { seed, loss, preprocessing, data, image, train_sha256, shapes, .. } = metadata;
    Ok(Model { path, parameters, seed, loss, preprocessing, data, image, train_sha256, shapes })
}
