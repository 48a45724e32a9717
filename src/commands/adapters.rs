//! `softstep adapters`: what `--adapter` can name.

use anyhow::Result;
use softstep::gpu;

use crate::cli::AdaptersArgs;
use crate::report;

/// Lists the adapters, best first.
pub async fn run(args: &AdaptersArgs) -> Result<()> {
    report::adapters(&gpu::adapters().await, args.json)
}
