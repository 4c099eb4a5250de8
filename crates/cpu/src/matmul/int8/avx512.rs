//! Products of bytes with scales, on AVX-512 with VNNI.
//!
//! `vpdpbusd` multiplies four unsigned bytes by four signed ones and adds the products to each of 16 sums. The unsigned
//! ones have 128 added, so that sums begin with −128 times the sum of the signed ones.

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::activations::{Activations, Rounding, SMALLEST};
use super::super::format::{CHUNK, PANEL_ROWS, STRIPE, WORDS};
use super::super::packed::Numbers;
use super::super::words::{self, Columns, Panels, There, Window, Words, columns, turned};
use super::super::{Output, prefetch_later};
use super::{ColumnSource, Int8Panels, Quads, STRETCH};

/// Panels whose stretches are written together.
const TOGETHER: usize = 4;
/// Rows that are called to the cache before they are packed.
const AHEAD: usize = 16;

/// Quads of bytes.
enum Int8 {}

// SAFETY of all: the caller has the features and valid pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Words for Int8 {
    const NUMBERS: usize = 4;
    type Sums = __m512i;

    #[inline(always)]
    unsafe fn words(x: &Activations, chunk: usize, row: usize) -> *const u8 {
        x.int8s(chunk, row).cast()
    }

    #[inline(always)]
    unsafe fn begin(x: &Activations, stripe: usize, row: usize, _: There) -> __m512i {
        unsafe { _mm512_set1_epi32(*x.int8_scale(stripe, row).1) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m512i, word: __m512i, rows: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, rows, word) }
    }

    #[inline(always)]
    unsafe fn end(
        sums: __m512i,
        x: &Activations,
        (stripe, row): (usize, usize),
        (weight, panel): (&Panels, usize),
        there: There,
    ) -> __m512 {
        unsafe {
            let scales = weight.at(panel).add(weight.cols.div_ceil(4) * WORDS + stripe * WORDS);
            let scale =
                _mm512_mul_ps(_mm512_set1_ps(*x.int8_scale(stripe, row).0), _mm512_loadu_ps(scales.cast()));
            _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), scale, there.load())
        }
    }

    #[inline(always)]
    unsafe fn outer_begin(left: &Columns, column: usize) -> __m512i {
        unsafe { _mm512_set1_epi32(*left.words.add((left.count + 1) * WORDS).cast::<i32>().add(column)) }
    }

    #[inline(always)]
    unsafe fn outer_end(
        sums: __m512i,
        (left, column): (&Columns, usize),
        right: &Columns,
        there: There,
    ) -> __m512 {
        unsafe {
            let scales = |m: &Columns| m.words.add(m.count * WORDS).cast::<f32>();
            let scale =
                _mm512_mul_ps(_mm512_set1_ps(*scales(left).add(column)), _mm512_loadu_ps(scales(right)));
            _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), scale, there.load())
        }
    }
}

/// [`Int8Panels::product`].
///
/// # Safety
/// As there.
pub(super) unsafe fn product(weight: &Int8Panels, x: &Activations, rows: Range<usize>, y: Output) {
    let panel_bytes = Int8Panels::panel_bytes(weight.cols).expect("a matrix that is there");
    let panels = (0, weight.rows.div_ceil(PANEL_ROWS));
    let weight = Panels { start: weight.start, rows: weight.rows, cols: weight.cols, panel_bytes };
    // SAFETY: the caller's promise.
    unsafe { words::product::<Int8>(&Window { weight, x, rows: (rows.start, rows.end), panels, y }) };
}

/// [`Quads::add_outer`].
///
/// # Safety
/// As there.
pub(super) unsafe fn outer(dy: &Quads, dy_panel: usize, x: &Quads, panels: (usize, usize), to: *mut f32) {
    let (first, column) = (dy_panel * PANEL_ROWS, panels.0 * PANEL_ROWS);
    let rows = PANEL_ROWS.min(dy.cols - first);
    let place = (to.wrapping_add(first * x.cols + column), x.cols, x.cols - column);
    for stretch in 0..x.stretches() {
        let of = |m: &Quads, panel: usize| Columns { words: m.at(panel, stretch), count: m.words(stretch) };
        // SAFETY: the caller's promise.
        unsafe {
            words::outer::<Int8>(of(dy, dy_panel), rows, |p| of(x, panels.0 + p), panels.1 - panels.0, place);
        }
    }
}

/// Sixteen different words.
const LANES: [u32; PANEL_ROWS] = {
    let mut lanes = [0; PANEL_ROWS];
    let mut i = 0;
    while i < PANEL_ROWS {
        lanes[i] = (i as u32).wrapping_mul(0x9e37_79b9);
        i += 1;
    }
    lanes
};

/// What dithers sixteen numbers that follow `column` in a row.
#[inline(always)]
unsafe fn seed(row: usize, column: usize) -> __m512i {
    let place = (row as u32).wrapping_mul(0x85eb_ca6b) ^ (column as u32).wrapping_mul(0xc2b2_ae35);
    // SAFETY: only registers and the constant are used.
    unsafe { _mm512_xor_si512(_mm512_loadu_si512(LANES.as_ptr().cast()), _mm512_set1_epi32(place as i32)) }
}

/// Bytes as integers, from numbers and what they are to be multiplied by.
#[inline(always)]
unsafe fn rounded(x: __m512, inverse: __m512, seed: Option<__m512i>) -> __m512i {
    // SAFETY: only registers are used.
    unsafe {
        match seed {
            None => _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse)),
            Some(seed) => {
                let mixed = _mm512_xor_si512(_mm512_castps_si512(x), seed);
                let mixed = _mm512_xor_si512(mixed, _mm512_srli_epi32(mixed, 15));
                let mixed = _mm512_mullo_epi32(mixed, _mm512_set1_epi32(0x2c1b_3c6d));
                // The highest bits as a fraction: from −1/2 to 1/2.
                let one = _mm512_set1_epi32(0x3f80_0000);
                let chance = _mm512_castsi512_ps(_mm512_or_si512(_mm512_srli_epi32(mixed, 9), one));
                let chance = _mm512_sub_ps(chance, _mm512_set1_ps(1.5));
                _mm512_cvtps_epi32(_mm512_fmadd_ps(x, inverse, chance))
            }
        }
    }
}

#[inline(always)]
unsafe fn magnitudes(x: __m512) -> __m512i {
    // SAFETY: only registers are used.
    unsafe { _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fff_ffff)) }
}

/// Scales and what numbers are multiplied by, from the bits of the largest magnitudes: NaN and 0 where these are not
/// finite, so that the fault shows in the result.
#[inline(always)]
unsafe fn scales(magnitudes: __m512i, rounding: Rounding) -> (__m512, __m512) {
    // What is dithered may be rounded half a step further.
    let steps = match rounding {
        Rounding::Nearest => 127.0,
        Rounding::Dithered => 126.5,
    };
    // SAFETY: only registers are used.
    unsafe {
        let largest = _mm512_castsi512_ps(magnitudes);
        let finite = _mm512_cmplt_epi32_mask(magnitudes, _mm512_set1_epi32(0x7f80_0000));
        let counts = finite & _mm512_cmp_ps_mask::<_CMP_GE_OQ>(largest, _mm512_set1_ps(SMALLEST));
        let scale = _mm512_maskz_mul_ps(counts, largest, _mm512_set1_ps(1.0 / steps));
        let scale = _mm512_mask_mov_ps(_mm512_set1_ps(f32::NAN), finite, scale);
        (scale, _mm512_maskz_div_ps(counts, _mm512_set1_ps(steps), largest))
    }
}

/// [`super::write_row`].
///
/// # Safety
/// As there.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn write_row(rounding: Rounding, x: &[f32], to: &Activations, row: usize) {
    for (stripe, x) in x.chunks(STRIPE).enumerate() {
        // SAFETY: the row is the view's, and its chunks are whole.
        unsafe {
            let (scale, inverse) = scales(_mm512_set1_epi32(largest(x)), rounding);
            let mut sum = 0i32;
            for (nth, x) in x.chunks(CHUNK).enumerate() {
                let first = stripe * STRIPE + nth * CHUNK;
                let (place, codes) = ((row, first), to.int8s(first / CHUNK, row));
                // Of what is not finite it means nothing.
                sum = sum.wrapping_add(match rounding {
                    Rounding::Nearest => write_chunk::<false>(x, inverse, place, codes),
                    Rounding::Dithered => write_chunk::<true>(x, inverse, place, codes),
                });
            }
            let (to_scale, to_sum) = to.int8_scale(stripe, row);
            *to_scale = _mm512_cvtss_f32(scale);
            *to_sum = sum.wrapping_mul(-128);
        }
    }
}

/// The bits of the largest magnitude.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn largest(x: &[f32]) -> i32 {
    let mut most = [_mm512_setzero_si512(); 4];
    let (fours, rest) = x.as_chunks::<{ 4 * PANEL_ROWS }>();
    // SAFETY: the numbers are there.
    unsafe {
        for four in fours {
            for (i, most) in most.iter_mut().enumerate() {
                let x = _mm512_loadu_ps(four.as_ptr().add(i * PANEL_ROWS));
                *most = _mm512_max_epi32(*most, magnitudes(x));
            }
        }
        for x in rest.chunks(PANEL_ROWS) {
            let x = _mm512_maskz_loadu_ps(columns(x.len()), x.as_ptr());
            most[0] = _mm512_max_epi32(most[0], magnitudes(x));
        }
        let [a, b, c, d] = most;
        _mm512_reduce_max_epi32(_mm512_max_epi32(_mm512_max_epi32(a, b), _mm512_max_epi32(c, d)))
    }
}

/// Writes the bytes of a chunk, which has a place in the matrix, and gives their sum.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn write_chunk<const DITHERED: bool>(
    x: &[f32],
    inverse: __m512,
    (row, first): (usize, usize),
    to: *mut i8,
) -> i32 {
    let mut sum = _mm512_setzero_si512();
    let (whole, rest) = x.as_chunks::<PANEL_ROWS>();
    // SAFETY: the numbers are there, and a chunk has room for whole vectors.
    unsafe {
        let mut put = |numbers: __m512, i: usize| {
            let seed = DITHERED.then(|| seed(row, first + i * PANEL_ROWS));
            let codes = rounded(numbers, inverse, seed);
            sum = _mm512_add_epi32(sum, codes);
            _mm_storeu_si128(to.add(i * PANEL_ROWS).cast(), _mm512_cvtepi32_epi8(codes));
        };
        for (i, x) in whole.iter().enumerate() {
            put(_mm512_loadu_ps(x.as_ptr()), i);
        }
        if !rest.is_empty() {
            put(_mm512_maskz_loadu_ps(columns(rest.len()), rest.as_ptr()), whole.len());
        }
        _mm512_reduce_add_epi32(sum)
    }
}

/// Sixteen words of bytes, from sixteen integers that are each one's `nth`.
#[inline(always)]
unsafe fn placed(codes: __m512i, nth: usize) -> __m512i {
    // SAFETY: only registers are used.
    unsafe {
        let byte = _mm512_and_si512(codes, _mm512_set1_epi32(0xff));
        match nth {
            0 => byte,
            1 => _mm512_slli_epi32(byte, 8),
            2 => _mm512_slli_epi32(byte, 16),
            _ => _mm512_slli_epi32(codes, 24),
        }
    }
}

/// 128 added to every byte.
#[inline(always)]
unsafe fn unsigned(words: __m512i) -> __m512i {
    // SAFETY: only registers are used.
    unsafe { _mm512_xor_si512(words, _mm512_set1_epi32(0x8080_8080_u32 as i32)) }
}

/// [`Quads::write`].
///
/// # Safety
/// As there.
pub(super) unsafe fn write_quads(to: &Quads, panels: Range<usize>, stretch: usize, from: &ColumnSource) {
    let mut panel = panels.start;
    while panel < panels.end {
        // Panels of one chunk of an operand.
        let left = (panels.end - panel).min(CHUNK / PANEL_ROWS - panel % (CHUNK / PANEL_ROWS));
        // SAFETY: as the caller promises.
        panel += unsafe {
            match (left, from) {
                (TOGETHER.., ColumnSource::Bf16(_)) => quads::<true, TOGETHER>(to, panel, stretch, from),
                (TOGETHER.., _) => quads::<false, TOGETHER>(to, panel, stretch, from),
                (_, ColumnSource::Bf16(_)) => quads::<true, 1>(to, panel, stretch, from),
                _ => quads::<false, 1>(to, panel, stretch, from),
            }
        };
    }
}

/// A stretch of `P` panels, from BF16 numbers or floats.
///
/// # Safety
/// As [`Quads::write`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
#[allow(clippy::needless_range_loop)] // loops of a fixed length over registers
unsafe fn quads<const BF16: bool, const P: usize>(
    to: &Quads,
    panel: usize,
    stretch: usize,
    from: &ColumnSource,
) -> usize {
    let (first, end) = (stretch * STRETCH, to.rows.min((stretch + 1) * STRETCH));
    let dithered = to.rounding == Rounding::Dithered;
    // Where row 0 of the first panel is, and bytes from one row to the next.
    let column = panel * PANEL_ROWS;
    let (start, stride) = match from {
        ColumnSource::Floats(start, stride) => (start.wrapping_add(column).cast::<u8>(), 4 * stride),
        ColumnSource::Bf16(x) => {
            let row = x.bf16s(column / CHUNK, 0).wrapping_add(column % CHUNK);
            (row.cast::<u8>().cast_const(), 2 * CHUNK)
        }
    };
    let mask: [__mmask16; P] = std::array::from_fn(|p| columns(to.cols - column - p * PANEL_ROWS));
    // SAFETY: rows and columns are the source's, those behind the last column masked or zero; the places are the matrix's.
    unsafe {
        let load = |row: usize, p: usize| match BF16 {
            true => {
                let numbers = start.add(row * stride).cast::<u16>().add(p * PANEL_ROWS);
                let numbers = _mm512_cvtepu16_epi32(_mm256_loadu_si256(numbers.cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32(numbers, 16))
            }
            false => {
                let numbers = start.add(row * stride).cast::<f32>().add(p * PANEL_ROWS);
                _mm512_maskz_loadu_ps(mask[p], numbers)
            }
        };
        let mut most = [_mm512_setzero_si512(); P];
        for row in first..end {
            for p in 0..P {
                most[p] = _mm512_max_epi32(most[p], magnitudes(load(row, p)));
            }
        }
        let scales: [(__m512, __m512); P] = std::array::from_fn(|p| scales(most[p], to.rounding));
        let mut sums = [_mm512_setzero_si512(); P];
        let places: [*mut u8; P] = std::array::from_fn(|p| to.at(panel + p, stretch));
        for (word, row) in (first..end).step_by(4).enumerate() {
            let count = 4.min(end - row);
            for p in 0..P {
                let mut quad = _mm512_setzero_si512();
                let mut put = |i: usize| {
                    let seed = dithered.then(|| seed(row + i, column + p * PANEL_ROWS));
                    let codes = rounded(load(row + i, p), scales[p].1, seed);
                    sums[p] = _mm512_add_epi32(sums[p], codes);
                    quad = _mm512_or_si512(quad, placed(codes, i));
                };
                match count {
                    4 => (0..4).for_each(&mut put),
                    _ => (0..count).for_each(&mut put),
                }
                let quad = if dithered { quad } else { unsigned(quad) };
                _mm512_storeu_si512(places[p].add(word * WORDS).cast(), quad);
            }
        }
        for p in 0..P {
            let behind = places[p].add(to.words(stretch) * WORDS);
            _mm512_storeu_ps(behind.cast(), scales[p].0);
            let sums = _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(sums[p], 7));
            _mm512_storeu_si512(behind.add(WORDS).cast(), sums);
        }
    }
    P
}

/// [`Int8Panels::pack`], from row `first` of the matrix on.
///
/// # Safety
/// As there.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn pack_panels(to: &Int8Panels, source: Numbers<'_>, first: usize) {
    let panel_bytes = Int8Panels::panel_bytes(to.cols).expect("a matrix that is there");
    let codes = Int8Panels::codes(to.cols).expect("a matrix that is there");
    let from = source.numbers.as_ptr().wrapping_add(first * source.by_row);
    let panels = to.rows.div_ceil(PANEL_ROWS);
    for (stripe, col) in (0..to.cols).step_by(STRIPE).enumerate() {
        let cols = STRIPE.min(to.cols - col);
        for panel in 0..panels {
            let lanes = PANEL_ROWS.min(to.rows - panel * PANEL_ROWS);
            // SAFETY: the panel has the columns, and its scales are behind them.
            unsafe {
                let place = to.start.add(panel * panel_bytes);
                let from = from.add(panel * PANEL_ROWS * source.by_row + col * source.by_col);
                let words = place.add(col / 4 * WORDS);
                let scales = match source.by_row {
                    1 => pack_across(words, from, source.by_col, lanes, cols),
                    by_row => pack_along(words, from, by_row, lanes, cols),
                };
                _mm512_storeu_ps(place.add(codes + stripe * WORDS).cast(), scales);
            }
        }
    }
}

/// Words of up to 16 rows, which are `stride` apart, of so many columns, and the scales.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn pack_along(to: *mut u8, from: *const f32, stride: usize, lanes: usize, cols: usize) -> __m512 {
    let mut most = [0i32; PANEL_ROWS];
    // SAFETY: the rows and columns are the caller's.
    unsafe {
        let load = |lane: usize, col: usize| {
            let mask = columns(cols.saturating_sub(col));
            _mm512_maskz_loadu_ps(mask, from.wrapping_add(lane * stride + col))
        };
        for (lane, most) in most.iter_mut().enumerate().take(lanes) {
            for col in (0..cols).step_by(PANEL_ROWS) {
                // This row of the next panel.
                prefetch_later(from.wrapping_add((lane + PANEL_ROWS) * stride + col));
            }
            *most = largest(std::slice::from_raw_parts(from.add(lane * stride), cols));
        }
        let (scale, inverse) = scales(_mm512_loadu_si512(most.as_ptr().cast()), Rounding::Nearest);
        let mut inverses = [0f32; PANEL_ROWS];
        _mm512_storeu_ps(inverses.as_mut_ptr(), inverse);
        for col in (0..cols).step_by(4 * PANEL_ROWS) {
            let mut rows = [_mm512_setzero_si512(); PANEL_ROWS];
            for (lane, row) in rows.iter_mut().enumerate().take(lanes) {
                let inverse = _mm512_set1_ps(inverses[lane]);
                let part = |nth: usize| {
                    let codes = rounded(load(lane, col + nth * PANEL_ROWS), inverse, None);
                    _mm512_cvtepi32_epi8(codes)
                };
                let low = _mm256_set_m128i(part(1), part(0));
                let high = _mm256_set_m128i(part(3), part(2));
                *row = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
            }
            for (word, rows) in turned(rows).into_iter().enumerate().take((cols - col).div_ceil(4)) {
                _mm512_storeu_si512(to.add((col / 4 + word) * WORDS).cast(), unsigned(rows));
            }
        }
        scale
    }
}

/// As [`pack_along`], of rows whose numbers are `stride` apart and which follow one another.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn pack_across(to: *mut u8, from: *const f32, stride: usize, lanes: usize, cols: usize) -> __m512 {
    let mask = columns(lanes);
    // SAFETY: the rows and columns are the caller's.
    unsafe {
        let load = |col: usize| _mm512_maskz_loadu_ps(mask, from.wrapping_add(col * stride));
        let mut most = _mm512_setzero_si512();
        for col in 0..cols {
            prefetch_later(from.wrapping_add((col + AHEAD) * stride));
            most = _mm512_max_epi32(most, magnitudes(load(col)));
        }
        let (scale, inverse) = scales(most, Rounding::Nearest);
        for col in (0..cols).step_by(4) {
            let mut quad = _mm512_setzero_si512();
            for i in 0..4.min(cols - col) {
                quad = _mm512_or_si512(quad, placed(rounded(load(col + i), inverse, None), i));
            }
            _mm512_storeu_si512(to.add(col / 4 * WORDS).cast(), unsigned(quad));
        }
        scale
    }
}
