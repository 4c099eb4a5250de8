//! Codes and scales to bytes: the inverses of the functions of the same names in [`codes`](mod@crate::codes).
//!
//! `d` and `dmin` must be f16 values (for MXFP4 half an E8M0 value), codes and scales within the type's ranges.

use crate::Codes;
use half::f16;

/// Gathers the `BITS` bits above bit `SHIFT` of every code: the inverse of `spread` in `codes`.
#[inline(always)]
fn gather<const RUN: usize, const BITS: u32, const SHIFT: u32>(codes: &[u8], bytes: &mut [u8]) {
    let mask = (1u8 << BITS) - 1;
    let codes = codes.chunks_exact(RUN * 8 / BITS as usize);
    for (bytes, codes) in bytes.chunks_exact_mut(RUN).zip(codes) {
        bytes.fill(0);
        for (field, codes) in (0u32..).zip(codes.chunks_exact(RUN)) {
            for (byte, code) in bytes.iter_mut().zip(codes) {
                *byte |= ((code >> SHIFT) & mask) << (field * BITS);
            }
        }
    }
}

#[inline(always)]
fn half(value: f32) -> [u8; 2] {
    f16::from_f32_const(value).to_le_bytes()
}

pub(super) fn q4_0(codes: &Codes, block: &mut [u8; 18]) {
    block[..2].copy_from_slice(&half(codes.d));
    gather::<16, 4, 0>(&codes.codes[..32], &mut block[2..]);
}

pub(super) fn q4_1(codes: &Codes, block: &mut [u8; 20]) {
    block[..2].copy_from_slice(&half(codes.d));
    block[2..4].copy_from_slice(&half(-codes.dmin));
    gather::<16, 4, 0>(&codes.codes[..32], &mut block[4..]);
}

pub(super) fn q5_0(codes: &Codes, block: &mut [u8; 22]) {
    block[..2].copy_from_slice(&half(codes.d));
    gather::<1, 1, 4>(&codes.codes[..32], &mut block[2..6]);
    gather::<16, 4, 0>(&codes.codes[..32], &mut block[6..]);
}

pub(super) fn q5_1(codes: &Codes, block: &mut [u8; 24]) {
    block[..2].copy_from_slice(&half(codes.d));
    block[2..4].copy_from_slice(&half(-codes.dmin));
    gather::<1, 1, 4>(&codes.codes[..32], &mut block[4..8]);
    gather::<16, 4, 0>(&codes.codes[..32], &mut block[8..]);
}

pub(super) fn q8_0(codes: &Codes, block: &mut [u8; 34]) {
    block[..2].copy_from_slice(&half(codes.d));
    block[2..].copy_from_slice(&codes.codes[..32]);
}

pub(super) fn q2_k(codes: &Codes, block: &mut [u8; 84]) {
    for ((byte, scale), min) in block[..16].iter_mut().zip(codes.scales).zip(codes.mins) {
        *byte = (scale as u8 & 15) | min << 4;
    }
    gather::<32, 2, 0>(&codes.codes, &mut block[16..80]);
    block[80..82].copy_from_slice(&half(codes.d));
    block[82..].copy_from_slice(&half(codes.dmin));
}

pub(super) fn q3_k(codes: &Codes, block: &mut [u8; 110]) {
    gather::<32, 1, 2>(&codes.codes, &mut block[..32]);
    gather::<32, 2, 0>(&codes.codes, &mut block[32..96]);
    let biased = codes.scales.map(|scale| (scale as u8).wrapping_add(32));
    gather::<8, 4, 0>(&biased, &mut block[96..104]);
    gather::<4, 2, 4>(&biased, &mut block[104..108]);
    block[108..].copy_from_slice(&half(codes.d));
}

pub(super) fn q4_k(codes: &Codes, block: &mut [u8; 144]) {
    block[..2].copy_from_slice(&half(codes.d));
    block[2..4].copy_from_slice(&half(codes.dmin));
    six_bit_pairs(codes, &mut block[4..16]);
    gather::<32, 4, 0>(&codes.codes, &mut block[16..]);
}

pub(super) fn q5_k(codes: &Codes, block: &mut [u8; 176]) {
    block[..2].copy_from_slice(&half(codes.d));
    block[2..4].copy_from_slice(&half(codes.dmin));
    six_bit_pairs(codes, &mut block[4..16]);
    gather::<32, 1, 4>(&codes.codes, &mut block[16..48]);
    gather::<32, 4, 0>(&codes.codes, &mut block[48..]);
}

pub(super) fn q6_k(codes: &Codes, block: &mut [u8; 210]) {
    gather::<64, 4, 0>(&codes.codes, &mut block[..128]);
    gather::<32, 2, 4>(&codes.codes, &mut block[128..192]);
    for (byte, scale) in block[192..208].iter_mut().zip(codes.scales) {
        *byte = scale as u8;
    }
    block[208..].copy_from_slice(&half(codes.d));
}

pub(super) fn iq4_xs(codes: &Codes, block: &mut [u8; 136]) {
    block[..2].copy_from_slice(&half(codes.d));
    let biased = codes.scales.map(|scale| (scale as u8).wrapping_add(32));
    gather::<1, 2, 4>(&biased[..8], &mut block[2..4]);
    gather::<1, 4, 0>(&biased[..8], &mut block[4..8]);
    gather::<16, 4, 0>(&codes.codes, &mut block[8..]);
}

pub(super) fn mxfp4(codes: &Codes, block: &mut [u8; 17]) {
    block[0] = match codes.d.to_bits() {
        bits if bits < 0x0040_0000 => 0,
        bits if bits < 0x0080_0000 => 1,
        bits => (bits >> 23) as u8 + 1,
    };
    gather::<16, 4, 0>(&codes.codes[..32], &mut block[1..]);
}

/// The first four scales, then the first four mins, each below two high bits of the last four; then the low nibbles
/// of the last four scales and mins.
fn six_bit_pairs(codes: &Codes, bytes: &mut [u8]) {
    let scales = codes.scales.iter().map(|scale| *scale as u8);
    let pairs = scales.zip(codes.mins);
    let (bytes, _) = bytes.as_chunks_mut::<4>();
    let [scale_bytes, min_bytes, low_bytes] = bytes else { return };
    let bytes = scale_bytes.iter_mut().zip(min_bytes).zip(low_bytes);
    for ((((scale_byte, min_byte), low_byte), first), last) in bytes.zip(pairs.clone()).zip(pairs.skip(4)) {
        *scale_byte = first.0 | (last.0 >> 4) << 6;
        *min_byte = first.1 | (last.1 >> 4) << 6;
        *low_byte = (last.0 & 15) | last.1 << 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, codes};

    /// Packing what was unpacked must give the block back, for any bytes whose scales are not NaN.
    #[test]
    fn packs_what_codes_unpacks() {
        fn check<const B: usize>(dtype: DType, pack: fn(&Codes, &mut [u8; B])) {
            let mut state = 1u64;
            let mut unpacked = Codes::default();
            for _ in 0..500 {
                let block: [u8; B] = std::array::from_fn(|_| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    (state >> 33) as u8
                });
                codes(dtype, &block, &mut unpacked).unwrap();
                if unpacked.d.is_nan() || unpacked.dmin.is_nan() || (dtype == DType::MXFP4 && block[0] == 255)
                {
                    continue;
                }
                let mut again = [0xa5; B];
                pack(&unpacked, &mut again);
                assert_eq!(again, block, "{dtype}");
            }
        }
        check(DType::Q4_0, q4_0);
        check(DType::Q4_1, q4_1);
        check(DType::Q5_0, q5_0);
        check(DType::Q5_1, q5_1);
        check(DType::Q8_0, q8_0);
        check(DType::Q2_K, q2_k);
        check(DType::Q3_K, q3_k);
        check(DType::Q4_K, q4_k);
        check(DType::Q5_K, q5_k);
        check(DType::Q6_K, q6_k);
        check(DType::IQ4_NL, q4_0);
        check(DType::IQ4_XS, iq4_xs);
        check(DType::MXFP4, mxfp4);
    }
}
