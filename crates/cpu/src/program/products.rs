//! Products with weights.

use std::ops::Range;

use autarky_graph::ActivationKind as Function;

use crate::kernels::elementwise::Binary;
use crate::matmul::{
    ActivationKind, Activations, Int8Panels, Output, PANEL_ROWS, PackedWeight, STRIPE, matmul,
};

use super::lower::GATE_WINDOW;
use super::run::Run;
use super::task::{BufferId, Matrix, Operand};
use super::weights::{Lent, panels_at_once};

/// Rows that one piece of a product covers at most: their activations stay in the second-level cache while a thread runs
/// them through one panel after another.
pub(super) const ROWS: usize = 128;
/// Pieces have multiples of so many rows, but for the last: the sets that kernels run through a panel are full then.
const SET: usize = 8;
/// Panels that one piece covers at most, in threes as kernels take them: what is done with its results finds them in
/// that cache.
const PANELS: usize = 18;
/// Rows that go by panels which a thread has packed for itself, at least.
const PACKED_ROWS: usize = 256;
/// Bytes of stripes of columns of a block of a packed weight.
const STRIPES: usize = 600 << 10;
/// Panels that a thread packs at a time for all.
const PACKED_PANELS: usize = 3;
/// Bytes of a block of rows beside such panels.
const ROW_BYTES: usize = 256 << 10;
/// Bytes of a result from which on it is not kept in caches.
const STREAMED: usize = 4 << 20;
/// Up to this many rows, a piece covers as many panels as a thread takes at once, to read them as one stream.
const FEW_ROWS: usize = 8;

impl Run<'_, '_> {
    /// y = W x (+ bias) (+ another value).
    pub(super) fn linear(
        &self,
        (weight, packed): (usize, Option<BufferId>),
        bias: Option<usize>,
        from: &Operand,
        add: Option<Matrix>,
        to: &Matrix,
    ) {
        let x = self.operand(from, 0);
        let bias = self.vector(bias);
        let finish = |first: usize, count: usize, rows: Range<usize>| {
            for row in rows {
                // SAFETY: the columns are inside the row, and this thread's.
                unsafe {
                    let y = self.row(to, row).add(first);
                    if !bias.is_null() {
                        (self.kernels().binary)(Binary::Add, y, bias.add(first), y, count);
                    }
                    if let Some(add) = &add {
                        (self.kernels().binary)(Binary::Add, y, self.row(add, row).add(first), y, count);
                    }
                }
            }
        };
        if let Some(lent) = self.prepared.weights[weight].lent() {
            // What is finished is read again.
            let streamed = bias.is_null() && add.is_none() && 4 * x.shape().rows() * to.width >= STREAMED;
            let to = Output { streamed, ..Output::new(self.row(to, 0), to.width) };
            return match packed {
                Some(buffer) => self.packed_product(&self.packed(lent, buffer), &x, to, finish),
                None => self.lent_product(lent, &x, to, finish),
            };
        }
        let weight = &self.prepared.weights[weight].matrices()[0];
        let blocks = x.shape().rows().div_ceil(ROWS);
        let threads = self.worker.threads();
        let grain = match x.shape().kind() {
            // Of numbers of two bytes and more a block of rows leaves little room in the cache: read it once.
            ActivationKind::Bf16 if blocks.is_multiple_of(threads) || blocks > 8 * threads => weight.panels(),
            _ => self.panel_grain(weight),
        };
        self.pieces(weight.panels(), grain, x.shape().rows(), |panels, rows| {
            self.product(weight, &x, panels.clone(), rows.clone(), Output::new(self.row(to, 0), to.width));
            let (first, count) = columns(weight, &panels);
            finish(first, count, rows);
        });
    }

    /// A product with a weight that the step lends. A thread packs a block of panels, which stays in its cache while many rows
    /// go by.
    fn lent_product(
        &self,
        lent: &Lent,
        x: &Activations,
        to: Output,
        finish: impl Fn(usize, usize, Range<usize>),
    ) {
        let (panels, rows) = (lent.shape.0.div_ceil(PANEL_ROWS), x.shape().rows());
        let at_once = lent.at_once();
        let (across, threads) = (panels.div_ceil(at_once), self.worker.threads());
        // Every thread has as many blocks. Those that are left are shared in pieces: enough for threads to finish together,
        // but not so few rows in each that packing would count.
        let whole = across / threads * threads;
        let down = (2 * threads).div_ceil((across - whole).max(1)).min(rows / PACKED_ROWS).max(1);
        let part = rows.div_ceil(down).next_multiple_of(SET);
        let row = lent.shape.1.min(STRIPE) * if lent.int8 { 1 } else { 2 };
        let height = (ROW_BYTES / row).clamp(ROWS / 2, ROWS) / SET * SET;
        let numbers = (self.step.weights[lent.weight], lent.transposed);
        let product = |block: usize, of: Range<usize>| {
            let panels = block * at_once..panels.min((block + 1) * at_once);
            let (first, thread) = (panels.start * PANEL_ROWS, (self.prepared.isa, self.worker.index()));
            let y = Output { start: to.start.wrapping_add(first), ..to };
            let windows = of.clone().step_by(height).map(|start| start..of.end.min(start + height));
            let blocks = &self.prepared.blocks;
            if lent.int8 {
                // SAFETY: the device checked the instruction set; no other block of this thread is in use.
                let weight = unsafe { blocks.pack_int8(thread.1, lent.shape, numbers, panels) };
                for rows in windows {
                    // SAFETY: the window is this thread's.
                    unsafe { weight.product(x, rows.clone(), y) };
                    finish(first, weight.rows(), rows);
                }
                return;
            }
            // SAFETY: as above.
            let weight = unsafe { blocks.pack(thread, lent.dtype, lent.shape, numbers, panels) };
            for rows in windows {
                self.product(&weight, x, 0..weight.panels(), rows.clone(), y);
                finish(first, weight.rows(), rows);
            }
        };
        self.worker.for_each(whole, 1, |blocks| blocks.for_each(|block| product(block, 0..rows)));
        self.worker.for_each((across - whole) * down, 1, |pieces| {
            for piece in pieces {
                let start = piece % down * part;
                product(whole + piece / down, start..rows.min(start + part));
            }
        });
    }

    /// A product with a weight that was packed before: blocks of it whose stripes of columns stay in the second-level
    /// cache beside those of some rows.
    fn packed_product(
        &self,
        weight: &Int8Panels,
        x: &Activations,
        to: Output,
        finish: impl Fn(usize, usize, Range<usize>),
    ) {
        let (panels, rows) = (weight.rows().div_ceil(PANEL_ROWS), x.shape().rows());
        let stripe = Int8Panels::panel_bytes(x.shape().cols().min(STRIPE)).expect("a matrix that is there");
        let at_once = panels_at_once(panels, STRIPES / stripe);
        let height = rows.div_ceil(rows.div_ceil(ROWS).max(1)).next_multiple_of(SET).max(SET);
        let (across, down) = (panels.div_ceil(at_once), rows.div_ceil(height));
        self.worker.for_each(across * down, 1, |pieces| {
            for piece in pieces {
                let (block, start) = (piece / down * at_once, piece % down * height);
                let part = weight.part(block..panels.min(block + at_once));
                let (first, rows) = (block * PANEL_ROWS, start..rows.min(start + height));
                let y = Output { start: to.start.wrapping_add(first), ..to };
                // SAFETY: the device checked the instruction set; the window is this thread's.
                unsafe { part.product(x, rows.clone(), y) };
                finish(first, part.rows(), rows);
            }
        });
    }

    /// A weight that the step lends, as bytes in a buffer.
    fn packed(&self, lent: &Lent, buffer: BufferId) -> Int8Panels {
        // SAFETY: the buffer was planned for the matrix.
        unsafe { Int8Panels::new(self.buffer(buffer), lent.shape) }
    }

    /// Packs a weight that the step lends.
    pub(super) fn pack(&self, weight: usize, to: BufferId) {
        let lent = self.prepared.weights[weight].lent().expect("what is packed for a step is lent");
        let to = self.packed(lent, to);
        let numbers = (self.step.weights[lent.weight], lent.transposed);
        self.worker.for_each(lent.shape.0.div_ceil(PANEL_ROWS), PACKED_PANELS, |panels| {
            // SAFETY: the processor has such products of 8-bit integers, for which this was lowered; the panels are this thread's.
            unsafe { to.pack(numbers, panels) };
        });
    }

    /// y = f(W_gate x) · (W_up x).
    pub(super) fn gated_linear(
        &self,
        function: Function,
        gate: &(usize, Option<usize>, Operand),
        up: &(usize, Option<usize>, Operand),
        to: &Matrix,
    ) {
        let matrix = |w: usize| &self.prepared.weights[w].matrices()[0];
        let (gate_weight, up_weight) = (matrix(gate.0), matrix(up.0));
        let (gate_x, up_x) = (self.operand(&gate.2, 0), self.operand(&up.2, 0));
        let biases = (self.vector(gate.1), self.vector(up.1));
        let grain = self.panel_grain(gate_weight);
        let y = (self.row(to, 0), to.width);
        self.pieces(gate_weight.panels(), grain, gate_x.shape().rows(), |panels, rows| {
            self.gated(function, (gate_weight, &gate_x), (up_weight, &up_x), biases, panels, rows, y);
        });
    }

    /// A window of f(W_gate x + b) · (W_up x + b): at most [`ROWS`] rows.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn gated(
        &self,
        function: Function,
        gate: (&PackedWeight, &Activations),
        up: (&PackedWeight, &Activations),
        (gate_bias, up_bias): (*const f32, *const f32),
        panels: Range<usize>,
        rows: Range<usize>,
        (y, width): (*mut f32, usize),
    ) {
        // As many columns at a time as have room in the scratch.
        let most = (GATE_WINDOW / rows.len() / PANEL_ROWS).max(1);
        for start in panels.clone().step_by(most) {
            let panels = start..panels.end.min(start + most);
            let (first, count) = columns(gate.0, &panels);
            let (scratch, stride) = (self.scratch(), panels.len() * PANEL_ROWS);
            let origin = scratch.wrapping_sub(rows.start * stride + first);
            self.product(gate.0, gate.1, panels.clone(), rows.clone(), Output::new(y, width));
            self.product(up.0, up.1, panels, rows.clone(), Output::new(origin, stride));
            for row in rows.clone() {
                // SAFETY: the window is this thread's, and the scratch is as large as a window.
                unsafe {
                    let g = y.add(row * width + first);
                    let u = scratch.add((row - rows.start) * stride);
                    for (x, bias) in [(g, gate_bias), (u, up_bias)] {
                        if !bias.is_null() {
                            (self.kernels().binary)(Binary::Add, x, bias.add(first), x, count);
                        }
                    }
                    (self.kernels().binary)(Binary::Gated(function), g, u, g, count);
                }
            }
        }
    }

    /// y_h = W_h x_h.
    pub(super) fn head_linear(&self, weight: usize, from: &Operand, out: usize, to: &Matrix) {
        let weights = self.prepared.weights[weight].matrices();
        let panels = weights[0].panels();
        let rows = self.count(from.rows);
        self.pieces(weights.len(), 1, rows, |heads, rows| {
            for head in heads {
                let x = self.operand(from, head);
                // SAFETY: head `head` of a row of the result.
                let y = unsafe { Output::new(self.row(to, 0).add(head * out), to.width) };
                self.product(&weights[head], &x, 0..panels, rows.clone(), y);
            }
        });
    }

    /// Shares a product's panels and rows among the threads: all panels of some rows come before the next rows.
    fn pieces(
        &self,
        panels: usize,
        grain: usize,
        rows: usize,
        mut piece: impl FnMut(Range<usize>, Range<usize>),
    ) {
        let (across, down) = (panels.div_ceil(grain), rows.div_ceil(ROWS));
        let height = rows.div_ceil(down.max(1)).next_multiple_of(SET);
        let width = if rows <= FEW_ROWS { panels } else { PANELS };
        self.worker.for_each(across * down, 1, |range| {
            for (nth, pieces) in rows_of(range, across) {
                let rows = nth * height..rows.min((nth + 1) * height);
                let end = panels.min(pieces.end * grain);
                for start in (pieces.start * grain..end).step_by(width) {
                    piece(start..end.min(start + width), rows.clone());
                }
            }
        });
    }

    /// Panels that a thread takes at a time: few enough for threads to finish together.
    pub(super) fn panel_grain(&self, weight: &PackedWeight) -> usize {
        (weight.panels() / (8 * self.worker.threads())).clamp(1, 4)
    }

    /// A window of a product.
    pub(super) fn product(
        &self,
        weight: &PackedWeight,
        x: &Activations,
        panels: Range<usize>,
        rows: Range<usize>,
        y: Output,
    ) {
        self.worker.with_scratch(|scratch| {
            // SAFETY: the operand was written in an earlier stage; the window is this thread's; the device checked
            // that the machine runs the instruction set.
            unsafe { matmul(self.prepared.isa, weight, panels, x, rows, y, scratch) }
        });
    }
}

/// The rows of a matrix of `width` columns that a range of its elements touches, and the columns in each.
pub(super) fn rows_of(range: Range<usize>, width: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    (range.start / width..range.end.div_ceil(width)).map(move |row| {
        let at = row * width;
        (row, range.start.max(at) - at..range.end.min(at + width) - at)
    })
}

/// The first column that panels compute, and how many.
pub(super) fn columns(weight: &PackedWeight, panels: &Range<usize>) -> (usize, usize) {
    let first = panels.start * PANEL_ROWS;
    (first, weight.rows().min(panels.end * PANEL_ROWS) - first)
}
