//! The functions of an MPI library that are called, and what its handles are.
//!
//! In MPICH's binary interface (<https://www.mpich.org/abi>) a handle is a C `int` with a fixed value; in Open MPI's it is the
//! address of a symbol of the library. C passes the first in the low half of a register and the second in all of it, so each
//! function has two types here.

use std::env;
use std::error::Error;
use std::ffi::{c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr::{null_mut, without_provenance_mut};

use crate::launch::{Launcher, launcher};
use crate::{MpiError, VARIABLE};

/// Libraries by the names that loaders know, Open MPI's and MPICH's.
const OPEN_MPI: [&str; 3] = ["libmpi.so.40", "libmpi.so.80", "libmpi.40.dylib"];
const MPICH: [&str; 4] = ["libmpi.so.12", "libmpich.so.12", "libmpi.12.dylib", "libpmpi.12.dylib"];
const EITHER: [&str; 3] = ["libmpi.so", "libmpich.so", "libmpi.dylib"];

/// Of `MPI_Init_thread`: one thread makes all calls.
const THREAD_FUNNELED: c_int = 1;

/// Bytes that a message of an error takes at most: MPICH's 512 are the most of both.
const MESSAGE: usize = 1024;

/// The tag of all that is sent.
const TAG: c_int = 0;

/// What is the same in both interfaces.
type InitThread = unsafe extern "C" fn(*mut c_int, *mut c_void, c_int, *mut c_int) -> c_int;
type Finalize = unsafe extern "C" fn() -> c_int;
type ErrorString = unsafe extern "C" fn(c_int, *mut c_char, *mut c_int) -> c_int;

/// A handle of either kind.
trait Handle: Copy {}
impl Handle for c_int {}
impl Handle for *mut c_void {}

type OfComm<H> = unsafe extern "C" fn(H, *mut c_int) -> c_int;
type SetErrhandler<H> = unsafe extern "C" fn(H, H) -> c_int;
type Abort<H> = unsafe extern "C" fn(H, c_int) -> c_int;
type SendReceive<H> = unsafe extern "C" fn(
    *const c_void,
    c_int,
    H,
    c_int,
    c_int,
    *mut c_void,
    c_int,
    H,
    c_int,
    c_int,
    H,
    *mut c_void,
) -> c_int;

/// Functions that take handles, and the handles that they are given.
#[derive(Debug)]
struct Calls<H: Handle> {
    world: H,
    byte: H,
    errors_return: H,
    /// `MPI_STATUS_IGNORE`.
    no_status: *mut c_void,
    rank: OfComm<H>,
    size: OfComm<H>,
    set_errhandler: SetErrhandler<H>,
    abort: Abort<H>,
    send_receive: SendReceive<H>,
}

#[derive(Debug)]
enum Interface {
    OpenMpi(Calls<*mut c_void>),
    Mpich(Calls<c_int>),
}

/// Calls a function of either interface.
macro_rules! with {
    ($library:expr, $calls:ident => $what:expr) => {
        match &$library.interface {
            Interface::OpenMpi($calls) => $what,
            Interface::Mpich($calls) => $what,
        }
    };
}

/// An MPI library.
#[derive(Debug)]
pub struct Library {
    path: PathBuf,
    init_thread: InitThread,
    finalize: Finalize,
    error_string: ErrorString,
    interface: Interface,
}

/// Opens a library so that what it loads itself finds it: Open MPI's plug-ins of older versions count on that.
fn load(name: &str) -> Result<libloading::Library, libloading::Error> {
    #[cfg(unix)]
    {
        use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
        // SAFETY: loading runs the library's initializers. It is the MPI that the user's own mpirun belongs to, or that the user
        // named; initializers of both MPIs have no preconditions.
        unsafe { Library::open(Some(name), RTLD_NOW | RTLD_GLOBAL) }.map(Into::into)
    }
    #[cfg(not(unix))]
    {
        // SAFETY: as above.
        unsafe { libloading::Library::new(name) }
    }
}

impl Library {
    /// Opens the first library that there is: what `AUTARKY_MPI` names, or the usual names, of the MPI whose `mpirun` it was
    /// first.
    ///
    /// # Errors
    /// When there is none, or it is not MPI's.
    pub fn open() -> Result<Library, MpiError> {
        let named = env::var(VARIABLE).ok().filter(|name| !name.is_empty());
        let names: Vec<String> = match (named, launcher()) {
            (Some(name), _) => vec![name],
            (None, Launcher::OpenMpi) => OPEN_MPI.iter().chain(&EITHER).map(ToString::to_string).collect(),
            (None, Launcher::Other) => {
                MPICH.iter().chain(&EITHER).chain(&OPEN_MPI).map(ToString::to_string).collect()
            }
        };
        let mut tried = Vec::new();
        for name in names {
            match load(&name) {
                Ok(library) => return Library::of(library, PathBuf::from(name)),
                // The loader's words are in the source.
                Err(error) => tried.push(match error.source() {
                    Some(cause) => format!("{name} ({cause})"),
                    None => format!("{name} ({error})"),
                }),
            }
        }
        Err(MpiError::NotFound { tried: tried.join(", ") })
    }

    fn of(library: libloading::Library, path: PathBuf) -> Result<Library, MpiError> {
        // An MPI leaves handlers and threads behind: it stays for the rest of the process, and so do pointers into it.
        let library: &'static libloading::Library = Box::leak(Box::new(library));
        /// A function of the library.
        fn find<T: Copy>(
            library: &'static libloading::Library,
            path: &Path,
            symbol: &'static str,
        ) -> Result<T, MpiError> {
            // SAFETY: every T that it is called with is the type that the standard gives the symbol, with handles as the
            // interface has them that `ompi_mpi_comm_world` told apart, or the address of a variable as a pointer.
            let found = unsafe { library.get::<T>(symbol.as_bytes()) };
            found.map(|f| *f).map_err(|_| MpiError::Symbol { path: path.to_owned(), symbol })
        }
        let address = |symbol| find::<*mut c_void>(library, &path, symbol);
        let interface = match address("ompi_mpi_comm_world") {
            Ok(world) => Interface::OpenMpi(Calls {
                world,
                byte: address("ompi_mpi_byte")?,
                errors_return: address("ompi_mpi_errors_return")?,
                no_status: null_mut(),
                rank: find(library, &path, "MPI_Comm_rank")?,
                size: find(library, &path, "MPI_Comm_size")?,
                set_errhandler: find(library, &path, "MPI_Comm_set_errhandler")?,
                abort: find(library, &path, "MPI_Abort")?,
                send_receive: find(library, &path, "MPI_Sendrecv")?,
            }),
            // The values of MPICH's mpi.h, which its binary interface fixes.
            Err(_) => Interface::Mpich(Calls {
                world: 0x4400_0000,
                byte: 0x4c00_010d,
                errors_return: 0x5400_0001,
                no_status: without_provenance_mut(1),
                rank: find(library, &path, "MPI_Comm_rank")?,
                size: find(library, &path, "MPI_Comm_size")?,
                set_errhandler: find(library, &path, "MPI_Comm_set_errhandler")?,
                abort: find(library, &path, "MPI_Abort")?,
                send_receive: find(library, &path, "MPI_Sendrecv")?,
            }),
        };
        let init_thread = find(library, &path, "MPI_Init_thread")?;
        let finalize = find(library, &path, "MPI_Finalize")?;
        let error_string = find(library, &path, "MPI_Error_string")?;
        Ok(Library { path, init_thread, finalize, error_string, interface })
    }

    /// By what name it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Of which MPI its interface is.
    pub fn name(&self) -> &'static str {
        match self.interface {
            Interface::OpenMpi(_) => "Open MPI",
            Interface::Mpich(_) => "MPICH",
        }
    }

    /// What a call gave, as an error unless it is `MPI_SUCCESS`.
    fn check(&self, call: &'static str, code: c_int) -> Result<(), MpiError> {
        if code == 0 {
            return Ok(());
        }
        let mut text = [0u8; MESSAGE];
        let mut length = 0;
        // SAFETY: the buffer is larger than MPI_MAX_ERROR_STRING of both MPIs (512 and 256), and both may be called after
        // MPI_Init_thread, failed or not.
        let known = unsafe { (self.error_string)(code, text.as_mut_ptr().cast(), &mut length) } == 0;
        let text = String::from_utf8_lossy(&text[..usize::try_from(length).unwrap_or(0).min(MESSAGE)]);
        let problem = if known { text.into_owned() } else { format!("error {code}") };
        Err(MpiError::Call { call, problem })
    }

    pub(crate) fn init(&self) -> Result<(), MpiError> {
        let mut provided = 0;
        // SAFETY: null arguments stand for none in both MPIs (MPI 2.2, section 8.7), and it is called once.
        let code = unsafe { (self.init_thread)(null_mut(), null_mut(), THREAD_FUNNELED, &mut provided) };
        self.check("MPI_Init_thread", code)?;
        // SAFETY: the handles are those of the library's own interface, which is running.
        let code = with!(self, c => unsafe { (c.set_errhandler)(c.world, c.errors_return) });
        self.check("MPI_Comm_set_errhandler", code)
    }

    pub(crate) fn rank(&self) -> Result<usize, MpiError> {
        let mut rank = 0;
        // SAFETY: as in `init`; the pointer is to an int of this frame.
        self.check("MPI_Comm_rank", with!(self, c => unsafe { (c.rank)(c.world, &mut rank) }))?;
        Ok(usize::try_from(rank).unwrap_or(0))
    }

    pub(crate) fn size(&self) -> Result<usize, MpiError> {
        let mut size = 0;
        // SAFETY: as in `rank`.
        self.check("MPI_Comm_size", with!(self, c => unsafe { (c.size)(c.world, &mut size) }))?;
        Ok(usize::try_from(size).unwrap_or(0))
    }

    /// `MPI_Sendrecv` of bytes, of which a C int can count both.
    pub(crate) fn exchange(&self, peer: usize, send: &[u8], receive: &mut [u8]) -> Result<(), MpiError> {
        let int = |n: usize| c_int::try_from(n).unwrap_or(c_int::MAX);
        let (peer, sent, received) = (int(peer), int(send.len()), int(receive.len()));
        // SAFETY: the buffers are as long as is said, and do not overlap; the call is over when nothing reads or writes them
        // any more; handles are as in `init`.
        let code = with!(self, c => unsafe {
            (c.send_receive)(
                send.as_ptr().cast(), sent, c.byte, peer, TAG,
                receive.as_mut_ptr().cast(), received, c.byte, peer, TAG,
                c.world, c.no_status,
            )
        });
        self.check("MPI_Sendrecv", code)
    }

    pub(crate) fn abort(&self, code: u8) -> ! {
        // SAFETY: as in `init`.
        with!(self, c => unsafe { (c.abort)(c.world, c_int::from(code)) });
        // It does not come back; should it, this process at least ends.
        std::process::exit(i32::from(code))
    }

    pub(crate) fn finalize(&self) {
        // SAFETY: it is running, and nothing is called after it. What it gives is of no use any more.
        unsafe { (self.finalize)() };
    }
}
