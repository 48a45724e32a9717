//! Loading of data, with progress bars.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use indicatif::ProgressBar;
use softstep::data::{self, Data, Kind, Progress, csv, images, npy};

use crate::options::{DataArgs, OwnDataArgs};
use crate::terminal::{notice, print_error_line, printable, progress_bar, style};

/// Longest path that a system accepts, in bytes.
pub const MAX_PATH: usize = 4096;

/// Loads a standard set, or a folder of IDX files, and nothing else; with `progress`, shows downloads.
pub fn load_set_or_idx(args: &DataArgs, progress: bool) -> Result<Data> {
    let mut downloads = Downloads::new(progress);
    Ok(data::load(&args.data, args.data_dir.as_deref(), &mut |event| downloads.show(event))?)
}

/// Progress of downloads.
#[derive(Debug)]
pub struct Downloads {
    progress: bool,
    /// Bar of the current file; hidden before the first, and if standard error is no terminal.
    bar: ProgressBar,
    file: String,
}

impl Downloads {
    /// Shows notices, and with `progress` downloads: as a bar on a terminal, elsewhere as a line for each file.
    pub fn new(progress: bool) -> Self {
        Self { progress, bar: ProgressBar::hidden(), file: String::new() }
    }

    /// Shows an event of the loader.
    pub fn show(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Notice(text) => self.bar.suspend(|| notice(text)),
            Progress::Download { file, received, total } if self.progress => {
                let next = self.file != file;
                // Another mirror starts the file anew.
                if next || received < self.bar.position() {
                    self.bar.finish_and_clear();
                    self.bar = download_bar(file, total);
                }
                if next {
                    self.file = file.to_string();
                    if self.bar.is_hidden() {
                        print_error_line(&format!("downloading {file}"));
                    }
                }
                self.bar.set_position(received);
            }
            Progress::Download { .. } => {}
        }
    }
}

/// Builds the bar of a file, at most 80 columns wide.
fn download_bar(file: &str, total: Option<u64>) -> ProgressBar {
    let template = match total {
        Some(_) => "{prefix} {bar:12} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}, {eta} left",
        None => "{prefix} {decimal_bytes} {decimal_bytes_per_sec}",
    };
    progress_bar(total).with_style(style(template)).with_prefix(file.to_string())
}

impl Drop for Downloads {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Progress of reading a table, shown once it takes longer than half a second.
pub struct TableProgress {
    bar: ProgressBar,
    started: Instant,
    file: String,
    progress: bool,
}

impl TableProgress {
    /// Shows progress on a terminal, if `progress` is set.
    pub fn new(file: &str, progress: bool) -> Self {
        Self { bar: ProgressBar::hidden(), started: Instant::now(), file: printable(file), progress }
    }

    /// Sets the share of the file that was read.
    pub fn show(&mut self, share: f64) {
        const MOMENT: Duration = Duration::from_millis(500);
        if self.progress && self.bar.is_hidden() && self.started.elapsed() > MOMENT {
            self.progress = false;
            self.bar = progress_bar(Some(100))
                .with_style(style("reading {prefix} {bar:16} {percent:>3} %"))
                .with_prefix(self.file.clone());
        }
        self.bar.set_position((100.0 * share) as u64);
    }
}

impl Drop for TableProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Refuses an option for the user's own data, `unfit`, that is for other kinds than `data`.
pub fn refuse_unfit(data: &str, unfit: Option<(&str, &[Kind])>) -> Result<()> {
    let Some((flag, kinds)) = unfit else { return Ok(()) };
    let (path, is_set) = (Path::new(data), Kind::is_set(data));
    if !is_set && !path.exists() {
        bail!("--data {data}: there is no such file or folder");
    }
    refuse_binary(data)?;
    if flag == "--target" && !is_set && path.is_file() {
        bail!("--data {data}: rename it, if it is a table: its name ends in .csv, .tsv, .txt or .data");
    }
    let kinds: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    bail!("{flag} is for {}, and --data {data} is {}", kinds.join(" or "), Kind::of(data).name())
}

/// Refuses a spreadsheet, or another file that is taken for a table but is no text.
fn refuse_binary(data: &str) -> Result<()> {
    let mut start = Vec::new();
    let is_file = !Kind::is_set(data) && Kind::of(data) == Kind::Idx && Path::new(data).is_file();
    if is_file
        && File::open(data).is_ok_and(|file| file.take(8).read_to_end(&mut start).is_ok())
        && let Some(kind) = csv::binary_kind(&start)
    {
        bail!("--data {data}: it is {kind} and no text: save the table as CSV");
    }
    Ok(())
}

/// Loads the data of `--data` by the reader of their kind: a standard set, or the user's own by the options for it.
/// `seed` chooses the test part.
pub fn load_by_kind(args: &DataArgs, own: &OwnDataArgs, seed: u64, progress: bool) -> Result<Data> {
    let path = Path::new(&args.data);
    match Kind::of(&args.data) {
        Kind::Idx => {
            refuse_binary(&args.data)?;
            load_set_or_idx(args, progress)
        }
        Kind::Table => match own.table() {
            Some(options) => {
                let mut bar = TableProgress::new(&args.data, progress);
                Ok(csv::load_with(path, &options, seed, &mut |share| bar.show(share))?)
            }
            None => bail!("--data {} is a table: name the column to learn with --target", args.data),
        },
        Kind::Images => Ok(images::load(path, &own.images(), seed)?),
        Kind::Arrays => Ok(npy::load(path, own.test.as_ref(), own.task(), seed)?),
    }
}
