//! What can be wrong with a service, a load, a step time, and a closed form's arguments.

use std::fmt::Display;

use thiserror::Error;

/// Why a simulation cannot run, or a formula has no answer.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
#[allow(missing_docs)] // The fields are named in each variant's message.
pub enum SimulateError {
    /// A value that cannot be: of which thing, in which field, and what it must be.
    #[error("{place}: {field} is {value}: it must be {must}")]
    Field { place: String, field: &'static str, value: String, must: &'static str },

    /// There is nothing to simulate.
    #[error("no requests: a simulation needs at least one")]
    NoRequests,

    /// The step time is zero, negative, infinite or no number.
    #[error(
        "a step that prefills {prefill_tokens} tokens (after {prefill_context} each) and decodes {decoding} sequences \
         of together {cached_tokens} tokens would take {seconds} s: it must be a positive finite time"
    )]
    StepTime { prefill_tokens: u64, prefill_context: f64, decoding: u64, cached_tokens: u64, seconds: f64 },

    /// Times add up to more than a number holds.
    #[error(
        "the simulation would end later than any finite time: step, transfer or think times are far too long"
    )]
    Endless,

    /// More work comes than is done, so no mean exists: queues grow for ever.
    #[error("overloaded: utilisation {utilisation:.3} is not below 1, so queues grow for ever")]
    Overloaded { utilisation: f64 },
}

pub(super) fn field(
    place: impl Into<String>,
    field: &'static str,
    value: impl Display,
    must: &'static str,
) -> SimulateError {
    SimulateError::Field { place: place.into(), field, value: value.to_string(), must }
}

/// A positive finite number, or an error that names its field.
pub(super) fn positive(place: &str, name: &'static str, value: f64) -> Result<f64, SimulateError> {
    if value.is_finite() && value > 0.0 {
        Ok(value)
    } else {
        Err(field(place, name, value, "a positive finite number"))
    }
}

/// A finite number that is zero or more, or an error that names its field.
pub(super) fn not_negative(place: &str, name: &'static str, value: f64) -> Result<f64, SimulateError> {
    if value.is_finite() && value >= 0.0 {
        Ok(value)
    } else {
        Err(field(place, name, value, "a finite number, zero or more"))
    }
}

/// A count of at least one, or an error that names its field.
pub(super) fn at_least_one(
    place: &str,
    name: &'static str,
    value: impl Into<u64>,
) -> Result<(), SimulateError> {
    if value.into() == 0 { Err(field(place, name, 0, "at least 1")) } else { Ok(()) }
}
