//! The CPU backend against the f64 oracle.

use crate::oracle::{
    self, Model, assert_close, assert_parameters_close, random_dense, random_examples, random_parameters,
};
use pollster::block_on;
use softstep::backend::{Backend, Inference, Step, Training};
use softstep::cpu::{CpuBackend, CpuModel};
use softstep::data::Examples;
use softstep::loss::Loss;
use softstep::model::{Activation, Architecture, Parameters};
use softstep::optimizer::{AdamW, Optimizer, Sgd};

/// A model of one layer that gives `logits` for an input of 255.
fn constant_logits(logits: &[f32]) -> Parameters {
    let classes = logits.len();
    let values = logits.iter().copied().chain(vec![0.0; classes]).collect();
    let architecture = Architecture::dense(&[1, classes], Activation::Relu).unwrap();
    Parameters::from_values(&architecture, vec![values]).unwrap()
}

/// Labels for inputs of 255.
fn ones(labels: &[u32], classes: usize) -> Examples {
    Examples::new(vec![255u8; labels.len()], labels.to_vec(), 1, classes).unwrap()
}

/// Epochs over `order` in batches, the last one as ragged as it comes; returns the losses and the final parameters.
fn train(
    parameters: &Parameters,
    examples: &Examples,
    order: &[u32],
    (batch_size, epochs): (usize, usize),
    optimizer: impl Into<Optimizer>,
    learning_rate: f32,
) -> (Vec<f32>, Parameters) {
    let training = Training { optimizer: optimizer.into(), ..Training::new(examples, batch_size) };
    let mut backend = CpuBackend::new(parameters, &training).unwrap();
    let mut losses = Vec::new();
    for _ in 0..epochs {
        backend.begin_epoch(order).unwrap();
        for (index, batch) in order.chunks(batch_size).enumerate() {
            let step = Step { first: index * batch_size, batch: batch.len(), learning_rate };
            block_on(backend.step(step, &mut losses)).unwrap();
        }
    }
    block_on(backend.flush(&mut losses)).unwrap();
    (losses, block_on(backend.parameters()).unwrap())
}

/// The same by the oracle.
fn train_oracle(
    parameters: &Parameters,
    examples: &Examples,
    order: &[u32],
    (batch_size, epochs): (usize, usize),
    optimizer: impl Into<Optimizer>,
    learning_rate: f32,
) -> (Vec<f64>, Model) {
    let (mut model, optimizer) = (Model::new(parameters), optimizer.into());
    let mut losses = Vec::new();
    for _ in 0..epochs {
        for batch in order.chunks(batch_size) {
            let (inputs, labels) = (oracle::inputs(examples, batch), oracle::labels(examples, batch));
            losses.push(model.train_step(&inputs, &labels, &optimizer, learning_rate));
        }
    }
    (losses, model)
}

#[test]
fn gradients_match_finite_differences_of_the_oracle() {
    let cases: [(usize, &[usize], usize, usize); 9] = [
        (1, &[], 2, 1),
        (7, &[], 10, 5),
        (63, &[], 11, 33),
        (63, &[5], 2, 5),
        (7, &[9], 11, 1),
        (1, &[5], 10, 33),
        (7, &[6, 3], 2, 33),
        (63, &[5, 4], 10, 1),
        (1, &[3, 7], 11, 5),
    ];
    for (seed, (features, hidden, classes, batch)) in cases.into_iter().enumerate() {
        let sizes = [&[features], hidden, &[classes]].concat();
        let order: Vec<u32> = (0..batch as u32).rev().collect();
        let kinds = [random_examples, oracle::random_floats];
        let kinds = kinds.into_iter().flat_map(|kind| Activation::ALL.map(|activation| (kind, activation)));
        for (random_examples, activation) in kinds {
            let examples = random_examples(batch, features, classes, seed as u64);
            let (inputs, labels) = (oracle::inputs(&examples, &order), oracle::labels(&examples, &order));
            let before = random_dense(&sizes, activation, seed as u64);
            let (losses, after) = train(&before, &examples, &order, (batch, 1), Sgd::default(), 1.0);

            let mut model = Model::new(&before);
            let name = format!("{activation} {sizes:?}, batch {batch}");
            assert_close(&format!("{name}, loss"), &losses, &[model.loss(&inputs, &labels)], 1e-6, 1e-6);
            for (index, expected) in model.finite_differences(|model| model.loss(&inputs, &labels)).iter().enumerate() {
                let values = before.layers[index].values.iter().zip(&after.layers[index].values);
                let gradient: Vec<f32> = values.map(|(before, after)| before - after).collect();
                assert_close(&format!("{name}, layer {index}"), &gradient, expected, 1e-5, 1e-6);
            }
        }
    }
}

#[test]
fn a_step_matches_the_oracle_on_one_thread_and_on_several() {
    // The last two have enough work to be shared, in blocks that do not come out even.
    for (sizes, batch) in [(vec![5, 3], 3), (vec![63, 17, 11], 33), (vec![784, 10], 129), (vec![200, 61, 35, 10], 131)]
    {
        let examples = random_examples(batch, sizes[0], *sizes.last().unwrap(), 3);
        let order: Vec<u32> = (0..batch as u32).rev().collect();
        // Parameters for which f32 leaves no doubt which ReLUs let through.
        let inputs = oracle::inputs(&examples, &order);
        let mut candidates = (4..).map(|seed| random_parameters(&sizes, seed));
        let parameters = candidates.find(|candidate| Model::new(candidate).nearest_kink(&inputs) > 2e-5).unwrap();
        for sgd in [Sgd::default(), Sgd { momentum: 0.5, ..Sgd::default() }] {
            let (losses, actual) = train(&parameters, &examples, &order, (batch, 1), sgd, 0.5);
            let (expected_losses, expected) = train_oracle(&parameters, &examples, &order, (batch, 1), sgd, 0.5);
            assert_close(&format!("{sizes:?}, loss"), &losses, &expected_losses, 1e-6, 1e-6);
            assert_parameters_close(&format!("{sizes:?}"), &actual, &expected, 1e-6, 1e-6);
        }
    }
}

#[test]
fn twenty_steps_of_every_optimizer_follow_the_oracle() {
    let sizes = [20, 15, 7];
    let examples = random_examples(23, 20, 7, 5);
    let parameters = random_parameters(&sizes, 6);
    let order: Vec<u32> = (0..23).map(|index| index * 5 % 23).collect();
    let sgd = |momentum, nesterov, weight_decay| Optimizer::Sgd(Sgd { momentum, nesterov, weight_decay });
    for (optimizer, rate) in [
        (sgd(0.0, false, 0.0), 0.1),
        (sgd(0.0, false, 0.01), 0.1),
        (sgd(0.9, false, 0.0), 0.1),
        (sgd(0.9, false, 0.01), 0.1),
        (sgd(0.9, true, 0.0), 0.1),
        (sgd(0.9, true, 0.01), 0.1),
        (AdamW { weight_decay: 0.0, ..AdamW::default() }.into(), 0.01),
        (AdamW { beta1: 0.8, beta2: 0.9, epsilon: 1e-3, weight_decay: 0.1 }.into(), 0.02),
    ] {
        // Batches of 6, 6, 6 and 5, five times.
        let (losses, actual) = train(&parameters, &examples, &order, (6, 5), optimizer, rate);
        let (expected_losses, expected) = train_oracle(&parameters, &examples, &order, (6, 5), optimizer, rate);
        assert_eq!(losses.len(), 20);
        assert_close(&format!("{optimizer:?}, losses"), &losses, &expected_losses, 1e-5, 1e-6);
        assert_parameters_close(&format!("{optimizer:?}"), &actual, &expected, 1e-5, 2e-6);
    }
}

/// The largest values that a layer can hold, and a NaN, at the input of each activation.
#[test]
fn activations_of_huge_sums_are_finite_and_those_of_a_nan_are_none() {
    let examples = random_examples(4, 3, 2, 1);
    for activation in Activation::ALL {
        for scale in [1e10, -1e10, 1e30, -1e30] {
            let mut parameters = random_dense(&[3, 5, 2], activation, 1);
            parameters.layers[0].values.fill(scale);
            parameters.layers[1].values.fill(0.0);
            let (losses, after) = train(&parameters, &examples, &[0, 1, 2, 3], (4, 1), Sgd::default(), 1e-35);
            assert!(losses[0].is_finite(), "{activation} {scale}: {losses:?}");
            let finite = after.layers.iter().flat_map(|layer| &layer.values).all(|value| value.is_finite());
            assert!(finite, "{activation} {scale}: {after:?}");
            parameters.layers[0].values[5] = f32::NAN;
            let (losses, _) = train(&parameters, &examples, &[0, 1, 2, 3], (4, 1), Sgd::default(), 0.1);
            assert!(losses[0].is_nan(), "{activation} hides a NaN: {losses:?}");
        }
    }
}

#[test]
fn logits_of_ten_thousand_give_finite_losses_and_gradients() {
    let parameters = constant_logits(&[1e4, -1e4, 0.0]);
    let (examples, order) = (ones(&[0, 1, 2, 1], 3), [0, 1, 2, 3]);
    let (losses, actual) = train(&parameters, &examples, &order, (4, 1), Sgd::default(), 1e4);
    let (expected_losses, expected) = train_oracle(&parameters, &examples, &order, (4, 1), Sgd::default(), 1e4);
    assert_close("loss", &losses, &expected_losses, 1e-6, 0.0);
    assert_eq!(losses, [12_500.0]);
    assert_parameters_close("parameters", &actual, &expected, 1e-6, 1e-3);
}

#[test]
fn a_nan_or_infinity_among_the_parameters_gives_a_nan_loss() {
    let sizes = [7, 5, 4, 3];
    let examples = random_examples(6, 7, 3, 1);
    for layer in 0..3 {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut parameters = random_parameters(&sizes, 2);
            // A whole row, so that no ReLU can hide it: infinities meet as ∞ − ∞ in the softmax.
            let outputs = parameters.layers[layer].outputs;
            parameters.layers[layer].values[..outputs].fill(bad);
            let (losses, _) = train(&parameters, &examples, &[0, 1, 2, 3, 4, 5], (6, 1), Sgd::default(), 0.1);
            assert!(losses[0].is_nan(), "layer {layer}, {bad}: {losses:?}");
            let mut backend = CpuModel::new(&parameters, Loss::default()).unwrap();
            let evaluation = block_on(backend.evaluate(&examples)).unwrap();
            assert!(evaluation.loss.is_nan(), "layer {layer}, {bad}: {evaluation:?}");
        }
    }
}

#[test]
fn probabilities_match_the_oracle_and_sum_to_one() {
    let sizes = [63, 20, 11];
    let examples = random_examples(2_001, 63, 11, 8);
    let mut parameters = random_parameters(&sizes, 9);
    parameters.layers[1].values.iter_mut().for_each(|value| *value *= 20.0);
    let mut backend = CpuModel::new(&parameters, Loss::default()).unwrap();
    let probabilities = block_on(backend.probabilities(&examples)).unwrap();
    for row in probabilities.chunks_exact(11) {
        assert!((row.iter().sum::<f32>() - 1.0).abs() <= 1e-6, "{row:?}");
    }
    let indices: Vec<u32> = (0..2_001).collect();
    let logits = Model::new(&parameters).logits(&oracle::inputs(&examples, &indices));
    assert_close("probabilities", &probabilities, &oracle::softmax(&logits, 11), 1e-4, 1e-6);
}

#[test]
fn scores_of_3_1_and_minus_3_give_88_12_and_0_percent() {
    let mut backend = CpuModel::new(&constant_logits(&[3.0, 1.0, -3.0]), Loss::default()).unwrap();
    let probabilities = block_on(backend.probabilities(&ones(&[0], 3))).unwrap();
    let rounded: Vec<f32> = probabilities.iter().map(|p| (p * 100.0).round() / 100.0).collect();
    assert_eq!(rounded, [0.88, 0.12, 0.0]);
}

#[test]
fn two_classes_are_the_sigmoid_of_the_difference() {
    for difference in [-90.0, -30.0, -2.0, -1e-3, 0.0, 0.5, 10.0, 84.0] {
        let mut backend = CpuModel::new(&constant_logits(&[1.25 + difference, 1.25]), Loss::default()).unwrap();
        let probabilities = block_on(backend.probabilities(&ones(&[0], 2))).unwrap();
        let difference = f64::from(1.25 + difference) - 1.25;
        let sigmoid = 1.0 / (1.0 + (-difference).exp());
        assert_close(&format!("{difference}"), &probabilities, &[sigmoid, 1.0 - sigmoid], 1e-6, 1e-7);
    }
}

#[test]
fn evaluation_of_a_ragged_set_matches_the_oracle() {
    for count in [1, 999, 1_000, 1_001, 2_345] {
        let examples = random_examples(count, 30, 4, 11);
        let parameters = random_parameters(&[30, 12, 4], 12);
        let mut backend = CpuModel::new(&parameters, Loss::default()).unwrap();
        let set = backend.upload(&examples).unwrap();
        let evaluation = block_on(backend.evaluate(&set)).unwrap();
        let indices: Vec<u32> = (0..count as u32).collect();
        let logits = Model::new(&parameters).logits(&oracle::inputs(&examples, &indices));
        let expected = oracle::argmax(&logits, 4);
        assert_eq!(evaluation.predictions, expected);
        assert_eq!(evaluation.correct, expected.iter().zip(examples.labels().unwrap()).filter(|(a, b)| a == b).count());
        let loss = oracle::cross_entropy(&logits, examples.labels().unwrap(), 4);
        assert_close("loss", &[evaluation.loss as f32], &[loss], 1e-6, 0.0);
    }
}

#[test]
fn the_lowest_of_equally_probable_classes_is_predicted() {
    let mut backend = CpuModel::new(&constant_logits(&[0.0, 2.0, 1.0, 2.0]), Loss::default()).unwrap();
    let evaluation = block_on(backend.evaluate(&ones(&[1, 3], 4))).unwrap();
    assert_eq!((evaluation.predictions, evaluation.correct), (vec![1, 1], 1));
}

#[test]
fn a_run_repeats_bit_by_bit() {
    let sizes = [784, 128, 10];
    let examples = random_examples(700, 784, 10, 13);
    let order: Vec<u32> = (0..700).map(|index| index * 11 % 700).collect();
    for momentum in [0.0, 0.9] {
        let sgd = Sgd { momentum, ..Sgd::default() };
        let run = || train(&random_parameters(&sizes, 14), &examples, &order, (256, 2), sgd, 0.1);
        let ((losses, parameters), (again, parameters_again)) = (run(), run());
        assert_eq!(losses, again);
        assert_eq!(parameters.sha256(), parameters_again.sha256());
        assert_ne!(parameters.sha256(), random_parameters(&sizes, 14).sha256());
    }
}

#[test]
fn the_processor_has_a_name() {
    let backend = CpuModel::new(&random_parameters(&[4, 3], 0), Loss::default()).unwrap();
    let info = backend.info();
    assert_eq!((info.backend, info.device_type), ("cpu", "cpu"));
    assert!(!info.name.trim().is_empty() && info.driver.starts_with("gemm "), "{info:?}");
}
