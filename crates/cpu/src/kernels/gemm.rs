//! Products of matrices of floats as they lie in memory: what derivatives are made of.

use super::attention::row_groups;
use super::lanes::{LANES, Lanes, load_part, store_part};

/// Numbers of the inner dimension that are summed by themselves before they are added to the rest.
const INNER: usize = 256;

/// C\[i\]\[j\] = Σ_k A\[i\]\[k\] · B\[k\]\[j\], or that added to C. Numbers of a row of B and of C follow one another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gemm {
    /// A.
    pub(crate) left: *const f32,
    /// Numbers from one row of A to the next, and from one of its columns to the next.
    pub(crate) left_strides: (usize, usize),
    /// B.
    pub(crate) right: *const f32,
    /// Numbers from one row of B to the next.
    pub(crate) right_stride: usize,
    /// C.
    pub(crate) to: *mut f32,
    /// Numbers from one row of C to the next.
    pub(crate) to_stride: usize,
    /// Rows of A and C.
    pub(crate) rows: usize,
    /// Columns of B and C.
    pub(crate) cols: usize,
    /// Columns of A, rows of B.
    pub(crate) inner: usize,
    /// Whether to add to what C has.
    pub(crate) add: bool,
}

/// Computes a [`Gemm`]. A number of the result is the same bits however the rows and columns are divided: over stretches
/// of [`INNER`] in ascending order it adds a chain of multiply-adds, k ascending, to what is there.
///
/// # Safety
/// As for [`Lanes`]; the pointers are good for the matrices, C overlaps neither of the others, and nobody writes A or B
/// or uses C meanwhile.
#[inline(always)]
pub(crate) unsafe fn gemm<V: Lanes>(g: &Gemm) {
    let mut from = 0;
    loop {
        let count = INNER.min(g.inner - from);
        let part = Part { from, count, add: g.add || from > 0 };
        let mut column = 0;
        // SAFETY: as the caller promises.
        unsafe {
            if V::VECTORS == 2 {
                while column + 2 * LANES <= g.cols {
                    row_groups!(V::ROWS, 0, g.rows, i, R, block::<V, R, 2>(g, part, i, column, 2 * LANES));
                    column += 2 * LANES;
                }
            }
            while column < g.cols {
                let width = LANES.min(g.cols - column);
                row_groups!(V::ROWS, 0, g.rows, i, R, block::<V, R, 1>(g, part, i, column, width));
                column += LANES;
            }
        }
        from += count;
        if from >= g.inner {
            return;
        }
    }
}

/// A stretch of the inner dimension.
#[derive(Clone, Copy)]
struct Part {
    from: usize,
    count: usize,
    /// Whether its sums are added to C.
    add: bool,
}

/// `R` rows from `row` on and `width` columns from `column` on, at most `W` vectors.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // loops of a fixed length over registers
unsafe fn block<V: Lanes, const R: usize, const W: usize>(
    g: &Gemm,
    part: Part,
    row: usize,
    column: usize,
    width: usize,
) {
    let (by_row, by_inner) = g.left_strides;
    // SAFETY: as the caller promises.
    unsafe {
        let left = g.left.add(row * by_row + part.from * by_inner);
        let right = g.right.add(part.from * g.right_stride + column);
        let to = g.to.add(row * g.to_stride + column);
        let mut sums = [[V::splat(0.0); W]; R];
        for k in 0..part.count {
            let mut b = [V::splat(0.0); W];
            let from = right.add(k * g.right_stride);
            if W == 1 {
                b[0] = load_part(from, width, 0.0);
            } else {
                for w in 0..W {
                    b[w] = V::load(from.add(w * LANES));
                }
            }
            for r in 0..R {
                let a = V::splat(*left.add(r * by_row + k * by_inner));
                for w in 0..W {
                    sums[r][w] = a.mul_add(b[w], sums[r][w]);
                }
            }
        }
        for r in 0..R {
            for w in 0..W {
                let to = to.add(r * g.to_stride + w * LANES);
                let count = if W == 1 { width } else { LANES };
                let mut sum = sums[r][w];
                if part.add {
                    sum = load_part::<V>(to, count, 0.0).add(sum);
                }
                store_part(sum, to, count);
            }
        }
    }
}
