//! `softstep import`: weights that PyTorch or Keras trained, as a model.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use clap::{Args, ValueEnum};
use serde_json::json;
use softstep::Error;
use softstep::data::Kind;
use softstep::loss::Loss;
use softstep::model_file::import::{Imported, Layout, Options, import};
use softstep::model_file::{self, Metadata};
use softstep::trainer::TrainingConfig;

use super::export;
use crate::format::counted;
use crate::loading::{load_by_kind, refuse_unfit};
use crate::options::{DataArgs, NetworkArgs, OwnDataArgs, loss, unfit};
use crate::quality::quality;
use crate::run::files::write_named;
use crate::terminal;

/// Options of `softstep import`.
#[derive(Args, Debug)]
pub struct ImportArgs {
    /// A safetensors file of weights
    #[arg(value_name = "FILE")]
    weights: PathBuf,
    /// The data.
    #[command(flatten)]
    data: DataArgs,
    /// Options for people's own data.
    #[command(flatten)]
    own: OwnDataArgs,
    /// The network.
    #[command(flatten)]
    network: NetworkArgs,
    /// Loss that the weights were trained with, which says what the outputs mean [default: cross-entropy; mse where the
    /// targets are real values]
    #[arg(long, value_parser = loss(), help_heading = "Model")]
    loss: Option<Loss>,
    /// Order of the axes in the file [default: decided by the shapes]
    #[arg(long, value_enum, help_heading = "Weights")]
    from: Option<LayoutChoice>,
    /// The layer that each tensor belongs to, by its name before .weight or .bias, as in fc1=0,fc2=2; layers are counted
    /// from 0 with activations and flatten, as in nn.Sequential [default: decided by names and shapes]
    #[arg(long, value_name = "NAME=LAYER,…", value_delimiter = ',', value_parser = mapping, help_heading = "Weights")]
    map: Vec<(String, usize)>,
    /// Epsilon of the batch normalisations [default: 0.00001, for Keras 0.001]
    #[arg(long, value_name = "NUMBER", value_parser = epsilon, help_heading = "Weights")]
    epsilon: Option<f64>,
    /// Seed that chooses the test part, as for `softstep train`
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Write the model to this file
    #[arg(long, value_name = "FILE", default_value = "model.safetensors")]
    out: PathBuf,
    /// Print one JSON object for programs
    #[arg(long)]
    json: bool,
    /// Options on the command line by the names of their fields, with their flags.
    #[arg(skip)]
    pub given: BTreeMap<String, String>,
}

/// Text behind the options of `softstep import --help`.
pub const HELP: &str = "\
Examples:
  softstep import weights.safetensors --data mnist --hidden 128 --out imported.safetensors
  softstep import cnn.safetensors --data mnist --layers conv:16x5,relu,pool:2,linear:128,relu
  softstep import keras.safetensors --data digits --hidden 32,32 --from keras
  softstep import net.safetensors --data plants.csv --target kind --hidden 16 --map body=0,head=2

Tensors are assigned to layers by their names and shapes: 0.weight, 2.weight as in nn.Sequential, fc1 and fc2, conv1, \
dense/kernel and dense_1/kernel. The model gets inputs as softstep prepares them: byte / 255, standardised columns of a \
table, and numbers of arrays as they are. It is measured on the test part, and works with eval, predict, export and train --init.";

/// Mark of an imported model, in the JSON text within the JSON header of its file: it may replace another one, and never a
/// trained model.
const MARK: &str = r#"\"imported_from\""#;

/// `--from`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum LayoutChoice {
    /// Weights [outputs, inputs], images flattened with channels first
    Pytorch,
    /// Kernels [inputs, outputs], images flattened with channels last; Flax does the same
    Keras,
}

/// `--map`: one name and its layer.
fn mapping(text: &str) -> Result<(String, usize), String> {
    let pair = text.rsplit_once('=').and_then(|(name, layer)| Some((name.to_string(), layer.trim().parse().ok()?)));
    pair.ok_or_else(|| "write NAME=LAYER, for example fc1=0".into())
}

/// `--epsilon`.
fn epsilon(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| *number >= 0.0 && number.is_finite());
    number.ok_or_else(|| "an epsilon is a finite number, 0 or more".into())
}

/// Makes a model of the weights, and measures it.
pub fn run(args: &ImportArgs) -> Result<()> {
    let kind = Kind::of(&args.data.data);
    refuse_unfit(&args.data.data, unfit(&args.given, Some(kind)))?;
    let bytes = read(&args.weights)?;
    let mut data = load_by_kind(&args.data, &args.own, args.seed, !args.json)?;
    data.use_arrays_as_they_are()?;
    data.refit(0.0, args.seed)?;
    terminal::notices(&data.notices);
    let loss = args.loss.unwrap_or_else(|| Loss::default_for(&data.train));
    let layers = args.network.layers.as_ref().map(|layers| layers.layers(data.shape())).transpose()?;
    let mut config = TrainingConfig::default();
    (config.hidden, config.activation, config.layers) = (args.network.hidden.clone(), args.network.activation, layers);
    let architecture = config.architecture(data.shape(), loss.outputs(&data.train)?)?;
    let layout = args.from.map(|from| match from {
        LayoutChoice::Pytorch => Layout::PyTorch,
        LayoutChoice::Keras => Layout::Keras,
    });
    let options = Options { layout, map: args.map.clone(), epsilon: args.epsilon };
    let file = args.weights.display().to_string();
    let Imported { parameters, layout, sources, notices } =
        import(&file, &bytes, &architecture, &options).map_err(|error| match error {
            Error::Invalid(_) => anyhow!(
                "{error}. --layers or --hidden say the network, --map which tensors are of which layer, --from pytorch or \
                 keras the order of the axes"
            ),
            error => error.into(),
        })?;
    terminal::notices(&notices);
    let train_sha256 = data.train_sha256();
    let metadata = Metadata::new(&parameters, &data.name, args.seed, loss)
        .with_imported_from(&file)
        .with_preprocessing(data.preprocessing.clone())
        .with_image(data.image)
        .with_train_sha256(train_sha256)
        .with_shapes(data.shapes());
    let model = model_file::to_safetensors(&parameters, &metadata)?;
    if is_same(&args.out, &args.weights) {
        bail!("--out {} is the file of the weights: choose another name", args.out.display());
    }
    write_named("--out", &args.out, MARK, &model)?;
    let evaluation = export::evaluate(&parameters, loss, &data)?;
    let of_layer = |(layer, name): &(usize, String)| format!("{name} = {layer}");
    let lines = [
        ("model", format!("{}: {architecture}", args.out.display())),
        ("weights", format!("{}, by {}", sources.iter().map(of_layer).collect::<Vec<_>>().join(", "), layout.name())),
        ("test", format!("{} of {}", quality(&evaluation), counted(data.test.len(), "example"))),
    ];
    let json = json!({
        "out": args.out.display().to_string(),
        "layout": layout.name(),
        "layers": sources,
        "accuracy": evaluation.accuracy(),
        "r_squared": evaluation.r_squared,
        "loss": evaluation.loss,
        "examples": data.test.len(),
        "parameters_sha256": parameters.sha256(),
    });
    terminal::print_fields(&lines, &json, args.json)
}

/// Reads a file of weights.
fn read(path: &Path) -> Result<Vec<u8>> {
    let length = fs::metadata(path).map_err(Error::io("read", path))?.len();
    if length > model_file::MAX_BYTES {
        bail!("{} has {length} bytes: the limit is {}", path.display(), model_file::MAX_BYTES);
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Error::io("read", path))?;
    file.take(model_file::MAX_BYTES).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok(bytes)
}

/// Returns true if both paths lead to one file.
fn is_same(path: &Path, other: &Path) -> bool {
    matches!((path.canonicalize(), other.canonicalize()), (Ok(path), Ok(other)) if path == other)
}
