use softstep::gpu::kernels::{Epilogue, Inputs, weight_gradient};
use softstep::optimizer::Sgd;

use super::*;

#[test]
fn sgd_matches_oracle_over_five_steps_with_momentum_nesterov_and_decay() {
    let mut bench = Bench::new();
    let settings = [(0.0, false, 0.0), (0.0, false, 0.01), (0.9, false, 0.0), (0.9, false, 0.01), (0.8, true, 0.02)];
    for (momentum, nesterov, weight_decay) in settings {
        // A batch of one whose only input is the constant 1: the gradient is d_outputs.
        let outputs = 37;
        let optimizer = Sgd { momentum, nesterov, weight_decay };
        let start = bench.values(2 * outputs, 1.0);
        let mut expected = oracle::widen(&start);
        let mut expected_velocity = vec![0.0; 2 * outputs];
        let activations = bench.matrix(1, 2, &[0.0, 1.0]);
        let weights = bench.matrix(2, outputs, &start);
        let velocity = bench.matrix(2, outputs, &vec![0.0; 2 * outputs]);
        for step in 0..5 {
            let d_out = bench.values(outputs, 1.0);
            let mut gradient = vec![0.0; outputs];
            gradient.extend(oracle::widen(&d_out));
            let learning_rate = 0.1 + 0.05 * step as f32;
            oracle::sgd_update(&optimizer, f64::from(learning_rate), &mut expected, &gradient, &mut expected_velocity);

            let d_outputs = bench.matrix(1, outputs, &d_out);
            let inputs = Inputs::Activations(&activations);
            let (moments, optimizer) = ([&velocity; 2], &optimizer.into());
            let update = Epilogue::Update { weights: &weights, moments, optimizer };
            let kernel = weight_gradient(&bench.gpu, &bench.steps, inputs, &d_outputs, update);
            bench.run(&kernel, StepUniforms { learning_rate, ..batch(1) });
        }
        let name = bench.name(format!("sgd {optimizer:?}"));
        oracle::assert_close(&name, &bench.read(&weights), &expected, 1e-6, 1e-6);
        if momentum > 0.0 {
            oracle::assert_close(&name, &bench.read(&velocity), &expected_velocity, 1e-6, 1e-6);
        }
    }
}
