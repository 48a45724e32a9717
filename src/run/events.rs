//! Event files for TensorBoard: TFRecords of protobuf messages, as declared in `tensorflow/core/util/event.proto` and
//! `tensorflow/core/framework/summary.proto`; only the fields that scalars need are declared here.
//!
//! A resumed run writes a file of its own. First it withdraws the events of earlier files from the checkpoint's step
//! on, in TensorBoard's way (a session log with status START), and repeats that step from `metrics.jsonl`. So every
//! step is there exactly once, whenever the run was killed.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;
use softstep::backend::Evaluation;
use softstep::trainer;

use crate::run::metrics::{EpochPoint, History, METRICS, StepPoint};
use crate::terminal;

/// File name prefix by which TensorBoard recognises event files.
pub const PREFIX: &str = "events.out.tfevents.";

#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970-01-01.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    /// Status of the session; 1 is START.
    #[prost(int32, tag = "1")]
    status: i32,
}

/// The event file of a training run. If it cannot be written, the run continues without it: the numbers are also in
/// `metrics.jsonl`.
#[derive(Debug)]
pub struct Events {
    path: PathBuf,
    /// The open file; `None` after a write failed.
    file: Option<BufWriter<File>>,
    step: usize,
}

impl Events {
    /// Returns true if the folder has event files.
    pub fn exist(folder: &Path) -> bool {
        last_time(folder).is_some()
    }

    /// Creates an event file in the folder of a run that resumes after step `step`; 0 for a new run.
    pub fn create(folder: &Path, step: usize) -> Self {
        let earlier = last_time(folder);
        // TensorBoard reads the files in the order of their names.
        let time = (now() as u64).max(earlier.map_or(0, |time| time + 1));
        let path = folder.join(format!("{PREFIX}{time:010}.softstep"));
        let file = File::create_new(&path).map(BufWriter::new);
        let mut events = Self { path, file: None, step };
        match file {
            Ok(file) => events.file = Some(file),
            Err(error) => events.give_up(&error),
        }
        events.write(Event { file_version: Some("brain.Event:2".into()), ..Event::default() });
        if step > 0 {
            if earlier.is_some() {
                let start = SessionLog { status: 1 };
                events.write(Event { step: step as i64, session_log: Some(start), ..Event::default() });
            }
            events.repeat(folder, if earlier.is_some() { step } else { 0 });
        }
        events
    }

    /// Writes the events of `metrics.jsonl` from step `from` on.
    fn repeat(&mut self, folder: &Path, from: usize) {
        let history = match History::read(&folder.join(METRICS)) {
            Ok(history) => history,
            Err(error) => return terminal::notice(&format!("TensorBoard will lack earlier steps: {error:#}")),
        };
        let mut epochs = history.epochs.iter().filter(|point| point.step >= from).peekable();
        for point in history.steps.iter().filter(|point| point.step >= from) {
            self.step(*point);
            while let Some(epoch) = epochs.next_if(|epoch| epoch.step <= point.step) {
                self.epoch(epoch);
            }
        }
    }

    /// Writes an event of training.
    pub fn record(&mut self, event: trainer::Event<'_>) {
        match event {
            trainer::Event::Step { step, loss, learning_rate, .. } => {
                self.step(StepPoint { step, loss: loss.into(), learning_rate: learning_rate.into() });
            }
            trainer::Event::EpochEvaluated { epoch, train_loss, validation, test } => {
                let quality = |evaluation: &Evaluation| evaluation.accuracy().or(evaluation.r_squared);
                self.epoch(&EpochPoint {
                    epoch,
                    step: self.step,
                    train_loss: Some(train_loss),
                    validation_loss: validation.map(|evaluation| evaluation.loss),
                    validation_quality: validation.and_then(quality),
                    test_loss: Some(test.loss),
                    test_quality: quality(test),
                    real_values: test.accuracy().is_none(),
                });
            }
            // A killed run resumes from here, so everything before must be in the file.
            trainer::Event::Checkpoint { .. } => self.flush(),
            trainer::Event::EpochStarted { .. } | trainer::Event::EpochTrained { .. } => {}
        }
    }

    fn step(&mut self, StepPoint { step, loss, learning_rate }: StepPoint) {
        self.step = step;
        self.scalars(step, &[("train/loss", Some(loss)), ("train/learning_rate", Some(learning_rate))]);
    }

    fn epoch(&mut self, point: &EpochPoint) {
        let quality = if point.real_values {
            ["validation/r_squared", "test/r_squared"]
        } else {
            ["validation/accuracy", "test/accuracy"]
        };
        let scalars = [
            ("train/epoch_loss", point.train_loss),
            ("validation/loss", point.validation_loss),
            (quality[0], point.validation_quality),
            ("test/loss", point.test_loss),
            (quality[1], point.test_quality),
        ];
        self.scalars(point.step, &scalars);
    }

    fn scalars(&mut self, step: usize, scalars: &[(&str, Option<f64>)]) {
        let value =
            |&(tag, number): &(&str, Option<f64>)| Some(Value { tag: tag.into(), simple_value: Some(number? as f32) });
        let summary = Summary { value: scalars.iter().filter_map(value).collect() };
        self.write(Event { step: step as i64, summary: Some(summary), ..Event::default() });
    }

    fn write(&mut self, event: Event) {
        let message = Event { wall_time: now(), ..event }.encode_to_vec();
        let written = self.file.as_mut().map_or(Ok(()), |file| write_record(file, &message));
        if let Err(error) = written {
            self.give_up(&error);
        }
    }

    /// Flushes buffered events to the file.
    pub fn flush(&mut self) {
        if let Some(Err(error)) = self.file.as_mut().map(Write::flush) {
            self.give_up(&error);
        }
    }

    fn give_up(&mut self, error: &io::Error) {
        if let Some(file) = self.file.take() {
            // The buffer is discarded without another attempt to write it.
            let _ = file.into_parts();
        }
        terminal::notice(&format!("no more events for TensorBoard: cannot write {}: {error}", self.path.display()));
    }
}

/// Appends a TFRecord: length, checksum of the length, data, checksum of the data.
fn write_record(output: &mut impl Write, data: &[u8]) -> io::Result<()> {
    let length = (data.len() as u64).to_le_bytes();
    output.write_all(&length)?;
    output.write_all(&masked_checksum(&length).to_le_bytes())?;
    output.write_all(data)?;
    output.write_all(&masked_checksum(data).to_le_bytes())
}

/// The masked CRC-32C of TFRecords, which allows a record to contain records.
fn masked_checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Time in the name of the latest event file.
fn last_time(folder: &Path) -> Option<u64> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let time = |name: &str| name.strip_prefix(PREFIX)?.split('.').next()?.parse().ok();
    entries.filter_map(|entry| time(entry.file_name().to_str()?)).max()
}

/// Seconds since 1970-01-01.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}
