//! What a run found on its way, line by line in a file: JSON Lines, for people's own plots, and the same for TensorBoard.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::tensorboard::Events;

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Metric {
    /// A step.
    Step {
        /// Its number, the first being 1.
        step: u64,
        /// The mean cross entropy before it, in nats a token; none where it was dropped.
        loss: Option<f32>,
        /// The norm of the gradients.
        norm: Option<f32>,
        /// The learning rate.
        learning_rate: f32,
        /// Tokens that were learned in it.
        tokens: usize,
        /// Passes over the data so far.
        epoch: f64,
        /// Its time, in seconds.
        seconds: f64,
        /// What ranks sent each other for it, where there are several.
        #[serde(default, skip_serializing_if = "Option::is_none", flatten)]
        sent: Option<Sent>,
    },
    /// An evaluation.
    Evaluation {
        /// Steps before it.
        step: u64,
        /// The mean cross entropy on held-out text, in nats a token.
        loss: f64,
        /// The same in bits for each byte of text.
        bits_per_byte: f64,
        /// Tokens that were predicted.
        tokens: usize,
    },
    /// What a step's pairs came to, or those that are held out.
    Pairs {
        /// The step, or steps before it where pairs are held out.
        step: u64,
        /// Whether they are held out.
        held_out: bool,
        /// The mean loss.
        loss: f64,
        /// The part of them in which the preferred answer is made more probable than the other, beside the model that the run
        /// began with.
        accuracy: f64,
        /// The mean margin.
        margin: f64,
        /// How many.
        pairs: usize,
    },
    /// What answers were worth: drawn in a step, or the most probable ones to prompts that are held out.
    Rewards {
        /// The step, or steps before it where prompts are held out.
        step: u64,
        /// Whether they are held out.
        held_out: bool,
        /// The mean.
        reward: f64,
        /// The highest.
        highest: f64,
        /// The lowest.
        lowest: f64,
        /// How many answers.
        answers: usize,
        /// Their mean length in tokens.
        length: f64,
        /// The part of them that ended before they were cut off.
        ended: f64,
        /// The part of the prompts whose answers were all worth the same: nothing is learned from them.
        equal: Option<f64>,
        /// The part of the tokens whose ratio was clipped in the last update.
        clipped: Option<f64>,
        /// The mean divergence from the model that the run began with, in nats a token.
        divergence: Option<f64>,
    },
    /// A text that the model wrote.
    Sample {
        /// Steps before it.
        step: u64,
        /// What it was given.
        prompt: String,
        /// What it wrote.
        text: String,
    },
}

/// What the ranks of a run sent each other for a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// How many they are.
    pub ranks: usize,
    /// Bytes that a rank sent, in the mean.
    pub bytes_sent: f64,
    /// The fewest with which N ranks can add up P gradients and have P new weights: 2 (N - 1) / N · 4 P (Patarasuk and Yuan
    /// 2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations").
    pub least_bytes: f64,
}

impl Metric {
    /// Steps that are done when it is written.
    pub fn step(&self) -> u64 {
        match self {
            Metric::Step { step, .. }
            | Metric::Evaluation { step, .. }
            | Metric::Pairs { step, .. }
            | Metric::Rewards { step, .. }
            | Metric::Sample { step, .. } => *step,
        }
    }
}

/// The name of TensorBoard's file, beside the lines.
const EVENTS: &str = "tensorboard/events.out.tfevents.0.autarky";

/// The file, open at its end.
#[derive(Debug)]
pub struct Metrics {
    file: File,
    events: Events,
    path: PathBuf,
}

impl Metrics {
    /// Opens the file for a run that goes on after `step`: lines of later steps, and those that a kill left unfinished, go.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn open(path: &Path, step: u64) -> io::Result<Metrics> {
        let mut kept = read(path)?;
        kept.retain(|m| m.step() <= step && step > 0);
        let lines = kept.iter().filter_map(|m| serde_json::to_string(m).ok());
        let text: String = lines.map(|line| line + "\n").collect();
        crate::files::write(path, text.as_bytes())?;
        let file = OpenOptions::new().append(true).open(path)?;
        let events = Events::create(&path.with_file_name(EVENTS), &kept)?;
        Ok(Metrics { file, events, path: path.to_owned() })
    }

    /// Adds a line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, metric: &Metric) -> io::Result<()> {
        let line = serde_json::to_string(metric)? + "\n";
        self.file.write_all(line.as_bytes())?;
        self.events.add(metric)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The lines of a file; none where there is no file. What is not a line of this kind is left out.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<Metric>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}
