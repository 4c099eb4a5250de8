//! One rule: dates, words, thresholds.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Condition;
use crate::{Confidence, DataError, Date, read};

/// Who made a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Issuer {
    Us,
    China,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A rule, or a letter that binds those it is addressed to.
    #[default]
    Rule,
    /// Advice that binds nobody by itself.
    Guidance,
    /// Something that happened once.
    Event,
}

impl Kind {
    /// The name in data files.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Rule => "rule",
            Kind::Guidance => "guidance",
            Kind::Event => "event",
        }
    }
}

/// What a rule judges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// An integrated circuit, with the memory on its package.
    #[default]
    IntegratedCircuit,
    /// A stack of memory by itself.
    HbmStack,
}

/// A rule, a letter, or another act of a government: one file of `data/policy/rules`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its file's name.
    pub id: String,
    /// What it is called here.
    pub title: String,
    /// What it is.
    #[serde(default)]
    pub kind: Kind,
    /// Who made it.
    pub issuer: Issuer,
    /// When its text came out.
    pub released: Option<Date>,
    /// When it was published in the Federal Register.
    pub published: Option<Date>,
    /// From when it holds.
    pub effective: Date,
    /// From when it is no longer enforced.
    pub ended: Option<Date>,
    /// The rule that took its place.
    pub superseded_by: Option<String>,
    /// Where its text is.
    pub citation: Option<String>,
    /// What it judges.
    #[serde(default)]
    pub applies_to: Subject,
    /// What it says.
    pub text: String,
    /// What follows.
    pub effect: Option<String>,
    /// For whom and where.
    pub scope: Option<String>,
    /// Licence exceptions.
    pub exceptions: Option<String>,
    /// Parts that it, or their vendor, names.
    pub named: Option<String>,
    /// What came with it.
    pub companion: Option<String>,
    /// What must be fulfilled besides thresholds.
    #[serde(default)]
    pub conditions: Vec<String>,
    /// What else one should know.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Where all this is from.
    pub source: String,
    /// How far to trust it.
    pub confidence: Confidence,
    /// More on that.
    pub confidence_note: Option<String>,
    /// What it says of parts that no class holds. With classes only.
    pub otherwise: Option<String>,
    /// What it sorts parts into, first match first.
    #[serde(default, rename = "class")]
    pub classes: Vec<RuleClass>,
    /// Other numbers in it, which are not about a part.
    #[serde(default, rename = "limit")]
    pub limits: Vec<Limit>,
}

/// A class of parts.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RuleClass {
    /// `3A090.a`
    pub name: String,
    /// What holds for parts in it.
    pub meaning: String,
    /// Which parts are in it.
    pub when: Condition,
}

/// A number in a rule that is not about a part.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Limit {
    pub what: String,
    pub value: f64,
    pub unit: String,
}

impl Rule {
    /// Reads and checks a rule's file; `file` is its name.
    ///
    /// # Errors
    ///
    /// The file, the field, and what is wrong with it.
    pub fn parse(file: &str, text: &str) -> Result<Rule, DataError> {
        let rule: Rule = read::parse(file, text)?;
        let fail = |field: &str, reason: &str| Err(DataError::field(file, field, reason));
        if Path::new(file).file_stem().unwrap_or_default() != rule.id.as_str() {
            return fail("id", "is not the file's name");
        }
        if rule.classes.is_empty() != rule.otherwise.is_none() {
            return fail("otherwise", "goes with classes: what is said of parts that no class holds");
        }
        if rule.ended.is_some_and(|ended| ended < rule.effective) {
            return fail("ended", "is before effective");
        }
        if rule.superseded_by.as_ref() == Some(&rule.id) {
            return fail("superseded_by", "is the rule itself");
        }
        if rule.limits.iter().any(|l| !l.value.is_finite()) {
            return fail("limit.value", "is not a number");
        }
        Ok(rule)
    }
}
