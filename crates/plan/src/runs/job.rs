//! A job that can be predicted.

use std::sync::Arc;

use crate::chips::Chip;
use crate::model::Model;
use crate::predict::{Format, Layout, Load, Stack, Training};

/// What a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Training.
    Train,
    /// Prompts alone.
    Prefill,
    /// Answers alone.
    Decode,
    /// Both, for many clients.
    Serve,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Train, Kind::Prefill, Kind::Decode, Kind::Serve];

    /// The name in rows.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Train => "train",
            Kind::Prefill => "prefill",
            Kind::Decode => "decode",
            Kind::Serve => "serve",
        }
    }

    /// The kind of that name.
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|k| k.name() == name)
    }
}

/// How clients come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// A fixed number, each waiting for its answer.
    Closed,
    /// All requests at once.
    Burst,
    /// As many as the system takes.
    Saturated,
    /// A test that passes at a rate somewhat below the best.
    Gate,
    /// One prompt or sequence, without a server.
    Direct,
}

/// How a job runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Setup {
    /// Inference.
    Inference {
        /// Cut over devices.
        layout: Layout,
        /// What is asked.
        load: Load,
        /// How clients come.
        client: Client,
        /// The tokens of a step are of one sequence.
        shared: bool,
        /// Sequences of a step where that is the question.
        batch: Option<f64>,
    },
    /// Training.
    Training(Training),
}

/// The figure that is predicted.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Its name in the row.
    pub field: String,
    /// Its unit.
    pub unit: &'static str,
    /// Its value, in that unit.
    pub value: f64,
    /// What it is of.
    pub quantity: Quantity,
}

/// What a figure is of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quantity {
    /// Tokens/s and chip, times this.
    Rate(f64),
    /// Bytes of weights, gradients and optimizer on a device.
    WeightsAndOptimizer,
}

/// A model on chips, running.
#[derive(Clone, Debug)]
pub struct Job {
    /// What it is.
    pub kind: Kind,
    /// The model.
    pub model: Model,
    /// The chip.
    pub chip: Arc<Chip>,
    /// How many, as they are counted.
    pub chips: f64,
    /// The number format.
    pub format: Format,
    /// The software.
    pub stack: Stack,
    /// How it runs.
    pub setup: Setup,
}
