//! Every loss on both backends, beside the f64 oracle: gradients, extremes, evaluation, and what each is for.

use crate::oracle::{self, assert_close, random_examples, random_floats, random_parameters, random_values};
use pollster::block_on;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use softstep::backend::{Backend, Evaluation, Inference, Step, Training};
use softstep::cpu::{CpuBackend, CpuModel};
use softstep::data::{self, Examples};
use softstep::gpu::{AdapterChoice, Gpu, GpuBackend, GpuModel, Readback};
use softstep::loss::{ClassWeights, Link, Loss, Objective};
use softstep::model::{Activation, Architecture, Parameters};
use softstep::optimizer::{AdamW, Optimizer, Sgd};
use softstep::verify::Verified;

fn gpu() -> Gpu {
    block_on(Gpu::open(&AdapterChoice::Auto)).expect("the tests need an adapter: see README")
}

fn gpu_backend(gpu: &Gpu, parameters: &Parameters, training: &Training<'_>) -> GpuBackend {
    block_on(GpuBackend::new(gpu, parameters, training, Readback::Pipelined)).unwrap()
}

const WEIGHTS: [f32; 5] = [0.5, 2.0, 1.25, 0.75, 3.0];

/// Every loss in every setting: what it is called, the objective, and examples for it.
fn objectives(count: usize, features: usize, seed: u64) -> Vec<(&'static str, Objective<'static>, Examples)> {
    let objective = |loss, label_smoothing, class_weights| Objective { loss, label_smoothing, class_weights };
    let (classes, two) = (random_examples(count, features, 5, seed), random_examples(count, features, 2, seed));
    let mut all = vec![
        ("cross-entropy", objective(Loss::CrossEntropy, 0.0, &[][..]), classes.clone()),
        ("smoothed cross-entropy", objective(Loss::CrossEntropy, 0.2, &[]), classes.clone()),
        ("weighted cross-entropy", objective(Loss::CrossEntropy, 0.0, &WEIGHTS), classes.clone()),
        ("both", objective(Loss::CrossEntropy, 0.1, &WEIGHTS), random_floats(count, features, 5, seed)),
        ("bce", objective(Loss::BinaryCrossEntropy, 0.0, &[]), two.clone()),
        ("weighted bce", objective(Loss::BinaryCrossEntropy, 0.0, &WEIGHTS[..2]), two),
    ];
    for loss in Loss::ALL.into_iter().filter(|loss| loss.link() == Link::Identity) {
        // Targets in -6..6, so that many errors are above 1.
        let values = |outputs| {
            let examples = random_values(count, features, outputs, seed);
            let data::Targets::Values(values) = &*examples.targets else { unreachable!() };
            let targets: data::Targets = values.iter().map(|value| 3.0 * value).collect::<Vec<f32>>().into();
            Examples { targets: targets.into(), ..examples }
        };
        let kinds =
            [("classes", classes.clone()), ("values", values(3)), ("one value", values(1)), ("20 values", values(20))];
        all.extend(
            kinds.map(|(of, examples)| {
                (&*format!("{} of {of}", loss.name()).leak(), objective(loss, 0.0, &[]), examples)
            }),
        );
    }
    all
}

/// Layer sizes for a loss and examples.
fn sizes(loss: Loss, examples: &Examples, hidden: &[usize]) -> Vec<usize> {
    [&[examples.features], hidden, &[loss.outputs(examples).unwrap()]].concat()
}

/// One epoch in one order; gives the losses and the parameters after it.
fn train<B: Backend>(mut backend: B, training: &Training<'_>, order: &[u32], rate: f32) -> (Vec<f32>, Parameters) {
    let mut losses = Vec::new();
    block_on(async {
        backend.begin_epoch(order).unwrap();
        for (index, batch) in order.chunks(training.batch_size).enumerate() {
            let step = Step { first: index * training.batch_size, batch: batch.len(), learning_rate: rate };
            backend.step(step, &mut losses).await.unwrap();
        }
        backend.flush(&mut losses).await.unwrap();
        (losses, backend.parameters().await.unwrap())
    })
}

/// Loss of a model over some examples by the oracle.
fn oracle_loss(model: &oracle::Model, objective: &Objective<'_>, examples: &Examples, order: &[u32]) -> f64 {
    let outputs = model.logits(&oracle::inputs(examples, order));
    let targets = examples.targets.select(order, examples.outputs);
    let losses = oracle::losses(objective, &outputs, &targets, model.classes());
    losses.iter().sum::<f64>() / losses.len() as f64
}

#[test]
fn gradients_of_every_loss_match_finite_differences_in_f64_on_both_backends() {
    let gpu = gpu();
    for hidden in [&[][..], &[6]] {
        for (name, objective, examples) in objectives(13, 7, 3) {
            let sizes = sizes(objective.loss, &examples, hidden);
            let order: Vec<u32> = (0..13).rev().collect();
            let inputs = oracle::inputs(&examples, &order);
            let mut candidates = (4..).map(|seed| random_parameters(&sizes, seed));
            let before =
                candidates.find(|candidate| oracle::Model::new(candidate).nearest_kink(&inputs) > 1e-4).unwrap();
            let mut model = oracle::Model::new(&before);
            let expected_loss = oracle_loss(&model, &objective, &examples, &order);
            let expected = model.finite_differences(|model| oracle_loss(model, &objective, &examples, &order));
            let training = Training { objective, ..Training::new(&examples, 13) };
            let check = |backend: String, (losses, after): (Vec<f32>, Parameters)| {
                let name = format!("{name}, {sizes:?}, {backend}");
                assert_close(&name, &losses, &[expected_loss], 1e-5, 1e-6);
                for (layer, expected) in expected.iter().enumerate() {
                    let (before, after) = (&before.layers[layer].values, &after.layers[layer].values);
                    // At learning rate 1 the update is the gradient.
                    let gradient: Vec<f32> = before.iter().zip(after).map(|(before, after)| before - after).collect();
                    assert_close(&format!("{name}, layer {layer}"), &gradient, expected, 1e-5, 2e-6);
                }
            };
            let cpu = CpuBackend::new(&before, &training).unwrap();
            check("CPU".into(), train(cpu, &training, &order, 1.0));
            for &matmul in gpu.matmul_choices() {
                let gpu = gpu.clone().with_matmul(matmul).unwrap();
                check(format!("{matmul:?}"), train(gpu_backend(&gpu, &before, &training), &training, &order, 1.0));
            }
        }
    }
}

#[test]
fn steps_of_every_loss_agree_between_the_backends_and_verify_with_every_activation_and_optimizer() {
    let gpu = gpu();
    let sgd: Optimizer = Sgd { momentum: 0.9, ..Sgd::default() }.into();
    let kinds = [
        (Activation::Relu, sgd, 0.02),
        (Activation::Relu, AdamW::default().into(), 0.002),
        (Activation::Sigmoid, AdamW::default().into(), 0.002),
        (Activation::Tanh, sgd, 0.02),
        (Activation::Gelu, AdamW::default().into(), 0.002),
    ];
    let runs = objectives(150, 9, 5).into_iter().flat_map(|run| kinds.map(|kind| (run.clone(), kind)));
    for ((name, objective, examples), (activation, optimizer, rate)) in runs {
        let name = format!("{name}, {activation}, {}", optimizer.moments());
        let sizes = sizes(objective.loss, &examples, &[8]);
        let parameters = Parameters::with_activation(&sizes, activation, 6).unwrap();
        let training = Training { optimizer, objective, ..Training::new(&examples, 16) };
        let order: Vec<u32> = (0..150).map(|index| index * 7 % 150).collect();
        let cpu = Verified::new(CpuBackend::new(&parameters, &training).unwrap(), training, 1, 0);
        let (expected, _) = train(cpu, &training, &order, rate);
        for &matmul in gpu.matmul_choices() {
            let gpu = gpu.clone().with_matmul(matmul).unwrap();
            let backend = Verified::new(gpu_backend(&gpu, &parameters, &training), training, 1, 0);
            let (losses, _) = train(backend, &training, &order, rate);
            assert_close(&format!("{name}, {matmul:?}"), &losses, &oracle::widen(&expected), 1e-4, 1e-5);
        }
    }
}

#[test]
fn verification_catches_a_bug_in_every_loss() {
    for (name, text, other) in [
        ("weighted cross-entropy", "target_sum * probabilities", "1.001 * target_sum * probabilities"),
        ("weighted bce", "weight * (sigmoid - f32(label))", "1.001 * weight * (sigmoid - f32(label))"),
        ("mse of classes", "return 2.0 * errors;", "return 2.002 * errors;"),
        ("mse of values", "return sum / f32(OUTPUTS);", "return 1.001 * sum / f32(OUTPUTS);"),
        ("huber of values", "select(errors, sign(errors)", "select(errors, 1.001 * sign(errors)"),
        ("huber of values", "sizes - 0.5", "sizes - 0.501"),
    ] {
        let (_, objective, examples) =
            objectives(40, 9, 5).into_iter().find(|(candidate, ..)| *candidate == name).unwrap();
        let parameters = random_parameters(&sizes(objective.loss, &examples, &[]), 6);
        let training = Training { objective, ..Training::new(&examples, 40) };
        let gpu = gpu().with_patched_shaders(text, other);
        let mut backend = Verified::new(gpu_backend(&gpu, &parameters, &training), training, 1, 0);
        let order: Vec<u32> = (0..40).collect();
        backend.begin_epoch(&order).unwrap();
        let step = Step { first: 0, batch: 40, learning_rate: 0.1 };
        let error = block_on(backend.step(step, &mut Vec::new())).unwrap_err().to_string();
        assert!(error.contains("step 1 is wrong"), "{name}: {error}");
    }
}

#[test]
fn outputs_of_ten_thousand_give_finite_losses_and_gradients_on_both_backends() {
    let gpu = gpu();
    for (name, objective, examples) in objectives(37, 5, 8) {
        for scale in [1e4, -1e4] {
            let mut parameters = Parameters::new(&sizes(objective.loss, &examples, &[]), 9).unwrap();
            parameters.layers[0].values.iter_mut().for_each(|value| *value = value.signum() * scale);
            let training = Training { objective, ..Training::new(&examples, 37) };
            let order: Vec<u32> = (0..37).collect();
            let cpu = CpuBackend::new(&parameters, &training).unwrap();
            let gpu = gpu_backend(&gpu, &parameters, &training);
            let runs = [train(cpu, &training, &order, 0.1), train(gpu, &training, &order, 0.1)];
            let expected = oracle_loss(&oracle::Model::new(&parameters), &objective, &examples, &order);
            for (backend, (losses, after)) in ["CPU", "GPU"].into_iter().zip(runs) {
                let name = format!("{name}, {scale}, {backend}");
                assert!(losses[0] > 100.0, "{name}: {losses:?}");
                assert_close(&name, &losses, &[expected], 1e-5, 0.0);
                assert!(after.layers[0].values.iter().all(|value| value.is_finite()), "{name}");
            }
        }
    }
}

/// Trains on both backends; gives the parameters of each.
fn on_both(parameters: &Parameters, training: &Training<'_>, epochs: usize, rate: f32) -> [Parameters; 2] {
    let order: Vec<u32> = (0..training.examples.len() as u32).collect();
    let order = order.repeat(1);
    let mut all = [parameters.clone(), parameters.clone()];
    for _ in 0..epochs {
        let cpu = CpuBackend::new(&all[0], training).unwrap();
        all[0] = train(cpu, training, &order, rate).1;
        let backend = gpu_backend(&gpu(), &all[1], training);
        all[1] = train(backend, training, &order, rate).1;
    }
    all
}

/// Softmax over two classes depends on the difference z of the logits alone, and p(1) = sigmoid(z). Of the gradient by z
/// each column gets its share with its own sign, so the difference moves twice as far: the sigmoid learns at twice the
/// rate.
#[test]
fn softmax_over_two_classes_and_one_sigmoid_output_trained_from_equivalent_starts_agree() {
    let examples = random_examples(100, 12, 2, 17);
    for class_weights in [&[][..], &[0.5, 2.0]] {
        let two = random_parameters(&[12, 2], 18);
        let difference = |parameters: &Parameters| -> Vec<f32> {
            parameters.layers[0].values.chunks(2).map(|pair| pair[1] - pair[0]).collect()
        };
        let architecture = Architecture::dense(&[12, 1], Activation::default()).unwrap();
        let one = Parameters::from_values(&architecture, vec![difference(&two)]).unwrap();
        let sgd = Sgd { momentum: 0.9, ..Sgd::default() };
        let training = |loss| {
            let objective = Objective { loss, label_smoothing: 0.0, class_weights };
            Training { optimizer: sgd.into(), objective, ..Training::new(&examples, 10) }
        };
        let softmax = on_both(&two, &training(Loss::CrossEntropy), 5, 0.1);
        let sigmoid = on_both(&one, &training(Loss::BinaryCrossEntropy), 5, 0.2);
        for (backend, (softmax, sigmoid)) in softmax.iter().zip(&sigmoid).enumerate() {
            let expected = oracle::widen(&difference(softmax));
            assert_close(&format!("backend {backend}"), &sigmoid.layers[0].values, &expected, 1e-5, 1e-5);
            assert_ne!(sigmoid, &one);
        }
    }
}

/// Evaluates on both backends.
fn evaluations(parameters: &Parameters, loss: Loss, examples: &Examples) -> [(Evaluation, Vec<f32>); 2] {
    let mut cpu = CpuModel::new(parameters, loss).unwrap();
    let mut gpu = block_on(GpuModel::new(&gpu(), parameters, loss)).unwrap();
    let set = cpu.upload(examples).unwrap();
    let on_cpu = (block_on(cpu.evaluate(&set)).unwrap(), block_on(cpu.probabilities(&set)).unwrap());
    let set = gpu.upload(examples).unwrap();
    [on_cpu, (block_on(gpu.evaluate(&set)).unwrap(), block_on(gpu.probabilities(&set)).unwrap())]
}

#[test]
fn evaluation_of_every_loss_matches_the_oracle_beyond_one_chunk() {
    for (name, objective, examples) in objectives(2051, 9, 21) {
        let loss = objective.loss;
        let parameters = random_parameters(&sizes(loss, &examples, &[8]), 22);
        let model = oracle::Model::new(&parameters);
        let order: Vec<u32> = (0..2051).collect();
        let plain = Objective { loss, ..Objective::default() };
        let expected_loss = oracle_loss(&model, &plain, &examples, &order);
        let outputs = model.logits(&oracle::inputs(&examples, &order));
        for (evaluation, probabilities) in evaluations(&parameters, loss, &examples) {
            assert_close(name, &[evaluation.loss as f32], &[expected_loss], 1e-5, 0.0);
            let expected = match loss.link() {
                Link::Softmax => oracle::softmax(&outputs, 5),
                Link::Sigmoid => outputs.iter().flat_map(|&z| [oracle::sigmoid(-z), oracle::sigmoid(z)]).collect(),
                Link::Identity => outputs.clone(),
            };
            assert_close(name, &probabilities, &expected, 1e-4, 2e-6);
            match &*examples.targets {
                data::Targets::Classes(labels) => {
                    let classes = examples.outputs;
                    let expected = match loss.link() {
                        Link::Sigmoid => outputs.iter().map(|&z| u32::from(z > 0.0)).collect(),
                        _ => oracle::argmax(&outputs, classes),
                    };
                    let differing = evaluation.predictions.iter().zip(&expected).filter(|(a, b)| a != b).count();
                    assert!(evaluation.predictions.len() == 2051 && differing <= 2, "{name}: {differing} differ");
                    let right = evaluation.predictions.iter().zip(labels).filter(|(a, b)| a == b).count();
                    assert_eq!(evaluation.correct, right, "{name}");
                    assert_eq!(evaluation.accuracy(), Some(right as f64 / 2051.0));
                }
                data::Targets::Values(values) => {
                    let mean = |output: usize| {
                        values[output..].iter().step_by(examples.outputs).map(|&v| f64::from(v)).sum::<f64>() / 2051.0
                    };
                    let means: Vec<f64> = (0..examples.outputs).map(mean).collect();
                    let total: f64 = values
                        .chunks(examples.outputs)
                        .flat_map(|row| row.iter().zip(&means).map(|(&v, mean)| (f64::from(v) - mean).powi(2)))
                        .sum();
                    let errors = outputs.iter().zip(values).map(|(output, &value)| output - f64::from(value));
                    let residual: f64 = errors.map(|error| error * error).sum();
                    let r_squared = evaluation.r_squared.unwrap();
                    assert!((r_squared - (1.0 - residual / total)).abs() <= 1e-4, "{name}: {r_squared}");
                    assert!(evaluation.predictions.is_empty() && evaluation.accuracy().is_none());
                }
            }
        }
    }
}

#[test]
fn regression_learns_a_linear_law() {
    // y = 3 a − 2 b + 0.5 and y = b + 1.
    let features: Vec<f32> = {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        (0..400).map(|_| random.next_u32() as f32 / (1u32 << 31) as f32 - 1.0).collect()
    };
    let law = |x: &[f32]| [3.0 * x[0] - 2.0 * x[1] + 0.5, x[1] + 1.0];
    let values: Vec<f32> = features.chunks(2).flat_map(law).collect();
    let examples = Examples::new(features, values, 2, 2).unwrap();
    assert_eq!(Loss::default_for(&examples), Loss::MeanSquaredError);
    let objective = Objective { loss: Loss::MeanSquaredError, ..Objective::default() };
    let training = Training { objective, ..Training::new(&examples, 20) };
    let start = Parameters::new(&[2, 2], 3).unwrap();
    for learned in on_both(&start, &training, 30, 0.3) {
        // [inputs + 1, outputs]
        assert_close("the law", &learned.layers[0].values, &[3.0, 0.0, -2.0, 1.0, 0.5, 1.0], 1e-4, 1e-4);
        for (evaluation, _) in evaluations(&learned, Loss::MeanSquaredError, &examples) {
            assert!(evaluation.r_squared.unwrap() > 0.999_999 && evaluation.loss < 1e-6, "{evaluation:?}");
        }
    }
}

#[test]
fn a_loss_that_does_not_fit_the_data_is_refused_with_the_reason_on_both_backends() {
    let (ten, values) = (random_examples(20, 4, 10, 0), random_values(20, 4, 2, 0));
    let gpu = gpu();
    let weights = [1.0, 2.0, 3.0];
    let objective = |loss, label_smoothing, class_weights| Objective { loss, label_smoothing, class_weights };
    for (examples, outputs, objective, reason) in [
        (&ten, 1, objective(Loss::BinaryCrossEntropy, 0.0, &[][..]), "two classes apart, and the data has 10"),
        (&values, 2, objective(Loss::CrossEntropy, 0.0, &[]), "real values"),
        (&values, 1, objective(Loss::BinaryCrossEntropy, 0.0, &[]), "real values"),
        (&values, 3, objective(Loss::MeanSquaredError, 0.0, &[]), "2 target values"),
        (&ten, 10, objective(Loss::CrossEntropy, 0.0, &weights), "3 weights, and the data has 10 classes"),
        (&ten, 10, objective(Loss::MeanSquaredError, 0.5, &[]), "`label_smoothing`"),
    ] {
        let parameters = Parameters::new(&[4, outputs], 0).unwrap();
        let training = Training { objective, ..Training::new(examples, 5) };
        let Err(on_cpu) = CpuBackend::new(&parameters, &training) else { panic!("accepted: {reason}") };
        let new = block_on(GpuBackend::new(&gpu, &parameters, &training, Readback::Pipelined));
        let Err(on_gpu) = new else { panic!("accepted on the GPU: {reason}") };
        assert_eq!(on_cpu.to_string(), on_gpu.to_string());
        assert!(on_cpu.to_string().contains(reason), "{on_cpu}");
    }
}

#[test]
fn balanced_weights_give_every_class_the_same_sum() {
    let examples = Examples::new(vec![0u8; 6], vec![0u32, 0, 0, 1, 1, 2], 1, 3).unwrap();
    let weights = "balanced".parse::<ClassWeights>().unwrap().of(&examples).unwrap();
    assert_close("weights", &weights, &[6.0 / 9.0, 1.0, 2.0], 1e-6, 0.0);
    assert_eq!("1, 2.5,3".parse::<ClassWeights>().unwrap().of(&examples).unwrap(), [1.0, 2.5, 3.0]);
    assert!("1,2".parse::<ClassWeights>().unwrap().of(&examples).unwrap_err().to_string().contains("3 classes"));
    for wrong in ["", "1,,2", "1,0", "-1", "nan", "inf", "half"] {
        assert!(wrong.parse::<ClassWeights>().is_err(), "{wrong}");
    }
}

/// Expected loss and gradient of each from `tests/python/losses.py`.
#[test]
fn the_oracle_agrees_with_pytorch_on_every_loss() {
    let logits = [1.5, -0.25, 0.75, -2.0, 3.0, 0.5, 0.0, 0.125, -4.0, 10.0, -10.0, 2.0];
    let values = [1.0, 0.0, -1.0, 2.5, 3.5, 0.0, 0.25, 0.5, 1.0, -1.0, 2.0, -3.0f32];
    let labels: data::Targets = vec![0u32, 2, 1, 1].into();
    let binary: data::Targets = vec![1u32, 0, 1, 1].into();
    let weights = [0.5, 2.0, 1.25];
    let check = |(loss, label_smoothing, class_weights): (Loss, f32, &[f32]),
                 outputs: &[f64],
                 targets: &data::Targets,
                 expected_loss: f64,
                 expected: &[f64]| {
        let objective = Objective { loss, label_smoothing, class_weights };
        let columns = expected.len() / 4;
        let losses = oracle::losses(&objective, outputs, targets, columns);
        let gradient = oracle::loss_backward(&objective, outputs, targets, columns);
        // A smoothing of 0.1 in f32 is off by 1.5e-9.
        let close = |actual: f64, expected: f64| (actual - expected).abs() <= 1e-7 + 1e-7 * expected.abs();
        assert!(close(losses.iter().sum::<f64>() / 4.0, expected_loss), "{objective:?}: {losses:?}");
        let near = gradient.iter().zip(expected).all(|(&actual, &expected)| close(actual, expected));
        assert!(near && gradient.len() == expected.len(), "{objective:?}: {gradient:?}");
    };
    check(
        (Loss::CrossEntropy, 0.2, &[]),
        &logits,
        &labels,
        5.510420339898183,
        &[
            -0.06479627615115205,
            0.009724449986573392,
            0.05507182616457866,
            -0.015119595348466656,
            0.2129390750243842,
            -0.1978194796759175,
            0.09953327407822579,
            -0.0849948835651349,
            -0.014538390513090908,
            0.23324949528577388,
            -0.21666666615155108,
            -0.01658282913422279,
        ],
    );
    check(
        (Loss::CrossEntropy, 0.0, &weights),
        &logits,
        &labels,
        7.784966307645944,
        &[
            -0.03413203808156013,
            0.009179518835909586,
            0.024952519245650548,
            0.001345279407130443,
            0.1996571666878703,
            -0.20100244609500073,
            0.16166948277550255,
            -0.1646305626413471,
            0.002961079865844534,
            0.347709442716439,
            -0.3478260862398391,
            0.00011664352340017453,
        ],
    );
    check(
        (Loss::CrossEntropy, 0.1, &weights),
        &logits,
        &labels,
        7.411542460060902,
        &[
            -0.02041126408364923,
            -0.0010377562372547008,
            0.021449020320903928,
            -0.001553271317507238,
            0.1880629637893196,
            -0.18650969247181232,
            0.15270832644678353,
            -0.14831198900606474,
            -0.004396337440718839,
            0.3317717878899349,
            -0.32463768046961333,
            -0.007134107420321535,
        ],
    );
    check(
        (Loss::BinaryCrossEntropy, 0.0, &[]),
        &[1.5, -0.25, -30.0, 4.0],
        &binary,
        7.698875656444875,
        &[-0.04560638095158909, 0.10945587477855048, -0.2499999999999766, -0.004496552490522887],
    );
    let third = 1.0 / 12.0;
    check(
        (Loss::MeanSquaredError, 0.0, &[]),
        &logits,
        &values.to_vec().into(),
        28.27734375,
        &[
            third,
            -third / 2.0,
            3.5 * third,
            -0.75,
            -third,
            third,
            -third / 2.0,
            -0.0625,
            -10.0 * third,
            22.0 * third,
            -2.0,
            10.0 * third,
        ],
    );
    check(
        (Loss::MeanSquaredError, 0.0, &[]),
        &logits,
        &labels,
        21.32421875,
        &[
            third,
            -third / 2.0,
            0.125,
            -4.0 * third,
            0.5,
            -third,
            0.0,
            -0.14583333333333331,
            -8.0 * third,
            20.0 * third,
            -22.0 * third,
            4.0 * third,
        ],
    );
}
