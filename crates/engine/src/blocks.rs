//! Blocks of the KV cache: which are free, and who holds the others.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All blocks of one program's KV cache.
#[derive(Debug)]
pub(crate) struct BlockPool {
    free: Arc<Mutex<Vec<u32>>>,
}

/// A held block. It goes back to its pool when the last sequence that holds it lets go.
#[derive(Clone, Debug)]
pub(crate) struct Block(Arc<Held>);

#[derive(Debug)]
struct Held {
    id: u32,
    free: Arc<Mutex<Vec<u32>>>,
}

/// A poisoned list is still a list: no code panics while it holds the lock halfway through a change.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BlockPool {
    /// `count` free blocks, numbered from 0.
    pub(crate) fn new(count: usize) -> BlockPool {
        let ids = (0..u32::try_from(count).unwrap_or(u32::MAX)).rev().collect();
        BlockPool { free: Arc::new(Mutex::new(ids)) }
    }

    /// Blocks that nobody holds.
    pub(crate) fn free(&self) -> usize {
        lock(&self.free).len()
    }

    /// Takes a block, or `None` when all are held.
    pub(crate) fn take(&self) -> Option<Block> {
        let id = lock(&self.free).pop()?;
        Some(Block(Arc::new(Held { id, free: Arc::clone(&self.free) })))
    }
}

impl Block {
    /// Its number in the program's cache.
    pub(crate) fn id(&self) -> u32 {
        self.0.id
    }

    /// Whether another sequence holds it too.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.free).push(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_returns_when_its_last_holder_lets_go() {
        let pool = BlockPool::new(2);
        let (a, b) = (pool.take().unwrap(), pool.take().unwrap());
        assert_eq!((a.id(), b.id(), pool.free()), (0, 1, 0));
        assert!(pool.take().is_none(), "two blocks cannot be held three times");
        let again = a.clone();
        assert!(a.is_shared() && !b.is_shared());
        drop(a);
        assert_eq!(pool.free(), 0, "a shared block must stay held");
        assert!(!again.is_shared());
        drop(again);
        assert_eq!(pool.take().unwrap().id(), 0);
    }
}
