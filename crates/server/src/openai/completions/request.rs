//! The parameters of a completion.

use serde_json::Value;

use crate::error::ApiError;
use crate::fields::Fields;
use crate::generation::{Ask, Input, OutputFormat, SAMPLING, sampling, stops};
use crate::openai::chat::{StreamOptions, bias, stream};
use crate::openai::input::inputs;
use crate::state::RequestLimits;

const HEEDED: &[&str] = &[
    "model",
    "prompt",
    "max_tokens",
    "n",
    "best_of",
    "stop",
    "stream",
    "stream_options",
    "logprobs",
    "echo",
    "logit_bias",
    "ignore_eos",
    "suffix",
];

const IGNORED: &[&str] =
    &["user", "metadata", "store", "service_tier", "prompt_cache_key", "safety_identifier"];

/// Prompts of one request.
const MOST_PROMPTS: usize = 128;
/// Tokens of an answer unless said otherwise, as in OpenAI's API.
const TOKENS: usize = 16;

/// A request as it was understood.
pub(super) struct Parsed {
    /// With the first prompt; the others are asked in the same way.
    pub(super) ask: Ask,
    pub(super) prompts: Vec<Input>,
    pub(super) stream: Option<StreamOptions>,
    pub(super) echo: bool,
    /// Whether log probabilities are told.
    pub(super) logprobs: bool,
}

pub(super) fn parse(body: &Value, limits: &RequestLimits) -> Result<Parsed, ApiError> {
    let fields = Fields::root(body)?;
    fields.only(&[HEEDED, SAMPLING, IGNORED])?;
    let model = fields.required_string("model")?.to_owned();
    let prompts = inputs(&fields, "prompt", MOST_PROMPTS.min(limits.inputs))?;
    if fields.string("suffix")?.is_some_and(|text| !text.is_empty()) {
        let what = "models here go on from a prompt, and cannot write towards what follows; leave it out";
        return Err(fields.error("suffix", what).code("unsupported_parameter"));
    }
    let choices = fields.count("n", 1..=128)?.unwrap_or(1);
    if fields.count("best_of", 1..=128)?.is_some_and(|best| best != choices) {
        return Err(fields.error("best_of", "must be as large as `n`: all answers are given"));
    }
    let logprobs = fields.count("logprobs", 0..=5)?;
    let echo = fields.boolean("echo")?.unwrap_or(false);
    if echo && logprobs.is_some() {
        let what = "cannot be had together with `echo`: only tokens that are chosen have probabilities here";
        return Err(fields.error("logprobs", what).code("unsupported_parameter"));
    }
    let max_tokens = fields.count("max_tokens", 0..=i32::MAX as usize)?.unwrap_or(TOKENS);
    if max_tokens == 0 && !echo {
        return Err(fields.error("max_tokens", "is 0, and must be at least 1, unless `echo` is true"));
    }
    let ask = Ask {
        model,
        input: Input::Tokens(Vec::new()),
        sampling: sampling(&fields)?,
        choices,
        bias: bias(&fields)?,
        logprobs,
        max_tokens: Some(max_tokens),
        stop: stops(&fields, "stop", limits)?,
        ignore_eos: fields.boolean("ignore_eos")?.unwrap_or(false),
        output: OutputFormat::Text,
    };
    Ok(Parsed { ask, prompts, stream: stream(&fields)?, echo, logprobs: logprobs.is_some() })
}
