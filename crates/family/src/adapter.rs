//! Adapters beside a model: low-rank updates (LoRA; Hu et al. 2021, arXiv:2106.09685) from the files of PEFT and of llama.cpp,
//! and DoRA (Liu et al. 2024, arXiv:2402.09353) from those of PEFT.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use autarky_format::{Source, safetensors};
use autarky_graph::adapt::{self, DOWN, MAGNITUDE, UP, adapted, factor, row_norms};
use autarky_graph::{Pairing, Tensor};
use serde::Deserialize;

use crate::binding::Binding;
use crate::error::FamilyError;
use crate::export::PEFT_MAGNITUDE;
use crate::model::Model;
use crate::names;
use crate::turned::TurnedRows;

/// What `adapter_config.json` says, as far as it changes what is computed.
#[derive(Deserialize)]
struct Peft {
    peft_type: String,
    r: usize,
    lora_alpha: f32,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    bias: Option<String>,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
    #[serde(default)]
    rank_pattern: BTreeMap<String, usize>,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, f32>,
}

impl Peft {
    fn read(folder: &Path) -> Result<Peft, FamilyError> {
        let file = folder.join("adapter_config.json");
        let text = fs::read(&file).map_err(|e| FamilyError::Config {
            file: file.clone(),
            problem: format!("{e}: an adapter of PEFT is a folder with this file"),
        })?;
        let peft: Peft = serde_json::from_slice(&text)
            .map_err(|e| FamilyError::Json { file: file.clone(), problem: e.to_string() })?;
        let other = [
            (peft.peft_type != "LORA", format!("an adapter of the kind {:?}", peft.peft_type)),
            (peft.fan_in_fan_out, "fan_in_fan_out".to_owned()),
            (peft.bias.as_ref().is_some_and(|b| b != "none"), "an adapter with biases".to_owned()),
            (
                peft.modules_to_save.as_ref().is_some_and(|m| !m.is_empty()),
                "an adapter with whole modules".to_owned(),
            ),
            (!peft.rank_pattern.is_empty() || !peft.alpha_pattern.is_empty(), "ranks by pattern".to_owned()),
        ];
        match other.into_iter().find(|(is, _)| *is) {
            Some((_, what)) => Err(unsupported(&file, what)),
            None => Ok(peft),
        }
    }
}

fn unsupported(file: &Path, what: String) -> FamilyError {
    let advice = "merge it into the model where it was made, and convert that".to_owned();
    FamilyError::Unsupported { file: file.to_owned(), what, advice }
}

impl Model {
    /// The model with an adapter beside its weights, which stay as they are, of whatever type: a folder that PEFT wrote, or a
    /// GGUF file as llama.cpp applies it.
    ///
    /// # Errors
    /// For files that cannot be read, are of another family or other sizes, or have in them what is no low-rank update of a
    /// product of the layers.
    pub fn with_adapter(self, path: impl AsRef<Path>) -> Result<Model, FamilyError> {
        let path = path.as_ref();
        let peft = path.is_dir().then(|| Peft::read(path)).transpose()?;
        let source = match &peft {
            Some(_) => Source::SafeTensors(safetensors::File::open(path.join("adapter_model.safetensors"))?),
            None => Source::open(path)?,
        };
        let dora = peft.as_ref().is_some_and(|peft| peft.use_dora);
        let family = self.description();
        let name_of = |weight: &str| match &peft {
            None => Some([DOWN, UP].map(|end| format!("{weight}{end}"))),
            Some(_) => match names::hugging_face(family, self.config(), None, weight) {
                Binding::Tensor(name) => {
                    let module = name.strip_suffix(".weight").unwrap_or(&name);
                    Some(
                        ["lora_A.weight", "lora_B.weight"]
                            .map(|end| format!("base_model.model.{module}.{end}")),
                    )
                }
                _ => None,
            },
        };
        let mut left: BTreeSet<&str> = source.names().collect();
        let mut updates = BTreeMap::new();
        let mut rank = None;
        for spec in self.graph().weights() {
            let &[rows, columns] = &spec.shape[..] else { continue };
            let Some([down, up]) = name_of(&spec.name).filter(|names| left.contains(&*names[0])) else {
                continue;
            };
            left.remove(&*down);
            left.remove(&*up);
            let read = |name: &str, shape: &[usize]| -> Result<Tensor<'static>, FamilyError> {
                let view = source.require(name)?;
                if view.shape != shape {
                    let (file, tensor, found) = (path.to_owned(), name.to_owned(), view.shape.to_vec());
                    return Err(FamilyError::TensorShape { file, tensor, found, expected: shape.to_vec() });
                }
                let (dtype, shape) = (view.dtype, shape.to_vec());
                Ok(Tensor { dtype, shape, parts: vec![Cow::Owned(view.data.to_vec())] })
            };
            let own = source.require(&down)?.shape.first().copied().unwrap_or(0);
            if own == 0 || *rank.get_or_insert(own) != own {
                return Err(unsupported(path, "an adapter of several ranks".to_owned()));
            }
            let (a, b) = (read(&down, &[own, columns])?, read(&up, &[rows, own])?);
            // Rows of queries and keys are in the order of the adapter's file, and the model's may be in another.
            let pairing = if peft.is_some() { Pairing::Halves } else { family.gguf_pairing };
            let turned = TurnedRows::of(self.config(), &spec.name);
            let turn = |x: Tensor<'static>| match (&turned, pairing, self.config().rope.pairing) {
                (Some(rows), Pairing::Halves, Pairing::Adjacent) => rows.to_neighbours(x, &spec.name),
                (Some(rows), Pairing::Adjacent, Pairing::Halves) => rows.to_halves(x, &spec.name),
                _ => Ok(x),
            };
            let b = turn(b)?;
            let mut magnitude = None;
            if dora {
                let name = down.replace("lora_A.weight", PEFT_MAGNITUDE);
                left.remove(&*name);
                magnitude = Some(turn(read(&name, &[rows])?)?);
            }
            updates.insert(spec.name.clone(), (a, b, magnitude));
        }
        let scale = scale(path, peft.as_ref(), &source, family.architecture, rank.unwrap_or(1))?;
        let form = adapt::Updates { rank: rank.unwrap_or(1), scale, dora };
        let graph = adapted(self.graph(), |spec| updates.contains_key(&spec.name), form);
        let beside = |weight: &str| graph.weights().iter().any(|s| s.name.strip_suffix(DOWN) == Some(weight));
        let placeless = updates.keys().find(|weight| !beside(weight)).map(String::as_str);
        if let Some(tensor) = placeless.or(left.into_iter().next()) {
            let (file, tensor) = (path.to_owned(), tensor.to_owned());
            return Err(FamilyError::UnexpectedTensor { file, tensor, family: family.name });
        }
        if updates.is_empty() {
            return Err(unsupported(path, "an adapter without updates".to_owned()));
        }
        let mut tensors = HashMap::new();
        for (weight, (a, b, magnitude)) in updates {
            if let Some(m) = magnitude {
                let both = (&a.to_f32(&weight)?[..], &b.to_f32(&weight)?[..]);
                let norms = row_norms(&self.weights().get(&weight)?, &weight, both, scale)?;
                let factors: Vec<f32> =
                    m.to_f32(&weight)?.iter().zip(&norms).map(|(&m, &norm)| factor(m, norm)).collect();
                tensors.insert(format!("{weight}{MAGNITUDE}"), Tensor::of_f32(&[factors.len()], &factors));
            }
            tensors.insert(format!("{weight}{DOWN}"), a);
            tensors.insert(format!("{weight}{UP}"), b);
        }
        Ok(self.adapted(Arc::new(graph), tensors))
    }
}

/// What updates of a rank are multiplied by.
fn scale(
    path: &Path,
    peft: Option<&Peft>,
    source: &Source,
    architecture: &str,
    rank: usize,
) -> Result<f32, FamilyError> {
    if let Some(peft) = peft {
        let rank = peft.r.max(1) as f32;
        return Ok(peft.lora_alpha / if peft.use_rslora { rank.sqrt() } else { rank });
    }
    let Some(metadata) = source.metadata() else {
        return Err(unsupported(path, "an adapter outside of PEFT's folder".to_owned()));
    };
    let asked =
        [("general.type", "adapter"), ("adapter.type", "lora"), ("general.architecture", architecture)];
    for (key, expected) in asked {
        let found = metadata.get_str(key)?;
        if found != expected {
            let (file, field) = (path.to_owned(), key.to_owned());
            let (found, expected) = (format!("{found:?}"), format!("{expected:?}"));
            return Err(FamilyError::Field { file, field, found, expected });
        }
    }
    match metadata.get_f32("adapter.lora.alpha")? {
        // As llama.cpp takes it.
        0.0 => Ok(1.0),
        alpha => Ok(alpha / rank as f32),
    }
}
