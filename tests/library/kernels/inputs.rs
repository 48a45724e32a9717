use softstep::gpu::kernels::{Inputs, forward};

use super::*;

/// Examples as they lie on the device: features, 1 (which is 255 in bytes), zeros up to a block of 4.
pub fn packed<T: bytemuck::Pod>(inputs: &[T], features: usize, one: T) -> Vec<T> {
    let stride = (features + 1).next_multiple_of(4);
    let row = |row: &[T]| {
        let mut row = row.to_vec();
        row.push(one);
        row.resize(stride, T::zeroed());
        row
    };
    inputs.chunks_exact(features).flat_map(row).collect()
}

#[test]
fn gather_takes_shuffled_examples_and_scales_bytes_to_0_1() {
    Bench::new().for_each_matmul(|bench| {
        for (rows, features) in SHAPES {
            let bytes = bench.bytes((rows + 11) * features);
            let seen: Vec<f64> = bytes.iter().map(|&byte| f64::from(byte) / 255.0).collect();
            let examples = bench.buffer(&packed(&bytes, features, 255));
            check(bench, "gather", &seen, &examples, (rows, features), 1e-6, |examples, order| Inputs::Examples {
                examples,
                order,
                features,
            });
        }
    });
}

#[test]
fn gather_floats_takes_shuffled_examples_as_they_are() {
    Bench::new().for_each_matmul(|bench| {
        for (rows, features) in SHAPES {
            let values = bench.values((rows + 11) * features, 100.0);
            let examples = bench.buffer(&packed(&values, features, 1.0));
            let seen = oracle::widen(&values);
            check(bench, "gather_floats", &seen, &examples, (rows, features), 2e-7, |examples, order| {
                Inputs::FloatExamples { examples, order, features }
            });
        }
    });
}

/// Batch and features.
const SHAPES: [(usize, usize); 6] = [(1, 1), (2, 3), (5, 4), (9, 7), (33, 31), (66, 40)];

/// A forward with identity weights: outputs are the inputs, `seen` of each example, `[rows + 11, features]`.
fn check(
    bench: &mut Bench,
    name: &str,
    seen: &[f64],
    examples: &wgpu::Buffer,
    (rows, features): (usize, usize),
    tolerance: f64,
    inputs: impl for<'a> Fn(&'a wgpu::Buffer, &'a wgpu::Buffer) -> Inputs<'a>,
) {
    // A batch in the middle of the order, after three blocks.
    let order = bench.below(rows, rows + 11);
    let mut whole_order = bench.below(12, rows + 11);
    whole_order.extend(padded(&order));
    let mut identity = vec![0.0; features * features];
    identity.iter_mut().step_by(features + 1).for_each(|value| *value = 1.0);
    identity.extend(vec![0.125; features]); // the bias
    let expected: Vec<f64> = order
        .iter()
        .flat_map(|&example| &seen[example as usize * features..][..features])
        .map(|value| value + 0.125)
        .collect();

    let weights = bench.matrix(features + 1, features, &identity);
    let outputs = bench.unwritten(rows, features);
    let order = bench.buffer(&whole_order);
    let kernel = forward(&bench.gpu, &bench.steps, inputs(examples, &order), &weights, &outputs, None);
    bench.run(&kernel, StepUniforms { first_block: 3, ..batch(rows) });
    let name = bench.name(format!("{name} {rows} of {features} features"));
    oracle::assert_close(&name, &bench.read(&outputs), &expected, tolerance, 0.0);
}
