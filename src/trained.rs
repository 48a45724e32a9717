//! [`Model`], a trained model with all that predicting needs.

use crate::any_backend::Device;
use crate::backend::Inference;
use crate::checkpoint;
use crate::cpu::CpuModel;
use crate::data::{Examples, Features, Preprocessing, Targets, in_own_units};
#[cfg(not(target_arch = "wasm32"))]
use crate::error::Error;
use crate::error::Result;
use crate::loss::Loss;
use crate::model::{Architecture, Parameters};
use crate::model_file::{self, Metadata};

/// A trained model: its parameters, the meaning of its outputs, and how its features were made.
///
/// ```
/// use softstep::{Device, Model, TrainingConfig};
///
/// # pollster::block_on(async {
/// let data = softstep::data::digits()?;
/// let run = softstep::train(&Device::cpu(), &data, &TrainingConfig::default().epochs(1), |_| ()).await?;
/// let path = std::env::temp_dir().join(format!("digits-{}.safetensors", std::process::id()));
/// run.model.save(&path)?;
///
/// let model = Model::load(&path)?;
/// let image = data.test.select(&[0]);
/// let predictions = model.predict((*image.inputs).clone())?;
/// assert_eq!(predictions, run.model.predict((*image.inputs).clone())?);
/// println!("a {:?} with probabilities {:?}", predictions[0].class, predictions[0].outputs);
/// # std::fs::remove_file(&path).unwrap();
/// # softstep::Result::Ok(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    parameters: Parameters,
    metadata: Metadata,
}

/// Prediction of a model for one example.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Prediction {
    /// The predicted class, the most probable one; `None` for a model of real values.
    pub class: Option<usize>,
    /// Probability of each class; for a model of real values, the values, in the units of the target; for classes
    /// learned with mean squared error, the model's outputs.
    pub outputs: Vec<f64>,
}

impl Model {
    /// Builds a model of parameters and what its file says about them.
    pub(crate) fn from_parts(parameters: Parameters, metadata: Metadata) -> Self {
        Self { parameters, metadata }
    }

    /// What the model's file says about it.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Splits the model into its parameters and what its file says about them.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn into_parts(self) -> (Parameters, Metadata) {
        (self.parameters, self.metadata)
    }

    /// Reads a model from the bytes of a model file, or of a checkpoint; `name` is the file's name in errors.
    ///
    /// # Errors
    /// [`Format`](crate::Error::Format) with the problem, if the file is damaged or none of softstep's.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self> {
        if checkpoint::is_checkpoint(bytes) {
            let (of_run, state) = checkpoint::from_safetensors(name, bytes)?;
            let parameters = state.best.unwrap_or(state.parameters);
            let metadata = Metadata::new(&parameters, &of_run.data, of_run.config.seed, of_run.config.loss)
                .with_preprocessing(of_run.preprocessing)
                .with_image(of_run.image)
                .with_train_sha256(of_run.train_sha256)
                .with_shapes(of_run.shapes);
            return Ok(Self { parameters, metadata });
        }
        let (parameters, metadata) = model_file::from_safetensors(name, bytes)?;
        Ok(Self { parameters, metadata })
    }

    /// Writes the model as the bytes of a safetensors file; equal models give equal bytes.
    ///
    /// # Errors
    /// [`Invalid`](crate::Error::Invalid) if a parameter is infinite or not a number.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        model_file::to_safetensors(&self.parameters, &self.metadata)
    }

    /// Loads a model from a file that [`save`](Self::save) or `softstep train` wrote.
    ///
    /// # Errors
    /// [`Error::Io`], or the errors of [`from_bytes`](Self::from_bytes).
    #[cfg(not(target_arch = "wasm32"))]
    pub fn load(path: impl AsRef<std::path::Path>) -> Result<Self> {
        use std::io::Read;
        let path = path.as_ref();
        let file = std::fs::File::open(path).map_err(Error::io("read", path))?;
        let mut bytes = Vec::new();
        file.take(checkpoint::MAX_BYTES + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
        Self::from_bytes(&path.display().to_string(), &bytes)
    }

    /// Saves the model in a file, which PyTorch can load.
    ///
    /// # Errors
    /// [`Error::Io`], or the errors of [`to_bytes`](Self::to_bytes).
    #[cfg(not(target_arch = "wasm32"))]
    pub fn save(&self, path: impl AsRef<std::path::Path>) -> Result<()> {
        let path = path.as_ref();
        std::fs::write(path, self.to_bytes()?).map_err(Error::io("write", path))
    }

    /// The weights.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Layers and shapes.
    pub fn architecture(&self) -> &Architecture {
        &self.parameters.architecture
    }

    /// The loss that the model was trained with, which defines the meaning of its outputs.
    pub fn loss(&self) -> Loss {
        self.metadata.loss
    }

    /// Names of the classes, in the order of [`Prediction::outputs`], if they have names.
    pub fn class_names(&self) -> Option<&[String]> {
        self.metadata.preprocessing.as_ref().and_then(Preprocessing::class_names)
    }

    /// Returns true if the model predicts classes, false if it predicts real values.
    pub fn has_classes(&self) -> bool {
        self.metadata.preprocessing.as_ref().is_none_or(Preprocessing::has_classes)
    }

    /// Makes features of numbers as a NumPy array holds them, of one or several examples, one after the other: standardised
    /// as those that the model was trained on. For models of other data they stay as they are.
    ///
    /// # Errors
    /// [`Invalid`](crate::Error::Invalid) if a number is too far from those of training.
    pub fn standardise(&self, numbers: Vec<f32>) -> Result<Features> {
        match &self.metadata.preprocessing {
            Some(Preprocessing::Arrays(format)) => Ok(format.standardise(numbers)?.into()),
            _ => Ok(numbers.into()),
        }
    }

    /// Predicts on the CPU. `features` are those of one or several examples, one after the other, made as those that the
    /// model was trained on: as in [`Data`](crate::data::Data), or by [`standardise`](Self::standardise).
    ///
    /// # Errors
    /// [`Invalid`](crate::Error::Invalid) if the features are not those of whole examples.
    pub fn predict(&self, features: impl Into<Features>) -> Result<Vec<Prediction>> {
        let examples = self.unlabelled(features.into())?;
        let outputs = CpuModel::new(&self.parameters, self.loss())?.outputs(&examples)?;
        Ok(self.predictions(&outputs, examples.len()))
    }

    /// Predicts on a device, as [`predict`](Self::predict) does.
    ///
    /// # Errors
    /// The errors of [`predict`](Self::predict), and errors of the device.
    pub async fn predict_on(&self, device: &Device, features: impl Into<Features>) -> Result<Vec<Prediction>> {
        let examples = self.unlabelled(features.into())?;
        let mut model = device.for_inference(&self.parameters, self.loss()).await?;
        let set = model.upload(&examples)?;
        let outputs = model.probabilities(&set).await?;
        Ok(self.predictions(&outputs, examples.len()))
    }

    /// Examples with these features; the targets are unknown and unused.
    fn unlabelled(&self, features: Features) -> Result<Examples> {
        let (width, outputs) = (self.parameters.features(), self.parameters.outputs());
        let count = features.len() / width;
        let (targets, outputs) = match (self.has_classes(), self.loss()) {
            (true, Loss::BinaryCrossEntropy) => (Targets::Classes(vec![0; count]), 2),
            (true, _) => (Targets::Classes(vec![0; count]), outputs),
            (false, _) => (Targets::Values(vec![0.0; count * outputs]), outputs),
        };
        Examples::new(features, targets, width, outputs)
    }

    fn predictions(&self, outputs: &[f32], examples: usize) -> Vec<Prediction> {
        let preprocessing = self.metadata.preprocessing.as_ref();
        let largest = |row: &[f32]| {
            // The first of several equal ones, as in evaluation.
            (0..row.len()).reduce(|best, class| if row[class] > row[best] { class } else { best })
        };
        let prediction = |row: &[f32]| Prediction {
            class: if self.has_classes() { largest(row) } else { None },
            outputs: in_own_units(preprocessing, row),
        };
        outputs.chunks_exact((outputs.len() / examples).max(1)).map(prediction).collect()
    }
}
