//! The commands: a file or folder each, with its options, its work and its output.

pub mod adapters;
pub mod bench;
pub mod completions;
pub mod doctor;
pub mod eval;
pub mod explain;
pub mod export;
pub mod import;
pub mod inspect;
pub mod man;
pub mod predict;
pub mod report;
pub mod reproduce;
mod rerun;
pub mod serve;
pub mod sweep;
pub mod train;
