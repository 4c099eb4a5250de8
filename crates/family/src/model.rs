//! An opened model: a family's graph with a checkpoint's weights.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use autarky_format::Source;
use autarky_graph::{Graph, Tensor, WeightError, Weights};
use autarky_quant::DType;
use serde_json::{Map, Value as Json};

use crate::binding::Binding;
use crate::config::Config;
use crate::error::FamilyError;
use crate::families::{self, FAMILIES, Family};
use crate::fields::Fields;
use crate::names;

/// The longest `config.json` that is read; real ones have a few KiB. A parsed value takes up to forty times its text.
const MAX_CONFIG_BYTES: u64 = 1 << 19;

/// A model: its graph, its configuration and its weights, which stay in the mapped file until a device asks for them.
pub struct Model {
    path: PathBuf,
    family: &'static Family,
    config: Config,
    graph: Arc<Graph>,
    checkpoint: Checkpoint,
    dtypes: Vec<TypeUse>,
    warnings: Vec<String>,
}

/// How much of a model is stored in one data type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeUse {
    /// The type.
    pub dtype: DType,
    /// Weights of it.
    pub weights: usize,
    /// Their numbers.
    pub elements: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A checkpoint's tensors under the graph's names.
struct Checkpoint {
    source: Source,
    bindings: HashMap<String, Bound>,
    /// What an adapter adds to them.
    updates: HashMap<String, Tensor<'static>>,
}

struct Bound {
    binding: Binding,
    shape: Vec<usize>,
}

impl Weights for Checkpoint {
    fn get(&self, name: &str) -> Result<Tensor<'_>, WeightError> {
        if let Some(update) = self.updates.get(name) {
            return Ok(update.clone());
        }
        let bound = self.bindings.get(name).ok_or_else(|| WeightError::Missing {
            name: name.to_owned(),
            hint: "the model's graph has no such weight".to_owned(),
        })?;
        bound.binding.read(&self.source, name, &bound.shape)
    }

    fn release(&self, name: &str) {
        if let Some(bound) = self.bindings.get(name) {
            bound.binding.release(&self.source);
        }
    }
}

impl Model {
    /// Opens a GGUF file, or a Hugging Face folder with `config.json` and safetensors.
    ///
    /// Nothing of the weights is read yet, but every tensor that the graph needs has been found, with the right shape
    /// and a type that can be computed with.
    ///
    /// # Errors
    /// For files that cannot be read, unknown families, configurations that make no sense, tensors that are missing,
    /// of another shape or type, and tensors that would change what the model says and have no place in the family.
    pub fn open(path: impl AsRef<Path>) -> Result<Model, FamilyError> {
        let path = path.as_ref();
        // A folder's configuration stands for the folder.
        let path = match path.file_name().is_some_and(|name| name == "config.json") {
            true => path.parent().unwrap_or(path),
            false => path,
        };
        let source = Source::open(path)?;
        let (family, config) = match &source {
            Source::Gguf(file) => from_gguf(path, &source, file.metadata())?,
            _ => from_folder(if path.is_dir() { path } else { path.parent().unwrap_or(path) })?,
        };
        Model::assemble(path, source, family, config)
    }

    fn assemble(
        path: &Path,
        source: Source,
        family: &'static Family,
        config: Config,
    ) -> Result<Model, FamilyError> {
        let graph =
            (family.graph)(&config).map_err(|source| FamilyError::Graph { file: path.to_owned(), source })?;
        let is_gguf = matches!(source, Source::Gguf(_));
        let mut bindings = HashMap::new();
        let mut dtypes: BTreeMap<DType, TypeUse> = BTreeMap::new();
        for spec in graph.weights() {
            let binding = match is_gguf {
                true => names::gguf(&config, &source, &spec.name),
                false => names::hugging_face(family, &config, Some(&source), &spec.name),
            };
            let dtype = binding.check(&source, path, &spec.shape)?;
            if spec.shape.len() == 1 && !dtype.is_float() {
                return Err(FamilyError::TensorType {
                    file: path.to_owned(),
                    tensor: binding.tensors().join(", "),
                    found: dtype.to_string(),
                    expected: "F32, F16 or BF16".to_owned(),
                });
            }
            let elements: usize = spec.shape.iter().product();
            let used = dtypes.entry(dtype).or_insert(TypeUse { dtype, weights: 0, elements: 0, bytes: 0 });
            used.weights += 1;
            used.elements += elements as u64;
            used.bytes += dtype.bytes(elements).unwrap_or(0) as u64;
            bindings.insert(spec.name.clone(), Bound { binding, shape: spec.shape.clone() });
        }
        let checkpoint = Checkpoint { source, bindings, updates: HashMap::new() };
        let warnings = checkpoint.left_over(path, family, &config)?;
        let mut dtypes: Vec<TypeUse> = dtypes.into_values().collect();
        dtypes.sort_by_key(|t| std::cmp::Reverse(t.bytes));
        Ok(Model {
            path: path.to_owned(),
            family,
            config,
            graph: Arc::new(graph),
            checkpoint,
            dtypes,
            warnings,
        })
    }

    /// The same checkpoint for a graph that has updates beside its weights.
    pub(crate) fn adapted(self, graph: Arc<Graph>, updates: HashMap<String, Tensor<'static>>) -> Model {
        let checkpoint = Checkpoint { updates, ..self.checkpoint };
        Model { graph, checkpoint, ..self }
    }

    /// What the model computes: tokens → logits `[outputs, vocabulary]`, its one output.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// The graph's weights.
    pub fn weights(&self) -> &(dyn Weights + Send + Sync) {
        &self.checkpoint
    }

    /// The family's name, such as `llama`.
    pub fn family(&self) -> &'static str {
        self.family.name
    }

    /// The family's description.
    pub(crate) fn description(&self) -> &'static Family {
        self.family
    }

    /// The model's sizes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The checkpoint's files, where a GGUF file's tokenizer is, too.
    pub fn source(&self) -> &Source {
        &self.checkpoint.source
    }

    /// The path that the model was opened by: a file, or a folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The length of all its tensor files in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.checkpoint.source.file_bytes()
    }

    /// Bytes of what an adapter adds to its weights.
    pub fn adapter_bytes(&self) -> u64 {
        self.checkpoint.updates.values().map(|update| update.bytes() as u64).sum()
    }

    /// The data types of its weights, an adapter's apart, the one with most bytes first.
    pub fn dtypes(&self) -> &[TypeUse] {
        &self.dtypes
    }

    /// Tensors of the checkpoint that the model does not use, one message each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("path", &self.path)
            .field("config", &self.config)
            .field("dtypes", &self.dtypes)
            .finish_non_exhaustive()
    }
}

// Devices and servers share a model between threads.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Model>();
};

/// The names of all known families.
pub fn known_families() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|f| f.name)
}

fn from_gguf(
    path: &Path,
    source: &Source,
    metadata: &autarky_format::gguf::Metadata,
) -> Result<(&'static Family, Config), FamilyError> {
    let architecture = metadata.get_str("general.architecture")?;
    let fields = Fields::gguf(path, metadata, architecture);
    let family = FAMILIES.iter().find(|f| f.architecture == architecture && (f.claims)(&fields));
    let family = family.ok_or_else(|| unknown(path, architecture))?;
    Ok((family, (family.from_gguf)(&fields, source)?))
}

fn from_folder(folder: &Path) -> Result<(&'static Family, Config), FamilyError> {
    let file = folder.join("config.json");
    from_object(&file, &read_object(&file)?)
}

/// The JSON object that a configuration is.
pub(crate) fn read_object(file: &Path) -> Result<Map<String, Json>, FamilyError> {
    let json = |problem: String| FamilyError::Json { file: file.to_owned(), problem };
    match serde_json::from_slice(&read_config(file)?) {
        Ok(Json::Object(object)) => Ok(object),
        Ok(_) => Err(json("it holds something else".to_owned())),
        Err(e) => Err(json(e.to_string())),
    }
}

/// The family and the sizes that a configuration tells of.
pub(crate) fn from_object(
    file: &Path,
    object: &Map<String, Json>,
) -> Result<(&'static Family, Config), FamilyError> {
    let fields = Fields::json(file, object);
    let kind = fields
        .text_opt("model_type")?
        .ok_or_else(|| fields.missing("model_type", format!("one of {}", model_types())))?;
    let family =
        FAMILIES.iter().find(|f| f.model_types.contains(&kind)).ok_or_else(|| unknown(file, kind))?;
    Ok((family, (family.from_hugging_face)(&fields)?))
}

/// The file's bytes, if it is a regular file of a length that a configuration has.
fn read_config(file: &Path) -> Result<Vec<u8>, FamilyError> {
    let problem = |problem: String| FamilyError::Config { file: file.to_owned(), problem };
    let about = fs::metadata(file).map_err(|e| problem(e.to_string()))?;
    if !about.is_file() || about.len() > MAX_CONFIG_BYTES {
        return Err(problem(format!("it is not a regular file of at most {MAX_CONFIG_BYTES} bytes")));
    }
    let mut bytes = Vec::new();
    let read = fs::File::open(file).and_then(|f| f.take(MAX_CONFIG_BYTES).read_to_end(&mut bytes));
    read.map_err(|e| problem(e.to_string()))?;
    Ok(bytes)
}

fn model_types() -> String {
    let types: Vec<&str> = FAMILIES.iter().flat_map(|f| f.model_types).copied().collect();
    types.join(", ")
}

fn unknown(file: &Path, found: &str) -> FamilyError {
    let found = found.chars().take(60).collect();
    FamilyError::UnknownFamily { file: file.to_owned(), found, known: families::known() }
}

impl Checkpoint {
    /// What is said of tensors that no weight uses.
    ///
    /// # Errors
    /// For one that would change the result: an unknown tensor of a layer, or a bias or norm around them.
    fn left_over(&self, path: &Path, family: &Family, config: &Config) -> Result<Vec<String>, FamilyError> {
        let used: HashSet<&str> = self.bindings.values().flat_map(|b| b.binding.tensors()).collect();
        let mut warnings = Vec::new();
        for name in self.source.names().filter(|name| !used.contains(name)) {
            match role(name, config) {
                Role::Known => {}
                Role::Idle => warnings.push(format!("tensor {name:?} is not used")),
                Role::Wanted => {
                    return Err(FamilyError::UnexpectedTensor {
                        file: path.to_owned(),
                        tensor: name.to_owned(),
                        family: family.name,
                    });
                }
            }
        }
        Ok(warnings)
    }
}

/// What an unused tensor is for.
enum Role {
    /// It says what the configuration says, too.
    Known,
    /// It plays no part in the model's text.
    Idle,
    /// The model would be wrong without it.
    Wanted,
}

fn role(name: &str, config: &Config) -> Role {
    // Frequencies and masks that old converters kept; tables that tied models keep twice; what attn_k_b and attn_v_b
    // say again.
    let said = ["rotary_emb.inv_freq", "attn_rot_embd.weight", "masked_bias", "attn_kv_b.weight"];
    if said.iter().any(|s| name.ends_with(s))
        || name == "rope_freqs.weight"
        || (config.tied && name == "lm_head.weight")
    {
        return Role::Known;
    }
    let layer = name.strip_prefix("blk.").or_else(|| name.strip_prefix("model.layers."));
    if let Some((layer, _)) = layer.and_then(|rest| rest.split_once('.')) {
        // Layers beyond the last predict further tokens.
        return match layer.parse::<usize>() {
            Ok(i) if i >= config.layers => Role::Idle,
            _ => Role::Wanted,
        };
    }
    let around = ["output", "lm_head", "model.norm", "token_embd", "model.embed_tokens", "rope_factors"];
    match around.iter().any(|a| name.starts_with(a)) {
        true => Role::Wanted,
        false => Role::Idle,
    }
}
