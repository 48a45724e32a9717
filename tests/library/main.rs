//! Tests of the library alone. Each file is a module: `cargo test --test library kernels::` runs those of `kernels/`.
//!
//! They are one program, as in `tests/command_line`. Those that measure the memory of their process are in
//! `tests/memory.rs`.

mod backends;
mod cpu;
mod cpu_layers;
#[cfg(feature = "download")]
mod data;
mod gpu_layers;
mod kernels;
mod losses;
mod model_file;
mod network_trajectories;
mod pipeline_cache;
mod rules;
mod shaders;
mod trajectories;

#[path = "../support/oracle.rs"]
mod oracle;
#[cfg(feature = "download")]
#[path = "../support/server.rs"]
mod server;
#[path = "../support/skip.rs"]
mod skip;
