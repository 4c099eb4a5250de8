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
    unsafe fn row_scale(x: &Activations, stripe: usize, row: usize) -> __m512 {
        unsafe { _mm512_set1_ps(*x.int8_scale(stripe, row).0) }
    }

    #[inline(always)]
    unsafe fn panel_scales(weight: &Panels, stripe: usize, panel: usize) -> __m512 {
        unsafe {
            _mm512_loadu_ps(weight.at(panel).add(weight.cols.div_ceil(4) * WORDS + stripe * WORDS).cast())
        }
    }

    #[inline(always)]
    unsafe fn end(sums: __m512i, left: __m512, right: __m512, there: There) -> __m512 {
        unsafe { _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), _mm512_mul_ps(left, right), there.load()) }
    }

    #[inline(always)]
    unsafe fn outer_begin(left: &Columns, column: usize) -> __m512i {
        unsafe { _mm512_set1_epi32(*left.words.add((left.count + 1) * WORDS).cast::<i32>().add(column)) }
    }

    #[inline(always)]
    unsafe fn column_scale(left: &Columns, column: usize) -> __m512 {
        unsafe { _mm512_set1_ps(*left.words.add(left.count * WORDS).cast::<f32>().add(column)) }
    }

    #[inline(always)]
    unsafe fn column_scales(right: &Columns) -> __m512 {
        unsafe { _mm512_loadu_ps(right.words.add(right.count * WORDS).cast()) }
    }

    #[inline(always)]
    unsafe fn outer_end(sums: __m512i, left: __m512, right: __m512, there: There) -> __m512 {
        unsafe { Self::end(sums, left, right, there) }
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

/// The golden ratio's fraction, 2⁻²³ its unit: a sequence that goes on by it, modulo one (an additive recurrence), fills the
/// interval as evenly as any does, wherever it begins.
const GOLDEN: u32 = 0x4f_1bbd;

/// That times 0, 1, …, 15.
const LANES: [u32; PANEL_ROWS] = {
    let mut lanes = [0; PANEL_ROWS];
    let mut i = 0;
    while i < PANEL_ROWS {
        lanes[i] = (i as u32).wrapping_mul(GOLDEN);
        i += 1;
    }
    lanes
};

/// What sequences of chances begin with: hashes of sixteen words, which sum up the numbers that share a scale and where
/// they are. (The last steps of MurmurHash3.)
#[inline(always)]
unsafe fn starts(words: __m512i) -> __m512i {
    // SAFETY: only registers are used.
    unsafe {
        let mixed = _mm512_xor_si512(words, _mm512_srli_epi32(words, 16));
        let mixed = _mm512_mullo_epi32(mixed, _mm512_set1_epi32(0x85eb_ca6b_u32 as i32));
        let mixed = _mm512_xor_si512(mixed, _mm512_srli_epi32(mixed, 13));
        let mixed = _mm512_mullo_epi32(mixed, _mm512_set1_epi32(0xc2b2_ae35_u32 as i32));
        _mm512_xor_si512(mixed, _mm512_srli_epi32(mixed, 16))
    }
}

/// A word for a place, to be hashed with what is there.
fn place_word(group: usize, nth: usize) -> i32 {
    ((group as u32).wrapping_mul(0x9e37_79b1) ^ (nth as u32).wrapping_mul(0x27d4_eb2f)).cast_signed()
}

/// Whole numbers, from numbers and what they are to be multiplied by: the nearest; or, one too large, those below and above
/// with a chance that the lowest 23 bits of a sequence tell.
#[inline(always)]
unsafe fn rounded(x: __m512, inverse: __m512, chance: Option<__m512i>) -> __m512i {
    // SAFETY: only registers are used.
    unsafe {
        match chance {
            None => _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse)),
            Some(chance) => {
                // (chance & fraction) | one: from 1 to 2.
                let (fraction, one) = (_mm512_set1_epi32(0x7f_ffff), _mm512_set1_epi32(0x3f80_0000));
                let chance = _mm512_castsi512_ps(_mm512_ternarylogic_epi32::<0xea>(chance, fraction, one));
                _mm512_cvt_roundps_epi32::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(_mm512_fmadd_ps(
                    x, inverse, chance,
                ))
            }
        }
    }
}

/// Four times sixteen whole numbers as bytes: in every part of sixteen bytes four of each. What was dithered is one too large,
/// and no more than 127.
#[inline(always)]
unsafe fn bytes(numbers: [__m512i; 4], dithered: bool) -> __m512i {
    let [a, b, c, d] = numbers;
    // SAFETY: only registers are used.
    unsafe {
        let bytes = _mm512_packs_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
        if dithered { _mm512_sub_epi8(bytes, _mm512_set1_epi8(1)) } else { bytes }
    }
}

/// Adds the four bytes of every word to a sum.
#[inline(always)]
unsafe fn add_bytes(sums: __m512i, bytes: __m512i) -> __m512i {
    // SAFETY: only registers are used.
    unsafe { _mm512_dpbusd_epi32(sums, _mm512_set1_epi8(1), bytes) }
}

/// [`bytes`] with all of the first sixteen before those of the next.
#[inline(always)]
unsafe fn in_a_row(bytes: __m512i) -> __m512i {
    const ORDER: [u32; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];
    // SAFETY: only registers and the constant are used.
    unsafe { _mm512_permutexvar_epi32(_mm512_loadu_si512(ORDER.as_ptr().cast()), bytes) }
}

/// [`bytes`] as sixteen words with one of each of the four.
#[inline(always)]
unsafe fn side_by_side(bytes: __m512i) -> __m512i {
    const ORDER: [u8; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];
    // SAFETY: only registers and the constant are used.
    unsafe { _mm512_shuffle_epi8(bytes, _mm512_broadcast_i32x4(_mm_loadu_si128(ORDER.as_ptr().cast()))) }
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
    // What is dithered may be rounded up by a step.
    let steps = match rounding {
        Rounding::Nearest => 127.0,
        Rounding::Dithered => 126.0,
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
pub(super) unsafe fn write_row(rounding: Rounding, x: &[f32], to: &Activations, row: usize, first: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        match rounding {
            Rounding::Nearest => write_stripes::<false>(x, to, row, first),
            Rounding::Dithered => write_stripes::<true>(x, to, row, first),
        }
    }
}

/// # Safety
/// As [`write_row`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn write_stripes<const DITHERED: bool>(x: &[f32], to: &Activations, row: usize, first: usize) {
    let rounding = if DITHERED { Rounding::Dithered } else { Rounding::Nearest };
    let streamed = to.is_streamed();
    for (stripe, x) in (first..).zip(x.chunks(STRIPE)) {
        // SAFETY: the row is the view's, and its chunks are whole.
        unsafe {
            let (most, word) = sum_up(x);
            let (scale, inverse) = scales(_mm512_set1_epi32(most), rounding);
            let start = starts(_mm512_set1_epi32(word ^ place_word(row, stripe)));
            let mut chance = _mm512_add_epi32(start, _mm512_loadu_si512(LANES.as_ptr().cast()));
            let mut sums = _mm512_setzero_si512();
            for (nth, x) in x.chunks(CHUNK).enumerate() {
                let codes = to.int8s(stripe * STRIPE / CHUNK + nth, row);
                for (i, x) in x.chunks(4 * PANEL_ROWS).enumerate() {
                    let numbers = std::array::from_fn(|part| {
                        let mask = columns(x.len().saturating_sub(part * PANEL_ROWS));
                        let x = _mm512_maskz_loadu_ps(mask, x.as_ptr().wrapping_add(part * PANEL_ROWS));
                        let number = rounded(x, inverse, DITHERED.then_some(chance));
                        chance =
                            _mm512_add_epi32(chance, _mm512_set1_epi32((PANEL_ROWS as u32 * GOLDEN) as i32));
                        number
                    });
                    let bytes = bytes(numbers, DITHERED);
                    sums = add_bytes(sums, bytes);
                    words::put(codes.add(i * 4 * PANEL_ROWS).cast(), in_a_row(bytes), streamed);
                }
            }
            let (to_scale, to_sum) = to.int8_scale(stripe, row);
            *to_scale = _mm512_cvtss_f32(scale);
            // Of what is not finite it means nothing.
            *to_sum = _mm512_reduce_add_epi32(sums).wrapping_mul(-128);
        }
    }
}

/// The bits of the largest magnitude, and a word in which the bits of all numbers occur.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn sum_up(x: &[f32]) -> (i32, i32) {
    let (mut most, mut words) = ([_mm512_setzero_si512(); 4], _mm512_setzero_si512());
    let (fours, rest) = x.as_chunks::<{ 4 * PANEL_ROWS }>();
    // SAFETY: the numbers are there.
    unsafe {
        let mut take = |most: &mut __m512i, x: __m512| {
            *most = _mm512_max_epi32(*most, magnitudes(x));
            words = _mm512_add_epi32(words, _mm512_castps_si512(x));
        };
        for four in fours {
            for (i, most) in most.iter_mut().enumerate() {
                take(most, _mm512_loadu_ps(four.as_ptr().add(i * PANEL_ROWS)));
            }
        }
        for x in rest.chunks(PANEL_ROWS) {
            take(&mut most[0], _mm512_maskz_loadu_ps(columns(x.len()), x.as_ptr()));
        }
        let [a, b, c, d] = most;
        let most = _mm512_reduce_max_epi32(_mm512_max_epi32(_mm512_max_epi32(a, b), _mm512_max_epi32(c, d)));
        // Turned by different counts, so that lanes which are the same do not cancel out.
        let words = _mm512_rolv_epi32(words, _mm512_loadu_si512(LANES.as_ptr().cast()));
        let halves = _mm256_xor_si256(_mm512_castsi512_si256(words), _mm512_extracti64x4_epi64::<1>(words));
        let quarters = _mm_xor_si128(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves));
        let word = _mm_xor_si128(quarters, _mm_shuffle_epi32::<0b1110>(quarters));
        (most, _mm_cvtsi128_si32(_mm_xor_si128(word, _mm_shuffle_epi32::<1>(word))))
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
            match to.rounding {
                Rounding::Nearest => some_quads::<false>(to, panel, left, stretch, from),
                Rounding::Dithered => some_quads::<true>(to, panel, left, stretch, from),
            }
        };
    }
}

/// A stretch of some of so many panels.
///
/// # Safety
/// As [`Quads::write`].
unsafe fn some_quads<const DITHERED: bool>(
    to: &Quads,
    panel: usize,
    left: usize,
    stretch: usize,
    from: &ColumnSource,
) -> usize {
    // SAFETY: as the caller promises.
    unsafe {
        match (left, from) {
            (TOGETHER.., ColumnSource::Bf16(_)) => {
                quads::<DITHERED, true, TOGETHER>(to, panel, stretch, from)
            }
            (TOGETHER.., _) => quads::<DITHERED, false, TOGETHER>(to, panel, stretch, from),
            (_, ColumnSource::Bf16(_)) => quads::<DITHERED, true, 1>(to, panel, stretch, from),
            _ => quads::<DITHERED, false, 1>(to, panel, stretch, from),
        }
    }
}

/// A stretch of `P` panels, from BF16 numbers or floats.
///
/// # Safety
/// As [`Quads::write`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
#[allow(clippy::needless_range_loop)] // loops of a fixed length over registers
unsafe fn quads<const DITHERED: bool, const BF16: bool, const P: usize>(
    to: &Quads,
    panel: usize,
    stretch: usize,
    from: &ColumnSource,
) -> usize {
    let (first, end) = (stretch * STRETCH, to.rows.min((stretch + 1) * STRETCH));
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
    let streamed = to.is_streamed();
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
        // The bits of the largest magnitudes, and words that sum all numbers up.
        let (mut most, mut words) = ([_mm512_setzero_si512(); P], [_mm512_setzero_si512(); P]);
        if BF16 {
            let (mut high, mut all) = ([_mm256_setzero_si256(); P], [_mm256_setzero_si256(); P]);
            for row in first..end {
                for p in 0..P {
                    let x = start.add(row * stride).cast::<u16>().add(p * PANEL_ROWS);
                    let x = _mm256_loadu_si256(x.cast());
                    high[p] = _mm256_max_epu16(high[p], _mm256_and_si256(x, _mm256_set1_epi16(0x7fff)));
                    all[p] = _mm256_add_epi16(all[p], x);
                }
            }
            let widened = |x| _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(x));
            (most, words) = (high.map(widened), all.map(widened));
        } else {
            for row in first..end {
                for p in 0..P {
                    let x = load(row, p);
                    most[p] = _mm512_max_epi32(most[p], magnitudes(x));
                    words[p] = _mm512_add_epi32(words[p], _mm512_castps_si512(x));
                }
            }
        }
        let scales: [(__m512, __m512); P] = std::array::from_fn(|p| scales(most[p], to.rounding));
        let mut chances: [__m512i; P] = std::array::from_fn(|p| {
            let place = _mm512_set1_epi32(place_word(stretch, panel + p));
            let place = _mm512_add_epi32(place, _mm512_loadu_si512(LANES.as_ptr().cast()));
            starts(_mm512_xor_si512(words[p], place))
        });
        let mut sums = [_mm512_setzero_si512(); P];
        let places: [*mut u8; P] = std::array::from_fn(|p| to.at(panel + p, stretch));
        for (word, row) in (first..end).step_by(4).enumerate() {
            for p in 0..P {
                let mut number = |i: usize| {
                    let x = if row + i < end { load(row + i, p) } else { _mm512_setzero_ps() };
                    let number = rounded(x, scales[p].1, DITHERED.then_some(chances[p]));
                    chances[p] = _mm512_add_epi32(chances[p], _mm512_set1_epi32(GOLDEN as i32));
                    number
                };
                let bytes = bytes([number(0), number(1), number(2), number(3)], DITHERED);
                let quad = side_by_side(bytes);
                sums[p] = add_bytes(sums[p], quad);
                let quad = if DITHERED { quad } else { unsigned(quad) };
                words::put(places[p].add(word * WORDS).cast(), quad, streamed);
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
            *most = sum_up(std::slice::from_raw_parts(from.add(lane * stride), cols)).0;
        }
        let (scale, inverse) = scales(_mm512_loadu_si512(most.as_ptr().cast()), Rounding::Nearest);
        let mut inverses = [0f32; PANEL_ROWS];
        _mm512_storeu_ps(inverses.as_mut_ptr(), inverse);
        for col in (0..cols).step_by(4 * PANEL_ROWS) {
            let mut rows = [_mm512_setzero_si512(); PANEL_ROWS];
            for (lane, row) in rows.iter_mut().enumerate().take(lanes) {
                let inverse = _mm512_set1_ps(inverses[lane]);
                let part = |nth: usize| rounded(load(lane, col + nth * PANEL_ROWS), inverse, None);
                *row = in_a_row(bytes(std::array::from_fn(part), false));
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
            let number = |i: usize| {
                let x = if col + i < cols { load(col + i) } else { _mm512_setzero_ps() };
                rounded(x, inverse, None)
            };
            let quad = side_by_side(bytes(std::array::from_fn(number), false));
            _mm512_storeu_si512(to.add(col / 4 * WORDS).cast(), unsigned(quad));
        }
        scale
    }
}
