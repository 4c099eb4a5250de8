//! What users of a language-model server feel under load: continuous batching, simulated step by step.
//!
//! [`simulate`] plays [`Request`]s against a [`Service`] of replicas whose steps take what a [`StepTime`] says, and
//! gives a [`Report`]: times to first token, times per output token, latencies, throughput. [`closed_form`] has the
//! formulas that the simulation must agree with, and does where they hold.
//!
//! The engine simulated is the usual one (Yu et al., "Orca", OSDI 2022; Kwon et al., "PagedAttention", SOSP 2023;
//! Agrawal et al., "Sarathi-Serve", OSDI 2024): requests join and leave the batch between steps, the KV cache is paged,
//! prompts are prefilled in chunks beside decodes or in steps of their own, and the youngest sequence is preempted and
//! computed again when the cache is full.
//!
//! Module map: `step` how long a step takes · `service` replicas and how requests get to them · `load` requests made
//! from rates and lengths · [`trace`] requests read from a file · `random` numbers that are the same everywhere ·
//! `server` one replica between steps · `stretch` many decode steps at once · `events` all replicas in one clock ·
//! `play` checks, threads and the report's making · `report` what comes out · [`closed_form`] queueing formulas ·
//! `error` what can be wrong.

pub mod closed_form;
mod error;
mod events;
mod load;
mod play;
mod random;
mod report;
mod server;
mod service;
mod step;
mod stretch;
pub mod trace;

#[cfg(test)]
mod tests;

pub use error::SimulateError;
pub use load::{Arrivals, Length, Load, Request};
pub use play::{simulate, simulate_closed_loop};
pub use report::{Outcome, Reason, Refused, Report, Summary};
pub use service::{Disaggregated, Replica, Routing, Service};
pub use step::StepTime;
pub use stretch::STRETCH_ERROR;
