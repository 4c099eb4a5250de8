//! A small keyed hasher for the vocabulary's maps.
//!
//! Encoding is bound by look-ups of short keys, where the standard library's SipHash costs more than the
//! rest of the work. Keys come from files, so the hash must still be seeded: a fixed one could be flooded
//! with collisions by a hostile vocabulary.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// A hash map with [`Seeded`] hashing.
pub(crate) type FastMap<K, V> = HashMap<K, V, Seeded>;

/// Builds hashers that fold 8 bytes a step by a 64 × 64 → 128 bit multiplication, from a random seed.
#[derive(Clone)]
pub(crate) struct Seeded {
    seed: u64,
    factor: u64,
}

impl Default for Seeded {
    fn default() -> Self {
        let random = RandomState::new();
        Self { seed: random.hash_one(0_u64), factor: random.hash_one(1_u64) | 1 }
    }
}

impl BuildHasher for Seeded {
    type Hasher = Fold;

    fn build_hasher(&self) -> Fold {
        Fold { state: self.seed, factor: self.factor }
    }
}

/// The state of one hash.
pub(crate) struct Fold {
    state: u64,
    factor: u64,
}

impl Fold {
    #[inline]
    fn step(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(self.factor ^ 0x9e37_79b9_7f4a_7c15);
        self.state = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for Fold {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.step(u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
        }
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(chunks.remainder()) {
            *to = *from;
        }
        self.step(u64::from_le_bytes(last));
    }

    #[inline]
    fn write_u8(&mut self, value: u8) {
        self.step(u64::from(value));
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.step(value);
    }

    #[inline]
    fn write_usize(&mut self, value: usize) {
        self.step(value as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.state ^ (self.state >> 29)
    }
}
