use softstep::gpu::kernels::{Clipping, clip_coefficient, sum_of_squares};

use super::*;

/// The coefficient for gradients of these shapes; it must come out the same twice, with sums of 0 behind it.
fn coefficient(bench: &mut Bench, gradients: &[Matrix], max_norm: f32, name: &str) -> f32 {
    let buffer = bench.buffer(&[SENTINEL]);
    let clipping = Clipping { coefficient: buffer, ..Clipping::new(&bench.gpu, max_norm).unwrap() };
    let mut results = Vec::new();
    for _ in 0..2 {
        for gradient in gradients {
            bench.run(&sum_of_squares(&bench.gpu, &bench.steps, gradient, &clipping), batch(1));
        }
        bench.run(&clip_coefficient(&bench.gpu, &bench.steps, &clipping), batch(1));
        results.push(bench.read_buffer::<f32>(&clipping.coefficient, 1)[0]);
        let sums: Vec<f32> = bench.read_buffer(&clipping.sums, clipping.sums.size() as usize / 4);
        assert!(sums.iter().all(|&sum| sum == 0.0), "{name}: sums that are left");
    }
    assert_eq!(results[0].to_bits(), results[1].to_bits(), "{name}: another coefficient the second time");
    results[0]
}

#[test]
fn the_clip_coefficient_matches_oracle_for_gradients_of_any_sizes() {
    let mut bench = Bench::new();
    // Around a workgroup's 64 blocks and 512 blocks; the last is more than all workgroups take in one round.
    for shapes in [
        &[[1, 1]][..],
        &[[3, 5]],
        &[[65, 10], [2, 1]],
        &[[4, 256], [8, 260], [33, 31]],
        &[[5, 7], [128, 64], [129, 67], [1, 1030]],
        &[[785, 10], [723, 731]],
    ] {
        // At the smaller scale what is added to the norm counts.
        for scale in [1.0, 1e-8] {
            let values: Vec<Vec<f32>> =
                shapes.iter().enumerate().map(|(at, [m, n])| bench.values(m * n, scale / (1 + at) as f32)).collect();
            let wide: Vec<Vec<f64>> = values.iter().map(|values| oracle::widen(values)).collect();
            let norm = oracle::gradient_norm(wide.iter().map(|gradient| &gradient[..]));
            let gradients: Vec<Matrix> =
                shapes.iter().zip(&values).map(|(&[m, n], values)| bench.matrix(m, n, values)).collect();
            for share in [1e-20, 0.001, 0.5, 0.99, 1.01, 10.0, 1e30] {
                let max_norm = (share * norm) as f32;
                let name = bench.name(format!("{shapes:?} clipped to {max_norm}"));
                let expected = oracle::clip_coefficient(norm, f64::from(max_norm));
                let actual = coefficient(&mut bench, &gradients, max_norm, &name);
                oracle::assert_close(&name, &[actual], &[expected], 2e-6, 0.0);
                assert!(expected < 1.0 || actual == 1.0, "{name}: {actual}");
            }
        }
    }
}

#[test]
fn gradients_of_zero_and_tiny_ones_are_left_alone() {
    let mut bench = Bench::new();
    for value in [0.0, -0.0, 1e-30, f32::from_bits(1)] {
        let gradient = bench.matrix(9, 7, &[value; 63]);
        assert_eq!(coefficient(&mut bench, &[gradient], 1e-3, "tiny"), 1.0, "{value}");
    }
}

#[test]
fn one_gradient_that_is_not_finite_or_a_norm_beyond_f32_makes_the_coefficient_nan() {
    let mut bench = Bench::new();
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e20, -f32::MAX] {
        for at in [0, 700, 729] {
            let mut values = bench.values(730, 1.0);
            values[at] = value;
            let gradients = [bench.matrix(3, 5, &[1.0; 15]), bench.matrix(73, 10, &values)];
            for max_norm in [1e-3, 1e30] {
                let actual = coefficient(&mut bench, &gradients, max_norm, "not finite");
                assert!(actual.is_nan(), "{value} at {at}: {actual}");
            }
        }
    }
    let gradient = bench.matrix(1, 2, &[1e18, 1e18]);
    assert!(coefficient(&mut bench, &[gradient], 1.0, "large") > 0.0, "a norm that f32 can tell");
}
