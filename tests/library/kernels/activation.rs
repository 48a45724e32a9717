use softstep::gpu::kernels::{Hidden, Inputs, forward, input_gradient};
use softstep::model::Activation;

use super::*;

/// A layer whose sums are these values, and back through it with a gradient of 1: outputs and derivatives, `[values]`.
fn run(bench: &mut Bench, activation: Activation, values: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let rows = values.len();
    // The input times 1, and no bias.
    let x: Vec<f32> = values.iter().flat_map(|&value| [value, 0.0]).collect();
    let x = bench.matrix(rows, 2, &x);
    let weights = bench.matrix(2, 1, &[1.0, 0.0]);
    let (outputs, kept) = (bench.unwritten(rows, 2), bench.unwritten(rows, 2));
    let hidden = Hidden::new(activation, &kept);
    let kernel = forward(&bench.gpu, &bench.steps, Inputs::Activations(&x), &weights, &outputs, Some(hidden));
    bench.run(&kernel, batch(rows));
    let d_outputs = bench.matrix(rows, 1, &vec![1.0; rows]);
    let d_inputs = bench.unwritten(rows, 1);
    let kernel = input_gradient(&bench.gpu, &bench.steps, &d_outputs, &weights, &outputs, hidden, &d_inputs);
    bench.run(&kernel, batch(rows));
    (bench.read(&outputs).chunks(2).map(|row| row[0]).collect(), bench.read(&d_inputs))
}

#[test]
fn activations_match_oracle_from_tiny_to_huge_without_overflow() {
    let mut bench = Bench::new();
    let mut values = bench.values(200, 8.0);
    for scale in [1e-30, 1e-6, 0.1, 9.0, 19.9, 20.1, 45.0, 90.0, 1e4, 1e20, 1e38] {
        values.extend([scale, -scale]);
    }
    values.push(0.0);
    for activation in Activation::ALL {
        let (outputs, derivatives) = run(&mut bench, activation, &values);
        let wide = oracle::widen(&values);
        let name = bench.name(activation);
        oracle::assert_close(&name, &outputs, &oracle::activate(activation, &wide), 1e-6, 1e-6);
        let expected = oracle::activation_derivative(activation, &wide);
        oracle::assert_close(&format!("{name}, derivative"), &derivatives, &expected, 1e-5, 1e-6);
    }
}

#[test]
fn every_activation_lets_a_nan_through() {
    Bench::new().for_each_matmul(|bench| {
        let (rows, inputs, outputs) = (5, 3, 21);
        let mut x = oracle::with_ones(&vec![0.5; rows * inputs], inputs).iter().map(|&x| x as f32).collect::<Vec<_>>();
        x[2 * (inputs + 1) + 1] = f32::NAN;
        let activations = bench.matrix(rows, inputs + 1, &x);
        let weights = bench.matrix(inputs + 1, outputs, &vec![1.0; (inputs + 1) * outputs]);
        for activation in Activation::ALL {
            let (result, kept) = (bench.unwritten(rows, outputs + 1), bench.unwritten(rows, outputs + 1));
            let hidden = Some(Hidden::new(activation, &kept));
            let kernel =
                forward(&bench.gpu, &bench.steps, Inputs::Activations(&activations), &weights, &result, hidden);
            bench.run(&kernel, batch(rows));
            for (row, values) in bench.read(&result).chunks(outputs + 1).enumerate() {
                let nans = values[..outputs].iter().filter(|value| value.is_nan()).count();
                let expected = if row == 2 { outputs } else { 0 };
                assert_eq!(nans, expected, "{activation}, row {row}, {:?}", bench.gpu.matmul());
            }
        }
    });
}

#[test]
fn padding_behind_the_constant_1_stays_zero() {
    let mut bench = Bench::new();
    let (rows, inputs, outputs) = (6, 5, 9);
    let x = bench.matrix(rows, inputs + 1, &vec![0.5; rows * (inputs + 1)]);
    let weights = bench.matrix(inputs + 1, outputs, &vec![0.5; (inputs + 1) * outputs]);
    for activation in Activation::ALL {
        let (result, kept) = (bench.unwritten(rows, outputs + 1), bench.unwritten(rows, outputs + 1));
        let hidden = Some(Hidden::new(activation, &kept));
        let kernel = forward(&bench.gpu, &bench.steps, Inputs::Activations(&x), &weights, &result, hidden);
        bench.run(&kernel, batch(rows));
        for row in bench.read_padded(&result).chunks(12).take(rows) {
            assert_eq!(row[9..], [1.0, 0.0, 0.0], "{activation}");
        }
    }
}
