//! Dropout by the bits of [`random`](crate::random), the same on the way back.

use super::workers::Arch;
use crate::plan::Node;
use crate::random::{Stream, dropout_threshold, step_key, stream_key, word};

/// Dropout of one layer in one step.
#[derive(Clone, Copy)]
pub struct Dropout {
    key: u32,
    threshold: u32,
    scale: f32,
}

impl Dropout {
    pub fn new(node: &Node, p: f32, seed: u64, step: u64) -> Self {
        let key = stream_key(step_key(seed, step), Stream::Dropout { layer: node.layer });
        Self { key, threshold: dropout_threshold(p), scale: (1.0 / (1.0 - f64::from(p))) as f32 }
    }

    /// Values of row `row` of the batch, or their gradients.
    pub fn apply(self, arch: Arch, row: usize, from: &[f32], to: &mut [f32]) {
        let Self { key, threshold, scale } = self;
        arch.dispatch(
            #[inline(always)]
            || {
                for (element, (from, to)) in (0u32..).zip(from.iter().zip(to)) {
                    let is_kept = word(key, row as u32, element) >= threshold;
                    *to = *from * if is_kept { scale } else { 0.0 };
                }
            },
        );
    }
}
