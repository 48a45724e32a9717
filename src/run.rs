//! The folder of a training run: each of its files with its writer and its reader.

pub mod checkpoints;
pub mod config;
pub mod error_analysis;
pub mod events;
pub mod files;
pub mod folder;
pub mod importance;
pub mod lock;
pub mod metrics;
pub mod model;
pub mod page;
pub mod probabilities;
pub mod record;
pub mod results;
pub mod several;
