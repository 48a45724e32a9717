//! softstep trains classifiers and regressions, from softmax regression to small convolutional networks, on any GPU:
//! hand-written WGSL kernels on wgpu, with a CPU backend and a reference implementation in f64.
//!
//! # From data to report
//!
//! ```text
//! data → batches → backend (GPU or CPU) → losses → report
//! ```
//!
//! [`data`] loads [`Examples`](data::Examples): features, and classes or real values as targets. [`trainer::train`]
//! shuffles them into batches and passes each to a [`Backend`](backend::Backend) as a [`Step`](backend::Step); the
//! backend returns the loss of every step, in order. The trainer reports [`Event`](trainer::Event)s to an observer; the
//! binary prints and records them.
//!
//! # A training step
//!
//! A training step is forward, loss, backward and update. [`plan::Plan`] turns an [`Architecture`](model::Architecture)
//! into the list of these operations, and each backend lowers them: the GPU to kernels, the CPU to loops, the f64
//! [`mod@reference`] to formulas. Every GPU kernel is a file of `shaders/`, with its host side in [`gpu::kernels`]:
//!
//! | | kernel | what it computes |
//! |---|---|---|
//! | inputs | `gather_images` | the images of the batch, augmented or in the layout of a convolution; a linear first layer gathers its batch by itself |
//! | forward | `forward` | linear layers and convolutions: `outputs = activation([inputs, 1] · weights)` |
//! | | `max_pool`, `batch_statistics` and `batch_norm`, `element_wise` | pooling; batch normalisation; dropout, and activations that are not fused to another kernel |
//! | loss | `cross_entropy` | softmax, −log p\[label\] by log-sum-exp, and its gradient (p − onehot) / batch; or another [`loss`] of `shaders/loss/` |
//! | backward | `input_gradient` | `d_inputs = d_outputs · weightsᵀ`, times the activation's derivative |
//! | | `weight_gradient` | `d_weights = [inputs, 1]ᵀ · d_outputs`; for convolutions in partial sums |
//! | | `max_pool_backward`, `batch_norm_input_gradient`, `batch_norm_weight_gradient`, `element_wise_backward` | the other layers' gradients |
//! | update | `sgd`, `adamw`, `lion` | `weights −= learning_rate · direction`, a part of `shaders/optimizer/` that is fused to `weight_gradient`, or to `sum_parts`, which adds partial sums |
//!
//! Clipping needs all gradients before the first update. With it, `weight_gradient` and `sum_parts` end in
//! `store_gradient` instead of an update, `gradient_norm` computes the clip coefficient, and `clipped_update` applies
//! the optimizer to the clipped gradients.
//!
//! Evaluation ends in `evaluate`, prediction in `softmax`. Three kernels are matrix products: `forward`,
//! `input_gradient` and `weight_gradient` define what is multiplied, and `shaders/matmul/` how:
//! [`gpu::kernels::Matmul`].
//!
//! # Code map
//!
//! | module | contents |
//! |---|---|
//! | [`data`] | examples; IDX files, the standard sets and their download, the bundled digits; tables, images and arrays of users, their preprocessing, and inputs for prediction |
//! | [`model`] | architectures, activations, parameters and their initialisation, presets |
//! | [`mod@loss`], [`optimizer`] | losses and the meaning of a model's outputs; optimizers and learning-rate schedules |
//! | [`plan`] | the operations of a training step, with their shapes |
//! | [`augmentation`], [`random`] | random changes of images; stateless random numbers |
//! | [`backend`] | the trait that the GPU and the CPU backend implement |
//! | [`gpu`] | the GPU backend: `device` opens adapters and reports their errors, `network` lowers a plan, `tensor` and `matrix` are buffers with a layout, `data_set` is resident or streamed, `kernel` creates pipelines, `kernels` has the host side of each kernel, `readback` returns losses, `self_test` has known-answer tests |
//! | [`cpu`] | the CPU backend: the baseline and the fallback |
//! | [`any_backend`] | the choice between GPU and CPU, and a model on either |
//! | [`mod@reference`], [`verify`] | everything that kernels compute, in f64 with error bounds; a backend wrapper that verifies steps with it |
//! | [`defaults`], [`mod@range_test`], [`diagnosis`] | default settings for the data; learning rates by trial; dead units |
//! | [`trainer`], [`metrics`] | the training loop; confusion matrix, precision and recall |
//! | [`model_file`], [`checkpoint`] | models, and the state of resumable runs, as safetensors |
//! | [`shader`] | the files of `shaders/`, which programs are assembled from |
//! | `main.rs`, `cli.rs`, `commands/` | the binary: the command line, and a file or folder for each command |
//! | `commands/explain/` | the lesson: `runner` runs models, `experiments` compute numbers, `text` has the words in both languages, `sections` builds the page |
//! | `commands/rerun.rs` | a recorded run, opened to be trained again by `reproduce` or examined by `inspect` |
//! | `run/` | the files of a run folder, each with its writer and its reader |
//! | `html/` | pages, plots and pictures |
//!
//! # Adding an activation, an optimizer, a loss
//!
//! An activation is an [`Entry`](model::activation::Entry) in a file of `src/model/activation/`: its name, its value
//! and derivative in f64 and f32, bounds of their errors, and the paths of its shader, a file in `shaders/activation/`
//! with `activate` and `activate_backward`. [`Activation`](model::Activation) lists it in the enum, `ALL` and
//! `with_entry!`. The command line, `layers`, files, both backends, the verifier, `doctor` and the tests of every
//! activation find it there; `leaky_relu` is an example.
//!
//! An optimizer is an [`Entry`](optimizer::Entry) in a file of `src/optimizer/`: its name, its settings and their
//! ranges, its update in f64 and f32, bounds of its errors, and its shader, a file in `shaders/optimizer/` with
//! `update`. [`Optimizer`](optimizer::Optimizer) lists it in the enum, `all`, `from_settings` and `with_optimizer!`.
//! The comparison of its first twenty steps with PyTorch's needs a line in `tests/trajectories.rs` and in
//! `tests/python/optimizer_trajectories.py`; a setting that no other optimizer has needs a flag in `cli.rs` and a field
//! of [`Settings`](optimizer::Settings). `lion` is an example.
//!
//! A loss is an [`Entry`](loss::Entry) in a file of `src/loss/`: its name, the [`Link`](loss::Link) between outputs and
//! predictions, its value and gradient in f64 with error bounds, its f32 loop, and its shader, a file in `shaders/loss/`
//! with `train_row` and `loss_of_row`. If it compares each output with its target it is a
//! [`Pointwise`](loss::Pointwise) loss instead: a function and its slope, and a shader with `error_loss` and
//! `error_slope`. [`Loss`](loss::Loss) lists it in the enum, `ALL` and `with_loss!`; a test in `tests/kernels/` has its
//! name. The command line, files, both backends, the verifier, `doctor` and the tests of every loss find it there;
//! `huber` is an example.
//!
//! # What never happens
//!
//! - Only `gpu` uses wgpu, and no other module of the library depends on `gpu`.
//! - Only `gpu::kernel` creates pipelines and bind groups. Those of a training step exist before the first step.
//! - Only `Gpu::submit` submits work, and it checks that the device still exists.
//! - A training step creates no buffer, bind group or pipeline, except to read a profile. A step adds its uniforms to
//!   the pending ones; every eighth step uploads them, with the rows of a streamed data set, records the dispatches and
//!   submits them. Long steps are submitted more often, down to parts of single kernels.
//! - The library prints nothing; messages for developers go to `log`.
//! - Only `gpu::readback`, and `Gpu::check` after an error, wait for the device, because a native device has to be
//!   polled.
//! - The library builds for `wasm32-unknown-unknown`. Network and clocks are used on native targets only.
//! - No code of the library outside `data` depends on a size of MNIST.
//! - A checkpoint changes no bit: it waits for the steps in flight, and the only random state is seed and position.
//! - No float is added atomically: the same adapter, seed and settings give the same bits.

pub mod any_backend;
pub mod augmentation;
pub mod backend;
pub mod checkpoint;
pub mod cpu;
pub mod data;
pub mod defaults;
pub mod deviation;
pub mod diagnosis;
pub mod error;
pub mod gpu;
pub mod loss;
mod math;
pub mod metrics;
pub mod model;
pub mod model_file;
pub mod optimizer;
pub mod plan;
pub mod random;
pub mod range_test;
pub mod reference;
pub mod shader;
mod trained;
pub mod trainer;
mod training;
pub mod verify;

pub use any_backend::Device;
pub use error::{Error, Result};
pub use trained::{Model, Prediction};
pub use trainer::{Best, Event, Keep, Summary, TrainingConfig};
pub use training::{Run, train};
