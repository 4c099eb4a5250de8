//! The derivative of whole models against PyTorch's: `gradients.py` beside the checkpoints wrote what it said.

mod support;

use std::path::Path;
use std::sync::Arc;

use autarky_cpu::Isa;
use autarky_family::{Model, outline_of};
use autarky_format::safetensors::File;
use autarky_graph::conformance::{RandomWeights, Rng};
use autarky_graph::derivative::training;
use autarky_graph::{BLOCK, CacheDType, Device, Limits, SequenceStep, Step, WeightSpec, to_lend};
use autarky_quant::DType;
use support::{checkpoint, cpu, devices, input};

/// The largest difference, beside the largest number of what is expected.
fn off(found: &[f32], expected: &[f32]) -> f32 {
    let largest = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let difference = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    difference / largest.max(1e-6)
}

fn check(name: &str) {
    let folder = checkpoint(name);
    let model = Model::open(&folder).unwrap();
    // Gradients have the names and shapes of the checkpoint, and what takes tensors apart and joins them is linear: read
    // as a checkpoint they are the gradients by the graph's weights.
    let copy = tempfile::tempdir().unwrap();
    for (from, to) in [("config.json", "config.json"), ("gradients.safetensors", "model.safetensors")] {
        std::fs::copy(folder.join(from), copy.path().join(to)).unwrap();
    }
    let expected = Model::open(copy.path()).unwrap();
    let loss = File::open(folder.join("gradients.safetensors")).unwrap();
    let loss = loss.tensor("loss").unwrap().f32s().unwrap()[0];

    let graphs =
        [false, true].map(|again| Arc::new(training(model.graph(), |_: &WeightSpec| true, again).unwrap()));
    let tokens = input(&folder);
    let n = tokens.len();
    let limits = Limits::single(n.next_multiple_of(BLOCK), n, CacheDType::F32);
    // Every token but the last has the next one as its target.
    let mut targets: Vec<f32> = tokens[1..].iter().map(|&t| t as f32).collect();
    targets.push(0.0);
    let factors = vec![1.0 / (n - 1) as f32; n];
    let outputs: Vec<u32> = (0..n as u32 - 1).collect();
    let blocks: Vec<u32> = (0..n.div_ceil(BLOCK) as u32).collect();
    let sequence = SequenceStep { position: 0, tokens: n, blocks: &blocks };
    // Both graphs have the same weights, in the same order.
    let lent = to_lend(&graphs[0], model.weights()).unwrap();
    let lent: Vec<&[f32]> = lent.iter().map(Vec::as_slice).collect();
    let (sequences, inputs) = (&[sequence], &[&targets[..], &factors]);
    let step = Step { tokens: &tokens, sequences, outputs: &outputs, inputs, weights: &lent };
    let devices = devices();
    for ((device, run), graph) in devices.iter().flat_map(|d| graphs.iter().map(move |graph| (d, graph))) {
        let name = format!("{name} on {device}");
        let mut program = run.compile(Arc::clone(graph), model.weights(), limits).unwrap();
        program.run_outputs(&step).unwrap();
        let losses = program.output(0).to_vec();
        for id in graph.weight_ids() {
            assert!(
                program.gradient(id).iter().all(|x| *x == 0.0),
                "{name}: outputs alone gather a gradient"
            );
        }
        program.run(&step).unwrap();
        assert!(program.output(0) == losses, "{name}: outputs alone have other bits");
        let found = program.output(0).iter().sum::<f32>() / (n - 1) as f32;
        assert!((found - loss).abs() < 1e-4 * loss, "{name}: the loss is {found}, and {loss} by PyTorch");
        let mut compared = 0;
        for (id, spec) in graph.weight_ids().zip(graph.weights()) {
            let gradient = program.gradient(id);
            let wanted = expected.weights().get(&spec.name).unwrap().to_f32(&spec.name).unwrap();
            if gradient.is_empty() {
                assert!(wanted.iter().all(|x| *x == 0.0), "{name}: {} has a gradient by PyTorch", spec.name);
                continue;
            }
            let off = off(gradient, &wanted);
            assert!(off < 1e-4, "{name}: the gradient by {} is off by {off}", spec.name);
            compared += 1;
        }
        assert!(compared > 10, "{name}: {compared} gradients");
    }
}

#[test]
fn a_llama_has_the_gradients_of_pytorch() {
    check("llama");
}

#[test]
fn normed_heads_have_the_gradients_of_pytorch() {
    check("qwen3");
}

#[test]
fn experts_have_the_gradients_of_pytorch() {
    check("mixtral");
}

#[test]
fn latent_attention_has_the_gradients_of_pytorch() {
    check("deepseek_v3");
}

#[test]
fn what_is_computed_again_takes_no_memory_meanwhile() {
    let config = serde_json::json!({
        "model_type": "llama",
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 96,
        "num_hidden_layers": 12,
        "num_attention_heads": 2,
    });
    let graph = outline_of(Path::new("made up"), config.as_object().unwrap()).unwrap().graph;
    let weights = RandomWeights::new(&mut Rng::new(5), &graph, |_| DType::F32);
    let limits = Limits::single(128, 128, CacheDType::F32);
    let of = |recompute| {
        let graph = Arc::new(training(&graph, |_: &WeightSpec| true, recompute).unwrap());
        cpu(Isa::detect(), 1).compile(graph, &weights, limits).unwrap().memory()
    };
    let (all, some) = (of(false), of(true));
    assert!(2 * some.arena < all.arena, "{} of {}", some.arena, all.arena);
    // One layer's keys and values at a time.
    assert_eq!(all.cache, 128 * 2 * 32 * 4);
}
