use softstep::gpu::kernels::{
    Epilogue, Hidden, add_sum, batch_moments, batch_norm, batch_norm_input_gradient, batch_norm_weight_gradient,
    batch_statistics, batch_sums, channel_sums, keep_sum, sum_parts,
};
use softstep::gpu::tensor::{Layout, WeightRows};
use softstep::model::{Activation, Shape, Window};
use softstep::reference::{BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM};

use super::conv2d::{read_tensor, tensor};
use super::element_wise::{assert_padding, unwritten_tensor};
use super::*;

/// Batch and shape: around the blocks of 4 channels, the 64 invocations of a workgroup, and the 32 pixels of a part.
const SHAPES: [(usize, Shape); 8] = [
    (2, Shape::Flat(1)),
    (31, Shape::Flat(3)),
    (33, Shape::Flat(4)),
    (130, Shape::Flat(65)),
    (1, Shape::Image { height: 5, width: 3, channels: 1 }),
    (7, Shape::Image { height: 4, width: 5, channels: 5 }),
    (3, Shape::Image { height: 7, width: 6, channels: 3 }),
    (65, Shape::Image { height: 13, width: 11, channels: 9 }),
];

/// Mean and variance of each channel, and its values.
fn statistics(x: &[f32], channels: usize) -> [Vec<f64>; 2] {
    let pixels = (x.len() / channels) as f64;
    let of_channel = |channel: usize| x.iter().skip(channel).step_by(channels).map(|&x| f64::from(x));
    let mean: Vec<f64> = (0..channels).map(|channel| of_channel(channel).sum::<f64>() / pixels).collect();
    let square = |channel: usize| of_channel(channel).map(|x| (x - mean[channel]).powi(2)).sum::<f64>() / pixels;
    let variance = (0..channels).map(square).collect();
    [mean, variance]
}

/// Values around a mean far from 0, which sums of squares would lose.
fn inputs(bench: &mut Bench, rows: usize, shape: Shape) -> Vec<f32> {
    bench.values(rows * shape.len(), 2.0).iter().map(|x| x + 10.0).collect()
}

fn narrow(values: impl IntoIterator<Item = f64>) -> Vec<f32> {
    values.into_iter().map(|value| value as f32).collect()
}

#[test]
fn batch_statistics_are_mean_and_variance_of_the_batch_and_a_share_of_the_running_ones() {
    let mut bench = Bench::new();
    for (rows, shape) in SHAPES {
        let channels = shape.channels();
        let x = inputs(&mut bench, rows, shape);
        let pixels = rows * shape.positions();
        let [mean, variance] = statistics(&x, channels);
        let before = bench.values(2 * channels, 1.0);
        let unbiased = variance.iter().map(|variance| variance * pixels as f64 / (pixels as f64 - 1.0));
        let running: Vec<f64> = mean
            .iter()
            .copied()
            .chain(unbiased)
            .zip(&before)
            .map(|(new, &old)| (1.0 - BATCH_NORM_MOMENTUM) * f64::from(old) + BATCH_NORM_MOMENTUM * new)
            .collect();

        for layout in [Layout::plain(shape), Layout::padded(shape, Window { size: 3, stride: 1, padding: 1 })] {
            let layout = if matches!(shape, Shape::Flat(_)) { Layout::with_ones(shape) } else { layout };
            let images = tensor(&bench, rows, layout, &x);
            let (found, kept) = (bench.unwritten(2, channels), bench.matrix(2, channels, &before));
            // The tensors may be larger than this batch.
            let sums = channel_sums(&bench.gpu, &found, pixels + 40).unwrap();
            for kernel in batch_statistics(&bench.gpu, &bench.steps, &images, &sums, &found, &kept) {
                bench.run(&kernel, batch(rows));
            }
            let name = bench.name(format!("batch_statistics {rows} of {shape}"));
            let expected = [mean.as_slice(), &variance].concat();
            oracle::assert_close(&name, &bench.read(&found), &expected, 2e-6, 1e-6);
            oracle::assert_close(&format!("{name}, running"), &bench.read(&kept), &running, 2e-6, 1e-6);
        }
    }
}

#[test]
fn sums_over_shards_give_the_same_statistics() {
    let mut bench = Bench::new();
    for (rows, shape) in SHAPES {
        let (channels, layout) = (shape.channels(), Layout::plain(shape));
        let pixels = rows * shape.positions();
        let x = inputs(&mut bench, rows, shape);
        let before = bench.values(2 * channels, 1.0);
        let whole = [bench.unwritten(2, channels), bench.matrix(2, channels, &before)];
        let parts = channel_sums(&bench.gpu, &whole[0], pixels).unwrap();
        let images = tensor(&bench, rows, layout, &x);
        for kernel in batch_statistics(&bench.gpu, &bench.steps, &images, &parts, &whole[0], &whole[1]) {
            bench.run(&kernel, batch(rows));
        }

        let first = (rows / 2).next_multiple_of(4).min(rows);
        let [found, running] = [bench.unwritten(2, channels), bench.matrix(2, channels, &before)];
        let [sums, kept] = [bench.unwritten(2, channels), bench.matrix(2, channels, &vec![0.0; 2 * channels])];
        let moments = batch_moments(&bench.gpu, &bench.steps, layout, &sums, &found, &running);
        for (centers, moment) in [&running, &found].into_iter().zip(moments) {
            for shard in [0..first, first..rows].into_iter().filter(|shard| !shard.is_empty()) {
                let images =
                    tensor(&bench, shard.len(), layout, &x[shard.start * shape.len()..shard.end * shape.len()]);
                let record = StepUniforms { others: (rows - shard.len()) as u32, ..batch(shard.len()) };
                bench.run(&batch_sums(&bench.gpu, &bench.steps, &images, centers, &parts), record);
                let store = Epilogue::Store(&sums);
                bench.run(&sum_parts(&bench.gpu, &bench.steps, &parts, WeightRows::plain(1), store), record);
                match shard.end < rows {
                    true => bench.run(&keep_sum(&bench.gpu, &bench.steps, &sums, &kept), record),
                    false if shard.start > 0 => bench.run(&add_sum(&bench.gpu, &bench.steps, &sums, &kept), record),
                    false => {}
                }
            }
            // The record of a rank whose first shard has no rows.
            bench.run(&moment, StepUniforms { others: rows as u32, ..batch(0) });
        }
        let name = bench.name(format!("batch_moments {rows} of {shape}"));
        oracle::assert_close(&name, &bench.read(&found), &oracle::widen(&bench.read(&whole[0])), 4e-6, 2e-6);
        let expected = oracle::widen(&bench.read(&whole[1]));
        oracle::assert_close(&format!("{name}, running"), &bench.read(&running), &expected, 4e-6, 2e-6);
    }
}

#[test]
fn batch_norm_and_its_gradients_match_the_formulas() {
    let mut bench = Bench::new();
    for (rows, shape) in SHAPES {
        let (channels, pixels) = (shape.channels(), rows * shape.positions());
        let x = inputs(&mut bench, rows, shape);
        let [mean, variance] = statistics(&x, channels);
        let w = bench.values(2 * channels, 1.0);
        let d_out = bench.values(x.len(), 1.0);
        let inverse: Vec<f64> = variance.iter().map(|variance| 1.0 / (variance + BATCH_NORM_EPSILON).sqrt()).collect();
        let normal: Vec<f64> = x
            .iter()
            .enumerate()
            .map(|(at, &x)| (f64::from(x) - mean[at % channels]) * inverse[at % channels])
            .collect();
        let scaled: Vec<f64> = normal
            .iter()
            .enumerate()
            .map(|(at, normal)| f64::from(w[at % channels]) * normal + f64::from(w[channels + at % channels]))
            .collect();
        let mut d_weights = vec![0.0; 2 * channels];
        for (at, (&d, normal)) in d_out.iter().zip(&normal).enumerate() {
            d_weights[at % channels] += f64::from(d) * normal;
            d_weights[channels + at % channels] += f64::from(d);
        }

        let plain = Layout::plain(shape);
        let images = tensor(&bench, rows, plain, &x);
        let device_statistics = bench.matrix(2, channels, &narrow(mean.iter().chain(&variance).copied()));
        let weights = bench.matrix(2, channels, &w);
        let d_outputs = tensor(&bench, rows, plain, &d_out);
        let stored = bench.unwritten(2, channels);
        let sums = channel_sums(&bench.gpu, &stored, pixels + 40).unwrap();
        let (gpu, steps) = (&bench.gpu, &bench.steps);
        let kernels = [
            batch_norm_weight_gradient(gpu, steps, &images, &device_statistics, &d_outputs, &sums),
            sum_parts(gpu, steps, &sums, WeightRows::plain(1), Epilogue::Store(&stored)),
        ];
        kernels.iter().for_each(|kernel| bench.run(kernel, batch(rows)));
        let name = bench.name(format!("batch_norm {rows} of {shape}"));
        let tolerance = 1e-6 * (pixels as f64).sqrt();
        oracle::assert_close(&format!("{name}, d_weights"), &bench.read(&stored), &d_weights, 1e-5, 10.0 * tolerance);

        for activation in Activation::ALL.map(Some).into_iter().chain([None]) {
            let name = format!("{name}, {activation:?}");
            let layout = match shape {
                Shape::Flat(_) => Layout::with_ones(shape),
                Shape::Image { .. } => Layout::padded(shape, Window { size: 5, stride: 1, padding: 2 }),
            };
            let (outputs, kept) = (unwritten_tensor(&bench, rows, layout), unwritten_tensor(&bench, rows, layout));
            let hidden = activation.map(|activation| Hidden::new(activation, &kept.matrix));
            let kernel = batch_norm(&bench.gpu, &bench.steps, &images, &device_statistics, &weights, hidden, &outputs);
            bench.run(&kernel, batch(rows));
            let expected =
                activation.map_or_else(|| scaled.clone(), |activation| oracle::activate(activation, &scaled));
            oracle::assert_close(&name, &read_tensor(&bench, &outputs, rows), &expected, 1e-5, 1e-5);
            assert_padding(&bench, &name, &outputs, rows);

            // Inputs that come from the activation of these values.
            let z = bench.values(x.len(), 3.0);
            let wide = oracle::widen(&z);
            let activated = activation.map_or_else(|| wide.clone(), |activation| oracle::activate(activation, &wide));
            let slopes = activation.map_or_else(|| vec![1.0; z.len()], |a| oracle::activation_derivative(a, &wide));
            let activated = narrow(activated);
            let [mean, variance] = statistics(&activated, channels);
            let d_w = bench.values(2 * channels, pixels as f32);
            let expected: Vec<f64> = (0..x.len())
                .map(|at| {
                    let channel = at % channels;
                    let inverse = 1.0 / (variance[channel] + BATCH_NORM_EPSILON).sqrt();
                    let normal = (f64::from(activated[at]) - mean[channel]) * inverse;
                    let [d_scale, d_shift] =
                        [d_w[channel], d_w[channels + channel]].map(|d| f64::from(d) / pixels as f64);
                    let centered = f64::from(d_out[at]) - d_shift - normal * d_scale;
                    f64::from(w[channel]) * inverse * centered * slopes[at]
                })
                .collect();
            let largest = variance.iter().map(|v| 1.0 / (v + BATCH_NORM_EPSILON).sqrt()).fold(1.0, f64::max);
            let inputs = tensor(&bench, rows, layout, &activated);
            let kept = tensor(&bench, rows, layout, &z);
            let hidden = activation.map(|activation| Hidden::new(activation, &kept.matrix));
            let device_statistics = bench.matrix(2, channels, &narrow(mean.into_iter().chain(variance)));
            let d_weights = bench.matrix(2, channels, &d_w);
            let d_inputs = unwritten_tensor(&bench, rows, plain);
            let kernel = batch_norm_input_gradient(
                &bench.gpu,
                &bench.steps,
                &d_outputs,
                &inputs,
                &device_statistics,
                &weights,
                &d_weights,
                hidden,
                &d_inputs,
            );
            bench.run(&kernel, batch(rows));
            let name = format!("{name}, d_inputs");
            oracle::assert_close(
                &name,
                &read_tensor(&bench, &d_inputs, rows),
                &expected,
                1e-4,
                2e-6 * largest * largest,
            );
            assert_padding(&bench, &name, &d_inputs, rows);
        }
    }
}

#[test]
fn batch_statistics_show_values_that_are_not_finite() {
    let mut bench = Bench::new();
    let shape = Shape::Flat(3);
    let images = tensor(&bench, 2, Layout::plain(shape), &[0.5, f32::NAN, -0.5, 1.0, 2.0, 3.0]);
    let (found, running) = (bench.unwritten(2, 3), bench.matrix(2, 3, &[0.0; 6]));
    let sums = channel_sums(&bench.gpu, &found, 2).unwrap();
    for kernel in batch_statistics(&bench.gpu, &bench.steps, &images, &sums, &found, &running) {
        bench.run(&kernel, batch(2));
    }
    let is_nan: Vec<bool> = bench.read(&found).iter().map(|value| value.is_nan()).collect();
    assert_eq!(is_nan, [false, true, false, false, true, false]);
}
