//! Mixtures of experts: routing, and the products of each expert with the rows that chose it.
//!
//! The step's pairs of a row and a chosen expert are sorted by expert, so that every expert's weights are read once a
//! step. A row's results are added in the order of its routing, whatever else is in the step.

use autarky_graph::{ActivationKind as Function, Route};

use crate::kernels::route;
use crate::matmul::Output;

use super::products::{ROWS, rows_of};
use super::run::Run;
use super::task::{Grouping, Matrix, Operand, Routing, Sink};

/// Bytes of a grouping of `rows · top` pairs over `experts` experts; `None` when that overflows.
pub(super) fn grouping_bytes(rows: usize, top: usize, experts: usize) -> Option<usize> {
    let pairs = rows.checked_mul(top)?;
    pairs.checked_mul(2)?.checked_add(experts.checked_mul(2)?)?.checked_add(2)?.checked_mul(4)
}

/// A grouping, as it lies in its buffer: how many experts have rows, which (`[experts]`), where the slots of every
/// expert start (`[experts + 1]`), the slot of every pair and the row of every slot (`[pairs]` each).
struct Groups {
    base: *mut u32,
    experts: usize,
    pairs: usize,
}

impl Groups {
    /// Part `part` of the buffer.
    ///
    /// # Safety
    /// The buffer has the size that [`grouping_bytes`] says, and nobody writes the part meanwhile.
    unsafe fn part<'a>(&self, start: usize, length: usize) -> &'a mut [u32] {
        // SAFETY: as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(start), length) }
    }
}

impl Run<'_, '_> {
    pub(super) fn route(&self, r: &Route, bias: Option<usize>, from: &Matrix, to: &Routing) {
        let bias = self.vector(bias);
        let (experts, top) = (from.width, to.top);
        self.worker.for_each(self.count(to.rows), 1, |range| {
            for row in range {
                // SAFETY: the rows are this thread's, and have these lengths; so has the scratch.
                unsafe {
                    let logits = std::slice::from_raw_parts(self.row(from, row), experts);
                    let scratch = std::slice::from_raw_parts_mut(self.scratch(), route::scratch(experts));
                    let chosen = self.buffer(to.experts).cast::<u32>().add(row * top);
                    let weights = self.buffer(to.weights).cast::<f32>().add(row * top);
                    let chosen = std::slice::from_raw_parts_mut(chosen, top);
                    let weights = std::slice::from_raw_parts_mut(weights, top);
                    (self.kernels().route)(r, logits, bias, scratch, chosen, weights);
                }
            }
        });
    }

    fn groups(&self, grouping: &Grouping) -> Groups {
        let pairs = self.count(grouping.routing.rows) * grouping.routing.top;
        Groups { base: self.buffer(grouping.buffer).cast(), experts: grouping.experts, pairs }
    }

    /// Experts that have rows, where their slots start, slots of pairs, rows of slots.
    pub(super) fn grouped(&self, grouping: &Grouping) -> (&[u32], &[u32], &[u32], &[u32]) {
        let g = self.groups(grouping);
        let starts = 1 + g.experts;
        let slots = starts + g.experts + 1;
        // SAFETY: the grouping was written in an earlier stage.
        unsafe {
            let active = g.part(0, 1)[0] as usize;
            (
                g.part(1, active),
                g.part(starts, g.experts + 1),
                g.part(slots, g.pairs),
                g.part(slots + g.pairs, g.pairs),
            )
        }
    }

    /// Sorts the step's pairs by expert: by counting, which keeps the order of rows.
    pub(super) fn group(&self, to: &Grouping) {
        self.worker.for_each(1, 1, |_| {
            let g = self.groups(to);
            let starts_at = 1 + g.experts;
            let slots_at = starts_at + g.experts + 1;
            // SAFETY: one thread does this, and the parts do not overlap.
            let (active, starts, slots, rows, chosen) = unsafe {
                (
                    g.part(0, 1 + g.experts),
                    g.part(starts_at, g.experts + 1),
                    g.part(slots_at, g.pairs),
                    g.part(slots_at + g.pairs, g.pairs),
                    std::slice::from_raw_parts(self.buffer(to.routing.experts).cast::<u32>(), g.pairs),
                )
            };
            starts.fill(0);
            chosen.iter().for_each(|&e| starts[e as usize + 1] += 1);
            let (count, active) = active.split_at_mut(1);
            count[0] = 0;
            for e in 0..g.experts {
                if starts[e + 1] > 0 {
                    active[count[0] as usize] = e as u32;
                    count[0] += 1;
                }
                starts[e + 1] += starts[e];
            }
            for (pair, &e) in chosen.iter().enumerate() {
                let slot = starts[e as usize];
                starts[e as usize] += 1;
                slots[pair] = slot;
                rows[slot as usize] = (pair / to.routing.top) as u32;
            }
            // Every start has moved to the next one's place.
            starts.copy_within(0..g.experts, 1);
            starts[0] = 0;
        });
    }

    pub(super) fn gather(&self, from: &Operand, grouping: &Grouping, to: &Operand) {
        let (_, _, _, rows) = self.grouped(grouping);
        let (from, to) = (self.operand(from, 0), self.operand(to, 0));
        self.worker.for_each(rows.len(), 4, |range| {
            // SAFETY: the slots are this thread's; the operand was written in an earlier stage.
            range.for_each(|slot| unsafe { to.copy_row(slot, &from, rows[slot] as usize) });
        });
    }

    /// f(W_gate,e x) · (W_up,e x) for every pair, in the order of the grouping.
    pub(super) fn experts_up(
        &self,
        function: Function,
        (gate, gate_x): (usize, Operand),
        (up, up_x): (usize, Operand),
        grouping: &Grouping,
        to: &Matrix,
    ) {
        let (active, starts, _, rows) = self.grouped(grouping);
        if rows.is_empty() {
            return;
        }
        let (gates, ups) = (self.prepared.weights[gate].matrices(), self.prepared.weights[up].matrices());
        let (gate_x, up_x) = (self.operand(&gate_x, 0), self.operand(&up_x, 0));
        let (panels, grain) = (gates[0].panels(), self.panel_grain(&gates[0]));
        let across = panels.div_ceil(grain);
        let none = (std::ptr::null(), std::ptr::null());
        let y = (self.row(to, 0), to.width);
        self.worker.for_each(active.len() * across, 1, |range| {
            for (nth, pieces) in rows_of(range, across) {
                let e = active[nth] as usize;
                let panels = pieces.start * grain..panels.min(pieces.end * grain);
                let (start, end) = (starts[e] as usize, starts[e + 1] as usize);
                for row in (start..end).step_by(ROWS) {
                    let rows = row..end.min(row + ROWS);
                    let (gate, up) = ((&gates[e], &gate_x), (&ups[e], &up_x));
                    self.gated(function, gate, up, none, panels.clone(), rows, y);
                }
            }
        });
    }

    /// W_down,e h for every pair.
    pub(super) fn experts_down(&self, weight: usize, from: &Operand, grouping: &Grouping, to: &Matrix) {
        let (active, starts, _, rows) = self.grouped(grouping);
        if rows.is_empty() {
            return;
        }
        let weights = self.prepared.weights[weight].matrices();
        let x = self.operand(from, 0);
        let (panels, grain) = (weights[0].panels(), self.panel_grain(&weights[0]));
        let across = panels.div_ceil(grain);
        self.worker.for_each(active.len() * across, 1, |range| {
            for (nth, pieces) in rows_of(range, across) {
                let e = active[nth] as usize;
                let panels = pieces.start * grain..panels.min(pieces.end * grain);
                let rows = starts[e] as usize..starts[e + 1] as usize;
                self.product(&weights[e], &x, panels, rows, Output::new(self.row(to, 0), to.width));
            }
        });
    }

    /// Σ weight · result over every row's pairs, in the order of the routing.
    pub(super) fn combine(&self, from: &Matrix, grouping: &Grouping, to: &Sink) {
        let (_, _, slots, _) = self.grouped(grouping);
        let top = grouping.routing.top;
        self.rows(to, |row, out| {
            // SAFETY: `out` has the sink's width, as have the rows of the results.
            unsafe {
                std::ptr::write_bytes(out, 0, to.width);
                for (pair, &slot) in slots.iter().enumerate().skip(row * top).take(top) {
                    let share = *self.buffer(grouping.routing.weights).cast::<f32>().add(pair);
                    (self.kernels().add_scaled)(share, self.row(from, slot as usize), out, to.width);
                }
            }
        });
    }
}
