use softstep::gpu::kernels::{Results, Targets, evaluate};

use super::cross_entropy::plain_cross_entropy;
use super::*;

#[test]
fn evaluate_matches_oracle_and_takes_the_lowest_of_equal_classes() {
    let mut bench = Bench::new();
    for (rows, classes) in [(1, 2), (5, 3), (63, 10), (64, 4), (65, 10), (130, 33)] {
        // Few different values, so that maxima are shared.
        let logits: Vec<f32> = bench.below(rows * classes, 6).iter().map(|&value| value as f32 - 3.0).collect();
        let labels = bench.below(rows, classes);
        let argmax = |row: &[f32]| (0..classes).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap() as u32;
        let expected: Vec<u32> = logits.chunks(classes).map(argmax).collect();
        let right = expected.iter().zip(&labels).filter(|(prediction, label)| prediction == label).count();

        let matrix = bench.matrix(rows, classes, &logits);
        let order: Vec<u32> = (0..rows as u32).collect();
        let losses = bench.buffer(&vec![SENTINEL; rows + 4]);
        let predictions = bench.buffer(&vec![u32::MAX; rows + 4]);
        let correct = bench.buffer(&[7u32]);
        let targets =
            Targets { order: &bench.buffer(&padded(&order)), labels: &bench.buffer(&labels), losses: &losses };
        let results = Results { predictions: &predictions, correct: &correct };
        let kernel = evaluate(&bench.gpu, &bench.steps, &matrix, targets, results, plain_cross_entropy());
        bench.run(&kernel, StepUniforms { first_row: 4, ..batch(rows) });

        let name = bench.name(format!("evaluate {rows}x{classes}"));
        assert_eq!(bench.read_buffer::<u32>(&predictions, rows + 4)[4..], expected, "{name}: predictions");
        assert_eq!(bench.read_buffer::<u32>(&correct, 1), [7 + right as u32], "{name}: added to the count");
        let expected = oracle::cross_entropies(&oracle::widen(&logits), &labels, classes);
        oracle::assert_close(&name, &bench.read_buffer::<f32>(&losses, rows + 4)[4..], &expected, 1e-5, 1e-6);
    }
}
