//! DoRA beside PyTorch's: `fixtures/dora.py` wrote its losses, gradients and weights.

mod support;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use autarky_graph::adapt::{self, FACTOR, adapted, factor, row_norms};
use autarky_graph::derivative::{FACTORS, TARGETS, training};
use autarky_graph::{
    Builder, CacheDType, Graph, Limits, SequenceStep, Step, Tensor, WeightError, WeightSpec, Weights, to_lend,
};
use autarky_train::adapter::is_update;
use autarky_train::{AdamWOptions, Precision, Trainer, TrainerOptions};
use serde_json::Value;
use support::compare;

const WEIGHT: &str = "blk.0.attn_q.weight";

/// Weights by their names.
struct Numbers(HashMap<String, (Vec<usize>, Vec<f32>)>);

impl Weights for Numbers {
    fn get(&self, name: &str) -> Result<Tensor<'_>, WeightError> {
        let missing = || WeightError::Missing { name: name.to_owned(), hint: String::new() };
        let (shape, numbers) = self.0.get(name).ok_or_else(missing)?;
        Ok(Tensor::of_f32(shape, numbers))
    }
}

struct Fixture {
    said: Value,
    graph: Graph,
    weights: Arc<Numbers>,
    tokens: Vec<u32>,
    scale: f32,
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

impl Fixture {
    fn read() -> Fixture {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dora.json");
        let said: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let sizes: Vec<usize> = numbers(&said["sizes"]).into_iter().map(|n| n as usize).collect();
        let [vocabulary, width, out, rank] = sizes[..] else { panic!("{sizes:?}") };
        let scale = said["scale"].as_f64().unwrap() as f32;
        let mut b = Builder::new();
        let mut build = || {
            let table = b.weight("token_embd.weight", &[vocabulary, width])?;
            let x = b.embed(table)?;
            let w = b.weight(WEIGHT, &[out, width])?;
            let bias = b.weight("blk.0.attn_q.bias", &[out])?;
            let y = b.linear(x, w, Some(bias))?;
            let head = b.weight("output.weight", &[vocabulary, out])?;
            b.linear(y, head, None)
        };
        let logits = build().unwrap();
        let form = adapt::Updates { rank, scale, dora: true };
        let graph = adapted(&b.finish(&[logits]), |spec| spec.name == WEIGHT, form);
        let (own, start) = (&said["weights"], &said["start"]);
        let weights = [
            ("token_embd.weight", vec![vocabulary, width], &own["table"]),
            (WEIGHT, vec![out, width], &own["w"]),
            ("blk.0.attn_q.bias", vec![out], &own["bias"]),
            ("output.weight", vec![vocabulary, out], &own["head"]),
            ("blk.0.attn_q.weight.lora_a", vec![rank, width], &start["a"]),
            ("blk.0.attn_q.weight.lora_b", vec![out, rank], &start["b"]),
            ("blk.0.attn_q.weight.lora_magnitude", vec![out], &start["m"]),
        ];
        let weights = weights.map(|(name, shape, value)| (name.to_owned(), (shape, numbers(value))));
        let tokens = numbers(&said["tokens"]).into_iter().map(|t| t as u32).collect();
        let weights = Arc::new(Numbers(weights.into_iter().collect()));
        Fixture { said, graph, weights, tokens, scale }
    }

    /// ‖W + s B A‖ of every row, with A and B as they begin.
    fn norms(&self) -> Vec<f32> {
        let start = |name: &str| numbers(&self.said["start"][name]);
        row_norms(&self.weights.get(WEIGHT).unwrap(), WEIGHT, (&start("a"), &start("b")), self.scale).unwrap()
    }
}

#[test]
fn gradients_are_those_of_pytorch() {
    let fixture = Fixture::read();
    let norms = fixture.norms();
    // A graph takes the factors of rows, and not their lengths.
    let mut weights = Numbers(fixture.weights.0.clone());
    let m = weights.0.get_mut("blk.0.attn_q.weight.lora_magnitude").unwrap();
    m.1.iter_mut().zip(&norms).for_each(|(m, &norm)| *m = factor(*m, norm));
    let tokens = &fixture.tokens[..fixture.tokens.len() - 1];
    let n = tokens.len();
    let limits = Limits { tokens: n, sequences: 1, outputs: n, blocks: 3, cache: CacheDType::F32 };
    let targets: Vec<f32> = fixture.tokens[1..].iter().map(|&t| t as f32).collect();
    let factors = vec![1.0 / n as f32; n];
    let mut inputs = [&[][..]; 2];
    inputs[TARGETS] = &targets;
    inputs[FACTORS] = &factors;
    let outputs: Vec<u32> = (0..n as u32).collect();
    let sequences = [SequenceStep { position: 0, tokens: n, blocks: &[0, 1, 2] }];
    for recompute in [false, true] {
        let graph =
            Arc::new(training(&fixture.graph, |spec: &WeightSpec| is_update(spec), recompute).unwrap());
        let lent = to_lend(&graph, &weights).unwrap();
        let lent: Vec<&[f32]> = lent.iter().map(Vec::as_slice).collect();
        let step = Step { tokens, sequences: &sequences, outputs: &outputs, inputs: &inputs, weights: &lent };
        for (device, run) in support::devices() {
            let mut program = run.compile(Arc::clone(&graph), &weights, limits).unwrap();
            program.run(&step).unwrap();
            let loss = program.output(0).iter().sum::<f32>() / n as f32;
            compare(&[loss], &numbers(&fixture.said["losses"])[..1], &device);
            let mut compared = 0;
            for (id, spec) in graph.weight_ids().zip(graph.weights()).filter(|(_, spec)| is_update(spec)) {
                let (name, by_length) = match spec.name.rsplit_once(".lora_").unwrap().1 {
                    "magnitude" => ("m", true),
                    other => (other, false),
                };
                let mut gradient = program.gradient(id).to_vec();
                if by_length {
                    gradient.iter_mut().zip(&norms).for_each(|(g, norm)| *g *= FACTOR / norm);
                }
                compare(
                    &gradient,
                    &numbers(&fixture.said["gradients"][name]),
                    &format!("{name} on {device}"),
                );
                compared += 1;
            }
            assert_eq!(compared, 3);
        }
    }
}

#[test]
fn ten_steps_have_the_losses_and_weights_of_pytorch() {
    let fixture = Fixture::read();
    let options = TrainerOptions {
        tokens: fixture.tokens.len() - 1,
        sequences: 1,
        adamw: AdamWOptions { second_decay: 0.95, weight_decay: 0.1, ..AdamWOptions::default() },
        muon: None,
        largest_norm: None,
        largest_jump: None,
        precision: Precision::F32,
        recompute: false,
        ema: None,
    };
    let rate = fixture.said["rate"].as_f64().unwrap() as f32;
    for (device, run) in support::devices() {
        let mut trainer = Trainer::of(&*run, &fixture.graph, &*fixture.weights, options, is_update).unwrap();
        trainer.with_magnitudes(Arc::clone(&fixture.weights) as _, fixture.scale).unwrap();
        let losses: Vec<f32> =
            (0..10).map(|_| trainer.step(&[&fixture.tokens], rate).unwrap().loss).collect();
        compare(&losses, &numbers(&fixture.said["losses"]), &format!("losses on {device}"));
        let state: HashMap<String, Vec<f32>> = trainer.into_numbers().into_iter().collect();
        for (end, name) in [("lora_a", "a"), ("lora_b", "b"), ("lora_magnitude", "m")] {
            let expected = numbers(&fixture.said["end"][name]);
            compare(&state[&format!("{WEIGHT}.{end}")], &expected, &format!("{name} on {device}"));
        }
    }
}

/// In closed form: the rows of W + s B A, whatever W is stored in.
#[test]
fn norms_are_those_of_the_rows() {
    let fixture = Fixture::read();
    let start = |name: &str| numbers(&fixture.said["start"][name]);
    let (w, a, b) = (numbers(&fixture.said["weights"]["w"]), start("a"), start("b"));
    let (width, rank) = (12, 3);
    for (i, norm) in fixture.norms().into_iter().enumerate() {
        let at = |j: usize| {
            let update = |k: usize| f64::from(b[i * rank + k]) * f64::from(a[k * width + j]);
            f64::from(w[i * width + j]) + f64::from(fixture.scale) * (0..rank).map(update).sum::<f64>()
        };
        let expected = (0..width).map(|j| at(j) * at(j)).sum::<f64>().sqrt();
        assert!((f64::from(norm) - expected).abs() < 1e-6 * expected, "row {i}: {norm}, and {expected}");
    }
    let tensor = fixture.weights.get(WEIGHT).unwrap();
    assert!(row_norms(&tensor, WEIGHT, (&a[1..], &b), 1.0).is_err());
    let cut = Tensor { parts: vec![tensor.parts[0][..40].to_vec().into()], ..tensor };
    assert!(row_norms(&cut, WEIGHT, (&a, &b), 1.0).is_err());
}
