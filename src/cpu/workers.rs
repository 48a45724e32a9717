//! Who does the work: the threads that share a pass, and how a pass is dealt out.

use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;

/// Below this many floating-point operations one thread does a whole step: it takes about 12 µs to wake another,
/// in which one core does a million of them.
const PARALLEL_STEP: usize = 5_000_000;

/// The same for one pass within a step that is shared among threads; the others are awake then.
const PARALLEL_PASS: usize = 1_000_000;

/// The most parts that a pass over the examples of a batch is dealt out in. More would be more sums to add up.
const PARTS: usize = 32;

/// Who does the work: the best instruction set the processor has, on one thread or all of the pool.
#[derive(Clone, Copy)]
pub struct Workers {
    pub arch: Arch,
    threads: usize,
}

impl Workers {
    /// Those worth calling for so many floating-point operations.
    pub fn new(operations: usize) -> Self {
        let threads = if operations < PARALLEL_STEP { 1 } else { rayon::current_num_threads() };
        Self { arch: Arch::new(), threads }
    }

    /// The most threads that any pass is shared among.
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
            parts.collect::<Vec<_>>().into_par_iter().with_max_len(1).for_each(|part| work(part));
        }
    }

    /// The parts that the examples of a batch are dealt out in, whoever does the work.
    pub fn parts(self, rows: usize) -> Vec<Range<usize>> {
        let length = rows.div_ceil(PARTS);
        (0..rows).step_by(length).map(|first| first..rows.min(first + length)).collect()
    }

    pub fn rows_per_block(self, operations: usize, rows: usize) -> usize {
        if operations < PARALLEL_PASS { rows } else { rows.div_ceil(self.threads) }
    }

    /// Deals out the rows of `values`, `[rows, width]`, in blocks: `work` gets which rows, and their values.
    pub fn for_each_block(
        self,
        operations: usize,
        width: usize,
        values: &mut [f32],
        work: impl Fn(Range<usize>, &mut [f32]) + Sync,
    ) {
        let rows = self.rows_per_block(operations, values.len() / width);
        let blocks = values.chunks_mut(rows * width).enumerate();
        self.for_each(operations, blocks, |(block, values)| {
            let first = block * rows;
            work(first..first + values.len() / width, values);
        });
    }
}
