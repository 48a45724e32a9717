//! Who does the work: the threads that share a pass, and how a pass is dealt out.
//!
//! No result depends on the number of threads. Sums over a batch are those of [`Workers::parts`], whose number depends on
//! the batch alone. The rows of a product's result are sums of their own, but the `gemm` library cuts long ones by the
//! shape of the result that it is asked for: [`Workers::blocks`] are such that it always cuts them alike.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Below this many floating-point operations one thread does a whole step: it takes about 12 µs to wake another,
/// in which one core does a million of them.
const PARALLEL_STEP: usize = 5_000_000;

/// The same for one pass within a step that is shared among threads; the others are awake then.
const PARALLEL_PASS: usize = 1_000_000;

/// The most parts that a pass over the examples of a batch is dealt out in. More would be more sums to add up.
const PARTS: usize = 32;

/// Results that are no wider and no higher have paths of their own in the `gemm` library.
const SMALL_SIDE: usize = 64;

/// The same for results of no more numbers.
const SMALL_RESULT: usize = 256;

/// Who does the work: the best instruction set the processor has, on one thread or all of the pool.
#[derive(Clone, Copy)]
pub struct Workers {
    pub arch: Arch,
    /// True if the step is worth sharing, whether or not there are threads to share it with.
    is_shared: bool,
    threads: usize,
}

impl Workers {
    /// Those worth calling for so many floating-point operations.
    pub fn new(operations: usize) -> Self {
        let is_shared = operations >= PARALLEL_STEP;
        Self { arch: Arch::new(), is_shared, threads: if is_shared { Self::most_threads() } else { 1 } }
    }

    /// Number of threads of the current pool, the most that share a pass.
    pub fn most_threads() -> usize {
        rayon::current_num_threads()
    }

    /// Runs `work` on a thread of the pool, if more than one is to share it: from there, sharing costs little.
    pub fn run<T: Send>(self, work: impl FnOnce() -> T + Send) -> T {
        if self.threads > 1 { rayon::scope(|_| work()) } else { work() }
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
        let length = rows.div_ceil(PARTS);
        (0..rows).step_by(length).map(|first| first..rows.min(first + length)).collect()
    }

    /// The blocks that the rows of a result of so many columns are dealt out in: halves where the pass is worth sharing,
    /// and parts of these where there are threads for them. A product has the same bits in any of them.
    pub fn blocks(self, operations: usize, rows: usize, columns: usize) -> Vec<Range<usize>> {
        if !self.is_shared || operations < PARALLEL_PASS {
            return std::iter::once(0..rows).collect();
        }
        let least = if columns > SMALL_SIDE { 16 } else { (SMALL_SIDE + 1).max(SMALL_RESULT / columns + 1) };
        let half = rows.div_ceil(2);
        let halves = [0..half, half..rows].into_iter().filter(|rows| !rows.is_empty());
        let parts = |half: Range<usize>| {
            let count = (half.len() / least).clamp(1, self.threads.div_ceil(2));
            let at = move |part: usize| half.start + part * half.len() / count;
            (0..count).map(|part| at(part)..at(part + 1)).collect::<Vec<_>>()
        };
        halves.flat_map(parts).collect()
    }

    /// Deals out the rows of `values`, `[rows, width]`, in [`blocks`](Self::blocks): `work` gets which rows, and their
    /// values.
    pub fn for_each_block(
        self,
        operations: usize,
        (width, columns): (usize, usize),
        values: &mut [f32],
        work: impl Fn(Range<usize>, &mut [f32]) + Sync,
    ) {
        let blocks = self.blocks(operations, values.len() / width, columns);
        let values = split(values, &blocks, width);
        self.for_each(operations, blocks.iter().cloned().zip(values), |(rows, values)| work(rows, values));
    }
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

/// Numbers in a vector of this processor.
pub fn lanes() -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;

        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    Arch::new().dispatch(Lanes)
}

/// The instruction set that results are computed with; another may give other bits.
pub fn instruction_set() -> &'static str {
    match lanes() {
        16 => "AVX-512",
        8 => "AVX2",
        4 if cfg!(target_arch = "aarch64") => "NEON",
        4 => "vectors of 128 bits",
        _ => "no vectors",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_all_rows_and_are_as_large_as_a_product_asks_for() {
        for rows in [1, 2, 63, 64, 65, 129, 130, 131, 785, 1024] {
            for columns in [1, 3, 10, 64, 65, 513] {
                let blocks = |threads| {
                    let workers = Workers { arch: Arch::new(), is_shared: true, threads };
                    workers.blocks(PARALLEL_PASS, rows, columns)
                };
                let halves = blocks(1);
                assert_eq!(blocks(2), halves);
                for threads in [3, 8, 32] {
                    let blocks = blocks(threads);
                    assert_eq!(blocks.iter().cloned().flatten().collect::<Vec<_>>(), (0..rows).collect::<Vec<_>>());
                    let is_large = |rows: usize| (columns > 64 && rows >= 16) || (rows > 64 && rows * columns > 256);
                    for block in &blocks {
                        assert!(halves.contains(block) || is_large(block.len()), "{rows}×{columns}: {blocks:?}");
                    }
                }
            }
        }
    }
}
