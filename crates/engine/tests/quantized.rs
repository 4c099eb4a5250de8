//! A trained model, quantized: what quantization costs, and that the CPU device's packed kernels add nothing to it but
//! the rounding of activations.

#[path = "support/wide.rs"]
mod wide;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use autarky_cpu::{Cpu, CpuOptions};
use autarky_engine::quality::{Divergence, Windows, divergence};
use autarky_engine::{Engine, Options, Sequence};
use autarky_family::Model;
use autarky_graph::reference::{Reference, RoundedReference};
use autarky_graph::{CacheDType, Device, Tensor, WeightError, Weights};
use autarky_quant::DType;

const CONTEXT: usize = 256;

fn trained() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/stories260k/stories260K.bin")
}

fn engine(model: &Model, device: &dyn Device) -> Engine {
    engine_of(model, model.weights(), device, CacheDType::F32)
}

fn engine_of(model: &Model, weights: &dyn Weights, device: &dyn Device, cache: CacheDType) -> Engine {
    let options = Options { outputs: CONTEXT, ..Options::single(CONTEXT, cache) };
    Engine::new(device, model.graph().clone(), weights, options).expect("the model fits the device")
}

/// Weights as the floats that their codes stand for, so that products are of floats.
struct Dequantized<'a>(&'a dyn Weights);

impl Weights for Dequantized<'_> {
    fn get(&self, name: &str) -> Result<Tensor<'_>, WeightError> {
        let tensor = self.0.get(name)?;
        let mut bytes = Vec::new();
        for part in &tensor.parts {
            let count = part.len() / tensor.dtype.block_bytes() * tensor.dtype.block_len();
            let mut numbers = vec![0f32; count];
            autarky_quant::dequantize(tensor.dtype, part, &mut numbers).expect("whole blocks");
            bytes.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
        }
        Ok(Tensor { dtype: DType::F32, shape: tensor.shape, parts: vec![Cow::Owned(bytes)] })
    }
}

fn wide(folder: &Path, dtype: DType) -> Model {
    let path = folder.join(format!("{dtype}.gguf"));
    wide::write(&trained(), &path, dtype);
    Model::open(&path).expect("what was just written")
}

fn cpu() -> Cpu {
    Cpu::new(CpuOptions::default()).expect("this machine has a CPU")
}

/// Two windows of text that the model itself tells (temperature 1 by inverse sampling with fixed fractions).
fn story(engine: &mut Engine) -> Vec<u32> {
    told(engine, &mut 0.5)
}

/// As [`story`], by the fractions that follow `fraction`.
fn told(engine: &mut Engine, fraction: &mut f64) -> Vec<u32> {
    let mut sequence = Sequence::new();
    sequence.push(&[1]);
    while sequence.tokens().len() < CONTEXT {
        let logits = engine.advance(&mut sequence, &mut |_, _| true).expect("it runs").expect("not stopped");
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f64> = logits.iter().map(|x| f64::from(x - largest).exp()).collect();
        *fraction = (*fraction + 0.618_033_988_749_895).fract();
        let mut left = *fraction * weights.iter().sum::<f64>();
        let next = weights.iter().position(|w| {
            left -= w;
            left < 0.0
        });
        sequence.push(&[next.unwrap_or(0) as u32]);
    }
    sequence.tokens().to_vec()
}

fn diverge(base: &mut Engine, other: &mut Engine, text: &[u32]) -> Divergence {
    let windows = Windows { window: CONTEXT / 2, bos: None };
    divergence(base, other, text, windows, &mut |_, _, _| {}).expect("both run")
}

#[test]
fn widening_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let narrow = folder.path().join("narrow.gguf");
    autarky_family::convert_llama2c(trained(), &narrow, &Default::default(), &mut |_| {}).expect("converts");
    let narrow = Model::open(&narrow).expect("opens");
    let mut narrow = engine(&narrow, &cpu());
    let text = story(&mut narrow);
    let found = diverge(&mut narrow, &mut engine(&wide(folder.path(), DType::F32), &cpu()), &text);
    assert!(found.kl.value.abs() < 1e-7, "the widened model is another one: {found:?}");
}

/// KL divergence from f32 in nats a token, with the most that is accepted. For comparison: the model's perplexity on
/// its own text is 3, and its 260 thousand parameters have little to spare.
#[test]
fn quantization_costs_little_and_packed_kernels_add_only_rounding() {
    let folder = tempfile::tempdir().expect("a folder");
    let exact_model = wide(folder.path(), DType::F32);
    let mut exact = engine(&exact_model, &cpu());
    let text = story(&mut exact);
    for (dtype, most) in [(DType::Q8_0, 2e-3), (DType::Q6_K, 1e-2), (DType::Q4_K, 0.15), (DType::Q4_0, 0.25)]
    {
        let model = wide(folder.path(), dtype);
        let mut packed = engine(&model, &cpu());
        let mut dequantized = engine(&model, &Reference);
        let mut rounded = engine(&model, &RoundedReference { group: 32 });

        let cost = diverge(&mut exact, &mut packed, &text);
        let rounding = diverge(&mut dequantized, &mut rounded, &text);
        let from_dequantized = diverge(&mut dequantized, &mut packed, &text);
        println!(
            "{dtype}: KL(f32 ‖ packed) {:.6}, KL(dequantized ‖ packed) {:.7}, KL(dequantized ‖ rounded) {:.7}; perplexity {:.4} → {:.4}",
            cost.kl.value,
            from_dequantized.kl.value,
            rounding.kl.value,
            from_dequantized.base.perplexity().value,
            from_dequantized.other.perplexity().value,
        );
        assert!(cost.kl.value < most, "{dtype}: KL from f32 is {}", cost.kl.value);
        // Op by op the packed kernels differ from the rounding reference by float error alone (the conformance suite
        // says so). Over a model a sum in another order now and then rounds an activation the other way, and the two
        // drift apart by as much as rounding itself: it has to explain the difference, within that factor.
        assert!(from_dequantized.kl.value < 3.0 * rounding.kl.value + 1e-7, "{dtype}: {from_dequantized:?}");
    }
}

/// The perplexity of packed kernels beside float kernels with the same weights, over sixteen stories; and what an 8-bit
/// KV cache adds to it.
#[test]
fn packed_kernels_and_an_8_bit_cache_keep_the_perplexity() {
    const STORIES: usize = 16;
    let folder = tempfile::tempdir().expect("a folder");
    let mut exact = engine(&wide(folder.path(), DType::F32), &cpu());
    let mut fraction = 0.5;
    let text: Vec<u32> = (0..STORIES).flat_map(|_| told(&mut exact, &mut fraction)).collect();
    for dtype in [DType::Q8_0, DType::Q6_K, DType::Q4_K, DType::Q4_0] {
        let model = wide(folder.path(), dtype);
        let mut floats = engine_of(&model, &Dequantized(model.weights()), &cpu(), CacheDType::F32);
        for (cache, most) in [(CacheDType::F32, 0.5), (CacheDType::I8, 1.0)] {
            let mut packed = engine_of(&model, model.weights(), &cpu(), cache);
            let found = diverge(&mut floats, &mut packed, &text);
            let (base, other) = (found.base.perplexity().value, found.other.perplexity().value);
            let more = 100.0 * (other / base - 1.0);
            println!("{dtype}, {} cache: perplexity {base:.4} → {other:.4} ({more:+.3} %)", cache.name());
            assert!(more.abs() < most, "{dtype}, {} cache: {found:?}", cache.name());
        }
    }
}
