//! The oracle: the arithmetic of a training step, naive and in f64, and the comparison with it.

#![allow(dead_code)] // each test program uses its part

/// `a · b` for row-major `[m, k]` and `[k, n]`.
pub fn matmul(a: &[f64], b: &[f64], m: usize, k: usize, n: usize) -> Vec<f64> {
    let mut c = vec![0.0; m * n];
    for row in 0..m {
        for column in 0..n {
            c[row * n + column] = (0..k).map(|i| a[row * k + i] * b[i * n + column]).sum();
        }
    }
    c
}

/// The transpose of `[rows, columns]`.
pub fn transpose(values: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    (0..columns * rows).map(|i| values[i % rows * columns + i / rows]).collect()
}

/// `[rows, columns]` with a last column of ones.
pub fn with_ones(values: &[f64], columns: usize) -> Vec<f64> {
    values.chunks_exact(columns).flat_map(|row| row.iter().copied().chain([1.0])).collect()
}

/// Row-wise softmax of `[rows, classes]`.
pub fn softmax(logits: &[f64], classes: usize) -> Vec<f64> {
    let row = |row: &[f64]| {
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let exps: Vec<f64> = row.iter().map(|logit| (logit - largest).exp()).collect();
        let sum: f64 = exps.iter().sum();
        exps.into_iter().map(move |exp| exp / sum)
    };
    logits.chunks_exact(classes).flat_map(row).collect()
}

/// The cross-entropy of each row of logits `[rows, classes]`.
pub fn cross_entropy(logits: &[f64], labels: &[u32], classes: usize) -> Vec<f64> {
    let row = |(row, &label): (&[f64], &u32)| {
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        row.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln() + largest - row[label as usize]
    };
    logits.chunks_exact(classes).zip(labels).map(row).collect()
}

/// Gradient of the mean cross-entropy with respect to logits `[rows, classes]`: (softmax − onehot) / rows.
pub fn d_logits(logits: &[f64], labels: &[u32], classes: usize) -> Vec<f64> {
    let mut gradient = softmax(logits, classes);
    for (row, &label) in gradient.chunks_exact_mut(classes).zip(labels) {
        row[label as usize] -= 1.0;
    }
    gradient.iter().map(|value| value / labels.len() as f64).collect()
}

/// One update by SGD; `velocity` has the shape of `weights`.
pub fn sgd(
    weights: &mut [f64],
    velocity: &mut [f64],
    gradient: &[f64],
    learning_rate: f64,
    (momentum, nesterov, weight_decay): (f64, bool, f64),
) {
    for ((weight, velocity), gradient) in weights.iter_mut().zip(velocity).zip(gradient) {
        let gradient = gradient + weight_decay * *weight;
        *velocity = momentum * *velocity + gradient;
        *weight -= learning_rate * if nesterov { gradient + momentum * *velocity } else { *velocity };
    }
}

/// To f64, for the oracle.
pub fn f64s(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// Fails unless every value is within `absolute + relative · |expected|` of what is expected; a NaN never is.
#[track_caller]
pub fn assert_close(name: &str, actual: &[f32], expected: &[f64], relative: f64, absolute: f64) {
    assert_eq!(actual.len(), expected.len(), "{name}: number of values");
    let excess = |i: usize| {
        let error = (f64::from(actual[i]) - expected[i]).abs() - relative * expected[i].abs();
        if error.is_nan() { f64::INFINITY } else { error }
    };
    let Some(worst) = (0..actual.len()).max_by(|&a, &b| excess(a).total_cmp(&excess(b))) else { return };
    assert!(
        excess(worst) <= absolute,
        "{name}: worst at {worst} of {}: {} instead of {} (error {:e}, relative {:e})",
        actual.len(),
        actual[worst],
        expected[worst],
        (f64::from(actual[worst]) - expected[worst]).abs(),
        ((f64::from(actual[worst]) - expected[worst]) / expected[worst]).abs(),
    );
}
