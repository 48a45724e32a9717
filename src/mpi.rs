//! The ranks that `mpirun` started, of which this process is one.

#[cfg(feature = "mpi")]
mod world;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use softstep::any_backend::Device;
use softstep::ranks::{Alone, Ranks};

use crate::run::files::hexadecimal;
use crate::terminal;

/// What Open MPI's `mpirun` tells a process about itself.
#[derive(Clone, Copy, Debug)]
pub struct Launched {
    /// Number of the process, from 0.
    pub rank: usize,
    /// Number of processes.
    pub size: usize,
    /// Number of processes on its node.
    pub on_node: usize,
    /// Number of the process among those on its node, from 0.
    #[cfg_attr(not(feature = "mpi"), expect(dead_code))] // nothing is joined without it
    pub local: usize,
}

impl Launched {
    /// Returns what `mpirun` told; `None` for a process that was started otherwise.
    pub fn read() -> Option<Self> {
        let number = |name: &str| std::env::var(format!("OMPI_COMM_WORLD_{name}")).ok()?.parse().ok();
        let size: usize = number("SIZE")?;
        Some(Self {
            rank: number("RANK")?,
            size,
            on_node: number("LOCAL_SIZE").unwrap_or(size),
            local: number("LOCAL_RANK").unwrap_or(0),
        })
    }

    /// Returns the number of threads for this process, which may use so many processors.
    pub fn threads(&self, usable: usize) -> usize {
        // Of those that it may not use, only Linux tells.
        let listed = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let listed = listed.lines().filter(|line| line.starts_with("processor")).count();
        fair_share(usable, listed.max(usable), self.on_node)
    }
}

/// A rank's share of the processors of its node, of which it may use `usable`.
///
/// Open MPI binds each of two ranks to a core of its own, but lets more ranks use the same cores.
fn fair_share(usable: usize, on_node: usize, ranks: usize) -> usize {
    (on_node / ranks.max(1)).clamp(1, usable.max(1))
}

/// The ranks of a run, until they part.
pub struct Joined {
    /// The ranks.
    pub ranks: Arc<dyn Ranks>,
    /// Number of this rank among those on its node, if there are several ranks.
    pub local: Option<usize>,
    /// What ends MPI when it is dropped.
    #[cfg(feature = "mpi")]
    _universe: Option<::mpi::environment::Universe>,
}

impl Joined {
    /// Joins the ranks that `mpirun` started with this one; a process by itself stays alone.
    ///
    /// # Errors
    /// Several ranks, and no MPI to join them by.
    pub fn new() -> Result<Self> {
        match Launched::read().filter(|launched| launched.size > 1) {
            None => Ok(Self {
                ranks: Arc::new(Alone),
                local: None,
                #[cfg(feature = "mpi")]
                _universe: None,
            }),
            #[cfg(feature = "mpi")]
            Some(launched) => {
                let (universe, world) = world::World::join()?;
                Ok(Self { ranks: Arc::new(world), local: Some(launched.local), _universe: Some(universe) })
            }
            #[cfg(not(feature = "mpi"))]
            Some(launched) => bail!(
                "mpirun started {} processes for one run, but this softstep has no MPI: build it with `cargo install softstep \
                 --features mpi`, or start it without mpirun",
                launched.size
            ),
        }
    }

    /// Leaves without the others, where one of them was lost: MPI would wait for it in vain.
    pub fn leave(self) {
        std::mem::forget(self);
    }
}

/// Ends all ranks by an error of this one, and returns the exit code.
pub fn fail(ranks: &dyn Ranks, error: &anyhow::Error) -> ExitCode {
    // Rank 0 prints it first: once another rank has ended, `mpirun` kills this one after a second.
    terminal::error(error);
    ranks.fail(&format!("{error:#}"));
    ExitCode::FAILURE
}

/// Refuses ranks that do not all have the same program and device, and the same of all else that their results depend on:
/// a name, a value and what to do about another value each.
///
/// # Errors
/// The first rank with another value.
pub fn check_same(ranks: &dyn Ranks, device: &Device, others: &[(&str, String, &str)]) -> Result<()> {
    if ranks.size() == 1 {
        return Ok(());
    }
    let program = std::env::current_exe().and_then(std::fs::read).context("softstep cannot read its own program")?;
    let info = device.info();
    let device = match info.backend {
        "cpu" => info.driver,
        _ => format!("{}, {}", info.name, info.driver),
    };
    let program = ("program", hexadecimal(&Sha256::digest(program)), "install the same softstep on every node");
    let device = ("device", device, "use devices of one kind, such as by --backend cpu");
    for (what, own, way_out) in [&program].into_iter().chain(others).chain([&device]) {
        let Some(rank) = ranks.first_that_differs(own.as_bytes())? else { continue };
        bail!("rank {rank} has another {what} than rank 0: {way_out}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_share_the_processors_of_a_node() {
        for (usable, on_node, ranks, threads) in [
            (1, 8, 8, 1), // bound to a core
            (8, 8, 8, 1), // bound to nothing, or to a part of the machine that others are bound to, too
            (8, 8, 2, 4),
            (16, 64, 4, 16),
            (2, 64, 4, 2), // in a container
            (2, 2, 8, 1),  // more ranks than processors
        ] {
            assert_eq!(fair_share(usable, on_node, ranks), threads, "{usable} of {on_node} for {ranks} ranks");
        }
    }
}
