//! `autarky train` as one of the processes that an `mpirun` started.

use std::fs;
use std::thread::{self, available_parallelism};
use std::time::Duration;

use anyhow::Error;
use autarky_mpi::{Mpi, launch};
use autarky_train::ranks::{Alone, Ranks, RanksError};

use crate::exit;
use crate::terminal::warn;

/// How long a rank waits with its error: where all have the same one, rank 0 alone tells it, and ends them.
const PATIENCE: Duration = Duration::from_secs(2);

/// A rank that exchanges bytes over MPI.
pub(super) struct OverMpi(Mpi);

impl Ranks for OverMpi {
    fn rank(&self) -> usize {
        self.0.rank()
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn exchange(&self, peer: usize, send: &[u8], receive: &mut [u8]) -> Result<(), RanksError> {
        let result = self.0.exchange(peer, send, receive);
        result.map_err(|e| RanksError::Exchange { peer, problem: e.to_string() })
    }
}

impl OverMpi {
    /// Joins the other processes, where an `mpirun` started this one.
    pub(super) fn join() -> anyhow::Result<Option<OverMpi>> {
        Ok(if autarky_mpi::launched() { Some(OverMpi(Mpi::init()?)) } else { None })
    }

    /// What is told of it.
    pub(super) fn describe(&self) -> String {
        let library = self.0.library();
        format!(", {} processes over {} ({})", self.0.size(), library.name(), library.path().display())
    }

    /// Threads of this process, so that those of one machine share its processors.
    pub(super) fn threads(&self) -> usize {
        let allowed = available_parallelism().map_or(1, |n| n.get());
        let all = processors().unwrap_or(allowed).max(allowed);
        let even = (all / launch::on_this_machine().unwrap_or(1)).max(1);
        if allowed < even && self.0.rank() == 0 {
            warn(&format!(
                "mpirun lets this process use {allowed} of {all} processors: with --bind-to none it uses {even}"
            ));
        }
        even.min(allowed)
    }

    /// Ends all processes, for what keeps this one from going on.
    pub(super) fn end(self, error: Error) -> ! {
        if self.0.rank() > 0 {
            thread::sleep(PATIENCE);
        }
        let error = error.context(format!("rank {}", self.0.rank()));
        // It says what there is to say; the others are ended by MPI.
        let _ = exit::failure(&error);
        self.0.abort(exit::code(&error))
    }
}

/// The ranks of a process that has joined others, or has not.
pub(super) fn ranks(joined: Option<&OverMpi>) -> &dyn Ranks {
    match joined {
        Some(mpi) => mpi,
        None => &Alone,
    }
}

/// Processors of this machine, whether or not this process may use them: Linux says so in a list such as `0-3,8`.
fn processors() -> Option<usize> {
    let text = fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
    let count = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)? + 1)
    };
    text.trim().split(',').map(count).sum()
}
