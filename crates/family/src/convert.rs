//! Writing models as GGUF files that this crate and llama.cpp read.
//!
//! A Hugging Face folder is converted, a llama2.c checkpoint too, and a GGUF file is written again with other data
//! types, which is what quantizing a model is. Tensors go out in pieces, so that memory stays small whatever the model.

use std::borrow::Cow;
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use autarky_format::gguf::{Metadata, Writer};
use autarky_format::{Source, TensorSpec, llama2c};
use autarky_graph::{ActivationKind, Graph, Pairing, Tensor, WeightError, Weights};
use autarky_quant::DType;

use crate::config::{Biases, Config};
use crate::error::FamilyError;
use crate::families::Family;
use crate::gguf;
use crate::model::Model;
use crate::rope::{RopeConfig, RopeScaling};
use crate::turned::TurnedRows;

/// How to write a model.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The type of matrices; none: as they are. Norms, biases and routers are written as F32 always.
    pub dtype: Option<DType>,
    /// The type of `output.weight`, or of the embedding table where the model is tied; none: as `dtype` says, but at
    /// least Q6_K, since errors there go straight into the logits.
    pub output: Option<DType>,
    /// Keys to add or replace: the tokenizer's, and `general.name` and its like.
    pub metadata: Metadata,
    /// Threads that quantize; 0: as many as the machine has.
    pub threads: usize,
    /// Set from elsewhere to end the conversion, which then leaves nothing behind.
    pub stop: Option<&'static AtomicBool>,
}

/// How far a conversion is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The weight being written.
    pub weight: &'a str,
    /// Bytes written of all weights.
    pub written: u64,
    /// Bytes of all weights.
    pub total: u64,
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes of all weights.
    pub bytes: u64,
    /// Weights whose rows are not whole blocks of the wanted type, with the type that they have instead.
    pub instead: Vec<(String, DType)>,
}

/// Writes `model` to the GGUF file `out`.
///
/// The rows of queries and keys are put into the order that the family's GGUF files have. A GGUF model keeps its
/// metadata. `progress` hears of every piece.
///
/// # Errors
/// For what GGUF cannot say of the model, numbers that a type cannot hold, and files that cannot be written.
pub fn convert(
    model: &Model,
    out: impl AsRef<Path>,
    options: &Options,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Written, FamilyError> {
    let mut metadata = match model.source() {
        Source::Gguf(file) => file.metadata().clone(),
        _ => Metadata::new(),
    };
    // What is written is one file, whatever was read.
    for key in ["split.no", "split.count", "split.tensors.count"] {
        metadata.remove(key);
    }
    let conversion = Conversion {
        file: model.path(),
        family: model.description(),
        config: model.config(),
        graph: model.graph(),
        weights: model.weights(),
    };
    conversion.write(out.as_ref(), metadata, options, progress)
}

/// Writes a llama2.c checkpoint to the GGUF file `out`, as a model of the family `llama`.
///
/// # Errors
/// As [`convert`].
pub fn convert_llama2c(
    path: impl AsRef<Path>,
    out: impl AsRef<Path>,
    options: &Options,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Written, FamilyError> {
    let path = path.as_ref();
    let checkpoint = llama2c::Checkpoint::read(path)?;
    let config = llama2c_config(checkpoint.config());
    let family = &crate::families::llama::FAMILY;
    let graph =
        (family.graph)(&config).map_err(|source| FamilyError::Graph { file: path.to_owned(), source })?;
    let weights = Llama2c(checkpoint);
    let conversion = Conversion { file: path, family, config: &config, graph: &graph, weights: &weights };
    conversion.write(out.as_ref(), Metadata::new(), options, progress)
}

/// Writes a model whose weights are not those of a file, such as one in training, to the GGUF file `out`.
///
/// # Errors
/// As [`convert`].
pub fn convert_weights(
    config: &Config,
    graph: &Graph,
    weights: &dyn Weights,
    out: impl AsRef<Path>,
    options: &Options,
) -> Result<Written, FamilyError> {
    let out = out.as_ref();
    let family = crate::families::of(config);
    let conversion = Conversion { file: out, family, config, graph, weights };
    conversion.write(out, Metadata::new(), options, &mut |_| {})
}

/// The sizes of a llama2.c model. Its code fixes ε and θ, and neighbours make a rotated pair.
fn llama2c_config(c: &llama2c::Config) -> Config {
    Config {
        family: "llama",
        vocabulary: c.vocab_size,
        width: c.dim,
        layers: c.n_layers,
        heads: c.n_heads,
        kv_heads: c.n_kv_heads,
        head_width: c.head_dim(),
        context: c.seq_len,
        feed_forward: c.hidden_dim,
        norm_epsilon: 1e-5,
        activation: ActivationKind::Silu,
        tied: c.shared_classifier,
        biases: Biases::default(),
        head_norms: false,
        windows: vec![None; c.n_layers],
        rope: RopeConfig {
            base: 10_000.0,
            rotated: c.head_dim(),
            pairing: Pairing::Adjacent,
            scaling: RopeScaling::None,
            factors: None,
        },
        experts: None,
        latent: None,
    }
}

/// A llama2.c checkpoint's tensors under the graph's names.
struct Llama2c(llama2c::Checkpoint);

impl Weights for Llama2c {
    fn get(&self, name: &str) -> Result<Tensor<'_>, WeightError> {
        let tensor = match name {
            "token_embd.weight" => "tok_embeddings.weight".to_owned(),
            "output_norm.weight" => "norm.weight".to_owned(),
            _ => {
                let kinds = [
                    ("attn_norm", "attention_norm"),
                    ("attn_q", "attention.wq"),
                    ("attn_k", "attention.wk"),
                    ("attn_v", "attention.wv"),
                    ("attn_output", "attention.wo"),
                    ("ffn_norm", "ffn_norm"),
                    ("ffn_gate", "feed_forward.w1"),
                    ("ffn_down", "feed_forward.w2"),
                    ("ffn_up", "feed_forward.w3"),
                ];
                let layer =
                    name.strip_prefix("blk.").and_then(|n| n.strip_suffix(".weight")?.split_once('.'));
                let known = layer.and_then(|(i, kind)| Some((i, kinds.iter().find(|k| k.0 == kind)?.1)));
                known.map_or_else(|| name.to_owned(), |(i, kind)| format!("layers.{i}.{kind}.weight"))
            }
        };
        let view = self.0.tensor(&tensor).ok_or_else(|| WeightError::Missing {
            name: name.to_owned(),
            hint: format!("the checkpoint has no tensor {tensor:?}"),
        })?;
        Ok(Tensor { dtype: view.dtype, shape: view.shape.to_vec(), parts: vec![Cow::Borrowed(view.data)] })
    }
}

/// Numbers that are dequantized and quantized at a time, at least a row.
const PIECE: usize = 1 << 20;

struct Conversion<'a> {
    file: &'a Path,
    family: &'a Family,
    config: &'a Config,
    graph: &'a Graph,
    weights: &'a dyn Weights,
}

/// A weight on its way: what it is and what it becomes.
struct Task {
    spec: TensorSpec<DType>,
    /// Numbers in a row.
    row: usize,
}

impl Conversion<'_> {
    fn write(
        &self,
        out: &Path,
        mut metadata: Metadata,
        options: &Options,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Written, FamilyError> {
        self.check_expressible()?;
        let mut written = Written::default();
        let mut tasks = Vec::new();
        for spec in self.graph.weights() {
            let found = self.weights.get(&spec.name)?.dtype;
            let row = spec.shape.last().copied().unwrap_or(1);
            let wanted = self.wanted(&spec.name, spec.shape.len(), found, options);
            let dtype = fitting(wanted, row);
            if dtype != wanted {
                written.instead.push((spec.name.clone(), dtype));
            }
            written.bytes += dtype.bytes(spec.shape.iter().product()).unwrap_or(0) as u64;
            let spec = TensorSpec::new(spec.name.clone(), dtype, spec.shape.clone());
            tasks.push(Task { spec, row });
        }
        for (key, value) in gguf::write(self.config, self.family.architecture).iter() {
            metadata.insert(key, value.clone());
        }
        metadata.insert("general.file_type", file_type(&tasks));
        for (key, value) in options.metadata.iter() {
            metadata.insert(key, value.clone());
        }

        let factors = self.config.rope.factors.clone().or_else(|| self.config.rope.llama3_factors());
        let mut specs: Vec<_> = tasks.iter().map(|t| t.spec.clone()).collect();
        if let Some(factors) = &factors {
            specs.push(TensorSpec::new("rope_freqs.weight", DType::F32, [factors.len()]));
        }
        let mut file = Writer::create(out, &metadata, &specs)?;
        if let Some(factors) = &factors {
            let bytes: Vec<u8> = factors.iter().flat_map(|f| f.to_le_bytes()).collect();
            file.append("rope_freqs.weight", &bytes)?;
        }
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, NonZero::get),
            n => n,
        };
        let (mut done, total) = (0, written.bytes);
        for task in &tasks {
            self.write_weight(task, threads, &mut |bytes| {
                if options.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                    return Err(FamilyError::Stopped);
                }
                file.append(&task.spec.name, bytes)?;
                done += bytes.len() as u64;
                progress(Progress { weight: &task.spec.name, written: done, total });
                Ok(())
            })?;
            self.weights.release(&task.spec.name);
        }
        file.finish()?;
        Ok(written)
    }

    /// GGUF has no words for some of what Hugging Face's configurations say.
    fn check_expressible(&self) -> Result<(), FamilyError> {
        let unsupported = |what: &str| {
            let advice = "run the folder as it is".to_owned();
            let what = format!("{what} in a GGUF file");
            Err(FamilyError::Unsupported { file: self.file.to_owned(), what, advice })
        };
        match self.config.rope.scaling {
            _ if self.config.activation != ActivationKind::Silu => {
                unsupported("an activation other than silu")
            }
            RopeScaling::Yarn(yarn) if !yarn.truncate => unsupported("YaRN with bounds that are not rounded"),
            _ => Ok(()),
        }
    }

    fn wanted(&self, name: &str, dimensions: usize, found: DType, options: &Options) -> DType {
        if dimensions == 1 || name.ends_with("ffn_gate_inp.weight") {
            return DType::F32;
        }
        let Some(dtype) = options.dtype else {
            return options.output.filter(|_| self.is_output(name)).unwrap_or(found);
        };
        match self.is_output(name) {
            true => options.output.unwrap_or(finer(dtype, DType::Q6_K)),
            false => dtype,
        }
    }

    fn is_output(&self, name: &str) -> bool {
        name == if self.config.tied { "token_embd.weight" } else { "output.weight" }
    }

    /// Gives the weight's bytes to `put`, piece after piece.
    fn write_weight(
        &self,
        task: &Task,
        threads: usize,
        put: &mut dyn FnMut(&[u8]) -> Result<(), FamilyError>,
    ) -> Result<(), FamilyError> {
        let name = &task.spec.name;
        let mut tensor = autarky_graph::device::fetch(self.weights, name, &task.spec.shape)?;
        if let Some(heads) = self.turned_rows(name) {
            tensor = heads.to_neighbours(tensor, name)?;
        }
        let (from, to) = (tensor.dtype, task.spec.dtype);
        let rows = (PIECE / task.row).max(1);
        let failed =
            |problem: String| FamilyError::Write { weight: name.clone(), dtype: to.to_string(), problem };
        let piece =
            from.bytes(rows * task.row).ok_or_else(|| failed(format!("rows are not whole {from} blocks")))?;
        let mut pieces = tensor.parts.iter().flat_map(|part| part.chunks(piece));
        loop {
            let batch: Vec<&[u8]> = pieces.by_ref().take(threads).collect();
            if batch.is_empty() {
                return Ok(());
            }
            if from == to {
                batch.iter().try_for_each(|bytes| put(bytes))?;
                continue;
            }
            let converted: Vec<Result<Vec<u8>, String>> = std::thread::scope(|scope| {
                let started: Vec<_> =
                    batch.iter().map(|bytes| scope.spawn(|| requantize(bytes, from, to))).collect();
                let join = |t: std::thread::ScopedJoinHandle<'_, _>| {
                    t.join().unwrap_or_else(|_| Err("its thread ended early".to_owned()))
                };
                started.into_iter().map(join).collect()
            });
            for bytes in converted {
                put(&bytes.map_err(failed)?)?;
            }
        }
    }

    /// Which rows of the weight turn, when the checkpoint pairs halves where the family's GGUF files pair neighbours.
    fn turned_rows(&self, weight: &str) -> Option<TurnedRows> {
        match (self.config.rope.pairing, self.family.gguf_pairing) {
            (Pairing::Halves, Pairing::Adjacent) => TurnedRows::of(self.config, weight),
            _ => None,
        }
    }
}

fn requantize(bytes: &[u8], from: DType, to: DType) -> Result<Vec<u8>, String> {
    let elements = bytes.len() / from.block_bytes() * from.block_len();
    let mut numbers = vec![0.0; elements];
    autarky_quant::dequantize(from, bytes, &mut numbers).map_err(|e| e.to_string())?;
    let length = to.bytes(elements).ok_or_else(|| format!("{elements} numbers are not whole {to} blocks"))?;
    let mut out = vec![0; length];
    autarky_quant::quantize(to, &numbers, &mut out).map_err(|e| e.to_string())?;
    Ok(out)
}

/// The type with more bits.
fn finer(a: DType, b: DType) -> DType {
    if a.bits_per_element() < b.bits_per_element() { b } else { a }
}

/// The wanted type, or where rows are not whole blocks of it, the smallest plain one above it that they are.
fn fitting(wanted: DType, row: usize) -> DType {
    let candidates = [wanted, DType::Q8_0, DType::F16];
    candidates.into_iter().find(|d| row.is_multiple_of(d.block_len())).unwrap_or(DType::F16)
}

/// llama.cpp's number (`llama_ftype`) for the type that most bytes have.
fn file_type(tasks: &[Task]) -> u32 {
    let bytes = |dtype: DType| -> usize {
        let of = tasks.iter().filter(|t| t.spec.dtype == dtype);
        of.filter_map(|t| dtype.bytes(t.spec.shape.iter().product())).sum()
    };
    match DType::ALL.into_iter().max_by_key(|d| bytes(*d)).unwrap_or(DType::F32) {
        DType::F32 => 0,
        DType::F16 => 1,
        DType::Q4_0 => 2,
        DType::Q4_1 => 3,
        DType::Q8_0 => 7,
        DType::Q5_0 => 8,
        DType::Q5_1 => 9,
        DType::Q2_K => 10,
        DType::Q3_K => 12,
        DType::Q4_K => 15,
        DType::Q5_K => 17,
        DType::Q6_K => 18,
        DType::IQ4_NL => 25,
        DType::IQ4_XS => 30,
        DType::BF16 => 32,
        DType::MXFP4 => 38,
    }
}
