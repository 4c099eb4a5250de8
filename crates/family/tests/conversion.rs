//! A model written as GGUF says what it said before.

mod support;

use std::path::Path;

use autarky_family::convert::Options;
use autarky_family::{Model, convert};
use autarky_quant::DType;
use support::{Expected, check, checkpoints, difference, fixtures, logits};

/// Converts a folder to GGUF and opens it.
fn converted(folder: &Path, options: &Options, at: &Path) -> Model {
    let model = Model::open(folder).unwrap();
    let mut last = 0.0;
    let written = convert(&model, at, options, &mut |p| last = p.written as f64 / p.total as f64).unwrap();
    assert_eq!(last, 1.0, "progress does not reach the end");
    assert_eq!(written.instead, []);
    Model::open(at).unwrap()
}

#[test]
fn a_converted_model_computes_the_same() {
    let scratch = tempfile::tempdir().unwrap();
    for (i, c) in checkpoints().iter().enumerate() {
        let before = Model::open(&c.folder).unwrap();
        let at = scratch.path().join(format!("{i}.gguf"));
        let after = converted(&c.folder, &Options::default(), &at);
        assert_eq!(after.family(), c.family, "{}", c.name);
        assert_eq!(after.warnings(), [""; 0], "{}", c.name);
        let expected = Expected::read(&c.folder);
        check(&after, &expected, 1e-3, &format!("{} as GGUF", c.name));
        let off = difference(&logits(&before, &expected.input), &logits(&after, &expected.input));
        assert!(off < 2e-5, "{}: conversion moves logits by {off}", c.name);
    }
}

#[test]
fn the_output_is_stored_finer_than_the_rest() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("q4.gguf");
    let model = Model::open(fixtures().join("llama_linear")).unwrap();
    let dtype_of = |options: &Options, name: &str| {
        convert(&model, &path, options, &mut |_| {}).unwrap();
        Model::open(&path).unwrap().weights().get(name).unwrap().dtype
    };
    let q4 = Options { dtype: Some(DType::Q4_0), ..Options::default() };
    assert_eq!(dtype_of(&q4, "blk.0.attn_q.weight"), DType::Q4_0);
    // Rows of 32 are no whole blocks of Q6_K.
    assert_eq!(dtype_of(&q4, "output.weight"), DType::Q8_0);
    let told = Options { output: Some(DType::Q4_0), ..q4 };
    assert_eq!(dtype_of(&told, "output.weight"), DType::Q4_0);
    assert_eq!(dtype_of(&told, "output_norm.weight"), DType::F32);
}

#[test]
fn a_gguf_file_is_quantized_by_writing_it_again() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = fixtures().join("llama_linear");
    let f32_path = scratch.path().join("f32.gguf");
    let mut options = Options::default();
    options.metadata.insert("general.name", "a name");
    let plain = converted(&folder, &options, &f32_path);
    let path = scratch.path().join("q8.gguf");
    let to_q8 = Options { dtype: Some(DType::Q8_0), ..Options::default() };
    let written = convert(&plain, &path, &to_q8, &mut |_| {}).unwrap();
    // Its rows are 40 wide, which is not whole blocks of 32.
    assert_eq!(written.instead, [("blk.0.ffn_down.weight".to_owned(), DType::F16)]);
    let quantized = Model::open(&path).unwrap();
    assert_eq!(quantized.dtypes()[0].dtype, DType::Q8_0);
    let metadata = quantized.source().metadata().unwrap();
    assert_eq!(metadata.get_str("general.name").unwrap(), "a name");
    assert_eq!(metadata.get_u32("general.file_type").unwrap(), 7);
    for spec in plain.graph().weights() {
        let numbers = |m: &Model| m.weights().get(&spec.name).unwrap().to_f32(&spec.name).unwrap();
        let (before, after) = (numbers(&plain), numbers(&quantized));
        let largest = before.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
        // Half a step of 127 to the largest number, and the scale's own rounding to 11 bits.
        assert!(difference(&before, &after) <= largest * (0.5 / 127.0 + 1.0 / 2048.0), "{}", spec.name);
    }
}
