//! The softstep command.

mod cli;
mod commands;
mod device;
mod flags;
mod format;
mod html;
mod loading;
mod model_summary;
mod mpi;
mod options;
mod quality;
mod run;
mod settings_file;
mod shell;
mod side_by_side;
mod spread;
mod terminal;

use clap::CommandFactory;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use cli::Command;

/// The variable that names a smaller instruction set for the CPU backend, for measurements and tests.
const INSTRUCTION_SET: &str = "SOFTSTEP_INSTRUCTION_SET";
/// The most threads that are asked for on a machine with fewer processors.
const MAX_THREADS: usize = 64;
/// The stack of a thread that runs a command, as the first thread of a process has it.
const STACK_BYTES: usize = 8 << 20;

fn main() -> ExitCode {
    let started = Instant::now();
    keep_mesa_quiet();
    // Of the ranks of a run or a sweep, the first one prints.
    let is_shared = std::env::args_os().nth(1).is_some_and(|command| command == "train" || command == "sweep");
    if is_shared && mpi::Launched::read().is_some_and(|launched| launched.rank > 0) {
        terminal::be_silent();
    }
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("error"))
        .format(terminal::log_line)
        .init();
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        // --help and --version also come this way, with exit code 0.
        Err(error) => return terminal::usage_error(&cli::printable_error(error, std::env::args_os())),
    };
    let done = with_threads(|| run(&cli.command, started));
    match done {
        Ok(code) => code,
        Err(error) => {
            terminal::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command, started: Instant) -> anyhow::Result<ExitCode> {
    if let Some(name) = std::env::var_os(INSTRUCTION_SET) {
        softstep::cpu::limit_instruction_set(&name.to_string_lossy()).context(INSTRUCTION_SET)?;
    }
    match command {
        Command::Train(args) => pollster::block_on(commands::train::run(args, started)),
        Command::Sweep(args) => pollster::block_on(commands::sweep::run(args, started)),
        Command::Eval(args) => pollster::block_on(commands::eval::run(args)).map(|()| ExitCode::SUCCESS),
        Command::Predict(args) => pollster::block_on(commands::predict::run(args))
            .map(|whole| if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        Command::Export(args) => commands::export::run(args).map(|()| ExitCode::SUCCESS),
        Command::Import(args) => commands::import::run(args).map(|()| ExitCode::SUCCESS),
        Command::Serve(args) => commands::serve::run(args).map(|()| ExitCode::SUCCESS),
        Command::Report(args) => commands::report::run(args).map(|()| ExitCode::SUCCESS),
        Command::Reproduce(args) => pollster::block_on(commands::reproduce::run(args))
            .map(|same| if same { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        Command::Inspect(args) => pollster::block_on(commands::inspect::run(args)).map(|()| ExitCode::SUCCESS),
        Command::Bench(args) => pollster::block_on(commands::bench::run(args)).map(|()| ExitCode::SUCCESS),
        Command::Adapters(args) => pollster::block_on(commands::adapters::run(args)).map(|()| ExitCode::SUCCESS),
        Command::Doctor(args) => pollster::block_on(commands::doctor::run(args))
            .map(|fit| if fit { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        Command::Completions(args) => {
            commands::completions::run(args, &mut cli::Cli::command()).map(|()| ExitCode::SUCCESS)
        }
        Command::Man(args) => commands::man::run(args, cli::Cli::command()).map(|()| ExitCode::SUCCESS),
        Command::Explain(args) => pollster::block_on(commands::explain::run(args, started)).map(|()| ExitCode::SUCCESS),
    }
}

/// Runs a command with a thread for each processor, or as many as `RAYON_NUM_THREADS` says; with fewer where the system
/// grants no more, and in the end with none but this one.
fn with_threads<T: Send>(command: impl FnOnce() -> T + Send) -> T {
    let usable = std::thread::available_parallelism().map_or(1, usize::from);
    let processors = mpi::Launched::read().map_or(usable, |launched| launched.threads(usable));
    let asked =
        std::env::var("RAYON_NUM_THREADS").ok().and_then(|number| number.parse().ok()).filter(|&number| number > 0);
    let most = processors.max(MAX_THREADS);
    let threads = asked.unwrap_or(processors).min(most);
    if asked.is_some_and(|asked| asked > most) {
        terminal::notice(&format!(
            "RAYON_NUM_THREADS={}: using {threads} threads, the most",
            asked.unwrap_or_default()
        ));
    }
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).stack_size(STACK_BYTES);
    if pool(threads).build_global().is_ok() {
        return command();
    }
    let fewer = std::iter::successors(Some(threads), |threads| Some(threads / 2)).take_while(|&threads| threads > 0);
    let granted = fewer.skip(1).find_map(|threads| pool(threads).build().ok());
    let granted_threads = granted.as_ref().map_or(1, rayon::ThreadPool::current_num_threads);
    terminal::notice(&format!(
        "the system grants no more than {}, of {threads}: computing with fewer",
        format::counted(granted_threads, "thread")
    ));
    match granted {
        Some(pool) => pool.install(command),
        None => {
            // This thread as the only one of a pool: nothing is left to be refused.
            let _pool = pool(1).use_current_thread().build();
            command()
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
