//! Readback: single buffers, and the ring that returns the losses of every step to the host.

use std::collections::VecDeque;

use futures_channel::oneshot;

use super::device::{BufferLabel, Gpu};
use crate::error::Result;
use crate::shards::Sharding;

const STAGING: wgpu::BufferUsages = wgpu::BufferUsages::MAP_READ.union(wgpu::BufferUsages::COPY_DST);

type Mapped = oneshot::Receiver<std::result::Result<(), wgpu::BufferAsyncError>>;

/// Starts mapping the first `bytes` bytes of a staging buffer.
fn map(staging: &wgpu::Buffer, bytes: u64) -> Mapped {
    let (sender, receiver) = oneshot::channel();
    // Sending fails only if the receiver was dropped, and then the result is no longer needed.
    staging.map_async(wgpu::MapMode::Read, ..bytes, move |result| drop(sender.send(result)));
    receiver
}

/// On native targets, polls the device until a submission is done; a browser makes progress by itself.
pub(super) fn poll(gpu: &Gpu, submission: wgpu::SubmissionIndex) -> Result<()> {
    #[cfg(not(target_arch = "wasm32"))]
    {
        let waited = match gpu.wait(Some(submission)) {
            // The device refused the submission. Wait for the work that it did accept, after which it reports the
            // reason.
            Err(wgpu::PollError::WrongSubmissionIndex(..)) => gpu.wait(None),
            waited => waited,
        };
        if waited.is_err() {
            gpu.check()?;
            return gpu.abandon();
        }
    }
    #[cfg(target_arch = "wasm32")]
    let _ = submission;
    gpu.check()
}

/// Waits for a submission and for the mapping of its staging buffer.
async fn wait(gpu: &Gpu, submission: wgpu::SubmissionIndex, mapped: Mapped) -> Result<()> {
    poll(gpu, submission)?;
    let result = mapped.await;
    gpu.check()?;
    match result {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(gpu.error(format!("cannot read results back: {error}"))),
        Err(_) => Err(gpu.error("the device went away before its results came back")),
    }
}

fn mapped_values<T: bytemuck::Pod>(gpu: &Gpu, staging: &wgpu::Buffer, bytes: u64) -> Result<Vec<T>> {
    let view =
        staging.get_mapped_range(..bytes).map_err(|error| gpu.error(format!("cannot read results back: {error}")))?;
    Ok(bytemuck::pod_collect_to_vec::<u8, T>(&view))
}

/// Reads the first `bytes` bytes of a buffer, after everything submitted before.
///
/// # Errors
/// Errors of the device.
pub async fn read_buffer<T: bytemuck::Pod>(gpu: &Gpu, buffer: &wgpu::Buffer, bytes: u64) -> Result<Vec<T>> {
    Reading::of(gpu, buffer, bytes)?.values(gpu).await
}

/// A buffer that is being read, while the device goes on.
pub(super) struct Reading {
    staging: wgpu::Buffer,
    bytes: u64,
    submission: wgpu::SubmissionIndex,
    mapped: Mapped,
}

impl Reading {
    /// Starts to read the first `bytes` bytes of a buffer, after everything submitted before. To read several buffers, start
    /// all before the first wait: each wait takes as long as the way to the device and back, which is long from a browser.
    ///
    /// # Errors
    /// Errors of the device.
    pub fn of(gpu: &Gpu, buffer: &wgpu::Buffer, bytes: u64) -> Result<Self> {
        let encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        Self::start(gpu, encoder, buffer, bytes)
    }

    /// Submits what is recorded, followed by the copy of the first `bytes` bytes of a buffer.
    ///
    /// # Errors
    /// Errors of the device.
    pub fn start(gpu: &Gpu, mut encoder: wgpu::CommandEncoder, buffer: &wgpu::Buffer, bytes: u64) -> Result<Self> {
        let staging = gpu.buffer("a staging buffer", bytes, STAGING)?;
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, bytes);
        let submission = gpu.submit([encoder.finish()])?;
        let mapped = map(&staging, bytes);
        Ok(Self { staging, bytes, submission, mapped })
    }

    /// Waits for the values.
    ///
    /// # Errors
    /// Errors of the device.
    pub async fn values<T: bytemuck::Pod>(self, gpu: &Gpu) -> Result<Vec<T>> {
        wait(gpu, self.submission, self.mapped).await?;
        mapped_values(gpu, &self.staging, self.bytes)
    }
}

/// Ring of staging buffers: returns the losses of each submission while later ones run.
pub(super) struct Ring {
    /// One loss per example, `[steps of a submission, stride]`, written by the kernels.
    pub losses: wgpu::Buffer,
    stride: usize,
    staging: Vec<wgpu::Buffer>,
    next: usize,
    in_flight: VecDeque<InFlight>,
    /// The cut of every batch.
    pub sharding: Sharding,
}

struct InFlight {
    slot: usize,
    submission: wgpu::SubmissionIndex,
    mapped: Mapped,
    /// Number of examples of each step.
    batches: Vec<usize>,
}

impl Ring {
    /// A ring of `slots` submissions of at most `steps` steps with at most `stride` examples.
    pub fn new(gpu: &Gpu, slots: usize, steps: usize, stride: usize, sharding: Sharding) -> Result<Self> {
        let bytes = 4 * (steps * stride) as u64;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let label = BufferLabel { name: "the losses of a submission", remedy: "a smaller `batch_size`" };
        let losses = gpu.buffer(label, bytes, usage)?;
        let staging = (0..slots).map(|_| gpu.buffer("a staging buffer", bytes, STAGING)).collect::<Result<_>>()?;
        Ok(Self { losses, stride, staging, next: 0, in_flight: VecDeque::new(), sharding })
    }

    /// First row of a step's losses in the loss buffer.
    pub fn first_row(&self, step: usize) -> usize {
        step * self.stride
    }

    /// Submits the recorded steps, followed by the copy of their losses. If the ring is full, first waits for its
    /// oldest submission and appends the losses of that one.
    pub async fn submit(
        &mut self,
        gpu: &Gpu,
        mut encoder: wgpu::CommandEncoder,
        batches: Vec<usize>,
        losses: &mut Vec<f32>,
    ) -> Result<()> {
        if self.in_flight.len() == self.staging.len() {
            self.take_oldest(gpu, losses).await?;
        }
        let slot = self.next;
        self.next = (slot + 1) % self.staging.len();
        let bytes = 4 * (batches.len() * self.stride) as u64;
        encoder.copy_buffer_to_buffer(&self.losses, 0, &self.staging[slot], 0, bytes);
        let submission = gpu.submit([encoder.finish()])?;
        let mapped = map(&self.staging[slot], bytes);
        self.in_flight.push_back(InFlight { slot, submission, mapped, batches });
        Ok(())
    }

    /// Waits for all submissions and appends their losses.
    pub async fn drain(&mut self, gpu: &Gpu, losses: &mut Vec<f32>) -> Result<()> {
        while !self.in_flight.is_empty() {
            self.take_oldest(gpu, losses).await?;
        }
        Ok(())
    }

    async fn take_oldest(&mut self, gpu: &Gpu, losses: &mut Vec<f32>) -> Result<()> {
        let Some(InFlight { slot, submission, mapped, batches }) = self.in_flight.pop_front() else { return Ok(()) };
        wait(gpu, submission, mapped).await?;
        let bytes = 4 * (batches.len() * self.stride) as u64;
        let rows: Vec<f32> = mapped_values(gpu, &self.staging[slot], bytes)?;
        self.staging[slot].unmap();
        for (step, &batch) in batches.iter().enumerate() {
            let cut = self.sharding.cut(batch);
            let rows = &rows[self.first_row(step)..][cut.rows()];
            let shards: Vec<_> = cut.own().collect();
            let mut sum = [0.0];
            // Summed in f64 and in order, so that the bits do not depend on the adapter.
            cut.sum(&mut sum, &mut Vec::new(), |shard, sum| {
                sum[0] = rows[shards[shard].clone()].iter().map(|&loss| f64::from(loss)).sum::<f64>();
            })?;
            losses.push((sum[0] / batch as f64) as f32);
        }
        Ok(())
    }
}
