//! Tokenizers in GGUF metadata, read and written: the `tokenizer.*` keys, and `general.sampling.*`.

use autarky_format::gguf::{Array, Metadata, StrArray, Value};

use crate::error::TokenizerError;
use crate::normalizer::Normalizer;
use crate::sampling_hints::SamplingHints;
use crate::spec::{Model, Spec, TokenType};
use crate::tokenizer::{Tokenizer, default_pipeline_of};
use crate::vocabulary::check_counts;

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TOKEN_TYPE: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";
const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";
const CHAT_TEMPLATE: &str = "tokenizer.chat_template";

/// The keys of what is true or false.
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
const ADD_SEP: &str = "tokenizer.ggml.add_sep_token";
const ADD_SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";
const REMOVE_EXTRA_WHITESPACES: &str = "tokenizer.ggml.remove_extra_whitespaces";
const LOWERCASE: &str = "tokenizer.ggml.normalizer.lowercase";
const STRIP_ACCENTS: &str = "tokenizer.ggml.normalizer.strip_accents";

fn id_key(name: &str) -> String {
    format!("tokenizer.ggml.{name}_token_id")
}

impl Spec {
    /// Reads the tokenizer from a GGUF file's metadata.
    ///
    /// # Errors
    /// A missing key or one of a wrong type; [`TokenizerError::UnknownModel`].
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let model = metadata.get_str(MODEL)?;
        let model = Model::from_gguf_name(model).ok_or_else(|| TokenizerError::UnknownModel {
            model: crate::error::shorten(model, 100),
            known: Model::KNOWN,
        })?;
        let (tokens, merges) = (metadata.get_array_str(TOKENS)?, metadata.find::<&StrArray>(MERGES)?);
        check_counts(tokens.len(), merges.map_or(0, StrArray::len))?;
        let strings = |array: &StrArray| array.iter().map(str::to_owned).collect();
        let scores = match metadata.get(SCORES) {
            // Files of the first converters have whole numbers.
            Some(Value::Array(Array::I32(scores))) => scores.iter().map(|&score| score as f32).collect(),
            _ => metadata.find::<&[f32]>(SCORES)?.unwrap_or_default().to_vec(),
        };
        let types = metadata.find::<Vec<i32>>(TOKEN_TYPE)?.unwrap_or_default();
        let flag = |key| metadata.find::<bool>(key);
        let mut spec = Self {
            model,
            pre: metadata.find::<&str>(PRE)?.map(str::to_owned),
            tokens: strings(tokens),
            token_types: types.into_iter().map(TokenType::from_gguf).collect(),
            scores,
            merges: merges.map(strings).unwrap_or_default(),
            add_bos: flag(ADD_BOS)?,
            add_eos: flag(ADD_EOS)?,
            add_sep: flag(ADD_SEP)?,
            add_space_prefix: flag(ADD_SPACE_PREFIX)?,
            remove_extra_whitespaces: flag(REMOVE_EXTRA_WHITESPACES)?,
            lowercase: flag(LOWERCASE)?,
            strip_accents: flag(STRIP_ACCENTS)?,
            precompiled_charsmap: charsmap(metadata)?,
            chat_template: metadata.find::<&str>(CHAT_TEMPLATE)?.map(str::to_owned),
            sampling: SamplingHints::from_gguf(metadata),
            ..Self::default()
        };
        for (name, id) in spec.special.named_mut() {
            // -1 and its unsigned form are some writers' "none".
            *id = match metadata.find::<i64>(&id_key(name))? {
                None | Some(-1 | 0xffff_ffff) => None,
                Some(found) => Some(u32::try_from(found).map_err(|_| TokenizerError::Field {
                    file: "GGUF".into(),
                    field: id_key(name),
                    problem: format!("is {found}, which is no token id"),
                })?),
            };
        }
        spec.guess_ids();
        Ok(spec)
    }

    /// Fills in the ids that old files leave out, where the tokens there are marked as special.
    fn guess_ids(&mut self) {
        let token_types = &self.token_types;
        let marked = |id: u32| {
            let kind = token_types.get(id as usize).copied().unwrap_or_default();
            Some(id).filter(|_| matches!(kind, TokenType::Control | TokenType::Unknown))
        };
        let special = &mut self.special;
        match self.model {
            Model::Bpe => {}
            Model::SentencePiece => {
                special.unk = special.unk.or_else(|| marked(0));
                special.bos = special.bos.or_else(|| marked(1));
                special.eos = special.eos.or_else(|| marked(2));
            }
            Model::Unigram => {
                special.eos = special.eos.or_else(|| marked(1));
                special.unk = special.unk.or_else(|| marked(2));
            }
            Model::WordPiece => {
                special.unk = special.unk.or_else(|| marked(100));
                special.cls = special.cls.or(special.bos).or_else(|| marked(101));
                special.sep = special.sep.or_else(|| marked(102));
            }
        }
    }

    /// Writes the tokenizer into a GGUF file's metadata, so that [`Spec::from_gguf`] gives one that encodes
    /// alike.
    ///
    /// # Errors
    /// [`TokenizerError::Unsupported`] if the tokenizer has steps that GGUF's keys cannot say: they have no
    /// `tokenizer.ggml.pre` name, or add other tokens around a text than BOS, EOS and SEP.
    pub fn to_gguf(&self, metadata: &mut Metadata) -> Result<(), TokenizerError> {
        let flat = self.flattened()?;
        let strings = |list: &[String]| list.iter().map(String::as_str).collect::<StrArray>();
        metadata.insert(MODEL, flat.model.gguf_name());
        metadata.insert(PRE, flat.pre.as_deref().unwrap_or("default"));
        metadata.insert(TOKENS, strings(&flat.tokens));
        let types: Vec<i32> = if flat.token_types.is_empty() {
            vec![TokenType::Normal as i32; flat.tokens.len()]
        } else {
            flat.token_types.iter().map(|&kind| kind as i32).collect()
        };
        metadata.insert(TOKEN_TYPE, types);
        if !flat.scores.is_empty() {
            metadata.insert(SCORES, flat.scores.clone());
        }
        if !flat.merges.is_empty() {
            metadata.insert(MERGES, strings(&flat.merges));
        }
        if !flat.precompiled_charsmap.is_empty() {
            metadata.insert(CHARSMAP, flat.precompiled_charsmap.clone());
        }
        for (name, id) in flat.special.named() {
            if let Some(id) = id {
                metadata.insert(&id_key(name), id);
            }
        }
        let flags = [
            (ADD_BOS, flat.add_bos),
            (ADD_EOS, flat.add_eos),
            (ADD_SEP, flat.add_sep),
            (ADD_SPACE_PREFIX, flat.add_space_prefix),
            (REMOVE_EXTRA_WHITESPACES, flat.remove_extra_whitespaces),
            (LOWERCASE, flat.lowercase),
            (STRIP_ACCENTS, flat.strip_accents),
        ];
        for (key, value) in flags {
            if let Some(value) = value {
                metadata.insert(key, value);
            }
        }
        if let Some(template) = &flat.chat_template {
            metadata.insert(CHAT_TEMPLATE, template.as_str());
        }
        flat.sampling.to_gguf(metadata);
        Ok(())
    }

    /// The same tokenizer without a [`crate::Pipeline`]: GGUF's flat fields say all.
    fn flattened(&self) -> Result<Self, TokenizerError> {
        let mut flat = self.clone();
        let Some(pipeline) = flat.pipeline.take() else { return Ok(flat) };
        if let Some(template) = &pipeline.template {
            flat.set_template(&template.prefix, &template.suffix)?;
        }
        flat.end_of_turn(&self.end_of_generation);
        let pipeline = pipeline.with_spelt_spaces();
        if flat.model == Model::Bpe && pipeline.meta_space {
            flat.merges_to_scores()?;
        }
        if flat.model == Model::SentencePiece {
            let prepends = |step: &Normalizer| matches!(step, Normalizer::Prepend(_));
            flat.add_space_prefix = Some(pipeline.normalizers.iter().any(prepends));
        }
        let spelt = default_pipeline_of(&flat)?;
        if pipeline.normalizers != spelt.normalizers || pipeline.pre_tokenizers != spelt.pre_tokenizers {
            return Err(TokenizerError::Unsupported {
                file: "tokenizer.json".into(),
                field: "normalizer, pre_tokenizer".into(),
                value: "a combination that GGUF has no name for".into(),
            });
        }
        Ok(flat)
    }

    /// Says by flags what goes around a text.
    fn set_template(&mut self, prefix: &[u32], suffix: &[u32]) -> Result<(), TokenizerError> {
        let first = if self.model == Model::WordPiece { self.special.cls } else { self.special.bos };
        let known = |id: Option<u32>| id.map(|id| vec![id]).unwrap_or_default();
        let unsupported = || TokenizerError::Unsupported {
            file: "tokenizer.json".into(),
            field: "post_processor".into(),
            value: format!("{prefix:?} before and {suffix:?} after a text, which GGUF's flags cannot say"),
        };
        self.add_bos = Some(!prefix.is_empty());
        if !prefix.is_empty() && prefix != known(first) {
            return Err(unsupported());
        }
        let (eos, sep) = (known(self.special.eos), known(self.special.sep));
        self.add_eos = Some(!suffix.is_empty() && suffix == eos && self.model != Model::WordPiece);
        if self.model == Model::WordPiece {
            self.add_sep = Some(!suffix.is_empty() && suffix == sep);
        }
        if !suffix.is_empty() && self.add_eos != Some(true) && self.add_sep != Some(true) {
            return Err(unsupported());
        }
        Ok(())
    }

    /// GGUF names single ids, where `generation_config.json` lists them.
    fn end_of_turn(&mut self, ends: &[u32]) {
        let mut other = ends.iter().copied().filter(|&id| Some(id) != self.special.eos);
        self.special.eot = self.special.eot.or_else(|| other.next());
        self.special.eom = self.special.eom.or_else(|| other.next());
    }
}

/// The normalization table, as bytes.
fn charsmap(metadata: &Metadata) -> Result<Vec<u8>, TokenizerError> {
    match metadata.get(CHARSMAP) {
        Some(Value::Array(Array::U8(bytes))) => Ok(bytes.clone()),
        Some(Value::Array(Array::I8(bytes))) => Ok(bytes.iter().map(|&byte| byte as u8).collect()),
        None => Ok(Vec::new()),
        Some(other) => Err(TokenizerError::Field {
            file: "GGUF".into(),
            field: CHARSMAP.into(),
            problem: format!("is {other}, not an array of bytes"),
        }),
    }
}

impl Tokenizer {
    /// The tokenizer in a GGUF file's metadata.
    ///
    /// # Errors
    /// As [`Spec::from_gguf`] and [`Tokenizer::new`].
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, TokenizerError> {
        Self::new(&Spec::from_gguf(metadata)?)
    }
}
