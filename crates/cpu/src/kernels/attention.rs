//! Attention of a tile of query rows over a span of the KV cache.
//!
//! # The arithmetic
//!
//! A query's result depends on its position, its window and its keys and values, and not on what is computed beside it.
//! Positions are taken in tiles of [`TILE`] and spans of [`SPAN`], both aligned to the start of the sequence:
//!
//! ```text
//! span:   largest = −∞, sums[16] = 0, values = 0
//! tile:   s_j = fma chain over the key's numbers, · scale, soft cap
//!         new = max(largest, s_j);  c = e^(largest − new);  p_j = e^(s_j − new)
//!         sums = sums · c + p;  values = fma chain over j from values · c;  largest = new
//! merge:  of a query's spans, in ascending order (see [`merge`])
//! ```
//!
//! (online softmax: Milakov & Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135). Tiles and spans
//! of which a query sees nothing do not take part, and neither do positions outside of what it sees: they may hold
//! anything.

use autarky_graph::BLOCK;

use super::cache::{Element, Keys, Layout};
use super::lanes::{LANES, Lanes, store_part};
use super::math;
use crate::matmul::prefetch_later;

/// Positions whose scores are turned into weights together.
pub(crate) const TILE: usize = 128;
/// Positions that are summed by themselves and may be taken by another thread.
pub(crate) const SPAN: usize = 512;

/// Query rows: those of a few tokens that follow one another, for some heads each.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// Rows: tokens · heads.
    pub(crate) rows: usize,
    /// Query heads of each token.
    pub(crate) heads: usize,
    /// Position of the first token.
    pub(crate) position: usize,
    /// Positions that a query sees, itself included.
    pub(crate) window: usize,
    /// Scores are multiplied by it.
    pub(crate) scale: f32,
    /// Scores pass through cap · tanh(score / cap).
    pub(crate) softcap: Option<f32>,
    /// `[rows][key width]`.
    pub(crate) queries: *const f32,
    /// Scratch: `[rows][TILE]`, then `[rows][LANES]`; of a cache of integers what [`super::rounded`] says.
    pub(crate) scratch: *mut f32,
    /// `[rows][record]`: the result.
    pub(crate) records: *mut f32,
}

impl Tile {
    /// Numbers of scratch.
    pub(crate) const fn scratch(rows: usize) -> usize {
        rows * (TILE + LANES)
    }

    /// One past the last position that any row sees.
    #[inline(always)]
    pub(super) fn end(&self) -> usize {
        self.position + (self.rows - 1) / self.heads + 1
    }

    /// What row `row` sees: first and one past the last position.
    #[inline(always)]
    fn sees(&self, row: usize) -> (usize, usize) {
        let end = self.position + row / self.heads + 1;
        (end.saturating_sub(self.window), end)
    }

    /// The positions of a span that some row sees: first and one past the last.
    #[inline(always)]
    pub(super) fn part(&self, (start, end): (usize, usize)) -> (usize, usize) {
        (self.sees(0).0.max(start), self.sees(self.rows - 1).1.min(end))
    }

    /// Makes the records those of no position; `sums` are the rows' sums of weights, by lanes.
    ///
    /// # Safety
    /// The records are good for the rows, `sums` for a vector for each.
    #[inline(always)]
    pub(super) unsafe fn clear(&self, layout: &Layout, sums: *mut f32) {
        // SAFETY: as the caller promises.
        unsafe {
            std::ptr::write_bytes(self.records, 0, self.rows * layout.record());
            std::ptr::write_bytes(sums, 0, self.rows * LANES);
            for r in 0..self.rows {
                *self.records.add(r * layout.record() + layout.value_stride()) = f32::NEG_INFINITY;
            }
        }
    }

    /// Completes the records with the sums of weights.
    ///
    /// # Safety
    /// As for [`Tile::clear`] and [`Lanes`].
    #[inline(always)]
    pub(super) unsafe fn close<V: Lanes>(&self, layout: &Layout, sums: *const f32) {
        for r in 0..self.rows {
            // SAFETY: as the caller promises.
            unsafe {
                let to = self.records.add(r * layout.record() + layout.value_stride() + 1);
                *to = V::load(sums.add(r * LANES)).sum();
            }
        }
    }
}

/// Runs `$body` for groups of rows, with `$R` rows (at most `$most`) from `$r` on.
macro_rules! row_groups {
    ($most:expr, $first:expr, $end:expr, $r:ident, $R:ident, $body:expr) => {{
        let mut $r: usize = $first;
        row_groups!(@size $most, 12, $end, $r, $R, $body);
        row_groups!(@size $most, 8, $end, $r, $R, $body);
        row_groups!(@size $most, 6, $end, $r, $R, $body);
        row_groups!(@size $most, 4, $end, $r, $R, $body);
        row_groups!(@size $most, 2, $end, $r, $R, $body);
        row_groups!(@size $most, 1, $end, $r, $R, $body);
    }};
    (@size $most:expr, $size:literal, $end:expr, $r:ident, $R:ident, $body:expr) => {
        if $most >= $size {
            const $R: usize = $size;
            while $r + $R <= $end {
                $body;
                $r += $R;
            }
        }
    };
}
pub(super) use row_groups;

/// Computes the records of a tile for the positions of one span.
///
/// # Safety
/// As for [`Lanes`]; the tile's pointers are good for what it says, and nothing else uses its scratch and records;
/// the cache holds elements `E`, its table covers what the rows see, and nobody writes it meanwhile.
#[inline(always)]
pub(crate) unsafe fn attend_span<V: Lanes, E: Element>(tile: &Tile, keys: &Keys<'_>, span: (usize, usize)) {
    let layout = &keys.layout;
    let (record, stride) = (layout.record(), layout.value_stride());
    // SAFETY: as the caller promises.
    unsafe {
        let scores = tile.scratch;
        let sums = tile.scratch.add(tile.rows * TILE);
        tile.clear(layout, sums);
        let (first, last) = tile.part(span);
        let mut from = first / TILE * TILE;
        while from < last {
            score_tile::<V, E>(tile, keys, from, first.max(from), last.min(from + TILE));
            for r in 0..tile.rows {
                let (lo, hi) = visible(tile, r, from);
                if lo < hi {
                    weigh::<V>(
                        tile,
                        stride,
                        scores.add(r * TILE),
                        sums.add(r * LANES),
                        tile.records.add(r * record),
                        (lo - from, hi - from),
                    );
                }
            }
            add_values::<V, E>(tile, keys, from);
            from += TILE;
        }
        tile.close::<V>(layout, sums);
    }
}

/// What row `row` sees of the tile of positions at `from`; empty when the first is not below the second.
#[inline(always)]
pub(super) fn visible(tile: &Tile, row: usize, from: usize) -> (usize, usize) {
    let (lo, hi) = tile.sees(row);
    (lo.max(from), hi.min(from + TILE))
}

/// Scores, not yet scaled, of all rows and the blocks that hold the positions `first..last` of the tile at `from`.
#[inline(always)]
unsafe fn score_tile<V: Lanes, E: Element>(
    tile: &Tile,
    keys: &Keys<'_>,
    from: usize,
    first: usize,
    last: usize,
) {
    let width = keys.layout.key_width;
    let mut block = first / BLOCK * BLOCK;
    while block < last {
        // SAFETY: as the caller promises.
        unsafe {
            let k = keys.at::<E>(block);
            let next = keys.ahead::<E>(block, tile.end());
            let out = tile.scratch.add(block - from);
            row_groups!(V::ROWS, 0, tile.rows, r, R, {
                let (q, out) = (tile.queries.add(r * width), out.add(r * TILE));
                let next = if r == 0 { next } else { k };
                if V::VECTORS == 2 {
                    score_block::<V, E, R, 2>(q, width, k, next, out);
                } else {
                    score_block::<V, E, R, 1>(q, width, k, next, out);
                    score_block::<V, E, R, 1>(q, width, k.add(LANES), k, out.add(LANES));
                }
            });
        }
        block += BLOCK;
    }
}

/// q·k of R rows and W·16 positions. Meanwhile the keys at `next` are called to the cache.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // loops of a fixed length over registers
unsafe fn score_block<V: Lanes, E: Element, const R: usize, const W: usize>(
    q: *const f32,
    width: usize,
    k: *const E,
    next: *const E,
    out: *mut f32,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut sums = [[V::splat(0.0); W]; R];
        for d in 0..width {
            prefetch_later(next.wrapping_add(d * BLOCK));
            let mut key = [V::splat(0.0); W];
            for w in 0..W {
                key[w] = E::load(k.add(d * BLOCK + w * LANES));
            }
            for r in 0..R {
                let x = V::splat(*q.add(r * width + d));
                for w in 0..W {
                    sums[r][w] = x.mul_add(key[w], sums[r][w]);
                }
            }
        }
        for r in 0..R {
            for w in 0..W {
                sums[r][w].store(out.add(r * TILE + w * LANES));
            }
        }
    }
}

/// Lane numbers.
pub(super) static RAMP: [f32; LANES] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];

/// Turns the scores `lo..hi` of one row into weights, and rescales what the row has so far.
#[inline(always)]
unsafe fn weigh<V: Lanes>(
    tile: &Tile,
    stride: usize,
    scores: *mut f32,
    sums: *mut f32,
    record: *mut f32,
    (lo, hi): (usize, usize),
) {
    // SAFETY: as the caller promises.
    unsafe {
        let none = V::splat(f32::NEG_INFINITY);
        let scale = V::splat(tile.scale);
        let first = lo / LANES * LANES;
        let mut most = none;
        let mut i = first;
        while i < hi {
            let mut s = V::load(scores.add(i)).mul(scale);
            if let Some(cap) = tile.softcap {
                let cap = V::splat(cap);
                s = cap.mul(math::tanh(s.div(cap)));
            }
            if i < lo || i + LANES > hi {
                let place = V::load(RAMP.as_ptr()).add(V::splat(i as f32));
                s = place.select_less(V::splat(hi as f32), s, none);
                s = place.select_less(V::splat(lo as f32), none, s);
            }
            s.store(scores.add(i));
            most = s.max(most);
            i += LANES;
        }
        let old = *record.add(stride);
        let most = most.largest();
        let new = if most > old { most } else { old };
        let mut total = V::load(sums);
        if new != old {
            let factor = math::exp(V::splat(old - new));
            total = total.mul(factor);
            let mut i = 0;
            while i < stride {
                V::load(record.add(i)).mul(factor).store(record.add(i));
                i += LANES;
            }
            *record.add(stride) = new;
        }
        let new = V::splat(new);
        let mut i = first;
        while i < hi {
            let p = math::exp(V::load(scores.add(i)).sub(new));
            p.store(scores.add(i));
            total = total.add(p);
            i += LANES;
        }
        total.store(sums);
    }
}

/// Adds the weighted values of the tile of positions at `from` to the records.
#[inline(always)]
unsafe fn add_values<V: Lanes, E: Element>(tile: &Tile, keys: &Keys<'_>, from: usize) {
    let sees_some = |r: &usize| {
        let (lo, hi) = visible(tile, *r, from);
        lo < hi
    };
    // What rows see moves on with the row, so those that see something of the tile stand together.
    let Some(a) = (0..tile.rows).find(sees_some) else { return };
    let b = (a..tile.rows).rfind(sees_some).map_or(a, |r| r + 1);
    // Every row takes positions in ascending order: those that only it and rows before it see, those that all see,
    // those that only it and rows after it see.
    let all_from = visible(tile, b - 1, from).0;
    let all_to = visible(tile, a, from).1.max(all_from);
    // SAFETY: as the caller promises.
    unsafe {
        for r in a..b {
            let (lo, hi) = visible(tile, r, from);
            add_range::<V, E>(tile, keys, from, (r, r + 1), (lo, hi.min(all_from)));
        }
        add_range::<V, E>(tile, keys, from, (a, b), (all_from, all_to));
        for r in a..b {
            let (lo, hi) = visible(tile, r, from);
            add_range::<V, E>(tile, keys, from, (r, r + 1), (lo.max(all_to), hi));
        }
    }
}

/// Adds the weighted values of the positions `first..last` to the records of the rows `a..b`, all of which see them.
#[inline(always)]
unsafe fn add_range<V: Lanes, E: Element>(
    tile: &Tile,
    keys: &Keys<'_>,
    from: usize,
    (a, b): (usize, usize),
    (first, last): (usize, usize),
) {
    let layout = &keys.layout;
    let (record, stride) = (layout.record(), layout.value_stride());
    let mut position = first;
    while position < last {
        let next = last.min((position / BLOCK + 1) * BLOCK);
        let count = next - position;
        // SAFETY: as the caller promises.
        unsafe {
            let at = BLOCK * layout.key_width + position % BLOCK * stride;
            let values = keys.at::<E>(position).add(at);
            let next = keys.ahead::<E>(position, tile.end()).add(at);
            let weights = tile.scratch.add(position - from);
            row_groups!(V::ROWS, a, b, r, R, {
                let (p, out) = (weights.add(r * TILE), tile.records.add(r * record));
                let next = if r == a { next } else { values };
                let mut c = 0;
                if V::VECTORS == 2 {
                    while c + 2 * LANES <= stride {
                        let (values, next, out) = (values.add(c), next.add(c), out.add(c));
                        value_block::<V, E, R, 2>(p, (values, next), stride, count, out, record);
                        c += 2 * LANES;
                    }
                }
                while c < stride {
                    let (values, next, out) = (values.add(c), next.add(c), out.add(c));
                    value_block::<V, E, R, 1>(p, (values, next), stride, count, out, record);
                    c += LANES;
                }
            });
        }
        position = next;
    }
}

/// Adds weights · values of `count` positions to R rows of W·16 numbers. Meanwhile the values at `next` are called to
/// the cache.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // loops of a fixed length over registers
unsafe fn value_block<V: Lanes, E: Element, const R: usize, const W: usize>(
    p: *const f32,
    (values, next): (*const E, *const E),
    stride: usize,
    count: usize,
    out: *mut f32,
    record: usize,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut sums = [[V::splat(0.0); W]; R];
        for r in 0..R {
            for w in 0..W {
                sums[r][w] = V::load(out.add(r * record + w * LANES));
            }
        }
        for j in 0..count {
            prefetch_later(next.wrapping_add(j * stride));
            let mut value = [V::splat(0.0); W];
            for w in 0..W {
                value[w] = E::load(values.add(j * stride + w * LANES));
            }
            for r in 0..R {
                let x = V::splat(*p.add(r * TILE + j));
                for w in 0..W {
                    sums[r][w] = x.mul_add(value[w], sums[r][w]);
                }
            }
        }
        for r in 0..R {
            for w in 0..W {
                sums[r][w].store(out.add(r * record + w * LANES));
            }
        }
    }
}

/// Adds the record of a query row's next span to the record of all before it. A span of which the row sees nothing
/// changes nothing.
///
/// # Safety
/// As for [`Lanes`]; both are records of the layout.
#[inline(always)]
pub(crate) unsafe fn merge<V: Lanes>(layout: &Layout, total: *mut f32, next: *const f32) {
    let stride = layout.value_stride();
    // SAFETY: as the caller promises.
    unsafe {
        let (old, new) = (*total.add(stride), *next.add(stride));
        if new == f32::NEG_INFINITY {
            return;
        }
        if old == f32::NEG_INFINITY {
            return next.copy_to_nonoverlapping(total, layout.record());
        }
        let most = if new > old { new } else { old };
        let (keep, add) = (math::exp(V::splat(old - most)), math::exp(V::splat(new - most)));
        // The sums of weights stand behind the values, and the largest score is put right after them.
        let mut i = 0;
        while i < layout.record() {
            let kept = V::load(total.add(i)).mul(keep);
            V::load(next.add(i)).mul_add(add, kept).store(total.add(i));
            i += LANES;
        }
        *total.add(stride) = most;
    }
}

/// Divides a row's value by its sum of weights, of which a sink (a logit without a value) may take a share.
///
/// # Safety
/// As for [`Lanes`]; `record` is a record of the layout, and `out` is good for a value.
#[inline(always)]
pub(crate) unsafe fn finish<V: Lanes>(layout: &Layout, record: *const f32, sink: Option<f32>, out: *mut f32) {
    let stride = layout.value_stride();
    // SAFETY: as the caller promises.
    unsafe {
        let (most, total) = (*record.add(stride), V::splat(*record.add(stride + 1)));
        let (mut factor, mut total) = (V::splat(1.0), total);
        if let Some(sink) = sink {
            let new = if sink > most { sink } else { most };
            factor = math::exp(V::splat(most - new));
            total = total.mul_add(factor, math::exp(V::splat(sink - new)));
        }
        let mut i = 0;
        while i < layout.value_width {
            let v = V::load(record.add(i)).mul(factor).div(total);
            store_part(v, out.add(i), layout.value_width - i);
            i += LANES;
        }
    }
}
