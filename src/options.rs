//! Options that several commands share.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, ValueEnum};
use softstep::data::csv::{TableOptions, Task};
use softstep::data::images::ImageOptions;
use softstep::data::{Color, ImageFormat, Kind, Missing, TestPart};
use softstep::loss::Loss;
use softstep::model::{Activation, Layer, Preset, Shape, parse_layers};

/// Error of an option that clap cannot check by itself.
pub type Problem = (ErrorKind, String);

/// The data set.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Data")]
pub struct DataArgs {
    /// auto, mnist, fashion-mnist, kmnist, digits (bundled); a table (.csv, .tsv, .txt or .data, also gzipped); or a folder
    /// of images by class, of the arrays x.npy and y.npy (or file.npz), or of four IDX files. Numbers of tables and arrays
    /// are standardised by the training part
    #[arg(long, value_name = "SET|FOLDER|FILE", default_value = "auto")]
    pub data: String,
    /// Folder to look for data sets in first, and to download them to
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
}

/// The device.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Device")]
pub struct DeviceArgs {
    /// auto uses a hardware GPU if there is one, else the CPU; gpu may also use a software adapter
    #[arg(long, value_enum, default_value = "auto")]
    pub backend: BackendChoice,
    /// Number or part of the name of an adapter; see `softstep adapters`
    #[arg(long, value_name = "NAME|INDEX")]
    pub adapter: Option<String>,
}

impl DeviceArgs {
    /// Checks options against each other.
    ///
    /// # Errors
    /// `--adapter` beside `--backend cpu`.
    pub fn check(&self) -> Result<(), Problem> {
        check_device(Some(self.backend), self.adapter.as_ref())
    }
}

/// Refuses an adapter beside the CPU.
fn check_device(backend: Option<BackendChoice>, adapter: Option<&String>) -> Result<(), Problem> {
    match (backend, adapter) {
        (Some(BackendChoice::Cpu), Some(_)) => {
            Err((ErrorKind::ArgumentConflict, "--adapter chooses a GPU and does not go with --backend cpu".into()))
        }
        _ => Ok(()),
    }
}

/// Value of `--backend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendChoice {
    /// A hardware GPU, else the processor.
    Auto,
    /// An adapter, through wgpu.
    Gpu,
    /// The processor.
    Cpu,
}

/// A recorded run to compute again, and what differs now.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Run folder
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Data, if they have moved since the run
    #[arg(long, value_name = "SET|FOLDER|FILE")]
    pub data: Option<String>,
    /// Folder to look for data sets in first, and to download them to
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Device to compute on [default: the device of the run]
    #[arg(long, value_enum)]
    pub backend: Option<BackendChoice>,
    /// Number or part of the name of an adapter; see `softstep adapters`
    #[arg(long, value_name = "NAME|INDEX")]
    pub adapter: Option<String>,
}

impl RunArgs {
    /// Checks options against each other.
    ///
    /// # Errors
    /// `--adapter` beside `--backend cpu`.
    pub fn check(&self) -> Result<(), Problem> {
        check_device(self.backend, self.adapter.as_ref())
    }
}

/// Value of `--layers`.
#[derive(Clone, Debug, PartialEq)]
pub enum LayersChoice {
    /// A network by name.
    Preset(Preset),
    /// Layers, one by one.
    These(Vec<Layer>),
}

impl FromStr for LayersChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match Preset::from_name(text) {
            Some(preset) => Ok(Self::Preset(preset)),
            None => Ok(Self::These(parse_layers(text).map_err(|error| error.to_string())?)),
        }
    }
}

impl LayersChoice {
    /// Returns the layers for examples of this shape.
    ///
    /// # Errors
    /// A preset that does not fit the shape.
    pub fn layers(&self, input: Shape) -> softstep::Result<Vec<Layer>> {
        match self {
            Self::Preset(preset) => preset.layers(input),
            Self::These(layers) => Ok(layers.clone()),
        }
    }
}

/// The network of a model.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Model")]
pub struct NetworkArgs {
    /// Sizes of the hidden layers, such as 128 or 512,512; without hidden layers the model is softmax regression
    #[arg(long, value_name = "SIZES", value_delimiter = ',', value_parser = layer_size)]
    pub hidden: Vec<usize>,
    /// Activation after each hidden layer
    #[arg(long, value_parser = activation(), default_value = "relu")]
    pub activation: Activation,
    /// A whole network instead of --hidden, such as conv:16x5,relu,pool:2,linear:128,relu, or cnn for one that fits the
    /// images; the last linear layer, to the classes, is implied
    #[arg(long, value_name = "LAYERS|cnn", conflicts_with_all = ["hidden", "activation"])]
    pub layers: Option<LayersChoice>,
}

/// Parser of `--activation`.
pub fn activation() -> impl TypedValueParser<Value = Activation> {
    let names = Activation::ALL.map(|activation| PossibleValue::new(activation.name()).help(activation.to_string()));
    PossibleValuesParser::new(names).map(|name| Activation::from_name(&name).unwrap_or_default())
}

/// Parser of `--loss`.
pub fn loss() -> impl TypedValueParser<Value = Loss> {
    let names = Loss::ALL.map(|loss| PossibleValue::new(loss.name()).help(loss.label()));
    PossibleValuesParser::new(names).map(|name| Loss::from_name(&name).unwrap_or_default())
}

/// Parses a size of `--hidden`.
pub fn layer_size(text: &str) -> Result<usize, String> {
    text.trim().parse().map_err(|_| "sizes are whole numbers with commas between them, as in 128,64".into())
}

/// Parses a whole number of 1 or more.
pub fn at_least_1(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&number| number > 0).ok_or_else(|| "must be a whole number, 1 or more".into())
}

/// Parses a whole number of 1 or more, as [`at_least_1`] does.
pub fn positive(text: &str) -> Result<NonZeroUsize, String> {
    NonZeroUsize::try_from(at_least_1(text)?).map_err(|error| error.to_string())
}

/// Reading of the user's own data.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Data")]
pub struct OwnDataArgs {
    /// Column of a table to learn
    #[arg(long, value_name = "COLUMN")]
    pub target: Option<String>,
    /// Task of a table or of arrays [default: regression if the target is numbers with decimals, or more
    /// than 20 different whole numbers; of arrays, integers are classes]
    #[arg(long, value_enum)]
    task: Option<TaskChoice>,
    /// Columns of a table to treat as categories, although their values are numbers
    #[arg(long, value_name = "COLUMNS")]
    categorical: Vec<String>,
    /// Columns of a table to leave out
    #[arg(long, value_name = "COLUMNS")]
    ignore: Vec<String>,
    /// Columns of a table to use, although they count up like an index or have a different text in nearly every row
    #[arg(long = "use", value_name = "COLUMNS")]
    used: Vec<String>,
    /// Handling of missing values of a table: empty, NA, N/A, NaN, null, ? or -
    #[arg(long, value_enum, default_value = "fill")]
    missing: MissingChoice,
    /// Read the first line of a table as a row of data; columns are then named by their numbers, from 1
    #[arg(long)]
    no_header: bool,
    /// Size in pixels that images are resized to, such as 32 for 32x32, or 40x30: width and height
    #[arg(long, value_name = "N|WxH", value_parser = image_size, default_value = "32")]
    image_size: (u32, u32),
    /// Features of each pixel of an image
    #[arg(long, value_enum, default_value = "rgb")]
    color: ColorChoice,
    /// Refuse stray files and damaged pictures in a folder of images, which are otherwise skipped and counted
    #[arg(long)]
    strict: bool,
    /// Test part of a table, images or arrays: a share of the examples, a fold of them as in fold=1/5 (with equal shares of
    /// the classes), or another file or folder like --data [default: 0.2, or the folder's own test part]
    #[arg(long, value_name = "SHARE|fold=N/ALL|PATH", value_parser = test_part, allow_negative_numbers = true)]
    pub test: Option<TestPart>,
}

/// Kinds of data that each field of [`OwnDataArgs`] is for.
pub const OWN_DATA: [(&str, &[Kind]); 11] = [
    ("target", &[Kind::Table]),
    ("task", &[Kind::Table, Kind::Arrays]),
    ("categorical", &[Kind::Table]),
    ("ignore", &[Kind::Table]),
    ("used", &[Kind::Table]),
    ("missing", &[Kind::Table]),
    ("no_header", &[Kind::Table]),
    ("image_size", &[Kind::Images]),
    ("color", &[Kind::Images]),
    ("strict", &[Kind::Images]),
    ("test", &[Kind::Table, Kind::Images, Kind::Arrays]),
];

/// Returns the options on the command line of `command`: the names of their fields, with their flags.
pub fn given(command: &clap::Command, matches: &ArgMatches) -> BTreeMap<String, String> {
    let on_command_line =
        |id: &str| matches.ids().any(|given| given == id) && matches.value_source(id) == Some(ValueSource::CommandLine);
    command
        .get_arguments()
        .filter(|argument| on_command_line(argument.get_id().as_str()))
        .filter_map(|argument| Some((argument.get_id().to_string(), format!("--{}", argument.get_long()?))))
        .collect()
}

/// Returns the options on the command line of `command` in one form: the name of each field with its argument, as in
/// `--lr=0.1`, in the order of the help.
pub fn in_one_form(command: &clap::Command, matches: &ArgMatches) -> Vec<(String, String)> {
    let given = given(command, matches);
    let mut options = Vec::new();
    for argument in command.get_arguments() {
        let id = argument.get_id().as_str();
        let Some(flag) = given.get(id) else { continue };
        if !argument.get_action().takes_values() {
            options.push((id.into(), flag.clone()));
            continue;
        }
        for values in matches.get_raw_occurrences(id).into_iter().flatten() {
            let values: Vec<_> = values.map(|value| value.to_string_lossy()).collect();
            options.push((id.into(), format!("{flag}={}", values.join(","))));
        }
    }
    options
}

/// Returns the first of the `given` flags that does not suit this kind of data, and the kinds that it is for.
pub fn unfit(given: &BTreeMap<String, String>, kind: Option<Kind>) -> Option<(&str, &'static [Kind])> {
    let unfit = OWN_DATA.iter().filter(|(_, kinds)| kind.is_none_or(|kind| !kinds.contains(&kind)));
    unfit.filter_map(|(field, kinds)| Some((given.get(*field)?.as_str(), *kinds))).next()
}

impl OwnDataArgs {
    /// Returns the options of a table; `None` without a target.
    pub fn table(&self) -> Option<TableOptions> {
        Some(TableOptions {
            target: self.target.clone()?,
            task: self.task(),
            categorical: self.categorical.clone(),
            ignore: self.ignore.clone(),
            used: self.used.clone(),
            missing: match self.missing {
                MissingChoice::Fill => Missing::Fill,
                MissingChoice::Drop => Missing::Drop,
                MissingChoice::Refuse => Missing::Refuse,
            },
            no_header: self.no_header,
            test: self.test.clone().unwrap_or_default(),
        })
    }

    /// Returns the task, if it is set.
    pub fn task(&self) -> Option<Task> {
        self.task.map(|task| match task {
            TaskChoice::Classification => Task::Classification,
            TaskChoice::Regression => Task::Regression,
        })
    }

    /// Returns the options of a folder of images.
    pub fn images(&self) -> ImageOptions {
        let (width, height) = self.image_size;
        let color = match self.color {
            ColorChoice::Grey => Color::Grey,
            ColorChoice::Rgb => Color::Rgb,
        };
        ImageOptions { width, height, color, test: self.test.clone(), strict: self.strict }
    }
}

/// Parses `--image-size`.
fn image_size(text: &str) -> Result<(u32, u32), String> {
    let (width, height) = text.split_once('x').unwrap_or((text, text));
    let side = |side: &str| side.parse().ok().filter(|side| (1..=ImageFormat::MAX_SIDE).contains(side));
    side(width)
        .zip(side(height))
        .ok_or_else(|| format!("a size is N or WxH, such as 32 or 40x30, with sides of 1 to {}", ImageFormat::MAX_SIDE))
}

/// Parses `--test`: a number is a share, `fold=1/5` a fold, anything else a path.
fn test_part(text: &str) -> Result<TestPart, String> {
    if let Some((fold, folds)) = text.strip_prefix("fold=").and_then(|fold| fold.split_once('/')) {
        let numbers = fold.parse().ok().zip(folds.parse().ok());
        let sound = numbers.filter(|&(fold, folds): &(usize, usize)| folds >= 2 && (1..=folds).contains(&fold));
        let (fold, folds) = sound.ok_or("a fold is its number and the number of folds, as in fold=1/5")?;
        return Ok(TestPart::Fold { fold, folds });
    }
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(TestPart::Share(share)),
        Ok(_) => Err("a share is above 0 and below 1, such as 0.2; a path of this name is ./NAME".into()),
        Err(_) => Ok(TestPart::Path(text.into())),
    }
}

/// Value of `--color`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ColorChoice {
    /// Luma, one feature
    Grey,
    /// Red, green and blue, three features
    Rgb,
}

/// Value of `--missing`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum MissingChoice {
    /// The mean for numbers, with a further feature that marks them; a category of their own for texts
    Fill,
    /// Leave the rows out
    Drop,
    /// An error that names all columns
    Refuse,
}

/// Value of `--task`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum TaskChoice {
    /// A class
    Classification,
    /// A number
    Regression,
}
