//! Preparation of a run: its data, settings, model and first parameters.

use anyhow::{Context, Result, bail};
use softstep::backend::Training;
use softstep::data::{self, Data, Examples, Kind, Preprocessing};
use softstep::model::{Architecture, Parameters};
use softstep::trainer::TrainingConfig;

use super::options::TrainArgs;
use super::resume;
use crate::loading::{self, MAX_PATH, check_own, load_own};
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
    /// Loads data and model for a new run, or for a stopped one that is resumed.
    pub fn new(args: &TrainArgs, stopped: Option<&Stopped>) -> Result<Self> {
        let initial: Option<Model> = args.init.as_deref().map(model::read_model).transpose()?;
        let init = initial.as_ref().and_then(|model| {
            Some(Init { path: whole_path(args.init.as_deref()?)?, parameters_sha256: model.parameters.sha256() })
        });
        let mut data = match stopped {
            Some(stopped) => load_data(args, Some(stopped)).with_context(|| resume::where_data_are(stopped))?,
            None => load_data(args, None)?,
        };
        let (config, chosen) = match stopped {
            Some(stopped) => (stopped.metadata.config.clone(), stopped.metadata.chosen.clone()),
            None => args.config(&data)?,
        };
        config.check()?;
        data.refit(config.validation, config.seed)?;
        let data_sha256 = data.sha256();
        let train_sha256 = data.preprocessing.is_some().then(|| data.train.sha256());
        if let Some(stopped) = stopped {
            resume::check_data(stopped, &data, &data_sha256)?;
        }
        terminal::notices(&data.notices);
        let mut validation = None;
        if config.validation > 0.0 {
            let (train, held_out) = data.train.split(config.validation, config.seed)?;
            (data.train, validation) = (train, Some(held_out));
        }
        let class_weights = config.class_weights_of(&data.train)?;
        config.training(&data.train, &class_weights, data.shape())?;
        if stopped.is_none() {
            say_missing_classes(&data);
        }
        let architecture = config.architecture(data.shape(), config.loss.outputs(&data.train)?)?;
        let parameters = first_parameters(&architecture, config.seed, stopped, initial)?;
        let prepared = Self {
            data,
            validation,
            data_sha256,
            train_sha256,
            config,
            chosen,
            class_weights,
            architecture,
            parameters,
            init,
        };
        Ok(prepared)
    }

    /// Returns what a backend needs for training.
    pub fn training(&self) -> softstep::Result<Training<'_>> {
        self.config.training(&self.data.train, &self.class_weights, self.data.shape())
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
fn load_data(args: &TrainArgs, stopped: Option<&Stopped>) -> Result<Data> {
    let data = match stopped {
        Some(stopped) if !args.gives("data") => stopped.metadata.data.clone(),
        _ => args.data.data.clone(),
    };
    if data.len() > MAX_PATH {
        bail!("--data {}: no path is so long", terminal::printable(&data));
    }
    let kind = Kind::of(&data);
    if let Some(Stopped { metadata: run, .. }) = stopped {
        return match &run.preprocessing {
            Some(preprocessing) => Ok(data::load_again(&data, preprocessing, run.config.seed)?),
            None => load_idx(args, data),
        };
    }
    check_own(&data, args.unfit(Some(kind)))?;
    load_own(&DataArgs { data, data_dir: args.data.data_dir.clone() }, &args.own, args.provisional().seed, !args.quiet)
}

/// Loads a standard set, or a folder of IDX files.
fn load_idx(args: &TrainArgs, data: String) -> Result<Data> {
    loading::load_data(&DataArgs { data, data_dir: args.data.data_dir.clone() }, !args.quiet)
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
