//! Errors, with messages that a person can act on.

use std::path::PathBuf;

use crate::deviation::Deviation;

/// Result type of the library.
pub type Result<T> = std::result::Result<T, Error>;

/// Every error of the library. Each message names what is wrong (file, shape, adapter) and the way out;
/// [`std::error::Error::source`] returns the cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}", printable(&path.display().to_string(), LONGEST_PATH))]
    Io {
        /// The attempted action: "read", "write", "create folder", ….
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },

    /// The content of a file is invalid.
    #[error("{file}: {problem}")]
    Format {
        /// Name or path of the file.
        file: String,
        /// Description of the problem, with its position.
        problem: String,
    },

    /// A data set could not be downloaded from any of its mirrors.
    #[error("cannot download {what}: {problem}")]
    Download {
        /// The requested file.
        what: String,
        /// Response of every mirror, and the way out.
        problem: String,
    },

    /// Settings, shapes or data that do not fit together.
    #[error("{0}")]
    Invalid(String),

    /// No adapter matches the request.
    #[error("{0}")]
    NoAdapter(String),

    /// The GPU, its driver or wgpu reported an error.
    #[error("adapter {adapter}: {problem}")]
    Gpu {
        /// Name of the adapter.
        adapter: String,
        /// The reported problem.
        problem: String,
    },

    /// The device went away: a reset by its driver, a crash, a GPU that was unplugged.
    #[error(
        "adapter {adapter} was lost: {reason}. Its driver may have reset it: start again, with a smaller `batch_size` if \
         that happens again, or with `Device::cpu()`"
    )]
    DeviceLost {
        /// Name of the adapter.
        adapter: String,
        /// Reason reported by the driver.
        reason: String,
    },

    /// The device has no memory left.
    #[error(
        "adapter {adapter} has no memory left for {what}: close other programs that use it, or use a smaller \
         `batch_size`, smaller `hidden` layers, less data or `Device::cpu()`"
    )]
    DeviceMemory {
        /// Name of the adapter.
        adapter: String,
        /// The object that was to be created, with its size if known.
        what: String,
    },

    /// The device did not finish its work in time.
    #[error(
        "adapter {adapter} hangs: nothing came back for {seconds} s. Start again, with a smaller `batch_size` if that \
         happens again, or with `Device::cpu()`"
    )]
    DeviceHung {
        /// Name of the adapter.
        adapter: String,
        /// Time waited, in seconds.
        seconds: f64,
    },

    /// Another rank has failed, or does not answer.
    #[error("rank {rank}: {problem}")]
    Rank {
        /// The rank, from 0.
        rank: usize,
        /// The problem of that rank.
        problem: String,
    },

    /// A training step differs from the verification on the CPU.
    #[error(
        "step {step} is wrong on adapter {adapter}: {deviation}. The device, its driver or a kernel computes wrong \
         numbers: `softstep doctor` tests every kernel, and `Device::cpu()` does without them"
    )]
    WrongStep {
        /// The step, counted from 1.
        step: usize,
        /// Name of the adapter.
        adapter: String,
        /// The worst deviation.
        deviation: Deviation,
    },

    /// The loss of a training step is infinite or not a number: training has diverged.
    #[error(
        "the loss of step {step} is {loss}: training diverged at learning rate {learning_rate:?}; \
         try a smaller one"
    )]
    NonFiniteLoss {
        /// The step, counted from 1.
        step: usize,
        /// Loss of the step.
        loss: f32,
        /// Learning rate of the step.
        learning_rate: f32,
        /// Base learning rate of the run.
        base_rate: f32,
    },

    /// The loss on the test part is infinite or not a number: training has diverged.
    #[error(
        "the test loss after epoch {epoch} is {loss}: training diverged at `learning_rate` {base_rate:?}; try a smaller one, such as \
         `learning_rate` {:?}",
        base_rate / 10.0
    )]
    NonFiniteTestLoss {
        /// The epoch, counted from 1.
        epoch: usize,
        /// Test loss after the epoch.
        loss: f64,
        /// Base learning rate of the run.
        base_rate: f32,
    },

    /// A parameter or a moment of the optimizer is infinite or not a number: training has diverged.
    #[error(
        "after step {step} the {what} are no longer finite: training diverged at learning rate {learning_rate:?}; \
         try a smaller one"
    )]
    NonFiniteState {
        /// The step, counted from 1; 0 is the start of the run.
        step: usize,
        /// The first non-finite part: "weights of layer 1", "moments of layer 1".
        what: String,
        /// Learning rate of the step.
        learning_rate: f32,
        /// Base learning rate of the run.
        base_rate: f32,
    },
}

impl Error {
    /// Builds an [`Error::Io`] about `path`, for `map_err`.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// Builds an [`Error::Format`] about `file`. The file's name and the problem, which may quote the file's content,
    /// are made [`printable`], the problem with at most 1000 characters.
    pub fn format(file: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Format { file: printable(&file.into(), LONGEST_PATH), problem: printable(&problem.into(), 1000) }
    }
}

/// Longest path that is shown in full, in characters.
const LONGEST_PATH: usize = 4096;

/// Returns true if terminals show this character and neither interpret it nor change the direction of the text around
/// it.
pub fn is_printable(character: char) -> bool {
    !character.is_control()
        && !matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// Makes text from a file safe to show within other text: a single line, with U+FFFD for characters that terminals
/// interpret or that change the direction of the text, and `…` for what exceeds `longest` characters.
pub fn printable(text: &str, longest: usize) -> String {
    let shown = |character: char| match character {
        '\t' | '\n' | '\r' => ' ',
        character if is_printable(character) => character,
        _ => '\u{fffd}',
    };
    let mut characters = text.chars().map(shown);
    let mut printable: String = characters.by_ref().take(longest).collect();
    if characters.next().is_some() {
        printable.push('…');
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_a_file_neither_obeys_nor_turns_what_is_around_it() {
        let text = "a\u{1b}[31m\u{202e}b\u{2066}\u{200f}c\nd שלום";
        assert_eq!(printable(text, 99), "a\u{fffd}[31m\u{fffd}b\u{fffd}\u{fffd}c d שלום");
        assert_eq!(printable(text, 1), "a…");
        let error = Error::format("x.csv", text).to_string();
        assert_eq!(error, format!("x.csv: {}", printable(text, 99)));
    }
}
