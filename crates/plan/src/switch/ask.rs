//! What is asked.

use std::sync::Arc;

use serde::Serialize;

use super::side::{self, Side};
use crate::chips::{Catalog, Chip};
use crate::fit::Predictor;
use crate::runs::Kind;
use crate::service::{NoPlace, Precision, Work, best, smallest};
use crate::{Date, Error, RuleBook};

/// Requests in flight on a chip where no load is given.
pub(super) const BUSY: f64 = 32.0;
/// Weights above which 8 bits are the default.
const LARGE: f64 = 200e9;

/// A service and the chips that it may go to.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The model.
    pub model: crate::model::Model,
    /// How narrow numbers may be; none: half precision, or 8 bits above 200 billion weights.
    pub precision: Option<Precision>,
    /// The chip in use.
    pub from: Arc<Chip>,
    /// The chips to go to.
    pub to: Vec<Arc<Chip>>,
    /// Chips in use; none: the fewest that hold the model.
    pub chips: Option<f64>,
    /// Tokens of a prompt.
    pub input: f64,
    /// Tokens of an answer.
    pub output: f64,
    /// Requests in flight over all chips; none: 32 a chip.
    pub concurrency: Option<f64>,
    /// Years that energy and cost are counted for.
    pub years: f64,
    /// Price of electricity.
    pub usd_per_kwh: f64,
    /// The day whose rules are looked at.
    pub on: Date,
}

/// Why a service cannot be compared.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // The messages say it.
pub enum AskError {
    #[error("{field}: is {value}; {expected}")]
    Number { field: &'static str, value: f64, expected: &'static str },
    #[error("{chip} does not do this today, so there is nothing to compare with: {reason}")]
    From { chip: String, reason: NoPlace },
    #[error(transparent)]
    Plan(#[from] Error),
}

/// A service on each of the chips.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// The model's name.
    pub model: String,
    /// Its weights.
    pub weights: f64,
    /// What was assumed of it.
    pub assumed: Vec<&'static str>,
    /// Tokens of a prompt, tokens of an answer, and requests in flight.
    pub load: (f64, f64, f64),
    /// Years, USD/kWh and day.
    pub terms: (f64, f64, Date),
    /// The chip in use.
    pub from: Side,
    /// The others.
    pub to: Vec<Side>,
}

fn check(ask: &Ask) -> Result<(), AskError> {
    let numbers = [
        ("count", ask.chips.unwrap_or(1.0), 1.0, 1e6, "1 to 1000000 chips can be"),
        ("load: tokens of a prompt", ask.input, 1.0, 1e7, "1 to 10000000 can be"),
        ("load: tokens of an answer", ask.output, 1.0, 1e7, "1 to 10000000 can be"),
        ("load: requests in flight", ask.concurrency.unwrap_or(1.0), 1.0, 1e7, "1 to 10000000 can be"),
        ("years", ask.years, 0.01, 50.0, "0.01 to 50 can be"),
        ("electricity", ask.usd_per_kwh, 0.0, 10.0, "0 to 10 USD/kWh can be"),
    ];
    for (field, value, low, high, expected) in numbers {
        if !(low..=high).contains(&value) {
            return Err(AskError::Number { field, value, expected });
        }
    }
    Ok(())
}

/// The service on each of the chips.
///
/// # Errors
/// A number that cannot be, or the chip in use does not do the service.
pub fn switch(
    ask: &Ask,
    catalog: &Catalog,
    predictor: &Predictor,
    book: &RuleBook,
) -> Result<Answer, AskError> {
    check(ask)?;
    let default = if ask.model.total() > LARGE { Precision::Eight } else { Precision::Half };
    let mut work = Work {
        name: ask.model.name.clone(),
        kind: Kind::Serve,
        model: ask.model.clone(),
        precision: ask.precision.clone().unwrap_or(default),
        input: ask.input,
        output: ask.output,
        concurrency: Some(ask.concurrency.unwrap_or(BUSY)),
        chips: None,
    };
    let refused = |reason| AskError::From { chip: ask.from.id.clone(), reason };
    let chips = match ask.chips {
        Some(chips) => chips,
        None => smallest(predictor, &ask.from, &work).map_err(refused)?.0,
    };
    let concurrency = ask.concurrency.unwrap_or(BUSY * chips);
    work.concurrency = Some(concurrency);
    let placed = best(predictor, &ask.from, &work, chips).map_err(refused)?;
    let target = side::Target { placed: placed.clone(), tokens_per_s: placed.prediction.rate * chips };
    let context = side::Context { ask, work: &work, catalog, predictor, book, target: &target };
    Ok(Answer {
        model: ask.model.name.clone(),
        weights: ask.model.total(),
        assumed: ask.model.assumed.clone(),
        load: (ask.input, ask.output, concurrency),
        terms: (ask.years, ask.usd_per_kwh, ask.on),
        from: side::in_use(&context, chips),
        to: ask.to.iter().map(|chip| side::other(&context, chip)).collect(),
    })
}
