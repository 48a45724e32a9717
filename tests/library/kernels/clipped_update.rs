use softstep::gpu::kernels::{Clipping, clipped_update};
use softstep::optimizer::{AdamW, Optimizer, Sgd};

use super::*;

fn clipping(bench: &Bench, coefficient: f32) -> Clipping {
    Clipping { coefficient: bench.buffer(&[coefficient]), ..Clipping::new(&bench.gpu, 1.0).unwrap() }
}

fn optimizers() -> [Optimizer; 5] {
    [
        Sgd::default().into(),
        Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.1 }.into(),
        Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.1 }.into(),
        AdamW::default().into(),
        AdamW { beta1: 0.8, beta2: 0.9, epsilon: 1e-3, weight_decay: 0.2 }.into(),
    ]
}

#[test]
fn clipped_updates_match_oracle_over_three_steps_and_clip_no_weight_decay() {
    let mut bench = Bench::new();
    // The last is more than all workgroups take in one round.
    for [rows, columns] in [[1, 1], [2, 37], [65, 10], [33, 31], [128, 64], [723, 731]] {
        for optimizer in optimizers() {
            let count = rows * columns;
            let start = bench.values(count, 1.0);
            let mut expected = oracle::widen(&start);
            let mut expected_moments = [vec![0.0; count], vec![0.0; count]];
            let weights = bench.matrix(rows, columns, &start);
            let [first, second] = [0, 1].map(|_| bench.matrix(rows, columns, &vec![0.0; count]));
            for (step, coefficient) in [(1, 1.0), (2, 0.25), (3, 0.7)] {
                // None near 0, where the direction of AdamW is a matter of rounding.
                let values: Vec<f32> = bench.values(count, 1.0).iter().map(|x| x + x.signum()).collect();
                let gradient: Vec<f64> = values.iter().map(|&x| f64::from(coefficient) * f64::from(x)).collect();
                let learning_rate = 0.1 + 0.05 * step as f32;
                let rate = f64::from(learning_rate);
                oracle::update(&optimizer, step, rate, &mut expected, &gradient, &mut expected_moments);

                let gradient = bench.matrix(rows, columns, &values);
                let clipping = clipping(&bench, coefficient);
                let moments = [&first, &second];
                let kernel =
                    clipped_update(&bench.gpu, &bench.steps, &gradient, &clipping, &weights, moments, &optimizer);
                let moment_scales = optimizer.moment_scales(step).map(|scale| scale as f32);
                bench.run(&kernel, StepUniforms { learning_rate, moment_scales, ..batch(1) });
            }
            let name = bench.name(format!("{optimizer:?} of {rows}x{columns}"));
            oracle::assert_close(&name, &bench.read(&weights), &expected, 2e-6, 2e-6);
            let moments = [&first, &second].into_iter().zip(&expected_moments).take(optimizer.moments());
            for (moment, expected) in moments {
                oracle::assert_close(&name, &bench.read(moment), expected, 2e-6, 2e-6);
            }
            let stride = columns.next_multiple_of(4);
            for (at, &value) in bench.read_padded(&weights).iter().enumerate() {
                assert!((at / stride < rows && at % stride < columns) || value == 0.0, "{name}: padding at {at}");
            }
        }
    }
}

#[test]
fn a_coefficient_that_is_no_number_shows_in_every_weight() {
    let mut bench = Bench::new();
    for optimizer in optimizers() {
        let gradient = bench.matrix(9, 7, &[1.0; 63]);
        let weights = bench.matrix(9, 7, &[1.0; 63]);
        let [first, second] = [0, 1].map(|_| bench.matrix(9, 7, &[0.0; 63]));
        let clipping = clipping(&bench, f32::NAN);
        let moments = [&first, &second];
        let kernel = clipped_update(&bench.gpu, &bench.steps, &gradient, &clipping, &weights, moments, &optimizer);
        bench.run(&kernel, StepUniforms { learning_rate: 0.1, moment_scales: [1.0; 2], ..batch(1) });
        assert!(bench.read(&weights).iter().all(|weight| weight.is_nan()), "{optimizer:?}");
    }
}
