//! Tests that run the program. Each file is a module: `cargo test --test command_line serve::` runs those of `serve.rs`.
//!
//! They are one program, so that it is linked once and a slow test of one file does not leave a core idle: a test
//! may change nothing that the others of its process see, such as the environment or the current folder.

mod bits;
mod checkpoint;
mod cli;
mod clipping;
mod csv;
mod defaults;
mod device_faults;
mod digits;
mod doctor;
mod early_stopping;
mod explain;
mod exports;
mod files_of_0_1_0;
mod hostile;
mod idx;
mod images;
mod injection;
mod lost_work;
mod mnist;
mod networks;
mod npy;
mod pages;
mod predict;
#[cfg(feature = "mpi")]
mod ranks;
mod receipts;
mod report;
mod security;
mod serve;
mod settings_files;
mod site;
mod site_page;
mod soundness;
mod stored;
mod sweep;
mod tables;
mod verify;

#[path = "../support/binary.rs"]
mod binary;
#[path = "../support/browser.rs"]
mod browser;
#[path = "../support/npz.rs"]
mod npz;
#[path = "../support/oracle.rs"]
mod oracle;
#[path = "../support/pictures.rs"]
mod pictures;
#[path = "../support/server.rs"]
mod server;
#[path = "../support/serving.rs"]
mod serving;
#[path = "../support/skip.rs"]
mod skip;
