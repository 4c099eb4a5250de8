//! Derivatives against differences, in f64.

use std::sync::Arc;

use autarky_quant::DType;

use super::{FACTORS, TARGETS, training};
use crate::Builder;
use crate::conformance::{RandomWeights, Rng};
use crate::device::{BLOCK, CacheDType, Limits, SequenceStep, Step};
use crate::error::GraphError;
use crate::graph::{Graph, ValueId, WeightId};
use crate::op::*;
use crate::reference::Interpreter;

const VOCABULARY: usize = 7;
const WIDTH: usize = 6;
/// Tokens of the sequences of a step.
const LENGTHS: [usize; 2] = [5, 3];

/// The sum of loss · factor of a step, and its gradients.
struct Run {
    interpreter: Interpreter<f64>,
    tokens: Vec<u32>,
    targets: Vec<f32>,
    factors: Vec<f32>,
    outputs: Vec<u32>,
}

impl Run {
    fn new(graph: &Arc<Graph>, rng: &mut Rng) -> Run {
        let rows: usize = LENGTHS.iter().sum();
        let limits = Limits {
            tokens: rows,
            sequences: LENGTHS.len(),
            outputs: rows,
            blocks: 4,
            cache: CacheDType::F32,
        };
        let weights = RandomWeights::new(rng, graph, |_| DType::F32);
        let interpreter = Interpreter::new(Arc::clone(graph), &weights, limits, None).expect("it compiles");
        let token = |rng: &mut Rng| rng.below(VOCABULARY) as u32;
        let tokens = (0..rows).map(|_| token(rng)).collect();
        let targets = (0..rows).map(|_| token(rng) as f32).collect();
        let factors = rng.normals(rows, 1.0);
        // All but the first.
        let outputs = (1..rows as u32).collect();
        Run { interpreter, tokens, targets, factors, outputs }
    }

    fn loss(&mut self) -> f64 {
        let blocks: Vec<[u32; 1]> = (0..LENGTHS.len() as u32).map(|b| [b]).collect();
        assert!(LENGTHS.iter().all(|n| *n <= BLOCK));
        let sequence = |(&tokens, blocks)| SequenceStep { position: 0, tokens, blocks };
        let sequences: Vec<SequenceStep<'_>> =
            LENGTHS.iter().zip(&blocks).map(|(n, b)| sequence((n, &b[..]))).collect();
        let mut inputs = [&[][..]; 2];
        inputs[TARGETS] = &self.targets;
        inputs[FACTORS] = &self.factors;
        let step = Step {
            tokens: &self.tokens,
            sequences: &sequences,
            outputs: &self.outputs,
            inputs: &inputs,
            weights: &[],
        };
        self.interpreter.step(&step, true).expect("it runs");
        let factors = self.outputs.iter().map(|o| f64::from(self.factors[*o as usize]));
        self.interpreter.result(0).iter().zip(factors).map(|(loss, factor)| loss * factor).sum()
    }
}

/// Checks every gradient of the graph that `build` makes from embedded tokens `[tokens, WIDTH]`: it gives
/// `[tokens, WIDTH]`, too.
fn check(name: &str, build: impl Fn(&mut Builder, ValueId) -> Result<ValueId, GraphError>) {
    let make = || -> Result<Graph, GraphError> {
        let mut b = Builder::new();
        b.scope(name);
        let table = b.weight("table", &[VOCABULARY, WIDTH])?;
        let x = b.embed(table)?;
        let x = build(&mut b, x)?;
        let x = b.select(x)?;
        let head = b.weight("head", &[VOCABULARY, WIDTH])?;
        let logits = b.linear(x, head, None)?;
        Ok(b.finish(&[logits]))
    };
    let graph = make().unwrap_or_else(|e| panic!("{name}: {e}"));
    let not_trained = |name: &str| name == "frozen";
    let graph = Arc::new(training(&graph, |spec| !not_trained(&spec.name), false).expect("no inputs"));
    let mut rng = Rng::new(7);
    let mut run = Run::new(&graph, &mut rng);
    run.loss();
    let gathered: Vec<Vec<f64>> =
        graph.weight_ids().map(|id| run.interpreter.gathered(id).to_vec()).collect();
    for (i, spec) in graph.weights().iter().enumerate() {
        let gradient = &gathered[i];
        if not_trained(&spec.name) {
            assert!(gradient.is_empty(), "{name}: {} is not trained", spec.name);
            continue;
        }
        assert_eq!(gradient.len(), spec.shape.iter().product::<usize>(), "{name}: {}", spec.name);
        for (j, &found) in gradient.iter().enumerate() {
            let (value, step) = (run.interpreter.weight_mut(WeightId(i))[j], 1e-3);
            let mut at = |x: f64| {
                run.interpreter.weight_mut(WeightId(i))[j] = x;
                run.loss()
            };
            // Central differences of the fourth order (Abramowitz & Stegun 25.3.24).
            let difference = (8.0 * (at(value + step) - at(value - step))
                - (at(value + 2.0 * step) - at(value - 2.0 * step)))
                / (12.0 * step);
            at(value);
            let error = (found - difference).abs() / (1.0 + difference.abs());
            assert!(error < 1e-8, "{name}: {}[{j}]: {found} where differences say {difference}", spec.name);
        }
    }
}

#[test]
fn steps_that_cannot_be_trained_on_are_refused() {
    let graph = || -> Result<Graph, GraphError> {
        let mut b = Builder::new();
        let table = b.weight("table", &[VOCABULARY, WIDTH])?;
        let x = b.embed(table)?;
        let x = b.reshape(x, &[1, WIDTH])?;
        let cache = b.cache(1, WIDTH, WIDTH);
        let form = Attention { cache, scale: 1.0, window: None, softcap: None, sinks: None };
        let y = b.attention(x, x, x, form)?;
        let y = b.reshape(y, &[WIDTH])?;
        let logits = b.linear(y, table, None)?;
        Ok(b.finish(&[logits]))
    };
    let graph = training(&graph().unwrap(), |_| true, false).unwrap();
    let limits = Limits { tokens: 2, sequences: 1, outputs: 2, blocks: 1, cache: CacheDType::F32 };
    let check = |position: usize, targets: &[f32]| {
        let sequences = [SequenceStep { position, tokens: 2, blocks: &[0] }];
        let step = Step {
            tokens: &[1, 2],
            sequences: &sequences,
            outputs: &[0, 1],
            inputs: &[targets, &[1.0; 2]],
            weights: &[],
        };
        step.check(&graph, &limits).map_err(|e| e.to_string())
    };
    assert_eq!(check(0, &[0.0, 6.0]), Ok(()));
    assert!(check(3, &[0.0, 6.0]).unwrap_err().contains("begin at position 0"));
    for wrong in [-1.0, 7.0, 0.5, f32::NAN, f32::INFINITY] {
        assert!(check(0, &[0.0, wrong]).unwrap_err().contains("the target of token 1"), "{wrong}");
    }
}

#[test]
fn linear_with_and_without_bias() {
    check("linear", |b, x| {
        let (w, bias) = (b.weight("w", &[4, WIDTH])?, b.weight("b", &[4])?);
        let y = b.linear(x, w, Some(bias))?;
        let w = b.weight("back", &[WIDTH, 4])?;
        b.linear(y, w, None)
    });
}

#[test]
fn what_is_not_trained_hands_derivatives_on() {
    check("frozen", |b, x| {
        let w = b.weight("frozen", &[WIDTH, WIDTH])?;
        b.linear(x, w, None)
    });
}

#[test]
fn a_table_that_is_used_twice_has_both_gradients() {
    check("tied", |b, x| {
        let table = b.weight("table", &[VOCABULARY, WIDTH])?;
        let y = b.linear(x, table, None)?;
        let w = b.weight("w", &[WIDTH, VOCABULARY])?;
        let y = b.linear(y, w, None)?;
        let again = b.embed(table)?;
        b.add(y, again)
    });
}

#[test]
fn head_linear_of_every_head() {
    check("head linear", |b, x| {
        let x = b.reshape(x, &[2, 3])?;
        let w = b.weight("w", &[2, 3, 3])?;
        let y = b.head_linear(x, w)?;
        b.reshape(y, &[WIDTH])
    });
}

#[test]
fn norms() {
    for kind in [NormKind::Rms, NormKind::Layer] {
        for weight in [false, true] {
            check(&format!("{kind:?} {weight}"), |b, x| {
                let [gain, shift] = ["gain", "shift"].map(|name| b.weight(name, &[WIDTH]));
                let (gain, shift) = (gain?, shift?);
                // A weight that no op reads has no gradient: both are read in either case.
                let norm = Norm { kind, epsilon: 1e-3, weight: Some(gain), bias: Some(shift) };
                let y = b.norm(x, norm)?;
                match weight {
                    true => Ok(y),
                    false => b.norm(y, Norm { weight: None, bias: None, ..norm }),
                }
            });
        }
    }
}

#[test]
fn rotations() {
    for pairing in [Pairing::Adjacent, Pairing::Halves] {
        check(&format!("rope {pairing:?}"), |b, x| {
            let x = b.reshape(x, &[1, WIDTH])?;
            let rope = Rope { pairing, start: 1, frequencies: [1.0, 0.3].into(), scale: 1.2 };
            let y = b.rope(x, rope)?;
            b.reshape(y, &[WIDTH])
        });
    }
}

#[test]
fn attention_of_every_form() {
    let forms =
        [(None, None, false), (Some(2), None, false), (None, Some(1.5), false), (Some(3), Some(2.0), true)];
    for (window, softcap, sinks) in forms {
        check(&format!("attention {window:?} {softcap:?} {sinks}"), |b, x| {
            let mut project = |name: &str, heads: usize, width: usize| {
                let w = b.weight(name, &[heads * width, WIDTH])?;
                let y = b.linear(x, w, None)?;
                b.reshape(y, &[heads, width])
            };
            let (q, k, v) = (project("q", 4, 3)?, project("k", 2, 3)?, project("v", 2, 2)?);
            let sinks = if sinks { Some(b.weight("sinks", &[4])?) } else { None };
            let attention = Attention { cache: b.cache(2, 3, 2), scale: 0.7, window, softcap, sinks };
            let y = b.attention(q, k, v, attention)?;
            let y = b.reshape(y, &[8])?;
            let w = b.weight("o", &[WIDTH, 8])?;
            b.linear(y, w, None)
        });
    }
}

#[test]
fn activations_alone_and_as_gates() {
    use ActivationKind::*;
    for kind in [Silu, Gelu, GeluTanh, Sigmoid, Relu] {
        check(&format!("{kind:?}"), |b, x| {
            let [gate, up] = ["gate", "up"].map(|name| b.weight(name, &[WIDTH, WIDTH]));
            let (gate, up) = (b.linear(x, gate?, None)?, b.linear(x, up?, None)?);
            let y = b.gated_activation(gate, up, kind)?;
            let z = b.activation(x, kind)?;
            b.add(y, z)
        });
    }
}

#[test]
fn what_acts_on_single_numbers() {
    check("multiply, scale, softcap, concat, slice", |b, x| {
        let w = b.weight("w", &[WIDTH, WIDTH])?;
        let y = b.linear(x, w, None)?;
        let y = b.multiply(x, y)?;
        let y = b.multiply(y, y)?;
        let y = b.scale(y, -0.4)?;
        let y = b.softcap(y, 2.0)?;
        let joined = b.concat(y, x)?;
        b.slice(joined, 3, WIDTH)
    });
}

#[test]
fn experts_and_their_router() {
    let groups = Some(Groups { count: 2, keep: 1, score: GroupScore::BestTwo });
    for (scoring, normalize, groups) in [
        (Scoring::Softmax, false, None),
        (Scoring::Softmax, true, None),
        (Scoring::Sigmoid, true, groups),
        (Scoring::Sigmoid, false, None),
    ] {
        check(&format!("experts {scoring:?} {normalize} {groups:?}"), |b, x| {
            let router = b.weight("router", &[4, WIDTH])?;
            let logits = b.linear(x, router, None)?;
            let route = Route { top: 2, scoring, bias: None, groups, normalize, scale: 1.3 };
            let routing = b.route(logits, route)?;
            let [gate, up] = ["gate", "up"].map(|name| b.weight(name, &[4, 5, WIDTH]));
            let (gate, up) = (gate?, up?);
            let down = b.weight("down", &[4, WIDTH, 5])?;
            let activation = ActivationKind::Silu;
            let y = b.experts(x, routing, Experts { activation, gate, up, down })?;
            b.add(x, y)
        });
    }
}
