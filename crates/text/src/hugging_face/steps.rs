//! The pipeline of `tokenizer.json`: normalizer, pre-tokenizer, decoder and post-processor.

use serde_json::Value;

use super::fields::{TOKENIZER, base64, flag, list, string};
use crate::charsmap::Charsmap;
use crate::error::TokenizerError;
use crate::normalizer::Normalizer;
use crate::pattern::Pattern;
use crate::pipeline::{Pipeline, Template};
use crate::pre::GPT2;
use crate::pre_tokenizer::{Behavior, PreTokenizer, Prepend};
use crate::vocabulary::META_SPACE;

/// Published tokenizers have up to seven steps; each may hold an automaton.
const MOST_STEPS: usize = 16;

/// What the three descriptions say together.
pub(super) fn pipeline(
    normalizer: &Value,
    pre_tokenizer: &Value,
    decoder: &Value,
) -> Result<Pipeline, TokenizerError> {
    let mut pipeline = Pipeline::default();
    add_normalizer(normalizer, &mut pipeline)?;
    add_pre_tokenizer(pre_tokenizer, &mut pipeline)?;
    add_decoder(decoder, &mut pipeline)?;
    let steps = pipeline.normalizers.len() + pipeline.pre_tokenizers.len();
    if steps > MOST_STEPS {
        return Err(
            TOKENIZER.unsupported("normalizer, pre_tokenizer", format!("a sequence of {steps} steps"))
        );
    }
    let escapes = pipeline.normalizers.iter().any(|step| {
        matches!(step, Normalizer::ReplaceText { text, with } if text == " " && with.chars().eq([META_SPACE]))
    });
    if escapes {
        pipeline.meta_space = true;
        // No space is left for a split at spaces to find.
        let space = Pattern::literal(" ")?;
        pipeline
            .pre_tokenizers
            .retain(|step| !matches!(step, PreTokenizer::Split { pattern, .. } if *pattern == space));
    }
    Ok(pipeline)
}

/// The name of a step.
fn kind(step: &Value) -> Result<&str, TokenizerError> {
    string(step, "type")
}

/// A pattern: `{"String": ...}` or `{"Regex": ...}`.
fn pattern(step: &Value) -> Result<Pattern, TokenizerError> {
    let pattern = step.get("pattern").unwrap_or(&Value::Null);
    match (pattern.get("String"), pattern.get("Regex")) {
        (Some(Value::String(text)), _) => Pattern::literal(text),
        (_, Some(Value::String(source))) => Pattern::new(source),
        _ => Err(TOKENIZER.problem("pattern", "is neither `String` nor `Regex`")),
    }
}

fn add_normalizer(step: &Value, pipeline: &mut Pipeline) -> Result<(), TokenizerError> {
    if step.is_null() {
        return Ok(());
    }
    let normalizer = match kind(step)? {
        "Sequence" => {
            let steps = list(step, "normalizers")?;
            return steps.iter().take(MOST_STEPS + 1).try_for_each(|step| add_normalizer(step, pipeline));
        }
        "NFC" => Normalizer::Nfc,
        "NFD" => Normalizer::Nfd,
        "NFKC" => Normalizer::Nfkc,
        "NFKD" => Normalizer::Nfkd,
        "Lowercase" => Normalizer::Lowercase,
        "StripAccents" => Normalizer::StripAccents,
        "Strip" => Normalizer::Strip {
            left: flag(step, "strip_left", true)?,
            right: flag(step, "strip_right", true)?,
        },
        "Prepend" => Normalizer::Prepend(string(step, "prepend")?.to_owned()),
        "Replace" => {
            let with = string(step, "content")?.to_owned();
            match step.get("pattern").and_then(|pattern| pattern.get("String")) {
                Some(Value::String(text)) if !text.is_empty() => {
                    Normalizer::ReplaceText { text: text.clone(), with }
                }
                _ => Normalizer::Replace { pattern: pattern(step)?, with },
            }
        }
        "BertNormalizer" => {
            let lowercase = flag(step, "lowercase", true)?;
            Normalizer::Bert {
                clean: flag(step, "clean_text", true)?,
                space_chinese: flag(step, "handle_chinese_chars", true)?,
                // Not given, accents go with the capitals.
                strip_accents: flag(step, "strip_accents", lowercase)?,
                lowercase,
            }
        }
        "Precompiled" => {
            let table = base64(string(step, "precompiled_charsmap")?);
            let table = table.ok_or_else(|| TOKENIZER.problem("precompiled_charsmap", "is no base64"))?;
            Normalizer::Charsmap(Charsmap::new(&table)?)
        }
        other => return Err(TOKENIZER.unsupported("normalizer.type", other)),
    };
    pipeline.normalizers.push(normalizer);
    Ok(())
}

/// What becomes of matches.
fn behavior(step: &Value) -> Result<Behavior, TokenizerError> {
    Ok(match string(step, "behavior")? {
        "Isolated" => Behavior::Isolated,
        "Removed" => Behavior::Removed,
        "MergedWithPrevious" => Behavior::MergedWithPrevious,
        "MergedWithNext" => Behavior::MergedWithNext,
        "Contiguous" => Behavior::Contiguous,
        other => return Err(TOKENIZER.unsupported("behavior", other)),
    })
}

/// Where a `Metaspace` step or decoder puts its mark.
fn prepend(step: &Value) -> Result<Prepend, TokenizerError> {
    match step.get("prepend_scheme").and_then(Value::as_str) {
        Some("always") => Ok(Prepend::Always),
        Some("first") => Ok(Prepend::First),
        Some("never") => Ok(Prepend::Never),
        Some(other) => Err(TOKENIZER.unsupported("prepend_scheme", other)),
        // Older files.
        None if flag(step, "add_prefix_space", true)? => Ok(Prepend::Always),
        None => Ok(Prepend::Never),
    }
}

fn add_pre_tokenizer(step: &Value, pipeline: &mut Pipeline) -> Result<(), TokenizerError> {
    if step.is_null() {
        return Ok(());
    }
    let isolated = |source: &str, behavior| {
        Ok::<_, TokenizerError>(PreTokenizer::Split {
            pattern: Pattern::new(source)?,
            behavior,
            invert: false,
        })
    };
    // ASCII's symbols count as punctuation here.
    let punctuation = r"[\p{P}!-/:-@\[-`{-~]";
    let steps = &mut pipeline.pre_tokenizers;
    match kind(step)? {
        "Sequence" => {
            let steps = list(step, "pretokenizers")?;
            return steps.iter().take(MOST_STEPS + 1).try_for_each(|step| add_pre_tokenizer(step, pipeline));
        }
        "ByteLevel" => {
            if flag(step, "add_prefix_space", true)? {
                steps.push(PreTokenizer::SpacePrefix);
            }
            if flag(step, "use_regex", true)? {
                steps.push(isolated(GPT2, Behavior::Isolated)?);
            }
            pipeline.byte_level = true;
        }
        "Split" => {
            let (behavior, invert) = (behavior(step)?, flag(step, "invert", false)?);
            steps.push(PreTokenizer::Split { pattern: pattern(step)?, behavior, invert });
        }
        "Digits" => {
            let source = if flag(step, "individual_digits", false)? { r"\p{N}" } else { r"\p{N}+" };
            steps.push(isolated(source, Behavior::Isolated)?);
        }
        "Punctuation" => {
            let behavior = if step.get("behavior").is_some() { behavior(step)? } else { Behavior::Isolated };
            steps.push(isolated(punctuation, behavior)?);
        }
        "Whitespace" => {
            let pattern = Pattern::new(r"\w+|[^\w\s]+")?;
            steps.push(PreTokenizer::Split { pattern, behavior: Behavior::Removed, invert: true });
        }
        "WhitespaceSplit" => steps.push(isolated(r"\s+", Behavior::Removed)?),
        "BertPreTokenizer" => {
            steps.push(isolated(r"\s+", Behavior::Removed)?);
            steps.push(isolated(punctuation, Behavior::Isolated)?);
        }
        "CharDelimiterSplit" => {
            let pattern = Pattern::literal(string(step, "delimiter")?)?;
            steps.push(PreTokenizer::Split { pattern, behavior: Behavior::Removed, invert: false });
        }
        "Metaspace" => {
            let replacement = string(step, "replacement")?;
            if !replacement.chars().eq([META_SPACE]) {
                return Err(TOKENIZER.unsupported("replacement", replacement));
            }
            let split = flag(step, "split", true)?;
            steps.push(PreTokenizer::MetaSpace { mark: META_SPACE, prepend: prepend(step)?, split });
            pipeline.meta_space = true;
        }
        other => return Err(TOKENIZER.unsupported("pre_tokenizer.type", other)),
    }
    Ok(())
}

fn add_decoder(step: &Value, pipeline: &mut Pipeline) -> Result<(), TokenizerError> {
    if step.is_null() {
        return Ok(());
    }
    match kind(step)? {
        "Sequence" => {
            return list(step, "decoders")?.iter().try_for_each(|step| add_decoder(step, pipeline));
        }
        "Metaspace" => {
            pipeline.meta_space = true;
            pipeline.strips_first_space = prepend(step)? != Prepend::Never;
        }
        "Replace" => {
            let mark = step.get("pattern").and_then(|pattern| pattern.get("String")).and_then(Value::as_str);
            pipeline.meta_space |= mark.is_some_and(|mark| mark.chars().eq([META_SPACE]));
        }
        "Strip" => {
            let start = step.get("start").and_then(Value::as_u64).unwrap_or(0);
            pipeline.strips_first_space =
                start > 0 && step.get("content").and_then(Value::as_str) == Some(" ");
        }
        // What these do follows from the tokens themselves.
        "ByteLevel" | "ByteFallback" | "Fuse" | "WordPiece" => {}
        other => return Err(TOKENIZER.unsupported("decoder.type", other)),
    }
    Ok(())
}

/// Whether BERT's normalizer lower-cases and strips accents, if there is one.
pub(super) fn bert_flags(pipeline: &Pipeline) -> (Option<bool>, Option<bool>) {
    let flags = pipeline.normalizers.iter().find_map(|step| match step {
        Normalizer::Bert { strip_accents, lowercase, .. } => Some((*lowercase, *strip_accents)),
        _ => None,
    });
    flags.unzip()
}

/// What the post-processor puts around a text; `None` if it is not about that.
pub(super) fn template(step: &Value) -> Result<Option<Template>, TokenizerError> {
    if step.is_null() {
        return Ok(None);
    }
    match kind(step)? {
        "Sequence" => {
            let mut found = None;
            for step in list(step, "processors")? {
                found = template(step)?.or(found);
            }
            Ok(found)
        }
        "ByteLevel" => Ok(None),
        "TemplateProcessing" => {
            let mut template = Template::default();
            let mut in_front = true;
            for item in list(step, "single")? {
                if item.get("Sequence").is_some() {
                    in_front = false;
                    continue;
                }
                let name = item.get("SpecialToken").map(|token| string(token, "id")).transpose()?;
                let name =
                    name.ok_or_else(|| TOKENIZER.problem("post_processor.single", "has an unknown item"))?;
                let ids =
                    step.get("special_tokens").and_then(|tokens| tokens.get(name)?.get("ids")?.as_array());
                let ids = ids
                    .ok_or_else(|| TOKENIZER.problem("special_tokens", format!("has no ids of {name:?}")))?;
                let side = if in_front { &mut template.prefix } else { &mut template.suffix };
                for id in ids {
                    side.push(token_id(id)?);
                }
            }
            Ok(Some(template))
        }
        "BertProcessing" | "RobertaProcessing" => {
            let id = |field| token_id(step.get(field).and_then(|pair| pair.get(1)).unwrap_or(&Value::Null));
            Ok(Some(Template { prefix: vec![id("cls")?], suffix: vec![id("sep")?] }))
        }
        other => Err(TOKENIZER.unsupported("post_processor.type", other)),
    }
}

fn token_id(value: &Value) -> Result<u32, TokenizerError> {
    let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
    id.ok_or_else(|| TOKENIZER.problem("post_processor", "has an id that is no token id"))
}
