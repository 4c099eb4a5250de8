//! Tokens with the logarithms of their probabilities, as chat completions tell them.

use autarky_engine::service::Chosen;
use autarky_text::Tokenizer;
use serde_json::{Value, json};

/// Less than any probability that JSON could tell: OpenAI's API has it for what cannot come.
const LEAST: f32 = -9999.0;

/// The logarithm of a probability as JSON has numbers: without infinities.
pub(in crate::openai) fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob.max(LEAST) } else { LEAST }
}

/// The text of a token; U+FFFD for what is no whole character.
pub(in crate::openai) fn text(tokenizer: &Tokenizer, token: u32) -> String {
    String::from_utf8_lossy(tokenizer.token_bytes(token).unwrap_or_default()).into_owned()
}

fn entry(tokenizer: &Tokenizer, token: u32, logprob: f32) -> Value {
    let bytes = tokenizer.token_bytes(token).unwrap_or_default();
    json!({"token": text(tokenizer, token), "logprob": finite(logprob), "bytes": bytes})
}

/// The entries of `logprobs.content` for `tokens`.
pub(in crate::openai) fn content(tokenizer: &Tokenizer, tokens: &[Chosen]) -> Vec<Value> {
    let one = |chosen: &Chosen| {
        let logprobs = chosen.logprobs.as_ref()?;
        let mut value = entry(tokenizer, chosen.token, logprobs.chosen);
        let top: Vec<Value> = logprobs.top.iter().map(|(t, p)| entry(tokenizer, *t, *p)).collect();
        value.as_object_mut()?.insert("top_logprobs".to_owned(), Value::Array(top));
        Some(value)
    };
    tokens.iter().filter_map(one).collect()
}
