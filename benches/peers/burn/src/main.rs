//! softstep's training step in Burn, on the CPU (flex) or through wgpu. `../README.md` says how to run it and what it
//! answers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Instant;

use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Distribution, Int, Tensor, activation::relu};
use serde_json::{Value, json};

const EXAMPLES: usize = 60_000;
const FEATURES: usize = 784;
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

struct Trainer<'a> {
    data: &'a Data,
    layers: Vec<Linear>,
    loss: CrossEntropyLoss,
    optimizer: ModuleOptimizer,
    /// One tensor of example numbers a batch.
    batches: Vec<Tensor<1, Int>>,
    next: usize,
}

impl<'a> Trainer<'a> {
    fn new(data: &'a Data, sizes: &[usize], batch_size: usize) -> Self {
        let device = data.inputs.device();
        let layers = sizes.windows(2).map(|pair| LinearConfig::new(pair[0], pair[1]).init(&device)).collect();
        let loss = CrossEntropyLossConfig::new().init(&device);
        let optimizer = SgdConfig::new().init();
        let batches = shuffled(data.inputs.dims()[0])
            .chunks_exact(batch_size)
            .map(|batch| Tensor::from_data(batch, &device))
            .collect();
        let mut trainer = Self { data, layers, loss, optimizer, batches, next: 0 };
        for _ in 0..FIRST_STEPS {
            trainer.step();
        }
        trainer
    }

    fn step(&mut self) -> f32 {
        let batch = self.batches[self.next].clone();
        self.next = (self.next + 1) % self.batches.len();
        let mut values = self.data.inputs.clone().select(0, batch.clone());
        let labels = self.data.labels.clone().select(0, batch);
        for (index, layer) in self.layers.iter().enumerate() {
            values = layer.forward(if index == 0 { values } else { relu(values) });
        }
        let loss = self.loss.forward(values, labels);
        let gradients = GradientsParams::from_grads(loss.backward(), &self.layers);
        self.layers = self.optimizer.step(LEARNING_RATE, std::mem::take(&mut self.layers), gradients);
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
        let sizes: Vec<usize> = serde_json::from_value(request["sizes"].clone())?;
        let batch_size: usize = serde_json::from_value(request["batch_size"].clone())?;
        let seconds: f64 = serde_json::from_value(request["seconds"].clone())?;
        let trainer = match trainers.entry((sizes.clone(), batch_size)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Trainer::new(&data, &sizes, batch_size)),
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
