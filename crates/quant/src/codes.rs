//! Blocks taken apart into integer codes and scales: what integer kernels pack, and what `dequantize` multiplies.
//!
//! Every quantized type is one formula. In `f32`, in this order, each operation rounded once and none fused:
//!
//! ```text
//! weight[i] = (d · scales[g]) · level(codes[i])  −  (dmin · mins[g])          g = i / group
//! ```
//!
//! `d` and `dmin` are exact `f32` values of what the block stores. Where a type has no sub-scales `scales` is 1, and
//! where it has no minimum `dmin` and `mins` are 0; a multiplication by 1 and a subtraction of 0 change no bit, so
//! that the formula still gives the very bits that [`dequantize`](crate::dequantize()) gives. What differs is the [`Grid`]:
//!
//! | type | block | group | codes | level(code) | scales | mins | `d`, `dmin` from |
//! | --- | --- | --- | --- | --- | --- | --- | --- |
//! | Q4_0 | 32 | 32 | 0..=15 | code − 8 | 1 | 0 | f16, – |
//! | Q4_1 | 32 | 32 | 0..=15 | code | 1 | 1 | f16, f16 negated |
//! | Q5_0 | 32 | 32 | 0..=31 | code − 16 | 1 | 0 | f16, – |
//! | Q5_1 | 32 | 32 | 0..=31 | code | 1 | 1 | f16, f16 negated |
//! | Q8_0 | 32 | 32 | i8 bits | code as i8 | 1 | 0 | f16, – |
//! | Q2_K | 256 | 16 | 0..=3 | code | 0..=15 | 0..=15 | f16, f16 |
//! | Q3_K | 256 | 16 | 0..=7 | code − 4 | −32..=31 | 0 | f16, – |
//! | Q4_K | 256 | 32 | 0..=15 | code | 0..=63 | 0..=63 | f16, f16 |
//! | Q5_K | 256 | 32 | 0..=31 | code | 0..=63 | 0..=63 | f16, f16 |
//! | Q6_K | 256 | 16 | 0..=63 | code − 32 | −128..=127 | 0 | f16, – |
//! | IQ4_NL | 32 | 32 | 0..=15 | [`IQ4_LEVELS`]\[code\] | 1 | 0 | f16, – |
//! | IQ4_XS | 256 | 32 | 0..=15 | [`IQ4_LEVELS`]\[code\] | −32..=31 | 0 | f16, – |
//! | MXFP4 | 32 | 32 | 0..=15 | [`E2M1_LEVELS`]\[code\] | 1 | 0 | E8M0 byte `e`: 2^(e−128), – |
//!
//! Q4_1 and Q5_1 store `+m` where the K types store `−dmin·min`; here `dmin = −m` and `mins = 1`, and `x − (−m)` is
//! `x + m` bit for bit. The MXFP4 levels are twice the E2M1 values, so its `d` is half the E8M0 scale.
//!
//! The layouts are those of `ggml-common.h`.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use crate::{DType, QuantError};
use half::f16;

/// The sixteen levels of IQ4_NL and IQ4_XS by code: finer near zero, where weights are dense.
pub const IQ4_LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Twice the sixteen values of an E2M1 float by code (OCP Microscaling Formats 1.0, 5.3.3). Code 8, −0, reads as 0.
pub const E2M1_LEVELS: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// How a code names an integer level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Levels {
    /// `level = code − zero`.
    Offset {
        /// The code of level 0.
        zero: u8,
    },
    /// `level = code as i8`.
    Signed,
    /// `level = table[code]`.
    Table(&'static [i8; 16]),
}

impl Levels {
    /// The level that `code` names. Bits of a code beyond the type's `code_bits` must be 0.
    pub const fn level(self, code: u8) -> i32 {
        match self {
            Levels::Offset { zero } => code as i32 - zero as i32,
            Levels::Signed => code as i8 as i32,
            #[allow(clippy::indexing_slicing)] // masked to the table's length
            Levels::Table(table) => table[(code & 15) as usize] as i32,
        }
    }
}

/// The integer grid of a quantized type: what is the same in all of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// How codes name levels.
    pub levels: Levels,
    /// Bits of a code: 2, 3, 4, 5, 6 or 8.
    pub code_bits: u32,
    /// Consecutive elements that share one entry of `scales` and `mins`: 16 or 32.
    pub group: usize,
    /// Whether `scales` varies; if not it is 1.
    pub has_scales: bool,
    /// Whether something is subtracted; if not `dmin` and `mins` are 0.
    pub has_mins: bool,
}

impl DType {
    /// The integer grid of the type's blocks, or `None` for a plain float type.
    pub const fn grid(self) -> Option<Grid> {
        let (levels, code_bits, group, has_scales, has_mins) = match self {
            DType::F32 | DType::F16 | DType::BF16 => return None,
            DType::Q4_0 => (Levels::Offset { zero: 8 }, 4, 32, false, false),
            DType::Q4_1 => (Levels::Offset { zero: 0 }, 4, 32, false, true),
            DType::Q5_0 => (Levels::Offset { zero: 16 }, 5, 32, false, false),
            DType::Q5_1 => (Levels::Offset { zero: 0 }, 5, 32, false, true),
            DType::Q8_0 => (Levels::Signed, 8, 32, false, false),
            DType::Q2_K => (Levels::Offset { zero: 0 }, 2, 16, true, true),
            DType::Q3_K => (Levels::Offset { zero: 4 }, 3, 16, true, false),
            DType::Q4_K => (Levels::Offset { zero: 0 }, 4, 32, true, true),
            DType::Q5_K => (Levels::Offset { zero: 0 }, 5, 32, true, true),
            DType::Q6_K => (Levels::Offset { zero: 32 }, 6, 16, true, false),
            DType::IQ4_NL => (Levels::Table(&IQ4_LEVELS), 4, 32, false, false),
            DType::IQ4_XS => (Levels::Table(&IQ4_LEVELS), 4, 32, true, false),
            DType::MXFP4 => (Levels::Table(&E2M1_LEVELS), 4, 32, false, false),
        };
        Some(Grid { levels, code_bits, group, has_scales, has_mins })
    }
}

/// One block, unpacked. The first `block_len` codes and the first `block_len / group` scales and mins are the
/// block's; what lies behind them is left over from an earlier, larger block or zero.
#[derive(Clone, Debug)]
pub struct Codes {
    /// Codes in the order of the elements; see [`Levels`] for what they mean.
    pub codes: [u8; 256],
    /// Integer scale of each group.
    pub scales: [i8; 16],
    /// Integer minimum of each group.
    pub mins: [u8; 16],
    /// The block's scale, exact: an f16 (convert back with `half::f16::from_f32`, which is then exact too), or for
    /// MXFP4 a power of two from 2^−128 (subnormal) to 2^127.
    pub d: f32,
    /// The scale of `mins`, exact: an f16.
    pub dmin: f32,
}

impl Default for Codes {
    fn default() -> Self {
        Codes { codes: [0; 256], scales: [0; 16], mins: [0; 16], d: 0.0, dmin: 0.0 }
    }
}

impl Codes {
    /// The formula of the module, for element `index` of a block with this grid: the bits that `dequantize` gives.
    /// `None` when `index` is beyond 255.
    pub fn weight(&self, grid: &Grid, index: usize) -> Option<f32> {
        let group = index / grid.group;
        let scale = self.d * f32::from(*self.scales.get(group)?);
        let min = self.dmin * f32::from(*self.mins.get(group)?);
        Some(scale * grid.levels.level(*self.codes.get(index)?) as f32 - min)
    }
}

/// Unpacks one block of a quantized type.
///
/// # Errors
/// [`QuantError::NoCodes`] for a plain float type, [`QuantError::BlockSize`] when `block` is not one block.
// Inlined, so that where the type is a constant only its own case is left.
#[inline(always)]
pub fn codes(dtype: DType, block: &[u8], out: &mut Codes) -> Result<(), QuantError> {
    #[inline(always)]
    fn one<const B: usize>(
        dtype: DType,
        block: &[u8],
        out: &mut Codes,
        unpack: fn(&[u8; B], &mut Codes),
    ) -> Result<(), QuantError> {
        let block: &[u8; B] =
            block.try_into().map_err(|_| QuantError::BlockSize { dtype, found: block.len() })?;
        unpack(block, out);
        Ok(())
    }
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => Err(QuantError::NoCodes { dtype }),
        DType::Q4_0 | DType::IQ4_NL => one(dtype, block, out, q4_0),
        DType::Q4_1 => one(dtype, block, out, q4_1),
        DType::Q5_0 => one(dtype, block, out, q5_0),
        DType::Q5_1 => one(dtype, block, out, q5_1),
        DType::Q8_0 => one(dtype, block, out, q8_0),
        DType::Q2_K => one(dtype, block, out, q2_k),
        DType::Q3_K => one(dtype, block, out, q3_k),
        DType::Q4_K => one(dtype, block, out, q4_k),
        DType::Q5_K => one(dtype, block, out, q5_k),
        DType::Q6_K => one(dtype, block, out, q6_k),
        DType::IQ4_XS => one(dtype, block, out, iq4_xs),
        DType::MXFP4 => one(dtype, block, out, mxfp4),
    }
}

/// Spreads fields of `BITS` bits over `codes`, shifted left by `SHIFT`: every run of `RUN` bytes holds
/// `8 / BITS` runs of `RUN` codes, the first in the lowest bits. Overwrites with `SHIFT` 0, else adds bits.
#[inline(always)]
fn spread<const RUN: usize, const BITS: u32, const SHIFT: u32>(bytes: &[u8], codes: &mut [u8]) {
    let mask = (1u8 << BITS) - 1;
    let codes = codes.chunks_exact_mut(RUN * 8 / BITS as usize);
    for (bytes, codes) in bytes.chunks_exact(RUN).zip(codes) {
        for (field, codes) in (0u32..).zip(codes.chunks_exact_mut(RUN)) {
            // Four bytes at a time: bits that cross into the next byte are masked away.
            let (words, rest) = bytes.as_chunks::<4>();
            let (code_words, code_rest) = codes.as_chunks_mut::<4>();
            for (code, word) in code_words.iter_mut().zip(words) {
                let mask = u32::from(mask) * 0x0101_0101;
                let bits = ((u32::from_le_bytes(*word) >> (field * BITS)) & mask) << SHIFT;
                let before = if SHIFT == 0 { 0 } else { u32::from_le_bytes(*code) };
                *code = (before | bits).to_le_bytes();
            }
            for (code, byte) in code_rest.iter_mut().zip(rest) {
                let bits = ((byte >> (field * BITS)) & mask) << SHIFT;
                *code = if SHIFT == 0 { bits } else { *code | bits };
            }
        }
    }
}

#[inline(always)]
fn half(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32_const()
}

/// Sets what a block with one f16 scale and no sub-scales has.
#[inline(always)]
fn plain_scale(out: &mut Codes, d: f32) {
    out.d = d;
    out.dmin = 0.0;
    out.scales[0] = 1;
    out.mins[0] = 0;
}

#[inline(always)]
fn plain_scale_min(out: &mut Codes, d: f32, m: f32) {
    out.d = d;
    out.dmin = -m;
    out.scales[0] = 1;
    out.mins[0] = 1;
}

/// `d` f16, 16 bytes of nibbles. IQ4_NL has the same layout.
#[inline(always)]
pub(crate) fn q4_0(block: &[u8; 18], out: &mut Codes) {
    plain_scale(out, half([block[0], block[1]]));
    spread::<16, 4, 0>(&block[2..18], &mut out.codes[..32]);
}

/// `d`, `m` f16, 16 bytes of nibbles.
#[inline(always)]
pub(crate) fn q4_1(block: &[u8; 20], out: &mut Codes) {
    plain_scale_min(out, half([block[0], block[1]]), half([block[2], block[3]]));
    spread::<16, 4, 0>(&block[4..20], &mut out.codes[..32]);
}

/// `d` f16, 32 fifth bits in the order of the elements, 16 bytes of nibbles.
#[inline(always)]
pub(crate) fn q5_0(block: &[u8; 22], out: &mut Codes) {
    plain_scale(out, half([block[0], block[1]]));
    spread::<16, 4, 0>(&block[6..22], &mut out.codes[..32]);
    spread::<1, 1, 4>(&block[2..6], &mut out.codes[..32]);
}

/// `d`, `m` f16, 32 fifth bits in the order of the elements, 16 bytes of nibbles.
#[inline(always)]
pub(crate) fn q5_1(block: &[u8; 24], out: &mut Codes) {
    plain_scale_min(out, half([block[0], block[1]]), half([block[2], block[3]]));
    spread::<16, 4, 0>(&block[8..24], &mut out.codes[..32]);
    spread::<1, 1, 4>(&block[4..8], &mut out.codes[..32]);
}

/// `d` f16, 32 i8.
#[inline(always)]
pub(crate) fn q8_0(block: &[u8; 34], out: &mut Codes) {
    plain_scale(out, half([block[0], block[1]]));
    out.codes[..32].copy_from_slice(&block[2..34]);
}

/// 16 bytes of scale (low nibble) and min (high nibble), 64 bytes of 2-bit codes, `d`, `dmin` f16.
#[inline(always)]
pub(crate) fn q2_k(block: &[u8; 84], out: &mut Codes) {
    for ((byte, scale), min) in block[..16].iter().zip(&mut out.scales).zip(&mut out.mins) {
        *scale = (byte & 15) as i8;
        *min = byte >> 4;
    }
    spread::<32, 2, 0>(&block[16..80], &mut out.codes);
    out.d = half([block[80], block[81]]);
    out.dmin = half([block[82], block[83]]);
}

/// 32 bytes of third bits, 64 bytes of 2-bit codes, 12 bytes of 6-bit scales biased by 32, `d` f16.
#[inline(always)]
pub(crate) fn q3_k(block: &[u8; 110], out: &mut Codes) {
    spread::<32, 2, 0>(&block[32..96], &mut out.codes);
    spread::<32, 1, 2>(&block[..32], &mut out.codes);
    let low = |word: u32| word & 0x0f0f_0f0f;
    let high = |word: u32| (word & 0x0303_0303) << 4;
    let [a, b, c] = three_words(&block[96..108]);
    let words =
        [low(a) | high(c), low(b) | high(c >> 2), low(a >> 4) | high(c >> 4), low(b >> 4) | high(c >> 6)];
    for (word, scales) in words.iter().zip(out.scales.chunks_exact_mut(4)) {
        for (byte, scale) in word.to_le_bytes().iter().zip(scales) {
            *scale = *byte as i8 - 32;
        }
    }
    out.mins = [0; 16];
    out.d = half([block[108], block[109]]);
    out.dmin = 0.0;
}

/// `d`, `dmin` f16, 12 bytes of 6-bit scales and mins, 128 bytes of nibbles.
#[inline(always)]
pub(crate) fn q4_k(block: &[u8; 144], out: &mut Codes) {
    out.d = half([block[0], block[1]]);
    out.dmin = half([block[2], block[3]]);
    six_bit_pairs(&block[4..16], out);
    spread::<32, 4, 0>(&block[16..144], &mut out.codes);
}

/// `d`, `dmin` f16, 12 bytes of 6-bit scales and mins, 32 bytes of fifth bits, 128 bytes of nibbles.
#[inline(always)]
pub(crate) fn q5_k(block: &[u8; 176], out: &mut Codes) {
    out.d = half([block[0], block[1]]);
    out.dmin = half([block[2], block[3]]);
    six_bit_pairs(&block[4..16], out);
    spread::<32, 4, 0>(&block[48..176], &mut out.codes);
    spread::<32, 1, 4>(&block[16..48], &mut out.codes);
}

/// 128 bytes of low nibbles, 64 bytes of high 2 bits, 16 i8 scales, `d` f16.
#[inline(always)]
pub(crate) fn q6_k(block: &[u8; 210], out: &mut Codes) {
    spread::<64, 4, 0>(&block[..128], &mut out.codes);
    spread::<32, 2, 4>(&block[128..192], &mut out.codes);
    for (byte, scale) in block[192..208].iter().zip(&mut out.scales) {
        *scale = *byte as i8;
    }
    out.mins = [0; 16];
    out.d = half([block[208], block[209]]);
    out.dmin = 0.0;
}

/// `d` f16, 8 high 2-bit parts and 8 low nibbles of scales biased by 32, 128 bytes of nibbles.
#[inline(always)]
pub(crate) fn iq4_xs(block: &[u8; 136], out: &mut Codes) {
    out.d = half([block[0], block[1]]);
    let mut low = [0u8; 8];
    let mut high = [0u8; 8];
    spread::<1, 4, 0>(&block[4..8], &mut low);
    spread::<1, 2, 0>(&block[2..4], &mut high);
    for ((low, high), scale) in low.iter().zip(high).zip(&mut out.scales) {
        *scale = (low | high << 4) as i8 - 32;
    }
    spread::<16, 4, 0>(&block[8..136], &mut out.codes);
    out.mins = [0; 16];
    out.dmin = 0.0;
}

/// E8M0 byte, 16 bytes of nibbles.
#[inline(always)]
pub(crate) fn mxfp4(block: &[u8; 17], out: &mut Codes) {
    plain_scale(out, e8m0_half(block[0]));
    spread::<16, 4, 0>(&block[1..17], &mut out.codes[..32]);
}

/// Half of the E8M0 number `e`: 2^(e−128), subnormal for 0 and 1. E8M0's NaN, 255, reads as 2^127 as in ggml.
#[inline(always)]
pub(crate) fn e8m0_half(e: u8) -> f32 {
    f32::from_bits(match e {
        0 => 0x0020_0000,
        1 => 0x0040_0000,
        _ => (u32::from(e) - 1) << 23,
    })
}

#[inline(always)]
fn three_words(bytes: &[u8]) -> [u32; 3] {
    let mut words = [0; 3];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    words
}

/// Q4_K's and Q5_K's twelve bytes: scales 0..4 and mins 0..4 lie in the low six bits of the first eight bytes;
/// scales and mins 4..8 have their low nibbles in the last four bytes and their high two bits above those six.
#[inline(always)]
fn six_bit_pairs(bytes: &[u8], out: &mut Codes) {
    let low = |word: u32| word & 0x0f0f_0f0f;
    let high = |word: u32| (word >> 2) & 0x3030_3030;
    let [s, m, rest] = three_words(bytes);
    let scales = [s & 0x3f3f_3f3f, low(rest) | high(s)];
    let mins = [m & 0x3f3f_3f3f, low(rest >> 4) | high(m)];
    for (word, scales) in scales.iter().zip(out.scales.chunks_exact_mut(4)) {
        for (byte, scale) in word.to_le_bytes().iter().zip(scales) {
            *scale = *byte as i8;
        }
    }
    for (word, mins) in mins.iter().zip(out.mins.chunks_exact_mut(4)) {
        mins.copy_from_slice(&word.to_le_bytes());
    }
}
