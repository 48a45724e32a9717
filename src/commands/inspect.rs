//! `softstep inspect`: a step of a run, computed again and laid open on a page; without a step, the examples that a run
//! never learned.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use maud::{Markup, html};
use serde::Serialize;
use softstep::backend::{Backend, Step, Training};
use softstep::data::{Examples, Targets, in_own_units};
use softstep::gpu::Readback;
use softstep::loss::{Link, Loss, Objective};
use softstep::model::{Architecture, Layer, Parameters};
use softstep::optimizer::TrainingState;
use softstep::plan::{Operation, Plan};
use softstep::reference::gradient_norm;
use softstep::trainer::{TrainingConfig, epoch_order};
use softstep::verify::dissected;

use super::rerun::Rerun;
use crate::format::{self, count, number};
use crate::html::plot::{Axis, Mark, Plot, Series};
use crate::html::{self, note, picture, section, table, tiles};
use crate::options::{RunArgs, at_least_1};
use crate::run::error_analysis::{Input, chunks, look_of, outputs};
use crate::run::files::write_named;
use crate::{model_summary, shell, terminal};

/// Examples and formats, shown by `--help`.
pub const HELP: &str = "\
Examples:
  softstep inspect runs/mlp --step 612        writes runs/mlp/inspect-612.html
  softstep inspect runs/mlp --step 612 --what-if lr=0.05   also how the run would have continued with that rate
  softstep inspect runs/mlp --step 612 --what-if momentum=0.5,batch-size=32
  softstep inspect runs/mlp                   the training examples with the highest loss over the run: likely label errors

A step is computed again on the run's own device, from the nearest kept checkpoint before it or from the start: its batch \
with the loss of each example before and after, the gradient and the update of each layer, and the weights of the first \
layer that changed most. Without --step the run is trained again, and every training example is evaluated after each epoch.

--what-if continues from the state before the step for --steps steps, as if options of softstep train had other values: lr, \
batch-size, clip-norm (or none), label-smoothing, schedule, dropout (of all dropout layers) and those of the run's optimizer, \
such as momentum or weight-decay. The order of the examples stays the same. With another batch size, the learning rate \
follows the schedule by the number of examples seen, and a batch is compared with the step of the run that had its first \
example.

--json prints one JSON object: with --step step, epoch, learning_rate, from (a step), recorded_loss, loss, layers (layer, \
gradient_norm, weight_norm, update_norm), examples (example, target, loss_before, loss_after), weights (input, output, before, \
after), what_if (settings, losses: step, recorded, now); without it after (steps), training_examples and examples \
(example, target, predicted, mean_loss, last_loss).";

/// Options of `softstep inspect`.
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArgs,
    /// The step to look at, from 1; without it the examples with the highest loss over the run
    #[arg(long, value_name = "STEP", value_parser = at_least_1)]
    pub step: Option<usize>,
    /// Continue from before the step with these settings changed, and compare with the recorded losses
    #[arg(long, value_name = "SETTING=VALUE,…", requires = "step", value_delimiter = ',', value_parser = what_if)]
    pub what_if: Vec<(String, String)>,
    /// Number of steps of --what-if
    #[arg(long, value_name = "N", requires = "what_if", value_parser = at_least_1, default_value_t = 100)]
    pub steps: usize,
    /// The page [default: inspect-STEP.html or inspect.html in the folder of the run]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Also print one JSON object for programs
    #[arg(long)]
    pub json: bool,
}

/// One change of `--what-if`.
fn what_if(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("is a setting and its value, such as lr=0.05")?;
    Ok((name.into(), value.into()))
}

/// Examples of a batch that are shown, those with the highest loss.
const BATCH: usize = 128;
/// Examples with the highest loss over a run that are shown.
const HARDEST: usize = 48;
/// Weights of the first layer that are shown: pictures, and single ones.
const PICTURES: usize = 24;
const SINGLE: usize = 12;

/// Writes the page of a step, or of the hardest examples.
pub async fn run(args: &InspectArgs) -> Result<()> {
    let folder = &args.run.run;
    let run =
        Rerun::open(&args.run).with_context(|| format!("the run in {} cannot be computed again", folder.display()))?;
    let last = run.steps();
    if let Some(step) = args.step.filter(|&step| step > last) {
        bail!("--step {step}: the run in {} has {} steps", folder.display(), count(last));
    }
    // Before the long way to the step.
    let changed = if args.what_if.is_empty() { None } else { Some(Changed::new(&run, &args.what_if)?) };
    let device = run.open_device(&args.run).await?;
    let training = run.training()?;
    let backend = device.for_training(&run.start, &training, Readback::Pipelined).await?;
    let mut found = look(&run, Walk::new(&run, backend), args).await?;
    if let (Some(changed), Found::Step(found)) = (&changed, &mut found) {
        let (start, training) = (changed.parameters(&found.before.parameters), changed.training(&run)?);
        let backend = device.for_training(&start, &training, Readback::Pipelined).await?;
        let losses = changed.go_on(&run, backend, found, args.steps).await?;
        found.what_if = Some(WhatIf { settings: changed.text.clone(), losses });
    }
    let (name, page) = match &found {
        Found::Step(step) => (format!("inspect-{}.html", step.step), page_of_step(&run, step)),
        Found::Run(hardest) => ("inspect.html".into(), page_of_run(&run, hardest)),
    };
    let out = args.out.clone().unwrap_or_else(|| folder.join(name));
    write_named("--out", &out, html::MARK, page.as_bytes())?;
    if args.json {
        return terminal::print_fields(&[], &found, true);
    }
    terminal::written("page", &out)
}

/// Result of an inspection.
#[derive(Serialize)]
#[serde(untagged)]
enum Found {
    Step(Box<Inspected>),
    Run(Hardest),
}

/// A step.
#[derive(Serialize)]
struct Inspected {
    step: usize,
    epoch: usize,
    learning_rate: f32,
    /// The state that it was computed from on: that of a kept checkpoint, or the start.
    from: usize,
    /// Loss as recorded by the run, and now.
    recorded_loss: Option<f64>,
    loss: f32,
    layers: Vec<LayerStep>,
    /// Examples of the batch, the highest loss first.
    examples: Vec<ExampleStep>,
    weights: Vec<WeightStep>,
    what_if: Option<WhatIf>,
    /// The state before the step, and the parameters after it.
    #[serde(skip)]
    before: TrainingState,
    #[serde(skip)]
    after: Parameters,
}

/// Effect of a step on a layer.
#[derive(Serialize)]
struct LayerStep {
    layer: String,
    gradient_norm: f64,
    weight_norm: f64,
    update_norm: f64,
}

/// An example of a batch.
#[derive(Serialize)]
struct ExampleStep {
    /// Index among the training examples, from 0.
    example: u32,
    target: String,
    loss_before: f64,
    loss_after: f64,
}

/// A weight of the first layer that changed much.
#[derive(Serialize)]
struct WeightStep {
    input: usize,
    output: usize,
    before: f32,
    after: f32,
}

/// The run with other settings from a step on.
#[derive(Serialize)]
struct WhatIf {
    /// The changes, as `--what-if` says them.
    settings: String,
    /// Step, and its loss as recorded and with those settings.
    losses: Vec<(usize, Option<f64>, f32)>,
}

/// The settings of a run with the changes of `--what-if`.
struct Changed {
    text: String,
    config: TrainingConfig,
    /// The run's model, with other dropout.
    architecture: Architecture,
}

impl Changed {
    fn new(run: &Rerun, changes: &[(String, String)]) -> Result<Self> {
        let optimizer = run.config.optimizer.setting_names().iter().map(|name| name.replace('_', "-"));
        let own = ["lr", "batch-size", "clip-norm", "label-smoothing", "schedule", "dropout"].map(String::from);
        let possible: Vec<String> = own.into_iter().chain(optimizer).collect();
        let mut settings = serde_json::to_value(&run.config)?;
        let mut layers = run.start.architecture.layers().to_vec();
        for (name, value) in changes {
            let refused = |problem: &str| {
                anyhow!("--what-if {}={}: {problem}", terminal::printable(name), terminal::printable(value))
            };
            if !possible.contains(name) {
                return Err(refused(&format!("in this run you can change {}", possible.join(", "))));
            }
            if name == "dropout" {
                let share = value.parse().map_err(|_| refused("is not a number"))?;
                let mut dropped = layers.iter_mut().filter(|layer| matches!(layer, Layer::Dropout { .. })).peekable();
                if dropped.peek().is_none() {
                    return Err(refused("the run's model has no dropout"));
                }
                dropped.for_each(|layer| *layer = Layer::Dropout { p: share });
                continue;
            }
            let key = if name == "lr" { "learning_rate".into() } else { name.replace('-', "_") };
            let is_number = settings[&key].is_number() || name == "clip-norm";
            settings[key] = match value.as_str() {
                "none" if name == "clip-norm" => serde_json::Value::Null,
                text if is_number => {
                    serde_json::from_str::<serde_json::Number>(text).map_err(|_| refused("is not a number"))?.into()
                }
                text => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
            };
            let config = serde_json::from_value::<TrainingConfig>(settings.clone());
            config
                .map_err(|error| refused(&error.to_string()))?
                .check()
                .map_err(|error| refused(&error.to_string()))?;
        }
        let text: Vec<_> = changes.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let text = text.join(",");
        let architecture = Architecture::new(run.start.architecture.input(), layers)
            .with_context(|| format!("--what-if {}", terminal::printable(&text)))?;
        Ok(Self { text, config: serde_json::from_value(settings)?, architecture })
    }

    fn training<'a>(&self, run: &'a Rerun) -> Result<Training<'a>> {
        let training = run.training()?;
        Ok(Training {
            batch_size: self.config.batch_size.min(training.examples.len()),
            optimizer: self.config.optimizer,
            clip_norm: self.config.clip_norm,
            objective: Objective { label_smoothing: self.config.label_smoothing, ..training.objective },
            ..training
        })
    }

    fn parameters(&self, parameters: &Parameters) -> Parameters {
        Parameters { architecture: self.architecture.clone(), ..parameters.clone() }
    }

    /// Goes on from the state before a step: gives for each batch the step of the run that it begins in, its recorded loss,
    /// and its loss now.
    async fn go_on<B: Backend>(
        &self,
        run: &Rerun,
        mut backend: B,
        found: &Inspected,
        steps: usize,
    ) -> Result<Vec<(usize, Option<f64>, f32)>> {
        let examples = run.data.train.len();
        let mut moments: Vec<Parameters> = found.before.moments.iter().map(|moment| self.parameters(moment)).collect();
        // Of a momentum that begins now.
        let mut zero = self.parameters(&run.start);
        zero.layers.iter_mut().for_each(|layer| layer.values.fill(0.0));
        zero.statistics.clear();
        moments.resize(self.config.optimizer.moments(), zero);
        let parameters = self.parameters(&found.before.parameters);
        backend.restore(&TrainingState { parameters, moments, best: None, updates: found.before.updates })?;
        // Places in the run are those of its own batches, as is its schedule.
        let config = self.config.clone().batch_size(run.config.batch_size);
        let steps_of_epoch = examples.div_ceil(config.batch_size);
        let end = (found.step - 1 + steps).min(config.steps(examples));
        let (mut epoch, Step { mut first, .. }) = config.step_at(found.step - 1, examples);
        let (mut begun, mut losses) = (Vec::new(), Vec::new());
        let mut order_of = 0;
        loop {
            let index = (epoch - 1) * steps_of_epoch + first / config.batch_size;
            if index >= end {
                break;
            }
            if order_of != epoch {
                backend.flush(&mut losses).await?;
                backend.begin_epoch(&epoch_order(config.seed, epoch, examples))?;
                order_of = epoch;
            }
            let learning_rate = config.step_at(index, examples).1.learning_rate;
            let batch = self.config.batch_size.min(examples - first);
            backend.step(Step { first, batch, learning_rate }, &mut losses).await?;
            begun.push(index + 1);
            first += batch;
            if first == examples {
                (epoch, first) = (epoch + 1, 0);
            }
        }
        backend.flush(&mut losses).await?;
        Ok(begun.into_iter().zip(losses).map(|(step, loss)| (step, run.recorded(step), loss)).collect())
    }
}

/// The examples with the highest loss over a run.
#[derive(Serialize)]
struct Hardest {
    /// The steps after which the losses were taken.
    after: Vec<usize>,
    training_examples: usize,
    examples: Vec<Hard>,
}

/// An example that a run did not learn.
#[derive(Serialize)]
struct Hard {
    /// Index among the training examples, from 0.
    example: u32,
    target: String,
    /// Final prediction.
    predicted: String,
    mean_loss: f64,
    last_loss: f64,
}

/// A run on its way, step by step.
struct Walk<'a, B> {
    run: &'a Rerun,
    backend: B,
    /// Steps behind it.
    steps: usize,
    /// The epoch that the backend has the order of.
    epoch: usize,
    losses: Vec<f32>,
}

impl<'a, B: Backend> Walk<'a, B> {
    fn new(run: &'a Rerun, backend: B) -> Self {
        Self { run, backend, steps: 0, epoch: 0, losses: Vec::new() }
    }

    /// Goes to a state, which is that of so many updates.
    fn restore(&mut self, state: &TrainingState) -> Result<()> {
        self.backend.restore(state)?;
        (self.steps, self.epoch) = (state.updates as usize, 0);
        Ok(())
    }

    /// Takes the next step with these settings.
    async fn step(&mut self, config: &TrainingConfig) -> Result<()> {
        let examples = self.run.data.train.len();
        let (epoch, step): (usize, Step) = config.step_at(self.steps, examples);
        if epoch != self.epoch {
            self.finish().await?;
            self.backend.begin_epoch(&epoch_order(config.seed, epoch, examples))?;
            self.epoch = epoch;
        }
        self.backend.step(step, &mut self.losses).await?;
        self.steps += 1;
        Ok(())
    }

    /// Waits for all steps.
    async fn finish(&mut self) -> Result<()> {
        Ok(self.backend.flush(&mut self.losses).await?)
    }
}

async fn look<B: Backend>(run: &Rerun, mut walk: Walk<'_, B>, args: &InspectArgs) -> Result<Found> {
    match args.step {
        Some(step) => Ok(Found::Step(Box::new(inspect(run, &mut walk, step).await?))),
        None => Ok(Found::Run(hardest(run, &mut walk).await?)),
    }
}

async fn inspect<B: Backend>(run: &Rerun, walk: &mut Walk<'_, B>, step: usize) -> Result<Inspected> {
    let before_it = run.checkpoints.iter().rfind(|(found, _)| (1..step).contains(&found.step));
    if let Some((_, state)) = before_it {
        walk.restore(state)?;
    }
    let from = walk.steps;
    while walk.steps < step - 1 {
        walk.step(&run.config).await?;
    }
    walk.finish().await?;
    let before = walk.backend.state().await?;
    walk.losses.clear();
    walk.step(&run.config).await?;
    walk.finish().await?;
    let loss = *walk.losses.last().context("a step has a loss")?;
    let after = walk.backend.state().await?;

    let (rows, learning_rate, epoch) = run.batch(step);
    let training = run.training()?;
    let diverges = || format!("step {step}: its numbers leave f32, as in a run that diverges");
    let dissect = |parameters| dissected(&training, &rows, step as u64, parameters).with_context(diverges);
    let (losses, gradients) = dissect(&before.parameters)?;
    let (losses_after, _) = dissect(&after.parameters)?;
    let mut examples: Vec<ExampleStep> = rows
        .iter()
        .zip(losses.iter().zip(&losses_after))
        .map(|(&example, (&loss_before, &loss_after))| ExampleStep {
            example,
            target: target(run, example),
            loss_before,
            loss_after,
        })
        .collect();
    examples.sort_by(|a, b| b.loss_before.total_cmp(&a.loss_before));

    let norm = |values: Vec<f64>| gradient_norm([&values[..]]);
    let nodes: Vec<_> =
        Plan::new(&run.start.architecture).nodes.into_iter().filter(|node| node.weights.is_some()).collect();
    let layers = nodes.iter().zip(before.parameters.layers.iter().zip(&after.parameters.layers)).zip(&gradients);
    let layers = layers
        .map(|((node, (old, new)), gradient)| LayerStep {
            layer: format!("{} {}", node.layer, run.start.architecture.layers()[node.layer - 1]),
            gradient_norm: norm(gradient.clone()),
            weight_norm: norm(old.values.iter().map(|&value| value.into()).collect()),
            update_norm: norm(
                old.values.iter().zip(&new.values).map(|(old, new)| f64::from(*new) - f64::from(*old)).collect(),
            ),
        })
        .collect();
    let (old, new) = (&before.parameters.layers[0], &after.parameters.layers[0]);
    let change = |at: usize| (new.values[at] - old.values[at]).abs();
    let mut most: Vec<usize> = (0..old.values.len()).collect();
    most.sort_by(|&a, &b| change(b).total_cmp(&change(a)));
    let weight = |at: usize| {
        let (input, output) = (at / old.outputs, at % old.outputs);
        WeightStep { input, output, before: old.values[at], after: new.values[at] }
    };
    let weights = most.into_iter().take(SINGLE).map(weight).collect();

    Ok(Inspected {
        step,
        epoch,
        learning_rate,
        from,
        recorded_loss: run.recorded(step),
        loss,
        layers,
        examples,
        weights,
        what_if: None,
        before,
        after: after.parameters,
    })
}

async fn hardest<B: Backend>(run: &Rerun, walk: &mut Walk<'_, B>) -> Result<Hardest> {
    let train = &run.data.train;
    let last = run.steps();
    let all: Vec<u32> = (0..train.len() as u32).collect();
    let mut sums = vec![0.0; train.len()];
    let (mut losses, mut predicted, mut after) = (Vec::new(), Vec::new(), Vec::new());
    while walk.steps < last {
        walk.step(&run.config).await?;
        let ends_epoch = walk.steps == last || run.config.step_at(walk.steps, train.len()).0 != walk.epoch;
        if !ends_epoch {
            continue;
        }
        walk.finish().await?;
        (losses, predicted) = (Vec::with_capacity(train.len()), Vec::with_capacity(train.len()));
        for chunk in chunks(train, &all) {
            let (outputs, width) = outputs(&mut walk.backend, train, chunk).await?;
            for (&example, outputs) in chunk.iter().zip(outputs.chunks_exact(width)) {
                losses.push(example_loss(run.config.loss, train, example, outputs));
                predicted.push(prediction(run, outputs));
            }
        }
        sums.iter_mut().zip(&losses).for_each(|(sum, loss)| *sum += loss);
        after.push(walk.steps);
    }
    let mean = |example: u32| sums[example as usize] / after.len().max(1) as f64;
    let mut worst = all;
    worst.sort_by(|&a, &b| mean(b).total_cmp(&mean(a)));
    let hard = |example: u32| Hard {
        example,
        target: target(run, example),
        predicted: std::mem::take(&mut predicted[example as usize]),
        mean_loss: mean(example),
        last_loss: losses[example as usize],
    };
    let examples = worst.into_iter().take(HARDEST).map(hard).collect();
    Ok(Hardest { after, training_examples: train.len(), examples })
}

/// The loss of an example, without label smoothing and class weights.
fn example_loss(loss: Loss, examples: &Examples, example: u32, outputs: &[f32]) -> f64 {
    let targets = examples.targets.select(&[example], examples.outputs);
    match (&targets, loss.link()) {
        (Targets::Classes(labels), Link::Softmax | Link::Sigmoid) => {
            let probability = outputs.get(labels[0] as usize).map_or(0.0, |&p| f64::from(p));
            // f32 cannot tell a smaller probability from 0.
            -probability.max(f64::from(f32::MIN_POSITIVE)).ln()
        }
        _ => {
            let objective = Objective { loss, ..Objective::default() };
            let outputs = softstep::reference::widen(outputs);
            softstep::reference::losses(&objective, &outputs, &targets, outputs.len())
                .first()
                .copied()
                .unwrap_or(f64::NAN)
        }
    }
}

/// Formats the prediction of the outputs.
fn prediction(run: &Rerun, outputs: &[f32]) -> String {
    match &*run.data.train.targets {
        Targets::Classes(_) => {
            let largest = (0..outputs.len()).rev().max_by(|&a, &b| outputs[a].total_cmp(&outputs[b]));
            run.record.class_name(largest.unwrap_or_default())
        }
        Targets::Values(_) => values(run, outputs),
    }
}

/// Formats the target of an example.
fn target(run: &Rerun, example: u32) -> String {
    let train = &run.data.train;
    match &*train.targets {
        Targets::Classes(labels) => run.record.class_name(labels[example as usize] as usize),
        Targets::Values(all) => values(run, &all[example as usize * train.outputs..][..train.outputs]),
    }
}

/// Real values in the units of their column.
fn values(run: &Rerun, values: &[f32]) -> String {
    let own = in_own_units(run.data.preprocessing.as_ref(), values);
    own.into_iter().map(|value| number(value, 5)).collect::<Vec<_>>().join(", ")
}

fn title(run: &Rerun) -> String {
    let folder = &run.record.folder;
    let name = folder.canonicalize().unwrap_or_else(|_| folder.clone());
    name.file_name().map_or_else(|| "run".into(), |name| html::name(&name.to_string_lossy()))
}

/// The model reads images, and an example is one.
fn image(run: &Rerun) -> Option<[usize; 2]> {
    run.data.image
}

/// Examples as pictures, or as rows of a table: with a headline each, and figures by name.
fn examples(run: &Rerun, caption: &str, header: &[&str], shown: &[(u32, Vec<String>)]) -> Markup {
    let looks: Vec<Input> = shown.iter().map(|(example, _)| look_of(&run.data, &run.data.train, *example)).collect();
    if matches!(looks.first(), Some(Input::Picture(_))) {
        return html! {
            div.pictures.named {
                @for ((example, cells), look) in shown.iter().zip(&looks) {
                    @if let Input::Picture(address) = look {
                        figure {
                            img src=(address) alt=(format!("training example {example}, {} {}", header[0], cells[0]));
                            figcaption {
                                b { (cells[0]) }
                                @for (name, cell) in header.iter().zip(cells).skip(1) { br; (name) " " (cell) }
                                br; span.note { "example " (count(*example as usize)) }
                            }
                        }
                    }
                }
            }
        };
    }
    let columns = match looks.first() {
        Some(Input::Row(row)) => row.iter().map(|(name, _)| name.clone()).collect(),
        _ => Vec::new(),
    };
    let header: Vec<String> = ["example"].iter().chain(header).map(ToString::to_string).chain(columns).collect();
    let rows = shown.iter().zip(looks).map(|((example, cells), look)| {
        let row = match look {
            Input::Row(row) => row.into_iter().map(|(_, value)| value).collect(),
            Input::Picture(_) => Vec::new(),
        };
        [vec![count(*example as usize)], cells.clone(), row].concat()
    });
    table(caption, &header, rows)
}

fn page_of_step(run: &Rerun, found: &Inspected) -> String {
    let mean =
        |loss: fn(&ExampleStep) -> f64| found.examples.iter().map(loss).sum::<f64>() / found.examples.len() as f64;
    let (before, after) = (mean(|example| example.loss_before), mean(|example| example.loss_after));
    let same = found.recorded_loss.is_some_and(|recorded| (recorded as f32).to_bits() == found.loss.to_bits());
    let recorded = match found.recorded_loss {
        _ if same => "The loss has the bits that the run recorded.".into(),
        Some(recorded) => {
            format!("The run recorded a loss of {recorded}; computed here it is {}: the bits differ.", found.loss)
        }
        None => "The run recorded no loss for this step.".into(),
    };
    let from = match found.from {
        0 => "from the start of the run on".into(),
        step => format!("from the checkpoint of step {} on", count(step)),
    };
    let name = title(run);
    let body = html! {
        h1 { "Step " (count(found.step)) " of " (name) }
        p.lead { "data " (html::name(&run.record.config.data)) " · model " (model_summary::model_name(&run.start.architecture))
            " · computed again " (from) }
        p { (recorded) }
        (tiles(&[
            ("loss before the update".into(), number(before, 4)),
            ("after it, on the same batch".into(), number(after, 4)),
            ("learning rate".into(), number(found.learning_rate.into(), 4)),
            ("examples".into(), count(found.examples.len())),
            ("epoch".into(), count(found.epoch)),
        ]))
        @if let Some(what_if) = &found.what_if { (section("What if", &what_if_plot(found, what_if))) }
        (section("Layers", &layers(found)))
        (section("Most changed weights of the first layer", &weights(run, found)))
        (section("The batch", &batch(run, found)))
        footer { "Made by softstep " (env!("CARGO_PKG_VERSION")) ". The whole run again: " code { (shell::reproduce_command(&run.record.folder)) } }
    };
    html::document(&format!("Step {} of {name} – softstep", found.step), "en", &body)
}

fn what_if_plot(found: &Inspected, what_if: &WhatIf) -> Markup {
    let recorded: Vec<[f64; 2]> =
        what_if.losses.iter().filter_map(|&(step, recorded, _)| Some([step as f64, recorded?])).collect();
    let other = what_if.losses.iter().map(|&(step, _, loss)| [step as f64, f64::from(loss)]).collect();
    let mean = |points: &[[f64; 2]]| points.iter().map(|point| point[1]).sum::<f64>() / points.len().max(1) as f64;
    let changes = html::name(&what_if.settings);
    let series = [
        Series { name: "as recorded".into(), colour: 0, mark: Mark::Line, points: recorded },
        Series { name: format!("with {changes}"), colour: 1, mark: Mark::Line, points: other },
    ];
    let summary = format!(
        "The mean over {} is {} as recorded, and {} with {changes}.",
        format::counted(what_if.losses.len(), "step"),
        number(mean(&series[0].points), 3),
        number(mean(&series[1].points), 3),
    );
    let plot = Plot {
        title: "Loss of each step",
        summary: &summary,
        x: Axis { label: "step", whole: true, ..Axis::default() },
        y: Axis::default(),
        series: &series,
        note: "",
    };
    html! {
        p { "From step " (count(found.step)) " on, with the examples in the same order. " (summary) }
        div.plots { (plot.figure()) }
    }
}

fn layers(found: &Inspected) -> Markup {
    let header =
        ["layer", "norm of the gradient", "of the update", "of the weights", "update / weights"].map(String::from);
    let rows = found.layers.iter().map(|layer| {
        let LayerStep { layer, gradient_norm, weight_norm, update_norm } = layer;
        let share = update_norm / weight_norm;
        vec![
            layer.clone(),
            number(*gradient_norm, 4),
            number(*update_norm, 4),
            number(*weight_norm, 4),
            if share.is_finite() { number(share, 2) } else { "–".into() },
        ]
    });
    html! {
        (table("Gradient and update of each layer", &header, rows))
        (note("L2 norms over weights and biases. The gradient is that of the mean loss, in f64, before clipping and weight decay; \
            the update is what the device made of it, with momentum. An update of a thousandth of the weights is common."))
    }
}

fn weights(run: &Rerun, found: &Inspected) -> Markup {
    let [before, after] = [&found.before.parameters, &found.after].map(|parameters| &parameters.layers[0]);
    let (inputs, outputs) = (before.inputs, before.outputs);
    let change = |output: usize| -> Vec<f32> {
        let at = |input: usize| after.values[input * outputs + output] - before.values[input * outputs + output];
        (0..inputs).map(at).collect()
    };
    let first = Plan::new(&run.start.architecture).nodes.into_iter().find(|node| node.weights == Some(0));
    // Rows and columns of what an output looks at; the rest of its weights are channels.
    let size = match first.map(|node| node.operation) {
        Some(Operation::Conv2d(window)) => Some([window.size, window.size]),
        Some(Operation::Linear) if run.start.architecture.input().len() == inputs => image(run),
        _ => None,
    };
    let size = size.filter(|[rows, columns]| rows * columns > 1 && inputs.is_multiple_of(rows * columns));
    let Some(size) = size else {
        let header = ["input", "output", "before", "after", "change"].map(String::from);
        let name = |input: usize| if input == inputs { "bias".into() } else { format!("{input}") };
        let rows = found.weights.iter().map(|weight| {
            let numbers = [weight.before, weight.after, weight.after - weight.before];
            let numbers = numbers.map(|value| number(value.into(), 4));
            [vec![name(weight.input), weight.output.to_string()], numbers.to_vec()].concat()
        });
        return html! {
            (table("The weights that changed most", &header, rows))
            (note("Inputs are features of an example and outputs those of the layer, counted from 0."))
        };
    };
    let channels = inputs / (size[0] * size[1]);
    let mut most: Vec<(f64, usize)> = (0..outputs)
        .map(|output| (change(output).iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt(), output))
        .collect();
    most.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    most.truncate(PICTURES);
    let planes: Vec<(f64, usize, Vec<f32>)> = most
        .into_iter()
        .map(|(norm, output)| (norm, output, change(output).chunks(channels).map(|pixel| pixel.iter().sum()).collect()))
        .collect();
    let largest = planes.iter().flat_map(|(_, _, plane)| plane).fold(0.0f32, |most, value| most.max(value.abs()));
    let is_last = matches!(run.start.architecture.layers(), [Layer::Linear { .. }]);
    let name = |output: usize| if is_last { run.record.class_name(output) } else { format!("output {output}") };
    html! {
        p { "What the step added to the weights of each output, pixel by pixel: " b { "orange" } " is an increase, " b { "blue" }
            " a decrease, in full colour at ±" (number(largest.into(), 2)) "." }
        div.pictures {
            @for (norm, output, plane) in &planes {
                @if let Ok(address) = picture::diverging(plane, size, largest) {
                    figure {
                        img src=(address) alt=(format!("change of the weights of {}", name(*output)));
                        figcaption { (name(*output)) br; "norm " (format!("{norm:.1e}")) }
                    }
                }
            }
        }
        @if planes.len() < outputs { (note(&format!("Of {} outputs these changed most.", count(outputs)))) }
        @if channels > 1 { (note("The channels of a pixel are summed.")) }
    }
}

fn batch(run: &Rerun, found: &Inspected) -> Markup {
    let shown: Vec<(u32, Vec<String>)> = found
        .examples
        .iter()
        .take(BATCH)
        .map(|example| {
            let losses = [example.loss_before, example.loss_after].map(|loss| number(loss, 3));
            (example.example, [vec![example.target.clone()], losses.to_vec()].concat())
        })
        .collect();
    let better = found.examples.iter().filter(|example| example.loss_after < example.loss_before).count();
    let is_changed = run.config.augment.is_some();
    html! {
        p { "The highest loss first. The step lowered the loss of " (count(better)) " of "
            (count(found.examples.len())) " examples." }
        (examples(run, "The batch with its losses", &["target", "before", "after"], &shown))
        @if shown.len() < found.examples.len() { (note(&format!("The first {BATCH} of {}.", count(found.examples.len())))) }
        (note("Losses are those of the step, in f64: with its dropout and batch statistics, label smoothing and class weights, \
            before and after the update. Examples are counted from 0 in the training part."))
        @if is_changed { (note("The step saw these images augmented at random by --augment; here they are shown unchanged.")) }
    }
}

fn page_of_run(run: &Rerun, found: &Hardest) -> String {
    let name = title(run);
    let shown: Vec<(u32, Vec<String>)> = found
        .examples
        .iter()
        .map(|hard| {
            let losses = [hard.mean_loss, hard.last_loss].map(|loss| number(loss, 3));
            (hard.example, [vec![hard.target.clone(), hard.predicted.clone()], losses.to_vec()].concat())
        })
        .collect();
    let disputed = found.examples.iter().filter(|hard| hard.target != hard.predicted).count();
    let body = html! {
        h1 { "The hardest examples of " (name) }
        p.lead { "data " (html::name(&run.record.config.data)) " · model " (model_summary::model_name(&run.start.architecture))
            " · " (count(found.training_examples)) " training examples, evaluated " (format::counted(found.after.len(), "time")) }
        p { "These training examples had the highest mean of their losses after each epoch. A model fits what it is trained on, and \
            an example that it has not fitted by the end is often labelled wrongly, or hard for people, too." }
        (section("Likely label errors", &html! {
            p { "In the end the model takes " (count(disputed)) " of these " (count(shown.len())) " for something else." }
            (examples(run, "Examples with the highest loss", &["labelled", "taken for", "mean loss", "last loss"], &shown))
            (note("Losses are without label smoothing and class weights, dropout and augmentation. Examples are counted from 0 in the training part."))
        }))
        footer { "Made by softstep " (env!("CARGO_PKG_VERSION")) "." }
    };
    html::document(&format!("The hardest examples of {name} – softstep"), "en", &body)
}
