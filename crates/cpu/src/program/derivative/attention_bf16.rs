//! The derivative of attention where products are of BF16 numbers: weights and derivatives by scores are rounded as
//! they are made, as FlashAttention does (Dao 2023, arXiv:2307.08691); all sums are in f32.
//!
//! Queries are taken in bands of 16, since positions are in vectors of 16: only what a band sees is computed, and the
//! products that sum over queries take only bands that see something of the positions.

use autarky_graph::Limits;

use crate::kernels::backward::Softmax;
use crate::kernels::cache::Layout;
use crate::kernels::lanes::LANES;
use crate::kernels::paired::{AttentionRows, PairedGemm};
use crate::matmul::Paired;

use super::super::attention_bf16::{
    BAND, Divide, IN_PANELS, band_stride, first_seen, over_positions, with_positions,
};
use super::super::run::Run;
use super::AttentionBackward;

/// Queries whose weights are there at a time, in BF16.
const QUERIES: usize = 64;

/// A thread's scratch. What is `across` has a column for every row of the matrix it is made of.
struct Scratch {
    keys_across: Paired,
    values_across: Paired,
    keys: Paired,
    /// By keys and values, for whole vectors of positions and of numbers.
    by_keys: *mut f32,
    by_values: *mut f32,
    /// Queries and derivatives by results, of a band.
    queries_across: *mut u8,
    dy_across: *mut u8,
    /// As many as [`QUERIES`].
    queries: *mut u8,
    dy: *mut u8,
    /// Weights, and derivatives by products q·k: a row for each of [`QUERIES`], a column for every position.
    weights: Paired,
    by_scores: Paired,
    /// As floats, for a band, rows of `stride` numbers: products q·k, derivatives by weights, slopes of a soft cap.
    scores: *mut f32,
    by_weights: *mut f32,
    slopes: *mut f32,
    stride: usize,
    /// Derivatives by products q·k of a band once more, rows of `stride` BF16 numbers.
    band_by_scores: *mut u8,
}

/// The scratch for a sequence in memory at `start`, and its bytes.
fn divide(layout: &Layout, tokens: usize, start: *mut u8) -> Option<(Scratch, usize)> {
    let (kw, vw) = (layout.key_width, layout.value_width);
    let room = tokens.checked_next_multiple_of(LANES)?;
    let stride = band_stride(tokens)?;
    let mut d = Divide::new(start);
    let scratch = Scratch {
        keys_across: d.paired(kw, tokens),
        values_across: d.paired(vw, tokens),
        keys: d.paired(tokens, kw),
        by_keys: d.floats(room, kw.next_multiple_of(LANES)),
        by_values: d.floats(room, vw.next_multiple_of(LANES)),
        queries_across: d.part(Paired::bytes(kw, BAND)),
        dy_across: d.part(Paired::bytes(vw, BAND)),
        queries: d.part(Paired::bytes(QUERIES, kw)),
        dy: d.part(Paired::bytes(QUERIES, vw)),
        // A pair to spare keeps panels, too, from all being in the same few lines of the first-level cache.
        weights: d.paired(QUERIES + 2, room),
        by_scores: d.paired(QUERIES + 2, room),
        scores: d.floats(BAND, stride),
        by_weights: d.floats(BAND, stride),
        slopes: d.floats(BAND, stride),
        stride,
        band_by_scores: d.part(stride.checked_mul(2 * BAND)),
    };
    Some((scratch, d.used()?))
}

/// Numbers of scratch for steps within the limits.
pub(super) fn scratch(layout: &Layout, limits: &Limits) -> Option<usize> {
    divide(layout, limits.tokens, std::ptr::null_mut()).map(|(_, bytes)| bytes / 4)
}

impl Run<'_, '_> {
    /// One key head of a sequence, whose tokens begin at `row`.
    ///
    /// # Safety
    /// The scratch was planned; the processor has BF16 products; rows and heads are this thread's.
    pub(super) unsafe fn key_head_bf16(&self, a: &AttentionBackward, row: usize, tokens: usize, head: usize) {
        let (kw, vw) = (a.layout.key_width, a.layout.value_width);
        let group = a.heads / a.layout.heads;
        let (s, _) = divide(&a.layout, tokens, self.scratch().cast()).expect("more was planned");
        // SAFETY: as the caller promises.
        unsafe {
            let keys = self.row(&a.keys, row).add(head * kw);
            let values = self.row(&a.values, row).add(head * vw);
            let panels = |to: Paired| (0..to.panels()).map(move |panel| (to, panel));
            panels(s.keys_across).for_each(|(to, p)| to.write_transposed(p, keys, a.keys.width));
            panels(s.values_across).for_each(|(to, p)| to.write_transposed(p, values, a.values.width));
            panels(s.keys).for_each(|(to, p)| to.write_panel(p, keys, a.keys.width));
            let room = tokens.next_multiple_of(LANES);
            std::ptr::write_bytes(s.by_keys, 0, room * kw.next_multiple_of(LANES));
            std::ptr::write_bytes(s.by_values, 0, room * vw.next_multiple_of(LANES));
            for query_head in head * group..(head + 1) * group {
                for first in (0..tokens).step_by(QUERIES) {
                    let count = QUERIES.min(tokens - first);
                    self.queries_bf16(a, &s, (row, first, count, tokens), query_head);
                }
            }
            for (from, width, to) in [(s.by_keys, kw, &a.by_keys), (s.by_values, vw, &a.by_values)] {
                for t in 0..tokens {
                    let to = self.row(to, row + t).add(head * width);
                    from.add(t * width.next_multiple_of(LANES)).copy_to_nonoverlapping(to, width);
                }
            }
        }
    }

    /// Calls what is wanted when `rows` queries from `first` on are done.
    fn call_ahead_backward(
        &self,
        a: &AttentionBackward,
        (start, first, rows, tokens): (usize, usize, usize, usize),
        query_head: usize,
    ) {
        let (kw, vw) = (a.layout.key_width, a.layout.value_width);
        let (group, these) = (a.heads / a.layout.heads, start + first..start + first + rows);
        self.call(&a.by_queries, these.clone(), query_head * kw, kw);
        // The queries as many rows further on: of the next head, behind the last.
        let (mut first, mut head) = (first + QUERIES, query_head);
        if first >= tokens {
            (first, head) = (first % QUERIES, query_head + 1);
        }
        if head < a.heads {
            let next = start + first..start + tokens.min(first + rows);
            self.call(&a.queries, next.clone(), head * kw, kw);
            self.call(&a.dy, next, head * vw, vw);
        }
        // With the last of a key head's queries comes the end of its own derivatives, and the next.
        if (query_head + 1).is_multiple_of(group) {
            let head = query_head / group;
            self.call(&a.by_keys, these.clone(), head * kw, kw);
            self.call(&a.by_values, these.clone(), head * vw, vw);
            if head + 1 < a.layout.heads {
                self.call(&a.keys, these.clone(), (head + 1) * kw, kw);
                self.call(&a.values, these, (head + 1) * vw, vw);
            }
        }
    }

    /// `count` queries from `first` on of a head, in the sequence that begins at row `start`.
    unsafe fn queries_bf16(
        &self,
        a: &AttentionBackward,
        s: &Scratch,
        (start, first, count, tokens): (usize, usize, usize, usize),
        query_head: usize,
    ) {
        let (kw, vw) = (a.layout.key_width, a.layout.value_width);
        // The first position that queries from this on see, rounded to whole vectors.
        let low = |query: usize| first_seen(a.window, query) / LANES * LANES;
        // One past the last that queries before this see, likewise.
        let end = (first + count).next_multiple_of(LANES);
        // SAFETY: as the caller promises.
        unsafe {
            let row = start + first;
            let q = self.row(&a.queries, row).add(query_head * kw);
            let dy = self.row(&a.dy, row).add(query_head * vw);
            let queries = Paired::new(s.queries, count, kw);
            (0..queries.panels()).for_each(|p| queries.write_panel(p, q, a.queries.width));
            let dys = Paired::new(s.dy, count, vw);
            (0..dys.panels()).for_each(|p| dys.write_panel(p, dy, a.dy.width));
            for band in (0..count).step_by(BAND) {
                let rows = BAND.min(count - band);
                self.call_ahead_backward(a, (start, first + band, rows, tokens), query_head);
                self.band(a, s, (start, first + band, rows), (low(first), band / 2), query_head);
            }
            for position in (low(first)..end).step_by(LANES) {
                // Queries from this position on see it, until a window has passed.
                let from = position.saturating_sub(first);
                let sees = |band: &usize| low(first + band) <= position;
                let to = (from..count).step_by(BAND).take_while(sees).last().map_or(from, |band| band + BAND);
                let (pair, pairs) = (from / 2, count.min(to).div_ceil(2) - from / 2);
                let panel = (position - low(first)) / LANES;
                let sums = |left: &Paired, right: Paired, to: *mut f32, width: usize| PairedGemm {
                    left: left.start(panel, pair),
                    left_strides: IN_PANELS,
                    right: right.start(0, pair),
                    right_stride: right.panel_stride(),
                    to: to.add(position * width.next_multiple_of(LANES)),
                    to_stride: width.next_multiple_of(LANES),
                    rows: LANES,
                    cols: width.next_multiple_of(LANES),
                    pairs,
                    add: true,
                };
                sums(&s.by_scores, queries, s.by_keys, kw).compute();
                sums(&s.weights, dys, s.by_values, vw).compute();
            }
        }
    }

    /// The weights of a band of queries, their derivatives, and those by the queries. Panels of the weights in BF16 are
    /// from position `low` on, the band's rows from pair `pair` on.
    unsafe fn band(
        &self,
        a: &AttentionBackward,
        s: &Scratch,
        (start, first, rows): (usize, usize, usize),
        (low, pair): (usize, usize),
        query_head: usize,
    ) {
        let (kw, vw) = (a.layout.key_width, a.layout.value_width);
        let seen = |position: usize| first_seen(a.window, position);
        let from = seen(first) / LANES * LANES;
        let n = (first + rows).next_multiple_of(LANES) - from;
        // SAFETY: as the caller promises.
        unsafe {
            let row = start + first;
            let q = self.row(&a.queries, row).add(query_head * kw);
            let dy = self.row(&a.dy, row).add(query_head * vw);
            let queries = Paired::new(s.queries_across, kw, rows);
            queries.write_transposed(0, q, a.queries.width);
            with_positions(queries, rows, &s.keys_across, (from, n), (s.scores, s.stride)).compute();
            let dys = Paired::new(s.dy_across, vw, rows);
            dys.write_transposed(0, dy, a.dy.width);
            with_positions(dys, rows, &s.values_across, (from, n), (s.by_weights, s.stride)).compute();
            let sink = a.sinks.map(|w| self.prepared.weights[w].vector()[query_head]);
            let softmax = Softmax { scale: a.scale, softcap: a.softcap, sink };
            for r in (0..rows).step_by(2) {
                let panel = (from - low) / LANES;
                let both = AttentionRows {
                    count: 2.min(rows - r),
                    n,
                    seen: [r, r + 1].map(|r| (seen(first + r) - from, first + r + 1 - from)),
                    scores: s.scores.add(r * s.stride),
                    by_weights: s.by_weights.add(r * s.stride),
                    slopes: s.slopes.add(r * s.stride),
                    stride: s.stride,
                    weights_paired: s.weights.at(panel, pair + r / 2),
                    by_scores_paired: s.by_scores.at(panel, pair + r / 2),
                    panel_stride: s.weights.panel_stride(),
                    by_scores: s.band_by_scores.add(2 * r * s.stride),
                    by_scores_stride: 2 * s.stride,
                };
                let found = both.derive(&softmax);
                if let Some(by_sinks) = &a.by_sinks {
                    for (i, (of_sink, along)) in found.into_iter().enumerate().take(both.count) {
                        *self.row(by_sinks, row + r + i).add(query_head) = -of_sink * along;
                    }
                }
            }
            // Positions beyond the sequence have no keys.
            let positions = (from, first + rows - from);
            let to = (self.row(&a.by_queries, row).add(query_head * kw), a.by_queries.width);
            over_positions((s.band_by_scores, s.stride), rows, (&s.keys, kw), positions, to).compute();
        }
    }
}
