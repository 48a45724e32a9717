use softstep::data;
use softstep::gpu::kernels::{LossKernel, LossKind, Targets, loss};
use softstep::loss::Objective;

use super::*;

/// Cross-entropy without label smoothing and class weights.
pub fn plain_cross_entropy() -> LossKind {
    LossKind::of(&Objective::default(), &vec![0u32].into())
}

/// Losses and d_logits of rows whose examples are numbered backwards.
fn run(bench: &mut Bench, logits: &[f32], labels: &[u32], classes: usize) -> (Vec<f32>, Matrix) {
    let rows = labels.len();
    let order: Vec<u32> = (0..rows as u32).rev().collect();
    let labels: Vec<u32> = labels.iter().rev().copied().collect();
    let matrix = bench.matrix(rows, classes, logits);
    let losses = bench.buffer(&vec![SENTINEL; rows + 5]);
    let targets = Targets { order: &bench.buffer(&padded(&order)), labels: &bench.buffer(&labels), losses: &losses };
    let kernel =
        loss(&bench.gpu, &bench.steps, &matrix, targets, LossKernel::new(plain_cross_entropy(), 0.0, &matrix.buffer));
    bench.run(&kernel, StepUniforms { first_row: 5, ..batch(rows) });
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

/// Outputs, targets and objective for one of the other losses.
pub struct Case<'a> {
    pub objective: Objective<'a>,
    /// `[rows, columns]`
    pub outputs: &'a [f32],
    pub columns: usize,
    pub targets: &'a data::Targets,
}

/// Losses and gradients of a case whose examples are numbered backwards; the loss buffer starts 5 rows before them, and
/// what lies beyond the batch is 0.
pub fn run_case(bench: &mut Bench, case: &Case<'_>) -> (Vec<f32>, Vec<f32>) {
    let Case { ref objective, outputs, columns, targets } = *case;
    let kind = LossKind::of(objective, targets);
    let rows = outputs.len() / columns;
    let order: Vec<u32> = (0..rows as u32).rev().collect();
    let (targets, weight) = match targets.select(&order, columns) {
        data::Targets::Classes(labels) => {
            (bench.buffer(&labels), labels.iter().map(|&label| objective.weight(label)).sum())
        }
        data::Targets::Values(values) => {
            let padded =
                |row: &[f32]| row.iter().copied().chain(vec![0.0; columns.next_multiple_of(4) - columns]).collect();
            let values: Vec<f32> = values.chunks(columns).flat_map::<Vec<f32>, _>(padded).collect();
            (bench.buffer(&values), rows as f32)
        }
    };
    let mut weights = objective.class_weights.to_vec();
    weights.resize(weights.len().next_multiple_of(4).max(4), 0.0);
    let weights = bench.buffer(&weights);
    let matrix = bench.matrix(rows, columns, outputs);
    let losses = bench.buffer(&vec![SENTINEL; rows + 5]);
    let targets = Targets { order: &bench.buffer(&padded(&order)), labels: &targets, losses: &losses };
    let kernel = LossKernel::new(kind, objective.label_smoothing, &weights);
    let kernel = loss(&bench.gpu, &bench.steps, &matrix, targets, kernel);
    bench.run(&kernel, StepUniforms { first_row: 5, weight, ..batch(rows) });
    let losses = bench.read_buffer::<f32>(&losses, rows + 5);
    assert_eq!(losses[..5], [SENTINEL; 5], "losses before the first row");
    let all = bench.read_padded(&matrix);
    let rows_of_all = all.chunks(columns.next_multiple_of(4)).enumerate();
    let mut padding = rows_of_all.flat_map(|(row, values)| &values[if row < rows { columns } else { 0 }..]);
    assert!(padding.all(|&value| value == 0.0), "{kind:?}: padding");
    (losses[5..].to_vec(), bench.read(&matrix))
}

/// Compares a case with the oracle.
pub fn check_case(bench: &mut Bench, case: &Case<'_>, what: &str) {
    let (losses, gradient) = run_case(bench, case);
    let name = bench.name(what);
    let outputs = oracle::widen(case.outputs);
    let expected = oracle::losses(&case.objective, &outputs, case.targets, case.columns);
    oracle::assert_close(&name, &losses, &expected, 1e-5, 1e-5);
    let expected = oracle::loss_backward(&case.objective, &outputs, case.targets, case.columns);
    oracle::assert_close(&name, &gradient, &expected, 2e-5, 1e-7);
}
