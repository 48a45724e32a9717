//! The parts that kernels are put together from: files of `shaders/`.

/// A file of `shaders/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Path below `shaders/`, such as `activation/relu.wgsl`.
    pub path: &'static str,
    /// Text of the file.
    pub text: &'static str,
}

impl Part {
    /// Name of the file, without folder and extension.
    pub(crate) fn stem(&self) -> &'static str {
        let name = self.path.rsplit_once('/').map_or(self.path, |(_, name)| name);
        name.strip_suffix(".wgsl").unwrap_or(name)
    }
}

/// The part with this path, without the extension.
macro_rules! part {
    ($name:literal) => {
        $crate::shader::Part {
            path: concat!($name, ".wgsl"),
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $name, ".wgsl")),
        }
    };
}
pub(crate) use part;
