//! `softstep sweep`: trains a model with many settings and says which is best.

mod crew;
mod journal;
mod page;
mod space;
mod table;
mod trial;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use clap::error::ErrorKind;
use serde_json::json;
use sha2::{Digest, Sha256};
use softstep::any_backend::Device;
use softstep::backend::Inference;
use softstep::checkpoint;
use softstep::data::Part;
use softstep::ranks::Ranks;

use self::crew::Crew;
use self::journal::{Best, Journal};
use self::space::{Choice, Search, Settings, Space};
use self::table::{Live, Row, Rows};
use self::trial::{Ended, Trained, Trial};
use crate::commands::train::options::TrainArgs;
use crate::commands::train::{STOPPED, SharedData, stop_on_signals};
use crate::device;
use crate::format::{count, counted, figure, interval_text, percent};
use crate::mpi::{Joined, check_same, fail};
use crate::options::{DataArgs, DeviceArgs, OWN_DATA, OwnDataArgs, Problem, at_least_1};
use crate::run::checkpoints::Checkpoint;
use crate::run::files::{hexadecimal, write_whole};
use crate::run::model::{MODEL, model_of, read_own_model};
use crate::run::page::REPORT;
use crate::side_by_side::{Place, execute, places};
use crate::{shell, terminal};

/// Examples and formats, shown by `--help`.
pub const HELP: &str = "\
Examples:
  softstep sweep --data digits --lr 0.01..0.5 --hidden none/64/128,64 --runs 50
  softstep sweep --data digits --lr 0.03/0.1/0.3 --batch-size 32/64/128      all nine combinations
  softstep sweep --data digits --lr 0.01..0.5 --hidden 16..256 --runs 81 --halving
  softstep sweep --data flowers.csv --target species --weight-decay none/0.1/1 --optimizer sgd/adamw --for 10m
  softstep sweep --data mnist --layers cnn --lr 0.01..0.3 --adapter 0,1      a run at a time on each of two GPUs

A setting of `softstep train` takes a list a/b/c, in which `none` omits the option, or a range LOW..HIGH. Ranges are \
logarithmic for lr, weight-decay, epsilon, clip-norm, batch-size and hidden, else linear; :log or :linear after a range \
overrides that, and a number sets how many points of it a grid tries, 5 by default: 0..0.9:linear:4.

With lists alone every combination is tried (--search grid); with a range or a budget values are drawn at random \
(--search random). \
Runs are compared by their loss on the validation part, which is held out of the training part (--validation 0.2 by \
default); the test part is measured once, at the end, for the best run alone. --halving trains all runs for a share of \
their epochs, continues the best third for three times as long, and so on; --halving=4 continues the best quarter.

With the cargo feature mpi, `mpirun -n 8 softstep sweep …` shares the runs among 8 processes, on one machine or several.

Ctrl-C stops a sweep and keeps its results; the same command resumes it, also after kill -9, and ends in the same table. \
With a larger --runs or --for it goes further.

The folder holds:
  report.html         the best run, parallel coordinates, the loss against each setting
  runs.csv            a line for each run, best first
  model.safetensors   the model of the best run
  runs.jsonl, sweep.json, best.json   what the sweep resumes from, and the test result of the best run

--json prints a line {\"event\":\"run\", …} for each run that ends, as in runs.jsonl, and {\"event\":\"done\", …} with \
runs, best (as in best.json) and out, or {\"event\":\"stopped\", …}.";

/// Runs of a random search without a budget.
const RUNS: usize = 32;
/// Share of the training part that is held out, unless the command line says it.
const VALIDATION: &str = "--validation=0.2";
/// Most halvings of the runs: of a smaller share of the epochs than a 27th nothing can be told.
const HALVINGS: usize = 3;
/// Options that do not make a sweep another one.
const BUDGET: [&str; 6] = ["runs", "limit", "jobs", "out", "quiet", "json"];

/// Options of `softstep sweep`.
#[derive(Args, Debug)]
pub struct SweepArgs {
    /// The data.
    #[command(flatten)]
    pub data: DataArgs,
    /// Reading of the user's own data.
    #[command(flatten)]
    pub own: OwnDataArgs,
    /// The device.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// The settings.
    #[command(flatten)]
    settings: Settings,
    /// Runs to train [default: all of a grid; 32 of a random search without --for]
    #[arg(long, value_name = "N", value_parser = at_least_1, help_heading = "Sweep")]
    runs: Option<usize>,
    /// Start no more runs after this time, such as 90s, 10m or 2h
    #[arg(long = "for", value_name = "TIME", value_parser = time, help_heading = "Sweep")]
    limit: Option<Duration>,
    /// Choice of the settings [default: grid for lists without a budget, else random]
    #[arg(long, value_enum, help_heading = "Sweep")]
    search: Option<Search>,
    /// Train all runs for a share of their epochs and continue the best one in N, repeatedly [N is 3 if not given]
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "3", value_parser = factor, help_heading = "Sweep")]
    halving: Option<usize>,
    /// Seed of a random search
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Sweep")]
    search_seed: u64,
    /// Number of runs at the same time on the CPU [default: one for each core]
    #[arg(long, value_name = "N", value_parser = at_least_1, help_heading = "Sweep")]
    jobs: Option<usize>,
    /// Folder of the sweep [default: sweeps/<data>-<hash of the command>]
    #[arg(long, value_name = "FOLDER", help_heading = "Output")]
    out: Option<PathBuf>,
    /// Options from a file, below those of the command line: TOML with the names of flags, as in lr = "0.01..0.5", or the
    /// config.json of a run
    #[arg(long, value_name = "FILE|FOLDER", help_heading = "Sweep")]
    pub config: Option<PathBuf>,
    /// No progress: results, notices and errors only
    #[arg(short, long, help_heading = "Output")]
    quiet: bool,
    /// Print JSON Lines for programs
    #[arg(long, help_heading = "Output")]
    json: bool,
    /// Options on the command line in one form: the name of each field, with its argument.
    #[arg(skip)]
    pub options: Vec<(String, String)>,
}

/// Parses `--for`.
fn time(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len()));
    let seconds = match unit {
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err("a time is a number with its unit: 90s, 10m or 2h".into()),
    };
    let number: f64 = number.parse().map_err(|_| "a time is a number with its unit: 90s, 10m or 2h".to_string())?;
    let time = Duration::try_from_secs_f64(number * seconds).ok().filter(|time| !time.is_zero());
    time.ok_or_else(|| "a time is above 0, and not endless".into())
}

/// Parses `--halving`.
fn factor(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|factor| (2..=100).contains(factor)).ok_or_else(|| "must be 2 to 100".into())
}

impl SweepArgs {
    /// Checks options against each other, and the settings.
    ///
    /// # Errors
    /// A wrong option, by its flag.
    pub fn check(&self) -> Result<(), Problem> {
        let space = Space::new(&self.settings)?;
        if self.search == Some(Search::Grid)
            && self.limit.is_none()
            && self.runs.is_none()
            && space.combinations() > 100_000
        {
            let problem = format!(
                "--search grid: these settings have {} combinations: take fewer values, or a budget with --runs or --for",
                count(space.combinations())
            );
            return Err((ErrorKind::ValueValidation, problem));
        }
        self.check_values(&space)?;
        self.device.check()
    }

    /// Checks each value of a list and both ends of a range as `softstep train` does.
    fn check_values(&self, space: &Space) -> Result<(), Problem> {
        let Some(first) = space.choices(self.search(space), self.search_seed).next() else { return Ok(()) };
        let common = self.common();
        for choice in std::iter::once(first.clone()).chain(space.one_by_one(&first)) {
            if let Err(error) = trial_args(&common, space, &choice) {
                let text = error.to_string();
                let problem = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
                let setting = space.settings.iter().find(|setting| problem.contains(&setting.flag));
                let named = setting.map(|setting| format!("{} {}: {problem}", setting.flag, setting.text));
                return Err((ErrorKind::ValueValidation, named.unwrap_or_else(|| problem.into())));
            }
        }
        Ok(())
    }

    fn search(&self, space: &Space) -> Search {
        let has_budget = self.runs.is_some() || self.limit.is_some();
        let default = if space.has_range() || has_budget { Search::Random } else { Search::Grid };
        self.search.unwrap_or(default)
    }

    /// Arguments of every run: the data, and the settings that have one value.
    fn common(&self) -> Vec<String> {
        let is_of_data =
            |field: &str| ["data", "data_dir"].contains(&field) || OWN_DATA.iter().any(|(own, _)| *own == field);
        let options = self.options.iter().filter(|(field, _)| is_of_data(field));
        options.map(|(_, argument)| argument.clone()).collect()
    }

    /// Arguments that make the sweep what it is.
    fn identity(&self) -> Vec<String> {
        let options = self.options.iter().filter(|(field, _)| !BUDGET.contains(&field.as_str()));
        options.map(|(_, argument)| argument.clone()).collect()
    }

    fn folder(&self) -> PathBuf {
        let name = || {
            let data = Path::new(&self.data.data).file_name().unwrap_or_default().to_string_lossy().into_owned();
            let hash = hexadecimal(&Sha256::digest(self.identity().join("\0")));
            Path::new("sweeps").join(format!("{data}-{}", &hash[..8]))
        };
        self.out.clone().unwrap_or_else(name)
    }
}

/// Trains many settings, or goes on with that, and shows which is best.
///
/// Of several ranks, the first one deals out the runs, writes and prints, and tells the problems of all.
pub async fn run(args: &SweepArgs, started: Instant) -> Result<ExitCode> {
    let joined = Joined::new()?;
    let swept = sweep(args, &joined, started).await;
    match swept {
        Ok((code, in_order)) => {
            if !in_order {
                joined.leave();
            }
            Ok(code)
        }
        Err(error) if joined.ranks.size() > 1 => Ok(fail(&*joined.ranks, &error)),
        Err(error) => Err(error),
    }
}

/// Returns the exit code, and true if no rank was lost.
async fn sweep(args: &SweepArgs, joined: &Joined, started: Instant) -> Result<(ExitCode, bool)> {
    let ranks = &joined.ranks;
    let space = Space::new(&args.settings).map_err(|(_, problem)| anyhow::anyhow!(problem))?;
    let common = args.common();
    let search = args.search(&space);
    let first = space.choices(search, args.search_seed).next().context("there is no setting to try")?;
    let data = SharedData::default();
    let prepared = data.prepare(&trial_args(&common, &space, &first)?)?;
    if prepared.validation.is_none() {
        bail!("a sweep compares runs by their loss on the validation part: hold one out, as with --validation 0.2");
    }
    let budget = match (args.runs, args.limit, search) {
        (Some(runs), ..) => Some(runs),
        (None, Some(_), _) => None,
        (None, None, Search::Grid) => Some(space.combinations()),
        (None, None, Search::Random) => Some(RUNS),
    };
    let places = match joined.local {
        None => places(&args.device, budget.unwrap_or(usize::MAX), args.jobs).await?,
        Some(_) if args.jobs.is_some() => {
            bail!("--jobs is for one process: of the ranks that mpirun starts, each trains one run at a time")
        }
        Some(local) => {
            let device = device::open_device(&device::for_rank(&args.device, local).await).await?;
            check_ranks(&**ranks, args, &prepared.data_sha256, &device)?;
            let others = (1..ranks.size()).map(|rank| Place::of_rank(rank, device.clone()));
            std::iter::once(Place::whole(device.clone())).chain(others).collect()
        }
    };
    let stop = stop_on_signals()?;
    if ranks.rank() > 0 {
        let own = &places[0];
        let train = |trial: &Trial, share, state: Option<&[u8]>| {
            own.run(|| pollster::block_on(trial::train(&data, &own.device, trial, share, state, &stop)))
        };
        return Ok((ExitCode::SUCCESS, crew::serve(&**ranks, &stop, train)?));
    }
    let crew = (ranks.size() > 1).then(|| Crew::new(ranks)).transpose()?;
    let journal = Journal::open(&args.folder(), args.identity(), &prepared.data_sha256)?;
    if !args.quiet && !args.json {
        say_start(args, &space, search, budget, &places, &journal)?;
    }
    let mut sweep = Sweep {
        args,
        space: &space,
        data: &data,
        places: &places,
        journal,
        rows: Rows::default(),
        live: Live::new(args.quiet || args.json),
        stop,
        crew: crew.as_ref(),
        budget,
        started,
        problem: None,
    };
    let numbered = space.choices(search, args.search_seed).enumerate().map(|(at, choice)| {
        let args = trial_args(&common, &space, &choice)?;
        Ok(Trial { number: at + 1, choice, args, before: None })
    });
    sweep.all(numbered.take(budget.unwrap_or(usize::MAX)))?;
    let code = sweep.conclude(&prepared.data).await?;
    Ok((code, crew.map_or(Ok(true), Crew::end)?))
}

/// Refuses ranks that were not started by the same command, or for which it means other data or another kind of device.
fn check_ranks(ranks: &dyn Ranks, args: &SweepArgs, data_sha256: &str, device: &Device) -> Result<()> {
    let all = [
        ("command", args.identity().join("\0"), "start every rank by the same command"),
        ("data", data_sha256.to_owned(), "put the same files on every node"),
    ];
    check_same(ranks, device, &all)
}

/// Parses the arguments of a run, as if they were on the command line.
fn trial_args(common: &[String], space: &Space, choice: &Choice) -> Result<TrainArgs, clap::Error> {
    let settings = space.arguments(choice).unwrap_or_default();
    let is_validation = |argument: &String| argument.starts_with("--validation=");
    let validation = (!settings.iter().any(is_validation)).then(|| VALIDATION.to_string());
    let own = common.iter().chain(&settings).cloned().chain(validation);
    TrainArgs::parse(own)
}

fn say_start(
    args: &SweepArgs,
    space: &Space,
    search: Search,
    budget: Option<usize>,
    places: &[Place],
    journal: &Journal,
) -> Result<()> {
    let flags: Vec<&str> = space.settings.iter().map(|setting| setting.flag.as_str()).collect();
    let how = match search {
        Search::Grid => "a grid",
        Search::Random => "random values",
    };
    let runs = budget.map_or_else(String::new, |runs| format!(", {} runs", count(runs)));
    let halving = args.halving.map_or_else(String::new, |factor| format!(", the best one in {factor} going on"));
    let known = match journal.len() {
        0 => String::new(),
        known => format!(", going on after {} that are done", count(known)),
    };
    let mut lines = vec![terminal::device_line(&places[0].device.info())];
    let varied = if flags.is_empty() {
        "the settings as given, none varied".into()
    } else {
        format!("{how} of {}", flags.join(", "))
    };
    lines.push(terminal::field("sweep", &format!("{varied}{runs}{halving}{known}")));
    lines.push(terminal::field("at once", &counted(places.len(), "run")));
    Ok(terminal::print(&lines.join("\n"))?)
}

/// A sweep under way.
struct Sweep<'a> {
    args: &'a SweepArgs,
    space: &'a Space,
    data: &'a SharedData,
    places: &'a [Place],
    journal: Journal,
    rows: Rows,
    live: Live,
    stop: Arc<AtomicBool>,
    /// The other ranks, if there are any.
    crew: Option<&'a Crew>,
    budget: Option<usize>,
    started: Instant,
    /// First error that is not one run's own.
    problem: Option<anyhow::Error>,
}

impl Sweep<'_> {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Time since the start of the sweep.
    fn seconds(&self) -> f64 {
        self.journal.spent + self.started.elapsed().as_secs_f64()
    }

    /// Trains all runs of the budget.
    fn all(&mut self, trials: impl Iterator<Item = Result<Trial>> + Send) -> Result<()> {
        let limit = self.args.limit.map(|limit| limit.as_secs_f64() - self.journal.spent);
        let (started, problem) = (self.started, std::sync::Mutex::new(None));
        let in_time = move || limit.is_none_or(|limit| started.elapsed().as_secs_f64() < limit);
        let mut trials = trials.map_while(|trial| match trial {
            Ok(trial) => Some(trial),
            Err(error) => {
                *problem.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
                None
            }
        });
        let Some(factor) = self.args.halving else {
            let known = self.journal.snapshot();
            self.rung(trials.take_while(|trial| known.get(trial, 1).is_some() || in_time()), 1)?;
            return problem.into_inner().unwrap_or_default().map_or(Ok(()), Err);
        };
        let most = factor.pow(HALVINGS as u32);
        loop {
            // Where time is the budget, the runs are halved in groups of equal size until it is over.
            let size = self.budget.unwrap_or(most);
            let rungs = (1..=HALVINGS).take_while(|&halvings| factor.pow(halvings as u32) <= size).count();
            let known = self.journal.snapshot();
            let share = factor.pow(rungs as u32);
            let group = trials.by_ref().take(size);
            let mut group =
                self.rung(group.take_while(|trial| known.get(trial, share).is_some() || in_time()), share)?;
            let taken = group.len();
            for rung in (0..rungs).rev() {
                if self.is_stopped() {
                    break;
                }
                group.sort_by_key(|(_, ended)| order(ended));
                let kept = group.len().div_ceil(factor);
                for (trial, _) in group.drain(kept..) {
                    self.journal.states().remove(&trial);
                }
                group.sort_by_key(|(trial, _)| trial.number);
                let next: Vec<Trial> =
                    group.into_iter().map(|(trial, ended)| Trial { before: Some(ended), ..trial }).collect();
                group = self.rung(next.into_iter(), factor.pow(rung as u32))?;
            }
            if taken < size || self.budget.is_some() || self.is_stopped() || !in_time() {
                break;
            }
        }
        problem.into_inner().unwrap_or_default().map_or(Ok(()), Err)
    }

    /// Trains one `share`-th of the epochs of some runs, side by side; returns those that came to its end.
    fn rung(&mut self, trials: impl Iterator<Item = Trial> + Send, share: usize) -> Result<Vec<(Trial, Ended)>> {
        let stop = Arc::clone(&self.stop);
        let (data, places, crew, stop_for_work) = (self.data, self.places, self.crew, Arc::clone(&stop));
        let known = self.journal.snapshot();
        let states = self.journal.states();
        let train = |place: &Place, trial: &Trial| -> Result<Option<Trained>> {
            let state = states.read(trial);
            let trained = match (place.rank, crew) {
                (Some(rank), Some(crew)) => {
                    let trained = crew.train(rank, trial, share, state.as_deref(), &stop_for_work)?;
                    let Some(trained) = trained else { return Ok(None) };
                    trained
                }
                _ => {
                    let device = &place.device;
                    pollster::block_on(trial::train(data, device, trial, share, state.as_deref(), &stop_for_work))?
                }
            };
            if trained.ended.as_ref().is_some_and(|ended| ended.finished) {
                states.remove(trial);
            } else if let Some((metadata, state)) = &trained.state {
                states.write(trial, &checkpoint::to_safetensors(metadata, state)?)?;
            }
            Ok(Some(trained))
        };
        let work = |place: &Place, trial: &Trial| {
            let known = known.get(trial, share).cloned();
            match known.or_else(|| trial.before.clone().filter(|before| before.finished)) {
                Some(ended) => Some(Ok(Trained { ended: Some(ended), state: None })),
                None => train(place, trial).transpose(),
            }
        };
        let mut done = Vec::new();
        let waiting = trials.take_while(move |_| !stop.load(Ordering::Relaxed));
        execute(
            places,
            waiting,
            |trial| trial.number,
            work,
            |trial, trained: Result<Trained>| {
                let noted = trained.and_then(|Trained { ended, state }| {
                    ended.map(|ended| self.note(&trial, share, ended, state)).transpose()
                });
                match noted {
                    Ok(Some(ended)) => done.push((trial, ended)),
                    // A rank that was told to stop stops all.
                    Ok(None) => self.stop.store(true, Ordering::Relaxed),
                    Err(error) => {
                        // What is no fault of one run's settings would end the others, too.
                        self.stop.store(true, Ordering::Relaxed);
                        self.problem.get_or_insert(error);
                    }
                }
            },
        );
        match self.problem.take() {
            Some(error) => {
                self.live.close();
                Err(error.context(format!(
                    "the sweep in {} is kept; the same command goes on",
                    self.journal.folder().display()
                )))
            }
            None => Ok(done),
        }
    }

    /// Records what came of a run, keeps its model if it is the best so far, and shows it.
    fn note(&mut self, trial: &Trial, share: usize, mut ended: Ended, state: Option<Checkpoint>) -> Result<Ended> {
        ended.run = trial.number;
        if !self.journal.has(trial, share) {
            (ended.share, ended.elapsed) = (share, self.seconds());
            let best = self.rows.best().and_then(|row| row.ended.loss);
            if let (Some((metadata, state)), Some(loss)) = (&state, ended.loss)
                && ended.finished
                && best.is_none_or(|best| loss < best)
            {
                write_whole(&self.journal.folder().join(MODEL), &model_of(metadata, state)?)?;
            }
            self.journal.add(&ended)?;
            if trial.before.as_ref().is_none_or(|before| !before.finished) {
                self.say(trial, &ended)?;
            }
        }
        self.rows.add(Row { choice: trial.choice.clone(), ended: ended.clone() });
        self.live.show(&self.rows, self.space, self.budget, self.seconds());
        Ok(ended)
    }

    /// Prints a line for a run where there is no live table.
    fn say(&self, trial: &Trial, ended: &Ended) -> Result<()> {
        if self.args.json {
            return Ok(terminal::print_event("run", ended)?);
        }
        if self.args.quiet || !self.live.is_hidden() {
            return Ok(());
        }
        let of = self.budget.map_or_else(String::new, |of| format!(" of {}", count(of)));
        let result = match (ended.loss, ended.quality) {
            (Some(loss), Some(quality)) if ended.real_values => {
                format!("validation loss {}, R² {}", figure(loss), figure(quality))
            }
            (Some(loss), Some(quality)) => format!("validation loss {}, {}", figure(loss), percent(quality)),
            (Some(loss), None) => format!("validation loss {}", figure(loss)),
            (None, _) => ended.problem.clone().unwrap_or_else(|| "failed".into()),
        };
        let epochs = if ended.finished { String::new() } else { format!(" after {}", counted(ended.epochs, "epoch")) };
        let settings = self.space.settings.iter().zip(&trial.choice);
        let settings: Vec<String> = settings.map(|(setting, value)| format!("{} {value}", setting.flag)).collect();
        Ok(terminal::print(&format!("run {}{of}: {result}{epochs}  {}", trial.number, settings.join(" ")))?)
    }

    /// Shows the table, measures the best run on the test part, and writes CSV and page.
    async fn conclude(&mut self, data: &softstep::data::Data) -> Result<ExitCode> {
        self.live.close();
        let stopped = self.is_stopped();
        let best = match self.rows.best().cloned() {
            Some(row) if !stopped => Some(self.test(&row).await?),
            _ => None,
        };
        let folder = self.journal.folder().to_path_buf();
        let (csv, report) = (folder.join("runs.csv"), folder.join(REPORT));
        write_whole(&csv, &self.rows.csv(self.space)?)?;
        let about = page::About {
            data: &data.name,
            space: self.space,
            rows: &self.rows,
            best: best.as_ref(),
            seconds: self.seconds(),
        };
        write_whole(&report, page::page(&about).as_bytes())?;
        if self.args.json {
            let line = json!({ "runs": self.rows.all().len(), "best": best, "out": folder.display().to_string() });
            terminal::print_event(if stopped { "stopped" } else { "done" }, &line)?;
        } else if !self.rows.all().is_empty() {
            terminal::print(&self.rows.text(self.space))?;
        }
        if stopped {
            terminal::notice(&format!(
                "stopped after {} runs, which are kept in {}; the same command goes on",
                self.rows.all().len(),
                folder.display()
            ));
            return Ok(ExitCode::from(STOPPED));
        }
        let Some(best) = best else { bail!("no run came to a validation loss: see {}", report.display()) };
        self.journal.states().remove_all();
        if !self.args.json {
            self.say_best(&best, data, &[&csv, &report])?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn say_best(&self, best: &Best, data: &softstep::data::Data, files: &[&Path; 2]) -> Result<()> {
        let [csv, report] = files.map(terminal::path_text);
        let model = terminal::path_text(&self.journal.folder().join(MODEL));
        let quality = match best.test_accuracy {
            Some(accuracy) => {
                format!("accuracy {}, {}", percent(accuracy), interval_text(best.test_correct, best.test_examples))
            }
            None => format!("R² {}", crate::quality::r_squared_text(best.test_r_squared)),
        };
        let mut lines = vec![
            format!("best is run {}, trained by:", best.run),
            best.command.clone(),
            format!("on the test part, measured once: {quality}"),
        ];
        lines.extend(crate::quality::guess_text(data, Part::Test));
        lines.extend([format!("model in {model}"), format!("table in {csv}"), format!("report in {report}")]);
        Ok(terminal::print(&lines.join("\n"))?)
    }

    /// Measures the best run on the test part, unless that was done.
    async fn test(&self, row: &Row) -> Result<Best> {
        let sha256 = row.ended.parameters_sha256.clone().context("the best run has no parameters")?;
        let path = self.journal.folder().join(MODEL);
        let is_there = read_own_model(&path).is_ok_and(|model| model.parameters.sha256() == sha256);
        if let Some(best) = self.journal.best().filter(|best| best.parameters_sha256 == sha256 && is_there) {
            return Ok(best);
        }
        let args = TrainArgs::parse(row.ended.arguments.iter().skip(1).cloned())?;
        let place = &self.places[row.ended.run % self.places.len()];
        if !is_there {
            // A process was killed between a run and its model: the run is trained again, to the same bits.
            let trial = Trial { number: row.ended.run, choice: row.choice.clone(), args: args.clone(), before: None };
            let trained = trial::train(self.data, &place.device, &trial, 1, None, &self.stop).await?;
            let ended = trained.ended.filter(|ended| ended.finished);
            let (metadata, state) = ended.and(trained.state).context("the best run was not trained again")?;
            write_whole(&path, &model_of(&metadata, &state)?)?;
        }
        let model = read_own_model(&path)?;
        let prepared = self.data.prepare(&args)?;
        let mut device = place.device.for_inference(&model.parameters, model.loss).await?;
        let set = device.upload(&prepared.data.test)?;
        let evaluation = device.evaluate(&set).await?.clone();
        let examples = prepared.data.test.len();
        let best = Best {
            run: row.ended.run,
            command: self.command(&row.ended.arguments),
            parameters_sha256: sha256,
            validation_loss: row.ended.loss.unwrap_or(f64::NAN),
            test_loss: evaluation.loss,
            test_accuracy: evaluation.accuracy(),
            test_r_squared: evaluation.r_squared,
            test_examples: examples,
            test_correct: evaluation.correct,
        };
        self.journal.write_best(&best)?;
        Ok(best)
    }

    /// Formats the command that trains a run alone.
    fn command(&self, arguments: &[String]) -> String {
        let device = self.args.options.iter().filter(|(field, _)| field == "backend" || field == "adapter");
        let all = arguments.iter().chain(device.map(|(_, argument)| argument));
        let all: Vec<String> = all.map(|argument| shell::word(argument)).collect();
        format!("softstep {}", all.join(" "))
    }
}

/// The order of runs after the same share: the lowest loss first, failed ones last.
fn order(ended: &Ended) -> (bool, u64, usize) {
    (ended.loss.is_none(), ended.loss.map_or(u64::MAX, f64::to_bits), ended.run)
}
