use softstep::gpu::kernels::{Targets, cross_entropy};

use super::*;

/// Losses and d_logits of rows whose examples are numbered backwards.
fn run(bench: &mut Bench, logits: &[f32], labels: &[u32], classes: usize) -> (Vec<f32>, Matrix) {
    let rows = labels.len();
    let order: Vec<u32> = (0..rows as u32).rev().collect();
    let labels: Vec<u32> = labels.iter().rev().copied().collect();
    let matrix = bench.matrix(rows, classes, logits);
    let losses = bench.buffer(&vec![SENTINEL; rows + 5]);
    let targets = Targets { order: &bench.buffer(&padded(&order)), labels: &bench.buffer(&labels), losses: &losses };
    let kernel = cross_entropy(&bench.gpu, &bench.steps, &matrix, targets);
    bench.run(&kernel, StepRecord { first_row: 5, ..batch(rows) });
    let losses = bench.read_buffer::<f32>(&losses, rows + 5);
    assert_eq!(losses[..5], [SENTINEL; 5], "losses before the first row");
    (losses[5..].to_vec(), matrix)
}

#[test]
fn cross_entropy_and_its_gradient_match_oracle_on_ragged_rows() {
    let mut bench = Bench::new();
    for (rows, classes) in [(1, 2), (2, 3), (5, 4), (63, 10), (64, 10), (65, 15), (130, 33)] {
        for scale in [1.0, 30.0, 1e4] {
            let logits = bench.values(rows * classes, scale);
            let labels = bench.below(rows, classes);
            let (losses, d_logits) = run(&mut bench, &logits, &labels, classes);
            let name = bench.name(format!("cross_entropy {rows}x{classes}, scale {scale}"));
            let logits = oracle::widen(&logits);
            oracle::assert_close(&name, &losses, &oracle::cross_entropies(&logits, &labels, classes), 1e-5, 1e-5);
            let expected = oracle::cross_entropy_backward(&logits, &labels, classes);
            oracle::assert_close(&name, &bench.read(&d_logits), &expected, 2e-5, 1e-7);
            // What lies beyond the batch must not reach the weight gradient.
            let stride = classes.next_multiple_of(4);
            let all = bench.read_padded(&d_logits);
            let padding = all
                .chunks(stride)
                .enumerate()
                .flat_map(|(row, values)| values[if row < rows { classes } else { 0 }..].iter());
            assert!(padding.into_iter().all(|&value| value == 0.0), "{name}: padding");
        }
    }
}

#[test]
fn cross_entropy_shows_logits_that_are_not_finite() {
    let mut bench = Bench::new();
    for bad in [f32::NAN, f32::INFINITY] {
        for class in 0..3 {
            let mut logits = [0.5, -0.25, 1.0];
            logits[class] = bad;
            for label in 0..3 {
                let (losses, _) = run(&mut bench, &logits, &[label], 3);
                assert!(!losses[0].is_finite(), "{bad} in class {class}, label {label}: loss {}", losses[0]);
            }
        }
    }
}
