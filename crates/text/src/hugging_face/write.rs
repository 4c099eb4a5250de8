//! Byte-level BPE tokenizers written as the files of a Hugging Face folder.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::HuggingFaceFiles;
use super::fields::TOKENIZER;
use crate::error::{TokenizerError, shorten};
use crate::hash::FastMap;
use crate::pipeline::Pipeline;
use crate::pre::{self, Named};
use crate::sampling_hints::SamplingHints;
use crate::spec::{Model, Spec, TokenType};
use crate::tokenizer::Tokenizer;

impl Spec {
    /// Writes `tokenizer.json`, `tokenizer_config.json` and, where more than one token ends a generation,
    /// `generation_config.json` into `folder`, which is made if need be. Other files there stay, and are read
    /// with these: a `chat_template.jinja` goes before the template that is written here.
    ///
    /// # Errors
    /// As [`Spec::to_hugging_face_files`]; [`TokenizerError::Io`] naming the file.
    pub fn to_hugging_face(&self, folder: impl AsRef<Path>) -> Result<(), TokenizerError> {
        let folder = folder.as_ref();
        let files = self.to_hugging_face_files()?;
        let fail = |path: &Path| {
            let file = path.display().to_string();
            |source| TokenizerError::Io { file, source }
        };
        std::fs::create_dir_all(folder).map_err(fail(folder))?;
        let texts = [
            ("tokenizer.json", Some(files.tokenizer)),
            ("tokenizer_config.json", files.tokenizer_config),
            ("generation_config.json", files.generation_config),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                let path = folder.join(name);
                std::fs::write(&path, text).map_err(fail(&path))?;
            }
        }
        Ok(())
    }

    /// The texts of the files that [`Spec::to_hugging_face`] writes, for a byte-level BPE tokenizer: the form that
    /// the packages `tokenizers` and `transformers` (`PreTrainedTokenizerFast`) read, and
    /// [`Spec::from_hugging_face_files`].
    ///
    /// # Errors
    /// [`TokenizerError::Unsupported`] for another model, for steps that have no `tokenizer.ggml.pre` name, and
    /// for tokens or merges that `tokenizer.json` cannot say, each by name; as [`Tokenizer::new`] for a damaged
    /// spec.
    pub fn to_hugging_face_files(&self) -> Result<HuggingFaceFiles, TokenizerError> {
        if self.model != Model::Bpe {
            return Err(TOKENIZER.unsupported("model.type", self.model.gguf_name()));
        }
        let tokenizer = Tokenizer::new(self)?;
        let (named, pipeline) = self.byte_level_steps()?;
        let mut normalizer = Value::Null;
        if named.nfc {
            normalizer = json!({"type": "NFC"});
        }
        let split = |pattern: &&str| {
            let pattern = json!({"Regex": pattern});
            json!({"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false})
        };
        let mut steps: Vec<Value> = named.patterns.iter().map(split).collect();
        // The splits have been made; this one spells the pieces in bytes.
        steps.push(
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}),
        );
        let json = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": self.added_tokens(&pipeline),
            "normalizer": normalizer,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
            "post_processor": self.post_processor(tokenizer.added_ids()),
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {
                "type": "BPE",
                "dropout": null,
                "unk_token": self.text_of(self.special.unk),
                "continuing_subword_prefix": null,
                "end_of_word_suffix": null,
                "fuse_unk": pipeline.fuse_unk,
                "byte_fallback": pipeline.byte_fallback,
                "ignore_merges": pipeline.ignore_merges,
                "vocab": self.vocab()?,
                "merges": self.checked_merges()?,
            },
        });
        Ok(HuggingFaceFiles {
            tokenizer: pretty(&json),
            tokenizer_config: Some(pretty(&self.config(tokenizer.added_ids()))),
            generation_config: self.generation().map(|json| pretty(&json)),
            ..HuggingFaceFiles::default()
        })
    }

    /// The steps around the model, and the name for them, whose expressions are known.
    fn byte_level_steps(&self) -> Result<(&'static Named, Pipeline), TokenizerError> {
        let no_name = || TOKENIZER.unsupported("pre_tokenizer", "a combination of steps that has no name");
        let name = match &self.pipeline {
            Some(pipeline) => pre::name_of(pipeline)?.ok_or_else(no_name)?,
            None => self.pre.as_deref().unwrap_or("default"),
        };
        let named = pre::named(name)?;
        let pipeline = match &self.pipeline {
            Some(pipeline) => pipeline.clone(),
            None => named.pipeline()?,
        };
        if !pipeline.byte_level || pipeline.meta_space || pipeline.strips_first_space {
            return Err(TOKENIZER.unsupported("decoder", "of tokens that are not spelt in bytes"));
        }
        Ok((named, pipeline))
    }

    /// The text of token `id`, or null.
    fn text_of(&self, id: Option<u32>) -> Value {
        id.and_then(|id| self.tokens.get(id as usize)).map_or(Value::Null, |text| text.as_str().into())
    }

    /// Every token with its id.
    fn vocab(&self) -> Result<Map<String, Value>, TokenizerError> {
        match self.tokens.iter().position(String::is_empty) {
            Some(id) => Err(TOKENIZER.unsupported("model.vocab", format!("an empty text for token {id}"))),
            None => Ok(self.tokens.iter().zip(0_u32..).map(|(text, id)| (text.clone(), id.into())).collect()),
        }
    }

    /// The merges, if the vocabulary has all their tokens as the merges spell them: the package reads no other.
    fn checked_merges(&self) -> Result<&[String], TokenizerError> {
        let ids: FastMap<&str, ()> = self.tokens.iter().map(|text| (text.as_str(), ())).collect();
        let spelt = |merge: &String| {
            let Some((left, right)) = merge.split_once(' ') else { return false };
            let merged = [left, right].concat();
            [left, right, &merged].into_iter().all(|text| ids.contains_key(text))
        };
        match self.merges.iter().find(|merge| !spelt(merge)) {
            Some(merge) => {
                let value = format!(
                    "{:?}, a merge of tokens that the vocabulary spells otherwise",
                    shorten(merge, 100)
                );
                Err(TOKENIZER.unsupported("model.merges", value))
            }
            None => Ok(&self.merges),
        }
    }

    /// The tokens that are split off before text is cut: all that are not ordinary.
    fn added_tokens(&self, pipeline: &Pipeline) -> Vec<Value> {
        let added = |kind: TokenType| {
            matches!(kind, TokenType::Control | TokenType::Unknown | TokenType::UserDefined)
        };
        let tokens = (0_u32..).zip(&self.tokens).zip(&self.token_types).filter(|(_, kind)| added(**kind));
        tokens
            .map(|((id, text), &kind)| {
                let strip = pipeline.strips.iter().find(|strip| strip.id == id);
                json!({
                    "id": id,
                    "content": text,
                    "single_word": strip.is_some_and(|strip| strip.single_word),
                    "lstrip": strip.is_some_and(|strip| strip.left),
                    "rstrip": strip.is_some_and(|strip| strip.right),
                    "normalized": false,
                    "special": kind != TokenType::UserDefined,
                })
            })
            .collect()
    }

    /// What puts `prefix` before and `suffix` behind a text.
    fn post_processor(&self, (prefix, suffix): (&[u32], &[u32])) -> Value {
        let offsets =
            json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true});
        if prefix.is_empty() && suffix.is_empty() {
            return offsets;
        }
        // A text of a pair, the first (`A`, 0) or the second (`B`, 1), with what goes around it.
        let framed = |name: &str, place: u32| {
            let special = |&id: &u32| {
                let text = self.text_of(Some(id));
                json!({"SpecialToken": {"id": text, "type_id": place}})
            };
            let text = json!({"Sequence": {"id": name, "type_id": place}});
            let before = prefix.iter().map(special);
            before.chain([text]).chain(suffix.iter().map(special)).collect::<Vec<Value>>()
        };
        let used = prefix.iter().chain(suffix).filter_map(|&id| {
            let text = self.tokens.get(id as usize)?;
            Some((text.clone(), json!({"id": text, "ids": [id], "tokens": [text]})))
        });
        let pair = [framed("A", 0), framed("B", 1)].concat();
        let template = json!({
            "type": "TemplateProcessing",
            "single": framed("A", 0),
            "pair": pair,
            "special_tokens": used.collect::<Map<String, Value>>(),
        });
        json!({"type": "Sequence", "processors": [offsets, template]})
    }

    /// `tokenizer_config.json`.
    fn config(&self, (prefix, suffix): (&[u32], &[u32])) -> Value {
        let mut config = Map::new();
        config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
        config.insert("clean_up_tokenization_spaces".into(), false.into());
        // The flags replace the post-processor, so they are given only where they say the same.
        let is = |list: &[u32], id: Option<u32>| list.is_empty() || list.iter().copied().eq(id);
        if is(prefix, self.special.bos) && is(suffix, self.special.eos) {
            config.insert("add_bos_token".into(), (!prefix.is_empty()).into());
            config.insert("add_eos_token".into(), (!suffix.is_empty()).into());
        }
        let special = &self.special;
        for (name, id) in [
            ("bos_token", special.bos),
            ("eos_token", special.eos),
            ("unk_token", special.unk),
            ("sep_token", special.sep),
            ("cls_token", special.cls),
            ("pad_token", special.pad),
            ("mask_token", special.mask),
        ] {
            if id.is_some() {
                config.insert(name.into(), self.text_of(id));
            }
        }
        if let Some(template) = &self.chat_template {
            config.insert("chat_template".into(), template.as_str().into());
        }
        config.into()
    }

    /// `generation_config.json`, where there is more to say than EOS: no other file has the end of a turn.
    fn generation(&self) -> Option<Value> {
        let special = &self.special;
        let mut ends: Vec<u32> = [special.eos, special.eot, special.eom].into_iter().flatten().collect();
        ends.extend(&self.end_of_generation);
        let mut seen = FastMap::default();
        ends.retain(|&id| seen.insert(id, ()).is_none());
        if ends.iter().copied().eq(special.eos) && self.sampling == SamplingHints::default() {
            return None;
        }
        let mut json = Map::new();
        for (name, id) in [("bos_token_id", special.bos), ("pad_token_id", special.pad)] {
            if let Some(id) = id {
                json.insert(name.into(), id.into());
            }
        }
        json.insert("eos_token_id".into(), ends.into());
        self.sampling.to_json(&mut json);
        Some(json.into())
    }
}

/// JSON over several lines, as the packages write it.
fn pretty(json: &Value) -> String {
    format!("{json:#}\n")
}
