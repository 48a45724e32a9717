//! Resuming a stopped run: checks that options, data and device are those of the run.

use std::path::Path;

use anyhow::{Context, Result, bail};
use softstep::any_backend::Device;
use softstep::backend::DeviceInfo;
use softstep::checkpoint;
use softstep::data::{Data, Preprocessing, TestPart};

use super::options::TrainArgs;
use crate::options::{BackendChoice, DeviceArgs};
use crate::run::config::{CONFIG, Config};
use crate::run::folder::Stopped;
use crate::run::page::REPORT;
use crate::run::results::{Outcome, Results};
use crate::{device, shell, terminal};

/// Returns true if the folder of a finished run has all its files, apart from the model.
pub fn is_complete(folder: &Path) -> bool {
    let ended = |results: Results| results.outcome == Outcome::Ended;
    Results::read(folder).is_ok_and(|results| results.is_some_and(ended))
        && Config::read(&folder.join(CONFIG)).is_ok()
        && folder.join(REPORT).exists()
}

/// Formats what to do if the data of a run cannot be loaded.
pub fn where_data_are(stopped: &Stopped) -> String {
    let run = &stopped.metadata;
    let name = terminal::printable(&run.data);
    let path = stopped.path().display();
    let purpose = if run.finished() { " to write its results (its model is there)" } else { "" };
    let test = match run.preprocessing.as_ref().map(Preprocessing::test) {
        Some(TestPart::Path(test)) => format!(" and, for testing, {}", terminal::printable(test)),
        _ => String::new(),
    };
    format!(
        "the run in {path} needs its data{purpose}, {name}{test}: change to the folder that this path starts from, or name \
         the data with --data beside --resume"
    )
}

/// Refuses options beside `--resume` that conflict with the settings of the run.
pub fn check_settings(args: &TrainArgs, stopped: &Stopped) -> Result<()> {
    if args.finds_rate() {
        bail!(
            "--lr auto conflicts with the run in {}, which uses --lr {}: remove --lr, or start a new run",
            stopped.path().display(),
            stopped.metadata.config.learning_rate
        );
    }
    let run = &stopped.metadata;
    let path = stopped.path().display();
    if let Some((flag, asked)) = args.other_model(&run.config, &run.architecture)? {
        bail!(
            "{flag} makes the model {asked}, but the run in {path} trains {}: remove {flag}, or start a new run",
            run.architecture
        );
    }
    if let Some((flag, asked, run)) = args.difference(&run.config)? {
        bail!(
            "{flag} {asked} conflicts with the run in {path}, which uses {flag} {run}: remove {flag}, or start a new run"
        );
    }
    if let Some((flag, _)) = args.unfit(None) {
        bail!("{flag} conflicts with --resume, which uses the setting of the run: remove {flag}, or start a new run");
    }
    Ok(())
}

/// Refuses data with another SHA-256 than that of the run.
pub fn check_data(stopped: &Stopped, data: &Data, sha256: &str) -> Result<()> {
    let run = &stopped.metadata;
    if sha256 != run.data_sha256 {
        bail!(
            "--data {}: not the data of the run in {}, which are {} with SHA-256 {}; these have {sha256}. \
             Name the data of that run, or start a new run",
            data.name,
            stopped.path().display(),
            terminal::printable(&run.data),
            softstep::error::printable(&run.data_sha256, 64)
        );
    }
    Ok(())
}

/// Opens the device that the options choose, by default the device of the resumed run. With several ranks, rank `local` of a
/// node opens an adapter of its own, if there are enough.
pub async fn open_device(args: &TrainArgs, stopped: Option<&Stopped>, local: Option<usize>) -> Result<Device> {
    let open = async |device: &DeviceArgs| match local {
        Some(local) => device::open_device(&device::for_rank(device, local).await).await,
        None => device::open_device(device).await,
    };
    let Some(stopped) = stopped else { return open(&args.device).await };
    if args.gives("backend") || args.gives("adapter") {
        return open(&args.device).await;
    }
    let run = &stopped.metadata;
    let device = match run.backend.as_str() {
        "cpu" => DeviceArgs { backend: BackendChoice::Cpu, adapter: None },
        _ => DeviceArgs { backend: BackendChoice::Gpu, adapter: Some(run.adapter.clone()) },
    };
    open(&device).await.with_context(|| elsewhere(run))
}

/// Formats what to do if the device of the run is not available.
fn elsewhere(run: &checkpoint::Metadata) -> String {
    format!(
        "this run computed on {} ({}), which is not available; --backend or --adapter continues it on another device, \
         but not with the same bits",
        terminal::printable(&run.adapter),
        terminal::printable(&run.backend)
    )
}

/// Returns true if the run computed on a device of this backend and name. All CPUs count as one device: their bits depend
/// only on the driver, which is compared by itself.
fn is_same_device((backend, adapter): (&str, &str), info: &DeviceInfo) -> bool {
    backend == info.backend && (backend == "cpu" || adapter == info.name)
}

/// Prints a notice if the device may give other bits than the device of the run; refuses another device unless an option
/// chose it.
pub fn check_device(args: &TrainArgs, run: &checkpoint::Metadata, info: &DeviceInfo) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    if !is_same_device((&run.backend, &run.adapter), info) {
        if !args.gives("backend") && !args.gives("adapter") {
            bail!("{}", elsewhere(run));
        }
        terminal::notice(&format!(
            "this run computed on {} ({}) and continues, not with the same bits, on {} ({})",
            terminal::printable(&run.adapter),
            terminal::printable(&run.backend),
            info.name,
            info.backend
        ));
    } else if (&run.driver, run.version.as_str()) != (&info.driver, version) {
        terminal::notice(&format!(
            "this run computed with {} and softstep {}, and continues with {} and {version}: the bits may differ",
            terminal::printable(&run.driver),
            terminal::printable(&run.version),
            info.driver
        ));
    }
    Ok(())
}

/// Formats the command that resumes the run of a folder.
pub fn resume_command(folder: &Path, args: &TrainArgs) -> String {
    let data = (args.resume.is_some() && args.gives("data")).then(|| shell::argument(Path::new(&args.data.data)));
    let data_dir = args.data.data_dir.as_deref().map(shell::argument);
    let mut command = format!("softstep train --resume {}", shell::argument(folder));
    command.extend(data.map(|data| format!(" --data {data}")));
    command.extend(data_dir.map(|folder| format!(" --data-dir {folder}")));
    command.extend(args.verify.map(|every| format!(" --verify={every}")));
    command
}
