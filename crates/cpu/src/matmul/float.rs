//! Products with float weights, written once over sixteen lanes.

use super::format::{CHUNK, PANEL_ROWS, float_len};
use super::lanes::Lanes;
use super::{ROW_BLOCK, ScratchParts, Task};
use autarky_quant::DType;

/// Panels that a row runs over side by side, so that a sum's chain of additions does not wait for itself.
const SIDE_BY_SIDE: usize = 4;
/// How far ahead of its use packed weights are fetched, in bytes of each panel.
const PREFETCH: usize = 1024;

/// How a float type is packed, as a type parameter.
trait Float {
    const DTYPE: DType;

    /// Elements `k` and `k + 1` (`k` even) of sixteen rows of a packed chunk.
    ///
    /// # Safety
    /// As [`Lanes`]; `chunk` points to a packed chunk that has both.
    unsafe fn two<V: Lanes>(chunk: *const u8, k: usize) -> [V; 2];

    /// Element `k` (even) of sixteen rows of a packed chunk.
    ///
    /// # Safety
    /// As [`Lanes`]; `chunk` points to a packed chunk that has it.
    unsafe fn one<V: Lanes>(chunk: *const u8, k: usize) -> V;
}

struct F32;
struct F16;
struct Bf16;

impl Float for F32 {
    const DTYPE: DType = DType::F32;
    #[inline(always)]
    unsafe fn two<V: Lanes>(chunk: *const u8, k: usize) -> [V; 2] {
        // SAFETY: the caller's promise.
        unsafe { [Self::one(chunk, k), Self::one(chunk, k + 1)] }
    }
    #[inline(always)]
    unsafe fn one<V: Lanes>(chunk: *const u8, k: usize) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load(chunk.cast::<f32>().add(k * PANEL_ROWS)) }
    }
}

impl Float for F16 {
    const DTYPE: DType = DType::F16;
    #[inline(always)]
    unsafe fn two<V: Lanes>(chunk: *const u8, k: usize) -> [V; 2] {
        // SAFETY: the caller's promise.
        unsafe { [Self::one(chunk, k), Self::one(chunk, k + 1)] }
    }
    #[inline(always)]
    unsafe fn one<V: Lanes>(chunk: *const u8, k: usize) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load_f16(chunk.add(k * PANEL_ROWS * 2)) }
    }
}

impl Float for Bf16 {
    const DTYPE: DType = DType::BF16;
    #[inline(always)]
    unsafe fn two<V: Lanes>(chunk: *const u8, k: usize) -> [V; 2] {
        // SAFETY: the caller's promise; elements are packed in pairs.
        unsafe { V::load_bf16_pairs(chunk.add(k * PANEL_ROWS * 2)) }
    }
    #[inline(always)]
    unsafe fn one<V: Lanes>(chunk: *const u8, k: usize) -> V {
        // SAFETY: the caller's promise; chunks are padded to whole pairs.
        unsafe { Self::two::<V>(chunk, k)[0] }
    }
}

/// A product with float weights; `M` rows at a time fit the registers.
///
/// # Safety
/// As [`Lanes`], and as [`super::matmul`], whose checks were made.
#[inline(always)]
pub(super) unsafe fn product<V: Lanes, const M: usize>(task: &Task<'_>, scratch: &mut ScratchParts) {
    // SAFETY: the caller's promise.
    unsafe {
        match task.weight.dtype() {
            DType::F32 => product_of::<V, F32, M>(task, scratch),
            DType::F16 => product_of::<V, F16, M>(task, scratch),
            _ => product_of::<V, Bf16, M>(task, scratch),
        }
    }
}

/// # Safety
/// As [`product`].
#[inline(always)]
unsafe fn product_of<V: Lanes, F: Float, const M: usize>(task: &Task<'_>, scratch: &mut ScratchParts) {
    let (start, end) = task.rows;
    // SAFETY: as the caller's.
    unsafe {
        if end - start <= 2 {
            for row in start..end {
                let mut panel = task.panels.0;
                while task.panels.1 - panel >= SIDE_BY_SIDE {
                    one_row::<V, F, SIDE_BY_SIDE>(task, panel, row);
                    panel += SIDE_BY_SIDE;
                }
                while panel < task.panels.1 {
                    one_row::<V, F, 1>(task, panel, row);
                    panel += 1;
                }
            }
            return;
        }
        for first in (start..end).step_by(ROW_BLOCK) {
            let rows = ROW_BLOCK.min(end - first);
            for panel in task.panels.0..task.panels.1 {
                many_rows::<V, F, M>(task, scratch, panel, first, rows);
            }
        }
    }
}

/// One row against `P` panels.
///
/// # Safety
/// As [`product`].
#[inline(always)]
unsafe fn one_row<V: Lanes, F: Float, const P: usize>(task: &Task<'_>, panel: usize, row: usize) {
    let cols = task.weight.cols();
    // SAFETY: pointers stay inside the panels and the activations' row.
    unsafe {
        let mut totals = [V::splat(0.0); P];
        for chunk in 0..cols.div_ceil(CHUNK) {
            let len = (cols - chunk * CHUNK).min(CHUNK);
            // Only the last chunk is shorter, so the earlier ones are full.
            let offset = chunk * CHUNK * PANEL_ROWS * F::DTYPE.block_bytes();
            let x = task.activations.floats(chunk, row);
            let mut at = [std::ptr::null(); P];
            for (p, at) in at.iter_mut().enumerate() {
                *at = task.weight.panel(panel + p).add(offset);
            }
            let mut parts = [V::splat(0.0); P];
            let step = 2 * PANEL_ROWS * F::DTYPE.block_bytes();
            for pair in 0..len / 2 {
                let (x0, x1) = (V::splat(*x.add(2 * pair)), V::splat(*x.add(2 * pair + 1)));
                for (part, at) in parts.iter_mut().zip(at) {
                    for line in (0..step).step_by(64) {
                        super::prefetch(at.wrapping_add(PREFETCH + pair * step + line));
                    }
                    let [w0, w1] = F::two::<V>(at, 2 * pair);
                    *part = w1.fma(x1, w0.fma(x0, *part));
                }
            }
            if len % 2 == 1 {
                let x0 = V::splat(*x.add(len - 1));
                for (part, at) in parts.iter_mut().zip(at) {
                    *part = F::one::<V>(at, len - 1).fma(x0, *part);
                }
            }
            for (total, part) in totals.iter_mut().zip(parts) {
                *total = total.add(part);
            }
        }
        for (p, total) in totals.iter().enumerate() {
            let mut sums = [0.0; PANEL_ROWS];
            total.store(sums.as_mut_ptr());
            task.store(row, panel + p, sums.as_ptr());
        }
    }
}

/// `rows` rows from `first` on against one panel, a chunk at a time.
///
/// # Safety
/// As [`product`].
#[inline(always)]
unsafe fn many_rows<V: Lanes, F: Float, const M: usize>(
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
            for pair in 0..len / 2 {
                let [w0, w1] = F::two::<V>(at, 2 * pair);
                w0.store(floats[2 * pair].as_mut_ptr());
                w1.store(floats[2 * pair + 1].as_mut_ptr());
            }
            if len % 2 == 1 {
                F::one::<V>(at, len - 1).store(floats[len - 1].as_mut_ptr());
            }
            at = at.add(float_len(F::DTYPE, len) * PANEL_ROWS * F::DTYPE.block_bytes());
            let weights = &floats[..len];
            let mut row = 0;
            while rows - row >= M {
                block::<V, M>(task, weights, chunk, first + row, &mut sums[row..]);
                row += M;
            }
            while rows - row >= 3 {
                block::<V, 3>(task, weights, chunk, first + row, &mut sums[row..]);
                row += 3;
            }
            while row < rows {
                block::<V, 1>(task, weights, chunk, first + row, &mut sums[row..]);
                row += 1;
            }
        }
        for (row, sums) in sums[..rows].iter().enumerate() {
            task.store(first + row, panel, sums.as_ptr());
        }
    }
}

/// `M` rows from `row` on against a chunk of floats; `sums` are theirs.
///
/// # Safety
/// As [`product`].
#[inline(always)]
unsafe fn block<V: Lanes, const M: usize>(
    task: &Task<'_>,
    weights: &[[f32; PANEL_ROWS]],
    chunk: usize,
    row: usize,
    sums: &mut [[f32; PANEL_ROWS]],
) {
    // SAFETY: the rows are inside the view.
    unsafe {
        let x = task.activations.floats(chunk, row);
        let mut parts = [V::splat(0.0); M];
        for (k, w) in weights.iter().enumerate() {
            let w = V::load(w.as_ptr());
            for (m, part) in parts.iter_mut().enumerate() {
                *part = w.fma(V::splat(*x.add(m * CHUNK + k)), *part);
            }
        }
        for (sum, part) in sums.iter_mut().zip(parts) {
            V::load(sum.as_ptr()).add(part).store(sum.as_mut_ptr());
        }
    }
}
