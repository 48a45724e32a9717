use softstep::gpu::kernels::softmax;

use super::*;

fn run(bench: &mut Bench, logits: &[f32], classes: usize) -> Vec<f32> {
    let rows = logits.len() / classes;
    let matrix = bench.matrix(rows, classes, logits);
    let kernel = softmax(&bench.gpu, &bench.steps, &matrix);
    bench.run(&kernel, batch(rows));
    bench.read(&matrix)
}

#[test]
fn softmax_matches_oracle_on_ragged_rows() {
    let mut bench = Bench::new();
    for (rows, classes) in [(1, 2), (3, 1), (5, 3), (63, 4), (64, 10), (65, 15), (130, 33)] {
        for scale in [1.0, 30.0, 1e4] {
            let logits = bench.values(rows * classes, scale);
            let actual = run(&mut bench, &logits, classes);
            let expected = oracle::softmax(&oracle::widen(&logits), classes);
            let name = bench.name(format!("softmax {rows}x{classes}, scale {scale}"));
            // exp of a difference of 60 carries that difference's relative rounding error 60 times over.
            oracle::assert_close(&name, &actual, &expected, 2e-5, 1e-7);
            for row in actual.chunks(classes) {
                let sum: f32 = row.iter().sum();
                assert!((sum - 1.0).abs() <= 1e-5, "{name}: a row sums to {sum}");
            }
        }
    }
}

#[test]
fn softmax_of_the_lessons_scores_is_88_12_and_0_percent() {
    let probabilities = run(&mut Bench::new(), &[3.0, 1.0, -3.0], 3);
    let rounded: Vec<String> = probabilities.iter().map(|probability| format!("{probability:.2}")).collect();
    assert_eq!(rounded, ["0.88", "0.12", "0.00"]);
}

#[test]
fn softmax_over_two_classes_equals_the_sigmoid_of_their_difference() {
    let mut bench = Bench::new();
    let logits = bench.values(200, 8.0);
    let sigmoid = |pair: &[f32]| 1.0 / (1.0 + (f64::from(pair[1]) - f64::from(pair[0])).exp());
    let expected: Vec<f64> = logits.chunks(2).flat_map(|pair| [sigmoid(pair), 1.0 - sigmoid(pair)]).collect();
    let actual = run(&mut bench, &logits, 2);
    oracle::assert_close(&bench.name("two classes"), &actual, &expected, 1e-5, 1e-7);
}
