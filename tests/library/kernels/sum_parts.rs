use softstep::gpu::kernels::{Epilogue, PartialSums, sum_parts};
use softstep::gpu::tensor::WeightRows;
use softstep::optimizer::Optimizer;

use super::*;

/// Groups of rows, rows of a group on the host and on the device, and columns; the last is more than all workgroups take
/// in one round.
const SHAPES: [[usize; 4]; 6] =
    [[1, 1, 1, 1], [1, 3, 3, 4], [9, 5, 8, 3], [4, 3, 4, 17], [5, 31, 32, 33], [25, 61, 64, 2601]];

/// Partial sums with these values, `[parts, rows, columns]`, and the sentinel where rows of padding are.
fn partial_sums(bench: &Bench, rows: WeightRows, columns: usize, parts: &[Vec<f32>]) -> PartialSums {
    let weights = bench.unwritten(rows.bias() + 1, columns);
    let sums = PartialSums::new(&bench.gpu, &weights, parts.len()).unwrap();
    let stride = columns.next_multiple_of(4);
    let mut all = Vec::new();
    for part in parts {
        let spread = rows.spread(part, columns);
        for (row, values) in spread.chunks(columns).enumerate() {
            let is_weight = row == rows.bias() || row % rows.stride < rows.group;
            all.extend(values.iter().map(|&value| if is_weight { value } else { SENTINEL }));
            all.resize(all.len().next_multiple_of(stride), 0.0);
        }
        all.resize(all.len().next_multiple_of(4 * stride), 0.0);
    }
    bench.gpu.queue.write_buffer(&sums.buffer, 0, bytemuck::cast_slice(&all));
    sums
}

#[test]
fn sum_parts_adds_the_parts_of_every_weight_and_stores_zeros_in_the_padding() {
    let mut bench = Bench::new();
    for [groups, group, stride, columns] in SHAPES {
        let rows = WeightRows { groups, group, stride };
        for count in [1, 2, 7] {
            let parts: Vec<Vec<f32>> = (0..count).map(|_| bench.values((groups * group + 1) * columns, 1.0)).collect();
            let expected: Vec<f64> =
                (0..parts[0].len()).map(|at| parts.iter().map(|part| f64::from(part[at])).sum()).collect();
            let sums = partial_sums(&bench, rows, columns, &parts);
            let stored = bench.unwritten(rows.bias() + 1, columns);
            let kernel = sum_parts(&bench.gpu, &bench.steps, &sums, rows, Epilogue::Store(&stored));
            bench.run(&kernel, batch(1));
            let name = bench.name(format!("sum_parts of {count} of {rows:?} by {columns}"));
            let all = bench.read(&stored);
            let actual = rows.gather(&all, columns);
            oracle::assert_close(&name, &actual, &expected, 1e-6, 1e-6);
            assert_eq!(rows.spread(&actual, columns), all, "{name}: padding");
        }
    }
}

#[test]
fn sum_parts_ends_in_the_update_of_every_optimizer() {
    let mut bench = Bench::new();
    let [groups, group, stride, columns] = SHAPES[2];
    let rows = WeightRows { groups, group, stride };
    let count = (groups * group + 1) * columns;
    for optimizer in Optimizer::all() {
        // Gradients of at least 1: near 0, the direction of AdamW and Lion is a matter of rounding.
        let parts: Vec<Vec<f32>> = (0..3).map(|_| bench.values(count, 0.2)).collect();
        let signs: Vec<f32> = bench.values(count, 1.0).iter().map(|value| 2.0 * value.signum()).collect();
        let parts: Vec<Vec<f32>> =
            parts.iter().map(|part| part.iter().zip(&signs).map(|(value, sign)| value + sign).collect()).collect();
        let gradient: Vec<f64> = (0..count).map(|at| parts.iter().map(|part| f64::from(part[at])).sum()).collect();
        let start = bench.values(count, 1.0);
        let mut expected = oracle::widen(&start);
        let mut expected_moments = [vec![0.0; count], vec![0.0; count]];
        oracle::update(&optimizer, 1, f64::from(0.1f32), &mut expected, &gradient, &mut expected_moments);

        let sums = partial_sums(&bench, rows, columns, &parts);
        let weights = bench.matrix(rows.bias() + 1, columns, &rows.spread(&start, columns));
        let zeros = vec![0.0; (rows.bias() + 1) * columns];
        let [first, second] = [0, 1].map(|_| bench.matrix(rows.bias() + 1, columns, &zeros));
        let update = Epilogue::Update { weights: &weights, moments: [&first, &second], optimizer: &optimizer };
        let kernel = sum_parts(&bench.gpu, &bench.steps, &sums, rows, update);
        let moment_scales = optimizer.moment_scales(1).map(|scale| scale as f32);
        bench.run(&kernel, StepUniforms { learning_rate: 0.1, moment_scales, ..batch(1) });
        let name = bench.name(format!("sum_parts, {}", optimizer.name()));
        let all = bench.read(&weights);
        let actual = rows.gather(&all, columns);
        oracle::assert_close(&name, &actual, &expected, 2e-6, 2e-6);
        assert_eq!(rows.spread(&actual, columns), all, "{name}: padding");
        for (moment, expected) in [&first, &second].into_iter().zip(&expected_moments).take(optimizer.moments()) {
            oracle::assert_close(&name, &rows.gather(&bench.read(moment), columns), expected, 2e-6, 2e-6);
        }
    }
}
