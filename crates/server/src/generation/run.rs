//! From a job's events to parts of answers.

use std::collections::VecDeque;

use autarky_engine::StopReason;
use autarky_engine::service::{Chosen, JobEvent};
use autarky_text::{Answer, AnswerParser, AnswerPart};

use super::prepare::Prepared;
use super::totals::Totals;
use crate::error::ApiError;
use crate::registry::Lease;
use crate::stream::JobStream;

/// A job that is being answered. Dropping it cancels the job.
pub(crate) struct Generation {
    stream: JobStream,
    choices: Vec<Choice>,
    ready: VecDeque<Update>,
    /// Tokens of the prompt.
    pub(crate) prompt: usize,
}

/// How far one answer is.
struct Choice {
    /// `None`: all text is content.
    parser: Option<AnswerParser>,
    /// Whole calls.
    calls: usize,
    /// Whether what follows the first call is left out.
    single_call: bool,
    /// Whether the model writes to itself.
    reasoning: bool,
    reasoning_tokens: usize,
}

/// What happens next.
#[derive(Debug)]
pub(crate) enum Update {
    /// The prompt is being computed; so many of its tokens were computed before.
    Started { cached: usize },
    /// More of an answer.
    Piece {
        /// Which.
        choice: usize,
        parts: Vec<AnswerPart>,
        /// The tokens since the last piece.
        tokens: Vec<Chosen>,
    },
    /// An answer has ended.
    Ended { choice: usize, finish: Finish },
    /// All have: the last update.
    Finished(Totals),
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The model ended it.
    End,
    /// This stop string came up.
    StopString(String),
    /// The tokens that were asked for, or the context, are used up.
    Length,
    /// The model waits for what tools answer.
    ToolCalls,
}

impl Finish {
    /// The reason as OpenAI's API has it.
    pub(crate) fn openai(&self) -> &'static str {
        match self {
            Finish::End | Finish::StopString(_) => "stop",
            Finish::Length => "length",
            Finish::ToolCalls => "tool_calls",
        }
    }
}

/// An answer that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) answer: Answer,
    pub(crate) tokens: Vec<Chosen>,
    pub(crate) finish: Finish,
}

impl Generation {
    pub(super) fn submit(lease: Lease, prepared: Prepared) -> Result<Generation, ApiError> {
        let Prepared { job, format, single_call } = prepared;
        let prompt = job.prompt.len();
        let choice = |_| Choice {
            parser: format.as_ref().map(|(format, options)| AnswerParser::new(*format, options)),
            calls: 0,
            single_call,
            reasoning: format.as_ref().is_some_and(|(_, options)| options.starts_in_reasoning),
            reasoning_tokens: 0,
        };
        let choices = (0..job.choices).map(choice).collect();
        let stream = JobStream::submit(lease, job)?;
        Ok(Generation { stream, choices, ready: VecDeque::new(), prompt })
    }

    /// How many answers there are.
    pub(crate) fn choices(&self) -> usize {
        self.choices.len()
    }

    /// The model.
    pub(crate) fn model(&self) -> &Lease {
        self.stream.model()
    }

    /// What happens next; nothing comes after [`Update::Finished`] or an error.
    ///
    /// # Errors
    /// When the job cannot go on.
    pub(crate) async fn next(&mut self) -> Result<Update, ApiError> {
        loop {
            if let Some(update) = self.ready.pop_front() {
                return Ok(update);
            }
            match self.stream.next().await {
                Some(event) => self.take(event)?,
                None => return Err(ApiError::internal("the model's engine has stopped; try again")),
            }
        }
    }

    fn take(&mut self, event: JobEvent) -> Result<(), ApiError> {
        match event {
            JobEvent::Started { cached, .. } => self.ready.push_back(Update::Started { cached }),
            JobEvent::Piece(piece) => {
                let Some(choice) = self.choices.get_mut(piece.choice) else { return Ok(()) };
                let parts = choice.push(&piece.text, piece.tokens.len());
                self.ready.push_back(Update::Piece { choice: piece.choice, parts, tokens: piece.tokens });
            }
            JobEvent::Ended { choice: index, reason } => {
                let Some(choice) = self.choices.get_mut(index) else { return Ok(()) };
                let parts = choice.finish();
                if !parts.is_empty() {
                    self.ready.push_back(Update::Piece { choice: index, parts, tokens: Vec::new() });
                }
                let finish = match reason {
                    StopReason::MaxTokens | StopReason::ContextFull => Finish::Length,
                    _ if choice.calls > 0 => Finish::ToolCalls,
                    StopReason::StopString(text) => Finish::StopString(text),
                    _ => Finish::End,
                };
                self.ready.push_back(Update::Ended { choice: index, finish });
            }
            JobEvent::Finished(usage) => {
                let reasoning = self.choices.iter().map(|c| c.reasoning_tokens).sum();
                let totals = Totals { usage, reasoning, choices: self.choices.len() };
                self.ready.push_back(Update::Finished(totals));
            }
            JobEvent::Embedding(_) => {}
            JobEvent::Failed(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Waits for all answers.
    ///
    /// # Errors
    /// When the job cannot go on.
    pub(crate) async fn collect(mut self) -> Result<(Vec<Outcome>, Totals), ApiError> {
        let outcome = || Outcome { answer: Answer::default(), tokens: Vec::new(), finish: Finish::Length };
        let mut outcomes: Vec<Outcome> = self.choices.iter().map(|_| outcome()).collect();
        loop {
            match self.next().await? {
                Update::Started { .. } => {}
                Update::Piece { choice, parts, tokens } => {
                    if let Some(outcome) = outcomes.get_mut(choice) {
                        outcome.answer.extend(parts);
                        outcome.tokens.extend(tokens);
                    }
                }
                Update::Ended { choice, finish } => {
                    if let Some(outcome) = outcomes.get_mut(choice) {
                        outcome.finish = finish;
                    }
                }
                Update::Finished(totals) => return Ok((outcomes, totals)),
            }
        }
    }
}

impl Choice {
    fn push(&mut self, text: &str, tokens: usize) -> Vec<AnswerPart> {
        let parts = match &mut self.parser {
            Some(parser) => parser.push(text),
            None if text.is_empty() => Vec::new(),
            None => vec![AnswerPart::Content(text.to_owned())],
        };
        // A token whose text is held back is of the kind of those before it.
        let begins_in_reasoning = self.reasoning;
        let parts = self.look(parts);
        let reasons = |part: &AnswerPart| matches!(part, AnswerPart::Reasoning(_));
        if parts.iter().any(reasons) || (parts.is_empty() && begins_in_reasoning) {
            self.reasoning_tokens += tokens;
        }
        parts
    }

    fn finish(&mut self) -> Vec<AnswerPart> {
        let parts = self.parser.as_mut().map(AnswerParser::finish).unwrap_or_default();
        self.look(parts)
    }

    /// Keeps account of what comes, and leaves out what may not.
    fn look(&mut self, mut parts: Vec<AnswerPart>) -> Vec<AnswerPart> {
        if let Some(last) = parts.last() {
            self.reasoning = matches!(last, AnswerPart::Reasoning(_));
        }
        parts.retain(|part| {
            let wanted = !self.single_call || self.calls == 0;
            self.calls += usize::from(wanted && matches!(part, AnswerPart::ToolCallEnd { .. }));
            wanted
        });
        parts
    }
}
