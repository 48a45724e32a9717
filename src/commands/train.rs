//! `softstep train`: trains a model on a data set and writes a run folder.

mod findings;
pub mod options;
mod progress;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGINT, SIGTERM};
use softstep::any_backend::Device;
use softstep::backend::{Backend, DeviceInfo};
use softstep::data::{self, Data, Examples, Kind, Preprocessing, TestPart, csv, images, npy};
use softstep::gpu::{Gpu, Readback};
use softstep::model::{Architecture, Parameters};
use softstep::optimizer::TrainingState;
use softstep::range_test::{RangeTest, range_test};
use softstep::trainer::{self, Event, Keep, Position, RunOptions, Summary, TrainingConfig};
use softstep::verify::Verified;
use softstep::{Error, checkpoint};

use self::options::{OwnDataArgs, ReadbackChoice, TrainArgs};
use self::progress::{Header, Progress};
use crate::flags::with_flags;
use crate::loading::{self, MAX_PATH, TableProgress};
use crate::options::{BackendChoice, DataArgs, DeviceArgs};
use crate::run::config::{self, Config, Init, Source, whole_path};
use crate::run::error_analysis::ErrorAnalysis;
use crate::run::events::Events;
use crate::run::folder::{self, RunFolder, Stopped};
use crate::run::metrics::{self, History};
use crate::run::model::{self, Model};
use crate::run::page;
use crate::run::results::{Outcome, Profile, Results, VerifiedSteps, digests};
use crate::{device, shell, terminal};

/// The exit code of a run that was stopped: 128 + SIGINT, as shells have it.
const STOPPED: u8 = 130;

/// Trains a model, or goes on with a run that was stopped; `started` is when the program did.
pub async fn run(args: &TrainArgs, started: Instant) -> Result<ExitCode> {
    let stopped = args.resume.as_deref().map(Stopped::open).transpose()?;
    if let Some(stopped) = &stopped {
        check_settings(args, stopped)?;
        if stopped.metadata.finished() {
            let model = stopped.write_model()?;
            if is_complete(stopped.path()) {
                progress::finished(stopped.metadata.step, stopped.path(), &model, args.json)?;
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
    if let Some(out) = &args.out {
        folder::check_free("--out", out)?;
    }
    let initial: Option<Model> = args.init.as_deref().map(model::read_model).transpose()?;

    let init = initial.as_ref().and_then(|model| {
        Some(Init { path: whole_path(args.init.as_deref()?)?, parameters_sha256: model.parameters.sha256() })
    });

    let mut data = match &stopped {
        Some(stopped) => load_data(args, Some(stopped)).with_context(|| where_data_are(stopped))?,
        None => load_data(args, None)?,
    };
    let (mut config, chosen) = match &stopped {
        Some(stopped) => (stopped.metadata.config.clone(), stopped.metadata.chosen.clone()),
        None => args.config(&data)?,
    };
    config.check()?;
    data.refit(config.validation, config.seed)?;
    let data_sha256 = data.sha256();
    let train_sha256 = data.preprocessing.is_some().then(|| data.train.sha256());
    if let Some(stopped) = &stopped {
        check_data(stopped, &data, &data_sha256)?;
    }
    terminal::notices(&data.notices);
    let mut validation = None;
    if config.validation > 0.0 {
        let (train, held_out) = data.train.split(config.validation, config.seed)?;
        (data.train, validation) = (train, Some(held_out));
    }
    let class_weights = config.class_weights_of(&data.train)?;
    let training = config.training(&data.train, &class_weights, data.shape())?;
    if stopped.is_none() {
        say_missing_classes(&data);
    }
    let architecture = config.architecture(data.shape(), config.loss.outputs(&data.train)?)?;
    let parameters = match (&stopped, initial) {
        (Some(stopped), _) if stopped.metadata.architecture != architecture => bail!(
            "--resume {} is the model {}, and its settings and data make {architecture}: bring its data back, or start a new \
             run",
            stopped.path().display(),
            stopped.metadata.architecture
        ),
        (Some(stopped), _) => stopped.state.parameters.clone(),
        (None, Some(Model { path: file, parameters, .. })) => {
            if parameters.architecture != architecture {
                bail!(
                    "--init {} is the model {}, and this run trains {architecture}: choose its --data, and its --hidden and \
                     --activation or --layers",
                    file.display(),
                    parameters.architecture
                );
            }
            parameters
        }
        (None, None) => Parameters::initialize(&architecture, config.seed)?,
    };
    let device = open_device(args, stopped.as_ref()).await?;
    match (&device, args) {
        (Device::Cpu, TrainArgs { verify: Some(_), .. }) => {
            bail!("--verify has the CPU check the GPU, and this run has none: its steps are the CPU's own")
        }
        (Device::Cpu, TrainArgs { profile: true, .. }) => {
            bail!("--profile times the kernels of a GPU, and this run has none")
        }
        _ => {}
    }
    let losing = device.gpu().cloned().zip(device::lose_device_at()?);
    let validation = validation.as_ref();
    let job = |config, range_test| Job {
        architecture,
        args,
        config,
        data: &data,
        data_sha256,
        train_sha256,
        init,
        validation,
        started,
        chosen,
        range_test,
        losing,
    };
    let readback = match args.readback {
        ReadbackChoice::Pipelined => Readback::Pipelined,
        ReadbackChoice::Blocking => Readback::Blocking,
    };
    let mut backend = device.for_training(&parameters, &training, readback).await?;
    let range_test = find_rate(args, &mut backend, &mut config, data.train.len()).await?;
    let job = job(&config, range_test);
    let backend = if args.profile { backend.with_profile()? } else { backend };
    match args.verify {
        Some(every) => {
            let before = stopped.as_ref().map_or(0, |stopped| stopped.metadata.step);
            job.train(Verified::new(backend, training, every.get(), before), stopped).await
        }
        None => job.train(backend, stopped).await,
    }
}

/// With `--lr auto`, finds the learning rate and writes it into the settings.
async fn find_rate<B: Backend>(
    args: &TrainArgs,
    backend: &mut B,
    config: &mut TrainingConfig,
    examples: usize,
) -> Result<Option<RangeTest>> {
    if !args.finds_rate() {
        return Ok(None);
    }
    let test = range_test(backend, config, examples).await?;
    config.learning_rate = test.learning_rate;
    Ok(Some(test))
}

/// Returns true if a run that has ended left everything that a run leaves, beside its model.
fn is_complete(folder: &Path) -> bool {
    let ended = |results: Results| results.outcome == Outcome::Ended;
    Results::read(folder).is_ok_and(|results| results.is_some_and(ended))
        && Config::read(&folder.join(config::CONFIG)).is_ok()
        && folder.join(page::REPORT).exists()
}

/// Where to look for the data of a run that cannot be loaded.
fn where_data_are(stopped: &Stopped) -> String {
    let run = &stopped.metadata;
    let name = terminal::printable(&run.data);
    let path = stopped.path().display();
    let has_ended = if run.finished() { "has ended, and its model is there; for its results it" } else { "" };
    let test = match run.preprocessing.as_ref().map(Preprocessing::test) {
        Some(TestPart::Path(test)) => format!(" and, to test, {}", terminal::printable(test)),
        _ => String::new(),
    };
    format!(
        "the run in {path} {has_ended} needs its data again, {name}{test}: go to the folder from which that is found, or \
         say where the data are with --data beside --resume"
    )
    .replace("  ", " ")
}

/// Refuses settings beside `--resume` that are not the run's.
fn check_settings(args: &TrainArgs, stopped: &Stopped) -> Result<()> {
    if args.finds_rate() {
        bail!(
            "--lr auto: the run in {} has --lr {}, and goes on with that; leave --lr away, or start a new run",
            stopped.path().display(),
            stopped.metadata.config.learning_rate
        );
    }
    let run = &stopped.metadata;
    let path = stopped.path().display();
    if let Some((flag, asked)) = args.other_model(&run.config, &run.architecture)? {
        bail!(
            "{flag}: that is the model {asked}; the run in {path} trains {}, and goes on with that; leave {flag} away, or \
             start a new run",
            run.architecture
        );
    }
    if let Some((flag, asked, run)) = args.difference(&run.config)? {
        bail!(
            "{flag} {asked}: the run in {path} has {flag} {run}, and goes on with that; leave {flag} away, or start a new \
             run"
        );
    }
    if let Some((flag, _)) = args.unfit(None) {
        bail!("{flag} beside --resume: the run goes on with its own; leave {flag} away, or start a new run");
    }
    Ok(())
}

/// The data that `--data` names, or that the run to go on with has.
fn load_data(args: &TrainArgs, stopped: Option<&Stopped>) -> Result<Data> {
    let data = match stopped {
        Some(stopped) if !args.gives("data") => stopped.metadata.data.clone(),
        _ => args.data.data.clone(),
    };
    if data.len() > MAX_PATH {
        bail!("--data {}: no path is so long", terminal::printable(&data));
    }
    let kind = Kind::of(&data);
    if let Some(Stopped { metadata: run, .. }) = stopped {
        return match &run.preprocessing {
            Some(preprocessing) => Ok(data::load_again(&data, preprocessing, run.config.seed)?),
            None => load_idx(args, data),
        };
    }
    check_own(&data, args.unfit(Some(kind)))?;
    load_own(&DataArgs { data, data_dir: args.data.data_dir.clone() }, &args.own, args.provisional().seed, !args.quiet)
}

/// Refuses an option for people's own data, `unfit`, that is for other kinds than `data`.
pub fn check_own(data: &str, unfit: Option<(&str, &[Kind])>) -> Result<()> {
    let Some((flag, kinds)) = unfit else { return Ok(()) };
    let (path, is_set) = (Path::new(data), Kind::is_set(data));
    if !is_set && !path.exists() {
        bail!("--data {data}: there is no such file or folder");
    }
    if flag == "--target" && !is_set && path.is_file() {
        bail!("--data {data}: rename it, if it is a table: its name ends in .csv, .tsv, .txt or .data");
    }
    let kinds: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    bail!("{flag} is for {}, and --data {data} is {}", kinds.join(" or "), Kind::of(data).name())
}

/// Loads data by the options for people's own; the seed chooses the test part.
pub fn load_own(args: &DataArgs, own: &OwnDataArgs, seed: u64, progress: bool) -> Result<Data> {
    let path = Path::new(&args.data);
    match Kind::of(&args.data) {
        Kind::Idx => loading::load_data(args, progress),
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

/// Says which classes cannot be learned.
fn say_missing_classes(data: &Data) {
    let missing = data.train.missing_classes();
    let names = data.preprocessing.as_ref().and_then(Preprocessing::class_names);
    let name = |&class: &usize| names.map_or_else(|| class.to_string(), |names| terminal::printable(&names[class]));
    let shown: Vec<String> = missing.iter().take(5).map(name).collect();
    let classes = match missing.len() {
        0 => return,
        1 => format!("class {}", shown[0]),
        2..=5 => format!("classes {}", shown.join(", ")),
        count => format!("classes {} and {} more", shown.join(", "), count - shown.len()),
    };
    terminal::notice(&format!("no example to train on has the {classes}: the model cannot learn what is missing"));
}

fn load_idx(args: &TrainArgs, data: String) -> Result<Data> {
    loading::load_data(&DataArgs { data, data_dir: args.data.data_dir.clone() }, !args.quiet)
}

/// Refuses data that are not the run's.
fn check_data(stopped: &Stopped, data: &Data, sha256: &str) -> Result<()> {
    let run = &stopped.metadata;
    if sha256 != run.data_sha256 {
        bail!(
            "--data {}: not the data of the run in {}, which are {} with SHA-256 {}; these have {sha256}. \
             Bring those back, or start a new run",
            data.name,
            stopped.path().display(),
            terminal::printable(&run.data),
            softstep::error::printable(&run.data_sha256, 64)
        );
    }
    Ok(())
}

/// Opens the device that the arguments ask for, or where the run to go on with was.
async fn open_device(args: &TrainArgs, stopped: Option<&Stopped>) -> Result<Device> {
    let Some(stopped) = stopped else { return device::open_device(&args.device).await };
    if args.gives("backend") || args.gives("adapter") {
        return device::open_device(&args.device).await;
    }
    let run = &stopped.metadata;
    let device = match run.backend.as_str() {
        "cpu" => DeviceArgs { backend: BackendChoice::Cpu, adapter: None },
        _ => DeviceArgs { backend: BackendChoice::Gpu, adapter: Some(run.adapter.clone()) },
    };
    device::open_device(&device).await.with_context(|| elsewhere(run))
}

/// What to do where the run's own device is not.
fn elsewhere(run: &checkpoint::Metadata) -> String {
    format!(
        "this run computed on {} ({}), which is not here; --backend or --adapter goes on elsewhere, \
         but not with the same bits",
        terminal::printable(&run.adapter),
        terminal::printable(&run.backend)
    )
}

/// Returns true if a device is the one that a run computed on, by its backend and the device's name. One CPU is like
/// another: what their bits depend on is in the driver.
fn is_same_device((backend, adapter): (&str, &str), info: &DeviceInfo) -> bool {
    backend == info.backend && (backend == "cpu" || adapter == info.name)
}

/// Says what may keep the run from going on with the same bits.
fn check_device(args: &TrainArgs, run: &checkpoint::Metadata, info: &DeviceInfo) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    if !is_same_device((&run.backend, &run.adapter), info) {
        if !args.gives("backend") && !args.gives("adapter") {
            bail!("{}", elsewhere(run));
        }
        terminal::notice(&format!(
            "this run computed on {} ({}) and goes on, not with the same bits, on {} ({})",
            terminal::printable(&run.adapter),
            terminal::printable(&run.backend),
            info.name,
            info.backend
        ));
    } else if (&run.driver, run.version.as_str()) != (&info.driver, version) {
        terminal::notice(&format!(
            "this run computed with {} and softstep {}, now {} and {version}: the bits may differ",
            terminal::printable(&run.driver),
            terminal::printable(&run.version),
            info.driver
        ));
    }
    Ok(())
}

/// SIGINT, SIGTERM, SIGQUIT and SIGHUP set the flag. A second one ends the process at once, which loses nothing that was
/// saved; but not where a SIGHUP is among them, which comes along with others where a terminal goes away.
fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicBool::new(false));
    #[cfg_attr(not(unix), expect(unused_mut))]
    let mut signals = vec![SIGINT, SIGTERM];
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGHUP, SIGQUIT};
        signals.extend((!is_ignored(SIGQUIT)).then_some(SIGQUIT));
        if !is_ignored(SIGHUP) {
            signal_hook::flag::register(SIGHUP, Arc::clone(&stop))?;
        }
    }
    for signal in signals {
        signal_hook::flag::register_conditional_shutdown(signal, STOPPED.into(), Arc::clone(&asked))?;
        signal_hook::flag::register(signal, Arc::clone(&asked))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    // At a file-size limit, writing fails and the run says so, instead of being killed.
    #[cfg(unix)]
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default())?;
    Ok(stop)
}

/// Returns true if whoever started the process told it to ignore this signal, as `nohup` does.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    // Linux says so in a file.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.map_or_else(|| child_ignores(signal), |mask| mask & (1 << (signal - 1)) != 0)
}

/// Whether a child of this process outlives the signal: what a process ignores, its children do. To ask the system itself
/// takes an unsafe call.
#[cfg(unix)]
fn child_ignores(signal: i32) -> bool {
    use std::process::{Command, Stdio};
    // No core file is left of one that does not.
    let script = format!("ulimit -c 0; kill -{signal} $$");
    let child = Command::new("/bin/sh").args(["-c", &script]).stdin(Stdio::null()).stderr(Stdio::null()).status();
    child.is_ok_and(|status| status.success())
}

/// The command that goes on with the run in this folder.
fn resume_command(folder: &Path, args: &TrainArgs) -> String {
    let data = (args.resume.is_some() && args.gives("data")).then(|| shell::argument(Path::new(&args.data.data)));
    let data_dir = args.data.data_dir.as_deref().map(shell::argument);
    let mut command = format!("softstep train --resume {}", shell::argument(folder));
    command.extend(data.map(|data| format!(" --data {data}")));
    command.extend(data_dir.map(|folder| format!(" --data-dir {folder}")));
    command.extend(args.verify.map(|every| format!(" --verify={every}")));
    command
}

/// A run, ready for its backend.
struct Job<'a> {
    architecture: Architecture,
    args: &'a TrainArgs,
    config: &'a TrainingConfig,
    data: &'a Data,
    data_sha256: String,
    train_sha256: Option<String>,
    init: Option<Init>,
    validation: Option<&'a Examples>,
    started: Instant,
    /// The settings that follow the data, and why.
    chosen: Option<String>,
    /// The trial that found the learning rate.
    range_test: Option<RangeTest>,
    /// A device to lose at a step, for tests.
    losing: Option<(Gpu, usize)>,
}

impl Job<'_> {
    fn source(&self) -> Source {
        let data_dir = self.args.data.data_dir.as_deref();
        // Those of a command that goes on are not those that made the run.
        let arguments = if self.args.resume.is_some() { &[][..] } else { &self.args.arguments };
        Source::new(arguments, self.data, &self.data_sha256, data_dir, self.init.clone())
    }

    async fn train<B: Backend>(&self, mut backend: B, stopped: Option<Stopped>) -> Result<ExitCode> {
        let Self { args, config, data, validation, started, .. } = *self;
        let validation = validation.map(|examples| backend.upload(examples)).transpose()?;
        let test = backend.upload(&data.test)?;
        let info = backend.info().clone();
        let stop = stop_on_signals()?;

        let mut checkpoint_every = args.checkpoint_every;
        let mut from = Position::START;
        let mut best = None;
        let mut resumed_from = None;
        let mut parameters_sha256 = String::new();
        let mut folder = match stopped {
            Some(stopped) => {
                let run = &stopped.metadata;
                check_device(args, run, &info)?;
                checkpoint_every = checkpoint_every.or(run.checkpoint_every);
                (from, resumed_from) = (run.position, Some(run.step));
                backend.restore(&stopped.state)?;
                best.clone_from(&stopped.state.best);
                parameters_sha256 = best.as_ref().unwrap_or(&stopped.state.parameters).sha256();
                let mut folder = stopped.go_on()?;
                if !folder.has_config() {
                    folder.write_config(&Config {
                        chosen: self.chosen.clone(),
                        source: Some(self.source()),
                        ..Config::new(config, &self.architecture, data, self.validation, &info)
                    })?;
                }
                folder
            }
            None => {
                let mut folder = RunFolder::create(args.out.as_deref(), &data.name)?;
                folder.write_config(&Config {
                    chosen: self.chosen.clone(),
                    source: Some(self.source()),
                    range_test: self
                        .range_test
                        .as_ref()
                        .map(|test| test.curve.iter().map(|point| point.map(Some)).collect()),
                    ..Config::new(config, &self.architecture, data, self.validation, &info)
                })?;
                folder
            }
        };
        let out = folder.path().to_path_buf();
        let examples = data.train.len();
        let steps = config.steps(examples);
        let metadata = checkpoint::Metadata {
            format: checkpoint::Metadata::FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            architecture: self.architecture.clone(),
            position: from,
            step: resumed_from.unwrap_or(0),
            config: config.clone(),
            chosen: self.chosen.clone(),
            checkpoint_every,
            data: data.name.clone(),
            data_sha256: self.data_sha256.clone(),
            train_sha256: self.train_sha256.clone(),
            preprocessing: data.preprocessing.clone(),
            image: data.image,
            backend: info.backend.into(),
            adapter: info.name.clone(),
            driver: info.driver.clone(),
            metrics_bytes: 0,
        };
        let has_ended = config.ended(&from);
        let goes_on = resumed_from.is_some() && Events::exist(&out);
        let with_events = !has_ended && (args.tensorboard || goes_on);
        let mut events = with_events.then(|| Events::create(&out, resumed_from.unwrap_or_default()));
        let chosen = self.chosen.as_deref();
        let range_test = self.range_test.as_ref();
        let architecture = &self.architecture;
        let header = Header { info, data, architecture, config, chosen, range_test, out: &out, resumed_from };
        let mut progress = Progress::new(header, steps, args.json, args.quiet, started);

        let options = RunOptions { from, best: best.as_ref(), checkpoint_every, stop: &stop };
        let mut best_epoch = from.best;
        let mut last_test = None;
        let mut start: Option<TrainingState> = None;
        let mut first_loss = None;
        let observe = |event: Event<'_>| {
            if let Some(events) = &mut events {
                events.record(event);
            }
            match event {
                Event::Checkpoint { position, state } => {
                    if position == Position::START {
                        start = Some(state.clone());
                    }
                    best_epoch = position.best;
                    let step = position.step(config, examples);
                    if config.ended(&position) {
                        parameters_sha256 = state.best.as_ref().unwrap_or(&state.parameters).sha256();
                    }
                    let awaited = config.ended(&position) || stop.load(Ordering::Relaxed);
                    folder.save(checkpoint::Metadata { position, step, ..metadata.clone() }, state, awaited)?;
                }
                _ => folder.write_metrics(event)?,
            }
            if let Event::Step { step: 1, loss, .. } = event {
                first_loss = Some(f64::from(loss));
            }
            if let Event::EpochEvaluated { epoch, test, .. } = event {
                last_test = Some((epoch, test.clone()));
            }
            if let (Event::Step { step, .. }, Some((gpu, at))) = (event, &self.losing)
                && step == *at
            {
                gpu.device.destroy();
            }
            progress.show(event);
            Ok(())
        };
        let trained = if has_ended {
            conclude(&mut backend, &metadata, validation.as_ref(), &test, best.clone(), &out).await.map(Some)
        } else {
            trainer::train(&mut backend, config, examples, validation.as_ref(), &test, &options, observe).await
        };
        progress.close();
        drop(events);
        let trained = trained.and_then(|ended| folder.save_last().map(|()| ended));
        let timings = progress.timings();
        let mut results = Results {
            version: env!("CARGO_PKG_VERSION").into(),
            written: jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S %Z").to_string(),
            outcome: Outcome::Ended,
            step: resumed_from.unwrap_or(0) + timings.steps,
            steps,
            best: best_epoch,
            parameters_sha256: None,
            files: BTreeMap::new(),
            profile: Profile::new(backend.profile(), timings.seconds),
            timings,
            verification: backend.verification().map(VerifiedSteps::new),
            test: last_test.map(|(epoch, test)| ErrorAnalysis::new(epoch, data, &test)),
            findings: Vec::new(),
        };
        match trained {
            Ok(Some(summary)) => {
                progress.profile(results.profile.as_ref());
                progress.verification(backend.verification(), summary.steps - resumed_from.unwrap_or(0));
                results.parameters_sha256 = Some(parameters_sha256.clone());
                results.test = Some(examine(&mut backend, config, data, &summary).await);
                let ended = findings::Ended { args, config, data, summary: &summary, first_loss };
                results.files = digests(&out);
                results.findings = ended.findings(&mut backend, start.as_ref()).await;
                let page = write_page(&folder, &results, args);
                progress.done(&summary, &folder.model(), page.as_deref(), parameters_sha256);
                results.findings.iter().for_each(|text| terminal::notice(text));
                Ok(if progress.all_printed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
            Ok(None) => {
                let step = folder.saved().unwrap_or_default();
                write_page(&folder, &Results { outcome: Outcome::Stopped, ..results }, args);
                progress.stopped(step, steps, &resume_command(&out, args));
                Ok(ExitCode::from(STOPPED))
            }
            Err(error) => {
                let lost = matches!(error, Error::Io { .. });
                let _ = if lost { folder.wait() } else { folder.save_last() };
                // The lines up to here tell what happened; what matters more has been said if they fail. Before the first
                // checkpoint they are not written: the folder is free for another run.
                if folder.saved().is_some() {
                    let _ = folder.flush();
                }
                results.outcome = Outcome::Failed(with_flags(&error.to_string()));
                let diverged = matches!(
                    error,
                    Error::NonFiniteLoss { .. } | Error::NonFiniteState { .. } | Error::NonFiniteTestLoss { .. }
                );
                let rate = match start.as_ref().filter(|_| diverged) {
                    Some(start) => findings::tried_rate(&mut backend, config, examples, start).await,
                    None => None,
                };
                let (way_on, command) = way_on(&mut folder, &error, rate, args, with_events);
                terminal::error(&error.into());
                match command {
                    Some(command) => terminal::notice_with_command(&way_on, &command),
                    None => terminal::notice(&way_on),
                }
                // A run that has ended came to what its results say, if it has some.
                if !lost && !has_ended {
                    write_page(&folder, &results, args);
                }
                Ok(ExitCode::FAILURE)
            }
        }
    }
}

/// What is left of a run that failed, and the command that goes on with it, where that may help. `rate` is one that was
/// tried after a run that diverged.
fn way_on(
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
                // The run goes on with them there. All that they say is in the metrics, which were saved, too.
                Events::create(&place, step).flush();
            }
            let text = format!(
                "the run up to step {step} is saved in {}; once there is room, move it where you like; it goes on with:",
                place.display()
            );
            (text, Some(resume_command(&place, args)))
        }
        Some(None) => {
            let lost = "the state could be saved nowhere else either";
            match last {
                Some(last) => (format!("{lost}; {last}; go on with:"), Some(resume_command(&path, args))),
                None => (lost.into(), None),
            }
        }
        None => {
            let Some(last) = last else { return (format!("nothing of the run is saved in {}", path.display()), None) };
            match error {
                Error::NonFiniteLoss { .. } | Error::NonFiniteState { .. } | Error::NonFiniteTestLoss { .. } => {
                    let anew = rate.map(|rate| format!("start anew with {}; ", findings::rate_text(rate)));
                    let init = format!("to start from it, add --init {} to a smaller --lr", shell::argument(&path));
                    (format!("{}{last}; {init}", anew.unwrap_or_default()), None)
                }
                Error::WrongStep { .. } => {
                    (format!("{last}, but that device computed it; start anew, on another"), None)
                }
                Error::DeviceLost { .. }
                | Error::DeviceHung { .. }
                | Error::DeviceMemory { .. }
                | Error::Gpu { .. } => {
                    let again = "what the device did after it is done again, to the same bits";
                    (format!("{last}; {again}; go on with:"), Some(resume_command(&path, args)))
                }
                Error::Io { .. } => (format!("{last}; go on with:"), Some(resume_command(&path, args))),
                // What does not fit will not fit again.
                _ => (last, None),
            }
        }
    }
}

/// The summary of a run that has ended, from its last checkpoint: what it kept is evaluated again.
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
    let history = History::read(&folder.join(metrics::METRICS)).unwrap_or_default();
    Ok(Summary {
        epochs: ended.position.epoch - 1,
        steps: ended.step,
        train_loss: history.epochs.last().and_then(|epoch| epoch.train_loss).unwrap_or(f64::NAN),
        best: ended.position.best,
        validation,
        test: backend.evaluate(test).await?,
    })
}

/// What the model that was kept makes of the test part. Whatever the device does now, the model is saved.
async fn examine<B: Backend>(
    backend: &mut B,
    config: &TrainingConfig,
    data: &Data,
    summary: &Summary,
) -> ErrorAnalysis {
    let kept = summary.best.filter(|_| config.keep == Keep::Best).map_or(summary.epochs, |best| best.epoch);
    let mut tested = ErrorAnalysis::new(kept, data, &summary.test);
    if let Err(error) = tested.examine(backend, data, &summary.test).await {
        terminal::notice(&format!("the report will show no mistakes: {error}"));
    }
    tested
}

/// Writes `results.json` and the page; gives where that is. The run is good without them, and `--resume` makes up for it.
fn write_page(folder: &RunFolder, results: &Results, args: &TrainArgs) -> Option<PathBuf> {
    match folder.write_results(results).and_then(|()| page::write(folder.path())) {
        Ok(page) => Some(page),
        Err(error) => {
            let text = format!("the run has no report: {error:#}; once that is mended, it gets one by:");
            terminal::notice_with_command(&text, &resume_command(folder.path(), args));
            None
        }
    }
}
#[cfg(all(test, unix))]
mod tests {
    use signal_hook::consts::{SIGHUP, SIGQUIT, SIGURG};

    use super::{child_ignores, is_ignored};

    #[test]
    fn a_child_tells_which_signals_are_ignored() {
        for signal in [SIGHUP, SIGQUIT] {
            assert_eq!(child_ignores(signal), is_ignored(signal), "{signal}");
        }
        // It ends no process, as if every one ignored it.
        assert!(child_ignores(SIGURG));
    }
}
