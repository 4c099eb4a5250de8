//! Blocks without a minimum whose scales take a search: Q3_K, Q6_K, IQ4_NL, IQ4_XS.
//!
//! For fixed codes the best scale is a least-squares fit, and for a fixed scale the best codes are the nearest
//! levels; the two together have many local optima. So [`fit_scale`] starts from many scales for every group, and
//! [`symmetric`] then chooses the block's scale, tries the integers around each group's scale with the codes that they
//! really give, refits the block's scale to that, and keeps the block with the smallest squared error.

use super::levels::{Levels, Magnitude, clamp, inverse, magnitude, round, sums};
use super::{peak, to_f16};
use crate::Codes;

/// Rounds of choosing integers and refitting the block's scale to them; a third gains less than 0.1 %.
pub(super) const ROUNDS: usize = 2;

/// With the codes that `inverse` gives: `[Σ x·level, Σ level²]`. Their quotient is the best scale of those codes, and
/// `(Σ x·level)² / Σ level²` is what that scale takes off the squared error.
#[inline(always)]
fn projection<L: Levels>(values: &[f32], inverse: f32) -> [f32; 2] {
    sums(values, |x| {
        let level = L::nearest(x * inverse);
        [x * level, level * level]
    })
}

/// Squared error with the nearest codes at this scale.
#[inline(always)]
fn scale_error<L: Levels>(values: &[f32], scale: f32) -> f32 {
    let inverse = inverse(scale);
    let [error] = sums(values, |x| {
        let error = x - scale * L::nearest(x * inverse);
        [error * error]
    });
    error
}

/// The scale, of either sign, with the smallest squared error among many.
///
/// Tried are scales that put the largest magnitude at, somewhat within, and somewhat beyond either end of the levels
/// (beyond: it is clipped, and the others get finer steps), each then fitted to its codes.
fn fit_scale<L: Levels>(values: &[f32]) -> f32 {
    let (_, peak) = peak(values);
    let mut best = (0.0, 0.0);
    let mut consider = |inverse: f32| {
        let [product, square] = projection::<L>(values, inverse);
        if product * product > best.1 * square {
            best = (product / square, product * product / square);
        }
        best.0
    };
    let mut scale = 0.0;
    for end in [L::LOW, L::HIGH] {
        for percent in (75..=125).step_by(5) {
            scale = consider(end * percent as f32 * 0.01 * inverse(peak));
        }
    }
    for _ in 0..2 {
        scale = consider(inverse(scale));
    }
    scale
}

/// The f16 scale of a block from which integers in `low..=high` reproduce the groups' fitted scales best; infinite
/// when f16 cannot hold it, 0 when all fitted scales are 0.
///
/// `weights` says what a squared deviation of each group's scale costs.
pub(super) fn block_scale(fitted: &[f32], weights: &[f32], low: f32, high: f32) -> f32 {
    const SMALLEST_F16: f32 = 1.0 / 16_777_216.0;
    let (_, peak) = peak(fitted);
    if peak == 0.0 {
        return 0.0;
    }
    let mut best = (f32::INFINITY, f32::INFINITY);
    for end in [low, high] {
        for step in 0..(end.abs() as i32 / 3).min(16) {
            let d = to_f16(peak / (end - end.signum() * step as f32));
            let d = if d == 0.0 { SMALLEST_F16.copysign(d) } else { d };
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

fn write_codes<L: Levels>(values: &[f32], scale: f32, codes: &mut [u8]) {
    let inverse = inverse(scale);
    for (code, value) in codes.iter_mut().zip(values) {
        *code = L::code(L::nearest(value * inverse));
    }
}

/// Whether a search is needed. If not, what is to be written is set.
fn ordinary<L: Levels>(values: &[f32], out: &mut Codes) -> bool {
    *out = Codes::default();
    out.codes = [L::code(L::nearest(0.0)); 256];
    match magnitude(values) {
        Magnitude::Ordinary => true,
        Magnitude::Negligible => false,
        Magnitude::Hopeless => {
            out.d = f32::INFINITY;
            false
        }
    }
}

/// A block with one f16 scale.
pub(super) fn one_scale<L: Levels>(values: &[f32; 32], out: &mut Codes) {
    if !ordinary::<L>(values, out) {
        return;
    }
    out.d = to_f16(fit_scale::<L>(values));
    write_codes::<L>(values, out.d, &mut out.codes);
}

/// A block with an f16 scale and an integer scale in `-LIMIT..LIMIT` for every `GROUP` numbers.
pub(super) fn symmetric<const GROUP: usize, const LIMIT: i32, L: Levels>(
    values: &[f32; 256],
    out: &mut Codes,
) {
    if !ordinary::<L>(values, out) {
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
    if !d.is_finite() {
        out.d = d;
        return;
    }
    let mut least = f32::INFINITY;
    for _ in 0..ROUNDS {
        let mut scales = [0i8; 16];
        let (mut total, mut product, mut square) = (0.0, 0.0, 0.0);
        for ((group, fitted), scale) in groups.iter().zip(fitted).zip(&mut scales) {
            let middle = round(clamp(fitted * inverse(d), low, high));
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
            (out.d, out.scales) = (d, scales);
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
