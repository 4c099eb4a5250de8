//! Matrices of 8-bit integers with scales, of which training makes its products where it is asked to: processors multiply
//! them twice as fast as BF16 numbers, and many multiply no BF16 at all.
//!
//! A scale belongs to a row of a weight or of activations in a stripe of columns, and to a column of a gradient's operand in
//! a stretch of rows (Xi et al. 2024, arXiv:2403.12422, divide both, finer; Wortsman et al. 2023, arXiv:2304.13013, keep whole
//! rows): one product of scales then takes the sum of a stripe, which is exact in `i32`, to a float. Weights and activations
//! are rounded to nearest; derivatives by chance, since most of them are small beside the largest.

#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // read by the kernels

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(test)]
mod tests;

use std::ops::Range;

use super::Output;
use super::activations::{Activations, Rounding};
use super::format::{PANEL_ROWS, STRIPE, WORDS};
use super::packed::Numbers;

/// Rows of [`Quads`] that share a scale in a column.
pub(crate) const STRETCH: usize = 1024;

/// Some panels of a weight: in each of them for every four columns all sixteen rows, with 128 added, then the scales of the
/// rows, stripe by stripe.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Int8Panels {
    pub(super) start: *mut u8,
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl Int8Panels {
    /// Bytes of a panel; `None` when that overflows.
    pub(crate) fn panel_bytes(cols: usize) -> Option<usize> {
        Self::codes(cols)?.checked_add(cols.div_ceil(STRIPE) * WORDS)
    }

    /// Bytes of a panel before its scales.
    pub(super) fn codes(cols: usize) -> Option<usize> {
        cols.div_ceil(4).checked_mul(WORDS)
    }

    /// A view of memory.
    ///
    /// # Safety
    /// `start` is where the panels of such a matrix are or would be: those that are used must be there meanwhile.
    pub(crate) unsafe fn new(start: *mut u8, (rows, cols): (usize, usize)) -> Int8Panels {
        Int8Panels { start, rows, cols }
    }

    /// Some of the panels.
    ///
    /// # Panics
    /// When they are not the matrix's.
    pub(crate) fn part(&self, panels: Range<usize>) -> Int8Panels {
        let (first, end) = (panels.start * PANEL_ROWS, self.rows.min(panels.end * PANEL_ROWS));
        assert!(first < end && panels.end <= self.rows.div_ceil(PANEL_ROWS), "panels {panels:?} of {self:?}");
        let bytes = Self::panel_bytes(self.cols).expect("a matrix that is there");
        Int8Panels { start: self.start.wrapping_add(panels.start * bytes), rows: end - first, ..*self }
    }

    /// Writes some panels of a matrix of numbers, which come row by row, or column by column if transposed.
    ///
    /// # Panics
    /// When there are not as many numbers.
    ///
    /// # Safety
    /// The processor has such products of 8-bit integers ([`crate::Isa::has_int8_training`]), and nobody else uses these panels meanwhile.
    pub(crate) unsafe fn pack(&self, (numbers, transposed): (&[f32], bool), panels: Range<usize>) {
        assert_eq!(numbers.len(), self.rows * self.cols, "numbers of {self:?}");
        let (by_row, by_col) = if transposed { (1, self.rows) } else { (self.cols, 1) };
        let (source, first) = (Numbers { numbers, by_row, by_col }, panels.start * PANEL_ROWS);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as the caller promises.
        unsafe {
            avx512::pack_panels(&self.part(panels), source, first);
        }
        #[cfg(not(target_arch = "x86_64"))]
        unreachable!(
            "no processor of this architecture has such products of 8-bit integers: {first} {}",
            source.by_row
        );
    }

    /// Rows of the matrix.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// y = x Wᵀ for some rows of x. A number has the same bits however rows and panels are divided.
    ///
    /// # Safety
    /// As [`super::matmul`]; x is of such integers.
    pub(crate) unsafe fn product(&self, x: &Activations, rows: Range<usize>, y: Output) {
        debug_assert!(x.shape().cols() == self.cols && rows.end <= x.shape().rows());
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as the caller promises.
        unsafe {
            avx512::product(self, x, rows, y);
        }
        #[cfg(not(target_arch = "x86_64"))]
        unreachable!(
            "no processor of this architecture has such products of 8-bit integers: {x:?} {rows:?} {y:?}"
        );
    }
}

/// Writes some of a row of activations, from a stripe on.
///
/// # Safety
/// As [`super::quantize_part`], which checked the lengths; the processor has such products of 8-bit integers.
pub(super) unsafe fn write_row(rounding: Rounding, x: &[f32], to: &Activations, row: usize, first: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as the caller promises.
    unsafe {
        avx512::write_row(rounding, x, to, row, first);
    }
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!(
        "no processor of this architecture has such products of 8-bit integers: {rounding:?} {x:?} {to:?} {row} {first}"
    );
}

/// A matrix of which four rows are together: panel by panel of 16 columns, in each of them stretches of rows, and in
/// those for every four rows all columns, then the scales of the columns, and −128 times their sums. So it can be an
/// operand of a product that sums over rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quads {
    start: *mut u8,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Derivatives, the left operand, are dithered; the numbers of the right one have 128 added.
    pub(super) rounding: Rounding,
}

/// Numbers of which [`Quads`] are made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ColumnSource {
    /// Where the first is, and floats from one row to the next.
    Floats(*const f32, usize),
    /// An operand in BF16.
    Bf16(Activations),
}

impl Quads {
    /// Bytes of a matrix; `None` when that overflows.
    pub(crate) fn bytes(rows: usize, cols: usize) -> Option<usize> {
        let panel = rows.div_ceil(4).checked_mul(WORDS)?.checked_add(rows.div_ceil(STRETCH) * 2 * WORDS)?;
        panel.checked_mul(cols.div_ceil(PANEL_ROWS))
    }

    /// A view of memory.
    ///
    /// # Safety
    /// `start` is good for [`Quads::bytes`] while the view is used.
    pub(crate) unsafe fn new(start: *mut u8, rows: usize, cols: usize, rounding: Rounding) -> Quads {
        Quads { start, rows, cols, rounding }
    }

    /// Panels of 16 columns; the last may have fewer.
    pub(crate) fn panels(&self) -> usize {
        self.cols.div_ceil(PANEL_ROWS)
    }

    /// Panels that so many bytes have room for.
    pub(crate) fn panels_in(&self, bytes: usize) -> usize {
        bytes / Quads::bytes(self.rows, 1).expect("a matrix that is there").max(1)
    }

    /// Stretches of rows; the last may have fewer.
    pub(crate) fn stretches(&self) -> usize {
        self.rows.div_ceil(STRETCH)
    }

    /// Whether it is written past the caches, which have no room for it.
    pub(super) fn is_streamed(&self) -> bool {
        self.start.addr().is_multiple_of(WORDS) && self.rows * self.cols >= super::activations::STREAMED
    }

    /// Words of a column of a stretch.
    pub(super) fn words(&self, stretch: usize) -> usize {
        (self.rows - stretch * STRETCH).min(STRETCH).div_ceil(4)
    }

    /// Where a stretch of a panel is or would be.
    pub(super) fn at(&self, panel: usize, stretch: usize) -> *mut u8 {
        let panel_bytes = self.rows.div_ceil(4) * WORDS + self.stretches() * 2 * WORDS;
        self.start.wrapping_add(panel * panel_bytes + stretch * (STRETCH / 4 * WORDS + 2 * WORDS))
    }

    /// Writes a stretch of some panels.
    ///
    /// # Safety
    /// The processor has such products of 8-bit integers; `from` has the matrix's rows and columns; nothing else uses these places.
    pub(crate) unsafe fn write(&self, panels: Range<usize>, stretch: usize, from: &ColumnSource) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as the caller promises.
        unsafe {
            avx512::write_quads(self, panels, stretch, from);
        }
        #[cfg(not(target_arch = "x86_64"))]
        unreachable!(
            "no processor of this architecture has such products of 8-bit integers: {panels:?} {stretch} {from:?}"
        );
    }

    /// Adds Σ dy xᵀ over the rows of this matrix, dy, and another, for the columns of a panel of dy and those of some
    /// panels of x, to a matrix that has a row for every column of dy.
    ///
    /// # Safety
    /// The processor has such products of 8-bit integers; both matrices are written and have as many rows; this part of `to`, whose
    /// rows are as long as those of x, is nobody else's.
    pub(crate) unsafe fn add_outer(&self, panel: usize, x: &Quads, panels: (usize, usize), to: *mut f32) {
        debug_assert!(self.rows == x.rows && panel < self.panels() && panels.1 <= x.panels());
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as the caller promises.
        unsafe {
            avx512::outer(self, panel, x, panels, to);
        }
        #[cfg(not(target_arch = "x86_64"))]
        unreachable!(
            "no processor of this architecture has such products of 8-bit integers: {panel} {x:?} {panels:?} {to:?}"
        );
    }
}
