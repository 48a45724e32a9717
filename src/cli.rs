//! The command line: the commands, and the checks of their options.

use std::ffi::OsString;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::{
    adapters, bench, completions, doctor, eval, explain, export, import, inspect, man, predict, report, reproduce,
    serve, sweep, train,
};
use crate::flags::with_flags;
use crate::options::{self, Problem};
use crate::settings_file::{self, Given};

/// Train small neural networks on any GPU
#[derive(Debug, Parser)]
#[command(name = "softstep", version, arg_required_else_help = true, after_help = SHORT_EXAMPLES, after_long_help = EXAMPLES)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

const SHORT_EXAMPLES: &str = "\
Examples:
  softstep train                 softmax regression on MNIST; on digits if offline
  softstep train --hidden 128    the same with a hidden layer
  softstep eval --model runs/<run> --data mnist
  softstep bench                 how fast this machine trains, GPU beside CPU

More with --help, also after a command.";

const EXAMPLES: &str = "\
Examples:
  softstep train                              softmax regression on MNIST; on bundled digits if offline
  softstep train --hidden 128                 the same with a hidden layer
  softstep train --data fashion-mnist --hidden 512,512 --epochs 20
  softstep train --data flowers.csv --target species
  softstep train --data photos --image-size 40x30 --validation 0.1   a folder of images for each class
  softstep eval --model runs/<run> --data mnist
  softstep bench                              how fast this machine trains, GPU beside CPU
  softstep adapters                           the GPUs and software adapters of this machine
  softstep doctor                             whether training works here; paste its output into a bug report
  softstep explain                            what softmax is for: a page with experiments run here

Results go to standard output, progress and notices to standard error. With --json, standard output is \
JSON Lines; `softstep train --help` describes them. \
Set RUST_LOG=info (or debug) to see what the graphics stack logs.";

/// A command with its options.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model
    #[command(after_long_help = train::options::HELP)]
    Train(Box<train::options::TrainArgs>),
    /// Train with many settings and show which are best
    #[command(after_long_help = sweep::HELP)]
    Sweep(Box<sweep::SweepArgs>),
    /// Measure a trained model on a test set
    #[command(after_long_help = eval::HELP, visible_aliases = ["test", "val", "evaluate"])]
    Eval(eval::EvalArgs),
    /// Predict with a trained model
    #[command(after_long_help = predict::HELP)]
    Predict(predict::PredictArgs),
    /// Write a trained model for other programs: ONNX, PyTorch, C or a web page
    #[command(after_long_help = export::HELP)]
    Export(export::ExportArgs),
    /// Make a model from weights that PyTorch or Keras trained
    #[command(after_long_help = import::HELP)]
    Import(Box<import::ImportArgs>),
    /// Predict for other programs and people, over HTTP
    #[command(after_long_help = serve::HELP)]
    Serve(serve::ServeArgs),
    /// Write the page of a run, or a page that compares several
    #[command(after_long_help = report::HELP)]
    Report(report::ReportArgs),
    /// Train a run again and check that it gives the same bits
    #[command(after_long_help = reproduce::HELP)]
    Reproduce(reproduce::ReproduceArgs),
    /// Recompute a step of a run and show what it did, or show which examples the run never learned
    #[command(after_long_help = inspect::HELP)]
    Inspect(inspect::InspectArgs),
    /// Measure how fast this machine trains, on GPU and CPU
    #[command(after_long_help = bench::HELP)]
    Bench(bench::BenchArgs),
    /// List the adapters that --adapter can name
    Adapters(adapters::AdaptersArgs),
    /// Check that training works on this machine
    #[command(after_long_help = doctor::HELP)]
    Doctor(doctor::DoctorArgs),
    /// Write a page that explains softmax, with experiments run on this machine
    #[command(after_long_help = explain::HELP)]
    Explain(explain::ExplainArgs),
    /// Print the completions of a shell
    #[command(after_long_help = completions::HELP)]
    Completions(completions::CompletionsArgs),
    /// Write man pages
    Man(man::ManArgs),
}

impl Command {
    /// Checks options against each other.
    ///
    /// # Errors
    /// A wrong option, by its flag.
    fn check(&self) -> Result<(), Problem> {
        match self {
            Self::Train(args) => args.check(),
            Self::Sweep(args) => args.check(),
            Self::Eval(args) => args.device.check(),
            Self::Predict(args) => args.device.check(),
            Self::Serve(args) => args.device.check(),
            Self::Explain(args) => args.device.check(),
            Self::Reproduce(args) => args.run.check(),
            Self::Inspect(args) => args.run.check(),
            Self::Bench(args) => args.check(),
            Self::Report(_)
            | Self::Adapters(_)
            | Self::Doctor(_)
            | Self::Export(_)
            | Self::Import(_)
            | Self::Completions(_)
            | Self::Man(_) => Ok(()),
        }
    }
}

/// Parses and checks the arguments, the program's name first.
///
/// # Errors
/// A wrong argument, by the name of its flag; also `--help` and `--version`, which clap handles as errors.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let matches = Cli::command().try_get_matches_from(&arguments)?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut Cli::command()))?;
    let path = match &cli.command {
        Command::Train(args) => args.config.clone(),
        Command::Sweep(args) => args.config.clone(),
        _ => None,
    };
    let (Some((name, matches)), Some(path)) = (matches.subcommand(), path) else {
        return checked(cli, &matches, &arguments);
    };
    let command = Cli::command();
    let Some(command) = command.find_subcommand(name) else { return Ok(cli) };
    let given = Given { command, matches, arguments: &arguments };
    let expanded = settings_file::expanded(&given, &path).map_err(|(kind, problem)| usage(name, kind, problem))?;
    // What is wrong with the options of a file is told in its name.
    let mut cli = parse(expanded.whole).map_err(|error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        let problem = format!("{}: {}", path.display(), first.strip_prefix("error: ").unwrap_or(first));
        usage(name, error.kind(), problem)
    })?;
    if let Command::Train(args) = &mut cli.command {
        args.set_arguments(&expanded.recorded[1..]);
    }
    Ok(cli)
}

/// Notes which options were given, and checks options against each other.
fn checked(mut cli: Cli, matches: &ArgMatches, arguments: &[OsString]) -> Result<Cli, clap::Error> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(cli) };
    match (&mut cli.command, Cli::command().find_subcommand(name)) {
        (Command::Train(args), Some(train)) => args.set_given(train, matches, &arguments[1..]),
        (Command::Sweep(args), Some(sweep)) => args.options = options::in_one_form(sweep, matches),
        (Command::Import(args), Some(import)) => args.given = options::given(import, matches),
        _ => {}
    }
    cli.command.check().map_err(|(kind, problem)| usage(name, kind, problem))?;
    Ok(cli)
}

/// Replaces control characters of the arguments that an error quotes.
pub fn printable_error(error: clap::Error, arguments: impl Iterator<Item = OsString>) -> clap::Error {
    let shown = |argument: OsString| softstep::error::printable(&argument.to_string_lossy(), 4096).into();
    let arguments: Vec<OsString> = arguments.collect();
    let printable: Vec<OsString> = arguments.iter().cloned().map(shown).collect();
    if printable == arguments { error } else { parse(printable).err().unwrap_or(error) }
}

/// Builds an error that is followed by the usage of `command`.
fn usage(command: &str, kind: clap::error::ErrorKind, problem: impl std::fmt::Display) -> clap::Error {
    let mut cli = Cli::command();
    cli.build();
    match cli.find_subcommand_mut(command) {
        Some(command) => command.error(kind, with_flags(&problem.to_string())),
        None => cli.error(kind, with_flags(&problem.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use softstep::defaults::epochs_of;
    use softstep::optimizer::AdamW;
    use softstep::trainer::TrainingConfig;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_has_the_library_defaults() {
        Cli::command().debug_assert();
        let cli = parse(["softstep", "train"].map(OsString::from)).unwrap();
        let Command::Train(train) = cli.command else { panic!("{cli:?}") };
        let defaults = TrainingConfig::default();
        let config = train.provisional();
        assert_eq!(config.epochs, 1);
        assert_eq!(config.epochs(defaults.epochs), defaults);
    }

    #[test]
    fn every_setting_of_a_run_is_an_option_by_the_same_name() {
        // What `difference` relies on.
        let adamw = TrainingConfig::default().optimizer(AdamW::default());
        let cli = Cli::command();
        let options: Vec<_> =
            cli.find_subcommand("train").unwrap().get_arguments().map(|argument| argument.get_id().as_str()).collect();
        for config in [TrainingConfig::default(), adamw] {
            for field in serde_json::to_value(config).unwrap().as_object().unwrap().keys() {
                assert!(options.contains(&field.as_str()), "{field}");
            }
        }
    }

    #[test]
    fn adamw_has_its_own_settings_and_no_others() {
        let train = |arguments: &str| {
            parse(["softstep", "train"].into_iter().chain(arguments.split(' ')).map(OsString::from)).map(|cli| {
                let Command::Train(train) = cli.command else { panic!("{cli:?}") };
                train.provisional()
            })
        };
        let config = train("--optimizer adamw --beta1 0.8").unwrap();
        assert_eq!(config.learning_rate, 0.001);
        assert_eq!(config.optimizer, AdamW { beta1: 0.8, ..AdamW::default() }.into());
        assert_eq!(serde_json::from_str::<TrainingConfig>(&serde_json::to_string(&config).unwrap()).unwrap(), config);
        for (arguments, flag) in [
            ("--optimizer adamw --momentum 0.5", "--momentum"),
            ("--optimizer adamw --nesterov", "--nesterov"),
            ("--beta2 0.9", "--beta2"),
            ("--epsilon 1e-8", "--epsilon"),
        ] {
            let error = train(arguments).unwrap_err().to_string();
            assert!(error.contains(flag) && error.contains("--optimizer"), "{error}");
        }
    }

    #[test]
    fn a_paragraph_of_help_is_one_line_which_the_terminal_wraps() {
        let cli = Cli::command();
        for command in cli.get_subcommands().chain([&cli]) {
            let text = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let is_text = |line: &str| !line.is_empty() && !line.starts_with(' ');
            let broken = lines.windows(2).find(|pair| is_text(pair[0]) && is_text(pair[1]));
            assert_eq!(broken, None, "{}", command.get_name());
        }
    }

    #[test]
    fn numbers_of_1_or_more_refuse_0_in_the_same_words() {
        for arguments in [
            "train --patience=0 --validation=0.1",
            "train --checkpoint-every=0",
            "train --verify=0",
            "train --seeds=0",
            "reproduce run --sample=0",
        ] {
            let error = parse(format!("softstep {arguments}").split(' ').map(OsString::from)).unwrap_err().to_string();
            assert!(error.contains("must be a whole number, 1 or more"), "{arguments}: {error}");
        }
    }

    #[test]
    fn a_value_of_a_sweep_that_training_refuses_is_named_with_its_list_or_range_in_one_line() {
        for (settings, problem) in [
            ("--lr=0..0.01", "--lr 0..0.01: --lr 0: must be above 0 and finite"),
            ("--seed=1/2 --lr=0..0.01", "--lr 0..0.01: --lr 0: must be above 0 and finite"),
            ("--lr=0.1/0", "--lr 0.1/0: --lr 0: must be above 0 and finite"),
            ("--momentum=0..1 --optimizer=sgd --search=grid", "--momentum 0..1: --momentum 1: must be "),
            ("--epochs=0..5", "--epochs 0..5: --epochs "),
            ("--hidden=0..64", "--hidden 0..64: --hidden "),
            ("--lr=0.1/x", "--lr 0.1/x: invalid value 'x' for '--lr <RATE|auto>': a rate is a number"),
            ("--lr=0 --seed=1/2", "--lr 0: must be above 0 and finite"),
        ] {
            let arguments = ["softstep", "sweep", "--data=digits"].into_iter().chain(settings.split(' '));
            let error = parse(arguments.map(OsString::from)).unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with(&format!("error: {problem}")), "{settings}: {text}");
            assert!(text.matches("error: ").count() == 1 && error.exit_code() == 2, "{settings}: {text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn whatever_the_settings_they_are_refused_or_make_a_run_that_adds_up(
            settings in prop::collection::vec(
                (prop::sample::select(&FLAGS[..]), prop_oneof![prop::sample::select(&VALUES[..]).prop_map(String::from),
                 any::<f64>().prop_map(|value| value.to_string()), any::<u64>().prop_map(|value| value.to_string()),
                 ".{0,12}"]),
                1..4,
            ),
            examples in prop_oneof![1usize..100, Just(u32::MAX as usize)],
        ) {
            let arguments = settings.iter().map(|(flag, value)| format!("{flag}={value}"));
            let all = ["softstep", "train"].map(String::from).into_iter().chain(arguments).map(OsString::from);
            match parse(all) {
                Err(error) => prop_assert!(!error.to_string().is_empty()),
                Ok(Cli { command: Command::Train(train) }) => {
                    let mut config = train.provisional();
                    if !train.gives("epochs") {
                        config.epochs = epochs_of(1500, examples, config.batch_size);
                    }
                    prop_assert!(config.check().is_ok());
                    let steps = config.steps(examples);
                    prop_assert!(steps >= config.epochs);
                    for step in [0, steps / 2, steps - 1] {
                        let rate = config.learning_rate_of(step, steps);
                        prop_assert!((0.0..=config.learning_rate).contains(&rate), "{} at {}", rate, step);
                    }
                }
                Ok(other) => prop_assert!(false, "{:?}", other),
            }
        }
    }

    const FLAGS: [&str; 17] = [
        "--layers",
        "--warmup",
        "--augment",
        "--schedule",
        "--hidden",
        "--epochs",
        "--batch-size",
        "--lr",
        "--momentum",
        "--weight-decay",
        "--clip-norm",
        "--validation",
        "--seed",
        "--label-smoothing",
        "--class-weights",
        "--patience",
        "--loss",
    ];
    const VALUES: [&str; 19] = [
        "auto",
        "cnn",
        "conv:8x3,relu",
        "one-cycle",
        "shift=2",
        "0",
        "1",
        "-1",
        "18446744073709551615",
        "18446744073709551616",
        "9223372036854775808",
        "nan",
        "inf",
        "1e-50",
        "1e39",
        "0.5",
        "1,1,1,1,1,1,1,1",
        "8,,8",
        "",
    ];
}
