//! The derivative of attention with products of BF16 numbers, on sequences longer than its blocks of queries: near what
//! exact products give.

use std::sync::Arc;

use autarky_cpu::{Cpu, CpuOptions, Isa};
use autarky_graph::conformance::{RandomWeights, Rng};
use autarky_graph::derivative::{FACTORS, TARGETS, training};
use autarky_graph::reference::Reference;
use autarky_graph::{
    Attention, BLOCK, Builder, CacheDType, Device, Graph, GraphError, Limits, SequenceStep, Step, to_lend,
};
use autarky_quant::DType;

const VOCABULARY: usize = 50;
const LENGTHS: [usize; 6] = [1, 47, 16, 130, 65, 199];

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
    b.scope("attention");
    let width = 40;
    let table = b.weight("table", &[VOCABULARY, width])?;
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
    let scale = (s.key as f32).powf(-0.5);
    let y = b.attention(q, k, v, Attention { cache, scale, window: s.window, softcap: s.softcap, sinks })?;
    let y = b.reshape(y, &[s.heads * s.value])?;
    let head = b.weight("head", &[VOCABULARY, s.heads * s.value])?;
    let logits = b.linear(y, head, None)?;
    Ok(b.finish(&[logits]))
}

/// The gradients of all weights.
fn gradients(device: &dyn Device, shape: Shape) -> Vec<(String, Vec<f32>)> {
    let graph = training(&graph(shape).expect("the graph is right"), |_| true, false);
    let graph = Arc::new(graph.expect("it has derivatives"));
    let mut rng = Rng::new(7);
    let dtype = |name: &str| if name.ends_with("sinks") { DType::F32 } else { DType::BF16 };
    let weights = RandomWeights::new(&mut rng, &graph, dtype);
    let tokens: usize = LENGTHS.iter().sum();
    let count: usize = LENGTHS.iter().map(|n| n.div_ceil(BLOCK)).sum();
    let blocks: Vec<u32> = (0..count as u32).collect();
    let mut free = &blocks[..];
    let mut sequences = Vec::new();
    for tokens in LENGTHS {
        let blocks;
        (blocks, free) = free.split_at(tokens.div_ceil(BLOCK));
        sequences.push(SequenceStep { position: 0, tokens, blocks });
    }
    let limits =
        Limits { tokens, sequences: LENGTHS.len(), outputs: tokens, blocks: count, cache: CacheDType::F32 };
    let mut program = device.compile(Arc::clone(&graph), &weights, limits).expect("it compiles");
    let read: Vec<u32> = (0..tokens).map(|_| rng.below(VOCABULARY) as u32).collect();
    let targets: Vec<f32> = (0..tokens).map(|_| rng.below(VOCABULARY) as f32).collect();
    let factors = rng.normals(tokens, 1.0);
    let mut inputs = [&[][..]; 2];
    (inputs[TARGETS], inputs[FACTORS]) = (&targets, &factors);
    let outputs: Vec<u32> = (0..tokens as u32).collect();
    let lent = to_lend(&graph, &weights).expect("the weights are there");
    let lent: Vec<&[f32]> = lent.iter().map(Vec::as_slice).collect();
    let (sequences, outputs) = (&sequences, &outputs);
    let step = Step { tokens: &read, sequences, outputs, inputs: &inputs, weights: &lent };
    program.run_outputs(&step).expect("the step is within the limits");
    let losses = program.output(0).to_vec();
    assert!(graph.weight_ids().all(|id| program.gradient(id).iter().all(|x| *x == 0.0)), "{shape:?}");
    program.run(&step).expect("the step is within the limits");
    assert!(program.output(0) == losses, "{shape:?}: outputs alone have other bits");
    let weights = graph.weight_ids().zip(graph.weights());
    weights.map(|(id, spec)| (spec.name.clone(), program.gradient(id).to_vec())).collect()
}

#[test]
fn products_of_bf16_numbers_give_nearly_the_same_gradients() {
    let plain = Shape { heads: 2, groups: 2, key: 32, value: 32, window: None, softcap: None, sinks: false };
    let shapes = [
        plain,
        Shape { heads: 6, groups: 2, key: 17, value: 35, ..plain },
        Shape { key: 64, value: 80, window: Some(50), sinks: true, ..plain },
        Shape { heads: 3, groups: 1, key: 5, value: 1, window: Some(3), softcap: Some(2.0), ..plain },
        Shape { key: 1, value: 16, window: Some(129), softcap: Some(4.0), sinks: true, ..plain },
    ];
    for shape in shapes {
        let expected = gradients(&Reference, shape);
        for isa in Isa::available().into_iter().filter(|isa| isa.has_bf16_products()) {
            let on = |threads: usize| {
                let options = CpuOptions { isa: Some(isa), threads: Some(threads), ..CpuOptions::default() };
                gradients(&Cpu::new(options).expect("the instruction set is available"), shape)
            };
            let found = on(1);
            assert!(found == on(3), "{shape:?} on {isa}: threads change bits");
            for ((name, found), (_, expected)) in found.iter().zip(&expected) {
                let size = |numbers: &mut dyn Iterator<Item = f32>| {
                    numbers.map(|x| f64::from(x).powi(2)).sum::<f64>()
                };
                let off = size(&mut found.iter().zip(expected).map(|(a, b)| a - b));
                let off = (off / size(&mut expected.iter().copied())).sqrt();
                assert!(off < 1e-2, "{shape:?} on {isa}: {name} is off by {off} of its size");
            }
        }
    }
}
