//! Products of BF16 numbers with sums in `f32`, on AVX-512 with BF16: what training computes with.
//!
//! `vdpbf16ps` multiplies two pairs of numbers and adds both products to each of 16 sums. One operand is a panel's pair of
//! columns, sixteen rows at once; the other a pair of another matrix, broadcast from memory.

mod layout;

pub(super) use layout::{pack_panels, write_chunk, write_panel, write_row, write_transposed};

use super::format::PANEL_ROWS;
use super::paired::Paired;
use super::words::{self, Columns, Panels, There, Window, Words};
use super::{Activations, Task};
use std::arch::asm;
use std::arch::x86_64::*;

/// Pairs of rows of a matrix that are run through at a time: a few panels of so many stay in the second-level cache.
const STRETCH: usize = 512;

/// Pairs of BF16 numbers.
enum Pairs {}

// SAFETY of all: the caller has the features and valid pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Words for Pairs {
    const NUMBERS: usize = 2;
    type Sums = __m512;

    #[inline(always)]
    unsafe fn words(x: &Activations, chunk: usize, row: usize) -> *const u8 {
        x.bf16s(chunk, row).cast()
    }

    #[inline(always)]
    unsafe fn begin(_: &Activations, _: usize, _: usize, there: There) -> __m512 {
        unsafe { there.load() }
    }

    #[inline(always)]
    unsafe fn add(sums: __m512, word: __m512i, rows: __m512i) -> __m512 {
        unsafe { add_pairs(sums, word, rows) }
    }

    #[inline(always)]
    unsafe fn row_scale(_: &Activations, _: usize, _: usize) -> __m512 {
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn panel_scales(_: &Panels, _: usize, _: usize) -> __m512 {
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn end(sums: __m512, _: __m512, _: __m512, _: There) -> __m512 {
        sums
    }

    #[inline(always)]
    unsafe fn outer_begin(_: &Columns, _: usize) -> __m512 {
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn column_scale(_: &Columns, _: usize) -> __m512 {
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn column_scales(_: &Columns) -> __m512 {
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn outer_end(sums: __m512, _: __m512, _: __m512, there: There) -> __m512 {
        unsafe { _mm512_add_ps(there.load(), sums) }
    }
}

/// `vdpbf16ps`, whose intrinsic would not become part of loops that words of bytes share: those have not its feature.
///
/// # Safety
/// The processor has BF16 products.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn add_pairs(mut sums: __m512, word: __m512i, rows: __m512i) -> __m512 {
    // SAFETY: as the caller promises; only registers are changed.
    unsafe {
        asm!(
            "vdpbf16ps {0}, {1}, {2}",
            inout(zmm_reg) sums,
            in(zmm_reg) word,
            in(zmm_reg) rows,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// A product with BF16 weights and activations. A number is a chain of `vdpbf16ps` over its pairs in ascending order.
///
/// # Safety
/// As [`super::matmul`], whose checks were made; the processor has BF16 products.
pub(super) unsafe fn product(task: &Task<'_>) {
    let weight = Panels {
        start: task.weight.panel(0),
        rows: task.weight.rows(),
        cols: task.weight.cols(),
        panel_bytes: task.weight.panel_bytes(),
    };
    let (rows, panels, y) = (task.rows, task.panels, task.y);
    // SAFETY: the caller's promise.
    unsafe { words::product::<Pairs>(&Window { weight, x: &task.activations, rows, panels, y }) };
}

/// [`Paired::add_outer`].
///
/// # Safety
/// As there; the processor has BF16 products.
pub(super) unsafe fn outer(dy: &Paired, dy_panel: usize, x: &Paired, panels: (usize, usize), to: *mut f32) {
    let first = dy_panel * PANEL_ROWS;
    let rows = PANEL_ROWS.min(dy.cols - first);
    let place =
        (to.wrapping_add(first * x.cols + panels.0 * PANEL_ROWS), x.cols, x.cols - panels.0 * PANEL_ROWS);
    for pair in (0..x.pairs()).step_by(STRETCH) {
        let count = STRETCH.min(x.pairs() - pair);
        let of = |m: &Paired, panel: usize| Columns { words: m.start(panel, pair), count };
        // SAFETY: the caller's promise.
        unsafe {
            words::outer::<Pairs>(
                of(dy, dy_panel),
                rows,
                |p| of(x, panels.0 + p),
                panels.1 - panels.0,
                place,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Random, product, random_rows, random_x, shapes};
    use super::super::{
        ActivationBuffer, ActivationKind, ActivationShape, Output, PackedWeight, Scratch, matmul,
    };
    use super::*;
    use crate::isa::Isa;
    use crate::pool::Pool;
    use autarky_quant::{DType, dequantize};
    use half::bf16;

    /// What a number is after rounding.
    fn rounded(x: f32) -> f64 {
        f64::from(bf16::from_f32(x).to_f32())
    }

    #[test]
    fn products_are_those_of_rounded_numbers() {
        if !Isa::Avx512.has_bf16_products() {
            return;
        }
        let mut random = Random(41);
        let pool = Pool::new(1);
        for (n, k) in shapes(DType::BF16) {
            for m in [1, 2, 7, 8, 9, 30] {
                let bytes = random_rows(DType::BF16, n, k, &mut random);
                let mut w = vec![0.0; n * k];
                dequantize(DType::BF16, &bytes, &mut w).unwrap();
                let weight = PackedWeight::pack(DType::BF16, n, k, &[&bytes], &pool).unwrap();
                let x = random_x(m, k, &mut random);
                let y = product(Isa::Avx512, &weight, &x, ActivationKind::Bf16);
                for (i, y) in y.iter().enumerate() {
                    let terms = (0..k).map(|j| rounded(x[i / n * k + j]) * f64::from(w[i % n * k + j]));
                    let (sum, size) = terms.fold((0.0, 1e-30), |(s, a), t| (s + t, a + t.abs()));
                    assert!((f64::from(*y) - sum).abs() <= 1e-5 * size, "{m} rows of [{n}, {k}], number {i}");
                }
            }
        }
    }

    #[test]
    fn streamed_products_are_those_that_stay_near() {
        if !Isa::Avx512.has_bf16_products() {
            return;
        }
        let mut random = Random(44);
        let pool = Pool::new(1);
        for (n, k, m) in [(48, 288, 9), (80, 2100, 3), (37, 64, 8)] {
            let bytes = random_rows(DType::BF16, n, k, &mut random);
            let weight = PackedWeight::pack(DType::BF16, n, k, &[&bytes], &pool).unwrap();
            let x = random_x(m, k, &mut random);
            let near = product(Isa::Avx512, &weight, &x, ActivationKind::Bf16);
            let shape = ActivationShape::new(ActivationKind::Bf16, m, k);
            let mut buffer = ActivationBuffer::new(shape);
            let x = buffer.fill(Isa::Avx512, shape, &x);
            // At every place in a line of the cache.
            for first in 0..16 {
                let mut memory = vec![7.5f32; first + m * n];
                let y = &mut memory[first..];
                let (all, scratch) = (0..weight.panels(), &mut Scratch::new());
                let to = Output { streamed: true, ..Output::new(y.as_mut_ptr(), n) };
                // SAFETY: the machine has the instructions, and the result has room.
                unsafe { matmul(Isa::Avx512, &weight, all, &x, 0..m, to, scratch) };
                assert!(*y == near, "[{n}, {k}] from {first}");
                assert!(memory[..first].iter().all(|y| *y == 7.5), "[{n}, {k}] from {first}");
            }
        }
    }

    #[test]
    fn outer_products_are_those_of_rounded_numbers() {
        if !Isa::Avx512.has_bf16_products() {
            return;
        }
        let mut random = Random(42);
        for (rows, out, inner) in [(1, 1, 1), (5, 16, 48), (64, 21, 70), (1100, 40, 33)] {
            let (dy, x) = (random_x(rows, out, &mut random), random_x(rows, inner, &mut random));
            let mut to = vec![0.5f32; out * inner];
            let paired = |numbers: &[f32], cols: usize, memory: &mut Vec<u64>| {
                memory.resize(Paired::bytes(rows, cols).unwrap() / 8, 0);
                // SAFETY: the memory has the bytes, and lives as long as the test; the numbers are the matrix's.
                unsafe {
                    let paired = Paired::new(memory.as_mut_ptr().cast(), rows, cols);
                    (0..paired.panels()).for_each(|p| paired.write_panel(p, numbers.as_ptr(), cols));
                    paired
                }
            };
            let (mut dy_memory, mut x_memory) = (Vec::new(), Vec::new());
            let (left, right) = (paired(&dy, out, &mut dy_memory), paired(&x, inner, &mut x_memory));
            for panel in 0..left.panels() {
                // SAFETY: both are written; `to` has a row for every column.
                unsafe { left.add_outer(panel, &right, (0, right.panels()), to.as_mut_ptr()) };
            }
            for (i, found) in to.iter().enumerate() {
                let (o, c) = (i / inner, i % inner);
                let terms = (0..rows).map(|r| rounded(dy[r * out + o]) * rounded(x[r * inner + c]));
                let (sum, size) = terms.fold((0.5, 0.5), |(s, a), t| (s + t, a + t.abs()));
                assert!((f64::from(*found) - sum).abs() <= 1e-5 * size, "[{out}, {inner}] over {rows}: {i}");
            }
        }
    }
}
