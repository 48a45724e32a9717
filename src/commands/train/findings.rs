//! Diagnosis of a finished run: one sentence for each problem, with the flag that fixes it.

use softstep::backend::Backend;
use softstep::data::{Data, Examples, Preprocessing, Targets, TestPart};
use softstep::diagnosis::{DeadUnits, dead_units};
use softstep::optimizer::TrainingState;
use softstep::range_test::smaller_rate;
use softstep::trainer::{Summary, TrainingConfig};

use super::options::TrainArgs;
use crate::format::{count, counted, figure, percent, significant};
use crate::quality::most_frequent;
use crate::terminal;

/// Final losses above this many times the first loss count as a problem.
const FAR: f64 = 3.0;
/// Features of this size are too large to train on as they are.
const LARGE: f64 = 1e6;
/// Test examples below which a comparison with guessing may be chance.
const FEW_TESTS: usize = 20;
/// Epochs below which a run may simply be too short.
const FEW_EPOCHS: usize = 5;
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
            None if self.config.hidden.is_empty() && self.config.layers.is_none() => {
                "try --hidden 64: a hidden layer learns more than straight lines".into()
            }
            // The defaults have compared the weight decays that suit such data.
            None if self.args.is_searched() => "try other features, or more examples".into(),
            None => "try a larger --weight-decay, or more examples".into(),
        };
        let tests_are_few = self.data.test.len() < FEW_TESTS;
        let guess_way_out = match () {
            () if tests_are_few && self.has_a_share_of_its_own_data() => {
                "--folds 5 tests with every example once".into()
            }
            () if tests_are_few => "more test examples tell".into(),
            () if is_constant(&self.data.train) => {
                "every feature has one value in all training examples: add others".into()
            }
            () if rate.is_none() && self.config.epochs < FEW_EPOCHS => format!("{way_out}, or more --epochs"),
            () => way_out.clone(),
        };
        let mut findings = Vec::new();
        findings.extend(far.map(|text| format!("{text}: {way_out}")));
        findings.extend(guess.map(|text| format!("{text}: {guess_way_out}")));
        findings.extend(self.never_predicted());
        findings.extend(dead.iter().map(|DeadUnits { layer, dead, units, convolution }| {
            let way_out = match rate {
                Some(rate) => format!("{}, or --activation gelu", rate_text(rate)),
                None => "--activation gelu".into(),
            };
            let units = if *convolution {
                format!("{dead} of {units} channels of convolution {layer}")
            } else {
                format!("{dead} of {units} units of hidden layer {layer}")
            };
            format!("{units} are dead, 0 for every training example: {way_out}")
        }));
        findings
    }

    /// Returns true if the test part is a share of the examples, which another one may take the place of.
    fn has_a_share_of_its_own_data(&self) -> bool {
        let preprocessing = self.data.preprocessing.as_ref();
        preprocessing.is_some_and(|preprocessing| matches!(preprocessing.test(), TestPart::Share(_)))
    }

    fn far_above_start(&self) -> Option<String> {
        let first = self.first_loss?;
        let Summary { train_loss, ref test, .. } = *self.summary;
        let is_far = |loss: f64| loss.is_nan() || loss > FAR * first;
        let (what, loss) =
            [("training", train_loss), ("test", test.loss)].into_iter().find(|&(_, loss)| is_far(loss))?;
        Some(format!("the {what} loss ends at {}, far above the {} of the first step", figure(loss), figure(first)))
    }

    fn no_better_than_guessing(&self) -> Option<String> {
        let test = &self.summary.test;
        let tests = self.data.test.len();
        let few = match tests {
            FEW_TESTS.. => String::new(),
            _ => format!(", which may be chance with {}", counted(tests, "test example")),
        };
        match &*self.data.test.targets {
            Targets::Classes(labels) => {
                let (class, share) = most_frequent(self.data)?;
                let right = labels.iter().filter(|&&label| label as usize == class).count();
                let accuracy = test.accuracy()?;
                (test.correct <= right && test.correct < labels.len()).then(|| {
                    format!(
                        "a test accuracy of {} is no better than always saying {}, the most frequent class of the test \
                         part, which is right for {}{few}",
                        percent(accuracy),
                        self.name(class),
                        percent(share)
                    )
                })
            }
            Targets::Values(_) => {
                let r_squared = test.r_squared.filter(|&r_squared| r_squared.is_nan() || r_squared <= 0.0)?;
                Some(format!("a test R² of {} is no better than always saying the mean{few}", figure(r_squared)))
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
        let them = if never.len() == 1 { "it" } else { "them" };
        let balanced = if self.config.class_weights.is_some() { "more examples" } else { "--class-weights balanced" };
        Some(format!(
            "{classes} never predicted, though {} {of} of {them}: {balanced}",
            counted(examples, "test example")
        ))
    }

    fn name(&self, class: usize) -> String {
        let names = self.data.preprocessing.as_ref().and_then(Preprocessing::class_names);
        names.and_then(|names| names.get(class)).map_or_else(|| class.to_string(), |name| terminal::printable(name))
    }
}

/// Says how large the features are, if they are too large for any learning rate.
pub fn large_features(examples: &Examples) -> Option<String> {
    let largest = (0..examples.len()).flat_map(|example| examples.input(example)).map(f64::abs).fold(0.0, f64::max);
    (largest >= LARGE).then(|| {
        let largest = significant(largest, 2);
        format!("the features reach {largest}: standardise each, to a mean of 0 and a standard deviation of 1")
    })
}

/// Returns true if no feature differs between the examples.
fn is_constant(examples: &Examples) -> bool {
    if examples.is_empty() {
        return false;
    }
    let first: Vec<f64> = examples.input(0).collect();
    (1..examples.len()).all(|example| examples.input(example).eq(first.iter().copied()))
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

#[cfg(test)]
mod tests {
    use softstep::backend::Evaluation;

    use super::*;

    /// Looks at a run that predicts these classes of its test part.
    fn ended<T>(train: Examples, test: Examples, predictions: Vec<u32>, look: impl FnOnce(&Ended<'_>) -> T) -> T {
        let (args, config) = (TrainArgs::parse([]).unwrap(), TrainingConfig::default());
        let labels = test.labels().unwrap();
        let correct = labels.iter().zip(&predictions).filter(|(label, predicted)| label == predicted).count();
        let data = Data::of_parts("data", train, test);
        let test = Evaluation { loss: 1.0, correct, predictions, r_squared: None, squared_error: None };
        let summary = Summary { epochs: 1, steps: 1, train_loss: 1.0, best: None, validation: None, test };
        look(&Ended { args: &args, config: &config, data: &data, summary: &summary, first_loss: None })
    }

    /// The finding about a run that predicts one class for all its test examples, which are of class 1.
    fn found(tests: usize, predicted: u32) -> Option<String> {
        let examples = |count: usize| {
            Examples::new((0..count).map(|value| value as f32).collect::<Vec<_>>(), vec![1; count], 1, 3).unwrap()
        };
        ended(examples(40), examples(tests), vec![predicted; tests], |ended| ended.no_better_than_guessing())
    }

    #[test]
    fn a_run_no_better_than_guessing_is_told_and_that_few_examples_may_be_chance() {
        let guess = found(20, 0).unwrap();
        assert!(
            guess.ends_with("always saying 1, the most frequent class of the test part, which is right for 100.00 %"),
            "{guess}"
        );
        let few = found(19, 0).unwrap();
        assert!(few.ends_with("100.00 %, which may be chance with 19 test examples"), "{few}");
        assert_eq!(found(20, 1), None);
    }

    #[test]
    fn classes_that_are_never_predicted_are_told_in_the_right_number() {
        let text = |of_test: &[u32]| {
            let data = |labels: &[u32]| {
                let inputs: Vec<f32> = labels.iter().map(|&label| label as f32).collect();
                Examples::new(inputs, labels.to_vec(), 1, 3).unwrap()
            };
            ended(data(&[0, 1, 2]), data(of_test), vec![0; of_test.len()], |ended| ended.never_predicted()).unwrap()
        };
        assert!(text(&[0, 1]).starts_with("class 1 is never predicted, though 1 test example is of it: "));
        assert!(text(&[0, 1, 1]).starts_with("class 1 is never predicted, though 2 test examples are of it: "));
        assert!(text(&[0, 1, 2]).starts_with("classes 1, 2 are never predicted, though 2 test examples are of them: "));
    }

    #[test]
    fn features_that_are_constant_or_large_are_told() {
        let examples = |values: [f32; 4]| Examples::new(values.to_vec(), vec![0u32, 1], 2, 2).unwrap();
        assert!(is_constant(&examples([1.0, 2.0, 1.0, 2.0])) && !is_constant(&examples([1.0, 2.0, 1.0, 3.0])));
        assert_eq!(large_features(&examples([1.0, 2.0, -1e5, 0.0])), None);
        let text = large_features(&examples([1.0, 2.0, -1e30, 0.0])).unwrap();
        assert!(text.starts_with("the features reach 1.0e30: standardise each"), "{text}");
    }
}
