//! Processes that an `mpirun` started, and bytes that they exchange.
//!
//! The library of MPI (the standard's C interface, <https://www.mpi-forum.org/docs>) is found when the program runs, and only
//! where an `mpirun` started it: the binary needs none. Open MPI and MPICH, with what shares MPICH's binary interface (Intel
//! MPI, MVAPICH, Cray MPICH), differ in what their handles are; [`library`] knows both.
//!
//! Module map: [`launch`] whether, and how, the process was started · [`library`] the functions that are called.

pub mod launch;
pub mod library;

use std::cell::Cell;
use std::path::PathBuf;

use thiserror::Error;

pub use launch::launched;
use library::Library;

/// Names another library than those that are tried.
pub const VARIABLE: &str = "AUTARKY_MPI";

/// Bytes that one call sends at most: MPI counts in 32-bit integers.
const PIECE: usize = 1 << 30;

/// What keeps processes from working together.
#[derive(Debug, Error)]
pub enum MpiError {
    /// No library was found.
    #[error(
        "this process was started by mpirun, but no MPI library was found: tried {tried}. Give the one that mpirun belongs to: \
         mpirun -x {VARIABLE}=/path/to/libmpi.so (Open MPI), mpirun -genv {VARIABLE} /path/to/libmpi.so (MPICH)"
    )]
    NotFound {
        /// The names, each with why not.
        tried: String,
    },
    /// A library lacks a function.
    #[error(
        "{path} is not an MPI library that is known: it has no {symbol}. {VARIABLE}=path names another one"
    )]
    Symbol {
        /// The library.
        path: PathBuf,
        /// What it lacks.
        symbol: &'static str,
    },
    /// The library and the `mpirun` are of different MPIs.
    #[error(
        "mpirun started {started} processes, but {path} knows of {known}: it belongs to another mpirun. {VARIABLE}=path names \
         the right library"
    )]
    Mismatch {
        /// Processes that the environment speaks of.
        started: usize,
        /// The library.
        path: PathBuf,
        /// Processes that it knows of.
        known: usize,
    },
    /// A call failed.
    #[error("{call} failed: {problem}")]
    Call {
        /// Which.
        call: &'static str,
        /// In the library's words.
        problem: String,
    },
}

/// One of the processes that an `mpirun` started. It is for the thread that made it.
#[derive(Debug)]
pub struct Mpi {
    library: Library,
    rank: usize,
    size: usize,
    done: Cell<bool>,
}

impl Mpi {
    /// Finds the library and joins the others. To be called once in a process that was [`launched`].
    ///
    /// # Errors
    /// When no library is found, or it does not start.
    pub fn init() -> Result<Mpi, MpiError> {
        let library = Library::open()?;
        library.init()?;
        let (rank, size) = (library.rank()?, library.size()?);
        if let Some(started) = launch::processes().filter(|&n| n != size) {
            library.finalize();
            return Err(MpiError::Mismatch { started, path: library.path().to_owned(), known: size });
        }
        Ok(Mpi { library, rank, size, done: Cell::new(false) })
    }

    /// Which of the processes this one is, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The library, and of which MPI it is.
    pub fn library(&self) -> &Library {
        &self.library
    }

    /// Sends bytes to another process, and receives as many as `receive` is long from it at the same time. The other one calls
    /// it with the lengths the other way round.
    ///
    /// # Errors
    /// When MPI fails. Most of them end all processes instead.
    ///
    /// # Panics
    /// When there is no such process.
    pub fn exchange(&self, peer: usize, send: &[u8], receive: &mut [u8]) -> Result<(), MpiError> {
        assert!(peer < self.size, "process {peer} of {}", self.size);
        let pieces = send.len().max(receive.len()).div_ceil(PIECE);
        for i in 0..pieces {
            let cut = |length: usize| (i * PIECE).min(length)..((i + 1) * PIECE).min(length);
            let (sent, received) = (cut(send.len()), cut(receive.len()));
            self.library.exchange(peer, &send[sent], &mut receive[received])?;
        }
        Ok(())
    }

    /// Ends all processes at once.
    pub fn abort(&self, code: u8) -> ! {
        self.done.set(true);
        self.library.abort(code)
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The others would wait for this one for ever.
            self.abort(101);
        }
        if !self.done.get() {
            self.library.finalize();
        }
    }
}
