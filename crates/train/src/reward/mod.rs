//! What answers are worth, by rules that anybody can check.
//!
//! Module map: `exact` the result that a record gives · `pattern` regular expressions · `schema` JSON Schema · `command`
//! a program of one's own.

mod command;
mod exact;
mod pattern;
mod schema;

use std::path::PathBuf;

use serde_json::{Map, Value as Json};
use thiserror::Error;

use crate::objective::config::{RewardConfig, RewardKind};

/// Why answers cannot be judged.
#[derive(Debug, Error)]
pub enum RewardError {
    /// A record lacks the field.
    #[error("a reward reads the field `{field}`, and this record {what}: {record}")]
    Field {
        /// Which.
        field: String,
        /// How it lacks it.
        what: &'static str,
        /// The record, shortened.
        record: String,
    },
    /// A pattern is none.
    #[error("`{pattern}` is no regular expression: {problem}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why not.
        problem: String,
    },
    /// A file with a schema cannot be read.
    #[error("cannot read the schema {path}: {problem}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// A schema says what cannot be checked.
    #[error("the schema {place}: {problem}")]
    Schema {
        /// Where in the schema, as a JSON Pointer.
        place: String,
        /// What is wrong there.
        problem: String,
    },
    /// A program does not judge.
    #[error("the reward command `{command}` {problem}")]
    Command {
        /// The program and its arguments.
        command: String,
        /// What it did.
        problem: String,
    },
}

/// An answer to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// What was asked: the text of the last message.
    pub prompt: &'a str,
    /// What was answered, without control tokens.
    pub answer: &'a str,
    /// The record that the prompt is of.
    pub record: &'a Map<String, Json>,
}

/// The rewards of a run.
#[derive(Debug)]
pub struct Rewards(Vec<(f64, Reward)>);

#[derive(Debug)]
enum Reward {
    Exact(exact::Exact),
    Pattern(pattern::Pattern),
    Schema(schema::Schemas),
    Command(command::Command),
}

impl Rewards {
    /// The rewards that a configuration asks for.
    ///
    /// # Errors
    /// When a pattern or a schema is none.
    pub fn new(configs: &[RewardConfig]) -> Result<Rewards, RewardError> {
        let of = |config: &RewardConfig| {
            let reward = match config.kind {
                RewardKind::Exact | RewardKind::Number => Reward::Exact(exact::Exact::new(config)?),
                RewardKind::Regex => Reward::Pattern(pattern::Pattern::new(config)?),
                RewardKind::JsonSchema => Reward::Schema(schema::Schemas::new(config)?),
                RewardKind::Command => Reward::Command(command::Command::new(config)),
            };
            Ok((config.weight, reward))
        };
        configs.iter().map(of).collect::<Result<_, _>>().map(Rewards)
    }

    /// Refuses a record that answers cannot be judged by, before anything is drawn.
    ///
    /// # Errors
    /// Names what it lacks.
    pub fn admit(&mut self, record: &Map<String, Json>) -> Result<(), RewardError> {
        let nothing = Answered { prompt: "", answer: "", record };
        for (_, reward) in &mut self.0 {
            if !matches!(reward, Reward::Command(_)) {
                reward.judge(&[nothing])?;
            }
        }
        Ok(())
    }

    /// What each answer is worth: the sum of the rewards, each times its weight.
    ///
    /// # Errors
    /// When one cannot be judged.
    pub fn judge(&mut self, answers: &[Answered<'_>]) -> Result<Vec<f64>, RewardError> {
        let mut all = vec![0.0; answers.len()];
        for (weight, reward) in &mut self.0 {
            let each = reward.judge(answers)?;
            all.iter_mut().zip(each).for_each(|(sum, reward)| *sum += *weight * reward);
        }
        Ok(all)
    }
}

impl Reward {
    fn judge(&mut self, answers: &[Answered<'_>]) -> Result<Vec<f64>, RewardError> {
        let holds = |holds: bool| f64::from(u8::from(holds));
        match self {
            Reward::Exact(exact) => answers.iter().map(|a| exact.judge(a).map(holds)).collect(),
            Reward::Pattern(pattern) => answers.iter().map(|a| pattern.judge(a).map(holds)).collect(),
            Reward::Schema(schemas) => answers.iter().map(|a| schemas.judge(a).map(holds)).collect(),
            Reward::Command(command) => command.judge(answers),
        }
    }
}

/// The field of a record.
fn field<'a>(record: &'a Map<String, Json>, name: &str) -> Result<&'a Json, RewardError> {
    record.get(name).ok_or_else(|| lacks(record, name, "has none"))
}

/// The field of a record that has to be text.
fn text<'a>(record: &'a Map<String, Json>, name: &str) -> Result<&'a str, RewardError> {
    field(record, name)?.as_str().ok_or_else(|| lacks(record, name, "has something that is not text there"))
}

fn lacks(record: &Map<String, Json>, name: &str, what: &'static str) -> RewardError {
    let mut text = Json::Object(record.clone()).to_string();
    if let Some((end, _)) = text.char_indices().nth(200) {
        text.truncate(end);
        text.push('…');
    }
    RewardError::Field { field: name.to_owned(), what, record: text }
}

fn compiled(pattern: &str) -> Result<regex_automata::meta::Regex, RewardError> {
    regex_automata::meta::Regex::new(pattern).map_err(|e| {
        let problem = e.syntax_error().map_or_else(|| e.to_string(), ToString::to_string);
        RewardError::Pattern { pattern: pattern.to_owned(), problem }
    })
}
