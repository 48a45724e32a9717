//! Settings of a page: a JSON object with the names of `config.json`.

use serde_json::{Map, Value};

use crate::data::Data;
use crate::defaults::{Defaults, Outline};
use crate::error::{Error, Result};
use crate::loss::Loss;
use crate::model::Preset;
use crate::optimizer::{Optimizer, Settings};
use crate::trained::Model;
use crate::trainer::TrainingConfig;

fn invalid(error: impl std::fmt::Display) -> Error {
    Error::Invalid(error.to_string())
}

/// The JSON object of settings.
fn written(config: &TrainingConfig) -> Result<Map<String, Value>> {
    match serde_json::to_value(config).map_err(invalid)? {
        Value::Object(fields) => Ok(fields),
        _ => Err(invalid("settings are an object")),
    }
}

/// Reads settings. Those that are missing are chosen by the data, as `softstep train` does; those of the layers follow a
/// model that is trained further.
pub(super) fn of(given: &Value, data: &Data, model: Option<&Model>) -> Result<TrainingConfig> {
    let Value::Object(given) = given else { return Err(invalid("settings are an object")) };
    let mut given = given.clone();
    given.retain(|_, value| !value.is_null());
    if let Some(model) = model {
        given.entry("loss").or_insert(serde_json::to_value(model.loss()).map_err(invalid)?);
        if !["layers", "hidden"].iter().any(|name| given.contains_key(*name)) {
            let layers = model.architecture().layers();
            let layers: Vec<Value> =
                layers[..layers.len().saturating_sub(1)].iter().map(|layer| layer.to_string().into()).collect();
            given.insert("layers".into(), layers.into());
        }
    }
    // Layers as on the command line: a preset's name, or a text with commas.
    if let Some(Value::String(text)) = given.get("layers") {
        let layers = match Preset::from_name(text) {
            Some(preset) => preset.layers(data.shape())?,
            None if text.trim().is_empty() => Vec::new(),
            None => crate::model::parse_layers(text)?,
        };
        given.insert("layers".into(), serde_json::to_value(layers).map_err(invalid)?);
    }
    let loss = match given.get("loss") {
        Some(loss) => serde_json::from_value(loss.clone())
            .map_err(|_| invalid(format!("`loss` {loss}: it is one of {}", Loss::ALL.map(Loss::name).join(", "))))?,
        None => Loss::default_for(&data.train),
    };
    let optimizer = match given.get("optimizer").and_then(Value::as_str) {
        Some(name) => {
            let names = Optimizer::all().map(|optimizer| optimizer.name()).join(", ");
            Some(
                Optimizer::from_name(name)
                    .ok_or_else(|| invalid(format!("optimizer {name:?}: it is one of {names}")))?,
            )
        }
        None => None,
    };
    // First what the model follows from, since its size decides about the rest.
    let base = read(TrainingConfig::default().loss(loss), &given, &["hidden", "activation", "layers", "batch_size"])?;
    let architecture = base.architecture(data.shape(), loss.outputs(&data.train)?)?;
    let outline = Outline { loss, architecture: &architecture, batch_size: base.batch_size, optimizer };
    let Defaults { optimizer, learning_rate, schedule, epochs, .. } = Defaults::new(&data.train, &outline);
    let chosen = base.epochs(epochs).learning_rate(learning_rate).schedule(schedule).optimizer(optimizer);
    let names: Vec<&str> = given.keys().map(String::as_str).collect();
    read(chosen, &given, &names)
}

/// Replaces the named settings by the given ones.
fn read(config: TrainingConfig, given: &Map<String, Value>, names: &[&str]) -> Result<TrainingConfig> {
    let mut fields = written(&config)?;
    let of_optimizer: Vec<String> = match serde_json::to_value(Settings::from(config.optimizer)).map_err(invalid)? {
        Value::Object(settings) => settings.keys().cloned().collect(),
        _ => Vec::new(),
    };
    for &name in names {
        let Some(value) = given.get(name) else { continue };
        if !fields.contains_key(name) && !of_optimizer.iter().any(|known| known == name) {
            return Err(invalid(format!("there is no setting {name:?} here: leave it out")));
        }
        fields.insert(name.into(), value.clone());
    }
    serde_json::from_value(Value::Object(fields)).map_err(|error| invalid(format!("the settings: {error}")))
}
