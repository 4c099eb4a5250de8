//! Kernels for AVX2 with FMA and F16C.
//!
//! `vpmaddubsw` multiplies unsigned by signed bytes and adds neighbours in 16 bits, saturating. It stays exact because
//! |a| ≤ 127 and
//!
//! - an unsigned code of `b` bits gives a pair of at most 2 · (2^b − 1) · 127, so that 8 quads of 4-bit codes (30480),
//!   4 of 5-bit (31496) or 2 of 6-bit (32004) can be added in 16 bits before they are widened;
//! - 8-bit codes are taken as signed levels, and `|w| · sign(w) a` gives a pair of at most 2 · 128 · 127 = 32512.
//!
//! All functions without `target_feature` are `inline(always)` parts of those with it; see [`Lanes`] for their safety.

use super::format::{CHUNK, Format, GROUP, GROUP_CODES, PANEL_ROWS, with_format};
use super::integer::{self, Block, Integer};
use super::lanes::{ChunkScales, Lanes, groups_of};
use super::unpack::Unpacked;
use super::{Activations, ScratchParts, Task, float};
use std::arch::x86_64::*;

/// # Safety
/// As [`super::matmul`], whose checks were made; the processor has these features.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn matmul(task: &Task<'_>, scratch: &mut ScratchParts) {
    // SAFETY: the caller's promise.
    unsafe {
        with_format!(
            task.weight.dtype(),
            F => quantized::<F>(task, scratch),
            else float::product::<Pair, 6>(task, scratch)
        )
    }
}

/// # Safety
/// As [`matmul`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn quantized<F: Format>(task: &Task<'_>, scratch: &mut ScratchParts) {
    // SAFETY: as the caller's.
    unsafe {
        match task.rows.1 - task.rows.0 {
            1 => few_rows::<F, 1>(task),
            2 => few_rows::<F, 2>(task),
            3 => few_rows::<F, 3>(task),
            4 => few_rows::<F, 4>(task),
            _ => integer::product::<F, Maddubs>(task, scratch),
        }
    }
}

/// Sixteen lanes in two registers.
#[derive(Clone, Copy)]
struct Pair([__m256; 2]);

impl Pair {
    #[inline(always)]
    unsafe fn from_i32(low: __m256i, high: __m256i) -> Self {
        // SAFETY: as `Lanes`.
        unsafe { Pair([_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)]) }
    }

    #[inline(always)]
    unsafe fn load_wide(from: *const u8) -> [__m256i; 2] {
        // SAFETY: as `Lanes`.
        unsafe {
            let bytes = _mm_loadu_si128(from.cast());
            [_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))]
        }
    }
}

// Every body is what `Lanes` promises, under its safety contract.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Lanes for Pair {
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { Pair([_mm256_set1_ps(x); 2]) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Pair([_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))]) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe {
            _mm256_storeu_ps(to, self.0[0]);
            _mm256_storeu_ps(to.add(8), self.0[1]);
        }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> Self {
        unsafe {
            let half = |at: *const u8| _mm256_cvtph_ps(_mm_loadu_si128(at.cast()));
            Pair([half(from), half(from.add(16))])
        }
    }
    #[inline(always)]
    unsafe fn load_bf16_pairs(from: *const u8) -> [Self; 2] {
        unsafe {
            let pairs = [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())];
            let second = _mm256_set1_epi32(0xffff_0000_u32 as i32);
            [
                Pair([
                    _mm256_castsi256_ps(_mm256_slli_epi32(pairs[0], 16)),
                    _mm256_castsi256_ps(_mm256_slli_epi32(pairs[1], 16)),
                ]),
                Pair([
                    _mm256_castsi256_ps(_mm256_and_si256(pairs[0], second)),
                    _mm256_castsi256_ps(_mm256_and_si256(pairs[1], second)),
                ]),
            ]
        }
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const u8) -> Self {
        unsafe {
            let bytes = _mm_loadu_si128(from.cast());
            Pair::from_i32(_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))
        }
    }
    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> Self {
        unsafe {
            let [low, high] = Pair::load_wide(from);
            Pair::from_i32(low, high)
        }
    }
    #[inline(always)]
    unsafe fn load_nibbles(from: *const u8) -> [Self; 2] {
        unsafe {
            let [a, b] = Pair::load_wide(from);
            let mask = _mm256_set1_epi32(15);
            [
                Pair::from_i32(_mm256_and_si256(a, mask), _mm256_and_si256(b, mask)),
                Pair::from_i32(_mm256_srli_epi32(a, 4), _mm256_srli_epi32(b, 4)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn load_exponents(from: *const u8) -> Self {
        unsafe {
            // Exponent field e − 1; for 0 and 1 the subnormals 2^−128 and 2^−127.
            let [a, b] = Pair::load_wide(from);
            let (one, two) = (_mm256_set1_epi32(1), _mm256_set1_epi32(2));
            let subnormal = _mm256_set1_epi32(0x0020_0000);
            let [a, b] = [
                _mm256_blendv_epi8(
                    _mm256_slli_epi32(_mm256_sub_epi32(a, one), 23),
                    _mm256_sllv_epi32(subnormal, a),
                    _mm256_cmpgt_epi32(two, a),
                ),
                _mm256_blendv_epi8(
                    _mm256_slli_epi32(_mm256_sub_epi32(b, one), 23),
                    _mm256_sllv_epi32(subnormal, b),
                    _mm256_cmpgt_epi32(two, b),
                ),
            ];
            Pair([_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)])
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { Pair([_mm256_add_ps(self.0[0], other.0[0]), _mm256_add_ps(self.0[1], other.0[1])]) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { Pair([_mm256_mul_ps(self.0[0], other.0[0]), _mm256_mul_ps(self.0[1], other.0[1])]) }
    }
    #[inline(always)]
    unsafe fn neg(self) -> Self {
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            Pair([_mm256_xor_ps(self.0[0], sign), _mm256_xor_ps(self.0[1], sign)])
        }
    }
    #[inline(always)]
    unsafe fn fma(self, x: Self, y: Self) -> Self {
        unsafe {
            Pair([_mm256_fmadd_ps(self.0[0], x.0[0], y.0[0]), _mm256_fmadd_ps(self.0[1], x.0[1], y.0[1])])
        }
    }
}

/// The integer half of the kernels.
struct Maddubs;

/// Whether the codes of `F` are unpacked to signed levels.
const fn signed<F: Format>() -> bool {
    F::SPEC.largest() > 63
}

/// Quads whose products fit 16 bits together; see the module.
const fn quads_in_16_bits<F: Format>() -> usize {
    match F::SPEC.largest() {
        0..=15 => 8,
        16..=31 => 4,
        32..=63 => 2,
        _ => 1,
    }
}

impl Integer for Maddubs {
    type Lanes = Pair;

    const ROWS: usize = 64;

    #[inline(always)]
    unsafe fn unpack_codes<F: Format>(group: *const u8, out: &mut [u8; GROUP_CODES]) {
        // SAFETY: the caller's promise.
        unsafe {
            for half in [0, 32] {
                for (q, quad) in unpack_half::<F>(group.add(half)).iter().enumerate() {
                    let to = out.as_mut_ptr().add(q * 64 + half);
                    _mm256_storeu_si256(to.cast(), *quad);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn block<F: Format>(
        task: &Task<'_>,
        unpacked: &Unpacked,
        block: Block,
        sums: &mut [[f32; PANEL_ROWS]],
    ) {
        let mut done = 0;
        // As many rows at once as have room in 16 registers.
        let at_once = if const { signed::<F>() } { 3 } else { 2 };
        // SAFETY: the caller's promise.
        unsafe {
            while block.rows - done >= at_once {
                let at = Block { row: block.row + done, ..block };
                if const { signed::<F>() } {
                    rows_block::<F, 3>(task, unpacked, at, &mut sums[done..]);
                } else {
                    rows_block::<F, 2>(task, unpacked, at, &mut sums[done..]);
                }
                done += at_once;
            }
            while done < block.rows {
                let at = Block { row: block.row + done, ..block };
                rows_block::<F, 1>(task, unpacked, at, &mut sums[done..]);
                done += 1;
            }
        }
    }
}

/// One half (8 rows) of the eight quads of a packed group: unsigned codes, or levels if [`signed`].
///
/// # Safety
/// As [`Lanes`]; `group` points to a packed group, or 32 bytes into it for the second half.
#[inline(always)]
unsafe fn unpack_half<F: Format>(group: *const u8) -> [__m256i; 8] {
    let spec = &F::SPEC;
    // SAFETY: the caller's promise; planes are 64 bytes.
    unsafe {
        let mut quads = [_mm256_setzero_si256(); 8];
        let nibble = _mm256_set1_epi8(15);
        let pair = _mm256_set1_epi8(3);
        for (q, quad) in quads.iter_mut().enumerate() {
            let plane = |i: usize| _mm256_loadu_si256(group.add(64 * i).cast());
            *quad = match spec.bits {
                8 => plane(q),
                4..=6 if q % 2 == 0 => _mm256_and_si256(plane(q / 2), nibble),
                4..=6 => _mm256_and_si256(_mm256_srli_epi16(plane(q / 2), 4), nibble),
                _ => {
                    let four = plane(q / 4);
                    let shifted = match q % 4 {
                        0 => four,
                        1 => _mm256_srli_epi16(four, 2),
                        2 => _mm256_srli_epi16(four, 4),
                        _ => _mm256_srli_epi16(four, 6),
                    };
                    _mm256_and_si256(shifted, pair)
                }
            };
            let high = match spec.bits {
                6 => {
                    let four = plane(4 + q / 4);
                    let shifted = match q % 4 {
                        0 => _mm256_slli_epi16(four, 4),
                        1 => _mm256_slli_epi16(four, 2),
                        2 => four,
                        _ => _mm256_srli_epi16(four, 2),
                    };
                    _mm256_and_si256(shifted, _mm256_set1_epi8(0x30))
                }
                3 | 5 => {
                    let bit = _mm256_set1_epi8((1u8 << q) as i8);
                    let bits = plane(if spec.bits == 3 { 2 } else { 4 });
                    let set = _mm256_cmpeq_epi8(_mm256_and_si256(bits, bit), bit);
                    _mm256_and_si256(set, _mm256_set1_epi8(1 << (spec.bits - 1)))
                }
                _ => continue,
            };
            *quad = _mm256_or_si256(*quad, high);
        }
        if let Some(table) = spec.table {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            for quad in &mut quads {
                *quad = _mm256_shuffle_epi8(table, *quad);
            }
        }
        if const { signed::<F>() } {
            for quad in &mut quads {
                *quad = _mm256_sub_epi8(*quad, _mm256_set1_epi8(spec.zero() as i8));
            }
        }
        quads
    }
}

/// `M` rows against an unpacked chunk; `sums` are theirs.
///
/// # Safety
/// As [`Integer::block`].
#[inline(always)]
unsafe fn rows_block<F: Format, const M: usize>(
    task: &Task<'_>,
    unpacked: &Unpacked,
    at: Block,
    sums: &mut [[f32; PANEL_ROWS]],
) {
    let spec = &F::SPEC;
    let a = &task.activations;
    let Block { chunk, groups, row, .. } = at;
    let parts = GROUP / spec.scale_group;
    let quads_of_part = 8 / parts;
    let run = quads_in_16_bits::<F>().min(quads_of_part);
    // An array, for loops over it to become straight code that keeps the dot products in registers.
    let sums = sums.first_chunk_mut::<M>().expect("sums of all rows");
    // SAFETY: the rows are inside the view, and `sums` has `M` of them.
    unsafe {
        let ones = _mm256_set1_epi16(1);
        let codes = a.codes(chunk, row);
        for group in 0..groups {
            let weights = unpacked.codes[group].as_ptr();
            for part in 0..parts {
                let index = group * parts + part;
                let mut dots = [[_mm256_setzero_si256(); 2]; M];
                for first in (part * quads_of_part..(part + 1) * quads_of_part).step_by(run) {
                    let mut short = [[_mm256_setzero_si256(); 2]; M];
                    for q in first..first + run {
                        for half in 0..2 {
                            let w = _mm256_load_si256(weights.add(q * 64 + half * 32).cast());
                            for (m, short) in short.iter_mut().enumerate() {
                                let x = codes.add(m * CHUNK + group * GROUP + q * 4);
                                let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
                                let products = products::<F>(w, x);
                                short[half] = if q == first {
                                    products
                                } else {
                                    _mm256_add_epi16(short[half], products)
                                };
                            }
                        }
                    }
                    for (dots, short) in dots.iter_mut().zip(short) {
                        for half in 0..2 {
                            let wide = _mm256_madd_epi16(short[half], ones);
                            dots[half] = if first == part * quads_of_part {
                                wide
                            } else {
                                _mm256_add_epi32(dots[half], wide)
                            };
                        }
                    }
                }
                let scale = Pair::load(unpacked.scales[index].as_ptr());
                for (m, dots) in dots.iter().enumerate() {
                    let sums = &mut sums[m];
                    let addend = Pair::load(unpacked.addends[index].as_ptr());
                    let sum = Pair::load(sums.as_ptr());
                    add_scaled::<F>(*dots, a, (chunk, row + m, index), (scale, addend), sum)
                        .store(sums.as_mut_ptr());
                }
            }
        }
    }
}

/// The 16-bit sums of two products of weights, as [`unpack_half`] gives them, with activations.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn products<F: Format>(w: __m256i, x: __m256i) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        if const { signed::<F>() } {
            _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
        } else {
            _mm256_maddubs_epi16(w, x)
        }
    }
}

/// Adds to `sum` the dot products of scale group `index` of a chunk with a row, less what their codes are too large by.
///
/// # Safety
/// As [`Lanes`]; the activations have the row and the chunk.
#[inline(always)]
unsafe fn add_scaled<F: Format>(
    mut dots: [__m256i; 2],
    a: &Activations,
    (chunk, row, index): (usize, usize, usize),
    (scale, addend): (Pair, Pair),
    sum: Pair,
) -> Pair {
    let spec = &F::SPEC;
    let parts = GROUP / spec.scale_group;
    // SAFETY: the caller's promise.
    unsafe {
        let (negated_sums, shifted_sums) = if parts == 1 {
            (a.negated_sums(chunk, row), a.shifted_sums(chunk, row))
        } else {
            (a.negated_half_sums(chunk, row), a.shifted_half_sums(chunk, row))
        };
        if spec.centred && !const { signed::<F>() } {
            let negated = _mm256_set1_epi32(*negated_sums.add(index) << spec.zero_shift);
            dots = [_mm256_add_epi32(dots[0], negated), _mm256_add_epi32(dots[1], negated)];
        }
        let shift = _mm256_set1_epi32(*a.shifts(chunk, row).add(index / parts));
        let dots = Pair::from_i32(_mm256_sllv_epi32(dots[0], shift), _mm256_sllv_epi32(dots[1], shift));
        let sum = dots.fma(scale, sum);
        if spec.mins { addend.fma(Pair::splat(*shifted_sums.add(index)), sum) } else { sum }
    }
}

/// `M` rows against the task's panels, unpacking in registers: for steps that memory limits.
///
/// # Safety
/// As [`matmul`]; the task has `M` rows.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn few_rows<F: Format, const M: usize>(task: &Task<'_>) {
    let spec = &F::SPEC;
    let a = &task.activations;
    let first = task.rows.0;
    let parts = GROUP / spec.scale_group;
    // SAFETY: pointers stay inside the panel and the activations' rows.
    unsafe {
        for panel in task.panels.0..task.panels.1 {
            let mut at = task.weight.panel(panel);
            let mut sums = [Pair::splat(0.0); M];
            for chunk in 0..task.weight.cols().div_ceil(CHUNK) {
                let groups = groups_of(task.weight.cols(), chunk);
                let scales = ChunkScales::<Pair>::new::<F>(at);
                let codes = at.add(spec.codes_at(groups));
                for group in 0..groups {
                    // Of either part of the group, each row, either half of the panel.
                    let mut dots = [[[_mm256_setzero_si256(); 2]; M]; 2];
                    for half in 0..2 {
                        let quads = unpack_half::<F>(codes.add(group * spec.group_bytes() + 32 * half));
                        for (part, dots) in dots.iter_mut().enumerate().take(parts) {
                            for (m, dots) in dots.iter_mut().enumerate() {
                                let x = a.codes(chunk, first + m).add(group * GROUP);
                                dots[half] = dot::<F>(&quads, x, part);
                            }
                        }
                    }
                    for (part, dots) in dots.iter().enumerate().take(parts) {
                        let index = group * parts + part;
                        let scales = scales.group::<F>(index);
                        for (m, (dots, sum)) in dots.iter().zip(&mut sums).enumerate() {
                            *sum = add_scaled::<F>(*dots, a, (chunk, first + m, index), scales, *sum);
                        }
                    }
                }
                at = at.add(spec.chunk_bytes(groups));
            }
            for (m, sum) in sums.iter().enumerate() {
                task.store_scaled(first + m, panel, *sum);
            }
        }
    }
}

/// The products of 8 rows of weights with the group of activations at `x`, over the quads of scale group `part`.
///
/// # Safety
/// As [`Lanes`]; `x` points to 32 codes.
#[inline(always)]
unsafe fn dot<F: Format>(quads: &[__m256i; 8], x: *const i8, part: usize) -> __m256i {
    let quads_of_part = 8 * F::SPEC.scale_group / GROUP;
    let run = quads_in_16_bits::<F>().min(quads_of_part);
    // SAFETY: the caller's promise.
    unsafe {
        let mut dot = _mm256_setzero_si256();
        for first in (part * quads_of_part..(part + 1) * quads_of_part).step_by(run) {
            let mut short = _mm256_setzero_si256();
            for (q, quad) in quads.iter().enumerate().skip(first).take(run) {
                let x = _mm256_set1_epi32(x.add(4 * q).cast::<i32>().read_unaligned());
                short = _mm256_add_epi16(short, products::<F>(*quad, x));
            }
            dot = _mm256_add_epi32(dot, _mm256_madd_epi16(short, _mm256_set1_epi16(1)));
        }
        dot
    }
}
