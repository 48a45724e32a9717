//! What a run folder says about its run, beside its model and checkpoints: `config.json`, `metrics.jsonl` and
//! `results.json`. Training writes them; reports are made of nothing else, so they need neither data nor GPU.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use softstep::Error;
use softstep::backend::{DeviceInfo, KernelTime};
use softstep::data::{Data, Examples, Kind, Preprocessing, TestPart};
use softstep::model::{Activation, Architecture};
use softstep::plan::Plan;
use softstep::trainer::{Best, TrainingConfig};
use softstep::verify::Verification;

use crate::run::error_analysis::Tested;
use crate::run::folder::{self, CONFIG, METRICS, RESULTS, open_own};
use crate::{html, terminal};

/// The longest `config.json` and `results.json` that are read: 64 MiB.
const MAX_BYTES: u64 = 64 << 20;
/// The longest line of `metrics.jsonl` that is read.
const MAX_LINE: u64 = 1 << 16;

/// `config.json`: the settings `S`, and what they were used with. Folders of older versions lack what is optional.
#[derive(Debug, Serialize, Deserialize)]
pub struct Config<S> {
    /// The version of softstep.
    pub version: String,
    /// Name of the data set.
    pub data: String,
    /// `gpu` or `cpu`.
    pub backend: String,
    /// The adapter's or processor's name.
    pub adapter: String,
    /// As [`DeviceInfo::device_type`].
    pub device_type: String,
    /// Driver or library, with its version.
    pub driver: String,
    /// The model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<Architecture>,
    /// Layer sizes `[features, hidden…, outputs]` of a stack of linear layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sizes: Option<Vec<usize>>,
    /// Examples to train on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_examples: Option<usize>,
    /// Examples held out for validation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_examples: Option<usize>,
    /// Examples to test with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_examples: Option<usize>,
    /// Rows and columns of an example, if it is an image, grey or RGB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<[usize; 2]>,
    /// Names of the classes, where they have some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_names: Option<Vec<String>>,
    /// Name of the column that is learned, in a table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The settings that followed the data, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
    /// `[learning rate, loss]` of the steps of `--lr auto`; a loss that is not finite is null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range_test: Option<Vec<[Option<f32>; 2]>>,
    /// Where the data came from, and what else the run was started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// The settings.
    #[serde(flatten)]
    pub settings: S,
}

/// What trains a run again, beside its settings: where its data are and how they are read, and what it started from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Source {
    /// The arguments of the command, all flags of the data among them.
    pub arguments: Vec<String>,
    /// The whole path of the data, unless they are a set by its name.
    pub path: Option<String>,
    /// The whole path of a test part of its own.
    pub test_path: Option<String>,
    /// As `--data-dir`.
    pub data_dir: Option<String>,
    /// What is in the data: [`Data::sha256`].
    pub data_sha256: String,
    /// How they become features, if they are a table, images or arrays.
    pub preprocessing: Option<Preprocessing>,
    /// The model that the run started from, with `--init`.
    pub init: Option<Init>,
}

/// The parameters that a run started from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Init {
    /// The whole path of the model.
    pub path: String,
    /// As [`Parameters::sha256`](softstep::model::Parameters::sha256).
    pub parameters_sha256: String,
}

impl Source {
    /// Of a command with these arguments that read such data.
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

/// A path from the root on; `None` where nothing is there, or it is no text.
pub fn whole_path(path: &Path) -> Option<String> {
    path.canonicalize().ok()?.into_os_string().into_string().ok()
}

impl<'a> Config<&'a TrainingConfig> {
    /// For a run on this data, its validation part taken out.
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

    /// For a run without one, or with a damaged one: what its last checkpoint says.
    pub fn of_checkpoint(folder: &Path) -> Result<Self> {
        let run = folder::last_metadata(folder)?;
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

/// `results.json`: what training came to, as far as it is not in `metrics.jsonl`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    /// The version of softstep.
    pub version: String,
    /// When it was written, in local time.
    pub written: String,
    /// How training ended.
    pub outcome: Outcome,
    /// Steps since the start of the run.
    pub step: usize,
    /// Steps that it was to have.
    pub steps: usize,
    /// The best epoch, where the settings ask for it.
    pub best: Option<Best>,
    /// SHA-256 of the parameters that were kept, once training has ended.
    pub parameters_sha256: Option<String>,
    /// SHA-256 of each file of the run that does not change any more: [`seal`].
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// How long it took.
    pub timings: Timings,
    /// With `--profile`, where the time of the steps went.
    pub profile: Option<Profile>,
    /// With `--verify`, what was verified.
    pub verification: Option<Verified>,
    /// What the model makes of the test part.
    pub test: Option<Tested>,
    /// What is wrong with the model, with the flags that mend it.
    #[serde(default)]
    pub findings: Vec<String>,
}

impl Results {
    /// Reads those of a run folder, if there are some.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(RESULTS);
        if path.exists() { read_json(&path).map(Some) } else { Ok(None) }
    }
}

/// What precedes the digest at the end of `results.json`.
const SEAL: &str = ",\"sha256\":\"";

/// The text of `results.json`, whose last entry is the SHA-256 of what comes before it.
pub fn sealed(results: &Results) -> Result<String> {
    let text = serde_json::to_string(results)?;
    let content = text.strip_suffix('}').unwrap_or(&text);
    Ok(format!("{content}{SEAL}{}\"}}\n", hexadecimal(&Sha256::digest(content))))
}

/// SHA-256 of the settings, the metrics and the model in a folder, as far as they are there.
pub fn digests(folder: &Path) -> BTreeMap<String, String> {
    let digest = |name: &str| {
        let mut file = open(&folder.join(name)).ok()?;
        let mut hash = Sha256::new();
        let mut chunk = vec![0; 1 << 16];
        loop {
            match file.read(&mut chunk).ok()? {
                0 => break,
                read => hash.update(&chunk[..read]),
            }
        }
        Some((name.to_string(), hexadecimal(&hash.finalize())))
    };
    [CONFIG, METRICS, folder::MODEL].into_iter().filter_map(digest).collect()
}

/// The files of a run that are not what they were when it ended; `None` where no results say what they were.
pub fn changed_files(folder: &Path) -> Result<Option<Vec<String>>> {
    let path = folder.join(RESULTS);
    if !path.exists() {
        return Ok(None);
    }
    let mut text = Vec::new();
    open(&path)?.take(MAX_BYTES).read_to_end(&mut text).map_err(Error::io("read", &path))?;
    let text = String::from_utf8_lossy(&text);
    let Some((content, digest)) = text.rsplit_once(SEAL) else {
        // Of an older version, or changed just there.
        let of_older = serde_json::from_str::<Results>(&text).is_ok_and(|results| results.files.is_empty());
        return Ok(if of_older { None } else { Some(vec![RESULTS.into()]) });
    };
    if digest != format!("{}\"}}\n", hexadecimal(&Sha256::digest(content))) {
        return Ok(Some(vec![RESULTS.into()]));
    }
    let results: Results = read_json(&path)?;
    if results.outcome != Outcome::Ended {
        // It may have gone on since.
        return Ok(None);
    }
    let there = digests(folder);
    Ok(Some(
        results
            .files
            .into_iter()
            .filter(|(name, sha256)| there.get(name) != Some(sha256))
            .map(|(name, _)| name)
            .collect(),
    ))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How training ended.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// After its last step, or early as its settings say.
    Ended,
    /// It was stopped, and may go on.
    Stopped,
    /// With this error.
    Failed(String),
}

/// How long training took, since the process started that wrote this.
#[derive(Debug, Serialize, Deserialize)]
pub struct Timings {
    /// The step that this process went on from.
    pub resumed_from: Option<usize>,
    /// Its steps.
    pub steps: usize,
    /// Time spent in them, without loading and evaluation.
    #[serde(deserialize_with = "null_is_nan")]
    pub seconds: f64,
    /// Steps in a second of these.
    #[serde(deserialize_with = "null_is_nan")]
    pub steps_per_second: f64,
    /// Examples in a second of these.
    #[serde(deserialize_with = "null_is_nan")]
    pub examples_per_second: f64,
    /// Until the first loss was on the host.
    pub first_loss_seconds: Option<f64>,
    /// In all.
    #[serde(deserialize_with = "null_is_nan")]
    pub total_seconds: f64,
}

/// Where the time of the steps went.
#[derive(Debug, Serialize, Deserialize)]
pub struct Profile {
    /// Kernel by kernel, in the order of a step.
    pub kernels: Vec<ProfiledKernel>,
    /// What training took beyond them.
    pub host_seconds: f64,
}

/// What a kernel took in all.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProfiledKernel {
    /// The kernel.
    pub name: String,
    /// How often it ran.
    pub dispatches: u64,
    /// How long.
    pub seconds: f64,
}

impl Profile {
    /// Of kernels in training steps that took so long; `None` where there was no profile.
    pub fn new(kernels: &[KernelTime], seconds: f64) -> Option<Self> {
        let line = |kernel: &KernelTime| ProfiledKernel {
            name: kernel.name.into(),
            dispatches: kernel.dispatches,
            seconds: kernel.seconds,
        };
        let host_seconds = seconds - kernels.iter().map(|kernel| kernel.seconds).sum::<f64>();
        (!kernels.is_empty()).then(|| Self { kernels: kernels.iter().map(line).collect(), host_seconds })
    }

    /// Names and seconds, those of the host last.
    pub fn rows(&self) -> impl Iterator<Item = (&str, f64)> {
        let kernels = self.kernels.iter().map(|kernel| (kernel.name.as_str(), kernel.seconds));
        kernels.chain([("host, and waiting", self.host_seconds)])
    }
}

/// Steps that were computed again on the CPU, and came out right.
#[derive(Debug, Serialize, Deserialize)]
pub struct Verified {
    /// How many.
    pub steps: usize,
    /// The number of each kind that came nearest to its tolerance.
    pub worst: Vec<WorstNumber>,
}

/// A number that was verified.
#[derive(Debug, Serialize, Deserialize)]
pub struct WorstNumber {
    /// The step it belongs to.
    pub step: usize,
    /// What it is part of.
    pub tensor: String,
    /// Where in it.
    pub row: usize,
    /// Where in it.
    pub column: usize,
    /// As the device has it.
    pub gpu: f64,
    /// As the CPU has it.
    pub cpu: f64,
    /// How far these are apart.
    pub error: f64,
    /// How far they may be.
    pub tolerance: f64,
}

impl Verified {
    /// What a backend verified.
    pub fn new(found: &Verification) -> Self {
        let line = |(step, worst): &(usize, softstep::reference::Deviation)| WorstNumber {
            step: *step,
            tensor: worst.tensor.to_string(),
            row: worst.at[0],
            column: worst.at[1],
            gpu: worst.actual,
            cpu: worst.expected,
            error: (worst.actual - worst.expected).abs(),
            tolerance: worst.tolerance,
        };
        Self { steps: found.steps, worst: found.worst.iter().map(line).collect() }
    }
}

/// A step in `metrics.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepPoint {
    /// Which one, from 1.
    pub step: usize,
    /// Its mean loss; not a number where it is not finite.
    pub loss: f64,
    /// Its learning rate.
    pub learning_rate: f64,
}

/// An epoch in `metrics.jsonl`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EpochPoint {
    /// Which one, from 1.
    pub epoch: usize,
    /// Its last step.
    pub step: usize,
    /// Mean loss of its steps.
    pub train_loss: Option<f64>,
    /// Loss on the validation part.
    pub validation_loss: Option<f64>,
    /// Accuracy or R² there.
    pub validation_quality: Option<f64>,
    /// Loss on the test part.
    pub test_loss: Option<f64>,
    /// Accuracy or R² there.
    pub test_quality: Option<f64>,
    /// Whether the qualities are R².
    pub real_values: bool,
}

/// A line of `metrics.jsonl`: of a step or an epoch.
#[derive(Deserialize)]
struct Line {
    step: Option<usize>,
    epoch: usize,
    loss: Option<f64>,
    lr: Option<f64>,
    train_loss: Option<f64>,
    validation_loss: Option<f64>,
    validation_accuracy: Option<f64>,
    validation_r_squared: Option<f64>,
    test_loss: Option<f64>,
    test_accuracy: Option<f64>,
    test_r_squared: Option<f64>,
}

/// `metrics.jsonl`.
#[derive(Debug, Default)]
pub struct History {
    /// Its steps, in order.
    pub steps: Vec<StepPoint>,
    /// Its epochs, in order.
    pub epochs: Vec<EpochPoint>,
    /// The numbers, from 1, of lines that are damaged and left out.
    pub damaged: Vec<usize>,
}

impl History {
    /// Reads a file. A last line without its end, as a run leaves it that is under way or was killed, does not count.
    pub fn read(path: &Path) -> Result<Self> {
        let mut input = BufReader::new(open(path)?);
        let mut history = Self::default();
        let mut text = Vec::new();
        // The last line of a step and those of epochs behind it: whether it is sound shows at the next step.
        let mut waiting: Vec<(usize, Line)> = Vec::new();
        for number in 1.. {
            let ends = read_line(&mut input, &mut text).map_err(Error::io("read", path))?;
            if !ends {
                break;
            }
            let Ok(line) = serde_json::from_slice::<Line>(&text) else {
                history.damaged.push(number);
                continue;
            };
            if let Some(step) = line.step {
                let before = history.steps.last().map_or(0, |point| point.step);
                if step <= before {
                    history.damaged.push(number);
                    continue;
                }
                // A step that comes after a later one: its number is damaged, or the other's, which then is the outlier.
                if waiting.first().and_then(|(_, line)| line.step).is_some_and(|waiting| waiting >= step) {
                    history.damaged.push(waiting.remove(0).0);
                }
                history.take(&mut waiting);
            }
            waiting.push((number, line));
        }
        history.take(&mut waiting);
        history.damaged.sort_unstable();
        Ok(history)
    }

    /// Says which lines are damaged, if any are.
    pub fn notice(&self, path: &Path) {
        match self.damaged[..] {
            [] => {}
            [line] => terminal::notice(&format!("{}: line {line} is damaged and left out", path.display())),
            [first, ..] => terminal::notice(&format!(
                "{}: {} lines are damaged and left out, the first is line {first}",
                path.display(),
                self.damaged.len()
            )),
        }
    }

    fn take(&mut self, lines: &mut Vec<(usize, Line)>) {
        for (number, line) in lines.drain(..) {
            match (line.step, self.steps.last()) {
                (Some(step), _) => self.steps.push(StepPoint {
                    step,
                    loss: line.loss.unwrap_or(f64::NAN),
                    learning_rate: line.lr.unwrap_or(f64::NAN),
                }),
                (None, None) => self.damaged.push(number),
                (None, Some(last)) => self.epochs.push(EpochPoint {
                    epoch: line.epoch,
                    step: last.step,
                    train_loss: line.train_loss,
                    validation_loss: line.validation_loss,
                    validation_quality: line.validation_accuracy.or(line.validation_r_squared),
                    test_loss: line.test_loss,
                    test_quality: line.test_accuracy.or(line.test_r_squared),
                    real_values: line.test_r_squared.is_some(),
                }),
            }
        }
    }
}

/// Reads a line, of one that is longer than any of a run the first bytes; returns false if its end is missing.
fn read_line(input: &mut impl BufRead, text: &mut Vec<u8>) -> std::io::Result<bool> {
    text.clear();
    input.take(MAX_LINE).read_until(b'\n', text)?;
    if text.len() as u64 == MAX_LINE && text.last() != Some(&b'\n') {
        input.skip_until(b'\n')?;
        return Ok(true);
    }
    Ok(text.last() == Some(&b'\n'))
}

/// All of it.
#[derive(Debug)]
pub struct Record {
    /// The run folder.
    pub folder: PathBuf,
    /// `config.json`.
    pub config: Config<Map<String, Value>>,
    /// `metrics.jsonl`.
    pub history: History,
    /// `results.json`, if there is one: a run that is under way, was killed or was made by an older version has none.
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
                    bail!("{}: no folder of a run, as it has no {CONFIG}", folder.display())
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

    /// The model; in folders of version 0.1.0 it is said by its sizes alone.
    pub fn architecture(&self) -> Option<Architecture> {
        let Config { architecture, sizes, .. } = &self.config;
        architecture.clone().or_else(|| {
            let activation = self.setting("activation").and_then(Activation::from_name).unwrap_or_default();
            Architecture::dense(sizes.as_ref()?, activation).ok()
        })
    }

    /// Weights and biases of the model, if it is known.
    pub fn parameters(&self) -> Option<usize> {
        Some(Plan::new(&self.architecture()?).parameters())
    }

    /// A setting as text, if the run has it.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.config.settings.get(name).and_then(Value::as_str)
    }

    /// The name of a class.
    pub fn class_name(&self, class: usize) -> String {
        let name = self.config.class_names.as_ref().and_then(|names| names.get(class));
        name.map_or_else(|| class.to_string(), |name| html::name(name))
    }
}

/// For serde: JSON has null where a number is not finite.
pub fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let file = open(path)?;
    let length = file.metadata().map_err(Error::io("read", path))?.len();
    if length > MAX_BYTES {
        bail!("{} has {length} bytes: the limit is {MAX_BYTES}", path.display());
    }
    serde_json::from_reader(BufReader::new(file)).with_context(|| format!("{} is damaged", path.display()))
}

fn open(path: &Path) -> Result<File> {
    Ok(open_own(path, OpenOptions::new().read(true)).map_err(Error::io("read", path))?)
}
