//! `metrics.jsonl`: a line for every step and every epoch.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use softstep::Error;
use softstep::backend::Evaluation;
use softstep::trainer::Event;

use crate::run::files::open;
use crate::terminal;

/// Name of the file.
pub const METRICS: &str = "metrics.jsonl";

/// Number of bytes that are gathered before they are written.
pub const METRICS_BUFFER: usize = 1 << 16;

/// Upper limit of the length of a line.
const MAX_LINE: u64 = 1 << 16;

/// Line of a step; a loss that is not finite is null.
#[derive(Serialize)]
struct StepLine {
    step: usize,
    epoch: usize,
    loss: f32,
    lr: f32,
}

/// Line of an epoch, also printed as the event `epoch`.
#[derive(Clone, Debug, Serialize)]
pub struct EpochLine {
    pub epoch: usize,
    train_loss: f64,
    #[serde(flatten)]
    validation: Option<ValidationLine>,
    #[serde(flatten)]
    test: TestLine,
}

/// Validation loss and quality in a line.
#[derive(Clone, Debug, Serialize)]
pub struct ValidationLine {
    validation_loss: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    validation_accuracy: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    validation_r_squared: Option<f64>,
}

/// Test loss and quality in a line.
#[derive(Clone, Debug, Serialize)]
pub struct TestLine {
    test_loss: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    test_accuracy: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    test_r_squared: Option<f64>,
}

impl EpochLine {
    /// Line of an evaluated epoch.
    pub fn new(epoch: usize, train_loss: f64, validation: Option<&Evaluation>, test: &Evaluation) -> Self {
        Self { epoch, train_loss, validation: validation.map(ValidationLine::new), test: TestLine::new(test) }
    }
}

impl ValidationLine {
    /// The line of an evaluation.
    pub fn new(validation: &Evaluation) -> Self {
        Self {
            validation_loss: validation.loss,
            validation_accuracy: validation.accuracy(),
            validation_r_squared: validation.r_squared,
        }
    }
}

impl TestLine {
    /// The line of an evaluation.
    pub fn new(test: &Evaluation) -> Self {
        Self { test_loss: test.loss, test_accuracy: test.accuracy(), test_r_squared: test.r_squared }
    }
}

/// Writer of `metrics.jsonl`. A line that cannot be written stays pending.
pub struct Metrics {
    /// The open file.
    pub file: File,
    /// Number of bytes that are certainly in the file.
    pub written: u64,
    /// Bytes after them, not written yet.
    pub pending: Vec<u8>,
}

impl Metrics {
    /// Adds the line of an event in memory; most events have none.
    pub fn add(&mut self, event: Event<'_>) -> serde_json::Result<()> {
        match event {
            Event::Step { step, epoch, loss, learning_rate: lr, .. } => {
                self.add_line(&StepLine { step, epoch, loss, lr })
            }
            Event::EpochEvaluated { epoch, train_loss, validation, test } => {
                self.add_line(&EpochLine::new(epoch, train_loss, validation, test))
            }
            Event::EpochStarted { .. } | Event::EpochTrained { .. } | Event::Checkpoint { .. } => Ok(()),
        }
    }

    fn add_line(&mut self, line: &impl Serialize) -> serde_json::Result<()> {
        serde_json::to_writer(&mut self.pending, line)?;
        self.pending.push(b'\n');
        Ok(())
    }

    /// Writes the pending lines.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        // An earlier attempt may have written a part: this one writes over it.
        self.file.seek(SeekFrom::Start(self.written))?;
        self.file.write_all(&self.pending)?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }
}

/// Returns the end of the last whole line in the first `length` bytes.
pub fn whole_lines(file: &mut File, length: u64) -> io::Result<u64> {
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(METRICS_BUFFER as u64);
        let mut chunk = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        Read::by_ref(file).take(end - start).read_to_end(&mut chunk)?;
        if let Some(at) = chunk.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// A step as read from the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepPoint {
    /// Step, from 1.
    pub step: usize,
    /// Mean loss; NaN if it was not finite.
    pub loss: f64,
    /// Learning rate.
    pub learning_rate: f64,
}

/// An epoch as read from the file.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EpochPoint {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Last step.
    pub step: usize,
    /// Mean loss of the steps.
    pub train_loss: Option<f64>,
    /// Validation loss.
    pub validation_loss: Option<f64>,
    /// Validation accuracy or R².
    pub validation_quality: Option<f64>,
    /// Test loss.
    pub test_loss: Option<f64>,
    /// Test accuracy or R².
    pub test_quality: Option<f64>,
    /// True if the qualities are R².
    pub real_values: bool,
}

/// A line of a step or an epoch, to be read.
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

/// Content of `metrics.jsonl`.
#[derive(Debug, Default)]
pub struct History {
    /// Steps, in order.
    pub steps: Vec<StepPoint>,
    /// Epochs, in order.
    pub epochs: Vec<EpochPoint>,
    /// Numbers, from 1, of damaged lines, which are left out.
    pub damaged: Vec<usize>,
}

impl History {
    /// Reads a file. A last line without its end, as a run leaves it that is under way or was killed, does not count.
    pub fn read(path: &Path) -> Result<Self> {
        let mut input = BufReader::new(open(path)?);
        let mut history = Self::default();
        let mut text = Vec::new();
        // The last line of a step, and those of epochs after it: the next step shows if it is sound.
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
                // Of two steps in the wrong order, one number is damaged: the outlier.
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

    /// Prints a notice if lines are damaged.
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
                    real_values: line.test_accuracy.is_none(),
                }),
            }
        }
    }
}

/// Reads a line, or the first bytes of a line that is too long; returns false if its end is missing.
fn read_line(input: &mut impl BufRead, text: &mut Vec<u8>) -> io::Result<bool> {
    text.clear();
    input.take(MAX_LINE).read_until(b'\n', text)?;
    if text.len() as u64 == MAX_LINE && text.last() != Some(&b'\n') {
        input.skip_until(b'\n')?;
        return Ok(true);
    }
    Ok(text.last() == Some(&b'\n'))
}
