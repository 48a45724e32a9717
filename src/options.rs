//! Options that several commands share.

use std::path::PathBuf;
use std::str::FromStr;

use clap::error::ErrorKind;
use clap::{Args, ValueEnum};
use softstep::model::{Layer, Preset, Shape, parse_layers};

/// Error of an option that clap cannot check by itself.
pub type Problem = (ErrorKind, String);

/// The data set.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Data")]
pub struct DataArgs {
    /// auto, mnist, fashion-mnist, kmnist, digits (bundled), a table (.csv, .tsv, .txt, .data, if need be .gz), or a folder: of images by class, of the
    /// arrays x.npy and y.npy (or file.npz), or of four IDX files
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
    /// auto takes a hardware GPU, else the CPU; gpu also a software adapter
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

/// Parses a size of `--hidden`.
pub fn layer_size(text: &str) -> Result<usize, String> {
    text.trim().parse().map_err(|_| "sizes are whole numbers with commas between them, as in 128,64".into())
}

/// Parses a whole number of 1 or more.
pub fn at_least_1(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&number| number > 0).ok_or_else(|| "must be a whole number, 1 or more".into())
}
