//! A recorded run, opened to be computed again: its settings, its data and its first parameters.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use softstep::any_backend::Device;
use softstep::backend::{DeviceInfo, Training};
use softstep::checkpoint;
use softstep::data::{self, Data, Examples, TestPart};
use softstep::model::Parameters;
use softstep::optimizer::TrainingState;
use softstep::trainer::{TrainingConfig, epoch_order};

use crate::options::{BackendChoice, DataArgs, DeviceArgs, RunArgs};
use crate::run::config::{Config, Source};
use crate::run::record::Record;
use crate::run::{checkpoints, model};
use crate::terminal::printable;
use crate::{device, loading};

/// A run with all that trains it again.
pub struct Rerun {
    /// Files of its folder.
    pub record: Record,
    /// Settings.
    pub config: TrainingConfig,
    /// Data without the validation part.
    pub data: Data,
    /// The validation part.
    pub validation: Option<Examples>,
    /// The parameters that it started from.
    pub start: Parameters,
    /// Good checkpoints, the first step first.
    pub checkpoints: Vec<(checkpoint::Metadata, TrainingState)>,
    /// Weight of each class; empty if all are 1.
    pub class_weights: Vec<f32>,
}

impl Rerun {
    /// Reads a run folder and the run's data, and checks that they are the ones it had.
    pub fn open(args: &RunArgs) -> Result<Self> {
        let record = Record::read(&args.run)?;
        let folder = args.run.display();
        if record.history.steps.is_empty() {
            bail!("{folder}: its metrics.jsonl records no step: there is nothing to compute again");
        }
        let settings = Value::Object(record.config.settings.clone());
        let config: TrainingConfig = serde_json::from_value(settings)
            .with_context(|| format!("{folder}: the settings in config.json are not those of a run"))?;
        config.check().with_context(|| format!("{folder}: the settings in config.json"))?;
        let source = match record.config.source.clone() {
            Some(source) => source,
            // Of an older version.
            None => {
                Config::of_checkpoint(&args.run)?.source.with_context(|| format!("{folder} does not name its data"))?
            }
        };
        let data = load(args, &record, &source, config.seed).with_context(|| {
            format!(
                "the run in {folder} was trained on {}, which cannot be read as before: if the data have moved, say where \
                 they are with --data",
                printable(&record.config.data)
            )
        })?;
        let sha256 = data.sha256();
        if sha256 != source.data_sha256 {
            bail!(
                "the data were changed, or are not those of the run: {} has SHA-256 {sha256}, and the run in {folder} was \
                 trained on {} with {}",
                printable(&data.name),
                printable(&record.config.data),
                softstep::error::printable(&source.data_sha256, 64)
            );
        }
        let (data, validation) = data.hold_out(config.validation, config.seed)?;
        let class_weights = config.class_weights_of(&data.train)?;
        let architecture = config.architecture(data.shape(), config.loss.outputs(&data.train)?)?;
        let start = match &source.init {
            Some(init) => {
                let model = model::read_model(Path::new(&init.path))
                    .with_context(|| format!("the run in {folder} started from {}", printable(&init.path)))?;
                if model.parameters.sha256() != init.parameters_sha256 {
                    bail!(
                        "{}: the run in {folder} started from this model, which has been changed since",
                        printable(&init.path)
                    );
                }
                model.parameters
            }
            None => Parameters::initialize(&architecture, config.seed)?,
        };
        if start.architecture != architecture {
            bail!("{folder}: it started from the model {}, and its settings make {architecture}", start.architecture);
        }
        let checkpoints = checkpoints::good_checkpoints(&args.run)?;
        let checkpoints = checkpoints.into_iter().filter(|(found, _)| found.architecture == architecture).collect();
        Ok(Self { record, config, data, validation, start, checkpoints, class_weights })
    }

    /// Returns what a backend needs for training.
    pub fn training(&self) -> Result<Training<'_>> {
        Ok(self.config.training(&self.data.train, &self.class_weights, self.data.shape())?)
    }

    /// The state before the first step.
    pub fn start_state(&self) -> TrainingState {
        let mut zero = self.start.clone();
        zero.layers.iter_mut().for_each(|layer| layer.values.fill(0.0));
        zero.statistics.clear();
        let moments = vec![zero; self.config.optimizer.moments()];
        TrainingState { parameters: self.start.clone(), moments, best: None, updates: 0 }
    }

    /// The recorded loss of step `step`, from 1.
    pub fn recorded(&self, step: usize) -> Option<f64> {
        let points = &self.record.history.steps;
        points.binary_search_by_key(&step, |point| point.step).ok().map(|at| points[at].loss)
    }

    /// Steps in `metrics.jsonl`.
    pub fn steps(&self) -> usize {
        self.record.history.steps.last().map_or(0, |point| point.step)
    }

    /// Returns true if the run came to its end.
    pub fn has_ended(&self) -> bool {
        self.checkpoints.last().is_some_and(|(found, _)| found.finished() && found.step == self.steps())
    }

    /// The examples of step `step`, from 1, its learning rate, and its epoch.
    pub fn batch(&self, step: usize) -> (Vec<u32>, f32, usize) {
        let examples = self.data.train.len();
        let (epoch, found) = self.config.step_at(step - 1, examples);
        let rows = epoch_order(self.config.seed, epoch, examples)[found.first..found.first + found.batch].to_vec();
        (rows, found.learning_rate, epoch)
    }

    /// Opens the device that the arguments choose, or else the run's own.
    pub async fn open_device(&self, args: &RunArgs) -> Result<Device> {
        let Config { backend, adapter, .. } = &self.record.config;
        if args.backend.is_some() || args.adapter.is_some() {
            let backend = args.backend.unwrap_or(BackendChoice::Auto);
            return device::open_device(&DeviceArgs { backend, adapter: args.adapter.clone() }).await;
        }
        let device = match backend.as_str() {
            "cpu" => DeviceArgs { backend: BackendChoice::Cpu, adapter: None },
            _ => DeviceArgs { backend: BackendChoice::Gpu, adapter: Some(adapter.clone()) },
        };
        device::open_device(&device).await.with_context(|| {
            format!(
                "this run computed on {} ({}), which is not here; --backend or --adapter computes it on another device, \
                 within bounds instead of to the same bits",
                printable(adapter),
                printable(backend)
            )
        })
    }

    /// Formats the reason why this device may give other bits than the run; `None` if there is no known reason.
    pub fn elsewhere(&self, info: &DeviceInfo) -> Option<String> {
        let was = &self.record.config;
        let last = self.checkpoints.last().map(|(found, _)| found);
        if let Some(last) = last.filter(|last| (&last.backend, &last.adapter) != (&was.backend, &was.adapter)) {
            let [first, last] = [&was.adapter, &last.adapter].map(|name| printable(name));
            return Some(format!("the run itself computed on {first} and continued on {last}"));
        }
        if (was.backend.as_str(), &was.adapter) != (info.backend, &info.name) {
            let [adapter, backend] = [&was.adapter, &was.backend].map(|name| printable(name));
            return Some(format!(
                "the run computed on {adapter} ({backend}), this is {} ({})",
                info.name, info.backend
            ));
        }
        let version = env!("CARGO_PKG_VERSION");
        ((&was.driver, was.version.as_str()) != (&info.driver, version)).then(|| {
            let [driver, was_version] = [&was.driver, &was.version].map(|name| printable(name));
            format!("the run computed with {driver} and softstep {was_version}, this is {} and {version}", info.driver)
        })
    }
}

/// The data of a run: where the arguments say, else where they were, else by their name from here.
fn load(args: &RunArgs, record: &Record, source: &Source, seed: u64) -> Result<Data> {
    let was = source.path.as_ref().filter(|path| Path::new(path).exists());
    let spec = args.data.as_ref().or(was).unwrap_or(&record.config.data).clone();
    let Some(preprocessing) = &source.preprocessing else {
        let was = source.data_dir.as_ref().map(Into::into).filter(|folder: &std::path::PathBuf| folder.exists());
        let data_dir = args.data_dir.clone().or(was);
        return loading::load_set_or_idx(&DataArgs { data: spec, data_dir }, false);
    };
    let test = source.test_path.as_ref().filter(|path| Path::new(path).exists());
    let preprocessing = match (preprocessing.test(), test) {
        (TestPart::Path(_), Some(path)) => preprocessing.clone().with_test(TestPart::Path(path.clone())),
        _ => preprocessing.clone(),
    };
    Ok(data::load_again(&spec, &preprocessing, seed)?)
}
