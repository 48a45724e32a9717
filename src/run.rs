//! The folder of a training run: every file of it, with its writer and its reader.

pub mod error_analysis;
pub mod events;
pub mod folder;
pub mod metrics;
pub mod page;
pub mod record;
