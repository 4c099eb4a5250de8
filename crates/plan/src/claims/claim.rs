//! A statement as a file.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Of;
use crate::{Confidence, DataError, data, read};

/// What an exact ratio may be off by: statements are rounded.
const ROUNDING: f64 = 0.05;
/// Lists in a file hold so many entries at most.
const MOST: usize = 100;

/// A public statement: one file of `data/claims`, or a user's own.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// A name for it.
    pub id: String,
    /// The statement.
    pub statement: String,
    /// Who said it.
    pub said_by: String,
    /// Where.
    pub source: String,
    /// How far to trust that it was said.
    pub confidence: Confidence,
    /// The chip that it is about.
    pub subject: String,
    /// Others that it is about.
    #[serde(default)]
    pub also: Vec<String>,
    /// The chip that it is compared with; without one, figures are meant, not ratios.
    pub reference: Option<String>,
    /// What is claimed.
    pub says: Vec<Says>,
    /// Where the statement is about certain runs: a part of the name of the document that published the subject's.
    pub runs: Option<String>,
    /// Figures that are not in the chips' files.
    #[serde(default)]
    pub given: Vec<Given>,
    /// What else one should know.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A part of a statement: a ratio, or a range with one end or both.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Says {
    /// What it is said of, in [`Of`]'s names; nothing: everything.
    #[serde(default)]
    pub of: Vec<String>,
    /// Subject / reference.
    pub ratio: Option<f64>,
    /// At least that.
    pub low: Option<f64>,
    /// At most that.
    pub high: Option<f64>,
}

/// A figure that somebody gives, besides those of the chips' files.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// What it is of.
    pub of: String,
    /// The subject's, in the unit of the chips' files.
    pub subject: Option<f64>,
    /// The reference's.
    pub reference: Option<f64>,
    /// Why.
    pub why: String,
    /// How far to trust it.
    pub confidence: Confidence,
}

impl Says {
    /// The claimed range.
    pub fn range(&self) -> (f64, f64) {
        match self.ratio {
            Some(ratio) => (ratio * (1.0 - ROUNDING), ratio * (1.0 + ROUNDING)),
            None => (self.low.unwrap_or(f64::NEG_INFINITY), self.high.unwrap_or(f64::INFINITY)),
        }
    }

    /// Whether it is said of that.
    pub fn is_of(&self, of: Of) -> bool {
        self.of.is_empty() || self.of.iter().filter_map(|n| Of::named(n)).any(|said| said.covers(of))
    }

    /// In words: `2.87`, `0.6 to 0.7`, `at least 1`.
    pub fn words(&self) -> String {
        match (self.ratio, self.low, self.high) {
            (Some(ratio), ..) => ratio.to_string(),
            (_, Some(low), Some(high)) => format!("{low} to {high}"),
            (_, Some(low), None) => format!("at least {low}"),
            (_, None, Some(high)) => format!("at most {high}"),
            (None, None, None) => String::new(),
        }
    }
}

impl Claim {
    /// Reads and checks a statement's file.
    ///
    /// # Errors
    /// The file, the field, and what is wrong with it.
    pub fn parse(file: &str, text: &str) -> Result<Claim, DataError> {
        let claim: Claim = read::parse(file, text)?;
        claim.validate(file)?;
        Ok(claim)
    }

    /// The statement in a file.
    ///
    /// # Errors
    /// The file cannot be read, or is no sound statement.
    pub fn read(path: &Path) -> Result<Claim, DataError> {
        Claim::parse(&path.display().to_string(), &read::text(path)?)
    }

    /// The chips that it is about.
    pub fn subjects(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.subject.as_str()).chain(self.also.iter().map(String::as_str))
    }

    fn validate(&self, file: &str) -> Result<(), DataError> {
        let fail = |field: String, reason: &str| {
            Err(DataError::Field { file: file.to_owned(), field, reason: reason.to_owned() })
        };
        let texts = [
            ("id", &self.id),
            ("statement", &self.statement),
            ("said_by", &self.said_by),
            ("source", &self.source),
            ("subject", &self.subject),
        ];
        if let Some((field, _)) = texts.into_iter().find(|(_, text)| text.trim().is_empty()) {
            return fail(field.to_owned(), "is empty");
        }
        if self.says.is_empty() {
            return fail("says".to_owned(), "is empty; give [[says]] with `ratio`, `low` or `high`");
        }
        let lists = [("says", self.says.len()), ("given", self.given.len()), ("also", self.also.len())];
        if let Some((field, _)) = lists.into_iter().find(|(_, length)| *length > MOST) {
            return fail(field.to_owned(), "has more than 100 entries");
        }
        for (i, says) in self.says.iter().enumerate() {
            let at = |name: &str| format!("says[{i}].{name}");
            for name in &says.of {
                known(file, &at("of"), name)?;
            }
            for (name, value) in [("ratio", says.ratio), ("low", says.low), ("high", says.high)] {
                positive(file, &at(name), value)?;
            }
            match (says.ratio, says.low, says.high) {
                (None, None, None) => {
                    return fail(at("ratio"), "is missing; give it, or `low`, `high` or both");
                }
                (Some(_), None, None) | (None, ..) => {}
                _ => return fail(at("ratio"), "does not go with `low` or `high`"),
            }
            if says.low.zip(says.high).is_some_and(|(low, high)| low > high) {
                return fail(at("low"), "is above `high`");
            }
        }
        for (i, given) in self.given.iter().enumerate() {
            known(file, &format!("given[{i}].of"), &given.of)?;
            positive(file, &format!("given[{i}].subject"), given.subject)?;
            positive(file, &format!("given[{i}].reference"), given.reference)?;
            if given.subject.or(given.reference).is_none() {
                return fail(format!("given[{i}].subject"), "is missing; give it, `reference`, or both");
            }
        }
        Ok(())
    }
}

fn positive(file: &str, field: &str, value: Option<f64>) -> Result<(), DataError> {
    match value {
        Some(x) if !(1e-9..=1e12).contains(&x) => {
            let reason = format!("is {x}; a number above zero and below 10¹² can be");
            Err(DataError::Field { file: file.to_owned(), field: field.to_owned(), reason })
        }
        _ => Ok(()),
    }
}

fn known(file: &str, field: &str, name: &str) -> Result<(), DataError> {
    if Of::named(name).is_some() {
        return Ok(());
    }
    let mut names = Of::names();
    let short: String = name.chars().take(40).collect();
    names.sort_by(|a, b| strsim::jaro_winkler(b, &short).total_cmp(&strsim::jaro_winkler(a, &short)));
    names.truncate(4);
    let reason = format!("{short:?} is not known; nearest: {}", names.join(", "));
    Err(DataError::Field { file: file.to_owned(), field: field.to_owned(), reason })
}

/// The statements that come with the program.
///
/// # Errors
/// What is wrong with a file of `data/claims`; tests keep that from happening.
pub fn built_in() -> Result<Vec<Claim>, DataError> {
    data::CLAIMS.iter().map(|(file, text)| Claim::parse(file, text)).collect()
}
