//! Running the tasks of derivatives.

use crate::kernels::backward::Columns;
use crate::kernels::gemm::Gemm;
use crate::matmul::{CHUNK, ColumnSource, PANEL_ROWS, Paired, Quads, Rounding};

use super::super::run::Run;
use super::super::task::{Matrix, Operand, Sink};
use super::{Derivative, GatedBackward, Normed, Pairs, Stored};

/// Columns of a gradient that a thread takes at a time, and rows.
const COLUMNS: usize = 64;
const ROWS: usize = 48;
/// Panels of 16 columns that kernels take at a time: a thread takes multiples of it, as many as a part of the second-level
/// cache has room for.
const PANELS: usize = 3;
const CACHE: usize = 512 << 10;
/// Panels of which a thread puts a stretch of quads together at a time: a chunk of an operand.
const QUAD_PANELS: usize = CHUNK / PANEL_ROWS;
/// Pairs of rows of an operand that a thread puts together at a time.
const STRETCH: usize = 64;

impl Run<'_, '_> {
    pub(in super::super) fn derivative(&self, derivative: &Derivative) {
        match derivative {
            Derivative::CrossEntropy { logits, targets, to } => {
                self.each_row(to, |row, out| {
                    // SAFETY: the rows are there, and the step was checked for its targets.
                    unsafe { *out = self.cross_entropy(logits, targets, row, std::ptr::null_mut()).0 };
                });
            }
            Derivative::CrossEntropyBackward { logits, targets, factors, losses, to } => {
                // A stripe of a row stays in the first-level cache until it is in every form.
                self.rows_by_stripes(to, |row, out| {
                    // SAFETY: as above; `out` has the sink's width, which is that of the logits.
                    unsafe {
                        let (loss, sum) = self.cross_entropy(logits, targets, row, out);
                        if let Some(losses) = losses {
                            *self.row(losses, row) = loss;
                        }
                        let (target, factor) = (*self.row(targets, row) as usize, *self.row(factors, row));
                        move |first: usize, count: usize| {
                            (self.kernels().scale)(factor / sum, out.add(first), count);
                            if (first..first + count).contains(&target) {
                                *out.add(target) -= factor;
                            }
                        }
                    }
                });
            }
            Derivative::NormStats { kind, epsilon, from, last, to } => self.each_row(to, |row, out| {
                for group in 0..from.width / last {
                    // SAFETY: a row of stats has two numbers for each group of the row.
                    unsafe {
                        let x = self.row(from, row).add(group * last);
                        let (mean, factor) = (self.kernels().norm_stats)(*kind, *epsilon, x, *last);
                        *out.add(2 * group) = mean;
                        *out.add(2 * group + 1) = factor;
                    }
                }
            }),
            Derivative::NormBackward { kind, stats, weight, x, dy, last, to } => {
                let weight = self.vector(*weight);
                self.rows(to, |row, out| {
                    for group in 0..to.width / last {
                        let at = group * last;
                        // SAFETY: all rows have the sink's width, and the weight `last` numbers.
                        unsafe {
                            let stats = self.row(stats, row).add(2 * group);
                            let from = (
                                self.row(x, row).add(at).cast_const(),
                                weight,
                                self.row(dy, row).add(at).cast_const(),
                            );
                            let normed_by = (*stats, *stats.add(1));
                            (self.kernels().norm_backward)(*kind, normed_by, from, out.add(at), *last);
                        }
                    }
                });
            }
            Derivative::Columns { normed, dy, last, gain, shift } => {
                self.column_sums(normed.as_ref(), dy, *last, *gain, *shift);
            }
            Derivative::Outer { gradient, heads, x, dy } => self.outer(*gradient, *heads, x, dy),
            Derivative::Pack { weight, to, .. } => self.pack(*weight, *to),
            Derivative::Operand { from, to, .. } => self.make_operand(from, to),
            Derivative::Widened { from, to, .. } => {
                // SAFETY: `out` has the matrix's width, which is the operand's.
                self.each_row(to, |row, out| unsafe { self.widen(from, row, out) });
            }
            Derivative::Gated(gated) => self.gated_backward(gated),
            Derivative::Pair { from, to } => match to.rounding {
                None => self.pair(from, &self.paired(to)),
                Some(rounding) => self.write_quads(from, &self.quads(to, rounding)),
            },
            Derivative::OuterPairs { gradient, x, dy } => self.outer_pairs(*gradient, x, dy),
            Derivative::Embed { gradient, dy } => {
                let to = self.gradient(*gradient);
                self.worker.for_each(dy.width, COLUMNS, |columns| {
                    for (row, token) in self.step.tokens.iter().enumerate() {
                        // SAFETY: the token is in the table, and the columns are this thread's.
                        unsafe {
                            let from = self.row(dy, row).add(columns.start);
                            let to = to.add(*token as usize * dy.width + columns.start);
                            (self.kernels().add_scaled)(1.0, from, to, columns.len());
                        }
                    }
                });
            }
            Derivative::Widen { from, start, length, last, to } => self.rows(to, |row, out| {
                for group in 0..to.width / last {
                    // SAFETY: a row has `last` numbers for each group, of which `length` from `start` are dy's.
                    unsafe {
                        let (x, out) = (self.row(from, row).add(group * length), out.add(group * last));
                        std::ptr::write_bytes(out, 0, *last);
                        x.copy_to_nonoverlapping(out.add(*start), *length);
                    }
                }
            }),
            Derivative::Scatter { from, to } => self.scatter(from, to),
            Derivative::Attention(attention) => self.attention_backward(attention),
            Derivative::Experts(experts) => self.experts_backward(experts),
        }
    }

    /// Writes a row of BF16 numbers as floats.
    ///
    /// # Safety
    /// The row is the operand's, and `to` good for its width.
    unsafe fn widen(&self, from: &Operand, row: usize, to: *mut f32) {
        let rounded = self.operand(from, 0);
        for (chunk, first) in (0..from.width).step_by(CHUNK).enumerate() {
            // SAFETY: as the caller promises.
            unsafe {
                let count = CHUNK.min(from.width - first);
                (self.kernels().widen)(rounded.bf16s(chunk, row), to.add(first), count);
            }
        }
    }

    fn gated_backward(&self, g: &GatedBackward) {
        let (rows, width) = (self.count(g.dy.rows), g.dy.width);
        self.worker.for_each(rows, self.row_grain(rows), |range| {
            for row in range {
                // Rows that are nowhere else are in the scratch.
                let place = |nth: usize| self.scratch().wrapping_add(nth * width);
                let there = |stored: &Stored, nth: usize| match stored {
                    Stored::Numbers(matrix) => self.row(matrix, row).cast_const(),
                    Stored::Rounded(operand) => {
                        // SAFETY: the scratch has room for four rows.
                        unsafe { self.widen(operand, row, place(nth)) };
                        place(nth).cast_const()
                    }
                };
                let from = (there(&g.gate, 0), there(&g.up, 1), self.row(&g.dy, row).cast_const());
                let out = |sink: &Sink, nth| sink.value.as_ref().map_or(place(nth), |m| self.row(m, row));
                let to = (out(&g.by_gate, 2), out(&g.by_up, 3));
                // SAFETY: all rows have the width, and what is written is this thread's.
                unsafe { (self.kernels().gated_backward)(g.function, from, to, width) };
                for (sink, out) in [(&g.by_gate, to.0), (&g.by_up, to.1)] {
                    sink.operands.iter().for_each(|o| self.put_operand(o, row, out));
                }
            }
        });
    }

    fn pair(&self, from: &Stored, to: &Paired) {
        match from {
            Stored::Numbers(from) => self.worker.for_each(to.panels(), 1, |panels| {
                for panel in panels {
                    // SAFETY: the processor has BF16 products, for which this was lowered; the panel is this thread's.
                    unsafe { to.write_panel(panel, self.row(from, 0), from.width) };
                }
            }),
            Stored::Rounded(from) => {
                let (from, pairs) = (self.operand(from, 0), to.pairs());
                let across = pairs.div_ceil(STRETCH);
                self.worker.for_each(to.chunks() * across, 1, |range| {
                    for i in range {
                        let (chunk, first) = (i / across, i % across * STRETCH);
                        // SAFETY: as above.
                        unsafe { to.write_chunk(chunk, first..pairs.min(first + STRETCH), &from) };
                    }
                });
            }
        }
    }

    fn write_quads(&self, from: &Stored, to: &Quads) {
        let from = match from {
            Stored::Numbers(matrix) => ColumnSource::Floats(self.row(matrix, 0).cast_const(), matrix.width),
            Stored::Rounded(operand) => ColumnSource::Bf16(self.operand(operand, 0)),
        };
        let across = to.panels().div_ceil(QUAD_PANELS);
        self.worker.for_each(across * to.stretches(), 1, |range| {
            for i in range {
                let (stretch, first) = (i / across, i % across * QUAD_PANELS);
                let panels = first..to.panels().min(first + QUAD_PANELS);
                // SAFETY: the processor has such products of 8-bit integers, for which this was lowered; the places are this thread's.
                unsafe { to.write(panels, stretch, &from) };
            }
        });
    }

    /// Adds Σ dy xᵀ to a gradient.
    fn outer_pairs(&self, gradient: usize, x: &Pairs, dy: &Pairs) {
        let to = self.gradient(gradient);
        let panels = |m: &Pairs| m.width.div_ceil(PANEL_ROWS);
        let at_once = match x.rounding {
            None => self.paired(x).panels_in(CACHE),
            Some(rounding) => self.quads(x, rounding).panels_in(CACHE),
        };
        let most = at_once.max(PANELS) / PANELS * PANELS;
        let (of_x, of_dy) = (panels(x), panels(dy));
        self.worker.for_each(of_x.div_ceil(most) * of_dy, 1, |range| {
            for i in range {
                let (first, panel) = (i / of_dy * most, i % of_dy);
                let panels = (first, of_x.min(first + most));
                // SAFETY: the processor has these products, for which this was lowered; the piece is this thread's.
                unsafe {
                    match (x.rounding, dy.rounding) {
                        (Some(by_x), Some(by_dy)) => {
                            self.quads(dy, by_dy).add_outer(panel, &self.quads(x, by_x), panels, to);
                        }
                        _ => self.paired(dy).add_outer(panel, &self.paired(x), panels, to),
                    }
                }
            }
        });
    }

    fn quads(&self, pairs: &Pairs, rounding: Rounding) -> Quads {
        // SAFETY: the buffer was planned for as many rows at least.
        unsafe { Quads::new(self.buffer(pairs.buffer), self.count(pairs.rows), pairs.width, rounding) }
    }

    fn paired(&self, pairs: &Pairs) -> Paired {
        // SAFETY: the buffer was planned for as many rows at least.
        unsafe { Paired::new(self.buffer(pairs.buffer), self.count(pairs.rows), pairs.width) }
    }

    /// Shares the rows of a matrix among the threads.
    pub(super) fn each_row(&self, to: &Matrix, make: impl Fn(usize, *mut f32)) {
        let rows = self.count(to.rows);
        self.worker.for_each(rows, self.row_grain(rows), |range| {
            range.for_each(|row| make(row, self.row(to, row)));
        });
    }

    /// # Safety
    /// The row is the step's, and `to` null or good for a row of logits.
    unsafe fn cross_entropy(
        &self,
        logits: &Matrix,
        targets: &Matrix,
        row: usize,
        to: *mut f32,
    ) -> (f32, f32) {
        // SAFETY: as the caller promises; the step was checked for its targets.
        unsafe {
            let target = *self.row(targets, row) as usize;
            (self.kernels().cross_entropy)(self.row(logits, row), logits.width, target, to)
        }
    }

    /// The first number of a weight's gradient.
    pub(super) fn gradient(&self, weight: usize) -> *mut f32 {
        self.prepared.gradients[weight]
            .as_ref()
            .expect("gradients that tasks add to are there")
            .start()
            .cast()
    }

    fn column_sums(
        &self,
        normed: Option<&Normed>,
        dy: &Matrix,
        last: usize,
        gain: Option<usize>,
        shift: Option<usize>,
    ) {
        let pointer = |matrix: Option<Matrix>| matrix.map_or(std::ptr::null_mut(), |m| self.row(&m, 0));
        let [gain, shift] = [gain, shift].map(|w| w.map_or(std::ptr::null_mut(), |w| self.gradient(w)));
        self.worker.for_each(last, COLUMNS, |columns| {
            let sums = Columns {
                dy: self.row(dy, 0),
                x: pointer(normed.map(|n| n.x)),
                stats: pointer(normed.map(|n| n.stats)).cast(),
                rows: self.count(dy.rows) * (dy.width / last),
                width: last,
                columns: (columns.start, columns.len()),
            };
            // SAFETY: the matrices have these rows, one after another, and the columns of the gradients are this
            // thread's.
            unsafe { (self.kernels().column_sums)(&sums, gain, shift) };
        });
    }

    /// Adds Σ dy xᵀ of every head to a gradient `[heads, out, inner]`.
    fn outer(&self, gradient: usize, heads: usize, x: &Matrix, dy: &Matrix) {
        let (inner, out) = (x.width / heads, dy.width / heads);
        let (rows, pieces) = (self.count(dy.rows), self.outer_pieces(inner, out));
        self.worker.for_each(heads * pieces, 1, |range| {
            for i in range {
                let head = i / pieces;
                // SAFETY: the piece is inside the head's part of the gradient, and this thread's.
                unsafe {
                    let to = self.gradient(gradient).add(head * out * inner);
                    let dys = (self.row(dy, 0).add(head * out).cast_const(), out, dy.width);
                    let xs = (self.row(x, 0).add(head * inner).cast_const(), inner, x.width);
                    self.outer_piece(to, dys, xs, rows, i % pieces);
                }
            }
        });
    }

    /// Pieces of a gradient `[out, inner]`.
    pub(super) fn outer_pieces(&self, inner: usize, out: usize) -> usize {
        out.div_ceil(ROWS) * inner.div_ceil(2 * COLUMNS)
    }

    /// Adds Σ dy xᵀ over some rows to a piece of a gradient. `dy` and `x` are the first row, its numbers, and those to
    /// the next one.
    ///
    /// # Safety
    /// All rows and the gradient are there, and the piece is this thread's.
    pub(super) unsafe fn outer_piece(
        &self,
        to: *mut f32,
        (dy, out, dy_stride): (*const f32, usize, usize),
        (x, inner, x_stride): (*const f32, usize, usize),
        rows: usize,
        piece: usize,
    ) {
        let across = inner.div_ceil(2 * COLUMNS);
        let (row, column) = (piece / across * ROWS, piece % across * 2 * COLUMNS);
        // SAFETY: as the caller promises.
        unsafe {
            (self.kernels().gemm)(&Gemm {
                left: dy.add(row),
                left_strides: (1, dy_stride),
                right: x.add(column),
                right_stride: x_stride,
                to: to.add(row * inner + column),
                to_stride: inner,
                rows: ROWS.min(out - row),
                cols: (2 * COLUMNS).min(inner - column),
                inner: rows,
                add: true,
            });
        }
    }

    fn scatter(&self, from: &Matrix, to: &Sink) {
        self.rows(to, |row, out| {
            // SAFETY: `out` and the rows have the sink's width.
            unsafe {
                match self.step.outputs.binary_search(&(row as u32)) {
                    Ok(wanted) => self.row(from, wanted).copy_to_nonoverlapping(out, to.width),
                    Err(_) => std::ptr::write_bytes(out, 0, to.width),
                }
            }
        });
    }
}
