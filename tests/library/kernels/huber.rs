use softstep::data;
use softstep::loss::{Loss, Objective};

use super::cross_entropy::{Case, check_case, run_case};
use super::*;

const OBJECTIVE: Objective<'static> = Objective { loss: Loss::Huber, label_smoothing: 0.0, class_weights: &[] };

#[test]
fn huber_and_its_gradient_match_oracle_on_ragged_rows() {
    let mut bench = Bench::new();
    for (rows, columns) in [(1, 1), (2, 3), (5, 4), (63, 10), (65, 15), (130, 33)] {
        for scale in [0.3, 2.0, 30.0, 1e4] {
            let outputs = bench.values(rows * columns, scale);
            let values: data::Targets = bench.values(rows * columns, scale).into();
            let labels: data::Targets = bench.below(rows, columns).into();
            for (kind, targets) in [("values", &values), ("classes", &labels)] {
                let case = Case { objective: OBJECTIVE, outputs: &outputs, columns, targets };
                check_case(&mut bench, &case, &format!("huber of {kind} {rows}x{columns}, scale {scale}"));
            }
        }
    }
}

#[test]
fn huber_shows_outputs_that_are_not_finite() {
    let mut bench = Bench::new();
    let targets: data::Targets = vec![0.5f32, 1.0].into();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let case = Case { objective: OBJECTIVE, outputs: &[0.5, bad], columns: 2, targets: &targets };
        let (losses, _) = run_case(&mut bench, &case);
        assert!(!losses[0].is_finite(), "{bad}: loss {}", losses[0]);
    }
}

/// `torch.nn.HuberLoss()` of the same numbers, in f64: `F.huber_loss(z, t)` and its gradient.
#[test]
fn the_oracle_agrees_with_pytorch_on_huber() {
    let outputs = [1.5, -0.25, 0.75, -2.0, 3.0, 0.5];
    let targets: data::Targets = vec![1.0f32, 0.75, 2.5, -2.5, 3.0, -4.0].into();
    let losses = oracle::losses(&OBJECTIVE, &outputs, &targets, 2);
    assert_eq!(losses.iter().sum::<f64>() / 3.0, 1.0);
    let gradient = oracle::loss_backward(&OBJECTIVE, &outputs, &targets, 2);
    for (actual, expected) in gradient.iter().zip([1.0, -2.0, -2.0, 1.0, 0.0, 2.0]) {
        assert!((actual - expected / 12.0).abs() < 1e-15, "{gradient:?}");
    }
}
