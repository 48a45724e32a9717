//! `softstep report`: pages of runs, from what their folders hold.

pub mod comparison;

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use softstep::Error;

use crate::format::no_formula;
use crate::html::plot::MAX_SERIES;
use crate::run::files::write_named;
use crate::run::metrics::EpochPoint;
use crate::run::page::{self, REPORT};
use crate::run::record::Record;
use crate::{html, terminal};

/// Examples and formats, shown by `--help`.
pub const HELP: &str = "\
Examples:
  softstep report runs/mlp                    rewrites runs/mlp/report.html
  softstep report runs/mlp runs/softmax       comparison.html: both runs on one page
  softstep report runs/mlp --csv mlp.csv      also the metrics, for a spreadsheet

A page is one file that needs nothing else: no network, no scripts. It is made from the run folder alone, without the \
data and on any machine.

--csv has a line for each step of each run: run, step, loss, learning_rate; and in the line of an epoch's last step also \
epoch, train_loss (of the whole epoch), validation_loss, validation_accuracy or validation_r_squared, test_loss, \
test_accuracy or test_r_squared. A value that a run does not have, and a loss that is not finite, is empty.";

/// Options of `softstep report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// Run folders
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,
    /// The page [default: report.html in the folder of the run; comparison.html here for several]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Also write the metrics as CSV
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
}

/// Writes a run's page anew, or a page that compares several; with `--csv` also their metrics.
pub fn run(args: &ReportArgs) -> Result<()> {
    let mut seen = BTreeSet::new();
    for folder in &args.runs {
        if folder.is_file() {
            bail!(
                "{0} is a file, and a report is of a run: name the folder that `softstep train` wrote, as in runs/…; to train \
                 on a table: softstep train --data {0} --target COLUMN",
                folder.display()
            );
        }
        let path = folder.canonicalize().map_err(Error::io("read", folder))?;
        if !seen.insert(path) {
            bail!("{} is named twice", folder.display());
        }
    }
    if args.runs.len() > MAX_SERIES {
        bail!("{} runs: no more than {MAX_SERIES} can be told apart in a plot", args.runs.len());
    }
    let records: Vec<Record> = args.runs.iter().map(|folder| Record::read(folder)).collect::<Result<_>>()?;
    let labels = labels(&args.runs);
    let (page, default) = match records.as_slice() {
        [record] => (page::page(record), record.folder.join(REPORT)),
        several => (comparison::page(several, &labels, None), PathBuf::from("comparison.html")),
    };
    let out = args.out.as_deref().unwrap_or(&default);
    if out == default && default.symlink_metadata().is_ok_and(|there| !there.is_file()) {
        bail!("{} is not a file of softstep's: move it away, or name another with --out", out.display());
    }
    write_named("--out", out, html::MARK, page.as_bytes())?;
    if let Some(csv) = &args.csv {
        write_named("--csv", csv, "run,step,loss,learning_rate", &csv_of(&records, &labels)?)?;
        terminal::written("metrics", csv)?;
    }
    terminal::written("report", out)
}

/// Names of runs: that of the folder, with as many of those that it is in as tell it from the others.
fn labels(folders: &[PathBuf]) -> Vec<String> {
    let paths: Vec<PathBuf> =
        folders.iter().map(|folder| folder.canonicalize().unwrap_or_else(|_| folder.clone())).collect();
    let parts: Vec<Vec<String>> =
        paths.iter().map(|path| path.iter().map(|part| html::name(&part.to_string_lossy())).collect()).collect();
    let name = |parts: &[String], depth: usize| parts[parts.len().saturating_sub(depth)..].join("/");
    let label = |own: &Vec<String>| {
        let unique = |depth: &usize| parts.iter().filter(|other| name(other, *depth) == name(own, *depth)).count() == 1;
        name(own, (1..=own.len()).find(unique).unwrap_or(own.len()))
    };
    let labels: Vec<String> = parts.iter().map(label).collect();
    let distinct: BTreeSet<_> = labels.iter().collect();
    if distinct.len() == labels.len() {
        return labels;
    }
    // What could not be shown was all the difference.
    labels.iter().enumerate().map(|(index, label)| format!("{label} ({})", index + 1)).collect()
}

/// A line for each step of each run; figures of an epoch are in the line of its last step.
fn csv_of(records: &[Record], labels: &[String]) -> Result<Vec<u8>> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record([
        "run",
        "step",
        "loss",
        "learning_rate",
        "epoch",
        "train_loss",
        "validation_loss",
        "validation_accuracy",
        "validation_r_squared",
        "test_loss",
        "test_accuracy",
        "test_r_squared",
    ])?;
    let number = |number: Option<f64>| {
        number.filter(|number| number.is_finite()).map_or_else(String::new, |number| number.to_string())
    };
    for (record, label) in records.iter().zip(labels) {
        let mut epochs = record.history.epochs.iter().peekable();
        for point in &record.history.steps {
            let mut epoch = None;
            while let Some(next) = epochs.next_if(|epoch| epoch.step <= point.step) {
                epoch = Some(next);
            }
            let figure = |figure: fn(&EpochPoint) -> Option<f64>| number(epoch.and_then(figure));
            let real_values = epoch.is_some_and(|epoch| epoch.real_values);
            let quality = |of: fn(&EpochPoint) -> Option<f64>, wanted: bool| {
                if real_values == wanted { figure(of) } else { String::new() }
            };
            table.write_record([
                no_formula(label),
                point.step.to_string(),
                number(Some(point.loss)),
                number(Some(point.learning_rate)),
                epoch.map_or_else(String::new, |epoch| epoch.epoch.to_string()),
                figure(|epoch| epoch.train_loss),
                figure(|epoch| epoch.validation_loss),
                quality(|epoch| epoch.validation_quality, false),
                quality(|epoch| epoch.validation_quality, true),
                figure(|epoch| epoch.test_loss),
                quality(|epoch| epoch.test_quality, false),
                quality(|epoch| epoch.test_quality, true),
            ])?;
        }
    }
    Ok(table.into_inner()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_as_short_as_can_be_and_never_the_same() {
        let label = |paths: &[&str]| labels(&paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(label(&["/x/runs/a", "/x/runs/b"]), ["a", "b"]);
        assert_eq!(label(&["/x/a/run", "/y/b/run", "/y/c"]), ["a/run", "b/run", "c"]);
        assert_eq!(label(&["/x/1/m/run", "/x/2/m/run"]), ["1/m/run", "2/m/run"]);
        assert_eq!(label(&["/x/a\u{1}", "/x/a\u{2}"]).into_iter().collect::<BTreeSet<_>>().len(), 2);
    }
}
