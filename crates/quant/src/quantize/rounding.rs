//! Types whose scale follows from the largest number of the block: each code is then a rounding.
//!
//! The arithmetic, order included, is that of `gguf.quants`, which is that of ggml's reference quantizers.

use super::{extreme, peak, to_f16};
use crate::Codes;
use crate::codes::{E2M1_LEVELS, e8m0_half};

/// `1 / d`, or 0 for a block whose scale is 0 or so small that its inverse overflows (f16 rounds it to 0 anyway).
fn inverse(d: f32) -> f32 {
    let inverse = 1.0 / d;
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// The number of the largest magnitude becomes the lowest level, `-zero`, exactly.
fn centered(values: &[f32; 32], out: &mut Codes, zero: u8) {
    let zero = f32::from(zero);
    let d = peak(values).1 / -zero;
    let inverse = inverse(d);
    let top = 2.0 * zero - 1.0;
    for (code, value) in out.codes.iter_mut().zip(values) {
        *code = (value * inverse + (zero + 0.5)).min(top) as u8;
    }
    out.d = to_f16(d);
    out.dmin = 0.0;
}

/// The smallest number becomes code 0, the largest the highest code.
fn ranged(values: &[f32; 32], out: &mut Codes, top: u8) {
    let top = f32::from(top);
    let max = extreme(values, f32::NEG_INFINITY, |max, value| if value > max { value } else { max });
    let min = extreme(values, f32::INFINITY, |min, value| if value < min { value } else { min });
    let d = (max - min) / top;
    let inverse = inverse(d);
    for (code, value) in out.codes.iter_mut().zip(values) {
        *code = ((value - min) * inverse + 0.5).min(top) as u8;
    }
    out.d = to_f16(d);
    out.dmin = -to_f16(min);
}

pub(super) fn q4_0(values: &[f32; 32], out: &mut Codes) {
    centered(values, out, 8);
}

pub(super) fn q4_1(values: &[f32; 32], out: &mut Codes) {
    ranged(values, out, 15);
}

pub(super) fn q5_0(values: &[f32; 32], out: &mut Codes) {
    centered(values, out, 16);
}

pub(super) fn q5_1(values: &[f32; 32], out: &mut Codes) {
    ranged(values, out, 31);
}

/// Symmetric: the largest magnitude becomes ±127; halves round away from 0.
pub(super) fn q8_0(values: &[f32; 32], out: &mut Codes) {
    let d = peak(values).1.abs() / 127.0;
    let inverse = inverse(d);
    for (code, value) in out.codes.iter_mut().zip(values) {
        let scaled = value * inverse;
        let whole = scaled as i32;
        *code = (whole + (2.0 * (scaled - whole as f32)) as i32) as u8;
    }
    out.d = to_f16(d);
    out.dmin = 0.0;
}

/// The shared exponent is that of the largest magnitude less 2, the exponent of E2M1's largest number (OCP
/// Microscaling Formats 1.0, 6.3); each code is the nearest level, the lower code of equals.
pub(super) fn mxfp4(values: &[f32; 32], out: &mut Codes) {
    let exponent = peak(values).1.abs().to_bits() >> 23;
    let e = exponent.saturating_sub(2) as u8;
    out.d = e8m0_half(e);
    out.dmin = 0.0;
    let levels = E2M1_LEVELS.map(|level| out.d * f32::from(level));
    for (code, value) in out.codes.iter_mut().zip(values) {
        let mut best = (0, f32::INFINITY);
        for (candidate, level) in (0u8..).zip(levels) {
            let error = (level - value).abs();
            if error < best.1 {
                best = (candidate, error);
            }
        }
        *code = best.0;
    }
}
