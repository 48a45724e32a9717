use softstep::gpu::kernels::{Hidden, input_gradient};
use softstep::model::Activation;

use super::*;

#[test]
fn input_gradient_matches_oracle_through_every_activation() {
    Bench::new().for_each_matmul(|bench| {
        for (index, [rows, inputs, outputs]) in matmul::shapes(bench).into_iter().enumerate() {
            let d_out = bench.values(rows * outputs, 1.0);
            let w = bench.values((inputs + 1) * outputs, 1.0);
            let z = oracle::widen(&bench.values(rows * inputs, 4.0));
            let w_transposed = oracle::transpose(&oracle::widen(&w[..inputs * outputs]), inputs, outputs);
            let d_in = oracle::matmul(&oracle::widen(&d_out), &w_transposed, [rows, outputs, inputs]);
            let weights = bench.matrix(inputs + 1, outputs, &w);
            let d_outputs = bench.matrix(rows, outputs, &d_out);
            // Shapes and activations take turns: each pair is a pipeline to compile.
            for activation in [Activation::Relu, Activation::ALL[1 + index % 3]] {
                let derivatives = oracle::activation_derivative(activation, &z);
                let expected: Vec<f64> = d_in.iter().zip(derivatives).map(|(d, derivative)| d * derivative).collect();

                let ones =
                    |values: &[f64]| oracle::with_ones(values, inputs).iter().map(|&x| x as f32).collect::<Vec<_>>();
                let activations = bench.matrix(rows, inputs + 1, &ones(&oracle::activate(activation, &z)));
                let kept = bench.matrix(rows, inputs + 1, &ones(&z));
                let hidden = Hidden::new(activation, &kept);
                let d_inputs = bench.unwritten(rows, inputs);
                let kernel =
                    input_gradient(&bench.gpu, &bench.steps, &d_outputs, &weights, &activations, hidden, &d_inputs);
                bench.run(&kernel, batch(rows));
                let name = bench.name(format!("input_gradient {activation} {rows}x{inputs}x{outputs}"));
                oracle::assert_close(&name, &bench.read(&d_inputs), &expected, 1e-5, 2e-5);
                let stride = inputs.next_multiple_of(4);
                let padding: Vec<f32> =
                    bench.read_padded(&d_inputs).chunks(stride).flat_map(|row| &row[inputs..]).copied().collect();
                assert!(padding.iter().all(|&value| value == 0.0), "{name}: the constant 1 got a gradient");
            }
        }
    });
}
