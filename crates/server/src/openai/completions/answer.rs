//! Answers of completions, whole and as they are written.

use autarky_engine::service::Chosen;
use autarky_text::{AnswerPart, Tokenizer};
use serde_json::{Map, Value, json};

use super::Head;
use crate::error::ApiError;
use crate::generation::{Ask, Generation, Input, Totals, Update};
use crate::openai::chat::{StreamOptions, finite, token_text};
use crate::sse::{Events, Gone};
use crate::state::AppState;

/// One prompt's answers.
pub(super) struct Part {
    /// `None`: nothing was asked for beyond the prompt itself.
    pub(super) generation: Option<Generation>,
    /// The prompt, where it is to be told again.
    pub(super) echoed: String,
    /// Its tokens, where nothing is generated.
    pub(super) prompt: usize,
}

/// The text of a prompt.
pub(super) async fn text(state: &AppState, ask: &Ask) -> Result<String, ApiError> {
    match &ask.input {
        Input::Text(text) => Ok(text.clone()),
        Input::Tokens(tokens) => {
            let lease = state.registry.get(&ask.model).await?;
            lease.tokenizer.decode(tokens, true).map_err(|e| ApiError::parameter("prompt", e.to_string()))
        }
        Input::Conversation(_) => Ok(String::new()),
    }
}

/// Log probabilities as completions have them: lists beside each other.
#[derive(Default)]
struct Logprobs {
    tokens: Vec<Value>,
    chosen: Vec<Value>,
    top: Vec<Value>,
    offsets: Vec<usize>,
}

impl Logprobs {
    /// Of `tokens`, whose text begins at character `offset`, which is moved on.
    fn of(tokenizer: &Tokenizer, tokens: &[Chosen], offset: &mut usize) -> Logprobs {
        let mut all = Logprobs::default();
        for token in tokens {
            let Some(logprobs) = &token.logprobs else { continue };
            let text = token_text(tokenizer, token.token);
            all.offsets.push(*offset);
            *offset += text.chars().count();
            all.tokens.push(json!(text));
            all.chosen.push(json!(finite(logprobs.chosen)));
            let top = logprobs.top.iter().map(|(t, p)| (token_text(tokenizer, *t), json!(finite(*p))));
            all.top.push(Value::Object(top.collect::<Map<_, _>>()));
        }
        all
    }

    fn json(self) -> Value {
        json!({
            "tokens": self.tokens,
            "token_logprobs": self.chosen,
            "top_logprobs": self.top,
            "text_offset": self.offsets,
        })
    }
}

fn choice(index: usize, text: &str, logprobs: Value, finish: Option<&str>) -> Value {
    json!({"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish})
}

/// Waits for all answers and gives the response.
pub(super) async fn whole(parts: Vec<Part>, head: &Head, with_logprobs: bool) -> Result<Value, ApiError> {
    let single = parts.len() == 1;
    let (mut choices, mut all) = (Vec::new(), Totals::default());
    for part in parts {
        let Some(generation) = part.generation else {
            choices.push(choice(choices.len(), &part.echoed, Value::Null, Some("length")));
            all.usage.prompt += part.prompt;
            continue;
        };
        let tokenizer = generation.model().tokenizer.clone();
        let (outcomes, totals) = generation.collect().await?;
        all.add(&totals);
        for outcome in outcomes {
            let logprobs = match with_logprobs {
                true => Logprobs::of(&tokenizer, &outcome.tokens, &mut 0).json(),
                false => Value::Null,
            };
            let text = format!("{}{}", part.echoed, outcome.answer.content);
            choices.push(choice(choices.len(), &text, logprobs, Some(outcome.finish.openai())));
        }
    }
    let mut body = head.body(choices);
    end(&mut body, &all, single);
    Ok(body)
}

/// Puts in what the answers took. Times of several prompts, which run side by side, make no sum.
fn end(body: &mut Value, totals: &Totals, single: bool) {
    if let Some(map) = body.as_object_mut() {
        map.insert("usage".to_owned(), totals.openai());
        if single {
            map.insert("timings".to_owned(), totals.timings());
        }
    }
}

/// Sends all answers: those of one prompt after those of another, which wait in the meantime.
pub(super) async fn write(
    parts: Vec<Part>,
    head: Head,
    options: StreamOptions,
    with_logprobs: bool,
    events: Events,
) -> Result<(), Gone> {
    let mut writer = Writer { head, options, with_logprobs, events };
    let single = parts.len() == 1;
    let (mut first, mut all) = (0, Totals::default());
    for part in parts {
        let answers = part.generation.as_ref().map_or(1, Generation::choices);
        match writer.part(part, first).await? {
            Ok(totals) => all.add(&totals),
            Err(error) => {
                writer.events.data(&error.openai()).await?;
                return writer.events.done().await;
            }
        }
        first += answers;
    }
    if options.usage {
        let mut body = writer.head.body(Vec::new());
        end(&mut body, &all, single);
        writer.events.data(&body).await?;
    }
    writer.events.done().await
}

struct Writer {
    head: Head,
    options: StreamOptions,
    with_logprobs: bool,
    events: Events,
}

impl Writer {
    async fn send(&mut self, choice: Value) -> Result<(), Gone> {
        let mut body = self.head.body(vec![choice]);
        if let (true, Some(map)) = (self.options.usage, body.as_object_mut()) {
            map.insert("usage".to_owned(), Value::Null);
        }
        self.events.data(&body).await
    }

    /// Sends the answers to one prompt, whose first has the number `first`.
    async fn part(&mut self, part: Part, first: usize) -> Result<Result<Totals, ApiError>, Gone> {
        let Some(mut generation) = part.generation else {
            self.send(choice(first, &part.echoed, Value::Null, Some("length"))).await?;
            let mut totals = Totals::default();
            totals.usage.prompt = part.prompt;
            return Ok(Ok(totals));
        };
        let mut offsets = vec![0; generation.choices()];
        if !part.echoed.is_empty() {
            for index in first..first + generation.choices() {
                self.send(choice(index, &part.echoed, Value::Null, None)).await?;
            }
        }
        loop {
            match generation.next().await {
                Ok(Update::Started { .. }) => {}
                Ok(Update::Piece { choice: index, parts, tokens }) => {
                    let logprobs = match (self.with_logprobs, offsets.get_mut(index)) {
                        (true, Some(offset)) => {
                            Logprobs::of(&generation.model().tokenizer, &tokens, offset).json()
                        }
                        _ => Value::Null,
                    };
                    let text: String = parts.iter().filter_map(content).collect();
                    if !text.is_empty() || self.with_logprobs {
                        self.send(choice(first + index, &text, logprobs, None)).await?;
                    }
                }
                Ok(Update::Ended { choice: index, finish }) => {
                    self.send(choice(first + index, "", Value::Null, Some(finish.openai()))).await?;
                }
                Ok(Update::Finished(totals)) => return Ok(Ok(totals)),
                Err(error) => return Ok(Err(error)),
            }
        }
    }
}

fn content(part: &AnswerPart) -> Option<&str> {
    match part {
        AnswerPart::Content(text) => Some(text),
        _ => None,
    }
}
