//! The command line: arguments become checked options, and nothing else happens here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use serde_json::Value;
use softstep::augmentation::Augment;
use softstep::data::csv::{TableOptions, Task};
use softstep::data::images::ImageOptions;
use softstep::data::{Color, Data, ImageFormat, Kind, Missing, TestPart};
use softstep::defaults::{Defaults, Outline};
use softstep::loss::{ClassWeights, Loss};
use softstep::model::{Activation, Architecture, Layer, Preset, Shape, parse_layers};
use softstep::optimizer::{Optimizer, Schedule, Settings, Sgd, Warmup};
use softstep::trainer::{Keep, TrainingConfig};

/// Train softmax classifiers on any GPU
#[derive(Debug, Parser)]
#[command(name = "softstep", version, arg_required_else_help = true, after_help = SHORT_EXAMPLES, after_long_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const SHORT_EXAMPLES: &str = "\
Examples:
  softstep train                 softmax regression on MNIST; on digits if offline
  softstep train --hidden 128    the same with a hidden layer
  softstep eval --model runs/<run> --data mnist
  softstep bench                 how fast this machine trains, GPU beside CPU

More with --help, also after a command.";

const EXAMPLES: &str = "\
Examples:
  softstep train                              softmax regression on MNIST; on bundled digits if offline
  softstep train --hidden 128                 the same with a hidden layer
  softstep train --data fashion-mnist --hidden 512,512 --epochs 20
  softstep train --data flowers.csv --target species
  softstep train --data photos --image-size 40x30 --validation 0.1   a folder of images for each class
  softstep eval --model runs/<run> --data mnist
  softstep bench                              how fast this machine trains, GPU beside CPU
  softstep adapters                           the GPUs and software adapters of this machine
  softstep doctor                             whether training works here; the text for a bug report
  softstep explain                            what softmax is for: a page with experiments run here

Results go to standard output, progress and notices to standard error. With --json, standard output is
JSON Lines; `softstep train --help` describes them.
Set RUST_LOG=info (or debug) to see what the graphics stack logs.";

const TRAIN_HELP: &str = "\
Examples:
  softstep train --data digits                bundled data, no download, seconds
  softstep train --data mnist --hidden 128 --seed 7 --out runs/mlp
  softstep train --backend cpu                without a GPU
  softstep train --adapter 1                  the second of `softstep adapters`
  softstep train --json | tail -1             one line that says it all
  softstep train --data photos/train --test photos/val --color grey   images, in a folder for each class
  softstep train --data arrays                a folder with x.npy and y.npy, or x_train.npy, y_train.npy, x_test.npy, …
  softstep train --data mnist.npz             the same in one file
  softstep train --layers cnn                 a convolutional network that fits the images
  softstep train --layers cnn --schedule one-cycle --augment shift=2,rotate=10,scale=0.1
  softstep train --loss mse                   the error of a line fit instead of cross-entropy
  softstep train --lr auto                    a range test finds the learning rate
  softstep train --validation 0.1 --patience 5   until the validation loss falls no more, and keep the best
  softstep train --resume runs/mlp            goes on with a run that was stopped, to the same bits

--layers says a network layer by layer, separated by commas; the last linear layer, to the classes, is implied:
  linear:128          128 outputs
  conv:16x5           convolution with 16 channels and kernels of 5x5; padded so that the image keeps its size.
                      conv:16x5s2p0 has stride 2 and padding 0
  pool:2              the maximum of each 2x2 pixels; pool:3s2 of 3x3 with stride 2
  relu, sigmoid, tanh, gelu   activations
  dropout:0.25        a quarter of the values becomes 0 in training
  batchnorm           batch normalisation
  cnn                 alone: conv, relu and pool:2 until the image's shorter side is 8 or less, with 16 channels, 32, …;
                      then dropout:0.25,linear:128,relu. For 28x28 that is
                      conv:16x5,relu,pool:2,conv:32x5,relu,pool:2,dropout:0.25,linear:128,relu

A run folder holds:
  config.json         the settings
  metrics.jsonl       a line for every step (step, epoch, loss, lr) and every epoch
  report.html         curves, mistakes and settings on one page; `softstep report` writes it anew, and compares runs
  results.json        what the page needs beside: timings, confusion matrix, worst mistakes
  events.out.tfevents.…   with --tensorboard, for `tensorboard --logdir runs`
  model.safetensors   the model; it loads straight into torch.nn.Sequential(Linear, ReLU, …, Linear),
                      or with Sigmoid, Tanh or GELU(approximate=\"tanh\") for ReLU, as --activation says
  checkpoint-<step>.safetensors   all that --resume needs; the last two stay

Checkpoints are saved at the start, after each epoch, with --checkpoint-every also between, and when the run is
stopped: Ctrl-C (or SIGTERM) finishes the step, saves, says how to go on and exits with 130; a second one leaves at
once. SIGHUP and SIGQUIT save, too, unless they are ignored, as with nohup. --resume takes all settings from the
checkpoint. --data beside it says where the data are now, if they are not found from here by the name they had. Only
--backend or --adapter beside it may change something: they go on elsewhere, with the same data and settings but not
with the same bits.

--json prints, one JSON object a line:
  {\"event\":\"start\", …}   backend, adapter, data, architecture (input, layers), sizes of linear layers and settings; of a table columns (name, and categories,
                         their number, or null where it is numeric)
  {\"event\":\"epoch\", …}   epoch, train_loss, test_loss, test_accuracy (test_r_squared where the targets are real values)
                         and, if held out, validation_*
  {\"event\":\"profile\", …} with --profile: kernels (name, dispatches, seconds) and host_seconds beside them
  {\"event\":\"verification\", …} with --verify: steps that were verified, and for loss, gradients and parameters the worst
                         number: step, tensor, row, column, gpu, cpu, error, tolerance
  {\"event\":\"stopped\", …} instead of done, if the run was stopped: step, steps, out
  {\"event\":\"done\", …}    final losses and accuracies, steps_per_second (of training steps alone),
                         parameters_sha256, first_loss_seconds (since the program's start), out; best_epoch and
                         best_validation_loss with --patience or --keep best
Losses are means; cross-entropies are in nats. One that is not finite is null. Label smoothing and class weights are
in train_loss alone: validation and test measure the loss itself.";

const EVAL_HELP: &str = "\
Examples:
  softstep eval --model runs/mlp              on the data of the run
  softstep eval --model runs/mlp --data mnist
  softstep eval --model model.safetensors --data digits --json
  softstep eval --model runs/mnist --data pictures/    with a folder for each class: 0, 1, … 9

Measured is the data's own test part, or the share that was set aside of the data that the model was trained on; of other
data all examples. --all measures all in any case, the training examples among them.

--json prints one JSON object: part (\"test part\" or \"all examples\"), loss, accuracy, correct, examples, per_class
(precision, recall, f1, support; null where undefined) and confusion, whose rows are labels and whose columns are
predictions. Where the targets are real values it is part, loss, r_squared, examples and rmse, the root mean squared error
in the target's own units.";

const PREDICT_HELP: &str = "\
Examples:
  softstep predict --model runs/mlp seven.png photo.jpg
  softstep predict --model runs/plants new.csv --out predictions.csv
  softstep predict --model runs/mlp pictures/
  softstep predict --model runs/mlp --top 1 --json t10k-images-idx3-ubyte
  softstep predict --model runs/mlp < seven.png

What cannot be read is an error, and the others are predicted; the exit code is then 1.

A model trained on images reads images (PNG, JPEG, WebP, BMP, GIF, TIFF), one trained on a table CSV files with its columns (the target need not
be there), one trained on arrays .npy files; models of bytes read IDX files and .npy arrays of bytes, too. A picture for a
model that was trained on IDX files is fitted: with --fit digit it is brought to the form of MNIST's digits, dark ink on
light or light on dark, in any place and size, on plain, ruled or squared paper; with --fit whole the picture is made grey
and resized as it is. Several digits are read row by row, each on a line of its own; --one reads the largest alone.

--json prints one JSON object a line: input (the file, with a row's line or an array's index), and classes, the most
probable first, each with class and probability (output where the model was trained with mean squared error); or values,
where the targets are real values. Of a picture with several digits each has digit (its number in reading order), row and
box ([x, y, width, height] in pixels), too.";

const REPORT_HELP: &str = "\
Examples:
  softstep report runs/mlp                    writes runs/mlp/report.html anew
  softstep report runs/mlp runs/softmax       comparison.html: both runs on one page
  softstep report runs/mlp --csv mlp.csv      the metrics for a spreadsheet, too

A page is one file that needs nothing else: no network, no scripts. It is made of what the run folder holds, without
the data and on any machine.

--csv has a line for each step of each run: run, step, loss, learning_rate; and in the line of an epoch's last step also
epoch, train_loss (of the whole epoch), validation_loss, validation_accuracy or validation_r_squared, test_loss,
test_accuracy or test_r_squared. What a run does not have, and a loss that is not finite, is empty.";

const REPRODUCE_HELP: &str = "\
Examples:
  softstep reproduce runs/mlp                 trains it again, on the same device
  softstep reproduce runs/mlp --backend cpu   elsewhere: are all losses within what rounding allows?
  softstep reproduce runs/mlp --data here/plants.csv   where the data are now
  softstep reproduce runs/mlp --sample 50     only 50 steps, again in f64

Everything comes from the run folder: settings, seed, the SHA-256 of the data and how they were read, backend and adapter.
First the files of the run are held against the digests in results.json: one that was changed since the run ended is named.
Then the run is trained again, without writing anything, and every loss, learning rate and evaluation in metrics.jsonl and
the parameters are compared bit by bit. The exit code is 0 for the same bits, or elsewhere for losses within the bounds.

On another adapter, driver or backend the bits differ, and the difference grows over a run as the model amplifies it. The
bound of a loss is twice what came of rounding so far in a twin: the same run, here, whose parameters are moved by the
rounding errors of f32 every 8 steps, up or down at random; beside it the rounding of the loss itself. It is measured, not
proved, and where it has grown to a part of the loss it says little: the step from which on it is above 1 % is said.

--sample N computes N steps in f64 on the CPU instead, from the run's start and from each kept checkpoint on. The bound of
the first of each is the verifier's (proved but for constants of roundings at random); of those behind it there is a twin
in f64, moved by the verifier's bounds after every step.

--json prints one JSON object: verdict (same_bits, within_bounds, differs, changed), changed (files), steps, backend,
adapter, first_difference and largest_difference (what, step, recorded, now, difference), parameters_sha256 (recorded, now),
and with bounds bound_of_largest, worst (the difference nearest to its bound), largest_share (of its bound) and
one_percent_from (a step).";

const INSPECT_HELP: &str = "\
Examples:
  softstep inspect runs/mlp --step 612        writes runs/mlp/inspect-612.html
  softstep inspect runs/mlp --step 612 --what-if lr=0.05   and how the run would have gone on
  softstep inspect runs/mlp                   the training examples with the highest loss over the run: likely label errors

A step is computed again on the run's own device, from the nearest kept checkpoint before it or from the start: its batch
with the loss of each example before and after, the gradient and the update of each layer, and the weights of the first
layer that changed most. Without --step the run is trained again, and every training example is looked at after each epoch.

--what-if lr=R goes on from before the step with the run's schedule and batches, as if its --lr were R, for --steps steps.

--json prints one JSON object: with --step step, epoch, learning_rate, from (a step), recorded_loss, loss, layers (layer,
gradient_norm, weight_norm, update_norm), examples (example, target, loss_before, loss_after), weights (input, output, before,
after), what_if (learning_rate, losses: step, recorded, now); without it after (steps), training_examples and examples
(example, target, predicted, mean_loss, last_loss).";

const DOCTOR_HELP: &str = "\
Examples:
  softstep doctor                             the device that `softstep train` would take
  softstep doctor --adapter 1                 another one
  softstep doctor --json
  softstep doctor --dump-shaders shaders      the text of every GPU program, a file each

Tests every kernel on the adapter against known answers, in each way to multiply matrices that the adapter can run,
trains some steps that the CPU computes again, measures what a dispatch and a readback cost, and writes to the folders of
data and runs. The exit code is 0 only if training would work. Put what it prints into a bug report.

--json prints one JSON object: version, os, processor, threads, adapters, auto, device (limits, kernels, costs), training,
folders and problems, which is empty if training works.";

const BENCH_HELP: &str = "\
Examples:
  softstep bench                              three models, three batch sizes; about half a minute
  softstep bench --hidden 128 --batch-size 64 one configuration
  softstep bench --hidden --seconds 10        softmax regression, more precisely
  softstep bench --layers cnn --batch-size 64 the convolutional network of `softstep train --layers cnn`
  softstep bench --adapter llvmpipe --json > speed.jsonl

Measured are training steps on 60,000 random examples of 784 features in 10 classes, with plain SGD and every loss
brought to the host. The backends take turns, and each figure is the median of their 5 rounds; GPU/CPU is the median
of the rounds' ratios. GFLOP/s counts the matrix products alone. The first loss is timed from opening the device:
with bringing the data there, compiling the kernels and one step.

--json prints one JSON object a configuration: architecture (input, layers), sizes (of linear layers), batch_size, gpu, cpu, gpu_per_cpu (steps per second of the one
by those of the other) and use (gpu or cpu, the faster). gpu and cpu hold steps_per_second, images_per_second,
gflop_per_second, first_loss_seconds, rounds (steps per second in each), adapter, device_type and driver; gpu and
gpu_per_cpu are null where there is no adapter.";

const EXPLAIN_HELP: &str = "\
Examples:
  softstep explain                            writes explain.html: open it in a browser
  softstep explain --lang zh --out lesson.html
  softstep explain --data houses.csv --target price   your own table in the place of the house prices

Runs the experiments of a lesson about softmax and cross-entropy on this machine and writes them as one page that needs
no network: house prices as regression, softmax of three scores, tumour sizes by a line and by a sigmoid, two outputs
beside one, digits with three losses, and one training step with every number.

--json prints one JSON object: backend, adapter, device_type, driver, seed, seconds (since the program's start), out, and
the numbers of every experiment: houses, softmax, tumours, two_classes, digits (linear, with a hidden layer), one_step.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model
    #[command(after_long_help = TRAIN_HELP)]
    Train(Box<TrainArgs>),
    /// Measure a trained model on a test set
    #[command(after_long_help = EVAL_HELP, visible_aliases = ["test", "val", "evaluate"])]
    Eval(EvalArgs),
    /// Say what a trained model makes of images, tables or arrays
    #[command(after_long_help = PREDICT_HELP)]
    Predict(PredictArgs),
    /// Write the page of a run, or one that compares several
    #[command(after_long_help = REPORT_HELP)]
    Report(ReportArgs),
    /// Train a run again and say whether it gives the same bits
    #[command(after_long_help = REPRODUCE_HELP)]
    Reproduce(ReproduceArgs),
    /// Compute a step of a run again and show what it did, or which examples the run never learned
    #[command(after_long_help = INSPECT_HELP)]
    Inspect(InspectArgs),
    /// Measure how fast this machine trains, on GPU and CPU
    #[command(after_long_help = BENCH_HELP)]
    Bench(BenchArgs),
    /// List the adapters that --adapter can name
    Adapters(AdaptersArgs),
    /// Test whether training works here
    #[command(after_long_help = DOCTOR_HELP)]
    Doctor(DoctorArgs),
    /// Write a page that explains softmax, with experiments run on this machine
    #[command(after_long_help = EXPLAIN_HELP)]
    Explain(ExplainArgs),
}

/// Which data.
#[derive(Args, Debug)]
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

/// What to make of people's own data.
#[derive(Args, Debug)]
#[command(next_help_heading = "Data")]
pub struct OwnDataArgs {
    /// Column of a table to learn
    #[arg(long, value_name = "COLUMN")]
    pub target: Option<String>,
    /// What the target of a table or of arrays is [default: regression if its values are numbers with decimals, or more
    /// than 20 different whole numbers; of arrays, integers are classes]
    #[arg(long, value_enum)]
    task: Option<TaskChoice>,
    /// Columns of a table that are categories, though their values are numbers
    #[arg(long, value_name = "COLUMNS")]
    categorical: Vec<String>,
    /// Columns of a table to leave out
    #[arg(long, value_name = "COLUMNS")]
    ignore: Vec<String>,
    /// Columns of a table to use, though they count up like an index or have a text of its own in nearly every row
    #[arg(long = "use", value_name = "COLUMNS")]
    used: Vec<String>,
    /// What becomes of missing values of a table: empty, NA, N/A, NaN, null, ? or -
    #[arg(long, value_enum, default_value = "fill")]
    missing: MissingChoice,
    /// The first line of a table is a row: columns are called by their places, from 1
    #[arg(long)]
    no_header: bool,
    /// Pixels that images are resized to, such as 32 for 32x32, or 40x30: width and height
    #[arg(long, value_name = "N|WxH", value_parser = image_size, default_value = "32")]
    image_size: (u32, u32),
    /// What is kept of each pixel of an image
    #[arg(long, value_enum, default_value = "rgb")]
    color: ColorChoice,
    /// Refuse stray files and damaged pictures in a folder of images, which are otherwise skipped and counted
    #[arg(long)]
    strict: bool,
    /// What to test with of a table, images or arrays: a share of the examples, or another file or folder like --data
    /// [default: 0.2, or the folder's own test part]
    #[arg(long, value_name = "SHARE|PATH", value_parser = test_part, allow_negative_numbers = true)]
    pub test: Option<TestPart>,
}

/// Which kinds of data the fields of [`OwnDataArgs`] are for.
const OWN_DATA: [(&str, &[Kind]); 11] = [
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

impl OwnDataArgs {
    /// What to make of a table whose target is given.
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

    /// Kind of the targets, if it is set.
    pub fn task(&self) -> Option<Task> {
        self.task.map(|task| match task {
            TaskChoice::Classification => Task::Classification,
            TaskChoice::Regression => Task::Regression,
        })
    }

    /// What to make of a folder of images.
    pub fn images(&self) -> ImageOptions {
        let (width, height) = self.image_size;
        let color = match self.color {
            ColorChoice::Grey => Color::Grey,
            ColorChoice::Rgb => Color::Rgb,
        };
        ImageOptions { width, height, color, test: self.test.clone(), strict: self.strict }
    }
}

/// `--image-size`.
fn image_size(text: &str) -> Result<(u32, u32), String> {
    let (width, height) = text.split_once('x').unwrap_or((text, text));
    let side = |side: &str| side.parse().ok().filter(|side| (1..=ImageFormat::MAX_SIDE).contains(side));
    side(width)
        .zip(side(height))
        .ok_or_else(|| format!("a size is N or WxH, such as 32 or 40x30, and a side 1 to {}", ImageFormat::MAX_SIDE))
}

/// `--test`: what is a number is a share.
fn test_part(text: &str) -> Result<TestPart, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(TestPart::Share(share)),
        Ok(_) => Err("a share is above 0 and below 1, such as 0.2; a path of this name is ./NAME".into()),
        Err(_) => Ok(TestPart::Path(text.into())),
    }
}

/// `--color`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ColorChoice {
    /// Lightness, one feature
    Grey,
    /// Red, green and blue, three features
    Rgb,
}

/// `--missing`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum MissingChoice {
    /// The mean for numbers, with a feature that says so; a category of their own for texts
    Fill,
    /// Leave the rows out
    Drop,
    /// An error that names all columns
    Refuse,
}

/// `--task`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum TaskChoice {
    /// Which class
    Classification,
    /// A number
    Regression,
}

/// Where to compute.
#[derive(Args, Debug)]
#[command(next_help_heading = "Device")]
pub struct DeviceArgs {
    /// auto takes a hardware GPU, else the CPU; gpu also a software adapter
    #[arg(long, value_enum, default_value = "auto")]
    pub backend: BackendChoice,
    /// Number or part of the name of an adapter; see `softstep adapters`
    #[arg(long, value_name = "NAME|INDEX")]
    pub adapter: Option<String>,
}

/// `--backend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendChoice {
    /// A hardware GPU, else the processor.
    Auto,
    /// An adapter, through wgpu.
    Gpu,
    /// The processor.
    Cpu,
}

/// `--activation`: one by its name.
fn activation() -> impl TypedValueParser<Value = Activation> {
    let names = Activation::ALL.map(|activation| PossibleValue::new(activation.name()).help(activation.to_string()));
    PossibleValuesParser::new(names).map(|name| Activation::from_name(&name).unwrap_or_default())
}

/// `--optimizer`: one by its name, with its default settings.
fn optimizer() -> impl TypedValueParser<Value = Optimizer> {
    let names = Optimizer::all().map(|optimizer| PossibleValue::new(optimizer.name()).help(optimizer.label()));
    PossibleValuesParser::new(names).map(|name| Optimizer::from_name(&name).unwrap_or_default())
}

/// `--lr`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum RateChoice {
    /// By a range test.
    Auto,
    /// This one.
    Rate(f32),
}

/// `--lr`: a number, or `auto`.
fn rate(text: &str) -> Result<RateChoice, String> {
    match text {
        "auto" => Ok(RateChoice::Auto),
        _ => text.parse().map(RateChoice::Rate).map_err(|_| "a rate is a number such as 0.01, or auto".into()),
    }
}

/// `--schedule`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ScheduleChoice {
    /// The same rate at every step
    Constant,
    /// Half a cosine, from --lr to 0
    Cosine,
    /// Divided by 10 after each third of the run
    Step,
    /// Half a cosine up to --lr over the first 30 % of the steps, then one down to nearly 0
    OneCycle,
}

/// `--layers`.
#[derive(Clone, Debug, PartialEq)]
pub enum LayersChoice {
    /// A network by name.
    Preset(Preset),
    /// The layers of a text.
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
    /// The layers for examples of this shape.
    ///
    /// # Errors
    /// A preset that does not fit.
    pub fn layers(&self, input: Shape) -> softstep::Result<Vec<Layer>> {
        match self {
            Self::Preset(preset) => preset.layers(input),
            Self::These(layers) => Ok(layers.clone()),
        }
    }
}

/// `--loss`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LossChoice {
    /// Softmax and cross-entropy, for classes
    CrossEntropy,
    /// Sigmoid of one output and binary cross-entropy, for two classes
    Bce,
    /// Mean squared error, for real values; of classes against one-hot labels
    Mse,
}

impl From<LossChoice> for Loss {
    fn from(choice: LossChoice) -> Self {
        match choice {
            LossChoice::CrossEntropy => Self::CrossEntropy,
            LossChoice::Bce => Self::BinaryCrossEntropy,
            LossChoice::Mse => Self::MeanSquaredError,
        }
    }
}

/// `--keep`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum KeepChoice {
    /// Of the last epoch
    Last,
    /// Of the epoch with the lowest validation loss
    Best,
}

/// `--readback`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ReadbackChoice {
    /// Some steps late, so that the GPU never waits
    Pipelined,
    /// Before the next step
    Blocking,
}

/// Options of `softstep train`.
#[derive(Args, Debug)]
pub struct TrainArgs {
    /// The data.
    #[command(flatten)]
    pub data: DataArgs,
    /// What to make of it if it is of one's own.
    #[command(flatten)]
    pub own: OwnDataArgs,
    /// The device.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Sizes of the hidden layers, such as 128 or 512,512; none is softmax regression
    #[arg(long, value_name = "SIZES", value_delimiter = ',', value_parser = layer_size, help_heading = "Model")]
    hidden: Vec<usize>,
    /// What the hidden layers are followed by
    #[arg(long, value_parser = activation(), default_value = "relu", help_heading = "Model")]
    activation: Activation,
    /// A whole network in the place of --hidden, such as conv:16x5,relu,pool:2,linear:128,relu, or cnn for one that fits
    /// the images; the last linear layer, to the classes, is implied
    #[arg(long, value_name = "LAYERS|cnn", conflicts_with_all = ["hidden", "activation"], help_heading = "Model")]
    layers: Option<LayersChoice>,
    /// Passes over the training data [default: 10, with convolutions 5, or what makes 1500 steps if that is more, 3000 of
    /// large tables]
    #[arg(long, value_name = "N", help_heading = "Training")]
    epochs: Option<usize>,
    /// Examples in a training step
    #[arg(long, value_name = "N", default_value_t = TrainingConfig::default().batch_size, help_heading = "Training")]
    batch_size: usize,
    /// Learning rate that the schedule starts from; auto finds it by a range test [default: by the data]
    #[arg(long = "lr", value_name = "RATE|auto", value_parser = rate, allow_negative_numbers = true, help_heading = "Training")]
    learning_rate: Option<RateChoice>,
    /// How gradients change the parameters [default: sgd for pictures, adamw for tables and other numbers]
    #[arg(long, value_parser = optimizer(), help_heading = "Training")]
    optimizer: Option<Optimizer>,
    /// Momentum of sgd, 0 to below 1 [default: 0.9]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, help_heading = "Expert")]
    momentum: Option<f32>,
    /// Use Nesterov's momentum
    #[arg(long, help_heading = "Expert")]
    nesterov: bool,
    /// Pull of weights and biases towards 0: an L2 penalty, with adamw decoupled [default: 0; with adamw for tables 1
    /// where there are few examples for each parameter, else 0.1]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, help_heading = "Expert")]
    weight_decay: Option<f32>,
    /// Share of the mean gradient that adamw keeps, 0 to below 1; with lion, in the step's direction [default: 0.9]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, help_heading = "Expert")]
    beta1: Option<f64>,
    /// Share of the mean squared gradient that adamw keeps, 0 to below 1; with lion, of the mean gradient [default: 0.999,
    /// with lion 0.99]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, help_heading = "Expert")]
    beta2: Option<f64>,
    /// What adamw adds to the root that it divides by [default: 1e-8]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, help_heading = "Expert")]
    epsilon: Option<f64>,
    /// Scale the gradients down to this L2 norm, of all layers together, where it is larger [default: never]
    #[arg(long, value_name = "MAX", allow_negative_numbers = true, help_heading = "Expert")]
    clip_norm: Option<f32>,
    /// How the learning rate changes over the run
    #[arg(long, value_enum, help_heading = "Training")]
    schedule: Option<ScheduleChoice>,
    /// Raise the learning rate evenly to the schedule's over these first steps, or this share of the run; the schedule has
    /// the rest
    #[arg(long, value_name = "STEPS|SHARE", allow_negative_numbers = true, help_heading = "Expert")]
    warmup: Option<Warmup>,
    /// Change the images of each batch at random, by up to so many pixels, degrees and parts of their size
    #[arg(long, value_name = "shift=N,rotate=N,scale=S", help_heading = "Training")]
    augment: Option<Augment>,
    /// Seed of the initial parameters, of every shuffle, of dropout and augmentation: the same seed, the same run
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Training")]
    seed: u64,
    /// Share of the training data to hold out for validation
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, default_value_t = 0.0, help_heading = "Training")]
    validation: f64,
    /// The loss: cross-entropy of softmax, bce (two classes, one output) or mse [default: cross-entropy; mse where the
    /// targets are real values]
    #[arg(long, value_enum, help_heading = "Training")]
    loss: Option<LossChoice>,
    /// Share of each label that all classes get alike, 0 to below 1; with --loss cross-entropy
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, default_value_t = 0.0, help_heading = "Training")]
    label_smoothing: f32,
    /// How much examples of each class count: balanced, or a number for each, as in 1,2.5
    #[arg(long, value_name = "balanced|W0,W1,…", help_heading = "Training")]
    class_weights: Option<ClassWeights>,
    /// End the run once the validation loss has not fallen for so many epochs; needs --validation
    #[arg(long, value_name = "EPOCHS", help_heading = "Training")]
    patience: Option<NonZeroUsize>,
    /// The parameters to end with: those of the last epoch, or of the one with the lowest validation loss, which needs
    /// --validation [default: best with --patience, else last]
    #[arg(long, value_enum, help_heading = "Training")]
    keep: Option<KeepChoice>,
    /// When the losses come back from the GPU
    #[arg(long, value_enum, default_value = "pipelined", help_heading = "Expert")]
    pub readback: ReadbackChoice,
    /// Measure where the time of a step goes, kernel by kernel; needs a GPU, and slows it down
    #[arg(long, help_heading = "Expert")]
    pub profile: bool,
    /// Have the CPU compute every N-th step again, in f64, and stop where the GPU is wrong [default: 100 where N is left out]
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "100", help_heading = "Expert")]
    pub verify: Option<NonZeroUsize>,
    /// Run folder, new or empty [default: runs/<time>-<data>]
    #[arg(long, value_name = "FOLDER", help_heading = "Output")]
    pub out: Option<PathBuf>,
    /// Save the state after every so many steps too, not only after each epoch
    #[arg(long, value_name = "STEPS", help_heading = "Expert")]
    pub checkpoint_every: Option<NonZeroUsize>,
    /// Write event files for TensorBoard, too, into the run folder; a run that has some goes on with them
    #[arg(long, help_heading = "Output")]
    pub tensorboard: bool,
    /// Go on with the run in this folder, from its last checkpoint, and write what is missing of one that has ended
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["out", "init"], help_heading = "Training")]
    pub resume: Option<PathBuf>,
    /// Start from the parameters of this model, checkpoint or run
    #[arg(long, value_name = "FILE|FOLDER", help_heading = "Model")]
    pub init: Option<PathBuf>,
    /// No progress: results, notices and errors only
    #[arg(short, long, help_heading = "Output")]
    pub quiet: bool,
    /// Print JSON Lines for programs
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// What the command line says, rather than a default: options by the names of their fields, with their flags.
    #[arg(skip)]
    given: BTreeMap<String, String>,
    /// All that the command line says, behind the program's name.
    #[arg(skip)]
    pub arguments: Vec<String>,
}

impl TrainArgs {
    /// The first flag on the command line that is for people's own data, but not of this kind; and for which kinds.
    pub fn unfit(&self, kind: Option<Kind>) -> Option<(&str, &'static [Kind])> {
        let unfit = OWN_DATA.iter().filter(|(_, kinds)| kind.is_none_or(|kind| !kinds.contains(&kind)));
        unfit.filter_map(|(field, kinds)| Some((self.given.get(*field)?.as_str(), *kinds))).next()
    }

    /// Whether the command line says `field`.
    pub fn gives(&self, field: &str) -> bool {
        self.given.contains_key(field)
    }

    /// The flag on the command line that says another model than `run`, that of a run with this `config`, where one of the
    /// two is said by `--layers`; and that other model.
    ///
    /// # Errors
    /// Layers that do not fit.
    pub fn other_model(
        &self,
        config: &TrainingConfig,
        run: &Architecture,
    ) -> anyhow::Result<Option<(&str, Architecture)>> {
        let flag = ["layers", "hidden", "activation"].into_iter().find_map(|field| self.given.get(field));
        let (Some(flag), true) = (flag, self.layers.is_some() || config.layers.is_some()) else { return Ok(None) };
        let layers = self.layers.as_ref().map(|layers| layers.layers(run.input())).transpose()?;
        let asked = TrainingConfig { layers, ..self.provisional() };
        let asked = asked.architecture(run.input(), run.output().len())?;
        Ok((asked != *run).then_some((flag, asked)))
    }

    /// The first setting on the command line that is not that of a run with this `config`: (flag, its value, the run's).
    /// The model is that of the run: [`other_model`](Self::other_model).
    ///
    /// # Errors
    /// A setting of an optimizer that is not the run's.
    pub fn difference(&self, config: &TrainingConfig) -> anyhow::Result<Option<(String, Value, Value)>> {
        self.check_optimizer(self.optimizer.unwrap_or(config.optimizer)).map_err(anyhow::Error::msg)?;
        // By way of text, where 0.1 is 0.1 whatever its type.
        let fields = |config: &TrainingConfig| -> serde_json::Result<serde_json::Map<String, Value>> {
            serde_json::from_str(&serde_json::to_string(config)?)
        };
        let run = fields(config)?;
        let asked = self.provisional();
        let of_its_kind = if self.optimizer.is_some() { asked.optimizer } else { config.optimizer };
        let mut asked = fields(&TrainingConfig { optimizer: self.optimizer(of_its_kind), ..asked })?;
        if self.layers.is_some() || config.layers.is_some() {
            asked.retain(|field, _| !["layers", "hidden", "activation"].contains(&field.as_str()));
        }
        let differs = |(field, asked): (String, Value)| {
            let run = run.get(&field).cloned().unwrap_or_default();
            let flag = self.given.get(&field)?;
            (asked != run).then(|| (flag.clone(), asked, run))
        };
        Ok(asked.into_iter().find_map(differs))
    }

    /// Returns true if the learning rate is to be found by a range test.
    pub fn finds_rate(&self) -> bool {
        self.learning_rate == Some(RateChoice::Auto)
    }

    /// The default optimizer with what the command line says of it.
    fn optimizer(&self, default: Optimizer) -> Optimizer {
        let settings = Settings::from(default);
        let settings = Settings {
            weight_decay: self.weight_decay.unwrap_or(settings.weight_decay),
            momentum: settings.momentum.map(|default| self.momentum.unwrap_or(default)),
            // Without a momentum to look ahead along, the default is none.
            nesterov: settings.nesterov.map(|default| self.nesterov || (default && self.momentum != Some(0.0))),
            beta1: settings.beta1.map(|default| self.beta1.unwrap_or(default)),
            beta2: settings.beta2.map(|default| self.beta2.unwrap_or(default)),
            epsilon: settings.epsilon.map(|default| self.epsilon.unwrap_or(default)),
            ..settings
        };
        Optimizer::from_settings(&settings).unwrap_or(default)
    }

    /// Refuses a setting of another optimizer than the chosen one.
    fn check_optimizer(&self, optimizer: Optimizer) -> Result<(), String> {
        let all = Optimizer::all();
        let mut settings = all.iter().flat_map(|other| other.setting_names());
        match settings.find(|setting| self.gives(setting) && !optimizer.setting_names().contains(setting)) {
            Some(setting) => {
                let others = all.iter().filter(|other| other.setting_names().contains(setting));
                let others = others.map(Optimizer::name).collect::<Vec<_>>().join(" or ");
                Err(format!("--{setting} is a setting of --optimizer {others}: add that, or leave it away"))
            }
            None => Ok(()),
        }
    }

    /// The optimizer that the command line asks for, by its name or by a setting that only it has.
    fn chosen_optimizer(&self) -> Option<Optimizer> {
        self.optimizer.or_else(|| (self.momentum.is_some() || self.nesterov).then(|| Sgd::default().into()))
    }

    /// The settings of the run on this data, and in a sentence those that the command line leaves to the data and why they
    /// are what they are.
    ///
    /// # Errors
    /// Layers that do not fit the data, or a loss that is not for it.
    pub fn config(&self, data: &Data) -> softstep::Result<(TrainingConfig, Option<String>)> {
        let optimizer = self.chosen_optimizer();
        let layers = self.layers.as_ref().map(|layers| layers.layers(data.shape())).transpose()?;
        let loss = self.loss.map_or_else(|| Loss::default_for(&data.train), Loss::from);
        let config = self.config_with(&Defaults::without_data(optimizer), layers, loss);
        let architecture = config.architecture(data.shape(), loss.outputs(&data.train)?)?;
        let outline = Outline { loss, architecture: &architecture, batch_size: self.batch_size, optimizer };
        let defaults = Defaults::new(&data.train, &outline);
        Ok((self.config_with(&defaults, config.layers, loss), self.chosen(&defaults)))
    }

    /// The settings of the run as far as they do not depend on the data.
    pub fn provisional(&self) -> TrainingConfig {
        let layers = match &self.layers {
            Some(LayersChoice::These(layers)) => Some(layers.clone()),
            Some(LayersChoice::Preset(_)) | None => None,
        };
        let defaults = Defaults::without_data(self.chosen_optimizer());
        self.config_with(&defaults, layers, self.loss.map(Loss::from).unwrap_or_default())
    }

    /// The settings that the command line leaves to the data, and why they are what they are; `None` if it leaves none.
    fn chosen(&self, defaults: &Defaults) -> Option<String> {
        let Defaults { optimizer, learning_rate, schedule, epochs, reason } = defaults;
        let Settings { weight_decay, nesterov, .. } = Settings::from(*optimizer);
        let name = optimizer.name();
        let parts = [
            (
                self.chosen_optimizer().is_some(),
                if nesterov == Some(true) { format!("{name} with nesterov") } else { name.to_string() },
            ),
            (self.learning_rate.is_some(), format!("learning rate {learning_rate:?}")),
            (self.schedule.is_some() || *schedule != Schedule::OneCycle, "one-cycle".into()),
            (self.weight_decay.is_some() || weight_decay == 0.0, format!("weight decay {weight_decay}")),
            (self.epochs.is_some(), format!("{epochs} epochs")),
        ];
        let left: Vec<String> = parts.into_iter().filter(|(given, _)| !given).map(|(_, part)| part).collect();
        (!left.is_empty()).then(|| format!("{}, as {reason}", left.join(", ")))
    }

    fn config_with(&self, defaults: &Defaults, layers: Option<Vec<Layer>>, loss: Loss) -> TrainingConfig {
        TrainingConfig {
            hidden: self.hidden.clone(),
            activation: self.activation,
            layers,
            epochs: self.epochs.unwrap_or(defaults.epochs),
            batch_size: self.batch_size,
            learning_rate: match self.learning_rate {
                Some(RateChoice::Rate(rate)) => rate,
                Some(RateChoice::Auto) | None => defaults.learning_rate,
            },
            optimizer: self.optimizer(defaults.optimizer),
            clip_norm: self.clip_norm,
            schedule: match self.schedule {
                Some(ScheduleChoice::Constant) => Schedule::Constant,
                Some(ScheduleChoice::Cosine) => Schedule::Cosine,
                Some(ScheduleChoice::Step) => Schedule::Step,
                Some(ScheduleChoice::OneCycle) => Schedule::OneCycle,
                None => defaults.schedule,
            },
            warmup: self.warmup,
            augment: self.augment,
            seed: self.seed,
            validation: self.validation,
            loss,
            label_smoothing: self.label_smoothing,
            class_weights: self.class_weights.clone(),
            patience: self.patience,
            keep: match self.keep {
                Some(KeepChoice::Last) => Keep::Last,
                Some(KeepChoice::Best) => Keep::Best,
                None if self.patience.is_some() => Keep::Best,
                None => Keep::Last,
            },
        }
    }
}

/// Options of `softstep eval`.
#[derive(Args, Debug)]
pub struct EvalArgs {
    /// The model: a model.safetensors, or a run folder that holds one
    #[arg(long, value_name = "FILE|FOLDER")]
    pub model: PathBuf,
    /// What to measure it on, as of `softstep train` [default: the data of its run]
    #[arg(long, value_name = "SET|FOLDER|FILE")]
    pub data: Option<String>,
    /// Folder to look for data sets in first, and to download them to
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// How pictures of a folder are brought to the images of a model of IDX files, as of `softstep predict`
    #[arg(long, value_enum)]
    pub fit: Option<FitChoice>,
    /// Every example of a table, of images or of arrays, not only those that the model was not trained on
    #[arg(long)]
    pub all: bool,
    /// The device.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Print one JSON object for programs
    #[arg(long)]
    pub json: bool,
}

/// Options of `softstep predict`.
#[derive(Args, Debug)]
pub struct PredictArgs {
    /// The model: a model.safetensors, or a run folder that holds one
    #[arg(long, value_name = "FILE|FOLDER")]
    pub model: PathBuf,
    /// Images, tables, .npy arrays or IDX files, or folders of them; - is standard input
    #[arg(value_name = "FILES", default_value = "-")]
    pub files: Vec<PathBuf>,
    /// Classes to show, the most probable first
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = at_least_1)]
    pub top: usize,
    /// How pictures are brought to the images of a model [default: digit for models of 28x28 and 8x8 from IDX files,
    /// but for fashion-mnist and kmnist; else whole]
    #[arg(long, value_enum)]
    pub fit: Option<FitChoice>,
    /// Read the largest digit of a picture, and no others
    #[arg(long)]
    pub one: bool,
    /// Write the predictions to this CSV file
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The device.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Print JSON Lines for programs
    #[arg(long)]
    pub json: bool,
}

/// Values of `--fit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FitChoice {
    /// The ink alone, as MNIST has its digits
    Digit,
    /// The whole picture
    Whole,
}

/// `--hidden`: one of its sizes.
fn layer_size(text: &str) -> Result<usize, String> {
    text.trim().parse().map_err(|_| "sizes are whole numbers with commas between them, as in 128,64".into())
}

/// A number of 1 or more.
fn at_least_1(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&number| number > 0).ok_or_else(|| "must be a whole number, 1 or more".into())
}

/// Options of `softstep report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// Run folders
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,
    /// The page [default: report.html in the folder of the run; comparison.html here for several]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write the metrics as CSV, too
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
}

/// Which run to train again, and with what.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Run folder
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Where the data are now, if they are not where they were
    #[arg(long, value_name = "SET|FOLDER|FILE")]
    pub data: Option<String>,
    /// Folder to look for data sets in first, and to download them to
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Where to compute [default: where the run did]
    #[arg(long, value_enum)]
    pub backend: Option<BackendChoice>,
    /// Number or part of the name of an adapter; see `softstep adapters`
    #[arg(long, value_name = "NAME|INDEX")]
    pub adapter: Option<String>,
}

/// Options of `softstep reproduce`.
#[derive(Args, Debug)]
pub struct ReproduceArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArgs,
    /// Compute only so many steps again, in f64 on the CPU, from the start and from kept checkpoints
    #[arg(long, value_name = "STEPS", conflicts_with_all = ["backend", "adapter"])]
    pub sample: Option<NonZeroUsize>,
    /// Print one JSON object for programs
    #[arg(long)]
    pub json: bool,
}

/// Options of `softstep inspect`.
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArgs,
    /// The step to look at, from 1; without it the examples with the highest loss over the run
    #[arg(long, value_name = "STEP", value_parser = at_least_1)]
    pub step: Option<usize>,
    /// Go on from before the step as if --lr had been another, beside the recorded losses
    #[arg(long, value_name = "lr=RATE", requires = "step", value_parser = what_if)]
    pub what_if: Option<f32>,
    /// Steps to go on for
    #[arg(long, value_name = "N", requires = "what_if", value_parser = at_least_1, default_value_t = 100)]
    pub steps: usize,
    /// The page [default: inspect-STEP.html or inspect.html in the folder of the run]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print one JSON object for programs, too
    #[arg(long)]
    pub json: bool,
}

/// `--what-if`.
fn what_if(text: &str) -> Result<f32, String> {
    let rate = text.strip_prefix("lr=").and_then(|rate| rate.parse::<f32>().ok());
    rate.filter(|rate| *rate > 0.0 && rate.is_finite())
        .ok_or_else(|| "is lr= and a rate above 0, such as lr=0.05".into())
}

/// Options of `softstep bench`.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// Only this model: sizes of its hidden layers, such as 128 or 512,512; alone for softmax regression
    #[arg(long, value_name = "SIZES", value_delimiter = ',', num_args = 0..=1, value_parser = layer_size)]
    pub hidden: Option<Vec<usize>>,
    /// Only this network, as `softstep train --layers` has it, on images of 28x28
    #[arg(long, value_name = "LAYERS|cnn", conflicts_with = "hidden")]
    pub layers: Option<LayersChoice>,
    /// Only this batch size, or several as in 64,1024
    #[arg(long = "batch-size", value_name = "N", value_delimiter = ',', default_values_t = [64, 256, 1024])]
    pub batch_sizes: Vec<usize>,
    /// Time to measure each configuration for, both backends together
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, default_value_t = 3.0)]
    pub seconds: f64,
    /// Number or part of the name of an adapter; see `softstep adapters`
    #[arg(long, value_name = "NAME|INDEX")]
    pub adapter: Option<String>,
    /// Print JSON Lines for programs
    #[arg(long)]
    pub json: bool,
}

impl BenchArgs {
    fn check(&self) -> Result<(), String> {
        if self.hidden.as_ref().is_some_and(|hidden| hidden.contains(&0)) {
            return Err("--hidden: the size of a layer must be 1 or more".into());
        }
        if let Some(size) = self.batch_sizes.iter().find(|&&size| !(1..=BENCH_EXAMPLES).contains(&size)) {
            return Err(format!(
                "--batch-size {size}: must be 1 or more, and no more than the {BENCH_EXAMPLES} examples"
            ));
        }
        if !(self.seconds > 0.0 && self.seconds <= 3600.0) {
            return Err(format!("--seconds {}: must be above 0 and at most 3600", self.seconds));
        }
        Ok(())
    }
}

/// Examples that `softstep bench` trains on: as many as MNIST has.
pub const BENCH_EXAMPLES: usize = 60_000;

/// Options of `softstep adapters`.
#[derive(Args, Debug)]
pub struct AdaptersArgs {
    /// Print JSON Lines, one adapter a line
    #[arg(long)]
    pub json: bool,
}

/// Options of `softstep doctor`.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Number or part of the name of an adapter; see `softstep adapters`
    #[arg(long, value_name = "NAME|INDEX")]
    pub adapter: Option<String>,
    /// Folder to look for data sets in first, and to download them to
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Folder of the runs
    #[arg(long, value_name = "FOLDER", default_value = "runs")]
    pub out: PathBuf,
    /// Write the text of every program that can run on a GPU into this folder, new or empty, and do nothing else
    #[arg(long, value_name = "FOLDER")]
    pub dump_shaders: Option<PathBuf>,
    /// Print one JSON object for programs
    #[arg(long)]
    pub json: bool,
}

/// `--lang`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// English
    En,
    /// Chinese
    Zh,
}

/// Options of `softstep explain`.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// The page to write; one that is there is replaced
    #[arg(long, value_name = "FILE", default_value = "explain.html")]
    pub out: PathBuf,
    /// The page's language
    #[arg(long, value_enum, default_value = "en")]
    pub lang: Language,
    /// Table to learn from in the place of house prices: file.csv
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Column of the table to learn: numbers
    #[arg(long, value_name = "COLUMN")]
    pub target: Option<String>,
    /// Columns of the table that are categories, though their first value is a number
    #[arg(long, value_name = "COLUMNS", requires = "data")]
    pub categorical: Vec<String>,
    /// Columns of the table to leave out
    #[arg(long, value_name = "COLUMNS", requires = "data")]
    pub ignore: Vec<String>,
    /// Seed of everything that is random: the same seed, the same numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// The device.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// No progress: results, notices and errors only
    #[arg(short, long)]
    pub quiet: bool,
    /// Print one JSON object for programs
    #[arg(long)]
    pub json: bool,
}

/// Parses and checks the arguments, the program's name first.
///
/// # Errors
/// A wrong argument, by the name of its flag; also `--help` and `--version`, which clap handles as errors.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let matches = Cli::command().try_get_matches_from(&arguments)?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut Cli::command()))?;
    if let (Command::Train(train), Some((name, matches))) = (&mut cli.command, matches.subcommand()) {
        train.given = given(name, matches);
        train.arguments = arguments.iter().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    }
    let run = match &cli.command {
        Command::Reproduce(reproduce) => Some(("reproduce", &reproduce.run)),
        Command::Inspect(inspect) => Some(("inspect", &inspect.run)),
        _ => None,
    };
    if let Some((command, RunArgs { backend: Some(BackendChoice::Cpu), adapter: Some(_), .. })) = run {
        let problem = "--adapter chooses a GPU and does not go with --backend cpu";
        return Err(usage(command, ErrorKind::ArgumentConflict, problem));
    }
    let device = match &cli.command {
        Command::Train(train) => {
            // A run that goes on has its own settings, which these have to be: `difference`.
            if train.resume.is_none() {
                train
                    .check_optimizer(train.optimizer.unwrap_or_default())
                    .map_err(|error| usage("train", ErrorKind::ArgumentConflict, error))?;
                train.provisional().check().map_err(|error| usage("train", ErrorKind::ValueValidation, error))?;
            }
            Some(("train", &train.device))
        }
        Command::Eval(eval) => Some(("eval", &eval.device)),
        Command::Predict(predict) => Some(("predict", &predict.device)),
        Command::Explain(explain) => Some(("explain", &explain.device)),
        Command::Bench(bench) => {
            bench.check().map_err(|error| usage("bench", ErrorKind::ValueValidation, error))?;
            None
        }
        Command::Report(_)
        | Command::Reproduce(_)
        | Command::Inspect(_)
        | Command::Adapters(_)
        | Command::Doctor(_) => None,
    };
    if let Some((command, DeviceArgs { backend: BackendChoice::Cpu, adapter: Some(_) })) = device {
        let problem = "--adapter chooses a GPU and does not go with --backend cpu";
        return Err(usage(command, ErrorKind::ArgumentConflict, problem));
    }
    Ok(cli)
}

/// The same error about arguments that can be shown, where it may quote one that commands a terminal.
pub fn printable_error(error: clap::Error, arguments: impl Iterator<Item = OsString>) -> clap::Error {
    let shown = |argument: OsString| softstep::error::printable(&argument.to_string_lossy(), 4096).into();
    let arguments: Vec<OsString> = arguments.collect();
    let printable: Vec<OsString> = arguments.iter().cloned().map(shown).collect();
    if printable == arguments { error } else { parse(printable).err().unwrap_or(error) }
}

/// The options on the command line, with their flags.
fn given(command: &str, matches: &ArgMatches) -> BTreeMap<String, String> {
    let cli = Cli::command();
    let arguments = cli.find_subcommand(command).into_iter().flat_map(clap::Command::get_arguments);
    let on_command_line =
        |id: &str| matches.ids().any(|given| given == id) && matches.value_source(id) == Some(ValueSource::CommandLine);
    arguments
        .filter(|argument| on_command_line(argument.get_id().as_str()))
        .filter_map(|argument| Some((argument.get_id().to_string(), format!("--{}", argument.get_long()?))))
        .collect()
}

/// An error that is followed by the usage of `command`.
fn usage(command: &str, kind: ErrorKind, problem: impl std::fmt::Display) -> clap::Error {
    let mut cli = Cli::command();
    cli.build();
    match cli.find_subcommand_mut(command) {
        Some(command) => command.error(kind, problem),
        None => cli.error(kind, problem),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use softstep::defaults::epochs_of;
    use softstep::optimizer::AdamW;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_has_the_library_defaults() {
        Cli::command().debug_assert();
        let cli = parse(["softstep", "train"].map(OsString::from)).unwrap();
        let Command::Train(train) = cli.command else { panic!("{cli:?}") };
        let defaults = TrainingConfig::default();
        let config = train.provisional();
        assert_eq!(config.epochs, 1);
        assert_eq!(TrainingConfig { epochs: defaults.epochs, ..config }, defaults);
    }

    #[test]
    fn every_setting_of_a_run_is_an_option_by_the_same_name() {
        // What `difference` relies on.
        let adamw = TrainingConfig { optimizer: AdamW::default().into(), ..TrainingConfig::default() };
        let cli = Cli::command();
        let options: Vec<_> =
            cli.find_subcommand("train").unwrap().get_arguments().map(|argument| argument.get_id().as_str()).collect();
        for config in [TrainingConfig::default(), adamw] {
            for field in serde_json::to_value(config).unwrap().as_object().unwrap().keys() {
                assert!(options.contains(&field.as_str()), "{field}");
            }
        }
    }

    #[test]
    fn adamw_has_its_own_settings_and_no_others() {
        let train = |arguments: &str| {
            parse(["softstep", "train"].into_iter().chain(arguments.split(' ')).map(OsString::from)).map(|cli| {
                let Command::Train(train) = cli.command else { panic!("{cli:?}") };
                train.provisional()
            })
        };
        let config = train("--optimizer adamw --beta1 0.8").unwrap();
        assert_eq!(config.learning_rate, 0.001);
        assert_eq!(config.optimizer, AdamW { beta1: 0.8, ..AdamW::default() }.into());
        assert_eq!(serde_json::from_str::<TrainingConfig>(&serde_json::to_string(&config).unwrap()).unwrap(), config);
        for (arguments, flag) in [
            ("--optimizer adamw --momentum 0.5", "--momentum"),
            ("--optimizer adamw --nesterov", "--nesterov"),
            ("--beta2 0.9", "--beta2"),
            ("--epsilon 1e-8", "--epsilon"),
        ] {
            let error = train(arguments).unwrap_err().to_string();
            assert!(error.contains(flag) && error.contains("--optimizer"), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn whatever_the_settings_they_are_refused_or_make_a_run_that_adds_up(
            settings in prop::collection::vec(
                (prop::sample::select(&FLAGS[..]), prop_oneof![prop::sample::select(&VALUES[..]).prop_map(String::from),
                 any::<f64>().prop_map(|value| value.to_string()), any::<u64>().prop_map(|value| value.to_string()),
                 ".{0,12}"]),
                1..4,
            ),
            examples in prop_oneof![1usize..100, Just(u32::MAX as usize)],
        ) {
            let arguments = settings.iter().map(|(flag, value)| format!("{flag}={value}"));
            let all = ["softstep", "train"].map(String::from).into_iter().chain(arguments).map(OsString::from);
            match parse(all) {
                Err(error) => prop_assert!(!error.to_string().is_empty()),
                Ok(Cli { command: Command::Train(train) }) => {
                    let mut config = train.provisional();
                    if !train.gives("epochs") {
                        config.epochs = epochs_of(1500, examples, config.batch_size);
                    }
                    prop_assert!(config.check().is_ok());
                    let steps = config.steps(examples);
                    prop_assert!(steps >= config.epochs);
                    for step in [0, steps / 2, steps - 1] {
                        let rate = config.learning_rate_of(step, steps);
                        prop_assert!((0.0..=config.learning_rate).contains(&rate), "{} at {}", rate, step);
                    }
                }
                Ok(other) => prop_assert!(false, "{:?}", other),
            }
        }
    }

    const FLAGS: [&str; 17] = [
        "--layers",
        "--warmup",
        "--augment",
        "--schedule",
        "--hidden",
        "--epochs",
        "--batch-size",
        "--lr",
        "--momentum",
        "--weight-decay",
        "--clip-norm",
        "--validation",
        "--seed",
        "--label-smoothing",
        "--class-weights",
        "--patience",
        "--loss",
    ];
    const VALUES: [&str; 19] = [
        "auto",
        "cnn",
        "conv:8x3,relu",
        "one-cycle",
        "shift=2",
        "0",
        "1",
        "-1",
        "18446744073709551615",
        "18446744073709551616",
        "9223372036854775808",
        "nan",
        "inf",
        "1e-50",
        "1e39",
        "0.5",
        "1,1,1,1,1,1,1,1",
        "8,,8",
        "",
    ];
}
