use softstep::gpu::kernels::{Hidden, Inputs, LossKernel, Targets, forward, forward_with_loss};
use softstep::model::Activation;

use super::cross_entropy::plain_cross_entropy;
use super::*;

#[test]
fn forward_matches_oracle_with_and_without_relu() {
    Bench::new().for_each_matmul(|bench| {
        for [rows, inputs, outputs] in matmul::shapes(bench) {
            for hidden in [false, true] {
                let x = bench.values(rows * inputs, 1.0);
                let w = bench.values((inputs + 1) * outputs, 1.0);
                let x_ones = oracle::with_ones(&oracle::widen(&x), inputs);
                let mut expected = oracle::matmul(&x_ones, &oracle::widen(&w), [rows, inputs + 1, outputs]);
                if hidden {
                    expected = expected.iter().map(|value| value.max(0.0)).collect();
                }

                let activations: Vec<f32> = x_ones.iter().map(|&value| value as f32).collect();
                let activations = bench.matrix(rows, inputs + 1, &activations);
                let weights = bench.matrix(inputs + 1, outputs, &w);
                let result = bench.unwritten(rows + 8, outputs + usize::from(hidden));
                let inputs_ = Inputs::Activations(&activations);
                let kernel = forward(
                    &bench.gpu,
                    &bench.steps,
                    inputs_,
                    &weights,
                    &result,
                    hidden.then(|| Hidden::new(Activation::Relu, &result)),
                );
                bench.run(&kernel, batch(rows));

                let name = bench.name(format!("forward {rows}x{inputs}x{outputs}, hidden {hidden}"));
                let stride = result.columns.next_multiple_of(4);
                let all = bench.read_padded(&result);
                let actual: Vec<f32> = all.chunks(stride).take(rows).flat_map(|row| &row[..outputs]).copied().collect();
                oracle::assert_close(&name, &actual, &expected, 1e-5, 2e-5);
                for row in all.chunks(stride).take(rows) {
                    // The constant 1 comes next where its block was computed; else it was there before.
                    if hidden && outputs % 4 != 0 {
                        assert_eq!(row[outputs], 1.0, "{name}: the constant 1");
                    }
                    let padding = &row[(outputs + usize::from(hidden)).min(stride)..];
                    assert!(outputs % 4 == 0 || padding.iter().all(|&value| value == 0.0), "{name}: {padding:?}");
                }
                let beyond = &all[rows.next_multiple_of(4) * stride..];
                assert!(beyond.iter().all(|&value| value == SENTINEL), "{name}: wrote beyond the batch");
            }
        }
    });
}

/// Of convolutions of large batches; a grid has 65,535 rows.
#[test]
fn forward_takes_more_rows_of_tiles_than_a_grid_has() {
    let mut bench = Bench::new();
    bench.gpu = bench.gpu.clone().with_matmul(Matmul::Workgroup).unwrap();
    let rows = 32 * 65_535 + 5;
    let x = bench.values(rows, 1.0);
    let activations = bench.matrix(rows, 2, &x.iter().flat_map(|&value| [value, 1.0]).collect::<Vec<_>>());
    // Two tiles side by side have no room on some software adapters, and take long on others.
    let outputs: &[usize] = if bench.gpu.info().device_type == "software" { &[1] } else { &[1, 17] };
    for &outputs in outputs {
        let w = bench.values(2 * outputs, 1.0);
        let weights = bench.matrix(2, outputs, &w);
        let result = bench.unwritten(rows, outputs);
        let inputs = Inputs::Activations(&activations);
        bench.run(&forward(&bench.gpu, &bench.steps, inputs, &weights, &result, None), batch(rows));

        let actual = pollster::block_on(result.read(&bench.gpu, rows)).unwrap();
        let product = |x: &f32, at: usize| f64::from(*x) * f64::from(w[at]) + f64::from(w[outputs + at]);
        let expected: Vec<f64> = x.iter().flat_map(|x| (0..outputs).map(move |at| product(x, at))).collect();
        let name = bench.name(format!("forward {rows}x1x{outputs}"));
        oracle::assert_close(&name, &actual, &expected, 1e-5, 2e-5);
    }
}

#[test]
fn forward_fused_with_the_loss_gives_what_both_kernels_give() {
    Bench::new().for_each_matmul(|bench| {
        for (rows, inputs, classes) in [(1, 1, 2), (3, 5, 3), (31, 33, 10), (32, 31, 15), (65, 784, 16)] {
            let order = bench.below(rows, 40);
            let labels = bench.below(40, classes);
            let x = oracle::with_ones(&oracle::widen(&bench.values(rows * inputs, 1.0)), inputs);
            let w = bench.values((inputs + 1) * classes, 1.0);
            let row_labels: Vec<u32> = order.iter().map(|&example| labels[example as usize]).collect();
            let logits = oracle::matmul(&x, &oracle::widen(&w), [rows, inputs + 1, classes]);

            let activations: Vec<f32> = x.iter().map(|&value| value as f32).collect();
            let activations = bench.matrix(rows, inputs + 1, &activations);
            let weights = bench.matrix(inputs + 1, classes, &w);
            let outputs = bench.unwritten(rows, classes);
            let losses = bench.buffer(&vec![SENTINEL; rows + 3]);
            let targets =
                Targets { order: &bench.buffer(&padded(&order)), labels: &bench.buffer(&labels), losses: &losses };
            let inputs_ = Inputs::Activations(&activations);
            let Some(kernel) = forward_with_loss(
                &bench.gpu,
                &bench.steps,
                inputs_,
                &weights,
                &outputs,
                targets,
                LossKernel::new(plain_cross_entropy(), 0.0, &weights.buffer),
            ) else {
                assert_ne!(bench.gpu.matmul(), Matmul::Subgroup, "the narrow product is fused");
                return;
            };
            bench.run(&kernel, StepUniforms { first_row: 3, ..batch(rows) });

            let name = bench.name(format!("forward with loss {rows}x{inputs}x{classes}"));
            let expected = oracle::cross_entropy_backward(&logits, &row_labels, classes);
            oracle::assert_close(&name, &bench.read(&outputs), &expected, 1e-4, 1e-5);
            let losses = bench.read_buffer::<f32>(&losses, rows + 3);
            assert_eq!(losses[..3], [SENTINEL; 3], "{name}: losses before the first row");
            let expected = oracle::cross_entropies(&logits, &row_labels, classes);
            oracle::assert_close(&name, &losses[3..], &expected, 1e-5, 2e-5);
        }
    });
}
