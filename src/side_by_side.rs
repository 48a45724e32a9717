//! Runs side by side: independent runs, dealt out to the places of this machine that each train one at a time.
//!
//! A place of the CPU is a group of cores with a pool of threads of its own, one of a GPU an adapter with a queue of its
//! own; another rank that `mpirun` started is a place, too. Which place trains a run depends on its number alone where places
//! differ, so that no bit of a run depends on the runs beside it; cores and ranks do not differ.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};

use anyhow::{Result, bail};
use softstep::any_backend::Device;

use crate::device;
use crate::options::{BackendChoice, DeviceArgs};

/// The stack of a thread that trains, as the first thread of a process has it.
const STACK_BYTES: usize = 8 << 20;

/// A part of this machine, or another rank, that trains one run at a time.
pub struct Place {
    /// Device, of a rank the kind of device.
    pub device: Device,
    /// The rank that trains; `None` for this process.
    pub rank: Option<usize>,
    /// Threads of the CPU.
    threads: usize,
    /// Number among the places that differ.
    lane: usize,
}

impl Place {
    /// This process as one place, with all its threads.
    pub fn whole(device: Device) -> Self {
        Self { device, rank: None, threads: rayon::current_num_threads(), lane: 0 }
    }

    /// The place of another rank, which has a device of this kind.
    pub fn of_rank(rank: usize, device: Device) -> Self {
        Self { device, rank: Some(rank), threads: 0, lane: 0 }
    }

    /// Calls `work` on the threads of this place; for another rank, on the current thread.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        if self.rank.is_some() {
            return work();
        }
        match rayon::ThreadPoolBuilder::new().num_threads(self.threads).stack_size(STACK_BYTES).build() {
            Ok(pool) => pool.install(work),
            // The system grants no more threads: those that all share are left.
            Err(_) => work(),
        }
    }
}

/// The places of this machine for so many runs: of the CPU `jobs` or one for each core, with all cores shared among
/// fewer runs than there are; of GPUs one for each adapter of a list such as `0,1`.
///
/// A core that trains a run of its own loses nothing to sharing, so that groups of several cores pay only where there
/// are too few runs.
pub async fn places(args: &DeviceArgs, runs: usize, jobs: Option<usize>) -> Result<Vec<Place>> {
    let cores = rayon::current_num_threads();
    let adapters = adapter_list(args);
    if adapters.len() > 1 {
        let mut places = Vec::new();
        for (lane, adapter) in adapters.iter().enumerate() {
            let args = DeviceArgs { backend: args.backend, adapter: Some((*adapter).to_owned()) };
            let device = device::open_device(&args).await?;
            places.push(Place { device, rank: None, threads: (cores / adapters.len()).max(1), lane });
        }
        if jobs.is_some_and(|jobs| jobs != places.len()) {
            bail!("--jobs is for the CPU: each adapter trains one run at a time");
        }
        return Ok(places);
    }
    let device = device::open_device(args).await?;
    if device.gpu().is_some() {
        if jobs.is_some_and(|jobs| jobs > 1) {
            bail!("--jobs is for the CPU: an adapter trains one run at a time; name several, as in --adapter 0,1");
        }
        return Ok(vec![Place::whole(device)]);
    }
    let count = jobs.unwrap_or(cores).min(runs).max(1);
    let threads = |place: usize| (cores * (place + 1) / count - cores * place / count).max(1);
    Ok((0..count).map(|place| Place { device: Device::Cpu, rank: None, threads: threads(place), lane: 0 }).collect())
}

/// The adapters of a list of numbers; a name may have commas.
fn adapter_list(args: &DeviceArgs) -> Vec<&str> {
    let Some(adapter) = args.adapter.as_deref().filter(|_| args.backend != BackendChoice::Cpu) else {
        return Vec::new();
    };
    let parts: Vec<&str> = adapter.split(',').map(str::trim).collect();
    let are_numbers = parts.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    if are_numbers { parts } else { vec![adapter] }
}

/// Runs that wait for a place.
struct Waiting<R, I> {
    runs: I,
    /// Runs that were taken while one of another lane was looked for, and those that a lost place gave back.
    of_lane: Vec<VecDeque<R>>,
}

impl<R, I: Iterator<Item = R>> Waiting<R, I> {
    fn next(&mut self, lane: usize, number: impl Fn(&R) -> usize) -> Option<R> {
        let lanes = self.of_lane.len();
        loop {
            if let Some(run) = self.of_lane[lane].pop_front() {
                return Some(run);
            }
            let run = self.runs.next()?;
            self.of_lane[number(&run) % lanes].push_back(run);
        }
    }
}

/// Calls `work` with every run at one of the places, and `done` with each result as it arrives.
///
/// `runs` is asked for the next run whenever a place is free, and ends the work by ending. The `number` of a run says
/// which of several different devices it is for. Where `work` returns nothing, its place is lost, and another place does
/// the run.
pub fn execute<R: Send + Sync, T: Send>(
    places: &[Place],
    runs: impl Iterator<Item = R> + Send,
    number: impl Fn(&R) -> usize + Sync,
    work: impl Fn(&Place, &R) -> Option<T> + Sync,
    mut done: impl FnMut(R, T),
) {
    let lanes = places.iter().map(|place| place.lane + 1).max().unwrap_or(1);
    let waiting = Mutex::new(Waiting { runs: runs.fuse(), of_lane: (0..lanes).map(|_| VecDeque::new()).collect() });
    let waiting = || waiting.lock().unwrap_or_else(PoisonError::into_inner);
    let places: Vec<(&Place, AtomicBool)> = places.iter().map(|place| (place, AtomicBool::new(false))).collect();
    let is_lost = |(_, lost): &&(&Place, AtomicBool)| lost.load(Ordering::Relaxed);
    let serve = |(place, lost): &(&Place, AtomicBool), results: &mpsc::Sender<(R, T)>| {
        loop {
            let Some(run) = waiting().next(place.lane, &number) else { break };
            let Some(result) = place.run(|| work(place, &run)) else {
                lost.store(true, Ordering::Relaxed);
                waiting().of_lane[place.lane].push_front(run);
                break;
            };
            if results.send((run, result)).is_err() {
                break;
            }
        }
    };
    let serve = &serve;
    // Another round is for runs that were given back when the other places had ended.
    loop {
        let left: Vec<_> = places.iter().filter(|place| !is_lost(place)).collect();
        std::thread::scope(|scope| {
            let (results, arrived) = mpsc::channel();
            let mut refused = Vec::new();
            for place in &left {
                let results = results.clone();
                let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
                if thread.spawn_scoped(scope, move || serve(place, &results)).is_err() {
                    refused.push(place);
                }
            }
            // Where the system grants no thread for a place, this one does its work, if no other place can.
            for place in refused.iter().filter(|(place, _)| refused.len() == left.len() || place.lane > 0) {
                serve(place, &results);
            }
            drop(results);
            arrived.into_iter().for_each(|(run, result)| done(run, result));
        });
        let has_ended = waiting().of_lane.iter().all(VecDeque::is_empty);
        if has_ended || places.iter().all(|place| is_lost(&place)) {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn place(lane: usize) -> Place {
        Place { device: Device::Cpu, rank: None, threads: 1, lane }
    }

    #[test]
    fn every_run_is_done_once_and_by_the_place_of_its_number() {
        for lanes in 1..4 {
            let places: Vec<Place> = (0..3).map(|at| place(at % lanes)).collect();
            let mut seen = Vec::new();
            let work = |place: &Place, run: &usize| Some((place.lane, *run, rayon::current_num_threads()));
            execute(
                &places,
                0..50,
                |run| *run,
                work,
                |run, (lane, of, threads)| {
                    assert_eq!((run, run % lanes, threads), (of, lane, 1));
                    seen.push(run);
                },
            );
            seen.sort_unstable();
            assert_eq!(seen, (0..50).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_run_of_a_place_that_is_lost_is_done_by_another() {
        // The second place is lost with its first run, after the first place has done all the others.
        let places = [Place::whole(Device::Cpu), Place::of_rank(1, Device::Cpu)];
        let (taken, done) = (AtomicBool::new(false), AtomicUsize::new(0));
        let wait_until = |is_so: &dyn Fn() -> bool| {
            while !is_so() {
                std::thread::yield_now();
            }
        };
        let work = |place: &Place, run: &usize| {
            if place.rank.is_some() {
                taken.store(true, Ordering::Relaxed);
                wait_until(&|| done.load(Ordering::Relaxed) == 9);
                return None;
            }
            wait_until(&|| taken.load(Ordering::Relaxed));
            done.fetch_add(1, Ordering::Relaxed);
            Some(*run)
        };
        let mut seen = Vec::new();
        execute(&places, 0..10, |run| *run, work, |_, run| seen.push(run));
        seen.sort_unstable();
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn numbers_are_several_adapters_and_a_name_is_one() {
        let of = |adapter: &str| {
            let args = DeviceArgs { backend: BackendChoice::Gpu, adapter: Some(adapter.into()) };
            adapter_list(&args).into_iter().map(String::from).collect::<Vec<_>>()
        };
        assert_eq!(of("0,1"), ["0", "1"]);
        assert_eq!(of("llvmpipe (LLVM 19, 256 bits)"), ["llvmpipe (LLVM 19, 256 bits)"]);
    }
}
