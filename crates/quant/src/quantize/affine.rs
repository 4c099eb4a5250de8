//! Blocks with scales and minima: Q2_K, Q4_K, Q5_K.
//!
//! The search is that of [`symmetric`](mod@super::symmetric) in two dimensions: for fixed codes the best scale and minimum
//! of a group are a linear least-squares fit, and so are those of the block for fixed codes and integers.

use super::levels::{Magnitude, clamp, inverse, magnitude, round, sums};
use super::symmetric::{ROUNDS, block_scale};
use super::{extreme, to_f16};
use crate::Codes;

/// `x ≈ scale · code − min`, of a group or, with integers in the place of the codes' unit, of a block.
#[derive(Clone, Copy, Default, PartialEq)]
struct Range {
    scale: f32,
    min: f32,
}

/// The code in `0..=TOP` nearest to `x`, as a float.
#[inline(always)]
fn nearest<const TOP: i32>(x: f32, inverse: f32, min: f32) -> f32 {
    round(clamp((x + min) * inverse, 0.0, TOP as f32))
}

/// What a fit needs to know of the codes `q`: `[Σ q, Σ q², Σ x·q]`.
#[inline(always)]
fn moments<const TOP: i32>(values: &[f32], inverse: f32, min: f32) -> [f32; 3] {
    sums(values, |x| {
        let q = nearest::<TOP>(x, inverse, min);
        [q, q * q, x * q]
    })
}

/// Squared error with the nearest codes in this range.
#[inline(always)]
fn range_error<const TOP: i32>(values: &[f32], range: Range) -> f32 {
    let inverse = inverse(range.scale);
    let [error] = sums(values, |x| {
        let error = x - (range.scale * nearest::<TOP>(x, inverse, range.min) - range.min);
        [error * error]
    });
    error
}

/// The positive scale and non-negative minimum with the smallest squared error among many.
///
/// Tried are ranges that put the numbers from a little within to a little beyond the codes, the lowest number on or
/// below code 0, each then fitted to its codes.
fn fit_range<const TOP: i32>(values: &[f32]) -> Range {
    let count = values.len() as f32;
    let low = extreme(values, 0.0, |low, x| if x < low { x } else { low });
    let high = extreme(values, f32::NEG_INFINITY, |high, x| if x > high { x } else { high });
    if inverse(high - low) == 0.0 {
        return Range { scale: 0.0, min: -low };
    }
    let [sum] = sums(values, |x| [x]);
    let mut best = (Range { scale: (high - low) / TOP as f32, min: -low }, f32::NEG_INFINITY);
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
        // The residual of a least-squares fit is orthogonal to it, so this is what it takes off the squared error.
        let gain = fit.scale * products - fit.min * sum;
        if fit.scale > 0.0 && gain > best.1 {
            best = (fit, gain);
        }
        best.0
    };
    let mut range = Range::default();
    for step in -5..=5 {
        let inverse = (TOP as f32 + 0.2 * step as f32) / (high - low);
        for below in [0.0, 0.3] {
            range = consider(inverse, -low - below / inverse);
        }
    }
    for _ in 0..2 {
        range = consider(inverse(range.scale), range.min);
    }
    range
}

/// The block's scale and min as `Σ (x − scale·u − min·v)²` over the block has it, with `u = s·q` and `v = −m`.
#[derive(Default)]
struct Normal {
    uu: f32,
    uv: f32,
    vv: f32,
    xu: f32,
    xv: f32,
}

impl Normal {
    /// Adds a group with the integers `s` and `m`.
    fn add<const TOP: i32>(&mut self, group: &[f32], block: Range, s: f32, m: f32) {
        let [codes, squares, products] = moments::<TOP>(group, inverse(block.scale * s), block.min * m);
        let [sum] = sums(group, |x| [x]);
        self.uu += s * s * squares;
        self.uv -= s * m * codes;
        self.vv += m * m * group.len() as f32;
        self.xu += s * products;
        self.xv -= m * sum;
    }

    /// The minimum, in f16; what is not determined, or would not be a positive f16, stays as in `block`.
    fn solve(&self, block: Range) -> Range {
        let determinant = self.uu * self.vv - self.uv * self.uv;
        let (scale, min) = if determinant > 0.0 {
            (
                (self.xu * self.vv - self.uv * self.xv) / determinant,
                (self.uu * self.xv - self.uv * self.xu) / determinant,
            )
        } else {
            (self.xu / self.uu, block.min)
        };
        let keep = |new: f32, old: f32| {
            let new = to_f16(new);
            if new > 0.0 && new.is_finite() { new } else { old }
        };
        Range { scale: keep(scale, block.scale), min: keep(min, block.min) }
    }
}

/// A block of numbers with codes in `0..=TOP`, and for every `GROUP` of them a scale and a min in `0..=LIMIT`.
pub(super) fn affine<const GROUP: usize, const TOP: i32, const LIMIT: i32>(
    values: &[f32; 256],
    out: &mut Codes,
) {
    *out = Codes::default();
    match magnitude(values) {
        Magnitude::Negligible => return,
        Magnitude::Hopeless => {
            out.d = f32::INFINITY;
            return;
        }
        Magnitude::Ordinary => (),
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
    if !(block.scale.is_finite() && block.min.is_finite()) {
        (out.d, out.dmin) = (block.scale, block.min);
        return;
    }
    let mut least = f32::INFINITY;
    for _ in 0..ROUNDS {
        let mut scales = [0i8; 16];
        let mut mins = [0u8; 16];
        let mut total = 0.0;
        let mut normal = Normal::default();
        for (((group, fitted), scale), min) in groups.iter().zip(fitted).zip(&mut scales).zip(&mut mins) {
            let (s, m, error) = best_integers::<TOP>(group, fitted, block, limit);
            (*scale, *min) = (s as i8, m as u8);
            total += error;
            normal.add::<TOP>(group, block, s, m);
        }
        if total < least {
            least = total;
            (out.d, out.dmin) = (block.scale, block.min);
            (out.scales, out.mins) = (scales, mins);
        }
        let refitted = normal.solve(block);
        if refitted == block {
            break;
        }
        block = refitted;
    }
    let codes = out.codes.as_chunks_mut::<GROUP>().0;
    for (((group, codes), scale), min) in groups.iter().zip(codes).zip(out.scales).zip(out.mins) {
        let inverse = inverse(out.d * f32::from(scale));
        let min = out.dmin * f32::from(min);
        for (code, value) in codes.iter_mut().zip(group) {
            *code = nearest::<TOP>(*value, inverse, min) as u8;
        }
    }
}

/// The integer scale and min next to the fitted ones with the smallest squared error, and that error.
fn best_integers<const TOP: i32>(group: &[f32], fitted: Range, block: Range, limit: f32) -> (f32, f32, f32) {
    let around = |fitted: f32, unit: f32| {
        let middle = round(clamp(fitted * inverse(unit), 0.0, limit));
        [middle, middle - 1.0, middle + 1.0]
    };
    let mut best = (0.0, 0.0, f32::INFINITY);
    for s in around(fitted.scale, block.scale) {
        for m in around(fitted.min, block.min) {
            if s < 0.0 || s > limit || m < 0.0 || m > limit {
                continue;
            }
            let error = range_error::<TOP>(group, Range { scale: block.scale * s, min: block.min * m });
            if error < best.2 {
                best = (s, m, error);
            }
        }
    }
    best
}
