//! Default optimizer, learning rate, weight decay and epochs, chosen from the training data, the loss and the model's
//! size. `benches/defaults.py` measures the rule on real tables.

use crate::data::{Examples, Targets};
use crate::loss::{Link, Loss};
use crate::model::{Architecture, Layer};
use crate::optimizer::{AdamW, Optimizer, Schedule, Sgd};
use crate::plan::Plan;

/// Largest default learning rate of SGD.
const SGD_RATE: f64 = 0.15;
/// Default learning rate of SGD times the mean squared norm of an example, for the cross-entropies.
const CROSS_ENTROPY_STEP: f64 = 13.5;
/// Default learning rate of SGD times the squared norm of the mean example. Bright pictures differ little from their
/// mean, and a step along the mean pushes every hidden unit to the same side.
const MEAN_STEP: f64 = 6.0;
/// Default learning rate of SGD times the mean squared norm of an example, for mean squared error, per output. The
/// curvature of this loss does not flatten as that of softmax does.
const SQUARED_ERROR_STEP: f64 = 0.5;
/// Number of examples per parameter below which a model overfits without strong regularisation.
const FEW: f64 = 1.6;
/// Largest default learning rate of a convolutional network, at the peak of its cycle.
const CONVOLUTION_RATE: f64 = 0.1;
/// Mean square of a pixel, in 0..1, up to which that rate is used; the rate falls as the mean square grows beyond it.
const CONVOLUTION_SQUARE: f64 = 0.15;
/// Default weight decay of a convolutional network.
const CONVOLUTION_DECAY: f32 = 0.0005;
/// Number of training steps for small data.
const STEPS: usize = 1500;
/// Largest factor by which SGD takes more steps at a lower rate than [`SGD_RATE`].
const MORE_STEPS: f64 = 4.0;
/// Settings of AdamW for numbers, from strong to weak regularisation: learning rate, weight decay and steps.
const REGULARISATIONS: [(f64, f32, usize); 3] = [(0.003, 1.0, STEPS), (0.01, 0.1, 2 * STEPS), (0.03, 0.01, 2 * STEPS)];
/// Numbers of examples between which cross-validation compares settings: of fewer it could tell little, and with more the
/// regularisation matters little.
pub const COMPARED: std::ops::RangeInclusive<usize> = 100..=20_000;
/// Largest work of a run that cross-validation repeats: parameters times examples of all epochs. A core does it in a second.
const COMPARED_WORK: f64 = 2e9;
/// Number of examples that norms and means are computed from; a regular sample of larger data.
const SAMPLE: usize = 4096;

/// Settings of a run that the defaults depend on.
#[derive(Clone, Copy, Debug)]
pub struct Outline<'a> {
    /// The loss.
    pub loss: Loss,
    /// Architecture of the model.
    pub architecture: &'a Architecture,
    /// Examples per step.
    pub batch_size: usize,
    /// The optimizer, if it is already chosen; its settings are ignored.
    pub optimizer: Option<Optimizer>,
}

/// Defaults for one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Defaults {
    /// The optimizer with its settings.
    pub optimizer: Optimizer,
    /// Base learning rate of the schedule.
    pub learning_rate: f32,
    /// Schedule of the learning rate over the run.
    pub schedule: Schedule,
    /// Passes over the training examples.
    pub epochs: usize,
    /// Reason for the choice, as half a sentence that follows "as".
    pub reason: String,
}

impl Defaults {
    /// Defaults for unknown data: those for dark pictures such as MNIST's, for one epoch.
    pub fn without_data(optimizer: Option<Optimizer>) -> Self {
        let optimizer = match optimizer {
            Some(Optimizer::Sgd(_)) | None => sgd(),
            Some(optimizer) => optimizer,
        };
        let learning_rate = optimizer.learning_rate();
        Self { optimizer, learning_rate, schedule: Schedule::Cosine, epochs: 1, reason: String::new() }
    }

    /// Defaults for these training examples.
    ///
    /// Bytes, which are pixels, are trained by SGD at a learning rate that falls with the squared norms of an example
    /// and of the mean example, for up to four times the steps at lower rates; so are real targets much larger than 1,
    /// which AdamW would take long to reach. Convolutional networks get a one-cycle schedule and some weight decay. Other numbers are trained
    /// by AdamW, with a strong weight decay if there are few examples per parameter; cross-validation may prefer one of
    /// the [`alternatives`](Self::alternatives). Early stopping on a held-out part did no better on tables of any size.
    pub fn new(examples: &Examples, outline: &Outline<'_>) -> Self {
        let pictures = examples.inputs.is_bytes();
        let likely = if pictures || !targets_are_standardised(examples) { sgd() } else { AdamW::default().into() };
        let kind = outline.optimizer.unwrap_or(likely);
        let moments = Moments::of(examples);
        let epochs = |steps| epochs_of(steps, examples.len(), outline.batch_size);
        let schedule = Schedule::Cosine;
        match kind {
            Optimizer::Sgd(_) if pictures && is_convolutional(outline.architecture) => {
                let mean_square = moments.squared_norm / examples.features as f64;
                let learning_rate = two_digits(CONVOLUTION_RATE * (CONVOLUTION_SQUARE / mean_square).min(1.0));
                let optimizer = Sgd { momentum: 0.9, nesterov: true, weight_decay: CONVOLUTION_DECAY }.into();
                let steps_per_epoch = examples.len().div_ceil(outline.batch_size.max(1)).max(1);
                let epochs = STEPS.div_ceil(steps_per_epoch).max(5);
                let reason =
                    format!("the model has convolutions, and the mean square of a pixel is {}", shown(mean_square));
                Self { optimizer, learning_rate, schedule: Schedule::OneCycle, epochs, reason }
            }
            Optimizer::Sgd(_) => {
                let outputs = outline.loss.outputs(examples).unwrap_or(examples.outputs);
                let step = match outline.loss.link() {
                    Link::Softmax | Link::Sigmoid => CROSS_ENTROPY_STEP,
                    Link::Identity => SQUARED_ERROR_STEP * outputs as f64,
                };
                let rate = (step / moments.squared_norm).min(MEAN_STEP / moments.norm_of_mean).min(SGD_RATE);
                let reason = format!(
                    "the mean squared norm of an example is {}, and that of their mean {}",
                    shown(moments.squared_norm),
                    shown(moments.norm_of_mean)
                );
                let steps = STEPS as f64 * (SGD_RATE / rate).min(MORE_STEPS);
                Self {
                    optimizer: sgd(),
                    learning_rate: two_digits(rate),
                    schedule,
                    epochs: epochs(steps as usize),
                    reason,
                }
            }
            Optimizer::AdamW(_) if pictures => {
                let reason = "the features are pixels".into();
                Self { epochs: epochs(STEPS), reason, ..Self::without_data(outline.optimizer.or(Some(kind))) }
            }
            Optimizer::AdamW(_) => {
                let few = (examples.len() as f64) < FEW * parameters(outline.architecture);
                Self::of_numbers(examples, outline, &moments, REGULARISATIONS[usize::from(!few)])
            }
            optimizer => {
                let reason = format!("that is the usual rate of {}", optimizer.name());
                Self { epochs: epochs(STEPS), reason, ..Self::without_data(Some(optimizer)) }
            }
        }
    }

    /// Defaults for tables of numbers: AdamW with this learning rate, weight decay and number of steps.
    fn of_numbers(
        examples: &Examples,
        outline: &Outline<'_>,
        moments: &Moments,
        (rate, weight_decay, steps): (f64, f32, usize),
    ) -> Self {
        // One step of AdamW moves every weight by the learning rate, and so the pre-activations of a layer by the rate
        // times the features that are always present.
        let rate = f64::min(rate, 1.0 / moments.means);
        let reason = format!(
            "the features are numbers, with {} training examples for the model's {} parameters",
            examples.len(),
            parameters(outline.architecture)
        );
        Self {
            optimizer: AdamW { weight_decay, ..AdamW::default() }.into(),
            learning_rate: two_digits(rate),
            schedule: Schedule::Cosine,
            epochs: epochs_of(steps, examples.len(), outline.batch_size),
            reason,
        }
    }

    /// Returns defaults that may do better than these, which [`new`](Self::new) has chosen for the examples: other strengths
    /// of regularisation, for [`cross_validation`](crate::cross_validation) to compare. How much a table's noise has to be
    /// smoothed is not seen from its size alone: where rows repeat each other, memorising them wins.
    ///
    /// Returns none for pictures and other optimizers, and where comparing would tell little or take long.
    pub fn alternatives(&self, examples: &Examples, outline: &Outline<'_>) -> Vec<Self> {
        let is_small = COMPARED.contains(&examples.len());
        if !matches!(self.optimizer, Optimizer::AdamW(_)) || examples.inputs.is_bytes() || !is_small {
            return Vec::new();
        }
        let moments = Moments::of(examples);
        let all = REGULARISATIONS.map(|settings| Self::of_numbers(examples, outline, &moments, settings));
        let work = |of: &Self| parameters(outline.architecture) * (examples.len() * of.epochs) as f64;
        if all.iter().any(|of| work(of) > COMPARED_WORK) {
            return Vec::new();
        }
        all.into_iter().filter(|other| other.optimizer != self.optimizer).collect()
    }
}

fn sgd() -> Optimizer {
    Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 }.into()
}

/// Returns true unless the targets are real values whose root mean square is above 3.
fn targets_are_standardised(examples: &Examples) -> bool {
    match &*examples.targets {
        Targets::Classes(_) => true,
        Targets::Values(values) => {
            let count = values.len() as f64;
            values.iter().map(|&value| f64::from(value).powi(2) / count).sum::<f64>() <= 9.0
        }
    }
}

/// Number of epochs for about `steps` steps, at least 10.
pub fn epochs_of(steps: usize, examples: usize, batch_size: usize) -> usize {
    let steps_per_epoch = examples.div_ceil(batch_size.max(1)).max(1);
    steps.div_ceil(steps_per_epoch).max(10)
}

/// Number of weights and biases of the model; as a float, it does not overflow.
fn parameters(architecture: &Architecture) -> f64 {
    let shapes = Plan::new(architecture).nodes.into_iter().filter_map(|node| node.weights_shape());
    shapes.map(|[inputs, outputs]| (inputs as f64 + 1.0) * outputs as f64).sum()
}

fn is_convolutional(architecture: &Architecture) -> bool {
    architecture.layers().iter().any(|layer| matches!(layer, Layer::Conv2d { .. }))
}

/// Two significant digits, for people.
fn shown(number: f64) -> String {
    let rounded = two_digits(number);
    if rounded < 1e-3 { format!("{rounded:e}") } else { rounded.to_string() }
}

/// Rounds a positive number to two significant digits.
fn two_digits(number: f64) -> f32 {
    format!("{number:.1e}").parse().unwrap_or(number as f32)
}

/// Statistics of the size of the features.
struct Moments {
    /// Mean squared norm of an example; above 0.
    squared_norm: f64,
    /// Squared norm of the mean example; above 0.
    norm_of_mean: f64,
    /// Sum of the absolute means of the features; above 0.
    means: f64,
}

impl Moments {
    fn of(examples: &Examples) -> Self {
        let every = examples.len().div_ceil(SAMPLE);
        let rows = examples.len().div_ceil(every) as f64;
        let mut sums = vec![0.0; examples.features];
        let mut squares = 0.0;
        for example in (0..examples.len()).step_by(every) {
            for (sum, value) in sums.iter_mut().zip(examples.input(example)) {
                *sum += value / rows;
                squares += value * value / rows;
            }
        }
        let means: f64 = sums.iter().map(|sum: &f64| sum.abs()).sum();
        let norm_of_mean: f64 = sums.iter().map(|sum| sum * sum).sum();
        let norm_of_mean = norm_of_mean.clamp(1e-30, 1e30);
        Self { norm_of_mean, squared_norm: squares.clamp(1e-30, 1e30), means: means.clamp(1e-30, 1e30) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::digits;
    use crate::model::{Activation, Preset, Shape};

    /// The defaults for a stack of linear layers with these hidden sizes.
    fn chosen(examples: &Examples, hidden: &[usize], loss: Loss, optimizer: Option<Optimizer>) -> Defaults {
        let outputs = loss.outputs(examples).unwrap();
        let sizes = [&[examples.features], hidden, &[outputs]].concat();
        let architecture = Architecture::dense(&sizes, Activation::Relu).unwrap();
        Defaults::new(examples, &Outline { loss, architecture: &architecture, batch_size: 64, optimizer })
    }

    const CLASSES: Loss = Loss::CrossEntropy;
    const SQUARES: Loss = Loss::MeanSquaredError;

    /// Examples of features that are `mean` plus or minus 1.
    fn numbers(examples: usize, features: usize, mean: f32) -> Examples {
        let sign = |at: usize| if (at / features + at % features).is_multiple_of(2) { 1.0 } else { -1.0 };
        let values: Vec<f32> = (0..examples * features).map(|at| mean + sign(at)).collect();
        let targets: Vec<f32> = (0..examples).map(|at| (at % 3) as f32 - 1.0).collect();
        Examples::new(values, targets, features, 1).unwrap()
    }

    fn adamw(weight_decay: f32) -> Optimizer {
        AdamW { weight_decay, ..AdamW::default() }.into()
    }

    #[test]
    fn dark_pictures_keep_the_settings_that_they_always_had() {
        for hidden in [&[][..], &[128], &[512, 512]] {
            let chosen = chosen(&digits().unwrap().train, hidden, CLASSES, None);
            assert_eq!((chosen.optimizer, chosen.learning_rate, chosen.epochs), (sgd(), 0.15, 66));
            assert_eq!(chosen.schedule, Schedule::Cosine);
        }
    }

    #[test]
    fn the_rate_of_sgd_falls_with_the_squared_norm_of_an_example() {
        // For white pictures with 32 x 32 x 3 bytes the squared norm is 3072.
        let white = Examples::new(vec![255u8; 3072 * 10], vec![0u32, 1, 0, 1, 0, 1, 0, 1, 0, 1], 3072, 2).unwrap();
        let slow = chosen(&white, &[64], CLASSES, None);
        assert_eq!((slow.optimizer, slow.learning_rate, slow.epochs), (sgd(), 0.002, 6000));
        assert!(slow.reason.contains("3100"), "{}", slow.reason);
        // Squared errors want a smaller one, and so do numbers if SGD is asked for.
        let squared = |examples: &Examples| chosen(examples, &[64], SQUARES, Some(sgd())).learning_rate;
        assert_eq!(squared(&white), 0.00033); // of two outputs
        assert_eq!(squared(&numbers(500, 10, 0.0)), 0.05);
        let black = Examples::new(vec![0u8; 20], vec![0u32, 1], 10, 2).unwrap();
        assert_eq!(chosen(&black, &[64], CLASSES, None).learning_rate, 0.15);
    }

    #[test]
    fn numbers_are_decayed_strongly_where_they_are_few_for_the_model() {
        let chosen = |examples: &Examples, hidden: &[usize]| chosen(examples, hidden, SQUARES, None);
        // 10 features and 64 units make 769 parameters, and 1.6 times as many are 1,230.4.
        let few = chosen(&numbers(1230, 10, 0.0), &[64]);
        assert_eq!((few.optimizer, few.learning_rate, few.epochs), (adamw(1.0), 0.003, 75));
        let many = chosen(&numbers(1231, 10, 0.0), &[64]);
        assert_eq!((many.optimizer, many.learning_rate, many.epochs), (adamw(0.1), 0.01, 150));
        assert!(many.reason.contains("1231 training examples for the model's 769 parameters"), "{}", many.reason);
        let line = chosen(&numbers(300, 10, 0.0), &[]);
        assert_eq!(line.optimizer, adamw(0.1));
    }

    #[test]
    fn other_regularisations_are_compared_where_that_is_soon_done() {
        let count = |examples: &Examples, hidden: &[usize], batch_size: usize| {
            let architecture =
                Architecture::dense(&[&[examples.features], hidden, &[1]].concat(), Activation::Relu).unwrap();
            let outline = Outline { loss: SQUARES, architecture: &architecture, batch_size, optimizer: None };
            let defaults = Defaults::new(examples, &outline);
            let others = defaults.alternatives(examples, &outline);
            assert!(others.iter().all(|other| other.optimizer != defaults.optimizer));
            others.len()
        };
        assert_eq!(count(&numbers(100, 10, 0.0), &[64], 64), 2);
        assert_eq!(count(&numbers(99, 10, 0.0), &[64], 64), 0);
        assert_eq!(count(&numbers(20_000, 1, 0.0), &[], 64), 2);
        assert_eq!(count(&numbers(20_001, 1, 0.0), &[], 64), 0);
        // 3,000 steps of 64 examples with 769 parameters, and of 1,024 with 3,073 parameters.
        assert_eq!(count(&numbers(2400, 10, 0.0), &[64], 64), 2);
        assert_eq!(count(&numbers(2400, 10, 0.0), &[256], 1024), 0);
        assert_eq!(count(&digits().unwrap().train, &[], 64), 0);
    }

    #[test]
    fn features_far_from_zero_get_a_rate_that_does_not_throw_every_unit_to_one_side() {
        let chosen = |examples: &Examples, hidden: &[usize]| chosen(examples, hidden, SQUARES, None);
        assert_eq!(chosen(&numbers(1300, 10, 255.0), &[64]).learning_rate, 0.00039);
        assert_eq!(chosen(&numbers(1300, 10, 5.0), &[64]).learning_rate, 0.01);
        assert_eq!(chosen(&numbers(100, 10, 1e30), &[64]).learning_rate, 1e-30);
    }

    #[test]
    fn an_optimizer_that_is_asked_for_gets_its_own_rate() {
        let adamw = Some(AdamW::default().into());
        let chosen = chosen(&digits().unwrap().train, &[64], CLASSES, adamw);
        assert_eq!((chosen.optimizer, chosen.learning_rate), (AdamW::default().into(), 0.001));
        assert_eq!(Defaults::without_data(adamw).learning_rate, 0.001);
        assert_eq!(Defaults::without_data(None).learning_rate, 0.15);
    }

    #[test]
    fn targets_in_units_of_their_own_are_learned_by_sgd_which_follows_their_size() {
        let targets: Vec<f32> = (0..500).map(|at| 1000.0 * (at % 3) as f32).collect();
        let examples = Examples { targets: Targets::Values(targets).into(), ..numbers(500, 10, 0.0) };
        let chosen = chosen(&examples, &[], SQUARES, None);
        assert_eq!((chosen.optimizer, chosen.learning_rate), (sgd(), 0.05));
    }

    #[test]
    fn convolutions_get_one_cycle_that_peaks_lower_on_bright_pictures() {
        let image = Shape::Image { height: 8, width: 8, channels: 1 };
        let layers = Preset::Cnn.layers(image).unwrap().into_iter().chain([Layer::Linear { outputs: 2 }]);
        let architecture = Architecture::new(image, layers).unwrap();
        let of = |byte: u8, count: usize| {
            let labels = (0..count as u32).map(|label| label % 2).collect::<Vec<_>>();
            let examples = Examples::new(vec![byte; 64 * count], labels, 64, 2).unwrap();
            let outline = Outline { loss: CLASSES, architecture: &architecture, batch_size: 64, optimizer: None };
            Defaults::new(&examples, &outline)
        };
        let dark = of(80, 64_000);
        assert_eq!((dark.learning_rate, dark.schedule, dark.epochs), (0.1, Schedule::OneCycle, 5));
        assert_eq!(dark.optimizer, Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.0005 }.into());
        let bright = of(255, 64);
        assert_eq!((bright.learning_rate, bright.epochs), (0.015, 1500));
    }

    #[test]
    fn small_data_gets_more_epochs() {
        assert_eq!(epochs_of(1500, 60_000, 64), 10);
        assert_eq!(epochs_of(1500, 1_438, 64), 66); // of 23 steps
        assert_eq!(epochs_of(1500, 1, 64), 1500);
    }
}
