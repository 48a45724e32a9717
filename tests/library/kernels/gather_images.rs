use softstep::augmentation::{Augment, Augmentation};
use softstep::gpu::kernels::{Inputs, gather_images};
use softstep::gpu::tensor::{Layout, Tensor};
use softstep::model::{Shape, Window};
use softstep::random::step_key;
use softstep::reference::Bounded;

use super::conv2d::tensor;
use super::*;

/// Batch and images: 1, 3, 4 and 5 channels, even and odd sizes, ragged batches.
const SHAPES: [(usize, [usize; 3]); 7] =
    [(1, [1, 1, 1]), (5, [7, 6, 3]), (4, [6, 5, 1]), (9, [4, 4, 4]), (3, [5, 8, 5]), (66, [3, 7, 2]), (2, [28, 28, 1])];

const SEED: u64 = 3;
const STEP: u64 = 1 << 33;

/// Layouts that a first layer reads: a convolution with few channels, another node, a convolution, a linear layer.
fn layouts(image: Shape) -> Vec<Layout> {
    let window = Window { size: 3, stride: 1, padding: 1 };
    let mut layouts =
        vec![Layout::plain(image), Layout::padded(image, window), Layout::with_ones(Shape::Flat(image.len()))];
    layouts.extend((image.channels() < 4).then(|| Layout::overlapping(image, window)));
    layouts
}

/// Gathers a batch in the middle of the order; returns all numbers of the tensor, and what they would be with these
/// values.
fn gathered(
    bench: &mut Bench,
    inputs: Inputs<'_>,
    augmentation: Option<&Augmentation>,
    rows: usize,
    layout: Layout,
    values: &[f32],
) -> [Vec<f32>; 2] {
    let images = tensor(bench, rows, layout, &[]);
    let kernel = gather_images(&bench.gpu, &bench.steps, inputs, augmentation, &images).unwrap();
    bench.run(&kernel, StepUniforms { first_block: 3, key: step_key(SEED, STEP), ..batch(rows) });
    let expected: Tensor = tensor(bench, rows, layout, values);
    let numbers = rows * 4 * layout.example;
    [&images, &expected].map(|tensor| bench.read_buffer(&tensor.matrix.buffer, numbers))
}

#[test]
fn gather_images_copies_shuffled_examples_to_every_layout_augmented_or_not() {
    let mut bench = Bench::new();
    for (rows, [height, width, channels]) in SHAPES {
        let image = Shape::Image { height, width, channels };
        let (count, features) = (rows + 11, image.len());
        let order = bench.below(rows, count);
        let mut whole_order = bench.below(12, count);
        whole_order.extend(padded(&order));
        let order_buffer = bench.buffer(&whole_order);
        let bytes = bench.bytes(count * features);
        let floats = bench.values(count * features, 5.0);
        let [byte_buffer, float_buffer] = [
            bench.buffer(&inputs::packed(&bytes, features, 255)),
            bench.buffer(&inputs::packed(&floats, features, 1.0)),
        ];
        let scaled: Vec<f64> = bytes.iter().map(|&byte| f64::from(byte) / 255.0).collect();
        let augment = Augment { shift: 1.5, rotate: 20.0, scale: 0.2 };
        for is_bytes in [true, false] {
            let order = &order_buffer;
            let inputs = match is_bytes {
                true => Inputs::Examples { examples: &byte_buffer, order, features },
                false => Inputs::FloatExamples { examples: &float_buffer, order, features },
            };
            let all = if is_bytes { scaled.clone() } else { oracle::widen(&floats) };
            let seen: Vec<f64> = whole_order[12..12 + rows]
                .iter()
                .flat_map(|&example| all[example as usize * features..][..features].iter().copied())
                .collect();
            for augmentation in [None, Some(Augmentation { augment, image })] {
                let seen = Bounded::exact(seen.clone());
                let expected = augmentation.as_ref().map_or_else(|| seen.clone(), |a| seen.augmented(a, SEED, STEP));
                let tolerance = expected.errors.iter().copied().fold(1e-6, f64::max);
                let values: Vec<f32> = expected.values.iter().map(|&value| value as f32).collect();
                for layout in layouts(image) {
                    let name =
                        format!("gather_images {rows} of {image}, bytes {is_bytes}, {augmentation:?}, {layout:?}");
                    let name = bench.name(name);
                    let [actual, expected] = gathered(&mut bench, inputs, augmentation.as_ref(), rows, layout, &values);
                    oracle::assert_close(&name, &actual, &oracle::widen(&expected), 0.0, tolerance);
                }
            }
        }
    }
}
