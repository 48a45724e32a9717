use softstep::gpu::kernels::{Dropout, Hidden, element_wise, element_wise_backward};
use softstep::gpu::tensor::{Layout, Tensor};
use softstep::model::{Activation, Shape, Window};
use softstep::random::{Stream, dropout_threshold, step_key, stream_key, word};

use super::conv2d::{read_tensor, tensor};
use super::*;

/// Batch and shape, around the blocks of 4 channels and the 64 invocations of a workgroup; the last is more than all
/// workgroups take in one round.
const SHAPES: [(usize, Shape); 8] = [
    (1, Shape::Flat(1)),
    (5, Shape::Flat(3)),
    (63, Shape::Flat(4)),
    (65, Shape::Flat(37)),
    (2, Shape::Image { height: 5, width: 3, channels: 1 }),
    (7, Shape::Image { height: 4, width: 5, channels: 5 }),
    (1, Shape::Image { height: 1, width: 6, channels: 8 }),
    (1029, Shape::Image { height: 32, width: 33, channels: 1 }),
];

const SEED: u64 = 1 << 40;
const STEP: u64 = 77;

/// Factor of each value, `[rows, shape]`: 0 where it is dropped.
fn factors(dropout: Option<Dropout>, rows: usize, length: usize) -> Vec<f64> {
    let Some(Dropout { p, layer }) = dropout else { return vec![1.0; rows * length] };
    let key = stream_key(step_key(SEED, STEP), Stream::Dropout { layer });
    let is_dropped = |at: usize| word(key, (at / length) as u32, (at % length) as u32) < dropout_threshold(p);
    (0..rows * length).map(|at| if is_dropped(at) { 0.0 } else { 1.0 / (1.0 - f64::from(p)) }).collect()
}

/// A tensor filled with the sentinel, padding included.
pub fn unwritten_tensor(bench: &Bench, rows: usize, layout: Layout) -> Tensor {
    let tensor = Tensor::new(&bench.gpu, "a test tensor", rows, layout).unwrap();
    let values = vec![SENTINEL; tensor.matrix.buffer.size() as usize / 4];
    bench.gpu.queue.write_buffer(&tensor.matrix.buffer, 0, bytemuck::cast_slice(&values));
    tensor
}

/// Fails unless zeros follow the channels of every pixel, with the constant 1 first in a flat tensor that has one.
#[track_caller]
pub fn assert_padding(bench: &Bench, name: &str, tensor: &Tensor, rows: usize) {
    let Layout { shape, example, first, row, column, ones, .. } = tensor.layout;
    let is_one = |number: usize| ones && matches!(shape, Shape::Flat(_)) && number == shape.channels();
    let all = bench.read_padded(&tensor.matrix);
    for pixel in 0..rows * shape.positions() {
        let (index, place) = (pixel / shape.positions(), pixel % shape.positions());
        let at = 4 * (first + index * example + place / shape.width() * row + place % shape.width() * column);
        for number in shape.channels()..shape.channels().next_multiple_of(4) {
            let expected = f32::from(u8::from(is_one(number)));
            assert_eq!(all[at + number], expected, "{name}: number {number} of pixel {pixel}");
        }
    }
}

fn activations() -> impl Iterator<Item = Option<Activation>> {
    Activation::ALL.map(Some).into_iter().chain([None])
}

#[test]
fn element_wise_drops_the_values_that_the_cpu_drops_and_activates_the_rest() {
    let mut bench = Bench::new();
    for (rows, shape) in SHAPES {
        let window = Window { size: 3, stride: 1, padding: 1 };
        for (at, activation) in activations().enumerate() {
            // Dropout is never fused to an activation.
            let dropout = activation.is_none().then_some(Dropout { p: 0.3, layer: 4 });
            let layout = match shape {
                Shape::Flat(_) if at % 2 == 0 => Layout::with_ones(shape),
                Shape::Flat(_) => Layout::plain(shape),
                Shape::Image { .. } => Layout::padded(shape, window),
            };
            let x = bench.values(rows * shape.len(), 3.0);
            let passed: Vec<f64> = oracle::widen(&x)
                .iter()
                .zip(factors(dropout, rows, shape.len()))
                .map(|(x, factor)| x * factor)
                .collect();
            let expected = activation.map_or_else(|| passed.clone(), |a| oracle::activate(a, &passed));

            let inputs = tensor(&bench, rows, Layout::plain(shape), &x);
            let (outputs, kept) = (unwritten_tensor(&bench, rows, layout), unwritten_tensor(&bench, rows, layout));
            let hidden = activation.map(|activation| Hidden::new(activation, &kept.matrix));
            let kernel = element_wise(&bench.gpu, &bench.steps, &inputs, dropout, hidden, &outputs);
            bench.run(&kernel, StepUniforms { key: step_key(SEED, STEP), ..batch(rows) });
            let name = bench.name(format!("element_wise {rows} of {shape}, {activation:?}"));
            oracle::assert_close(&name, &read_tensor(&bench, &outputs, rows), &expected, 1e-6, 1e-6);
            assert_padding(&bench, &name, &outputs, rows);
            if activation.is_some_and(Activation::keeps_input) {
                assert_eq!(read_tensor(&bench, &kept, rows), x, "{name}: pre-activations");
            }
        }
    }
}

#[test]
fn element_wise_backward_drops_the_same_values_and_takes_the_derivative_of_the_node_before() {
    let mut bench = Bench::new();
    for (rows, shape) in SHAPES {
        for activation in activations() {
            for dropout in [None, Some(Dropout { p: 0.6, layer: 9 })] {
                let z = bench.values(rows * shape.len(), 3.0);
                let wide = oracle::widen(&z);
                let activated = activation.map_or_else(|| wide.clone(), |a| oracle::activate(a, &wide));
                let activated: Vec<f32> = activated.iter().map(|&value| value as f32).collect();
                let slopes = activation.map_or_else(|| vec![1.0; z.len()], |a| oracle::activation_derivative(a, &wide));
                let d_out = bench.values(z.len(), 1.0);
                let factors = factors(dropout, rows, shape.len()).into_iter().zip(slopes);
                let expected: Vec<f64> =
                    d_out.iter().zip(factors).map(|(&d, (factor, slope))| f64::from(d) * factor * slope).collect();

                let layout = Layout::padded(shape, Window { size: 2, stride: 1, padding: 1 });
                let layout = if matches!(shape, Shape::Flat(_)) { Layout::with_ones(shape) } else { layout };
                let (outputs, kept) = (tensor(&bench, rows, layout, &activated), tensor(&bench, rows, layout, &z));
                let hidden = activation.map(|activation| Hidden::new(activation, &kept.matrix));
                let d_outputs = tensor(&bench, rows, Layout::plain(shape), &d_out);
                let d_inputs = unwritten_tensor(&bench, rows, Layout::plain(shape));
                let (gpu, steps) = (&bench.gpu, &bench.steps);
                let kernel = element_wise_backward(gpu, steps, &d_outputs, dropout, &outputs, hidden, &d_inputs);
                bench.run(&kernel, StepUniforms { key: step_key(SEED, STEP), ..batch(rows) });
                let name = bench.name(format!("element_wise_backward {rows} of {shape}, {activation:?}, {dropout:?}"));
                oracle::assert_close(&name, &read_tensor(&bench, &d_inputs, rows), &expected, 1e-5, 2e-6);
                assert_padding(&bench, &name, &d_inputs, rows);
            }
        }
    }
}

#[test]
fn element_wise_shows_values_that_are_not_finite() {
    let mut bench = Bench::new();
    let shape = Shape::Flat(3);
    for activation in activations() {
        let inputs = tensor(&bench, 1, Layout::plain(shape), &[0.5, f32::NAN, -0.5]);
        let (outputs, kept) = [(); 2].map(|()| unwritten_tensor(&bench, 1, Layout::plain(shape))).into();
        let hidden = activation.map(|activation| Hidden::new(activation, &kept.matrix));
        bench.run(&element_wise(&bench.gpu, &bench.steps, &inputs, None, hidden, &outputs), batch(1));
        let values = read_tensor(&bench, &outputs, 1);
        assert!(values[1].is_nan() && values[0].is_finite() && values[2].is_finite(), "{activation:?}: {values:?}");
    }
}
