//! The one place that makes bind groups, and that knows how a dispatch is recorded.

use std::sync::Arc;

pub use super::compiler::Program;
pub(super) use super::compiler::{Access, Pipeline};
use super::device::Gpu;
use super::profile::Profiler;
pub use super::uniforms::StepUniforms;
use crate::error::{Error, Result};
use crate::parallel::*;

/// A buffer at a binding number.
pub(super) type Binding<'a> = (u32, Access, &'a wgpu::Buffer);

/// The uniforms of the steps of one submission; each dispatch sees those of one step.
pub struct StepUniformBuffer {
    buffer: wgpu::Buffer,
    stride: u64,
    bytes: Vec<u8>,
}

impl StepUniformBuffer {
    /// Creates a buffer for `count` steps.
    ///
    /// # Errors
    /// [`Error::Invalid`] if that is more than the adapter allows.
    pub fn new(gpu: &Gpu, count: usize) -> Result<Self> {
        let alignment = gpu.limits().min_uniform_buffer_offset_alignment;
        let stride = (size_of::<StepUniforms>() as u64).next_multiple_of(u64::from(alignment));
        let bytes = stride * count as u64;
        let buffer =
            gpu.buffer("the step uniforms", bytes, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST)?;
        Ok(Self { buffer, stride, bytes: vec![0; bytes as usize] })
    }

    /// Records all kernels, in order, for each of `steps`, in order. Submit the encoder before the next call:
    /// it overwrites the uniforms. With a profiler, each dispatch is timed in a pass of its own; else all are one pass.
    pub fn record<'a>(
        &mut self,
        gpu: &Gpu,
        steps: &[StepUniforms],
        kernels: impl Iterator<Item = &'a Kernel> + Clone,
        profiler: Option<&Profiler>,
    ) -> wgpu::CommandEncoder {
        let dispatches = (0..steps.len()).flat_map(|step| kernels.clone().map(move |kernel| (step, kernel)));
        self.record_each(gpu, steps, dispatches, profiler)
    }

    /// Records dispatches, in order: each a kernel on one of `steps`, by its number. As [`record`](Self::record).
    pub(super) fn record_each<'a>(
        &mut self,
        gpu: &Gpu,
        steps: &[StepUniforms],
        dispatches: impl Iterator<Item = (usize, &'a Kernel)>,
        profiler: Option<&Profiler>,
    ) -> wgpu::CommandEncoder {
        let stride = self.stride as usize;
        for (uniforms, bytes) in steps.iter().zip(self.bytes.chunks_mut(stride)) {
            bytes[..size_of::<StepUniforms>()].copy_from_slice(bytemuck::bytes_of(uniforms));
        }
        gpu.queue.write_buffer(&self.buffer, 0, &self.bytes[..steps.len() * stride]);
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let dispatches = dispatches.map(|(step, kernel)| (kernel, (step * stride) as u32, steps[step].batch));
        match profiler {
            None => {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                dispatches.for_each(|(kernel, offset, batch)| kernel.dispatch(gpu, &mut pass, offset, batch));
            }
            Some(profiler) => {
                let mut count = 0;
                for (kernel, offset, batch) in dispatches {
                    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                        label: Some(kernel.name),
                        timestamp_writes: Some(profiler.writes(count)),
                    });
                    kernel.dispatch(gpu, &mut pass, offset, batch);
                    count += 1;
                }
                profiler.resolve(&mut encoder, count);
            }
        }
        encoder
    }
}

impl StepUniformBuffer {
    /// Records part number `part` of `parts` of a kernel on one step: a dispatch of some of its rows of workgroups, or of
    /// the parts of its depth. Submit the encoder before the next call.
    pub(super) fn record_part(
        &mut self,
        gpu: &Gpu,
        uniforms: StepUniforms,
        kernel: &Kernel,
        (part, parts): (u32, u32),
    ) -> wgpu::CommandEncoder {
        let [x, y, z] = (kernel.grid)(uniforms.batch);
        let share = |of: u32| [part, part + 1].map(|part| (u64::from(of) * u64::from(part) / u64::from(parts)) as u32);
        let (uniforms, grid) = if z > 1 {
            let [first, end] = share(z);
            (StepUniforms { first_part: first, ..uniforms }, [x, y, end - first])
        } else {
            let [first, end] = share(y);
            (StepUniforms { first_tile: first, ..uniforms }, [x, end - first, 1])
        };
        gpu.queue.write_buffer(&self.buffer, 0, bytemuck::bytes_of(&uniforms));
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        kernel.dispatch_workgroups(gpu, &mut encoder.begin_compute_pass(&Default::default()), 0, grid);
        encoder
    }
}

/// Workgroups of a dispatch, from the number of examples in the batch.
pub(super) type Grid = Box<dyn Fn(u32) -> [u32; 3]>;

/// A program with its buffers: all that a dispatch needs but the step's uniforms.
pub struct Kernel {
    pub(super) name: &'static str,
    pipeline: Arc<Pipeline>,
    bind_group: wgpu::BindGroup,
    grid: Grid,
}

impl Kernel {
    /// Binds buffers to `program` with these override constants. Kernels that share both share what is compiled.
    pub(super) fn new(
        gpu: &Gpu,
        program: &Program,
        constants: &[(&'static str, f64)],
        steps: &StepUniformBuffer,
        bindings: &[Binding<'_>],
        grid: Grid,
    ) -> Self {
        let accesses: Vec<_> = bindings.iter().map(|&(binding, access, _)| (binding, access)).collect();
        let pipeline = gpu.compiler.pipeline(&gpu.device, program, constants, &accesses);
        let step = wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: &steps.buffer,
                offset: 0,
                size: wgpu::BufferSize::new(size_of::<StepUniforms>() as u64),
            }),
        };
        let buffers = bindings
            .iter()
            .map(|&(binding, _, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() });
        let bind_group = gpu.with_error_scope(&format!("the bindings of kernel {}", program.name), || {
            gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(program.name),
                layout: pipeline.layout(),
                entries: &std::iter::once(step).chain(buffers).collect::<Vec<_>>(),
            })
        });
        Self { name: program.name, pipeline, bind_group, grid }
    }
}

impl Kernel {
    /// Refuses a batch that needs more workgroups along a side than the adapter allows.
    pub(super) fn check_grid(&self, gpu: &Gpu, batch: usize) -> Result<()> {
        let most = gpu.limits().max_compute_workgroups_per_dimension;
        let workgroups = (self.grid)(batch as u32);
        if let Some(count) = workgroups.into_iter().find(|&count| count > most) {
            return Err(Error::Invalid(format!(
                "kernel {} would need {count} workgroups along a side for a batch of {batch}, and adapter {} allows \
                 {most}; use a smaller `batch_size` or smaller `hidden` layers, or `Device::cpu()`",
                self.name,
                gpu.info().name
            )));
        }
        Ok(())
    }

    /// Rows of workgroups, or parts of the depth: how many parts it can be split in.
    pub(super) fn tile_rows(&self, batch: u32) -> u32 {
        let [_, y, z] = (self.grid)(batch);
        if z > 1 { z } else { y }
    }

    fn dispatch(&self, gpu: &Gpu, pass: &mut wgpu::ComputePass<'_>, offset: u32, batch: u32) {
        self.dispatch_workgroups(gpu, pass, offset, (self.grid)(batch));
    }

    fn dispatch_workgroups(&self, gpu: &Gpu, pass: &mut wgpu::ComputePass<'_>, offset: u32, [x, y, z]: [u32; 3]) {
        pass.set_pipeline(compiled(gpu, &self.pipeline));
        pass.set_bind_group(0, &self.bind_group, &[offset]);
        pass.dispatch_workgroups(x, y, z);
    }
}

/// Returns a kernel's pipeline, compiled now if it was not needed before.
fn compiled<'a>(gpu: &Gpu, pipeline: &'a Pipeline) -> &'a wgpu::ComputePipeline {
    let what = || format!("kernel {}", pipeline.name());
    pipeline.compiled(|| gpu.with_error_scope(&what(), || gpu.compiler.compile(&gpu.device, pipeline)))
}

/// Compiles what these kernels need, natively on all cores; [`Gpu::check`] tells what went wrong.
pub(super) fn compile<'a>(gpu: &Gpu, kernels: impl Iterator<Item = &'a Kernel>) {
    let pipelines: Vec<&Pipeline> = kernels.map(|kernel| &*kernel.pipeline).collect();
    pipelines.into_par_iter().for_each(|pipeline| {
        compiled(gpu, pipeline);
    });
}
