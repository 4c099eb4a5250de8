//! Types whose scales take a search: the K types and the IQ4 types.
//!
//! For fixed codes the best scale (and minimum) is a least-squares fit, and for a fixed scale the best codes are the
//! nearest levels. Neither is convex in both, so [`fit_scale`] and [`fit_range`] start from many scales for every
//! group, and the block-level functions then choose the block's scale, try the integer scales around the rounded
//! ones with the codes that they would really get, refit the block's scale to all of that, and keep what has the
//! smallest squared error.

use super::{peak, to_f16};
use crate::Codes;
use crate::codes::IQ4_LEVELS;

/// Below this all sums of squares of a block's numbers would lose precision, and every scale rounds to 0 in f16.
const NEGLIGIBLE: f32 = 1e-12;
/// Beyond this no type's f16 scale could reach.
const HOPELESS: f32 = 1e12;
/// Smallest positive f16.
const SMALLEST_F16: f32 = 1.0 / 16_777_216.0;
/// Independent partial sums, so that the compiler may keep them in vector lanes.
const LANES: usize = 8;

/// The integer levels of a type, in the order of their codes.
pub(super) trait Levels {
    /// Lowest level.
    const LOW: f32;
    /// Highest level.
    const HIGH: f32;
    const WITHIN: i32 = -5;
    const BEYOND: i32 = 9;
    const STEP: f32 = 0.05;
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
pub(super) struct Iq4Levels;

/// Code of the level nearest to `(i - 256) / 2`: every midpoint of two levels is a multiple of one half, so that
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

impl Levels for Iq4Levels {
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

/// To the nearest integer for magnitudes below 2^22: there a float of 1.5 · 2^23 has no room for a fraction.
#[inline(always)]
fn round(value: f32) -> f32 {
    const NO_FRACTION: f32 = 12_582_912.0;
    (value + NO_FRACTION) - NO_FRACTION
}

#[inline(always)]
fn clamp(value: f32, low: f32, high: f32) -> f32 {
    let value = if value > low { value } else { low };
    if value < high { value } else { high }
}

/// `1 / scale`, or 0 where no scale is.
#[inline(always)]
fn inverse(scale: f32) -> f32 {
    if scale.abs() > 1e-30 { 1.0 / scale } else { 0.0 }
}

/// Sums `terms(x)` over all values, lane by lane.
#[inline(always)]
fn sums<const TERMS: usize>(values: &[f32], terms: impl Fn(f32) -> [f32; TERMS]) -> [f32; TERMS] {
    let mut lanes = [[0f32; LANES]; TERMS];
    for values in values.as_chunks::<LANES>().0 {
        let mut new = [[0f32; LANES]; TERMS];
        for (lane, value) in values.iter().enumerate() {
            for (new, term) in new.iter_mut().zip(terms(*value)) {
                new[lane] = term;
            }
        }
        for (sum, new) in lanes.iter_mut().zip(&new) {
            for (sum, new) in sum.iter_mut().zip(new) {
                *sum += new;
            }
        }
    }
    lanes.map(|lanes| lanes.iter().sum())
}

/// With the codes that `inverse` gives: `[Σ x·level, Σ level²]`. Their quotient is the best scale of those codes, and
/// `(Σ x·level)² / Σ level²` is what that scale takes off the squared error.
#[inline(always)]
fn projection<L: Levels>(values: &[f32], inverse: f32) -> [f32; 2] {
    sums(values, |x| {
        let level = L::nearest(x * inverse);
        [x * level, level * level]
    })
}

/// Squared error with nearest codes at this scale.
#[inline(always)]
fn scale_error<L: Levels>(values: &[f32], scale: f32) -> f32 {
    let inverse = inverse(scale);
    let [error] = sums(values, |x| {
        let error = x - scale * L::nearest(x * inverse);
        [error * error]
    });
    error
}

/// The scale with the smallest squared error among many.
///
/// Tried are scales that put the largest magnitude at, somewhat within, and beyond either end of the levels (beyond:
/// it is clipped and the others get finer steps), each then fitted to its codes.
fn fit_scale<L: Levels>(values: &[f32]) -> f32 {
    let (_, peak) = peak(values);
    if peak.abs() < NEGLIGIBLE {
        return 0.0;
    }
    let mut best = (0.0, 0.0);
    let mut consider = |inverse: f32| {
        let [product, square] = projection::<L>(values, inverse);
        if square > 0.0 && product * product > best.1 * square {
            best = (product / square, product * product / square);
        }
        best.0
    };
    let mut scale = 0.0;
    for end in [L::LOW, L::HIGH] {
        for step in L::WITHIN..=L::BEYOND {
            scale = consider(end * (1.0 + L::STEP * step as f32) / peak);
        }
    }
    for _ in 0..2 {
        scale = consider(inverse(scale));
    }
    scale
}

/// The f16 scale of a block from which the integers `low..=high` reproduce the groups' fitted scales best.
///
/// `weights` says what a squared deviation of each group's scale costs.
fn block_scale(fitted: &[f32], weights: &[f32], low: f32, high: f32) -> f32 {
    let (_, peak) = peak(fitted);
    let mut best = (0.0, f32::INFINITY);
    for end in [low, high] {
        for step in 0..(end.abs() as i32 / 3).min(16) {
            let d = to_f16(peak / (end - end.signum() * step as f32));
            let d = if d == 0.0 { SMALLEST_F16 } else { d };
            let inverse = 1.0 / d;
            let cost = fitted.iter().zip(weights).map(|(scale, weight)| {
                let off = scale - d * round(clamp(scale * inverse, low, high));
                off * off * weight
            });
            let cost: f32 = cost.sum();
            if cost < best.1 {
                best = (d, cost);
            }
        }
    }
    best.0
}

/// Writes the block whose numbers are all 0.
fn zeros<L: Levels>(out: &mut Codes) {
    *out = Codes::default();
    out.codes = [L::code(L::nearest(0.0)); 256];
}

/// Whether no search is needed; what is to be written then is set.
fn trivial<L: Levels>(values: &[f32], out: &mut Codes) -> bool {
    let magnitude = peak(values).1.abs();
    zeros::<L>(out);
    if magnitude > HOPELESS {
        out.d = f32::INFINITY;
    }
    !(NEGLIGIBLE..=HOPELESS).contains(&magnitude)
}

fn write_codes<L: Levels>(values: &[f32], scale: f32, codes: &mut [u8]) {
    let inverse = inverse(scale);
    for (code, value) in codes.iter_mut().zip(values) {
        *code = L::code(L::nearest(value * inverse));
    }
}

/// A block with one f16 scale: IQ4_NL.
pub(super) fn one_scale<L: Levels>(values: &[f32; 32], out: &mut Codes) {
    if trivial::<L>(values, out) {
        return;
    }
    out.d = to_f16(fit_scale::<L>(values));
    write_codes::<L>(values, out.d, &mut out.codes);
}

/// A block with signed integer scales `-LIMIT..LIMIT` and no minimum: Q3_K, Q6_K, IQ4_XS.
pub(super) fn symmetric<const GROUP: usize, const LIMIT: i32, L: Levels>(
    values: &[f32; 256],
    out: &mut Codes,
) {
    if trivial::<L>(values, out) {
        return;
    }
    let groups = values.as_chunks::<GROUP>().0;
    let mut fitted = [0f32; 16];
    let mut weights = [0f32; 16];
    for ((fitted, weight), group) in fitted.iter_mut().zip(&mut weights).zip(groups) {
        *fitted = fit_scale::<L>(group);
        *weight = projection::<L>(group, inverse(*fitted))[1];
    }
    let (low, high) = (-LIMIT as f32, LIMIT as f32 - 1.0);
    let mut d = block_scale(&fitted, &weights, low, high);
    let mut least = f32::INFINITY;
    for _ in 0..ROUNDS {
        let mut scales = [0i8; 16];
        let (mut total, mut product, mut square) = (0.0, 0.0, 0.0);
        for ((group, fitted), scale) in groups.iter().zip(fitted).zip(&mut scales) {
            let middle = round(clamp(fitted / d, low, high));
            let mut best = (0.0, f32::INFINITY);
            for candidate in [middle, middle - 1.0, middle + 1.0] {
                let error = scale_error::<L>(group, d * candidate);
                if candidate >= low && candidate <= high && error < best.1 {
                    best = (candidate, error);
                }
            }
            *scale = best.0 as i8;
            total += best.1;
            let [group_product, group_square] = projection::<L>(group, inverse(d * best.0));
            product += group_product * best.0;
            square += group_square * best.0 * best.0;
        }
        if total < least {
            least = total;
            out.d = d;
            out.scales = scales;
        }
        let refitted = to_f16(product / square);
        if refitted == d || refitted == 0.0 || !refitted.is_finite() {
            break;
        }
        d = refitted;
    }
    let codes = out.codes.as_chunks_mut::<GROUP>().0;
    for ((group, codes), scale) in groups.iter().zip(codes).zip(out.scales) {
        write_codes::<L>(group, out.d * f32::from(scale), codes);
    }
}

/// Rounds of choosing integers and refitting the block's scales to them.
const ROUNDS: usize = 3;

/// `x ≈ scale · code − min` of one group.
#[derive(Clone, Copy, Default)]
struct Range {
    scale: f32,
    min: f32,
}

/// What a fit needs to know of a group's codes `q`: `[Σ q, Σ q², Σ x·q]`, with the codes 0..=TOP that `range` gives.
#[inline(always)]
fn moments<const TOP: i32>(values: &[f32], inverse: f32, min: f32) -> [f32; 3] {
    sums(values, |x| {
        let q = round(clamp((x + min) * inverse, 0.0, TOP as f32));
        [q, q * q, x * q]
    })
}

/// Squared error with nearest codes in this range.
#[inline(always)]
fn range_error<const TOP: i32>(values: &[f32], range: Range) -> f32 {
    let inverse = inverse(range.scale);
    let [error] = sums(values, |x| {
        let q = round(clamp((x + range.min) * inverse, 0.0, TOP as f32));
        let error = x - (range.scale * q - range.min);
        [error * error]
    });
    error
}

/// The scale and non-negative minimum with the smallest squared error among many.
fn fit_range<const TOP: i32>(values: &[f32]) -> Range {
    let top = TOP as f32;
    let count = values.len() as f32;
    let low = values.iter().copied().fold(0.0, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if high - low < NEGLIGIBLE {
        return Range { scale: 0.0, min: -low };
    }
    let [sum] = sums(values, |x| [x]);
    let mut best = (Range { scale: (high - low) / top, min: -low }, f32::NEG_INFINITY);
    let mut consider = |inverse: f32, min: f32| {
        let [codes, squares, products] = moments::<TOP>(values, inverse, min);
        let determinant = count * squares - codes * codes;
        let mut fit = Range::default();
        if determinant > 0.0 {
            fit.scale = (count * products - sum * codes) / determinant;
            fit.min = (fit.scale * codes - sum) / count;
        }
        if fit.min <= 0.0 && squares > 0.0 {
            fit = Range { scale: products / squares, min: 0.0 };
        }
        // What the fit takes off the squared error, as its residual is orthogonal to it.
        let gain = fit.scale * products - fit.min * sum;
        if fit.scale > 0.0 && gain > best.1 {
            best = (fit, gain);
        }
        best.0
    };
    let mut range = Range::default();
    for step in -4..=12 {
        let inverse = (top + STEP_RANGE * step as f32) / (high - low);
        for shift in SHIFTS {
            range = consider(inverse, -low - shift / inverse);
        }
    }
    for _ in 0..2 {
        range = consider(inverse(range.scale), range.min);
    }
    range
}

const STEP_RANGE: f32 = 0.1;
const SHIFTS: [f32; 1] = [0.0];

/// A block with integer scales and mins `0..=LIMIT`: Q2_K, Q4_K, Q5_K.
pub(super) fn affine<const GROUP: usize, const TOP: i32, const LIMIT: i32>(
    values: &[f32; 256],
    out: &mut Codes,
) {
    if trivial::<Uniform<0>>(values, out) {
        return;
    }
    let limit = LIMIT as f32;
    let groups = values.as_chunks::<GROUP>().0;
    let mut fitted = [Range::default(); 16];
    let mut weights = [0f32; 16];
    for ((fitted, weight), group) in fitted.iter_mut().zip(&mut weights).zip(groups) {
        *fitted = fit_range::<TOP>(group);
        *weight = moments::<TOP>(group, inverse(fitted.scale), fitted.min)[1];
    }
    let mut block = Range {
        scale: block_scale(&fitted.map(|range| range.scale), &weights, 0.0, limit),
        min: block_scale(&fitted.map(|range| range.min), &[1.0; 16], 0.0, limit),
    };
    let mut least = f32::INFINITY;
    for _ in 0..ROUNDS {
        let mut scales = [0i8; 16];
        let mut mins = [0u8; 16];
        let mut total = 0.0;
        // Normal equations of the block's scale and min: squares, and products with x.
        let (mut uu, mut uv, mut vv, mut xu, mut xv) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (((group, fitted), scale), min) in groups.iter().zip(fitted).zip(&mut scales).zip(&mut mins) {
            let middle_scale = round(clamp(fitted.scale / block.scale, 0.0, limit));
            let middle_min = round(clamp(fitted.min / block.min, 0.0, limit));
            let mut best = (0.0, 0.0, f32::INFINITY);
            for s in [middle_scale, middle_scale - 1.0, middle_scale + 1.0] {
                for m in [middle_min, middle_min - 1.0, middle_min + 1.0] {
                    if s < 0.0 || s > limit || m < 0.0 || m > limit {
                        continue;
                    }
                    let range = Range { scale: block.scale * s, min: block.min * m };
                    let error = range_error::<TOP>(group, range);
                    if error < best.2 {
                        best = (s, m, error);
                    }
                }
            }
            let (s, m, error) = best;
            *scale = s as i8;
            *min = m as u8;
            total += error;
            let [codes, squares, products] = moments::<TOP>(group, inverse(block.scale * s), block.min * m);
            let [sum] = sums(group, |x| [x]);
            uu += s * s * squares;
            uv += s * m * codes;
            vv += m * m * GROUP as f32;
            xu += s * products;
            xv += m * sum;
        }
        if total < least {
            least = total;
            (out.d, out.dmin) = (block.scale, block.min);
            (out.scales, out.mins) = (scales, mins);
        }
        let determinant = uu * vv - uv * uv;
        let refitted = if determinant > 0.0 {
            Range {
                scale: to_f16((xu * vv - uv * xv) / determinant),
                min: to_f16((uv * xu - uu * xv) / determinant),
            }
        } else {
            Range { scale: to_f16(xu / uu), min: block.min }
        };
        let usable = |value: f32| value > 0.0 && value.is_finite();
        if !usable(refitted.scale) || !usable(refitted.min) {
            break;
        }
        block = refitted;
    }
    let codes = out.codes.as_chunks_mut::<GROUP>().0;
    for (((group, codes), scale), min) in groups.iter().zip(codes).zip(out.scales).zip(out.mins) {
        let inverse = inverse(out.d * f32::from(scale));
        let min = out.dmin * f32::from(min);
        for (code, value) in codes.iter_mut().zip(group) {
            *code = round(clamp((value + min) * inverse, 0.0, TOP as f32)) as u8;
        }
    }
}
