use softstep::gpu::kernels::input_gradient;

use super::*;

#[test]
fn input_gradient_matches_oracle_and_stops_where_relu_did() {
    Bench::new().for_each_matmul(|bench| {
        for [rows, inputs, outputs] in matmul::shapes(bench) {
            let d_out = bench.values(rows * outputs, 1.0);
            let w = bench.values((inputs + 1) * outputs, 1.0);
            let x = relu(&bench.values(rows * inputs, 1.0));
            let w_transposed = oracle::transpose(&oracle::widen(&w[..inputs * outputs]), inputs, outputs);
            let mut expected = oracle::matmul(&oracle::widen(&d_out), &w_transposed, [rows, outputs, inputs]);
            for (gradient, &input) in expected.iter_mut().zip(&x) {
                *gradient = if input > 0.0 { *gradient } else { 0.0 };
            }

            let ones: Vec<f32> = x.chunks(inputs).flat_map(|row| row.iter().copied().chain([1.0])).collect();
            let activations = bench.matrix(rows, inputs + 1, &ones);
            let weights = bench.matrix(inputs + 1, outputs, &w);
            let d_outputs = bench.matrix(rows, outputs, &d_out);
            let d_inputs = bench.unwritten(rows, inputs);
            let kernel = input_gradient(&bench.gpu, &bench.steps, &d_outputs, &weights, &activations, &d_inputs);
            bench.run(&kernel, batch(rows));
            let name = bench.name(format!("input_gradient {rows}x{inputs}x{outputs}"));
            oracle::assert_close(&name, &bench.read(&d_inputs), &expected, 1e-5, 2e-5);
            let stride = inputs.next_multiple_of(4);
            let padding: Vec<f32> =
                bench.read_padded(&d_inputs).chunks(stride).flat_map(|row| &row[inputs..]).copied().collect();
            assert!(padding.iter().all(|&value| value == 0.0), "{name}: the constant 1 got a gradient");
        }
    });
}
