//! Many decode steps at once.
//!
//! While nobody comes or goes, a replica's step time changes only because its sequences grow, and slowly. Steps are
//! therefore taken in stretches over which step time is a straight line through the first and the last step, checked
//! against the step in the middle.

use super::error::SimulateError;
use super::step::{Step, StepTime};

/// How far the time of a step in a stretch may be off, as a share of the stretch's middle step.
///
/// Holds for step times that are convex or concave in the cached tokens, as sums of the larger of two straight lines
/// are (rooflines): the gap to the chord is then at most twice that in the middle, which is held to half of this.
/// Nothing is off where step time is a straight line in the cached tokens.
pub const STRETCH_ERROR: f64 = 1e-3;

/// Steps whose times are a straight line: step k of `steps`, from 0, takes `first_s + k * slope_s`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stretch {
    pub(super) steps: u64,
    first_s: f64,
    slope_s: f64,
}

impl Stretch {
    /// One step.
    pub(super) fn one(seconds: f64) -> Stretch {
        Stretch { steps: 1, first_s: seconds, slope_s: 0.0 }
    }

    /// As many decode steps as a straight line holds for, at most `most`. `cached` says how many tokens are cached
    /// before step k, from 0.
    pub(super) fn decode<S: StepTime + ?Sized>(
        time: &S,
        decoding: u64,
        most: u64,
        cached: impl Fn(u64) -> u64,
    ) -> Result<Stretch, SimulateError> {
        let at = |k| Step { decoding, cached_tokens: cached(k), ..Step::default() }.seconds(time);
        let first_s = at(0)?;
        if most <= 1 {
            return Ok(Stretch::one(first_s));
        }
        let mut last = most - 1;
        let mut last_s = at(last)?;
        loop {
            let slope_s = (last_s - first_s) / last as f64;
            let middle = last / 2;
            if middle == 0 {
                return Ok(Stretch { steps: last + 1, first_s, slope_s });
            }
            let middle_s = at(middle)?;
            if (first_s + slope_s * middle as f64 - middle_s).abs() <= STRETCH_ERROR / 2.0 * middle_s {
                return Ok(Stretch { steps: last + 1, first_s, slope_s });
            }
            (last, last_s) = (middle, middle_s);
        }
    }

    /// Seconds of the first `steps` steps.
    fn seconds_of(&self, steps: u64) -> f64 {
        let steps = steps as f64;
        steps * self.first_s + self.slope_s * (steps * (steps - 1.0) / 2.0)
    }

    /// Seconds of all steps.
    pub(super) fn seconds(&self) -> f64 {
        self.seconds_of(self.steps)
    }

    /// Ends the stretch with the first step that ends `seconds` after its start or later; true if that shortens it.
    pub(super) fn cut(&mut self, seconds: f64) -> bool {
        let (mut low, mut high) = (1, self.steps);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.seconds_of(middle) >= seconds {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        let shorter = low < self.steps;
        self.steps = low.min(self.steps);
        shorter
    }
}

#[cfg(test)]
mod tests {
    use super::{STRETCH_ERROR, Stretch};

    #[test]
    fn a_stretch_of_a_roofline_is_within_its_error() {
        // Memory bound, then compute bound: the corner lies in the middle of what is asked for.
        let roofline =
            |_: u64, _: f64, _: u64, cached: u64| (0.01 + 1e-7 * cached as f64).max(2e-7 * cached as f64);
        let mut done = 0;
        while done < 20_000 {
            let cached = |k: u64| (done + k) * 10;
            let stretch = Stretch::decode(&roofline, 10, 20_000 - done, cached).unwrap();
            for steps in [1, stretch.steps / 3, stretch.steps] {
                let stepped: f64 = (0..steps).map(|k| roofline(0, 0.0, 10, cached(k))).sum();
                let middle = roofline(0, 0.0, 10, cached(stretch.steps / 2));
                let off = (stretch.seconds_of(steps) - stepped).abs();
                assert!(off <= steps as f64 * middle * (STRETCH_ERROR + 1e-12), "{off} s of {stepped}");
            }
            done += stretch.steps;
        }
    }

    #[test]
    fn a_cut_ends_with_the_step_that_is_under_way() {
        let stretch = Stretch { steps: 10, first_s: 1.0, slope_s: 0.0 };
        for (at, steps) in [(0.0, 1), (0.5, 1), (1.0, 1), (1.5, 2), (9.5, 10), (10.0, 10), (11.0, 10)] {
            let mut cut = stretch;
            assert_eq!(cut.cut(at), steps < 10, "at {at}");
            assert_eq!(cut.steps, steps, "at {at}");
        }
    }
}
