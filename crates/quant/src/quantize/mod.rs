//! `f32` to blocks.
//!
//! The float types and Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and MXFP4 are rounded as the PyPI package `gguf` rounds them, byte
//! for byte ([`rounding`]). The types whose scales take a search (the K types, IQ4_NL and IQ4_XS) minimise the squared
//! error of the block ([`symmetric`](mod@symmetric), [`affine`](mod@affine)): every element counts the same, because without activations at hand the expected
//! error of a product is just that sum.

mod affine;
mod levels;
mod pack;
mod rounding;
mod symmetric;

use crate::{Codes, DType, QuantError};
use affine::affine;
use half::f16;
use half::slice::HalfFloatSliceExt;
use levels::{Iq4, Uniform};
use symmetric::{one_scale, symmetric};

/// Quantizes whole blocks.
///
/// `out` takes the bytes of `values.len()` elements in ggml's little-endian layout. Blocks are independent of each
/// other, so callers may split a tensor at any block boundary and quantize the parts on several threads.
///
/// # Errors
/// [`QuantError::PartialBlock`] and [`QuantError::Length`] when the lengths do not fit; [`QuantError::NotFinite`] at
/// the first NaN or infinity; [`QuantError::OutOfRange`] at a number that the type cannot hold, or whose block's scale
/// would overflow f16. After an error `out` may be partly written.
pub fn quantize(dtype: DType, values: &[f32], out: &mut [u8]) -> Result<(), QuantError> {
    let elements = values.len();
    let expected = dtype.bytes(elements).ok_or(QuantError::PartialBlock { dtype, elements })?;
    if out.len() != expected {
        return Err(QuantError::Length { dtype, elements, expected, found: out.len() });
    }
    if let Some((index, value)) = first_not_finite(values) {
        return Err(QuantError::NotFinite { dtype, index, value });
    }
    let done = match dtype {
        DType::F32 => {
            for (out, value) in out.as_chunks_mut::<4>().0.iter_mut().zip(values) {
                *out = value.to_le_bytes();
            }
            Ok(())
        }
        DType::F16 => f16_slice(values, out),
        DType::BF16 => bf16_slice(values, out),
        DType::Q4_0 => blocks(values, out, rounding::q4_0, pack::q4_0),
        DType::Q4_1 => blocks(values, out, rounding::q4_1, pack::q4_1),
        DType::Q5_0 => blocks(values, out, rounding::q5_0, pack::q5_0),
        DType::Q5_1 => blocks(values, out, rounding::q5_1, pack::q5_1),
        DType::Q8_0 => blocks(values, out, rounding::q8_0, pack::q8_0),
        DType::MXFP4 => blocks(values, out, rounding::mxfp4, pack::mxfp4),
        DType::Q2_K => blocks(values, out, affine::<16, 3, 15>, pack::q2_k),
        DType::Q4_K => blocks(values, out, affine::<32, 15, 63>, pack::q4_k),
        DType::Q5_K => blocks(values, out, affine::<32, 31, 63>, pack::q5_k),
        DType::Q3_K => blocks(values, out, symmetric::<16, 32, Uniform<4>>, pack::q3_k),
        DType::Q6_K => blocks(values, out, symmetric::<16, 128, Uniform<32>>, pack::q6_k),
        DType::IQ4_NL => blocks(values, out, one_scale::<Iq4>, pack::q4_0),
        DType::IQ4_XS => blocks(values, out, symmetric::<32, 32, Iq4>, pack::iq4_xs),
    };
    done.map_err(|TooLarge(index)| QuantError::OutOfRange {
        dtype,
        index,
        value: values.get(index).copied().unwrap_or(f32::NAN),
    })
}

/// Place of the element that the type cannot hold.
struct TooLarge(usize);

/// Fits each block of `LEN` values to codes and packs them in `BYTES` bytes.
fn blocks<const LEN: usize, const BYTES: usize>(
    values: &[f32],
    out: &mut [u8],
    fit: impl Fn(&[f32; LEN], &mut Codes),
    pack: impl Fn(&Codes, &mut [u8; BYTES]),
) -> Result<(), TooLarge> {
    let mut codes = Codes::default();
    let blocks = values.as_chunks::<LEN>().0.iter().zip(out.as_chunks_mut::<BYTES>().0);
    for (block, (values, out)) in blocks.enumerate() {
        fit(values, &mut codes);
        if !(codes.d.is_finite() && codes.dmin.is_finite()) {
            return Err(TooLarge(block * LEN + peak(values).0));
        }
        pack(&codes, out);
    }
    Ok(())
}

/// Place and value of the first element of the largest magnitude. `values` holds whole vectors of eight.
#[inline(always)]
fn peak(values: &[f32]) -> (usize, f32) {
    let magnitude = extreme(values, 0.0, |magnitude, value| {
        let value = value.abs();
        if value > magnitude { value } else { magnitude }
    });
    let first = values.iter().enumerate().find(|(_, value)| value.abs() == magnitude);
    first.map_or((0, 0.0), |(index, value)| (index, *value))
}

/// A fold whose `choose` may be applied in any order, as minimum and maximum may: in eight lanes, for the vector unit.
#[inline(always)]
fn extreme(values: &[f32], start: f32, choose: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; 8];
    for values in values.as_chunks::<8>().0 {
        for (lane, value) in lanes.iter_mut().zip(values) {
            *lane = choose(*lane, *value);
        }
    }
    lanes.into_iter().fold(start, choose)
}

/// Place and value of the first NaN or infinity.
fn first_not_finite(values: &[f32]) -> Option<(usize, f32)> {
    const RUN: usize = 256;
    for (run, values) in values.chunks(RUN).enumerate() {
        // Without a branch per element, which would keep the vector unit out.
        if !values.iter().fold(true, |finite, value| finite & value.is_finite()) {
            let (place, value) = values.iter().enumerate().find(|(_, value)| !value.is_finite())?;
            return Some((run * RUN + place, *value));
        }
    }
    None
}

/// The nearest f16, ties to even, as `f32`; infinite beyond f16's range.
#[inline(always)]
fn to_f16(value: f32) -> f32 {
    f16::from_f32_const(value).to_f32_const()
}

fn f16_slice(values: &[f32], out: &mut [u8]) -> Result<(), TooLarge> {
    const RUN: usize = 64;
    let mut halves = [f16::ZERO; RUN];
    for (run, (values, out)) in values.chunks(RUN).zip(out.chunks_mut(2 * RUN)).enumerate() {
        let Some(halves) = halves.get_mut(..values.len()) else { return Ok(()) };
        halves.convert_from_f32_slice(values);
        for (place, (half, out)) in halves.iter().zip(out.as_chunks_mut::<2>().0).enumerate() {
            if half.is_infinite() {
                return Err(TooLarge(run * RUN + place));
            }
            *out = half.to_le_bytes();
        }
    }
    Ok(())
}

/// Rounds to nearest, ties to even: half of the last kept bit, less one when that bit is 0, carries into it.
fn bf16_slice(values: &[f32], out: &mut [u8]) -> Result<(), TooLarge> {
    const INFINITY: u16 = 0x7f80;
    for (index, (value, out)) in values.iter().zip(out.as_chunks_mut::<2>().0).enumerate() {
        let bits = value.to_bits();
        let rounded = ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
        if rounded & 0x7fff >= INFINITY {
            return Err(TooLarge(index));
        }
        *out = rounded.to_le_bytes();
    }
    Ok(())
}
