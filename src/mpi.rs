//! The ranks that `mpirun` started, of which this process is one.

#[cfg(feature = "mpi")]
mod world;

use std::sync::Arc;

use anyhow::Result;
use softstep::ranks::{Alone, Ranks};

/// What Open MPI's `mpirun` tells a process about itself.
#[derive(Clone, Copy, Debug)]
pub struct Launched {
    /// Number of the process, from 0.
    pub rank: usize,
    /// Number of processes.
    pub size: usize,
    /// Number of the process among those on its node, from 0.
    #[cfg_attr(not(feature = "mpi"), expect(dead_code))] // nothing is joined without it
    pub local: usize,
}

impl Launched {
    /// Returns what `mpirun` told; `None` for a process that was started otherwise.
    pub fn read() -> Option<Self> {
        let number = |name: &str| std::env::var(format!("OMPI_COMM_WORLD_{name}")).ok()?.parse().ok();
        Some(Self { rank: number("RANK")?, size: number("SIZE")?, local: number("LOCAL_RANK").unwrap_or(0) })
    }
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
            Some(launched) => anyhow::bail!(
                "mpirun started {} processes for one run, but this softstep has no MPI: build it with `cargo install softstep \
                 --features mpi`, or start it without mpirun",
                launched.size
            ),
        }
    }
}
