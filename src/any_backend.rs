//! [`Device`], the choice between a GPU and the CPU, and [`AnyBackend`], a model on either of them.

use std::sync::Arc;

use crate::backend::{Backend, DeviceInfo, Evaluation, Inference, KernelTime, Step, Training};
use crate::cpu::{self, CpuBackend, CpuModel};
use crate::data::Examples;
use crate::error::{Error, Result};
use crate::gpu::{self, AdapterChoice, Gpu, GpuBackend, GpuModel, Readback};
use crate::loss::Loss;
use crate::model::Parameters;
use crate::optimizer::TrainingState;
use crate::ranks::Ranks;

/// A device to train and to predict on.
#[derive(Clone)]
#[expect(clippy::large_enum_variant)] // a program has one device, not many
pub enum Device {
    /// An open GPU.
    #[doc(hidden)]
    Gpu(Gpu),
    /// The CPU.
    #[doc(hidden)]
    Cpu,
}

impl Device {
    /// The best hardware GPU, or the CPU if there is none that opens.
    pub async fn auto() -> Self {
        match Gpu::open(&AdapterChoice::Hardware).await {
            Ok(gpu) => Self::Gpu(gpu),
            Err(error) => {
                log::info!("computing on the CPU: {error}");
                Self::Cpu
            }
        }
    }

    /// The CPU.
    pub fn cpu() -> Self {
        Self::Cpu
    }

    /// The best GPU; without a hardware GPU, a software adapter.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] if there is none; [`Error::Gpu`] if it does not open.
    pub async fn gpu_or_software() -> Result<Self> {
        Gpu::open(&AdapterChoice::Auto).await.map(Self::Gpu)
    }

    /// The GPU whose name contains `name`, in any case, or which has this index in the list of `softstep adapters`.
    ///
    /// # Errors
    /// [`Error::NoAdapter`], with the names, if there is none; [`Error::Gpu`] if it does not open.
    pub async fn named(name: &str) -> Result<Self> {
        Gpu::open(&AdapterChoice::Named(name.into())).await.map(Self::Gpu)
    }

    /// Returns the description of the device.
    pub fn info(&self) -> DeviceInfo {
        match self {
            Self::Gpu(gpu) => gpu.info().clone(),
            Self::Cpu => cpu::device_info(),
        }
    }

    /// The device and queue of wgpu that softstep computes on, for kernels of one's own; `None` for the CPU.
    pub fn wgpu(&self) -> Option<(&wgpu::Device, &wgpu::Queue)> {
        self.gpu().map(|gpu| (&gpu.device, &gpu.queue))
    }

    /// Returns the GPU; `None` for the CPU.
    #[doc(hidden)]
    pub fn gpu(&self) -> Option<&Gpu> {
        match self {
            Self::Gpu(gpu) => Some(gpu),
            Self::Cpu => None,
        }
    }

    /// Puts a model and its training data on the device. The CPU delivers every loss at once, whatever the `readback`.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) if data and model do not fit together, or exceed the device; errors of the device.
    pub async fn for_training(
        &self,
        parameters: &Parameters,
        training: &Training<'_>,
        readback: Readback,
    ) -> Result<AnyBackend> {
        Ok(match self {
            Self::Gpu(gpu) => AnyBackend::Gpu(Box::new(GpuBackend::new(gpu, parameters, training, readback).await?)),
            Self::Cpu => AnyBackend::Cpu(Box::new(CpuBackend::new(parameters, training)?)),
        })
    }

    /// Puts a model that was trained with `loss` on the device, to evaluate and to predict.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) if the model exceeds the device; errors of the device.
    pub async fn for_inference(&self, parameters: &Parameters, loss: Loss) -> Result<AnyModel> {
        Ok(match self {
            Self::Gpu(gpu) => AnyModel::Gpu(Box::new(GpuModel::new(gpu, parameters, loss).await?)),
            Self::Cpu => AnyModel::Cpu(Box::new(CpuModel::new(parameters, loss)?)),
        })
    }
}

/// A model on the GPU or on the CPU, for evaluation and prediction.
pub enum AnyModel {
    /// A model on a GPU.
    #[doc(hidden)]
    Gpu(Box<GpuModel>),
    /// A model on the CPU.
    #[doc(hidden)]
    Cpu(Box<CpuModel>),
}

/// A model in training on the GPU or on the CPU. Every method delegates to the [`Backend`] of the device.
pub enum AnyBackend {
    /// A model on a GPU.
    #[doc(hidden)]
    Gpu(Box<GpuBackend>),
    /// A model on the CPU.
    #[doc(hidden)]
    Cpu(Box<CpuBackend>),
}

impl AnyBackend {
    /// Shares the shards of every batch among these ranks.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) unless the number of ranks is a power of two, and there is a shard for each.
    pub fn with_ranks(self, ranks: Arc<dyn Ranks>) -> Result<Self> {
        Ok(match self {
            Self::Gpu(backend) => Self::Gpu(Box::new(backend.with_ranks(ranks)?)),
            Self::Cpu(backend) => Self::Cpu(Box::new(backend.with_ranks(ranks)?)),
        })
    }

    /// Turns on [`profile`](Backend::profile).
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) for the CPU, or if the adapter has no timestamp queries.
    pub fn with_profile(self) -> Result<Self> {
        match self {
            Self::Gpu(backend) => Ok(Self::Gpu(Box::new(backend.with_profile()?))),
            Self::Cpu(_) => Err(Error::Invalid("a profile times the kernels of a GPU, and the CPU has none".into())),
        }
    }
}

/// A data set that was uploaded to an [`AnyBackend`].
pub enum AnySet {
    /// A data set on a GPU.
    #[doc(hidden)]
    Gpu(Box<gpu::Set>),
    /// A data set for the CPU.
    #[doc(hidden)]
    Cpu(Examples),
}

/// Error of a data set that was uploaded to the other kind of device.
fn other_device() -> Error {
    Error::Invalid("the data set is on another device than the model: upload it to the model's backend".into())
}

/// Calls a method of whichever model it is.
macro_rules! delegate {
    ($self:ident, $model:ident => $call:expr) => {
        match $self {
            Self::Gpu($model) => $call,
            Self::Cpu($model) => $call,
        }
    };
}

/// Implements [`Inference`] by delegation, for models and for models in training.
macro_rules! delegate_inference {
    ($($type:ty),*) => {$(
        impl Inference for $type {
            type Set = AnySet;

            fn info(&self) -> &DeviceInfo {
                delegate!(self, model => model.info())
            }

            fn upload(&mut self, examples: &Examples) -> Result<AnySet> {
                Ok(match self {
                    Self::Gpu(model) => AnySet::Gpu(Box::new(model.upload(examples)?)),
                    Self::Cpu(model) => AnySet::Cpu(model.upload(examples)?),
                })
            }

            async fn evaluate(&mut self, set: &AnySet) -> Result<Evaluation> {
                match (self, set) {
                    (Self::Gpu(model), AnySet::Gpu(set)) => model.evaluate(set).await,
                    (Self::Cpu(model), AnySet::Cpu(set)) => model.evaluate(set).await,
                    _ => Err(other_device()),
                }
            }

            async fn probabilities(&mut self, set: &AnySet) -> Result<Vec<f32>> {
                match (self, set) {
                    (Self::Gpu(model), AnySet::Gpu(set)) => model.probabilities(set).await,
                    (Self::Cpu(model), AnySet::Cpu(set)) => model.probabilities(set).await,
                    _ => Err(other_device()),
                }
            }

            async fn parameters(&mut self) -> Result<Parameters> {
                delegate!(self, model => model.parameters().await)
            }
        }
    )*};
}

delegate_inference!(AnyModel, AnyBackend);

impl Backend for AnyBackend {
    fn begin_epoch(&mut self, order: &[u32]) -> Result<()> {
        delegate!(self, backend => backend.begin_epoch(order))
    }

    async fn step(&mut self, step: Step, losses: &mut Vec<f32>) -> Result<()> {
        delegate!(self, backend => backend.step(step, losses).await)
    }

    async fn flush(&mut self, losses: &mut Vec<f32>) -> Result<()> {
        delegate!(self, backend => backend.flush(losses).await)
    }

    async fn state(&mut self) -> Result<TrainingState> {
        delegate!(self, backend => backend.state().await)
    }

    fn restore(&mut self, state: &TrainingState) -> Result<()> {
        delegate!(self, backend => backend.restore(state))
    }

    fn any(&self, flag: bool) -> Result<bool> {
        delegate!(self, backend => backend.any(flag))
    }

    fn profile(&self) -> &[KernelTime] {
        delegate!(self, backend => backend.profile())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data;

    /// Takes two steps on the digits and evaluates.
    async fn steps<B: Backend>(backend: &mut B, examples: &Examples) -> (Vec<f32>, String, Evaluation) {
        let mut losses = Vec::new();
        backend.begin_epoch(&(0..64).collect::<Vec<_>>()).unwrap();
        for first in [0, 32] {
            backend.step(Step { first, batch: 32, learning_rate: 0.1 }, &mut losses).await.unwrap();
        }
        backend.flush(&mut losses).await.unwrap();
        let set = backend.upload(examples).unwrap();
        let evaluation = backend.evaluate(&set).await.unwrap();
        (losses, backend.parameters().await.unwrap().sha256(), evaluation)
    }

    #[test]
    fn either_device_computes_what_its_backend_does_and_takes_no_set_of_the_other() {
        let digits = data::digits().unwrap().train;
        let parameters = Parameters::new(&[digits.features, 10], 3).unwrap();
        let training = Training::new(&digits, 32);
        pollster::block_on(async {
            let gpu = Gpu::open(&AdapterChoice::Auto).await.unwrap();
            let mut alone = GpuBackend::new(&gpu, &parameters, &training, Readback::Pipelined).await.unwrap();
            let device = Device::Gpu(gpu);
            let mut on_gpu = device.for_training(&parameters, &training, Readback::Pipelined).await.unwrap();
            assert_eq!(steps(&mut on_gpu, &digits).await, steps(&mut alone, &digits).await);
            assert_eq!(*on_gpu.info(), device.info());

            let mut alone = CpuBackend::new(&parameters, &training).unwrap();
            let mut on_cpu = Device::Cpu.for_training(&parameters, &training, Readback::Pipelined).await.unwrap();
            assert_eq!(steps(&mut on_cpu, &digits).await, steps(&mut alone, &digits).await);
            assert_eq!(*on_cpu.info(), Device::Cpu.info());

            let set = on_cpu.upload(&digits).unwrap();
            assert!(on_gpu.evaluate(&set).await.unwrap_err().to_string().contains("another device"));
            assert!(on_gpu.probabilities(&set).await.unwrap_err().to_string().contains("another device"));
            let Err(error) = on_cpu.with_profile() else { panic!("the CPU has kernels") };
            assert!(error.to_string().contains("the CPU has none"), "{error}");
        });
    }
}
