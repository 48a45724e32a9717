//! The ranks of MPI's world communicator.
//!
//! A rank that fails says goodbye to all others, and takes what they still send until each has said goodbye, too: so
//! everybody learns of the failure, no message is left half sent, and MPI ends in order. A rank that waits for a message
//! looks for goodbyes meanwhile.
//!
//! MPI is called by one thread at a time: the threads that post and poll take turns.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use mpi::Threading;
use mpi::environment::Universe;
use mpi::point_to_point::Status;
use mpi::request::scope;
use mpi::topology::{Communicator, SimpleCommunicator};
use mpi::traits::{Destination, Source};
use signal_hook::consts::SIGTERM;
use softstep::Error;
use softstep::ranks::Ranks;

/// Tag of what ranks send each other.
const DATA: i32 = 1;
/// Tag of the message of a rank that has failed.
const GOODBYE: i32 = 2;
/// Tag of what a rank posts.
const POST: i32 = 3;
/// Longest problem in a goodbye, in bytes: so few are sent at once, without waiting for who receives them.
const LONGEST_PROBLEM: usize = 1000;
/// How long a rank that was told to end waits for another: when one is killed, `mpirun` tells the others, and kills them
/// after a second.
const PATIENCE: Duration = Duration::from_millis(500);
/// Time for which a rank looks for a message without pausing; most messages arrive within it.
const EAGER: Duration = Duration::from_micros(100);
/// How long a rank that has failed waits for the goodbyes of the others.
const FAREWELL: Duration = Duration::from_secs(20);

/// This rank among all ranks.
pub struct World {
    rank: usize,
    size: usize,
    /// Set by SIGTERM.
    is_told_to_end: Arc<AtomicBool>,
    /// The problem of each rank that said goodbye.
    gone: Mutex<Vec<Option<String>>>,
    /// The turn of a thread that posts or polls.
    turn: Mutex<()>,
}

impl World {
    /// Starts MPI, which ends when the universe is dropped.
    pub fn join() -> Result<(Universe, Self)> {
        let Some((universe, threading)) = mpi::initialize_with_threading(Threading::Serialized) else {
            bail!("MPI has started already");
        };
        if threading < Threading::Serialized {
            bail!("this MPI can be called by one thread only, and softstep has several: use another build of it");
        }
        let world = universe.world();
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        let is_told_to_end = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGTERM, Arc::clone(&is_told_to_end))?;
        Ok((universe, Self { rank, size, is_told_to_end, gone: Mutex::new(vec![None; size]), turn: Mutex::default() }))
    }

    /// Receives a message of a rank.
    fn receive(&self, from: usize, received: &mut [u8]) -> softstep::Result<()> {
        let world = SimpleCommunicator::world();
        let source = world.process_at_rank(from as i32);
        let start = Instant::now();
        let mut since: Option<Instant> = None;
        loop {
            if let Some((message, status)) = source.immediate_matched_probe_with_tag(DATA) {
                let length = length(&status);
                if length == received.len() {
                    message.matched_receive_into(received);
                    return Ok(());
                }
                message.matched_receive_into(&mut vec![0u8; length][..]);
                let problem = format!("it sent {length} bytes for {}", received.len());
                return Err(Error::Rank { rank: from, problem });
            }
            if let Some((rank, problem)) = self.goodbye() {
                return Err(Error::Rank { rank, problem });
            }
            if self.is_told_to_end.load(Ordering::Relaxed)
                && since.get_or_insert_with(Instant::now).elapsed() > PATIENCE
            {
                return Err(Error::Rank { rank: from, problem: "it was killed, or does not answer".into() });
            }
            // Another thread of this rank may be computing on the same core. Pauses of an eighth of the time that the message
            // has taken so far leave it that core, and delay the message little.
            let waited = start.elapsed();
            if waited < EAGER {
                std::thread::yield_now();
            } else {
                std::thread::sleep((waited / 8).min(Duration::from_millis(1)));
            }
        }
    }

    /// Takes a goodbye that has arrived: the rank, and its problem.
    fn goodbye(&self) -> Option<(usize, String)> {
        let world = SimpleCommunicator::world();
        let (message, status) = world.any_process().immediate_matched_probe_with_tag(GOODBYE)?;
        let mut problem = vec![0u8; length(&status)];
        message.matched_receive_into(&mut problem[..]);
        let rank = status.source_rank() as usize;
        let problem = String::from_utf8_lossy(&problem).into_owned();
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)[rank] = Some(problem.clone());
        Some((rank, problem))
    }

    /// Takes and drops a message that has arrived.
    fn discard(&self) {
        let world = SimpleCommunicator::world();
        for tag in [DATA, POST] {
            if let Some((message, status)) = world.any_process().immediate_matched_probe_with_tag(tag) {
                message.matched_receive_into(&mut vec![0u8; length(&status)][..]);
            }
        }
        std::thread::yield_now();
    }

    fn have_all_gone(&self) -> bool {
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        (0..self.size).all(|rank| rank == self.rank || gone[rank].is_some())
    }

    /// Ends every process at once, where a rank that was killed keeps MPI from ending in order.
    fn abort(&self) -> ! {
        SimpleCommunicator::world().abort(1)
    }
}

fn length(status: &Status) -> usize {
    status.count(<u8 as mpi::datatype::Equivalence>::equivalent_datatype()) as usize
}

impl Ranks for World {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn exchange(&self, partner: usize, sent: &[u8], received: &mut [u8]) -> softstep::Result<()> {
        let world = SimpleCommunicator::world();
        scope(|scope| {
            let mut sending = world.process_at_rank(partner as i32).immediate_send_with_tag(scope, sent, DATA);
            let result = self.receive(partner, received);
            if result.is_err() {
                // The partner takes it before it ends, unless it was killed.
                let since = Instant::now();
                loop {
                    match sending.test() {
                        Ok(_) => return result,
                        Err(pending) => sending = pending,
                    }
                    if since.elapsed() > FAREWELL {
                        self.abort();
                    }
                    self.discard();
                }
            }
            sending.wait();
            result
        })
    }

    fn broadcast(&self, bytes: Vec<u8>) -> softstep::Result<Vec<u8>> {
        // By way of exchanges with rank 0, which see failures.
        let mut length = (bytes.len() as u64).to_le_bytes();
        if self.rank == 0 {
            for rank in 1..self.size {
                self.exchange(rank, &length, &mut [])?;
                self.exchange(rank, &bytes, &mut [])?;
            }
            return Ok(bytes);
        }
        self.exchange(0, &[], &mut length)?;
        let mut received = vec![0; u64::from_le_bytes(length) as usize];
        self.exchange(0, &[], &mut received)?;
        Ok(received)
    }

    fn fail(&self, problem: &str) {
        let world = SimpleCommunicator::world();
        let end = problem.len().min(LONGEST_PROBLEM);
        for rank in (0..self.size).filter(|&rank| rank != self.rank) {
            world.process_at_rank(rank as i32).send_with_tag(&problem.as_bytes()[..end], GOODBYE);
        }
        let since = Instant::now();
        // The first rank is the one that saves: the others wait until it has.
        let is_short = self.rank == 0 && self.is_told_to_end.load(Ordering::Relaxed);
        let patience = if is_short { PATIENCE } else { FAREWELL };
        while !self.have_all_gone() {
            if since.elapsed() > patience {
                self.abort();
            }
            while self.goodbye().is_some() {}
            self.discard();
        }
    }

    fn post(&self, to: usize, message: &[u8]) -> softstep::Result<()> {
        let turn = || self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let world = SimpleCommunicator::world();
        scope(|scope| {
            let mut sending = {
                let _turn = turn();
                world.process_at_rank(to as i32).immediate_send_with_tag(scope, message, POST)
            };
            let since = Instant::now();
            loop {
                {
                    let _turn = turn();
                    match sending.test() {
                        Ok(_) => return Ok(()),
                        Err(pending) => sending = pending,
                    }
                    if since.elapsed() > FAREWELL {
                        // A rank that was killed in the middle of a long message: MPI cannot take it back.
                        self.abort();
                    }
                }
                std::thread::yield_now();
            }
        })
    }

    fn poll(&self, from: usize) -> softstep::Result<Option<Vec<u8>>> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let world = SimpleCommunicator::world();
        let source = world.process_at_rank(from as i32);
        if let Some((message, status)) = source.immediate_matched_probe_with_tag(POST) {
            let mut bytes = vec![0u8; length(&status)];
            message.matched_receive_into(&mut bytes[..]);
            return Ok(Some(bytes));
        }
        while self.goodbye().is_some() {}
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        match &gone[from] {
            Some(problem) => Err(Error::Rank { rank: from, problem: problem.clone() }),
            None => Ok(None),
        }
    }
}
