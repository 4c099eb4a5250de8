//! Attention: writing the KV cache, and tiles of queries over spans of it.

use crate::kernels::attention::{SPAN, Tile};
use crate::kernels::cache::{Keys, Layout};
use crate::kernels::rounded;
use crate::matmul::LINE;

use autarky_graph::{BLOCK, CacheDType};

use super::run::Run;
use super::step::Stretch;
use super::task::{Attend, Matrix};

/// Tiles for each thread from which on threads need not share a tile's spans.
const TILES_PER_THREAD: usize = 4;

/// Numbers of scratch that the kernel needs for a tile.
pub(super) fn tile_numbers(cache: CacheDType, rows: usize, key_width: usize) -> usize {
    match cache {
        CacheDType::F16 | CacheDType::F32 => Tile::scratch(rows),
        CacheDType::I8 => rounded::scratch(rows, key_width),
    }
}

impl Run<'_, '_> {
    pub(super) fn write_cache(&self, cache: usize, layout: &Layout, keys: &Matrix, values: &Matrix) {
        let write = self.kernels().write_cache(self.prepared.cache_dtype);
        self.worker.for_each(self.bound.writes.len() * layout.heads, 1, |range| {
            for i in range {
                let (stretch, head) = (&self.bound.writes[i / layout.heads], i % layout.heads);
                let to = self.keys(cache, *layout, stretch.sequence, head);
                // SAFETY: key and value of the head are in the row, and the rows are the stretch's tokens.
                unsafe {
                    let k = self.row(keys, stretch.row).add(head * layout.key_width);
                    let v = self.row(values, stretch.row).add(head * layout.value_width);
                    let (k, v) = ((k.cast_const(), keys.width), (v.cast_const(), values.width));
                    write(&to, stretch.position, stretch.tokens, k, v);
                }
            }
        });
    }

    fn keys(&self, cache: usize, layout: Layout, sequence: usize, head: usize) -> Keys<'_> {
        let cache = self.prepared.caches[cache].start();
        Keys { cache, layout, blocks: self.step.sequences[sequence].blocks, head, next: (&[], 0) }
    }

    /// When spans are shared among the threads: the most that a tile has.
    pub(super) fn spans_apart(&self, attend: &Attend) -> Option<usize> {
        let window = attend.window.unwrap_or(usize::MAX);
        let (tokens, tiles) = &self.bound.tiles[attend.tiling];
        let seen = self.bound.end.min(window.saturating_add(*tokens));
        // What is seen may begin anywhere within a span.
        let spans = self.bound.end.div_ceil(SPAN).min(seen.div_ceil(SPAN) + 1);
        let pieces = tiles.len() * attend.layout.heads * self.chunks(attend);
        let fits = self.bound.tokens * spans <= self.prepared.span_records;
        (spans > 1 && pieces < TILES_PER_THREAD * self.worker.threads() && fits).then_some(spans)
    }

    /// Tiles in which the query heads of a key head are taken.
    fn chunks(&self, attend: &Attend) -> usize {
        (attend.heads / attend.layout.heads).div_ceil(attend.tile_heads)
    }

    pub(super) fn attend(&self, attend: &Attend) {
        let tiles = &self.bound.tiles[attend.tiling].1;
        let (heads, chunks) = (attend.layout.heads, self.chunks(attend));
        let apart = self.spans_apart(attend);
        let spans = apart.unwrap_or(1);
        let pieces = tiles.len() * heads * chunks * spans;
        // Spans of a tile that follow one another stay with one thread, which calls the next before it is done with one.
        let grain = if spans > 1 { (pieces / (8 * self.worker.threads())).max(1) } else { 1 };
        // Later tiles see more positions: the longest work is begun first.
        let place = |piece: usize| {
            (&tiles[tiles.len() - 1 - piece / (heads * chunks)], piece / chunks % heads, piece % chunks)
        };
        self.worker.for_each(pieces, grain, |range| {
            for i in range {
                let (stretch, head, chunk) = place(i / spans);
                if let Some(spans) = apart {
                    self.apart(attend, stretch, head, chunk, (i % spans, spans));
                    continue;
                }
                let mut keys = self.keys(attend.cache, attend.layout, stretch.sequence, head);
                if i + 1 < pieces {
                    let (next, head, _) = place(i + 1);
                    let seen = (next.position + 1).saturating_sub(attend.window.unwrap_or(usize::MAX));
                    keys.next = (&self.step.sequences[next.sequence].blocks[seen / BLOCK..], head);
                }
                self.whole(attend, stretch, &keys, chunk);
            }
        });
    }

    /// Gathers a tile's queries. Gives the tile, its first query head, and where its record of all spans is.
    fn tile(&self, attend: &Attend, stretch: &Stretch, head: usize, chunk: usize) -> (Tile, usize, *mut f32) {
        let group = attend.heads / attend.layout.heads;
        let first = chunk * attend.tile_heads;
        let heads = attend.tile_heads.min(group - first);
        let first = head * group + first;
        let rows = stretch.tokens * heads;
        let width = attend.layout.key_width;
        let padded = |n: usize| n.next_multiple_of(LINE / 4);
        // SAFETY: the scratch was planned for the largest tile (`tile_scratch`), and a token's queries of neighbouring
        // heads follow one another.
        unsafe {
            let queries = self.scratch();
            let scratch = queries.add(padded(attend.tile_rows * width));
            let needed = tile_numbers(self.prepared.cache_dtype, attend.tile_rows, width);
            let records = scratch.add(padded(needed));
            for t in 0..stretch.tokens {
                let q = self.row(&attend.queries, stretch.row + t).add(first * width);
                q.copy_to_nonoverlapping(queries.add(t * heads * width), heads * width);
            }
            let tile = Tile {
                rows,
                heads,
                position: stretch.position,
                window: attend.window.unwrap_or(usize::MAX),
                scale: attend.scale,
                softcap: attend.softcap,
                queries,
                scratch,
                records,
            };
            if let Some(round) = self.kernels().round_queries(self.prepared.cache_dtype) {
                round(&tile, &attend.layout);
            }
            (tile, first, records.add(attend.tile_rows * attend.layout.record()))
        }
    }

    /// The spans of which a tile sees something: first, and one past the last.
    fn spans(&self, tile: &Tile, stretch: &Stretch) -> (usize, usize) {
        let first = (tile.position + 1).saturating_sub(tile.window) / SPAN;
        (first, (stretch.position + stretch.tokens).div_ceil(SPAN))
    }

    /// A tile over all spans.
    fn whole(&self, attend: &Attend, stretch: &Stretch, keys: &Keys<'_>, chunk: usize) {
        let (tile, first_head, total) = self.tile(attend, stretch, keys.head, chunk);
        let span = self.kernels().attend_span(self.prepared.cache_dtype);
        let record = attend.layout.record();
        let (first, end) = self.spans(&tile, stretch);
        for s in first..end {
            // SAFETY: see [`Run`]; the cache was written in the stage before.
            unsafe {
                span(&tile, keys, (s * SPAN, (s + 1) * SPAN));
                if s == first {
                    tile.records.copy_to_nonoverlapping(total, tile.rows * record);
                } else {
                    for r in 0..tile.rows {
                        (self.kernels().merge)(
                            &attend.layout,
                            total.add(r * record),
                            tile.records.add(r * record),
                        );
                    }
                }
            }
        }
        for r in 0..tile.rows {
            let (token, h) = (stretch.row + r / tile.heads, first_head + r % tile.heads);
            // SAFETY: the record is complete.
            unsafe { self.finish(attend, total.add(r * record), token, h) };
        }
    }

    /// A tile over one of its spans, whose records are kept.
    fn apart(
        &self,
        attend: &Attend,
        stretch: &Stretch,
        head: usize,
        chunk: usize,
        (span, spans): (usize, usize),
    ) {
        let (tile, first_head, _) = self.tile(attend, stretch, head, chunk);
        let (first, end) = self.spans(&tile, stretch);
        let s = first + span;
        let attend_span = self.kernels().attend_span(self.prepared.cache_dtype);
        let record = attend.layout.record();
        if s < end {
            let keys = self.keys(attend.cache, attend.layout, stretch.sequence, head);
            // SAFETY: see [`Run`]; the cache was written in the stage before.
            unsafe { attend_span(&tile, &keys, (s * SPAN, (s + 1) * SPAN)) };
        }
        for r in 0..tile.rows {
            let (token, h) = (stretch.row + r / tile.heads, first_head + r % tile.heads);
            // SAFETY: the buffer has a record for every token, head and span of the step (`spans_apart`).
            unsafe {
                let to = self.span_record(attend, token, h, spans).add(span * record);
                if s < end {
                    tile.records.add(r * record).copy_to_nonoverlapping(to, record);
                } else {
                    *to.add(attend.layout.value_stride()) = f32::NEG_INFINITY;
                }
            }
        }
    }

    /// The records of a token's head, one a span.
    unsafe fn span_record(&self, attend: &Attend, token: usize, head: usize, spans: usize) -> *mut f32 {
        let index = (token * attend.heads + head) * spans;
        // SAFETY: as the caller promises.
        unsafe { self.buffer(attend.spans).cast::<f32>().add(index * attend.layout.record()) }
    }

    pub(super) fn merge_spans(&self, attend: &Attend) {
        let Some(spans) = self.spans_apart(attend) else { return };
        let record = attend.layout.record();
        self.worker.for_each(self.bound.tokens * attend.heads, 1, |range| {
            for i in range {
                let (token, head) = (i / attend.heads, i % attend.heads);
                // SAFETY: the records were written in the stage before, and are this thread's.
                unsafe {
                    let total = self.span_record(attend, token, head, spans);
                    for s in 1..spans {
                        (self.kernels().merge)(&attend.layout, total, total.add(s * record));
                    }
                    self.finish(attend, total, token, head);
                }
            }
        });
    }

    /// Writes a row's result.
    unsafe fn finish(&self, attend: &Attend, record: *const f32, token: usize, head: usize) {
        let sink = attend.sinks.map(|s| self.prepared.weights[s].vector()[head]);
        // SAFETY: the value is inside the row; the record is the caller's.
        unsafe {
            let out = self.row(&attend.to, token).add(head * attend.layout.value_width);
            (self.kernels().finish)(&attend.layout, record, sink, out);
        }
    }
}
