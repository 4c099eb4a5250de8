//! Sequences longer than the tiles and spans of attention: right, and the same bits however they are run.

use std::sync::Arc;

use autarky_cpu::{Cpu, CpuOptions, Isa};
use autarky_graph::conformance::{RandomWeights, Rng};
use autarky_graph::reference::Reference;
use autarky_graph::{
    Attention, BLOCK, Builder, CacheDType, Device, Graph, GraphError, Limits, Program, SequenceStep, Step,
};
use autarky_quant::DType;

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
    cache: CacheDType,
}

const PLAIN: Shape = Shape {
    heads: 4,
    groups: 2,
    key: 24,
    value: 20,
    window: None,
    softcap: None,
    sinks: false,
    cache: CacheDType::F32,
};

/// Attention over three inputs.
fn graph(s: Shape) -> Result<Graph, GraphError> {
    let mut b = Builder::new();
    b.scope("attention");
    let input = |b: &mut Builder, slot, heads, width| {
        let x = b.input(slot, heads * width);
        b.reshape(x, &[heads, width])
    };
    let q = input(&mut b, 0, s.heads, s.key)?;
    let k = input(&mut b, 1, s.groups, s.key)?;
    let v = input(&mut b, 2, s.groups, s.value)?;
    let cache = b.cache(s.groups, s.key, s.value);
    let sinks = s.sinks.then(|| b.weight("sinks", &[s.heads])).transpose()?;
    let scale = (s.key as f32).powf(-0.5);
    let y = b.attention(q, k, v, Attention { cache, scale, window: s.window, softcap: s.softcap, sinks })?;
    Ok(b.finish(&[y]))
}

/// Inputs of one sequence, and the blocks of cache that it uses.
struct Sequence {
    inputs: [Vec<f32>; 3],
    length: usize,
    blocks: Vec<u32>,
}

fn sequences(shape: Shape, lengths: &[usize], rng: &mut Rng) -> Vec<Sequence> {
    let blocks: usize = lengths.iter().map(|n| n.div_ceil(BLOCK)).sum();
    let mut order: Vec<u32> = (0..blocks as u32).collect();
    rng.shuffle(&mut order);
    let widths = [shape.heads * shape.key, shape.groups * shape.key, shape.groups * shape.value];
    let one = |&length: &usize| Sequence {
        inputs: widths.map(|w| rng.normals(length * w, 1.0)),
        length,
        blocks: order.split_off(order.len() - length.div_ceil(BLOCK)),
    };
    lengths.iter().map(one).collect()
}

/// Runs sequences by a schedule of steps, each some (sequence, tokens); gives every sequence's results.
fn run(program: &mut dyn Program, all: &[Sequence], schedule: &[Vec<(usize, usize)>]) -> Vec<Vec<f32>> {
    let mut done = vec![0; all.len()];
    let mut results = vec![Vec::new(); all.len()];
    for step in schedule {
        let parts: Vec<SequenceStep<'_>> = (step.iter())
            .map(|&(s, tokens)| SequenceStep { position: done[s], tokens, blocks: &all[s].blocks })
            .collect();
        let slots: Vec<Vec<f32>> = (0..3)
            .map(|slot| {
                let part = |&(s, tokens): &(usize, usize)| {
                    let width = all[s].inputs[slot].len() / all[s].length;
                    all[s].inputs[slot][done[s] * width..][..tokens * width].to_vec()
                };
                step.iter().flat_map(part).collect()
            })
            .collect();
        let slots: Vec<&[f32]> = slots.iter().map(Vec::as_slice).collect();
        let step_ = Step { tokens: &[], sequences: &parts, outputs: &[], inputs: &slots, weights: &[] };
        program.run(&step_).expect("the step is within the limits");
        let tokens: usize = step.iter().map(|s| s.1).sum();
        let mut rows = program.output(0).chunks_exact(program.output(0).len() / tokens);
        for &(s, tokens) in step {
            rows.by_ref().take(tokens).for_each(|row| results[s].extend_from_slice(row));
            done[s] += tokens;
        }
    }
    results
}

fn compile(device: &dyn Device, shape: Shape, lengths: &[usize]) -> Box<dyn Program> {
    let graph = Arc::new(graph(shape).expect("the graph is right"));
    let weights = RandomWeights::new(&mut Rng::new(1), &graph, |_| DType::F32);
    let blocks = lengths.iter().map(|n| n.div_ceil(BLOCK)).sum();
    let limits = Limits { tokens: 2048, sequences: lengths.len(), outputs: 0, blocks, cache: shape.cache };
    device.compile(graph, &weights, limits).expect("it compiles")
}

fn cpu(isa: Isa, threads: usize) -> Cpu {
    Cpu::new(CpuOptions { isa: Some(isa), threads: Some(threads), ..CpuOptions::default() })
        .expect("the instruction set is available")
}

fn in_chunks(sequence: usize, length: usize, chunk: usize) -> Vec<Vec<(usize, usize)>> {
    (0..length).step_by(chunk).map(|at| vec![(sequence, chunk.min(length - at))]).collect()
}

fn same(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    let differs = a.iter().zip(b).position(|(x, y)| x.to_bits() != y.to_bits());
    assert_eq!(differs, None, "{what}: other bits");
}

fn check(shape: Shape) {
    check_lengths(shape, [1100, 150]);
}

fn check_lengths(shape: Shape, lengths: [usize; 2]) {
    let all = sequences(shape, &lengths, &mut Rng::new(3));
    let whole: Vec<_> = (0..2).map(|s| vec![(s, lengths[s])]).collect();
    let right = run(&mut *compile(&Reference, shape, &lengths), &all, &whole);
    let best = Isa::detect();
    let found = run(&mut *compile(&cpu(best, 1), shape, &lengths), &all, &whole);
    // Beside a cache of 8-bit integers the device rounds queries, too, which moves scores of deviation 1 by 2⁻⁷.
    let allowed = match shape.cache {
        CacheDType::F32 => 2e-5,
        CacheDType::F16 => 4e-3,
        CacheDType::I8 => 5e-2,
    };
    for (right, found) in right.iter().flatten().zip(found.iter().flatten()) {
        assert!((right - found).abs() <= allowed, "{found} where {right} is right: {shape:?}");
    }
    // With more threads the spans of a lone sequence are shared among them, with fewer they are not.
    for threads in [1, 2, 6] {
        let mut program = compile(&cpu(best, threads), shape, &lengths);
        for chunk in [1, 7, 512] {
            // One at a time only where spans meet, for time's sake.
            let skipped = if chunk == 1 { lengths[0] - 100 } else { 0 };
            let mut schedule = if chunk == 1 { vec![vec![(0, skipped)]] } else { Vec::new() };
            schedule.extend(in_chunks(0, lengths[0] - skipped, chunk));
            let again = run(&mut *program, &all, &schedule);
            same(&found[0], &again[0], &format!("{threads} threads, chunks of {chunk}: {shape:?}"));
        }
        let beside = vec![
            vec![(1, 50), (0, 600)],
            vec![(0, lengths[0] - 610), (1, lengths[1] - 60)],
            vec![(0, 10), (1, 10)],
        ];
        let again = run(&mut *program, &all, &beside);
        (0..2).for_each(|s| {
            same(&found[s], &again[s], &format!("{threads} threads, beside others: {shape:?}"))
        });
    }
    for isa in Isa::available() {
        let again = run(&mut *compile(&cpu(isa, 1), shape, &lengths), &all, &whole);
        (0..2).for_each(|s| same(&found[s], &again[s], &format!("{isa}: {shape:?}")));
    }
}

#[test]
fn grouped_queries() {
    check(PLAIN);
    check(Shape { cache: CacheDType::F16, heads: 7, groups: 1, ..PLAIN });
}

#[test]
fn windows() {
    check(Shape { window: Some(1), ..PLAIN });
    check(Shape { window: Some(300), cache: CacheDType::F16, ..PLAIN });
    check(Shape { window: Some(513), heads: 3, groups: 3, ..PLAIN });
}

#[test]
fn soft_caps_and_sinks() {
    check(Shape { softcap: Some(2.0), sinks: true, ..PLAIN });
    check(Shape { window: Some(40), sinks: true, ..PLAIN });
}

#[test]
fn caches_of_integers() {
    let rounded = Shape { cache: CacheDType::I8, ..PLAIN };
    check(rounded);
    check(Shape { heads: 7, groups: 1, key: 70, value: 33, ..rounded });
    check(Shape { window: Some(300), softcap: Some(2.0), sinks: true, ..rounded });
    check(Shape { window: Some(40), heads: 3, groups: 3, key: 64, value: 64, ..rounded });
    let latent = Shape { heads: 14, groups: 1, key: 576, value: 512, ..rounded };
    check_lengths(latent, [650, 80]);
}

#[test]
fn latent_attention() {
    // As wide as DeepSeek's, so that the heads of one token take several tiles.
    let latent = Shape { heads: 14, groups: 1, key: 576, value: 512, ..PLAIN };
    check_lengths(latent, [650, 80]);
}
