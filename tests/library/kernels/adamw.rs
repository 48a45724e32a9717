use softstep::gpu::kernels::{Epilogue, Inputs, weight_gradient};
use softstep::optimizer::AdamW;

use super::*;

#[test]
fn adamw_matches_oracle_over_five_steps_with_and_without_decay() {
    let mut bench = Bench::new();
    for (beta1, beta2, epsilon, weight_decay) in
        [(0.9, 0.999, 1e-8, 0.01), (0.0, 0.5, 1e-3, 0.0), (0.8, 0.9, 1e-8, 0.2)]
    {
        // A batch of one whose only input is the constant 1: the gradient is d_outputs.
        let outputs = 37;
        let adamw = AdamW { beta1, beta2, epsilon, weight_decay };
        let start = bench.values(2 * outputs, 1.0);
        let mut expected = oracle::widen(&start);
        let (mut expected_first, mut expected_second) = (vec![0.0; 2 * outputs], vec![0.0; 2 * outputs]);
        let activations = bench.matrix(1, 2, &[0.0, 1.0]);
        let weights = bench.matrix(2, outputs, &start);
        let [first, second] = [0, 1].map(|_| bench.matrix(2, outputs, &vec![0.0; 2 * outputs]));
        for step in 1..=5 {
            let d_out = bench.values(outputs, 1.0);
            let mut gradient = vec![0.0; outputs];
            gradient.extend(oracle::widen(&d_out));
            let learning_rate = 0.1 + 0.05 * step as f32;
            let moments = [&mut expected_first[..], &mut expected_second];
            oracle::adamw_update(&adamw, step, f64::from(learning_rate), &mut expected, &gradient, moments);

            let d_outputs = bench.matrix(1, outputs, &d_out);
            let inputs = Inputs::Activations(&activations);
            let moments = [&first, &second];
            let optimizer = &adamw.into();
            let update = Epilogue::Update { weights: &weights, moments, optimizer };
            let kernel = weight_gradient(&bench.gpu, &bench.steps, inputs, &d_outputs, update);
            let moment_scales = adamw.moment_scales(step).map(|scale| scale as f32);
            bench.run(&kernel, StepUniforms { learning_rate, moment_scales, ..batch(1) });
        }
        let name = bench.name(format!("{adamw:?}"));
        // A direction of a gradient near 0 has the rounding errors of a sum that cancels.
        oracle::assert_close(&name, &bench.read(&weights), &expected, 1e-5, 1e-5);
        oracle::assert_close(&name, &bench.read(&first), &expected_first, 1e-6, 1e-6);
        oracle::assert_close(&name, &bench.read(&second), &expected_second, 1e-6, 1e-6);
    }
}
