//! Which rank has which part of the weights, laid end to end, and what goes between the ranks for that.
//!
//! Parts are made of the pieces that norms are summed by, so that the sums of a rank are those that one process finds. Sums
//! go by recursive halving, copies by recursive doubling (Thakur, Rabenseifner and Gropp 2005, "Optimization of Collective
//! Communication Operations in MPICH"): neighbours first, so that the order of additions is that of the tree over shards. A
//! rank sends what it does not keep, and later what it has to those that lack it: over all ranks exactly the least that is
//! possible, 2 (N - 1) times the numbers.

use std::ops::Range;

use super::{Group, RanksError, Trade};
use crate::parallel::{PIECE, squares};

/// The part of a rank, and how it comes to it.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    rank: usize,
    /// The first number of every weight, and the end.
    weights: Vec<usize>,
    /// The same of every piece.
    pieces: Vec<usize>,
    /// The first piece of every block, and the end: a block is one rank's.
    blocks: Vec<usize>,
}

/// A rank's exchange with another one, in which both have the same blocks: which it keeps, and which the other one does.
struct Turn {
    peer: usize,
    keep: Range<usize>,
    give: Range<usize>,
}

impl Share {
    /// The part of a rank among `size`, of weights of these sizes, each with whether it must not be cut: optimizers that change
    /// whole matrices have them on one rank.
    pub(crate) fn new(sizes: impl IntoIterator<Item = (usize, bool)>, rank: usize, size: usize) -> Share {
        let (mut weights, mut pieces, mut cuts) = (vec![0], vec![0], vec![0]);
        let mut end = 0;
        for (size, whole) in sizes {
            for start in (0..size).step_by(PIECE) {
                pieces.push(end + (start + PIECE).min(size));
                if !whole || start + PIECE >= size {
                    cuts.push(pieces.len() - 1);
                }
            }
            end += size;
            weights.push(end);
        }
        // Each block ends at the cut that is nearest to its even share.
        let nearest = |goal: usize| {
            let after = cuts.partition_point(|&cut| pieces[cut] < goal);
            match after > 0 && goal - pieces[cuts[after - 1]] <= pieces[cuts[after]] - goal {
                true => cuts[after - 1],
                false => cuts[after],
            }
        };
        let blocks = (0..=size).map(|i| nearest((end as u128 * i as u128 / size as u128) as usize)).collect();
        Share { rank, weights, pieces, blocks }
    }

    fn ranks(&self) -> usize {
        self.blocks.len() - 1
    }

    fn turns(&self) -> Vec<Turn> {
        let (mut has, mut bit, mut turns) = (0..self.ranks(), 1, Vec::new());
        while bit < self.ranks() {
            let middle = has.start.midpoint(has.end);
            let (lower, upper) = (has.start..middle, middle..has.end);
            let (keep, give) = if self.rank & bit == 0 { (lower, upper) } else { (upper, lower) };
            has = keep.clone();
            turns.push(Turn { peer: self.rank ^ bit, keep, give });
            bit *= 2;
        }
        turns
    }

    /// The block that a rank keeps in the end.
    fn block_of(&self, rank: usize) -> usize {
        let bits = self.ranks().ilog2();
        if bits == 0 { 0 } else { rank.reverse_bits() >> (usize::BITS - bits) }
    }

    /// The numbers of some blocks.
    fn numbers(&self, blocks: &Range<usize>) -> Range<usize> {
        self.pieces[self.blocks[blocks.start]]..self.pieces[self.blocks[blocks.end]]
    }

    fn numbers_of(&self, rank: usize) -> Range<usize> {
        let block = self.block_of(rank);
        self.numbers(&(block..block + 1))
    }

    /// The parts of weights that a rank has, in their order: which weight, and which of its numbers.
    fn parts_of(&self, rank: usize) -> Vec<(usize, Range<usize>)> {
        within(&self.weights, self.numbers_of(rank)).collect()
    }

    /// The parts of weights whose optimizer's state this rank keeps.
    pub(crate) fn parts(&self) -> Vec<(usize, Range<usize>)> {
        self.parts_of(self.rank)
    }

    /// The sum of all ranks' numbers, as far as this rank keeps them. `own` is all numbers, in one or several slices.
    pub(crate) fn sum(&self, group: &Group<'_>, own: &[&[f32]]) -> Result<Vec<f32>, RanksError> {
        let mut turns = self.turns().into_iter();
        let starts: Vec<usize> = ends(own.iter().map(|x| x.len()));
        let Some(first) = turns.next() else { return Ok(own.concat()) };
        let (keep, give) = (self.numbers(&first.keep), self.numbers(&first.give));
        let mut sum = Vec::with_capacity(keep.len());
        copy(own, &starts, keep.clone(), &mut sum);
        let (lengths, at) = ((give.len(), keep.len()), give.start);
        group.trade(first.peer, lengths, &mut Add { own, starts: &starts, at, sum: &mut sum })?;
        let mut has = keep;
        for turn in turns {
            let (keep, give) = (self.numbers(&turn.keep), self.numbers(&turn.give));
            let lower = keep.start.max(give.start) - has.start;
            let (low, high) = sum.split_at_mut(lower);
            let (kept, given) = if turn.keep.start < turn.give.start { (low, high) } else { (high, low) };
            let own: &[&[f32]] = &[given];
            let mut add = Add { own, starts: &[0, given.len()], at: 0, sum: kept };
            group.trade(turn.peer, (give.len(), keep.len()), &mut add)?;
            sum.drain(..keep.start - has.start);
            sum.truncate(keep.len());
            has = keep;
        }
        Ok(sum)
    }

    /// Σ x² of all ranks' parts, in the order in which one process adds.
    pub(crate) fn sum_of_squares(&self, group: &Group<'_>, own: &[f32]) -> Result<f64, RanksError> {
        let mut sums = vec![0.0; self.pieces.len() - 1];
        let block = self.block_of(self.rank);
        let start = self.numbers_of(self.rank).start;
        let first = self.blocks[block];
        let pieces = self.pieces[first..=self.blocks[block + 1]].windows(2);
        let numbers = pieces.map(|ends| &own[ends[0] - start..ends[1] - start]);
        squares(numbers.zip(&mut sums[first..]).collect());
        for turn in self.turns().iter().rev() {
            let pieces = |blocks: &Range<usize>| self.blocks[blocks.start]..self.blocks[blocks.end];
            let bytes: Vec<u8> = sums[pieces(&turn.keep)].iter().flat_map(|x| x.to_le_bytes()).collect();
            let mut back = vec![0; 8 * pieces(&turn.give).len()];
            group.exchange(turn.peer, &bytes, &mut back)?;
            for (sum, bytes) in sums[pieces(&turn.give)].iter_mut().zip(back.chunks_exact(8)) {
                *sum = bytes.try_into().map(f64::from_le_bytes).unwrap_or_default();
            }
        }
        Ok(sums.iter().sum())
    }

    /// Gives all ranks the parts of the weights that the others have.
    pub(crate) fn spread(&self, group: &Group<'_>, weights: &mut [&mut [f32]]) -> Result<(), RanksError> {
        for turn in self.turns().iter().rev() {
            let (keep, give) = (self.numbers(&turn.keep), self.numbers(&turn.give));
            let lengths = (keep.len(), give.len());
            let mut put = Put { starts: &self.weights, weights, from: keep.start, to: give.start };
            group.trade(turn.peer, lengths, &mut put)?;
        }
        Ok(())
    }

    /// Brings what belongs to weight `weight` to rank 0: each rank has its part of it, and rank 0 gets all.
    pub(crate) fn collect(
        &self,
        group: &Group<'_>,
        weight: usize,
        own: &[f32],
    ) -> Result<Option<Vec<f32>>, RanksError> {
        let of = |rank: usize| self.parts_of(rank).into_iter().find(|(w, _)| *w == weight).map(|(_, r)| r);
        if self.rank != 0 {
            let mut send = Add { own: &[own], starts: &[0, own.len()], at: 0, sum: &mut [] };
            group.trade(0, (own.len(), 0), &mut send)?;
            return Ok(None);
        }
        let mut all = vec![0.0; self.weights[weight + 1] - self.weights[weight]];
        for rank in 0..self.ranks() {
            let Some(range) = of(rank) else { continue };
            if rank == 0 {
                all[range].copy_from_slice(own);
            } else {
                let part = &mut all[range];
                let (length, mut to) = (part.len(), [part]);
                let starts = [0, length];
                let mut put = Put { starts: &starts, weights: &mut to, from: 0, to: 0 };
                group.trade(rank, (0, length), &mut put)?;
            }
        }
        Ok(Some(all))
    }
}

/// Where each of some lengths begins when they are laid end to end, and the end.
fn ends(lengths: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut ends = vec![0];
    for length in lengths {
        ends.push(ends[ends.len() - 1] + length);
    }
    ends
}

/// The parts of slices that begin at `starts` in which these numbers are: which slice, and which of its numbers.
fn within(starts: &[usize], numbers: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
    let first = starts.partition_point(|&s| s <= numbers.start).saturating_sub(1);
    let slices = starts.windows(2).enumerate().skip(first);
    slices.take_while(move |(_, ends)| ends[0] < numbers.end).filter_map(move |(i, ends)| {
        let range = numbers.start.max(ends[0])..numbers.end.min(ends[1]);
        (!range.is_empty()).then(|| (i, range.start - ends[0]..range.end - ends[0]))
    })
}

fn copy(slices: &[&[f32]], starts: &[usize], numbers: Range<usize>, to: &mut Vec<f32>) {
    within(starts, numbers).for_each(|(i, range)| to.extend_from_slice(&slices[i][range]));
}

/// Gives numbers of slices, and adds what comes.
struct Add<'a> {
    own: &'a [&'a [f32]],
    starts: &'a [usize],
    /// The first that is given.
    at: usize,
    sum: &'a mut [f32],
}

impl Trade for Add<'_> {
    fn give(&self, places: Range<usize>, to: &mut Vec<f32>) {
        copy(self.own, self.starts, self.at + places.start..self.at + places.end, to);
    }

    fn take(&mut self, place: usize, numbers: &[f32]) {
        // Additions of two numbers may change places: both ranks get the same bits.
        self.sum.iter_mut().skip(place).zip(numbers).for_each(|(sum, x)| *sum += x);
    }
}

/// Gives numbers of weights, and puts what comes in their place.
struct Put<'a, 'b> {
    starts: &'a [usize],
    weights: &'a mut [&'b mut [f32]],
    from: usize,
    to: usize,
}

impl Trade for Put<'_, '_> {
    fn give(&self, places: Range<usize>, to: &mut Vec<f32>) {
        for (i, range) in within(self.starts, self.from + places.start..self.from + places.end) {
            to.extend_from_slice(&self.weights[i][range]);
        }
    }

    fn take(&mut self, place: usize, mut numbers: &[f32]) {
        let start = self.to + place;
        for (i, range) in within(self.starts, start..start + numbers.len()) {
            let (here, later) = numbers.split_at(range.len());
            self.weights[i][range].copy_from_slice(here);
            numbers = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use autarky_graph::conformance::Rng;
    use proptest::prelude::*;

    use super::*;
    use crate::parallel::sum_of_squares;
    use crate::ranks::threads::Threads;

    /// What every rank finds, in the order of the ranks, and the bytes that all sent.
    fn on_ranks<T: Send>(size: usize, find: impl Fn(&Group<'_>) -> T + Sync) -> (Vec<T>, u64) {
        thread::scope(|scope| {
            let find = &find;
            let run = |ranks: Threads| {
                scope.spawn(move || {
                    let group = Group::new(&ranks);
                    (find(&group), group.sent())
                })
            };
            let running: Vec<_> = Threads::new(size).into_iter().map(run).collect();
            let found: Vec<_> = running.into_iter().map(|r| r.join().unwrap()).collect();
            let sent = found.iter().map(|(_, sent)| sent).sum();
            (found.into_iter().map(|(found, _)| found).collect(), sent)
        })
    }

    fn bits(numbers: &[f32]) -> Vec<u32> {
        numbers.iter().map(|x| x.to_bits()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn parts_are_added_in_one_tree_and_come_back_whole(
            sizes in prop::collection::vec(prop_oneof![1usize..50, PIECE - 3..4 * PIECE], 1..7),
            whole in prop::collection::vec(prop::bool::ANY, 1..4),
            seed: u64,
        ) {
            let all: usize = sizes.iter().sum();
            let gradients: Vec<Vec<f32>> =
                (0..8).map(|i| { let mut rng = Rng::new(seed ^ i); (0..all).map(|_| rng.uniform() - 0.5).collect() }).collect();
            for size in [1usize, 2, 4, 8] {
                let mut level: Vec<Vec<f32>> = gradients[..size].to_vec();
                while level.len() > 1 {
                    level = level.chunks(2).map(|p| p[0].iter().zip(&p[1]).map(|(a, b)| a + b).collect()).collect();
                }
                let ends = ends(sizes.iter().copied());
                let slices: Vec<&[f32]> = ends.windows(2).map(|e| &level[0][e[0]..e[1]]).collect();
                let squares = sum_of_squares(slices.iter().copied());
                let (found, sent) = on_ranks(size, |group| {
                    let share = Share::new(sizes.iter().copied().zip(whole.iter().copied().cycle()), group.rank(), size);
                    let own: Vec<&[f32]> = ends.windows(2).map(|e| &gradients[group.rank()][e[0]..e[1]]).collect();
                    let sum = share.sum(group, &own).unwrap();
                    let before = group.sent();
                    let found = share.sum_of_squares(group, &sum).unwrap();
                    let squares_sent = group.sent() - before;
                    // The part goes into weights of zeros, and these to all.
                    let mut weights: Vec<Vec<f32>> = sizes.iter().map(|&n| vec![0.0; n]).collect();
                    let mut rest = &sum[..];
                    for (weight, range) in share.parts() {
                        assert!(!whole[weight % whole.len()] || range == (0..sizes[weight]), "it is cut");
                        let part;
                        (part, rest) = rest.split_at(range.len());
                        weights[weight][range].copy_from_slice(part);
                    }
                    assert!(rest.is_empty());
                    let mut own: Vec<&mut [f32]> = weights.iter_mut().map(|w| &mut w[..]).collect();
                    share.spread(group, &mut own).unwrap();
                    (found, weights.concat(), squares_sent)
                });
                let squares_sent: u64 = found.iter().map(|f| f.2).sum();
                for (norm, weights, _) in &found {
                    prop_assert_eq!(norm.to_bits(), squares.to_bits());
                    prop_assert!(bits(weights) == bits(&level[0]), "{} ranks", size);
                }
                // The least that is possible, to the byte.
                prop_assert_eq!(sent - squares_sent, 2 * (size as u64 - 1) * 4 * all as u64);
                let (collected, _) = on_ranks(size, |group| {
                    let share = Share::new(sizes.iter().copied().zip(whole.iter().copied().cycle()), group.rank(), size);
                    let mut parts = share.parts().into_iter().peekable();
                    let of = |i: usize| {
                        let range = parts.next_if(|(w, _)| *w == i).map_or(0..0, |(_, range)| range);
                        share.collect(group, i, &level[0][ends[i] + range.start..ends[i] + range.end]).unwrap()
                    };
                    (0..sizes.len()).map(of).collect::<Vec<_>>()
                });
                let numbers: Vec<f32> = collected[0].iter().flatten().flatten().copied().collect();
                prop_assert!(bits(&numbers) == bits(&level[0]));
                prop_assert!(collected[1..].iter().flatten().all(Option::is_none));
            }
        }
    }

    #[test]
    fn parts_are_about_even() {
        let sizes = [10 * PIECE, 3, 7 * PIECE + 5, 15 * PIECE];
        let all: usize = sizes.iter().sum();
        for size in [2, 4, 8] {
            for rank in 0..size {
                let numbers = Share::new(sizes.map(|n| (n, false)), rank, size).numbers_of(rank).len();
                assert!(numbers.abs_diff(all / size) <= PIECE, "{numbers} of {all} on rank {rank} of {size}");
            }
        }
    }
}
