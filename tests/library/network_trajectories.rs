//! Twenty steps of convolutional networks on both backends, beside PyTorch's: tests/python/network_trajectories.py made
//! the expected values. Tensors are met by their names in PyTorch, so that their shapes are tested, too.

use std::collections::{BTreeMap, HashMap};

use pollster::block_on;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::Deserialize;
use softstep::backend::{Backend, Step, Training};
use softstep::cpu::CpuBackend;
use softstep::data::Examples;
use softstep::gpu::{AdapterChoice, Gpu, GpuBackend, Readback};
use softstep::loss::Loss;
use softstep::model::{Architecture, Parameters, Shape, parse_layers};
use softstep::model_file::{Metadata, from_safetensors, to_safetensors};
use softstep::optimizer::{AdamW, Optimizer, Sgd};
use softstep::random::mix;

const BATCH: usize = 8;
const IMAGE: Shape = Shape::Image { height: 7, width: 8, channels: 2 };
const CLASSES: usize = 3;

#[derive(Deserialize)]
struct Trajectory {
    layers: String,
    before: BTreeMap<String, Tensor>,
    losses: Vec<f64>,
    after: BTreeMap<String, Tensor>,
}

#[derive(Deserialize)]
struct Tensor {
    shape: Vec<usize>,
    values: Vec<f64>,
}

/// The optimizers of the script, with their learning rates.
fn optimizer(name: &str) -> (f32, Optimizer) {
    let sgd = |nesterov, weight_decay| Sgd { momentum: 0.9, nesterov, weight_decay }.into();
    match name {
        "convolutions" => (0.1, sgd(true, 0.0)),
        "overlapping pools" => (0.1, sgd(false, 0.01)),
        "batch normalisation" => (0.1, sgd(false, 0.0)),
        "batch normalisation by adamw" => (0.01, AdamW::default().into()),
        _ => panic!("{name}"),
    }
}

fn examples() -> Examples {
    let inputs: Vec<u8> = (0..(BATCH * IMAGE.len()) as u32).map(|at| (mix(at) % 256) as u8).collect();
    let labels: Vec<u32> = (0..BATCH as u32).map(|at| at * 5 % CLASSES as u32).collect();
    Examples::new(inputs, labels, IMAGE.len(), CLASSES).unwrap()
}

/// The parameters of these tensors, read as a model file's.
fn parameters(architecture: &Architecture, tensors: &BTreeMap<String, Tensor>) -> Parameters {
    let any = Parameters::initialize(architecture, 0).unwrap();
    let metadata = serde_json::to_string(&Metadata::new(&any, "", 0, Loss::CrossEntropy)).unwrap();
    let bytes: BTreeMap<&String, Vec<u8>> = tensors
        .iter()
        .map(|(name, tensor)| (name, tensor.values.iter().flat_map(|&value| (value as f32).to_le_bytes()).collect()))
        .collect();
    let views = tensors.iter().map(|(name, tensor)| {
        (name.as_str(), TensorView::new(Dtype::F32, tensor.shape.clone(), &bytes[name]).unwrap())
    });
    let file = safetensors::serialize(views, Some(HashMap::from([("softstep".to_string(), metadata)]))).unwrap();
    from_safetensors("before", &file).unwrap().0
}

fn follow<B: Backend>(name: &str, mut backend: B, learning_rate: f32, expected: &Trajectory) {
    let order: Vec<u32> = (0..BATCH as u32).collect();
    let mut losses = Vec::new();
    let after = block_on(async {
        for _ in 0..expected.losses.len() {
            backend.begin_epoch(&order).unwrap();
            backend.step(Step { first: 0, batch: BATCH, learning_rate }, &mut losses).await.unwrap();
            backend.flush(&mut losses).await.unwrap();
        }
        backend.parameters().await.unwrap()
    });
    assert_eq!(losses.len(), expected.losses.len());
    for (step, (&loss, expected)) in losses.iter().zip(&expected.losses).enumerate() {
        assert!((f64::from(loss) - expected).abs() <= 1e-4 * expected, "{name}, step {step}: {loss} is not {expected}");
    }
    let file = to_safetensors(&after, &Metadata::new(&after, "", 0, Loss::CrossEntropy)).unwrap();
    let file = SafeTensors::deserialize(&file).unwrap();
    assert_eq!(file.len(), expected.after.len());
    for (tensor, Tensor { shape, values }) in &expected.after {
        let view = file.tensor(tensor).unwrap();
        assert_eq!(view.shape(), shape, "{name}, {tensor}");
        let actual = view.data().as_chunks().0.iter().map(|&bytes| f64::from(f32::from_le_bytes(bytes)));
        // Relative to the tensor's largest value: those near 0 are differences of larger numbers.
        let largest = values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        for (at, (actual, expected)) in actual.zip(values).enumerate() {
            assert!(
                (actual - expected).abs() <= 1e-4 * largest,
                "{name}, {tensor} at {at}: {actual} is not {expected}"
            );
        }
    }
}

/// Follows every network on the backend that `new` makes.
fn follow_all<B: Backend>(backend: &str, new: impl Fn(&Parameters, &Training<'_>) -> B) {
    let expected: BTreeMap<String, Trajectory> =
        serde_json::from_str(include_str!("../python/network_trajectories.json")).unwrap();
    let examples = examples();
    for (name, expected) in &expected {
        let architecture = Architecture::new(IMAGE, parse_layers(&expected.layers).unwrap()).unwrap();
        let parameters = parameters(&architecture, &expected.before);
        let (learning_rate, optimizer) = optimizer(name);
        let training = Training { optimizer, ..Training::new(&examples, BATCH) };
        follow(&format!("{name} on the {backend}"), new(&parameters, &training), learning_rate, expected);
    }
}

#[test]
fn twenty_steps_of_convolutional_networks_on_the_cpu_are_those_of_pytorch() {
    follow_all("CPU", |parameters, training| CpuBackend::new(parameters, training).unwrap());
}

#[test]
fn twenty_steps_of_convolutional_networks_on_the_gpu_are_those_of_pytorch() {
    let gpu = block_on(Gpu::open(&AdapterChoice::Auto)).expect("the tests need an adapter: see README");
    follow_all("GPU", |parameters, training| {
        block_on(GpuBackend::new(&gpu, parameters, training, Readback::Pipelined)).unwrap()
    });
}
