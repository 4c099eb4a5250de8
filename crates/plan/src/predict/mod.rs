//! How long a model's work takes on chips, from limits of compute, memory, links and launches.
//!
//! These are the physics, before the corrections that [`crate::fit`] learns from measured runs. Every efficiency is one
//! number of [`Efficiencies`] or [`TrainingEfficiencies`]; all of them are fitted.
//!
//! Module map: `format` how numbers are stored and multiplied · `stack` what software adds · `layout` a model cut over
//! devices · `step` one step of inference · `serve` clients, queues and batches · `train` an iteration of training ·
//! `memory` what has to fit.

mod format;
mod layout;
mod memory;
mod serve;
mod stack;
mod step;
mod train;

pub use format::{Compute, Format};
pub use layout::{Deployment, Device, Layout};
pub use memory::{Recompute, TrainingMemory, activation_bytes, training_memory};
pub use serve::{Load, Serving};
pub use stack::Stack;
pub use step::{Efficiencies, Step, StepTime};
pub use train::{LATEST_SOFTWARE, Training, TrainingEfficiencies, TrainingTime, train};
