//! The cases: every op, every data type, random shapes; then small models.

use std::sync::Arc;

use autarky_quant::DType;

use super::random::{RandomWeights, Rng};
use super::{Case, LENGTHS};
use crate::builder::Builder;
use crate::device::{Abilities, CacheDType};
use crate::error::GraphError;
use crate::graph::{ValueId, WeightId};
use crate::op::{
    ActivationKind, Attention, Experts, GroupScore, Groups, Norm, NormKind, Op, Pairing, Rope, Route, Scoring,
};

const VOCABULARY: usize = 37;

const ACTIVATIONS: [ActivationKind; 5] = [
    ActivationKind::Silu,
    ActivationKind::Gelu,
    ActivationKind::GeluTanh,
    ActivationKind::Relu,
    ActivationKind::Sigmoid,
];

/// Every case for a device with these abilities.
pub(super) fn all(abilities: &Abilities, rng: &mut Rng) -> Vec<Case> {
    let mut suite = Suite { cases: Vec::new(), rng };
    for &dtype in &abilities.dtypes {
        suite.embed(dtype);
        suite.linear(dtype);
        suite.head_linear(dtype);
        suite.experts(dtype);
    }
    suite.norm();
    suite.rope();
    for cache in [CacheDType::F32, CacheDType::F16, CacheDType::I8] {
        suite.attention(cache);
    }
    suite.elementwise();
    suite.layout();
    suite.route();
    suite.models();
    suite.cases
}

struct Suite<'a> {
    cases: Vec<Case>,
    rng: &'a mut Rng,
}

/// What the builders of cases return: the values that the case checks.
type Outputs = Result<Vec<ValueId>, GraphError>;

impl Suite<'_> {
    /// Adds the graph that `build` makes, with weights of `dtype` and inputs of deviation `spread`.
    fn add(&mut self, name: &str, dtype: DType, build: impl FnOnce(&mut Builder) -> Outputs) {
        self.add_with(name, &|_| dtype, CacheDType::F32, 1.0, build);
    }

    fn add_with(
        &mut self,
        name: &str,
        dtype: &dyn Fn(&str) -> DType,
        cache: CacheDType,
        spread: f32,
        build: impl FnOnce(&mut Builder) -> Outputs,
    ) {
        let mut builder = Builder::new();
        builder.scope(name);
        let graph = match build(&mut builder) {
            Ok(outputs) => builder.finish(&outputs),
            Err(e) => panic!("conformance case {name} does not build: {e}"),
        };
        let rng = &mut *self.rng;
        let weights = RandomWeights::new(rng, &graph, dtype);
        let tokens =
            LENGTHS.iter().map(|&n| (0..n).map(|_| rng.below(VOCABULARY) as u32).collect()).collect();
        let widths =
            graph.nodes().iter().filter(|n| matches!(n.op, Op::Input { .. })).map(|n| n.shape.width());
        let widths: Vec<usize> = widths.collect();
        let mut slot = |w: &usize| LENGTHS.iter().map(|n| rng.normals(n * w, spread)).collect();
        let inputs = widths.iter().map(&mut slot).collect();
        self.cases.push(Case {
            name: name.to_owned(),
            graph: Arc::new(graph),
            weights,
            cache,
            tokens,
            inputs,
        });
    }

    fn embed(&mut self, dtype: DType) {
        let width = if dtype.is_float() { 20 } else { 256 };
        self.add(&format!("embed {dtype}"), dtype, |b| {
            let table = b.weight("table", &[VOCABULARY, width])?;
            Ok(vec![b.embed(table)?])
        });
    }

    fn linear(&mut self, dtype: DType) {
        let block = dtype.block_len();
        // One row, an odd number of rows, more rows than a panel; one block, several, and for floats no multiple of
        // any vector.
        for (out, blocks) in [(1, 1), (17, 3), (50, 2), (130, 5)] {
            let inner = if dtype.is_float() { [3, 33, 64, 199][blocks % 4] } else { block * blocks };
            for bias in [false, true] {
                let with = if bias { " with bias" } else { "" };
                self.add(&format!("linear {dtype} [{out}, {inner}]{with}"), dtype, |b| {
                    let x = b.input(0, inner);
                    let w = b.weight("w", &[out, inner])?;
                    let bias = bias.then(|| b.weight("b", &[out])).transpose()?;
                    Ok(vec![b.linear(x, w, bias)?])
                });
            }
        }
        let inner = 256;
        self.add(&format!("tied table {dtype}"), dtype, |b| {
            let table = b.weight("table", &[VOCABULARY, inner])?;
            let (x, embedded) = (b.input(0, inner), b.embed(table)?);
            Ok(vec![b.linear(x, table, None)?, embedded])
        });
    }

    fn head_linear(&mut self, dtype: DType) {
        let inner = if dtype.is_float() { 24 } else { dtype.block_len() };
        self.add(&format!("head linear {dtype}"), dtype, |b| {
            let x = b.input(0, 3 * inner);
            let x = b.reshape(x, &[3, inner])?;
            let w = b.weight("w", &[3, 20, inner])?;
            Ok(vec![b.head_linear(x, w)?])
        });
    }

    fn experts(&mut self, dtype: DType) {
        let width = if dtype.is_float() { 40 } else { dtype.block_len() };
        let inner = if dtype.is_float() { 24 } else { dtype.block_len() };
        self.add(&format!("experts {dtype}"), dtype, |b| {
            let (x, logits) = (b.input(0, width), b.input(1, 8));
            let routing = b.route(logits, softmax_route(3))?;
            let experts = expert_weights(b, "", 8, inner, width)?;
            Ok(vec![b.experts(x, routing, experts)?])
        });
    }

    fn norm(&mut self) {
        for kind in [NormKind::Rms, NormKind::Layer] {
            for (heads, width) in [(1, 1), (1, 7), (3, 64), (1, 1000)] {
                for gain in [false, true] {
                    let name =
                        format!("norm {kind:?} [{heads}, {width}]{}", if gain { " with gain" } else { "" });
                    self.add(&name, DType::F32, |b| {
                        let x = b.input(0, heads * width);
                        let x = b.reshape(x, &[heads, width])?;
                        let weight = gain.then(|| b.weight("gain", &[width])).transpose()?;
                        let bias = gain.then(|| b.weight("shift", &[width])).transpose()?;
                        // A layer norm of one number is 0 / √ε: keep ε away from 0.
                        Ok(vec![b.norm(x, Norm { kind, epsilon: 1e-2, weight, bias })?])
                    });
                }
            }
        }
    }

    fn rope(&mut self) {
        for pairing in [Pairing::Adjacent, Pairing::Halves] {
            for (width, start, pairs) in [(8, 0, 4), (64, 0, 32), (40, 24, 8), (20, 3, 5)] {
                self.add(&format!("rope {pairing:?} {start}+{} of {width}", 2 * pairs), DType::F32, |b| {
                    let x = b.input(0, 3 * width);
                    let x = b.reshape(x, &[3, width])?;
                    let frequencies = (0..pairs).map(|i| 100f32.powf(-(i as f32) / pairs as f32)).collect();
                    Ok(vec![b.rope(x, Rope { pairing, start, frequencies, scale: 1.25 })?])
                });
            }
        }
    }

    fn attention(&mut self, cache: CacheDType) {
        struct Shape {
            heads: usize,
            groups: usize,
            key: usize,
            value: usize,
        }
        let shapes = [
            Shape { heads: 4, groups: 4, key: 8, value: 8 },
            Shape { heads: 8, groups: 2, key: 64, value: 64 },
            Shape { heads: 6, groups: 2, key: 20, value: 12 },
            Shape { heads: 5, groups: 1, key: 72, value: 64 },
            Shape { heads: 2, groups: 2, key: 128, value: 128 },
            Shape { heads: 3, groups: 1, key: 7, value: 5 },
        ];
        for s in &shapes {
            for (how, window, softcap, sinks) in [
                ("", None, None, false),
                (" window 5", Some(5), None, false),
                (" window 40 softcap", Some(40), Some(2.0), false),
                (" sinks", None, None, true),
            ] {
                let name =
                    format!("attention {cache:?} {}x{}/{} by {}{how}", s.heads, s.key, s.value, s.groups);
                self.add_with(&name, &|_| DType::F32, cache, 1.0, |b| {
                    let q = b.input(0, s.heads * s.key);
                    let k = b.input(1, s.groups * s.key);
                    let v = b.input(2, s.groups * s.value);
                    let q = b.reshape(q, &[s.heads, s.key])?;
                    let k = b.reshape(k, &[s.groups, s.key])?;
                    let v = b.reshape(v, &[s.groups, s.value])?;
                    let sinks = sinks.then(|| b.weight("sinks", &[s.heads])).transpose()?;
                    let cache = b.cache(s.groups, s.key, s.value);
                    let scale = (s.key as f32).sqrt().recip();
                    Ok(vec![b.attention(q, k, v, Attention { cache, scale, window, softcap, sinks })?])
                });
            }
        }
    }

    fn elementwise(&mut self) {
        // Small numbers, and numbers at which exponentials leave the range of f32.
        for spread in [1.0, 40.0] {
            for kind in ACTIVATIONS {
                self.add_with(
                    &format!("activation {kind:?} of ±{spread}"),
                    &|_| DType::F32,
                    CacheDType::F32,
                    spread,
                    |b| {
                        let x = b.input(0, 37);
                        Ok(vec![b.activation(x, kind)?])
                    },
                );
                let name = format!("gated activation {kind:?} of ±{spread}");
                self.add_with(&name, &|_| DType::F32, CacheDType::F32, spread, |b| {
                    let (gate, up) = (b.input(0, 33), b.input(1, 33));
                    Ok(vec![b.gated_activation(gate, up, kind)?])
                });
            }
        }
        self.add("sums and products", DType::F32, |b| {
            let (x, y) = (b.input(0, 19), b.input(1, 19));
            let sum = b.add(x, y)?;
            let product = b.multiply(sum, y)?;
            let product = b.after(product, x)?;
            let scaled = b.scale(product, -0.37)?;
            let capped = b.softcap(scaled, 1.5)?;
            // The arguments are read again after the results are made.
            Ok(vec![b.add(capped, x)?, sum, product])
        });
    }

    fn layout(&mut self) {
        self.add("concat, slice, reshape", DType::F32, |b| {
            let (x, y) = (b.input(0, 24), b.input(1, 12));
            let (a, c) = (b.reshape(x, &[4, 6])?, b.reshape(y, &[4, 3])?);
            let both = b.concat(a, c)?;
            let part = b.slice(both, 4, 4)?;
            let flat = b.reshape(part, &[16])?;
            Ok(vec![flat, both])
        });
        self.add("select", DType::F32, |b| {
            let x = b.input(0, 18);
            let x = b.reshape(x, &[3, 6])?;
            Ok(vec![b.select(x)?])
        });
    }

    fn route(&mut self) {
        let groups = |score| Some(Groups { count: 4, keep: 2, score });
        for (name, route, bias) in [
            ("softmax", softmax_route(2), false),
            ("softmax as it is", Route { normalize: false, scale: 2.5, ..softmax_route(3) }, false),
            ("sigmoid with bias", Route { scoring: Scoring::Sigmoid, ..softmax_route(4) }, true),
            ("softmax in groups", Route { groups: groups(GroupScore::Best), ..softmax_route(3) }, false),
            (
                "sigmoid in groups with bias",
                Route { scoring: Scoring::Sigmoid, groups: groups(GroupScore::BestTwo), ..softmax_route(3) },
                true,
            ),
            ("all of them", softmax_route(16), false),
        ] {
            self.add(&format!("route {name}"), DType::F32, |b| {
                let (x, logits) = (b.input(0, 12), b.input(1, 16));
                let bias = bias.then(|| b.weight("bias", &[16])).transpose()?;
                let routing = b.route(logits, Route { bias, ..route })?;
                let experts = expert_weights(b, "", 16, 10, 12)?;
                Ok(vec![b.experts(x, routing, experts)?])
            });
        }
    }

    fn models(&mut self) {
        for cache in [CacheDType::F32, CacheDType::F16, CacheDType::I8] {
            self.add_with(&format!("model dense {cache:?}"), &|_| DType::F32, cache, 1.0, |b| {
                let table = b.weight("table", &[VOCABULARY, 48])?;
                let mut x = b.embed(table)?;
                for layer in 0..3 {
                    x = attend(b, layer, x, 48)?;
                    // After the last attention only the wanted rows matter; in some steps there are none.
                    x = if layer == 2 { b.select(x)? } else { x };
                    x = feed_forward(b, layer, x, 48)?;
                }
                let x = rms(b, "norm", x)?;
                Ok(vec![b.linear(x, table, None)?])
            });
        }
        self.add("model of experts", DType::F32, |b| {
            let table = b.weight("table", &[VOCABULARY, 32])?;
            let mut x = b.embed(table)?;
            for layer in 0..2 {
                x = attend(b, layer, x, 32)?;
                let normed = rms(b, &format!("{layer}.ffn_norm"), x)?;
                // A router of clear preferences: a tie decided by rounding would be nobody's fault.
                let router = b.weight(&format!("{layer}.router"), &[6, 32])?;
                let logits = b.linear(normed, router, None)?;
                let logits = b.scale(logits, 4.0)?;
                let routing = b.route(logits, softmax_route(2))?;
                let experts = expert_weights(b, &format!("{layer}."), 6, 24, 32)?;
                let routed = b.experts(normed, routing, experts)?;
                x = b.add(x, routed)?;
            }
            let x = b.select(x)?;
            Ok(vec![b.linear(x, table, None)?])
        });
    }
}

fn softmax_route(top: usize) -> Route {
    Route { top, scoring: Scoring::Softmax, bias: None, groups: None, normalize: true, scale: 1.0 }
}

fn expert_weights(
    b: &mut Builder,
    at: &str,
    count: usize,
    inner: usize,
    width: usize,
) -> Result<Experts, GraphError> {
    Ok(Experts {
        activation: ActivationKind::Silu,
        gate: b.weight(&format!("{at}gate"), &[count, inner, width])?,
        up: b.weight(&format!("{at}up"), &[count, inner, width])?,
        down: b.weight(&format!("{at}down"), &[count, width, inner])?,
    })
}

fn rms(b: &mut Builder, name: &str, x: ValueId) -> Result<ValueId, GraphError> {
    let width = b.shape(x).last();
    let weight: WeightId = b.weight(name, &[width])?;
    b.norm(x, Norm { kind: NormKind::Rms, epsilon: 1e-5, weight: Some(weight), bias: None })
}

/// x + attention of the normalised x, with 4 query heads over 2 key and value heads.
fn attend(b: &mut Builder, layer: usize, x: ValueId, width: usize) -> Result<ValueId, GraphError> {
    let (heads, groups, head) = (4, 2, 16);
    let normed = rms(b, &format!("{layer}.attention_norm"), x)?;
    let project = |b: &mut Builder, name: &str, heads: usize| {
        let w = b.weight(&format!("{layer}.{name}"), &[heads * head, width])?;
        let y = b.linear(normed, w, None)?;
        b.reshape(y, &[heads, head])
    };
    let (q, k, v) = (project(b, "q", heads)?, project(b, "k", groups)?, project(b, "v", groups)?);
    let frequencies = (0..head / 2).map(|i| 1000f32.powf(-(i as f32) / 8.0)).collect();
    let rope = Rope { pairing: Pairing::Halves, start: 0, frequencies, scale: 1.0 };
    let (q, k) = (b.rope(q, rope.clone())?, b.rope(k, rope)?);
    let cache = b.cache(groups, head, head);
    let y =
        b.attention(q, k, v, Attention { cache, scale: 0.25, window: None, softcap: None, sinks: None })?;
    let y = b.reshape(y, &[heads * head])?;
    let w = b.weight(&format!("{layer}.o"), &[width, heads * head])?;
    let y = b.linear(y, w, None)?;
    b.add(x, y)
}

/// x + the gated feed-forward of the normalised x.
fn feed_forward(b: &mut Builder, layer: usize, x: ValueId, width: usize) -> Result<ValueId, GraphError> {
    let inner = 80;
    let normed = rms(b, &format!("{layer}.ffn_norm"), x)?;
    let gate = b.weight(&format!("{layer}.gate"), &[inner, width])?;
    let up = b.weight(&format!("{layer}.up"), &[inner, width])?;
    let down = b.weight(&format!("{layer}.down"), &[width, inner])?;
    let (gate, up) = (b.linear(normed, gate, None)?, b.linear(normed, up, None)?);
    let hidden = b.gated_activation(gate, up, ActivationKind::Silu)?;
    let y = b.linear(hidden, down, None)?;
    b.add(x, y)
}
