//! `softstep adapters`: the adapters that `--adapter` can choose.

use anyhow::Result;
use clap::Args;
use serde_json::json;
use softstep::gpu::{self, AdapterEntry, REMEDY};

use crate::terminal::{notice, print, print_json, table};

/// Options of `softstep adapters`.
#[derive(Args, Debug)]
pub struct AdaptersArgs {
    /// Print JSON Lines, one adapter a line
    #[arg(long)]
    pub json: bool,
}

/// Lists the adapters, best first.
pub async fn run(args: &AdaptersArgs) -> Result<()> {
    print_adapters(&gpu::adapters().await, args.json)
}

/// Prints adapters as a table or JSON Lines.
fn print_adapters(entries: &[AdapterEntry], json: bool) -> Result<()> {
    if json {
        entries.iter().try_for_each(|entry| print_json(&adapter_line(entry)))?;
        return Ok(());
    }
    if entries.is_empty() {
        notice(&format!("no adapter found: {REMEDY}; meanwhile softstep computes on the CPU"));
        return Ok(());
    }
    Ok(print(&adapter_table(entries))?)
}

fn adapter_line(entry: &AdapterEntry) -> serde_json::Value {
    let AdapterEntry { index, name, device_type, api, driver, .. } = entry;
    json!({ "index": index, "name": name, "device_type": device_type, "api": api, "driver": driver })
}

/// Formats adapters as a table.
pub fn adapter_table(entries: &[AdapterEntry]) -> String {
    let mut table = table(&["#", "adapter", "type", "api", "driver"]);
    for AdapterEntry { index, name, device_type, api, driver, .. } in entries {
        table.add_row([&index.to_string(), name, *device_type, api, driver]);
    }
    table.to_string()
}

/// Serializes adapters with the fields of `softstep adapters --json`.
pub fn serialize_adapters<S: serde::Serializer>(entries: &[AdapterEntry], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(entries.iter().map(adapter_line))
}
