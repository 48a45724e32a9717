//! The examples of a batch in a tensor: augmented, or for a first layer that is not linear.

use super::element_wise::grid_of_batch;
use super::inputs::{Inputs, Source};
use crate::augmentation::Augmentation;
use crate::gpu::device::Gpu;
use crate::gpu::kernel::{Kernel, Program, StepUniformBuffer};
use crate::gpu::tensor::{View, layout_constants};
use crate::shader::part;

pub(super) fn programs() -> impl Iterator<Item = Program> {
    let sources = [Source::Gather, Source::GatherFloats];
    sources.into_iter().flat_map(|source| [false, true].map(|is_augmented| program(source, is_augmented)))
}

fn program(source: Source, is_augmented: bool) -> Program {
    let mut parts = vec![part!("step"), part!("input/order"), part!("gather_images")];
    parts.push(if source == Source::Gather { part!("input/bytes") } else { part!("input/floats") });
    match is_augmented {
        true => parts.extend([part!("random"), part!("input/augmented")]),
        false => parts.push(part!("input/plain")),
    }
    let suffixes = [if is_augmented { "augmented" } else { "" }, source.suffix()];
    Program::new("gather_images", &suffixes, "gather_images", parts)
}

/// Copies the examples of a batch to a tensor, each changed at random with `augmentation`. `None` for inputs that are no
/// data set.
pub fn gather_images<'a>(
    gpu: &Gpu,
    steps: &StepUniformBuffer,
    inputs: Inputs<'a>,
    augmentation: Option<&Augmentation>,
    images: impl Into<View<'a>>,
) -> Option<Kernel> {
    if !matches!(inputs, Inputs::Examples { .. } | Inputs::FloatExamples { .. }) {
        return None;
    }
    let View { buffer, mut layout } = images.into();
    let shape = layout.shape;
    let border = layout.first / (layout.row + layout.column);
    let turns_of_row = match layout.overlapping {
        true => layout.row.div_ceil(4),
        false => shape.width() * layout.channel_blocks(),
    };
    if layout.overlapping {
        layout.first -= border * layout.column; // the border's blocks reach into the image
    }
    let mut constants = inputs.constants();
    constants.extend([
        ("CHANNELS", shape.channels() as f64),
        ("HEIGHT", shape.height() as f64),
        ("WIDTH", shape.width() as f64),
        ("OVERLAPPING", f64::from(layout.overlapping)),
        ("BORDER", border as f64),
        ("ONES", f64::from(layout.ones_behind_channels())),
    ]);
    constants.extend(layout_constants!("TO", layout));
    if let Some(Augmentation { augment, image }) = augmentation {
        constants.extend([
            ("SHIFT", f64::from(augment.shift)),
            ("ROTATE", f64::from(augment.rotate)),
            ("RESIZE", f64::from(augment.scale)),
            ("IMAGE_HEIGHT", image.height() as f64),
            ("IMAGE_WIDTH", image.width() as f64),
            ("IMAGE_CHANNELS", image.channels() as f64),
        ]);
    }
    let mut bindings = inputs.bindings();
    bindings.push((4, crate::gpu::kernel::Access::ReadWrite, buffer));
    let program = program(inputs.source(), augmentation.is_some());
    let grid = grid_of_batch(shape.height() * turns_of_row);
    Some(Kernel::new(gpu, &program, &constants, steps, &bindings, grid))
}
