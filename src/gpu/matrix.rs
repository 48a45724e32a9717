//! Matrices on the device.

use super::device::{BufferLabel, Gpu};
use super::readback::{Reading, read_buffer};
use crate::error::Result;

/// An f32 matrix `[rows, columns]` on the device, row-major. Both sizes are padded with zeros to multiples of 4, so
/// that kernels work on whole blocks of 4 × 4. A clone is the same matrix.
#[derive(Clone)]
pub struct Matrix {
    /// The padded values.
    pub buffer: wgpu::Buffer,
    /// Rows, without padding.
    pub rows: usize,
    /// Columns, without padding.
    pub columns: usize,
}

impl Matrix {
    /// Creates a matrix of zeros; `what` names it in error messages.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) if the matrix exceeds the adapter's limits.
    pub fn new(gpu: &Gpu, what: impl Into<BufferLabel>, rows: usize, columns: usize) -> Result<Self> {
        let padded = |size: usize| (size as u64).div_ceil(4).saturating_mul(4);
        let bytes = padded(rows).saturating_mul(padded(columns)).saturating_mul(4);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        Ok(Self { buffer: gpu.buffer(what, bytes, usage)?, rows, columns })
    }

    /// Creates a matrix with these values, `[rows, columns]`.
    ///
    /// # Errors
    /// The errors of [`Matrix::new`].
    pub fn from_values(
        gpu: &Gpu,
        what: impl Into<BufferLabel>,
        rows: usize,
        columns: usize,
        values: &[f32],
    ) -> Result<Self> {
        let matrix = Self::new(gpu, what, rows, columns)?;
        matrix.write(gpu, values);
        Ok(matrix)
    }

    /// Writes these values, `[rows, columns]`, after everything submitted before.
    pub fn write(&self, gpu: &Gpu, values: &[f32]) {
        let mut padded = Vec::with_capacity(self.rows * self.stride());
        for row in values.chunks_exact(self.columns) {
            padded.extend_from_slice(row);
            padded.resize(padded.len().next_multiple_of(4), 0.0);
        }
        gpu.queue.write_buffer(&self.buffer, 0, bytemuck::cast_slice(&padded));
    }

    /// Creates a matrix of zeros whose last column is 1: the constant that a layer's bias is multiplied by.
    ///
    /// # Errors
    /// The errors of [`Matrix::new`].
    pub fn with_ones(gpu: &Gpu, what: impl Into<BufferLabel>, rows: usize, columns: usize) -> Result<Self> {
        let matrix = Self::new(gpu, what, rows, columns)?;
        let mut values = vec![0.0f32; rows * matrix.stride()];
        values.iter_mut().skip(columns - 1).step_by(matrix.stride()).for_each(|value| *value = 1.0);
        gpu.queue.write_buffer(&matrix.buffer, 0, bytemuck::cast_slice(&values));
        Ok(matrix)
    }

    /// Reads the first `rows` rows, `[rows, columns]`.
    ///
    /// # Errors
    /// Errors of the device.
    pub async fn read(&self, gpu: &Gpu, rows: usize) -> Result<Vec<f32>> {
        let reading = self.start_reading(gpu, rows)?;
        self.finish_reading(gpu, reading).await
    }

    /// Starts to read the first `rows` rows.
    pub(super) fn start_reading(&self, gpu: &Gpu, rows: usize) -> Result<Reading> {
        Reading::of(gpu, &self.buffer, 4 * (rows * self.stride()) as u64)
    }

    /// Waits for rows that are being read, `[rows, columns]`.
    pub(super) async fn finish_reading(&self, gpu: &Gpu, reading: Reading) -> Result<Vec<f32>> {
        let padded: Vec<f32> = reading.values(gpu).await?;
        Ok(padded.chunks_exact(self.stride()).flat_map(|row| &row[..self.columns]).copied().collect())
    }

    /// Reads the whole buffer, padding included, `[rows, columns]` rounded up to multiples of 4.
    ///
    /// # Errors
    /// Errors of the device.
    pub async fn read_padded(&self, gpu: &Gpu) -> Result<Vec<f32>> {
        read_buffer(gpu, &self.buffer, self.buffer.size()).await
    }

    /// Number of blocks of 4 in a row.
    pub(super) fn column_blocks(&self) -> usize {
        self.columns.div_ceil(4)
    }

    fn stride(&self) -> usize {
        4 * self.column_blocks()
    }
}
