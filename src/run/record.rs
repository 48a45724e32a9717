//! A recorded run: everything that its folder says, beside model and checkpoints. Reports need neither data nor GPU.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use softstep::model::{Activation, Architecture};
use softstep::plan::Plan;

use crate::run::config::{CONFIG, Config};
use crate::run::metrics::{History, METRICS};
use crate::run::results::{RESULTS, Results};
use crate::run::several;
use crate::{html, terminal};

/// The files of a recorded run.
#[derive(Debug)]
pub struct Record {
    /// The run folder.
    pub folder: PathBuf,
    /// `config.json`.
    pub config: Config<Map<String, Value>>,
    /// `metrics.jsonl`.
    pub history: History,
    /// `results.json`; `None` for a run that is in progress, was killed or was made by an older version.
    pub results: Option<Results>,
}

impl Record {
    /// Reads a run folder.
    pub fn read(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            bail!("{}: there is no such folder; name the folder of a run", folder.display());
        }
        let config = match Config::read(&folder.join(CONFIG)) {
            Ok(config) => config,
            Err(problem) => match Config::of_checkpoint(folder) {
                Ok(config) => {
                    terminal::notice(&format!("{problem:#}; the settings are those of the last checkpoint"));
                    config
                }
                Err(_) if !folder.join(CONFIG).exists() => {
                    bail!("{}", several::not_a_run(folder))
                }
                Err(_) => return Err(problem),
            },
        };
        let results = folder.join(RESULTS);
        let record = Self {
            folder: folder.to_path_buf(),
            config,
            history: History::read(&folder.join(METRICS))?,
            results: Results::read(folder)?,
        };
        record.history.notice(&folder.join(METRICS));
        if let Some(test) = record.results.as_ref().and_then(|results| results.test.as_ref()) {
            test.check().with_context(|| format!("{} is damaged", results.display()))?;
        }
        Ok(record)
    }

    /// Returns the model; folders of version 0.1.0 have only its sizes.
    pub fn architecture(&self) -> Option<Architecture> {
        let Config { architecture, sizes, .. } = &self.config;
        architecture.clone().or_else(|| {
            let activation = self.setting("activation").and_then(Activation::from_name).unwrap_or_default();
            Architecture::dense(sizes.as_ref()?, activation).ok()
        })
    }

    /// Returns the number of parameters, if the model is known.
    pub fn parameters(&self) -> Option<usize> {
        Some(Plan::new(&self.architecture()?).parameters())
    }

    /// Returns a setting that is a text.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.config.settings.get(name).and_then(Value::as_str)
    }

    /// Returns the name of a class.
    pub fn class_name(&self, class: usize) -> String {
        let name = self.config.class_names.as_ref().and_then(|names| names.get(class));
        name.map_or_else(|| class.to_string(), |name| html::name(name))
    }
}
