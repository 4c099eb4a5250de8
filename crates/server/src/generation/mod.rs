//! What all APIs share: from a parsed request to a job, and from the job's events to parts of answers.
//!
//! Module map: `ask` what a request comes to, whatever its API · `options` the parameters that APIs have in common ·
//! `prepare` from there to a job ·
//! `constrain` what an answer may say · `teach` tools for templates that have no place for them · `run` from a job's events to parts · `totals` what it took.

mod ask;
mod constrain;
mod options;
mod prepare;
mod run;
mod teach;
mod totals;

pub(crate) use ask::{Ask, Conversation, Input, OutputFormat, Tool, ToolChoice};
pub(crate) use options::{SAMPLING, output_format, sampling, stops, tool_name};
pub(crate) use prepare::{Prepared, count, prepare};
pub(crate) use run::{Finish, Generation, Outcome, Update};
pub(crate) use totals::Totals;

use crate::body::apart;
use crate::error::ApiError;
use crate::registry::Lease;
use crate::state::AppState;

/// Bytes of a prompt above which it is made into tokens apart from the threads that answer others.
const LONG: usize = 16 << 10;

/// Loads the model, makes the prompt, and hands the job in.
///
/// # Errors
/// When there is no such model, it cannot be asked this, or there is no room.
pub(crate) async fn start(state: &AppState, ask: Ask) -> Result<Generation, ApiError> {
    let lease = state.registry.get(&ask.model).await?;
    let (lease, prepared) = ready(lease, ask).await?;
    Generation::submit(lease, prepared)
}

/// The job that a request comes to, with the model that it is for.
async fn ready(lease: Lease, ask: Ask) -> Result<(Lease, Prepared), ApiError> {
    let long = ask.size() > LONG || ask.is_constrained() || !lease.is_ready_to_talk();
    let (lease, prepared) = apart(long, move || {
        let prepared = prepare(&lease, ask);
        (lease, prepared)
    })
    .await?;
    Ok((lease, prepared?))
}

/// Tokens of the prompt that a request comes to.
///
/// # Errors
/// As [`start`], but for room.
pub(crate) async fn count_tokens(state: &AppState, ask: Ask) -> Result<usize, ApiError> {
    let lease = state.registry.get(&ask.model).await?;
    let long = ask.size() > LONG || !lease.is_ready_to_talk();
    apart(long, move || count(&lease, &ask)).await?
}
