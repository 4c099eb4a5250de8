//! A model, what was said so far, and the next answer.

use std::ops::ControlFlow;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use autarky_engine::{Engine, Event, Generated, Request, Sampler, Sampling, Sequence, generate};
use autarky_text::{ChatFormat, Conversation, DateTime, EncodeOptions, Message, Tokenizer};
use serde_json::{Value, json};

use crate::exit::Usage;
use crate::terminal::Progress;

/// Where an answer's text goes. It ends the answer by returning `Break`.
pub(crate) type Listener<'a> = dyn FnMut(&str) -> ControlFlow<()> + 'a;

/// A loaded model in a conversation.
pub(crate) struct Session {
    engine: Engine,
    tokenizer: Tokenizer,
    format: Option<ChatFormat>,
    /// The day on which the conversation began: another one would be another prompt.
    date: DateTime,
    sequence: Sequence,
    sampling: Sampling,
    request: Request,
    system: Option<String>,
    history: Vec<Message>,
    /// Answers so far: each draws from a seed of its own.
    turns: u64,
}

/// An answer, and what it took.
pub(crate) struct Turn {
    pub(crate) text: String,
    pub(crate) generated: Generated,
    /// Tokens before the answer.
    pub(crate) prompt: usize,
    /// How many of them were in the KV cache.
    pub(crate) cached: usize,
    /// The answer's tokens.
    pub(crate) tokens: Vec<u32>,
}

impl Session {
    /// A conversation in which nothing was said. Without a template, text is continued as it is.
    pub(crate) fn new(
        engine: Engine,
        tokenizer: Tokenizer,
        format: Option<ChatFormat>,
        sampling: Sampling,
        request: Request,
        system: Option<String>,
    ) -> Session {
        let (sequence, history) = (Sequence::new(), Vec::new());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        let date = DateTime::from_unix(now);
        Session { engine, tokenizer, format, date, sequence, sampling, request, system, history, turns: 0 }
    }

    /// Whether it answers messages; else it continues text.
    pub(crate) fn is_chat(&self) -> bool {
        self.format.is_some()
    }

    pub(crate) fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// Draws by other options from now on.
    pub(crate) fn set_sampling(&mut self, sampling: Sampling) {
        self.sampling = sampling;
    }

    /// Generates at most so many tokens from now on.
    pub(crate) fn set_max_tokens(&mut self, max: Option<usize>) {
        self.request.max_tokens = max;
    }

    pub(crate) fn max_tokens(&self) -> Option<usize> {
        self.request.max_tokens
    }

    /// Tells the model something else before the conversation, which begins anew.
    pub(crate) fn set_system(&mut self, system: Option<String>) {
        self.system = system;
        self.clear();
    }

    pub(crate) fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    /// Forgets what was said.
    pub(crate) fn clear(&mut self) {
        self.history.clear();
        self.sequence.truncate(0);
    }

    /// Goes on with another engine of the same model: what was said stays, and is computed again.
    pub(crate) fn set_engine(&mut self, engine: Engine) {
        let mut sequence = Sequence::new();
        sequence.push(self.sequence.tokens());
        // The old one's blocks are of the old engine's cache.
        (self.sequence, self.engine) = (sequence, engine);
    }

    /// Tokens in the KV cache, and how many there may be.
    pub(crate) fn fill(&self) -> (usize, usize) {
        (self.sequence.cached(), self.engine.context())
    }

    /// The conversation as other programs exchange it: `{"messages": [{"role": ..., "content": ...}, ...]}`.
    pub(crate) fn to_json(&self) -> Value {
        let messages = self.messages();
        let messages = messages.iter().map(|m| json!({"role": m.role, "content": m.content}));
        json!({"messages": messages.collect::<Vec<_>>()})
    }

    fn messages(&self) -> Vec<Message> {
        let system = self.system.as_deref().map(|text| Message::new("system", text));
        system.into_iter().chain(self.history.iter().cloned()).collect()
    }

    /// Answers `text`: as the next message of the conversation, or by continuing it. What is told again is kept from
    /// the KV cache.
    pub(crate) fn answer(&mut self, text: &str, listener: &mut Listener<'_>) -> Result<Turn> {
        let Some(format) = &self.format else {
            let options = EncodeOptions { add_special: true, parse_special: true };
            let tokens = self.tokenizer.encode(text, options)?;
            return self.continue_from(&tokens, text.is_empty(), listener);
        };
        let mut messages = self.messages();
        messages.push(Message::new("user", text));
        let conversation =
            Conversation { messages: &messages, date: Some(self.date), ..Conversation::default() };
        let what = "the model's chat template does not take this conversation";
        let prompt = format.prompt(&conversation).context(what)?;
        let turn = self.continue_from(&prompt.tokens, true, listener)?;
        self.history.push(Message::new("user", text));
        self.history.push(Message::new("assistant", turn.text.as_str()));
        Ok(turn)
    }

    /// Goes on with the text that it was continuing.
    pub(crate) fn go_on(&mut self, listener: &mut Listener<'_>) -> Result<Turn> {
        let tokens = self.sequence.tokens().to_vec();
        self.continue_from(&tokens, false, listener)
    }

    /// `at_start`: the answer is a text of its own, so that a blank which the tokenizer puts before every text is not
    /// part of it.
    fn continue_from(&mut self, tokens: &[u32], at_start: bool, listener: &mut Listener<'_>) -> Result<Turn> {
        if tokens.is_empty() {
            return Err(Usage(
                "the prompt is empty, and this model has no token to begin a text with".to_owned(),
            )
            .into());
        }
        let seed = self.sampling.seed.wrapping_add(self.turns);
        let mut sampler = Sampler::new(Sampling { seed, ..self.sampling })?;
        sampler.accept(tokens);
        let cached = self.sequence.replace(tokens);
        let mut decoder = self.tokenizer.decoder();
        if !at_start {
            decoder = decoder.continuing();
        }
        let mut text = String::new();
        let mut answer = Vec::new();
        let mut progress = Some(Progress::new("reading"));
        let mut hear = |event: Event<'_>| match event {
            Event::Prefill { done, total } => {
                if let Some(progress) = &mut progress {
                    progress.set(done as u64, total as u64, "");
                }
                // Lets Ctrl-C through between the chunks of a long prompt.
                listener("")
            }
            Event::Token(token) => {
                progress = None;
                answer.push(token);
                ControlFlow::Continue(())
            }
            Event::Text(piece) => {
                text.push_str(piece);
                listener(piece)
            }
        };
        let generated = generate(
            &mut self.engine,
            &mut self.sequence,
            &mut sampler,
            &mut decoder,
            &self.request,
            &mut hear,
        )?;
        self.turns += 1;
        Ok(Turn { text, generated, prompt: tokens.len(), cached, tokens: answer })
    }
}
