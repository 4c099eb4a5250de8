//! Attention where products are of BF16 numbers and all that a token sees is in the step, as in training: weights are
//! rounded as they are made, sums are in f32. The derivative (`derivative/attention_bf16.rs`) computes the same weights
//! again, to the bit; what both are made of is here.
//!
//! Queries are taken in bands of 16, since positions are in vectors of 16: only what a band sees is computed.

use std::ops::Range;

use autarky_graph::Limits;

use crate::kernels::backward::Softmax;
use crate::kernels::cache::Layout;
use crate::kernels::lanes::LANES;
use crate::kernels::paired::{PairedGemm, WeightRow};
use crate::matmul::{LINE, Paired, prefetch_later};

use super::run::Run;
use super::task::{AttendBf16, Matrix};

/// Tokens whose queries of a head a thread takes at a time.
pub(super) const TOKENS: usize = 64;
/// Queries whose weights are there at a time as floats.
pub(super) const BAND: usize = LANES;
/// Strides of a left operand in panels: bytes from one row to the next, and from one pair to the next.
pub(super) const IN_PANELS: (usize, usize) = (4, LINE);

/// The first position that a token sees, of those up to its own.
pub(super) fn first_seen(window: Option<usize>, position: usize) -> usize {
    window.map_or(0, |w| (position + 1).saturating_sub(w))
}

/// Products of the rows of a band, in panels, with columns of `right`: `n` positions from `from` on.
pub(super) fn with_positions(
    left: Paired,
    rows: usize,
    right: &Paired,
    (from, n): (usize, usize),
    (to, to_stride): (*mut f32, usize),
) -> PairedGemm {
    PairedGemm {
        left: left.start(0, 0),
        left_strides: IN_PANELS,
        right: right.start(from / LANES, 0),
        right_stride: right.panel_stride(),
        to,
        to_stride,
        rows,
        cols: n,
        pairs: left.pairs(),
        add: false,
    }
}

/// Sums over `n` positions from `from` on, the rows of `right`: of a number for each, which `rows` rows of a band have
/// in BF16, `stride` of them apart.
pub(super) fn over_positions(
    (left, stride): (*const u8, usize),
    rows: usize,
    (right, width): (&Paired, usize),
    (from, n): (usize, usize),
    (to, to_stride): (*mut f32, usize),
) -> PairedGemm {
    PairedGemm {
        left,
        left_strides: (2 * stride, 4),
        right: right.start(0, from / 2),
        right_stride: right.panel_stride(),
        to,
        to_stride,
        rows,
        cols: width,
        pairs: n.div_ceil(2),
        add: false,
    }
}

/// Divides memory, or finds how much of it there has to be.
pub(super) struct Divide {
    start: *mut u8,
    used: Option<usize>,
}

impl Divide {
    pub(super) fn new(start: *mut u8) -> Divide {
        Divide { start, used: Some(0) }
    }

    pub(super) fn part(&mut self, bytes: Option<usize>) -> *mut u8 {
        let part = self.start.wrapping_add(self.used.unwrap_or(0));
        let bytes = bytes.and_then(|b| b.checked_next_multiple_of(LINE));
        self.used = self.used.and_then(|used| used.checked_add(bytes?));
        part
    }

    pub(super) fn floats(&mut self, rows: usize, width: usize) -> *mut f32 {
        self.part(rows.checked_mul(width).and_then(|n| n.checked_mul(4))).cast()
    }

    pub(super) fn paired(&mut self, rows: usize, cols: usize) -> Paired {
        let start = self.part(Paired::bytes(rows, cols));
        // SAFETY: the view is used when the memory is as large as was found to be needed.
        unsafe { Paired::new(start, rows, cols) }
    }

    /// Bytes of all parts; `None` when that overflows.
    pub(super) fn used(&self) -> Option<usize> {
        self.used
    }
}

/// Numbers from one row of a band to the next, for a number for every position.
pub(super) fn band_stride(tokens: usize) -> Option<usize> {
    // Rows whose distance is no power of two are not all in the same few lines of the first-level cache.
    tokens.checked_next_multiple_of(LANES)?.checked_add(2 * LANES)
}

/// A thread's scratch.
struct Scratch {
    /// Keys, a column for every position; and values, a row for every position.
    keys_across: Paired,
    values: Paired,
    /// Queries of a band.
    queries_across: *mut u8,
    /// Scores of a band, rows of `stride` numbers; and its weights, rows of as many BF16 numbers.
    scores: *mut f32,
    weights: *mut u8,
    stride: usize,
}

/// The scratch for a sequence in memory at `start`, and its bytes.
fn divide(layout: &Layout, tokens: usize, start: *mut u8) -> Option<(Scratch, usize)> {
    let (kw, vw) = (layout.key_width, layout.value_width);
    let stride = band_stride(tokens)?;
    let mut d = Divide::new(start);
    let scratch = Scratch {
        keys_across: d.paired(kw, tokens),
        values: d.paired(tokens, vw),
        queries_across: d.part(Paired::bytes(kw, BAND)),
        scores: d.floats(BAND, stride),
        weights: d.part(stride.checked_mul(2 * BAND)),
        stride,
    };
    Some((scratch, d.used()?))
}

/// Numbers of scratch for steps within the limits.
pub(super) fn scratch(layout: &Layout, limits: &Limits) -> Option<usize> {
    divide(layout, limits.tokens, std::ptr::null_mut()).map(|(_, bytes)| bytes / 4)
}

impl Run<'_, '_> {
    pub(super) fn attend_bf16(&self, a: &AttendBf16) {
        let tiles = &self.bound.tiles[a.tiling].1;
        let group = a.heads / a.layout.heads;
        // The sequence and key head whose keys and values are in scratch. Tiles of a key head follow one another.
        let mut there = None;
        self.worker.for_each(tiles.len() * a.heads, 1, |range| {
            for i in range {
                // The sequences before have as many pieces as they have tiles and heads, too.
                let (tile, some) = (i / a.heads, &tiles[i / a.heads]);
                let tokens = self.step.sequences[some.sequence].tokens;
                let row = some.row - some.position;
                let piece = i - (tile - some.position / TOKENS) * a.heads;
                let pieces = tokens.div_ceil(TOKENS) * group;
                let (head, first) = (piece / pieces, piece % pieces / group * TOKENS);
                // SAFETY: the processor has BF16 products, for which this was lowered; the scratch was planned; rows and
                // heads are this thread's.
                unsafe {
                    let scratch = divide(&a.layout, tokens, self.scratch().cast());
                    let (s, _) = scratch.expect("more was planned");
                    if there.replace((some.sequence, head)) != Some((some.sequence, head)) {
                        self.gather_bf16(a, &s, row, head);
                    }
                    for first in (first..tokens.min(first + TOKENS)).step_by(BAND) {
                        let rows = BAND.min(tokens - first);
                        let query_head = head * group + piece % group;
                        self.call_ahead(a, (row, first, rows, tokens), query_head);
                        self.attend_band(a, &s, (row, first, rows), query_head);
                    }
                }
            }
        });
    }

    /// Rounds keys and values of a key head of the sequence that begins at `row`.
    unsafe fn gather_bf16(&self, a: &AttendBf16, s: &Scratch, row: usize, head: usize) {
        // SAFETY: as the caller promises.
        unsafe {
            let keys = self.row(&a.keys, row).add(head * a.layout.key_width);
            let values = self.row(&a.values, row).add(head * a.layout.value_width);
            (0..s.keys_across.panels()).for_each(|p| s.keys_across.write_transposed(p, keys, a.keys.width));
            (0..s.values.panels()).for_each(|p| s.values.write_panel(p, values, a.values.width));
        }
    }

    /// Calls numbers of some rows of a head to the second-level cache: the parts of rows lie too far from each other
    /// for the processor to see what comes next.
    pub(super) fn call(&self, matrix: &Matrix, rows: Range<usize>, column: usize, width: usize) {
        for row in rows {
            let from = self.row(matrix, row).wrapping_add(column);
            let last = from.wrapping_add(width - 1);
            (0..width).step_by(LINE / 4).for_each(|i| prefetch_later(from.wrapping_add(i)));
            prefetch_later(last);
        }
    }

    /// Calls what is wanted when `rows` queries from `first` on are done.
    fn call_ahead(
        &self,
        a: &AttendBf16,
        (start, first, rows, tokens): (usize, usize, usize, usize),
        query_head: usize,
    ) {
        let (kw, vw) = (a.layout.key_width, a.layout.value_width);
        let (group, these) = (a.heads / a.layout.heads, start + first..start + first + rows);
        self.call(&a.to, these.clone(), query_head * vw, vw);
        // The queries of the next piece: of the next head of the group, or as many tokens further on.
        let head = query_head / group;
        let (mut next, mut from) = (query_head + 1, first);
        if next.is_multiple_of(group) {
            (next, from) = (head * group, first + TOKENS);
            if from >= tokens {
                (next, from) = (next + group, first % TOKENS);
            }
            // With the last of the group comes a part of the next key head.
            if head + 1 < a.layout.heads {
                self.call(&a.keys, these.clone(), (head + 1) * kw, kw);
                self.call(&a.values, these, (head + 1) * vw, vw);
            }
        }
        if next < a.heads {
            self.call(&a.queries, start + from..start + tokens.min(from + rows), next * kw, kw);
        }
    }

    /// Attention of `rows` queries from `first` on of a head, in the sequence that begins at row `start`.
    unsafe fn attend_band(
        &self,
        a: &AttendBf16,
        s: &Scratch,
        (start, first, rows): (usize, usize, usize),
        query_head: usize,
    ) {
        let (kw, vw) = (a.layout.key_width, a.layout.value_width);
        let seen = |row: usize| (first_seen(a.window, first + row), first + row + 1);
        let from = seen(0).0 / LANES * LANES;
        let n = (first + rows).next_multiple_of(LANES) - from;
        // SAFETY: as the caller promises.
        unsafe {
            let queries = Paired::new(s.queries_across, kw, rows);
            let q = self.row(&a.queries, start + first).add(query_head * kw);
            queries.write_transposed(0, q, a.queries.width);
            with_positions(queries, rows, &s.keys_across, (from, n), (s.scores, s.stride)).compute();
            let sink = a.sinks.map(|w| self.prepared.weights[w].vector()[query_head]);
            let softmax = Softmax { scale: a.scale, softcap: a.softcap, sink };
            for r in 0..rows {
                let row = WeightRow {
                    n,
                    seen: (seen(r).0 - from, seen(r).1 - from),
                    scores: s.scores.add(r * s.stride),
                    weights: s.weights.add(2 * r * s.stride),
                };
                row.weigh(&softmax);
            }
            // Positions beyond the sequence have no values.
            let positions = (from, first + rows - from);
            let to = (self.row(&a.to, start + first).add(query_head * vw), a.to.width);
            over_positions((s.weights, s.stride), rows, (&s.values, vw), positions, to).compute();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use autarky_graph::conformance::{RandomWeights, Rng};
    use autarky_graph::derivative::{losses, training};
    use autarky_graph::{
        Attention, BLOCK, Builder, CacheDType, Graph, GraphError, SequenceStep, Step, WeightSpec,
    };
    use autarky_quant::DType;
    use half::bf16;

    use super::super::task::Task;
    use super::super::{CpuProgram, Settings};
    use super::*;
    use crate::isa::Isa;
    use crate::pool::Pool;

    /// Shapes of one attention op.
    #[derive(Clone, Copy, Debug)]
    struct Shape {
        heads: usize,
        groups: usize,
        key: usize,
        value: usize,
        window: Option<usize>,
        softcap: Option<f32>,
        sinks: bool,
    }

    fn graph(s: Shape) -> Result<Graph, GraphError> {
        let mut b = Builder::new();
        let (vocabulary, width) = (20, 32);
        let table = b.weight("table", &[vocabulary, width])?;
        let x = b.embed(table)?;
        let mut project = |name: &str, heads: usize, each: usize| {
            let weight = b.weight(name, &[heads * each, width])?;
            let y = b.linear(x, weight, None)?;
            b.reshape(y, &[heads, each])
        };
        let q = project("q", s.heads, s.key)?;
        let (k, v) = (project("k", s.groups, s.key)?, project("v", s.groups, s.value)?);
        let cache = b.cache(s.groups, s.key, s.value);
        let sinks = s.sinks.then(|| b.weight("sinks", &[s.heads])).transpose()?;
        let a = Attention { cache, scale: 0.3, window: s.window, softcap: s.softcap, sinks };
        let y = b.attention(q, k, v, a)?;
        let y = b.reshape(y, &[s.heads * s.value])?;
        let head = b.weight("head", &[vocabulary, s.heads * s.value])?;
        let logits = b.linear(y, head, None)?;
        Ok(b.finish(&[logits]))
    }

    fn compile(graph: Graph, threads: usize, limits: Limits) -> CpuProgram {
        let graph = Arc::new(graph);
        let dtype = |name: &str| if name.ends_with("sinks") { DType::F32 } else { DType::BF16 };
        let weights = RandomWeights::new(&mut Rng::new(7), &graph, dtype);
        let pool = Arc::new(Pool::new(threads));
        let settings = Settings { pool, isa: Isa::Avx512, bf16_tiles: false, profile: None };
        CpuProgram::compile(settings, graph, &weights, limits).expect("it compiles")
    }

    fn limits(lengths: &[usize]) -> Limits {
        let tokens = lengths.iter().sum();
        let blocks = lengths.iter().map(|n| n.div_ceil(BLOCK)).sum();
        Limits { tokens, sequences: lengths.len(), outputs: tokens, blocks, cache: CacheDType::F32 }
    }

    /// The result of a program's attention, for queries, keys and values.
    fn attend(program: &mut CpuProgram, lengths: &[usize], inputs: [&[f32]; 3]) -> Vec<f32> {
        let sequence = |tokens: &usize| SequenceStep { position: 0, tokens: *tokens, blocks: &[] };
        let sequences: Vec<_> = lengths.iter().map(sequence).collect();
        let step = Step { tokens: &[], sequences: &sequences, outputs: &[], inputs: &[], weights: &[] };
        program.bound.bind(&step);
        let (prepared, bound) = (&program.prepared, &program.bound);
        let a = attend_of(program).expect("attention is of BF16 numbers");
        let found = Mutex::new(Vec::new());
        program.settings.pool.run(&|worker| {
            let run = Run { prepared, step: &step, bound, worker, gathers: true };
            if worker.index() == 0 {
                for (to, from) in [&a.queries, &a.keys, &a.values].into_iter().zip(inputs) {
                    // SAFETY: the buffer has as many numbers, and other threads wait.
                    unsafe { from.as_ptr().copy_to_nonoverlapping(run.row(to, 0), from.len()) };
                }
            }
            worker.barrier();
            run.attend_bf16(a);
            worker.barrier();
            if worker.index() == 0 {
                // SAFETY: the buffer has as many numbers, which nobody writes any more.
                let y = unsafe { std::slice::from_raw_parts(run.row(&a.to, 0), bound.tokens * a.to.width) };
                *found.lock().expect("nobody panicked") = y.to_vec();
            }
        });
        found.into_inner().expect("nobody panicked")
    }

    fn attend_of(program: &CpuProgram) -> Option<&AttendBf16> {
        program.prepared.tasks.iter().find_map(|task| match task {
            Task::AttendBf16(attend) => Some(attend),
            _ => None,
        })
    }

    #[test]
    fn it_is_near_exact_attention_of_rounded_numbers_on_any_number_of_threads() {
        if !Isa::Avx512.has_bf16_products() {
            return;
        }
        let mut rng = Rng::new(11);
        for case in 0..24 {
            let mut some = |most: usize| 1 + rng.below(most);
            let groups = some(3);
            let (heads, key, value, window) = (groups * some(3), some(70), some(70), some(150));
            let lengths = [1, some(300), some(20), some(70)];
            let mut maybe = |one_in: usize| rng.below(one_in) == 0;
            let window = maybe(2).then_some(window);
            let (softcap, sinks) = (maybe(3).then_some(1.5), maybe(3));
            let shape = Shape { heads, groups, key, value, window, softcap, sinks };
            let tokens: usize = lengths.iter().sum();
            let [q, k, v] =
                [heads * key, groups * key, groups * value].map(|width| rng.normals(tokens * width, 1.0));
            let on = |threads: usize| {
                let graph =
                    training(&graph(shape).expect("the graph is right"), |_: &WeightSpec| true, false);
                let mut program = compile(graph.expect("it has derivatives"), threads, limits(&lengths));
                let y = attend(&mut program, &lengths, [&q, &k, &v]);
                let sinks = attend_of(&program).and_then(|a| a.sinks);
                (y, sinks.map(|w| program.prepared.weights[w].vector().to_vec()))
            };
            let (found, sinks) = on(1);
            for threads in [2, 5] {
                assert!(found == on(threads).0, "case {case}, {shape:?}: {threads} threads change bits");
            }
            let at =
                |x: &[f32], width: usize, row: usize, i: usize| bf16::from_f32(x[row * width + i]).to_f64();
            let mut start = 0;
            for n in lengths {
                for (t, head) in (0..n).flat_map(|t| (0..heads).map(move |head| (t, head))) {
                    let group = head / (heads / groups);
                    let seen = window.map_or(0, |w| (t + 1).saturating_sub(w))..t + 1;
                    let score = |s: usize| {
                        let term = |i: usize| {
                            at(&q, heads * key, start + t, head * key + i)
                                * at(&k, groups * key, start + s, group * key + i)
                        };
                        let x = 0.3 * (0..key).map(term).sum::<f64>();
                        softcap.map_or(x, |cap| f64::from(cap) * (x / f64::from(cap)).tanh())
                    };
                    let raised: Vec<f64> = seen.clone().map(|s| score(s).exp()).collect();
                    let of_sink = sinks.as_ref().map_or(0.0, |s| f64::from(s[head]).exp());
                    let sum = raised.iter().sum::<f64>() + of_sink;
                    for i in 0..value {
                        let (mut y, mut size) = (0.0, 1e-30);
                        for (weight, s) in raised.iter().zip(seen.clone()) {
                            let term = weight / sum * at(&v, groups * value, start + s, group * value + i);
                            (y, size) = (y + term, size + term.abs());
                        }
                        let found = f64::from(found[((start + t) * heads + head) * value + i]);
                        assert!(
                            (found - y).abs() <= size / 200.0,
                            "case {case}, {shape:?}: token {t} of {n}, head {head}, {i}: {found}, {y}"
                        );
                    }
                }
                start += n;
            }
        }
    }

    #[test]
    fn only_graphs_with_derivatives_of_attention_go_without_a_cache() {
        if !Isa::Avx512.has_bf16_products() {
            return;
        }
        let shape =
            Shape { heads: 2, groups: 1, key: 8, value: 8, window: None, softcap: None, sinks: false };
        let forward = graph(shape).expect("the graph is right");
        let train = |recompute: bool| training(&forward, |_| true, recompute).expect("it has derivatives");
        let head = |w: &WeightSpec| w.name.ends_with("head");
        for (graph, expected) in [
            (train(false), false),
            (train(true), false),
            (losses(&forward).expect("there are logits"), true),
            (training(&forward, head, false).expect("it has derivatives"), true),
        ] {
            let program = compile(graph, 1, limits(&[40]));
            let tasks = &program.prepared.tasks;
            let cached = tasks.iter().any(|t| t.accesses().cache.is_some());
            assert!(cached == expected && attend_of(&program).is_none() == expected, "{tasks:?}");
        }
    }
}
