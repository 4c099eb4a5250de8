//! What a rendering may cost, and how it fails.

use std::cell::Cell;

/// Why a rendering stops. Line numbers are added where statements run.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The template does what has no meaning.
    Error(String),
    /// The template called `raise_exception`.
    Raised(String),
    /// The template costs too much.
    Limit(&'static str),
}

impl Fault {
    /// An error with a message.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Error(message.into())
    }
}

/// Levels of evaluation inside each other; each takes stack.
const DEPTH: u32 = 160;

/// What is left to spend.
pub(crate) struct Budget {
    steps: Cell<u64>,
    bytes: Cell<u64>,
    depth: Cell<u32>,
}

impl Budget {
    /// So many steps and so many bytes in all that is made.
    pub(crate) fn new(steps: u64, bytes: u64) -> Self {
        Self { steps: Cell::new(steps), bytes: Cell::new(bytes), depth: Cell::new(0) }
    }

    /// Pays for one step that looks at `bytes` bytes.
    pub(crate) fn scan(&self, bytes: usize) -> Result<(), Fault> {
        let cost = 1 + bytes as u64 / 64;
        let left = self.steps.get().checked_sub(cost).ok_or(Fault::Limit("steps"))?;
        self.steps.set(left);
        Ok(())
    }

    /// Pays for making `bytes` bytes, before they are made.
    pub(crate) fn grow(&self, bytes: usize) -> Result<(), Fault> {
        let left = self.bytes.get().checked_sub(bytes as u64).ok_or(Fault::Limit("memory"))?;
        self.bytes.set(left);
        self.scan(bytes)
    }

    /// Runs `inner` one level deeper.
    pub(crate) fn deeper<T>(&self, inner: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        let depth = self.depth.get() + 1;
        if depth > DEPTH {
            return Err(Fault::Limit("nesting"));
        }
        self.depth.set(depth);
        let result = inner();
        self.depth.set(depth - 1);
        result
    }
}
