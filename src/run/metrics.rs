//! `metrics.jsonl`: a line for every step and every epoch.

use serde::Serialize;
use softstep::backend::Evaluation;

/// One step's line in `metrics.jsonl`; a loss that is not finite is null.
#[derive(Serialize)]
pub struct StepLine {
    pub step: usize,
    pub epoch: usize,
    pub loss: f32,
    pub lr: f32,
}

/// One epoch's line in `metrics.jsonl` and, as the event `epoch`, on standard output.
#[derive(Clone, Debug, Serialize)]
pub struct EpochLine {
    pub epoch: usize,
    train_loss: f64,
    #[serde(flatten)]
    validation: Option<ValidationLine>,
    #[serde(flatten)]
    test: TestLine,
}

#[derive(Clone, Debug, Serialize)]
pub struct ValidationLine {
    validation_loss: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    validation_accuracy: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    validation_r_squared: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct TestLine {
    test_loss: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    test_accuracy: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    test_r_squared: Option<f64>,
}

impl EpochLine {
    /// The line of an evaluated epoch.
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
