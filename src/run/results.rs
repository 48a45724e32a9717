//! `results.json`: how training ended, with timings, error analysis and findings, and the digests of the other files.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use softstep::Error;
use softstep::backend::KernelTime;
use softstep::trainer::Best;
use softstep::verify::Verification;

use crate::run::config::CONFIG;
use crate::run::error_analysis::ErrorAnalysis;
use crate::run::files::{MAX_BYTES, hexadecimal, null_is_nan, open, read_json};
use crate::run::metrics::METRICS;
use crate::run::model::MODEL;

/// Name of the file.
pub const RESULTS: &str = "results.json";

/// Content of `results.json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    /// Version of softstep.
    pub version: String,
    /// Local time of writing.
    pub written: String,
    /// Outcome of training.
    pub outcome: Outcome,
    /// Number of steps since the start of the run.
    pub step: usize,
    /// Number of steps of a whole run.
    pub steps: usize,
    /// Best epoch, if the settings ask for it.
    pub best: Option<Best>,
    /// SHA-256 of the kept parameters, once training has ended.
    pub parameters_sha256: Option<String>,
    /// SHA-256 of the files that do not change any more: [`digests`].
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// Timings.
    pub timings: Timings,
    /// Time by kernel, with `--profile`.
    pub profile: Option<Profile>,
    /// Verified steps, with `--verify`.
    pub verification: Option<VerifiedSteps>,
    /// Error analysis on the test part.
    pub test: Option<ErrorAnalysis>,
    /// Problems of the model, each with the flag that fixes it.
    #[serde(default)]
    pub findings: Vec<String>,
}

impl Results {
    /// Reads the results of a run folder; `None` if it has none.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(RESULTS);
        if path.exists() { read_json(&path).map(Some) } else { Ok(None) }
    }
}

/// Outcome of training.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Training reached the last step, or stopped early.
    Ended,
    /// Stopped by a signal; it can be resumed.
    Stopped,
    /// Training ended with an error.
    Failed(String),
}

/// Timings since the start of the process that wrote them.
#[derive(Debug, Serialize, Deserialize)]
pub struct Timings {
    /// Step that the process resumed from.
    pub resumed_from: Option<usize>,
    /// Number of steps of the process.
    pub steps: usize,
    /// Time in training steps, without loading and evaluation.
    #[serde(deserialize_with = "null_is_nan")]
    pub seconds: f64,
    /// Steps per second in training steps.
    #[serde(deserialize_with = "null_is_nan")]
    pub steps_per_second: f64,
    /// Examples per second in training steps.
    #[serde(deserialize_with = "null_is_nan")]
    pub examples_per_second: f64,
    /// Time until the first loss was on the host.
    pub first_loss_seconds: Option<f64>,
    /// Total time.
    #[serde(deserialize_with = "null_is_nan")]
    pub total_seconds: f64,
}

/// Time of the training steps by kernel.
#[derive(Debug, Serialize, Deserialize)]
pub struct Profile {
    /// Kernels in the order of a step.
    pub kernels: Vec<ProfiledKernel>,
    /// Remaining time.
    pub host_seconds: f64,
}

/// Total time of a kernel.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProfiledKernel {
    /// Name.
    pub name: String,
    /// Number of dispatches.
    pub dispatches: u64,
    /// Time.
    pub seconds: f64,
}

impl Profile {
    /// Profile of training steps that took `seconds`; `None` without kernel times.
    pub fn new(kernels: &[KernelTime], seconds: f64) -> Option<Self> {
        let line = |kernel: &KernelTime| ProfiledKernel {
            name: kernel.name.into(),
            dispatches: kernel.dispatches,
            seconds: kernel.seconds,
        };
        let host_seconds = seconds - kernels.iter().map(|kernel| kernel.seconds).sum::<f64>();
        (!kernels.is_empty()).then(|| Self { kernels: kernels.iter().map(line).collect(), host_seconds })
    }

    /// Names and seconds; the host comes last.
    pub fn rows(&self) -> impl Iterator<Item = (&str, f64)> {
        let kernels = self.kernels.iter().map(|kernel| (kernel.name.as_str(), kernel.seconds));
        kernels.chain([("host, and waiting", self.host_seconds)])
    }
}

/// Steps that the CPU verified.
#[derive(Debug, Serialize, Deserialize)]
pub struct VerifiedSteps {
    /// Number of steps.
    pub steps: usize,
    /// The number that came nearest to its tolerance, for each kind.
    pub worst: Vec<WorstNumber>,
}

/// A verified number.
#[derive(Debug, Serialize, Deserialize)]
pub struct WorstNumber {
    /// Step, from 1.
    pub step: usize,
    /// Tensor.
    pub tensor: String,
    /// Row in the tensor.
    pub row: usize,
    /// Column in the tensor.
    pub column: usize,
    /// Value on the device.
    pub gpu: f64,
    /// Value on the CPU.
    pub cpu: f64,
    /// Difference of the two.
    pub error: f64,
    /// Allowed difference.
    pub tolerance: f64,
}

impl VerifiedSteps {
    /// Converts the verification of a backend.
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

/// Text before the digest at the end of the file.
const SEAL: &str = ",\"sha256\":\"";

/// Encodes results with a last entry, the SHA-256 of the text before it.
pub fn sealed(results: &Results) -> Result<String> {
    let text = serde_json::to_string(results)?;
    let content = text.strip_suffix('}').unwrap_or(&text);
    Ok(format!("{content}{SEAL}{}\"}}\n", hexadecimal(&Sha256::digest(content))))
}

/// Computes the SHA-256 of settings, metrics and model, of those that exist.
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
    [CONFIG, METRICS, MODEL].into_iter().filter_map(digest).collect()
}

/// Lists the files that changed since the run ended; `None` if no results have their digests.
pub fn changed_files(folder: &Path) -> Result<Option<Vec<String>>> {
    let path = folder.join(RESULTS);
    if !path.exists() {
        return Ok(None);
    }
    let mut text = Vec::new();
    open(&path)?.take(MAX_BYTES).read_to_end(&mut text).map_err(Error::io("read", &path))?;
    let text = String::from_utf8_lossy(&text);
    let Some((content, digest)) = text.rsplit_once(SEAL) else {
        // The file is of an older version, or was changed at its end.
        let of_older = serde_json::from_str::<Results>(&text).is_ok_and(|results| results.files.is_empty());
        return Ok(if of_older { None } else { Some(vec![RESULTS.into()]) });
    };
    if digest != format!("{}\"}}\n", hexadecimal(&Sha256::digest(content))) {
        return Ok(Some(vec![RESULTS.into()]));
    }
    let results: Results = read_json(&path)?;
    if results.outcome != Outcome::Ended {
        // The run may have been resumed since.
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
