//! How numbers are stored and multiplied.

use crate::chips::{Chip, DataType};
use crate::model::Model;

/// The arithmetic that a format runs in, where a chip has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compute {
    /// BF16 or FP16.
    Half,
    /// FP8.
    Fp8,
    /// FP4.
    Fp4,
    /// INT8.
    Int8,
}

/// A number format of a model: of its weights, and of the arithmetic.
#[derive(Clone, Debug, PartialEq)]
pub struct Format {
    /// As rows of measured runs and the command line name it: `bf16`, `fp8`, `int4w`, `gguf-q4_k_m`, ...
    pub name: String,
    /// Bits of a weight, with its scales.
    pub weight_bits: f64,
    /// What products run in.
    pub compute: Compute,
}

/// (name, bits with scales, arithmetic). GGUF sizes are those of whole files of Llama-3-8B.
const FORMATS: &[(&str, f64, Compute)] = &[
    ("bf16", 16.0, Compute::Half),
    ("fp16", 16.0, Compute::Half),
    ("fp32", 32.0, Compute::Half),
    ("fp8", 8.0, Compute::Fp8),
    ("fp4", 4.5, Compute::Fp4),
    ("int8", 8.1, Compute::Int8),
    ("int4w", 4.5, Compute::Half),
    ("int8w", 8.1, Compute::Half),
    ("int4w-int8a", 4.5, Compute::Int8),
    ("int4w-fp8a", 4.5, Compute::Fp8),
    ("fp4w", 4.4, Compute::Half),
    ("fp4w-fp8a", 4.5, Compute::Fp8),
    ("fp8w-bf16a", 8.1, Compute::Half),
    ("gguf-q2_k_s", 2.9, Compute::Half),
    ("gguf-iq4_xs", 4.4, Compute::Half),
    ("gguf-q4_0", 4.6, Compute::Half),
    ("gguf-q4_k_s", 4.65, Compute::Half),
    ("gguf-q4_k_m", 4.9, Compute::Half),
    ("gguf-q6_k", 6.6, Compute::Half),
    ("gguf-iq6_k", 6.7, Compute::Half),
    ("gguf-q8_0", 8.5, Compute::Half),
];

impl Format {
    /// The format of that name; a GGUF type that is not listed is sized by the digit in its name.
    pub fn named(name: &str) -> Option<Format> {
        let name = name.to_ascii_lowercase();
        if let Some((_, bits, compute)) = FORMATS.iter().find(|(n, ..)| *n == name) {
            return Some(Format { name, weight_bits: *bits, compute: *compute });
        }
        let kind = name.strip_prefix("gguf-")?;
        let digit = kind.chars().find_map(|c| c.to_digit(10)).filter(|d| (1..=16).contains(d))?;
        let bits =
            if kind.starts_with('f') || kind.starts_with("bf") { 16.0 } else { f64::from(digit) + 0.6 };
        Some(Format { name, weight_bits: bits, compute: Compute::Half })
    }

    /// The names that are known, without GGUF's.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FORMATS.iter().map(|f| f.0).filter(|n| !n.starts_with("gguf"))
    }

    /// Bytes of a weight.
    pub fn weight_bytes(&self) -> f64 {
        self.weight_bits / 8.0
    }

    /// Bits of a weight of `model` outside its experts. Checkpoints whose experts have fewer than six bits leave the
    /// rest in half precision (gpt-oss, Kimi-K2, NVFP4 of DeepSeek's), or in INT8 where activations are INT8; GGUF
    /// files' sizes are averages over everything.
    pub fn outside_bits(&self, model: &Model) -> f64 {
        if model.mixture.is_none() || self.weight_bits >= 6.0 || self.name.starts_with("gguf") {
            return self.weight_bits;
        }
        match self.compute {
            Compute::Half | Compute::Fp8 => 16.0,
            Compute::Int8 => 8.1,
            Compute::Fp4 if model.latent => 16.0,
            Compute::Fp4 => self.weight_bits,
        }
    }

    /// Bytes of all weights of `model`.
    pub fn model_bytes(&self, model: &Model) -> f64 {
        let experts = model.experts();
        (experts * self.weight_bits + (model.total() - experts) * self.outside_bits(model)) / 8.0
    }

    /// Peaks of `chip` in operations/s: of products in this format, and of half precision, in which attention runs.
    /// Where the chip lacks the format's arithmetic, products run in half precision. `None`: no peak is known.
    pub fn peaks(&self, chip: &Chip) -> Option<(f64, f64)> {
        use DataType::{Bf16, Fp4, Fp8, Fp16, Fp32, Int8, Tf32};
        let first = |types: &[DataType]| types.iter().find_map(|t| chip.peak_dense_tops.get(*t));
        let half = first(&[Bf16, Fp16, Tf32, Fp32]);
        let own = match self.compute {
            Compute::Half => None,
            Compute::Fp8 => first(&[Fp8]),
            Compute::Fp4 => first(&[Fp4, Fp8]),
            Compute::Int8 => first(&[Int8, Fp8]),
        };
        let any = own.or(half).or(first(&[Int8]))?;
        Some((any * 1e12, half.unwrap_or(any) * 1e12))
    }

    /// Whether `chip` multiplies in this format itself.
    pub fn native(&self, chip: &Chip) -> bool {
        let peaks = &chip.peak_dense_tops;
        match self.compute {
            Compute::Half => peaks.bf16.or(peaks.fp16).is_some(),
            Compute::Fp8 => peaks.fp8.is_some(),
            Compute::Fp4 => peaks.fp4.is_some(),
            Compute::Int8 => peaks.int8.is_some(),
        }
    }
}
