//! The inputs of a matrix product: gathered from the data set, the values of the node before, or the patches of an image.

use super::matmul::Sliding;
use crate::gpu::kernel::{Access, Binding};
use crate::gpu::matrix::Matrix;
use crate::gpu::tensor::{Layout, View, WeightRows, layout_constants};
use crate::model::Window;
use crate::shader::{Part, part};

/// Source of a layer's inputs.
#[derive(Clone, Copy)]
pub enum Inputs<'a> {
    /// A data set of bytes, in its order.
    Examples {
        /// `[examples, features + 1]` bytes, the last of each row 255, rows padded to words with 0.
        examples: &'a wgpu::Buffer,
        /// Example numbers; each batch starts at a multiple of 4 and is padded to one with valid numbers.
        order: &'a wgpu::Buffer,
        /// Features of an example, without the constant 1.
        features: usize,
    },
    /// A data set of floats, in its order.
    FloatExamples {
        /// `[examples, features + 1]` f32, the last of each row 1, rows padded to blocks of 4 with 0.
        examples: &'a wgpu::Buffer,
        /// Shuffled indices, as of [`Examples`](Self::Examples).
        order: &'a wgpu::Buffer,
        /// Features of an example, without the constant 1.
        features: usize,
    },
    /// The node before: `[batch, inputs + 1]`.
    Activations(&'a Matrix),
    /// Pixels of the window at each position of images, and the constant 1; the padding is around the images.
    Patches {
        /// The images.
        images: View<'a>,
        /// The window.
        window: Window,
    },
}

/// The kind of [`Inputs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Gather,
    GatherFloats,
    Activations,
    Patches,
}

impl Source {
    /// Sources of a linear layer.
    pub(super) const LINEAR: [Self; 3] = [Self::Gather, Self::GatherFloats, Self::Activations];

    pub(super) fn parts(self) -> Vec<Part> {
        match self {
            Self::Gather => vec![part!("input/order"), part!("input/gather")],
            Self::GatherFloats => vec![part!("input/order"), part!("input/gather_floats")],
            Self::Activations => vec![part!("input/activations")],
            Self::Patches => vec![part!("input/patches")],
        }
    }

    /// Returns the source's part of a program's name.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Gather => "from_examples",
            Self::GatherFloats => "from_floats",
            Self::Activations => "",
            Self::Patches => "from_patches",
        }
    }
}

impl<'a> Inputs<'a> {
    pub(super) fn source(self) -> Source {
        match self {
            Self::Examples { .. } => Source::Gather,
            Self::FloatExamples { .. } => Source::GatherFloats,
            Self::Activations(_) => Source::Activations,
            Self::Patches { .. } => Source::Patches,
        }
    }

    /// Blocks of 4 in a row of the matrix.
    pub(super) fn blocks(self) -> usize {
        match self {
            Self::Examples { features, .. } | Self::FloatExamples { features, .. } => (features + 1).div_ceil(4),
            Self::Activations(matrix) => matrix.column_blocks(),
            Self::Patches { images, window } => WeightRows::conv2d(images.layout, window).bias() / 4 + 1,
        }
    }

    pub(super) fn constants(self) -> Vec<(&'static str, f64)> {
        let mut constants = vec![("INPUT_BLOCKS", self.blocks() as f64)];
        if let Self::Patches { images, window } = self {
            let layout = images.layout;
            constants.push(("KERNEL_ROW_BLOCKS", ((self.blocks() - 1) / window.size) as f64));
            constants.push(("KERNEL_ROW", layout.row as f64));
            constants.push(("KERNEL_COLUMN", if layout.overlapping { 4.0 } else { 1.0 }));
            constants.extend(window_constants(window_pixels(layout, window), windows(layout, window)));
        }
        constants
    }

    /// The windows of a convolution.
    pub(super) fn sliding(self) -> Option<Sliding> {
        let Self::Patches { images: View { layout, .. }, window } = self else { return None };
        let places = |side: usize| window.places(side).unwrap_or(0);
        let row_blocks = (self.blocks() - 1) / window.size;
        // Overlapping blocks are not those of a pixel, but of four values side by side.
        let (taps, tap_step) = match layout.overlapping {
            true => (row_blocks, 4),
            false => (window.size, layout.column),
        };
        Some(Sliding {
            height: places(layout.shape.height()),
            width: places(layout.shape.width()),
            column: window.stride * layout.column,
            rows: window.size,
            taps,
            tap_blocks: row_blocks / taps,
            row_step: layout.row,
            tap_step,
        })
    }

    pub(super) fn bindings(self) -> Vec<Binding<'a>> {
        match self {
            Self::Examples { examples, order, .. } | Self::FloatExamples { examples, order, .. } => {
                vec![(1, Access::Read, examples), (2, Access::Read, order)]
            }
            Self::Activations(matrix) => vec![(1, Access::Read, &matrix.buffer)],
            Self::Patches { images, .. } => vec![(1, Access::Read, images.buffer)],
        }
    }
}

/// Places of a window: how many, and how many in a row.
fn window_pixels(layout: Layout, window: Window) -> [usize; 2] {
    let places = |side: usize| window.places(side).unwrap_or(0);
    [places(layout.shape.height()) * places(layout.shape.width()), places(layout.shape.width())]
}

/// Returns the layout of the windows' starts in a padded image.
fn windows(layout: Layout, window: Window) -> Layout {
    let first = layout.first - window.padding * (layout.row + layout.column);
    Layout { first, row: window.stride * layout.row, column: window.stride * layout.column, ..layout }
}

/// The constants of windows that start so.
pub(super) fn window_constants([pixels, width]: [usize; 2], windows: Layout) -> Vec<(&'static str, f64)> {
    let mut constants = vec![("WINDOW_PIXELS", pixels as f64), ("WINDOW_WIDTH", width as f64)];
    constants.extend(layout_constants!("WINDOW", windows));
    constants
}
