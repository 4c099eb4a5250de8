//! What is asked of a service, and what it tells of it.

use std::ops::ControlFlow;
use std::time::Duration;

use thiserror::Error;

use crate::constraint::{Constraint, ConstraintError};
use crate::error::EngineError;
use crate::generate::StopReason;
use crate::sampling::Sampling;
use crate::speculation::Speculation;

/// What is wanted of a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Goal {
    /// That it goes on.
    #[default]
    Text,
    /// One vector that stands for it.
    Embedding(Pooling),
}

/// How the hidden states of a text's positions become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The last position's.
    Last,
}

/// One request: a prompt, and how it is to be answered.
#[derive(Debug)]
pub struct Job {
    /// The prompt's tokens, at least one.
    pub prompt: Vec<u32>,
    /// What is wanted of it. An embedding needs nothing of what follows but `priority` and `client`.
    pub goal: Goal,
    /// Answers to the same prompt, drawn apart: answer `i` from the seed `sampling.seed + i`.
    pub choices: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Whether the sampling's penalties see the prompt, and not only the answer.
    pub penalize_prompt: bool,
    /// Added to the logits of single tokens, before anything else looks at them.
    pub bias: Vec<(u32, f32)>,
    /// Tell each token's log probability, and those of so many of the most probable tokens beside it.
    pub logprobs: Option<usize>,
    /// Tokens of one answer at most; `None` until something else ends it.
    pub max_tokens: Option<usize>,
    /// Tokens that end an answer, sorted; they give no text.
    pub end: Vec<u32>,
    /// Strings that end an answer; they are not part of its text.
    pub stop: Vec<String>,
    /// What answers may say: each follows it from this state on.
    pub constraint: Option<Constraint>,
    /// The constraint begins behind this text, and the answer cannot end before it: the end of reasoning.
    pub constraint_after: Option<String>,
    /// Whether special tokens are shown as the text they stand for (markers of tool calls) or left out.
    pub show_special: bool,
    /// Special tokens that are shown even so.
    pub shown: Vec<u32>,
    /// Whether an answer goes on in the prompt's text, so that a blank which the tokenizer puts before every text stays.
    pub continues: bool,
    /// Whether steps compute guesses at the next tokens. It changes no token, only time.
    pub speculation: Speculation,
    /// Of two waiting jobs, the one of higher priority is begun first.
    pub priority: i32,
    /// Who asks: the service is shared fairly among clients, whatever number of jobs each has.
    pub client: u64,
}

impl Job {
    /// One answer to `prompt`, chosen by `sampling`, without limits.
    pub fn new(prompt: Vec<u32>, sampling: Sampling) -> Job {
        Job {
            prompt,
            goal: Goal::Text,
            choices: 1,
            sampling,
            bias: Vec::new(),
            logprobs: None,
            max_tokens: None,
            end: Vec::new(),
            stop: Vec::new(),
            constraint: None,
            constraint_after: None,
            show_special: false,
            shown: Vec::new(),
            penalize_prompt: true,
            continues: false,
            speculation: Speculation::default(),
            priority: 0,
            client: 0,
        }
    }
}

/// What a job's listener hears, in order.
#[derive(Debug)]
pub enum JobEvent {
    /// Computing begins; `cached` tokens of the prompt need none.
    Started {
        /// Tokens of the prompt whose keys and values were in the cache.
        cached: usize,
        /// Time since the job was submitted.
        waited: Duration,
    },
    /// More of an answer.
    Piece(Piece),
    /// The vector that stands for the prompt, `[width]`, as pooling gives it: its length means nothing.
    Embedding(Vec<f32>),
    /// An answer has ended.
    Ended {
        /// Which.
        choice: usize,
        /// Why.
        reason: StopReason,
    },
    /// All answers have ended: the last event of a job that went well.
    Finished(Usage),
    /// The job cannot go on: the last event of one that did not.
    Failed(JobError),
}

/// More of one answer: whole characters, and the tokens that were chosen since the last piece.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Piece {
    /// Of which answer.
    pub choice: usize,
    /// Its text; empty where tokens came whose characters are not complete, or might begin a stop string.
    pub text: String,
    /// The tokens.
    pub tokens: Vec<Chosen>,
}

/// A token that was chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// Its id.
    pub token: u32,
    /// Its log probability and those of its most probable rivals, where the job asks for them.
    pub logprobs: Option<Logprobs>,
}

/// Natural logarithms of probabilities, by the model's logits as they are after bias: before penalties, filters and
/// temperature.
#[derive(Clone, Debug, PartialEq)]
pub struct Logprobs {
    /// Of the token that was chosen.
    pub chosen: f32,
    /// Of the most probable tokens, best first.
    pub top: Vec<(u32, f32)>,
}

/// What a job took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// How many of them were in the cache.
    pub cached: usize,
    /// Tokens chosen, in all answers, the ending ones included.
    pub generated: usize,
    /// Guesses that steps computed for it.
    pub guessed: usize,
    /// How many of them were right.
    pub right: usize,
    /// Time until computing began.
    pub waited: Duration,
    /// Time from then to the first token.
    pub prefill: Duration,
    /// Time from the first token to the last.
    pub decode: Duration,
}

/// Why a job did not go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JobError {
    /// The engine refused or lost it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The answer cannot go on as its constraint wants it.
    #[error(transparent)]
    Constraint(#[from] ConstraintError),
    /// Something in the service panicked while it worked on this job. Other jobs go on.
    #[error("internal error: {0}; only this request is lost")]
    Panic(String),
    /// The step that its tokens were in failed, and the error went to another job of the step.
    #[error("the step failed: {0}")]
    Step(String),
    /// The service stopped before the job was done.
    #[error("the model was unloaded before the request was done; send it again")]
    Stopped,
}

/// Why a job was not taken at all.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Refused {
    /// The prompt has no tokens.
    #[error("the prompt is empty, and a model needs at least one token to go on from")]
    Empty,
    /// There is no room for an answer.
    #[error(
        "the prompt has {prompt} tokens, and the context has {context}: shorten the prompt, or serve with a larger context"
    )]
    TooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Positions that one sequence may have.
        context: usize,
    },
    /// A number of the request is out of its range.
    #[error("{what} is {value}, and must be {range}")]
    Option {
        /// Which.
        what: &'static str,
        /// What it was.
        value: String,
        /// What it may be.
        range: String,
    },
    /// The model's graph does not give hidden states.
    #[error("this model gives no embeddings")]
    NoEmbeddings,
    /// Too many jobs wait.
    #[error("{waiting} requests wait already; try again in about {} s", .retry_after.as_secs().max(1))]
    QueueFull {
        /// Jobs that wait.
        waiting: usize,
        /// When there may be room, by the speed of the last jobs.
        retry_after: Duration,
    },
    /// The service takes no more jobs.
    #[error("the server is about to stop and takes no new requests")]
    Draining,
}

/// Hears what becomes of a job, on the service's own thread: it must not block. `Break` cancels the job.
pub type JobListener = Box<dyn FnMut(JobEvent) -> ControlFlow<()> + Send>;
