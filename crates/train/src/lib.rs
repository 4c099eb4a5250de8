//! Trains models: from files of text and conversations to a model that others read.
//!
//! Module map, from files to a model: [`data`] records of files · [`encode`], [`tokens`], [`prepare`] records as tokens on
//! disk · [`batches`] which of them a step learns · [`subject`] the model, and what a new one begins with ([`scale`],
//! [`initial`]), or what is trained in its stead ([`adapter`], [`dora`]) · [`trainer`] steps of the graph that
//! [`autarky_graph::derivative`] derives, with the optimizers [`adamw`] and [`muon`] at the rates of a [`schedule`], and their
//! running mean ([`average`]) ·
//! [`sample`] what it writes · [`objective`] preferences and [`reward`]s in place of texts ·
//! [`checkpoint`] everything that the rest of a run depends on · [`export`] the result · [`ranks`] a run on several
//! processes · [`disk`] whether there is room for what it writes · `step`, `files`, `parallel` what they share.
//!
//! [`run`] does all this from a [`config`], whose open numbers [`plan`] fills in, and writes what it finds as [`metrics`].
//!
//! It knows graphs and devices only through [`autarky_graph`]'s seam, and no HTTP.

pub mod adamw;
pub mod adapter;
pub mod average;
pub mod batches;
pub mod checkpoint;
pub mod config;
pub mod data;
pub mod disk;
pub mod dora;
pub mod encode;
pub mod export;
pub mod files;
pub mod initial;
pub mod metrics;
pub mod muon;
pub mod objective;
mod optimizer;
mod parallel;
pub mod plan;
pub mod prepare;
pub mod ranks;
pub mod reward;
pub mod run;
pub mod sample;
pub mod scale;
pub mod schedule;
mod spikes;
mod step;
pub mod subject;
mod tensorboard;
pub mod tokens;
pub mod trainer;

pub use adamw::{AdamW, AdamWOptions};
pub use trainer::{Example, Precision, StepReport, TrainError, Trainer, TrainerOptions};
