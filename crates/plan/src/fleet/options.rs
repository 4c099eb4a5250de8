//! Ways to do a job.

use std::sync::Arc;

use serde::Serialize;

use super::file::Wanted;
use crate::chips::Chip;
use crate::claims::rests_on;
use crate::fit::Predictor;
use crate::runs::Kind;
use crate::service::{Placed, Work, fewest, smallest};

/// Shares of a job's requests that the first of two kinds of chips takes.
const SHARES: [f64; 3] = [0.25, 0.5, 0.75];

/// A job's part on chips of one kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// Which of the fleet's chips.
    pub pool: usize,
    /// The chip's id.
    pub chip: String,
    /// How many.
    pub chips: f64,
    /// Tokens/s of them all.
    pub tokens_per_s: f64,
    /// Its interval.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// How the model is cut.
    pub layout: String,
    /// What the prediction is and rests on.
    pub rests_on: String,
}

/// A way to do a job.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Choice {
    pub(super) parts: Vec<Part>,
    /// W that its chips may draw.
    pub(super) power: f64,
}

/// A job's ways, and why other chips are none.
pub(super) struct Ways {
    pub(super) choices: Vec<Choice>,
    pub(super) refused: Vec<String>,
}

pub(super) fn part(pool: usize, placed: &Placed) -> Part {
    let (p, chips) = (&placed.prediction, placed.job.chips);
    Part {
        pool,
        chip: placed.job.chip.id.clone(),
        chips,
        tokens_per_s: p.rate * chips,
        low: p.low * chips,
        high: p.high * chips,
        layout: placed.layout.clone(),
        rests_on: rests_on(placed),
    }
}

/// The fewest chips of a pool that do a share of a job.
fn on(
    predictor: &Predictor,
    (i, pool): (usize, &(Arc<Chip>, f64)),
    job: &Wanted,
    share: f64,
) -> Result<Part, String> {
    let (chip, count) = pool;
    let concurrency = match job.work.kind {
        Kind::Train => job.work.concurrency,
        _ => job.work.concurrency.map(|c| (c * share).max(1.0)),
    };
    let work = Work { concurrency, ..job.work.clone() };
    let (unit, _) = smallest(predictor, chip, &work).map_err(|e| format!("{}: {e}", chip.id))?;
    if unit > *count {
        return Err(format!("{}: the model needs {unit} chips, there are {count}", chip.id));
    }
    let found = fewest(predictor, chip, &work, unit, job.tokens_per_s * share, *count);
    match found.map_err(|e| format!("{}: {e}", chip.id))? {
        Some(placed) if placed.job.chips <= *count => Ok(part(i, &placed)),
        _ => Err(format!("{}: {count} chips are too slow", chip.id)),
    }
}

fn power(chip: &Chip, chips: f64) -> f64 {
    // Where it is unknown, what an accelerator typically draws: it only decides between plans that do the same.
    chip.tdp_w.unwrap_or(500.0) * chips
}

pub(super) fn ways(predictor: &Predictor, pools: &[(Arc<Chip>, f64)], job: &Wanted) -> Ways {
    let mut ways = Ways { choices: Vec::new(), refused: Vec::new() };
    for pool in pools.iter().enumerate() {
        match on(predictor, pool, job, 1.0) {
            Ok(part) => {
                let power = power(&pool.1.0, part.chips);
                ways.choices.push(Choice { parts: vec![part], power });
            }
            Err(why) => ways.refused.push(why),
        }
    }
    if job.work.kind != Kind::Serve {
        return ways;
    }
    for a in pools.iter().enumerate() {
        for b in pools.iter().enumerate().skip(a.0 + 1) {
            for share in SHARES {
                let both = (on(predictor, a, job, share), on(predictor, b, job, 1.0 - share));
                if let (Ok(x), Ok(y)) = both {
                    let power = power(&a.1.0, x.chips) + power(&b.1.0, y.chips);
                    ways.choices.push(Choice { parts: vec![x, y], power });
                }
            }
        }
    }
    ways
}
