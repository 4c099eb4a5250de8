//! Writing models as Hugging Face folders, which transformers and this crate read.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use autarky_format::TensorSpec;
use autarky_format::safetensors::{SafeDType, ShardedWriter};
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
    let io = |path: &Path, e: std::io::Error| FamilyError::Config {
        file: path.to_owned(),
        problem: format!("it cannot be written: {e}"),
    };
    fs::create_dir_all(folder).map_err(|e| io(folder, e))?;
    let mut object = object.clone();
    let name = if numbers == Numbers::F32 { "float32" } else { "bfloat16" };
    object.insert("torch_dtype".to_owned(), name.into());
    let path = folder.join("config.json");
    let text = serde_json::to_string_pretty(&object).unwrap_or_default();
    fs::write(&path, text + "\n").map_err(|e| io(&path, e))?;
    let mut file = ShardedWriter::create(folder, &[("format", "pt")], &specs, SHARD)?;
    for (spec, names, _) in &parts {
        let mut tensor: Tensor<'_> = fetch(weights, &spec.name, &spec.shape)?;
        if let Some(rows) =
            TurnedRows::of(config, &spec.name).filter(|_| config.rope.pairing == Pairing::Adjacent)
        {
            tensor = rows.to_halves(tensor, &spec.name)?;
        }
        let all = tensor.to_f32(&spec.name)?;
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
