//! All rules, and what goes with them.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::Rule;
use crate::{Confidence, DataError, Date, data, read};

/// Rules, oldest first, with definitions, payments, and what is known of chips.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleBook {
    rules: Vec<Rule>,
    definitions: Vec<Definition>,
    payments: Vec<Payment>,
    statuses: Vec<ChipStatus>,
}

/// What a figure means in the rules.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Definition {
    pub term: String,
    pub formula: String,
    #[serde(default)]
    pub notes: Vec<String>,
    pub source: String,
    pub confidence: Confidence,
    pub confidence_note: Option<String>,
}

/// Money that a rule asks for.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Payment {
    /// On what.
    pub what: String,
    /// Share of the price or of the revenue, %.
    pub percent: f64,
    /// From when.
    pub since: Date,
    /// Whether it is written in a rule, or only agreed.
    pub codified: bool,
    /// The rule that it goes with.
    pub rule: String,
}

/// What became of a chip.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ChipStatus {
    /// The chip.
    pub id: String,
    /// How it is known.
    pub confidence: Knowledge,
    /// Oldest first.
    pub events: Vec<Event>,
}

/// How the status of a chip is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Knowledge {
    /// A government or the vendor said so.
    Known,
    /// It follows from the rules and what is known of the chip.
    Inferred,
    /// It follows from figures alone.
    Arithmetic,
    /// From memory; no document was found yet.
    Unverified,
    /// Nobody has said.
    Open,
}

impl Knowledge {
    /// The name in data files.
    pub fn name(self) -> &'static str {
        match self {
            Knowledge::Known => "known",
            Knowledge::Inferred => "inferred",
            Knowledge::Arithmetic => "arithmetic",
            Knowledge::Unverified => "unverified",
            Knowledge::Open => "open",
        }
    }
}

/// A change of a chip's status.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Event {
    pub since: Date,
    pub what: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Definitions {
    definition: Vec<Definition>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payments {
    payment: Vec<Payment>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Statuses {
    chip: Vec<ChipStatus>,
}

impl RuleBook {
    /// The rules that come with the program, parsed once.
    ///
    /// # Errors
    ///
    /// What is wrong with a file of `data/policy`; tests keep that from happening.
    pub fn built_in() -> Result<&'static RuleBook, DataError> {
        static BOOK: LazyLock<Result<RuleBook, DataError>> = LazyLock::new(RuleBook::read);
        BOOK.as_ref().map_err(DataError::clone)
    }

    fn read() -> Result<RuleBook, DataError> {
        let mut rules = Vec::new();
        for (file, text) in data::RULES {
            rules.push(Rule::parse(file, text)?);
        }
        rules.sort_by_key(|rule| rule.effective);
        let (file, text) = data::DEFINITIONS;
        let Definitions { definition: definitions } = read::parse(file, text)?;
        let (file, text) = data::PAYMENTS;
        let Payments { payment: payments } = read::parse(file, text)?;
        let (file, text) = data::STATUS;
        let Statuses { chip: statuses } = read::parse(file, text)?;
        for status in &statuses {
            if !status.events.is_sorted_by_key(|e| e.since) {
                return Err(DataError::field(file, &status.id, "events are not in order of their dates"));
            }
        }
        let book = RuleBook { rules, definitions, payments, statuses };
        let named = book.rules.iter().filter_map(|r| r.superseded_by.as_deref());
        let paid = book.payments.iter().map(|p| p.rule.as_str());
        match named.chain(paid).find(|id| book.rule(id).is_none()) {
            Some(id) => Err(DataError::field(id, "superseded_by", "there is no such rule")),
            None => Ok(book),
        }
    }

    /// Every rule, oldest first.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule with an id.
    pub fn rule(&self, id: &str) -> Option<&Rule> {
        self.rules.iter().find(|r| r.id == id)
    }

    /// What figures mean in the rules.
    pub fn definitions(&self) -> &[Definition] {
        &self.definitions
    }

    /// Money that rules ask for.
    pub fn payments(&self) -> &[Payment] {
        &self.payments
    }

    /// What became of each chip of which something is known.
    pub fn statuses(&self) -> &[ChipStatus] {
        &self.statuses
    }

    /// What became of a chip, by its id.
    pub fn status(&self, chip: &str) -> Option<&ChipStatus> {
        self.statuses.iter().find(|s| s.id == chip)
    }
}
