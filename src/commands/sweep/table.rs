//! The runs of a sweep as a table, best first: on the terminal while it goes on, at its end, and as CSV.

use anyhow::Result;
use indicatif::ProgressBar;

use super::space::{NONE, Space};
use super::trial::Ended;
use crate::format::{duration, figure, no_formula, percent};
use crate::terminal::{printable, progress_bar, right, style, table};

/// Rows that are shown while the sweep goes on, and at its end.
const SHOWN: usize = 10;

/// A run in the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// Values of the settings.
    pub choice: Vec<String>,
    /// The largest share of the run that has ended.
    pub ended: Ended,
}

impl Row {
    /// What became of the run, in a word.
    pub fn state(&self) -> &'static str {
        match &self.ended {
            Ended { problem: Some(_), .. } => "failed",
            Ended { finished: true, .. } => "whole",
            _ => "ended early",
        }
    }
}

/// The runs of a sweep, best first.
#[derive(Clone, Debug, Default)]
pub struct Rows(Vec<Row>);

impl Rows {
    /// Adds a run, or replaces it by a larger share of it.
    pub fn add(&mut self, row: Row) {
        self.0.retain(|other| other.ended.run != row.ended.run);
        let place = self.0.partition_point(|other| Self::order(other) <= Self::order(&row));
        self.0.insert(place, row);
    }

    /// Whole runs come first, then those that ended early by the share that they had, each the lowest loss first; failed ones
    /// come last.
    fn order(row: &Row) -> (bool, usize, u64, usize) {
        let Ended { loss, share, finished, run, .. } = row.ended;
        let share = if finished { 1 } else { share };
        // Losses are not negative, so that their bits are in their order.
        (loss.is_none(), share, loss.map_or(u64::MAX, f64::to_bits), run)
    }

    /// The rows.
    pub fn all(&self) -> &[Row] {
        &self.0
    }

    /// The best whole run.
    pub fn best(&self) -> Option<&Row> {
        self.0.first().filter(|row| row.ended.finished && row.ended.loss.is_some())
    }

    /// The first rows as text.
    pub fn text(&self, space: &Space) -> String {
        let names = space.settings.iter().map(|setting| setting.flag.trim_start_matches("--").to_owned());
        let quality = if self.0.iter().any(|row| row.ended.real_values) { "R²" } else { "accuracy" };
        let header: Vec<String> = ["run".to_string(), "validation loss".into(), quality.into(), "epochs".into()]
            .into_iter()
            .chain(names)
            .collect();
        let mut table = table(&header.iter().map(String::as_str).collect::<Vec<_>>());
        for row in self.0.iter().take(SHOWN) {
            let Ended { run, loss, quality, real_values, epochs, of_epochs, .. } = row.ended;
            let loss = loss.map_or_else(|| row.state().to_string(), figure);
            let quality = match quality {
                Some(quality) if real_values => figure(quality),
                Some(quality) => percent(quality),
                None => "–".into(),
            };
            let epochs = if epochs < of_epochs { format!("{epochs} of {of_epochs}") } else { epochs.to_string() };
            let mut cells = right([run.to_string(), loss, quality, epochs]);
            cells.extend(right(row.choice.iter().map(|value| printable(value))));
            table.add_row(cells);
        }
        let more = self.0.len().saturating_sub(SHOWN);
        let rest = if more > 0 { format!("\n… and {more} more") } else { String::new() };
        format!("{table}{rest}")
    }

    /// A line for each run.
    pub fn csv(&self, space: &Space) -> Result<Vec<u8>> {
        let mut table = csv::Writer::from_writer(Vec::new());
        let fixed = ["place", "run", "state", "validation_loss", "validation_quality", "epochs", "of_epochs"];
        let names = space.settings.iter().map(|setting| setting.field.as_str());
        table.write_record(fixed.into_iter().chain(names).chain(["parameters_sha256", "seconds"]))?;
        let number = |number: Option<f64>| number.map_or_else(String::new, |number| number.to_string());
        for (at, row) in self.0.iter().enumerate() {
            let Ended { run, loss, quality, epochs, of_epochs, ref parameters_sha256, seconds, .. } = row.ended;
            let mut cells = vec![(at + 1).to_string(), run.to_string(), row.state().into(), number(loss)];
            cells.extend([number(quality), epochs.to_string(), of_epochs.to_string()]);
            cells.extend(row.choice.iter().map(|value| if value == NONE { String::new() } else { no_formula(value) }));
            cells.extend([parameters_sha256.clone().unwrap_or_default(), format!("{seconds:.3}")]);
            table.write_record(&cells)?;
        }
        Ok(table.into_inner()?)
    }
}

/// The table on a terminal while the sweep goes on; hidden elsewhere.
pub struct Live {
    bar: ProgressBar,
}

impl Live {
    /// Shows nothing yet; with `quiet`, never anything.
    pub fn new(quiet: bool) -> Self {
        let bar = if quiet { ProgressBar::hidden() } else { progress_bar(None) };
        bar.set_style(style("{msg}"));
        Self { bar }
    }

    /// Returns true if nobody sees the table.
    pub fn is_hidden(&self) -> bool {
        self.bar.is_hidden()
    }

    /// Shows the runs so far.
    pub fn show(&self, rows: &Rows, space: &Space, of: Option<usize>, seconds: f64) {
        if self.is_hidden() {
            return;
        }
        let of = of.map_or_else(String::new, |of| format!(" of {of}"));
        let done = format!("{}{of} runs, {}", rows.all().len(), duration(seconds));
        self.bar.set_message(format!("{}\n{done}", rows.text(space)));
    }

    /// Removes the table.
    pub fn close(&self) {
        self.bar.finish_and_clear();
    }
}
