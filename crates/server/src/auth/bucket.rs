//! A token bucket: it fills at a steady rate up to a minute's worth, and what is taken from it has to be there.
//!
//! Counted in whole numbers, so that no rounding lets more through than the limit: one unit is what a limit of one a
//! minute adds in a millisecond.

use crate::store::UnixTime;

use super::error::Rate;

/// Units of one token or request.
const UNITS: i128 = 60_000;

/// The level of one bucket. In any stretch of `t` minutes it gives at most `limit · (1 + t)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// Below zero when answers took more than was foreseen.
    level: i128,
    filled: UnixTime,
    limit: u64,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(limit: u64, now: UnixTime) -> Bucket {
        Bucket { level: i128::from(limit) * UNITS, filled: now, limit }
    }

    fn capacity(&self) -> i128 {
        i128::from(self.limit) * UNITS
    }

    /// Fills it for the time since the last call. A clock that was set back fills nothing.
    pub(super) fn fill(&mut self, now: UnixTime) {
        let passed = i128::from(now.millis().saturating_sub(self.filled.millis()));
        self.level = (self.level + passed * i128::from(self.limit)).min(self.capacity());
        self.filled = now;
    }

    /// Milliseconds until `count` are there; 0 when they are.
    pub(super) fn wait(&self, count: u64) -> u64 {
        let missing = i128::from(count) * UNITS - self.level;
        let limit = i128::from(self.limit.max(1));
        u64::try_from((missing + limit - 1).div_euclid(limit).max(0)).unwrap_or(u64::MAX)
    }

    /// Takes `count`, whether they are there or not.
    pub(super) fn take(&mut self, count: u64) {
        self.level -= i128::from(count) * UNITS;
    }

    /// Gives back what was taken and not used.
    pub(super) fn give(&mut self, count: u64) {
        self.level = (self.level + i128::from(count) * UNITS).min(self.capacity());
    }

    /// What clients are told.
    pub(super) fn rate(&self) -> Rate {
        let remaining = u64::try_from((self.level / UNITS).max(0)).unwrap_or(u64::MAX);
        Rate { limit: self.limit, remaining, reset: self.wait(self.limit) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_stretch_of_time_gives_more_than_the_limit_and_a_wait_is_exact(
            limit in 1_u64..5000,
            asks in prop::collection::vec((0_u64..20_000, 1_u64..200), 1..100),
        ) {
            let mut now = UnixTime::from_seconds(1_700_000_000);
            let mut bucket = Bucket::new(limit, now);
            let mut given: Vec<(u64, u64)> = Vec::new();
            for (pause, count) in asks {
                now = now.after(pause);
                bucket.fill(now);
                let count = count.min(limit);
                let wait = bucket.wait(count);
                if wait > 0 {
                    let mut sooner = bucket;
                    sooner.fill(now.after(wait - 1));
                    prop_assert!(sooner.wait(count) > 0, "{wait} ms is too long");
                    now = now.after(wait);
                    bucket.fill(now);
                    prop_assert_eq!(bucket.wait(count), 0);
                }
                bucket.take(count);
                given.push((now.millis(), count));
            }
            for (first, (start, _)) in given.iter().enumerate() {
                let mut sum = 0;
                for (at, count) in &given[first..] {
                    sum += count;
                    prop_assert!(sum * 60_000 <= limit * (60_000 + at - start));
                }
            }
        }
    }

    #[test]
    fn a_clock_that_is_set_back_fills_nothing_and_blocks_nothing() {
        let noon = UnixTime::from_seconds(1_700_000_000);
        let mut bucket = Bucket::new(60, noon);
        bucket.take(60);
        let before = noon.before(3_600_000);
        bucket.fill(before);
        assert_eq!(bucket.wait(1), 1000);
        bucket.fill(before.after(1000));
        assert_eq!(bucket.wait(1), 0);
    }

    #[test]
    fn what_is_given_back_overflows_at_the_limit() {
        let now = UnixTime::default();
        let mut bucket = Bucket::new(10, now);
        bucket.give(1000);
        assert_eq!(bucket.rate(), Rate { limit: 10, remaining: 10, reset: 0 });
        bucket.take(25);
        assert_eq!(bucket.rate(), Rate { limit: 10, remaining: 0, reset: 150_000 });
    }

    #[test]
    fn the_largest_numbers_overflow_nowhere() {
        let mut bucket = Bucket::new(u64::MAX, UnixTime::default());
        bucket.take(u64::MAX);
        bucket.fill(UnixTime::from_millis(u64::MAX));
        assert_eq!(bucket.wait(u64::MAX), 0);
    }
}
