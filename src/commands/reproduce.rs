//! `softstep reproduce`: a run, trained again from what it recorded, and compared bit by bit.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use softstep::any_backend::Device;
use softstep::backend::{Backend, DeviceInfo, Evaluation, Inference, Step};
use softstep::data::Examples;
use softstep::gpu::Readback;
use softstep::loss::example_weights;
use softstep::model::Parameters;
use softstep::optimizer::TrainingState;
use softstep::plan::Plan;
use softstep::reference::rounding;
use softstep::trainer::{self, Event, Keep, Position, RunOptions};
use softstep::verify::{Replay, TWIN_FACTOR};
use softstep::{Error, random};

use super::rerun::Rerun;
use crate::format::{count, counted};
use crate::options::{RunArgs, positive};
use crate::run::config::CONFIG;
use crate::run::metrics::{EpochLine, METRICS, StepPoint};
use crate::run::model::{MODEL, read_model};
use crate::run::results::{self, RESULTS, Results};
use crate::run::several;
use crate::terminal;

/// Examples and formats, shown by `--help`.
pub const HELP: &str = "\
Examples:
  softstep reproduce runs/mlp                 trains it again, on the same device
  softstep reproduce runs/mlp --backend cpu   on another backend: are all losses within the bounds of rounding?
  softstep reproduce runs/mlp --data here/plants.csv   if the data have moved
  softstep reproduce runs/mlp --sample 50     only 50 steps, in f64

Everything comes from the run folder: settings, seed, the SHA-256 of the data and how they were read, backend and adapter. \
First the files of the run are compared with the digests in results.json; a file that was changed since the run ended is \
named. Then the run is trained again, without writing anything, and every loss, learning rate and evaluation in \
metrics.jsonl, and the parameters, are compared bit by bit. The exit code is 0 for the same bits or, on another adapter, \
driver or backend, for losses within bounds.

On another adapter, driver or backend the bits differ, and the model amplifies the difference over the run. The bound of a \
loss is its own rounding, plus twice the effect of rounding so far on a twin: the same run, trained here, whose parameters \
are moved by f32 rounding errors every 8 steps, up or down at random. The bound is measured, not proved, and it means little \
once it is a large part of the loss: the output names the step from which it is above 1 % of the loss.

--sample N computes N steps in f64 on the CPU instead, from the start of the run and from each kept checkpoint. The first \
step of each stretch has the verifier's bound (proved, except for constants that assume random rounding); the steps after it \
have the bound of a twin in f64, moved by the verifier's bounds after every step.

--json prints one JSON object: verdict (same_bits, within_bounds, differs, changed), changed (files), steps, backend, \
adapter, first_difference and largest_difference (what, step, recorded, now, difference), parameters_sha256 (recorded, now), \
and with bounds bound_of_largest, worst (the difference nearest to its bound), largest_share (of its bound) and \
one_percent_from (a step).";

/// Options of `softstep reproduce`.
#[derive(Args, Debug)]
pub struct ReproduceArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArgs,
    /// Compute only this many steps again, in f64 on the CPU, from the start and from kept checkpoints
    #[arg(long, value_name = "STEPS", value_parser = positive, conflicts_with_all = ["backend", "adapter"])]
    pub sample: Option<NonZeroUsize>,
    /// Print one JSON object for programs
    #[arg(long)]
    pub json: bool,
}

/// A twin's parameters are moved after every so many steps.
const MOVED_EVERY: usize = 8;

/// Trains a run again; true if that gives the same bits, or elsewhere losses within the bounds of rounding.
pub async fn run(args: &ReproduceArgs) -> Result<bool> {
    let folder = &args.run.run;
    if !folder.is_dir() {
        bail!("{}: there is no such folder; name the folder of a run", folder.display());
    }
    if several::has_runs(folder) {
        bail!("{}", several::not_a_run(folder));
    }
    let mut changed = match results::changed_files(folder)? {
        Some(changed) => changed,
        None => {
            terminal::notice(&format!(
                "{}: the run has not ended, or has no {RESULTS} with digests: a changed file shows only by its effect",
                folder.display()
            ));
            Vec::new()
        }
    };
    for name in &changed {
        terminal::notice(&format!("{} was changed since the run ended, or is gone", folder.join(name).display()));
    }
    if changed.iter().any(|name| name == CONFIG || name == RESULTS) {
        let names = changed.join(" and ");
        let text = format!("not trained again: {names} is not what the run left");
        terminal::print_fields(&[("changed", text)], &json!({ "verdict": "changed", "changed": changed }), args.json)?;
        return Ok(false);
    }
    let run =
        Rerun::open(&args.run).with_context(|| format!("the run in {} cannot be trained again", folder.display()))?;
    if !run.record.history.damaged.is_empty() && !changed.iter().any(|name| name == METRICS) {
        changed.push(METRICS.into());
    }
    let mut found = match args.sample {
        Some(sample) => sampled(&run, sample.get())?,
        None => trained(&run, args).await?,
    };
    found.changed = changed;
    found.say(args.json)?;
    Ok(found.changed.is_empty() && matches!(found.verdict, Verdict::SameBits | Verdict::WithinBounds))
}

/// Comparison of a run with its repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    SameBits,
    WithinBounds,
    Differs,
}

/// A number that a run recorded, beside what it is now.
#[derive(Clone, Debug, Serialize)]
struct Difference {
    /// The loss, the learning rate, or a figure of an epoch.
    what: &'static str,
    /// Step; for an epoch, its last step.
    step: usize,
    recorded: f64,
    now: f64,
    difference: f64,
}

impl Difference {
    fn new(what: &'static str, step: usize, recorded: f64, now: f64) -> Self {
        Self { what, step, recorded, now, difference: (now - recorded).abs() }
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, step, recorded, now, difference } = self;
        write!(f, "{what} of step {step}: {recorded} recorded, {now} now, {difference:.1e} apart")
    }
}

/// Result of a repetition.
#[derive(Debug, Serialize)]
struct Reproduction {
    verdict: Verdict,
    changed: Vec<String>,
    /// Steps that were compared.
    steps: usize,
    backend: &'static str,
    adapter: String,
    first_difference: Option<Difference>,
    largest_difference: Option<Difference>,
    /// Recorded and now.
    parameters_sha256: Option<[String; 2]>,
    #[serde(flatten)]
    bounds: Option<Bounds>,
    /// Reason why the bits may differ.
    elsewhere: Option<String>,
    /// With `--sample`, the steps that it went on from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sampled_from: Vec<usize>,
}

/// Differences of losses in relation to their bounds.
#[derive(Debug, Serialize)]
struct Bounds {
    /// The loss that is nearest to its bound, or furthest beyond.
    worst: Option<Difference>,
    bound_of_worst: f64,
    /// Difference divided by its bound.
    largest_share: f64,
    /// The first loss beyond its bound.
    first_beyond: Option<Difference>,
    /// The first step whose bound is above a hundredth of its loss.
    one_percent_from: Option<usize>,
}

impl Bounds {
    /// Compares losses `(recorded, now, bound)`.
    fn new(losses: impl Iterator<Item = (StepPoint, f64, f64)>) -> Self {
        let mut bounds =
            Self { worst: None, bound_of_worst: 0.0, largest_share: 0.0, first_beyond: None, one_percent_from: None };
        for (recorded, now, bound) in losses {
            let difference = Difference::new("loss", recorded.step, recorded.loss, now);
            let share = if recorded.loss.is_nan() && now.is_nan() { 0.0 } else { difference.difference / bound };
            let share = if share.is_nan() { f64::INFINITY } else { share };
            if share > 1.0 && bounds.first_beyond.is_none() {
                bounds.first_beyond = Some(difference.clone());
            }
            if share > bounds.largest_share {
                (bounds.worst, bounds.bound_of_worst, bounds.largest_share) = (Some(difference), bound, share);
            }
            if bound > 0.01 * now.abs() {
                bounds.one_percent_from.get_or_insert(recorded.step);
            }
        }
        bounds
    }

    fn hold(&self) -> bool {
        self.first_beyond.is_none()
    }
}

impl Reproduction {
    fn say(&self, json: bool) -> Result<()> {
        let mut text = vec![("again on", format!("{} ({})", self.adapter, self.backend))];
        if !self.sampled_from.is_empty() {
            let from: Vec<String> = self.sampled_from.iter().map(|&step| count(step)).collect();
            text.push(("from", format!("the states after step {}", from.join(", "))));
        }
        text.extend(self.elsewhere.clone().map(|elsewhere| ("device", elsewhere)));
        let parameters_differ = self.parameters_sha256.as_ref().filter(|[was, now]| was != now);
        let steps = counted(self.steps, "step");
        let bounds = self.bounds.as_ref();
        match self.verdict {
            Verdict::SameBits => {
                let parameters = match &self.parameters_sha256 {
                    Some([sha256, _]) => format!(", and the parameters, SHA-256 {sha256}"),
                    None => "; the run left no parameters of this step to compare".into(),
                };
                text.push(("result", format!("the same bits: every loss of {steps}, every evaluation{parameters}")));
            }
            Verdict::WithinBounds => {
                text.push(("result", format!("every loss of {steps} lies within the bounds of f32 rounding")));
            }
            Verdict::Differs => match bounds.and_then(|bounds| bounds.first_beyond.as_ref()) {
                Some(beyond) => text.push(("result", format!("beyond the bounds of f32 rounding, first the {beyond}"))),
                None if bounds.is_some() => text.push(("result", "different numbers, see below".into())),
                None => text.push(("result", "different bits".into())),
            },
        }
        if self.verdict != Verdict::SameBits {
            text.extend(self.first_difference.as_ref().map(|first| ("first", format!("the {first}"))));
            text.extend(self.largest_difference.as_ref().map(|largest| ("largest", format!("the {largest}"))));
            text.extend(
                parameters_differ.map(|[was, now]| {
                    ("weights", format!("SHA-256 {was} in {MODEL} or the last checkpoint, {now} now"))
                }),
            );
        }
        if let Some(Bounds { worst, bound_of_worst, largest_share, one_percent_from, .. }) = bounds {
            text.extend(worst.as_ref().map(|worst| {
                let share = format!("{:.0} % of its bound, {bound_of_worst:.1e}", 100.0 * largest_share);
                ("bounds", format!("{share}, at most: the {worst}"))
            }));
            if let Some(step) = one_percent_from {
                let rest = "two correct runs drift apart, and from there agreement means less and less";
                text.push(("", format!("from step {} on the bound is above 1 % of the loss: {rest}", count(*step))));
            }
        }
        if !self.changed.is_empty() {
            text.push(("changed", format!("{} since the run ended", self.changed.join(", "))));
        }
        terminal::print_fields(&text, self, json)
    }
}

/// The verdict of `--sample`: steps in f64.
fn sampled(run: &Rerun, sample: usize) -> Result<Reproduction> {
    let training = run.training()?;
    let last = run.steps();
    let start = run.start_state();
    let kept = run.checkpoints.iter().filter(|(found, _)| found.step > 0 && found.step < last).map(|(_, state)| state);
    let from: Vec<&TrainingState> = std::iter::once(&start).chain(kept).collect();
    let mut losses = Vec::new();
    let recorded = |step: usize| run.record.history.steps.iter().find(|point| point.step == step).copied();
    let mut sampled_from = Vec::new();
    let mut left = sample;
    for (index, state) in from.iter().enumerate().rev() {
        let first = state.updates as usize;
        let end = from.get(index + 1).map_or(last, |next| next.updates as usize);
        let steps = (left / (index + 1)).max(usize::from(left > 0)).min(end - first);
        let mut replay = Replay::new(training, state);
        for step in first + 1..=first + steps {
            let (rows, rate, _) = run.batch(step);
            let Some(found) = replay.step(&rows, rate) else {
                terminal::notice(&format!("from step {step} on numbers exceed f32, as in a run that diverges"));
                break;
            };
            if let Some(point) = recorded(step) {
                losses.push((point, found.values[0], found.errors[0]));
            }
        }
        left -= steps;
        if steps > 0 {
            sampled_from.insert(0, first);
        }
    }
    losses.sort_by_key(|(point, ..)| point.step);
    let steps = losses.len();
    let bounds = Bounds::new(losses.into_iter());
    Ok(Reproduction {
        verdict: if bounds.hold() { Verdict::WithinBounds } else { Verdict::Differs },
        changed: Vec::new(),
        steps,
        backend: "cpu",
        adapter: "the CPU, in f64".into(),
        first_difference: None,
        largest_difference: None,
        parameters_sha256: None,
        bounds: Some(bounds),
        elsewhere: None,
        sampled_from,
    })
}

/// Result of training a run again.
#[derive(Default)]
struct Trained {
    info: Option<DeviceInfo>,
    /// Loss and learning rate of each step.
    steps: Vec<[f32; 2]>,
    /// The line of each epoch in the metrics, with its last step.
    epochs: Vec<(usize, serde_json::Value)>,
    /// The parameters that it kept; of a run that was stopped, those after its last step.
    parameters: Option<Parameters>,
}

/// Compares the recorded numbers of a run with those of its repetition, and returns the differences in the order of steps.
fn differences(run: &Rerun, again: &Trained) -> Vec<Difference> {
    let mut differences = Vec::new();
    for point in &run.record.history.steps {
        // A step that the repetition did not come to has no loss.
        let [loss, rate] = again.steps.get(point.step - 1).copied().unwrap_or([f32::NAN; 2]);
        let mut compare = |what, recorded: f64, now: f32| {
            if (recorded as f32).to_bits() != now.to_bits() && !(recorded.is_nan() && now.is_nan()) {
                differences.push(Difference::new(what, point.step, recorded, now.into()));
            }
        };
        compare("loss", point.loss, loss);
        compare("learning rate", point.learning_rate, rate);
    }
    for epoch in &run.record.history.epochs {
        let Some((step, now)) = epoch.epoch.checked_sub(1).and_then(|at| again.epochs.get(at)) else { continue };
        for (what, recorded, names) in [
            ("training loss of the epoch", epoch.train_loss, &["train_loss"][..]),
            ("validation loss", epoch.validation_loss, &["validation_loss"]),
            ("validation accuracy or R²", epoch.validation_quality, &["validation_accuracy", "validation_r_squared"]),
            ("test loss", epoch.test_loss, &["test_loss"]),
            ("test accuracy or R²", epoch.test_quality, &["test_accuracy", "test_r_squared"]),
        ] {
            let now = names.iter().find_map(|name| now.get(name)?.as_f64());
            if recorded.map(f64::to_bits) != now.map(f64::to_bits) {
                let [recorded, now] = [recorded, now].map(|value| value.unwrap_or(f64::NAN));
                differences.push(Difference::new(what, *step, recorded, now));
            }
        }
    }
    differences.sort_by_key(|difference| difference.step);
    differences
}

/// Computes the bounds of the losses of a repetition from those of its twin.
fn twin_bounds(run: &Rerun, twin: &Trained, again: &Trained) -> Bounds {
    let mut spread = 0.0f64;
    let rounded = rounding(longest_sum(run));
    let both: Vec<_> = again
        .steps
        .iter()
        .zip(&twin.steps)
        .map(|([now, _], [of_twin, _])| {
            spread = spread.max(f64::from((now - of_twin).abs()));
            let own = 4.0 * rounded * (1.0 + f64::from(now.abs()));
            (f64::from(*now), own + TWIN_FACTOR * spread)
        })
        .collect();
    let bounded = |point: &StepPoint| both.get(point.step - 1).map(|&(now, bound)| (*point, now, bound));
    Bounds::new(run.record.history.steps.iter().filter_map(bounded))
}

/// Trains the whole run again and compares.
async fn trained(run: &Rerun, args: &ReproduceArgs) -> Result<Reproduction> {
    let device = run.open_device(&args.run).await?;
    let again = train(run, &device, false).await?;
    let info = again.info.clone().context("a backend says where it computes")?;
    let differences = differences(run, &again);
    let parameters_sha256 = match (recorded_parameters(run, args)?, &again.parameters) {
        (Some(was), Some(now)) => Some([was, now.sha256()]),
        _ => None,
    };
    let same_parameters = parameters_sha256.as_ref().is_none_or(|[was, now]| was == now);
    let same = differences.is_empty() && same_parameters;
    let elsewhere = run.elsewhere(&info);
    let mut bounds = None;
    if !same && elsewhere.is_some() {
        terminal::notice(
            "the bits differ, as they may on another device: training a twin to measure the effect of rounding",
        );
        bounds = Some(twin_bounds(run, &train(run, &device, true).await?, &again));
    }
    let enough = again.steps.len() >= run.steps();
    let verdict = match &bounds {
        _ if same => Verdict::SameBits,
        Some(bounds) if bounds.hold() && enough => Verdict::WithinBounds,
        _ => Verdict::Differs,
    };
    let largest = differences.iter().filter(|difference| difference.what == "loss");
    let largest = largest.max_by(|a, b| a.difference.total_cmp(&b.difference)).or(differences.first()).cloned();
    Ok(Reproduction {
        verdict,
        changed: Vec::new(),
        steps: run.record.history.steps.len(),
        backend: info.backend,
        adapter: info.name,
        first_difference: differences.first().cloned(),
        largest_difference: largest,
        parameters_sha256,
        bounds,
        elsewhere,
        sampled_from: Vec::new(),
    })
}

/// SHA-256 of the parameters that the run left: of its model, or where it did not end those of its last checkpoint, if that
/// is of its last step.
fn recorded_parameters(run: &Rerun, args: &ReproduceArgs) -> Result<Option<String>> {
    let folder = &args.run.run;
    if !run.has_ended() {
        let last = run.checkpoints.last().filter(|(found, _)| found.step == run.steps());
        return Ok(last.map(|(_, state)| state.parameters.sha256()));
    }
    let parameters = read_model(&folder.join(MODEL))?.parameters.sha256();
    let said = Results::read(folder)?.and_then(|results| results.parameters_sha256);
    if said.as_ref().is_some_and(|said| *said != parameters) {
        terminal::notice(&format!("the parameters in {MODEL} are not those recorded in {RESULTS}"));
    }
    Ok(Some(parameters))
}

/// Products in the longest sum of a step.
fn longest_sum(run: &Rerun) -> usize {
    let batch = run.config.batch_size.min(run.data.train.len());
    let of_node = |node: &softstep::plan::Node| {
        let inputs = node.weights_shape().map_or(0, |[inputs, _]| inputs + 1);
        inputs.max(batch * node.output.positions())
    };
    Plan::new(&run.start.architecture).nodes.iter().map(of_node).max().unwrap_or(1)
}

/// Trains the run again, or a twin of it.
async fn train(run: &Rerun, device: &Device, is_twin: bool) -> Result<Trained> {
    let training = run.training()?;
    let twin = is_twin.then(|| Twin { rounded: rounding(longest_sum(run)), seed: run.config.seed, before: None });
    let backend = device.for_training(&run.start, &training, Readback::Pipelined).await?;
    let stop = AtomicBool::new(false);
    // A run that ended ends by itself, perhaps early.
    let last = if run.has_ended() && twin.is_none() { usize::MAX } else { run.steps() };
    // A twin's epochs are evaluated otherwise, and it must not end otherwise.
    let config = match twin {
        Some(_) => run.config.clone().patience(None).keep(Keep::Last),
        None => run.config.clone(),
    };
    let mut found = Trained { info: Some(backend.info().clone()), ..Trained::default() };
    let mut backend = Repeated { backend, steps: 0, last, stop: &stop, twin };
    let validation = run.validation.as_ref().map(|examples| backend.upload(examples)).transpose()?;
    let test = backend.upload(&run.data.test)?;
    let examples = run.data.train.len();
    let weights = example_weights(&run.data.train, &run.class_weights)?;
    let options =
        RunOptions { from: Position::START, best: None, checkpoint_every: None, stop: &stop, weights: &weights };
    let (mut steps, mut epochs, mut parameters) = (Vec::new(), Vec::new(), None);
    let ended = trainer::train(&mut backend, &config, examples, validation.as_ref(), &test, &options, |event| {
        match event {
            Event::Step { loss, learning_rate, .. } => steps.push([loss, learning_rate]),
            Event::EpochEvaluated { epoch, train_loss, validation, test } => {
                let line = EpochLine::new(epoch, train_loss, validation, test);
                epochs.push((steps.len(), serde_json::to_value(&line).unwrap_or_default()));
            }
            Event::Checkpoint { state, .. } => {
                parameters = Some(state.best.as_ref().unwrap_or(&state.parameters).clone())
            }
            Event::EpochStarted { .. } | Event::EpochTrained { .. } => {}
        }
        Ok(())
    });
    match ended.await {
        // The run itself ended so, as its metrics say.
        Err(Error::NonFiniteLoss { .. } | Error::NonFiniteState { .. } | Error::NonFiniteTestLoss { .. }) => {
            parameters = None
        }
        ended => drop(ended?),
    }
    (found.steps, found.epochs, found.parameters) = (steps, epochs, parameters);
    Ok(found)
}

/// Rounding errors of the size of f32's, put into a run.
struct Twin {
    /// The relative error of the longest sum.
    rounded: f64,
    seed: u64,
    /// The parameters when they were last moved.
    before: Option<Parameters>,
}

impl Twin {
    /// Moves each parameter up or down at random: by the rounding of itself, and by that of the gradients since the last
    /// time, as far as the largest change in its layer shows how large they were.
    fn move_apart(&mut self, step: usize, parameters: &mut Parameters) {
        let key = random::step_key(self.seed, step as u64);
        let now = parameters.clone();
        for (index, layer) in parameters.layers.iter_mut().enumerate() {
            let before = self.before.as_ref().map(|before| &before.layers[index].values);
            let change = |before: &Vec<f32>| {
                layer.values.iter().zip(before).map(|(now, before)| f64::from((now - before).abs())).fold(0.0, f64::max)
            };
            let change = before.map_or(0.0, change);
            for (at, value) in layer.values.iter_mut().enumerate() {
                let direction = f64::from(random::signed_unit(random::word(key, index as u32, at as u32))).signum();
                let own = f64::from(value.abs());
                // Of the roundings of so many steps, which go either way; at the start, of a product with the weight.
                let error = match before {
                    Some(_) => f64::from(f32::EPSILON) * own * (MOVED_EVERY as f64).sqrt() + self.rounded * change,
                    None => self.rounded * own,
                };
                *value = (f64::from(*value) + direction * error) as f32;
            }
        }
        self.before = Some(now);
    }
}

/// A backend that a run is trained on again: it asks to stop after the last step that the run took, and a twin's moves its
/// parameters.
struct Repeated<'a, B> {
    backend: B,
    steps: usize,
    last: usize,
    stop: &'a AtomicBool,
    twin: Option<Twin>,
}

impl<B: Backend> Inference for Repeated<'_, B> {
    type Set = B::Set;

    fn info(&self) -> &DeviceInfo {
        self.backend.info()
    }

    fn upload(&mut self, examples: &Examples) -> softstep::Result<B::Set> {
        self.backend.upload(examples)
    }

    async fn evaluate(&mut self, set: &B::Set) -> softstep::Result<Evaluation> {
        if self.twin.is_some() {
            // Nobody asks for a twin's.
            return Ok(Evaluation::default());
        }
        self.backend.evaluate(set).await
    }

    async fn probabilities(&mut self, set: &B::Set) -> softstep::Result<Vec<f32>> {
        self.backend.probabilities(set).await
    }

    async fn parameters(&mut self) -> softstep::Result<Parameters> {
        self.backend.parameters().await
    }
}

impl<B: Backend> Backend for Repeated<'_, B> {
    fn begin_epoch(&mut self, order: &[u32]) -> softstep::Result<()> {
        self.backend.begin_epoch(order)
    }

    async fn step(&mut self, step: Step, losses: &mut Vec<f32>) -> softstep::Result<()> {
        if let Some(twin) = self.twin.as_mut().filter(|_| self.steps.is_multiple_of(MOVED_EVERY)) {
            self.backend.flush(losses).await?;
            let mut state = self.backend.state().await?;
            twin.move_apart(self.steps, &mut state.parameters);
            self.backend.restore(&state)?;
        }
        self.steps += 1;
        self.stop.fetch_or(self.steps >= self.last, Ordering::Relaxed);
        self.backend.step(step, losses).await
    }

    async fn flush(&mut self, losses: &mut Vec<f32>) -> softstep::Result<()> {
        self.backend.flush(losses).await
    }

    async fn state(&mut self) -> softstep::Result<TrainingState> {
        self.backend.state().await
    }

    fn restore(&mut self, state: &TrainingState) -> softstep::Result<()> {
        self.backend.restore(state)
    }
}
