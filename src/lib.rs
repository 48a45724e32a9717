//! softstep trains softmax classifiers on any GPU, with hand-written WGSL kernels on wgpu.
//!
//! # From data to report
//!
//! ```text
//! data → batches → backend (GPU or CPU) → losses → report
//! ```
//!
//! [`data`] loads [`Examples`](data::Examples): features, and classes or values to learn. [`trainer::train`] shuffles
//! them into batches and hands each to a [`Backend`](backend::Backend) as a [`Step`](backend::Step); what comes back
//! is the loss of every step, in order. The trainer tells an observer, and the binary's `report` prints.
//!
//! # A step
//!
//! Every training step is forward, loss, backward and update. On the GPU each is a kernel, under the same name in
//! `shaders/`, [`gpu::kernels`] and `tests/kernels/`:
//!
//! | | kernel | what it computes |
//! |---|---|---|
//! | forward | `forward` | `outputs = activation([inputs, 1] · weights)`; the first layer gathers its batch from the data set |
//! | loss | `cross_entropy` | softmax, −log p\[label\] by log-sum-exp, and its gradient (p − onehot) / batch; or another [`loss`] |
//! | backward | `input_gradient` | `d_inputs = d_outputs · weightsᵀ`, times the activation's derivative |
//! | | `weight_gradient` | `d_weights = [inputs, 1]ᵀ · d_outputs` |
//! | update | `sgd`, `adamw` | `weights −= learning_rate · direction`, fused into `weight_gradient` |
//!
//! Clipping needs every gradient before the first update. Then, and only then, `weight_gradient` ends in `store_gradient`
//! and not in an update, `gradient_norm` makes the coefficient of all gradients, and `clipped_update` joins it with `sgd`
//! or `adamw`.
//!
//! Evaluation and prediction end in `evaluate` and `softmax` instead. Three kernels are matrix products; they say
//! what is multiplied, and `shaders/matmul_*.wgsl` how: [`gpu::kernels::Matmul`].
//!
//! # Code map
//!
//! | module | what it holds |
//! |---|---|
//! | [`data`] | examples; IDX files, the standard sets and their download, the bundled digits; tables, images and arrays of one's own, their preprocessing, and what is to be predicted |
//! | [`mod@loss`] | the losses, and what a model's outputs mean |
//! | [`model`], [`optimizer`] | parameters on the host and their initialisation; SGD, AdamW and learning-rate schedules |
//! | [`backend`] | the trait that GPU and CPU share |
//! | [`gpu`] | the GPU backend: `device` opens adapters and notices their trouble, `data_set` keeps or streams examples, `kernel` makes pipelines, `kernels` has one file for each, `readback` brings losses home, `self_test` has known answers |
//! | [`cpu`] | the CPU backend: the baseline, and the fallback |
//! | [`mod@reference`], [`verify`] | everything that kernels compute, in f64; a backend whose steps are checked by it |
//! | [`defaults`], [`mod@range_test`], [`diagnosis`] | default settings by the data, a learning rate by trial, dead units |
//! | [`trainer`], [`metrics`] | the training loop; confusion matrix, precision, recall |
//! | [`model_file`], [`checkpoint`] | models, and runs that may go on, as safetensors |
//! | `main.rs`, `cli.rs`, `commands/`, `run_folder.rs`, `report.rs` | the binary: options, commands, files of a run, all that is printed |
//! | `commands/explain/` | the lesson: `lab` runs models, `experiments` compute numbers, `text` has the words in both languages, `sections` the page |
//! | `commands/rerun.rs` | a run that has been, opened to be trained again by `reproduce` and laid open by `inspect` |
//! | `page/`, `record.rs`, `tested.rs`, `tensorboard.rs` | pages and their plots; what a run leaves for its report; event files |
//!
//! # What never happens
//!
//! - Only `gpu` uses wgpu. `data`, `model` and `cpu` know nothing of it.
//! - Only `gpu::kernel` makes pipelines and bind groups, and only before the first step.
//! - Only `Gpu::submit` submits work, and it looks whether the device is still there.
//! - A training step creates no buffer, bind group or pipeline: it adds a record, and every eighth one writes the
//!   records, and the rows of a streamed data set, to the device, records the dispatches and submits them.
//! - The library prints nothing and blocks nowhere but in `gpu::readback`, where a native device needs to be polled;
//!   it is async throughout, and builds for `wasm32-unknown-unknown`. Files, network and clocks are in native parts.
//! - No size of MNIST appears outside `data`.
//! - A checkpoint changes no bit: it waits for the steps under way, and there is no random state but seed and position.
//! - No float is added atomically: the same adapter, seed and settings give the same bits.

pub mod augmentation;
pub mod backend;
pub mod checkpoint;
pub mod cpu;
pub mod data;
pub mod defaults;
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
pub mod trainer;
pub mod verify;

pub use error::{Error, Result};
