use softstep::data;
use softstep::loss::{Loss, Objective};

use super::cross_entropy::{Case, check_case, run_case};
use super::*;

#[test]
fn binary_cross_entropy_and_its_gradient_match_oracle_on_ragged_rows() {
    let mut bench = Bench::new();
    for rows in [1, 2, 5, 63, 64, 65, 130] {
        for (scale, class_weights) in [(1.0, [1.0, 1.0]), (30.0, [0.25, 3.0]), (1e4, [2.0, 1.0])] {
            let outputs = bench.values(rows, scale);
            let targets: data::Targets = bench.below(rows, 2).into();
            let loss = Loss::BinaryCrossEntropy;
            let objective = Objective { loss, label_smoothing: 0.0, class_weights: &class_weights };
            let case = Case { objective, outputs: &outputs, columns: 1, targets: &targets };
            check_case(&mut bench, &case, &format!("binary_cross_entropy {rows}, scale {scale}"));
        }
    }
}

#[test]
fn binary_cross_entropy_of_ten_thousand_is_ten_thousand_or_0_and_shows_what_is_not_finite() {
    let mut bench = Bench::new();
    let ones = [1.0; 2];
    let mut run = |logits: &[f32], labels: &[u32]| {
        let objective = Objective { loss: Loss::BinaryCrossEntropy, class_weights: &ones, ..Objective::default() };
        let targets: data::Targets = labels.to_vec().into();
        run_case(&mut bench, &Case { objective, outputs: logits, columns: 1, targets: &targets })
    };
    let (losses, gradients) = run(&[1e4, 1e4, -1e4, -1e4], &[1, 0, 1, 0]);
    assert_eq!(losses, [0.0, 1e4, 1e4, 0.0]);
    assert_eq!(gradients, [0.0, 0.25, -0.25, 0.0]);
    for (bad, label) in [(f32::NAN, 0), (f32::NAN, 1), (f32::INFINITY, 0), (f32::NEG_INFINITY, 1)] {
        let (losses, _) = run(&[bad], &[label]);
        assert!(!losses[0].is_finite(), "{bad}, label {label}: loss {}", losses[0]);
    }
}
