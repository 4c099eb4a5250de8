//! Merging neighbours, best pair first: the loop that rank-based BPE and SentencePiece's BPE share.
//!
//! Short pieces (words) scan an array; long ones use a heap over a linked list, so that a hostile word of a
//! million letters costs O(n log n). Both take the best priority first and the leftmost among equals.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The id of a symbol that is no token (yet).
pub(crate) const NO_TOKEN: u32 = u32::MAX;

/// A run of bytes of the piece, and its token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Symbol {
    /// Where it begins in the piece, in bytes.
    pub(crate) start: u32,
    /// Where it ends.
    pub(crate) end: u32,
    /// Its token, or [`NO_TOKEN`].
    pub(crate) id: u32,
}

/// What two neighbours would become.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    /// Smaller merges first.
    pub(crate) priority: u32,
    /// The merged token.
    pub(crate) id: u32,
}

/// Says which neighbours merge.
pub(crate) trait Pairing {
    /// The merge of `left` and `right`, neighbours in `piece`, if there is one.
    fn pair(&self, piece: &[u8], left: Symbol, right: Symbol) -> Option<Candidate>;
}

/// Pieces of up to this many symbols scan; the scan is quadratic but has no heap to feed.
const SCAN_LIMIT: usize = 32;

/// The memory of a merge, kept from piece to piece.
#[derive(Default)]
pub(crate) struct Merger {
    /// The symbols: the caller fills them in, [`Merger::run`] leaves the merged ones.
    pub(crate) symbols: Vec<Symbol>,
    candidates: Vec<Option<Candidate>>,
    links: Vec<Link>,
    heap: BinaryHeap<Reverse<Entry>>,
}

/// A symbol's neighbours in the linked list; `END` is none.
#[derive(Clone, Copy)]
struct Link {
    previous: u32,
    next: u32,
    alive: bool,
}

const END: u32 = u32::MAX;

/// A candidate in the heap: ordered by priority, then place.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    priority: u32,
    left: u32,
    right: u32,
    // The bytes that the pair spanned when it was found; another span now means that the entry is stale.
    end: u32,
    id: u32,
}

impl Merger {
    /// Merges `self.symbols`, which lie one after another in `piece`, until no pair merges.
    pub(crate) fn run(&mut self, piece: &[u8], pairing: &impl Pairing) {
        if self.symbols.len() <= SCAN_LIMIT {
            self.run_scan(piece, pairing);
        } else {
            self.run_heap(piece, pairing);
        }
    }

    fn run_scan(&mut self, piece: &[u8], pairing: &impl Pairing) {
        let symbols = &mut self.symbols;
        let candidates = &mut self.candidates;
        candidates.clear();
        candidates.extend(symbols.windows(2).map(|pair| match pair {
            [left, right] => pairing.pair(piece, *left, *right),
            _ => None,
        }));
        loop {
            let mut best: Option<(usize, Candidate)> = None;
            for (place, candidate) in candidates.iter().enumerate() {
                if let Some(candidate) = candidate
                    && best.is_none_or(|(_, best)| candidate.priority < best.priority)
                {
                    best = Some((place, *candidate));
                }
            }
            let Some((place, candidate)) = best else { break };
            let right = symbols.remove(place + 1);
            let Some(left) = symbols.get_mut(place) else { break };
            left.end = right.end;
            left.id = candidate.id;
            let merged = *left;
            // Pair `place` was the merged one; the pair after it, if any, takes its place in the list.
            candidates.remove(place);
            if let (Some(slot), Some(next)) = (candidates.get_mut(place), symbols.get(place + 1)) {
                *slot = pairing.pair(piece, merged, *next);
            }
            if let Some(before) = place.checked_sub(1)
                && let (Some(slot), Some(previous)) = (candidates.get_mut(before), symbols.get(before))
            {
                *slot = pairing.pair(piece, *previous, merged);
            }
        }
    }

    fn run_heap(&mut self, piece: &[u8], pairing: &impl Pairing) {
        let count = self.symbols.len() as u32;
        self.links.clear();
        self.links.extend((0..count).map(|place| Link {
            previous: place.checked_sub(1).unwrap_or(END),
            next: if place + 1 < count { place + 1 } else { END },
            alive: true,
        }));
        self.heap.clear();
        for left in 1..count {
            self.offer(piece, pairing, left - 1, left);
        }
        while let Some(Reverse(entry)) = self.heap.pop() {
            let (left_place, right_place) = (entry.left as usize, entry.right as usize);
            let (Some(left_link), Some(right_link)) =
                (self.links.get(left_place).copied(), self.links.get(right_place).copied())
            else {
                continue;
            };
            let Some(right) = self.symbols.get(right_place).copied() else { continue };
            let fresh = left_link.alive
                && right_link.alive
                && left_link.next == entry.right
                && right.end == entry.end;
            if !fresh {
                continue;
            }
            let Some(left) = self.symbols.get_mut(left_place) else { continue };
            left.end = right.end;
            left.id = entry.id;
            if let Some(link) = self.links.get_mut(right_place) {
                link.alive = false;
            }
            if let Some(link) = self.links.get_mut(left_place) {
                link.next = right_link.next;
            }
            if let Some(link) = self.links.get_mut(right_link.next as usize) {
                link.previous = entry.left;
            }
            if left_link.previous != END {
                self.offer(piece, pairing, left_link.previous, entry.left);
            }
            if right_link.next != END {
                self.offer(piece, pairing, entry.left, right_link.next);
            }
        }
        let mut links = self.links.iter();
        self.symbols.retain(|_| links.next().is_some_and(|link| link.alive));
    }

    /// Puts the merge of two neighbours into the heap, if there is one.
    fn offer(&mut self, piece: &[u8], pairing: &impl Pairing, left: u32, right: u32) {
        let (Some(&a), Some(&b)) = (self.symbols.get(left as usize), self.symbols.get(right as usize)) else {
            return;
        };
        if let Some(candidate) = pairing.pair(piece, a, b) {
            self.heap.push(Reverse(Entry {
                priority: candidate.priority,
                left,
                right,
                end: b.end,
                id: candidate.id,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Merges by pairs of ids.
    struct Table(HashMap<(u32, u32), Candidate>);

    impl Pairing for Table {
        fn pair(&self, _piece: &[u8], left: Symbol, right: Symbol) -> Option<Candidate> {
            self.0.get(&(left.id, right.id)).copied()
        }
    }

    /// The definition: of all pairs the best one, the leftmost among equals, again and again.
    fn by_definition(table: &Table, mut ids: Vec<u32>) -> Vec<u32> {
        loop {
            let pairs = ids.windows(2).enumerate().filter_map(|(place, pair)| {
                table.0.get(&(pair[0], pair[1])).map(|candidate| (candidate.priority, place, candidate.id))
            });
            let Some((_, place, id)) = pairs.min() else { return ids };
            ids.splice(place..place + 2, [id]);
        }
    }

    proptest! {
        /// Both ways of merging follow the definition, whatever merges stand in the list, sensible or not.
        #[test]
        fn scan_and_heap_follow_the_definition(
            letters in prop::collection::vec(0..4_u32, 0..80),
            merges in prop::collection::vec((0..12_u32, 0..12_u32, 0..12_u32, 0..6_u32), 0..40),
        ) {
            let table = Table(merges.into_iter().map(|(a, b, id, priority)| ((a, b), Candidate { priority, id })).collect());
            let symbols: Vec<Symbol> =
                letters.iter().zip(0..).map(|(&id, start)| Symbol { start, end: start + 1, id }).collect();
            let expected = by_definition(&table, letters);
            let piece = vec![0; symbols.len()];
            for run in [Merger::run_scan, Merger::run_heap] {
                let mut merger = Merger { symbols: symbols.clone(), ..Merger::default() };
                run(&mut merger, &piece, &table);
                let ids: Vec<u32> = merger.symbols.iter().map(|symbol| symbol.id).collect();
                prop_assert_eq!(&ids, &expected);
                let ends = merger.symbols.iter().map(|symbol| symbol.end);
                let starts = merger.symbols.iter().map(|symbol| symbol.start).skip(1).chain([piece.len() as u32]);
                prop_assert!(piece.is_empty() || ends.eq(starts), "the symbols cover the piece");
            }
        }
    }
}
