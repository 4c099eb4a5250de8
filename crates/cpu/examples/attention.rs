//! Speed of attention alone, at a depth:
//! `cargo run --release -p autarky-cpu --example attention -- [CACHE] [DEPTH] [TOKENS] [LAYERS] [ISA] [HEADS] [GROUPS]
//! [HEAD]`.
//!
//! Each of the layers has a cache of its own, as in a model, so that a step reads all of it from memory. A step takes
//! TOKENS tokens that follow DEPTH cached positions.

use std::sync::Arc;
use std::time::Instant;

use autarky_cpu::{Cpu, CpuOptions};
use autarky_graph::conformance::{RandomWeights, Rng};
use autarky_graph::{
    Attention, BLOCK, Builder, CacheDType, Device, Graph, GraphError, Limits, SequenceStep, Step,
};
use autarky_quant::DType;

/// Steps that are timed, of which the median counts.
const STEPS: usize = 9;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |i: usize| args.get(i).map(String::as_str);
    let number = |i: usize, or: usize| arg(i).map_or(or, |a| a.parse().expect("a number"));
    let cache = match arg(0).unwrap_or("f16") {
        "f32" => CacheDType::F32,
        "f16" => CacheDType::F16,
        "i8" => CacheDType::I8,
        name => panic!("no cache of type {name}"),
    };
    let (depth, tokens, layers) = (number(1, 4096), number(2, 512), number(3, 4));
    let isa = arg(4).map(|name| name.parse().expect("an instruction set of this machine"));
    let (heads, groups, head) = (number(5, 32), number(6, 8), number(7, 64));

    let cpu = Cpu::new(CpuOptions { isa, profile: true, ..CpuOptions::default() }).expect("a device");
    let graph = Arc::new(graph(layers, heads, groups, head).expect("the graph is right"));
    let weights = RandomWeights::new(&mut Rng::new(1), &graph, |_| DType::F32);
    let chunk = tokens.max(512);
    let limits = Limits { outputs: 0, ..Limits::single(depth + tokens, chunk, cache) };
    let position: usize = graph.caches().iter().map(|spec| cache.position_bytes(spec)).sum();
    let mut program = cpu.compile(graph, &weights, limits).expect("it compiles");

    let mut rng = Rng::new(2);
    let inputs = [heads, groups, groups].map(|n| rng.normals(chunk * n * head, 1.0));
    let blocks: Vec<u32> = (0..(depth + tokens).div_ceil(BLOCK) as u32).collect();
    let mut run = |blocks: &[u32], position: usize, tokens: usize| {
        let part = |slot: usize| &inputs[slot][..tokens * inputs[slot].len() / chunk];
        let sequences = [SequenceStep { position, tokens, blocks }];
        let slots = [part(0), part(1), part(2)];
        let step = Step { tokens: &[], sequences: &sequences, outputs: &[], inputs: &slots, weights: &[] };
        let start = Instant::now();
        program.run(&step).expect("the step is within the limits");
        start.elapsed().as_secs_f64()
    };
    // What is cached is written as short sequences, each in its part of the blocks: only the step's own reading of it
    // is of interest.
    for part in blocks.chunks(512 / BLOCK) {
        run(part, 0, (part.len() * BLOCK).min(512));
    }
    run(&blocks, depth, tokens);
    cpu.profile().expect("it was asked for").take();
    let mut times: Vec<f64> = (0..STEPS).map(|_| run(&blocks, depth, tokens)).collect();
    times.sort_by(f64::total_cmp);
    let time = times[STEPS / 2];

    // A query sees what was cached and half of the step's tokens.
    let scores = layers as f64 * (heads * tokens) as f64 * (depth as f64 + (tokens + 1) as f64 / 2.0);
    println!("{}, {cache:?}, {heads} heads of {head} by {groups}", cpu.describe());
    println!("{tokens} tokens at {depth}: {:.3} ms a layer", 1e3 * time / layers as f64);
    println!("  {:.1} Gop/s", 4.0 * head as f64 * scores / time / 1e9);
    let bytes = position as f64 * (depth + tokens) as f64;
    println!("  {:.1} GB/s of cache, if each step reads it once", bytes / time / 1e9);
    let (steps, kinds) = cpu.profile().expect("it was asked for").take();
    for (kind, sum) in kinds {
        println!("  {kind:>14} {:>10.1?} a step", sum / steps.max(1) as u32);
    }
}

fn graph(layers: usize, heads: usize, groups: usize, head: usize) -> Result<Graph, GraphError> {
    let mut b = Builder::new();
    let input = |b: &mut Builder, slot, heads| {
        let x = b.input(slot, heads * head);
        b.reshape(x, &[heads, head])
    };
    let mut q = input(&mut b, 0, heads)?;
    let (k, v) = (input(&mut b, 1, groups)?, input(&mut b, 2, groups)?);
    for _ in 0..layers {
        let cache = b.cache(groups, head, head);
        let scale = (head as f32).powf(-0.5);
        q = b.attention(q, k, v, Attention { cache, scale, window: None, softcap: None, sinks: None })?;
    }
    Ok(b.finish(&[q]))
}
