//! A run on its backend: from its folder to its end.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use softstep::backend::{Backend, DeviceInfo, Evaluation};
use softstep::data::Data;
use softstep::gpu::Gpu;
use softstep::loss::example_weights;
use softstep::model::Parameters;
use softstep::optimizer::TrainingState;
use softstep::range_test::RangeTest;
use softstep::ranks::Ranks;
use softstep::trainer::{self, Best, Event, Keep, Position, RunOptions, Summary, TrainingConfig};
use softstep::{Error, checkpoint};

use super::options::TrainArgs;
use super::prepare::Prepared;
use super::progress::{Header, Progress, Voice};
use super::resume::{check_device, resume_command};
use super::signals::{STOPPED, stop_on_signals};
use super::{findings, next};
use crate::flags::with_flags;
use crate::run::config::{Config, Source};
use crate::run::error_analysis::ErrorAnalysis;
use crate::run::events::Events;
use crate::run::folder::{RunFolder, Stopped};
use crate::run::metrics::{History, METRICS};
use crate::run::page;
use crate::run::results::{Outcome, Profile, Results, VerifiedSteps, digests};
use crate::{shell, terminal};

/// A prepared run, for any backend.
pub struct Job<'a> {
    /// Options of the command.
    pub args: &'a TrainArgs,
    /// Data and model.
    pub prepared: &'a Prepared,
    /// Settings, with the learning rate of the range test.
    pub config: &'a TrainingConfig,
    /// Range test that found the learning rate.
    pub range_test: Option<RangeTest>,
    /// Device to destroy at a step, for tests.
    pub losing: Option<(Gpu, usize)>,
    /// The ranks that train the model together.
    pub ranks: &'a dyn Ranks,
    /// Start time of the program, or of a run among others.
    pub started: Instant,
    /// The run's place among others; `None` for a run alone, which prints its progress and results.
    pub beside: Option<&'a Beside<'a>>,
}

/// A run among others: it prints only problems, each with its name, and is stopped with the others.
pub struct Beside<'a> {
    /// Name.
    pub name: &'a str,
    /// Stop signal of all runs.
    pub stop: Arc<AtomicBool>,
    /// Prints notices about the data.
    pub notices: bool,
}

/// The start of a run: new, or from a checkpoint.
struct Start {
    folder: RunFolder,
    position: Position,
    /// Step that the run is resumed from.
    resumed_from: Option<usize>,
    /// Parameters of the best epoch so far.
    best: Option<Parameters>,
    /// SHA-256 of the parameters of a finished run.
    parameters_sha256: String,
    checkpoint_every: Option<NonZeroUsize>,
}

impl Job<'_> {
    /// Trains to the end of the run, or until a signal stops it, and writes all files of the run.
    pub async fn train<B: Backend>(&self, mut backend: B, stopped: Option<Stopped>) -> Result<ExitCode> {
        let Self { args, prepared, config, .. } = *self;
        let data = &prepared.data;
        let validation = prepared.validation.as_ref().map(|examples| backend.upload(examples)).transpose()?;
        let test = backend.upload(&data.test)?;
        let info = backend.info().clone();
        let stop = self.beside.map_or_else(stop_on_signals, |beside| Ok(Arc::clone(&beside.stop)))?;
        let start = self.start(&mut backend, stopped, &info)?;
        let metadata = self.metadata(&start, &info);
        let Start { folder, position: from, resumed_from, best, parameters_sha256, checkpoint_every } = start;

        let out = folder.path().to_path_buf();
        let steps = config.steps(data.train.len());
        let has_ended = config.ended(&from);
        let with_events = !has_ended && (args.tensorboard || resumed_from.is_some() && Events::exist(&out));
        let header = Header {
            info,
            data,
            architecture: &prepared.architecture,
            config,
            chosen: prepared.chosen.as_deref(),
            range_test: self.range_test.as_ref(),
            out: &out,
            resumed_from,
        };
        let mut recorder = Recorder {
            config,
            examples: data.train.len(),
            stop: &stop,
            losing: self.losing.as_ref(),
            events: with_events.then(|| Events::create(&out, resumed_from.unwrap_or_default())),
            with_events,
            progress: Progress::new(header, steps, self.voice(), self.started),
            folder,
            metadata,
            start: None,
            best_epoch: from.best,
            parameters_sha256,
            first_loss: None,
            last_test: None,
            next_page: None,
        };
        let trained = if has_ended {
            conclude(&mut backend, &recorder.metadata, validation.as_ref(), &test, best, &out).await.map(Some)
        } else {
            let weights = example_weights(&data.train, &prepared.class_weights)?;
            let options = RunOptions { from, best: best.as_ref(), checkpoint_every, stop: &stop, weights: &weights };
            let observe = |event: Event<'_>| recorder.observe(event);
            trainer::train(&mut backend, config, data.train.len(), validation.as_ref(), &test, &options, observe).await
        };
        let trained = recorder.close(trained);
        let results = recorder.results(&backend, data, steps);
        match trained {
            Ok(Some(summary)) => self.end(&mut backend, recorder, results, &summary).await,
            Ok(None) => Ok(self.stop(recorder, results)),
            Err(error) => Ok(self.fail(&mut backend, recorder, results, error, has_ended).await),
        }
    }

    /// Trains as a rank other than the first, which computes but neither writes nor prints.
    pub async fn follow<B: Backend>(&self, mut backend: B, stopped: Option<Stopped>) -> Result<ExitCode> {
        let Self { prepared: Prepared { data, validation, class_weights, .. }, config, .. } = *self;
        let validation = validation.as_ref().map(|examples| backend.upload(examples)).transpose()?;
        let test = backend.upload(&data.test)?;
        let stop = stop_on_signals()?;
        let (mut from, mut best) = (Position::START, None);
        if let Some(stopped) = stopped {
            backend.restore(&stopped.state)?;
            (from, best) = (stopped.metadata.position, stopped.state.best);
        }
        let weights = example_weights(&data.train, class_weights)?;
        let options = RunOptions { from, best: best.as_ref(), checkpoint_every: None, stop: &stop, weights: &weights };
        let examples = data.train.len();
        trainer::train(&mut backend, config, examples, validation.as_ref(), &test, &options, |_| Ok(())).await?;
        Ok(ExitCode::SUCCESS)
    }

    /// Returns true if no other rank shares the steps of the backend.
    fn is_alone(&self) -> bool {
        self.ranks.size() == 1
    }

    /// Creates the run folder, or resumes the run of a folder with the state of its checkpoint.
    fn start<B: Backend>(&self, backend: &mut B, stopped: Option<Stopped>, info: &DeviceInfo) -> Result<Start> {
        let Some(stopped) = stopped else {
            let mut folder = RunFolder::create(self.args.out.as_deref(), &self.prepared.data.name)?;
            let curve = self.range_test.as_ref().map(|test| test.curve.iter().map(|point| point.map(Some)).collect());
            folder.write_config(&Config { range_test: curve, ..self.run_config(info) })?;
            return Ok(Start {
                folder,
                position: Position::START,
                resumed_from: None,
                best: None,
                parameters_sha256: String::new(),
                checkpoint_every: self.args.checkpoint_every,
            });
        };
        let run = &stopped.metadata;
        check_device(self.args, run, info)?;
        backend.restore(&stopped.state)?;
        let (position, resumed_from) = (run.position, Some(run.step));
        let checkpoint_every = self.args.checkpoint_every.or(run.checkpoint_every);
        let best = stopped.state.best.clone();
        let parameters_sha256 = best.as_ref().unwrap_or(&stopped.state.parameters).sha256();
        let mut folder = stopped.go_on()?;
        if !folder.has_config() {
            folder.write_config(&self.run_config(info))?;
        }
        Ok(Start { folder, position, resumed_from, best, parameters_sha256, checkpoint_every })
    }

    /// Content of `config.json`.
    fn run_config(&self, info: &DeviceInfo) -> Config<&TrainingConfig> {
        let Prepared { data, validation, data_sha256, chosen, architecture, init, .. } = self.prepared;
        let data_dir = self.args.data.data_dir.as_deref();
        // The arguments of a resuming command are not those that started the run.
        let arguments = if self.args.resume.is_some() { &[][..] } else { &self.args.arguments };
        Config {
            chosen: chosen.clone(),
            source: Some(Source::new(arguments, data, data_sha256, data_dir, init.clone())),
            ..Config::new(self.config, architecture, data, validation.as_ref(), info)
        }
    }

    /// Metadata of the checkpoints; position, step and length of the metrics are set for each.
    fn metadata(&self, start: &Start, info: &DeviceInfo) -> checkpoint::Metadata {
        let metadata = self.prepared.metadata(info, start.position, start.resumed_from.unwrap_or(0));
        checkpoint::Metadata { checkpoint_every: start.checkpoint_every, ..metadata }
    }

    /// What the run prints.
    fn voice(&self) -> Voice {
        match self.args {
            _ if self.beside.is_some() => Voice::Silent,
            TrainArgs { json: true, quiet: true, .. } => Voice::Lines,
            TrainArgs { json: true, .. } => Voice::Json,
            TrainArgs { quiet: true, .. } => Voice::Results,
            _ => Voice::All,
        }
    }

    /// Prints a notice, with the name of the run if it is one among others.
    fn notice(&self, text: &str) {
        terminal::notice(&self.named(text));
    }

    fn named(&self, text: &str) -> String {
        self.beside.map_or_else(|| text.to_owned(), |beside| format!("{}: {text}", beside.name))
    }

    /// Examines the model of a finished run, writes results and page, and prints them.
    async fn end<B: Backend>(
        &self,
        backend: &mut B,
        recorder: Recorder<'_>,
        mut results: Results,
        summary: &Summary,
    ) -> Result<ExitCode> {
        let Self { args, prepared: Prepared { data, .. }, config, .. } = *self;
        let Recorder { mut progress, folder, start, parameters_sha256, first_loss, .. } = recorder;
        progress.profile(results.profile.as_ref());
        progress.verification(backend.verification(), summary.steps - progress.resumed_from());
        results.parameters_sha256 = Some(parameters_sha256.clone());
        results.test = Some(self.examine(backend, summary).await);
        let ended = findings::Ended { args, config, data, summary, first_loss };
        results.files = digests(folder.path());
        // The other ranks have left: no step can be tried.
        let start = start.filter(|_| self.is_alone());
        results.findings = ended.findings(backend, start.as_ref()).await;
        let page = self.write_page(&folder, &results);
        progress.done(summary, &folder.model(), page.as_deref(), parameters_sha256);
        results.findings.iter().for_each(|text| self.notice(text));
        progress.next(&next::commands(args, config, data.shape(), folder.path()));
        Ok(if progress.all_printed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Writes results and page of a stopped run, and prints the command that resumes it.
    fn stop(&self, recorder: Recorder<'_>, results: Results) -> ExitCode {
        let Recorder { mut progress, folder, .. } = recorder;
        let steps = results.steps;
        self.write_page(&folder, &Results { outcome: Outcome::Stopped, ..results });
        progress.stopped(folder.saved().unwrap_or_default(), steps, &resume_command(folder.path(), self.args));
        ExitCode::from(STOPPED)
    }

    /// Saves what it can of a failed run, and prints the error and what to do.
    async fn fail<B: Backend>(
        &self,
        backend: &mut B,
        recorder: Recorder<'_>,
        mut results: Results,
        error: Error,
        has_ended: bool,
    ) -> ExitCode {
        let Recorder { mut folder, start, examples, with_events, .. } = recorder;
        let is_disk = matches!(error, Error::Io { .. });
        let _ = if is_disk { folder.wait() } else { folder.save_last() };
        // The metrics up to here show what happened; the error matters more than a failure to write them. Before the first
        // checkpoint they are not written: the folder is free for another run.
        if folder.saved().is_some() {
            let _ = folder.flush();
        }
        results.outcome = Outcome::Failed(with_flags(&error.to_string()));
        let problem = error.to_string();
        let rate = match start.as_ref().filter(|_| is_divergence(&error) && self.is_alone()) {
            Some(start) => findings::tried_rate(backend, self.config, examples, start).await,
            None => None,
        };
        let (mut way_out, command) = way_out(&mut folder, &error, rate, self.args, with_events);
        if let Some(text) = findings::large_features(&self.prepared.data.train).filter(|_| is_divergence(&error)) {
            way_out = format!("{text}; {way_out}");
        }
        match self.beside {
            Some(beside) => terminal::error(&anyhow::Error::from(error).context(beside.name.to_owned())),
            None => terminal::error(&error.into()),
        }
        match command {
            Some(command) => terminal::notice_with_command(&self.named(&way_out), &command),
            None => self.notice(&way_out),
        }
        // A finished run keeps the results that it has.
        if !is_disk && !has_ended {
            self.write_page(&folder, &results);
        }
        self.ranks.fail(&problem);
        ExitCode::FAILURE
    }

    /// Analyses the errors of the kept model on the test part. A failure of the device is only a notice: the model is saved.
    async fn examine<B: Backend>(&self, backend: &mut B, summary: &Summary) -> ErrorAnalysis {
        let (config, Prepared { data, validation, .. }) = (self.config, self.prepared);
        let kept = summary.best.filter(|_| config.keep == Keep::Best).map_or(summary.epochs, |best| best.epoch);
        let mut tested = ErrorAnalysis::new(kept, data, &summary.test);
        if let Err(error) = tested.examine(backend, data, &summary.test).await {
            self.notice(&format!("the report will not show the mistakes: {error}"));
        }
        let measured = tested.measure(backend, data, validation.as_ref(), &summary.test, config.loss).await;
        let attributed = match measured {
            Ok(()) => tested.attribute(backend, data, config.loss).await,
            Err(error) => Err(error),
        };
        let weighed = match attributed {
            Ok(()) => tested.weigh(backend, data, config.seed).await,
            Err(error) => Err(error),
        };
        if let Err(error) = weighed {
            self.notice(&format!("the report will be incomplete: {error}"));
        }
        tested
    }

    /// Writes `results.json` and the page, and returns its path. A failure is only a notice: `--resume` writes them later.
    fn write_page(&self, folder: &RunFolder, results: &Results) -> Option<PathBuf> {
        match folder.write_results(results).and_then(|()| page::write(folder.path())) {
            Ok(page) => Some(page),
            Err(error) => {
                let text = format!("the run has no report: {error:#}; once that is fixed, write it with:");
                terminal::notice_with_command(&self.named(&text), &resume_command(folder.path(), self.args));
                None
            }
        }
    }
}

/// Observer of a training run: records its events in the run folder and shows them.
struct Recorder<'a> {
    config: &'a TrainingConfig,
    /// Number of training examples.
    examples: usize,
    stop: &'a AtomicBool,
    losing: Option<&'a (Gpu, usize)>,
    events: Option<Events>,
    /// True if the run has TensorBoard's events.
    with_events: bool,
    progress: Progress<'a>,
    folder: RunFolder,
    metadata: checkpoint::Metadata,
    /// State before the first step; `None` for a resumed run.
    start: Option<TrainingState>,
    best_epoch: Option<Best>,
    /// SHA-256 of the kept parameters, once the run has ended.
    parameters_sha256: String,
    /// Loss of the first step.
    first_loss: Option<f64>,
    /// Last epoch with a test, and its evaluation.
    last_test: Option<(usize, Evaluation)>,
    /// Earliest time of the next page of the run in progress; `None` before the first.
    next_page: Option<Instant>,
}

/// Least time between two pages of a run in progress.
const PAGE_INTERVAL: Duration = Duration::from_secs(4);
/// Least time between two pages, as a multiple of the time that writing one takes.
const PAGE_SHARE: u32 = 50;

impl Recorder<'_> {
    fn observe(&mut self, event: Event<'_>) -> softstep::Result<()> {
        if let Some(events) = &mut self.events {
            events.record(event);
        }
        match event {
            Event::Checkpoint { position, state } => self.save(position, state)?,
            _ => self.folder.write_metrics(event)?,
        }
        match event {
            Event::Step { step, loss, .. } => {
                if step == 1 {
                    self.first_loss = Some(f64::from(loss));
                }
                if let Some((gpu, _)) = self.losing.filter(|(_, at)| *at == step) {
                    gpu.device.destroy();
                }
            }
            Event::EpochEvaluated { epoch, test, .. } => self.last_test = Some((epoch, test.clone())),
            Event::EpochStarted { .. } | Event::EpochTrained { .. } | Event::Checkpoint { .. } => {}
        }
        self.progress.show(event);
        if let Event::Checkpoint { position, .. } = event
            && position.steps == 0
            && position != Position::START
            && !self.config.ended(&position)
        {
            self.write_live_page();
        }
        Ok(())
    }

    /// Writes the page of the run so far, unless one was written a moment ago.
    fn write_live_page(&mut self) {
        let is_early = self.next_page.is_some_and(|next| Instant::now() < next);
        if is_early || self.folder.saved().is_none() {
            return;
        }
        let started = Instant::now();
        // A page that cannot be written is no reason to stop; the one at the end says why.
        if let Err(error) = page::write_live(self.folder.path()) {
            log::info!("no page of the run in progress: {error:#}");
        }
        self.next_page = Some(Instant::now() + PAGE_INTERVAL.max(PAGE_SHARE * started.elapsed()));
    }

    /// Saves a checkpoint.
    fn save(&mut self, position: Position, state: &TrainingState) -> softstep::Result<()> {
        if position == Position::START {
            self.start = Some(state.clone());
        }
        self.best_epoch = position.best;
        let has_ended = self.config.ended(&position);
        if has_ended {
            self.parameters_sha256 = state.best.as_ref().unwrap_or(&state.parameters).sha256();
        }
        let step = position.step(self.config, self.examples);
        let awaited = has_ended || self.stop.load(Ordering::Relaxed);
        self.folder.save(checkpoint::Metadata { position, step, ..self.metadata.clone() }, state, awaited)
    }

    /// Closes progress bar and event file, and saves the last checkpoint of a run without an error.
    fn close<T>(&mut self, trained: softstep::Result<T>) -> softstep::Result<T> {
        self.progress.close();
        self.events = None;
        trained.and_then(|ended| self.folder.save_last().map(|()| ended))
    }

    /// Returns the results so far, of a run of `steps` steps.
    fn results<B: Backend>(&mut self, backend: &B, data: &Data, steps: usize) -> Results {
        let timings = self.progress.timings();
        Results {
            version: env!("CARGO_PKG_VERSION").into(),
            written: jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S %Z").to_string(),
            outcome: Outcome::Ended,
            step: self.progress.resumed_from() + timings.steps,
            steps,
            best: self.best_epoch,
            parameters_sha256: None,
            files: BTreeMap::new(),
            profile: Profile::new(backend.profile(), timings.seconds),
            timings,
            verification: backend.verification().map(VerifiedSteps::new),
            test: self.last_test.take().map(|(epoch, test)| ErrorAnalysis::new(epoch, data, &test)),
            findings: Vec::new(),
        }
    }
}

/// Returns true if training diverged.
fn is_divergence(error: &Error) -> bool {
    matches!(error, Error::NonFiniteLoss { .. } | Error::NonFiniteState { .. } | Error::NonFiniteTestLoss { .. })
}

/// Describes what is saved of a failed run, with the command that resumes it if that may help. `rate` is a learning rate
/// that was tried after a divergence.
fn way_out(
    folder: &mut RunFolder,
    error: &Error,
    rate: Option<f32>,
    args: &TrainArgs,
    with_events: bool,
) -> (String, Option<String>) {
    let path = folder.path().to_path_buf();
    let last = folder.saved().map(|step| format!("the checkpoint of step {step} is whole, in {}", path.display()));
    match folder.rescue() {
        Some(Some((step, place))) => {
            if with_events {
                // A resumed run continues its event files. Their numbers are in the saved metrics.
                Events::create(&place, step).flush();
            }
            let text = format!(
                "the run up to step {step} is saved in {}; once there is room, move it where you like; go on with:",
                place.display()
            );
            (text, Some(resume_command(&place, args)))
        }
        Some(None) => {
            let lost = "the state could not be saved anywhere else either";
            match last {
                Some(last) => (format!("{lost}; {last}; go on with:"), Some(resume_command(&path, args))),
                None => (lost.into(), None),
            }
        }
        None => {
            let Some(last) = last else { return (format!("nothing of the run is saved in {}", path.display()), None) };
            match error {
                error if is_divergence(error) => {
                    let anew = rate.map(|rate| format!("start anew with {}; ", findings::rate_text(rate)));
                    let init = format!("to start from it, add --init {} to a smaller --lr", shell::argument(&path));
                    (format!("{}{last}; {init}", anew.unwrap_or_default()), None)
                }
                Error::WrongStep { .. } => {
                    (format!("{last}, but this device computed it: start a new run on another device"), None)
                }
                Error::DeviceLost { .. }
                | Error::DeviceHung { .. }
                | Error::DeviceMemory { .. }
                | Error::Gpu { .. } => {
                    let again = "later steps are computed again, to the same bits";
                    (format!("{last}; {again}; go on with:"), Some(resume_command(&path, args)))
                }
                // Data that stay in their file.
                Error::Format { .. } => {
                    (format!("{last}; once the data are as they were, go on with:"), Some(resume_command(&path, args)))
                }
                Error::Io { .. } | Error::Rank { .. } => {
                    (format!("{last}; go on with:"), Some(resume_command(&path, args)))
                }
                // To resume would fail in the same way.
                _ => (last, None),
            }
        }
    }
}

/// Summarises a finished run from its last checkpoint, and evaluates its kept parameters again.
async fn conclude<B: Backend>(
    backend: &mut B,
    ended: &checkpoint::Metadata,
    validation: Option<&B::Set>,
    test: &B::Set,
    best: Option<Parameters>,
    folder: &Path,
) -> softstep::Result<Summary> {
    if let Some(parameters) = best {
        let state = TrainingState { parameters, ..backend.state().await? };
        backend.restore(&state)?;
    }
    let validation = match validation {
        Some(set) => Some(backend.evaluate(set).await?),
        None => None,
    };
    let history = History::read(&folder.join(METRICS)).unwrap_or_default();
    Ok(Summary {
        epochs: ended.position.epoch - 1,
        steps: ended.step,
        train_loss: history.epochs.last().and_then(|epoch| epoch.train_loss).unwrap_or(f64::NAN),
        best: ended.position.best,
        validation,
        test: backend.evaluate(test).await?,
    })
}
