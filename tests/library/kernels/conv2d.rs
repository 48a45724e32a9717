use softstep::gpu::kernels::{
    Epilogue, Inputs, PartialSums, conv2d_input_gradient, forward, sum_parts, weight_gradient,
};
use softstep::gpu::tensor::{Layout, Tensor, WeightRows};
use softstep::model::{Shape, Window};

use super::*;

/// Batch, height, width, channels, output channels, and the window's size, stride and padding.
const SHAPES: [[usize; 8]; 13] = [
    [1, 1, 1, 1, 1, 1, 1, 0],
    [5, 7, 6, 3, 5, 3, 1, 1],
    [3, 6, 5, 1, 4, 5, 1, 2],
    [4, 5, 5, 5, 3, 5, 1, 0], // as large as the image
    [2, 8, 7, 3, 17, 3, 2, 1],
    [1, 6, 6, 2, 9, 6, 1, 0],
    [9, 4, 6, 5, 33, 2, 2, 1],
    [6, 5, 4, 4, 2, 4, 3, 3],
    [3, 7, 7, 6, 10, 2, 1, 0],
    // Rows of several runs of pixels, even and odd; kernels of more taps than fill the lanes; many columns.
    [2, 3, 17, 1, 40, 7, 1, 3],
    [2, 4, 19, 9, 13, 5, 1, 2],
    [1, 9, 9, 5, 34, 9, 1, 4],
    [3, 5, 8, 1, 18, 8, 2, 4],
];

/// The shapes, and in how many parts gradients of weights are summed: all of them, or a selection on SwiftShader, whose
/// compiler takes about a second for each product. It has 1, 3 and 5 channels, even and odd sides, strides 1 and 2,
/// padding, a ragged batch, and a kernel as large as the image.
fn cases(bench: &Bench) -> (Vec<[usize; 8]>, Vec<usize>) {
    match bench.gpu.info().name.contains("SwiftShader") {
        true => ([1, 3, 4].map(|at| SHAPES[at]).into(), vec![2]),
        false => (SHAPES.into(), vec![2, 3, usize::MAX]),
    }
}

/// Calls `each` with the output, the input and the weight, each by its number, of every product in a convolution.
fn for_each_product(
    [batch, height, width, channels, outputs, size, stride, padding]: [usize; 8],
    mut each: impl FnMut(usize, usize, usize),
) {
    let places = |side: usize| (side + 2 * padding - size) / stride + 1;
    for image in 0..batch {
        for place in 0..places(height) * places(width) {
            let [y, x] = [place / places(width), place % places(width)];
            for tap in 0..size * size {
                let from_y = (y * stride + tap / size).wrapping_sub(padding);
                let from_x = (x * stride + tap % size).wrapping_sub(padding);
                if from_y >= height || from_x >= width {
                    continue;
                }
                for channel in 0..channels {
                    let input = ((image * height + from_y) * width + from_x) * channels + channel;
                    for output in 0..outputs {
                        let to = (image * places(height) * places(width) + place) * outputs + output;
                        each(to, input, (tap * channels + channel) * outputs + output);
                    }
                }
            }
        }
    }
}

/// A tensor with these values, or where there are none filled with the sentinel.
pub fn tensor(bench: &Bench, rows: usize, layout: Layout, values: &[f32]) -> Tensor {
    let tensor = Tensor::new(&bench.gpu, "a test tensor", rows, layout).unwrap();
    let sentinels = vec![SENTINEL; rows * layout.shape.len()];
    tensor.write(&bench.gpu, if values.is_empty() { &sentinels } else { values });
    tensor
}

pub fn read_tensor(bench: &Bench, tensor: &Tensor, rows: usize) -> Vec<f32> {
    pollster::block_on(tensor.read(&bench.gpu, rows)).unwrap()
}

#[test]
fn a_convolution_and_its_gradients_are_the_sums_over_its_windows_in_every_layout() {
    Bench::new().for_each_matmul(|bench| {
        let (shapes, part_counts) = cases(bench);
        for shape in shapes {
            let [rows, height, width, channels, outputs, size, stride, padding] = shape;
            let window = Window { size, stride, padding };
            let input = Shape::Image { height, width, channels };
            let [to_height, to_width] = [height, width].map(|side| window.places(side).unwrap());
            let output = Shape::Image { height: to_height, width: to_width, channels: outputs };
            let x = bench.values(rows * input.len(), 1.0);
            let taps = size * size * channels;
            let w = bench.values((taps + 1) * outputs, 1.0);
            let d_out = bench.values(rows * output.len(), 1.0);

            let mut expected: Vec<f64> =
                (0..rows * output.len()).map(|at| f64::from(w[taps * outputs + at % outputs])).collect();
            let mut d_weights = vec![0.0; w.len()];
            let mut d_inputs = vec![0.0; x.len()];
            d_out.iter().enumerate().for_each(|(at, &d)| d_weights[taps * outputs + at % outputs] += f64::from(d));
            for_each_product(shape, |to, from, weight| {
                expected[to] += f64::from(x[from]) * f64::from(w[weight]);
                d_weights[weight] += f64::from(x[from]) * f64::from(d_out[to]);
                d_inputs[from] += f64::from(w[weight]) * f64::from(d_out[to]);
            });

            let d_outputs = tensor(bench, rows, Layout::gradient(output, input, window), &d_out);
            for layout in [Layout::overlapping(input, window), Layout::padded(input, window)] {
                let name = bench.name(format!("conv2d {shape:?}, overlapping {}", layout.overlapping));
                let images = tensor(bench, rows, layout, &x);
                let patches = Inputs::Patches { images: (&images).into(), window };
                let weight_rows = WeightRows::conv2d(layout, window);
                let spread = weight_rows.spread(&w, outputs);
                let weights = bench.matrix(weight_rows.bias() + 1, outputs, &spread);

                let result = tensor(bench, rows, Layout::plain(output), &[]);
                let kernel = forward(&bench.gpu, &bench.steps, patches, &weights, &result, None);
                bench.run(&kernel, batch(rows));
                oracle::assert_close(&name, &read_tensor(bench, &result, rows), &expected, 1e-5, 2e-5);

                // A part more than the depth has blocks is empty, and counts as 0.
                let most = 1 + (rows.div_ceil(4) * to_height * to_width).min(20);
                for parts in part_counts.iter().map(|&parts| parts.min(most)) {
                    let sums = PartialSums::new(&bench.gpu, &weights, parts).unwrap();
                    let stored = bench.unwritten(weights.rows, outputs);
                    let (gpu, steps) = (&bench.gpu, &bench.steps);
                    let kernels = [
                        weight_gradient(gpu, steps, patches, &d_outputs, Epilogue::Parts(&sums)),
                        sum_parts(gpu, steps, &sums, weight_rows, Epilogue::Store(&stored)),
                    ];
                    kernels.iter().for_each(|kernel| bench.run(kernel, batch(rows)));
                    let all = bench.read(&stored);
                    let actual = weight_rows.gather(&all, outputs);
                    let name = format!("d_weights of {name} in {parts} parts");
                    oracle::assert_close(&name, &actual, &d_weights, 1e-5, 5e-5);
                    // The norm is taken over the padding too.
                    assert_eq!(weight_rows.spread(&actual, outputs), all, "{name}: padding");
                }

                if !layout.overlapping {
                    let result = tensor(bench, rows, Layout::plain(input), &[]);
                    let (gpu, steps) = (&bench.gpu, &bench.steps);
                    let kernel =
                        conv2d_input_gradient(gpu, steps, &d_outputs, &weights, &images, None, &result, window);
                    bench.run(&kernel, batch(rows));
                    let name = format!("d_inputs of {name}");
                    oracle::assert_close(&name, &read_tensor(bench, &result, rows), &d_inputs, 1e-5, 5e-5);
                }
            }
        }
    });
}
