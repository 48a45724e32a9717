//! `softstep explain`: the lesson as an HTML page, with experiments that it runs.

pub mod experiments;
mod lab;
mod sections;
mod text;

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::ValueEnum;
use softstep::data::csv::{TableOptions, Task};
use softstep::data::{Kind, TestPart};

use self::experiments::{Lesson, Table};
use self::lab::Lab;
use self::sections::Made;
use self::text::Text;
use crate::cli::{BackendChoice, ExplainArgs, Language};
use crate::page;
use crate::report::{Explained, LessonReport};
use crate::run_folder;

/// Hidden layers of the second model of the digits.
const HIDDEN: [usize; 1] = [32];

/// Runs every experiment and writes the page; `started` is the start time of the program.
pub async fn run(args: &ExplainArgs, started: Instant) -> Result<()> {
    check_out(&args.out, args.data.as_deref())?;
    let table = table(args)?;
    let lab = Lab { device: super::open_device(&args.device).await? };
    let info = lab.device.info();
    let report = LessonReport::new(7, args.quiet || args.json);
    let seed = args.seed;

    report.begin("house prices");
    let houses = experiments::houses(&lab, table.as_ref(), seed).await?;
    report.begin("softmax");
    let softmax = experiments::softmax(&lab).await?;
    report.begin("tumours");
    let sample = experiments::sample_tumours(&lab, seed).await?;
    let tumours = experiments::tumours(&lab, &sample).await?;
    report.begin("softmax beside sigmoid");
    let two_classes = experiments::two_classes(&lab, &sample).await?;
    report.begin("digits");
    let linear = experiments::digits(&lab, &[], seed).await?;
    report.begin("digits, with a hidden layer");
    let with_hidden = experiments::digits(&lab, &HIDDEN, seed).await?;
    report.begin("one step");
    let one_step = experiments::one_step(&lab).await?;

    let lesson = Lesson { houses, softmax, tumours, two_classes, digits: [linear, with_hidden], one_step };
    let text = Text(args.lang);
    let seconds = started.elapsed().as_secs_f64();
    let made = Made {
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
    let document = sections::page(&lesson, &made, text)?;
    run_folder::write_named("--out", &args.out, page::MARK, document.as_bytes())?;
    report.done(&Explained { info: &info, seed, seconds, out: &args.out, lesson: &lesson }, args.json)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{self, Command};

    #[test]
    fn the_command_has_every_flag_that_makes_the_numbers_and_is_quoted_for_a_shell() {
        let command_of = |arguments: &[&str]| {
            let arguments = ["softstep", "explain"].iter().chain(arguments);
            let Command::Explain(args) = cli::parse(arguments.map(Into::into)).unwrap().command else { panic!() };
            command(&args)
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
