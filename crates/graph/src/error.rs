//! What can be wrong with a graph, with compiling one, with its weights, and with a step.

use thiserror::Error;

/// A graph that does not make sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GraphError {
    /// An op's arguments do not fit it.
    #[error("{op} \"{label}\": {what} (arguments: {shapes})")]
    Shape {
        /// The op.
        op: &'static str,
        /// Where in the model, such as `layers.3.attention.q`.
        label: String,
        /// What is wrong.
        what: String,
        /// The arguments' and weights' shapes.
        shapes: String,
    },
    /// A weight was declared twice with different shapes.
    #[error("weight \"{name}\" is declared as {first:?} and as {second:?}")]
    Weight {
        /// Its name.
        name: String,
        /// The first shape.
        first: Vec<usize>,
        /// The second.
        second: Vec<usize>,
    },
}

/// A weight that could not be had.
#[derive(Clone, Debug, Error)]
pub enum WeightError {
    /// There is none of that name.
    #[error("weight \"{name}\" is missing: {hint}")]
    Missing {
        /// The graph's name for it.
        name: String,
        /// Which tensor was looked for, and where.
        hint: String,
    },
    /// It has another shape than the graph says.
    #[error("weight \"{name}\" has the shape {found:?} where the model's sizes call for {expected:?}")]
    Shape {
        /// The graph's name for it.
        name: String,
        /// What the graph says.
        expected: Vec<usize>,
        /// What was found.
        found: Vec<usize>,
    },
    /// Its bytes are not what its type and shape call for, or could not be read or transformed.
    #[error("weight \"{name}\": {what}")]
    Data {
        /// The graph's name for it.
        name: String,
        /// What is wrong.
        what: String,
    },
}

/// Why a device cannot run a graph. Found before the first step.
#[derive(Clone, Debug, Error)]
pub enum CompileError {
    /// The device lacks something.
    #[error("the {device} device cannot run {op} \"{label}\": {what}")]
    Unsupported {
        /// The device's name.
        device: String,
        /// The op.
        op: &'static str,
        /// Where in the model.
        label: String,
        /// What it lacks, and what to do instead.
        what: String,
    },
    /// A weight is not there or not right.
    #[error(transparent)]
    Weight(#[from] WeightError),
    /// The limits ask for nothing or for too much.
    #[error("limits: {0}")]
    Limits(String),
    /// The program's memory could not be had.
    #[error("{what} needs {bytes} bytes, which this machine does not give: {hint}")]
    Memory {
        /// What for.
        what: String,
        /// How much.
        bytes: u64,
        /// What to do.
        hint: String,
    },
}

/// Why a step did not run. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RunError {
    /// A token id that the model does not have.
    #[error("token {index} of the step is {token}, but the vocabulary has {vocabulary} entries")]
    Token {
        /// Its place in the step.
        index: usize,
        /// The id.
        token: u32,
        /// Entries.
        vocabulary: usize,
    },
    /// More than the program was compiled for.
    #[error("the step has {found} {what}, and the program was compiled for at most {limit}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// The most.
        limit: usize,
    },
    /// The step's parts contradict each other.
    #[error("step: {0}")]
    Step(String),
    /// The device is gone.
    #[error("the device was lost: {0}")]
    Lost(String),
}
