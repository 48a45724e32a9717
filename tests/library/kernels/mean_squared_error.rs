use softstep::data;
use softstep::loss::{Loss, Objective};

use super::cross_entropy::{Case, check_case, run_case};
use super::*;

const OBJECTIVE: Objective<'static> =
    Objective { loss: Loss::MeanSquaredError, label_smoothing: 0.0, class_weights: &[] };

#[test]
fn mean_squared_error_and_its_gradient_match_oracle_on_ragged_rows() {
    let mut bench = Bench::new();
    for (rows, columns) in [(1, 1), (2, 3), (5, 4), (63, 10), (65, 15), (130, 33)] {
        for scale in [1.0, 30.0, 1e4] {
            let outputs = bench.values(rows * columns, scale);
            let values: data::Targets = bench.values(rows * columns, scale).into();
            let labels: data::Targets = bench.below(rows, columns).into();
            for (kind, targets) in [("values", &values), ("classes", &labels)] {
                let case = Case { objective: OBJECTIVE, outputs: &outputs, columns, targets };
                check_case(&mut bench, &case, &format!("mean_squared_error of {kind} {rows}x{columns}, scale {scale}"));
            }
        }
    }
}

#[test]
fn mean_squared_error_shows_outputs_that_are_not_finite() {
    let mut bench = Bench::new();
    let targets: data::Targets = vec![0.5f32, 1.0].into();
    for bad in [f32::NAN, f32::INFINITY] {
        let case = Case { objective: OBJECTIVE, outputs: &[0.5, bad], columns: 2, targets: &targets };
        let (losses, _) = run_case(&mut bench, &case);
        assert!(!losses[0].is_finite(), "{bad}: loss {}", losses[0]);
    }
}
