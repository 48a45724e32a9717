//! softstep's training step in Candle, on the CPU. `../README.md` says how to run it and what it answers.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{Linear, Module, Optimizer, SGD, VarBuilder, VarMap, linear, loss};
use serde_json::{Value, json};

const EXAMPLES: usize = 60_000;
const LEARNING_RATE: f64 = 0.01;
const WARM_UP_SECONDS: f64 = 1.0;

struct Trainer<'a> {
    data: &'a (Tensor, Tensor),
    layers: Vec<Linear>,
    optimizer: SGD,
    /// One tensor of example numbers a batch.
    batches: Vec<Tensor>,
    next: usize,
}

impl<'a> Trainer<'a> {
    fn new(data: &'a (Tensor, Tensor), sizes: &[usize], batch_size: usize) -> Result<Self> {
        let variables = VarMap::new();
        let builder = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
        let layers = sizes
            .windows(2)
            .enumerate()
            .map(|(index, pair)| linear(pair[0], pair[1], builder.pp(index)))
            .collect::<Result<_>>()?;
        let optimizer = SGD::new(variables.all_vars(), LEARNING_RATE)?;
        let batches = shuffled(EXAMPLES)
            .chunks_exact(batch_size)
            .map(|batch| Tensor::from_slice(batch, batch_size, &Device::Cpu))
            .collect::<Result<_>>()?;
        Ok(Self { data, layers, optimizer, batches, next: 0 })
    }

    fn step(&mut self) -> Result<f32> {
        let batch = &self.batches[self.next];
        self.next = (self.next + 1) % self.batches.len();
        let mut values = self.data.0.index_select(batch, 0)?;
        let labels = self.data.1.index_select(batch, 0)?;
        for (index, layer) in self.layers.iter().enumerate() {
            values = layer.forward(&if index == 0 { values } else { values.relu()? })?;
        }
        let loss = loss::cross_entropy(&values, &labels)?;
        self.optimizer.backward_step(&loss)?;
        loss.to_scalar()
    }

    fn steps_per_second(&mut self, seconds: f64) -> Result<f64> {
        self.pace(WARM_UP_SECONDS)?;
        self.pace(seconds)
    }

    fn pace(&mut self, seconds: f64) -> Result<f64> {
        let mut steps = 0;
        let started = Instant::now();
        while started.elapsed().as_secs_f64() < seconds {
            assert!(self.step()?.is_finite());
            steps += 1;
        }
        Ok(f64::from(steps) / started.elapsed().as_secs_f64())
    }
}

/// 0..count in an order that looks random (a linear congruential generator of full period, cut to size).
fn shuffled(count: usize) -> Vec<u32> {
    let modulus = count.next_power_of_two();
    let mut at = 1;
    let next = || {
        at = (at * 25_173 + 13_849) % modulus;
        at
    };
    std::iter::repeat_with(next).take(modulus).filter(|&at| at < count).map(|at| at as u32).collect()
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let inputs = Tensor::rand(0f32, 1f32, (EXAMPLES, 784), &Device::Cpu)?;
    let labels = Tensor::rand(0f32, 9.99f32, EXAMPLES, &Device::Cpu)?.to_dtype(DType::U32)?;
    let data = (inputs, labels);
    let mut trainers = HashMap::new();
    let mut answer = |request: &Value| -> std::result::Result<(), Box<dyn std::error::Error>> {
        let sizes: Vec<usize> = serde_json::from_value(request["sizes"].clone())?;
        let batch_size: usize = serde_json::from_value(request["batch_size"].clone())?;
        let seconds: f64 = serde_json::from_value(request["seconds"].clone())?;
        let trainer = match trainers.entry((sizes.clone(), batch_size)) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(Trainer::new(&data, &sizes, batch_size)?),
        };
        let steps_per_second = trainer.steps_per_second(seconds)?;
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
