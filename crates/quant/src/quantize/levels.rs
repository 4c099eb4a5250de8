//! The integer levels that a code can name, and sums over a group of numbers rounded to them.

use crate::codes::IQ4_LEVELS;

/// Below this magnitude every scale rounds to 0 in f16, and sums of squares would lose precision.
const NEGLIGIBLE: f32 = 1e-12;
/// Above this magnitude every scale overflows f16.
const HOPELESS: f32 = 1e12;
/// Independent partial sums, so that the compiler may keep them in vector lanes.
const LANES: usize = 8;

/// What can be said of a block before any search.
pub(super) enum Magnitude {
    /// All numbers become 0.
    Negligible,
    /// No f16 scale reaches the largest.
    Hopeless,
    /// A search is worth while.
    Ordinary,
}

/// Sorts a block by its largest magnitude.
pub(super) fn magnitude(values: &[f32]) -> Magnitude {
    match super::peak(values).1.abs() {
        peak if peak < NEGLIGIBLE => Magnitude::Negligible,
        peak if peak > HOPELESS => Magnitude::Hopeless,
        _ => Magnitude::Ordinary,
    }
}

/// The integer levels of a type, in the order of their codes.
pub(super) trait Levels {
    /// Lowest level.
    const LOW: f32;
    /// Highest level.
    const HIGH: f32;
    /// The level nearest to `value`.
    fn nearest(value: f32) -> f32;
    /// The code of a level that `nearest` gave.
    fn code(level: f32) -> u8;
}

/// The levels `-ZERO ..= ZERO - 1`.
pub(super) struct Uniform<const ZERO: i32>;

impl<const ZERO: i32> Levels for Uniform<ZERO> {
    const LOW: f32 = -ZERO as f32;
    const HIGH: f32 = ZERO as f32 - 1.0;

    #[inline(always)]
    fn nearest(value: f32) -> f32 {
        round(clamp(value, Self::LOW, Self::HIGH))
    }

    #[inline(always)]
    fn code(level: f32) -> u8 {
        (level - Self::LOW) as u8
    }
}

/// The levels of [`IQ4_LEVELS`].
pub(super) struct Iq4;

/// Code of the level nearest to `(i - 256) / 2`. Every midpoint of two levels is a multiple of one half, so that
/// halves are fine enough.
const IQ4_NEAREST: [u8; 512] = {
    let mut table = [0; 512];
    let mut i = 0;
    while i < 512 {
        let mut code = 0;
        while code < 15 && i as i32 - 256 >= IQ4_LEVELS[code] as i32 + IQ4_LEVELS[code + 1] as i32 {
            code += 1;
        }
        table[i] = code as u8;
        i += 1;
    }
    table
};

impl Levels for Iq4 {
    const LOW: f32 = IQ4_LEVELS[0] as f32;
    const HIGH: f32 = IQ4_LEVELS[15] as f32;

    #[inline(always)]
    fn nearest(value: f32) -> f32 {
        f32::from(IQ4_LEVELS[usize::from(Self::code(value)) & 15])
    }

    #[inline(always)]
    fn code(level: f32) -> u8 {
        let halves = 2.0 * clamp(level, Self::LOW, Self::HIGH) + 256.0;
        IQ4_NEAREST[halves as usize & 511]
    }
}

/// To the nearest integer, ties to even, for magnitudes below 2^22: a float of 1.5 · 2^23 has no room for a fraction.
#[inline(always)]
pub(super) fn round(value: f32) -> f32 {
    const NO_FRACTION: f32 = 12_582_912.0;
    (value + NO_FRACTION) - NO_FRACTION
}

/// `low` for NaN. Unlike `f32::clamp` it neither panics nor keeps NaN, and is two vector instructions.
#[inline(always)]
pub(super) fn clamp(value: f32, low: f32, high: f32) -> f32 {
    let value = if value > low { value } else { low };
    if value < high { value } else { high }
}

/// `1 / scale`, or 0 for a scale that is 0 or as good as.
#[inline(always)]
pub(super) fn inverse(scale: f32) -> f32 {
    if scale.abs() > 1e-30 { 1.0 / scale } else { 0.0 }
}

/// Sums each of `terms(x)` over `values`, whose length is a multiple of [`LANES`].
#[inline(always)]
pub(super) fn sums<const TERMS: usize>(values: &[f32], terms: impl Fn(f32) -> [f32; TERMS]) -> [f32; TERMS] {
    let mut sums = [[0f32; LANES]; TERMS];
    for values in values.as_chunks::<LANES>().0 {
        let mut new = [[0f32; LANES]; TERMS];
        for (lane, value) in values.iter().enumerate() {
            for (new, term) in new.iter_mut().zip(terms(*value)) {
                new[lane] = term;
            }
        }
        for (sums, new) in sums.iter_mut().zip(&new) {
            for (sum, new) in sums.iter_mut().zip(new) {
                *sum += new;
            }
        }
    }
    sums.map(|lanes| lanes.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wrong entry of the table would cost quality silently: compare it with a search of all levels.
    #[test]
    fn iq4_nearest_is_the_nearest() {
        for step in -1400..=1400 {
            let value = step as f32 * 0.1;
            let chosen = (Iq4::nearest(value) - value).abs();
            let best = IQ4_LEVELS.iter().map(|level| (f32::from(*level) - value).abs());
            assert!(chosen <= best.fold(f32::INFINITY, f32::min) + 1e-4, "{value}");
            assert_eq!(
                f32::from(IQ4_LEVELS[usize::from(Iq4::code(Iq4::nearest(value)))]),
                Iq4::nearest(value)
            );
        }
    }

    #[test]
    fn uniform_levels_clip_and_round() {
        assert_eq!(Uniform::<4>::nearest(9.0), 3.0);
        assert_eq!(Uniform::<4>::nearest(-9.0), -4.0);
        assert_eq!(Uniform::<4>::nearest(1.6), 2.0);
        assert_eq!(Uniform::<4>::code(-4.0), 0);
        assert_eq!(Uniform::<4>::code(3.0), 7);
    }
}
