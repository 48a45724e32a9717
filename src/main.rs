//! The softstep command.

mod cli;
mod commands;
mod page;
mod record;
mod report;
mod run_folder;
mod tensorboard;
mod tested;

use std::process::ExitCode;
use std::time::Instant;

use cli::Command;

fn main() -> ExitCode {
    let started = Instant::now();
    keep_mesa_quiet();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("error")).init();
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        // --help and --version also come this way, with exit code 0.
        Err(error) => return report::usage_error(&error),
    };
    let done = match &cli.command {
        Command::Train(args) => pollster::block_on(commands::train::run(args, started)),
        Command::Eval(args) => pollster::block_on(commands::eval::run(args)).map(|()| ExitCode::SUCCESS),
        Command::Predict(args) => pollster::block_on(commands::predict::run(args))
            .map(|whole| if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        Command::Report(args) => commands::report::run(args).map(|()| ExitCode::SUCCESS),
        Command::Bench(args) => pollster::block_on(commands::bench::run(args)).map(|()| ExitCode::SUCCESS),
        Command::Adapters(args) => pollster::block_on(commands::adapters::run(args)).map(|()| ExitCode::SUCCESS),
        Command::Doctor(args) => pollster::block_on(commands::doctor::run(args))
            .map(|fit| if fit { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        Command::Explain(args) => pollster::block_on(commands::explain::run(args, started)).map(|()| ExitCode::SUCCESS),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            report::error(&error);
            ExitCode::FAILURE
        }
    }
}

/// On a machine without a desktop, Mesa's device selection layer looks for one and prints `error: XDG_RUNTIME_DIR …`
/// for each adapter. softstep sorts the adapters itself and can do without the layer.
#[allow(unsafe_code)] // the environment can be set by nothing else
fn keep_mesa_quiet() {
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}
