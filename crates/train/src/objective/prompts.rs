//! What a model is asked: prompts as tokens, with the records that their answers are judged by.

use serde_json::{Map, Value as Json};
use sha2::{Digest, Sha256};

use crate::data::{Content, Record};
use crate::encode::{EncodeError, Encoder};
use crate::prepare::{PrepareError, Progress, Report, Sources};
use crate::tokens::hex;

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Prompt {
    /// As the model reads it.
    pub(super) tokens: Vec<u32>,
    /// The text of the last message.
    pub(super) text: String,
    /// The record that it is of.
    pub(super) record: Map<String, Json>,
    /// Its file, by number.
    file: usize,
}

/// Those of the files that leave room for an answer in so many tokens, and what was wrong with the others.
pub(super) fn read(
    sources: &Sources,
    encoder: &Encoder,
    context: usize,
    progress: &mut Progress<'_>,
) -> Result<(Vec<Prompt>, Report), PrepareError> {
    let mut report = sources.report();
    let mut prompts = Vec::new();
    sources.read(&mut report, progress, &mut |file, records, report| {
        for record in records {
            match prompt(&record, encoder, context, file) {
                Ok(prompt) => prompts.push(prompt),
                Err(error) => sources.unfit(&record, &error, report)?,
            }
        }
        Ok(())
    })?;
    if prompts.is_empty() {
        return Err(sources.nothing(&report));
    }
    Ok((prompts, report))
}

fn prompt(record: &Record, encoder: &Encoder, context: usize, file: usize) -> Result<Prompt, EncodeError> {
    let Content::Prompt { messages, tools, record } = &record.content else {
        return Err(EncodeError::Prompt);
    };
    let tokens = encoder.prompt(messages, tools.as_deref())?;
    if tokens.is_empty() || tokens.len() >= context {
        return Err(EncodeError::Long { tokens: tokens.len(), context });
    }
    let text = messages.last().and_then(|m| m.get("content")?.as_str()).unwrap_or_default().to_owned();
    Ok(Prompt { tokens, text, record: record.clone(), file })
}

/// Takes a part of every file's prompts, from its end.
pub(super) fn held_out(prompts: &mut Vec<Prompt>, part: f64) -> Vec<Prompt> {
    let files = prompts.iter().map(|p| p.file).max().map_or(0, |last| last + 1);
    let mut kept = vec![0; files];
    prompts.iter().for_each(|p| kept[p.file] += 1);
    kept.iter_mut().for_each(|n: &mut usize| *n -= (*n as f64 * part) as usize);
    let mut held = Vec::new();
    let mut seen = vec![0; files];
    prompts.retain(|p| {
        seen[p.file] += 1;
        let keep = seen[p.file] <= kept[p.file];
        if !keep {
            held.push(p.clone());
        }
        keep
    });
    held
}

/// A hash of all that is asked, and of what answers are judged by.
pub(super) fn hash(prompts: &[Prompt]) -> String {
    let mut hash = Sha256::new();
    for prompt in prompts {
        hash.update((prompt.tokens.len() as u64).to_le_bytes());
        prompt.tokens.iter().for_each(|t| hash.update(t.to_le_bytes()));
        hash.update(serde_json::to_vec(&prompt.record).unwrap_or_default());
    }
    hex(&hash.finalize())
}
