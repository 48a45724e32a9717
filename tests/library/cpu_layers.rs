//! Every layer on the CPU backend against the f64 reference: whole steps through `Verified`, and evaluation.

use std::sync::Arc;

use pollster::block_on;
use softstep::augmentation::{Augment, Augmentation};
use softstep::backend::{Backend, Inference, Step, Training};
use softstep::cpu::{CpuBackend, CpuModel};
use softstep::data::Examples;
use softstep::loss::Objective;
use softstep::model::{Activation, Architecture, Parameters, Shape, parse_layers};
use softstep::optimizer::{AdamW, Optimizer, Sgd, TrainingState};
use softstep::random::{mix, signed_unit};
use softstep::ranks::{LocalRank, local_ranks};
use softstep::reference::{Bounded, Mode, Network};
use softstep::verify::Verified;

const PLAIN: Optimizer = Optimizer::Sgd(Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 });
const NESTEROV: Optimizer = Optimizer::Sgd(Sgd { momentum: 0.9, nesterov: true, weight_decay: 1e-3 });
const ADAMW: Optimizer = Optimizer::AdamW(AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 });

const fn image(height: usize, width: usize, channels: usize) -> Shape {
    Shape::Image { height, width, channels }
}

/// Networks with every kind of layer, at awkward shapes.
const NETWORKS: [(Shape, &str); 13] = [
    (image(6, 5, 1), "conv:3x3,tanh,linear:4"),
    (image(5, 6, 3), "conv:2x3s2p0,sigmoid,conv:5x2p1,linear:4"),
    (image(7, 4, 5), "conv:33x4p3,gelu,pool:2,linear:4"),
    (image(5, 5, 2), "conv:3x5p0,relu,linear:4"),
    (image(6, 6, 2), "conv:17x3,tanh,pool:3s1,dropout:0.5,linear:7,tanh,dropout:0.3,linear:4"),
    (image(9, 9, 1), "conv:2x3s3p2,batchnorm,tanh,linear:4"),
    (image(4, 3, 2), "pool:2s1,conv:16x2,relu,batchnorm,gelu,linear:5,batchnorm,gelu,linear:4"),
    (image(3, 3, 1), "tanh,linear:4,sigmoid,tanh,linear:4"),
    (image(8, 9, 1), "dropout:0.2,relu,pool:2,gelu,linear:9,gelu,linear:4"),
    (image(28, 28, 1), "conv:16x5,relu,pool:2,conv:32x5,relu,pool:2,dropout:0.25,linear:128,relu,linear:4"),
    (image(12, 12, 4), "conv:40x3,gelu,conv:8x3s2,batchnorm,relu,pool:3s2,linear:4"),
    (image(1, 1, 5), "conv:7x1,relu,linear:4"),
    (Shape::Flat(24), "batchnorm,linear:12,batchnorm,relu,dropout:0.4,linear:4"),
];

/// Images of random bytes with classes 0 to 3.
fn examples(shape: Shape, count: usize) -> Examples {
    let bytes: Vec<u8> = (0..(count * shape.len()) as u32).map(|at| mix(at.wrapping_mul(31) ^ 5) as u8).collect();
    let labels: Vec<u32> = (0..count as u32).map(|at| mix(at ^ 77) % 4).collect();
    Examples::new(bytes, labels, shape.len(), 4).unwrap()
}

/// Initial parameters with random biases, scales and shifts.
fn parameters(shape: Shape, layers: &str) -> Parameters {
    let architecture = Architecture::new(shape, parse_layers(layers).unwrap()).unwrap();
    let mut parameters = Parameters::initialize(&architecture, 3).unwrap();
    let values = parameters.layers.iter_mut().flat_map(|layer| &mut layer.values);
    values.zip(0u32..).for_each(|(value, at)| *value += 0.1 * signed_unit(mix(at ^ 99)));
    parameters
}

fn training(examples: &Examples, batch_size: usize, optimizer: Optimizer) -> Training<'_> {
    Training { optimizer, seed: 7, ..Training::new(examples, batch_size) }
}

/// Runs epochs in order, the last batch of each as ragged as it comes.
fn run(backend: &mut impl Backend, training: &Training<'_>, epochs: usize) -> softstep::Result<TrainingState> {
    let count = training.examples.len();
    let order: Vec<u32> = (0..count as u32).map(|at| at * 7 % count as u32).collect();
    let mut losses = Vec::new();
    block_on(async {
        for _ in 0..epochs {
            backend.begin_epoch(&order)?;
            for first in (0..count).step_by(training.batch_size) {
                let batch = training.batch_size.min(count - first);
                backend.step(Step { first, batch, learning_rate: 0.01 }, &mut losses).await?;
            }
            backend.flush(&mut losses).await?;
        }
        assert!(losses.iter().all(|loss| loss.is_finite()), "{losses:?}");
        backend.state().await
    })
}

/// Runs with every step verified.
fn verify(name: &str, parameters: &Parameters, training: &Training<'_>, epochs: usize) {
    let cpu = CpuBackend::new(parameters, training).unwrap();
    let mut backend = Verified::new(cpu, *training, 1, 0);
    run(&mut backend, training, epochs).unwrap_or_else(|error| panic!("{name}: {error}"));
    let found = backend.verification().unwrap();
    assert_eq!(found.steps, epochs * training.examples.len().div_ceil(training.batch_size), "{name}");
}

#[test]
fn steps_of_every_layer_verify() {
    for (shape, layers) in NETWORKS {
        let parameters = parameters(shape, layers);
        // In two batches of 5 and a ragged one of 3; with batch normalisation a batch of 1 has no variance.
        let examples = examples(shape, 13);
        for batch_size in [13, 5, 1] {
            if batch_size == 1 && layers.contains("batchnorm") {
                continue;
            }
            for optimizer in [PLAIN, NESTEROV, ADAMW] {
                let training = training(&examples, batch_size, optimizer);
                verify(&format!("{layers}, batch {batch_size}, {optimizer:?}"), &parameters, &training, 2);
            }
        }
    }
}

#[test]
fn steps_of_every_layer_verify_with_clipping_weights_smoothing_and_augmentation() {
    for (shape, layers) in NETWORKS {
        let parameters = parameters(shape, layers);
        let examples = examples(shape, 13);
        let augment = Augment { shift: 1.5, rotate: 20.0, scale: 0.2 };
        let augmentation = matches!(shape, Shape::Image { .. }).then_some(Augmentation { augment, image: shape });
        let objective =
            Objective { label_smoothing: 0.1, class_weights: &[0.5, 1.0, 2.0, 1.5], ..Objective::default() };
        for (clip_norm, optimizer) in [(0.05, PLAIN), (0.5, ADAMW), (1e6, NESTEROV)] {
            let training =
                Training { clip_norm: Some(clip_norm), objective, augmentation, ..training(&examples, 5, optimizer) };
            verify(&format!("{layers}, clipped to {clip_norm}"), &parameters, &training, 2);
        }
    }
}

#[test]
fn evaluation_of_every_layer_is_the_references() {
    for (shape, layers) in NETWORKS {
        let mut parameters = parameters(shape, layers);
        let examples = examples(shape, 23);
        for (at, statistics) in parameters.statistics.iter_mut().enumerate() {
            let values = statistics.mean.iter_mut().zip(&mut statistics.variance);
            for (channel, (mean, variance)) in values.enumerate() {
                let random = signed_unit(mix((at * 100 + channel) as u32));
                (*mean, *variance) = (0.3 * random, 1.0 + 0.5 * random);
            }
        }
        let rows: Vec<u32> = (0..23).collect();
        let pass = Network::new(&parameters).forward(Bounded::inputs(&examples, &rows), Mode::Evaluation).unwrap();
        let mut backend = CpuModel::new(&parameters, softstep::loss::Loss::MeanSquaredError).unwrap();
        let outputs = block_on(backend.probabilities(&examples)).unwrap();
        for (at, &actual) in outputs.iter().enumerate() {
            let (expected, error) = (pass.outputs.values[at], pass.outputs.errors[at]);
            assert!((f64::from(actual) - expected).abs() <= error, "{layers}: output {at} is {actual}, not {expected}");
        }
    }
}

#[test]
fn a_restored_backend_goes_on_with_the_same_bits() {
    for (shape, layers) in NETWORKS {
        let (parameters, examples) = (parameters(shape, layers), examples(shape, 13));
        let augment = Augment { shift: 1.0, ..Augment::default() };
        let augmentation = matches!(shape, Shape::Image { .. }).then_some(Augmentation { augment, image: shape });
        let training = Training { augmentation, ..training(&examples, 5, ADAMW) };
        let backend = || CpuBackend::new(&parameters, &training).unwrap();
        let mut whole = backend();
        let middle = run(&mut whole, &training, 1).unwrap();
        let end = run(&mut whole, &training, 1).unwrap();
        let mut resumed = backend();
        resumed.restore(&middle).unwrap();
        assert_eq!(run(&mut resumed, &training, 1).unwrap(), end, "{layers}");
        assert_ne!(middle.parameters.sha256(), end.parameters.sha256(), "{layers}");
    }
}

/// The state after an epoch on a pool of so many threads.
fn run_on(threads: usize, parameters: &Parameters, training: &Training<'_>) -> TrainingState {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let mut backend = CpuBackend::new(parameters, training).unwrap();
        assert_eq!(rayon::current_num_threads(), threads);
        run(&mut backend, training, 1).unwrap()
    })
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let dense = |sizes: &[usize]| Architecture::dense(sizes, Activation::Relu).unwrap();
    let layers = |shape, layers| Architecture::new(shape, parse_layers(layers).unwrap()).unwrap();
    let digit = image(28, 28, 1);
    for (architecture, batches) in [
        // Between them blocks of 64 rows or fewer, and of more, of narrow and of wide results.
        (dense(&[784, 10]), vec![129, 131, 260, 1_024]),
        (dense(&[784, 128, 4]), vec![64, 150, 513]),
        (dense(&[784, 200, 3, 300, 4]), vec![270, 600]),
        (dense(&[784, 512, 513, 4]), vec![100, 150]),
        (
            layers(digit, "conv:16x5,relu,pool:2,conv:32x5,batchnorm,gelu,pool:2,dropout:0.2,linear:90,relu,linear:4"),
            vec![37],
        ),
        (layers(digit, "conv:3x3s2,tanh,conv:20x4,relu,batchnorm,pool:3s2,linear:4"), vec![1, 70]),
    ] {
        let parameters = Parameters::initialize(&architecture, 5).unwrap();
        for batch_size in batches {
            let examples = examples(digit, batch_size + batch_size / 2);
            for (clip_norm, optimizer) in [(None, PLAIN), (Some(0.1), ADAMW), (None, NESTEROV)] {
                let augment = Augment { shift: 1.0, ..Augment::default() };
                let augmentation = Some(Augmentation { augment, image: digit });
                let training = Training { clip_norm, augmentation, ..training(&examples, batch_size, optimizer) };
                let expected = run_on(1, &parameters, &training);
                for threads in [2, 3, 8, 16, 32] {
                    let actual = run_on(threads, &parameters, &training);
                    assert!(actual == expected, "{architecture}, batch {batch_size}, {threads} threads: other bits");
                }
            }
        }
    }
}

/// Class weights, label smoothing and augmentation: what depends on the whole batch, and on an example's place in it.
fn everything(shape: Shape, training: Training<'_>) -> Training<'_> {
    let augment = Augment { shift: 1.5, rotate: 20.0, scale: 0.2 };
    let augmentation = matches!(shape, Shape::Image { .. }).then_some(Augmentation { augment, image: shape });
    let objective = Objective { label_smoothing: 0.1, class_weights: &[0.5, 1.0, 2.0, 1.5], ..Objective::default() };
    Training { objective, augmentation, ..training }
}

#[test]
fn steps_of_every_layer_verify_in_shards() {
    for (shape, layers) in NETWORKS {
        let parameters = parameters(shape, layers);
        let examples = examples(shape, 27);
        // A batch of 20 in 2 shards of 12 and 8, and in 8 of which 5 have 4 rows and 3 none; and a ragged one of 7.
        for (shards, clip_norm, optimizer) in [(2, None, PLAIN), (8, Some(0.5), ADAMW), (8, None, NESTEROV)] {
            let training = Training { shards, clip_norm, ..training(&examples, 20, optimizer) };
            verify(&format!("{layers}, {shards} shards"), &parameters, &everything(shape, training), 2);
        }
    }
}

#[test]
fn any_number_of_ranks_gives_the_same_bits() {
    for (shape, layers) in NETWORKS {
        let parameters = parameters(shape, layers);
        let examples = examples(shape, 51);
        for (clip_norm, optimizer) in [(None, NESTEROV), (Some(0.5), ADAMW)] {
            let training = Training { shards: 8, clip_norm, ..training(&examples, 40, optimizer) };
            let training = everything(shape, training);
            let alone = run(&mut CpuBackend::new(&parameters, &training).unwrap(), &training, 2).unwrap();
            for size in [2, 4, 8] {
                let on_rank = |rank: LocalRank| {
                    // Each rank has a thread pool of its own: one that waits for another must not keep it from working.
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
                    let backend = CpuBackend::new(&parameters, &training).unwrap();
                    let mut backend = backend.with_ranks(Arc::new(rank)).unwrap();
                    pool.install(|| run(&mut backend, &training, 2).unwrap())
                };
                let on_rank = &on_rank;
                std::thread::scope(|scope| {
                    let ranks: Vec<_> =
                        local_ranks(size).into_iter().map(|rank| scope.spawn(move || on_rank(rank))).collect();
                    for rank in ranks {
                        assert!(rank.join().unwrap() == alone, "{layers} on {size} ranks");
                    }
                });
            }
        }
    }
}
