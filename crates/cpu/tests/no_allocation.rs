//! A step allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use autarky_cpu::{Cpu, CpuOptions};
use autarky_graph::conformance::{RandomWeights, Rng};
use autarky_graph::{
    ActivationKind, Attention, BLOCK, Builder, CacheDType, Device, Experts, Graph, GraphError, Limits, Norm,
    NormKind, Pairing, Rope, Route, Scoring, SequenceStep, Step,
};
use autarky_quant::DType;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is the system allocator's doing; counting touches no memory of the caller's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the same.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Two layers, one dense and one of experts.
fn graph() -> Result<Graph, GraphError> {
    let (width, heads, head, experts) = (256, 4, 64, 8);
    let mut b = Builder::new();
    let table = b.weight("table", &[40, width])?;
    let mut x = b.embed(table)?;
    for layer in 0..2 {
        let weight = Some(b.weight(&format!("{layer}.norm"), &[width])?);
        let h = b.norm(x, Norm { kind: NormKind::Rms, epsilon: 1e-5, weight, bias: None })?;
        let qkv = b.weight(&format!("{layer}.qkv"), &[3 * width, width])?;
        let qkv = b.linear(h, qkv, None)?;
        let rope = Rope { pairing: Pairing::Halves, start: 0, frequencies: Arc::new([1.0, 0.1]), scale: 1.0 };
        let mut part = |i: usize| {
            let y = b.slice(qkv, i * width, width)?;
            let y = b.reshape(y, &[heads, head])?;
            if i < 2 { b.rope(y, rope.clone()) } else { Ok(y) }
        };
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let cache = b.cache(heads, head, head);
        let a = Attention { cache, scale: 0.125, window: None, softcap: None, sinks: None };
        let y = b.attention(q, k, v, a)?;
        let y = b.reshape(y, &[width])?;
        x = b.add(x, y)?;
        let y = if layer == 0 {
            let gate = b.weight("gate", &[512, width])?;
            let down = b.weight("down", &[width, 512])?;
            let (g, u) = (b.linear(x, gate, None)?, b.linear(x, gate, None)?);
            let y = b.gated_activation(g, u, ActivationKind::Silu)?;
            b.linear(y, down, None)?
        } else {
            let router = b.weight("router", &[experts, width])?;
            let logits = b.linear(x, router, None)?;
            let route = Route {
                top: 2,
                scoring: Scoring::Softmax,
                bias: None,
                groups: None,
                normalize: true,
                scale: 1.0,
            };
            let routing = b.route(logits, route)?;
            let gate = b.weight("experts.gate", &[experts, 256, width])?;
            let up = b.weight("experts.up", &[experts, 256, width])?;
            let down = b.weight("experts.down", &[experts, width, 256])?;
            b.experts(x, routing, Experts { activation: ActivationKind::Silu, gate, up, down })?
        };
        x = b.add(x, y)?;
    }
    let x = b.select(x)?;
    let y = b.linear(x, table, None)?;
    Ok(b.finish(&[y]))
}

#[test]
fn a_step_allocates_nothing() {
    let graph = Arc::new(graph().expect("the graph is right"));
    let weights = RandomWeights::new(&mut Rng::new(5), &graph, |_| DType::Q8_0);
    let cpu = Cpu::new(CpuOptions { threads: Some(2), ..CpuOptions::default() }).expect("a device");
    let limits = Limits { tokens: 64, sequences: 4, outputs: 8, blocks: 64, cache: CacheDType::F16 };
    let mut program = cpu.compile(graph, &weights, limits).expect("it compiles");
    let blocks: Vec<u32> = (0..64).collect();
    let tokens: Vec<u32> = (0..64).map(|t| t % 40).collect();
    let sequence =
        |position, tokens, half: usize| SequenceStep { position, tokens, blocks: &blocks[half * 32..] };
    let steps: [&[SequenceStep<'_>]; 4] = [
        &[sequence(0, 64, 0)],
        &[sequence(64, 1, 0)],
        &[sequence(65, 1, 0), sequence(0, 31, 1)],
        // Far enough for the spans of attention to be shared.
        &[sequence(31 * BLOCK, 1, 0), sequence(31, 1, 1)],
    ];
    for sequences in steps {
        let rows: usize = sequences.iter().map(|s| s.tokens).sum();
        let step = Step {
            tokens: &tokens[..rows],
            sequences,
            outputs: &[rows as u32 - 1],
            inputs: &[],
            weights: &[],
        };
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        program.run(&step).expect("the step is within the limits");
        let allocated = ALLOCATIONS.load(Ordering::Relaxed) - before;
        assert_eq!(allocated, 0, "a step of {rows} tokens allocated");
        assert!(program.output(0).iter().all(|y| y.is_finite()));
    }
}
