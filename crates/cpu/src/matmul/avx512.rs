//! Kernels for AVX-512 with VNNI.
//!
//! `vpdpbusd` multiplies 4 unsigned by 4 signed bytes and adds them to each of 16 sums. The weights' codes are the
//! unsigned operand, 16 rows at once; four codes of one row of activations, broadcast from memory, are the signed one.
//!
//! Helpers are `inline(always)` without `target_feature`: they only ever become part of the two entry functions, which
//! have it. Their `# Safety` is the same throughout: the processor has the features of [`matmul`].

use super::activations::{ActivationKind, SMALLEST, quantize_chunk_portable, quantize_row_portable};
use super::format::{CHUNK, CHUNK_GROUPS, Format, GROUP, GROUP_CODES, PANEL_ROWS, with_format};
use super::integer::{self, Block, Integer};
use super::lanes::{ChunkScales, Lanes, groups_of};
use super::unpack::Unpacked;
use super::{Activations, ScratchParts, Task, float};
use std::arch::x86_64::*;

/// Up to this many rows, a group is unpacked in registers and used at once.
pub(super) const FEW_ROWS: usize = 6;

/// # Safety
/// As [`super::quantize_row`]; the processor has these features.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn quantize_row(x: &[f32], out: &Activations, row: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        if out.shape().kind() != ActivationKind::Int8 {
            return quantize_row_portable(x, out, row);
        }
        let (full, rest) = x.as_chunks::<CHUNK>();
        for (chunk, x) in full.iter().enumerate() {
            quantize_chunk(x, out, chunk, row);
        }
        if !rest.is_empty() {
            quantize_chunk_portable(rest, out, full.len(), row);
        }
    }
}

/// Rounds a full chunk, in the operations of [`quantize_chunk_portable`].
#[inline(always)]
unsafe fn quantize_chunk(x: &[f32; CHUNK], out: &Activations, chunk: usize, row: usize) {
    // SAFETY: places are inside the view.
    unsafe {
        let x: [__m512; 16] = std::array::from_fn(|i| _mm512_loadu_ps(x.as_ptr().add(16 * i)));
        let magnitude =
            |i: usize| _mm512_and_si512(_mm512_castps_si512(x[i]), _mm512_set1_epi32(0x7fff_ffff));
        let largest =
            group_maxima(std::array::from_fn(|g| _mm512_max_epu32(magnitude(2 * g), magnitude(2 * g + 1))));
        let (scales, inverses, not_zero) = group_scales(largest);
        _mm256_storeu_ps(out.scales(chunk, row), scales);
        let inverses = _mm512_castps256_ps512(inverses);
        let mut partial_sums = [_mm512_setzero_si512(); 4];
        for (quarter, partial_sums) in partial_sums.iter_mut().enumerate() {
            let code = |i: usize| {
                let i = 4 * quarter + i;
                let inverse = _mm512_permutexvar_ps(_mm512_set1_epi32(i as i32 / 2), inverses);
                let keep = 0u16.wrapping_sub(u16::from(not_zero >> (i / 2) & 1));
                _mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(x[i], inverse))
            };
            // Packing works within 128 bits, which leaves the four vectors' quarters transposed.
            let bytes = _mm512_packs_epi16(
                _mm512_packs_epi32(code(0), code(1)),
                _mm512_packs_epi32(code(2), code(3)),
            );
            let bytes = _mm512_permutexvar_epi32(transpose(), bytes);
            _mm512_storeu_si512(out.codes(chunk, row).add(64 * quarter).cast(), bytes);
            *partial_sums = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), bytes);
        }
        let halves = half_group_sums(partial_sums);
        let groups = _mm512_add_epi32(halves, _mm512_shuffle_epi32(halves, 0b10_11_00_01));
        let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 0, 2, 4, 6, 8, 10, 12, 14);
        let groups = _mm512_castsi512_si256(_mm512_permutexvar_epi32(even, groups));
        let zero = _mm512_setzero_si512();
        _mm512_storeu_si512(out.negated_half_sums(chunk, row).cast(), _mm512_sub_epi32(zero, halves));
        _mm256_storeu_si256(
            out.negated_sums(chunk, row).cast(),
            _mm256_sub_epi32(_mm512_castsi512_si256(zero), groups),
        );
        _mm256_storeu_ps(out.scaled_sums(chunk, row), _mm256_mul_ps(scales, _mm256_cvtepi32_ps(groups)));
        let twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
        let scales = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(scales));
        let scaled = _mm512_mul_ps(scales, _mm512_cvtepi32_ps(halves));
        _mm512_storeu_ps(out.scaled_half_sums(chunk, row), scaled);
    }
}

/// The permutation that transposes 4 × 4 elements.
#[inline(always)]
unsafe fn transpose() -> __m512i {
    // SAFETY: the caller has the features.
    unsafe { _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15) }
}

/// The largest of the 16 elements of each of 8 vectors, as unsigned integers.
#[inline(always)]
unsafe fn group_maxima(v: [__m512i; 8]) -> __m256i {
    // SAFETY: the caller has the features.
    unsafe {
        let pairs = |a, b| _mm512_max_epu32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let fours = |a, b| _mm512_max_epu32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
        // Each 128 bits hold a candidate for each of four vectors.
        let low = fours(pairs(v[0], v[1]), pairs(v[2], v[3]));
        let high = fours(pairs(v[4], v[5]), pairs(v[6], v[7]));
        let all = _mm512_max_epu32(
            _mm512_shuffle_i32x4(low, high, 0b01_00_01_00),
            _mm512_shuffle_i32x4(low, high, 0b11_10_11_10),
        );
        let all = _mm512_max_epu32(
            _mm512_shuffle_i32x4(all, all, 0b10_00_10_00),
            _mm512_shuffle_i32x4(all, all, 0b11_01_11_01),
        );
        _mm512_castsi512_si256(all)
    }
}

/// Scales of 8 groups, what their elements are multiplied by, and a bit for each group whose codes are not all zero.
#[inline(always)]
unsafe fn group_scales(largest: __m256i) -> (__m256, __m256, u8) {
    // SAFETY: the caller has the features.
    unsafe {
        let float = _mm256_castsi256_ps(largest);
        let finite = _mm256_cmplt_epu32_mask(largest, _mm256_set1_epi32(0x7f80_0000));
        let not_small = _mm256_cmp_ps_mask(float, _mm256_set1_ps(SMALLEST), _CMP_NLT_UQ);
        let c127 = _mm256_set1_ps(127.0);
        let scales = _mm256_maskz_div_ps(not_small, float, c127);
        let scales = _mm256_mask_mov_ps(_mm256_set1_ps(f32::NAN), finite, scales);
        (scales, _mm256_div_ps(c127, float), finite & not_small)
    }
}

/// Sums of 16 consecutive codes, from the sums of 4.
#[inline(always)]
unsafe fn half_group_sums(v: [__m512i; 4]) -> __m512i {
    // SAFETY: the caller has the features.
    unsafe {
        let pairs = |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (a, b) = (pairs(v[0], v[1]), pairs(v[2], v[3]));
        let sums = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
        _mm512_permutexvar_epi32(transpose(), sums)
    }
}

/// # Safety
/// As [`super::matmul`], whose checks were made; the processor has these features.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn matmul(task: &Task<'_>, scratch: &mut ScratchParts) {
    // SAFETY: the caller's promise.
    unsafe {
        with_format!(
            task.weight.dtype(),
            F => quantized::<F>(task, scratch),
            else float::product::<Zmm, 12>(task, scratch)
        )
    }
}

/// # Safety
/// As [`matmul`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn quantized<F: Format>(task: &Task<'_>, scratch: &mut ScratchParts) {
    // SAFETY: as the caller's.
    unsafe {
        match task.rows.1 - task.rows.0 {
            1 => few_rows::<F, 1>(task),
            2 => few_rows::<F, 2>(task),
            3 => few_rows::<F, 3>(task),
            4 => few_rows::<F, 4>(task),
            5 => few_rows::<F, 5>(task),
            FEW_ROWS => few_rows::<F, FEW_ROWS>(task),
            _ => integer::product::<F, Vnni>(task, scratch),
        }
    }
}

/// The eight quads of a packed group, as unsigned codes.
#[inline(always)]
pub(super) unsafe fn unpack_group<F: Format>(group: *const u8) -> [__m512i; 8] {
    let spec = &F::SPEC;
    // SAFETY: `group` points to a packed group.
    unsafe {
        let plane = |i: usize| _mm512_loadu_si512(group.add(64 * i).cast());
        let mut quads = [_mm512_setzero_si512(); 8];
        match spec.bits {
            8 => {
                for (q, quad) in quads.iter_mut().enumerate() {
                    *quad = plane(q);
                }
            }
            4..=6 => {
                let nibble = _mm512_set1_epi8(15);
                for j in 0..4 {
                    let both = plane(j);
                    quads[2 * j] = _mm512_and_si512(both, nibble);
                    quads[2 * j + 1] = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble);
                }
            }
            _ => {
                let pair = _mm512_set1_epi8(3);
                for j in 0..2 {
                    let four = plane(j);
                    quads[4 * j] = _mm512_and_si512(four, pair);
                    quads[4 * j + 1] = _mm512_and_si512(_mm512_srli_epi16(four, 2), pair);
                    quads[4 * j + 2] = _mm512_and_si512(_mm512_srli_epi16(four, 4), pair);
                    quads[4 * j + 3] = _mm512_and_si512(_mm512_srli_epi16(four, 6), pair);
                }
            }
        }
        match spec.bits {
            6 => {
                // 0xf8 is a | (b & c).
                let pair = _mm512_set1_epi8(0x30);
                for j in 0..2 {
                    let four = plane(4 + j);
                    let q = &mut quads[4 * j..4 * j + 4];
                    q[0] = _mm512_ternarylogic_epi32(q[0], _mm512_slli_epi16(four, 4), pair, 0xf8);
                    q[1] = _mm512_ternarylogic_epi32(q[1], _mm512_slli_epi16(four, 2), pair, 0xf8);
                    q[2] = _mm512_ternarylogic_epi32(q[2], four, pair, 0xf8);
                    q[3] = _mm512_ternarylogic_epi32(q[3], _mm512_srli_epi16(four, 2), pair, 0xf8);
                }
            }
            3 | 5 => {
                let bits = plane(if spec.bits == 3 { 2 } else { 4 });
                let high = _mm512_set1_epi8(1 << (spec.bits - 1));
                for (q, quad) in quads.iter_mut().enumerate() {
                    let set = _mm512_test_epi8_mask(bits, _mm512_set1_epi8(1 << q));
                    *quad = _mm512_mask_add_epi8(*quad, set, *quad, high);
                }
            }
            _ => {}
        }
        if let Some(table) = spec.table {
            let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
            for quad in &mut quads {
                *quad = _mm512_shuffle_epi8(table, *quad);
            }
        }
        quads
    }
}

/// Sixteen lanes in one register.
#[derive(Clone, Copy)]
pub(super) struct Zmm(__m512);

// SAFETY of all: the caller of a `Lanes` function has the features and valid pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Lanes for Zmm {
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { Zmm(_mm512_set1_ps(x)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Zmm(_mm512_loadu_ps(from)) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> Self {
        unsafe { Zmm(_mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn load_bf16_pairs(from: *const u8) -> [Self; 2] {
        unsafe {
            let pairs = _mm512_loadu_si512(from.cast());
            let second = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            [Zmm(_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16))), Zmm(_mm512_castsi512_ps(second))]
        }
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const u8) -> Self {
        unsafe { Zmm(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast())))) }
    }
    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> Self {
        unsafe { Zmm(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())))) }
    }
    #[inline(always)]
    unsafe fn load_nibbles(from: *const u8) -> [Self; 2] {
        unsafe {
            let both = _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()));
            let low = _mm512_and_si512(both, _mm512_set1_epi32(15));
            [Zmm(_mm512_cvtepi32_ps(low)), Zmm(_mm512_cvtepi32_ps(_mm512_srli_epi32(both, 4)))]
        }
    }
    #[inline(always)]
    unsafe fn load_exponents(from: *const u8) -> Self {
        unsafe {
            // Exponent field e − 1; for 0 and 1 the subnormals 2^−128 and 2^−127.
            let e = _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()));
            let normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
            let small = _mm512_cmplt_epu32_mask(e, _mm512_set1_epi32(2));
            let subnormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x0020_0000), e);
            Zmm(_mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, small, subnormal)))
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { Zmm(_mm512_add_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { Zmm(_mm512_mul_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn neg(self) -> Self {
        unsafe { Zmm(_mm512_xor_ps(self.0, _mm512_set1_ps(-0.0))) }
    }
    #[inline(always)]
    unsafe fn fma(self, x: Self, y: Self) -> Self {
        unsafe { Zmm(_mm512_fmadd_ps(self.0, x.0, y.0)) }
    }
}

/// Adds the products of one quad.
#[inline(always)]
unsafe fn dot(sum: __m512i, quad: __m512i, codes: *const i8) -> __m512i {
    // SAFETY: `codes` points to four codes.
    unsafe { _mm512_dpbusd_epi32(sum, quad, _mm512_set1_epi32(codes.cast::<i32>().read_unaligned())) }
}

/// `M` rows against the task's panels, unpacking in registers.
///
/// Weights are one stream from memory, which the processor fetches ahead by itself; fetching in software on top of that
/// costs a third of the bandwidth on Zen 4.
///
/// # Safety
/// As [`matmul`]; the task has `M` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn few_rows<F: Format, const M: usize>(task: &Task<'_>) {
    let spec = &F::SPEC;
    let a = task.activations;
    let first = task.rows.0;
    let parts = GROUP / spec.scale_group;
    let quads_of_part = 8 / parts;
    // SAFETY: pointers stay inside the panel and the activations' rows.
    unsafe {
        for panel in task.panels.0..task.panels.1 {
            let mut at = task.weight.panel(panel);
            let mut sums = [_mm512_setzero_ps(); M];
            for chunk in 0..task.weight.cols().div_ceil(CHUNK) {
                let groups = groups_of(task.weight.cols(), chunk);
                let scales = ChunkScales::<Zmm>::new::<F>(at.add(groups * spec.group_bytes()));
                let codes = a.codes(chunk, first);
                let a_scales = a.scales(chunk, first);
                for group in 0..groups {
                    let packed = at.add(group * spec.group_bytes());
                    let quads = unpack_group::<F>(packed);
                    for part in 0..parts {
                        let index = group * parts + part;
                        let (Zmm(scale), Zmm(addend)) = scales.group::<F>(index);
                        for (m, sum) in sums.iter_mut().enumerate() {
                            let mut dots = _mm512_setzero_si512();
                            if spec.centred {
                                let negated = if parts == 1 {
                                    *a.negated_sums(chunk, first + m).add(index)
                                } else {
                                    *a.negated_half_sums(chunk, first + m).add(index)
                                };
                                dots = _mm512_set1_epi32(negated << spec.zero_shift);
                            }
                            let codes = codes.add(m * CHUNK + group * GROUP + part * quads_of_part * 4);
                            let quads = &quads[part * quads_of_part..(part + 1) * quads_of_part];
                            for (q, quad) in quads.iter().enumerate() {
                                dots = dot(dots, *quad, codes.add(q * 4));
                            }
                            let a_scale = _mm512_set1_ps(*a_scales.add(m * CHUNK_GROUPS + group));
                            *sum = _mm512_fmadd_ps(
                                _mm512_cvtepi32_ps(dots),
                                _mm512_mul_ps(scale, a_scale),
                                *sum,
                            );
                            if spec.mins {
                                let scaled_sum = if parts == 1 {
                                    *a.scaled_sums(chunk, first + m).add(index)
                                } else {
                                    *a.scaled_half_sums(chunk, first + m).add(index)
                                };
                                *sum = _mm512_fmadd_ps(addend, _mm512_set1_ps(scaled_sum), *sum);
                            }
                        }
                    }
                }
                at = at.add(spec.chunk_bytes(groups));
            }
            for (m, sum) in sums.iter().enumerate() {
                task.store(first + m, panel, (&raw const *sum).cast());
            }
        }
    }
}

/// The integer half of the kernels.
struct Vnni;

impl Integer for Vnni {
    type Lanes = Zmm;

    #[inline(always)]
    unsafe fn unpack_codes<F: Format>(group: *const u8, out: &mut [u8; GROUP_CODES]) {
        // SAFETY: the caller's promise; a group has eight quads.
        unsafe {
            for (quad, out) in unpack_group::<F>(group).iter().zip(out.chunks_exact_mut(64)) {
                _mm512_storeu_si512(out.as_mut_ptr().cast(), *quad);
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
        let spec = &F::SPEC;
        const { assert!(F::SPEC.centred != F::SPEC.mins) };
        let mut rest = block;
        let mut sums = sums.as_mut_ptr();
        while rest.rows > 0 {
            // Blocks as equal as can be: a short one cannot hide the latency of its multiply-adds.
            let rows = if rest.rows >= 24 { 12 } else { rest.rows.div_ceil(rest.rows.div_ceil(12)) };
            let now = Block { rows, ..rest };
            // SAFETY: the caller's promise.
            unsafe {
                match (spec.scale_group == 16, spec.mins) {
                    (false, false) => rows_of::<false, false>(task, unpacked, now, sums, spec.zero_shift),
                    (false, true) => rows_of::<false, true>(task, unpacked, now, sums, 0),
                    (true, false) => rows_of::<true, false>(task, unpacked, now, sums, spec.zero_shift),
                    (true, true) => rows_of::<true, true>(task, unpacked, now, sums, 0),
                }
                sums = sums.add(rows);
            }
            rest.row += rows;
            rest.rows -= rows;
        }
    }
}

/// A block of up to 12 rows; `HALVES` if scales cover 16 elements.
///
/// # Safety
/// As [`matmul`]; the block lies inside the task, and `sums` has its rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn rows_of<const HALVES: bool, const MINS: bool>(
    task: &Task<'_>,
    unpacked: &Unpacked,
    at: Block,
    sums: *mut [f32; PANEL_ROWS],
    zero_shift: u32,
) {
    let a = &task.activations;
    // SAFETY: the caller's promise.
    unsafe {
        match at.rows {
            1 => rows_block::<HALVES, MINS, 1>(a, unpacked, at, sums, zero_shift),
            2 => rows_block::<HALVES, MINS, 2>(a, unpacked, at, sums, zero_shift),
            3 => rows_block::<HALVES, MINS, 3>(a, unpacked, at, sums, zero_shift),
            4 => rows_block::<HALVES, MINS, 4>(a, unpacked, at, sums, zero_shift),
            5 => rows_block::<HALVES, MINS, 5>(a, unpacked, at, sums, zero_shift),
            6 => rows_block::<HALVES, MINS, 6>(a, unpacked, at, sums, zero_shift),
            7 => rows_block::<HALVES, MINS, 7>(a, unpacked, at, sums, zero_shift),
            8 => rows_block::<HALVES, MINS, 8>(a, unpacked, at, sums, zero_shift),
            9 => rows_block::<HALVES, MINS, 9>(a, unpacked, at, sums, zero_shift),
            10 => rows_block::<HALVES, MINS, 10>(a, unpacked, at, sums, zero_shift),
            11 => rows_block::<HALVES, MINS, 11>(a, unpacked, at, sums, zero_shift),
            12 => rows_block::<HALVES, MINS, 12>(a, unpacked, at, sums, zero_shift),
            rows => unreachable!("a block of {rows} rows"),
        }
    }
}

/// # Safety
/// As [`rows_of`]; the block has `M` rows.
#[inline(always)]
unsafe fn rows_block<const HALVES: bool, const MINS: bool, const M: usize>(
    a: &Activations,
    unpacked: &Unpacked,
    at: Block,
    sums: *mut [f32; PANEL_ROWS],
    zero_shift: u32,
) {
    let Block { chunk, groups, row, .. } = at;
    let parts = if HALVES { 2 } else { 1 };
    let quads_of_part = 8 / parts;
    let sums_of_row = CHUNK_GROUPS * parts;
    // SAFETY: the rows are inside the view, and `sums` has `M` of them.
    unsafe {
        let codes = a.codes(chunk, row);
        let a_scales = a.scales(chunk, row);
        let scaled_sums = if HALVES { a.scaled_half_sums(chunk, row) } else { a.scaled_sums(chunk, row) };
        // What accumulators start from, −Z · Σ a, for all groups of a row at once.
        let mut starts = [_mm512_setzero_si512(); M];
        if !MINS {
            let shift = _mm_cvtsi32_si128(zero_shift as i32);
            for (m, start) in starts.iter_mut().enumerate() {
                let negated = if HALVES {
                    _mm512_loadu_si512(a.negated_half_sums(chunk, row + m).cast())
                } else {
                    _mm512_castsi256_si512(_mm256_loadu_si256(a.negated_sums(chunk, row + m).cast()))
                };
                *start = _mm512_sll_epi32(negated, shift);
            }
        }
        let starts: *const i32 = (&raw const starts).cast();
        let mut totals = [_mm512_setzero_ps(); M];
        for (m, total) in totals.iter_mut().enumerate() {
            *total = _mm512_loadu_ps(sums.add(m).cast());
        }
        for group in 0..groups {
            let weights = unpacked.codes[group].as_ptr();
            for part in 0..parts {
                let index = group * parts + part;
                let mut dots = [_mm512_setzero_si512(); M];
                if !MINS {
                    for (m, dots) in dots.iter_mut().enumerate() {
                        *dots = _mm512_set1_epi32(*starts.add(m * 16 + index));
                    }
                }
                for q in part * quads_of_part..(part + 1) * quads_of_part {
                    let quad = _mm512_load_si512(weights.add(q * 64).cast());
                    for (m, dots) in dots.iter_mut().enumerate() {
                        *dots = dot(*dots, quad, codes.add(m * CHUNK + group * GROUP + q * 4));
                    }
                }
                let scale = _mm512_load_ps(unpacked.scales[index].as_ptr());
                for (m, total) in totals.iter_mut().enumerate() {
                    let a_scale = _mm512_set1_ps(*a_scales.add(m * CHUNK_GROUPS + group));
                    let scale = _mm512_mul_ps(scale, a_scale);
                    *total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[m]), scale, *total);
                }
                if MINS {
                    let addend = _mm512_load_ps(unpacked.addends[index].as_ptr());
                    for (m, total) in totals.iter_mut().enumerate() {
                        let sum = _mm512_set1_ps(*scaled_sums.add(m * sums_of_row + index));
                        *total = _mm512_fmadd_ps(addend, sum, *total);
                    }
                }
            }
        }
        for (m, total) in totals.iter().enumerate() {
            _mm512_storeu_ps(sums.add(m).cast(), *total);
        }
    }
}
