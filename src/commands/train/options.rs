//! Options of `softstep train`, and the settings that they make.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{ArgMatches, Args, FromArgMatches, ValueEnum};
use serde_json::Value;
use softstep::augmentation::Augment;
use softstep::data::{Data, Kind};
use softstep::defaults::{Defaults, Outline};
use softstep::loss::{ClassWeights, Loss};
use softstep::model::{Architecture, Layer};
use softstep::optimizer::{Optimizer, Schedule, Settings, Sgd, Warmup};
use softstep::trainer::{Keep, TrainingConfig};

use crate::flags::with_flags;
use crate::format::counted;
use crate::options::{
    DataArgs, DeviceArgs, LayersChoice, NetworkArgs, OwnDataArgs, Problem, at_least_1, given, in_one_form, loss,
    positive, unfit,
};

/// Examples and formats, shown by `--help`.
pub const HELP: &str = "\
Examples:
  softstep train --data digits                bundled data, no download, seconds
  softstep train --data mnist --hidden 128 --seed 7 --out runs/mlp
  softstep train --backend cpu                without a GPU
  softstep train --adapter 1                  on the second adapter of `softstep adapters`
  softstep train --json | tail -1             one line with all results
  softstep train --data photos/train --test photos/val --color grey   images, in a folder for each class
  softstep train --data arrays                a folder with x.npy and y.npy, or x_train.npy, y_train.npy, x_test.npy, …
  softstep train --data mnist.npz             the same in one file
  softstep train --layers cnn                 a convolutional network that fits the images
  softstep train --layers cnn --schedule one-cycle --augment shift=2,rotate=10,scale=0.1
  softstep train --loss mse                   mean squared error instead of cross-entropy
  softstep train --lr auto                    a range test finds the learning rate
  softstep train --seeds 5                    five models: mean, standard deviation and interval of what they reach
  softstep train --data flowers.csv --target species --folds 5   cross-validation
  softstep train --validation 0.1 --patience 5   until the validation loss stops falling, keeping the best epoch
  softstep train --resume runs/mlp            resumes a run that was stopped, to the same bits
  softstep train --config runs/mlp --seed 8   the data and settings of a run, but for the seed
  softstep train --config flowers.toml        the options of a file, such as data = \"flowers.csv\", target = \"species\"

--layers describes a network layer by layer, separated by commas; the last linear layer, to the classes, is implied:
  linear:128          128 outputs
  conv:16x5           convolution with 16 channels and kernels of 5x5; padded so that the image keeps its size.
                      conv:16x5s2p0 has stride 2 and padding 0
  pool:2              the maximum of each 2x2 window; pool:3s2: 3x3 windows with stride 2
  relu, leaky_relu, sigmoid, tanh, gelu   activations
  dropout:0.25        a quarter of the values become 0 in training
  batchnorm           batch normalisation
  cnn                 alone: conv, relu and pool:2 until the image's shorter side is 8 or less, with 16 channels, 32, …;
                      then dropout:0.25,linear:128,relu. For 28x28 that is
                      conv:16x5,relu,pool:2,conv:32x5,relu,pool:2,dropout:0.25,linear:128,relu

A run folder holds:
  config.json         the settings
  metrics.jsonl       a line for every step (step, epoch, loss, lr) and every epoch
  report.html         curves, mistakes and settings on one page; `softstep report` rewrites it, and compares runs
  results.json        what else the page needs: timings, confusion matrix, worst mistakes
  events.out.tfevents.…   with --tensorboard, for `tensorboard --logdir runs`
  model.safetensors   the model; it loads straight into torch.nn.Sequential(Linear, ReLU, …, Linear),
                      or with Sigmoid, Tanh or GELU(approximate=\"tanh\") for ReLU, by --activation
  checkpoint-<step>.safetensors   all that --resume needs; the last two are kept

With --seeds, --folds or several seeds the folder holds a folder for each run (seed-0, fold-1, …), report.html, which \
compares them, and model.safetensors, the one to use. The same command with the folder as --out resumes what was \
stopped. --json prints a line {\"event\":\"run\", …} for each run, and {\"event\":\"done\", …} with mean, sd, lowest, \
highest and interval of test_loss, test_accuracy (or test_r_squared) and validation_loss.

Checkpoints are saved at the start, after each epoch, with --checkpoint-every also between, and when the run is \
stopped: Ctrl-C (or SIGTERM) finishes the step, saves, prints the command that resumes and exits with 130; a second \
signal ends the program at once. SIGHUP and SIGQUIT save, too, unless they are ignored, as with nohup. --resume takes \
all settings from the checkpoint; --data beside it says where the data are now, if they are no longer where they were. \
Only --backend or --adapter may change something: the run continues on that device, with the same data and settings \
but not with the same bits.

--json prints JSON Lines, one object for each event:
  {\"event\":\"start\", …}   backend, adapter, data, architecture (input, layers), sizes of linear layers and settings;
                         for a table columns (name, and categories: their number, or null for a numeric column)
  {\"event\":\"epoch\", …}   epoch, train_loss, test_loss, test_accuracy (test_r_squared where the targets are real values)
                         and, if held out, validation_*
  {\"event\":\"profile\", …} with --profile: kernels (name, dispatches, seconds) and host_seconds beside them
  {\"event\":\"verification\", …} with --verify: steps that were verified, and for loss, gradients and parameters the worst
                         number: step, tensor, row, column, gpu, cpu, error, tolerance
  {\"event\":\"stopped\", …} instead of \"done\", if the run was stopped: step, steps, out
  {\"event\":\"done\", …}    final losses and accuracies, steps_per_second (of training steps alone),
                         parameters_sha256, first_loss_seconds (since the program's start), out; best_epoch and
                         best_validation_loss with --patience or --keep best
Losses are means; cross-entropies are in nats. A loss that is not finite is null. Label smoothing and class weights \
affect train_loss alone; the validation and test losses are without them.";

/// Settings whose defaults depend on data, network and loss, by the names of their fields.
pub const CHOSEN: [&str; 10] = [
    "optimizer",
    "learning_rate",
    "schedule",
    "epochs",
    "weight_decay",
    "momentum",
    "nesterov",
    "beta1",
    "beta2",
    "epsilon",
];

/// Other settings with which no cross-validation chooses those of [`CHOSEN`].
const UNSEARCHED: [&str; 3] = ["patience", "class_weights", "init"];

/// Settings of a run.
pub struct Choice {
    /// The settings.
    pub config: TrainingConfig,
    /// In a sentence, the settings that are chosen by the data, and the reason.
    pub chosen: Option<String>,
}

/// Options of `softstep train`.
#[derive(Args, Clone, Debug)]
pub struct TrainArgs {
    /// The data.
    #[command(flatten)]
    pub data: DataArgs,
    /// Reading of the user's own data.
    #[command(flatten)]
    pub own: OwnDataArgs,
    /// The device.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// The network.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// Passes over the training data [default: 10, with convolutions 5, or what makes 1500 steps if that is more, 3000 of
    /// large tables]
    #[arg(long, value_name = "N", help_heading = "Training")]
    epochs: Option<usize>,
    /// Examples in a training step
    #[arg(long, value_name = "N", default_value_t = TrainingConfig::default().batch_size, help_heading = "Training")]
    batch_size: usize,
    /// Learning rate, the highest of the schedule; auto finds it by a range test [default: by the data]
    #[arg(long = "lr", value_name = "RATE|auto", value_parser = rate, allow_negative_numbers = true, help_heading = "Training")]
    learning_rate: Option<RateChoice>,
    /// Optimizer [default: sgd for pictures, adamw for tables and other numbers]
    #[arg(long, value_parser = optimizer(), help_heading = "Training")]
    optimizer: Option<Optimizer>,
    /// Momentum of sgd, 0 to below 1 [default: 0.9]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, help_heading = "Expert")]
    momentum: Option<f32>,
    /// Use Nesterov momentum
    #[arg(long, help_heading = "Expert")]
    nesterov: bool,
    /// Decay of weights and biases towards 0: an L2 penalty, decoupled with adamw [default: 0, with convolutions 0.0005; with
    /// adamw for tables 1 if there are few examples for each parameter, else 0.1, or what cross-validation prefers]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, help_heading = "Expert")]
    weight_decay: Option<f32>,
    /// Share of the mean gradient that adamw keeps, 0 to below 1; with lion, in the step's direction [default: 0.9]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, help_heading = "Expert")]
    beta1: Option<f64>,
    /// Share of the mean squared gradient that adamw keeps, 0 to below 1; with lion, of the mean gradient [default: 0.999,
    /// with lion 0.99]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, help_heading = "Expert")]
    beta2: Option<f64>,
    /// Number that adamw adds to the square root in its denominator [default: 1e-8]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, help_heading = "Expert")]
    epsilon: Option<f64>,
    /// Scale the gradients down to this L2 norm, over all layers together, if theirs is larger [default: never]
    #[arg(long, value_name = "MAX", allow_negative_numbers = true, help_heading = "Expert")]
    clip_norm: Option<f32>,
    /// Schedule of the learning rate over the run [default: cosine; one-cycle with convolutions]
    #[arg(long, value_enum, help_heading = "Training")]
    schedule: Option<ScheduleChoice>,
    /// Raise the learning rate linearly over these first steps, or this share of the run; the schedule spans the rest
    #[arg(long, value_name = "STEPS|SHARE", allow_negative_numbers = true, help_heading = "Expert")]
    warmup: Option<Warmup>,
    /// Augment the images of each batch: random shifts in pixels, rotations in degrees, scaling by a share of the size
    #[arg(long, value_name = "shift=N,rotate=N,scale=S", help_heading = "Training")]
    augment: Option<Augment>,
    /// Seed of the initial parameters, of every shuffle, of dropout and augmentation: the same seed, the same run;
    /// several with commas between them, as in 1,2,3, train a model each
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "0", help_heading = "Training")]
    seed: Vec<u64>,
    /// Train this many models, with the seeds from --seed on, and show how far their results differ
    #[arg(long, value_name = "N", value_parser = at_least_1, conflicts_with = "resume", help_heading = "Runs")]
    seeds: Option<usize>,
    /// Train this many models, each tested on another part of the data, of equal size and with equal shares of the
    /// classes; for data of your own
    #[arg(long, value_name = "N", value_parser = folds, conflicts_with_all = ["resume", "test"], help_heading = "Runs")]
    folds: Option<usize>,
    /// Runs of --seeds and --folds to train at the same time [default: one for each core, or one for each GPU that
    /// --adapter names, as in 0,1]
    #[arg(long, value_name = "N", value_parser = at_least_1, help_heading = "Runs")]
    pub jobs: Option<usize>,
    /// Share of the training data to hold out for validation
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, default_value_t = 0.0, help_heading = "Training")]
    validation: f64,
    /// The loss [default: cross-entropy; mse where the targets are real values]
    #[arg(long, value_name = "LOSS", value_parser = loss(), help_heading = "Training")]
    loss: Option<Loss>,
    /// Share of each label that all classes get alike, 0 to below 1; with --loss cross-entropy
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, default_value_t = 0.0, help_heading = "Training")]
    label_smoothing: f32,
    /// Weights of the classes in the loss: balanced, or a number for each class, as in 1,2.5
    #[arg(long, value_name = "balanced|W0,W1,…", help_heading = "Training")]
    class_weights: Option<ClassWeights>,
    /// End the run once the validation loss has not fallen for this many epochs; needs --validation
    #[arg(long, value_name = "EPOCHS", value_parser = positive, help_heading = "Training")]
    patience: Option<NonZeroUsize>,
    /// The parameters to end with: those of the last epoch, or of the one with the lowest validation loss, which needs
    /// --validation [default: best with --patience, else last]. Of several runs, best also takes the model of the run with
    /// the lowest validation loss, and the others that of the first run
    #[arg(long, value_enum, help_heading = "Training")]
    keep: Option<KeepChoice>,
    /// Divide each batch into this many shards, a power of two, and add their gradients in a tree; `mpirun` distributes
    /// them over processes, and the bits are the same with any number of processes
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Expert")]
    shards: usize,
    /// Delivery of the losses from the GPU
    #[arg(long, value_enum, default_value = "pipelined", help_heading = "Expert")]
    pub readback: ReadbackChoice,
    /// Measure the time of each kernel; needs a GPU, and slows it down
    #[arg(long, help_heading = "Expert")]
    pub profile: bool,
    /// Verify every N-th step on the CPU in f64, and stop if the GPU is wrong [N is 100 if not given]
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "100", value_parser = positive, help_heading = "Expert")]
    pub verify: Option<NonZeroUsize>,
    /// Run folder, new or empty [default: runs/<time>-<data>]
    #[arg(long, value_name = "FOLDER", help_heading = "Output")]
    pub out: Option<PathBuf>,
    /// Save a checkpoint every this many steps, in addition to those after each epoch
    #[arg(long, value_name = "STEPS", value_parser = positive, help_heading = "Expert")]
    pub checkpoint_every: Option<NonZeroUsize>,
    /// Also write event files for TensorBoard into the run folder; a resumed run continues its event files
    #[arg(long, help_heading = "Output")]
    pub tensorboard: bool,
    /// Resume the run in this folder from its last checkpoint; of a finished run, write the files that are missing
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["out", "init"], help_heading = "Training")]
    pub resume: Option<PathBuf>,
    /// Start from the parameters of this model, checkpoint or run
    #[arg(long, value_name = "FILE|FOLDER", help_heading = "Model")]
    pub init: Option<PathBuf>,
    /// Options from a file, below those of the command line: TOML with the names of flags, as in lr = 0.1, or the config.json
    /// of a run
    #[arg(long, value_name = "FILE|FOLDER", conflicts_with = "resume", help_heading = "Training")]
    pub config: Option<PathBuf>,
    /// No progress: results, notices and errors only
    #[arg(short, long, help_heading = "Output")]
    pub quiet: bool,
    /// Print JSON Lines for programs
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// Options on the command line, by the names of their fields, with their flags.
    #[arg(skip)]
    given: BTreeMap<String, String>,
    /// Arguments on the command line, without the program's name.
    #[arg(skip)]
    pub arguments: Vec<String>,
    /// Options on the command line in one form: the name of each field, with its argument.
    #[arg(skip)]
    pub options: Vec<(String, String)>,
}

impl TrainArgs {
    /// Parses the arguments behind `softstep train`.
    ///
    /// # Errors
    /// A wrong argument, by the name of its flag.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, clap::Error> {
        let mut train = Self::augment_args(clap::Command::new("train"));
        let arguments: Vec<OsString> = std::iter::once("train".into()).chain(arguments).map(Into::into).collect();
        let matches = train.try_get_matches_from_mut(&arguments)?;
        let mut args = Self::from_arg_matches(&matches)?;
        args.set_given(&train, &matches, &arguments);
        args.check().map_err(|(kind, problem)| train.error(kind, with_flags(&problem.to_string())))?;
        Ok(args)
    }

    /// Notes which options are on the command line; `train` describes them, and `arguments` follow the program's name.
    pub fn set_given(&mut self, train: &clap::Command, matches: &ArgMatches, arguments: &[OsString]) {
        self.given = given(train, matches);
        self.options = in_one_form(train, matches);
        self.set_arguments(arguments);
    }

    /// Notes the arguments that a run records; they follow the program's name.
    pub fn set_arguments(&mut self, arguments: &[OsString]) {
        self.arguments = arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    }

    /// Checks options against each other.
    ///
    /// # Errors
    /// A wrong option, by its flag.
    pub fn check(&self) -> Result<(), Problem> {
        // The settings of a resumed run are the run's own: `difference` compares them.
        if self.resume.is_none() {
            self.check_optimizer(self.optimizer.unwrap_or_default())
                .map_err(|problem| (ErrorKind::ArgumentConflict, problem))?;
            self.provisional().check().map_err(|problem| (ErrorKind::ValueValidation, problem.to_string()))?;
        }
        self.check_repeats()?;
        self.device.check()
    }

    /// Checks the options of several runs against each other.
    fn check_repeats(&self) -> Result<(), Problem> {
        let conflict = |problem: &str| Err((ErrorKind::ArgumentConflict, problem.into()));
        let mut distinct = self.seed.clone();
        distinct.sort_unstable();
        distinct.dedup();
        match () {
            () if distinct.len() < self.seed.len() => {
                conflict("--seed names a seed twice, which is the same run twice")
            }
            () if self.seeds.is_some() && self.seed.len() > 1 => {
                conflict("--seeds counts from one --seed on: name the seeds, or their number")
            }
            () if self.resume.is_some() && self.seed.len() > 1 => conflict("--resume continues one run, of one seed"),
            () if !self.are_several() && self.jobs.is_some() => {
                conflict("--jobs is for several runs, as with --seeds 5 or --folds 5")
            }
            () if !self.are_several() && matches!(self.keep, Some(KeepChoice::First)) => {
                conflict("--keep first chooses among several runs, as with --seeds 5 or --folds 5")
            }
            () if self.seed.first().is_some_and(|&first| {
                first.checked_add(self.seeds.unwrap_or(1).saturating_sub(1) as u64).is_none()
            }) =>
            {
                conflict("--seeds ends beyond the largest seed there is")
            }
            () => Ok(()),
        }
    }

    /// Returns true if the options ask for more than one run.
    pub fn are_several(&self) -> bool {
        self.seed.len() > 1 || self.seeds.is_some() || self.folds.is_some()
    }

    /// Seeds of the runs.
    pub fn seeds(&self) -> Vec<u64> {
        match (self.seeds, self.seed()) {
            (Some(seeds), first) => (0..seeds as u64).map(|number| first + number).collect(),
            (None, _) => self.seed.clone(),
        }
    }

    /// Number of folds, if the runs are tested with folds.
    pub fn folds(&self) -> Option<usize> {
        self.folds
    }

    /// The first seed.
    fn seed(&self) -> u64 {
        self.seed.first().copied().unwrap_or_default()
    }

    /// Returns true if, of several runs, the model of the best by validation is the one to use.
    pub fn keeps_best_run(&self) -> bool {
        self.provisional().keep == Keep::Best && !matches!(self.keep, Some(KeepChoice::First))
    }

    /// Returns the first flag on the command line that does not suit this kind of data, and the kinds that it is for.
    pub fn unfit(&self, kind: Option<Kind>) -> Option<(&str, &'static [Kind])> {
        unfit(&self.given, kind)
    }

    /// Returns true if cross-validation may choose settings: if none of them is on the command line.
    pub fn is_searched(&self) -> bool {
        !CHOSEN.iter().chain(&UNSEARCHED).any(|field| self.gives(field))
    }

    /// Returns true if the option of `field` is on the command line.
    pub fn gives(&self, field: &str) -> bool {
        self.given.contains_key(field)
    }

    /// Returns the flag on the command line that makes another model than that of the resumed run, and the other model.
    /// Compares whole models, and only if `--layers` made one of the two.
    ///
    /// # Errors
    /// Layers that do not fit the input.
    pub fn other_model(
        &self,
        config: &TrainingConfig,
        run: &Architecture,
    ) -> anyhow::Result<Option<(&str, Architecture)>> {
        let flag = ["layers", "hidden", "activation"].into_iter().find_map(|field| self.given.get(field));
        let (Some(flag), true) = (flag, self.network.layers.is_some() || config.layers.is_some()) else {
            return Ok(None);
        };
        let layers = self.network.layers.as_ref().map(|layers| layers.layers(run.input())).transpose()?;
        let asked = self.provisional().layers(layers);
        let asked = asked.architecture(run.input(), run.output().len())?;
        Ok((asked != *run).then_some((flag, asked)))
    }

    /// Returns the first setting on the command line that conflicts with the settings of the resumed run: its flag, its
    /// value, and the value of the run. [`other_model`](Self::other_model) compares models.
    ///
    /// # Errors
    /// A setting of another optimizer.
    pub fn difference(&self, config: &TrainingConfig) -> anyhow::Result<Option<(String, Value, Value)>> {
        self.check_optimizer(self.optimizer.unwrap_or(config.optimizer)).map_err(anyhow::Error::msg)?;
        // By way of text, where 0.1 is 0.1 whatever its type.
        let fields = |config: &TrainingConfig| -> serde_json::Result<serde_json::Map<String, Value>> {
            serde_json::from_str(&serde_json::to_string(config)?)
        };
        let run = fields(config)?;
        let asked = self.provisional();
        let of_its_kind = if self.optimizer.is_some() { asked.optimizer } else { config.optimizer };
        let mut asked = fields(&asked.optimizer(self.optimizer(of_its_kind)))?;
        if self.network.layers.is_some() || config.layers.is_some() {
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

    /// Returns the default optimizer with the settings on the command line.
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
                Err(format!("--{setting} is a setting of --optimizer {others}: add that, or leave the setting out"))
            }
            None => Ok(()),
        }
    }

    /// Returns the optimizer that is chosen by its name, or by a setting that only it has.
    fn chosen_optimizer(&self) -> Option<Optimizer> {
        self.optimizer.or_else(|| (self.momentum.is_some() || self.nesterov).then(|| Sgd::default().into()))
    }

    /// Returns the settings of the run on this data, and alternatives that may be better, if there are any: those that
    /// differ in nothing that is on the command line.
    ///
    /// # Errors
    /// Layers that do not fit the data, or a loss that is not for it.
    pub fn choices(&self, data: &Data) -> softstep::Result<Vec<Choice>> {
        let layers = self.network.layers.as_ref().map(|layers| layers.layers(data.shape())).transpose()?;
        let loss = self.loss.unwrap_or_else(|| Loss::default_for(&data.train));
        let config = self.fixed_settings(layers, loss);
        let architecture = config.architecture(data.shape(), loss.outputs(&data.train)?)?;
        let optimizer = self.chosen_optimizer();
        let outline = Outline { loss, architecture: &architecture, batch_size: self.batch_size, optimizer };
        let defaults = Defaults::new(&data.train, &outline);
        let alternatives = if self.is_searched() { defaults.alternatives(&data.train, &outline) } else { Vec::new() };
        let choice =
            |defaults| Choice { config: self.with_defaults(config.clone(), &defaults), chosen: self.chosen(&defaults) };
        Ok(std::iter::once(defaults).chain(alternatives).map(choice).collect())
    }

    /// Returns the settings without data: with the layers of a text, and the defaults for unknown data.
    pub fn provisional(&self) -> TrainingConfig {
        let layers = match &self.network.layers {
            Some(LayersChoice::These(layers)) => Some(layers.clone()),
            Some(LayersChoice::Preset(_)) | None => None,
        };
        let config = self.fixed_settings(layers, self.loss.unwrap_or_default());
        self.with_defaults(config, &Defaults::without_data(self.chosen_optimizer()))
    }

    /// Formats the settings that are chosen by the data, and the reason; `None` if the command line has all of them.
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
            (self.schedule.is_some(), schedule_name(*schedule).to_string()),
            (self.weight_decay.is_some() || weight_decay == 0.0, format!("weight decay {weight_decay}")),
            (self.epochs.is_some(), counted(*epochs, "epoch")),
        ];
        let left: Vec<String> = parts.into_iter().filter(|(given, _)| !given).map(|(_, part)| part).collect();
        // The cosine alone does not follow from the data.
        let is_told = !left.is_empty() && (left.len() > 1 || left[0] != schedule_name(Schedule::Cosine));
        is_told.then(|| format!("{}, as {reason}", left.join(", ")))
    }

    /// Returns the settings that have the same default for all data.
    fn fixed_settings(&self, layers: Option<Vec<Layer>>, loss: Loss) -> TrainingConfig {
        TrainingConfig::default()
            .hidden(self.network.hidden.clone())
            .activation(self.network.activation)
            .layers(layers)
            .batch_size(self.batch_size)
            .clip_norm(self.clip_norm)
            .warmup(self.warmup)
            .augment(self.augment)
            .seed(self.seed())
            .validation(self.validation)
            .loss(loss)
            .label_smoothing(self.label_smoothing)
            .class_weights(self.class_weights.clone())
            .patience(self.patience)
            .shards(self.shards)
            .keep(match self.keep {
                Some(KeepChoice::Last) => Keep::Last,
                Some(KeepChoice::Best) => Keep::Best,
                Some(KeepChoice::First) | None if self.patience.is_some() => Keep::Best,
                Some(KeepChoice::First) | None => Keep::Last,
            })
    }

    /// Sets the settings whose defaults depend on the data.
    fn with_defaults(&self, config: TrainingConfig, defaults: &Defaults) -> TrainingConfig {
        config
            .epochs(self.epochs.unwrap_or(defaults.epochs))
            .learning_rate(match self.learning_rate {
                Some(RateChoice::Rate(rate)) => rate,
                Some(RateChoice::Auto) | None => defaults.learning_rate,
            })
            .optimizer(self.optimizer(defaults.optimizer))
            .schedule(match self.schedule {
                Some(ScheduleChoice::Constant) => Schedule::Constant,
                Some(ScheduleChoice::Cosine) => Schedule::Cosine,
                Some(ScheduleChoice::Step) => Schedule::Step,
                Some(ScheduleChoice::OneCycle) => Schedule::OneCycle,
                None => defaults.schedule,
            })
    }
}

/// Parses `--folds`.
fn folds(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&folds| folds > 1).ok_or_else(|| "must be a whole number, 2 or more".into())
}

/// Parser of `--optimizer`; the optimizer has its default settings.
fn optimizer() -> impl TypedValueParser<Value = Optimizer> {
    let names = Optimizer::all().map(|optimizer| PossibleValue::new(optimizer.name()).help(optimizer.label()));
    PossibleValuesParser::new(names).map(|name| Optimizer::from_name(&name).unwrap_or_default())
}

/// Value of `--lr`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum RateChoice {
    /// The rate that a range test finds.
    Auto,
    /// This rate.
    Rate(f32),
}

/// Parses `--lr`: a number, or `auto`.
fn rate(text: &str) -> Result<RateChoice, String> {
    match text {
        "auto" => Ok(RateChoice::Auto),
        _ => text.parse().map(RateChoice::Rate).map_err(|_| "a rate is a number such as 0.01, or auto".into()),
    }
}

/// Value of `--schedule`.
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

/// Name of a schedule on the command line.
fn schedule_name(schedule: Schedule) -> &'static str {
    match schedule {
        Schedule::Constant => "constant",
        Schedule::Cosine => "cosine",
        Schedule::Step => "step",
        Schedule::OneCycle => "one-cycle",
    }
}

/// Value of `--keep`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum KeepChoice {
    /// Of the last epoch
    Last,
    /// Of the epoch with the lowest validation loss
    Best,
    /// Of several runs, the model of the first, as it is without --keep
    First,
}

/// Value of `--readback`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ReadbackChoice {
    /// Some steps late, so that the GPU never waits
    Pipelined,
    /// Before the next step
    Blocking,
}
