//! Whole training steps of networks with every kind of layer on the GPU, against the f64 reference.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::oracle;
use pollster::block_on;
use softstep::augmentation::{Augment, Augmentation};
use softstep::backend::{Backend, Inference, Step, Training};
use softstep::cpu::CpuBackend;
use softstep::data::Examples;
use softstep::gpu::{AdapterChoice, Gpu, GpuBackend, GpuModel, Readback};
use softstep::loss::{Loss, Objective};
use softstep::model::{Architecture, Parameters, Shape, parse_layers};
use softstep::optimizer::{AdamW, Optimizer, Sgd, TrainingState};
use softstep::ranks::{Alone, Ranks, local_ranks};
use softstep::reference::{Bounded, Mode, Network, softmax};
use softstep::verify::Verified;

const MOMENTUM: Optimizer = Optimizer::Sgd(Sgd { momentum: 0.9, nesterov: true, weight_decay: 1e-3 });

fn gpu() -> Gpu {
    block_on(Gpu::open(&AdapterChoice::Auto)).expect("the tests need an adapter: see README")
}

fn image([height, width, channels]: [usize; 3]) -> Shape {
    Shape::Image { height, width, channels }
}

/// Parameters with random biases, scales and shifts too.
fn parameters(input: Shape, layers: &str) -> Parameters {
    let architecture = Architecture::new(input, parse_layers(layers).unwrap()).unwrap();
    let mut parameters = Parameters::initialize(&architecture, 7).unwrap();
    for (layer, weights) in parameters.layers.iter_mut().enumerate() {
        for (at, value) in weights.values.iter_mut().enumerate() {
            *value += 0.2 * softstep::random::signed_unit(softstep::random::word(11, layer as u32, at as u32));
        }
    }
    parameters
}

fn training<'a>(examples: &'a Examples, batch_size: usize, optimizer: Optimizer) -> Training<'a> {
    Training { optimizer, seed: 5, ..Training::new(examples, batch_size) }
}

/// Trains some epochs with every step verified; the last batch of each is ragged.
fn verify(gpu: &Gpu, parameters: &Parameters, training: &Training<'_>, name: &str) {
    let backend = block_on(GpuBackend::new(gpu, parameters, training, Readback::Pipelined))
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut backend = Verified::new(backend, *training, 1, 0);
    let order: Vec<u32> = (0..training.examples.len() as u32).rev().collect();
    let mut losses = Vec::new();
    block_on(async {
        for _ in 0..2 {
            backend.begin_epoch(&order).unwrap();
            for first in (0..order.len()).step_by(training.batch_size) {
                let batch = training.batch_size.min(order.len() - first);
                let step = Step { first, batch, learning_rate: 0.02 };
                backend.step(step, &mut losses).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            backend.flush(&mut losses).await.unwrap();
        }
    });
    let found = backend.verification().unwrap();
    assert_eq!(found.steps, losses.len(), "{name}: numbers left f32");
    for (step, deviation) in &found.worst {
        assert!(deviation.excess() > 0.0, "{name}, step {step}: {deviation} says nothing");
    }
}

/// Shapes of images and layers: 1, 3 and 5 channels, even and odd sizes, strides, paddings, kernels as large as the image.
const NETWORKS: [([usize; 3], &str); 16] = [
    ([8, 8, 1], "conv:4x3,relu,pool:2,linear:10"),
    ([8, 8, 1], "conv:16x5,relu,pool:2,conv:20x5,relu,pool:2,linear:24,relu,linear:10"),
    ([7, 6, 3], "conv:5x3s2p0,tanh,conv:6x2p1,sigmoid,linear:10"),
    ([5, 6, 5], "conv:3x2s2p1,gelu,conv:7x3s2p1,relu,linear:10"),
    ([6, 5, 1], "conv:3x5p0,relu,conv:4x2p1,gelu,pool:2s1,linear:10"),
    ([6, 6, 2], "conv:9x6p0,relu,linear:10"),
    ([6, 7, 3], "conv:6x3,relu,pool:3s2,conv:5x2p1,relu,pool:2s1,linear:10"),
    ([9, 9, 1], "conv:3x4s3p3,relu,conv:18x3s3p2,linear:10"),
    ([4, 4, 1], "linear:12,relu,linear:10"),
    ([6, 6, 4], "pool:2,conv:5x3,sigmoid,linear:10"),
    ([5, 5, 3], "tanh,conv:5x3,relu,tanh,dropout:0.3,linear:10"),
    ([6, 6, 1], "dropout:0.2,linear:13,relu,dropout:0.5,linear:10"),
    ([6, 6, 1], "conv:6x3,batchnorm,relu,pool:2,conv:5x3,batchnorm,gelu,dropout:0.25,linear:10"),
    ([5, 4, 3], "batchnorm,conv:5x3,relu,batchnorm,linear:9,batchnorm,tanh,linear:10"),
    ([4, 4, 1], "linear:11,batchnorm,relu,linear:6,gelu,linear:10"),
    ([6, 6, 1], "conv:33x3,relu,pool:2,pool:3s1,sigmoid,gelu,linear:10"),
];

#[test]
fn steps_of_every_layer_verify_in_every_way_to_multiply() {
    let gpu = gpu();
    for (index, (input, layers)) in NETWORKS.into_iter().enumerate() {
        let parameters = parameters(image(input), layers);
        let features = input.iter().product();
        let examples = match index % 2 {
            0 => oracle::random_examples(23, features, 10, 3),
            _ => oracle::random_floats(23, features, 10, 3),
        };
        for (turn, &matmul) in gpu.matmul_choices().iter().enumerate() {
            let gpu = gpu.clone().with_matmul(matmul).unwrap();
            let optimizer = if (index + turn) % 2 == 0 { MOMENTUM } else { AdamW::default().into() };
            let clip_norm = (index % 3 == 1).then_some(0.5);
            for batch_size in [9, 1] {
                if batch_size == 1 && (layers.contains("batchnorm") || turn > 0) {
                    continue; // the statistics of one value are no statistics
                }
                let training = Training { clip_norm, ..training(&examples, batch_size, optimizer) };
                verify(&gpu, &parameters, &training, &format!("{input:?} {layers} in {batch_size} by {matmul:?}"));
            }
        }
    }
}

#[test]
fn augmented_steps_verify_on_bytes_and_floats_of_every_first_layer() {
    let gpu = gpu();
    for (input, layers) in [
        ([7, 6, 1], "conv:4x3,relu,linear:10"),
        ([7, 6, 5], "conv:4x3,relu,linear:10"),
        ([6, 8, 3], "linear:10"),
        ([6, 8, 2], "pool:2,linear:10"),
    ] {
        let augment = Augment { shift: 1.5, rotate: 12.0, scale: 0.1 };
        let augmentation = Some(Augmentation { augment, image: image(input) });
        for examples in [oracle::random_examples, oracle::random_floats] {
            let examples = examples(13, input.iter().product(), 10, 4);
            let training = Training { augmentation, ..training(&examples, 5, MOMENTUM) };
            verify(&gpu, &parameters(image(input), layers), &training, layers);
        }
    }
}

#[test]
fn evaluation_skips_dropout_and_uses_running_statistics() {
    let gpu = gpu();
    for (input, layers) in NETWORKS {
        let mut parameters = parameters(image(input), layers);
        for (index, statistics) in parameters.statistics.iter_mut().enumerate() {
            statistics.mean.iter_mut().enumerate().for_each(|(at, mean)| *mean = 0.1 * (at + index) as f32 - 0.2);
            statistics.variance.iter_mut().enumerate().for_each(|(at, variance)| *variance = 0.5 + 0.1 * at as f32);
        }
        let examples = oracle::random_examples(37, input.iter().product(), 10, 6);
        let mut backend = block_on(GpuModel::new(&gpu, &parameters, Loss::default())).unwrap();
        let set = backend.upload(&examples).unwrap();
        let probabilities = block_on(backend.probabilities(&set)).unwrap();
        let inputs = Bounded::inputs(&examples, &(0..37).collect::<Vec<_>>());
        let outputs = Network::new(&parameters).forward(inputs, Mode::Evaluation).unwrap().outputs.values;
        oracle::assert_close(layers, &probabilities, &softmax(&outputs, 10), 1e-4, 1e-6);
        assert_eq!(block_on(backend.parameters()).unwrap(), parameters, "{layers}");
    }
}

#[test]
fn a_streamed_data_set_a_restored_state_and_a_split_step_give_the_same_bits() {
    let gpu = gpu();
    let layers = "conv:6x3,batchnorm,relu,pool:2,conv:5x3,gelu,dropout:0.25,linear:10";
    let parameters = parameters(image([6, 6, 1]), layers);
    let examples = oracle::random_examples(40, 36, 10, 3);
    let training = Training { clip_norm: Some(1.0), ..training(&examples, 8, AdamW::default().into()) };
    let order: Vec<u32> = (0..40).collect();
    let run = |gpu: &Gpu, handover: Option<usize>| {
        let new = || block_on(GpuBackend::new(gpu, &parameters, &training, Readback::Pipelined)).unwrap();
        let mut backend = new();
        let mut losses = Vec::new();
        block_on(async {
            for epoch in 0..3 {
                backend.begin_epoch(&order).unwrap();
                for step in 0..5 {
                    if handover == Some(5 * epoch + step) {
                        backend.flush(&mut losses).await.unwrap();
                        let state = backend.state().await.unwrap();
                        backend = new();
                        backend.begin_epoch(&order).unwrap();
                        backend.restore(&state).unwrap();
                    }
                    let step = Step { first: 8 * step, batch: 8, learning_rate: 0.01 };
                    backend.step(step, &mut losses).await.unwrap();
                }
                backend.flush(&mut losses).await.unwrap();
            }
            (losses, backend.state().await.unwrap())
        })
    };
    let expected = run(&gpu, None);
    assert!(run(&gpu, None) == expected);
    assert!(run(&gpu, Some(7)) == expected);
    assert!(run(&gpu.clone().with_resident_bytes(0), None) == expected);
    assert!(run(&gpu.clone().with_submission_operations(50_000), None) == expected);
}

#[test]
fn steps_of_every_layer_verify_in_shards_and_on_any_number_of_ranks_with_the_same_bits() {
    let gpu = gpu();
    for (index, (input, layers)) in NETWORKS.into_iter().enumerate() {
        let parameters = parameters(image(input), layers);
        let features = input.iter().product();
        let examples = oracle::random_floats(51, features, 10, 3);
        let augment = Augment { shift: 1.5, rotate: 12.0, scale: 0.1 };
        let augmentation = (index % 2 == 0).then_some(Augmentation { augment, image: image(input) });
        let optimizer = if index % 4 < 2 { MOMENTUM } else { AdamW::default().into() };
        let class_weights: Vec<f32> = (0..10).map(|class| 0.5 + 0.1 * class as f32).collect();
        let objective = Objective { class_weights: &class_weights, ..Objective::default() };
        // 40 rows in 8 shards of 8, of which 5 have any; and a ragged batch of 11.
        let clip_norm = (index % 3 == 1).then_some(0.5);
        let training = Training { shards: 8, clip_norm, augmentation, objective, ..training(&examples, 40, optimizer) };
        verify(&gpu, &parameters, &training, layers);
        let alone = on_rank(&gpu, &parameters, &training, Arc::new(Alone), None);
        let streamed = on_rank(&gpu.clone().with_resident_bytes(0), &parameters, &training, Arc::new(Alone), None);
        assert!(streamed == alone, "{layers} streamed");
        for size in [2, 4, 8] {
            for of_rank in on_ranks(size, &gpu, &parameters, &training, None) {
                assert!(of_rank == alone, "{layers} on {size} ranks");
            }
        }
    }
}

#[test]
fn batch_normalisation_in_shards_goes_on_with_other_numbers_of_ranks_and_is_that_of_the_cpu() {
    let gpu = gpu();
    let parameters = parameters(image([6, 6, 1]), "conv:6x3,batchnorm,relu,pool:2,linear:9,batchnorm,tanh,linear:10");
    let examples = oracle::random_floats(51, 36, 10, 3);
    let training = Training { shards: 8, ..training(&examples, 40, MOMENTUM) };
    let (_, first) = on_rank(&gpu, &parameters, &training, Arc::new(Alone), None);
    let alone = on_rank(&gpu, &parameters, &training, Arc::new(Alone), Some(&first));
    assert!(on_ranks(4, &gpu, &parameters, &training, None).iter().all(|(_, state)| *state == first), "the first half");
    assert!(
        on_ranks(2, &gpu, &parameters, &training, Some(&first)).iter().all(|half| *half == alone),
        "the second half"
    );

    let mut cpu = CpuBackend::new(&parameters, &training).unwrap();
    epochs(&mut cpu, &training);
    oracle::assert_close("losses", &alone.0, &oracle::widen(&epochs(&mut cpu, &training)), 1e-3, 1e-3);
    let state = block_on(cpu.state()).unwrap().parameters;
    for (layer, (found, expected)) in alone.1.parameters.layers.iter().zip(&state.layers).enumerate() {
        oracle::assert_close(&format!("layer {layer}"), &found.values, &oracle::widen(&expected.values), 2e-3, 2e-3);
    }
    for (found, expected) in alone.1.parameters.statistics.iter().zip(&state.statistics) {
        oracle::assert_close("running means", &found.mean, &oracle::widen(&expected.mean), 1e-4, 1e-4);
        oracle::assert_close("running variances", &found.variance, &oracle::widen(&expected.variance), 1e-4, 1e-4);
    }
}

/// One of two ranks, of which the other has the same sums; notes when they meet, with how many bytes.
#[derive(Default)]
struct Mirror {
    exchanges: Mutex<Vec<(Instant, usize)>>,
}

impl Ranks for Mirror {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        2
    }

    fn exchange(&self, _: usize, sent: &[u8], received: &mut [u8]) -> softstep::Result<()> {
        self.exchanges.lock().unwrap().push((Instant::now(), sent.len()));
        received.copy_from_slice(sent);
        Ok(())
    }

    fn broadcast(&self, bytes: Vec<u8>) -> softstep::Result<Vec<u8>> {
        Ok(bytes)
    }

    fn fail(&self, _: &str) {}

    fn post(&self, _: usize, _: &[u8]) -> softstep::Result<()> {
        Ok(())
    }

    fn poll(&self, _: usize) -> softstep::Result<Option<Vec<u8>>> {
        Ok(None)
    }
}

#[test]
fn gradients_of_later_layers_travel_while_those_of_earlier_ones_are_computed() {
    let gpu = gpu();
    let parameters = parameters(Shape::Flat(784), "linear:1024,relu,linear:16,relu,linear:10");
    let examples = oracle::random_floats(512, 784, 10, 3);
    let training = Training { shards: 4, ..training(&examples, 512, MOMENTUM) };
    let ranks = Arc::new(Mirror::default());
    let backend = block_on(GpuBackend::new(&gpu, &parameters, &training, Readback::Pipelined)).unwrap();
    let mut backend = backend.with_ranks(ranks.clone()).unwrap();
    let order: Vec<u32> = (0..512).collect();
    let mut shares = Vec::new();
    for _ in 0..8 {
        ranks.exchanges.lock().unwrap().clear();
        let start = Instant::now();
        backend.begin_epoch(&order).unwrap();
        block_on(backend.step(Step { first: 0, batch: 512, learning_rate: 0.02 }, &mut Vec::new())).unwrap();
        block_on(backend.flush(&mut Vec::new())).unwrap();
        let exchanges = std::mem::take(&mut *ranks.exchanges.lock().unwrap());
        let [(later, _), .., (first, _)] = exchanges[..3] else { panic!("{exchanges:?}") };
        // The matrices of the last layer, of the one before and of the first, padded to blocks; then the loss.
        let bytes: Vec<usize> = exchanges.iter().map(|&(_, bytes)| bytes).collect();
        assert_eq!(bytes[..3], [4 * 20 * 12, 4 * 1028 * 16, 4 * 788 * 1024], "{bytes:?}");
        shares.push((first - later).as_secs_f64() / (first - start).as_secs_f64());
    }
    // The last shard's gradient of the first layer is a quarter of all products. A hardware GPU is too fast to tell.
    let most = shares.iter().copied().fold(0.0, f64::max);
    assert!(gpu.info().device_type != "software" || most > 0.1, "{shares:?}");
}

/// Trains on so many ranks; returns what [`on_rank`] does of each.
fn on_ranks(
    size: usize,
    gpu: &Gpu,
    parameters: &Parameters,
    training: &Training<'_>,
    from: Option<&TrainingState>,
) -> Vec<(Vec<f32>, TrainingState)> {
    std::thread::scope(|scope| {
        let ranks = local_ranks(size).into_iter();
        let ranks: Vec<_> =
            ranks.map(|rank| scope.spawn(|| on_rank(gpu, parameters, training, Arc::new(rank), from))).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

/// Trains some epochs as one of these ranks, from a state if there is one; returns losses and state.
fn on_rank(
    gpu: &Gpu,
    parameters: &Parameters,
    training: &Training<'_>,
    ranks: Arc<dyn Ranks>,
    from: Option<&TrainingState>,
) -> (Vec<f32>, TrainingState) {
    let backend = block_on(GpuBackend::new(gpu, parameters, training, Readback::Pipelined)).unwrap();
    let mut backend = backend.with_ranks(ranks).unwrap();
    if let Some(state) = from {
        backend.restore(state).unwrap();
    }
    let losses = epochs(&mut backend, training);
    (losses, block_on(backend.state()).unwrap())
}

/// Trains two epochs; returns the losses.
fn epochs(backend: &mut impl Backend, training: &Training<'_>) -> Vec<f32> {
    let order: Vec<u32> = (0..training.examples.len() as u32).rev().collect();
    let mut losses = Vec::new();
    block_on(async {
        for _ in 0..2 {
            backend.begin_epoch(&order).unwrap();
            for first in (0..order.len()).step_by(training.batch_size) {
                let batch = training.batch_size.min(order.len() - first);
                backend.step(Step { first, batch, learning_rate: 0.02 }, &mut losses).await.unwrap();
            }
            backend.flush(&mut losses).await.unwrap();
        }
    });
    losses
}
