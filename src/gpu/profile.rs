//! Profiler of training steps: the time of each kernel, by timestamp queries.

use super::device::Gpu;
use super::readback::read_buffer;
use crate::backend::KernelTime;
use crate::error::{Error, Result};

/// Timestamp queries for the dispatches of a submission, and the accumulated times.
pub struct Profiler {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    kernels: Vec<KernelTime>,
}

impl Profiler {
    /// Creates a profiler for submissions of at most `steps` steps, each of which dispatches these kernels in order.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the adapter has no timestamp queries.
    pub fn new(gpu: &Gpu, steps: usize, names: impl Iterator<Item = &'static str>) -> Result<Self> {
        if !gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Err(Error::Invalid(format!("adapter {} has no timestamp queries: no `profile`", gpu.info().name)));
        }
        let kernels: Vec<KernelTime> = names.map(|name| KernelTime { name, dispatches: 0, seconds: 0.0 }).collect();
        let count = (2 * steps * kernels.len()) as u32;
        let queries = gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("profile"),
            ty: wgpu::QueryType::Timestamp,
            count,
        });
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = gpu.buffer("the timestamps", 8 * u64::from(count), usage)?;
        Ok(Self { queries, resolved, kernels })
    }

    /// Timestamp writes of dispatch number `dispatch` of a submission, for a compute pass of its own.
    pub(super) fn writes(&self, dispatch: usize) -> wgpu::ComputePassTimestampWrites<'_> {
        wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(2 * dispatch as u32),
            end_of_pass_write_index: Some(2 * dispatch as u32 + 1),
        }
    }

    /// Resolves the queries of a submission of `dispatches` dispatches.
    pub(super) fn resolve(&self, encoder: &mut wgpu::CommandEncoder, dispatches: usize) {
        encoder.resolve_query_set(&self.queries, 0..2 * dispatches as u32, &self.resolved, 0);
    }

    /// Waits for the submission, of `steps` steps, and adds its times.
    pub(super) async fn add(&mut self, gpu: &Gpu, steps: usize) -> Result<()> {
        let dispatches = steps * self.kernels.len();
        let stamps: Vec<u64> = read_buffer(gpu, &self.resolved, 16 * dispatches as u64).await?;
        let period = f64::from(gpu.queue.get_timestamp_period()) * 1e-9;
        for (dispatch, pair) in stamps.chunks_exact(2).enumerate() {
            let kernel = dispatch % self.kernels.len();
            self.kernels[kernel].dispatches += 1;
            self.kernels[kernel].seconds += pair[1].saturating_sub(pair[0]) as f64 * period;
        }
        Ok(())
    }

    /// Accumulated times, in the order of a step.
    pub fn kernels(&self) -> &[KernelTime] {
        &self.kernels
    }
}
