//! softstep trains classifiers and regressions, from softmax regression to small convolutional networks, on any GPU:
//! hand-written WGSL kernels on wgpu, with a CPU backend and a reference implementation in f64.
//!
//! # Train a model
//!
//! ```
//! use softstep::{Device, Event, TrainingConfig};
//!
//! # pollster::block_on(async {
//! let device = Device::cpu(); // or Device::auto().await: the best GPU, if there is one
//! let data = softstep::data::digits()?;
//! let config = TrainingConfig::default().hidden([64]).epochs(5);
//! let run = softstep::train(&device, &data, &config, |event| {
//!     if let Event::EpochEvaluated { epoch, test, .. } = event {
//!         println!("epoch {epoch}: test loss {:.4}", test.loss);
//!     }
//! })
//! .await?;
//! assert!(run.summary.test.accuracy() > Some(0.9));
//!
//! // Pixels of one or several images, one after the other.
//! let image: Vec<u8> = vec![0; 64];
//! let predictions = run.model.predict(image)?;
//! println!("class {:?}, probabilities {:?}", predictions[0].class, predictions[0].outputs);
//! # softstep::Result::Ok(())
//! # }).unwrap();
//! ```
//!
//! The functions are async because a browser's GPU answers later; natively any executor runs them, as
//! `pollster::block_on`.
//!
//! # Save and load
//!
//! ```
//! use softstep::Model;
//!
//! # pollster::block_on(async {
//! # let data = softstep::data::digits()?;
//! # let config = softstep::TrainingConfig::default().epochs(1);
//! # let run = softstep::train(&softstep::Device::cpu(), &data, &config, |_| ()).await?;
//! # let path = std::env::temp_dir().join(format!("softstep-{}.safetensors", std::process::id()));
//! run.model.save(&path)?;
//! let model = Model::load(&path)?;
//! assert_eq!(model, run.model);
//! # std::fs::remove_file(&path).unwrap();
//! # softstep::Result::Ok(())
//! # }).unwrap();
//! ```
//!
//! The file is a safetensors file that PyTorch loads, too; `softstep predict` and `softstep eval` read it.
//!
//! # Data of one's own
//!
//! ```
//! use softstep::data::{Data, Examples};
//! use softstep::{Device, TrainingConfig};
//!
//! # pollster::block_on(async {
//! // Two features; the class is whether the second one is larger.
//! let points = |from: u32| {
//!     let value = |at: u32| (at * 37 % 100) as f32 / 50.0 - 1.0;
//!     let features: Vec<f32> = (from..from + 200).map(value).collect();
//!     let classes: Vec<u32> = features.chunks(2).map(|point| u32::from(point[1] > point[0])).collect();
//!     Examples::new(features, classes, 2, 2)
//! };
//! let data = Data::new("points", points(0)?, points(1000)?)?;
//! let run = softstep::train(&Device::cpu(), &data, &TrainingConfig::default().epochs(50), |_| ()).await?;
//! assert_eq!(run.model.predict(vec![0.2f32, 0.9])?[0].class, Some(1));
//! # softstep::Result::Ok(())
//! # }).unwrap();
//! ```
//!
//! Tables, folders of images, NumPy arrays and IDX files are loaded by [`data::csv`], [`data::images`], [`data::npy`] and
//! [`data::load`].
//!
//! # A loop of one's own
//!
//! [`Backend`](backend::Backend) is the device side of training: it takes steps on batches of an epoch's shuffled indices,
//! and returns the losses in order.
//!
//! ```
//! use softstep::backend::{Backend, Inference, Readback, Step};
//! use softstep::model::Parameters;
//! use softstep::{Device, TrainingConfig};
//!
//! # pollster::block_on(async {
//! let data = softstep::data::digits()?;
//! let config = TrainingConfig::default().batch_size(32);
//! let parameters = Parameters::initialize(&config.architecture(data.shape(), 10)?, config.seed)?;
//! let training = config.training(&data.train, &[], data.shape())?;
//! let mut backend = Device::cpu().for_training(&parameters, &training, Readback::default()).await?;
//!
//! let mut losses = Vec::new();
//! let shuffled: Vec<u32> = (0..data.train.len() as u32).rev().collect();
//! backend.begin_epoch(&shuffled)?;
//! for first in (0..shuffled.len()).step_by(config.batch_size) {
//!     let batch = config.batch_size.min(shuffled.len() - first);
//!     backend.step(Step { first, batch, learning_rate: 0.05 }, &mut losses).await?;
//! }
//! backend.flush(&mut losses).await?; // a GPU delivers losses some steps late
//! assert!(losses.last() < losses.first());
//!
//! let test = backend.upload(&data.test)?;
//! assert!(backend.evaluate(&test).await?.accuracy() > Some(0.8));
//! # softstep::Result::Ok(())
//! # }).unwrap();
//! ```
//!
//! # Features
//!
//! | feature | |
//! |---|---|
//! | `cli` | the binary `softstep`, and the crates that only it needs; on by default |
//! | `mpi` | `softstep train` on the [ranks] of MPI: needs Open MPI and libclang |
//! | `download` | the download of MNIST, Fashion-MNIST and KMNIST by [`data::load`]; part of `cli` |
//!
//! As a library, softstep is best used with `default-features = false`. It builds for `wasm32-unknown-unknown`, without
//! files and downloads.
//!
//! # Errors
//!
//! An [`Error`] is one line for a person: what is wrong, and the way out. A setting in it stands in backticks, by the name
//! of its field: ``` `learning_rate` 0: must be above 0 and finite ```.
//!
//! The guides are in [`guide`]: [programs of your own](guide::programs), models, data, commands, shaders, speeds, tests, and how softstep is built.

#[doc(hidden)]
pub mod any_backend;
pub mod augmentation;
pub mod backend;
#[doc(hidden)]
pub mod checkpoint;
#[doc(hidden)]
pub mod cpu;
#[doc(hidden)]
pub mod cross_validation;
pub mod data;
#[doc(hidden)]
pub mod defaults;
#[doc(hidden)]
pub mod deviation;
#[doc(hidden)]
pub mod diagnosis;
#[doc(hidden)]
pub mod error;
#[doc(hidden)]
pub mod gpu;
pub mod guide;
pub mod loss;
mod math;
pub mod metrics;
pub mod model;
#[doc(hidden)]
pub mod model_file;
pub mod optimizer;
mod parallel;
#[doc(hidden)]
pub mod plan;
#[doc(hidden)]
pub mod random;
#[doc(hidden)]
pub mod range_test;
pub mod ranks;
#[doc(hidden)]
pub mod reference;
#[doc(hidden)]
pub mod shader;
mod shards;
mod trained;
#[doc(hidden)]
pub mod trainer;
mod training;
#[doc(hidden)]
pub mod verify;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod web;
#[cfg(any(target_arch = "wasm32", test))]
#[path = "web/words.rs"]
mod words; // outside `web`, so that its test runs natively

pub use any_backend::Device;
pub use error::{Error, Result};
pub use trained::{Model, Prediction};
pub use trainer::{Best, Event, Keep, Position, Summary, TrainingConfig};
pub use training::{Run, train};
/// The version of wgpu that [`Device::wgpu`] is of.
#[doc(no_inline)]
pub use wgpu;
