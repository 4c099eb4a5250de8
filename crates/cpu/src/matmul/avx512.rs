//! Kernels for AVX-512 with VNNI.
//!
//! `vpdpbusd` multiplies 4 unsigned by 4 signed bytes and adds them to each of 16 sums. The weights' codes are the
//! unsigned operand, 16 rows at once; four codes of one row of activations, broadcast from memory, are the signed one.
//!
//! Helpers are `inline(always)` without `target_feature`: they only ever become part of the two entry functions, which
//! have it. Their `# Safety` is the same throughout: the processor has the features of [`matmul`].

use super::activations::{ActivationKind, quantize_row_portable};
use super::format::{
    CHUNK, CHUNK_GROUPS, Format, GROUP, GROUP_CODES, PANEL_ROWS, Scales, float_len, with_format,
};
use super::unpack::Unpacked;
use super::{Activations, ROW_BLOCK, ScratchParts, Task};
use autarky_quant::DType;
use std::arch::x86_64::*;

/// Up to this many rows, a group is unpacked in registers and used at once.
const FEW_ROWS: usize = 4;
/// How far ahead of its use packed weights are fetched, in bytes.
const PREFETCH: usize = 4096;

/// # Safety
/// As [`super::quantize_row`]; the processor has these features.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn quantize_row(x: &[f32], out: &Activations, row: usize) {
    // SAFETY: the caller's promise.
    unsafe { quantize_row_portable(x, out, row) }
}

/// # Safety
/// As [`super::matmul`], whose checks were made; the processor has these features.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn matmul(task: &Task<'_>, scratch: &mut ScratchParts) {
    debug_assert!(task.activations.shape().kind() != ActivationKind::Bf16);
    // SAFETY: the caller's promise.
    unsafe {
        with_format!(task.weight.dtype(), F => quantized::<F>(task, scratch), else float(task, scratch))
    }
}

/// # Safety
/// As [`matmul`].
#[inline(always)]
unsafe fn quantized<F: Format>(task: &Task<'_>, scratch: &mut ScratchParts) {
    let (start, end) = task.rows;
    // SAFETY: as the caller's.
    unsafe {
        match end - start {
            1 => few_rows::<F, 1>(task),
            2 => few_rows::<F, 2>(task),
            3 => few_rows::<F, 3>(task),
            FEW_ROWS => few_rows::<F, FEW_ROWS>(task),
            _ => {
                for first in (start..end).step_by(ROW_BLOCK) {
                    let rows = ROW_BLOCK.min(end - first);
                    for panel in task.panels.0..task.panels.1 {
                        many_rows::<F>(task, scratch, panel, first, rows);
                    }
                }
            }
        }
    }
}

/// The eight quads of a packed group, as unsigned codes.
#[inline(always)]
unsafe fn unpack_group<F: Format>(group: *const u8) -> [__m512i; 8] {
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

/// 16 f16 numbers.
#[inline(always)]
unsafe fn load_halves(from: *const u8) -> __m512 {
    // SAFETY: `from` points to 32 bytes.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
}

/// The scales of a packed chunk.
struct ChunkScales {
    d: __m512,
    dmin: __m512,
    at: *const u8,
}

impl ChunkScales {
    #[inline(always)]
    unsafe fn new<F: Format>(scales: *const u8) -> ChunkScales {
        let spec = &F::SPEC;
        // SAFETY: `scales` points to the scales of a packed chunk.
        unsafe {
            let zero = _mm512_setzero_ps();
            match spec.scales {
                Scales::Plain | Scales::Exponent => ChunkScales { d: zero, dmin: zero, at: scales },
                Scales::Super | Scales::SuperNibbles if spec.mins => ChunkScales {
                    d: load_halves(scales),
                    dmin: load_halves(scales.add(32)),
                    at: scales.add(64),
                },
                Scales::Super | Scales::SuperNibbles => {
                    ChunkScales { d: load_halves(scales), dmin: zero, at: scales.add(32) }
                }
            }
        }
    }

    /// The scales and negated minima of scale group `index` of the chunk.
    #[inline(always)]
    unsafe fn group<F: Format>(&self, index: usize) -> (__m512, __m512) {
        let spec = &F::SPEC;
        let negate = |v: __m512| unsafe { _mm512_xor_ps(v, _mm512_set1_ps(-0.0)) };
        let each = if spec.mins { 2 } else { 1 };
        // SAFETY: the scale group is inside the chunk.
        unsafe {
            let zero = _mm512_setzero_ps();
            let bytes = |slot: usize| _mm_loadu_si128(self.at.add(slot * PANEL_ROWS).cast());
            match spec.scales {
                Scales::Plain => {
                    let d = load_halves(self.at.add(index * each * 32));
                    let min = if spec.mins { load_halves(self.at.add((index * 2 + 1) * 32)) } else { zero };
                    (d, negate(min))
                }
                Scales::Exponent => {
                    // 2^(e−128): exponent field e−1, or for 0 and 1 the subnormals 2^−128 and 2^−127.
                    let e = _mm512_cvtepu8_epi32(bytes(index));
                    let normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
                    let small = _mm512_cmplt_epu32_mask(e, _mm512_set1_epi32(2));
                    let subnormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x0020_0000), e);
                    (_mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, small, subnormal)), zero)
                }
                Scales::Super => {
                    let scale = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes(index * each)));
                    let d = _mm512_mul_ps(self.d, scale);
                    if !spec.mins {
                        return (d, zero);
                    }
                    let min = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes(index * 2 + 1)));
                    (d, negate(_mm512_mul_ps(self.dmin, min)))
                }
                Scales::SuperNibbles => {
                    let both = _mm512_cvtepu8_epi32(bytes(index));
                    let scale = _mm512_and_si512(both, _mm512_set1_epi32(15));
                    let min = _mm512_srli_epi32(both, 4);
                    let d = _mm512_mul_ps(self.d, _mm512_cvtepi32_ps(scale));
                    (d, negate(_mm512_mul_ps(self.dmin, _mm512_cvtepi32_ps(min))))
                }
            }
        }
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
                let groups = (task.weight.cols() - chunk * CHUNK).min(CHUNK) / GROUP;
                let chunk_scales = at.add(groups * spec.group_bytes());
                let scales = ChunkScales::new::<F>(chunk_scales);
                let codes = a.codes(chunk, first);
                let a_scales = a.scales(chunk, first);
                for line in (0..spec.scale_bytes(groups)).step_by(64) {
                    prefetch(chunk_scales.wrapping_add(line));
                }
                for group in 0..groups {
                    let packed = at.add(group * spec.group_bytes());
                    for line in (0..spec.group_bytes()).step_by(64) {
                        prefetch(packed.wrapping_add(line));
                    }
                    let quads = unpack_group::<F>(packed);
                    for part in 0..parts {
                        let index = group * parts + part;
                        let (scale, addend) = scales.group::<F>(index);
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
                            for q in part * quads_of_part..(part + 1) * quads_of_part {
                                dots = dot(dots, quads[q], codes.add(m * CHUNK + group * GROUP + q * 4));
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

#[inline(always)]
unsafe fn prefetch(at: *const u8) {
    // SAFETY: a prefetch never faults, whatever the address.
    unsafe { _mm_prefetch(at.wrapping_add(PREFETCH).cast(), _MM_HINT_T0) }
}

/// `rows` rows from `first` on against one panel, a chunk at a time through the scratch.
///
/// # Safety
/// As [`matmul`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn many_rows<F: Format>(
    task: &Task<'_>,
    scratch: &mut ScratchParts,
    panel: usize,
    first: usize,
    rows: usize,
) {
    let spec = &F::SPEC;
    let ScratchParts { unpacked, sums, .. } = scratch;
    sums[..rows].fill([0.0; PANEL_ROWS]);
    // SAFETY: pointers stay inside the panel and the activations' rows.
    unsafe {
        let mut at = task.weight.panel(panel);
        for chunk in 0..task.weight.cols().div_ceil(CHUNK) {
            let groups = (task.weight.cols() - chunk * CHUNK).min(CHUNK) / GROUP;
            unpack_chunk::<F>(at, groups, unpacked);
            at = at.add(spec.chunk_bytes(groups));
            let mut row = 0;
            while rows - row >= 12 {
                block::<F, 12>(task, unpacked, groups, chunk, first + row, sums[row..].as_mut_ptr());
                row += 12;
            }
            if rows - row >= 8 {
                block::<F, 8>(task, unpacked, groups, chunk, first + row, sums[row..].as_mut_ptr());
                row += 8;
            }
            if rows - row >= 4 {
                block::<F, 4>(task, unpacked, groups, chunk, first + row, sums[row..].as_mut_ptr());
                row += 4;
            }
            while row < rows {
                block::<F, 1>(task, unpacked, groups, chunk, first + row, sums[row..].as_mut_ptr());
                row += 1;
            }
        }
        for (row, sums) in sums[..rows].iter().enumerate() {
            task.store(first + row, panel, sums.as_ptr());
        }
    }
}

#[inline(always)]
unsafe fn unpack_chunk<F: Format>(chunk: *const u8, groups: usize, out: &mut Unpacked) {
    let spec = &F::SPEC;
    // SAFETY: `chunk` points to a packed chunk of `groups` groups.
    unsafe {
        let scales = ChunkScales::new::<F>(chunk.add(groups * spec.group_bytes()));
        for (group, out) in out.codes[..groups].iter_mut().enumerate() {
            let quads = unpack_group::<F>(chunk.add(group * spec.group_bytes()));
            let out: *mut [u8; GROUP_CODES] = out;
            for (q, quad) in quads.iter().enumerate() {
                _mm512_store_si512(out.cast::<__m512i>().add(q), *quad);
            }
        }
        for index in 0..groups * GROUP / spec.scale_group {
            let (scale, addend) = scales.group::<F>(index);
            _mm512_store_ps(out.scales[index].as_mut_ptr(), scale);
            if spec.mins {
                _mm512_store_ps(out.addends[index].as_mut_ptr(), addend);
            }
        }
    }
}

/// `M` rows from `row` on against an unpacked chunk; `sums` are theirs.
#[inline(always)]
unsafe fn block<F: Format, const M: usize>(
    task: &Task<'_>,
    unpacked: &Unpacked,
    groups: usize,
    chunk: usize,
    row: usize,
    sums: *mut [f32; PANEL_ROWS],
) {
    let spec = &F::SPEC;
    let a = task.activations;
    let parts = GROUP / spec.scale_group;
    let quads_of_part = 8 / parts;
    // SAFETY: the rows are inside the view, and `sums` has `M` of them.
    unsafe {
        let codes = a.codes(chunk, row);
        let a_scales = a.scales(chunk, row);
        let scaled_sums = if parts == 1 { a.scaled_sums(chunk, row) } else { a.scaled_half_sums(chunk, row) };
        // What accumulators start from, shifted for all groups at once.
        let mut starts = [[_mm512_setzero_si512(); 1]; M];
        let sums_of_row = CHUNK_GROUPS * parts;
        if spec.centred {
            for (m, start) in starts.iter_mut().enumerate() {
                let negated = if parts == 1 {
                    _mm512_castsi256_si512(_mm256_loadu_si256(a.negated_sums(chunk, row + m).cast()))
                } else {
                    _mm512_loadu_si512(a.negated_half_sums(chunk, row + m).cast())
                };
                start[0] = _mm512_sll_epi32(negated, _mm_cvtsi32_si128(spec.zero_shift as i32));
            }
        }
        let starts: *const i32 = (&raw const starts).cast();
        let mut totals = [_mm512_setzero_ps(); M];
        for (m, total) in totals.iter_mut().enumerate() {
            *total = _mm512_load_ps(sums.add(m).cast());
        }
        for group in 0..groups {
            let weights = unpacked.codes[group].as_ptr();
            for part in 0..parts {
                let index = group * parts + part;
                let mut dots = [_mm512_setzero_si512(); M];
                if spec.centred {
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
                if spec.mins {
                    let addend = _mm512_load_ps(unpacked.addends[index].as_ptr());
                    for (m, total) in totals.iter_mut().enumerate() {
                        let sum = _mm512_set1_ps(*scaled_sums.add(m * sums_of_row + index));
                        *total = _mm512_fmadd_ps(addend, sum, *total);
                    }
                }
            }
        }
        for (m, total) in totals.iter().enumerate() {
            _mm512_store_ps(sums.add(m).cast(), *total);
        }
    }
}

/// Panels that [`float_few`] runs side by side, so that each sum's chain of additions does not wait for itself.
const SIDE_BY_SIDE: usize = 4;

/// # Safety
/// As [`matmul`].
#[inline(always)]
unsafe fn float(task: &Task<'_>, scratch: &mut ScratchParts) {
    // SAFETY: as the caller's.
    unsafe {
        match task.weight.dtype() {
            DType::F32 => float_of::<F32>(task, scratch),
            DType::F16 => float_of::<F16>(task, scratch),
            _ => float_of::<Bf16>(task, scratch),
        }
    }
}

/// A float type's packed chunk.
trait Widen {
    const DTYPE: DType;
    /// Elements `k` and `k + 1` of 16 rows; `k` is even.
    ///
    /// # Safety
    /// `chunk` points to a packed chunk with both elements.
    unsafe fn two(chunk: *const u8, k: usize) -> [__m512; 2];
    /// Element `k` of 16 rows; `k` is even.
    ///
    /// # Safety
    /// `chunk` points to a packed chunk with the element.
    unsafe fn one(chunk: *const u8, k: usize) -> __m512;
}

struct F32;
struct F16;
struct Bf16;

impl Widen for F32 {
    const DTYPE: DType = DType::F32;
    #[inline(always)]
    unsafe fn two(chunk: *const u8, k: usize) -> [__m512; 2] {
        // SAFETY: the caller's promise.
        unsafe { [_mm512_loadu_ps(chunk.add(k * 64).cast()), _mm512_loadu_ps(chunk.add(k * 64 + 64).cast())] }
    }
    #[inline(always)]
    unsafe fn one(chunk: *const u8, k: usize) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(chunk.add(k * 64).cast()) }
    }
}

impl Widen for F16 {
    const DTYPE: DType = DType::F16;
    #[inline(always)]
    unsafe fn two(chunk: *const u8, k: usize) -> [__m512; 2] {
        // SAFETY: the caller's promise.
        unsafe { [load_halves(chunk.add(k * 32)), load_halves(chunk.add(k * 32 + 32))] }
    }
    #[inline(always)]
    unsafe fn one(chunk: *const u8, k: usize) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { load_halves(chunk.add(k * 32)) }
    }
}

impl Widen for Bf16 {
    const DTYPE: DType = DType::BF16;
    #[inline(always)]
    unsafe fn two(chunk: *const u8, k: usize) -> [__m512; 2] {
        // SAFETY: the caller's promise; a pair of elements of a row is one 32-bit lane.
        unsafe {
            let pairs = _mm512_loadu_si512(chunk.add(k * 32).cast());
            let high = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            [_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)), _mm512_castsi512_ps(high)]
        }
    }
    #[inline(always)]
    unsafe fn one(chunk: *const u8, k: usize) -> __m512 {
        // SAFETY: the caller's promise; chunks are padded to whole pairs.
        unsafe { Self::two(chunk, k)[0] }
    }
}

/// # Safety
/// As [`matmul`].
#[inline(always)]
unsafe fn float_of<W: Widen>(task: &Task<'_>, scratch: &mut ScratchParts) {
    let (start, end) = task.rows;
    // SAFETY: as the caller's.
    unsafe {
        if end - start <= 2 {
            for row in start..end {
                let mut panel = task.panels.0;
                while task.panels.1 - panel >= SIDE_BY_SIDE {
                    float_few::<W, SIDE_BY_SIDE>(task, panel, row);
                    panel += SIDE_BY_SIDE;
                }
                while panel < task.panels.1 {
                    float_few::<W, 1>(task, panel, row);
                    panel += 1;
                }
            }
            return;
        }
        for first in (start..end).step_by(ROW_BLOCK) {
            let rows = ROW_BLOCK.min(end - first);
            for panel in task.panels.0..task.panels.1 {
                float_many::<W>(task, scratch, panel, first, rows);
            }
        }
    }
}

/// One row against `P` panels.
///
/// # Safety
/// As [`matmul`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn float_few<W: Widen, const P: usize>(task: &Task<'_>, panel: usize, row: usize) {
    let cols = task.weight.cols();
    let mut totals = [[0.0f32; PANEL_ROWS]; P];
    // SAFETY: pointers stay inside the panels and the activations' row.
    unsafe {
        for chunk in 0..cols.div_ceil(CHUNK) {
            let len = (cols - chunk * CHUNK).min(CHUNK);
            // Only the last chunk is shorter, so the earlier ones are full.
            let offset = chunk * CHUNK * PANEL_ROWS * W::DTYPE.block_bytes();
            let x = task.activations.floats(chunk, row);
            let at: [*const u8; P] = std::array::from_fn(|p| task.weight.panel(panel + p).add(offset));
            let mut parts = [_mm512_setzero_ps(); P];
            for k in (0..len - len % 2).step_by(2) {
                let (x0, x1) = (_mm512_set1_ps(*x.add(k)), _mm512_set1_ps(*x.add(k + 1)));
                for (part, at) in parts.iter_mut().zip(at) {
                    let step = 2 * PANEL_ROWS * W::DTYPE.block_bytes();
                    for line in (0..step).step_by(64) {
                        prefetch(at.wrapping_add(k / 2 * step + line));
                    }
                    let [w0, w1] = W::two(at, k);
                    *part = _mm512_fmadd_ps(w1, x1, _mm512_fmadd_ps(w0, x0, *part));
                }
            }
            if len % 2 == 1 {
                let x0 = _mm512_set1_ps(*x.add(len - 1));
                for (part, at) in parts.iter_mut().zip(at) {
                    *part = _mm512_fmadd_ps(W::one(at, len - 1), x0, *part);
                }
            }
            for (total, part) in totals.iter_mut().zip(parts) {
                let sum = _mm512_add_ps(_mm512_loadu_ps(total.as_ptr()), part);
                _mm512_storeu_ps(total.as_mut_ptr(), sum);
            }
        }
        for (p, total) in totals.iter().enumerate() {
            task.store(row, panel + p, total.as_ptr());
        }
    }
}

/// `rows` rows from `first` on against one panel.
///
/// # Safety
/// As [`matmul`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn float_many<W: Widen>(
    task: &Task<'_>,
    scratch: &mut ScratchParts,
    panel: usize,
    first: usize,
    rows: usize,
) {
    let cols = task.weight.cols();
    let ScratchParts { floats, sums, .. } = scratch;
    sums[..rows].fill([0.0; PANEL_ROWS]);
    // SAFETY: pointers stay inside the panel and the activations' rows.
    unsafe {
        let mut at = task.weight.panel(panel);
        for chunk in 0..cols.div_ceil(CHUNK) {
            let len = (cols - chunk * CHUNK).min(CHUNK);
            for k in (0..len - len % 2).step_by(2) {
                let [w0, w1] = W::two(at, k);
                _mm512_store_ps(floats[k].as_mut_ptr(), w0);
                _mm512_store_ps(floats[k + 1].as_mut_ptr(), w1);
            }
            if len % 2 == 1 {
                _mm512_store_ps(floats[len - 1].as_mut_ptr(), W::one(at, len - 1));
            }
            at = at.add(float_len(W::DTYPE, len) * PANEL_ROWS * W::DTYPE.block_bytes());
            let mut row = 0;
            while rows - row >= 12 {
                float_block::<12>(task, &floats[..len], chunk, first + row, &mut sums[row..]);
                row += 12;
            }
            while rows - row >= 4 {
                float_block::<4>(task, &floats[..len], chunk, first + row, &mut sums[row..]);
                row += 4;
            }
            while row < rows {
                float_block::<1>(task, &floats[..len], chunk, first + row, &mut sums[row..]);
                row += 1;
            }
        }
        for (row, sums) in sums[..rows].iter().enumerate() {
            task.store(first + row, panel, sums.as_ptr());
        }
    }
}

/// `M` rows from `row` on against a chunk of floats; `sums` are theirs.
#[inline(always)]
unsafe fn float_block<const M: usize>(
    task: &Task<'_>,
    weights: &[[f32; PANEL_ROWS]],
    chunk: usize,
    row: usize,
    sums: &mut [[f32; PANEL_ROWS]],
) {
    // SAFETY: the rows are inside the view.
    unsafe {
        let x = task.activations.floats(chunk, row);
        let mut parts = [_mm512_setzero_ps(); M];
        for (k, w) in weights.iter().enumerate() {
            let w = _mm512_load_ps(w.as_ptr());
            for (m, part) in parts.iter_mut().enumerate() {
                *part = _mm512_fmadd_ps(w, _mm512_set1_ps(*x.add(m * CHUNK + k)), *part);
            }
        }
        for (sum, part) in sums.iter_mut().zip(parts) {
            let total = _mm512_add_ps(_mm512_load_ps(sum.as_ptr()), part);
            _mm512_store_ps(sum.as_mut_ptr(), total);
        }
    }
}
