//! Products of BF16 numbers with sums in `f32`, on AVX-512 with BF16: what training computes with.
//!
//! `vdpbf16ps` multiplies two pairs of numbers and adds both products to each of 16 sums. One operand is a panel's pair of
//! columns, sixteen rows at once; the other a pair of another matrix, broadcast from memory.
//!
//! Helpers are `inline(always)` without `target_feature`: they only ever become part of the entry functions, which have
//! it. Their `# Safety` is the same throughout: the processor has the features of [`product`].

mod layout;

pub(super) use layout::{pack_panels, write_chunk, write_panel, write_transposed};

use super::format::{CHUNK, PANEL_ROWS};
use super::paired::{PAIR, Paired};
use super::{LINE, PackedWeight, Task, prefetch_later};
use std::arch::asm;
use std::arch::x86_64::*;

/// Rows and panels whose sums are in registers: 24 of 32.
const ROWS: usize = 8;
const PANELS: usize = 3;
/// Chunks of columns that are run through at a time: those of a hundred rows and a few panels stay in the second-level cache.
const CHUNKS: usize = 8;
/// Pairs of rows of a matrix that are run through at a time: a few panels of so many stay in the
/// second-level cache.
const STRETCH: usize = 512;

/// Runs `$body` with the constants `$R` and `$P` that `$rows` (1 to 8) and `$panels` (1 to 3) are.
macro_rules! sized {
    ($rows:expr, $panels:expr, $R:ident, $P:ident, $body:expr) => {
        sized!(@rows $rows, $panels, $R, $P, $body, [1 2 3 4 5 6 7 8])
    };
    (@rows $rows:expr, $panels:expr, $R:ident, $P:ident, $body:expr, [$($r:literal)*]) => {
        match ($rows, $panels) {
            $(
                ($r, 1) => { const $R: usize = $r; const $P: usize = 1; $body }
                ($r, 2) => { const $R: usize = $r; const $P: usize = 2; $body }
                ($r, 3) => { const $R: usize = $r; const $P: usize = 3; $body }
            )*
            other => unreachable!("{other:?} rows and panels"),
        }
    };
}

/// A product with BF16 weights and activations. A number is a chain of `vdpbf16ps` over its pairs in ascending order.
///
/// # Safety
/// As [`super::matmul`], whose checks were made; the processor has these features.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")]
pub(super) unsafe fn product(task: &Task<'_>) {
    let ((first, end), chunks) = (task.rows, task.weight.cols().div_ceil(CHUNK));
    for chunk in (0..chunks).step_by(CHUNKS) {
        let chunks = (chunk, chunks.min(chunk + CHUNKS));
        let mut panel = task.panels.0;
        while panel < task.panels.1 {
            // Groups and sets of about the same size.
            let panels = even(task.panels.1 - panel, PANELS);
            let sets = (end - first).div_ceil(ROWS);
            let (mut row, mut nth) = (first, 0);
            while row < end {
                let rows = even(end - row, ROWS);
                let next = Ahead::of(task.weight, panel + panels, chunks, (nth, sets));
                // SAFETY: the caller's promise; rows and panels are the task's.
                unsafe { sized!(rows, panels, R, P, set::<R, P>(task, row, panel, chunks, next)) };
                (row, nth) = (row + rows, nth + 1);
            }
            panel += panels;
        }
    }
    if task.y.streamed {
        // Other threads may read the results when this one has said that they are there.
        _mm_sfence();
    }
}

/// The first of as few parts of `count` as there can be of at most `most`, all about the same size.
fn even(count: usize, most: usize) -> usize {
    count.div_ceil(count.div_ceil(most))
}

/// What a set calls to the second-level cache meanwhile: its share of the panels that come next. Memory is too far away
/// to begin with it when they come, and a set is too long for the processor to look beyond it.
#[derive(Clone, Copy)]
struct Ahead {
    next: *const u8,
    /// Bytes for every pair.
    step: usize,
}

impl Ahead {
    const NONE: Ahead = Ahead { next: std::ptr::null(), step: 0 };

    /// The share of set `nth` of `sets` in those chunks of the panels from `panel` on.
    fn of(weight: &PackedWeight, panel: usize, chunks: (usize, usize), (nth, sets): (usize, usize)) -> Ahead {
        let each = (sets / PANELS).max(1);
        let panel = panel + nth / each;
        if nth / each >= PANELS || panel >= weight.panels() {
            return Ahead::NONE;
        }
        let at = |chunk: usize| weight.cols().min(chunk * CHUNK) / 2 * PAIR;
        let lines = (at(chunks.1) - at(chunks.0)) / PAIR;
        let from = at(chunks.0) + nth % each * lines.div_ceil(each) * PAIR;
        Ahead { next: weight.panel(panel).wrapping_add(from), step: PAIR.div_ceil(each) }
    }

    #[inline(always)]
    fn call(&mut self) {
        prefetch_later(self.next);
        self.next = self.next.wrapping_add(self.step);
    }
}

/// Adds some chunks of `R` rows against `P` panels: to nothing if they are the first, else to what is there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")]
unsafe fn set<const R: usize, const P: usize>(
    task: &Task<'_>,
    row: usize,
    panel: usize,
    (first, end): (usize, usize),
    mut ahead: Ahead,
) {
    let cols = task.weight.cols();
    let place = |r: usize, p: usize| task.place(row + r, panel + p);
    // All at once, and whole lines of the cache.
    let streamed = task.y.streamed
        && (first, end) == (0, cols.div_ceil(CHUNK))
        && task.y.stride.is_multiple_of(PANEL_ROWS)
        && place(0, 0).0.addr().is_multiple_of(LINE)
        && place(0, P - 1).1 == PANEL_ROWS;
    // SAFETY: pointers stay inside the panels, the activations' rows and the result.
    unsafe {
        if !streamed {
            // Sums go to memory that is far away: it is asked for while they are computed.
            (0..R).for_each(|r| (0..P).for_each(|p| prefetch_to_write(place(r, p).0)));
        }
        if panel == task.panels.0 {
            // The first panels are what brings rows of activations near.
            for chunk in first..end {
                let lines = (cols - chunk * CHUNK).min(CHUNK).div_ceil(LINE / 2);
                for next in row + R..(row + 2 * R).min(task.rows.1) {
                    let at = task.activations.bf16s(chunk, next).cast::<u8>();
                    (0..lines).for_each(|line| prefetch_later(at.wrapping_add(LINE * line)));
                }
            }
        }
        let mut sums = [[_mm512_setzero_ps(); P]; R];
        if first > 0 {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (p, sum) in sums.iter_mut().enumerate() {
                    let (from, count) = place(r, p);
                    *sum = load(from, count);
                }
            }
        }
        for chunk in first..end {
            let pairs = (cols - chunk * CHUNK).min(CHUNK).div_ceil(2);
            let left = task.activations.bf16s(chunk, row).cast::<u8>().cast_const();
            // Only the last chunk is shorter, so the earlier ones are full.
            let right = |p: usize| task.weight.panel(panel + p).add(chunk * CHUNK / 2 * PAIR);
            let right = std::array::from_fn(right);
            add::<R, P, { 2 * CHUNK }, 4>(&mut sums, left, right, pairs, &mut ahead);
        }
        for (r, sums) in sums.iter().enumerate() {
            for (p, sum) in sums.iter().enumerate() {
                let (to, count) = place(r, p);
                match streamed {
                    true => _mm512_stream_ps(to, *sum),
                    false => store(to, count, *sum),
                }
            }
        }
    }
}

/// Adds the products of `pairs` pairs. Rows of the left operand are `BY_ROW` bytes apart, its pairs `BY_PAIR`.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // loops of a fixed length over registers
unsafe fn add<const R: usize, const P: usize, const BY_ROW: usize, const BY_PAIR: usize>(
    sums: &mut [[__m512; P]; R],
    left: *const u8,
    right: [*const u8; P],
    pairs: usize,
    ahead: &mut Ahead,
) {
    // SAFETY: the operands have as many pairs.
    unsafe {
        for pair in 0..pairs {
            let b: [__m512i; P] =
                std::array::from_fn(|p| _mm512_loadu_si512(right[p].add(pair * PAIR).cast()));
            ahead.call();
            for r in 0..R {
                let a = left.add(r * BY_ROW + pair * BY_PAIR).cast::<i32>().read_unaligned();
                let a = _mm512_set1_epi32(a);
                for p in 0..P {
                    sums[r][p] = _mm512_dpbf16_ps(sums[r][p], bf16s(a), bf16s(b[p]));
                }
            }
        }
    }
}

/// Asks for the cache line at `at`, which need not be valid, to be written.
#[inline(always)]
fn prefetch_to_write(at: *mut f32) {
    // SAFETY: processors with AVX-512 have the instruction, and it never faults.
    unsafe { asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags)) }
}

/// The first so many of 16 numbers, and zeros.
#[inline(always)]
unsafe fn load(from: *const f32, count: usize) -> __m512 {
    // SAFETY: as many are the caller's.
    unsafe {
        match count >= PANEL_ROWS {
            true => _mm512_loadu_ps(from),
            false => _mm512_maskz_loadu_ps(columns(count), from),
        }
    }
}

/// Stores the first so many of 16 numbers: all of them without a mask, which costs a store more than it seems.
#[inline(always)]
unsafe fn store(to: *mut f32, count: usize, numbers: __m512) {
    // SAFETY: as many are the caller's.
    unsafe {
        match count >= PANEL_ROWS {
            true => _mm512_storeu_ps(to, numbers),
            false => _mm512_mask_storeu_ps(to, columns(count), numbers),
        }
    }
}

#[inline(always)]
unsafe fn bf16s(x: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes, of which every value is valid.
    unsafe { std::mem::transmute(x) }
}

/// The first so many of 16 lanes.
fn columns(count: usize) -> __mmask16 {
    if count >= PANEL_ROWS { !0 } else { (1 << count) - 1 }
}

/// [`Paired::add_outer`].
///
/// # Safety
/// As there; the processor has these features.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")]
pub(super) unsafe fn outer(dy: &Paired, dy_panel: usize, x: &Paired, panels: (usize, usize), to: *mut f32) {
    let first = dy_panel * PANEL_ROWS;
    let count = PANEL_ROWS.min(dy.cols - first);
    for pair in (0..x.pairs()).step_by(STRETCH) {
        let pairs = STRETCH.min(x.pairs() - pair);
        let sets = (panels.1 - panels.0).div_ceil(PANELS) * count.div_ceil(ROWS);
        // What comes next of dy lies behind this, in the next panel if not in this one.
        let mut ahead =
            Ahead { next: dy.start(dy_panel, pair).wrapping_add(pairs * PAIR), step: PAIR.div_ceil(sets) };
        for panel in (panels.0..panels.1).step_by(PANELS) {
            let across = PANELS.min(panels.1 - panel);
            for row in (0..count).step_by(ROWS) {
                let rows = ROWS.min(count - row);
                // SAFETY: pointers stay inside the matrices.
                unsafe {
                    let left = dy.at(dy_panel, pair).add(4 * row);
                    let to = to.add((first + row) * x.cols + panel * PANEL_ROWS);
                    let left_columns = x.cols - panel * PANEL_ROWS;
                    sized!(rows, across, R, P, {
                        let right = std::array::from_fn(|p| x.at(panel + p, pair).cast_const());
                        outer_set::<R, P>(left, right, pairs, (to, x.cols, left_columns), &mut ahead);
                    });
                }
            }
        }
    }
}

/// `R` columns of dy and `P` panels of x, to a matrix with a stride and so many columns that are left.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")]
unsafe fn outer_set<const R: usize, const P: usize>(
    left: *const u8,
    right: [*const u8; P],
    pairs: usize,
    (to, stride, left_columns): (*mut f32, usize, usize),
    ahead: &mut Ahead,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let place = |r: usize, p: usize| to.wrapping_add(r * stride + p * PANEL_ROWS);
        // What is there comes from memory, and is wanted at the end.
        (0..R).for_each(|r| (0..P).for_each(|p| prefetch_to_write(place(r, p))));
        let mut sums = [[_mm512_setzero_ps(); P]; R];
        add::<R, P, 4, PAIR>(&mut sums, left, right, pairs, ahead);
        for (r, sums) in sums.iter().enumerate() {
            for (p, sum) in sums.iter().enumerate() {
                let (to, count) = (place(r, p), left_columns - p * PANEL_ROWS);
                store(to, count, _mm512_add_ps(load(to, count), *sum));
            }
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
