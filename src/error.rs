//! What can go wrong, said so that a person can act on it.

use std::path::PathBuf;

use crate::reference::Deviation;

/// The library's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Every error of the library. Each message names what is wrong (file, shape, adapter) and the way out;
/// causes are in [`std::error::Error::source`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}", printable(&path.display().to_string(), LONGEST_PATH))]
    Io {
        /// What was tried: "read", "write", "create folder", ….
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },

    /// A file was read, but its content is not what it should be.
    #[error("{file}: {problem}")]
    Format {
        /// The file's name or path.
        file: String,
        /// What is wrong, and where.
        problem: String,
    },

    /// A data set could not be downloaded from any of its mirrors.
    #[error("cannot download {what}: {problem}")]
    Download {
        /// The file asked for.
        what: String,
        /// What every mirror answered, and the way out.
        problem: String,
    },

    /// Settings, shapes or data that do not fit together.
    #[error("{0}")]
    Invalid(String),

    /// No adapter answers to what was asked for.
    #[error("{0}")]
    NoAdapter(String),

    /// The GPU, its driver or wgpu reported an error.
    #[error("adapter {adapter}: {problem}")]
    Gpu {
        /// The adapter's name.
        adapter: String,
        /// What it reported.
        problem: String,
    },

    /// The device went away: a reset by its driver, a crash, a GPU that was unplugged.
    #[error(
        "adapter {adapter} was lost: {reason}. Its driver may have reset it: start again, with a smaller --batch-size if \
         that happens again, or with --backend cpu"
    )]
    DeviceLost {
        /// The adapter's name.
        adapter: String,
        /// What the driver said.
        reason: String,
    },

    /// The device has no memory left.
    #[error(
        "adapter {adapter} has no memory left for {what}: close other programs that use it, or use a smaller \
         --batch-size, smaller --hidden layers, less data or --backend cpu"
    )]
    DeviceMemory {
        /// The adapter's name.
        adapter: String,
        /// What was to be made, and its size where that is known.
        what: String,
    },

    /// The device did not finish its work in time.
    #[error(
        "adapter {adapter} hangs: nothing came back for {seconds} s. Start again, with a smaller --batch-size if that \
         happens again, or with --backend cpu"
    )]
    DeviceHung {
        /// The adapter's name.
        adapter: String,
        /// How long it was waited for.
        seconds: f64,
    },

    /// A training step came out otherwise than on the CPU.
    #[error(
        "step {step} is wrong on adapter {adapter}: {deviation}. The device, its driver or a kernel computes wrong \
         numbers: `softstep doctor` tests every kernel, and --backend cpu does without them"
    )]
    WrongStep {
        /// The step, counted from 1.
        step: usize,
        /// The adapter's name.
        adapter: String,
        /// The number that is furthest off.
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
        /// Its loss.
        loss: f32,
        /// Its learning rate.
        learning_rate: f32,
        /// The learning rate that the run's schedule started from.
        base_rate: f32,
    },

    /// The loss on the test part is infinite or not a number: training has diverged.
    #[error(
        "the test loss after epoch {epoch} is {loss}: training diverged at --lr {base_rate:?}; try a smaller one, such as \
         --lr {:?}",
        base_rate / 10.0
    )]
    NonFiniteTestLoss {
        /// The epoch, counted from 1.
        epoch: usize,
        /// Its test loss.
        loss: f64,
        /// The learning rate that the run's schedule started from.
        base_rate: f32,
    },

    /// A parameter, or what the optimizer remembers of it, is infinite or not a number: training has diverged.
    #[error(
        "after step {step} the {what} are no longer finite: training diverged at learning rate {learning_rate:?}; \
         try a smaller one"
    )]
    NonFiniteState {
        /// The step, counted from 1; 0 is the start of the run.
        step: usize,
        /// The first that is not: "weights of layer 1", "moments of layer 1".
        what: String,
        /// The learning rate of that step.
        learning_rate: f32,
        /// The learning rate that the run's schedule started from.
        base_rate: f32,
    },
}

impl Error {
    /// For `map_err`: an [`Error::Io`] about `path`.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// An [`Error::Format`] about `file`. A problem may quote what the file holds: here it becomes [`printable`], at
    /// most 1000 characters, and so does the file's name.
    pub fn format(file: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Format { file: printable(&file.into(), LONGEST_PATH), problem: printable(&problem.into(), 1000) }
    }
}

/// The longest path that is shown whole, in characters.
const LONGEST_PATH: usize = 4096;

/// Returns true if a terminal shows this character, and neither obeys it nor turns the text around it to the other
/// direction.
pub fn is_printable(character: char) -> bool {
    !character.is_control()
        && !matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// Text from a file, safe to show among other text: on one line, with U+FFFD for what a terminal obeys or what turns
/// the text around it to the other direction, and `…` for what is beyond `longest` characters.
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
