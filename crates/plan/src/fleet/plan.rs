//! Which job runs on which chips.

use serde::Serialize;

use super::assign::{Seat, assign};
use super::file::Fleet;
use super::joint::{Joint, joint};
use super::options::{Part, Ways, ways};
use crate::Error;
use crate::chips::Catalog;
use crate::fit::Predictor;

/// Pairs of kinds and jobs whose sharing is looked at, at most.
const MOST_JOINT: usize = 30;

/// A fleet's plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Whether no better plan exists among those that were considered.
    pub exact: bool,
    /// Jobs that run.
    pub assigned: Vec<Assignment>,
    /// Jobs that do not.
    pub unmet: Vec<Unmet>,
    /// The chips.
    pub chips: Vec<Use>,
    /// What two kinds of chips would give a job together, were it the only one.
    pub joint: Vec<Joint>,
}

/// A job on its chips.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Assignment {
    /// The job.
    pub job: String,
    /// Its priority.
    pub priority: u8,
    /// Tokens/s that are wanted.
    pub wanted: f64,
    /// Where it runs.
    pub parts: Vec<Part>,
    /// Tokens/s that are predicted.
    pub tokens_per_s: f64,
    /// Lower end of the interval, the parts' added.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// A job that does not run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unmet {
    /// The job.
    pub job: String,
    /// Its priority.
    pub priority: u8,
    /// Why.
    pub reason: String,
}

/// How much of a kind of chip is used.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Use {
    /// The chip's id.
    pub chip: String,
    /// How many there are.
    pub count: f64,
    /// How many are used.
    pub used: f64,
    /// W that these may draw.
    pub power_w: Option<f64>,
}

/// Plans `fleet`, which was read from `file`.
///
/// # Errors
/// A chip or a model that is not known, by file and field.
pub fn plan(fleet: &Fleet, file: &str, catalog: &Catalog, predictor: &Predictor) -> Result<Plan, Error> {
    let pools = fleet.pools(file, catalog)?;
    let jobs = fleet.wanted(file)?;
    let all: Vec<Ways> = jobs.iter().map(|job| ways(predictor, &pools, job)).collect();
    let counts: Vec<f64> = pools.iter().map(|p| p.1).collect();
    let seats: Vec<Seat<'_>> = jobs
        .iter()
        .zip(&all)
        .map(|(job, ways)| Seat { priority: job.priority, choices: &ways.choices })
        .collect();
    let (picks, exact) = assign(&counts, &seats);
    let mut left = counts;
    let (mut assigned, mut unmet) = (Vec::new(), Vec::new());
    for ((job, ways), pick) in jobs.iter().zip(&all).zip(&picks) {
        let Some(choice) = pick.and_then(|p| ways.choices.get(p)) else { continue };
        for part in &choice.parts {
            if let Some(there) = left.get_mut(part.pool) {
                *there -= part.chips;
            }
        }
        let sum = |of: fn(&Part) -> f64| choice.parts.iter().map(of).sum();
        assigned.push(Assignment {
            job: job.name.clone(),
            priority: job.priority,
            wanted: job.tokens_per_s,
            parts: choice.parts.clone(),
            tokens_per_s: sum(|p| p.tokens_per_s),
            low: sum(|p| p.low),
            high: sum(|p| p.high),
        });
    }
    for ((job, ways), _) in jobs.iter().zip(&all).zip(&picks).filter(|(_, pick)| pick.is_none()) {
        unmet.push(Unmet { job: job.name.clone(), priority: job.priority, reason: reason(ways, &left) });
    }
    let mut together = Vec::new();
    for (i, a) in pools.iter().enumerate() {
        for b in pools.iter().skip(i + 1).filter(|b| b.0.id != a.0.id) {
            for job in &jobs {
                if together.len() < MOST_JOINT {
                    together.push(joint(predictor, a, b, job));
                }
            }
        }
    }
    let uses = pools.iter().zip(&left).map(|((chip, count), left)| Use {
        chip: chip.id.clone(),
        count: *count,
        used: count - left,
        power_w: chip.tdp_w.map(|w| w * (count - left)),
    });
    Ok(Plan { exact, assigned, unmet, chips: uses.collect(), joint: together })
}

fn reason(ways: &Ways, left: &[f64]) -> String {
    let mut reasons: Vec<String> = ways.refused.clone();
    for choice in ways.choices.iter().filter(|c| c.parts.len() == 1) {
        for part in &choice.parts {
            let left = left.get(part.pool).copied().unwrap_or(0.0);
            reasons.push(format!("{}: {} chips would do it, {left} are left", part.chip, part.chips));
        }
    }
    reasons.join("; ")
}
