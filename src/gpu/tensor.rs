//! Tensors on the device: what stands between two nodes of the plan, for each example of a batch.

use super::device::{BufferLabel, Gpu};
use super::matrix::Matrix;
use super::readback::read_buffer;
use crate::error::Result;
use crate::model::{Shape, Window};

/// Memory layout of an example in a tensor: its pixels, in blocks of 4 channels. A flat example is one pixel.
///
/// Around an image there may be a border of zeros, the padding of the convolution that reads it, and between its pixels
/// more of them, where the gradient of a convolution with a stride is read. They are there from the start, and nobody
/// writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Shape of an example.
    pub shape: Shape,
    /// Blocks from an example to the next.
    pub example: usize,
    /// Block where the first pixel starts.
    pub first: usize,
    /// Blocks from a row of pixels to the next.
    pub row: usize,
    /// Blocks from a pixel to the next.
    pub column: usize,
    /// True if the constant 1 of a linear layer's bias stands behind the values.
    pub ones: bool,
    /// True if each value starts a block that also holds the three values behind it in its row of pixels.
    pub overlapping: bool,
}

impl Layout {
    /// Features in a row.
    pub fn features(features: usize) -> Self {
        let blocks = features.div_ceil(4);
        Self {
            shape: Shape::Flat(features),
            example: blocks,
            first: 0,
            row: blocks,
            column: blocks,
            ones: false,
            overlapping: false,
        }
    }

    /// An example with nothing around it.
    pub fn plain(shape: Shape) -> Self {
        Self::spread(shape, [shape.height(), shape.width()], 0, 1)
    }

    /// Layout that a linear layer reads: the constant 1 stands behind the values.
    pub fn with_ones(shape: Shape) -> Self {
        let plain = Self::plain(shape);
        let example = match shape {
            Shape::Flat(features) => (features + 1).div_ceil(4),
            Shape::Image { .. } => plain.example + 1,
        };
        Self { example, ones: true, ..plain }
    }

    /// Layout that a convolution reads: the image with its padding around it.
    pub fn padded(shape: Shape, window: Window) -> Self {
        let padding = window.padding;
        let sides = [shape.height() + 2 * padding, shape.width() + 2 * padding];
        Self::spread(shape, sides, padding, 1)
    }

    /// Layout that a convolution reads of images with few channels: a block for each value, so that no block is filled
    /// up with padding.
    pub fn overlapping(shape: Shape, window: Window) -> Self {
        let (padding, channels) = (window.padding, shape.channels());
        let row = (shape.width() + 2 * padding) * channels;
        Self {
            shape,
            example: (shape.height() + 2 * padding) * row,
            first: padding * (row + channels),
            row,
            column: channels,
            ones: false,
            overlapping: true,
        }
    }

    /// The gradient by the outputs of a convolution, as the gradient by its input is computed from it: as far apart as the
    /// windows are, and with zeros around for those that would start before the image or end behind it.
    pub fn gradient(output: Shape, input: Shape, window: Window) -> Self {
        let sides = [input.height(), input.width()].map(|side| side + window.size - 1);
        Self::spread(output, sides, window.size - 1 - window.padding, window.stride)
    }

    /// Pixels `step` apart, in a field of `sides`, from the corner `border` on.
    fn spread(shape: Shape, [height, width]: [usize; 2], border: usize, step: usize) -> Self {
        let blocks = shape.channels().div_ceil(4);
        Self {
            shape,
            example: height * width * blocks,
            first: border * (width + 1) * blocks,
            row: step * width * blocks,
            column: step * blocks,
            ones: false,
            overlapping: false,
        }
    }

    /// Returns true if the constant 1 stands straight behind the values, as in a flat example.
    pub(super) fn ones_behind_channels(&self) -> bool {
        self.ones && matches!(self.shape, Shape::Flat(_))
    }

    /// Blocks of a pixel's channels.
    pub(super) fn channel_blocks(&self) -> usize {
        self.shape.channels().div_ceil(4)
    }

    /// Columns of the matrix that holds a row for each example.
    fn columns(&self) -> usize {
        match self.shape {
            Shape::Flat(features) => features + usize::from(self.ones),
            Shape::Image { .. } => 4 * self.example - if self.ones { 3 } else { 0 },
        }
    }

    /// Fills the blocks of an example of overlapping ones, of which each has its first value, with the first values of the
    /// three blocks behind it in its row of pixels.
    fn repeat_first_values(&self, blocks: &mut [f32]) {
        for row in blocks.chunks_exact_mut(4 * self.row) {
            for at in 0..row.len() {
                row[at] = row.get(4 * (at / 4 + at % 4)).copied().unwrap_or(0.0);
            }
        }
    }

    /// Index of a value within its example, in numbers of 4 bytes.
    fn at(&self, value: usize) -> usize {
        let channels = self.shape.channels();
        let (pixel, channel) = (value / channels, value % channels);
        let (y, x) = (pixel / self.shape.width(), pixel % self.shape.width());
        let block = self.first + y * self.row + x * self.column;
        4 * block + if self.overlapping { 4 * channel } else { channel }
    }
}

/// A tensor on the device, an example a row. A clone is the same tensor.
#[derive(Clone)]
pub struct Tensor {
    /// Values, borders and padding.
    pub matrix: Matrix,
    /// Layout of each row, which is an example.
    pub layout: Layout,
}

impl Tensor {
    /// A tensor of zeros, with the constant 1 where the layout has it.
    ///
    /// # Errors
    /// As [`Matrix::new`].
    pub fn new(gpu: &Gpu, what: impl Into<BufferLabel>, rows: usize, layout: Layout) -> Result<Self> {
        let columns = layout.columns();
        let matrix = match layout.ones {
            true => Matrix::with_ones(gpu, what, rows, columns)?,
            false => Matrix::new(gpu, what, rows, columns)?,
        };
        Ok(Self { matrix, layout })
    }

    /// Takes these values, `[rows, shape]`; all that is between them is zero, or the constant 1, afterwards.
    pub fn write(&self, gpu: &Gpu, values: &[f32]) {
        let (length, columns) = (self.layout.shape.len(), self.matrix.columns);
        let mut rows = vec![0.0; values.len() / length * columns];
        for (row, values) in rows.chunks_exact_mut(columns).zip(values.chunks_exact(length)) {
            values.iter().enumerate().for_each(|(at, &value)| row[self.layout.at(at)] = value);
            if self.layout.ones {
                row[columns - 1] = 1.0;
            }
            if self.layout.overlapping {
                self.layout.repeat_first_values(row);
            }
        }
        self.matrix.write(gpu, &rows);
    }

    /// The first `rows` rows, `[rows, shape]`.
    ///
    /// # Errors
    /// Errors of the device.
    pub async fn read(&self, gpu: &Gpu, rows: usize) -> Result<Vec<f32>> {
        let stride = 4 * self.matrix.column_blocks();
        let padded: Vec<f32> = read_buffer(gpu, &self.matrix.buffer, 4 * (rows * stride) as u64).await?;
        let values =
            padded.chunks_exact(stride).flat_map(|row| (0..self.layout.shape.len()).map(|at| row[self.layout.at(at)]));
        Ok(values.collect())
    }
}

/// A tensor as a kernel sees it.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub(super) buffer: &'a wgpu::Buffer,
    pub(super) layout: Layout,
}

impl<'a> From<&'a Tensor> for View<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self { buffer: &tensor.matrix.buffer, layout: tensor.layout }
    }
}

impl<'a> From<&'a Matrix> for View<'a> {
    /// The columns are features.
    fn from(matrix: &'a Matrix) -> Self {
        Self { buffer: &matrix.buffer, layout: Layout::features(matrix.columns) }
    }
}

impl<'a> View<'a> {
    /// Another buffer with the same layout.
    pub(super) fn of(self, buffer: &'a wgpu::Buffer) -> Self {
        Self { buffer, ..self }
    }
}

/// The override constants of a layout: `PREFIX_EXAMPLE`, `PREFIX_FIRST`, `PREFIX_ROW` and `PREFIX_COLUMN`.
macro_rules! layout_constants {
    ($prefix:literal, $layout:expr) => {{
        let layout: $crate::gpu::tensor::Layout = $layout;
        [
            (concat!($prefix, "_EXAMPLE"), layout.example as f64),
            (concat!($prefix, "_FIRST"), layout.first as f64),
            (concat!($prefix, "_ROW"), layout.row as f64),
            (concat!($prefix, "_COLUMN"), layout.column as f64),
        ]
    }};
}
pub(super) use layout_constants;

/// The rows of a weights matrix on the device: those of the host in groups, each padded with zeros, then the bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightRows {
    /// Number of groups.
    pub groups: usize,
    /// Rows of a group on the host.
    pub group: usize,
    /// Rows of a group on the device.
    pub stride: usize,
}

impl WeightRows {
    /// Rows in the order of the host, without padding.
    pub fn plain(inputs: usize) -> Self {
        Self { groups: 1, group: inputs, stride: inputs }
    }

    /// Rows of a linear layer that reads tensors of this layout.
    pub fn linear(layout: Layout) -> Self {
        match layout.shape {
            Shape::Flat(features) => Self::plain(features),
            Shape::Image { channels, .. } => {
                Self { groups: layout.shape.positions(), group: channels, stride: 4 * layout.channel_blocks() }
            }
        }
    }

    /// Rows of a convolution that reads tensors of this layout.
    pub fn conv2d(layout: Layout, window: Window) -> Self {
        let (size, channels) = (window.size, layout.shape.channels());
        match layout.overlapping {
            true => Self { groups: size, group: size * channels, stride: (size * channels).next_multiple_of(4) },
            false => Self { groups: size * size, group: channels, stride: 4 * layout.channel_blocks() },
        }
    }

    /// The row of the bias, which is the last.
    pub fn bias(self) -> usize {
        self.groups * self.stride
    }

    /// Rows on the device of those on the host, in order.
    fn rows(self) -> impl Iterator<Item = usize> {
        let inputs = (0..self.groups).flat_map(move |group| (0..self.group).map(move |row| group * self.stride + row));
        inputs.chain([self.bias()])
    }

    /// The matrix on the device, `[bias + 1, outputs]`, of one on the host, `[inputs + 1, outputs]`.
    pub fn spread(self, values: &[f32], outputs: usize) -> Vec<f32> {
        let mut spread = vec![0.0; (self.bias() + 1) * outputs];
        for (row, values) in self.rows().zip(values.chunks_exact(outputs)) {
            spread[row * outputs..][..outputs].copy_from_slice(values);
        }
        spread
    }

    /// The reverse of [`spread`](Self::spread).
    pub fn gather(self, values: &[f32], outputs: usize) -> Vec<f32> {
        self.rows().flat_map(|row| &values[row * outputs..][..outputs]).copied().collect()
    }
}
