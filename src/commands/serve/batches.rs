//! Batches: what arrives while the model computes is computed together.

use anyhow::Result;
use softstep::any_backend::{AnyModel, Device};
use softstep::backend::Inference;
use softstep::data::Features;
use tokio::sync::{mpsc, oneshot};

use super::metrics::Metrics;
use crate::commands::predict;
use crate::run::model::Model;
use crate::terminal;

/// Most examples of a batch to which another request is added.
const MOST_EXAMPLES: usize = 4096;

/// Examples of a request.
pub struct Job {
    /// `[examples, features]`, row-major.
    pub features: Features,
    /// Takes the model's outputs, `[examples, outputs]`, or the reason why there are none.
    pub answer: oneshot::Sender<Result<Vec<f32>, String>>,
}

/// Computes jobs, batch by batch, until nobody sends any more. After an error of the device the next batch opens it again.
pub fn run(
    mut jobs: mpsc::Receiver<Job>,
    model: &Model,
    backend: AnyModel,
    open: impl Fn() -> Result<Device>,
    metrics: &Metrics,
) {
    let width = model.parameters.features();
    let mut backend = Some(backend);
    while let Some(first) = jobs.blocking_recv() {
        let mut examples = first.features.len() / width;
        let mut batch = vec![first];
        while examples < MOST_EXAMPLES
            && let Ok(next) = jobs.try_recv()
        {
            examples += next.features.len() / width;
            batch.push(next);
        }
        // Whoever has gone away in the meantime needs no answer.
        batch.retain(|job| !job.answer.is_closed());
        if batch.is_empty() {
            continue;
        }
        let (parts, answers): (Vec<Features>, Vec<_>) = batch.into_iter().map(|job| (job.features, job.answer)).unzip();
        let counts: Vec<usize> = parts.iter().map(|part| part.len() / width).collect();
        let computed = computed(&mut backend, joined(parts), model, &open);
        metrics.batch(counts.iter().sum(), computed.is_ok());
        match computed {
            Ok(outputs) => {
                let outputs_of_one = outputs.len() / counts.iter().sum::<usize>();
                let mut rest = &outputs[..];
                for (answer, count) in answers.into_iter().zip(counts) {
                    let (own, others) = rest.split_at(count * outputs_of_one);
                    rest = others;
                    let _ = answer.send(Ok(own.to_vec()));
                }
            }
            Err(error) => {
                terminal::error(&error);
                backend = None;
                for answer in answers {
                    let _ = answer.send(Err(error.to_string()));
                }
            }
        }
    }
}

/// Computes the outputs for these features; opens the device if there is no backend.
fn computed(
    backend: &mut Option<AnyModel>,
    features: Features,
    model: &Model,
    open: impl Fn() -> Result<Device>,
) -> Result<Vec<f32>> {
    let backend = match backend {
        Some(backend) => backend,
        None => {
            let device = open()?;
            backend.insert(pollster::block_on(device.for_inference(&model.parameters, model.loss))?)
        }
    };
    let examples = predict::examples(features, model)?;
    let set = backend.upload(&examples)?;
    Ok(pollster::block_on(backend.probabilities(&set))?)
}

/// Joins the features of several requests. A model reads either bytes or numbers.
fn joined(parts: Vec<Features>) -> Features {
    let (mut bytes, mut floats) = (Vec::new(), Vec::new());
    for part in parts {
        match part.into_memory() {
            // The first part is kept as it is: most batches have no other.
            Features::Bytes(part) if bytes.is_empty() => bytes = part,
            Features::Floats(part) if floats.is_empty() => floats = part,
            Features::Bytes(part) => bytes.extend(part),
            Features::Floats(part) => floats.extend(part),
            // A body is in memory.
            Features::Stored(_) => {}
        }
    }
    if bytes.is_empty() { Features::Floats(floats) } else { Features::Bytes(bytes) }
}
