//! Rewards answers that a regular expression matches.

use std::collections::HashMap;
use std::sync::Arc;

use regex_automata::meta::Regex;

use super::{Answered, RewardError, compiled, text};
use crate::objective::config::RewardConfig;

/// So many patterns of records are kept compiled.
const KEPT: usize = 4096;

/// A pattern for all records, or one of each.
#[derive(Debug)]
pub(super) enum Pattern {
    Same(Regex),
    Field { name: String, known: HashMap<String, Arc<Regex>> },
}

impl Pattern {
    pub(super) fn new(config: &RewardConfig) -> Result<Pattern, RewardError> {
        Ok(match &config.field {
            Some(name) => Pattern::Field { name: name.clone(), known: HashMap::new() },
            None => Pattern::Same(compiled(config.pattern.as_deref().unwrap_or_default())?),
        })
    }

    pub(super) fn judge(&mut self, answered: &Answered<'_>) -> Result<bool, RewardError> {
        match self {
            Pattern::Same(regex) => Ok(regex.is_match(answered.answer)),
            Pattern::Field { name, known } => {
                let pattern = text(answered.record, name)?;
                if let Some(regex) = known.get(pattern) {
                    return Ok(regex.is_match(answered.answer));
                }
                let regex = Arc::new(compiled(pattern)?);
                if known.len() >= KEPT {
                    known.clear();
                }
                known.insert(pattern.to_owned(), Arc::clone(&regex));
                Ok(regex.is_match(answered.answer))
            }
        }
    }
}
