//! Writing models as Hugging Face folders, which transformers and this crate read.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use autarky_format::TensorSpec;
use autarky_format::gguf::Metadata;
use autarky_format::safetensors::{SafeDType, ShardedWriter, Writer};
use autarky_graph::{Graph, Pairing, Tensor, Weights, device::fetch};
use half::bf16;
use serde_json::{Map, Value as Json};

use crate::binding::Binding;
use crate::config::Config;
use crate::error::FamilyError;
use crate::families;
use crate::names;
use crate::turned::TurnedRows;

/// As large as transformers makes a file.
const SHARD: u64 = 5_000_000_000;

/// How numbers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numbers {
    /// 32-bit floats.
    F32,
    /// BF16.
    #[default]
    Bf16,
}

/// Writes a model whose weights are not those of a file, such as one in training, into a folder: `config.json`, which is
/// `object` with the type of the numbers, and `model.safetensors` or shards of it.
///
/// # Errors
/// For models whose tensors are laid out otherwise in such folders (multi-head latent attention), and files that cannot
/// be written.
pub fn export_weights(
    config: &Config,
    object: &Map<String, Json>,
    graph: &Graph,
    weights: &dyn Weights,
    folder: &Path,
    numbers: Numbers,
) -> Result<(), FamilyError> {
    let family = families::of(config);
    let mut parts = Vec::new();
    for spec in graph.weights() {
        let (names, shape) = match names::hugging_face(family, config, None, &spec.name) {
            Binding::Tensor(name) => (vec![name], &spec.shape[..]),
            Binding::Stack(names) => (names, spec.shape.get(1..).unwrap_or_default()),
            Binding::Rows { .. } | Binding::Transposed(_) => {
                return Err(FamilyError::Unsupported {
                    file: folder.to_owned(),
                    what: format!("weight {} in a Hugging Face folder", spec.name),
                    advice: "write it as GGUF".to_owned(),
                });
            }
        };
        parts.push((spec, names, shape));
    }
    let dtype = match numbers {
        Numbers::F32 => SafeDType::F32,
        Numbers::Bf16 => SafeDType::BF16,
    };
    let spec_of = |name: &String, shape: &[usize]| TensorSpec::new(name.clone(), dtype, shape);
    let specs: Vec<_> =
        parts.iter().flat_map(|(_, names, shape)| names.iter().map(move |n| spec_of(n, shape))).collect();
    fs::create_dir_all(folder).map_err(|e| unwritten(folder, e))?;
    let mut object = object.clone();
    let name = if numbers == Numbers::F32 { "float32" } else { "bfloat16" };
    object.insert("torch_dtype".to_owned(), name.into());
    let path = folder.join("config.json");
    let text = serde_json::to_string_pretty(&object).unwrap_or_default();
    fs::write(&path, text + "\n").map_err(|e| unwritten(&path, e))?;
    let mut file = ShardedWriter::create(folder, &[("format", "pt")], &specs, SHARD)?;
    for (spec, names, _) in &parts {
        let tensor = fetch(weights, &spec.name, &spec.shape)?;
        let all = in_halves(config, tensor, &spec.name)?.to_f32(&spec.name)?;
        for (name, piece) in names.iter().zip(all.chunks((all.len() / names.len().max(1)).max(1))) {
            let bytes: Cow<'_, [u8]> = match numbers {
                Numbers::F32 => piece.iter().flat_map(|x| x.to_le_bytes()).collect(),
                Numbers::Bf16 => piece.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
            };
            file.append(name, &bytes)?;
        }
    }
    Ok(file.finish()?)
}

/// A weight whose rows pair halves, as such folders have it.
fn in_halves<'a>(config: &Config, tensor: Tensor<'a>, weight: &str) -> Result<Tensor<'a>, FamilyError> {
    let turned = TurnedRows::of(config, weight).filter(|_| config.rope.pairing == Pairing::Adjacent);
    match turned {
        Some(rows) => Ok(rows.to_halves(tensor, weight)?),
        None => Ok(tensor),
    }
}

fn unwritten(path: &Path, error: std::io::Error) -> FamilyError {
    FamilyError::Config { file: path.to_owned(), problem: format!("it cannot be written: {error}") }
}

/// What ends the name of DoRA's magnitudes in PEFT's files, behind the module's.
pub(crate) const PEFT_MAGNITUDE: &str = "lora_magnitude_vector";

/// A low-rank update of a weight, as [`autarky_graph::adapt`] has it.
#[derive(Clone, Debug)]
pub struct Update {
    /// The weight that it is of.
    pub weight: String,
    /// A: `[rank, in]`.
    pub down: Vec<f32>,
    /// B: `[out, rank]`.
    pub up: Vec<f32>,
    /// m of DoRA: `[out]`; empty where rows have no lengths of their own.
    pub magnitude: Vec<f32>,
}

/// What an adapter is, beside its updates.
#[derive(Clone, Debug)]
pub struct AdapterSpec {
    /// Rows of A.
    pub rank: usize,
    /// α.
    pub alpha: f32,
    /// Whether updates are multiplied by α / √rank and not by α / rank.
    pub rank_stabilized: bool,
    /// What the model is called that it is for.
    pub base: String,
}

/// Writes the updates of a model's weights into a folder as PEFT does: `adapter_config.json` and
/// `adapter_model.safetensors`, in 32-bit floats.
///
/// # Errors
/// For weights that such folders keep otherwise, and files that cannot be written.
pub fn export_adapter(
    config: &Config,
    adapter: &AdapterSpec,
    updates: &[Update],
    folder: &Path,
) -> Result<(), FamilyError> {
    let family = families::of(config);
    let mut modules = Vec::new();
    let mut parts = Vec::new();
    for update in updates {
        let Binding::Tensor(name) = names::hugging_face(family, config, None, &update.weight) else {
            return Err(FamilyError::Unsupported {
                file: folder.to_owned(),
                what: format!("an update of {} in PEFT's form", update.weight),
                advice: "leave it out of the adapter's targets".to_owned(),
            });
        };
        let module = name.strip_suffix(".weight").unwrap_or(&name).to_owned();
        modules.extend(module.rsplit('.').next().map(str::to_owned));
        let rank = adapter.rank.max(1);
        let up = Tensor::of_f32(&[update.up.len() / rank, rank], &update.up);
        let up = in_halves(config, up, &update.weight)?.to_f32(&update.weight)?;
        let magnitude = match update.magnitude.len() {
            0 => Vec::new(),
            n => {
                let rows = Tensor::of_f32(&[n], &update.magnitude);
                in_halves(config, rows, &update.weight)?.to_f32(&update.weight)?
            }
        };
        parts.push((format!("base_model.model.{module}"), &update.down, up, magnitude));
    }
    modules.sort_unstable();
    modules.dedup();
    let rank = adapter.rank.max(1);
    let specs: Vec<_> = parts
        .iter()
        .flat_map(|(name, down, up, magnitude)| {
            let spec =
                |end: &str, shape: &[usize]| TensorSpec::new(format!("{name}.{end}"), SafeDType::F32, shape);
            let both = [
                spec("lora_A.weight", &[rank, down.len() / rank]),
                spec("lora_B.weight", &[up.len() / rank, rank]),
            ];
            let third = (!magnitude.is_empty()).then(|| spec(PEFT_MAGNITUDE, &[magnitude.len()]));
            both.into_iter().chain(third)
        })
        .collect();
    fs::create_dir_all(folder).map_err(|e| unwritten(folder, e))?;
    let mut file = Writer::create(folder.join("adapter_model.safetensors"), &[("format", "pt")], &specs)?;
    for (name, down, up, magnitude) in &parts {
        let all = [("lora_A.weight", &down[..]), ("lora_B.weight", up), (PEFT_MAGNITUDE, magnitude)];
        for (end, numbers) in all.into_iter().filter(|(_, numbers)| !numbers.is_empty()) {
            let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
            file.append(&format!("{name}.{end}"), &bytes)?;
        }
    }
    file.finish()?;
    let about = serde_json::json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": adapter.base,
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "use_rslora": adapter.rank_stabilized,
        "use_dora": updates.iter().any(|update| !update.magnitude.is_empty()),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "target_modules": modules,
    });
    let path = folder.join("adapter_config.json");
    fs::write(&path, format!("{about:#}\n")).map_err(|e| unwritten(&path, e))
}

/// Writes the same as a GGUF file that llama.cpp applies to the model's GGUF file, in 32-bit floats.
///
/// # Errors
/// For DoRA, which such files cannot say, and files that cannot be written.
pub fn export_adapter_gguf(
    config: &Config,
    adapter: &AdapterSpec,
    updates: &[Update],
    out: &Path,
) -> Result<(), FamilyError> {
    if updates.iter().any(|update| !update.magnitude.is_empty()) {
        return Err(FamilyError::Unsupported {
            file: out.to_owned(),
            what: "the magnitudes of DoRA in llama.cpp's form of an adapter".to_owned(),
            advice: "use PEFT's folder, or the model with the adapter in it".to_owned(),
        });
    }
    let family = families::of(config);
    let rank = adapter.rank.max(1);
    // llama.cpp multiplies by alpha / rank.
    let alpha = if adapter.rank_stabilized { adapter.alpha * (rank as f32).sqrt() } else { adapter.alpha };
    let mut metadata = Metadata::new();
    metadata.insert("general.type", "adapter");
    metadata.insert("general.architecture", family.architecture);
    metadata.insert("adapter.type", "lora");
    metadata.insert("adapter.lora.alpha", alpha);
    let turned = (config.rope.pairing, family.gguf_pairing) == (Pairing::Halves, Pairing::Adjacent);
    let dtype = autarky_quant::DType::F32;
    let specs: Vec<_> = updates
        .iter()
        .flat_map(|u| {
            [
                TensorSpec::new(format!("{}.lora_a", u.weight), dtype, [rank, u.down.len() / rank]),
                TensorSpec::new(format!("{}.lora_b", u.weight), dtype, [u.up.len() / rank, rank]),
            ]
        })
        .collect();
    let mut file = autarky_format::gguf::Writer::create(out, &metadata, &specs)?;
    let bytes = |numbers: &[f32]| -> Vec<u8> { numbers.iter().flat_map(|x| x.to_le_bytes()).collect() };
    for update in updates {
        let weight = &update.weight;
        file.append(&format!("{weight}.lora_a"), &bytes(&update.down))?;
        let mut up = Tensor::of_f32(&[update.up.len() / rank, rank], &update.up);
        if let Some(rows) = TurnedRows::of(config, weight).filter(|_| turned) {
            up = rows.to_neighbours(up, weight)?;
        }
        for part in &up.parts {
            file.append(&format!("{weight}.lora_b"), part)?;
        }
    }
    Ok(file.finish()?)
}
