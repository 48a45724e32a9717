//! [`train`], which makes a model of a data set in one call.

use crate::any_backend::Device;
use crate::backend::{Inference, Readback};
use crate::data::Data;
use crate::error::{Error, Result};
use crate::loss::example_weights;
use crate::model::Parameters;
use crate::model_file::Metadata;
use crate::trained::Model;
use crate::trainer::{self, Event, RunOptions, Summary, TrainingConfig};

/// A finished training run.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Run {
    /// The trained model, with the parameters that [`TrainingConfig::keep`] selects.
    pub model: Model,
    /// Steps, losses, and the evaluation of the model on the test part.
    pub summary: Summary,
}

/// Trains a model on the training part of a data set and evaluates it on the test part after each epoch.
///
/// `on_event` sees every [`Event`] of the run, in order: each step's loss, each epoch's evaluation. The same settings,
/// data and device give the same bits.
///
/// ```
/// use softstep::{Device, Event, TrainingConfig};
///
/// # pollster::block_on(async {
/// let data = softstep::data::digits()?;
/// let config = TrainingConfig::default().hidden([32]).epochs(3);
/// let run = softstep::train(&Device::cpu(), &data, &config, |event| {
///     if let Event::EpochEvaluated { epoch, train_loss, test, .. } = event {
///         println!("epoch {epoch}: train loss {train_loss:.4}, test loss {:.4}", test.loss);
///     }
/// })
/// .await?;
/// assert!(run.summary.test.accuracy() > Some(0.85));
/// # softstep::Result::Ok(())
/// # }).unwrap();
/// ```
///
/// # Errors
/// [`Error::Invalid`] naming a setting that is out of range or does not apply to the data;
/// [`Error::NonFiniteLoss`] and its kin if training diverges; errors of the device.
pub async fn train(
    device: &Device,
    data: &Data,
    config: &TrainingConfig,
    mut on_event: impl FnMut(Event<'_>),
) -> Result<Run> {
    config.check()?;
    let mut data = data.clone();
    data.refit(config.validation, config.seed)?;
    let train_sha256 = data.train_sha256();
    let (data, validation) = data.hold_out(config.validation, config.seed)?;
    let shapes = data.shapes();
    let class_weights = config.class_weights_of(&data.train)?;
    let training = config.training(&data.train, &class_weights, data.shape())?;
    let architecture = config.architecture(data.shape(), config.loss.outputs(&data.train)?)?;
    let parameters = Parameters::initialize(&architecture, config.seed)?;
    let mut backend = device.for_training(&parameters, &training, Readback::default()).await?;
    let validation = validation.map(|examples| backend.upload(&examples)).transpose()?;
    let test = backend.upload(&data.test)?;
    let observe = |event: Event<'_>| {
        on_event(event);
        Ok(())
    };
    let weights = example_weights(&data.train, &class_weights)?;
    let options = RunOptions { weights: &weights, ..RunOptions::default() };
    let summary =
        trainer::train(&mut backend, config, data.train.len(), validation.as_ref(), &test, &options, observe).await?;
    let summary = summary.ok_or_else(|| Error::Invalid("the run was stopped, which nobody asked for".into()))?;
    let parameters = backend.parameters().await?;
    let metadata = Metadata::new(&parameters, &data.name, config.seed, config.loss)
        .with_preprocessing(data.preprocessing)
        .with_image(data.image)
        .with_train_sha256(train_sha256)
        .with_shapes(shapes);
    Ok(Run { model: Model::from_parts(parameters, metadata), summary })
}
