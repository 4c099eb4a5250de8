//! What a run comes to: the numbers that its configuration leaves open, chosen for the model and the data.

use serde::{Deserialize, Serialize};

use crate::batches::Packing;
use crate::config::{Config, ConfigError};
use crate::scale;
use crate::schedule::Schedule;
use crate::tokens::Contents;

/// How often a run reads its data at most, unless it is told otherwise: up to four times, text is worth nearly as much as
/// new text (Muennighoff et al. 2023, arXiv:2305.16264).
const MOST_EPOCHS: f64 = 4.0;

/// Rows of a step for a model that is trained further.
const ROWS: usize = 16;

/// The highest learning rate for a model that is trained further, all of its weights.
const FURTHER: f32 = 2e-5;

/// The same for an adapter (Hu et al. 2021, arXiv:2106.09685, table 11).
const ADAPTER: f32 = 2e-4;

/// What a step has so many of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Rows of text.
    #[default]
    Rows,
    /// Pairs of answers.
    Pairs,
    /// Prompts to be answered.
    Prompts,
}

/// The numbers of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunPlan {
    /// Parameters that are trained.
    pub parameters: u64,
    /// What a step has so many of.
    pub unit: Unit,
    /// Tokens of a row; of a pair's or a prompt's text, at most.
    pub context: usize,
    /// Rows, pairs or prompts of a step.
    pub rows: usize,
    /// Tokens that are read at a time.
    pub at_once: usize,
    /// How documents come into rows.
    pub packing: Packing,
    /// Steps.
    pub steps: u64,
    /// Tokens of the training data; or how many pairs or prompts it has.
    pub data: u64,
    /// The highest learning rate.
    pub learning_rate: f32,
    /// Steps in which it rises.
    pub warmup: u64,
    /// Steps from one evaluation to the next.
    pub evaluate_every: u64,
    /// Steps from one checkpoint to the next.
    pub checkpoint_every: u64,
}

/// The length of rows that a configuration asks for, or the usual one for a model that takes so many tokens; `None` for a
/// new one.
pub fn context(config: &Config, trained: Option<usize>) -> usize {
    config.training.context.unwrap_or(match (trained, config.model.depth) {
        (Some(trained), _) => trained.min(1024),
        (None, Some(depth)) if depth <= 4 => 256,
        (None, _) => 512,
    })
}

/// How documents come into rows: as it is asked for, else whole where all are conversations, and apart where some are text,
/// most of which would be cut off.
pub fn packing(config: &Config, about: &Contents) -> Packing {
    let all = about.documents.iter().sum::<u64>() == about.conversations;
    config.data.packing.unwrap_or(if all { Packing::Whole } else { Packing::Apart })
}

impl RunPlan {
    /// Tokens that are read at a time, unless said otherwise.
    pub(crate) const AT_ONCE: usize = 4096;

    /// The numbers for a model of so many parameters, and data of which so many tokens are to be learned from.
    ///
    /// # Errors
    /// When the configuration's own numbers contradict each other.
    pub fn new(
        config: &Config,
        parameters: u64,
        context: usize,
        data: u64,
        about: &Contents,
    ) -> Result<RunPlan, ConfigError> {
        let t = &config.training;
        let value = |key, problem: String| ConfigError::Value { key, problem };
        let is_new = config.model.from.is_none();
        let most = (data as f64 * MOST_EPOCHS) as u64;
        let usual = match (is_new, about.conversations > 0) {
            (true, _) => scale::tokens(parameters).min(most),
            (false, true) => 3 * data,
            (false, false) => data,
        };
        let wanted = t.tokens.or(t.epochs.map(|e| (e * data as f64).ceil() as u64)).unwrap_or(usual).max(1);
        let batch = t.batch.unwrap_or_else(|| match is_new {
            // Steps enough for the learning rate to rise and fall.
            true => scale::batch(parameters, wanted).min((wanted / 200) as usize),
            false => ROWS * context,
        });
        if t.batch.is_some_and(|b| b < context) {
            return Err(value(
                "training.batch",
                format!("a step of {batch} tokens has no row of {context} (training.context)"),
            ));
        }
        let rows = (batch / context).max(1);
        let at_once = t.at_once.unwrap_or(RunPlan::AT_ONCE.max(context)).min(rows * context);
        if at_once < context {
            return Err(value(
                "training.at-once",
                format!("{at_once} tokens are no row of {context} (training.context)"),
            ));
        }
        let steps = t.steps.unwrap_or_else(|| wanted.div_ceil((rows * context) as u64));
        let tokens = steps * (rows * context) as u64;
        let rate = || {
            if is_new {
                scale::learning_rate(parameters, tokens)
            } else if config.adapter.is_some() {
                ADAPTER
            } else {
                FURTHER
            }
        };
        let twentieth = (steps / 20).max(1);
        Ok(RunPlan {
            parameters,
            unit: Unit::Rows,
            context,
            rows,
            at_once,
            packing: packing(config, about),
            steps,
            data,
            learning_rate: config.optimizer.learning_rate.unwrap_or_else(rate),
            warmup: config.schedule.warmup.unwrap_or(steps / 50),
            evaluate_every: config.evaluation.every.unwrap_or(twentieth),
            checkpoint_every: config.checkpoints.every.unwrap_or(twentieth),
        })
    }

    /// Tokens of a step.
    pub fn batch(&self) -> usize {
        self.rows * self.context
    }

    /// Sequences that are read at a time, at most: room for short conversations.
    pub(crate) fn sequences(&self) -> usize {
        self.at_once.div_ceil(16)
    }

    /// The learning rates.
    pub fn schedule(&self, config: &Config) -> Schedule {
        let s = &config.schedule;
        Schedule {
            decay: s.decay,
            peak: self.learning_rate,
            floor: s.floor,
            warmup: self.warmup,
            steps: self.steps,
            cooldown: s.cooldown,
        }
    }
}
