use softstep::data;
use softstep::loss::{Loss, Objective};

use super::cross_entropy::{Case, check_case, run_case};
use super::*;

#[test]
fn weighted_cross_entropy_and_its_gradient_match_oracle_on_ragged_rows() {
    let mut bench = Bench::new();
    for (rows, classes) in [(1, 2), (2, 3), (5, 4), (63, 10), (65, 15), (130, 33)] {
        for (scale, label_smoothing) in [(1.0, 0.0), (30.0, 0.1), (1e4, 0.3)] {
            let outputs = bench.values(rows * classes, scale);
            let class_weights: Vec<f32> = bench.values(classes, 0.9).iter().map(|value| value + 1.0).collect();
            let targets: data::Targets = bench.below(rows, classes).into();
            let objective = Objective { loss: Loss::CrossEntropy, label_smoothing, class_weights: &class_weights };
            let case = Case { objective, outputs: &outputs, columns: classes, targets: &targets };
            check_case(&mut bench, &case, &format!("weighted_cross_entropy {rows}x{classes}, scale {scale}"));
        }
    }
}

#[test]
fn weighted_cross_entropy_without_weights_and_smoothing_is_cross_entropy() {
    let mut bench = Bench::new();
    let outputs = bench.values(33 * 10, 5.0);
    let targets: data::Targets = bench.below(33, 10).into();
    let ones = [1.0; 10];
    let [plain, weighted] = [&[][..], &ones].map(|class_weights| {
        let objective = Objective { class_weights, ..Objective::default() };
        run_case(&mut bench, &Case { objective, outputs: &outputs, columns: 10, targets: &targets })
    });
    oracle::assert_close(&bench.name("losses"), &weighted.0, &oracle::widen(&plain.0), 1e-6, 1e-6);
    oracle::assert_close(&bench.name("gradients"), &weighted.1, &oracle::widen(&plain.1), 1e-6, 1e-8);
}

#[test]
fn weighted_cross_entropy_shows_logits_that_are_not_finite() {
    let mut bench = Bench::new();
    let class_weights = [0.5, 2.0, 1.0];
    for bad in [f32::NAN, f32::INFINITY] {
        let objective = Objective { label_smoothing: 0.1, class_weights: &class_weights, ..Objective::default() };
        let targets: data::Targets = vec![1u32].into();
        let case = Case { objective, outputs: &[0.5, bad, 1.0], columns: 3, targets: &targets };
        let (losses, _) = run_case(&mut bench, &case);
        assert!(!losses[0].is_finite(), "{bad}: loss {}", losses[0]);
    }
}
