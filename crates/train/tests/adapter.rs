//! Low-rank updates: what they compute, that they alone are trained, and that what is written of them says the same.

use std::collections::HashMap;
use std::sync::Arc;

use autarky_family::{Outline, outline_of};
use autarky_graph::conformance::{RandomWeights, Rng};
use autarky_graph::reference::Reference;
use autarky_graph::{
    BLOCK, CacheDType, Device, Graph, Limits, SequenceStep, Step, Tensor, WeightError, Weights,
};
use autarky_quant::DType;
use autarky_train::adapter::{Adapter, is_update};
use autarky_train::config::AdapterConfig;
use autarky_train::{AdamWOptions, Example, Precision, Trainer, TrainerOptions};

fn outline() -> Outline {
    let config = serde_json::json!({
        "model_type": "qwen3",
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
    });
    outline_of("made up".as_ref(), config.as_object().unwrap()).unwrap()
}

fn logits(graph: &Arc<Graph>, weights: &dyn Weights, tokens: &[u32]) -> Vec<f32> {
    let n = tokens.len();
    let limits =
        Limits { tokens: n, sequences: 1, outputs: n, blocks: n.div_ceil(BLOCK), cache: CacheDType::F32 };
    let mut program = Reference.compile(Arc::clone(graph), weights, limits).unwrap();
    let outputs: Vec<u32> = (0..n as u32).collect();
    let sequences = [SequenceStep { position: 0, tokens: n, blocks: &[0] }];
    program
        .run(&Step { tokens, sequences: &sequences, outputs: &outputs, inputs: &[], weights: &[] })
        .unwrap();
    program.output(0).to_vec()
}

/// Random updates, with B that is not 0.
struct Updates(HashMap<String, Vec<f32>>, Arc<Graph>);

impl Updates {
    fn new(adapter: &Adapter) -> Updates {
        let mut rng = Rng::new(3);
        let updates = adapter.graph.weights().iter().filter(|spec| is_update(spec));
        let numbers = updates.map(|spec| (spec.name.clone(), rng.normals(spec.shape.iter().product(), 0.2)));
        Updates(numbers.collect(), Arc::clone(&adapter.graph))
    }
}

impl Weights for Updates {
    fn get(&self, name: &str) -> Result<Tensor<'_>, WeightError> {
        let missing = || WeightError::Missing { name: name.to_owned(), hint: String::new() };
        let numbers = self.0.get(name).ok_or_else(missing)?;
        let shape = self.1.weights().iter().find(|spec| spec.name == name).unwrap().shape.clone();
        let bytes = numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        Ok(Tensor { dtype: DType::F32, shape, parts: vec![bytes.into()] })
    }
}

const TOKENS: [u32; 12] = [3, 60, 7, 7, 1, 0, 33, 12, 9, 50, 2, 41];

#[test]
fn updates_begin_as_nothing_and_merged_they_are_the_same_model() {
    let Outline { graph, .. } = outline();
    let base = Arc::new(graph);
    let weights = RandomWeights::new(&mut Rng::new(1), &base, |_| DType::F32);
    let plain = logits(&base, &weights, &TOKENS);
    for rank_stabilized in [false, true] {
        let config = AdapterConfig { rank: 4, alpha: Some(6.0), rank_stabilized, ..AdapterConfig::default() };
        let adapter = Adapter::new(&config, Arc::clone(&base), 1).unwrap();
        // Seven products in each of two layers.
        assert_eq!(adapter.graph.weights().len() - base.weights().len(), 2 * 7 * 2);
        assert_eq!(logits(&adapter.graph, &adapter.initial(&weights), &TOKENS), plain);
        let updates = Updates::new(&adapter);
        let over = autarky_train::adapter::Overlay { over: &updates, under: &weights };
        let with = logits(&adapter.graph, &over, &TOKENS);
        let merged = logits(&base, &adapter.merged(&weights, &updates), &TOKENS);
        let largest = with.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart(&with, &merged) < 1e-4 * largest);
        assert!(apart(&with, &plain) > 0.1 * largest);
    }
}

#[test]
fn only_the_updates_are_trained_on_weights_of_any_type() {
    let Outline { graph, .. } = outline();
    let base = Arc::new(graph);
    for dtype in [DType::F32, DType::Q8_0, DType::Q4_0] {
        let weights = RandomWeights::new(&mut Rng::new(1), &base, |_| dtype);
        let config = AdapterConfig {
            rank: 4,
            targets: Some(vec!["attn_q".into(), "ffn_down".into()]),
            ..Default::default()
        };
        let adapter = Adapter::new(&config, Arc::clone(&base), 1).unwrap();
        let options = TrainerOptions {
            tokens: 16,
            sequences: 1,
            adamw: AdamWOptions::default(),
            muon: None,
            largest_norm: Some(1.0),
            largest_jump: None,
            precision: Precision::Bf16,
            recompute: false,
            ema: None,
        };
        let devices: [Box<dyn Device>; 2] = [
            Box::new(Reference),
            Box::new(autarky_cpu::Cpu::new(autarky_cpu::CpuOptions::default()).unwrap()),
        ];
        let mut losses = Vec::new();
        for device in devices {
            let initial = adapter.initial(&weights);
            let mut trainer = Trainer::of(&*device, &adapter.graph, &initial, options, is_update).unwrap();
            let names: Vec<String> = trainer.state().map(|w| w.name.to_owned()).collect();
            assert_eq!(names.len(), 2 * 2 * 2);
            assert!(
                names
                    .iter()
                    .all(|n| n.contains("attn_q.weight.lora_") || n.contains("ffn_down.weight.lora_"))
            );
            let example = Example::from(&TOKENS[..]);
            let mut step = || {
                let sum = trainer.gather(std::slice::from_ref(&example), example.learned()).unwrap();
                trainer.update(0.01).unwrap();
                sum
            };
            let found: Vec<f64> = (0..20).map(|_| step()).collect();
            assert!(found[19] < 0.8 * found[0], "{dtype}: {found:?}");
            losses.push(found);
        }
        // The CPU device rounds activations beside quantized weights, and what it multiplies in BF16.
        for (a, b) in losses[0].iter().zip(&losses[1]) {
            assert!((a - b).abs() < 0.05 * a, "{dtype}: {losses:?}");
        }
    }
}

#[test]
fn targets_that_are_not_there_are_refused_with_those_that_are() {
    let config = AdapterConfig { targets: Some(vec!["q_proj".into()]), ..AdapterConfig::default() };
    let known = Adapter::new(&config, Arc::new(outline().graph), 1).unwrap_err();
    assert_eq!(known, "attn_k, attn_output, attn_q, attn_v, ffn_down, ffn_gate, ffn_up");
}
