//! Twenty steps of every optimizer, some with clipped gradients, on both backends, beside PyTorch's: tests/python/optimizer_trajectories.py made the
//! expected values.

use std::collections::BTreeMap;

use crate::oracle;
use pollster::block_on;
use serde::Deserialize;
use softstep::backend::{Backend, Step, Training};
use softstep::cpu::CpuBackend;
use softstep::data::Examples;
use softstep::gpu::{AdapterChoice, Gpu, GpuBackend, Readback};
use softstep::model::{Activation, Architecture, Parameters};
use softstep::optimizer::{AdamW, Lion, Optimizer, Sgd};

const SIZES: [usize; 3] = [6, 5, 3];
const BATCH: usize = 8;

#[derive(Deserialize)]
struct Trajectory {
    losses: Vec<f64>,
    layers: Vec<Vec<f64>>,
    /// What the norm of the gradients was in each step, where they are clipped.
    #[serde(default)]
    norms: Vec<f64>,
}

/// The optimizers of the script, with their learning rates and the norms that gradients are clipped to.
fn optimizers() -> [(&'static str, f32, Optimizer, Option<f32>); 11] {
    let sgd = |momentum, nesterov, weight_decay| Sgd { momentum, nesterov, weight_decay }.into();
    let adamw = AdamW { beta1: 0.8, beta2: 0.95, epsilon: 1e-6, weight_decay: 0.1 }.into();
    [
        ("sgd", 0.3, sgd(0.0, false, 0.0), None),
        ("sgd momentum", 0.1, sgd(0.9, false, 0.0), None),
        ("sgd momentum decay", 0.1, sgd(0.9, false, 0.01), None),
        ("sgd nesterov", 0.1, sgd(0.9, true, 0.01), None),
        ("adamw", 0.01, AdamW::default().into(), None),
        ("adamw decay", 0.02, adamw, None),
        ("lion", 0.01, Lion::default().into(), None),
        ("lion decay", 0.005, Lion { beta1: 0.8, beta2: 0.95, weight_decay: 0.1 }.into(), None),
        ("sgd momentum clipped", 0.1, sgd(0.9, false, 0.0), Some(0.25)),
        ("sgd nesterov clipped", 0.1, sgd(0.9, true, 0.01), Some(0.25)),
        ("adamw clipped", 0.02, adamw, Some(0.25)),
    ]
}

fn parameters() -> Parameters {
    let layer = |index: usize, inputs: usize, outputs: usize| {
        let value = |at: usize| ((at * 37 + index * 11) % 64) as f32 / 64.0 - 0.5;
        (0..(inputs + 1) * outputs).map(value).collect()
    };
    let layers = SIZES.windows(2).enumerate().map(|(index, pair)| layer(index, pair[0], pair[1]));
    let architecture = Architecture::dense(&SIZES, Activation::Tanh).unwrap();
    Parameters::from_values(&architecture, layers.collect()).unwrap()
}

fn follow<B: Backend>(name: &str, mut backend: B, learning_rate: f32, expected: &Trajectory) {
    let order: Vec<u32> = (0..BATCH as u32).collect();
    let mut losses = Vec::new();
    let after = block_on(async {
        for _ in 0..20 {
            backend.begin_epoch(&order).unwrap();
            backend.step(Step { first: 0, batch: BATCH, learning_rate }, &mut losses).await.unwrap();
            backend.flush(&mut losses).await.unwrap();
        }
        backend.parameters().await.unwrap()
    });
    oracle::assert_close(&format!("{name}, losses"), &losses, &expected.losses, 1e-5, 0.0);
    for (index, (layer, expected)) in after.layers.iter().zip(&expected.layers).enumerate() {
        // Relative to the layer's largest parameters: those near 0 are differences of larger numbers.
        let largest = expected.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        oracle::assert_close(&format!("{name}, layer {index}"), &layer.values, expected, 0.0, 1e-5 * largest);
    }
}

#[test]
fn twenty_steps_of_every_optimizer_are_those_of_pytorch_on_both_backends() {
    let expected: BTreeMap<String, Trajectory> =
        serde_json::from_str(include_str!("../python/optimizer_trajectories.json")).unwrap();
    assert_eq!(expected.len(), optimizers().len());
    let gpu = block_on(Gpu::open(&AdapterChoice::Auto)).expect("the tests need an adapter: see README");
    let inputs: Vec<u8> = (0..BATCH * SIZES[0]).map(|at| (at * 73 % 256) as u8).collect();
    let labels: Vec<u32> = (0..BATCH as u32).map(|at| at * 5 % 3).collect();
    let examples = Examples::new(inputs, labels, SIZES[0], SIZES[2]).unwrap();
    for (name, learning_rate, optimizer, clip_norm) in optimizers() {
        let training = Training { optimizer, clip_norm, ..Training::new(&examples, BATCH) };
        let expected = &expected[name];
        let clipped =
            expected.norms.iter().filter(|&&norm| clip_norm.is_some_and(|most| norm > f64::from(most))).count();
        assert!(clip_norm.is_none() || (1..20).contains(&clipped), "{name}: clipped in {clipped} steps");
        let cpu = CpuBackend::new(&parameters(), &training).unwrap();
        follow(&format!("{name} on the CPU"), cpu, learning_rate, expected);
        let gpu = block_on(GpuBackend::new(&gpu, &parameters(), &training, Readback::Pipelined)).unwrap();
        follow(&format!("{name} on the GPU"), gpu, learning_rate, expected);
    }
}
