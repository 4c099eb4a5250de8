//! Blocks to `f32`.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use crate::codes::{self, Codes, E2M1_LEVELS, IQ4_LEVELS};
use crate::{DType, QuantError};
use half::f16;
use half::slice::HalfFloatSliceExt;

/// Dequantizes whole blocks.
///
/// `bytes` holds `out.len()` elements in ggml's little-endian block layout. The result is, bit for bit, that of
/// `gguf.quants.dequantize` of the PyPI package `gguf` (NaNs may differ in their payload); the formula is in
/// [`codes`](mod@crate::codes). Blocks are independent, so callers may split a tensor at any block boundary.
///
/// # Errors
/// [`QuantError::PartialBlock`] or [`QuantError::Length`] when the lengths do not fit; `out` is then untouched.
pub fn dequantize(dtype: DType, bytes: &[u8], out: &mut [f32]) -> Result<(), QuantError> {
    let elements = out.len();
    let expected = dtype.bytes(elements).ok_or(QuantError::PartialBlock { dtype, elements })?;
    if bytes.len() != expected {
        return Err(QuantError::Length { dtype, elements, expected, found: bytes.len() });
    }
    match dtype {
        DType::F32 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
        DType::F16 => f16_slice(bytes, out),
        DType::BF16 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *out = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            }
        }
        DType::Q4_0 => blocks::<18, 32, 32, false>(bytes, out, codes::q4_0, offset::<8>),
        DType::Q4_1 => blocks::<20, 32, 32, true>(bytes, out, codes::q4_1, offset::<0>),
        DType::Q5_0 => blocks::<22, 32, 32, false>(bytes, out, codes::q5_0, offset::<16>),
        DType::Q5_1 => blocks::<24, 32, 32, true>(bytes, out, codes::q5_1, offset::<0>),
        DType::Q8_0 => blocks::<34, 32, 32, false>(bytes, out, codes::q8_0, |code| f32::from(code as i8)),
        DType::Q2_K => blocks::<84, 256, 16, true>(bytes, out, codes::q2_k, offset::<0>),
        DType::Q3_K => blocks::<110, 256, 16, false>(bytes, out, codes::q3_k, offset::<4>),
        DType::Q4_K => blocks::<144, 256, 32, true>(bytes, out, codes::q4_k, offset::<0>),
        DType::Q5_K => blocks::<176, 256, 32, true>(bytes, out, codes::q5_k, offset::<0>),
        DType::Q6_K => blocks::<210, 256, 16, false>(bytes, out, codes::q6_k, offset::<32>),
        DType::IQ4_NL => blocks::<18, 32, 32, false>(bytes, out, codes::q4_0, table(&IQ4_LEVELS)),
        DType::IQ4_XS => blocks::<136, 256, 32, false>(bytes, out, codes::iq4_xs, table(&IQ4_LEVELS)),
        DType::MXFP4 => blocks::<17, 32, 32, false>(bytes, out, codes::mxfp4, table(&E2M1_LEVELS)),
    }
    Ok(())
}

#[inline(always)]
fn offset<const ZERO: i32>(code: u8) -> f32 {
    (i32::from(code) - ZERO) as f32
}

fn table(levels: &[i8; 16]) -> impl Fn(u8) -> f32 + use<> {
    let levels = levels.map(f32::from);
    #[allow(clippy::indexing_slicing)] // masked to the table's length
    move |code| levels[usize::from(code & 15)]
}

/// The formula of `codes`, block after block: `BYTES` and `LEN` are the block's size in bytes and elements,
/// `GROUP` the elements that share a scale.
#[inline(always)]
fn blocks<const BYTES: usize, const LEN: usize, const GROUP: usize, const MINS: bool>(
    bytes: &[u8],
    out: &mut [f32],
    unpack: impl Fn(&[u8; BYTES], &mut Codes),
    level: impl Fn(u8) -> f32,
) {
    let mut block = Codes::default();
    for (bytes, out) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
        unpack(bytes, &mut block);
        let groups = out.as_chunks_mut::<GROUP>().0.iter_mut().zip(block.codes.as_chunks::<GROUP>().0);
        for ((out, codes), (scale, min)) in groups.zip(block.scales.iter().zip(&block.mins)) {
            let scale = block.d * f32::from(*scale);
            let min = block.dmin * f32::from(*min);
            for (out, code) in out.iter_mut().zip(codes) {
                let product = scale * level(*code);
                *out = if MINS { product - min } else { product };
            }
        }
    }
}

fn f16_slice(bytes: &[u8], out: &mut [f32]) {
    const RUN: usize = 64;
    let mut halves = [f16::ZERO; RUN];
    for (bytes, out) in bytes.chunks(2 * RUN).zip(out.chunks_mut(RUN)) {
        for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *half = f16::from_le_bytes(*bytes);
        }
        if let Some(halves) = halves.get(..out.len()) {
            halves.convert_to_f32_slice(out);
        }
    }
}
