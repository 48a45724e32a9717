//! Shards of a batch, and sums over them in one order whoever computes them.
//!
//! A batch is cut into shards by its rows. What is summed over the rows of a batch (gradients, losses, the statistics of batch
//! normalisation) is summed over each shard first; the sums of the shards are the leaves of a binary tree. A rank computes
//! a subtree: it sums its own shards, and then adds its sum and that of another rank, level by level. Hence the bits depend
//! on the number of shards, and never on the number of ranks.

use std::ops::{AddAssign, Range};
use std::sync::Arc;

use bytemuck::Pod;

use crate::error::{Error, Result};
use crate::ranks::{Alone, Ranks, partners};

/// The most shards of a batch.
pub(crate) const MOST_SHARDS: usize = 1024;

/// The cut of every batch of a run, and the ranks that share it.
#[derive(Clone)]
pub(crate) struct Sharding {
    /// Number of shards of a batch, a power of two.
    count: usize,
    /// Rows of each shard but the last ones of a batch, which may have fewer or none.
    rows: usize,
    ranks: Arc<dyn Ranks>,
}

impl Sharding {
    /// Cuts batches of up to `batch_size` rows into `count` shards, all computed by this process. A shard starts at a
    /// multiple of 4 rows, as the blocks of the GPU's matrices do.
    pub fn new(count: usize, batch_size: usize) -> Self {
        let rows = if count == 1 { batch_size } else { batch_size.div_ceil(count).next_multiple_of(4) };
        Self { count, rows, ranks: Arc::new(Alone) }
    }

    /// Shares the shards among these ranks.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless the number of ranks is a power of two, and there is a shard for each.
    pub fn with_ranks(self, ranks: Arc<dyn Ranks>) -> Result<Self> {
        let (size, count) = (ranks.size(), self.count);
        if !size.is_power_of_two() || size > count {
            return Err(Error::Invalid(format!(
                "{size} ranks for `shards` {count}: ranks must be a power of two, and no more than the shards, which are \
                 set by `shards`: 8 shards are for 1, 2, 4 or 8 ranks"
            )));
        }
        Ok(Self { ranks, ..self })
    }

    /// Returns true if a batch is not cut at all.
    pub fn is_whole(&self) -> bool {
        self.count == 1
    }

    /// Number of shards of a batch.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Upper limit of the rows in a shard.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The ranks.
    pub fn ranks(&self) -> &dyn Ranks {
        &*self.ranks
    }

    /// Number of shards of each rank.
    pub fn own_count(&self) -> usize {
        self.count / self.ranks.size()
    }

    /// Cuts a batch of `batch` rows.
    pub fn cut(&self, batch: usize) -> Cut<'_> {
        Cut { sharding: self, batch }
    }
}

/// A batch that is cut into shards.
#[derive(Clone, Copy)]
pub(crate) struct Cut<'a> {
    sharding: &'a Sharding,
    /// Rows of the batch.
    pub batch: usize,
}

impl Cut<'_> {
    /// Number of shards of a batch.
    pub fn count(self) -> usize {
        self.sharding.count
    }

    /// Rows of the batch in the shards before shard `shard`.
    fn start(self, shard: usize) -> usize {
        shard.saturating_mul(self.sharding.rows).min(self.batch)
    }

    /// First shard of this rank.
    fn first_shard(self) -> usize {
        self.sharding.ranks.rank() * self.sharding.own_count()
    }

    /// Rows of the batch that this rank computes.
    pub fn rows(self) -> Range<usize> {
        let first = self.first_shard();
        self.start(first)..self.start(first + self.sharding.own_count())
    }

    /// The shards of this rank, as ranges of [its rows](Self::rows), counted from their start.
    pub fn own(self) -> impl Iterator<Item = Range<usize>> {
        let (first, offset) = (self.first_shard(), self.rows().start);
        (first..first + self.sharding.own_count())
            .map(move |shard| self.start(shard) - offset..self.start(shard + 1) - offset)
    }

    /// Sums over the batch: `compute` gets the number of a shard of this rank, from 0, and room for the shard's sums.
    ///
    /// `rooms` keeps memory from one call to the next.
    ///
    /// # Errors
    /// [`Error::Rank`] if another rank has failed.
    pub fn sum<T: Pod + AddAssign>(
        self,
        sums: &mut [T],
        rooms: &mut Vec<Vec<T>>,
        mut compute: impl FnMut(usize, &mut [T]),
    ) -> Result<()> {
        let own = self.sharding.own_count();
        let levels = own.ilog2() as usize + 1;
        rooms.resize_with(levels.max(rooms.len()), Vec::new);
        sum_tree(0..own, sums, rooms, &mut compute);
        self.sum_over_ranks(sums, &mut rooms[0])
    }

    /// Adds the sums of all ranks. `room` keeps memory from one call to the next.
    ///
    /// # Errors
    /// [`Error::Rank`] if another rank has failed.
    pub fn sum_over_ranks<T: Pod + AddAssign>(self, sums: &mut [T], room: &mut Vec<T>) -> Result<()> {
        let ranks = &*self.sharding.ranks;
        for partner in partners(ranks.rank(), ranks.size()) {
            room.resize(sums.len(), T::zeroed());
            ranks.exchange(partner, bytemuck::cast_slice(sums), bytemuck::cast_slice_mut(room))?;
            add(sums, room);
        }
        Ok(())
    }
}

/// Sums of shards, by halves.
fn sum_tree<T: Pod + AddAssign>(
    shards: Range<usize>,
    sums: &mut [T],
    rooms: &mut [Vec<T>],
    compute: &mut impl FnMut(usize, &mut [T]),
) {
    if let (Some((room, rooms)), true) = (rooms.split_first_mut(), shards.len() > 1) {
        let middle = shards.start + shards.len() / 2;
        sum_tree(shards.start..middle, sums, rooms, compute);
        room.resize(sums.len(), T::zeroed());
        sum_tree(middle..shards.end, room, rooms, compute);
        add(sums, room);
    } else {
        compute(shards.start, sums);
    }
}

fn add<T: Copy + AddAssign>(sums: &mut [T], others: &[T]) {
    sums.iter_mut().zip(others).for_each(|(sum, &other)| *sum += other);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranks::local_ranks;

    #[test]
    fn shards_hold_every_row_once_in_order_whatever_the_ranks() {
        for (count, batch_size) in [(1, 7), (2, 7), (8, 64), (8, 20), (8, 3), (32, 1000)] {
            for batch in [1, batch_size / 2, batch_size] {
                let whole = Sharding::new(count, batch_size);
                let rows: Vec<usize> = whole.cut(batch).own().flatten().collect();
                assert_eq!(rows, (0..batch).collect::<Vec<_>>(), "{count} shards of {batch}");
                for size in [1, 2, 4, 8].into_iter().filter(|&size| size <= count) {
                    let ranks = local_ranks(size).into_iter().map(|rank| whole.clone().with_ranks(Arc::new(rank)));
                    let of_ranks = ranks.flat_map(|sharding| {
                        let sharding = sharding.unwrap();
                        let cut = sharding.cut(batch);
                        let first = cut.rows().start;
                        cut.own().map(|rows| first + rows.start..first + rows.end).collect::<Vec<_>>()
                    });
                    assert!(of_ranks.eq(whole.cut(batch).own()), "{count} shards of {batch} on {size} ranks");
                }
            }
        }
    }

    #[test]
    fn sums_have_the_same_bits_on_any_number_of_ranks() {
        // Numbers of every magnitude: another order of summation has other bits.
        let value = |row: usize| (row as f32 * 0.7).sin() * 10f32.powi(row as i32 % 7 - 3);
        let sum_on = |ranks: Arc<dyn Ranks>| {
            let sharding = Sharding::new(8, 61).with_ranks(ranks).unwrap();
            let cut = sharding.cut(57);
            let own: Vec<_> = cut.own().collect();
            let mut sums = [0f32; 2];
            let compute = |shard: usize, sums: &mut [f32]| {
                let rows = own[shard].clone().map(|row| value(cut.rows().start + row));
                sums.copy_from_slice(&[rows.clone().sum(), rows.sum::<f32>() / 3.0]);
            };
            cut.sum(&mut sums, &mut Vec::new(), compute).unwrap();
            sums.map(f32::to_bits)
        };
        let alone = sum_on(Arc::new(Alone));
        for size in [2, 4, 8] {
            std::thread::scope(|scope| {
                let ranks = local_ranks(size).into_iter();
                let threads: Vec<_> = ranks.map(|rank| scope.spawn(|| sum_on(Arc::new(rank)))).collect();
                threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), alone, "{size} ranks"));
            });
        }
    }

    #[test]
    fn ranks_that_no_shards_are_left_for_are_refused() {
        for (shards, size) in [(1, 2), (4, 8), (8, 3), (8, 6)] {
            let rank = local_ranks(size).swap_remove(0);
            let error = Sharding::new(shards, 64).with_ranks(Arc::new(rank)).err().unwrap().to_string();
            assert!(error.contains(&format!("{size} ranks for `shards` {shards}")), "{error}");
        }
    }
}
