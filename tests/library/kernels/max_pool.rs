use softstep::gpu::kernels::{max_pool, max_pool_backward};
use softstep::gpu::tensor::Layout;
use softstep::model::{Shape, Window};

use super::conv2d::{read_tensor, tensor};
use super::*;

/// Batch, height, width, channels, and the window's size and stride.
const SHAPES: [[usize; 6]; 6] = [
    [1, 1, 1, 1, 1, 1],
    [5, 7, 6, 3, 2, 2],
    [3, 6, 5, 5, 3, 2],
    [4, 5, 5, 1, 5, 1],
    [2, 8, 7, 4, 2, 1],
    [9, 4, 6, 6, 3, 1],
];

#[test]
fn a_max_pool_takes_the_first_of_the_largest_and_keeps_a_nan_forward_and_backward() {
    let mut bench = Bench::new();
    for shape in SHAPES {
        for has_nans in [false, true] {
            let [rows, height, width, channels, size, stride] = shape;
            let window = Window { size, stride, padding: 0 };
            let input = Shape::Image { height, width, channels };
            let [to_height, to_width] = [height, width].map(|side| window.places(side).unwrap());
            let output = Shape::Image { height: to_height, width: to_width, channels };
            // Of few values, so that many are equal.
            let mut x: Vec<f32> = bench.below(rows * input.len(), 7).iter().map(|&value| value as f32 - 3.0).collect();
            if has_nans {
                bench.below(1 + x.len() / 9, x.len()).iter().for_each(|&at| x[at as usize] = f32::NAN);
            }
            let d_out = bench.values(rows * output.len(), 1.0);
            let mut expected = vec![0.0f32; d_out.len()];
            let mut d_inputs = vec![0.0f64; x.len()];
            for at in 0..d_out.len() {
                let (place, channel) = (at / channels, at % channels);
                let image = place / (to_height * to_width);
                let (y, x_at) = (place / to_width % to_height, place % to_width);
                let taps = (0..size * size).map(|tap| {
                    ((image * height + y * stride + tap / size) * width + x_at * stride + tap % size) * channels
                        + channel
                });
                let taps: Vec<usize> = taps.collect();
                let largest = taps.iter().map(|&at| x[at]).fold(f32::NEG_INFINITY, f32::max);
                let nan = taps.iter().position(|&at| x[at].is_nan());
                let first = taps[nan.or(taps.iter().position(|&at| x[at] == largest)).unwrap()];
                expected[at] = x[first];
                d_inputs[first] += f64::from(d_out[at]);
            }

            let name = bench.name(format!("max_pool {shape:?}, NaN {has_nans}"));
            let images = tensor(&bench, rows, Layout::padded(input, Window { padding: 1, ..window }), &x);
            let result = tensor(&bench, rows, Layout::plain(output), &[]);
            let kernel = max_pool(&bench.gpu, &bench.steps, &images, window, &result);
            bench.run(&kernel, batch(rows));
            let actual = read_tensor(&bench, &result, rows);
            for (at, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
                let same = actual == expected || (actual.is_nan() && expected.is_nan());
                assert!(same, "{name} [{at}]: {actual} is not {expected}");
            }

            let d_outputs = tensor(&bench, rows, Layout::plain(output), &d_out);
            let result = tensor(&bench, rows, Layout::plain(input), &[]);
            let (gpu, steps) = (&bench.gpu, &bench.steps);
            let kernel = max_pool_backward(gpu, steps, &d_outputs, &images, window, None, &result);
            bench.run(&kernel, batch(rows));
            oracle::assert_close(&name, &read_tensor(&bench, &result, rows), &d_inputs, 1e-6, 1e-6);
        }
    }
}
