//! Running a step on one thread of the pool.

use std::time::Instant;

use autarky_graph::Step;

use crate::kernels::{Kernels, rope};
use crate::matmul::{ActivationKind, ActivationShape, Activations, STRIPE, quantize_part, quantize_row};
use crate::pool::Worker;
use crate::profile::Profile;

use super::Prepared;
use super::step::Bound;
use super::task::{BufferId, Matrix, Operand, Rows, Sink, Task};

/// One thread's view of a step.
///
/// Soundness of all tasks: stages are separated by barriers; within one, `Worker::for_each` gives each piece of a task
/// to one thread; the plan keeps apart what lives in one stage; so nothing is written while another thread uses it.
/// Kernels are those of an instruction set that this machine has: the device checked it.
pub(super) struct Run<'a, 'w> {
    pub(super) prepared: &'a Prepared,
    pub(super) step: &'a Step<'a>,
    pub(super) bound: &'a Bound,
    pub(super) worker: &'a Worker<'w>,
    /// Whether the tasks run that no output needs.
    pub(super) gathers: bool,
}

impl Run<'_, '_> {
    /// Runs all stages. The first thread's times are counted.
    pub(super) fn all(&self, profile: Option<&Profile>) {
        let profile = profile.filter(|_| self.worker.index() == 0);
        for stage in &self.prepared.stages {
            let runs = |i: &&usize| self.gathers || self.prepared.behind_outputs[**i];
            let tasks = || stage.iter().filter(runs).map(|&i| &self.prepared.tasks[i]);
            if tasks().all(|t| self.is_idle(t)) {
                continue;
            }
            let Some(profile) = profile else {
                tasks().for_each(|t| self.task(t));
                self.worker.barrier();
                continue;
            };
            let mut start = Instant::now();
            for task in tasks() {
                self.task(task);
                let now = Instant::now();
                profile.add(task.name(), now - start);
                start = now;
            }
            self.worker.barrier();
            profile.add("waiting", start.elapsed());
        }
    }

    /// Whether the task has nothing to do in this step, which every thread sees alike.
    fn is_idle(&self, task: &Task) -> bool {
        match task {
            Task::MergeSpans(attend) => self.spans_apart(attend).is_none(),
            _ => false,
        }
    }

    fn task(&self, task: &Task) {
        match task {
            Task::Input { slot, to } => self.rows(to, |row, out| {
                let x = &self.step.inputs[*slot][row * to.width..][..to.width];
                // SAFETY: `out` has the sink's width.
                unsafe { x.as_ptr().copy_to_nonoverlapping(out, to.width) }
            }),
            Task::Embed { table, to } => self.rows(to, |row, out| {
                // SAFETY: `out` has the sink's width.
                let out = unsafe { std::slice::from_raw_parts_mut(out, to.width) };
                let (table, token) = (&self.prepared.weights[*table], self.step.tokens[row] as usize);
                match table.lent() {
                    Some(lent) => lent.row(self.step.weights[lent.weight], token, out),
                    None => table.row(token, out),
                }
            }),
            Task::Select { from, to } => self.rows(to, |row, out| {
                let x = self.row(from, self.step.outputs[row] as usize);
                // SAFETY: both have the sink's width.
                unsafe { x.copy_to_nonoverlapping(out, to.width) }
            }),
            Task::Norm { kind, epsilon, weight, bias, from, last, to } => {
                let (w, b) = (self.vector(*weight), self.vector(*bias));
                self.rows(to, |row, out| {
                    let x = self.row(from, row);
                    for at in (0..to.width).step_by(*last) {
                        // SAFETY: `at + last` is within the row; weight and bias have `last` numbers.
                        unsafe {
                            (self.kernels().norm)(*kind, *epsilon, x.add(at), w, b, out.add(at), *last);
                        }
                    }
                });
            }
            Task::Unary { op, from, to } => self.rows(to, |row, out| {
                // SAFETY: both have the sink's width.
                unsafe { (self.kernels().unary)(*op, self.row(from, row), out, to.width) }
            }),
            Task::After { from, to, .. } => self.rows(to, |row, out| {
                // SAFETY: both have the sink's width.
                unsafe { self.row(from, row).copy_to_nonoverlapping(out, to.width) }
            }),
            Task::Binary { op, a, b, to } => self.rows(to, |row, out| {
                // SAFETY: all have the sink's width.
                unsafe { (self.kernels().binary)(*op, self.row(a, row), self.row(b, row), out, to.width) }
            }),
            Task::Concat { a: (a, a_last), b: (b, b_last), to } => self.rows(to, |row, out| {
                let (a, b, last) = (self.row(a, row), self.row(b, row), a_last + b_last);
                for i in 0..to.width / last {
                    // SAFETY: a row of the sink is as many pieces of both.
                    unsafe {
                        a.add(i * a_last).copy_to_nonoverlapping(out.add(i * last), *a_last);
                        b.add(i * b_last).copy_to_nonoverlapping(out.add(i * last + a_last), *b_last);
                    }
                }
            }),
            Task::Slice { from, last, start, length, to } => self.rows(to, |row, out| {
                let x = self.row(from, row);
                for i in 0..to.width / length {
                    // SAFETY: the graph's builder checked the range against the last dimension.
                    unsafe { x.add(i * last + start).copy_to_nonoverlapping(out.add(i * length), *length) }
                }
            }),
            Task::Operand { from, to } => self.make_operand(from, to),
            Task::Angles { rope, to } => {
                let rows = self.count(to.rows);
                self.worker.for_each(rows, self.row_grain(rows), |range| {
                    for row in range {
                        // SAFETY: the table has this width, and the row is this thread's.
                        let table = unsafe { std::slice::from_raw_parts_mut(self.row(to, row), to.width) };
                        rope::fill_table(rope, self.bound.places[row].position, table);
                    }
                });
            }
            Task::Rope { rope, angles, last, from, to } => {
                let rows = self.count(to.rows);
                let rotated = rope.rotated();
                self.worker.for_each(rows, self.row_grain(rows), |range| {
                    for row in range {
                        let (x, y, table) = (self.row(from, row), self.row(to, row), self.row(angles, row));
                        // SAFETY: rows have `to.width` numbers, heads `last`, the rotated part lies in the head; x
                        // and y are one row or do not overlap.
                        unsafe {
                            if !std::ptr::eq(x, y) && rotated < *last {
                                x.copy_to_nonoverlapping(y, to.width);
                            }
                            for head in (0..to.width).step_by(*last) {
                                let at = head + rope.start;
                                let (x, y) = (x.add(at), y.add(at));
                                (self.kernels().rotate)(rope.pairing, rotated, table, x, y);
                            }
                        }
                    }
                });
            }
            Task::Linear { weight, packed, bias, from, add, to } => {
                self.linear((*weight, *packed), *bias, from, *add, to);
            }
            Task::GatedLinear { function, gate, up, to } => self.gated_linear(*function, gate, up, to),
            Task::HeadLinear { weight, from, out, to } => self.head_linear(*weight, from, *out, to),
            Task::WriteCache { cache, layout, keys, values } => {
                self.write_cache(*cache, layout, keys, values);
            }
            Task::Attend(attend) => self.attend(attend),
            Task::MergeSpans(attend) => self.merge_spans(attend),
            Task::AttendBf16(attend) => self.attend_bf16(attend),
            Task::Route { route, bias, from, to } => self.route(route, *bias, from, to),
            Task::Group { to } => self.group(to),
            Task::Gather { from, grouping, to } => self.gather(from, grouping, to),
            Task::ExpertsUp { function, gate, up, grouping, to } => {
                self.experts_up(*function, *gate, *up, grouping, to);
            }
            Task::ExpertsDown { weight, from, grouping, to } => {
                self.experts_down(*weight, from, grouping, to);
            }
            Task::Combine { from, grouping, to } => self.combine(from, grouping, to),
            Task::Derivative(derivative) => self.derivative(derivative),
        }
    }

    /// Shares the rows of a sink among the threads: `make` writes a row, whose operands are made at once.
    pub(super) fn rows(&self, to: &Sink, make: impl Fn(usize, *mut f32)) {
        self.rows_by_stripes(to, |row, out| {
            make(row, out);
            |_, _| ()
        });
    }

    /// As [`Run::rows`], where what `make` gives finishes some columns of the row, and they are put into operands at once.
    pub(super) fn rows_by_stripes<F: Fn(usize, usize)>(
        &self,
        to: &Sink,
        make: impl Fn(usize, *mut f32) -> F,
    ) {
        let rows = self.count(to.rows);
        // Some forms are written row by row.
        let whole = to.operands.iter().any(|o| o.kind == ActivationKind::Int8 || o.heads != 1);
        let stripe = if whole { to.width } else { STRIPE };
        self.worker.for_each(rows, self.row_grain(rows), |range| {
            for row in range {
                let out = to.value.as_ref().map_or(self.scratch(), |matrix| self.row(matrix, row));
                let finish = make(row, out);
                for first in (0..to.width).step_by(stripe) {
                    let count = stripe.min(to.width - first);
                    finish(first, count);
                    for operand in &to.operands {
                        match whole {
                            true => self.put_operand(operand, row, out),
                            // SAFETY: the row has the numbers; row `row` of the operand is this thread's.
                            false => unsafe {
                                let x = std::slice::from_raw_parts(out.add(first), count);
                                quantize_part(self.prepared.isa, x, &self.operand(operand, 0), row, first);
                            },
                        }
                    }
                }
            }
        });
    }

    /// Brings all rows of a matrix into the form that products read.
    pub(super) fn make_operand(&self, from: &Matrix, to: &Operand) {
        let rows = self.count(from.rows);
        self.worker.for_each(rows, self.row_grain(rows), |range| {
            range.for_each(|row| self.put_operand(to, row, self.row(from, row)));
        });
    }

    /// Rows that a thread takes at a time.
    pub(super) fn row_grain(&self, rows: usize) -> usize {
        (rows / (8 * self.worker.threads())).clamp(1, 8)
    }

    /// Rounds or copies a row to an operand.
    pub(super) fn put_operand(&self, to: &Operand, row: usize, x: *const f32) {
        for head in 0..to.heads {
            // SAFETY: the row has `heads · width` numbers; row `row` of the operand is this thread's.
            unsafe {
                let x = std::slice::from_raw_parts(x.add(head * to.width), to.width);
                quantize_row(self.prepared.isa, x, &self.operand(to, head), row);
            }
        }
    }

    pub(super) fn kernels(&self) -> &'static Kernels {
        self.prepared.kernels
    }

    pub(super) fn count(&self, rows: Rows) -> usize {
        rows.count(self.bound.tokens, self.bound.outputs)
    }

    /// The first byte of a buffer.
    pub(super) fn buffer(&self, buffer: BufferId) -> *mut u8 {
        // SAFETY: the plan placed it inside the arena.
        unsafe { self.prepared.arena.start().add(self.prepared.offsets[buffer.0]) }
    }

    /// The first number of a row; row 0 is where rows would be when there are none.
    pub(super) fn row(&self, matrix: &Matrix, row: usize) -> *mut f32 {
        debug_assert!(row < self.count(matrix.rows).max(1));
        // SAFETY: the row is inside the buffer.
        unsafe { self.buffer(matrix.buffer).cast::<f32>().add((matrix.offset + row) * matrix.width) }
    }

    /// The view of an operand's matrix, for as many rows as the step has.
    pub(super) fn operand(&self, operand: &Operand, head: usize) -> Activations {
        let shape = ActivationShape::new(operand.kind, self.count(operand.rows), operand.width);
        debug_assert!(shape.bytes() <= operand.stride);
        // SAFETY: the buffer has `stride` bytes for each head, zero at first, at a multiple of 64.
        unsafe { Activations::new(self.buffer(operand.buffer).add(head * operand.stride), shape) }
    }

    /// A vector weight, or null for none.
    pub(super) fn vector(&self, vector: Option<usize>) -> *const f32 {
        vector.map_or(std::ptr::null(), |i| self.prepared.weights[i].vector().as_ptr())
    }

    /// This thread's scratch.
    pub(super) fn scratch(&self) -> *mut f32 {
        // SAFETY: there is one for every thread.
        unsafe { self.prepared.scratch.start().add(self.worker.index() * self.prepared.scratch_bytes).cast() }
    }
}
