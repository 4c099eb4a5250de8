//! Products with float weights, written once over sixteen lanes.

use super::format::{CHUNK, PANEL_ROWS, float_len};
use super::lanes::Lanes;
use super::{ROW_BLOCK, ScratchParts, Task};
use autarky_quant::DType;

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
        // Sums that fit the registers beside the weights: more would be spilled in the innermost loop.
        let most = if M >= 12 { 8 } else { 5 };
        match end - start {
            1 => return few_rows::<V, F, 1, 4>(task),
            2 => return few_rows::<V, F, 2, 2>(task),
            3 if most >= 6 => return few_rows::<V, F, 3, 2>(task),
            3 => return few_rows::<V, F, 3, 1>(task),
            4 if most >= 8 => return few_rows::<V, F, 4, 2>(task),
            4 => return few_rows::<V, F, 4, 1>(task),
            5 => return few_rows::<V, F, 5, 1>(task),
            6 if most >= 6 => return few_rows::<V, F, 6, 1>(task),
            7 if most >= 7 => return few_rows::<V, F, 7, 1>(task),
            8 if most >= 8 => return few_rows::<V, F, 8, 1>(task),
            _ => {}
        }
        for first in (start..end).step_by(ROW_BLOCK) {
            let rows = ROW_BLOCK.min(end - first);
            for panel in task.panels.0..task.panels.1 {
                many_rows::<V, F, M>(task, scratch, panel, first, rows);
            }
        }
    }
}

/// `R` rows against the task's panels, `P` at a time: side by side, so that a sum's chain of additions does not wait for
/// itself.
///
/// # Safety
/// As [`product`]; the task has `R` rows.
#[inline(always)]
unsafe fn few_rows<V: Lanes, F: Float, const R: usize, const P: usize>(task: &Task<'_>) {
    let mut panel = task.panels.0;
    // SAFETY: as the caller's.
    unsafe {
        while task.panels.1 - panel >= P {
            few_panels::<V, F, R, P>(task, panel);
            panel += P;
        }
        while panel < task.panels.1 {
            few_panels::<V, F, R, 1>(task, panel);
            panel += 1;
        }
    }
}

/// `R` rows against `P` panels.
///
/// # Safety
/// As [`few_rows`].
#[inline(always)]
unsafe fn few_panels<V: Lanes, F: Float, const R: usize, const P: usize>(task: &Task<'_>, panel: usize) {
    let cols = task.weight.cols();
    let first = task.rows.0;
    // SAFETY: pointers stay inside the panels and the activations' rows.
    unsafe {
        let mut totals = [[V::splat(0.0); P]; R];
        for chunk in 0..cols.div_ceil(CHUNK) {
            let len = (cols - chunk * CHUNK).min(CHUNK);
            // Only the last chunk is shorter, so the earlier ones are full.
            let offset = chunk * CHUNK * PANEL_ROWS * F::DTYPE.block_bytes();
            let x = task.activations.floats(chunk, first);
            let mut at = [std::ptr::null(); P];
            for (p, at) in at.iter_mut().enumerate() {
                *at = task.weight.panel(panel + p).add(offset);
            }
            let mut parts = [[V::splat(0.0); P]; R];
            for k in (0..len - len % 2).step_by(2) {
                for (p, at) in at.iter().enumerate() {
                    let [w0, w1] = F::two::<V>(*at, k);
                    for (r, parts) in parts.iter_mut().enumerate() {
                        let x = x.add(r * CHUNK + k);
                        parts[p] = w1.fma(V::splat(*x.add(1)), w0.fma(V::splat(*x), parts[p]));
                    }
                }
            }
            if len % 2 == 1 {
                for (p, at) in at.iter().enumerate() {
                    let w = F::one::<V>(*at, len - 1);
                    for (r, parts) in parts.iter_mut().enumerate() {
                        parts[p] = w.fma(V::splat(*x.add(r * CHUNK + len - 1)), parts[p]);
                    }
                }
            }
            for (total, part) in totals.as_flattened_mut().iter_mut().zip(parts.as_flattened()) {
                *total = total.add(*part);
            }
        }
        for (r, totals) in totals.iter().enumerate() {
            for (p, total) in totals.iter().enumerate() {
                task.store(first + r, panel + p, *total);
            }
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
            while row < rows {
                let rest = rows - row;
                // Blocks as equal as can be: a short one cannot hide the latency of its multiply-adds.
                let block = if rest >= 2 * M { M } else { rest.div_ceil(rest.div_ceil(M)) };
                any_block::<V, M>(task, weights, chunk, first + row, &mut sums[row..row + block]);
                row += block;
            }
        }
        for (row, sums) in sums[..rows].iter().enumerate() {
            task.store(first + row, panel, V::load(sums.as_ptr()));
        }
    }
}

/// As many rows from `row` on as there are `sums`, `M` at most and 12 in any case, against a chunk of floats.
///
/// # Safety
/// As [`product`].
#[inline(always)]
unsafe fn any_block<V: Lanes, const M: usize>(
    task: &Task<'_>,
    weights: &[[f32; PANEL_ROWS]],
    chunk: usize,
    row: usize,
    sums: &mut [[f32; PANEL_ROWS]],
) {
    const { assert!(M <= 12) };
    // SAFETY: the caller's promise.
    unsafe {
        match sums.len() {
            1 => block::<V, 1>(task, weights, chunk, row, sums),
            2 => block::<V, 2>(task, weights, chunk, row, sums),
            3 => block::<V, 3>(task, weights, chunk, row, sums),
            4 => block::<V, 4>(task, weights, chunk, row, sums),
            5 if M >= 5 => block::<V, 5>(task, weights, chunk, row, sums),
            6 if M >= 6 => block::<V, 6>(task, weights, chunk, row, sums),
            7 if M >= 7 => block::<V, 7>(task, weights, chunk, row, sums),
            8 if M >= 8 => block::<V, 8>(task, weights, chunk, row, sums),
            9 if M >= 9 => block::<V, 9>(task, weights, chunk, row, sums),
            10 if M >= 10 => block::<V, 10>(task, weights, chunk, row, sums),
            11 if M >= 11 => block::<V, 11>(task, weights, chunk, row, sums),
            12 if M >= 12 => block::<V, 12>(task, weights, chunk, row, sums),
            rows => unreachable!("a block of {rows} rows"),
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
