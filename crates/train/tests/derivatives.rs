//! The gradients through every op against PyTorch's, on random shapes: `fixtures/ops.py` wrote the cases.

mod support;

use std::path::Path;
use std::sync::Arc;

use autarky_format::safetensors::File;
use autarky_graph::derivative::{FACTORS, TARGETS, training};
use autarky_graph::*;
use autarky_quant::DType;
use serde_json::Value;
use support::compare;

/// A case's weights.
struct Tensors<'a> {
    file: &'a File,
    case: &'a str,
}

impl Tensors<'_> {
    fn numbers(&self, name: &str) -> Vec<f32> {
        let name = format!("{}/{name}", self.case);
        self.file.tensor(&name).expect(&name).f32s().unwrap().into_owned()
    }

    fn shape(&self, name: &str) -> Vec<usize> {
        let name = format!("{}/{name}", self.case);
        self.file.tensor(&name).expect(&name).shape.to_vec()
    }
}

impl Weights for Tensors<'_> {
    fn get(&self, name: &str) -> Result<Tensor<'_>, WeightError> {
        let bytes: Vec<u8> = self.numbers(name).iter().flat_map(|x| x.to_le_bytes()).collect();
        Ok(Tensor { dtype: DType::F32, shape: self.shape(name), parts: vec![bytes.into()] })
    }
}

fn count(case: &Value, name: &str) -> usize {
    case[name].as_u64().unwrap_or_else(|| panic!("{name} in {case}")) as usize
}

fn number(case: &Value, name: &str) -> f32 {
    case[name].as_f64().unwrap_or_else(|| panic!("{name} in {case}")) as f32
}

fn numbers<T: std::str::FromStr>(case: &Value, name: &str) -> Vec<T> {
    let parse = |x: &Value| x.to_string().parse().ok().unwrap_or_else(|| panic!("{name}: {x}"));
    case[name].as_array().unwrap_or_else(|| panic!("{name} in {case}")).iter().map(parse).collect()
}

fn activation(case: &Value) -> ActivationKind {
    match case["activation"].as_str().unwrap() {
        "silu" => ActivationKind::Silu,
        "gelu" => ActivationKind::Gelu,
        "gelu_tanh" => ActivationKind::GeluTanh,
        "relu" => ActivationKind::Relu,
        "sigmoid" => ActivationKind::Sigmoid,
        other => panic!("{other}"),
    }
}

/// The case's op on `x`; as `ops.py` has it.
fn apply(b: &mut Builder, x: ValueId, case: &Value, tensors: &Tensors<'_>) -> Result<ValueId, GraphError> {
    let width = count(case, "width");
    let weight = |b: &mut Builder, name: &str| b.weight(name, &tensors.shape(name));
    match case["op"].as_str().unwrap() {
        "linear" => {
            let (w, bias) = (weight(b, "w")?, weight(b, "b")?);
            b.linear(x, w, Some(bias))
        }
        "head_linear" => {
            let heads = count(case, "heads");
            let x = b.reshape(x, &[heads, width / heads])?;
            let w = weight(b, "w")?;
            let y = b.head_linear(x, w)?;
            b.reshape(y, &[count(case, "output")])
        }
        op @ ("rms_norm" | "layer_norm") => {
            let kind = if op == "rms_norm" { NormKind::Rms } else { NormKind::Layer };
            let bias = if kind == NormKind::Layer { Some(weight(b, "b")?) } else { None };
            let weight = Some(weight(b, "w")?);
            b.norm(x, Norm { kind, epsilon: number(case, "epsilon"), weight, bias })
        }
        "rope" => {
            let heads = count(case, "heads");
            let x = b.reshape(x, &[heads, width / heads])?;
            let pairing = if case["halves"] == true { Pairing::Halves } else { Pairing::Adjacent };
            let frequencies = numbers::<f32>(case, "frequencies").into();
            let y = b.rope(x, Rope { pairing, start: 0, frequencies, scale: number(case, "scale") })?;
            b.reshape(y, &[width])
        }
        "attention" => {
            let [h, g, k, v] = ["heads", "groups", "key", "value"].map(|name| count(case, name));
            let mut project = |name: &str, heads: usize, width: usize| {
                let w = weight(b, name)?;
                let y = b.linear(x, w, None)?;
                b.reshape(y, &[heads, width])
            };
            let (q, keys, values) = (project("q", h, k)?, project("k", g, k)?, project("v", g, v)?);
            let form = Attention {
                cache: b.cache(g, k, v),
                scale: number(case, "scale"),
                window: Some(count(case, "window")).filter(|w| *w > 0),
                softcap: Some(number(case, "softcap")).filter(|cap| *cap > 0.0),
                sinks: if case["sinks"] == true { Some(weight(b, "sinks")?) } else { None },
            };
            let y = b.attention(q, keys, values, form)?;
            b.reshape(y, &[h * v])
        }
        "activation" => b.activation(x, activation(case)),
        "gated_activation" => {
            let (gate, up) = (weight(b, "gate")?, weight(b, "up")?);
            let (gate, up) = (b.linear(x, gate, None)?, b.linear(x, up, None)?);
            b.gated_activation(gate, up, activation(case))
        }
        "single" => {
            let w = weight(b, "w")?;
            let y = b.linear(x, w, None)?;
            let y = b.multiply(y, x)?;
            let y = b.scale(y, number(case, "factor"))?;
            let y = b.softcap(y, number(case, "cap"))?;
            let joined = b.concat(y, x)?;
            let length = count(case, "length");
            let (a, c) = (b.slice(joined, count(case, "start"), length)?, b.slice(x, 0, length)?);
            b.add(a, c)
        }
        "experts" => {
            let router = weight(b, "router")?;
            let logits = b.linear(x, router, None)?;
            let scoring = if case["softmax"] == true { Scoring::Softmax } else { Scoring::Sigmoid };
            let (top, normalize) = (count(case, "top"), case["normalize"] == true);
            let route =
                Route { top, scoring, bias: None, groups: None, normalize, scale: number(case, "scale") };
            let routing = b.route(logits, route)?;
            let (gate, up, down) = (weight(b, "gate")?, weight(b, "up")?, weight(b, "down")?);
            b.experts(x, routing, Experts { activation: ActivationKind::Silu, gate, up, down })
        }
        other => panic!("no op {other}"),
    }
}

#[test]
fn gradients_through_every_op_are_those_of_pytorch() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let file = File::open(folder.join("ops.safetensors")).unwrap();
    let cases: Vec<Value> =
        serde_json::from_str(&std::fs::read_to_string(folder.join("ops.json")).unwrap()).unwrap();
    assert!(cases.len() >= 50);
    let devices = support::devices();
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let tensors = Tensors { file: &file, case: name };
        let mut b = Builder::new();
        b.scope(name);
        let build = |b: &mut Builder| {
            let table = b.weight("table", &tensors.shape("table"))?;
            let x = b.embed(table)?;
            let y = apply(b, x, case, &tensors)?;
            let head = b.weight("head", &tensors.shape("head"))?;
            b.linear(y, head, None)
        };
        let logits = build(&mut b).unwrap_or_else(|e| panic!("{name}: {e}"));
        let graph = Arc::new(training(&b.finish(&[logits]), |_| true, false).unwrap());

        let lengths: Vec<usize> = numbers(case, "lengths");
        let rows: usize = lengths.iter().sum();
        let limits = Limits {
            tokens: rows,
            sequences: lengths.len(),
            outputs: rows,
            blocks: lengths.len(),
            cache: CacheDType::F32,
        };
        let blocks: Vec<[u32; 1]> = (0..lengths.len() as u32).map(|b| [b]).collect();
        let sequence = |(&tokens, blocks)| SequenceStep { position: 0, tokens, blocks };
        let sequences: Vec<SequenceStep<'_>> =
            lengths.iter().zip(&blocks).map(|(n, b)| sequence((n, &b[..]))).collect();
        let (targets, factors): (Vec<f32>, Vec<f32>) = (numbers(case, "targets"), numbers(case, "factors"));
        let mut inputs = [&[][..]; 2];
        inputs[TARGETS] = &targets;
        inputs[FACTORS] = &factors;
        let (tokens, outputs): (Vec<u32>, Vec<u32>) = (numbers(case, "tokens"), (0..rows as u32).collect());
        let lent = to_lend(&graph, &tensors).unwrap();
        let lent: Vec<&[f32]> = lent.iter().map(Vec::as_slice).collect();
        let (sequences, outputs) = (&sequences, &outputs);
        let step = Step { tokens: &tokens, sequences, outputs, inputs: &inputs, weights: &lent };
        for (device, run) in &devices {
            let name = format!("{name} on {device}");
            let mut program = run.compile(Arc::clone(&graph), &tensors, limits).unwrap();
            program.run(&step).unwrap();
            compare(program.output(0), &tensors.numbers("losses"), &format!("{name}: loss"));
            for (id, spec) in graph.weight_ids().zip(graph.weights()) {
                let expected = tensors.numbers(&format!("{}/gradient", spec.name));
                compare(program.gradient(id), &expected, &format!("{name}: {}", spec.name));
            }
        }
    }
}
