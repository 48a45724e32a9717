//! The lesson's experiments: they compute every number on the page; the words are elsewhere.

use std::f64::consts::TAU;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Result, bail};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use softstep::data::csv::{self, TableOptions, Task};
use softstep::data::{
    self, Data, Encoding, Examples, Features, Preprocessing, Scale, TableFormat, TargetEncoding, Targets, TestPart,
};
use softstep::loss::{Link, Loss};
use softstep::model::{Activation, Parameters};
use softstep::optimizer::{Schedule, Sgd};
use softstep::trainer::TrainingConfig;

use super::runner::{Runner, Trained, linear};

/// Random generator of an experiment.
struct Random(ChaCha8Rng);

impl Random {
    /// Creates the generator with the experiment's own stream of the seed.
    fn new(seed: u64, stream: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream);
        Self(random)
    }

    /// Uniform random number in 0..1.
    fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Normal random number of mean 0 and deviation 1 (Box and Muller 1958).
    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.uniform()).ln()).sqrt() * (TAU * self.uniform()).cos()
    }
}

/// Examples for prediction, whose targets are placeholders.
fn unlabelled(inputs: Vec<f32>, features: usize, outputs: usize, loss: Loss) -> softstep::Result<Examples> {
    let count = inputs.len() / features;
    let targets = match loss.link() {
        Link::Identity => Targets::Values(vec![0.0; count * outputs]),
        Link::Sigmoid => return Examples::new(inputs, vec![0u32; count], features, 2),
        Link::Softmax => Targets::Classes(vec![0; count]),
    };
    Examples::new(inputs, targets, features, outputs)
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// `count` equally spaced numbers from `low` to `high`.
fn range(low: f64, high: f64, count: usize) -> Vec<f64> {
    (0..count).map(|index| low + (high - low) * index as f64 / (count - 1) as f64).collect()
}

/// A matrix `[rows, columns]`, row-major.
#[derive(Clone, Debug, Serialize)]
pub struct Matrix {
    pub columns: usize,
    pub values: Vec<f64>,
}

impl Matrix {
    fn new(columns: usize, values: &[f32]) -> Self {
        Self { columns, values: wide(values) }
    }

    pub fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks(self.columns)
    }

    pub fn at(&self, row: usize, column: usize) -> f64 {
        self.values[row * self.columns + column]
    }
}

// House prices.

/// Constants of the law of the prices, in thousands: `BASE + PER_AREA · area − PER_YEAR · age`, plus noise.
const BASE: f64 = 60.0;
const PER_AREA: f64 = 2.5;
const PER_YEAR: f64 = 1.5;
const PRICE_NOISE: f64 = 20.0;
const HOUSES: usize = 400;
const HOUSE_RATES: [f32; 4] = [0.001, 0.005, 0.02, 0.1];

/// The house prices, or the user's own table: a regression with mean squared error.
#[derive(Debug, Serialize)]
pub struct Houses {
    /// File of the user's table; `None` for houses that follow the law.
    pub file: Option<String>,
    /// Name of the target column.
    pub target: String,
    pub train: usize,
    pub test: usize,
    pub epochs: usize,
    pub batch_size: usize,
    pub learning_rate: f32,
    /// Contribution of each feature to the target, in the units of both.
    pub terms: Vec<Term>,
    /// Target where all numbers are 0 and no category contributes.
    pub intercept: Factor,
    /// Target where every number has the mean of the training part, and every category its share.
    pub at_means: f64,
    /// R² on the test part: the share of its variance that the fit explains.
    pub r_squared: f64,
    /// Root mean squared error on the test part, in the units of the target.
    pub rmse: f64,
    /// Standard deviation of the target in the training part.
    pub deviation: f64,
    /// Target and prediction of each test example.
    pub predictions: Vec<[f64; 2]>,
    /// Mean squared error on the test part after each epoch, in squared deviations.
    pub losses: Vec<f64>,
    /// Area and price of each test example; empty for a user's table.
    pub areas: Vec<[f64; 2]>,
    pub noise: f64,
}

/// A coefficient of a fit.
#[derive(Debug, Serialize)]
pub struct Factor {
    pub fitted: f64,
    /// Coefficient of the law, if there is one.
    pub law: Option<f64>,
}

/// Contribution of a feature to the target.
#[derive(Debug, Serialize)]
pub struct Term {
    /// Name of the column.
    pub name: String,
    /// The category that makes the contribution, relative to the mean of the training part; `None` for the contribution
    /// per unit of a number.
    pub category: Option<String>,
    /// The coefficient. The fitted one is NaN if the feature has a single value in the training part, from which
    /// nothing can be learned.
    #[serde(flatten)]
    pub factor: Factor,
}

impl Houses {
    /// Price of a house by the fit or by the law.
    pub fn price(&self, fitted: bool, area: f64, age: f64) -> f64 {
        let factor = |factor: &Factor| if fitted { factor.fitted } else { factor.law.unwrap_or(f64::NAN) };
        let [area_term, age_term] = &self.terms[..] else { return f64::NAN };
        factor(&self.intercept) + factor(&area_term.factor) * area + factor(&age_term.factor) * age
    }
}

/// Results of all experiments.
#[derive(Debug, Serialize)]
pub struct Lesson {
    pub houses: Houses,
    pub softmax: Softmax,
    pub tumours: Tumours,
    pub two_classes: TwoClasses,
    /// Results with a linear model, and with a hidden layer.
    pub digits: [Digits; 2],
    pub one_step: OneStep,
}

/// The user's table.
pub struct Table<'a> {
    pub file: &'a Path,
    pub options: TableOptions,
}

/// Generates a table of houses that follow the law.
fn sample_houses(seed: u64) -> softstep::Result<Data> {
    let mut random = Random::new(seed, 1);
    let mut text = String::from("area,age,price\n");
    for _ in 0..HOUSES {
        let (area, age) = ((40.0 + 120.0 * random.uniform()).round(), (50.0 * random.uniform()).floor());
        let price = BASE + PER_AREA * area - PER_YEAR * age + PRICE_NOISE * random.normal();
        let _ = writeln!(text, "{area},{age},{price:.1}");
    }
    let options = TableOptions {
        target: "price".into(),
        task: Some(Task::Regression),
        test: TestPart::Share(0.25),
        ..TableOptions::default()
    };
    csv::read("houses", text.as_bytes(), &options, seed)
}

/// Mean of each feature.
fn means(examples: &Examples) -> Vec<f64> {
    let mut means = vec![0.0; examples.features];
    for example in 0..examples.len() {
        means.iter_mut().zip(examples.input(example)).for_each(|(mean, value)| *mean += value / examples.len() as f64);
    }
    means
}

/// Terms of the price in the units of their columns.
struct HouseTerms {
    terms: Vec<Term>,
    intercept: f64,
    /// Price of a house with the mean of every column.
    at_means: f64,
}

/// Converts `weights`, which are in units of the price, to the units of the columns.
fn house_terms(
    format: &TableFormat,
    train: &Examples,
    mean_price: f64,
    weights: &[f64],
    is_sample: bool,
) -> HouseTerms {
    let shares = means(train);
    let law = |name: &str| match (is_sample, name) {
        (true, "area") => Some(PER_AREA),
        (true, "age") => Some(-PER_YEAR),
        _ => None,
    };
    let mut terms = Vec::new();
    let mut at_means = mean_price + weights[train.features];
    let mut intercept = at_means;
    let mut first = 0;
    for column in &format.columns {
        let term = |category, fitted| Term {
            name: column.name.clone(),
            category,
            factor: Factor { fitted, law: law(&column.name) },
        };
        match &column.encoding {
            Encoding::Standardised(of_column) => {
                // The weight of a feature that is 0 everywhere keeps its initial value.
                let constant = (0..train.len()).all(|example| train.input(example).nth(first) == Some(0.0));
                let fitted = if constant { f64::NAN } else { weights[first] / of_column.deviation };
                intercept -= if constant { 0.0 } else { fitted * of_column.mean };
                terms.push(term(None, fitted));
                if column.marks_gaps {
                    let (share, weight) = (shares[first + 1], weights[first + 1]);
                    at_means += weight * share;
                    terms.push(term(Some("(missing)".into()), weight));
                }
                first += column.features();
            }
            // One of the categories is always 1, so a constant could be moved between all their weights and the bias:
            // only the differences are learned.
            Encoding::OneHot(texts) => {
                let next = first + texts.len();
                let mean: f64 = weights[first..next].iter().zip(&shares[first..next]).map(|(w, share)| w * share).sum();
                at_means += mean;
                intercept += mean;
                terms.extend(
                    texts.iter().zip(&weights[first..next]).map(|(text, w)| term(Some(text.clone()), w - mean)),
                );
                first = next;
            }
        }
    }
    HouseTerms { terms, intercept, at_means }
}

pub async fn houses(runner: &Runner, table: Option<&Table<'_>>, seed: u64) -> Result<Houses> {
    let data = match table {
        Some(Table { file, options }) => csv::load(file, options, seed)?,
        None => sample_houses(seed)?,
    };
    let Some(Preprocessing::Table(format)) = &data.preprocessing else { bail!("{} is not a table", data.name) };
    let TargetEncoding::Standardised(scale) = format.encoding else {
        bail!("{}: --target {} has classes, where a number is to be learned", data.name, format.target)
    };
    // A large table gets enough steps from fewer epochs of larger batches.
    let config = TrainingConfig::default()
        .epochs((16_000 / data.train.len()).clamp(5, 100))
        .batch_size((data.train.len() / 15).clamp(20, 512))
        .seed(seed)
        .loss(Loss::MeanSquaredError);
    let learning_rate = runner.best_rate(&config, &HOUSE_RATES, &data.train, |run, _| -run.test_loss()).await?;
    let config = config.learning_rate(learning_rate);
    let run = runner.train(&config, None, &data.train, &data.test).await?;
    let evaluation = run.tests.last();

    // Converts the fit back from standardised numbers: y = mean + deviation · (w · (x − mean_x) / deviation_x + bias).
    let weights: Vec<f64> =
        run.parameters.layers[0].values.iter().map(|&weight| f64::from(weight) * scale.deviation).collect();
    let HouseTerms { terms, intercept, at_means } =
        house_terms(format, &data.train, scale.mean, &weights, table.is_none());

    let unscaled = |value: f32| scale.mean + scale.deviation * f64::from(value);
    let Targets::Values(targets) = &*data.test.targets else { bail!("{} has classes", data.name) };
    let areas = match (table, &*data.test.inputs, &format.columns[0].encoding) {
        (None, Features::Floats(inputs), Encoding::Standardised(area)) => inputs
            .chunks(data.test.features)
            .zip(targets)
            .map(|(input, &price)| [area.mean + area.deviation * f64::from(input[0]), unscaled(price)])
            .collect(),
        _ => Vec::new(),
    };
    Ok(Houses {
        file: table.map(|table| table.file.display().to_string()),
        target: format.target.clone(),
        train: data.train.len(),
        test: data.test.len(),
        epochs: config.epochs,
        batch_size: config.batch_size,
        learning_rate,
        terms,
        intercept: Factor { fitted: intercept, law: table.is_none().then_some(BASE) },
        at_means,
        r_squared: evaluation.and_then(|evaluation| evaluation.r_squared).unwrap_or(f64::NAN),
        rmse: run.test_loss().sqrt() * scale.deviation,
        deviation: scale.deviation,
        predictions: targets
            .iter()
            .zip(run.last_outputs())
            .map(|(&target, &output)| [unscaled(target), unscaled(output)])
            .collect(),
        losses: run.tests.iter().map(|test| test.loss).collect(),
        areas,
        noise: PRICE_NOISE,
    })
}

// Softmax.

/// Scores and their softmax.
#[derive(Debug, Serialize)]
pub struct Softmax {
    pub scores: Vec<f64>,
    pub probabilities: Vec<f64>,
    /// Probabilities after adding 10 to every score.
    pub shifted: Vec<f64>,
    /// Cross-entropy for each class as the label.
    pub losses: Vec<f64>,
}

pub async fn softmax(runner: &Runner) -> Result<Softmax> {
    // A model with a bias only: its outputs are these scores for any input.
    let scores = [3.0, 1.0, -3.0];
    let model = |more: f32| linear(1, 3, [0.0; 3].into_iter().chain(scores.map(|score| score + more)).collect());
    let loss = Loss::CrossEntropy;
    let [mut probabilities, mut shifted] = [Vec::new(), Vec::new()];
    for (more, of) in [(0.0, &mut probabilities), (10.0, &mut shifted)] {
        *of = wide(&runner.outputs(&model(more)?, loss, &unlabelled(vec![0.0], 1, 3, loss)?).await?);
    }
    let mut losses = Vec::new();
    for label in 0..3 {
        let example = Examples::new(vec![0.0], vec![label], 1, 3)?;
        losses.push(runner.step(&model(0.0)?, loss, &example, 1.0).await?.0.into());
    }
    Ok(Softmax { scores: wide(&scores), probabilities, shifted, losses })
}

// Tumours.

/// Constants of the law of the tumours, P(malignant | size) = sigmoid((size − BOUNDARY) / WIDTH), with sizes in
/// centimetres.
const BOUNDARY: f64 = 3.0;
const WIDTH: f64 = 0.3;
const TUMOURS: usize = 300;
const LARGEST: f64 = 20.0;
/// Number of tumours in a group of similar size.
const GROUP: usize = 20;

/// Tumour sizes with labels drawn from a law, and two models that learn the law.
#[derive(Debug, Serialize)]
pub struct Tumours {
    pub boundary: f64,
    pub width: f64,
    /// Size and label (1 is malignant).
    pub samples: Vec<[f64; 2]>,
    /// Mean size and share of malignant tumours in groups of similar size.
    pub shares: Vec<[f64; 2]>,
    /// Size and the law's probability.
    pub law: Vec<[f64; 2]>,
    /// Linear fit by mean squared error.
    pub line: Fit,
    /// Sigmoid fit by binary cross-entropy.
    pub sigmoid: Fit,
    pub group: usize,
    pub steps: usize,
}

/// A model of the tumours, compared with the law.
#[derive(Debug, Serialize)]
pub struct Fit {
    pub learning_rate: f32,
    /// Size and output.
    pub curve: Vec<[f64; 2]>,
    /// The size at which the output is 1/2.
    pub boundary: f64,
    /// Distance of that size from the law's.
    pub boundary_error: f64,
    /// Mean distance of the output from the law's probability, over the samples.
    pub distance: f64,
    /// Number of samples on the wrong side of 1/2.
    pub wrong: usize,
    /// Lowest and highest output over the samples.
    pub outputs: [f64; 2],
}

/// The tumours, with the scale of their sizes.
pub struct Sample {
    sizes: Vec<f64>,
    labels: Vec<u32>,
    scale: Scale,
    seed: u64,
}

impl Sample {
    fn inputs(&self, sizes: &[f64]) -> Vec<f32> {
        sizes.iter().map(|&size| self.scale.apply(size)).collect()
    }

    fn examples(&self, loss: Loss) -> softstep::Result<Examples> {
        let inputs = self.inputs(&self.sizes);
        match loss.link() {
            Link::Identity => {
                Examples::new(inputs, self.labels.iter().map(|&label| label as f32).collect::<Vec<_>>(), 1, 1)
            }
            _ => Examples::new(inputs, self.labels.clone(), 1, 2),
        }
    }

    fn config(&self, loss: Loss, learning_rate: f32) -> TrainingConfig {
        TrainingConfig::default().epochs(100).batch_size(20).learning_rate(learning_rate).seed(self.seed).loss(loss)
    }

    /// Trains a model; returns its outputs for these sizes, and for the samples.
    async fn train(
        &self,
        runner: &Runner,
        config: &TrainingConfig,
        start: Option<&Parameters>,
        sizes: &[f64],
    ) -> Result<[Vec<f64>; 2]> {
        let examples = self.examples(config.loss)?;
        let run = runner.train(config, start, &examples, &examples).await?;
        let width = config.loss.outputs(&examples)?;
        let sizes = unlabelled(self.inputs(sizes), 1, width, config.loss)?;
        let curve = runner.outputs(&run.parameters, config.loss, &sizes).await?;
        Ok([malignant(config.loss, &curve), malignant(config.loss, run.last_outputs())])
    }
}

/// Outputs of mean squared error, or the second of two class probabilities.
fn malignant(loss: Loss, outputs: &[f32]) -> Vec<f64> {
    let width = if loss.link() == Link::Identity { 1 } else { 2 };
    outputs.chunks(width).map(|row| f64::from(row[width - 1])).collect()
}

/// The law's probability for each of these sizes; the law is a model as well.
async fn law(runner: &Runner, sizes: &[f64]) -> softstep::Result<Vec<f64>> {
    let model = linear(1, 1, vec![(1.0 / WIDTH) as f32, (-BOUNDARY / WIDTH) as f32])?;
    let inputs = sizes.iter().map(|&size| size as f32).collect();
    let loss = Loss::BinaryCrossEntropy;
    Ok(malignant(loss, &runner.outputs(&model, loss, &unlabelled(inputs, 1, 1, loss)?).await?))
}

/// Draws sizes with a long tail, in tenths of a centimetre, and a label for each from the law.
pub async fn sample_tumours(runner: &Runner, seed: u64) -> Result<Sample> {
    let mut random = Random::new(seed, 2);
    let mut sizes = Vec::new();
    while sizes.len() < TUMOURS {
        let size = (10.0 * 2.0 * random.normal().exp()).round() / 10.0;
        if (0.2..=LARGEST).contains(&size) {
            sizes.push(size);
        }
    }
    let labels = law(runner, &sizes).await?.iter().map(|&chance| u32::from(random.uniform() < chance)).collect();
    let Some(scale) = Scale::of(&sizes) else { bail!("tumour sizes that are no numbers") };
    Ok(Sample { sizes, labels, scale, seed })
}

pub async fn tumours(runner: &Runner, sample: &Sample) -> Result<Tumours> {
    let largest = sample.sizes.iter().copied().fold(0.0, f64::max);
    let grid = range(0.0, largest, 241);
    let at = |values: &[f64]| grid.iter().zip(values).map(|(&size, &value)| [size, value]).collect::<Vec<_>>();
    let chances = law(runner, &sample.sizes).await?;
    let fit = async |loss, learning_rate| -> Result<Fit> {
        let [curve, outputs] = sample.train(runner, &sample.config(loss, learning_rate), None, &grid).await?;
        let boundary = crossing(&at(&curve), 0.5);
        let distance = outputs.iter().zip(&chances).map(|(output, chance)| (output - chance).abs()).sum::<f64>();
        let wrong = outputs.iter().zip(&sample.labels).filter(|&(&output, &label)| (output > 0.5) != (label == 1));
        Ok(Fit {
            learning_rate,
            boundary,
            boundary_error: (boundary - BOUNDARY).abs(),
            distance: distance / outputs.len() as f64,
            wrong: wrong.count(),
            outputs: outputs
                .iter()
                .fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], &x| [low.min(x), high.max(x)]),
            curve: at(&curve),
        })
    };
    let mut samples: Vec<[f64; 2]> =
        sample.sizes.iter().zip(&sample.labels).map(|(&size, &label)| [size, f64::from(label)]).collect();
    samples.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let mean =
        |group: &[[f64; 2]]| [0, 1].map(|at| group.iter().map(|sample| sample[at]).sum::<f64>() / group.len() as f64);
    Ok(Tumours {
        boundary: BOUNDARY,
        width: WIDTH,
        shares: samples.chunks(GROUP).map(mean).collect(),
        samples,
        law: at(&law(runner, &grid).await?),
        line: fit(Loss::MeanSquaredError, 0.05).await?,
        sigmoid: fit(Loss::BinaryCrossEntropy, 1.0).await?,
        group: GROUP,
        steps: sample.config(Loss::BinaryCrossEntropy, 1.0).steps(TUMOURS),
    })
}

/// The x at which a rising curve first reaches a height; NaN if it never does.
fn crossing(curve: &[[f64; 2]], height: f64) -> f64 {
    let pair = curve.windows(2).find(|pair| pair[0][1] < height && pair[1][1] >= height);
    pair.map_or(f64::NAN, |pair| {
        let [[x0, y0], [x1, y1]] = [pair[0], pair[1]];
        x0 + (x1 - x0) * (height - y0) / (y1 - y0)
    })
}

// Two outputs or one.

/// Softmax over two outputs, compared with the sigmoid of their difference.
#[derive(Debug, Serialize)]
pub struct TwoClasses {
    /// Difference of two scores, and the probability of the second class by softmax over both.
    pub softmax: Vec<[f64; 2]>,
    /// Difference of two scores, and the sigmoid of the difference.
    pub sigmoid: Vec<[f64; 2]>,
    /// Largest distance between softmax and sigmoid.
    pub distance: f64,
    /// Difference of scores for probabilities of 0.6 and 0.4.
    pub example: f64,
    /// Softmax and sigmoid at that difference.
    pub example_probabilities: [Vec<f64>; 2],
    /// Tumour size and probability, by a model with two outputs and by a model with one, trained from equivalent
    /// starts.
    pub trained: [Vec<[f64; 2]>; 2],
    pub rates: [f32; 2],
    /// Largest distance between the probabilities of the two models.
    pub trained_distance: f64,
}

pub async fn two_classes(runner: &Runner, sample: &Sample) -> Result<TwoClasses> {
    let example = (0.6f64 / 0.4).ln();
    let mut differences = range(-8.0, 8.0, 65);
    differences.push(example);
    // Scores 1 − d/2 and 1 + d/2.
    let two = linear(1, 2, vec![-0.5, 0.5, 1.0, 1.0])?;
    let one = linear(1, 1, vec![1.0, 0.0])?;
    let inputs: Vec<f32> = differences.iter().map(|&difference| difference as f32).collect();
    let outputs = async |model, loss, width| -> Result<Vec<f64>> {
        Ok(wide(&runner.outputs(model, loss, &unlabelled(inputs.clone(), 1, width, loss)?).await?))
    };
    let mut softmax = outputs(&two, Loss::CrossEntropy, 2).await?;
    let mut sigmoid = outputs(&one, Loss::BinaryCrossEntropy, 1).await?;
    let distance = largest_distance(&softmax, &sigmoid);
    let last = 2 * (differences.len() - 1);
    let example_probabilities = [softmax.split_off(last), sigmoid.split_off(last)];
    let points = |probabilities: &[f64]| {
        differences.iter().zip(probabilities.chunks(2)).map(|(&difference, pair)| [difference, pair[1]]).collect()
    };

    let start = Parameters::new(&[1, 2], sample.seed)?;
    let difference = start.layers[0].values.chunks(2).map(|pair| pair[1] - pair[0]).collect();
    let grid = range(0.0, 8.0, 33);
    // The gradient with respect to the difference reaches both scores with opposite signs, so the difference moves
    // twice as far.
    let rates = [0.5, 1.0];
    let config = |loss, rate| sample.config(loss, rate);
    let [by_two, _] = sample.train(runner, &config(Loss::CrossEntropy, rates[0]), Some(&start), &grid).await?;
    let start = linear(1, 1, difference)?;
    let [by_one, _] = sample.train(runner, &config(Loss::BinaryCrossEntropy, rates[1]), Some(&start), &grid).await?;
    let at = |values: &[f64]| grid.iter().zip(values).map(|(&size, &value)| [size, value]).collect();
    Ok(TwoClasses {
        softmax: points(&softmax),
        sigmoid: points(&sigmoid),
        distance,
        example,
        example_probabilities,
        trained: [at(&by_two), at(&by_one)],
        rates,
        trained_distance: largest_distance(&by_two, &by_one),
    })
}

/// Largest distance between two numbers at the same index; NaN if one of them is NaN.
fn largest_distance(a: &[f64], b: &[f64]) -> f64 {
    let distances = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    distances
        .fold(0.0, |largest: f64, distance| if largest.is_nan() || distance <= largest { largest } else { distance })
}

// Digits.

const DIGIT_RATES: [f32; 8] = [0.0015, 0.005, 0.015, 0.05, 0.15, 0.5, 1.5, 5.0];

/// The bundled digits, learned with three losses.
#[derive(Debug, Serialize)]
pub struct Digits {
    pub hidden: Vec<usize>,
    pub train: usize,
    pub test: usize,
    pub epochs: usize,
    pub batch_size: usize,
    pub steps: usize,
    /// Learning rates that were tried.
    pub rates: Vec<f32>,
    /// Results of mean squared error on the class number.
    pub number: DigitRun,
    /// Results of mean squared error on one-hot labels.
    pub one_hot: DigitRun,
    pub cross_entropy: DigitRun,
    pub pictures: Vec<Picture>,
    /// Label and output of every test image, for the model of the class number.
    pub numbers: Vec<[f64; 2]>,
}

/// Results of one loss.
#[derive(Debug, Serialize)]
pub struct DigitRun {
    pub learning_rate: f32,
    /// Share of test images whose class, the nearest one or that of the largest output, is correct: before training and
    /// after each epoch.
    pub accuracies: Vec<f64>,
    /// Number of wrongly classified test images after training.
    pub wrong: usize,
    /// Loss of every step.
    pub losses: Vec<f64>,
    /// Test loss after each epoch.
    pub test_losses: Vec<f64>,
}

impl DigitRun {
    /// Accuracy after training.
    pub fn accuracy(&self) -> f64 {
        self.accuracies.last().copied().unwrap_or(f64::NAN)
    }
}

/// The first test image of a class.
#[derive(Debug, Serialize)]
pub struct Picture {
    pub label: u32,
    /// Pixels, `[8, 8]`; 255 is ink.
    #[serde(skip)]
    pub pixels: Vec<u8>,
    /// Output of the model of the class number.
    pub number: f64,
    /// Probabilities by the model trained with cross-entropy.
    pub probabilities: Vec<f64>,
}

/// Class of a row of outputs: the nearest class to a single output, otherwise the class of the largest output.
fn class(outputs: &[f32], classes: usize) -> u32 {
    match outputs {
        [number] => number.round().clamp(0.0, (classes - 1) as f32) as u32,
        _ => (1..outputs.len()).fold(0, |best, class| if outputs[class] > outputs[best] { class } else { best }) as u32,
    }
}

/// Number of rows whose class is the label.
fn right(outputs: &[f32], labels: &[u32], classes: usize) -> usize {
    let rows = outputs.chunks((outputs.len() / labels.len()).max(1));
    rows.zip(labels).filter(|&(row, &label)| class(row, classes) == label).count()
}

pub async fn digits(runner: &Runner, hidden: &[usize], seed: u64) -> Result<Digits> {
    let Data { train, test, .. } = data::digits()?;
    let (labels, classes) = (test.labels()?, test.outputs);
    let as_number = |examples: &Examples| -> softstep::Result<Examples> {
        let numbers: Vec<f32> = examples.labels()?.iter().map(|&label| label as f32).collect();
        Ok(Examples { targets: Targets::Values(numbers).into(), outputs: 1, ..examples.clone() })
    };
    let config = TrainingConfig::default().hidden(hidden.to_vec()).activation(Activation::Tanh).epochs(30).seed(seed);
    let learn = async |loss, train: &Examples, test: &Examples| -> Result<(DigitRun, Trained)> {
        let config = config.clone().loss(loss);
        let score = |run: &Trained, validation: &Examples| match &*validation.targets {
            Targets::Classes(labels) => right(run.last_outputs(), labels, classes) as f64,
            Targets::Values(numbers) => {
                let labels: Vec<u32> = numbers.iter().map(|&number| number as u32).collect();
                right(run.last_outputs(), &labels, classes) as f64
            }
        };
        let learning_rate = runner.best_rate(&config, &DIGIT_RATES, train, score).await?;
        let run = runner.train(&config.learning_rate(learning_rate), None, train, test).await?;
        let count = |outputs: &[f32]| right(outputs, labels, classes);
        let of_loss = DigitRun {
            learning_rate,
            accuracies: run.outputs.iter().map(|outputs| count(outputs) as f64 / labels.len() as f64).collect(),
            wrong: labels.len() - count(run.last_outputs()),
            losses: wide(&run.losses),
            test_losses: run.tests.iter().map(|test| test.loss).collect(),
        };
        Ok((of_loss, run))
    };
    let (number, by_number) = learn(Loss::MeanSquaredError, &as_number(&train)?, &as_number(&test)?).await?;
    let (one_hot, _) = learn(Loss::MeanSquaredError, &train, &test).await?;
    let (cross_entropy, by_cross_entropy) = learn(Loss::CrossEntropy, &train, &test).await?;
    let pictures = (0..classes as u32).filter_map(|class| {
        let example = labels.iter().position(|&label| label == class)?;
        Some(Picture {
            label: class,
            pixels: test.input(example).map(|value| (255.0 * value).round() as u8).collect(),
            number: by_number.last_outputs()[example].into(),
            probabilities: wide(&by_cross_entropy.last_outputs()[example * classes..][..classes]),
        })
    });
    Ok(Digits {
        pictures: pictures.collect(),
        numbers: labels
            .iter()
            .zip(by_number.last_outputs())
            .map(|(&label, &output)| [label.into(), output.into()])
            .collect(),
        hidden: hidden.to_vec(),
        train: train.len(),
        test: test.len(),
        epochs: config.epochs,
        batch_size: config.batch_size,
        steps: config.steps(train.len()),
        rates: DIGIT_RATES.to_vec(),
        number,
        one_hot,
        cross_entropy,
    })
}

// One step.

/// One training step on a tiny batch, with everything that it computes.
#[derive(Debug, Serialize)]
pub struct OneStep {
    pub learning_rate: f32,
    /// Inputs, `[3, 2]`.
    pub inputs: Matrix,
    pub labels: Vec<u32>,
    /// Weights, `[2 + 1, 3]`, with the bias as last row.
    pub weights: Matrix,
    /// Scores, `[3, 3]`; the next three matrices have the same shape.
    pub scores: Matrix,
    pub probabilities: Matrix,
    pub one_hot: Matrix,
    pub errors: Matrix,
    /// Loss of each example alone.
    pub losses: Vec<f64>,
    /// Mean loss that the step reported.
    pub loss: f64,
    /// Gradient, `[2 + 1, 3]`: (weights before − weights after) / learning rate.
    pub gradient: Matrix,
    pub updated: Matrix,
    pub updated_probabilities: Matrix,
    /// Mean loss of the next step.
    pub next_loss: f64,
    /// Losses of this step and of many after it.
    pub curve: Vec<f64>,
}

pub async fn one_step(runner: &Runner) -> Result<OneStep> {
    let learning_rate = 0.5;
    let inputs = [1.0, 2.0, 2.0, -1.0, -1.0, 1.0];
    let labels = vec![0, 2, 1];
    let examples = Examples::new(inputs.to_vec(), labels.clone(), 2, 3)?;
    let before = linear(2, 3, vec![0.5, -0.2, 0.1, -0.3, 0.4, 0.2, 0.0, 0.0, 0.0])?;
    let loss = Loss::CrossEntropy;
    // With mean squared error, the outputs of a model are its scores.
    let scores = runner.outputs(&before, Loss::MeanSquaredError, &examples).await?;
    let probabilities = runner.outputs(&before, loss, &examples).await?;
    let (mean_loss, after) = runner.step(&before, loss, &examples, learning_rate).await?;
    let (next_loss, _) = runner.step(&after, loss, &examples, learning_rate).await?;
    let updated_probabilities = runner.outputs(&after, loss, &examples).await?;
    let config = TrainingConfig::default()
        .epochs(100)
        .batch_size(3)
        .learning_rate(learning_rate)
        .optimizer(Sgd::default())
        .schedule(Schedule::Constant);
    let run = runner.train(&config, Some(&before), &examples, &examples).await?;

    let one_hot: Vec<f32> =
        labels.iter().flat_map(|&label| (0..3).map(move |class| f32::from(u8::from(class == label)))).collect();
    let [weights, updated] = [&before, &after].map(|model| &model.layers[0].values);
    let changed = weights.iter().zip(updated).map(|(before, after)| (before - after) / learning_rate);
    let errors = probabilities.iter().zip(&one_hot).map(|(p, label)| p - label);
    let mut losses = Vec::new();
    for (input, &label) in inputs.chunks(2).zip(&labels) {
        let example = Examples::new(input.to_vec(), vec![label], 2, 3)?;
        losses.push(runner.step(&before, loss, &example, learning_rate).await?.0.into());
    }
    Ok(OneStep {
        learning_rate,
        inputs: Matrix::new(2, &inputs),
        losses,
        labels,
        weights: Matrix::new(3, weights),
        scores: Matrix::new(3, &scores),
        errors: Matrix::new(3, &errors.collect::<Vec<_>>()),
        probabilities: Matrix::new(3, &probabilities),
        one_hot: Matrix::new(3, &one_hot),
        loss: mean_loss.into(),
        gradient: Matrix::new(3, &changed.collect::<Vec<_>>()),
        updated: Matrix::new(3, updated),
        updated_probabilities: Matrix::new(3, &updated_probabilities),
        next_loss: next_loss.into(),
        curve: wide(&run.losses),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_crosses_between_its_points_and_one_that_does_not_has_no_place() {
        assert_eq!(crossing(&[[0.0, 0.0], [1.0, 0.25], [3.0, 0.75], [4.0, 0.9]], 0.5), 2.0);
        assert!(crossing(&[[0.0, 0.6], [1.0, 0.9]], 0.5).is_nan());
        assert!(crossing(&[[0.0, 0.0], [1.0, f64::NAN]], 0.5).is_nan());
    }

    #[test]
    fn the_largest_distance_is_no_number_where_an_output_is_none() {
        assert_eq!(largest_distance(&[1.0, 5.0, 2.0], &[1.5, 2.0, 2.0]), 3.0);
        assert!(largest_distance(&[f64::NAN, 5.0], &[1.0, 2.0]).is_nan());
        assert!(largest_distance(&[5.0, f64::NAN], &[2.0, 1.0]).is_nan());
    }

    #[test]
    fn an_output_means_the_nearest_class_and_ten_mean_the_largest() {
        assert_eq!([-0.7, 0.4, 5.6, 12.0].map(|number| class(&[number], 10)), [0, 0, 6, 9]);
        assert_eq!(class(&[0.1, 0.7, 0.2], 3), 1);
        assert_eq!(right(&[1.2, 6.6, 3.0], &[1, 6, 3], 10), 2);
        assert_eq!(right(&[0.1, 0.9, 0.8, 0.2], &[1, 1], 2), 1);
    }

    #[test]
    fn random_numbers_have_their_distributions_and_depend_on_seed_and_experiment() {
        let sample = |seed, stream| {
            let mut random = Random::new(seed, stream);
            (0..10_000).map(|_| random.normal()).collect::<Vec<_>>()
        };
        let Scale { mean, deviation } = Scale::of(&sample(3, 1)).unwrap();
        assert!(mean.abs() <= 0.03 && (deviation - 1.0).abs() <= 0.03, "{mean} {deviation}");
        assert_eq!(sample(3, 1), sample(3, 1));
        assert_ne!(sample(3, 1), sample(4, 1));
        assert_ne!(sample(3, 1), sample(3, 2));
        let mut random = Random::new(0, 0);
        assert!((0..10_000).all(|_| (0.0..1.0).contains(&random.uniform())));
    }
}
