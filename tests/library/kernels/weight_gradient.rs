use softstep::gpu::kernels::{Epilogue, Inputs, weight_gradient};
use softstep::optimizer::{Optimizer, Sgd};

use super::*;

/// At learning rate 1, without momentum and decay, from weights of 0, the update is minus the gradient.
const PLAIN: Optimizer = Optimizer::Sgd(Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 });

#[test]
fn weight_gradient_matches_oracle_with_the_bias_in_its_last_row() {
    Bench::new().for_each_matmul(|bench| {
        for [rows, inputs, outputs] in matmul::shapes(bench) {
            let x = oracle::with_ones(&oracle::widen(&bench.values(rows * inputs, 1.0)), inputs);
            let d_out = bench.values(rows * outputs, 1.0);
            let x_transposed = oracle::transpose(&x, rows, inputs + 1);
            let expected = oracle::matmul(&x_transposed, &oracle::widen(&d_out), [inputs + 1, rows, outputs]);

            let activations: Vec<f32> = x.iter().map(|&value| value as f32).collect();
            let activations = bench.matrix(rows, inputs + 1, &activations);
            check(bench, Inputs::Activations(&activations), &d_out, rows, &expected);
        }
    });
}

#[test]
fn weight_gradient_of_gathered_bytes_matches_oracle() {
    Bench::new().for_each_matmul(|bench| {
        for shape @ [rows, features, _] in matmul::shapes(bench) {
            let bytes = bench.bytes((rows + 5) * features);
            let seen: Vec<f64> = bytes.iter().map(|&byte| f64::from(byte) / 255.0).collect();
            let (order, d_out, expected) = gathered(bench, &seen, shape);
            let examples = bench.buffer(&inputs::packed(&bytes, features, 255));
            let inputs = Inputs::Examples { examples: &examples, order: &order, features };
            check(bench, inputs, &d_out, rows, &expected);
        }
    });
}

#[test]
fn weight_gradient_of_gathered_floats_matches_oracle() {
    Bench::new().for_each_matmul(|bench| {
        for shape @ [rows, features, _] in matmul::shapes(bench) {
            let floats = bench.values((rows + 5) * features, 1.0);
            let (order, d_out, expected) = gathered(bench, &oracle::widen(&floats), shape);
            let examples = bench.buffer(&inputs::packed(&floats, features, 1.0));
            let inputs = Inputs::FloatExamples { examples: &examples, order: &order, features };
            check(bench, inputs, &d_out, rows, &expected);
        }
    });
}

/// An order of rows of `seen`, `[rows + 5, features]`, gradients by the outputs, and what they make the gradient by the weights.
fn gathered(
    bench: &mut Bench,
    seen: &[f64],
    [rows, features, outputs]: [usize; 3],
) -> (wgpu::Buffer, Vec<f32>, Vec<f64>) {
    let order = bench.below(rows, rows + 5);
    let d_out = bench.values(rows * outputs, 1.0);
    let x = order.iter().flat_map(|&example| &seen[example as usize * features..][..features]);
    let x = oracle::with_ones(&x.copied().collect::<Vec<_>>(), features);
    let x_transposed = oracle::transpose(&x, rows, features + 1);
    let expected = oracle::matmul(&x_transposed, &oracle::widen(&d_out), [features + 1, rows, outputs]);
    (bench.buffer(&padded(&order)), d_out, expected)
}

fn check(bench: &mut Bench, inputs: Inputs<'_>, d_out: &[f32], rows: usize, expected: &[f64]) {
    let outputs = d_out.len() / rows;
    let d_outputs = bench.matrix(rows, outputs, d_out);
    let weights = bench.matrix(expected.len() / outputs, outputs, &vec![0.0; expected.len()]);
    let velocity = bench.unwritten(1, 1);
    let update = Epilogue::Update { weights: &weights, moments: [&velocity; 2], optimizer: &PLAIN };
    let kernel = weight_gradient(&bench.gpu, &bench.steps, inputs, &d_outputs, update);
    bench.run(&kernel, StepUniforms { learning_rate: -1.0, ..batch(rows) });
    let name = bench.name(format!("weight_gradient {rows}x{}x{outputs}", weights.rows - 1));
    oracle::assert_close(&name, &bench.read(&weights), expected, 1e-5, 2e-5);
    assert_eq!(bench.read(&velocity), [SENTINEL], "{name}: no momentum, no velocity");

    let stored = bench.unwritten(weights.rows, outputs);
    let kernel = weight_gradient(&bench.gpu, &bench.steps, inputs, &d_outputs, Epilogue::Store(&stored));
    bench.run(&kernel, batch(rows));
    let name = format!("stored {name}");
    oracle::assert_close(&name, &bench.read(&stored), expected, 1e-5, 2e-5);
    // The norm is taken over the padding too.
    let stride = outputs.next_multiple_of(4);
    for (at, &value) in bench.read_padded(&stored).iter().enumerate() {
        let inside = at / stride < stored.rows && at % stride < outputs;
        assert!(inside || value == 0.0, "{name}: {value} in the padding at {at}");
    }
}
