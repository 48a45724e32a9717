//! Preparation of a run: its data, settings, model and first parameters.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use softstep::backend::{DeviceInfo, Training};
use softstep::checkpoint;
use softstep::data::{self, Data, Examples, Kind, Preprocessing, Shapes};
use softstep::model::{Architecture, Layer, Parameters};
use softstep::trainer::{Position, TrainingConfig};

use super::options::{Choice, TrainArgs};
use super::{resume, selection};
use crate::loading::{MAX_PATH, load_by_kind, load_set_or_idx, refuse_unfit};
use crate::options::DataArgs;
use crate::run::config::{Init, whole_path};
use crate::run::folder::Stopped;
use crate::run::model::{self, Model};
use crate::terminal;

/// A run that is ready for a backend.
pub struct Prepared {
    /// Data without the validation part.
    pub data: Data,
    /// Validation part.
    pub validation: Option<Examples>,
    /// [`Data::sha256`] of the whole data.
    pub data_sha256: String,
    /// SHA-256 of the training examples of a table, images or arrays, the validation part among them.
    pub train_sha256: Option<String>,
    /// Shapes of the training pictures of each class, if pictures are read as digits.
    pub shapes: Option<Shapes>,
    /// Settings of the run.
    pub config: TrainingConfig,
    /// Settings that were chosen by the data, and the reason.
    pub chosen: Option<String>,
    /// Weight of each class; empty if all are 1.
    pub class_weights: Vec<f32>,
    /// Model.
    pub architecture: Architecture,
    /// First parameters.
    pub parameters: Parameters,
    /// Model of `--init`.
    pub init: Option<Init>,
}

impl Prepared {
    /// Loads data and model for a new run, or for a stopped one that is resumed. With `notices`, says what is odd about the
    /// data.
    pub fn new(args: &TrainArgs, stopped: Option<&Stopped>, notices: bool) -> Result<Self> {
        let whole = match stopped {
            Some(stopped) => load_for_run(args, Some(stopped)).with_context(|| resume::where_data_are(stopped))?,
            None => load_for_run(args, None)?,
        };
        let parts = match stopped {
            Some(Stopped { metadata, .. }) => Parts::new(whole, &metadata.config)?,
            None => Parts::new(whole, &args.provisional())?,
        };
        let choices = match stopped {
            Some(Stopped { metadata, .. }) => {
                vec![Choice { config: metadata.config.clone(), chosen: metadata.chosen.clone() }]
            }
            None => args.choices(&parts.data)?,
        };
        choices[0].config.check()?;
        if let Some(stopped) = stopped {
            resume::check_data(stopped, &parts.data, &parts.data_sha256)?;
        }
        if notices {
            parts.notices(stopped.is_none());
        }
        let choice = selection::select(choices, &parts.data.train)?;
        let prepared = Self::of(args, stopped, parts, choice)?;
        let batch = prepared.config.batch_size.min(prepared.data.train.len());
        if let Some(text) = batchnorm_of_one(&prepared.architecture, batch).filter(|_| notices && stopped.is_none()) {
            terminal::notice(&text);
        }
        Ok(prepared)
    }

    /// Makes the model of a run on these data.
    fn of(
        args: &TrainArgs,
        stopped: Option<&Stopped>,
        parts: Parts,
        Choice { config, chosen }: Choice,
    ) -> Result<Self> {
        let initial: Option<Model> = args.init.as_deref().map(model::read_model).transpose()?;
        let init = initial.as_ref().and_then(|model| {
            Some(Init { path: whole_path(args.init.as_deref()?)?, parameters_sha256: model.parameters.sha256() })
        });
        let Parts { data, validation, data_sha256, train_sha256, shapes } = parts;
        let class_weights = config.class_weights_of(&data.train)?;
        config.training(&data.train, &class_weights, data.shape())?;
        let architecture = config.architecture(data.shape(), config.loss.outputs(&data.train)?)?;
        let parameters = first_parameters(&architecture, config.seed, stopped, initial)?;
        let prepared = Self {
            data,
            validation,
            data_sha256,
            train_sha256,
            shapes,
            config,
            chosen,
            class_weights,
            architecture,
            parameters,
            init,
        };
        Ok(prepared)
    }

    /// Metadata of a checkpoint of the run at a position.
    pub fn metadata(&self, info: &DeviceInfo, position: Position, step: usize) -> checkpoint::Metadata {
        checkpoint::Metadata {
            format: checkpoint::Metadata::FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            architecture: self.architecture.clone(),
            position,
            step,
            config: self.config.clone(),
            chosen: self.chosen.clone(),
            checkpoint_every: None,
            data: self.data.name.clone(),
            data_sha256: self.data_sha256.clone(),
            train_sha256: self.train_sha256.clone(),
            shapes: self.shapes.clone(),
            preprocessing: self.data.preprocessing.clone(),
            image: self.data.image,
            backend: info.backend.into(),
            adapter: info.name.clone(),
            driver: info.driver.clone(),
            metrics_bytes: 0,
        }
    }

    /// Returns what a backend needs for training.
    pub fn training(&self) -> softstep::Result<Training<'_>> {
        self.config.training(&self.data.train, &self.class_weights, self.data.shape())
    }
}

/// The data of a run, in parts.
#[derive(Clone)]
struct Parts {
    data: Data,
    validation: Option<Examples>,
    data_sha256: String,
    train_sha256: Option<String>,
    shapes: Option<Shapes>,
}

impl Parts {
    /// Holds out the validation part of these settings.
    fn new(mut data: Data, config: &TrainingConfig) -> Result<Self> {
        data.refit(config.validation, config.seed)?;
        let data_sha256 = data.sha256();
        let train_sha256 = data.train_sha256();
        data.train.check_read()?;
        data.test.check_read()?;
        let (data, validation) = data.hold_out(config.validation, config.seed)?;
        let shapes = data.shapes();
        Ok(Self { data, validation, data_sha256, train_sha256, shapes })
    }

    /// Prints what is odd about the data; of a `new` run also what is missing from its training part.
    fn notices(&self, new: bool) {
        terminal::notices(&self.data.notices);
        if new {
            say_missing_classes(&self.data);
        }
    }
}

/// The data of runs that are trained one after another or side by side: kept for the next run with the same data.
#[derive(Default)]
pub struct SharedData {
    last: Mutex<Option<(String, Arc<Parts>)>>,
}

impl SharedData {
    /// Prepares a new run as [`Prepared::new`] does.
    pub fn prepare(&self, args: &TrainArgs) -> Result<Prepared> {
        let provisional = args.provisional();
        let (seed, validation) = (provisional.seed, provisional.validation);
        let key = format!("{:?} {:?} {seed} {validation}", args.data, args.own);
        let parts = {
            // Runs beside this one wait for the same data instead of loading them, too.
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            match &*last {
                Some((of, parts)) if *of == key => Arc::clone(parts),
                before => {
                    let is_first = before.is_none();
                    *last = None;
                    let parts = Arc::new(Parts::new(load_for_run(args, None)?, &provisional)?);
                    if is_first {
                        parts.notices(true);
                    }
                    *last = Some((key, Arc::clone(&parts)));
                    parts
                }
            }
        };
        let choices = args.choices(&parts.data)?;
        choices[0].config.check()?;
        let choice = selection::select(choices, &parts.data.train)?;
        Prepared::of(args, None, Parts::clone(&parts), choice)
    }
}

/// Returns the parameters to start from: those of the checkpoint, of `--init`, or random ones.
fn first_parameters(
    architecture: &Architecture,
    seed: u64,
    stopped: Option<&Stopped>,
    initial: Option<Model>,
) -> Result<Parameters> {
    match (stopped, initial) {
        (Some(stopped), _) if stopped.metadata.architecture != *architecture => bail!(
            "--resume {} is the model {}, but its settings and data make {architecture}: bring its data back, or start a \
             new run",
            stopped.path().display(),
            stopped.metadata.architecture
        ),
        (Some(stopped), _) => Ok(stopped.state.parameters.clone()),
        (None, Some(Model { path: file, parameters, .. })) if parameters.architecture != *architecture => bail!(
            "--init {} is the model {}, and this run trains {architecture}: choose its --data, and its --hidden and \
             --activation or --layers",
            file.display(),
            parameters.architecture
        ),
        (None, Some(Model { parameters, .. })) => Ok(parameters),
        (None, None) => Ok(Parameters::initialize(architecture, seed)?),
    }
}

/// Loads the data of `--data`, or those of the resumed run.
fn load_for_run(args: &TrainArgs, stopped: Option<&Stopped>) -> Result<Data> {
    let data = match stopped {
        Some(stopped) if !args.gives("data") => stopped.metadata.data.clone(),
        _ => args.data.data.clone(),
    };
    if data.len() > MAX_PATH {
        bail!("--data {}: no path is so long", terminal::printable(&data));
    }
    let kind = Kind::of(&data);
    let data_dir = args.data.data_dir.clone();
    if let Some(Stopped { metadata: run, .. }) = stopped {
        return match &run.preprocessing {
            Some(preprocessing) => Ok(data::load_again(&data, preprocessing, run.config.seed)?),
            None => load_set_or_idx(&DataArgs { data, data_dir }, !args.quiet),
        };
    }
    refuse_unfit(&data, args.unfit(Some(kind)))?;
    load_by_kind(&DataArgs { data, data_dir }, &args.own, args.provisional().seed, !args.quiet)
}

/// Notice about batch normalisation in batches of one example.
fn batchnorm_of_one(architecture: &Architecture, batch: usize) -> Option<String> {
    let normalises = architecture.layers().contains(&Layer::BatchNorm);
    (normalises && batch == 1).then(|| {
        "batchnorm with one example in a batch: training normalises each example by its own mean, so its brightness is \
         lost, and evaluation by running means; use a larger --batch-size"
            .into()
    })
}

/// Prints a notice about classes without a training example.
fn say_missing_classes(data: &Data) {
    let missing = data.train.missing_classes();
    let names = data.preprocessing.as_ref().and_then(Preprocessing::class_names);
    let name = |&class: &usize| names.map_or_else(|| class.to_string(), |names| terminal::printable(&names[class]));
    let shown: Vec<String> = missing.iter().take(5).map(name).collect();
    let classes = match missing.len() {
        0 => return,
        1 => format!("class {}", shown[0]),
        2..=5 => format!("classes {}", shown.join(", ")),
        count => format!("classes {} and {} more", shown.join(", "), count - shown.len()),
    };
    terminal::notice(&format!("no example to train on has the {classes}: the model cannot learn what is missing"));
}

#[cfg(test)]
mod tests {
    use softstep::model::{Shape, parse_layers};

    use super::*;

    #[test]
    fn batch_normalisation_of_single_examples_is_told() {
        let shape = Shape::Image { height: 4, width: 4, channels: 1 };
        let told = |layers: &str, batch| {
            let architecture = Architecture::new(shape, parse_layers(layers).unwrap()).unwrap();
            batchnorm_of_one(&architecture, batch).is_some()
        };
        assert_eq!(
            [told("batchnorm,linear:2", 1), told("batchnorm,linear:2", 2), told("linear:2", 1)],
            [true, false, false]
        );
    }
}
