//! A tiny model for this crate's tests: one layer of attention with random weights, on the reference device.

use std::borrow::Cow;
use std::sync::Arc;

use autarky_graph::reference::Reference;
use autarky_graph::{
    Attention, Builder, CacheDType, Graph, Norm, NormKind, Pairing, Rope, Tensor, WeightError, Weights,
};
use autarky_quant::DType;

use crate::engine::{Engine, Options};
use crate::sampling::Rng;

pub(crate) const VOCABULARY: usize = 40;
const WIDTH: usize = 16;
const HEADS: usize = 2;

/// Random weights: the same for the same seed, whatever the order in which they are asked for.
pub(crate) struct Random {
    graph: Arc<Graph>,
    seed: u64,
}

impl Weights for Random {
    fn get(&self, name: &str) -> Result<Tensor<'_>, WeightError> {
        let Some(index) = self.graph.weights().iter().position(|w| w.name == name) else {
            return Err(WeightError::Missing { name: name.to_owned(), hint: "not in the graph".to_owned() });
        };
        let shape = self.graph.weights()[index].shape.clone();
        let mut rng = Rng::new(self.seed * 1000 + index as u64);
        let scale = if shape.len() == 1 { 0.1 } else { 1.0 };
        let number = |_| ((rng.unit() - 0.5) * scale) as f32 + if shape.len() == 1 { 1.0 } else { 0.0 };
        let bytes = (0..shape.iter().product()).map(number).flat_map(f32::to_le_bytes).collect();
        Ok(Tensor { dtype: DType::F32, shape, parts: vec![Cow::Owned(bytes)] })
    }
}

pub(crate) fn graph() -> Arc<Graph> {
    let mut b = Builder::new();
    let head = WIDTH / HEADS;
    let table = b.weight("table", &[VOCABULARY, WIDTH]).unwrap();
    let gain = b.weight("norm", &[WIDTH]).unwrap();
    let x = b.embed(table).unwrap();
    let norm = Norm { kind: NormKind::Rms, epsilon: 1e-5, weight: Some(gain), bias: None };
    let y = b.norm(x, norm).unwrap();
    let project = |b: &mut Builder, name: &str, x| {
        let w = b.weight(name, &[WIDTH, WIDTH]).unwrap();
        b.linear(x, w, None).unwrap()
    };
    let [q, k, v] = ["q", "k", "v"].map(|name| {
        let x = project(&mut b, name, y);
        b.reshape(x, &[HEADS, head]).unwrap()
    });
    let rope =
        Rope { pairing: Pairing::Halves, start: 0, frequencies: Arc::new([1.0, 0.3, 0.1, 0.03]), scale: 1.0 };
    let (q, k) = (b.rope(q, rope.clone()).unwrap(), b.rope(k, rope).unwrap());
    let cache = b.cache(HEADS, head, head);
    let spec = Attention { cache, scale: 0.35, window: None, softcap: None, sinks: None };
    let a = b.attention(q, k, v, spec).unwrap();
    let a = b.reshape(a, &[WIDTH]).unwrap();
    let a = project(&mut b, "o", a);
    let x = b.add(x, a).unwrap();
    let x = b.select(x).unwrap();
    let x = b.norm(x, norm).unwrap();
    let output = b.weight("output", &[VOCABULARY, WIDTH]).unwrap();
    let logits = b.linear(x, output, None).unwrap();
    Arc::new(b.finish(&[logits, x]))
}

pub(crate) fn engine(context: usize, sequences: usize, chunk: usize) -> Engine {
    seeded(context, sequences, chunk, 1)
}

/// An engine whose cache holds `positions` positions, of all sequences together.
pub(crate) fn paged(context: usize, sequences: usize, positions: usize, chunk: usize) -> Engine {
    let outputs = chunk.max(sequences);
    let options =
        Options { context, sequences, positions: Some(positions), chunk, outputs, cache: CacheDType::F32 };
    with(options, 1)
}

pub(crate) fn seeded(context: usize, sequences: usize, chunk: usize, seed: u64) -> Engine {
    let options =
        Options { context, sequences, positions: None, chunk, outputs: chunk, cache: CacheDType::F32 };
    with(options, seed)
}

fn with(options: Options, seed: u64) -> Engine {
    let graph = graph();
    Engine::new(&Reference, Arc::clone(&graph), &Random { graph, seed }, options).unwrap()
}
