//! Which type each tensor takes.
//!
//! A mix is a type with exceptions for the tensors that lose most by it. Names and choices are those of llama.cpp's
//! mixes without an importance matrix, so that a `Q4_K_M` made here is as large and about as good as one made there:
//!
//! | Mix | Most | Exceptions |
//! | --- | --- | --- |
//! | `Q2_K` | Q2_K | values Q4_K where 4 or more query heads share them, else Q3_K; attention output and down Q3_K |
//! | `Q3_K_S` | Q3_K | none |
//! | `Q3_K_M` | Q3_K | values Q4_K (first two layers Q5_K); attention output Q4_K; down Q5_K in the first 1/16 of layers, Q4_K in *more* |
//! | `Q3_K_L` | Q3_K | values, attention output and down Q5_K |
//! | `Q4_K_S` | Q4_K | values Q5_K in the first four layers; down Q5_K in the first 1/8 |
//! | `Q4_K_M` | Q4_K | values and down Q6_K in *more* |
//! | `Q5_K_S` | Q5_K | none |
//! | `Q5_K_M` | Q5_K | values and down Q6_K in *more* |
//! | others | their name | none |
//!
//! *More* is the first and last eighth of the layers and every third between. In all quantized mixes but `Q8_0` the
//! output table (the embedding table, where there is no other) is Q6_K. With 8 experts, keys and values are Q8_0.
//! One-dimensional tensors, norms and routers are never touched.

use autarky_format::gguf::{File, Metadata};
use autarky_quant::DType;
use clap::builder::{PossibleValue, PossibleValuesParser};

/// A named choice of types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mix {
    name: &'static str,
    /// Its number in `general.file_type`.
    file_type: u32,
    most: DType,
}

/// Every mix, with the names that stand for it.
const MIXES: [(Mix, &[&str]); 19] = {
    const fn mix(name: &'static str, file_type: u32, most: DType) -> Mix {
        Mix { name, file_type, most }
    }
    [
        (mix("F32", 0, DType::F32), &[]),
        (mix("F16", 1, DType::F16), &[]),
        (mix("BF16", 32, DType::BF16), &[]),
        (mix("Q4_0", 2, DType::Q4_0), &[]),
        (mix("Q4_1", 3, DType::Q4_1), &[]),
        (mix("Q5_0", 8, DType::Q5_0), &[]),
        (mix("Q5_1", 9, DType::Q5_1), &[]),
        (mix("Q8_0", 7, DType::Q8_0), &[]),
        (mix("Q2_K", 10, DType::Q2_K), &[]),
        (mix("Q3_K_S", 11, DType::Q3_K), &[]),
        (mix("Q3_K_M", 12, DType::Q3_K), &["Q3_K"]),
        (mix("Q3_K_L", 13, DType::Q3_K), &[]),
        (mix("Q4_K_S", 14, DType::Q4_K), &[]),
        (mix("Q4_K_M", 15, DType::Q4_K), &["Q4_K"]),
        (mix("Q5_K_S", 16, DType::Q5_K), &[]),
        (mix("Q5_K_M", 17, DType::Q5_K), &["Q5_K"]),
        (mix("Q6_K", 18, DType::Q6_K), &[]),
        (mix("IQ4_NL", 25, DType::IQ4_NL), &[]),
        (mix("IQ4_XS", 30, DType::IQ4_XS), &[]),
    ]
};

impl Mix {
    /// The mix of that name, in any case.
    pub(super) fn named(name: &str) -> Option<Mix> {
        let is = |n: &str| n.eq_ignore_ascii_case(name);
        MIXES.iter().find(|(mix, others)| is(mix.name) || others.iter().any(|o| is(o))).map(|(mix, _)| *mix)
    }

    /// Takes every name, and lists them in help and completions.
    pub(crate) fn parser() -> PossibleValuesParser {
        let values =
            MIXES.iter().map(|(mix, others)| PossibleValue::new(mix.name).aliases(others.iter().copied()));
        PossibleValuesParser::new(values)
    }

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        self.name
    }

    /// Sets what a file says of how it is quantized, and drops what it said of shards.
    pub(super) fn describe(self, metadata: &mut Metadata) {
        metadata.insert("general.file_type", self.file_type);
        if !self.most.is_float() {
            metadata.insert("general.quantization_version", 2u32);
        }
        for key in ["split.no", "split.count", "split.tensors.count"] {
            metadata.remove(key);
        }
    }

    /// The type of a tensor, before it is known whether its rows are whole blocks of it.
    fn choose(self, tensor: &Named<'_>, model: &About) -> DType {
        let Named { name, layer } = *tensor;
        if self.most.is_float() {
            return self.most;
        }
        let is_output = name == "output.weight" || (name == "token_embd.weight" && !model.has_output);
        if is_output && self.most != DType::Q8_0 {
            return DType::Q6_K;
        }
        let part = name.rsplit_once('.').map_or(name, |(head, _)| head);
        let part = part.rsplit_once('.').map_or(part, |(_, tail)| tail);
        let (value, key) = (part == "attn_v", part == "attn_k");
        let (output, down) = (part == "attn_output", part.starts_with("ffn_down"));
        if model.experts == 8 && (value || key) {
            return DType::Q8_0;
        }
        let layers = model.layers;
        let more = layer < layers / 8
            || layer >= 7 * layers / 8
            || layer.checked_sub(layers / 8).is_some_and(|i| i % 3 == 2);
        match self.name {
            "Q2_K" if value && model.shared >= 4 => DType::Q4_K,
            "Q2_K" if value || output || down => DType::Q3_K,
            "Q3_K_M" if value && layer < 2 => DType::Q5_K,
            "Q3_K_M" if value || output => DType::Q4_K,
            "Q3_K_M" if down && layer < layers / 16 => DType::Q5_K,
            "Q3_K_M" if down && more => DType::Q4_K,
            "Q3_K_L" if value || output || down => DType::Q5_K,
            "Q4_K_S" if value && layer < 4 => DType::Q5_K,
            "Q4_K_S" if down && layer < layers / 8 => DType::Q5_K,
            "Q4_K_M" | "Q5_K_M" if (value || down) && more => DType::Q6_K,
            _ => self.most,
        }
    }
}

/// What the choice depends on.
struct About {
    layers: usize,
    experts: u64,
    /// Query heads that share a value head.
    shared: u64,
    has_output: bool,
}

#[derive(Clone, Copy)]
struct Named<'a> {
    name: &'a str,
    layer: usize,
}

/// What becomes of a tensor.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) from: DType,
    pub(super) to: DType,
    /// Whether its rows are not whole blocks of the type that the mix wants.
    pub(super) fallback: bool,
}

impl Planned {
    pub(super) fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// What becomes of every tensor of a file.
pub(super) fn plan(file: &File, mix: Mix) -> Result<Vec<Planned>, autarky_format::Error> {
    let metadata = file.metadata();
    let number = |key: &str| -> Option<u64> {
        let architecture = metadata.get_str("general.architecture").ok()?;
        metadata.find::<u64>(&format!("{architecture}.{key}")).ok()?
    };
    let layers = number("block_count").and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let shared = match (number("attention.head_count"), number("attention.head_count_kv")) {
        (Some(q), Some(kv)) if kv > 0 => q / kv,
        _ => 1,
    };
    let has_output = file.tensor("output.weight").is_some();
    let about = About { layers, experts: number("expert_count").unwrap_or(0), shared, has_output };
    let one = |info: &autarky_format::gguf::TensorInfo| {
        let view = file.require(&info.name)?;
        let (to, fallback) = if is_kept(view.name, view.shape) {
            (view.dtype, false)
        } else {
            let layer = view.name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')?.0.parse().ok());
            let named = Named { name: view.name, layer: layer.unwrap_or(0) };
            let wanted = mix.choose(&named, &about);
            let to = fit(wanted, view.shape.last().copied().unwrap_or(1));
            (to, to != wanted)
        };
        let (name, shape) = (view.name.to_owned(), view.shape.to_vec());
        Ok(Planned { name, shape, from: view.dtype, to, fallback })
    };
    file.tensors().iter().map(one).collect()
}

/// Tensors that stay as they are: small, and worth more than their bits.
fn is_kept(name: &str, shape: &[usize]) -> bool {
    shape.len() < 2 || !name.ends_with(".weight") || name.contains("_norm.") || name.contains("ffn_gate_inp.")
}

/// The wanted type, or the next above it of which a row is whole blocks.
fn fit(wanted: DType, row: usize) -> DType {
    let mut dtype = wanted;
    while !row.is_multiple_of(dtype.block_len()) {
        dtype = match dtype {
            DType::Q2_K | DType::Q3_K | DType::IQ4_XS => DType::IQ4_NL,
            DType::Q4_K => DType::Q5_0,
            DType::Q5_K => DType::Q5_1,
            DType::Q6_K => DType::Q8_0,
            _ => DType::F16,
        };
    }
    dtype
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(mix: &str, name: &str, layer: usize) -> DType {
        let about = About { layers: 32, experts: 0, shared: 4, has_output: true };
        Mix::named(mix).unwrap().choose(&Named { name, layer }, &about)
    }

    #[test]
    fn q4_k_m_spends_bits_where_they_count() {
        let layers: Vec<usize> =
            (0..32).filter(|&i| chosen("q4_k", "blk.0.ffn_down.weight", i) == DType::Q6_K).collect();
        assert_eq!(layers, [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
        assert_eq!(chosen("Q4_K_M", "blk.0.attn_v.weight", 0), DType::Q6_K);
        assert_eq!(chosen("Q4_K_M", "blk.0.attn_q.weight", 0), DType::Q4_K);
        assert_eq!(chosen("Q4_K_M", "output.weight", 0), DType::Q6_K);
        assert_eq!(chosen("Q4_K_M", "token_embd.weight", 0), DType::Q4_K);
    }

    #[test]
    fn tied_tables_count_as_outputs_and_eight_experts_keep_their_keys() {
        let about = About { layers: 8, experts: 8, shared: 1, has_output: false };
        let choose = |name| Mix::named("Q4_0").unwrap().choose(&Named { name, layer: 0 }, &about);
        assert_eq!(choose("token_embd.weight"), DType::Q6_K);
        assert_eq!(choose("blk.0.attn_k.weight"), DType::Q8_0);
        assert_eq!(choose("blk.0.ffn_down_exps.weight"), DType::Q4_0);
        assert_eq!(chosen("Q8_0", "output.weight", 0), DType::Q8_0);
        assert_eq!(chosen("Q2_K", "blk.0.attn_v.weight", 0), DType::Q4_K);
        assert_eq!(chosen("Q3_K_M", "blk.0.attn_v.weight", 1), DType::Q5_K);
        assert_eq!(chosen("F16", "output.weight", 0), DType::F16);
    }

    #[test]
    fn rows_that_are_not_whole_blocks_take_the_next_type_that_fits() {
        assert_eq!(fit(DType::Q4_K, 512), DType::Q4_K);
        assert_eq!(fit(DType::Q4_K, 96), DType::Q5_0);
        assert_eq!(fit(DType::Q6_K, 96), DType::Q8_0);
        assert_eq!(fit(DType::Q3_K, 96), DType::IQ4_NL);
        assert_eq!(fit(DType::Q2_K, 33), DType::F16);
    }

    #[test]
    fn small_tensors_stay() {
        assert!(is_kept("blk.0.attn_norm.weight", &[64]));
        assert!(is_kept("blk.0.ffn_gate_inp.weight", &[8, 64]));
        assert!(is_kept("blk.0.attn_q.bias", &[64]));
        assert!(!is_kept("blk.0.attn_q.weight", &[64, 64]));
    }

    #[test]
    fn names_are_known_in_any_case_and_only_once() {
        let names = MIXES.map(|(mix, _)| mix.name);
        for (i, name) in names.iter().enumerate() {
            assert_eq!(Mix::named(&name.to_lowercase()).map(|m| m.name), Some(*name));
            assert!(!names[..i].contains(name));
        }
        assert!(Mix::named("Q9_9").is_none());
    }
}
