//! The parts that kernels are put together from: files of `shaders/`.

/// A file of `shaders/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its path there, as `activation/relu.wgsl`.
    pub path: &'static str,
    /// Its text.
    pub text: &'static str,
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
