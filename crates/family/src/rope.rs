//! Rotary position embedding: which angles a configuration means.
//!
//! The same scalings are written in three ways: Hugging Face's `rope_parameters` (transformers 5), its `rope_theta`
//! with `rope_scaling` (transformers 4), and GGUF's `rope.*` keys with the tensor `rope_freqs.weight`.

use std::f64::consts::TAU;
use std::sync::Arc;

use autarky_format::gguf::Metadata;
use autarky_graph::{Pairing, Rope};

use crate::error::FamilyError;
use crate::fields::Fields;

/// How a head's numbers turn with the position.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeConfig {
    /// θ: pair `i` of `n` turns by θ^(−i/n) radians a position, before any scaling.
    pub base: f64,
    /// Numbers of a head that turn: even, from the first on.
    pub rotated: usize,
    /// Which two numbers make a pair. It depends on how the checkpoint's rows stand.
    pub pairing: Pairing,
    /// How the context was stretched.
    pub scaling: RopeScaling,
    /// Divisors of the frequencies, one a pair, from the tensor `rope_freqs.weight` of a GGUF file.
    pub factors: Option<Vec<f32>>,
}

/// How a model trained on short contexts was stretched to long ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// It was not.
    None,
    /// Positions are divided by `factor` (kaiokendev 2023; Chen et al. 2023, arXiv:2306.15595).
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1's: long waves are divided by `factor`, short ones stay, those between are blended.
    Llama3 {
        /// The divisor of long waves.
        factor: f64,
        /// Waves longer than `original / low` are long.
        low: f64,
        /// Waves shorter than `original / high` are short.
        high: f64,
        /// The context before stretching, in tokens.
        original: f64,
    },
    /// YaRN (Peng et al. 2023, arXiv:2309.00071).
    Yarn(Yarn),
}

/// YaRN's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// The divisor of long waves.
    pub factor: f64,
    /// The context before stretching, in tokens.
    pub original: f64,
    /// Waves that turn more often than this in the original context stay.
    pub beta_fast: f64,
    /// Waves that turn less often than this in the original context are divided.
    pub beta_slow: f64,
    /// Whether the bounds of the blend are rounded outwards to whole pairs.
    pub truncate: bool,
    /// What queries and keys are multiplied by.
    pub attention_factor: f64,
    /// DeepSeek's `mscale_all_dim`: attention scores are also multiplied by the square of [`mscale`] of it. 0: not.
    pub mscale_all_dim: f64,
}

/// YaRN's 0.1 · `m` · ln(factor) + 1 (1 for a factor up to 1).
pub fn mscale(factor: f64, m: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 }
}

impl RopeConfig {
    /// Radians a position, one a pair.
    pub fn frequencies(&self) -> Vec<f32> {
        let pairs = self.rotated / 2;
        let plain = |i: usize| {
            let divisor = self.factors.as_ref().and_then(|f| f.get(i)).map_or(1.0, |&f| f64::from(f));
            self.base.powf(-(i as f64) / pairs as f64) / divisor
        };
        (0..pairs).map(|i| self.scaled(i, plain(i)) as f32).collect()
    }

    fn scaled(&self, pair: usize, frequency: f64) -> f64 {
        match self.scaling {
            RopeScaling::None => frequency,
            RopeScaling::Linear { factor } => frequency / factor,
            RopeScaling::Llama3 { factor, low, high, original } => {
                let turns = original * frequency / TAU;
                let keep = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                frequency * (keep + (1.0 - keep) / factor)
            }
            RopeScaling::Yarn(yarn) => {
                let (first, last) = self.blend(&yarn);
                let divide = ((pair as f64 - first) / (last - first)).clamp(0.0, 1.0);
                frequency * ((1.0 - divide) + divide / yarn.factor)
            }
        }
    }

    /// Between which pairs YaRN goes over from keeping a frequency to dividing it.
    fn blend(&self, yarn: &Yarn) -> (f64, f64) {
        let dimensions = self.rotated as f64;
        // The pair that turns `turns` times in the original context.
        let pair = |turns: f64| dimensions * (yarn.original / (turns * TAU)).ln() / (2.0 * self.base.ln());
        let (mut first, mut last) = (pair(yarn.beta_fast), pair(yarn.beta_slow));
        if yarn.truncate {
            (first, last) = (first.floor(), last.ceil());
        }
        let (first, last) = (first.max(0.0), last.min(dimensions - 1.0));
        (first, if first == last { last + 0.001 } else { last })
    }

    /// The op, turning a head's numbers from `start` on.
    pub fn op(&self, start: usize) -> Rope {
        let scale = match self.scaling {
            RopeScaling::Yarn(yarn) => yarn.attention_factor as f32,
            _ => 1.0,
        };
        Rope { pairing: self.pairing, start, frequencies: Arc::from(self.frequencies()), scale }
    }

    /// What DeepSeek's models multiply attention scores by beside 1/√width.
    pub fn score_factor(&self) -> f64 {
        match self.scaling {
            RopeScaling::Yarn(yarn) if yarn.mscale_all_dim != 0.0 => {
                mscale(yarn.factor, yarn.mscale_all_dim).powi(2)
            }
            _ => 1.0,
        }
    }

    /// [`RopeScaling::Llama3`] as divisors of the frequencies, one a pair: how GGUF keeps it.
    pub(crate) fn llama3_factors(&self) -> Option<Vec<f32>> {
        let RopeScaling::Llama3 { .. } = self.scaling else { return None };
        let pairs = self.rotated / 2;
        let divisor = |i: usize| {
            let frequency = self.base.powf(-(i as f64) / pairs as f64);
            (frequency / self.scaled(i, frequency)) as f32
        };
        Some((0..pairs).map(divisor).collect())
    }

    /// Reads a Hugging Face configuration, as transformers 4 or 5 wrote it.
    ///
    /// # Errors
    /// For scalings that are not computed here, and numbers that make no sense.
    pub(crate) fn from_hugging_face(
        config: &Fields<'_>,
        head_width: usize,
        default_base: f64,
        pairing: Pairing,
    ) -> Result<RopeConfig, FamilyError> {
        let section = match config.section("rope_parameters")? {
            Some(section) => Some(section),
            None => config.section("rope_scaling")?,
        };
        let fields = section.as_ref().unwrap_or(config);
        if fields.has("full_attention") {
            let what = "RoPE that differs from layer to layer (\"rope_parameters\" by layer type)";
            return Err(config.unsupported(what, "use a model with one RoPE for all layers"));
        }
        let either =
            |name: &str, range| match fields.number_opt(name, std::ops::RangeInclusive::clone(&range))? {
                Some(number) => Ok(Some(number)),
                None => config.number_opt(name, range),
            };
        let base = either("rope_theta", BASE)?.unwrap_or(default_base);
        let part = either("partial_rotary_factor", 1e-3..=1.0)?.unwrap_or(1.0);
        let rotated = (head_width as f64 * part) as usize;
        if rotated == 0 || !rotated.is_multiple_of(2) {
            return Err(config.wrong("head_dim", rotated, "an even number of rotated dimensions a head"));
        }
        let kind = match &section {
            None => "default",
            Some(s) => match s.text_opt("rope_type")? {
                Some(kind) => kind,
                None => s.text_opt("type")?.unwrap_or("default"),
            },
        };
        // Where the original context is not given, the trained one stands for it.
        let original = || -> Result<f64, FamilyError> {
            let given = either("original_max_position_embeddings", ORIGINAL)?;
            given.map_or_else(|| config.number("max_position_embeddings", ORIGINAL), Ok)
        };
        let scaling = match kind {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: fields.number("factor", FACTOR)? },
            "llama3" => {
                let (low, high) =
                    (fields.number("low_freq_factor", BETA)?, fields.number("high_freq_factor", BETA)?);
                if low >= high {
                    return Err(fields.wrong(
                        "high_freq_factor",
                        high,
                        format!("more than low_freq_factor, {low}"),
                    ));
                }
                let factor = fields.number("factor", FACTOR)?;
                RopeScaling::Llama3 { factor, low, high, original: original()? }
            }
            "yarn" => RopeScaling::Yarn(Yarn::from_hugging_face(config, fields, original()?)?),
            other => {
                let what = format!("the RoPE scaling {other:?}");
                return Err(config.unsupported(what, "default, linear, llama3 and yarn are"));
            }
        };
        Ok(RopeConfig { base, rotated, pairing, scaling, factors: None })
    }

    /// Reads the keys `rope.*` of GGUF metadata. `factors` are the numbers of `rope_freqs.weight`, if it is there.
    ///
    /// # Errors
    /// For scalings that are not computed here, and numbers that make no sense.
    pub(crate) fn from_gguf(
        fields: &Fields<'_>,
        head_width: usize,
        pairing: Pairing,
        factors: Option<Vec<f32>>,
    ) -> Result<RopeConfig, FamilyError> {
        let base = fields.number_opt("rope.freq_base", BASE)?.unwrap_or(10_000.0);
        let rotated = fields.size_opt("rope.dimension_count", 1..=head_width)?.unwrap_or(head_width);
        if !rotated.is_multiple_of(2) {
            return Err(fields.wrong("rope.dimension_count", rotated, "an even number"));
        }
        if let Some(factors) = &factors
            && (factors.len() != rotated / 2 || !factors.iter().all(|f| f.is_finite() && *f > 0.0))
        {
            let found = format!("{} numbers", factors.len());
            return Err(fields.wrong(
                "rope_freqs.weight",
                found,
                format!("{} positive numbers", rotated / 2),
            ));
        }
        let factor = match fields.number_opt("rope.scaling.factor", 0.0..=MAX_FACTOR)? {
            Some(factor) => factor,
            None => fields.number_opt("rope.scale_linear", 0.0..=MAX_FACTOR)?.unwrap_or(1.0),
        };
        // 0 stands for no scaling in files that write the key always.
        let factor = if factor == 0.0 { 1.0 } else { factor };
        let scaling = match fields.text_opt("rope.scaling.type")?.unwrap_or("linear") {
            "none" => RopeScaling::None,
            "linear" if factor == 1.0 => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor },
            "yarn" => RopeScaling::Yarn(Yarn::from_gguf(fields, factor)?),
            other => {
                let what = format!("the RoPE scaling {other:?}");
                return Err(fields.unsupported(what, "none, linear and yarn are"));
            }
        };
        Ok(RopeConfig { base, rotated, pairing, scaling, factors })
    }

    /// Writes the keys `rope.*` of GGUF metadata, each after `prefix`. Llama 3's scaling becomes a tensor instead.
    pub(crate) fn write_gguf(&self, prefix: &str, metadata: &mut Metadata) {
        let mut number = |key: &str, value: f64| {
            metadata.insert(&format!("{prefix}.rope.{key}"), value as f32);
        };
        number("freq_base", self.base);
        let kind = match self.scaling {
            RopeScaling::None | RopeScaling::Llama3 { .. } => None,
            RopeScaling::Linear { factor } => {
                number("scaling.factor", factor);
                Some("linear")
            }
            RopeScaling::Yarn(yarn) => {
                number("scaling.factor", yarn.factor);
                number("scaling.yarn_beta_fast", yarn.beta_fast);
                number("scaling.yarn_beta_slow", yarn.beta_slow);
                if yarn.mscale_all_dim != 0.0 {
                    number("scaling.yarn_log_multiplier", 0.1 * yarn.mscale_all_dim);
                }
                let left = yarn.attention_factor / yarn.implied_attention_factor();
                if (left - 1.0).abs() > 1e-7 {
                    number("scaling.attn_factor", left);
                }
                metadata
                    .insert(&format!("{prefix}.rope.scaling.original_context_length"), yarn.original as u32);
                Some("yarn")
            }
        };
        metadata.insert(&format!("{prefix}.rope.dimension_count"), self.rotated as u32);
        if let Some(kind) = kind {
            metadata.insert(&format!("{prefix}.rope.scaling.type"), kind);
        }
    }
}

/// θ: above 1, so that frequencies fall.
const BASE: std::ops::RangeInclusive<f64> = 1.001..=1e15;
const MAX_FACTOR: f64 = 1e6;
const FACTOR: std::ops::RangeInclusive<f64> = 1e-3..=MAX_FACTOR;
const BETA: std::ops::RangeInclusive<f64> = 1e-3..=1e6;
const ORIGINAL: std::ops::RangeInclusive<f64> = 1.0..=1e9;
/// Attention factors and mscales.
const MSCALE: std::ops::RangeInclusive<f64> = 0.0..=1e3;

impl Yarn {
    fn from_hugging_face(
        config: &Fields<'_>,
        fields: &Fields<'_>,
        original: f64,
    ) -> Result<Yarn, FamilyError> {
        let factor = match fields.number_opt("factor", FACTOR)? {
            Some(factor) => factor,
            None => config.number("max_position_embeddings", ORIGINAL)? / original,
        };
        // Absent and 0 mean the same to transformers.
        let given = |name| Ok::<_, FamilyError>(fields.number_opt(name, MSCALE)?.filter(|&x| x != 0.0));
        let (m, all) = (given("mscale")?, given("mscale_all_dim")?);
        let attention_factor = match (fields.number_opt("attention_factor", MSCALE)?, m, all) {
            (Some(factor), _, _) => factor,
            (None, Some(m), Some(all)) => mscale(factor, m) / mscale(factor, all),
            (None, _, _) => mscale(factor, 1.0),
        };
        let beta = |name, default| -> Result<f64, FamilyError> {
            Ok(fields.number_opt(name, 0.0..=1e6)?.filter(|&x| x != 0.0).unwrap_or(default))
        };
        Ok(Yarn {
            factor,
            original,
            beta_fast: beta("beta_fast", 32.0)?,
            beta_slow: beta("beta_slow", 1.0)?,
            truncate: fields.flag_opt("truncate")?.unwrap_or(true),
            attention_factor,
            mscale_all_dim: all.unwrap_or(0.0),
        })
    }

    fn from_gguf(fields: &Fields<'_>, factor: f64) -> Result<Yarn, FamilyError> {
        let original = match fields.number_opt("rope.scaling.original_context_length", ORIGINAL)? {
            Some(original) => original,
            None => fields.number("context_length", ORIGINAL)?,
        };
        if let Some(e) = fields.number_opt("rope.scaling.yarn_ext_factor", -1e6..=1e6)?
            && e >= 0.0
            && e != 1.0
        {
            return Err(fields.unsupported(
                format!("YaRN with the extrapolation factor {e}"),
                "1 is; convert the model again without rope.scaling.yarn_ext_factor",
            ));
        }
        let beta = |name, default| -> Result<f64, FamilyError> {
            Ok(fields.number_opt(name, BETA)?.unwrap_or(default))
        };
        // llama.cpp's files hold a tenth of mscale_all_dim here.
        let log = fields.number_opt("rope.scaling.yarn_log_multiplier", MSCALE)?.unwrap_or(0.0);
        let mut yarn = Yarn {
            factor,
            original,
            beta_fast: beta("rope.scaling.yarn_beta_fast", 32.0)?,
            beta_slow: beta("rope.scaling.yarn_beta_slow", 1.0)?,
            truncate: true,
            attention_factor: 1.0,
            mscale_all_dim: log / 0.1,
        };
        let given = fields.number_opt("rope.scaling.attn_factor", MSCALE)?;
        let whole = fields.number_opt("rope.scaling.yarn_attn_factor", MSCALE)?;
        yarn.attention_factor = match (given, whole) {
            (None, Some(whole)) => whole,
            (given, _) => given.unwrap_or(1.0) * yarn.implied_attention_factor(),
        };
        Ok(yarn)
    }

    /// The attention factor that readers of GGUF take when the file says nothing more: 1 for DeepSeek's models, whose
    /// mscale and mscale_all_dim are equal.
    fn implied_attention_factor(&self) -> f64 {
        if self.mscale_all_dim != 0.0 { 1.0 } else { mscale(self.factor, 1.0) }
    }
}
