//! Floats in the layouts of BF16 products: rounded, pairs together.

use super::super::Activations;
use super::super::format::{CHUNK, PANEL_ROWS, WORDS};
use super::super::packed::Numbers;
use super::super::paired::Paired;
use super::super::prefetch_later;
use super::super::words::{columns, put, turned};
use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Rows that are called to the cache before they are packed.
const AHEAD: usize = 16;

/// Writes a panel of a matrix from rows of floats, `stride` numbers apart.
///
/// # Safety
/// As [`Paired::write_panel`]; the processor has these features.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")]
pub(in super::super) unsafe fn write_panel(to: &Paired, panel: usize, from: *const f32, stride: usize) {
    let column = panel * PANEL_ROWS;
    let mask = columns(to.cols - column);
    for pair in 0..to.pairs() {
        // SAFETY: the panel is the matrix's; rows and columns beyond it are left out.
        unsafe {
            let both = 2 * pair + 1 < to.rows;
            let numbers = pair_rows(from.add(2 * pair * stride + column), stride, both, mask);
            _mm512_storeu_si512(to.at(panel, pair).cast(), numbers);
        }
    }
}

/// Writes some pairs of rows of a chunk of columns from an operand.
///
/// # Safety
/// As [`Paired::write_chunk`]; the processor has these features.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")]
pub(in super::super) unsafe fn write_chunk(
    to: &Paired,
    chunk: usize,
    pairs: Range<usize>,
    from: &Activations,
) {
    let first = chunk * CHUNK / PANEL_ROWS;
    let panels = to.panels().min(first + CHUNK / PANEL_ROWS) - first;
    for pair in pairs {
        // SAFETY: the rows are the operand's, whose chunks are whole, and the panels the matrix's.
        unsafe {
            let both = 2 * pair + 1 < to.rows;
            let at = from.bf16s(chunk, 2 * pair);
            let row = |at: *mut u16| _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast()));
            for panel in 0..panels {
                let at = at.add(panel * PANEL_ROWS);
                let numbers = match both {
                    true => _mm512_or_si512(row(at), _mm512_slli_epi32(row(at.add(CHUNK)), 16)),
                    false => row(at),
                };
                _mm512_storeu_si512(to.at(first + panel, pair).cast(), numbers);
            }
        }
    }
}

/// Writes some of a row of activations, from a chunk on.
///
/// # Safety
/// As [`super::super::quantize_part`]; the processor has these features.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")]
pub(in super::super) unsafe fn write_row(x: &[f32], to: &Activations, row: usize, first: usize) {
    let streamed = to.is_streamed();
    for (chunk, x) in (first..).zip(x.chunks(CHUNK)) {
        let (whole, rest) = x.as_chunks::<{ 2 * PANEL_ROWS }>();
        // SAFETY: the numbers are there, and the chunks of the row whole.
        unsafe {
            let mut at = to.bf16s(chunk, row).cast::<__m512i>();
            let mut next = |numbers| {
                put(at, numbers, streamed);
                at = at.add(1);
            };
            for x in whole {
                let (low, high) = (_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(PANEL_ROWS)));
                next(std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)));
            }
            let mut left = CHUNK / (2 * PANEL_ROWS) - whole.len();
            if !rest.is_empty() {
                let low = _mm512_maskz_loadu_ps(columns(rest.len()), rest.as_ptr());
                let mask = columns(rest.len().saturating_sub(PANEL_ROWS));
                let high = _mm512_maskz_loadu_ps(mask, rest.as_ptr().wrapping_add(PANEL_ROWS));
                next(std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)));
                left -= 1;
            }
            // What is behind the last column is zero.
            (0..left).for_each(|_| next(_mm512_setzero_si512()));
        }
    }
}

/// Both numbers of every one of 16 columns of a pair of rows of floats, which are `stride` apart, rounded. The second row may
/// not be there, and columns beyond the mask are not.
#[inline(always)]
unsafe fn pair_rows(from: *const f32, stride: usize, both: bool, mask: __mmask16) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe {
        let row = |from: *const f32| {
            let rounded = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, from));
            _mm512_cvtepu16_epi32(std::mem::transmute::<__m256bh, __m256i>(rounded))
        };
        match both {
            true => _mm512_or_si512(row(from), _mm512_slli_epi32(row(from.add(stride)), 16)),
            false => row(from),
        }
    }
}

/// Packs some panels of a matrix of floats as BF16, and writes all bytes of them, as `pack_numbers` does.
///
/// # Safety
/// The panels are the matrix's, and `out` as large as packed ones; the processor has these features.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")]
pub(in super::super) unsafe fn pack_panels(
    (rows, cols): (usize, usize),
    source: Numbers<'_>,
    panels: Range<usize>,
    out: &mut [MaybeUninit<u8>],
) {
    let panel_bytes = out.len() / panels.len();
    // What is behind the last column is zero.
    out.chunks_exact_mut(panel_bytes).for_each(|out| out[cols / 2 * WORDS..].fill(MaybeUninit::new(0)));
    let (to, from) = (out.as_mut_ptr().cast::<u8>(), source.numbers.as_ptr());
    let all = panels.len();
    let lanes = |panel: usize| PANEL_ROWS.min(rows - (panels.start + panel) * PANEL_ROWS);
    // SAFETY: the numbers are there, and a panel has room for whole steps of 32 columns.
    unsafe {
        if source.by_row == 1 {
            for pair in 0..cols.div_ceil(2) {
                let from = from.add(2 * pair * source.by_col + panels.start * PANEL_ROWS);
                let both = 2 * pair + 1 < cols;
                for panel in 0..all {
                    let at = from.add(panel * PANEL_ROWS);
                    // Rows are too short for the processor to see what comes next.
                    let next = at.wrapping_add(AHEAD * source.by_col);
                    prefetch_later(next);
                    prefetch_later(next.wrapping_add(source.by_col));
                    let numbers = pair_rows(at, source.by_col, both, columns(lanes(panel)));
                    _mm512_storeu_si512(to.add(panel * panel_bytes + pair * WORDS).cast(), numbers);
                }
            }
            return;
        }
        for panel in 0..all {
            let from = from.add((panels.start + panel) * PANEL_ROWS * source.by_row);
            let (to, lanes) = (to.add(panel * panel_bytes), lanes(panel));
            for col in (0..cols).step_by(2 * PANEL_ROWS) {
                // These columns of the next panel.
                let next = from.wrapping_add(PANEL_ROWS * source.by_row + col);
                for lane in 0..lanes {
                    prefetch_later(next.wrapping_add(lane * source.by_row));
                    prefetch_later(next.wrapping_add(lane * source.by_row + PANEL_ROWS));
                }
                let pairs = turned_pairs(from.add(col), source.by_row, lanes, cols - col);
                for (pair, columns) in pairs.into_iter().enumerate() {
                    _mm512_storeu_si512(to.add((col / 2 + pair) * WORDS).cast(), columns);
                }
            }
        }
    }
}

/// [`write_panel`] of the transpose.
///
/// # Safety
/// As [`Paired::write_transposed`]; the processor has these features.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")]
pub(in super::super) unsafe fn write_transposed(to: &Paired, panel: usize, from: *const f32, stride: usize) {
    let first = panel * PANEL_ROWS;
    let lanes = PANEL_ROWS.min(to.cols - first);
    for row in (0..to.rows).step_by(2 * PANEL_ROWS) {
        let left = to.rows - row;
        // SAFETY: the lanes and rows are the matrix's, and so many pairs are the panel's.
        unsafe {
            let pairs = turned_pairs(from.add(first * stride + row), stride, lanes, left);
            for (i, pair) in pairs.into_iter().enumerate().take(left.div_ceil(2)) {
                _mm512_storeu_si512(to.at(panel, row / 2 + i).cast(), pair);
            }
        }
    }
}

/// Pairs of columns of up to 16 rows of floats, `stride` apart, rounded: both columns of a pair of all rows together. Columns
/// beyond the first `count` are zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")]
unsafe fn turned_pairs(from: *const f32, stride: usize, rows: usize, count: usize) -> [__m512i; PANEL_ROWS] {
    let masks = [columns(count), columns(count.saturating_sub(PANEL_ROWS))];
    let mut pairs = [_mm512_setzero_si512(); PANEL_ROWS];
    for (row, pairs) in pairs.iter_mut().enumerate().take(rows) {
        // SAFETY: the rows are the caller's, and columns beyond them are masked.
        unsafe {
            let from = from.add(row * stride);
            let low = _mm512_maskz_loadu_ps(masks[0], from);
            let high = _mm512_maskz_loadu_ps(masks[1], from.wrapping_add(PANEL_ROWS));
            *pairs = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
        }
    }
    turned(pairs)
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::{Random, random_x};
    use super::super::super::{ActivationBuffer, ActivationKind, ActivationShape, Blocks, PackedWeight};
    use super::*;
    use crate::isa::Isa;
    use crate::pool::Pool;
    use autarky_quant::DType;

    #[test]
    fn blocks_are_packed_as_whole_matrices_are() {
        let mut random = Random(43);
        let pool = Pool::new(1);
        for (rows, cols) in [(1, 1), (16, 32), (48, 288), (37, 301), (70, 33)] {
            let numbers = random_x(rows, cols, &mut random);
            for (dtype, transposed) in
                [DType::F32, DType::BF16].into_iter().flat_map(|t| [(t, false), (t, true)])
            {
                let whole =
                    PackedWeight::pack_numbers(dtype, (rows, cols), &numbers, transposed, &pool).unwrap();
                for isa in Isa::available() {
                    let blocks = Blocks::new(2, 2 * whole.panel_bytes()).unwrap();
                    for first in (0..whole.panels()).step_by(2) {
                        let panels = first..whole.panels().min(first + 2);
                        // SAFETY: the machine has the instruction set, and only one block is in use.
                        let block = unsafe {
                            blocks.pack((isa, 1), dtype, (rows, cols), (&numbers, transposed), panels.clone())
                        };
                        assert_eq!(block.rows(), rows.min(16 * panels.end) - 16 * first);
                        for panel in panels {
                            let (a, b) = (block.panel_slice(panel - first), whole.panel_slice(panel));
                            assert!(a == b, "{isa}: panel {panel} of {rows} x {cols} {dtype}, {transposed}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn chunks_of_operands_are_written_as_panels_are() {
        if !Isa::Avx512.has_bf16_products() {
            return;
        }
        let mut random = Random(45);
        for (rows, cols) in [(1, 1), (16, 32), (7, 288), (40, 256), (33, 530)] {
            let numbers = random_x(rows, cols, &mut random);
            let shape = ActivationShape::new(ActivationKind::Bf16, rows, cols);
            let mut operand = ActivationBuffer::new(shape);
            let operand = operand.fill(Isa::Avx512, shape, &numbers);
            let mut memory = [(); 2].map(|_| vec![u64::MAX; Paired::bytes(rows, cols).unwrap() / 8]);
            let [found, expected] = memory.each_mut().map(|m| {
                // SAFETY: the memory has the bytes, and lives as long as the test.
                unsafe { Paired::new(m.as_mut_ptr().cast(), rows, cols) }
            });
            let middle = found.pairs() / 2;
            // SAFETY: the numbers and the operand are the matrices'.
            unsafe {
                for chunk in 0..found.chunks() {
                    found.write_chunk(chunk, 0..middle, &operand);
                    found.write_chunk(chunk, middle..found.pairs(), &operand);
                }
                (0..expected.panels()).for_each(|p| expected.write_panel(p, numbers.as_ptr(), cols));
            }
            assert!(memory[0] == memory[1], "[{rows}, {cols}]");
        }
    }

    #[test]
    fn transposes_are_written_as_transposed_matrices() {
        if !Isa::Avx512.has_bf16_products() {
            return;
        }
        let mut random = Random(43);
        for (rows, cols) in [(1, 1), (16, 32), (7, 48), (40, 33), (33, 66), (18, 15)] {
            let stride = cols + 3;
            let from = random_x(rows, stride, &mut random);
            let across: Vec<f32> = (0..cols * rows).map(|i| from[i % rows * stride + i / rows]).collect();
            let mut memory = [(); 2].map(|_| vec![u64::MAX; Paired::bytes(cols, rows).unwrap() / 8]);
            let [found, expected] = memory.each_mut().map(|m| {
                // SAFETY: the memory has the bytes, and lives as long as the test.
                unsafe { Paired::new(m.as_mut_ptr().cast(), cols, rows) }
            });
            for panel in 0..found.panels() {
                // SAFETY: the numbers are the matrices'.
                unsafe {
                    found.write_transposed(panel, from.as_ptr(), stride);
                    expected.write_panel(panel, across.as_ptr(), rows);
                }
            }
            assert!(memory[0] == memory[1], "[{rows}, {cols}]");
        }
    }
}
