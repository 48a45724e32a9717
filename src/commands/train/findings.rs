//! Diagnosis of a finished run: one sentence for each problem, with the flag that fixes it.

use softstep::backend::Backend;
use softstep::data::{Data, Examples, Preprocessing, Targets};
use softstep::diagnosis::{DeadUnits, dead_units};
use softstep::optimizer::TrainingState;
use softstep::range_test::smaller_rate;
use softstep::trainer::{Summary, TrainingConfig};

use super::options::TrainArgs;
use crate::format::{count, counted, percent};
use crate::terminal;

/// Final losses above this many times the first loss count as a problem.
const FAR: f64 = 3.0;
/// Most classes that a message names.
const NAMED: usize = 5;

/// A finished run.
pub struct Ended<'a> {
    /// Options of the run.
    pub args: &'a TrainArgs,
    /// Settings of the run.
    pub config: &'a TrainingConfig,
    /// Data of the run, without the validation part.
    pub data: &'a Data,
    /// Result of the run.
    pub summary: &'a Summary,
    /// Loss of the first step; `None` for a resumed run.
    pub first_loss: Option<f64>,
}

impl Ended<'_> {
    /// Finds the problems of the run. A learning rate is suggested only after a trial on the backend that begins at `start`, the
    /// state before the first step.
    pub async fn findings<B: Backend>(&self, backend: &mut B, start: Option<&TrainingState>) -> Vec<String> {
        // If the device no longer yields its parameters, no problem is reported: the model is already saved.
        let parameters = backend.parameters().await.ok();
        let dead = parameters.map_or_else(Vec::new, |parameters| dead_units(&parameters, &self.data.train));
        let dead: Vec<DeadUnits> = dead.into_iter().filter(|layer| 2 * layer.dead >= layer.units).collect();
        let (far, guess) = (self.far_above_start(), self.no_better_than_guessing());
        let mut rate = None;
        let rate_is_to_blame =
            far.is_some() || !dead.is_empty() || (guess.is_some() && self.args.gives("learning_rate"));
        if let Some(start) = start.filter(|_| rate_is_to_blame) {
            rate = tried_rate(backend, self.config, self.data.train.len(), start).await;
        }
        let way_out = match rate {
            Some(rate) => rate_text(rate),
            None if self.args.gives("learning_rate") && !self.args.finds_rate() => "remove --lr".into(),
            None if self.config.hidden.is_empty() => {
                "try --hidden 64: a hidden layer learns more than straight lines".into()
            }
            None => "try a larger --weight-decay, or more examples".into(),
        };
        let mut findings = Vec::new();
        findings.extend(far.map(|text| format!("{text}: {way_out}")));
        findings.extend(guess.map(|text| format!("{text}: {way_out}")));
        findings.extend(self.never_predicted());
        findings.extend(dead.iter().map(|DeadUnits { layer, dead, units }| {
            let way_out = match rate {
                Some(rate) => format!("{}, or --activation gelu", rate_text(rate)),
                None => "--activation gelu".into(),
            };
            format!("{dead} of {units} units of hidden layer {layer} are dead, 0 for every training example: {way_out}")
        }));
        findings
    }

    fn far_above_start(&self) -> Option<String> {
        let first = self.first_loss?;
        let Summary { train_loss, ref test, .. } = *self.summary;
        let is_far = |loss: f64| loss.is_nan() || loss > FAR * first;
        let (what, loss) =
            [("training", train_loss), ("test", test.loss)].into_iter().find(|&(_, loss)| is_far(loss))?;
        Some(format!("the {what} loss ends at {loss:.4}, far above the {first:.4} of the first step"))
    }

    fn no_better_than_guessing(&self) -> Option<String> {
        let test = &self.summary.test;
        match (&*self.data.train.targets, &*self.data.test.targets) {
            (Targets::Classes(train), Targets::Classes(labels)) => {
                let class = most_frequent(train, self.data.train.outputs);
                let right = labels.iter().filter(|&&label| label as usize == class).count();
                let share = right as f64 / labels.len() as f64;
                let accuracy = test.accuracy()?;
                (test.correct <= right).then(|| {
                    format!(
                        "a test accuracy of {} is no better than always saying {}, the most frequent class, which is \
                         right for {}",
                        percent(accuracy),
                        self.name(class),
                        percent(share)
                    )
                })
            }
            _ => {
                let r_squared = test.r_squared.filter(|&r_squared| r_squared.is_nan() || r_squared <= 0.0)?;
                Some(format!("a test R² of {r_squared:.4} is no better than always saying the mean"))
            }
        }
    }

    fn never_predicted(&self) -> Option<String> {
        let test: &Examples = &self.data.test;
        let Targets::Classes(labels) = &*test.targets else { return None };
        let mut of_class = vec![0; test.outputs.max(self.data.train.outputs)];
        labels.iter().for_each(|&label| of_class[label as usize] += 1);
        let missing = self.data.train.missing_classes();
        for &class in self.summary.test.predictions.iter() {
            of_class[class as usize] = 0;
        }
        let never: Vec<(usize, usize)> = of_class
            .into_iter()
            .enumerate()
            .filter(|(class, examples)| *examples > 0 && !missing.contains(class))
            .collect();
        let examples: usize = never.iter().map(|(_, examples)| examples).sum();
        let names: Vec<String> = never.iter().take(NAMED).map(|&(class, _)| self.name(class)).collect();
        let classes = match never.len() {
            0 => return None,
            1 => format!("class {} is", names[0]),
            2..=NAMED => format!("classes {} are", names.join(", ")),
            all => format!("classes {} and {} more are", names.join(", "), count(all - NAMED)),
        };
        let of = if examples == 1 { "is" } else { "are" };
        let balanced = if self.config.class_weights.is_some() { "more examples" } else { "--class-weights balanced" };
        Some(format!("{classes} never predicted, though {} {of} of it: {balanced}", counted(examples, "test example")))
    }

    fn name(&self, class: usize) -> String {
        let names = self.data.preprocessing.as_ref().and_then(Preprocessing::class_names);
        names.and_then(|names| names.get(class)).map_or_else(|| class.to_string(), |name| terminal::printable(name))
    }
}

fn most_frequent(labels: &[u32], classes: usize) -> usize {
    let mut counts = vec![0; classes];
    labels.iter().for_each(|&label| counts[label as usize] += 1);
    // The first of several equally frequent classes.
    (0..classes).rev().max_by_key(|&class| counts[class]).unwrap_or_default()
}

/// Finds a smaller learning rate that reduces the loss from `start`, the state before the first step; `None` if there is none,
/// or if the device fails.
pub async fn tried_rate<B: Backend>(
    backend: &mut B,
    config: &TrainingConfig,
    examples: usize,
    start: &TrainingState,
) -> Option<f32> {
    let mut late = Vec::new();
    backend.flush(&mut late).await.ok()?;
    backend.restore(start).ok()?;
    smaller_rate(backend, config, examples).await.ok().flatten()
}

/// Formats the flag for a learning rate that was tried.
pub fn rate_text(rate: f32) -> String {
    format!("--lr {rate:?}, which was tried for 100 steps")
}
