//! Tokenizers in a Hugging Face folder, read and written: `tokenizer.json` and the files beside it.
//!
//! `tokenizer.json` says how text becomes ids (`steps` reads its pipeline, `vocabulary` its tokens);
//! `tokenizer_config.json`, `special_tokens_map.json` and `generation_config.json` say which tokens begin and
//! end a text, and the chat template may stand in a file of its own. `write` gives the same files.

mod bounded;
mod fields;
mod steps;
mod vocabulary;
mod write;

use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::error::TokenizerError;
use crate::pipeline::Template;
use crate::pre;
use crate::sampling_hints::SamplingHints;
use crate::spec::{Model, Spec, SpecialIds, TokenType};
use crate::tokenizer::Tokenizer;
use crate::vocabulary::{MOST_TOKENS, TextIds};

use bounded::{List, Loose};
use fields::{File, text_or_content};

/// `tokenizer.json` of the largest vocabularies has 35 MB.
const LONGEST_FILE: u64 = 128 << 20;
/// The files beside it; the largest, which lists thousands of added tokens, has 1.2 MB.
const LONGEST_OTHER_FILE: u64 = 8 << 20;

/// The texts of a folder's files; all but the first may be missing.
#[derive(Debug, Clone, Default)]
pub struct HuggingFaceFiles {
    /// `tokenizer.json`.
    pub tokenizer: String,
    /// `tokenizer_config.json`.
    pub tokenizer_config: Option<String>,
    /// `special_tokens_map.json`.
    pub special_tokens_map: Option<String>,
    /// `generation_config.json`.
    pub generation_config: Option<String>,
    /// `chat_template.jinja`, or the template in `chat_template.json`.
    pub chat_template: Option<String>,
}

impl HuggingFaceFiles {
    /// Reads the files of a folder.
    ///
    /// # Errors
    /// [`TokenizerError::Io`] naming the file, also for one of more than 128 MiB (8 MiB for those beside
    /// `tokenizer.json`).
    pub fn read(folder: &Path) -> Result<Self, TokenizerError> {
        let other = |name: &str| read_if_there(&folder.join(name), LONGEST_OTHER_FILE);
        let mut chat_template = other("chat_template.jinja")?;
        if chat_template.is_none()
            && let Some(json) = other("chat_template.json")?
        {
            let Loose(parsed) = parse("chat_template.json", &json)?;
            chat_template = parsed.get("chat_template").and_then(Value::as_str).map(str::to_owned);
        }
        let path = folder.join("tokenizer.json");
        let missing = || TokenizerError::Io {
            file: path.display().to_string(),
            source: std::io::Error::new(std::io::ErrorKind::NotFound, "no such file"),
        };
        Ok(Self {
            tokenizer: read_if_there(&path, LONGEST_FILE)?.ok_or_else(missing)?,
            tokenizer_config: other("tokenizer_config.json")?,
            special_tokens_map: other("special_tokens_map.json")?,
            generation_config: other("generation_config.json")?,
            chat_template,
        })
    }
}

/// The text of a file, `None` if there is no such file.
fn read_if_there(path: &Path, longest: u64) -> Result<Option<String>, TokenizerError> {
    let fail = |source| TokenizerError::Io { file: path.display().to_string(), source };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    // A pipe could keep the reader waiting for ever.
    if !metadata.is_file() {
        return Err(fail(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file")));
    }
    if metadata.len() > longest {
        let problem = format!("has {} bytes, at most {longest} are read", metadata.len());
        return Err(fail(std::io::Error::new(std::io::ErrorKind::FileTooLarge, problem)));
    }
    let mut text = String::new();
    std::fs::File::open(path).and_then(|file| file.take(longest).read_to_string(&mut text)).map_err(fail)?;
    Ok(Some(text))
}

fn parse<'a, T: Deserialize<'a>>(file: &str, text: &'a str) -> Result<T, TokenizerError> {
    serde_json::from_str(text).map_err(|source| TokenizerError::Json { file: file.into(), source })
}

/// The parts of `tokenizer.json`; its steps are read by type later.
#[derive(Deserialize)]
struct TokenizerJson {
    #[serde(default)]
    added_tokens: List<vocabulary::AddedToken, MOST_TOKENS>,
    #[serde(default)]
    normalizer: Loose,
    #[serde(default)]
    pre_tokenizer: Loose,
    #[serde(default)]
    post_processor: Loose,
    #[serde(default)]
    decoder: Loose,
    model: vocabulary::ModelJson,
}

impl Spec {
    /// Reads the tokenizer of a Hugging Face folder.
    ///
    /// # Errors
    /// As [`HuggingFaceFiles::read`] and [`Spec::from_hugging_face_files`].
    pub fn from_hugging_face(folder: impl AsRef<Path>) -> Result<Self, TokenizerError> {
        Self::from_hugging_face_files(&HuggingFaceFiles::read(folder.as_ref())?)
    }

    /// Reads a tokenizer from the texts of its files.
    ///
    /// # Errors
    /// [`TokenizerError::Json`] and [`TokenizerError::Field`] for malformed files,
    /// [`TokenizerError::Unsupported`] for settings that this crate lacks.
    pub fn from_hugging_face_files(files: &HuggingFaceFiles) -> Result<Self, TokenizerError> {
        let json: TokenizerJson = parse("tokenizer.json", &files.tokenizer)?;
        let other = |name: &str, text: &Option<String>| match text {
            Some(text) => parse::<Loose>(name, text).map(|loose| loose.0),
            None => Ok(Value::Null),
        };
        let config = other("tokenizer_config.json", &files.tokenizer_config)?;
        let map = other("special_tokens_map.json", &files.special_tokens_map)?;
        let generation = other("generation_config.json", &files.generation_config)?;

        let mut spec = vocabulary::read(&json.model, &json.added_tokens.0)?;
        let mut pipeline = steps::pipeline(&json.normalizer.0, &json.pre_tokenizer.0, &json.decoder.0)?;
        pipeline.byte_fallback = json.model.byte_fallback;
        pipeline.fuse_unk = json.model.fuse_unk;
        pipeline.ignore_merges = json.model.ignore_merges;
        pipeline.strips = json.added_tokens.0.iter().filter_map(vocabulary::AddedToken::strip).collect();
        if spec.model == Model::WordPiece {
            pipeline.meta_space = true;
            pipeline.strips_first_space = true;
            (spec.lowercase, spec.strip_accents) = steps::bert_flags(&pipeline);
        }
        if spec.model == Model::Bpe {
            spec.pre = pre::name_of(&pipeline)?.map(str::to_owned);
        }

        let ids: TextIds<'_> = spec.tokens.iter().map(String::as_str).zip(0..).collect();
        let unk_of_model = spec.special.unk;
        let named = |field: &str| {
            [&config, &map].into_iter().find_map(|file| ids.get(text_or_content(file.get(field)?)?).copied())
        };
        let listed =
            |field: &str| generation.get(field).and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        let special = SpecialIds {
            bos: named("bos_token").or_else(|| listed("bos_token_id")),
            eos: named("eos_token").or_else(|| listed("eos_token_id")),
            eot: None,
            eom: None,
            unk: unk_of_model.or_else(|| named("unk_token")),
            sep: named("sep_token"),
            cls: named("cls_token"),
            pad: named("pad_token").or_else(|| listed("pad_token_id")),
            mask: named("mask_token"),
        };
        spec.special = special;
        spec.end_of_generation = end_ids(&generation)?;
        spec.sampling = SamplingHints::from_json(&generation);
        if let Some(unk) = spec.special.unk.filter(|_| spec.model != Model::Bpe || pipeline.byte_fallback)
            && let Some(kind) = spec.token_types.get_mut(unk as usize)
        {
            *kind = TokenType::Unknown;
        }
        pipeline.template = Some(template(&json.post_processor.0, &config, &spec)?);
        spec.pipeline = Some(pipeline);
        spec.chat_template = files.chat_template.clone().or_else(|| chat_template(&config));
        Ok(spec)
    }
}

/// `eos_token_id` of `generation_config.json`: an id or a list of ids.
fn end_ids(generation: &Value) -> Result<Vec<u32>, TokenizerError> {
    let field = generation.get("eos_token_id").unwrap_or(&Value::Null);
    let list = match field {
        Value::Null => return Ok(Vec::new()),
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    list.iter()
        .map(|value| {
            id(value).ok_or_else(|| File("generation_config.json").problem("eos_token_id", "is no token id"))
        })
        .collect()
}

/// The template in `tokenizer_config.json`: a string, or a list of named ones.
fn chat_template(config: &Value) -> Option<String> {
    match config.get("chat_template")? {
        Value::String(template) => Some(template.clone()),
        Value::Array(list) => {
            let named = |wanted: &str| {
                list.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some(wanted))
            };
            let entry = named("default").or_else(|| list.first())?;
            entry.get("template").and_then(Value::as_str).map(str::to_owned)
        }
        _ => None,
    }
}

/// What goes around a text: the post-processor, and the flags of `tokenizer_config.json` where the
/// `transformers` package lets them decide.
fn template(post_processor: &Value, config: &Value, spec: &Spec) -> Result<Template, TokenizerError> {
    let given = steps::template(post_processor)?;
    let class = config.get("tokenizer_class").and_then(Value::as_str).unwrap_or_default();
    let flags_decide =
        ["Llama", "CodeLlama", "Gemma", "Cohere"].iter().any(|family| class.starts_with(family));
    let mut template = given.clone().unwrap_or_default();
    if flags_decide || given.is_none() {
        let flag = |name: &str| config.get(name).and_then(Value::as_bool);
        match (flag("add_bos_token"), spec.special.bos) {
            (Some(true), Some(bos)) => template.prefix = vec![bos],
            (Some(false), _) => template.prefix.clear(),
            _ => {}
        }
        match (flag("add_eos_token"), spec.special.eos) {
            (Some(true), Some(eos)) => template.suffix = vec![eos],
            (Some(false), _) => template.suffix.clear(),
            _ => {}
        }
    }
    let size = spec.tokens.len();
    match template.prefix.iter().chain(&template.suffix).find(|&&id| id as usize >= size) {
        Some(&id) => Err(TokenizerError::SpecialIdOutOfRange { field: "post_processor", id, size }),
        None => Ok(template),
    }
}

impl Tokenizer {
    /// The tokenizer of a Hugging Face folder.
    ///
    /// # Errors
    /// As [`Spec::from_hugging_face`] and [`Tokenizer::new`].
    pub fn from_hugging_face(folder: impl AsRef<Path>) -> Result<Self, TokenizerError> {
        Self::new(&Spec::from_hugging_face(folder)?)
    }
}
