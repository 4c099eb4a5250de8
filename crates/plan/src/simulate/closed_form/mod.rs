//! Formulas for queues, and for continuous batching, that need no simulation.
//!
//! `queues`: M/M/1, M/G/1 and M/M/c · `batching`: a replica that batches continuously.

mod batching;
mod queues;

pub use batching::{Batching, Mix, batching, most_per_s};
pub use queues::{Queue, mg1, mm1, mmc};
