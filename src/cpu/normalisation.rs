//! Batch normalisation of each channel. Sums over a batch are those of fixed parts of its shards, in f64, in fixed order.

use std::ops::Range;

use super::workers::{Arch, Workers};
use crate::error::Result;
use crate::model::Statistics;
use crate::reference::{BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM};
use crate::shards::Cut;

/// Mean and inverse standard deviation of each channel, `[channels]` each.
#[derive(Clone, Default)]
pub struct Normalisation {
    mean: Vec<f32>,
    /// 1 / √(variance + ε).
    inverse: Vec<f32>,
}

/// A batch, `[rows, stride]`, of which the first `length` numbers of a row count: places of channels.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    pub values: &'a [f32],
    pub stride: usize,
    pub length: usize,
}

impl<'a> Batch<'a> {
    fn row(self, row: usize) -> &'a [f32] {
        &self.values[row * self.stride..][..self.length]
    }

    /// Sums of each channel over the batch that these rows are this rank's part of: `add` adds those of a row.
    fn sums<const N: usize>(
        self,
        workers: Workers,
        cut: Cut<'_>,
        channels: usize,
        add: impl Fn(usize, &mut [[f64; N]]) + Sync,
    ) -> Result<Vec<[f64; N]>> {
        let shards: Vec<Range<usize>> = cut.own().collect();
        let mut total = vec![[0.0; N]; channels];
        cut.sum(total.as_flattened_mut(), &mut Vec::new(), |shard, total| {
            let shard = shards[shard].clone();
            let parts = workers.parts_of_shard(shard.len(), cut.count());
            let mut sums = vec![[0.0; N]; parts.len() * channels];
            workers.for_each(
                self.stride * shard.len(),
                parts.into_iter().zip(sums.chunks_mut(channels)),
                |(rows, sums)| {
                    rows.for_each(|row| add(shard.start + row, sums));
                },
            );
            let mut sums = sums.as_flattened().chunks(N * channels);
            match sums.next() {
                Some(first) => total.copy_from_slice(first),
                None => total.fill(0.0),
            }
            sums.for_each(|part| total.iter_mut().zip(part).for_each(|(total, part)| *total += part));
        })?;
        Ok(total)
    }
}

impl Normalisation {
    /// Returns the normalisation of evaluation, by running statistics.
    pub fn of_statistics(statistics: &Statistics) -> Self {
        let inverse = statistics.variance.iter().map(|&variance| inverse_root(f64::from(variance))).collect();
        Self { mean: statistics.mean.clone(), inverse }
    }

    /// That of a batch, of which `batch` are this rank's rows; the running statistics take it in.
    pub fn of_batch(workers: Workers, batch: Batch<'_>, cut: Cut<'_>, statistics: &mut Statistics) -> Result<Self> {
        let channels = statistics.mean.len();
        let count = (cut.batch * batch.length / channels) as f64;
        let arch = workers.arch;
        let sums = batch.sums(workers, cut, channels, |row, sums| {
            add_each(arch, batch.row(row), sums, |value, _, [sum]| *sum += f64::from(value));
        })?;
        let means: Vec<f64> = sums.iter().map(|[sum]| sum / count).collect();
        let squares = batch.sums(workers, cut, channels, |row, sums| {
            add_each(arch, batch.row(row), sums, |value, channel, [sum]| {
                let centered = f64::from(value) - means[channel];
                *sum += centered * centered;
            });
        })?;
        let variances: Vec<f64> = squares.iter().map(|[sum]| sum / count).collect();
        let unbiased = count / (count.max(2.0) - 1.0);
        let average = |old: &mut f32, new: f64| {
            *old = ((1.0 - BATCH_NORM_MOMENTUM) * f64::from(*old) + BATCH_NORM_MOMENTUM * new) as f32;
        };
        statistics.mean.iter_mut().zip(&means).for_each(|(old, &new)| average(old, new));
        statistics.variance.iter_mut().zip(&variances).for_each(|(old, &new)| average(old, unbiased * new));
        Ok(Self {
            mean: means.iter().map(|&mean| mean as f32).collect(),
            inverse: variances.iter().map(|&variance| inverse_root(variance)).collect(),
        })
    }

    /// `γ · normalised + β` of a row.
    pub fn forward(&self, arch: Arch, weights: &[f32], input: &[f32], output: &mut [f32]) {
        let (scale, shift) = weights.split_at(self.mean.len());
        arch.dispatch(
            #[inline(always)]
            || {
                for (input, output) in input.chunks_exact(scale.len()).zip(output.chunks_exact_mut(scale.len())) {
                    let normalised = self.normalised(input).zip(output.iter_mut());
                    for ((normalised, output), (scale, shift)) in normalised.zip(scale.iter().zip(shift)) {
                        *output = scale * normalised + shift;
                    }
                }
            },
        );
    }

    #[inline(always)]
    fn normalised(&self, place: &[f32]) -> impl Iterator<Item = f32> {
        place.iter().zip(self.mean.iter().zip(&self.inverse)).map(|(value, (mean, inverse))| (value - mean) * inverse)
    }

    /// The gradients by γ and β, `[2, channels]`: sums over the batch of the gradient times the normalised values, and of
    /// the gradient.
    pub fn weight_gradient(
        &self,
        workers: Workers,
        input: Batch<'_>,
        cut: Cut<'_>,
        d_output: &[f32],
    ) -> Result<Vec<f32>> {
        let sums = input.sums(workers, cut, self.mean.len(), |row, sums| {
            let (input, d_output) = (input.row(row), &d_output[row * input.length..][..input.length]);
            for (input, d_output) in input.chunks_exact(sums.len()).zip(d_output.chunks_exact(sums.len())) {
                for ((normalised, &d), [along, sum]) in self.normalised(input).zip(d_output).zip(&mut *sums) {
                    *along += f64::from(d) * f64::from(normalised);
                    *sum += f64::from(d);
                }
            }
        })?;
        Ok(sums.iter().map(|[along, _]| *along as f32).chain(sums.iter().map(|[_, sum]| *sum as f32)).collect())
    }

    /// The gradient by a row from that by its output: `γ / √(variance + ε) · (d − mean(d) − x̂ mean(d x̂))`. `gradient` is
    /// that by the weights, of `count` values of each channel.
    pub fn backward(
        &self,
        arch: Arch,
        weights: &[f32],
        (gradient, count): (&[f32], usize),
        [input, d_output]: [&[f32]; 2],
        d_input: &mut [f32],
    ) {
        let channels = self.mean.len();
        let (along, sum) = gradient.split_at(channels);
        let share = 1.0 / count as f32;
        arch.dispatch(
            #[inline(always)]
            || {
                let places = input.chunks_exact(channels).zip(d_output.chunks_exact(channels));
                for ((input, d_output), d_input) in places.zip(d_input.chunks_exact_mut(channels)) {
                    let terms = self.normalised(input).zip(along.iter().zip(sum));
                    let scales = weights.iter().zip(&self.inverse);
                    let values = d_output.iter().zip(d_input);
                    for ((x, (along, sum)), ((scale, inverse), (d, d_input))) in terms.zip(scales.zip(values)) {
                        *d_input = scale * inverse * (d - share * sum - x * (share * along));
                    }
                }
            },
        );
    }
}

fn inverse_root(variance: f64) -> f32 {
    (1.0 / (variance + BATCH_NORM_EPSILON).sqrt()) as f32
}

/// Adds each number of a row to the sums of its channel.
fn add_each<const N: usize>(arch: Arch, row: &[f32], sums: &mut [[f64; N]], add: impl Fn(f32, usize, &mut [f64; N])) {
    arch.dispatch(
        #[inline(always)]
        || {
            for place in row.chunks_exact(sums.len()) {
                for (channel, (&value, sum)) in place.iter().zip(&mut *sums).enumerate() {
                    add(value, channel, sum);
                }
            }
        },
    );
}
