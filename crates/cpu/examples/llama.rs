//! Speed of a Llama-shaped model with made-up weights, and where the time goes:
//! `cargo run --release -p autarky-cpu --example llama -- [DTYPE] [LAYERS] [PROMPT] [GENERATE] [DEPTH] [ISA]`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use autarky_cpu::{Cpu, CpuOptions};
use autarky_graph::{
    ActivationKind, Attention, BLOCK, Builder, CacheDType, Device, Graph, GraphError, Limits, Norm, NormKind,
    Pairing, Program, Rope, SequenceStep, Step, Tensor, WeightError, Weights,
};
use autarky_quant::DType;

/// Llama 3.2 1B.
const WIDTH: usize = 2048;
const HIDDEN: usize = 8192;
const HEADS: usize = 32;
const GROUPS: usize = 8;
const HEAD: usize = 64;
const VOCABULARY: usize = 128_256;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |i: usize| args.get(i).map(String::as_str);
    let number = |i: usize, or: usize| arg(i).map_or(or, |a| a.parse().expect("a number"));
    let dtype = DType::from_name(arg(0).unwrap_or("Q4_0")).expect("a data type");
    let (layers, prompt, generate, depth) = (number(1, 16), number(2, 512), number(3, 32), number(4, 0));
    let isa = arg(5).map(|name| name.parse().expect("an instruction set of this machine"));
    let cpu = Cpu::new(CpuOptions { isa, profile: true, ..CpuOptions::default() }).expect("a device");
    println!("{}, {dtype}, {layers} layers", cpu.describe());

    let graph = Arc::new(graph(layers).expect("the graph fits"));
    let start = Instant::now();
    let weights = MadeUp::new(&graph, dtype);
    println!("made up weights in {:.1?}", start.elapsed());
    let start = Instant::now();
    let context = depth + 2 * prompt + generate + 1;
    let limits = Limits { outputs: 1, ..Limits::single(context, prompt.max(512), CacheDType::F16) };
    let mut program = cpu.compile(Arc::clone(&graph), &weights, limits).expect("it compiles");
    drop(weights);
    let memory = program.memory();
    println!("compiled in {:.1?}: {memory:?}", start.elapsed());

    let blocks: Vec<u32> = (0..context.div_ceil(BLOCK) as u32).collect();
    let mut position = 0;
    let mut run = |program: &mut dyn Program, tokens: usize| {
        let ids: Vec<u32> = (0..tokens as u32).map(|i| (i * 7919) % VOCABULARY as u32).collect();
        let sequences = [SequenceStep { position, tokens, blocks: &blocks }];
        let outputs = [tokens as u32 - 1];
        let start = Instant::now();
        program
            .run(&Step { tokens: &ids, sequences: &sequences, outputs: &outputs, inputs: &[], weights: &[] })
            .expect("runs");
        position += tokens;
        start.elapsed()
    };
    let report = |what: &str, tokens: usize, time: Duration| {
        println!("{what}: {:.2} tokens/s", tokens as f64 / time.as_secs_f64());
        let (steps, kinds) = cpu.profile().expect("it was asked for").take();
        for (kind, sum) in kinds {
            let share = 100.0 * sum.as_secs_f64() / time.as_secs_f64();
            println!("  {kind:>14} {:>10.1?} a step {share:>5.1} %", sum / steps.max(1) as u32);
        }
    };
    // What decoding at a depth finds in the cache.
    for start in (0..depth).step_by(512) {
        run(&mut *program, 512.min(depth - start));
    }
    if depth > 0 {
        report("first", depth, Duration::from_secs(1));
    }
    // The first step finds its memory untouched.
    run(&mut *program, prompt);
    cpu.profile().expect("it was asked for").take();
    let time = run(&mut *program, prompt);
    report("prefill", prompt, time);
    let time = (0..generate).map(|_| run(&mut *program, 1)).sum();
    report("decode", generate, time);
    let bytes = memory.weights as f64 * generate as f64 / Duration::as_secs_f64(&time);
    println!("  {:.2} GB/s of weights", bytes / 1e9);
}

fn graph(layers: usize) -> Result<Graph, GraphError> {
    let mut b = Builder::new();
    let norm = |b: &mut Builder, name: &str, x| {
        let weight = Some(b.weight(name, &[WIDTH])?);
        b.norm(x, Norm { kind: NormKind::Rms, epsilon: 1e-5, weight, bias: None })
    };
    let frequencies: Arc<[f32]> =
        (0..HEAD / 2).map(|i| 500_000f32.powf(-2.0 * i as f32 / HEAD as f32)).collect();
    let rope = Rope { pairing: Pairing::Adjacent, start: 0, frequencies, scale: 1.0 };
    let table = b.weight("embed", &[VOCABULARY, WIDTH])?;
    let mut x = b.embed(table)?;
    for layer in 0..layers {
        let h = norm(&mut b, &format!("{layer}.attention.norm"), x)?;
        let heads = |b: &mut Builder, name: &str, heads: usize, turn: bool| {
            let w = b.weight(&format!("{layer}.{name}"), &[heads * HEAD, WIDTH])?;
            let y = b.linear(h, w, None)?;
            let y = b.reshape(y, &[heads, HEAD])?;
            if turn { b.rope(y, rope.clone()) } else { Ok(y) }
        };
        let q = heads(&mut b, "q", HEADS, true)?;
        let k = heads(&mut b, "k", GROUPS, true)?;
        let v = heads(&mut b, "v", GROUPS, false)?;
        let cache = b.cache(GROUPS, HEAD, HEAD);
        let attention =
            Attention { cache, scale: (HEAD as f32).powf(-0.5), window: None, softcap: None, sinks: None };
        let y = b.attention(q, k, v, attention)?;
        let y = b.reshape(y, &[HEADS * HEAD])?;
        let w = b.weight(&format!("{layer}.o"), &[WIDTH, HEADS * HEAD])?;
        let y = b.linear(y, w, None)?;
        x = b.add(x, y)?;
        let h = norm(&mut b, &format!("{layer}.feed_forward.norm"), x)?;
        let gate = b.weight(&format!("{layer}.gate"), &[HIDDEN, WIDTH])?;
        let up = b.weight(&format!("{layer}.up"), &[HIDDEN, WIDTH])?;
        let down = b.weight(&format!("{layer}.down"), &[WIDTH, HIDDEN])?;
        let (gate, up) = (b.linear(h, gate, None)?, b.linear(h, up, None)?);
        let y = b.gated_activation(gate, up, ActivationKind::Silu)?;
        let y = b.linear(y, down, None)?;
        x = b.add(x, y)?;
    }
    let x = b.select(x)?;
    let x = norm(&mut b, "norm", x)?;
    let logits = b.linear(x, table, None)?;
    Ok(b.finish(&[logits]))
}

/// One block repeated: the content does not change the speed.
struct MadeUp {
    tensors: HashMap<String, (DType, Vec<usize>, Vec<u8>)>,
}

impl MadeUp {
    fn new(graph: &Graph, dtype: DType) -> MadeUp {
        let one = |shape: &[usize]| {
            let n: usize = shape.iter().product();
            if shape.len() == 1 {
                return (DType::F32, 1f32.to_le_bytes().repeat(n));
            }
            // Scales are small halves wherever the type keeps them; codes are arbitrary.
            let block: Vec<u8> =
                (0..dtype.block_bytes()).map(|i| if i % 2 == 1 { 0x14 } else { 0x55 }).collect();
            (dtype, block.repeat(n / dtype.block_len()))
        };
        let tensors = graph.weights().iter().map(|w| {
            let (dtype, bytes) = one(&w.shape);
            (w.name.clone(), (dtype, w.shape.clone(), bytes))
        });
        MadeUp { tensors: tensors.collect() }
    }
}

impl Weights for MadeUp {
    fn get(&self, name: &str) -> Result<Tensor<'_>, WeightError> {
        let (dtype, shape, bytes) = &self.tensors[name];
        Ok(Tensor { dtype: *dtype, shape: shape.clone(), parts: vec![Cow::Borrowed(bytes)] })
    }
}
