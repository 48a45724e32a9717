//! Shards of a batch, and sums over them in one order whoever computes them.
//!
//! A batch is cut into shards by its rows. What is summed over the rows of a batch (gradients, losses, the statistics of batch
//! normalisation) is summed over each shard first; the sums of the shards are the leaves of a binary tree. A rank computes
//! a subtree: it sums its own shards, and then adds its sum and that of another rank, level by level. Hence the bits depend
//! on the number of shards, and never on the number of ranks.

use std::ops::{AddAssign, Range};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

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
        compute: impl FnMut(usize, &mut [T]),
    ) -> Result<()> {
        self.sum_own(sums, rooms, compute);
        self.sum_over_ranks(sums, &mut rooms[0])
    }

    /// [Sums](Self::sum) over the shards of this rank alone.
    pub fn sum_own<T: Pod + AddAssign>(
        self,
        sums: &mut [T],
        rooms: &mut Vec<Vec<T>>,
        mut compute: impl FnMut(usize, &mut [T]),
    ) {
        let own = self.sharding.own_count();
        let levels = own.ilog2() as usize + 1;
        rooms.resize_with(levels.max(rooms.len()), Vec::new);
        sum_tree(0..own, sums, rooms, &mut compute);
    }

    /// Adds the sums of all ranks. `room` keeps memory from one call to the next.
    ///
    /// # Errors
    /// [`Error::Rank`] if another rank has failed.
    pub fn sum_over_ranks<T: Pod + AddAssign>(self, sums: &mut [T], room: &mut Vec<T>) -> Result<()> {
        sum_over_ranks(&*self.sharding.ranks, sums, room)
    }
}

/// Adds the sums of all ranks.
fn sum_over_ranks<T: Pod + AddAssign>(ranks: &dyn Ranks, sums: &mut [T], room: &mut Vec<T>) -> Result<()> {
    for partner in partners(ranks.rank(), ranks.size()) {
        room.resize(sums.len(), T::zeroed());
        ranks.exchange(partner, bytemuck::cast_slice(sums), bytemuck::cast_slice_mut(room))?;
        add(sums, room);
    }
    Ok(())
}

/// A thread that adds the sums of all ranks while this rank computes.
///
/// It does so in the order in which the sums were sent, which is the same on every rank. While it has sums, no other thread
/// may exchange anything with other ranks.
pub(crate) struct Courier {
    /// Sums by a number.
    sums: Sender<(usize, Vec<f32>)>,
    added: Receiver<(usize, Vec<f32>, Result<()>)>,
    /// Sums that have not come back.
    under_way: usize,
}

impl Courier {
    /// Starts the thread; `None` for a rank without others, and where the system grants no thread.
    pub fn new(sharding: &Sharding) -> Option<Self> {
        let ranks = Arc::clone(&sharding.ranks);
        if ranks.size() == 1 {
            return None;
        }
        let (sums, sent) = channel::<(usize, Vec<f32>)>();
        let (back, added) = channel();
        let carry = move || {
            let (mut room, mut has_failed) = (Vec::new(), false);
            for (index, mut sums) in sent {
                let result = if has_failed { Ok(()) } else { sum_over_ranks(&*ranks, &mut sums, &mut room) };
                has_failed |= result.is_err();
                if back.send((index, sums, result)).is_err() {
                    break;
                }
            }
        };
        std::thread::Builder::new().spawn(carry).ok()?;
        Some(Self { sums, added, under_way: 0 })
    }

    /// Sends sums on their way, with a number by which they come back.
    pub fn send(&mut self, index: usize, sums: Vec<f32>) {
        // The thread lives as long as its courier.
        self.under_way += usize::from(self.sums.send((index, sums)).is_ok());
    }

    /// Waits for all sums that are under way: `back` gets each, with its number.
    ///
    /// # Errors
    /// [`Error::Rank`] if another rank has failed. All sums have come back then, too.
    pub fn collect(&mut self, mut back: impl FnMut(usize, Vec<f32>)) -> Result<()> {
        let mut collected = Ok(());
        for _ in 0..std::mem::take(&mut self.under_way) {
            let Ok((index, sums, result)) = self.added.recv() else { break };
            back(index, sums);
            collected = collected.and(result);
        }
        collected
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

    /// Runs two ranks with a courier each; `run` gets the number of its rank.
    fn with_couriers(run: impl Fn(usize, &dyn Ranks, Courier) + Sync) {
        std::thread::scope(|scope| {
            for rank in local_ranks(2) {
                let run = &run;
                scope.spawn(move || {
                    let sharding = Sharding::new(2, 8).with_ranks(Arc::new(rank)).unwrap();
                    let courier = Courier::new(&sharding).unwrap();
                    run(sharding.ranks().rank(), sharding.ranks(), courier);
                });
            }
        });
        assert!(Courier::new(&Sharding::new(2, 8)).is_none(), "nobody to go to");
    }

    #[test]
    fn sums_travel_while_a_rank_computes_and_come_back_by_their_numbers() {
        let (computed, has_computed) = channel();
        let has_computed = std::sync::Mutex::new(has_computed);
        with_couriers(|rank, _, mut courier| {
            // Rank 1 sends nothing until rank 0, which has sent, has computed on.
            if rank == 1 {
                has_computed.lock().unwrap().recv().unwrap();
            }
            for (index, sum) in [(3, 1.0), (1, 2.0)] {
                courier.send(index, vec![sum, sum * (1 + 9 * rank) as f32]);
            }
            computed.send(()).unwrap();
            let mut back = Vec::new();
            courier.collect(|index, sums| back.push((index, sums))).unwrap();
            assert_eq!(back, [(3, vec![2.0, 11.0]), (1, vec![4.0, 22.0])]);
            courier.collect(|_, _| panic!("nothing is under way")).unwrap();
        });
    }

    #[test]
    fn sums_come_back_from_a_rank_that_has_failed() {
        with_couriers(|rank, ranks, mut courier| {
            if rank == 1 {
                return ranks.fail("no memory");
            }
            for index in [2, 1] {
                courier.send(index, vec![0.0]);
            }
            let mut back = Vec::new();
            let error = courier.collect(|index, _| back.push(index)).unwrap_err().to_string();
            assert_eq!((error.as_str(), back), ("rank 1: no memory", vec![2, 1]));
        });
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
