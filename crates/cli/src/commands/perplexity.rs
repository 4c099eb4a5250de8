//! `autarky perplexity`

mod choices;

use std::f64::consts::LN_2;
use std::fs;

use anyhow::{Context, Result};
use autarky_engine::quality::{self, Mean, Perplexity, Windows};
use autarky_engine::{EngineError, Options};
use autarky_family::Model;
use autarky_text::{EncodeOptions, Tokenizer};
use serde_json::{Value, json};

use super::{print, print_json, read_text};
use crate::args::{KvName, PerplexityArgs};
use crate::exit::Input;
use crate::load::{self, Loaded};
use crate::terminal::Progress;

/// Positions whose logits one step gives: large vocabularies make a row half a megabyte.
const OUTPUTS: usize = 64;

pub(super) fn run(args: &PerplexityArgs) -> Result<()> {
    let model = load::model_with(&args.model, args.adapter.as_deref())?;
    if args.choices {
        return choices::run(args, &model);
    }
    let text = text(args)?;
    let tokenizer = load::tokenizer(&model)?;
    let tokens = tokenizer.encode(&text, EncodeOptions { add_special: true, parse_special: false })?;
    let bos = tokenizer.bos().filter(|bos| tokenizer.added_ids().0.contains(bos));
    let windows = Windows { window: args.context, bos };
    let most = args.windows.map_or(tokens.len(), |n| n.saturating_mul(args.context));
    let bytes_per_token = text.len() as f64 / tokens.len().max(1) as f64;
    let tokens = &tokens[..tokens.len().min(most)];

    let mut loaded = engine(args, args.kv, &model)?;
    let mut json = json!({
        "model": args.model.display().to_string(),
        "text": args.text.display().to_string(),
        "context": args.context,
        "kv": load::cache_dtype(&model, args.kv).name(),
        "text_tokens": tokens.len(),
        "device": loaded.device,
        "isa": loaded.instruction_set,
        "threads": loaded.threads,
    });
    let Some(against) = &args.against else {
        let mut progress = Progress::new("perplexity");
        let found = quality::perplexity(&mut loaded.engine, tokens, windows, &mut |done, of, so_far| {
            progress.set(done as u64, of as u64, &format!("{:.4}", so_far.perplexity().value));
        })?;
        drop(progress);
        let bits_per_byte = found.surprise.value / LN_2 / bytes_per_token;
        merge(&mut json, perplexity_json(&found));
        merge(&mut json, json!({ "bits_per_byte": bits_per_byte }));
        return match args.json {
            true => print_json(&json),
            false => print(&format!(
                "perplexity     {}  ({} tokens scored)\nbits per byte  {bits_per_byte:.4}\n",
                plain(found.perplexity()),
                found.tokens
            )),
        };
    };

    let base_model = load::model(against)?;
    same_vocabulary(&tokenizer, &load::tokenizer(&base_model)?, &text)?;
    // Against a cache of integers stands one of floats, so that what the integers cost is part of the comparison.
    let floats = args.kv.filter(|kv| *kv != KvName::I8);
    let mut base = engine(args, floats, &base_model)?;
    let mut progress = Progress::new("KL divergence");
    let found =
        quality::divergence(&mut base.engine, &mut loaded.engine, tokens, windows, &mut |done, of, kl| {
            progress.set(done as u64, of as u64, &format!("{:.6}", kl.value));
        })?;
    drop(progress);
    merge(&mut json, perplexity_json(&found.other));
    merge(
        &mut json,
        json!({
            "against": against.display().to_string(),
            "against_perplexity": found.base.perplexity().value,
            "kl_divergence": found.kl.value,
            "kl_divergence_error": found.kl.error,
            "kl_divergence_median": found.kl_median,
            "kl_divergence_p99": found.kl_p99,
            "kl_divergence_max": found.kl_max,
            "same_best_token": found.same_best,
        }),
    );
    match args.json {
        true => print_json(&json),
        false => print(&format!(
            "perplexity      {}  ({} tokens scored)\n\
             perplexity of   {}\n\
             \x20 {}\n\
             KL divergence   {} nats\n\
             \x20 median        {:.6}\n\
             \x20 99%           {:.6}\n\
             \x20 largest       {:.6}\n\
             same best token {:.2}%\n",
            plain(found.other.perplexity()),
            found.other.tokens,
            against.display(),
            plain(found.base.perplexity()),
            plain(found.kl),
            found.kl_median,
            found.kl_p99,
            found.kl_max,
            100.0 * found.same_best,
        )),
    }
}

fn text(args: &PerplexityArgs) -> Result<String> {
    let path = args.text.display().to_string();
    let file = fs::File::open(&args.text).map_err(|e| Input(format!("cannot read {path}: {e}")))?;
    read_text(file, &path)
}

fn engine(args: &PerplexityArgs, kv: Option<KvName>, model: &Model) -> Result<Loaded> {
    let options = Options {
        context: args.context,
        sequences: 1,
        positions: None,
        chunk: Options::CHUNK.min(args.context),
        outputs: OUTPUTS.min(args.context),
        cache: load::cache_dtype(model, kv),
    };
    load::engine(model, &args.device, options)
}

/// KL divergence compares predictions token by token, so both models must mean the same by every id.
fn same_vocabulary(a: &Tokenizer, b: &Tokenizer, text: &str) -> Result<()> {
    let different = |what: String| Err(EngineError::Vocabulary(what).into());
    if a.vocab_size() != b.vocab_size() {
        let sizes = (a.vocab_size(), b.vocab_size());
        return different(format!("their tokenizers have {} and {} tokens", sizes.0, sizes.1));
    }
    if let Some(id) = (0..a.vocab_size() as u32).find(|&id| a.token_bytes(id) != b.token_bytes(id)) {
        return different(format!("token {id} differs"));
    }
    let options = EncodeOptions { add_special: true, parse_special: false };
    let start: String = text.chars().take(1 << 16).collect();
    match a.encode(&start, options)? == b.encode(&start, options).context("cannot tokenize the text")? {
        true => Ok(()),
        false => different("they cut the text into different tokens".to_owned()),
    }
}

fn plain(mean: Mean) -> String {
    let digits = if mean.value < 1.0 { 6 } else { 4 };
    format!("{:.digits$} ± {:.digits$}", mean.value, mean.error)
}

fn perplexity_json(found: &Perplexity) -> Value {
    let perplexity = found.perplexity();
    json!({
        "perplexity": perplexity.value,
        "perplexity_error": perplexity.error,
        "surprise_nats": found.surprise.value,
        "scored_tokens": found.tokens,
    })
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}
