//! Matrices of BF16 numbers whose products sum over rows: gradients of weights.

use std::ops::Range;

use super::Activations;
use super::format::{CHUNK, PANEL_ROWS, WORDS};

/// A matrix in BF16, pairs of rows together: panel by panel of 16 columns, and in each of them for every pair of rows
/// both numbers of every column. So it can be the left and the right operand of a product that sums over rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paired {
    start: *mut u8,
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl Paired {
    /// Bytes of a matrix; `None` when that overflows.
    pub(crate) fn bytes(rows: usize, cols: usize) -> Option<usize> {
        rows.div_ceil(2).checked_mul(WORDS)?.checked_mul(cols.div_ceil(PANEL_ROWS))
    }

    /// A view of memory.
    ///
    /// # Safety
    /// `start` is good for [`Paired::bytes`] while the view is used.
    pub(crate) unsafe fn new(start: *mut u8, rows: usize, cols: usize) -> Paired {
        Paired { start, rows, cols }
    }

    /// Bytes from one panel to the next.
    pub(crate) fn panel_stride(&self) -> usize {
        self.pairs() * WORDS
    }

    /// Panels of 16 columns; the last may have fewer.
    pub(crate) fn panels(&self) -> usize {
        self.cols.div_ceil(PANEL_ROWS)
    }

    /// Pairs of rows; the last may have one.
    pub(crate) fn pairs(&self) -> usize {
        self.rows.div_ceil(2)
    }

    /// Panels that so many bytes have room for.
    pub(crate) fn panels_in(&self, bytes: usize) -> usize {
        bytes / (self.pairs().max(1) * WORDS)
    }

    /// Where a pair of rows of a panel is or would be.
    pub(crate) fn start(&self, panel: usize, pair: usize) -> *const u8 {
        self.start.wrapping_add((panel * self.pairs() + pair) * WORDS)
    }

    /// A pair of rows of a panel.
    ///
    /// # Safety
    /// Both are the matrix's.
    pub(crate) unsafe fn at(&self, panel: usize, pair: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { self.start.add((panel * self.pairs() + pair) * WORDS) }
    }

    /// Writes a panel from rows of floats, `stride` numbers apart, rounding to nearest (ties to even).
    ///
    /// # Safety
    /// The processor has BF16 products ([`crate::Isa::has_bf16_products`]); `from` has the matrix's rows and columns;
    /// nothing else uses the panel.
    pub(crate) unsafe fn write_panel(&self, panel: usize, from: *const f32, stride: usize) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as the caller promises.
        unsafe {
            super::bf16::write_panel(self, panel, from, stride);
        }
        #[cfg(not(target_arch = "x86_64"))]
        unreachable!("no processor of this architecture has BF16 products: {panel} {from:?} {stride}");
    }

    /// Chunks of columns that [`Paired::write_chunk`] writes.
    pub(crate) fn chunks(&self) -> usize {
        self.cols.div_ceil(CHUNK)
    }

    /// Writes some pairs of rows, those columns of them that are a chunk of an operand in BF16.
    ///
    /// # Safety
    /// The processor has BF16 products; `from` has the matrix's rows and columns, and both the chunk and the pairs are
    /// there; nothing else uses these places.
    pub(crate) unsafe fn write_chunk(&self, chunk: usize, pairs: Range<usize>, from: &Activations) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as the caller promises.
        unsafe {
            super::bf16::write_chunk(self, chunk, pairs, from);
        }
        #[cfg(not(target_arch = "x86_64"))]
        unreachable!("no processor of this architecture has BF16 products: {chunk} {pairs:?} {from:?}");
    }

    /// As [`Paired::write_panel`], of the transpose: `from` has a row for every column of the matrix.
    ///
    /// # Safety
    /// As there, with rows and columns exchanged.
    pub(crate) unsafe fn write_transposed(&self, panel: usize, from: *const f32, stride: usize) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as the caller promises.
        unsafe {
            super::bf16::write_transposed(self, panel, from, stride);
        }
        #[cfg(not(target_arch = "x86_64"))]
        unreachable!("no processor of this architecture has BF16 products: {panel} {from:?} {stride}");
    }

    /// Adds Σ dy xᵀ over the rows of this matrix, dy, and another, for the columns of a panel of dy and those of some
    /// panels of x, to a matrix that has a row for every column of dy.
    ///
    /// # Safety
    /// The processor has BF16 products; both matrices are written and have as many rows; this part of `to`, whose rows
    /// are as long as those of x, is nobody else's.
    pub(crate) unsafe fn add_outer(&self, panel: usize, x: &Paired, panels: (usize, usize), to: *mut f32) {
        debug_assert!(self.rows == x.rows && panel < self.panels() && panels.1 <= x.panels());
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as the caller promises.
        unsafe {
            super::bf16::outer(self, panel, x, panels, to);
        }
        #[cfg(not(target_arch = "x86_64"))]
        unreachable!("no processor of this architecture has BF16 products: {panel} {x:?} {panels:?} {to:?}");
    }
}
