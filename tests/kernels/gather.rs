use softstep::gpu::kernels::{Inputs, forward};

use super::*;

/// Examples as they lie on the device: features, 255, zeros up to a word.
pub fn packed(inputs: &[u8], features: usize) -> Vec<u8> {
    let stride = (features + 1).next_multiple_of(4);
    let row = |row: &[u8]| {
        let mut row = row.to_vec();
        row.push(255);
        row.resize(stride, 0);
        row
    };
    inputs.chunks_exact(features).flat_map(row).collect()
}

#[test]
fn gather_takes_shuffled_examples_and_scales_bytes_to_0_1() {
    Bench::new().for_each_matmul(|bench| {
        for (rows, features) in [(1, 1), (2, 3), (5, 4), (9, 7), (33, 31), (66, 40)] {
            let examples = rows + 11;
            let bytes = bench.bytes(examples * features);
            // A batch in the middle of the order, after three blocks.
            let order = bench.below(rows, examples);
            let mut whole_order = bench.below(12, examples);
            whole_order.extend(padded(&order));
            // Identity weights: outputs are the inputs; the bias is an eighth.
            let mut identity = vec![0.0; features * features];
            identity.iter_mut().step_by(features + 1).for_each(|value| *value = 1.0);
            identity.extend(vec![0.125; features]);
            let expected: Vec<f64> = order
                .iter()
                .flat_map(|&example| &bytes[example as usize * features..][..features])
                .map(|&byte| f64::from(byte) / 255.0 + 0.125)
                .collect();

            let weights = bench.matrix(features + 1, features, &identity);
            let outputs = bench.unwritten(rows, features);
            let inputs = Inputs::Examples {
                examples: &bench.buffer(&packed(&bytes, features)),
                order: &bench.buffer(&whole_order),
                features,
            };
            let kernel = forward(&bench.gpu, &bench.steps, inputs, &weights, &outputs, None);
            bench.run(&kernel, StepRecord { first_block: 3, ..batch(rows) });
            let name = bench.name(format!("gather {rows} of {features} features"));
            oracle::assert_close(&name, &bench.read(&outputs), &expected, 1e-6, 0.0);
        }
    });
}
