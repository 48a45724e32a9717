//! Compilation of programs to pipelines: the one place that makes shader modules and pipelines.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock};

#[cfg(not(target_arch = "wasm32"))]
use super::pipeline_cache::PipelineCache;
use super::uniforms::StepUniforms;
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
    /// A program of these parts, each taken once. Its name is `base` with the suffixes behind it.
    pub(super) fn new(base: &str, suffixes: &[&str], entry: &'static str, mut parts: Vec<Part>) -> Self {
        let mut paths = BTreeSet::new();
        parts.retain(|part| paths.insert(part.path));
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

/// A program with its constants, compiled when it is first needed.
pub(super) struct Pipeline {
    program: Program,
    constants: Vec<(&'static str, f64)>,
    layout: wgpu::BindGroupLayout,
    compiled: OnceLock<wgpu::ComputePipeline>,
}

impl Pipeline {
    /// Name of the kernel.
    pub fn name(&self) -> &'static str {
        self.program.name
    }

    /// Layout of the kernel's bind group.
    pub fn layout(&self) -> &wgpu::BindGroupLayout {
        &self.layout
    }

    /// Returns the compiled pipeline; `compile` is called the first time.
    pub fn compiled(&self, compile: impl FnOnce() -> wgpu::ComputePipeline) -> &wgpu::ComputePipeline {
        self.compiled.get_or_init(compile)
    }
}

/// The pipelines of a device. Kernels that share a program and its constants share the pipeline.
#[derive(Clone, Default)]
pub(super) struct Compiler {
    pipelines: Arc<Mutex<HashMap<String, Arc<Pipeline>>>>,
    #[cfg(not(target_arch = "wasm32"))]
    cache: Option<Arc<PipelineCache>>,
    patch: Option<(String, String)>,
}

impl Compiler {
    /// Keeps what the driver compiles in this cache.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn with_cache(self, cache: PipelineCache) -> Self {
        Self { cache: Some(Arc::new(cache)), ..self }
    }

    /// Compiles every shader with `text` replaced by `other`.
    pub fn with_patch(mut self, text: &str, other: &str) -> Self {
        self.pipelines = Arc::default();
        self.patch = Some((text.to_owned(), other.to_owned()));
        self
    }

    /// Returns the pipeline of a program with these override constants and bindings. Nothing is compiled yet.
    pub fn pipeline(
        &self,
        device: &wgpu::Device,
        program: &Program,
        constants: &[(&'static str, f64)],
        bindings: &[(u32, Access)],
    ) -> Arc<Pipeline> {
        // The parts belong to the key, because programs that multiply matrices in different ways share a name.
        let parts: Vec<_> = program.parts.iter().map(|part| part.path).collect();
        let key = format!("{} {parts:?} {} {constants:?} {bindings:?}", program.name, program.entry);
        let mut pipelines = self.pipelines.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let new = || {
            Arc::new(Pipeline {
                program: program.clone(),
                constants: constants.to_vec(),
                layout: layout(device, program.name, bindings),
                compiled: OnceLock::new(),
            })
        };
        pipelines.entry(key).or_insert_with(new).clone()
    }

    /// Compiles a pipeline.
    pub fn compile(&self, device: &wgpu::Device, pipeline: &Pipeline) -> wgpu::ComputePipeline {
        let Program { name, entry, .. } = pipeline.program;
        let label = Some(name);
        let source = match &self.patch {
            None => pipeline.program.source(),
            Some((text, other)) => pipeline.program.source().replace(text, other),
        };
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label,
            source: wgpu::ShaderSource::Wgsl(source.into()),
        });
        #[cfg(not(target_arch = "wasm32"))]
        let cache = self.cache.as_ref().map(|cache| &cache.cache);
        #[cfg(target_arch = "wasm32")]
        let cache = None;
        let constants = &pipeline.constants;
        device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label,
                bind_group_layouts: &[Some(&pipeline.layout)],
                immediate_size: 0,
            })),
            module: &module,
            entry_point: Some(entry),
            compilation_options: wgpu::PipelineCompilationOptions { constants, ..Default::default() },
            cache,
        })
    }
}

/// Layout of a bind group: the step's uniforms at binding 0, with a dynamic offset, and storage buffers.
fn layout(device: &wgpu::Device, name: &str, bindings: &[(u32, Access)]) -> wgpu::BindGroupLayout {
    let entry = |binding, ty, has_dynamic_offset, min_binding_size| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size },
        count: None,
    };
    let uniforms = wgpu::BufferSize::new(size_of::<StepUniforms>() as u64);
    let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform, true, uniforms)];
    for &(binding, access) in bindings {
        let ty = wgpu::BufferBindingType::Storage { read_only: access == Access::Read };
        entries.push(entry(binding, ty, false, None));
    }
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(name), entries: &entries })
}
