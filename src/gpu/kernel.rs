//! The one place that makes pipelines and bind groups, and that knows how a dispatch is recorded.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};

use bytemuck::{Pod, Zeroable};

use super::device::Gpu;
use super::profile::Profiler;
use crate::error::{Error, Result};
use crate::shader::Part;

/// A WGSL program: files of `shaders/` put together, and the entry point to call.
#[derive(Clone, Debug)]
pub struct Program {
    /// The kernel's name, made of those of its parts.
    pub name: &'static str,
    /// The function to call.
    pub entry: &'static str,
    /// Parts of the program, in any order.
    pub parts: Vec<Part>,
}

impl Program {
    /// A program of these parts. Its name is `base` with the suffixes behind it.
    pub(super) fn new(base: &str, suffixes: &[&str], entry: &'static str, parts: Vec<Part>) -> Self {
        let mut name = base.to_owned();
        for suffix in suffixes.iter().filter(|suffix| !suffix.is_empty()) {
            name.push('_');
            name.push_str(suffix);
        }
        Self { name: interned(name), entry, parts }
    }

    /// The whole text, with a line before each part that names its file.
    pub fn source(&self) -> String {
        self.parts.iter().map(|part| format!("// ---- {} ----\n{}\n", part.path, part.text)).collect()
    }
}

/// The name for as long as the process runs; there are as many as programs.
fn interned(name: String) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(known) = names.get(name.as_str()) {
        return known;
    }
    let name: &'static str = name.leak();
    names.insert(name);
    name
}

/// Access of a kernel to a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    ReadWrite,
}

/// A buffer at a binding number.
pub(super) type Binding<'a> = (u32, Access, &'a wgpu::Buffer);

/// A program with its constants, compiled when it is first needed.
pub(super) struct Pipeline {
    program: Program,
    constants: Vec<(&'static str, f64)>,
    layout: wgpu::BindGroupLayout,
    compiled: OnceLock<wgpu::ComputePipeline>,
}

/// `Step` of `shaders/step.wgsl`.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct StepRecord {
    /// Start of the batch in the shuffled indices, in blocks of 4.
    pub first_block: u32,
    /// Examples in it.
    pub batch: u32,
    /// Start of the results: losses, predictions.
    pub first_row: u32,
    /// Learning rate of its update.
    pub learning_rate: f32,
    /// Sum of the weights of its labels' classes; without class weights as many as there are examples.
    pub weight: f32,
    /// Row of workgroups that a dispatch of a matrix product starts with; 0 but where a product is split.
    pub first_tile: u32,
    /// Bias corrections of AdamW's moments: [`AdamW::moment_scales`](crate::optimizer::AdamW::moment_scales).
    pub moment_scales: [f32; 2],
    /// Key of its random numbers: [`step_key`](crate::random::step_key).
    pub key: u32,
    /// Part of the depth that a dispatch of a matrix product starts with; 0 but where a product is split.
    pub first_part: u32,
    /// Number of examples in the other shards of the batch; 0 for a whole batch.
    pub others: u32,
    /// Place in the batch of the first example.
    pub batch_row: u32,
}

/// The step records of one submission; each dispatch sees one of them.
pub struct StepRecords {
    buffer: wgpu::Buffer,
    stride: u64,
    bytes: Vec<u8>,
}

impl StepRecords {
    /// Room for `count` of them.
    ///
    /// # Errors
    /// [`Error::Invalid`] if that is more than the adapter allows.
    pub fn new(gpu: &Gpu, count: usize) -> Result<Self> {
        let stride = gpu.uniform_stride();
        let bytes = stride * count as u64;
        let buffer =
            gpu.buffer("the step records", bytes, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST)?;
        Ok(Self { buffer, stride, bytes: vec![0; bytes as usize] })
    }

    /// Records all kernels, in order, on each of `records`, in order. Submit the encoder before the next call:
    /// it overwrites the records. With a profiler, each dispatch is timed in a pass of its own; else all are one pass.
    pub fn record<'a>(
        &mut self,
        gpu: &Gpu,
        records: &[StepRecord],
        kernels: impl Iterator<Item = &'a Kernel> + Clone,
        profiler: Option<&Profiler>,
    ) -> wgpu::CommandEncoder {
        let dispatches = (0..records.len()).flat_map(|record| kernels.clone().map(move |kernel| (record, kernel)));
        self.record_each(gpu, records, dispatches, profiler)
    }

    /// Records dispatches, in order: each a kernel on one of `records`, by its number. As [`record`](Self::record).
    pub(super) fn record_each<'a>(
        &mut self,
        gpu: &Gpu,
        records: &[StepRecord],
        dispatches: impl Iterator<Item = (usize, &'a Kernel)>,
        profiler: Option<&Profiler>,
    ) -> wgpu::CommandEncoder {
        let stride = self.stride as usize;
        for (record, bytes) in records.iter().zip(self.bytes.chunks_mut(stride)) {
            bytes[..size_of::<StepRecord>()].copy_from_slice(bytemuck::bytes_of(record));
        }
        gpu.queue.write_buffer(&self.buffer, 0, &self.bytes[..records.len() * stride]);
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let dispatches = dispatches.map(|(record, kernel)| (kernel, (record * stride) as u32, records[record].batch));
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

impl StepRecords {
    /// Records part number `part` of `parts` of a kernel on one step: a dispatch of some of its rows of workgroups, or of
    /// the parts of its depth. Submit the encoder before the next call.
    pub(super) fn record_part(
        &mut self,
        gpu: &Gpu,
        record: StepRecord,
        kernel: &Kernel,
        (part, parts): (u32, u32),
    ) -> wgpu::CommandEncoder {
        let [x, y, z] = (kernel.grid)(record.batch);
        let share = |of: u32| [part, part + 1].map(|part| (u64::from(of) * u64::from(part) / u64::from(parts)) as u32);
        let (record, grid) = if z > 1 {
            let [first, end] = share(z);
            (StepRecord { first_part: first, ..record }, [x, y, end - first])
        } else {
            let [first, end] = share(y);
            (StepRecord { first_tile: first, ..record }, [x, end - first, 1])
        };
        gpu.queue.write_buffer(&self.buffer, 0, bytemuck::bytes_of(&record));
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        kernel.dispatch_workgroups(gpu, &mut encoder.begin_compute_pass(&Default::default()), 0, grid);
        encoder
    }
}

/// Workgroups of a dispatch, from the number of examples in the batch.
pub(super) type Grid = Box<dyn Fn(u32) -> [u32; 3]>;

/// A program with its buffers: all that a dispatch needs but the step record.
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
        steps: &StepRecords,
        bindings: &[Binding<'_>],
        grid: Grid,
    ) -> Self {
        // All that the pipeline is made of: a name is shared by programs that multiply matrices in other ways.
        let parts: Vec<_> = program.parts.iter().map(|part| part.path).collect();
        let accesses: Vec<_> = bindings.iter().map(|&(binding, access, _)| (binding, access)).collect();
        let key = format!("{} {parts:?} {} {constants:?} {accesses:?}", program.name, program.entry);
        let pipeline = {
            let mut pipelines = gpu.pipelines.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            pipelines.entry(key).or_insert_with(|| Arc::new(Pipeline::new(gpu, program, constants, bindings))).clone()
        };
        let step = wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: &steps.buffer,
                offset: 0,
                size: wgpu::BufferSize::new(size_of::<StepRecord>() as u64),
            }),
        };
        let buffers = bindings
            .iter()
            .map(|&(binding, _, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() });
        let bind_group = gpu.making(&format!("the bindings of kernel {}", program.name), || {
            gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(program.name),
                layout: &pipeline.layout,
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
        pass.set_pipeline(self.pipeline.get(gpu));
        pass.set_bind_group(0, &self.bind_group, &[offset]);
        pass.dispatch_workgroups(x, y, z);
    }
}

impl Pipeline {
    fn new(gpu: &Gpu, program: &Program, constants: &[(&'static str, f64)], bindings: &[Binding<'_>]) -> Self {
        let entry = |binding, ty, has_dynamic_offset, min_binding_size| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size },
            count: None,
        };
        let step_size = wgpu::BufferSize::new(size_of::<StepRecord>() as u64);
        let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform, true, step_size)];
        for &(binding, access, _) in bindings {
            let ty = wgpu::BufferBindingType::Storage { read_only: access == Access::Read };
            entries.push(entry(binding, ty, false, None));
        }
        let label = Some(program.name);
        let layout = gpu.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
        Self { program: program.clone(), constants: constants.to_vec(), layout, compiled: OnceLock::new() }
    }

    fn get(&self, gpu: &Gpu) -> &wgpu::ComputePipeline {
        let what = || format!("kernel {}", self.program.name);
        self.compiled.get_or_init(|| gpu.making(&what(), || self.compile(gpu)))
    }

    fn compile(&self, gpu: &Gpu) -> wgpu::ComputePipeline {
        let Program { name, entry, .. } = self.program;
        let label = Some(name);
        let module = gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label,
            source: wgpu::ShaderSource::Wgsl(gpu.altered(self.program.source()).into()),
        });
        #[cfg(not(target_arch = "wasm32"))]
        let cache = gpu.pipeline_cache.as_ref().map(|cache| &cache.cache);
        #[cfg(target_arch = "wasm32")]
        let cache = None;
        gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&gpu.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label,
                bind_group_layouts: &[Some(&self.layout)],
                immediate_size: 0,
            })),
            module: &module,
            entry_point: Some(entry),
            compilation_options: wgpu::PipelineCompilationOptions { constants: &self.constants, ..Default::default() },
            cache,
        })
    }
}

/// Compiles what these kernels need, natively on all cores; [`Gpu::check`] tells what went wrong.
pub(super) fn compile<'a>(gpu: &Gpu, kernels: impl Iterator<Item = &'a Kernel>) {
    let pipelines: Vec<&Pipeline> = kernels.map(|kernel| &*kernel.pipeline).collect();
    #[cfg(not(target_arch = "wasm32"))]
    {
        use rayon::prelude::*;
        pipelines.into_par_iter().for_each(|pipeline| {
            pipeline.get(gpu);
        });
    }
    #[cfg(target_arch = "wasm32")]
    pipelines.into_iter().for_each(|pipeline| {
        pipeline.get(gpu);
    });
}
