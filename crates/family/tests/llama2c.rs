//! llama2.c checkpoints become models of the family llama.

mod support;

use std::path::Path;

use autarky_family::convert::Options;
use autarky_family::{Model, convert, convert_llama2c};
use autarky_format::llama2c;
use support::{Runner, difference, fixtures, largest};

/// The bytes of a llama2.c checkpoint with the weights of `model`, whose rows pair neighbours as llama2.c's do.
fn llama2c_bytes(model: &Model) -> Vec<u8> {
    let c = model.config();
    let vocabulary = -(c.vocabulary as i32); // negative: the output table is its own
    let sizes = [c.width, c.feed_forward, c.layers, c.heads, c.kv_heads].map(|n| n as i32);
    let header = sizes.into_iter().chain([vocabulary, c.context as i32]);
    let mut bytes: Vec<u8> = header.flat_map(i32::to_le_bytes).collect();
    let mut put = |name: &str| {
        let numbers = model.weights().get(name).unwrap().to_f32(name).unwrap();
        bytes.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
    };
    put("token_embd.weight");
    for kind in [
        "attn_norm",
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_output",
        "ffn_norm",
        "ffn_gate",
        "ffn_down",
        "ffn_up",
    ] {
        (0..c.layers).for_each(|i| put(&format!("blk.{i}.{kind}.weight")));
    }
    put("output_norm.weight");
    // Two tables of angles, which nothing reads.
    bytes.resize(bytes.len() + 4 * c.context * c.head_width, 0);
    let numbers = model.weights().get("output.weight").unwrap().to_f32("output.weight").unwrap();
    bytes.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
    bytes
}

#[test]
fn every_weight_comes_to_its_place() {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    let folder = Model::open(fixtures().join("llama_yarn")).unwrap();
    convert(&folder, at("model.gguf"), &Options::default(), &mut |_| {}).unwrap();
    let before = Model::open(at("model.gguf")).unwrap();
    std::fs::write(at("model.bin"), llama2c_bytes(&before)).unwrap();
    convert_llama2c(at("model.bin"), at("again.gguf"), &Options::default(), &mut |_| {}).unwrap();
    let after = Model::open(at("again.gguf")).unwrap();
    assert_eq!(after.family(), "llama");
    assert_eq!(after.graph().weights(), before.graph().weights());
    for spec in before.graph().weights() {
        let numbers = |m: &Model| m.weights().get(&spec.name).unwrap().to_f32(&spec.name).unwrap();
        assert_eq!(difference(&numbers(&before), &numbers(&after)), 0.0, "{}", spec.name);
    }
    assert_eq!(after.config().norm_epsilon, 1e-5);
    assert_eq!(after.config().rope.base, 10_000.0);
    assert_eq!(after.config().context, before.config().context);
}

/// The published beginning of the story that stories260K tells greedily.
const STORY: &str = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One \
                     day, she saw a big, red ball.";

#[test]
fn a_trained_model_tells_its_story() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/stories260k"));
    if !folder.is_dir() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let gguf = scratch.path().join("stories.gguf");
    convert_llama2c(folder.join("stories260K.bin"), &gguf, &Options::default(), &mut |_| {}).unwrap();
    let model = Model::open(&gguf).unwrap();
    let vocabulary = llama2c::Tokenizer::read(folder.join("tok512.bin"), model.config().vocabulary).unwrap();
    let mut runner = Runner::new(&model);
    let (mut token, mut text) = (1, String::new());
    while text.trim_start().len() < STORY.len() {
        token = largest(&runner.step(&[token]));
        text += std::str::from_utf8(&vocabulary.pieces[token as usize].bytes).unwrap();
    }
    assert!(text.trim_start().starts_with(STORY), "{text}");
}
