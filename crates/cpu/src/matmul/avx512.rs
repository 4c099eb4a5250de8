//! Kernels for AVX-512 with VNNI.
//!
//! `vpdpbusd` multiplies 4 unsigned by 4 signed bytes and adds them to each of 16 sums. The weights' codes are the
//! unsigned operand, 16 rows at once; four codes of one row of activations, broadcast from memory, are the signed one.
//!
//! Helpers are `inline(always)` without `target_feature`: they only ever become part of the two entry functions, which
//! have it. Their `# Safety` is the same throughout: the processor has the features of [`matmul`].

use super::format::{CHUNK, CHUNK_GROUPS, Format, GROUP, with_format};
use super::lanes::{ChunkScales, Lanes, groups_of};
use super::{ActivationKind, Activations, ScratchParts, Task, bf16, float, prefetch_later};
use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

/// Rows of a set, at most: their sums and the group's integers fill half of the registers.
const SET: usize = 8;
/// Rows that a panel is run over before the next one: few enough for their codes to stay in the second-level cache.
const ROWS: usize = 64;
/// How far ahead of a product its weights are fetched, in bytes.
const AHEAD: usize = 8 << 10;

/// # Safety
/// As [`super::matmul`], whose checks were made; the processor has these features.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn matmul(task: &Task<'_>, scratch: &mut ScratchParts) {
    // SAFETY: the caller's promise; activations are BF16 only where the processor multiplies it.
    unsafe {
        if task.activations.shape().kind() == ActivationKind::Bf16 {
            return bf16::product(task);
        }
        with_format!(
            task.weight.dtype(),
            F => quantized::<F>(task),
            else float::product::<Zmm, 12>(task, scratch)
        )
    }
}

/// A product, by [`SET`]s of rows whose sums are in registers from the first group of a panel to the last. A panel is
/// unpacked again for each set, in pipes that the products leave idle: unpacked once to memory for all of them, a product
/// takes a tenth longer on Zen 4.
///
/// # Safety
/// As [`matmul`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn quantized<F: Format>(task: &Task<'_>) {
    let (first, end) = task.rows;
    for block in (first..end).step_by(ROWS) {
        let end = end.min(block + ROWS);
        for panel in task.panels.0..task.panels.1 {
            let mut row = block;
            while row < end {
                // Sets of about the same size.
                let set = (end - row).div_ceil((end - row).div_ceil(SET));
                let place = Place { panel, row, first: row == block };
                // SAFETY: as the caller's; the set is inside the task.
                unsafe {
                    match set {
                        1 => multiply::<F, 1>(task, place),
                        2 => multiply::<F, 2>(task, place),
                        3 => multiply::<F, 3>(task, place),
                        4 => multiply::<F, 4>(task, place),
                        5 => multiply::<F, 5>(task, place),
                        6 => multiply::<F, 6>(task, place),
                        7 => multiply::<F, 7>(task, place),
                        _ => multiply::<F, SET>(task, place),
                    }
                }
                row += set;
            }
        }
    }
}

/// Where a set of rows is in a product.
#[derive(Clone, Copy)]
struct Place {
    panel: usize,
    /// First row of activations.
    row: usize,
    /// Whether the panel was not read for another set just before.
    first: bool,
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

/// The products of quad `$q` with each of the rows `$m`.
macro_rules! quad_by_rows {
    ($q:literal: $($m:literal)*) => {
        concat!($(
            "vpdpbusd {d", $m, "}, {q", $q, "}, dword ptr [{codes} + ", $m, " * 256 + ", $q, " * 4]{{1to16}}\n"
        ),*)
    };
}

/// The products of four quads with some rows, one quad after another.
macro_rules! quads_by_rows {
    ($quads:ident, $codes:ident, $dots:ident: $($m:literal $d:ident)*) => {
        asm!(
            quad_by_rows!(0: $($m)*),
            quad_by_rows!(1: $($m)*),
            quad_by_rows!(2: $($m)*),
            quad_by_rows!(3: $($m)*),
            codes = in(reg) $codes,
            $($d = inout(zmm_reg) $dots[$m],)*
            q0 = in(zmm_reg) $quads[0],
            q1 = in(zmm_reg) $quads[1],
            q2 = in(zmm_reg) $quads[2],
            q3 = in(zmm_reg) $quads[3],
            options(pure, readonly, nostack, preserves_flags),
        )
    };
}

/// Adds the products of four quads with `R` rows, whose codes are a chunk apart.
///
/// In sets of many rows the products of one quad stand together: each needs another row's sum, and none waits. LLVM puts
/// a row's products one after another, of which each needs the sum of the one before, and the processor does not look
/// far enough ahead to fill the gaps: 3 to 8 % slower on Zen 4.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn add_quads<const R: usize>(quads: &[__m512i; 4], codes: *const i8, dots: &mut [__m512i; R]) {
    const { assert!(CHUNK == 256) };
    // SAFETY: each row has the codes.
    unsafe {
        match R {
            8 => quads_by_rows!(quads, codes, dots: 0 d0 1 d1 2 d2 3 d3 4 d4 5 d5 6 d6 7 d7),
            7 => quads_by_rows!(quads, codes, dots: 0 d0 1 d1 2 d2 3 d3 4 d4 5 d5 6 d6),
            6 => quads_by_rows!(quads, codes, dots: 0 d0 1 d1 2 d2 3 d3 4 d4 5 d5),
            5 => quads_by_rows!(quads, codes, dots: 0 d0 1 d1 2 d2 3 d3 4 d4),
            _ => {
                for (q, quad) in quads.iter().enumerate() {
                    for (m, dots) in dots.iter_mut().enumerate() {
                        *dots = dot(*dots, *quad, codes.add(m * CHUNK + q * 4));
                    }
                }
            }
        }
    }
}

/// Cache lines of a chunk of 8 groups for each of them.
const fn lines_of_group<F: Format>() -> usize {
    F::SPEC.chunk_bytes(CHUNK_GROUPS).div_ceil(64 * CHUNK_GROUPS)
}

/// Scales and addends of a packed group: one of each, or two.
#[inline(always)]
unsafe fn scales_of<F: Format>(scales: &ChunkScales<Zmm>, group: usize) -> [(Zmm, Zmm); 2] {
    // SAFETY: the chunk has the group.
    unsafe {
        match F::SPEC.scale_group {
            GROUP => [scales.group::<F>(group); 2],
            _ => [scales.group::<F>(2 * group), scales.group::<F>(2 * group + 1)],
        }
    }
}

/// What the sums of a chunk's groups, or half-groups, start from in one row of activations: codes count from level 0, and
/// the products of the unsigned ones that the kernel adds are more by the code of level 0 times the sum of activations.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Starts([i32; 2 * CHUNK_GROUPS]);

/// Those of rows from `row` on; nothing for a type whose level 0 is code 0.
#[inline(always)]
unsafe fn starts<F: Format, const R: usize>(
    a: &Activations,
    chunk: usize,
    row: usize,
) -> [MaybeUninit<Starts>; R] {
    let spec = &F::SPEC;
    let mut starts = [MaybeUninit::<Starts>::uninit(); R];
    if spec.centred {
        let (from, step) = if spec.scale_group == GROUP {
            (a.negated_sums(chunk, row), CHUNK_GROUPS)
        } else {
            (a.negated_half_sums(chunk, row), 2 * CHUNK_GROUPS)
        };
        for (m, starts) in starts.iter_mut().enumerate() {
            // SAFETY: the rows are inside the view, which has bytes behind the last.
            unsafe {
                let negated = _mm512_loadu_si512(from.add(m * step).cast());
                let shift = _mm_cvtsi32_si128(spec.zero_shift as i32);
                _mm512_store_si512(starts.as_mut_ptr().cast(), _mm512_sll_epi32(negated, shift));
            }
        }
    }
    starts
}

/// Adds the products of a group, in registers, with the rows `row .. row + R` to their sums.
#[inline(always)]
unsafe fn add_group<F: Format, const R: usize>(
    a: &Activations,
    (chunk, row, group): (usize, usize, usize),
    quads: &[__m512i; 8],
    scales: &[(Zmm, Zmm); 2],
    starts: &[MaybeUninit<Starts>; R],
    sums: &mut [__m512; R],
) {
    let spec = &F::SPEC;
    let parts = GROUP / spec.scale_group;
    // SAFETY: the rows are inside the view.
    unsafe {
        let codes = a.codes(chunk, row).add(group * GROUP);
        let shifts = a.shifts(chunk, row).add(group);
        let shifted_sums =
            if parts == 1 { a.shifted_sums(chunk, row) } else { a.shifted_half_sums(chunk, row) };
        for (part, (Zmm(scale), Zmm(addend))) in scales.iter().enumerate().take(parts) {
            let sum_of = |m: usize| m * parts * CHUNK_GROUPS + group * parts + part;
            let mut dots = [_mm512_setzero_si512(); R];
            if spec.centred {
                for (m, dots) in dots.iter_mut().enumerate() {
                    *dots = _mm512_set1_epi32(starts[m].assume_init_ref().0[group * parts + part]);
                }
            }
            for (half, quads) in quads.as_chunks().0.iter().enumerate() {
                if parts == 1 || half == part {
                    add_quads(quads, codes.add(half * GROUP / 2), &mut dots);
                }
            }
            for (m, sum) in sums.iter_mut().enumerate() {
                let shift = _mm512_set1_epi32(*shifts.add(m * CHUNK_GROUPS));
                let dots = _mm512_cvtepi32_ps(_mm512_sllv_epi32(dots[m], shift));
                *sum = _mm512_fmadd_ps(dots, *scale, *sum);
                if spec.mins {
                    let shifted_sum = _mm512_set1_ps(*shifted_sums.add(sum_of(m)));
                    *sum = _mm512_fmadd_ps(*addend, shifted_sum, *sum);
                }
            }
        }
    }
}

/// A set of `R` rows against a panel.
///
/// Weights are one stream from memory, in the order of addresses, which the processor fetches ahead by itself: for one
/// row, fetching in software on top of that costs a sixth of the bandwidth on Zen 4. With more arithmetic between the
/// loads it is the other way round.
///
/// # Safety
/// As [`matmul`]; the set is inside the task.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn multiply<F: Format, const R: usize>(task: &Task<'_>, Place { panel, row, first }: Place) {
    let spec = &F::SPEC;
    // SAFETY: pointers stay inside the panel and the activations' rows.
    unsafe {
        let mut at = task.weight.panel(panel);
        let mut sums = [_mm512_setzero_ps(); R];
        for chunk in 0..task.weight.cols().div_ceil(CHUNK) {
            let groups = groups_of(task.weight.cols(), chunk);
            let scales = ChunkScales::<Zmm>::new::<F>(at);
            let codes = at.add(spec.codes_at(groups));
            let starts = starts::<F, R>(&task.activations, chunk, row);
            for group in 0..groups {
                if R > 2 && first {
                    let lines = const { lines_of_group::<F>() };
                    for line in 0..lines {
                        prefetch_later(at.wrapping_add(AHEAD + (group * lines + line) * 64));
                    }
                }
                let quads = unpack_group::<F>(codes.add(group * spec.group_bytes()));
                let scales = scales_of::<F>(&scales, group);
                add_group::<F, R>(
                    &task.activations,
                    (chunk, row, group),
                    &quads,
                    &scales,
                    &starts,
                    &mut sums,
                );
            }
            at = at.add(spec.chunk_bytes(groups));
        }
        for (m, sum) in sums.iter().enumerate() {
            task.store_scaled(row + m, panel, Zmm(*sum));
        }
    }
}
