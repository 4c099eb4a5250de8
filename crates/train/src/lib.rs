//! Trains models: steps of the graph that [`autarky_graph::derivative`] derives, and optimizers that follow its
//! gradients.
//!
//! Module map: [`trainer`] a model in training, step by step · [`adamw`] the optimizer ·
//! `parallel` threads for both.
//!
//! It knows graphs and devices only through [`autarky_graph`]'s seam, and no HTTP.

pub mod adamw;
pub mod data;
mod parallel;
pub mod trainer;

pub use adamw::{AdamW, AdamWOptions};
pub use trainer::{Precision, StepReport, TrainError, Trainer, TrainerOptions};
