//! `softstep eval`: a trained model on a test set.

use anyhow::{Context, Result, bail};
use softstep::backend::{Backend, Evaluation};
use softstep::cpu::CpuBackend;
use softstep::data::inputs::{Fit, Reading};
use softstep::data::{self, Examples, Kind, Measured, Part, Targets};
use softstep::gpu::{GpuBackend, Readback};
use softstep::metrics::Confusion;
use softstep::model::check_fit;

use super::predict;
use crate::cli::{DataArgs, EvalArgs};
use crate::report;
use crate::run_folder::{self, Model};

/// The longest path that a system takes, in bytes.
const MAX_PATH: usize = 4096;

/// Evaluates the model on the data's test part, or on all of them.
pub async fn run(args: &EvalArgs) -> Result<()> {
    let model = run_folder::read_model(&args.model)?;
    let fit = match predict::fit(args.fit, &model) {
        Fit::Digits => Fit::Digit,
        fit => fit,
    };
    let Model { path: file, parameters, seed, loss, preprocessing, data: name, train_sha256, image, .. } = model;
    let own = args.data.is_none();
    let spec = args.data.as_ref().unwrap_or(&name);
    let set = DataArgs { data: spec.clone(), data_dir: args.data_dir.clone() };
    if own && spec.len() > MAX_PATH {
        bail!("{}: its data have no name: say where they are with --data", file.display());
    }
    let where_data_are =
        || format!("{} was trained on {}: say where the data are with --data", file.display(), report::printable(spec));
    let Measured { data, part, notice } = match &preprocessing {
        Some(preprocessing) => {
            let measured = data::load_test(spec, preprocessing, seed, train_sha256.as_deref(), args.all);
            if own { measured.with_context(where_data_are)? } else { measured? }
        }
        None if args.all && Kind::of(spec) == Kind::Idx => {
            bail!("--all is for tables, images and arrays, and --data {spec} is none of these")
        }
        None if Kind::of(spec) == Kind::Images && image.is_some() => {
            let reading = Reading { features: parameters.features(), image, preprocessing: None, fit };
            data::load_pictures(spec, &reading, parameters.outputs().max(2))?
        }
        None if Kind::of(spec) != Kind::Idx => bail!(
            "--data {spec} is {}, and {} was trained on {}: choose the --data it was trained on",
            Kind::of(spec).name(),
            file.display(),
            Kind::Idx.name()
        ),
        None => {
            let data = super::load_data(&set, !args.json);
            let data = if own { data.with_context(where_data_are)? } else { data? };
            Measured { data, part: Part::Test, notice: None }
        }
    };
    let fits_pictures = preprocessing.is_none() && Kind::of(spec) == Kind::Images;
    if args.fit.is_some() && !fits_pictures {
        bail!("--fit is for folders of pictures and models of IDX files, and --data {spec} is read as in training");
    }
    if let Some(notice) = notice {
        report::notice(&notice);
    }
    report::notices(&data.notices);
    let (features, outputs) = (parameters.features(), parameters.outputs());
    check_fit(features, outputs, loss, &data.test).with_context(|| {
        format!("{} does not fit {}: choose the --data it was trained on", file.display(), data.name)
    })?;
    let (info, evaluation) = match super::open_gpu(&args.device).await? {
        Some(gpu) => {
            let backend = GpuBackend::new(&gpu, &parameters, None, Readback::default()).await?;
            evaluate(backend.with_loss(loss), &data.test).await?
        }
        None => evaluate(CpuBackend::new(&parameters, None)?.with_loss(loss), &data.test).await?,
    };
    let confusion = match &*data.test.targets {
        Targets::Classes(labels) => Some(Confusion::new(labels, &evaluation.predictions, outputs.max(2))?),
        Targets::Values(_) => None,
    };
    report::evaluation(
        &report::Evaluated { file: &file, data: &data, part, info: &info, loss, evaluation, confusion },
        args.json,
    )
}

async fn evaluate<B: Backend>(mut backend: B, test: &Examples) -> Result<(softstep::backend::DeviceInfo, Evaluation)> {
    let set = backend.upload(test)?;
    let evaluation = backend.evaluate(&set).await?;
    Ok((backend.info().clone(), evaluation))
}
