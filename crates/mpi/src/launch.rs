//! Whether an `mpirun` started this process: what it left in the environment says so.

use std::env;

/// Each of them is set by an `mpirun`, or by what takes its place: Open MPI's, those that speak PMI (MPICH's, Intel's, Slurm's
/// `srun`), and those that speak PMIx.
const MARKS: [&str; 5] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMI_RANK", "PMIX_RANK", "MPI_LOCALNRANKS"];

/// Which MPI's `mpirun` it was, as far as it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// Open MPI's.
    OpenMpi,
    /// One that could be of either.
    Other,
}

fn number(name: &str) -> Option<usize> {
    env::var(name).ok()?.trim().parse().ok()
}

/// Whether an `mpirun` started this process.
pub fn launched() -> bool {
    MARKS.iter().any(|name| env::var_os(name).is_some())
}

/// Whose it was.
pub fn launcher() -> Launcher {
    match env::var_os("OMPI_COMM_WORLD_SIZE") {
        Some(_) => Launcher::OpenMpi,
        None => Launcher::Other,
    }
}

/// Processes that were started, where the environment says so.
pub fn processes() -> Option<usize> {
    ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"].into_iter().find_map(number).filter(|&n| n > 0)
}

/// How many of them share this machine, where the environment says so.
pub fn on_this_machine() -> Option<usize> {
    ["OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"].into_iter().find_map(number).filter(|&n| n > 0)
}
