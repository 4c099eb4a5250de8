//! Attention over a KV cache of 8-bit integers: its layout, writing to it, and tiles of queries over a span.
//!
//! # The numbers
//!
//! Keys and queries are rounded in groups of [`GROUP`] numbers, a value as a whole: to code · scale, with the scale the
//! largest magnitude / 127. A block of 32 positions keeps for every key and value head
//!
//! ```text
//! scales of keys    f32  [groups][32]
//! keys              u8   [key width / 4, rounded up][32][4]: code + 128
//! scales of values  f32  [32]
//! values            i8   [32 / 4][value stride][4 positions]
//! ```
//!
//! so that the lanes of scores are positions and those of the result the numbers of a value, as in blocks of floats,
//! and the four that one instruction adds up lie together. A key or value that has numbers that are not finite gets a
//! NaN for the scale of its key, from where it reaches every result that it takes part in.
//!
//! # The arithmetic
//!
//! As [`super::attention`] describes, but for the two products:
//!
//! ```text
//! tile:   s_j = Σ over groups, ascending, of float(Σ codes · codes) · (key's scale · query's scale)
//!         most = max s_j;  p_j = e^(s_j − most);  unit = largest scale of a value seen / 65535
//!         w_j = p_j · (value's scale / unit), rounded to a whole number from 0 to 65535
//!         new = max(largest, most);  keep = e^(largest − new);  share = e^(most − new)
//!         sums = sums · keep + Σ p · share
//!         values = values · keep + float(Σ w_j · codes) · (unit · share)
//! ```
//!
//! Sums of products of codes are exact in `i32` (a tile's 128 products of a weight and a code stay below 2³⁰·⁰²), so they
//! may be taken in any order. Weights are multiplied as two planes of bytes, the high and the low ones. A weight is off
//! by half a unit at most: all of a tile by less than a thousandth of its largest weight.

use autarky_graph::BLOCK;

use super::attention::{RAMP, TILE, Tile, row_groups, visible};
use super::cache::{Keys, Layout};
use super::lanes::{LANES, Lanes, load_part, magnitude};
use super::math;
use crate::matmul::activations::SMALLEST;
use crate::matmul::prefetch_later;

/// Numbers of a key or a query that share a scale.
pub(crate) const GROUP: usize = autarky_graph::CACHE_GROUP;
/// Bytes that one instruction multiplies and adds up.
const QUAD: usize = 4;
/// Blocks of a tile.
const BLOCKS: usize = TILE / BLOCK;

impl Layout {
    /// Quads of a key, the last filled up with zeros.
    fn key_quads(&self) -> usize {
        self.key_width.div_ceil(QUAD)
    }

    /// Scales of a key.
    fn key_groups(&self) -> usize {
        self.key_width.div_ceil(GROUP)
    }

    /// Bytes of one head in a block.
    pub(super) fn rounded_head(&self) -> usize {
        BLOCK * (4 * self.key_groups() + QUAD * self.key_quads() + 4 + self.value_stride())
    }

    /// Where in a head the keys, the scales of values and the values begin.
    fn places(&self) -> [usize; 3] {
        let keys = BLOCK * 4 * self.key_groups();
        let scales = keys + BLOCK * QUAD * self.key_quads();
        [keys, scales, scales + BLOCK * 4]
    }
}

/// One head of a block.
#[derive(Clone, Copy)]
struct Head {
    key_scales: *mut f32,
    keys: *mut u8,
    value_scales: *mut f32,
    values: *mut u8,
}

impl Head {
    /// The head at [`Keys::place`] or [`Keys::place_ahead`].
    ///
    /// # Safety
    /// It is in the cache.
    #[inline(always)]
    unsafe fn at(keys: &Keys<'_>, place: usize) -> Head {
        let layout = &keys.layout;
        let [k, scales, values] = layout.places();
        // SAFETY: as the caller promises.
        unsafe {
            let start = keys.cache.add(place * layout.rounded_head());
            Head {
                key_scales: start.cast(),
                keys: start.add(k),
                value_scales: start.add(scales).cast(),
                values: start.add(values),
            }
        }
    }
}

/// What the scratch of a tile holds of its rows.
#[derive(Clone, Copy)]
struct Scratch {
    /// `[rows][TILE]`.
    scores: *mut f32,
    /// `[rows][TILE]`: high and low bytes of weights.
    high: *mut u8,
    low: *mut u8,
    /// `[rows][LANES]`.
    sums: *mut f32,
    /// `[rows][LANES]`, all lanes alike: what values so far, and what those of the tile are multiplied by.
    keep: *mut f32,
    share: *mut f32,
    /// `[rows][quads]`.
    codes: *mut u8,
    /// `[rows][groups]`: scales, and −128 · Σ codes.
    scales: *mut f32,
    offsets: *mut i32,
}

impl Scratch {
    /// Numbers of scratch.
    const fn numbers(rows: usize, key_width: usize) -> usize {
        rows * (TILE + TILE / 2 + 3 * LANES + key_width.div_ceil(QUAD) + 2 * key_width.div_ceil(GROUP))
    }

    /// # Safety
    /// The tile's scratch is good for as many numbers.
    #[inline(always)]
    unsafe fn of(tile: &Tile, layout: &Layout) -> Scratch {
        let rows = tile.rows;
        // SAFETY: as the caller promises.
        unsafe {
            let scores = tile.scratch;
            let high = scores.add(rows * TILE).cast::<u8>();
            let low = high.add(rows * TILE);
            let sums = low.add(rows * TILE).cast::<f32>();
            let keep = sums.add(rows * LANES);
            let share = keep.add(rows * LANES);
            let codes = share.add(rows * LANES).cast::<u8>();
            let scales = codes.add(rows * QUAD * layout.key_quads()).cast::<f32>();
            let offsets = scales.add(rows * layout.key_groups()).cast::<i32>();
            Scratch { scores, high, low, sums, keep, share, codes, scales, offsets }
        }
    }
}

/// Numbers of scratch for a tile of `rows` rows.
pub(crate) const fn scratch(rows: usize, key_width: usize) -> usize {
    Scratch::numbers(rows, key_width)
}

/// The scale of numbers whose largest magnitude is given, and what they are multiplied by to become codes; both 0 for
/// numbers so small that they are taken as 0.
#[inline(always)]
fn scale_of(largest: f32) -> (f32, f32) {
    if largest < SMALLEST { (0.0, 0.0) } else { (largest / 127.0, 127.0 / largest) }
}

/// Codes of `count` ≤ 16 numbers, the rest 0, and their sum.
///
/// # Safety
/// As for [`Lanes`]; `x` is good for `count` numbers, which times `inverse` lie from −127 to 127.
#[inline(always)]
unsafe fn codes<V: Lanes>(x: *const f32, count: usize, inverse: f32) -> ([u8; LANES], f32) {
    // SAFETY: as the caller promises.
    unsafe {
        let v: V = load_part::<V>(x, count, 0.0).mul(V::splat(inverse)).round();
        let mut out = [0u8; LANES];
        v.store_i8(out.as_mut_ptr().cast());
        (out, v.sum())
    }
}

/// Writes keys and values of `count` tokens that follow one another within one block; arguments as for
/// [`super::cache::write_cache`].
///
/// # Safety
/// As there; the cache holds 8-bit integers.
#[inline(always)]
pub(crate) unsafe fn write_cache<V: Lanes>(
    keys: &Keys<'_>,
    position: usize,
    count: usize,
    (k, k_row): (*const f32, usize),
    (v, v_row): (*const f32, usize),
) {
    let layout = &keys.layout;
    // SAFETY: as the caller promises.
    unsafe {
        let head = Head::at(keys, keys.place(position));
        for t in 0..count {
            let place = position % BLOCK + t;
            let (k, v) = (k.add(t * k_row), v.add(t * v_row));
            let largest = magnitude::<V>(v, layout.value_width);
            // What is not finite shows in the key's scale.
            let fault = if largest.is_nan() { f32::NAN } else { 0.0 };
            write_key::<V>(layout, &head, place, k, fault);
            let (scale, inverse) = if largest.is_nan() { (0.0, 0.0) } else { scale_of(largest) };
            *head.value_scales.add(place) = scale;
            let to = head.values.add(place / QUAD * QUAD * layout.value_stride() + place % QUAD);
            let mut c = 0;
            while c < layout.value_width {
                let n = LANES.min(layout.value_width - c);
                let codes = if inverse == 0.0 { [0; LANES] } else { codes::<V>(v.add(c), n, inverse).0 };
                for (i, code) in codes.into_iter().take(n).enumerate() {
                    *to.add(QUAD * (c + i)) = code;
                }
                c += LANES;
            }
        }
    }
}

/// Writes one key. `fault` is 0, or NaN to spoil it.
#[inline(always)]
unsafe fn write_key<V: Lanes>(layout: &Layout, head: &Head, place: usize, k: *const f32, fault: f32) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut d = 0;
        while d < layout.key_width {
            let n = GROUP.min(layout.key_width - d);
            let largest = magnitude::<V>(k.add(d), n);
            let (scale, inverse) = if largest.is_nan() { (largest, 0.0) } else { scale_of(largest) };
            *head.key_scales.add(d / GROUP * BLOCK + place) = scale + fault;
            let mut i = 0;
            while i < n {
                let part = LANES.min(n - i);
                let codes =
                    if inverse == 0.0 { [0; LANES] } else { codes::<V>(k.add(d + i), part, inverse).0 };
                for (q, quad) in codes.chunks_exact(QUAD).take(part.div_ceil(QUAD)).enumerate() {
                    let to = head.keys.add((((d + i) / QUAD + q) * BLOCK + place) * QUAD);
                    to.cast::<[u8; QUAD]>().write(std::array::from_fn(|b| quad[b] ^ 0x80));
                }
                i += LANES;
            }
            d += GROUP;
        }
    }
}

/// Rounds the queries of a tile, which stay in its scratch. Scales are multiplied by the tile's.
///
/// # Safety
/// As for [`Lanes`]; the tile's pointers are good for what it says, its scratch for [`scratch`] numbers, and nothing
/// else uses them.
#[inline(always)]
pub(crate) unsafe fn round_queries<V: Lanes>(tile: &Tile, layout: &Layout) {
    // SAFETY: as the caller promises.
    unsafe {
        let to = Scratch::of(tile, layout);
        let (width, quads, groups) = (layout.key_width, layout.key_quads(), layout.key_groups());
        for r in 0..tile.rows {
            let x = tile.queries.add(r * width);
            let row = to.codes.add(r * quads * QUAD);
            for g in 0..groups {
                let (first, end) = (g * GROUP, width.min((g + 1) * GROUP));
                let largest = magnitude::<V>(x.add(first), end - first);
                let (scale, inverse) = if largest.is_nan() { (largest, 0.0) } else { scale_of(largest) };
                let mut sum = 0.0;
                let mut d = first;
                while d < end {
                    let n = LANES.min(end - d);
                    let part =
                        if inverse == 0.0 { ([0; LANES], 0.0) } else { codes::<V>(x.add(d), n, inverse) };
                    let bytes = n.next_multiple_of(QUAD);
                    row.add(d).copy_from_nonoverlapping(part.0.as_ptr(), bytes);
                    sum += part.1;
                    d += LANES;
                }
                *to.scales.add(r * groups + g) = scale * tile.scale;
                *to.offsets.add(r * groups + g) = -128 * sum as i32;
            }
        }
    }
}

/// Computes the records of a tile, whose queries are rounded, for the positions `start..end` of one span.
///
/// # Safety
/// As for [`super::attention::attend_span`], with a cache of 8-bit integers, after [`round_queries`].
#[inline(always)]
pub(crate) unsafe fn attend_span<V: Lanes>(tile: &Tile, keys: &Keys<'_>, (start, end): (usize, usize)) {
    let layout = &keys.layout;
    let (record, stride) = (layout.record(), layout.value_stride());
    // SAFETY: as the caller promises.
    unsafe {
        let scratch = Scratch::of(tile, layout);
        tile.clear(layout, scratch.sums);
        let (first, last) = tile.part((start, end));
        let mut from = first / TILE * TILE;
        while from < last {
            let (low, high) = (first.max(from), last.min(from + TILE));
            score_tile::<V>(tile, keys, &scratch, from, (low, high));
            // What rows see moves on with the row, so those that see something of the tile stand together.
            let sees_some = |r: &usize| {
                let (lo, hi) = visible(tile, *r, from);
                lo < hi
            };
            let a = (0..tile.rows).find(sees_some).unwrap_or(tile.rows);
            let b = (a..tile.rows).rfind(sees_some).map_or(a, |r| r + 1);
            let blocks = (low / BLOCK * BLOCK, high);
            let mut heads = [Head::at(keys, keys.place(blocks.0)); BLOCKS];
            for position in (blocks.0..blocks.1).step_by(BLOCK) {
                heads[(position - from) / BLOCK] = Head::at(keys, keys.place(position));
            }
            for r in a..b {
                let (lo, hi) = visible(tile, r, from);
                weigh::<V>(
                    tile,
                    stride,
                    &scratch,
                    &heads,
                    r,
                    tile.records.add(r * record),
                    (lo - from, hi - from),
                );
            }
            let places = ((blocks.0 - from) / BLOCK, (blocks.1 - from).div_ceil(BLOCK));
            add_values::<V>(tile, keys, &scratch, &heads, (from, places), (a, b));
            from += TILE;
        }
        tile.close::<V>(layout, scratch.sums);
    }
}

/// Scores of all rows and the blocks that hold the positions `first..last` of the tile at `from`.
#[inline(always)]
unsafe fn score_tile<V: Lanes>(
    tile: &Tile,
    keys: &Keys<'_>,
    scratch: &Scratch,
    from: usize,
    (first, last): (usize, usize),
) {
    let layout = &keys.layout;
    let mut block = first / BLOCK * BLOCK;
    while block < last {
        // SAFETY: as the caller promises.
        unsafe {
            let head = Head::at(keys, keys.place(block));
            let next = Head::at(keys, keys.place_ahead(block, tile.end())).keys;
            row_groups!(V::DOT_ROWS, 0, tile.rows, r, R, {
                let next = if r == 0 { next } else { head.keys };
                let out = scratch.scores.add(r * TILE + block - from);
                if V::VECTORS == 2 {
                    score_block::<V, R, 2>(layout, scratch, r, (&head, 0), next, out);
                } else {
                    score_block::<V, R, 1>(layout, scratch, r, (&head, 0), next, out);
                    score_block::<V, R, 1>(layout, scratch, r, (&head, LANES), next, out.add(LANES));
                }
            });
        }
        block += BLOCK;
    }
}

/// Scores of R rows from `row` on and W·16 positions from `place` on. Meanwhile the keys at `next` are called to the
/// cache.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // loops of a fixed length over registers
unsafe fn score_block<V: Lanes, const R: usize, const W: usize>(
    layout: &Layout,
    scratch: &Scratch,
    row: usize,
    (head, place): (&Head, usize),
    next: *const u8,
    out: *mut f32,
) {
    let (quads, groups) = (layout.key_quads(), layout.key_groups());
    // SAFETY: as the caller promises.
    unsafe {
        let codes = scratch.codes.add(row * quads * QUAD);
        for g in 0..groups {
            let mut sums = [[V::splat_whole(0); W]; R];
            for r in 0..R {
                sums[r] = [V::splat_whole(*scratch.offsets.add((row + r) * groups + g)); W];
            }
            for q in g * (GROUP / QUAD)..quads.min((g + 1) * (GROUP / QUAD)) {
                let at = (q * BLOCK + place) * QUAD;
                let mut key = [V::load_quads(head.keys.add(at)); W];
                prefetch_later(next.wrapping_add(at));
                for w in 1..W {
                    key[w] = V::load_quads(head.keys.add(at + w * LANES * QUAD));
                    prefetch_later(next.wrapping_add(at + w * LANES * QUAD));
                }
                for r in 0..R {
                    let x = V::splat_quad(codes.add((r * quads + q) * QUAD));
                    for w in 0..W {
                        sums[r][w] = V::dot(sums[r][w], key[w], x);
                    }
                }
            }
            for w in 0..W {
                let scale = V::load(head.key_scales.add(g * BLOCK + place + w * LANES));
                for r in 0..R {
                    let scale = scale.mul(V::splat(*scratch.scales.add((row + r) * groups + g)));
                    let (sum, out) = (V::from_whole(sums[r][w]), out.add(r * TILE + w * LANES));
                    let sum = if g == 0 { sum.mul(scale) } else { sum.mul_add(scale, V::load(out)) };
                    sum.store(out);
                }
            }
        }
    }
}

/// Turns the scores `lo..hi` of row `r` into weights, rounds them, and says how its values are to be added.
#[inline(always)]
unsafe fn weigh<V: Lanes>(
    tile: &Tile,
    stride: usize,
    scratch: &Scratch,
    heads: &[Head; BLOCKS],
    r: usize,
    record: *mut f32,
    (lo, hi): (usize, usize),
) {
    // SAFETY: as the caller promises.
    unsafe {
        let scores = scratch.scores.add(r * TILE);
        let (high, low) = (scratch.high.add(r * TILE), scratch.low.add(r * TILE));
        let scales = |i: usize| V::load(heads[i / BLOCK].value_scales.add(i % BLOCK));
        let (zero, none) = (V::splat(0.0), V::splat(f32::NEG_INFINITY));
        let first = lo / LANES * LANES;
        let (mut most, mut top) = (none, zero);
        let mut i = first;
        while i < hi {
            let mut s = V::load(scores.add(i));
            let mut scale = scales(i);
            if let Some(cap) = tile.softcap {
                let cap = V::splat(cap);
                s = cap.mul(math::tanh(s.div(cap)));
                s.store(scores.add(i));
            }
            if i < lo || i + LANES > hi {
                let place = V::load(RAMP.as_ptr()).add(V::splat(i as f32));
                let (a, b) = (V::splat(lo as f32), V::splat(hi as f32));
                s = place.select_less(a, none, place.select_less(b, s, none));
                scale = place.select_less(a, zero, place.select_less(b, scale, zero));
                s.store(scores.add(i));
            }
            most = s.max(most);
            top = scale.max(top);
            i += LANES;
        }
        let (most, top) = (most.largest(), top.largest());
        let (unit, inverse) = if top < SMALLEST { (0.0, 0.0) } else { (top / 65535.0, 65535.0 / top) };
        let (most_all, inverse) = (V::splat(most), V::splat(inverse));
        let mut sum = zero;
        let mut i = first;
        while i < hi {
            let p = math::exp(V::load(scores.add(i)).sub(most_all));
            sum = sum.add(p);
            p.mul(scales(i).mul(inverse)).store_planes(high.add(i), low.add(i));
            i += LANES;
        }
        // Positions that the row does not see weigh nothing.
        for plane in [high, low] {
            plane.write_bytes(0, first);
            plane.add(i).write_bytes(0, TILE - i);
        }
        let old = *record.add(stride);
        let new = if most > old { most } else { old };
        let (keep, share) = (math::exp(V::splat(old - new)), math::exp(V::splat(most - new)));
        let sums = scratch.sums.add(r * LANES);
        sum.mul_add(share, V::load(sums).mul(keep)).store(sums);
        keep.store(scratch.keep.add(r * LANES));
        share.mul(V::splat(unit)).store(scratch.share.add(r * LANES));
        *record.add(stride) = new;
    }
}

/// Adds the weighted values of the blocks `places` of the tile of positions at `from` to the records of the rows `a..b`.
#[inline(always)]
unsafe fn add_values<V: Lanes>(
    tile: &Tile,
    keys: &Keys<'_>,
    scratch: &Scratch,
    heads: &[Head; BLOCKS],
    (from, places): (usize, (usize, usize)),
    (a, b): (usize, usize),
) {
    let layout = &keys.layout;
    let (record, stride) = (layout.record(), layout.value_stride());
    // SAFETY: as the caller promises.
    unsafe {
        let mut values = [(std::ptr::null(), std::ptr::null()); BLOCKS];
        for place in places.0..places.1 {
            let next = Head::at(keys, keys.place_ahead(from + place * BLOCK, tile.end()));
            values[place] = (heads[place].values.cast_const(), next.values.cast_const());
        }
        let values = &values[places.0..places.1];
        row_groups!(V::DOT_ROWS / 2, a, b, r, R, {
            let row = (r, tile.records.add(r * record), record);
            let mut c = 0;
            if V::VECTORS == 2 {
                while c + 2 * LANES <= stride {
                    value_block::<V, R, 2>(scratch, (places.0, values), stride, c, row, r == a);
                    c += 2 * LANES;
                }
            }
            while c < stride {
                value_block::<V, R, 1>(scratch, (places.0, values), stride, c, row, r == a);
                c += LANES;
            }
        });
    }
}

/// Adds the weighted values of some blocks, of which the first is `place`, to W·16 numbers from `c` on of R rows. With
/// `fetch` the values that are needed next are called to the cache meanwhile.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // loops of a fixed length over registers
unsafe fn value_block<V: Lanes, const R: usize, const W: usize>(
    scratch: &Scratch,
    (place, blocks): (usize, &[(*const u8, *const u8)]),
    stride: usize,
    c: usize,
    (row, records, record): (usize, *mut f32, usize),
    fetch: bool,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut high = [[V::splat_whole(0); W]; R];
        let mut low = [[V::splat_whole(0); W]; R];
        for (i, (values, next)) in blocks.iter().enumerate() {
            let at = row * TILE + (place + i) * BLOCK;
            let next = if fetch { *next } else { *values };
            for q in 0..BLOCK / QUAD {
                let from = (q * stride + c) * QUAD;
                let mut value = [V::load_quads(values.add(from)); W];
                prefetch_later(next.wrapping_add(from));
                for w in 1..W {
                    value[w] = V::load_quads(values.add(from + w * LANES * QUAD));
                    prefetch_later(next.wrapping_add(from + w * LANES * QUAD));
                }
                for r in 0..R {
                    let h = V::splat_quad(scratch.high.add(at + r * TILE + q * QUAD));
                    let l = V::splat_quad(scratch.low.add(at + r * TILE + q * QUAD));
                    for w in 0..W {
                        high[r][w] = V::dot(high[r][w], h, value[w]);
                        low[r][w] = V::dot(low[r][w], l, value[w]);
                    }
                }
            }
        }
        for r in 0..R {
            let keep = V::load(scratch.keep.add((row + r) * LANES));
            let share = V::load(scratch.share.add((row + r) * LANES));
            for w in 0..W {
                let out = records.add(r * record + c + w * LANES);
                let sum = V::from_whole(V::join_planes(high[r][w], low[r][w]));
                sum.mul_add(share, V::load(out).mul(keep)).store(out);
            }
        }
    }
}
