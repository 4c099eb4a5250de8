//! Work on many numbers, shared among threads.

use std::sync::{Mutex, PoisonError};
use std::thread;

/// Numbers that a thread takes at a time: results do not depend on how many threads there are.
pub(crate) const PIECE: usize = 1 << 16;

/// Calls `f` with every piece, from as many threads as the machine has processors.
pub(crate) fn for_each<T: Send>(pieces: Vec<T>, f: impl Fn(T) + Sync) {
    let threads = thread::available_parallelism().map_or(1, |n| n.get()).min(pieces.len());
    let pieces = Mutex::new(pieces.into_iter());
    let work = || {
        let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
        while let Some(piece) = next() {
            f(piece);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
}

/// Σ x² over slices, each piece's sum by itself and these in their order.
pub(crate) fn sum_of_squares<'a>(all: impl IntoIterator<Item = &'a [f32]>) -> f64 {
    let pieces: Vec<&[f32]> = all.into_iter().flat_map(|x| x.chunks(PIECE)).collect();
    let mut sums = vec![0.0; pieces.len()];
    squares(pieces.into_iter().zip(&mut sums).collect());
    sums.iter().sum()
}

/// Σ x² of each of some pieces, to the place beside it.
pub(crate) fn squares(pieces: Vec<(&[f32], &mut f64)>) {
    for_each(pieces, |(piece, sum)| {
        // Several sums side by side, so that additions need not wait for each other.
        let mut lanes = [0.0f64; 8];
        for x in piece.chunks(lanes.len()) {
            lanes.iter_mut().zip(x).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
        }
        *sum = lanes.iter().sum();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_of_all_numbers() {
        let x: Vec<f32> = (0..3 * PIECE + 5).map(|i| (i % 7) as f32).collect();
        let expected: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        assert_eq!(sum_of_squares([&x[..10], &x[10..]]), expected);
        assert_eq!(sum_of_squares([]), 0.0);
    }
}
