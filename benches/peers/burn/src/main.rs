//! softstep's training step in Burn, on the CPU (flex) or through wgpu. `../README.md` says how to run it and what it
//! answers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Instant;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Distribution, Int, Tensor, activation::relu};
use serde_json::{Value, json};

const EXAMPLES: usize = 60_000;
const FEATURES: usize = 784;
const SIDE: usize = 28;
const CLASSES: usize = 10;
const LEARNING_RATE: f64 = 0.01;
const WARM_UP_SECONDS: f64 = 1.0;
/// Of a new trainer: enough for wgpu to have compiled, fused and tuned all kernels.
const FIRST_STEPS: usize = 20;

struct Data {
    /// `[examples, features]`
    inputs: Tensor<2>,
    /// `[examples]`
    labels: Tensor<1, Int>,
}

/// A convolution, ReLU and max-pooling.
#[derive(Module, Debug)]
struct Block {
    convolution: Conv2d,
    pool: MaxPool2d,
}

#[derive(Module, Debug)]
struct Network {
    /// Of images of 28×28; none in a network of linear layers.
    blocks: Vec<Block>,
    /// With ReLU between them.
    linear: Vec<Linear>,
}

impl Network {
    fn forward(&self, inputs: Tensor<2>) -> Tensor<2> {
        let mut values = inputs;
        if !self.blocks.is_empty() {
            let [batch, _] = values.dims();
            let mut images = values.reshape([batch, 1, SIDE, SIDE]);
            for Block { convolution, pool } in &self.blocks {
                images = pool.forward(relu(convolution.forward(images)));
            }
            values = images.flatten(1, 3);
        }
        for (index, layer) in self.linear.iter().enumerate() {
            values = layer.forward(if index == 0 { values } else { relu(values) });
        }
        values
    }
}

/// The network of a request: sizes of linear layers, or a text as `conv:16x5,relu,pool:2,linear:128,relu`, to which a last
/// linear layer to the classes is added.
fn network(sizes: &Value, device: &Device) -> Result<Network, Box<dyn Error>> {
    let mut blocks = Vec::new();
    let sizes: Vec<usize> = match sizes.as_str() {
        None => serde_json::from_value(sizes.clone())?,
        Some(text) => {
            let (mut channels, mut side, mut linear) = (1, SIDE, Vec::new());
            for layer in text.split(',') {
                match layer.split_once(':') {
                    Some(("conv", size)) => {
                        let (outputs, kernel) = size.split_once('x').ok_or("a convolution is conv:CHANNELSxKERNEL")?;
                        let (outputs, kernel): (usize, usize) = (outputs.parse()?, kernel.parse()?);
                        let padding = (kernel - 1) / 2;
                        let convolution = Conv2dConfig::new([channels, outputs], [kernel, kernel])
                            .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
                            .init(device);
                        channels = outputs;
                        let pool = MaxPool2dConfig::new([2, 2]).init();
                        blocks.push(Block { convolution, pool });
                    }
                    Some(("pool", "2")) => side /= 2,
                    Some(("linear", size)) => linear.push(size.parse()?),
                    None if layer == "relu" => {}
                    _ => return Err(format!("no layer of this peer: {layer}").into()),
                }
            }
            [vec![channels * side * side], linear, vec![CLASSES]].concat()
        }
    };
    let linear = sizes.windows(2).map(|pair| LinearConfig::new(pair[0], pair[1]).init(device)).collect();
    Ok(Network { blocks, linear })
}

struct Trainer<'a> {
    data: &'a Data,
    network: Network,
    loss: CrossEntropyLoss,
    optimizer: ModuleOptimizer,
    /// One tensor of example numbers a batch.
    batches: Vec<Tensor<1, Int>>,
    next: usize,
}

impl<'a> Trainer<'a> {
    fn new(data: &'a Data, network: Network, batch_size: usize) -> Self {
        let device = data.inputs.device();
        let loss = CrossEntropyLossConfig::new().init(&device);
        let optimizer = SgdConfig::new().init();
        let batches = shuffled(data.inputs.dims()[0])
            .chunks_exact(batch_size)
            .map(|batch| Tensor::from_data(batch, &device))
            .collect();
        let mut trainer = Self { data, network, loss, optimizer, batches, next: 0 };
        for _ in 0..FIRST_STEPS {
            trainer.step();
        }
        trainer
    }

    fn step(&mut self) -> f32 {
        let batch = self.batches[self.next].clone();
        self.next = (self.next + 1) % self.batches.len();
        let inputs = self.data.inputs.clone().select(0, batch.clone());
        let labels = self.data.labels.clone().select(0, batch);
        let loss = self.loss.forward(self.network.forward(inputs), labels);
        let gradients = GradientsParams::from_grads(loss.backward(), &self.network);
        self.network = self.optimizer.step(LEARNING_RATE, self.network.clone(), gradients);
        loss.into_scalar()
    }

    fn steps_per_second(&mut self, seconds: f64) -> f64 {
        self.pace(WARM_UP_SECONDS);
        self.pace(seconds)
    }

    fn pace(&mut self, seconds: f64) -> f64 {
        let mut steps = 0;
        let started = Instant::now();
        while started.elapsed().as_secs_f64() < seconds {
            assert!(self.step().is_finite());
            steps += 1;
        }
        f64::from(steps) / started.elapsed().as_secs_f64()
    }
}

/// 0..count in an order that looks random (a linear congruential generator of full period, cut to size).
fn shuffled(count: usize) -> Vec<i32> {
    let modulus = count.next_power_of_two();
    let mut at = 1;
    let next = || {
        at = (at * 25_173 + 13_849) % modulus;
        at
    };
    std::iter::repeat_with(next).take(modulus).filter(|&at| at < count).map(|at| at as i32).collect()
}

/// The backend's device, and how many examples it holds in one buffer that a kernel can read.
fn open(backend: &str) -> Result<(Device, usize), Box<dyn Error>> {
    match backend {
        "flex" => Ok((Device::flex(), EXAMPLES)),
        "wgpu" => {
            let (device, setup) = Device::wgpu_options().init_with_setup()?;
            let info = setup.adapter.get_info();
            let room = setup.adapter.limits().max_storage_buffer_binding_size as usize / (FEATURES * size_of::<f32>());
            let examples = room.min(EXAMPLES);
            eprintln!(
                "burn_wgpu: {} ({:?}, {}), {examples} examples in one buffer",
                info.name, info.device_type, info.backend
            );
            Ok((device, examples))
        }
        _ => Err("name a backend, flex or wgpu, as the first argument".into()),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (device, examples) = open(&std::env::args().nth(1).unwrap_or_default())?;
    let device = device.autodiff();
    let data = Data {
        inputs: Tensor::random([examples, FEATURES], Distribution::Uniform(0.0, 1.0), &device),
        labels: Tensor::<1>::random([examples], Distribution::Uniform(0.0, 9.99), &device).int(),
    };
    let mut trainers = HashMap::new();
    let mut answer = |request: &Value| -> Result<(), Box<dyn Error>> {
        let sizes = &request["sizes"];
        let batch_size: usize = serde_json::from_value(request["batch_size"].clone())?;
        let seconds: f64 = serde_json::from_value(request["seconds"].clone())?;
        let trainer = match trainers.entry((sizes.to_string(), batch_size)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Trainer::new(&data, network(sizes, &device)?, batch_size)),
        };
        let steps_per_second = trainer.steps_per_second(seconds);
        let line = json!({ "sizes": sizes, "batch_size": batch_size, "steps_per_second": steps_per_second });
        writeln!(std::io::stdout(), "{line}")?;
        Ok(())
    };
    if std::env::args().any(|argument| argument == "--serve") {
        for line in std::io::stdin().lock().lines() {
            answer(&serde_json::from_str(&line?)?)?;
        }
    } else {
        for sizes in [json!([784, 10]), json!([784, 128, 10]), json!([784, 512, 512, 10])] {
            for batch_size in [64, 256, 1024] {
                answer(&json!({ "sizes": sizes, "batch_size": batch_size, "seconds": 1.0 }))?;
            }
        }
    }
    Ok(())
}
