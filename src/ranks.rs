//! Ranks: the processes that train one model together, each on its shards of every batch, or share the runs of a sweep.
//!
//! [`Ranks`] is all that the library knows of other processes. [`Alone`] is a process by itself, [`local_ranks`] are ranks in
//! threads of one process; the binary has ranks of MPI.

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

/// The other processes of a run, as one of them sees them.
///
/// Every rank makes the same calls in the same order, but for [`post`](Self::post) and [`poll`](Self::poll), by which two
/// ranks send each other messages at any time.
pub trait Ranks: Send + Sync {
    /// Returns the number of this rank, from 0.
    fn rank(&self) -> usize;

    /// Returns the number of ranks.
    fn size(&self) -> usize;

    /// Sends bytes to the rank `partner`, which makes the same call with this rank, and receives as many from it.
    ///
    /// # Errors
    /// [`Error::Rank`] if another rank has [failed](Self::fail).
    fn exchange(&self, partner: usize, sent: &[u8], received: &mut [u8]) -> Result<()>;

    /// Returns the bytes of rank 0 on every rank; those of the others do not count.
    ///
    /// # Errors
    /// [`Error::Rank`] if another rank has [failed](Self::fail).
    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>>;

    /// Tells the other ranks that this one has failed: their calls return this problem from now on.
    fn fail(&self, problem: &str);

    /// Sends a message to the rank `to`, which takes it with [`poll`](Self::poll).
    ///
    /// # Errors
    /// [`Error::Rank`] if the message could not be sent.
    fn post(&self, to: usize, message: &[u8]) -> Result<()>;

    /// Takes the next message that the rank `from` has [posted](Self::post); `None` if none has arrived yet.
    ///
    /// # Errors
    /// [`Error::Rank`] if that rank has [failed](Self::fail).
    fn poll(&self, from: usize) -> Result<Option<Vec<u8>>>;

    /// Returns the least of the ranks' values, on every rank.
    ///
    /// # Errors
    /// [`Error::Rank`] if another rank has [failed](Self::fail).
    fn least(&self, mut value: u64) -> Result<u64> {
        let (rank, size) = (self.rank(), self.size());
        let mut other = [0; 8];
        if size.is_power_of_two() {
            for partner in partners(rank, size) {
                self.exchange(partner, &value.to_le_bytes(), &mut other)?;
                value = value.min(u64::from_le_bytes(other));
            }
            return Ok(value);
        }
        // Some have no partner: by way of rank 0.
        if rank > 0 {
            self.exchange(0, &value.to_le_bytes(), &mut [])?;
        } else {
            for partner in 1..size {
                self.exchange(partner, &[], &mut other)?;
                value = value.min(u64::from_le_bytes(other));
            }
        }
        let least = self.broadcast(value.to_le_bytes().to_vec())?;
        Ok(least.try_into().map_or(value, u64::from_le_bytes))
    }

    /// Returns true on every rank if the flag is set on any.
    ///
    /// # Errors
    /// [`Error::Rank`] if another rank has [failed](Self::fail).
    fn any(&self, flag: bool) -> Result<bool> {
        Ok(if self.size() == 1 { flag } else { self.least(u64::from(!flag))? == 0 })
    }

    /// Returns the first rank whose bytes differ from those of rank 0.
    ///
    /// # Errors
    /// [`Error::Rank`] if another rank has [failed](Self::fail).
    fn first_that_differs(&self, bytes: &[u8]) -> Result<Option<usize>> {
        let differs = self.broadcast(bytes.to_vec())? != bytes;
        let least = self.least(if differs { self.rank() as u64 } else { u64::MAX })?;
        Ok(usize::try_from(least).ok().filter(|&rank| rank < self.size()))
    }
}

/// The ranks that a rank adds its sums to, in turn. After each, the two have the same sum, that of twice as many ranks.
pub(crate) fn partners(rank: usize, size: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1), |distance| Some(2 * distance))
        .take_while(move |&distance| distance < size)
        .map(move |distance| rank ^ distance)
}

/// A process without others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn exchange(&self, partner: usize, _: &[u8], _: &mut [u8]) -> Result<()> {
        Err(Error::Rank { rank: partner, problem: "this process is the only one".into() })
    }

    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        Ok(bytes)
    }

    fn fail(&self, _: &str) {}

    fn post(&self, to: usize, _: &[u8]) -> Result<()> {
        Err(Error::Rank { rank: to, problem: "this process is the only one".into() })
    }

    fn poll(&self, from: usize) -> Result<Option<Vec<u8>>> {
        Err(Error::Rank { rank: from, problem: "this process is the only one".into() })
    }
}

/// Message between two threads.
enum Message {
    Bytes(Vec<u8>),
    Failed(String),
}

/// A rank in a thread of this process.
pub struct LocalRank {
    rank: usize,
    /// To each rank, itself among them.
    senders: Vec<Sender<Message>>,
    /// From each rank.
    receivers: Vec<Mutex<Receiver<Message>>>,
}

/// Ranks in one process, for a thread each.
pub fn local_ranks(size: usize) -> Vec<LocalRank> {
    let mut ranks: Vec<LocalRank> =
        (0..size).map(|rank| LocalRank { rank, senders: Vec::new(), receivers: Vec::new() }).collect();
    for from in 0..size {
        for to in 0..size {
            let (sender, receiver) = channel();
            ranks[from].senders.push(sender);
            ranks[to].receivers.push(Mutex::new(receiver));
        }
    }
    ranks
}

impl LocalRank {
    fn send(&self, rank: usize, message: Message) {
        // A rank that is gone receives nothing, and is noticed by what it does not send.
        let _ = self.senders[rank].send(message);
    }

    fn receive(&self, rank: usize) -> Result<Vec<u8>> {
        match self.receivers[rank].lock().unwrap_or_else(PoisonError::into_inner).recv() {
            Ok(Message::Bytes(bytes)) => Ok(bytes),
            Ok(Message::Failed(problem)) => Err(Error::Rank { rank, problem }),
            Err(_) => Err(Error::Rank { rank, problem: "it has ended".into() }),
        }
    }
}

impl Ranks for LocalRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.senders.len()
    }

    fn exchange(&self, partner: usize, sent: &[u8], received: &mut [u8]) -> Result<()> {
        self.send(partner, Message::Bytes(sent.to_vec()));
        let bytes = self.receive(partner)?;
        if bytes.len() != received.len() {
            let problem = format!("it sent {} bytes for {}", bytes.len(), received.len());
            return Err(Error::Rank { rank: partner, problem });
        }
        received.copy_from_slice(&bytes);
        Ok(())
    }

    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        if self.rank > 0 {
            return self.receive(0);
        }
        (1..self.size()).for_each(|rank| self.send(rank, Message::Bytes(bytes.clone())));
        Ok(bytes)
    }

    fn fail(&self, problem: &str) {
        let others = (0..self.size()).filter(|&rank| rank != self.rank);
        others.for_each(|rank| self.send(rank, Message::Failed(problem.into())));
    }

    fn post(&self, to: usize, message: &[u8]) -> Result<()> {
        self.send(to, Message::Bytes(message.to_vec()));
        Ok(())
    }

    fn poll(&self, from: usize) -> Result<Option<Vec<u8>>> {
        match self.receivers[from].lock().unwrap_or_else(PoisonError::into_inner).try_recv() {
            Ok(Message::Bytes(bytes)) => Ok(Some(bytes)),
            Ok(Message::Failed(problem)) => Err(Error::Rank { rank: from, problem }),
            // A rank that is gone is one that stays silent.
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a function on each rank, in a thread of its own; returns the results in the order of the ranks.
    fn on_each<T: Send>(size: usize, run: impl Fn(LocalRank) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = local_ranks(size).into_iter().map(|rank| scope.spawn(|| run(rank))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn every_rank_learns_the_least_value_any_flag_and_who_differs() {
        for size in [1, 2, 3, 4, 6, 8] {
            let least = on_each(size, |rank| rank.least(100 - rank.rank() as u64).unwrap());
            assert_eq!(least, vec![101 - size as u64; size]);
            let flags = on_each(size, |rank| rank.any(rank.rank() == size - 1).unwrap());
            assert_eq!(flags, vec![true; size]);
            assert_eq!(on_each(size, |rank| rank.any(false).unwrap()), vec![false; size]);
            let same = on_each(size, |rank| rank.first_that_differs(b"same").unwrap());
            assert_eq!(same, vec![None; size]);
            let other = on_each(size, |rank| rank.first_that_differs(&[u8::from(rank.rank() > 0)]).unwrap());
            assert_eq!(other, vec![(size > 1).then_some(1); size]);
        }
    }

    #[test]
    fn a_failure_on_one_rank_ends_what_the_others_wait_for() {
        let ended = on_each(2, |rank| match rank.rank() {
            0 => rank.any(false).unwrap_err().to_string(),
            _ => {
                rank.fail("no memory");
                String::new()
            }
        });
        assert_eq!(ended[0], "rank 1: no memory");
    }
}
