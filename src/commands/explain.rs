//! `softstep explain`: the lesson as an HTML page, with experiments that it runs.

pub mod experiments;
mod runner;
mod sections;
mod text;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde::Serialize;
use softstep::backend::DeviceInfo;
use softstep::data::csv::{TableOptions, Task};
use softstep::data::{Kind, TestPart};

use self::experiments::{Lesson, Table};
use self::runner::Runner;
use self::sections::Provenance;
use self::text::{Language, Text};
use crate::options::{BackendChoice, DeviceArgs};
use crate::run::files;
use crate::terminal::{path_text, print, print_json, serialize_device, style};
use crate::{device, html};

/// Examples and formats, shown by `--help`.
pub const HELP: &str = "\
Examples:
  softstep explain                            writes explain.html: open it in a browser
  softstep explain --lang zh --out lesson.html
  softstep explain --data houses.csv --target price   your own table instead of the house prices

Runs the experiments of a lesson about softmax and cross-entropy on this machine and writes them as one page that needs \
no network: house prices as regression, softmax of three scores, tumour sizes fitted by a line and by a sigmoid, two outputs \
compared with one, digits with three losses, and one training step with every number.

--json prints one JSON object: backend, adapter, device_type, driver, seed, seconds (since the program's start), out, and \
the numbers of every experiment: houses, softmax, tumours, two_classes, digits (linear, with a hidden layer), one_step.";

/// Options of `softstep explain`.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// The page to write; an earlier page of that name is replaced
    #[arg(long, value_name = "FILE", default_value = "explain.html")]
    pub out: PathBuf,
    /// The page's language
    #[arg(long, value_enum, default_value = "en")]
    pub lang: Language,
    /// Table to learn from instead of the house prices: file.csv
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Column of the table to learn; its values are numbers
    #[arg(long, value_name = "COLUMN")]
    pub target: Option<String>,
    /// Columns of the table to treat as categories, although their values are numbers
    #[arg(long, value_name = "COLUMNS", requires = "data")]
    pub categorical: Vec<String>,
    /// Columns of the table to leave out
    #[arg(long, value_name = "COLUMNS", requires = "data")]
    pub ignore: Vec<String>,
    /// Seed of everything that is random: the same seed, the same numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// The device.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// No progress: results, notices and errors only
    #[arg(short, long)]
    pub quiet: bool,
    /// Print one JSON object for programs
    #[arg(long)]
    pub json: bool,
}

/// Hidden layers of the second model of the digits.
const HIDDEN: [usize; 1] = [32];

/// Runs every experiment and writes the page; `started` is the start time of the program.
pub async fn run(args: &ExplainArgs, started: Instant) -> Result<()> {
    check_out(&args.out, args.data.as_deref())?;
    let table = table(args)?;
    let runner = Runner { device: device::open_device(&args.device).await? };
    let info = runner.device.info();
    let progress = Progress::new(7, args.quiet || args.json);
    let seed = args.seed;

    progress.begin("house prices");
    let houses = experiments::houses(&runner, table.as_ref(), seed).await?;
    progress.begin("softmax");
    let softmax = experiments::softmax(&runner).await?;
    progress.begin("tumours");
    let sample = experiments::sample_tumours(&runner, seed).await?;
    let tumours = experiments::tumours(&runner, &sample).await?;
    progress.begin("softmax beside sigmoid");
    let two_classes = experiments::two_classes(&runner, &sample).await?;
    progress.begin("digits");
    let linear = experiments::digits(&runner, &[], seed).await?;
    progress.begin("digits, with a hidden layer");
    let with_hidden = experiments::digits(&runner, &HIDDEN, seed).await?;
    progress.begin("one step");
    let one_step = experiments::one_step(&runner).await?;

    let lesson = Lesson { houses, softmax, tumours, two_classes, digits: [linear, with_hidden], one_step };
    let text = Text(args.lang);
    let seconds = started.elapsed().as_secs_f64();
    let provenance = Provenance {
        values: [
            info.name.clone(),
            info.device_type.into(),
            info.driver.clone(),
            info.backend.into(),
            env!("CARGO_PKG_VERSION").into(),
            seed.to_string(),
            jiff::Zoned::now().strftime("%Y-%m-%d %H:%M").to_string(),
            text.seconds(seconds),
            command(args),
        ],
    };
    let document = sections::page(&lesson, &provenance, text)?;
    files::write_named("--out", &args.out, html::MARK, document.as_bytes())?;
    progress.done(&Explained { info: &info, seed, seconds, out: &args.out, lesson: &lesson }, args.json)
}

/// Refuses an unusable `--out` before any work is done.
fn check_out(out: &Path, data: Option<&Path>) -> Result<()> {
    if let (Ok(page), Some(Ok(table))) = (out.canonicalize(), data.map(Path::canonicalize))
        && page == table
    {
        bail!("--out {}: that is the table of --data; name another file for the page", out.display());
    }
    if out.is_dir() {
        bail!("--out {}: that is a folder; name the page's file, such as explain.html", out.display());
    }
    match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            bail!("--out {}: there is no folder {}; make it first", out.display(), folder.display())
        }
        _ => Ok(()),
    }
}

/// The user's table, if there is one.
fn table(args: &ExplainArgs) -> Result<Option<Table<'_>>> {
    match (&args.data, &args.target) {
        (None, None) => Ok(None),
        (Some(file), Some(target)) => {
            if Kind::of(&file.display().to_string()) != Kind::Table {
                bail!("--data {}: explain takes a table, such as a file.csv", file.display());
            }
            let options = TableOptions {
                target: target.clone(),
                task: Some(Task::Regression),
                categorical: args.categorical.clone(),
                ignore: args.ignore.clone(),
                test: TestPart::Share(0.25),
                ..TableOptions::default()
            };
            Ok(Some(Table { file, options }))
        }
        (Some(file), None) => bail!("--data {} is a table: name the column to learn with --target", file.display()),
        (None, Some(target)) => bail!("--target {target} is a column of a table: name the table with --data"),
    }
}

/// The shell command that makes the same page.
fn command(args: &ExplainArgs) -> String {
    let mut command = String::from("softstep explain");
    let mut flag = |name: &str, value: &str| command += &format!(" --{name}{}", quoted(value));
    if args.lang == Language::Zh {
        flag("lang", "zh");
    }
    if let (Some(file), Some(target)) = (&args.data, &args.target) {
        flag("data", &file.display().to_string());
        flag("target", target);
    }
    for (name, columns) in [("categorical", &args.categorical), ("ignore", &args.ignore)] {
        columns.iter().for_each(|columns| flag(name, columns));
    }
    flag("seed", &args.seed.to_string());
    if let Some(backend) =
        args.device.backend.to_possible_value().filter(|_| args.device.backend != BackendChoice::Auto)
    {
        flag("backend", backend.get_name());
    }
    if let Some(adapter) = &args.device.adapter {
        flag("adapter", adapter);
    }
    command
}

/// Formats the value of a flag with its separator, in single quotes if a shell would interpret it.
fn quoted(value: &str) -> String {
    let plain = |character: char| character.is_alphanumeric() || "-_./,:+@".contains(character);
    let between = if value.starts_with('-') { '=' } else { ' ' };
    if !value.is_empty() && value.chars().all(plain) {
        format!("{between}{value}")
    } else {
        format!("{between}'{}'", value.replace('\'', "'\\''"))
    }
}

/// Progress of `softstep explain`.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Begins, with this many experiments to come.
    pub fn new(experiments: u64, quiet: bool) -> Self {
        let bar = ProgressBar::new(experiments);
        if quiet {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.set_style(style("running {msg}  {bar:24} {pos}/{len}"));
        Self { bar }
    }

    /// Shows which experiment is under way.
    pub fn begin(&self, experiment: &'static str) {
        if !self.bar.message().is_empty() {
            self.bar.inc(1);
        }
        self.bar.set_message(experiment);
        self.bar.tick();
    }

    /// Ends with the page's path, or everything as JSON.
    pub fn done(&self, explained: &Explained<'_>, json: bool) -> Result<()> {
        self.bar.finish_and_clear();
        if json {
            return Ok(print_json(explained)?);
        }
        Ok(print(&format!("page in {}, after {:.1} s", path_text(explained.out), explained.seconds))?)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Results of `softstep explain`, with all numbers.
#[derive(Serialize)]
pub struct Explained<'a> {
    /// Device.
    #[serde(flatten, serialize_with = "serialize_device")]
    pub info: &'a DeviceInfo,
    /// The seed.
    pub seed: u64,
    /// Since the program's start.
    pub seconds: f64,
    /// The page.
    pub out: &'a Path,
    /// The experiments.
    #[serde(flatten)]
    pub lesson: &'a Lesson,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Options {
        #[command(flatten)]
        explain: ExplainArgs,
    }

    #[test]
    fn the_command_has_every_flag_that_makes_the_numbers_and_is_quoted_for_a_shell() {
        let command_of = |arguments: &[&str]| {
            let arguments = ["softstep"].iter().chain(arguments);
            command(&Options::try_parse_from(arguments).unwrap().explain)
        };
        assert_eq!(command_of(&["--quiet", "--out", "a.html"]), "softstep explain --seed 0");
        assert_eq!(
            command_of(&["--data", "my $HOME.csv", "--target=-it's", "--ignore", "a,b", "--categorical", "c (d)"]),
            r"softstep explain --data 'my $HOME.csv' --target='-it'\''s' --categorical 'c (d)' --ignore a,b --seed 0"
        );
        assert_eq!(
            command_of(&["--lang", "zh", "--seed", "3", "--backend", "gpu", "--adapter", "NVIDIA H100"]),
            "softstep explain --lang zh --seed 3 --backend gpu --adapter 'NVIDIA H100'"
        );
    }
}
