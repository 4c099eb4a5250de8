//! One text: its tokens, and what of it the KV cache holds.

use autarky_graph::BLOCK;

use crate::blocks::{Block, BlockPool};
use crate::error::EngineError;

/// A sequence of tokens, the first [`cached`](Sequence::cached) of which have their keys and values in the cache;
/// the others are pending. Blocks of cache that it holds are given back when it is dropped.
///
/// A sequence belongs to the [`Engine`](crate::Engine) that first ran it.
#[derive(Debug, Default)]
pub struct Sequence {
    tokens: Vec<u32>,
    cached: usize,
    /// Block `i` holds positions `i · BLOCK ..`. A block that another sequence shares is full and lies wholly
    /// below both sequences' `cached`, so that nobody ever writes to it.
    blocks: Vec<Block>,
    /// The blocks' numbers, in the form that a step wants.
    table: Vec<u32>,
}

impl Sequence {
    /// An empty sequence.
    pub fn new() -> Sequence {
        Sequence::default()
    }

    /// All its tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How many of its tokens have been computed.
    pub fn cached(&self) -> usize {
        self.cached
    }

    /// The tokens that are still to be computed.
    pub fn pending(&self) -> &[u32] {
        &self.tokens[self.cached..]
    }

    /// Appends tokens, to be computed by a later step.
    pub fn push(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }

    /// Keeps the first `length` tokens; a longer `length` changes nothing.
    pub fn truncate(&mut self, length: usize) {
        self.tokens.truncate(length);
        self.forget(length);
    }

    /// Makes `tokens` the whole text, keeps what is cached of the common beginning, and returns how many tokens
    /// need no computing. The last token is always left pending, since its logits are what a caller wants next.
    pub fn replace(&mut self, tokens: &[u32]) -> usize {
        let common = self.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        self.forget(common.min(tokens.len().saturating_sub(1)));
        self.tokens.clear();
        self.tokens.extend_from_slice(tokens);
        self.cached
    }

    /// Another sequence with the same tokens, which shares the whole blocks that are cached. What lies in the last,
    /// unfinished block is computed again: to the same bits, so only its time is lost.
    pub fn fork(&self) -> Sequence {
        let whole = self.cached / BLOCK;
        Sequence {
            tokens: self.tokens.clone(),
            cached: whole * BLOCK,
            blocks: self.blocks[..whole].to_vec(),
            table: self.table[..whole].to_vec(),
        }
    }

    /// Lets go of everything that the cache holds and keeps the text, to be computed again.
    pub(crate) fn release(&mut self) {
        self.forget(0);
    }

    /// Takes a block that holds the next [`BLOCK`] positions of its text, computed for another sequence. What it holds
    /// so far must be whole blocks, and the text longer than with this one.
    pub(crate) fn adopt(&mut self, block: Block) {
        debug_assert!(self.cached == self.blocks.len() * BLOCK && self.pending().len() > BLOCK);
        self.table.push(block.id());
        self.blocks.push(block);
        self.cached += BLOCK;
    }

    /// Replaces block `index`, which is computed, by another that holds the same.
    pub(crate) fn share(&mut self, index: usize, block: Block) {
        debug_assert!((index + 1) * BLOCK <= self.cached);
        self.table[index] = block.id();
        self.blocks[index] = block;
    }

    /// The block that holds the positions from `index · BLOCK`.
    pub(crate) fn block(&self, index: usize) -> Option<&Block> {
        self.blocks.get(index)
    }

    /// Lets go of what the cache holds from position `length` on.
    fn forget(&mut self, length: usize) {
        if length >= self.cached {
            return;
        }
        // A block kept in part will be written again, which a shared one must not be.
        let (whole, rest) = (length / BLOCK, length % BLOCK);
        let keep_part = rest > 0 && self.blocks.get(whole).is_some_and(|b| !b.is_shared());
        let keep = whole + usize::from(keep_part);
        self.cached = if keep_part { length } else { whole * BLOCK };
        self.blocks.truncate(keep);
        self.table.truncate(keep);
    }

    /// Blocks that it lacks to hold `positions` positions.
    pub(crate) fn lacks(&self, positions: usize) -> usize {
        positions.div_ceil(BLOCK).saturating_sub(self.blocks.len())
    }

    /// Takes the blocks that it lacks to hold `positions` positions.
    pub(crate) fn reserve(&mut self, positions: usize, pool: &BlockPool) -> Result<(), EngineError> {
        for _ in 0..self.lacks(positions) {
            let full = || EngineError::CacheFull { needed: self.lacks(positions), free: pool.free() };
            let block = pool.take().ok_or_else(full)?;
            self.table.push(block.id());
            self.blocks.push(block);
        }
        Ok(())
    }

    /// The blocks' numbers in the order of positions.
    pub(crate) fn table(&self) -> &[u32] {
        &self.table
    }

    /// Records that `tokens` more tokens were computed.
    pub(crate) fn computed(&mut self, tokens: usize) {
        self.cached += tokens;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cached(tokens: usize, pool: &BlockPool) -> Sequence {
        let mut s = Sequence::new();
        s.push(&(0..tokens as u32).collect::<Vec<_>>());
        s.reserve(tokens, pool).unwrap();
        s.computed(tokens);
        s
    }

    #[test]
    fn truncating_gives_back_the_blocks_behind() {
        let pool = BlockPool::new(4);
        let mut s = cached(3 * BLOCK, &pool);
        s.truncate(BLOCK + 5);
        assert_eq!((s.tokens().len(), s.cached(), pool.free()), (BLOCK + 5, BLOCK + 5, 2));
        s.truncate(BLOCK);
        assert_eq!((s.cached(), pool.free()), (BLOCK, 3));
        s.truncate(usize::MAX);
        assert_eq!(s.cached(), BLOCK);
        drop(s);
        assert_eq!(pool.free(), 4);
    }

    #[test]
    fn replacing_keeps_the_common_beginning_and_leaves_a_token_pending() {
        let pool = BlockPool::new(4);
        let mut s = cached(10, &pool);
        assert_eq!(s.replace(&[0, 1, 2, 9, 9]), 3);
        assert_eq!(s.pending(), [9, 9]);
        assert_eq!(s.replace(&[0, 1, 2]), 2, "logits of the last token need it computed");
        assert_eq!(s.replace(&[]), 0);
    }

    #[test]
    fn a_fork_shares_whole_blocks_and_no_shared_block_is_written() {
        let pool = BlockPool::new(4);
        let mut s = cached(2 * BLOCK + 3, &pool);
        let fork = s.fork();
        assert_eq!((fork.cached(), fork.tokens().len(), pool.free()), (2 * BLOCK, 2 * BLOCK + 3, 1));
        s.truncate(BLOCK + 1);
        assert_eq!(s.cached(), BLOCK, "the shared second block must be left alone");
        s.reserve(BLOCK + 1, &pool).unwrap();
        assert_ne!(s.table()[1], fork.table()[1]);
        assert_eq!(s.table()[0], fork.table()[0]);
    }

    #[test]
    fn an_exhausted_cache_is_an_error_and_not_a_panic() {
        let pool = BlockPool::new(1);
        let mut s = Sequence::new();
        let error = s.reserve(3 * BLOCK, &pool).unwrap_err();
        assert!(matches!(error, EngineError::CacheFull { needed: 2, free: 0 }), "{error}");
    }
}
