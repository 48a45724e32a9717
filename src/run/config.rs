//! `config.json`: the settings of a run, its model, its data and its device.

use std::path::Path;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use softstep::backend::DeviceInfo;
use softstep::data::{Data, Examples, Kind, Preprocessing, TestPart};
use softstep::model::Architecture;
use softstep::trainer::TrainingConfig;

use crate::run::checkpoints::last_metadata;
use crate::run::files::read_json;

/// Name of the file.
pub const CONFIG: &str = "config.json";

/// Content of `config.json`, with the settings `S`. Folders of older versions lack the optional fields.
#[derive(Debug, Serialize, Deserialize)]
pub struct Config<S> {
    /// Version of softstep.
    pub version: String,
    /// Name of the data set.
    pub data: String,
    /// `gpu` or `cpu`.
    pub backend: String,
    /// Name of the adapter or processor.
    pub adapter: String,
    /// [`DeviceInfo::device_type`].
    pub device_type: String,
    /// Driver or library, with its version.
    pub driver: String,
    /// The model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<Architecture>,
    /// Layer sizes `[features, hidden…, outputs]` of a stack of linear layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sizes: Option<Vec<usize>>,
    /// Number of training examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_examples: Option<usize>,
    /// Number of validation examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_examples: Option<usize>,
    /// Number of test examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_examples: Option<usize>,
    /// Rows and columns of an example, if it is an image, grey or RGB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<[usize; 2]>,
    /// Names of the classes, if they have names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_names: Option<Vec<String>>,
    /// Target column of a table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Settings that were chosen by the data, and the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
    /// `[learning rate, loss]` of the steps of `--lr auto`; a loss that is not finite is null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range_test: Option<Vec<[Option<f32>; 2]>>,
    /// Origin of the data and of the first parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// The settings.
    #[serde(flatten)]
    pub settings: S,
}

impl<'a> Config<&'a TrainingConfig> {
    /// Describes a run on `data`, from which the `validation` part was taken.
    pub fn new(
        settings: &'a TrainingConfig,
        architecture: &Architecture,
        data: &Data,
        validation: Option<&Examples>,
        info: &DeviceInfo,
    ) -> Self {
        let preprocessing = data.preprocessing.as_ref();
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            data: data.name.clone(),
            backend: info.backend.into(),
            adapter: info.name.clone(),
            device_type: info.device_type.into(),
            driver: info.driver.clone(),
            architecture: Some(architecture.clone()),
            sizes: architecture.as_dense().map(|(sizes, _)| sizes),
            train_examples: Some(data.train.len()),
            validation_examples: validation.map(Examples::len),
            test_examples: Some(data.test.len()),
            image: data.image,
            class_names: preprocessing.and_then(Preprocessing::class_names).map(<[String]>::to_vec),
            target: preprocessing.and_then(Preprocessing::target).map(String::from),
            chosen: None,
            range_test: None,
            source: None,
            settings,
        }
    }
}

impl Config<Map<String, Value>> {
    /// Reads a `config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        read_json(path)
    }

    /// Restores the settings from the last checkpoint, for a run whose file is missing or damaged.
    pub fn of_checkpoint(folder: &Path) -> Result<Self> {
        let run = last_metadata(folder)?;
        let preprocessing = run.preprocessing.clone();
        let preprocessing = preprocessing.as_ref();
        let Value::Object(settings) = serde_json::to_value(&run.config)? else { bail!("the settings are no object") };
        Ok(Self {
            class_names: preprocessing.and_then(Preprocessing::class_names).map(<[String]>::to_vec),
            target: preprocessing.and_then(Preprocessing::target).map(String::from),
            version: run.version,
            data: run.data,
            device_type: if run.backend == "cpu" { "cpu".into() } else { "other".into() },
            backend: run.backend,
            adapter: run.adapter,
            driver: run.driver,
            sizes: run.architecture.as_dense().map(|(sizes, _)| sizes),
            architecture: Some(run.architecture),
            chosen: run.chosen,
            range_test: None,
            source: Some(Source {
                arguments: Vec::new(),
                path: None,
                test_path: None,
                data_dir: None,
                data_sha256: run.data_sha256,
                preprocessing: run.preprocessing,
                init: None,
            }),
            train_examples: None,
            validation_examples: None,
            test_examples: None,
            image: run.image,
            settings,
        })
    }
}

/// Everything beside the settings that training the run again needs: its data and its first parameters.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Source {
    /// Arguments of the command.
    pub arguments: Vec<String>,
    /// Absolute path of the data; `None` for a set with a name.
    pub path: Option<String>,
    /// Absolute path of a separate test part.
    pub test_path: Option<String>,
    /// Absolute path of `--data-dir`.
    pub data_dir: Option<String>,
    /// [`Data::sha256`].
    pub data_sha256: String,
    /// Preprocessing of a table, images or arrays.
    pub preprocessing: Option<Preprocessing>,
    /// Model of `--init`.
    pub init: Option<Init>,
}

/// Model that a run started from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Init {
    /// Absolute path of the model.
    pub path: String,
    /// [`Parameters::sha256`](softstep::model::Parameters::sha256).
    pub parameters_sha256: String,
}

impl Source {
    /// Describes the data and first parameters of a command.
    pub fn new(
        arguments: &[String],
        data: &Data,
        data_sha256: &str,
        data_dir: Option<&Path>,
        init: Option<Init>,
    ) -> Self {
        let preprocessing = data.preprocessing.clone();
        let test_path = match preprocessing.as_ref().map(Preprocessing::test) {
            Some(TestPart::Path(path)) => whole_path(Path::new(path)),
            _ => None,
        };
        let path = if Kind::is_set(&data.name) { None } else { whole_path(Path::new(&data.name)) };
        let (arguments, data_sha256) = (arguments.to_vec(), data_sha256.into());
        Self { arguments, path, test_path, data_dir: data_dir.and_then(whole_path), data_sha256, preprocessing, init }
    }
}

/// Returns the absolute path of an existing file or folder; `None` if there is none, or if the path is not Unicode.
pub fn whole_path(path: &Path) -> Option<String> {
    path.canonicalize().ok()?.into_os_string().into_string().ok()
}
