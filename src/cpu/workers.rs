//! Who does the work: the threads that share a pass, and how a pass is dealt out.
//!
//! No result depends on the number of threads. Sums over a batch are those of [`Workers::parts`], whose number depends on
//! the batch alone. The elements of a product are sums of their own, in one order however its rows are dealt out.

use std::ops::Range;
#[cfg(not(target_arch = "wasm32"))]
use std::sync::OnceLock;

#[cfg(not(target_arch = "wasm32"))]
pub use pulp::Arch;
use pulp::{Simd, WithSimd};

#[cfg(target_arch = "wasm32")]
pub use self::compiled::Arch;

#[cfg(not(target_arch = "wasm32"))]
use crate::error::{Error, Result};
use crate::parallel::*;

/// Below this many floating-point operations one thread does a whole step: it takes about 12 µs to wake another,
/// in which one core does a million of them.
const PARALLEL_STEP: usize = 5_000_000;

/// Least floating-point operations of a pass within a step that is shared among threads; the other threads are awake
/// then.
const PARALLEL_PASS: usize = 1_000_000;

/// The most parts that a pass over the examples of a batch is dealt out in. More would be more sums to add up.
const PARTS: usize = 32;

/// The most parts of a shard, if a batch has so many that all of them would have fewer.
const SHARD_PARTS: usize = 8;

/// The least rows of a block that are worth a thread.
const LEAST_ROWS: usize = 16;

/// Who does the work: the best instruction set the processor has, on one thread or all of the pool.
#[derive(Clone, Copy)]
pub struct Workers {
    pub arch: Arch,
    threads: usize,
}

impl Workers {
    /// Returns as many workers as pay off for a step of `operations` floating-point operations.
    pub fn new(operations: usize) -> Self {
        Self { arch: arch(), threads: if operations >= PARALLEL_STEP { Self::most_threads() } else { 1 } }
    }

    /// Number of threads of the current pool, the most that share a pass.
    pub fn most_threads() -> usize {
        current_num_threads()
    }

    /// Runs `work` on a thread of the pool, if more than one is to share it: from there, sharing costs little.
    pub fn run<T: Send>(self, work: impl FnOnce() -> T + Send) -> T {
        if self.threads > 1 { scope(|_| work()) } else { work() }
    }

    /// Calls `work` with each part of a pass of so many operations.
    pub fn for_each<P: Send>(self, operations: usize, parts: impl Iterator<Item = P>, work: impl Fn(P) + Sync) {
        if self.threads == 1 || operations < PARALLEL_PASS {
            parts.for_each(work);
        } else {
            parts.collect::<Vec<_>>().into_par_iter().with_max_len(1).for_each(&work);
        }
    }

    /// The parts that the examples of a batch are dealt out in, whoever does the work.
    pub fn parts(self, rows: usize) -> Vec<Range<usize>> {
        parts(rows, PARTS)
    }

    /// The parts of a shard, which is one of `shards` in a batch.
    pub fn parts_of_shard(self, rows: usize, shards: usize) -> Vec<Range<usize>> {
        parts(rows, (PARTS / shards).max(SHARD_PARTS))
    }

    /// The blocks that the rows of a result are dealt out in: one for each thread, where the pass is worth sharing.
    pub fn blocks(self, operations: usize, rows: usize) -> Vec<Range<usize>> {
        let most = if operations < PARALLEL_PASS { 1 } else { self.threads };
        let count = (rows / LEAST_ROWS).clamp(1, most);
        let at = |block: usize| block * rows / count;
        (0..count).map(|block| at(block)..at(block + 1)).collect()
    }

    /// Deals out the rows of `values`, `[rows, width]`, in [`blocks`](Self::blocks): `work` gets which rows, and their
    /// values.
    pub fn for_each_block(
        self,
        operations: usize,
        width: usize,
        values: &mut [f32],
        work: impl Fn(Range<usize>, &mut [f32]) + Sync,
    ) {
        let blocks = self.blocks(operations, values.len() / width);
        let values = split(values, &blocks, width);
        self.for_each(operations, blocks.iter().cloned().zip(values), |(rows, values)| work(rows, values));
    }
}

/// At most `most` parts of rows, all of the same length but the last.
fn parts(rows: usize, most: usize) -> Vec<Range<usize>> {
    let length = rows.div_ceil(most).max(1);
    (0..rows).step_by(length).map(|first| first..rows.min(first + length)).collect()
}

/// The rows of each block, of `width` numbers; empty ones of a moment that the optimizer does not have.
pub fn split<'a>(
    mut values: &'a mut [f32],
    blocks: &[Range<usize>],
    width: usize,
) -> impl Iterator<Item = &'a mut [f32]> {
    blocks.iter().map(move |rows| {
        let length = (rows.len() * width).min(values.len());
        values.split_off_mut(..length).unwrap_or_default()
    })
}

/// The one instruction set of a browser, which is chosen when softstep is compiled: no code is there for another.
#[cfg(target_arch = "wasm32")]
mod compiled {
    use pulp::WithSimd;

    #[derive(Clone, Copy)]
    pub struct Arch;

    impl Arch {
        pub fn new() -> Self {
            Self
        }

        #[inline(always)]
        pub fn dispatch<Op: WithSimd>(self, work: Op) -> Op::Output {
            #[cfg(target_feature = "simd128")]
            match pulp::wasm::Simd128::try_new() {
                Some(simd) => pulp::Simd::vectorize(simd, work),
                None => unreachable!("a browser without vectors has refused to load this"),
            }
            #[cfg(not(target_feature = "simd128"))]
            pulp::Simd::vectorize(pulp::Scalar::new(), work)
        }
    }
}

/// Limit set by [`limit_instruction_set`].
#[cfg(not(target_arch = "wasm32"))]
static LIMIT: OnceLock<Arch> = OnceLock::new();

/// The instruction set that the backend computes with: the best of the processor's, or what it was limited to.
#[cfg(not(target_arch = "wasm32"))]
pub fn arch() -> Arch {
    LIMIT.get().copied().unwrap_or_else(Arch::new)
}

/// The instruction set that the backend computes with.
#[cfg(target_arch = "wasm32")]
pub fn arch() -> Arch {
    Arch::new()
}

/// The processor's instruction sets that the backend has code for, the best first, with a name for each.
#[cfg(not(target_arch = "wasm32"))]
fn instruction_sets() -> Vec<(&'static str, Arch)> {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    {
        use pulp::x86::{V3, V4};
        let wide = V4::try_new().map(|simd| ("avx512", Arch::V4(simd)));
        let narrow = V3::try_new().map(|simd| ("avx2", Arch::V3(simd)));
        wide.into_iter().chain(narrow).chain([("none", Arch::Scalar)]).collect()
    }
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
    {
        vec![(if cfg!(target_arch = "aarch64") { "neon" } else { "none" }, Arch::new())]
    }
}

/// Makes the CPU backend compute with this instruction set of the processor instead of the best, from now on and in the
/// whole process: `avx512`, `avx2` or `none`. It is for measurements and tests, and has to be called before the first
/// model is made.
///
/// # Errors
/// [`Invalid`](Error::Invalid) for an instruction set that this processor or the backend does not have, and after another
/// one was taken.
#[cfg(not(target_arch = "wasm32"))]
pub fn limit_instruction_set(name: &str) -> Result<()> {
    let sets = instruction_sets();
    let Some((_, arch)) = sets.iter().find(|(set, _)| *set == name) else {
        let names: Vec<_> = sets.iter().map(|(name, _)| *name).collect();
        return Err(Error::Invalid(format!("instruction set {name:?}: this processor has {}", names.join(", "))));
    };
    LIMIT.set(*arch).map_err(|_| Error::Invalid("the instruction set is limited already".into()))
}

/// Numbers in a vector of this processor.
pub fn lanes() -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;

        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    arch().dispatch(Lanes)
}

/// The instruction set that the backend computes with, in words. It makes no difference to results; what does is
/// `arithmetic`.
pub fn instruction_set() -> &'static str {
    match lanes() {
        16 => "AVX-512",
        8 => "AVX2",
        4 if cfg!(target_arch = "aarch64") => "NEON",
        4 => "vectors of 128 bits",
        _ => "no vectors",
    }
}

/// Name of the summation order of products. The bits of results depend on it, and on the system's logarithms and powers.
pub fn arithmetic() -> &'static str {
    match lanes() {
        8 | 16 => "fused multiply-add",
        4 if cfg!(target_arch = "aarch64") => "fused multiply-add",
        _ => "no fused multiply-add",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_every_row_once() {
        for rows in [1, 2, 63, 64, 65, 129, 130, 131, 785, 1024] {
            for threads in [1, 2, 3, 8, 32] {
                let blocks = Workers { arch: arch(), threads }.blocks(PARALLEL_PASS, rows);
                assert!(blocks.len() <= threads && blocks.iter().all(|block| !block.is_empty()), "{blocks:?}");
                assert_eq!(blocks.into_iter().flatten().collect::<Vec<_>>(), (0..rows).collect::<Vec<_>>());
            }
        }
    }
}
