//! A fleet as it is written.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::chips::{Catalog, Chip};
use crate::model::Model;
use crate::predict::Format;
use crate::runs::Kind;
use crate::service::{Precision, Work};
use crate::{DataError, read};

/// Kinds of chips and jobs in a file, at most.
const MOST_POOLS: usize = 20;
const MOST_JOBS: usize = 50;

/// Chips that there are, and jobs for them.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// What it is called.
    pub name: Option<String>,
    /// The chips.
    pub chips: Vec<Pool>,
    /// The jobs.
    pub jobs: Vec<JobFile>,
}

/// Chips of one kind, joined so that one job can use all of them.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// The chip.
    pub chip: String,
    /// How many.
    pub count: u32,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct JobFile {
    /// What it is called.
    pub name: String,
    /// `serve` or `train`.
    pub kind: String,
    /// A model's name or path.
    pub model: String,
    /// 1 goes first.
    #[serde(default = "one")]
    pub priority: u8,
    /// Tokens/s of answers that are wanted.
    pub tokens_per_s: Option<f64>,
    /// Requests in flight; none: as many as fit.
    pub concurrency: Option<f64>,
    /// Tokens of a prompt.
    pub input: Option<f64>,
    /// Tokens of an answer.
    pub output: Option<f64>,
    /// Tokens to train on.
    pub tokens: Option<f64>,
    /// Days to do that in.
    pub days: Option<f64>,
    /// Tokens of a training sequence.
    pub length: Option<f64>,
    /// Sequences of an iteration.
    pub global_batch: Option<f64>,
    /// The number format; none: half precision, or 8 bits for serving above 200 billion weights.
    pub format: Option<String>,
}

fn one() -> u8 {
    1
}

/// A job whose words have been looked up.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) priority: u8,
    pub(super) work: Work,
    /// Tokens/s over all chips.
    pub(super) tokens_per_s: f64,
}

impl Fleet {
    /// Reads and checks a fleet's file; models and chips are looked up later.
    ///
    /// # Errors
    /// The file, the field, and what is wrong with it.
    pub fn parse(file: &str, text: &str) -> Result<Fleet, DataError> {
        let fleet: Fleet = read::parse(file, text)?;
        let fail = |field: String, reason: String| Err(DataError::field(file, field, reason));
        if fleet.chips.is_empty() || fleet.chips.len() > MOST_POOLS {
            return fail(
                "chips".into(),
                format!("has {} entries; 1 to {MOST_POOLS} can be", fleet.chips.len()),
            );
        }
        if fleet.jobs.is_empty() || fleet.jobs.len() > MOST_JOBS {
            return fail("jobs".into(), format!("has {} entries; 1 to {MOST_JOBS} can be", fleet.jobs.len()));
        }
        for (i, pool) in fleet.chips.iter().enumerate() {
            if !(1..=1_000_000).contains(&pool.count) {
                return fail(format!("chips[{i}].count"), format!("is {}; 1 to 1000000 can be", pool.count));
            }
        }
        for (i, job) in fleet.jobs.iter().enumerate() {
            job.check(file, i)?;
            if fleet.jobs.iter().take(i).any(|other| other.name == job.name) {
                return fail(format!("jobs[{i}].name"), format!("is {:?}, which another job has", job.name));
            }
        }
        Ok(fleet)
    }

    /// The fleet in a file.
    ///
    /// # Errors
    /// The file cannot be read, or is no sound fleet.
    pub fn read(path: &Path) -> Result<Fleet, DataError> {
        Fleet::parse(&path.display().to_string(), &read::text(path)?)
    }

    pub(super) fn pools(&self, file: &str, catalog: &Catalog) -> Result<Vec<(Arc<Chip>, f64)>, DataError> {
        let find = |(i, pool): (usize, &Pool)| match catalog.find(&pool.chip) {
            Ok(chip) => Ok((Arc::new(chip.clone()), f64::from(pool.count))),
            Err(e) => Err(DataError::field(file, format!("chips[{i}].chip"), e.to_string())),
        };
        self.chips.iter().enumerate().map(find).collect()
    }

    pub(super) fn wanted(&self, file: &str) -> Result<Vec<Wanted>, DataError> {
        self.jobs.iter().enumerate().map(|(i, job)| job.wanted(file, i)).collect()
    }
}

impl JobFile {
    fn check(&self, file: &str, i: usize) -> Result<(), DataError> {
        let at = |field: &str| format!("jobs[{i}].{field}");
        let fail = |field: &str, reason: String| Err(DataError::field(file, at(field), reason));
        if self.name.trim().is_empty() {
            return fail("name", "is empty".into());
        }
        if !(1..=9).contains(&self.priority) {
            return fail("priority", format!("is {}; 1, which goes first, to 9 can be", self.priority));
        }
        let numbers = [
            ("tokens_per_s", self.tokens_per_s, 1e-3, 1e12),
            ("concurrency", self.concurrency, 1.0, 1e7),
            ("input", self.input, 1.0, 1e7),
            ("output", self.output, 1.0, 1e7),
            ("tokens", self.tokens, 1.0, 1e16),
            ("days", self.days, 1e-3, 1e5),
            ("length", self.length, 1.0, 1e7),
            ("global_batch", self.global_batch, 1.0, 1e7),
        ];
        for (field, value, low, high) in numbers {
            if let Some(x) = value.filter(|x| !(low..=high).contains(x)) {
                return fail(field, format!("is {x}; {low} to {high} can be"));
            }
        }
        let (needs, others): (&[&str], &[&str]) = match self.kind.as_str() {
            "serve" => (&["tokens_per_s"], &["tokens", "days", "length", "global_batch"]),
            "train" => (&["tokens", "days"], &["tokens_per_s", "concurrency", "input", "output"]),
            kind => {
                let kind: String = kind.chars().take(40).collect();
                return fail("kind", format!("is {kind:?}; serve or train can be"));
            }
        };
        let given = |field: &&str| numbers.iter().any(|(name, value, ..)| name == field && value.is_some());
        if let Some(field) = needs.iter().find(|f| !given(f)) {
            return fail(field, format!("is missing; a job of kind {} needs it", self.kind));
        }
        if let Some(field) = others.iter().find(|f| given(f)) {
            return fail(field, format!("does not go with a job of kind {}", self.kind));
        }
        if let Some(name) = &self.format
            && Format::named(name).is_none()
        {
            let names = Format::names().collect::<Vec<_>>().join(", ");
            return fail("format", format!("is no format; there are {names}, and gguf-..."));
        }
        Ok(())
    }

    fn wanted(&self, file: &str, i: usize) -> Result<Wanted, DataError> {
        let fail = |field: &str, reason: String| DataError::field(file, format!("jobs[{i}].{field}"), reason);
        let model = Model::open(&self.model).map_err(|e| fail("model", e.to_string()))?;
        let kind = Kind::named(&self.kind).ok_or_else(|| fail("kind", "serve or train can be".to_owned()))?;
        let train = kind == Kind::Train;
        let precision = match self.format.as_deref().and_then(Format::named) {
            Some(format) => Precision::Exactly(format),
            None if !train && model.total() > 200e9 => Precision::Eight,
            None => Precision::Half,
        };
        let seconds = self.days.unwrap_or(1.0) * 86_400.0;
        let work = Work {
            name: self.name.clone(),
            kind,
            model,
            precision,
            input: if train { self.length.unwrap_or(4096.0) } else { self.input.unwrap_or(1024.0) },
            output: if train { 0.0 } else { self.output.unwrap_or(512.0) },
            concurrency: if train { Some(self.global_batch.unwrap_or(512.0)) } else { self.concurrency },
            chips: None,
        };
        let tokens_per_s = self.tokens_per_s.or(self.tokens.map(|t| t / seconds)).unwrap_or(1.0);
        Ok(Wanted { name: self.name.clone(), priority: self.priority, work, tokens_per_s })
    }
}
