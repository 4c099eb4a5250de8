//! What an answer took, in tokens and time.

use std::time::Duration;

use autarky_engine::service::Usage;
use serde_json::{Value, json};

/// What an answer took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Totals {
    /// Tokens and times, as the engine counts them.
    pub(crate) usage: Usage,
    /// Tokens in which the model wrote to itself.
    pub(crate) reasoning: usize,
    /// Answers.
    pub(crate) choices: usize,
}

impl Totals {
    /// Adds the tokens of another prompt's answers, and takes over its times.
    pub(crate) fn add(&mut self, other: &Totals) {
        let (a, b) = (self.usage, other.usage);
        self.usage = Usage {
            prompt: a.prompt + b.prompt,
            cached: a.cached + b.cached,
            generated: a.generated + b.generated,
            ..b
        };
        self.reasoning += other.reasoning;
        self.choices += other.choices;
    }

    /// `usage` as chat completions have it.
    pub(crate) fn openai(&self) -> Value {
        let u = &self.usage;
        json!({
            "prompt_tokens": u.prompt,
            "completion_tokens": u.generated,
            "total_tokens": u.prompt + u.generated,
            "prompt_tokens_details": {"cached_tokens": u.cached},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        })
    }

    /// `usage` as responses have it.
    pub(crate) fn responses(&self) -> Value {
        let u = &self.usage;
        json!({
            "input_tokens": u.prompt,
            "input_tokens_details": {"cached_tokens": u.cached},
            "output_tokens": u.generated,
            "output_tokens_details": {"reasoning_tokens": self.reasoning},
            "total_tokens": u.prompt + u.generated,
        })
    }

    /// `usage` as messages have it, where tokens from the cache are not input tokens.
    pub(crate) fn anthropic(&self) -> Value {
        let u = &self.usage;
        json!({
            "input_tokens": u.prompt.saturating_sub(u.cached),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": u.cached,
            "output_tokens": u.generated,
        })
    }

    /// Where the time went: what no other API tells.
    pub(crate) fn timings(&self) -> Value {
        let u = &self.usage;
        let rate = |tokens: usize, time: Duration| {
            (tokens > 0 && !time.is_zero()).then(|| tokens as f64 / time.as_secs_f64())
        };
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        json!({
            "queue_ms": ms(u.waited),
            "prefill_ms": ms(u.prefill),
            "decode_ms": ms(u.decode),
            "prefill_tokens_per_second": rate(u.prompt.saturating_sub(u.cached), u.prefill),
            // The first token of each answer is the prefill's last.
            "decode_tokens_per_second": rate(u.generated.saturating_sub(self.choices), u.decode),
        })
    }
}
