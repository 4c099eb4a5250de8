//! The model of a run: one that there is, or a new one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use autarky_family::{Config as Sizes, FamilyError, Model, Outline, config_object, outline_of};
use autarky_format::Source;
use autarky_graph::{Graph, Tensor, WeightError, WeightSpec, Weights};
use autarky_text::{Spec, Tokenizer, TokenizerError};
use serde_json::{Map, Value as Json};
use thiserror::Error;

use crate::adapter::{Adapter, is_update};
use crate::config::{AdapterConfig, Config, ModelConfig};
use crate::dora::Stored;
use crate::initial::Initial;
use crate::plan;
use crate::scale;
use crate::trainer::Precision;

/// Why there is no model to train.
#[derive(Debug, Error)]
pub enum SubjectError {
    /// The model or its configuration is not one.
    #[error(transparent)]
    Family(#[from] FamilyError),
    /// The tokenizer of a model cannot be used.
    #[error("cannot use the tokenizer of {path}: {source}")]
    Tokenizer {
        /// Whose.
        path: PathBuf,
        /// Why not.
        source: TokenizerError,
    },
    /// A file cannot be read.
    #[error("cannot read {path}: {problem}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// The model has none of the products that an adapter is to be beside.
    #[error("adapter.targets: the model has none of these; it has {0}")]
    Targets(String),
    /// A configuration has fewer tokens than the tokenizer.
    #[error(
        "{path} has a vocabulary of {model} tokens, the tokenizer {tokenizer}: it needs at least as many"
    )]
    Vocabulary {
        /// The configuration.
        path: PathBuf,
        /// Its `vocab_size`.
        model: usize,
        /// The tokenizer's.
        tokenizer: usize,
    },
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject").field("sizes", &self.sizes).finish_non_exhaustive()
    }
}

/// A model to train: what it computes, the weights that it begins with, and its tokenizer.
pub struct Subject {
    /// The sizes.
    pub sizes: Sizes,
    /// Tokens of the rows that it learns from.
    pub context: usize,
    /// What is trained: with the adapter, where there is one.
    pub graph: Arc<Graph>,
    /// What is trained in the model's stead.
    pub adapter: Option<Adapter>,
    /// What the model is called, where there was one.
    pub name: String,
    /// Its `config.json`, unless it is from a GGUF file.
    pub object: Option<Map<String, Json>>,
    /// Its tokenizer, and what that is made of.
    pub tokenizer: Tokenizer,
    /// What the tokenizer is made of.
    pub spec: Spec,
    weights: Begin,
}

enum Begin {
    Opened(Opened),
    Initial(Initial),
}

/// The weights of a model that there is.
#[derive(Clone)]
struct Opened(Arc<Model>);

impl Opened {
    /// The bytes of its weights as they are stored.
    fn bytes(&self) -> u64 {
        self.0.dtypes().iter().map(|t| t.bytes).sum()
    }
}

impl Weights for Opened {
    fn get(&self, name: &str) -> Result<Tensor<'_>, WeightError> {
        self.0.weights().get(name)
    }

    fn release(&self, name: &str) {
        self.0.weights().release(name);
    }
}

/// What the tokenizer of a GGUF file or a Hugging Face folder is made of.
///
/// # Errors
/// When there is none that can be used.
pub fn tokenizer_of(path: &Path) -> Result<Spec, SubjectError> {
    let cannot = |source| SubjectError::Tokenizer { path: path.to_owned(), source };
    if path.is_dir() {
        return Spec::from_hugging_face(path).map_err(cannot);
    }
    let source = Source::open(path).map_err(FamilyError::from)?;
    match source.metadata() {
        Some(metadata) => Spec::from_gguf(metadata).map_err(cannot),
        None => Spec::from_hugging_face(path.parent().unwrap_or(path)).map_err(cannot),
    }
}

/// The tokenizer of a model with the chat template that the run asks for.
///
/// # Errors
/// When the template's file cannot be read.
pub fn with_template(spec: Spec, config: &ModelConfig) -> Result<Spec, SubjectError> {
    let Some(path) = &config.chat_template else { return Ok(spec) };
    let text = fs::read_to_string(path);
    let text = text.map_err(|e| SubjectError::Read { path: path.clone(), problem: e.to_string() })?;
    Ok(Spec { chat_template: Some(text), ..spec })
}

impl Subject {
    /// The model that a configuration asks for, with a tokenizer.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn open(run: &Config, spec: Spec) -> Result<Subject, SubjectError> {
        let config = &run.model;
        let of = config.from.clone().or(config.tokenizer.clone()).unwrap_or_default();
        let tokenizer =
            Tokenizer::new(&spec).map_err(|source| SubjectError::Tokenizer { path: of, source })?;
        let vocabulary = tokenizer.vocab_size();
        if let Some(path) = &config.from {
            let model = Model::open(path)?;
            let object = match model.source() {
                Source::Gguf(_) => None,
                _ => Some(config_object(path)?.1),
            };
            let (sizes, graph) = (model.config().clone(), Arc::clone(model.graph()));
            let weights = Begin::Opened(Opened(Arc::new(model)));
            let name = path.display().to_string();
            let context = plan::context(run, Some(sizes.context));
            return Ok(Subject {
                sizes,
                context,
                graph,
                adapter: None,
                name,
                object,
                tokenizer,
                spec,
                weights,
            });
        }
        let context = plan::context(run, None);
        let (path, object) = match (&config.config, config.depth) {
            (Some(path), _) => {
                let (path, mut object) = config_object(path)?;
                let model = object.get("vocab_size").and_then(Json::as_u64).unwrap_or(0) as usize;
                if model < vocabulary {
                    return Err(SubjectError::Vocabulary { path, model, tokenizer: vocabulary });
                }
                object.remove("quantization_config");
                (path, object)
            }
            (None, depth) => {
                let family = config.family.as_deref().unwrap_or("llama");
                (PathBuf::from("model.depth"), scale::shape(family, depth.unwrap_or(1), vocabulary, context))
            }
        };
        let Outline { config: sizes, graph } = outline_of(&path, &object)?;
        let weights = Begin::Initial(Initial::new(&graph, sizes.layers, sizes.width, run.seed));
        let (graph, object) = (Arc::new(graph), Some(object));
        Ok(Subject {
            sizes,
            context,
            graph,
            adapter: None,
            name: String::new(),
            object,
            tokenizer,
            spec,
            weights,
        })
    }

    /// The same model with an adapter that is trained in its stead.
    ///
    /// # Errors
    /// When the model has none of the products that it is to be beside.
    pub fn with_adapter(mut self, config: &AdapterConfig, seed: u64) -> Result<Subject, SubjectError> {
        let adapter = Adapter::new(config, Arc::clone(&self.graph), seed).map_err(SubjectError::Targets)?;
        self.graph = Arc::clone(&adapter.graph);
        self.adapter = Some(adapter);
        Ok(self)
    }

    /// Parameters that are trained.
    pub fn trained(&self) -> u64 {
        let of = |graph: &Graph| graph.parameters();
        self.adapter.as_ref().map_or(of(&self.graph), |a| of(&a.graph) - of(&a.base))
    }

    /// The weights that are trained.
    pub(crate) fn trained_weights(&self) -> impl Iterator<Item = &WeightSpec> {
        self.graph.weights().iter().filter(|spec| self.adapter.is_none() || is_update(spec))
    }

    /// Bytes that training takes at least: of weights that are trained their 32-bit numbers, gradients and running means, with
    /// one of the weights themselves if `averaged`, and of the others what the program reads forward and back.
    pub fn least_memory(&self, precision: Precision, averaged: bool) -> u64 {
        let packed = precision.bytes();
        let (all, trained) = (self.graph.parameters(), self.trained());
        let frozen = match &self.weights {
            // Their own types forward, BF16 back.
            Begin::Opened(model) if self.adapter.is_some() => model.bytes() + 2 * (all - trained),
            _ => 2 * packed * (all - trained),
        };
        let kept = if averaged { 20 } else { 16 };
        frozen + kept * trained
    }

    /// The bytes of the model's weights in a program that only runs it.
    pub(crate) fn weight_bytes(&self, precision: Precision) -> u64 {
        let packed = precision.bytes() * self.graph.parameters();
        match &self.weights {
            Begin::Opened(model) if self.adapter.is_some() => packed.min(model.bytes()),
            _ => packed,
        }
    }

    /// The weights of a model that there is, where threads may read them.
    pub(crate) fn stored(&self) -> Option<Stored> {
        match &self.weights {
            Begin::Opened(model) => Some(Arc::new(model.clone())),
            Begin::Initial(_) => None,
        }
    }

    /// The weights of the model, as it begins.
    pub fn weights(&self) -> &dyn Weights {
        match &self.weights {
            Begin::Opened(model) => model,
            Begin::Initial(initial) => initial,
        }
    }
}
