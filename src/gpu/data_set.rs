//! Data sets on the device: resident as a whole or, if larger than a buffer may be, streamed with one submission's
//! batches at a time.
//!
//! A streamed data set stays on the host. Before a submission, the rows of its batches are gathered in the shuffled
//! order and written to the device, where they replace those of the submission before. The queue does both in turn, so
//! the host gathers rows while the device still runs earlier steps. Every row is at the same position of its batch as
//! in a resident data set, so the results have the same bits.

use std::ops::Range;

use super::device::{BufferLabel, Gpu};
use super::kernels::Inputs;
use crate::data::{Examples, Features, Row, Targets};
use crate::error::Result;

/// Number of bytes uploaded at a time, which keeps the driver's staging memory small.
const UPLOAD_BYTES: usize = 4 << 20;

pub(super) const EXAMPLES: BufferLabel = BufferLabel { name: "the data set", remedy: "fewer examples" };
const BATCHES: BufferLabel = BufferLabel { name: "the examples of a submission", remedy: "a smaller `batch_size`" };

/// Examples, targets and shuffled indices on the device.
pub(super) struct DataSet {
    examples: wgpu::Buffer,
    /// Labels, `[rows]`, or real targets, `[rows, outputs]` in blocks of 4.
    pub targets: wgpu::Buffer,
    pub order: wgpu::Buffer,
    /// Upper limit of the examples in a batch.
    batch_size: usize,
    features: usize,
    /// True if the features are floats, false if they are bytes.
    floats: bool,
    pub count: usize,
    /// Variance of real targets.
    pub variance: Option<f64>,
    /// Host copy of a streamed data set.
    streamed: Option<Streamed>,
}

struct Streamed {
    examples: Examples,
    /// Shuffled indices of the epoch.
    order: Vec<u32>,
}

/// Rows in the layout that kernels read.
#[derive(Default)]
struct Rows {
    examples: Vec<u8>,
    targets: Vec<u8>,
}

/// Size in bytes of a row on the device.
struct RowBytes {
    example: u64,
    target: u64,
}

impl DataSet {
    /// Uploads the examples if they fit, or creates buffers for `batches` batches of them.
    ///
    /// # Errors
    /// [`Invalid`](crate::Error::Invalid) if not even the batches fit; errors of the device.
    pub fn new(gpu: &Gpu, examples: &Examples, batch_size: usize, batches: usize) -> Result<Self> {
        let count = examples.len();
        let row = RowBytes::of(examples);
        // Each batch starts at a multiple of 4 in the shuffled indices.
        let rows_of_batch = batch_size.next_multiple_of(4);
        let order_length = count.div_ceil(batch_size).saturating_mul(rows_of_batch);
        let largest = (row.example.max(row.target).saturating_mul(count as u64)).max(4 * order_length as u64);
        let is_streamed = largest > gpu.resident_bytes;
        let (rows, order_length, label) = if is_streamed {
            log::info!(
                "the data set is streamed: {largest} bytes are more than the {} of a buffer",
                gpu.resident_bytes
            );
            let rows = batches.saturating_mul(rows_of_batch);
            (rows, rows, BATCHES)
        } else {
            (count, order_length, EXAMPLES)
        };
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let buffer = |name, row| gpu.buffer(BufferLabel { name, ..label }, (rows as u64).saturating_mul(row), usage);
        let mut data_set = Self {
            examples: buffer(label.name, row.example)?,
            targets: buffer("the targets", row.target)?,
            order: gpu.buffer(
                BufferLabel { name: "the order of the examples", ..label },
                4 * order_length as u64,
                usage,
            )?,
            batch_size,
            features: examples.features,
            floats: !examples.inputs.is_bytes(),
            count,
            variance: examples.variance(),
            streamed: None,
        };
        if is_streamed {
            let in_place: Vec<u32> = (0..rows as u32).collect();
            gpu.queue.write_buffer(&data_set.order, 0, bytemuck::cast_slice(&in_place));
            data_set.streamed = Some(Streamed { examples: examples.clone(), order: Vec::new() });
        } else {
            let rows_at_once = (UPLOAD_BYTES / row.example as usize).max(1);
            for first in (0..count).step_by(rows_at_once) {
                data_set.write(gpu, first, examples, first..count.min(first + rows_at_once));
                gpu.submit([])?;
            }
            examples.check_read()?;
        }
        gpu.check()?;
        Ok(data_set)
    }

    /// Input of a layer that reads the examples.
    pub fn inputs(&self) -> Inputs<'_> {
        let Self { examples, order, features, .. } = self;
        match self.floats {
            false => Inputs::Examples { examples, order, features: *features },
            true => Inputs::FloatExamples { examples, order, features: *features },
        }
    }

    /// Sets the shuffled indices of an epoch.
    pub fn set_order(&mut self, gpu: &Gpu, order: &[u32]) {
        match &mut self.streamed {
            Some(streamed) => {
                streamed.order.clear();
                streamed.order.extend_from_slice(order);
            }
            None => {
                let padded: Vec<u32> = order.chunks(self.batch_size).flat_map(whole_blocks).collect();
                gpu.queue.write_buffer(&self.order, 0, bytemuck::cast_slice(&padded));
            }
        }
    }

    /// Start of a batch on the device, in blocks of 4: the batch starts at `first` in the shuffled indices and is
    /// number `slot` of its submission.
    pub fn first_block(&self, first: usize, slot: usize) -> u32 {
        let batch = if self.streamed.is_some() { slot } else { first / self.batch_size };
        (batch * self.batch_size.div_ceil(4)) as u32
    }

    /// Uploads the rows of the next submission's batches, given as ranges of the shuffled indices; a no-op for resident
    /// data.
    ///
    /// # Errors
    /// [`Format`](crate::Error::Format) if the rows are in a file that was changed or cut off.
    pub fn upload_batches(&self, gpu: &Gpu, batches: &[Range<usize>]) -> Result<()> {
        if let Some(Streamed { examples, order }) = &self.streamed {
            batches.iter().for_each(|batch| examples.ask_ahead(order, batch, self.batch_size));
            let rows = batches.iter().flat_map(|batch| whole_blocks(&order[batch.clone()]));
            self.write(gpu, 0, examples, rows.map(|example| example as usize));
            examples.check_read()?;
        }
        Ok(())
    }

    /// Writes rows to the device, starting at row `first` there.
    fn write(&self, gpu: &Gpu, first: usize, examples: &Examples, rows: impl Iterator<Item = usize>) {
        let row = RowBytes::of(examples);
        let mut bytes = Rows::default();
        rows.for_each(|example| bytes.push(examples, example));
        gpu.queue.write_buffer(&self.examples, first as u64 * row.example, &bytes.examples);
        gpu.queue.write_buffer(&self.targets, first as u64 * row.target, &bytes.targets);
    }
}

/// The indices of a batch, padded to a multiple of 4 with its first index.
fn whole_blocks(batch: &[u32]) -> impl Iterator<Item = u32> {
    let missing = batch.len().next_multiple_of(4) - batch.len();
    batch.iter().copied().chain(std::iter::repeat_n(batch[0], missing))
}

impl RowBytes {
    fn of(examples: &Examples) -> Self {
        let blocks = |values: usize| values.div_ceil(4) as u64;
        Self {
            example: blocks(examples.features + 1) * if examples.inputs.is_bytes() { 4 } else { 16 },
            target: match *examples.targets {
                Targets::Classes(_) => 4,
                Targets::Values(_) => 16 * blocks(examples.outputs),
            },
        }
    }
}

impl Rows {
    fn push_bytes(&mut self, bytes: &[u8]) {
        self.examples.extend_from_slice(bytes);
        self.examples.push(u8::MAX);
        self.examples.resize(self.examples.len().next_multiple_of(4), 0);
    }

    fn push_floats(&mut self, values: &[f32]) {
        self.examples.extend_from_slice(bytemuck::cast_slice(values));
        self.examples.extend_from_slice(bytemuck::bytes_of(&1f32));
        self.examples.resize(self.examples.len().next_multiple_of(16), 0);
    }

    /// Appends an example: its features, the constant 1 of the bias, and zeros up to a block of 4; and its label, or
    /// its real targets and zeros up to a block of 4.
    fn push(&mut self, examples: &Examples, example: usize) {
        let features = example * examples.features..(example + 1) * examples.features;
        match &*examples.inputs {
            Features::Bytes(bytes) => self.push_bytes(&bytes[features]),
            Features::Floats(values) => self.push_floats(&values[features]),
            Features::Stored(stored) => match stored.row(example) {
                Row::Bytes(bytes) => self.push_bytes(&bytes),
                Row::Floats(values) => self.push_floats(&values),
            },
        }
        match &*examples.targets {
            Targets::Classes(labels) => self.targets.extend_from_slice(bytemuck::bytes_of(&labels[example])),
            Targets::Values(values) => {
                let row = &values[example * examples.outputs..][..examples.outputs];
                self.targets.extend_from_slice(bytemuck::cast_slice(row));
                self.targets.resize(self.targets.len().next_multiple_of(16), 0);
            }
        }
    }
}
