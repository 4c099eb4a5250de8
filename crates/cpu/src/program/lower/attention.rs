//! From an attention op to its tasks.

use autarky_graph::derivative::Backward;
use autarky_graph::{BLOCK, CacheDType, CompileError, Limits, Op};

use crate::kernels::attention::{SPAN, TILE};
use crate::kernels::cache::Layout;
use crate::kernels::lanes::LANES;
use crate::matmul::LINE;

use super::super::attention::tile_numbers;
use super::super::attention_bf16;
use super::super::task::{Attend, AttendBf16, Task};
use super::{Lowering, too_large};

/// Bytes of a tile's queries, records and scores that should stay in a core's own cache.
const TILE_BYTES: usize = 96 << 10;
/// Rows of a tile at most.
const TILE_ROWS: usize = 32;
/// Records of spans for which memory is planned, in tokens · spans, beyond what one token can need.
const SPAN_RECORDS: usize = 64;

impl Lowering<'_> {
    pub(super) fn attention(&mut self, index: usize) -> Result<(), CompileError> {
        let node = &self.graph.nodes()[index];
        let Op::Attention(a) = &node.op else { unreachable!("called for attention only") };
        let layout = Layout::of(&self.graph.caches()[a.cache.index()]);
        let heads = node.shape.features()[0];
        let [queries, keys, values] = [0, 1, 2].map(|arg| self.numbers(index, arg));
        if self.attends_bf16() {
            let scratch = attention_bf16::scratch(&layout, &self.limits);
            self.scratch(scratch.ok_or_else(|| too_large(&node.label))?);
            let (tiling, to) = (self.tiling(attention_bf16::TOKENS), self.value(index)?);
            self.push(Task::AttendBf16(AttendBf16 {
                layout,
                heads,
                scale: a.scale,
                softcap: a.softcap,
                window: a.window,
                sinks: Self::vector(a.sinks),
                queries,
                keys,
                values,
                to,
                tiling,
            }));
            return Ok(());
        }
        let cache = a.cache.index();
        self.push(Task::WriteCache { cache, layout, keys, values });

        let group = heads / layout.heads;
        let row_bytes = 4 * (layout.key_width + 2 * layout.record() + TILE + LANES);
        let rows = (TILE_BYTES / row_bytes).clamp(4, TILE_ROWS);
        let tile_heads = group.min(rows);
        let tokens = if tile_heads == group { rows / group } else { 1 };
        let tiling = self.tiling(tokens);
        let tile_rows = tile_heads * tokens;
        self.scratch(tile_scratch(self.limits.cache, &layout, tile_rows));

        let records = span_records(&self.limits).checked_mul(heads);
        let bytes = records.and_then(|n| n.checked_mul(4 * layout.record()));
        let spans = self.buffer(bytes, &node.label)?;
        let to = self.value(index)?;
        let attend = Attend {
            cache,
            layout,
            heads,
            scale: a.scale,
            softcap: a.softcap,
            window: a.window,
            sinks: Self::vector(a.sinks),
            queries,
            to,
            spans,
            tiling,
            tile_heads,
            tile_rows,
        };
        self.push(Task::Attend(attend.clone()));
        self.push(Task::MergeSpans(attend));
        Ok(())
    }

    /// Whether attention has products of BF16 numbers, as its derivative has. Where there is a derivative of attention,
    /// steps are refused unless all that a token sees is in the step: nothing reads the cache.
    fn attends_bf16(&self) -> bool {
        let mut nodes = self.graph.nodes().iter();
        nodes.any(|n| matches!(n.op, Op::Backward(Backward::Attention(_)))) && self.multiplies_bf16()
    }

    /// The division of the step into tiles of so many tokens.
    fn tiling(&mut self, tokens: usize) -> usize {
        self.out.tilings.iter().position(|t| *t == tokens).unwrap_or_else(|| {
            self.out.tilings.push(tokens);
            self.out.tilings.len() - 1
        })
    }
}

/// Numbers of scratch for a tile: queries, what the kernel needs, and the records of a span and of all before it.
fn tile_scratch(cache: CacheDType, layout: &Layout, rows: usize) -> usize {
    let padded = |n: usize| n.next_multiple_of(LINE / 4);
    padded(rows * layout.key_width)
        + padded(tile_numbers(cache, rows, layout.key_width))
        + 2 * rows * layout.record()
}

/// The most tokens · spans whose records are kept side by side.
pub(in super::super) fn span_records(limits: &Limits) -> usize {
    (limits.blocks * BLOCK).div_ceil(SPAN).max(SPAN_RECORDS)
}
