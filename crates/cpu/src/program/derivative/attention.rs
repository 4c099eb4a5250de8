//! The derivative of attention by queries, keys and values (as Dao et al. 2022, arXiv:2205.14135, appendix B): weights
//! are computed again, for a few queries at a time.

use autarky_graph::Limits;

use crate::kernels::backward::Softmax;
use crate::kernels::cache::Layout;
use crate::kernels::gemm::Gemm;
use crate::kernels::lanes::LANES;

use super::super::attention_bf16::first_seen;
use super::super::run::Run;
use super::super::task::{BufferId, Matrix, Vector};
use super::{attention_bf16, buffers};

/// Queries whose weights are there at a time.
const QUERIES: usize = 48;

/// The derivative of one attention op. All that a token sees is in the step.
#[derive(Clone, Debug)]
pub(in super::super) struct AttentionBackward {
    pub(in super::super) layout: Layout,
    /// Query heads.
    pub(in super::super) heads: usize,
    pub(in super::super) scale: f32,
    pub(in super::super) softcap: Option<f32>,
    pub(in super::super) window: Option<usize>,
    pub(in super::super) sinks: Vector,
    pub(in super::super) queries: Matrix,
    pub(in super::super) keys: Matrix,
    pub(in super::super) values: Matrix,
    /// By the result.
    pub(in super::super) dy: Matrix,
    pub(in super::super) by_queries: Matrix,
    pub(in super::super) by_keys: Matrix,
    pub(in super::super) by_values: Matrix,
    /// By the sinks, for every token.
    pub(in super::super) by_sinks: Option<Matrix>,
    /// Whether products are of BF16 numbers.
    pub(in super::super) bf16: bool,
}

/// A thread's scratch, for a sequence of `room` positions: whole vectors of them.
struct Scratch {
    room: usize,
    /// Keys and values with positions side by side: `[width][room]`.
    keys: *mut f32,
    values: *mut f32,
    /// By keys and values: `[room][width]`.
    by_keys: *mut f32,
    by_values: *mut f32,
    /// `[QUERIES][room]`: attention's weights, the slopes of a soft cap, and derivatives by weights and scores.
    weights: *mut f32,
    slopes: *mut f32,
    by_scores: *mut f32,
}

impl AttentionBackward {
    /// Numbers of scratch for steps within the limits.
    pub(in super::super) fn scratch(layout: &Layout, limits: &Limits, bf16: bool) -> Option<usize> {
        if bf16 {
            return attention_bf16::scratch(layout, limits);
        }
        let each = 2 * (layout.key_width + layout.value_width) + 3 * QUERIES;
        limits.tokens.checked_next_multiple_of(LANES)?.checked_mul(each)
    }

    pub(super) fn read(&self) -> [Matrix; 4] {
        [self.queries, self.keys, self.values, self.dy]
    }

    pub(super) fn written(&self) -> Vec<BufferId> {
        buffers([self.by_queries, self.by_keys, self.by_values].into_iter().chain(self.by_sinks))
    }

    /// Divides a thread's scratch.
    ///
    /// # Safety
    /// It is as large as [`AttentionBackward::scratch`] says for a step that has as many tokens.
    unsafe fn divide(&self, scratch: *mut f32, tokens: usize) -> Scratch {
        let room = tokens.next_multiple_of(LANES);
        let (kw, vw) = (self.layout.key_width * room, self.layout.value_width * room);
        let mut at = 0;
        let mut part = |numbers: usize| {
            at += numbers;
            // SAFETY: as the caller promises.
            unsafe { scratch.add(at - numbers) }
        };
        Scratch {
            room,
            keys: part(kw),
            values: part(vw),
            by_keys: part(kw),
            by_values: part(vw),
            weights: part(QUERIES * room),
            slopes: part(QUERIES * room),
            by_scores: part(QUERIES * room),
        }
    }
}

impl Run<'_, '_> {
    pub(super) fn attention_backward(&self, a: &AttentionBackward) {
        let heads = a.layout.heads;
        self.worker.for_each(self.step.sequences.len() * heads, 1, |range| {
            for i in range {
                let (sequence, head) = (i / heads, i % heads);
                let before = &self.step.sequences[..sequence];
                let row = before.iter().map(|s| s.tokens).sum();
                let tokens = self.step.sequences[sequence].tokens;
                // SAFETY: the scratch was planned; rows and heads are this thread's.
                unsafe {
                    match a.bf16 {
                        true => self.key_head_bf16(a, row, tokens, head),
                        false => self.key_head(a, row, tokens, head),
                    }
                }
            }
        });
    }

    /// One key head of a sequence, whose tokens begin at `row`.
    unsafe fn key_head(&self, a: &AttentionBackward, row: usize, tokens: usize, head: usize) {
        let (kw, vw) = (a.layout.key_width, a.layout.value_width);
        let group = a.heads / a.layout.heads;
        // SAFETY: as the caller promises.
        unsafe {
            let s = a.divide(self.scratch(), tokens);
            for (from, width, to) in [(&a.keys, kw, s.keys), (&a.values, vw, s.values)] {
                std::ptr::write_bytes(to, 0, width * s.room);
                for t in 0..tokens {
                    let x = self.row(from, row + t).add(head * width);
                    (0..width).for_each(|d| *to.add(d * s.room + t) = *x.add(d));
                }
            }
            std::ptr::write_bytes(s.by_keys, 0, kw * s.room);
            std::ptr::write_bytes(s.by_values, 0, vw * s.room);
            for query_head in head * group..(head + 1) * group {
                for first in (0..tokens).step_by(QUERIES) {
                    let count = QUERIES.min(tokens - first);
                    self.queries(a, &s, (row, first, count), query_head, head);
                }
            }
            for (from, width, to) in [(s.by_keys, kw, &a.by_keys), (s.by_values, vw, &a.by_values)] {
                for t in 0..tokens {
                    let to = self.row(to, row + t).add(head * width);
                    from.add(t * width).copy_to_nonoverlapping(to, width);
                }
            }
        }
    }

    /// `count` queries from `first` on of a head, in the sequence that begins at row `start`.
    unsafe fn queries(
        &self,
        a: &AttentionBackward,
        s: &Scratch,
        (start, first, count): (usize, usize, usize),
        query_head: usize,
        head: usize,
    ) {
        let (kw, vw) = (a.layout.key_width, a.layout.value_width);
        let seen = |position: usize| first_seen(a.window, position);
        // The positions that any of the queries sees, from a whole vector on.
        let low = seen(first) / LANES * LANES;
        let positions = first + count - low;
        let room = positions.next_multiple_of(LANES);
        // SAFETY: as the caller promises.
        unsafe {
            let row = start + first;
            let q = self.row(&a.queries, row).add(query_head * kw);
            let dy = self.row(&a.dy, row).add(query_head * vw);
            let to = self.row(&a.by_queries, row).add(query_head * kw);
            let keys = self.row(&a.keys, start + low).add(head * kw);
            // Queries by positions: of queries and keys, of derivatives and values.
            let products = |left, stride, inner, right: *mut f32, to| Gemm {
                left,
                left_strides: (stride, 1),
                right: right.add(low),
                right_stride: s.room,
                to,
                to_stride: room,
                rows: count,
                cols: room,
                inner,
                add: false,
            };
            (self.kernels().gemm)(&products(q, a.queries.width, kw, s.keys, s.weights));
            (self.kernels().gemm)(&products(dy, a.dy.width, vw, s.values, s.by_scores));
            let sink = a.sinks.map(|w| self.prepared.weights[w].vector()[query_head]);
            let softmax = Softmax { scale: a.scale, softcap: a.softcap, sink };
            for r in 0..count {
                let at = |matrix: *mut f32| matrix.add(r * room);
                let range = (seen(first + r) - low, first + r + 1 - low, room);
                let of_sink = (self.kernels().attention_weights)(softmax, at(s.weights), at(s.slopes), range);
                let slopes = if a.softcap.is_some() { at(s.slopes).cast_const() } else { std::ptr::null() };
                let (weights, by_scores) = (at(s.weights), at(s.by_scores));
                let along = (self.kernels().attention_backward)(a.scale, weights, slopes, by_scores, room);
                if let Some(by_sinks) = &a.by_sinks {
                    *self.row(by_sinks, row + r).add(query_head) = -of_sink * along;
                }
            }
            (self.kernels().gemm)(&Gemm {
                left: s.by_scores,
                left_strides: (room, 1),
                right: keys,
                right_stride: a.keys.width,
                to,
                to_stride: a.by_queries.width,
                rows: count,
                cols: kw,
                inner: positions,
                add: false,
            });
            // Positions by numbers of a head.
            let sums = |left: *mut f32, right, right_stride, to: *mut f32, width: usize| Gemm {
                left,
                left_strides: (1, room),
                right,
                right_stride,
                to: to.add(low * width),
                to_stride: width,
                rows: positions,
                cols: width,
                inner: count,
                add: true,
            };
            (self.kernels().gemm)(&sums(s.by_scores, q, a.queries.width, s.by_keys, kw));
            (self.kernels().gemm)(&sums(s.weights, dy, a.dy.width, s.by_values, vw));
        }
    }
}
