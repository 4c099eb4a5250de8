//! The result of a run, in the forms that others read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use autarky_family::convert::Options;
use autarky_family::{
    AdapterSpec, FamilyError, Numbers, Update, convert_weights, export_adapter, export_adapter_gguf,
    export_weights,
};
use autarky_format::gguf::Metadata;
use autarky_graph::adapt::{DOWN, MAGNITUDE, UP};
use autarky_graph::{Graph, Tensor, WeightError, Weights};
use autarky_quant::DType;
use autarky_text::TokenizerError;
use thiserror::Error;

use crate::adapter::Adapter;
use crate::subject::Subject;
use crate::trainer::{Precision, Trainer};

/// Why the result cannot be written.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The model.
    #[error(transparent)]
    Family(#[from] FamilyError),
    /// Its tokenizer.
    #[error("cannot write the tokenizer: {0}")]
    Tokenizer(#[from] TokenizerError),
    /// What an earlier run left cannot be removed, or a folder cannot be made.
    #[error("cannot replace {path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// Writes `model.gguf` into a folder and, where the model has a `config.json`, the Hugging Face folder `model` with its
/// tokenizer. Numbers are BF16 where the model was trained with them. Of an adapter its own files come first, `adapter` in
/// PEFT's form and, unless it is DoRA, `adapter.gguf`; the model is written with the updates in it, if that is asked for.
///
/// # Errors
/// When they cannot be written.
pub fn write(
    subject: &Subject,
    trainer: Trainer,
    precision: Precision,
    folder: &Path,
) -> Result<Vec<PathBuf>, ExportError> {
    let Some(adapter) = &subject.adapter else {
        return model(subject, &subject.graph, &trainer, precision, folder);
    };
    // What a trainer holds beside them may be most of the memory: it is let go.
    let updates = Updates::of(trainer.into_numbers());
    let mut written = updates.write(subject, adapter, folder)?;
    if adapter.config.merge {
        let merged = adapter.merged(subject.weights(), &updates);
        written.extend(model(subject, &adapter.base, &merged, precision, folder)?);
    }
    Ok(written)
}

/// Writes what a server loads of a model in training, as it is now: `model.gguf`, or of an adapter the folder `adapter`. Either
/// takes the place of the one before it when it is whole.
///
/// # Errors
/// When it cannot be written.
pub fn write_present(
    subject: &Subject,
    trainer: &Trainer,
    precision: Precision,
    folder: &Path,
) -> Result<(), ExportError> {
    match &subject.adapter {
        None => gguf(subject, &subject.graph, trainer, precision, folder).map(|_| ()),
        Some(adapter) => {
            let numbers = trainer.numbers().map(|(name, numbers)| (name.to_owned(), numbers.to_vec()));
            Updates::of(numbers).write_peft(subject, adapter, folder).map(|_| ())
        }
    }
}

/// The updates of an adapter by themselves.
struct Updates(Vec<Update>);

impl Updates {
    /// Those that are among numbers with the names of weights.
    fn of(numbers: impl IntoIterator<Item = (String, Vec<f32>)>) -> Updates {
        let mut numbers: BTreeMap<String, Vec<f32>> = numbers.into_iter().collect();
        let weights: Vec<String> =
            numbers.keys().filter_map(|name| name.strip_suffix(DOWN).map(str::to_owned)).collect();
        let mut take = |name: String| numbers.remove(&name).unwrap_or_default();
        let update = |weight: String| {
            let [down, up, magnitude] = [DOWN, UP, MAGNITUDE].map(|end| take(format!("{weight}{end}")));
            Update { weight, down, up, magnitude }
        };
        Updates(weights.into_iter().map(update).collect())
    }

    fn write(
        &self,
        subject: &Subject,
        adapter: &Adapter,
        folder: &Path,
    ) -> Result<Vec<PathBuf>, ExportError> {
        let peft = self.write_peft(subject, adapter, folder)?;
        if adapter.config.dora {
            // llama.cpp's form has no place for magnitudes.
            return Ok(vec![peft]);
        }
        let gguf = folder.join("adapter.gguf");
        export_adapter_gguf(&subject.sizes, &spec_of(subject, adapter), &self.0, &gguf)?;
        Ok(vec![peft, gguf])
    }

    /// Writes PEFT's folder beside its name, and gives it its name.
    fn write_peft(
        &self,
        subject: &Subject,
        adapter: &Adapter,
        folder: &Path,
    ) -> Result<PathBuf, ExportError> {
        let (path, beside) = (folder.join("adapter"), folder.join(".adapter.partial"));
        remove(&beside)?;
        export_adapter(&subject.sizes, &spec_of(subject, adapter), &self.0, &beside)?;
        remove(&path)?;
        std::fs::rename(&beside, &path).map_err(|source| ExportError::Io { path: path.clone(), source })?;
        Ok(path)
    }
}

fn spec_of(subject: &Subject, adapter: &Adapter) -> AdapterSpec {
    let config = &adapter.config;
    AdapterSpec {
        rank: config.rank,
        alpha: config.alpha(),
        rank_stabilized: config.rank_stabilized,
        base: subject.name.clone(),
    }
}

/// Removes a folder, if it is there.
fn remove(path: &Path) -> Result<(), ExportError> {
    let removed = if path.exists() { std::fs::remove_dir_all(path) } else { Ok(()) };
    removed.map_err(|source| ExportError::Io { path: path.to_owned(), source })
}

impl Weights for Updates {
    fn get(&self, name: &str) -> Result<Tensor<'_>, WeightError> {
        let of = |update: &Update| {
            let numbers = match name.strip_prefix(&update.weight)? {
                DOWN => &update.down,
                UP => &update.up,
                MAGNITUDE => &update.magnitude,
                _ => return None,
            };
            Some(Tensor::of_f32(&[numbers.len()], numbers))
        };
        self.0.iter().find_map(of).ok_or_else(|| WeightError::Missing {
            name: name.to_owned(),
            hint: "the adapter has no such update".to_owned(),
        })
    }
}

fn model(
    subject: &Subject,
    graph: &Graph,
    weights: &dyn Weights,
    precision: Precision,
    folder: &Path,
) -> Result<Vec<PathBuf>, ExportError> {
    let numbers = match precision {
        Precision::F32 => Numbers::F32,
        Precision::Bf16 | Precision::Int8 => Numbers::Bf16,
    };
    let mut written = Vec::new();
    if let Some(object) = &subject.object {
        let path = folder.join("model");
        remove(&path)?;
        export_weights(&subject.sizes, object, graph, weights, &path, numbers)?;
        // Kinds of tokenizers that such files cannot say come with the GGUF file alone.
        let _ = subject.spec.to_hugging_face(&path);
        written.push(path);
    }
    written.push(gguf(subject, graph, weights, precision, folder)?);
    Ok(written)
}

fn gguf(
    subject: &Subject,
    graph: &Graph,
    weights: &dyn Weights,
    precision: Precision,
    folder: &Path,
) -> Result<PathBuf, ExportError> {
    let dtype = match precision {
        Precision::F32 => DType::F32,
        Precision::Bf16 | Precision::Int8 => DType::BF16,
    };
    let path = folder.join("model.gguf");
    let mut metadata = Metadata::new();
    subject.spec.to_gguf(&mut metadata)?;
    let options = Options { dtype: Some(dtype), output: Some(dtype), metadata, ..Options::default() };
    convert_weights(&subject.sizes, graph, weights, &path, &options)?;
    Ok(path)
}
