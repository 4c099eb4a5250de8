//! The prefix cache: whole blocks of keys and values that were computed before, found again by the text they stand for.
//!
//! A block is known by the block before it and its own tokens, so two texts share exactly the blocks in which they and
//! everything before them agree. Keys are the tokens themselves, not a digest of them: a collision would answer one
//! client from another's text. The least recently used blocks go first when the cache runs out, the deepest of a text
//! before those that they follow.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use autarky_graph::BLOCK;

use crate::blocks::{Block, BlockPool};
use crate::sequence::Sequence;

/// The number of a known block; 0 stands before the first.
type Id = u64;

/// Which known blocks a sequence begins with, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Chain(Vec<Id>);

/// How an entry ranks for eviction: the first goes first.
type Rank = (u64, Reverse<usize>, Id);

#[derive(Debug)]
struct Entry {
    id: Id,
    block: Block,
    /// When it was last used.
    stamp: u64,
    /// How many blocks stand before it.
    depth: usize,
}

/// The block before, and a block's own tokens.
type Key = (Id, [u32; BLOCK]);

/// Every known block.
#[derive(Debug, Default)]
pub(super) struct PrefixCache {
    entries: HashMap<Key, Entry>,
    keys: HashMap<Id, Key>,
    ranks: BTreeSet<Rank>,
    next: Id,
    clock: u64,
}

/// The tokens of block `index` of a text, when it has all of them.
fn block_tokens(tokens: &[u32], index: usize) -> Option<[u32; BLOCK]> {
    tokens.get(index * BLOCK..(index + 1) * BLOCK)?.try_into().ok()
}

impl PrefixCache {
    /// Blocks that it knows.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.len()
    }

    /// Blocks that only it keeps, and could give back.
    pub(super) fn idle(&self) -> usize {
        self.entries.values().filter(|e| !e.block.is_shared()).count()
    }

    /// Gives the sequence the known blocks that come next in its text, all but the one with its last token, whose
    /// logits are what the caller wants. Says how many tokens were gained.
    pub(super) fn extend(&mut self, sequence: &mut Sequence, chain: &mut Chain) -> usize {
        let before = sequence.cached();
        while chain.0.len() * BLOCK == sequence.cached() {
            let index = chain.0.len();
            if sequence.tokens().len() <= (index + 1) * BLOCK {
                break;
            }
            let Some(key) = self.key(sequence.tokens(), chain, index) else { break };
            let Some(entry) = self.entries.get(&key) else { break };
            sequence.adopt(entry.block.clone());
            chain.0.push(entry.id);
        }
        sequence.cached() - before
    }

    /// What the sequence computes next: equal for two sequences that would compute the same block.
    pub(super) fn upcoming(&self, sequence: &Sequence, chain: &Chain) -> Option<Key> {
        self.key(sequence.tokens(), chain, chain.0.len())
    }

    fn key(&self, tokens: &[u32], chain: &Chain, index: usize) -> Option<Key> {
        Some((chain.0.last().copied().unwrap_or(0), block_tokens(tokens, index)?))
    }

    /// Learns the whole blocks that the sequence has computed. A block that another sequence computed, too, is shared
    /// from then on: its bits are the same.
    pub(super) fn record(&mut self, sequence: &mut Sequence, chain: &mut Chain) {
        for index in chain.0.len()..sequence.cached() / BLOCK {
            let Some(key) = self.key(sequence.tokens(), chain, index) else { return };
            let id = match self.entries.get(&key) {
                Some(known) => {
                    sequence.share(index, known.block.clone());
                    known.id
                }
                None => {
                    let Some(block) = sequence.block(index) else { return };
                    self.next += 1;
                    let entry =
                        Entry { id: self.next, block: block.clone(), stamp: self.clock, depth: index };
                    self.ranks.insert((entry.stamp, Reverse(index), entry.id));
                    self.keys.insert(entry.id, key);
                    self.entries.insert(key, entry);
                    self.next
                }
            };
            chain.0.push(id);
        }
    }

    /// Marks the blocks of a chain as just used.
    pub(super) fn touch(&mut self, chain: &Chain) {
        self.clock += 1;
        for id in &chain.0 {
            let Some(entry) = self.keys.get(id).and_then(|key| self.entries.get_mut(key)) else { continue };
            self.ranks.remove(&(entry.stamp, Reverse(entry.depth), entry.id));
            entry.stamp = self.clock;
            self.ranks.insert((entry.stamp, Reverse(entry.depth), entry.id));
        }
    }

    /// Gives back blocks until `pool` has `wanted` free ones or there are none left to give.
    pub(super) fn evict(&mut self, wanted: usize, pool: &BlockPool) {
        let mut lacking = wanted.saturating_sub(pool.free());
        if lacking == 0 {
            return;
        }
        let mut gone = Vec::new();
        for rank in &self.ranks {
            let Some(key) = self.keys.get(&rank.2) else { continue };
            if self.entries.get(key).is_some_and(|e| !e.block.is_shared()) {
                gone.push((*rank, *key));
                lacking -= 1;
                if lacking == 0 {
                    break;
                }
            }
        }
        for (rank, key) in gone {
            self.ranks.remove(&rank);
            self.keys.remove(&rank.2);
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn computed(tokens: &[u32], pool: &BlockPool, cache: &mut PrefixCache) -> (Sequence, Chain, usize) {
        let (mut s, mut chain) = (Sequence::new(), Chain::default());
        s.push(tokens);
        let gained = cache.extend(&mut s, &mut chain);
        s.reserve(tokens.len(), pool).unwrap();
        s.computed(tokens.len() - s.cached());
        cache.record(&mut s, &mut chain);
        (s, chain, gained)
    }

    fn text(blocks: usize, last: u32) -> Vec<u32> {
        (0..(blocks * BLOCK) as u32).chain([last]).collect()
    }

    #[test]
    fn a_text_begins_with_what_was_computed_of_it_before() {
        let pool = BlockPool::new(16);
        let mut cache = PrefixCache::default();
        let (a, chain, gained) = computed(&text(3, 7), &pool, &mut cache);
        assert_eq!((gained, cache.len(), pool.free()), (0, 3, 12));
        let (b, _, gained) = computed(&text(3, 9), &pool, &mut cache);
        assert_eq!((gained, pool.free()), (3 * BLOCK, 11), "only the last token is computed");
        let mut other = text(3, 9);
        other[BLOCK] += 1;
        assert_eq!(computed(&other, &pool, &mut cache).2, BLOCK, "the second block differs");
        let whole = &text(3, 9)[..3 * BLOCK];
        assert_eq!(computed(whole, &pool, &mut cache).2, 2 * BLOCK, "a token must be left to compute");
        drop((a, b));
        cache.touch(&chain);
        assert_eq!(computed(&text(3, 1), &pool, &mut cache).2, 3 * BLOCK, "it outlives its sequences");
    }

    #[test]
    fn what_was_computed_twice_is_held_once() {
        let pool = BlockPool::new(16);
        let mut cache = PrefixCache::default();
        let mut pair = [(); 2].map(|()| (Sequence::new(), Chain::default()));
        for (s, chain) in &mut pair {
            s.push(&text(2, 5));
            assert_eq!(cache.extend(s, chain), 0);
            s.reserve(2 * BLOCK + 1, &pool).unwrap();
            s.computed(2 * BLOCK + 1);
        }
        assert_eq!(pool.free(), 10);
        pair.iter_mut().for_each(|(s, chain)| cache.record(s, chain));
        assert_eq!(pool.free(), 12);
        assert_eq!(pair[0].0.table()[..2], pair[1].0.table()[..2]);
    }

    #[test]
    fn the_least_recently_used_go_first_and_those_in_use_never() {
        let pool = BlockPool::new(6);
        let mut cache = PrefixCache::default();
        let (old, old_chain, _) = computed(&text(2, 0)[..2 * BLOCK], &pool, &mut cache);
        let mut other = text(2, 0);
        other[0] += 1;
        let (new, new_chain, _) = computed(&other[..2 * BLOCK], &pool, &mut cache);
        assert_eq!((pool.free(), cache.idle()), (2, 0));
        cache.evict(6, &pool);
        assert_eq!((pool.free(), cache.len()), (2, 4), "all are in use");
        drop(old);
        cache.touch(&old_chain);
        drop(new);
        cache.touch(&new_chain);
        cache.evict(3, &pool);
        assert_eq!((pool.free(), cache.len()), (3, 3));
        let (mut s, mut chain) = (Sequence::new(), Chain::default());
        s.push(&text(2, 0));
        assert_eq!(cache.extend(&mut s, &mut chain), BLOCK, "the deepest block of the older text went");
        drop(s);
        cache.evict(6, &pool);
        assert_eq!((pool.free(), cache.len()), (6, 0));
    }
}
