//! What a step's symbols are bound to: tables that are allocated once and filled anew for every step.

use autarky_graph::{BLOCK, Limits, Step};

/// Where a token of the step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) position: usize,
}

/// Tokens of one sequence that follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) sequence: usize,
    /// The first token's row in the step.
    pub(super) row: usize,
    /// The first token's position.
    pub(super) position: usize,
    pub(super) tokens: usize,
}

/// The tables.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) tokens: usize,
    pub(super) outputs: usize,
    /// One a token.
    pub(super) places: Vec<Place>,
    /// The step's tokens, block by block of the cache.
    pub(super) writes: Vec<Stretch>,
    /// For every tiling the most tokens of a tile, and the tiles.
    pub(super) tiles: Vec<(usize, Vec<Stretch>)>,
    /// One past the last position of the longest sequence.
    pub(super) end: usize,
}

fn room<T>(n: usize) -> Option<Vec<T>> {
    let mut v = Vec::new();
    v.try_reserve_exact(n).ok()?;
    Some(v)
}

impl Bound {
    /// Tables for steps within the limits; `None` when there is no memory for them.
    pub(super) fn new(limits: &Limits, tilings: Vec<usize>) -> Option<Bound> {
        // Every stretch has a token at least.
        let n = limits.tokens;
        let tiles = tilings.into_iter().map(|t| Some((t, room(n)?))).collect::<Option<_>>()?;
        Some(Bound { tokens: 0, outputs: 0, places: room(n)?, writes: room(n)?, tiles, end: 0 })
    }

    /// Fills the tables for a step that was checked against the limits.
    pub(super) fn bind(&mut self, step: &Step<'_>) {
        self.outputs = step.outputs.len();
        self.places.clear();
        self.writes.clear();
        self.tiles.iter_mut().for_each(|(_, tiles)| tiles.clear());
        self.end = 0;
        let mut row = 0;
        for (sequence, s) in step.sequences.iter().enumerate() {
            let end = s.position + s.tokens;
            self.places.extend((s.position..end).map(|position| Place { position }));
            let stretch = |position: usize, tokens: usize| Stretch {
                sequence,
                row: row + position - s.position,
                position,
                tokens,
            };
            let mut position = s.position;
            while position < end {
                let next = end.min((position / BLOCK + 1) * BLOCK);
                self.writes.push(stretch(position, next - position));
                position = next;
            }
            for (most, tiles) in &mut self.tiles {
                let starts = (s.position..end).step_by(*most);
                tiles.extend(starts.map(|p| stretch(p, (*most).min(end - p))));
            }
            self.end = self.end.max(end);
            row += s.tokens;
        }
        self.tokens = row;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use autarky_graph::{CacheDType, SequenceStep};

    #[test]
    fn stretches_cover_every_token_once() {
        let limits = Limits { tokens: 200, sequences: 4, outputs: 4, blocks: 99, cache: CacheDType::F32 };
        let mut bound = Bound::new(&limits, vec![1, 8]).unwrap();
        let blocks: Vec<u32> = (0..9).collect();
        let sequence = |position, tokens| SequenceStep { position, tokens, blocks: &blocks };
        let sequences = [sequence(5, 1), sequence(30, 70), sequence(0, 32)];
        let step = Step { tokens: &[], sequences: &sequences, outputs: &[2], inputs: &[], weights: &[] };
        bound.bind(&step);
        assert_eq!((bound.tokens, bound.outputs, bound.end), (103, 1, 100));
        let covered = |stretches: &[Stretch]| {
            let mut rows = Vec::new();
            for s in stretches {
                for t in 0..s.tokens {
                    assert_eq!(bound.places[s.row + t].position, s.position + t);
                    rows.push(s.row + t);
                }
            }
            assert_eq!(rows, (0..103).collect::<Vec<_>>());
        };
        covered(&bound.writes);
        bound.tiles.iter().for_each(|(_, tiles)| covered(tiles));
        assert!(bound.writes.iter().all(|s| s.position / BLOCK == (s.position + s.tokens - 1) / BLOCK));
    }
}
