//! How well published runs agree with each other: no predictor that has not seen a document can do better than other
//! documents that measured the same.

use std::collections::{HashMap, HashSet};

use super::cross::CrossReport;
use super::sample::Side;
use super::stored::built_in_runs;
use crate::Error;
use crate::runs::{Job, Kind, Setup};

/// How alike two runs have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alike {
    /// The same model, format, chips, software, cut and load, to a twentieth.
    Same,
    /// The same model, format and chip, and sizes within a factor of 2, with any software and cut; scaled by what physics
    /// say of both.
    Nearly,
}

/// A run that other documents measured, too.
#[derive(Clone, Debug, PartialEq)]
pub struct Replicate {
    /// The run.
    pub id: String,
    /// Its kind.
    pub kind: Kind,
    /// Its document.
    pub document: String,
    /// ln(measured / the mean of the others).
    pub others: f64,
    /// ln(measured / predicted without the document).
    pub ours: f64,
    /// How many others there are.
    pub count: usize,
}

/// Every run of `report` that other documents measured, too.
pub fn replicates(report: &CrossReport, alike: Alike) -> Result<Vec<Replicate>, Error> {
    let errors: HashMap<&str, _> = report.rows.iter().map(|r| (r.id.as_str(), r)).collect();
    let mut out = Vec::new();
    for side in Side::ALL {
        let runs = built_in_runs(side)?;
        let all: Vec<_> =
            runs.jobs.iter().zip(&runs.targets).zip(runs.ids.iter().zip(&runs.documents)).collect();
        for ((job, target), (id, document)) in &all {
            let Some(own) = errors.get(id.as_str()) else { continue };
            let mut seen: HashMap<&str, Vec<f64>> = HashMap::new();
            for ((other, rate), (name, from)) in &all {
                if from == document || !is_alike(job, other, alike) {
                    continue;
                }
                let Some(theirs) = errors.get(name.as_str()) else { continue };
                let apart = match alike {
                    Alike::Same => *target - *rate,
                    Alike::Nearly => own.physics_error - theirs.physics_error,
                };
                seen.entry(from.as_str()).or_default().push(apart);
            }
            if seen.is_empty() {
                continue;
            }
            // Each document counts once.
            let mut means: Vec<f64> = seen.values().map(|v| v.iter().sum::<f64>() / v.len() as f64).collect();
            means.sort_by(f64::total_cmp);
            out.push(Replicate {
                id: (*id).clone(),
                kind: job.kind,
                document: (*document).clone(),
                others: means.iter().sum::<f64>() / means.len() as f64,
                ours: own.error,
                count: means.len(),
            });
        }
    }
    Ok(out)
}

/// The documents of `replicates`.
pub fn documents_of<'a>(replicates: impl Iterator<Item = &'a Replicate>) -> usize {
    replicates.map(|r| r.document.as_str()).collect::<HashSet<_>>().len()
}

fn is_alike(a: &Job, b: &Job, alike: Alike) -> bool {
    let model = |j: &Job| (j.model.width, j.model.layers, j.model.mixture.map_or(0.0, |m| m.count));
    let shared = a.kind == b.kind
        && a.chip.id == b.chip.id
        && model(a) == model(b)
        && a.format.name == b.format.name
        && (alike == Alike::Nearly || a.stack.name == b.stack.name);
    let factor = if alike == Alike::Same { 1.05 } else { 2.0 };
    shared && near(a.chips, b.chips, factor) && loads(&a.setup, &b.setup, alike, factor)
}

/// Whether two sizes are within `factor`; absent ones equal each other only.
fn near(a: f64, b: f64, factor: f64) -> bool {
    a == b || a > 0.0 && b > 0.0 && (a / b).max(b / a) <= factor
}

fn loads(a: &Setup, b: &Setup, alike: Alike, factor: f64) -> bool {
    match (a, b) {
        (Setup::Training(a), Setup::Training(b)) => {
            let cut = a.tensor == b.tensor
                && a.pipeline == b.pipeline
                && a.expert == b.expert
                && a.micro_batch == b.micro_batch
                && a.sharded == b.sharded
                && a.recompute == b.recompute;
            let kind = a.adapters_only == b.adapters_only && a.small == b.small;
            kind && (cut || alike == Alike::Nearly)
                && near(a.length, b.length, factor)
                && near(a.global_batch, b.global_batch, factor)
        }
        (
            Setup::Inference { layout: x, load: a, client: p, batch: n, .. },
            Setup::Inference { layout: y, load: b, client: q, batch: m, .. },
        ) => {
            let cut =
                x.tensor == y.tensor && x.pipeline == y.pipeline && x.expert_parallel == y.expert_parallel;
            let some = |n: Option<f64>| n.unwrap_or(0.0);
            p == q
                && (cut || alike == Alike::Nearly)
                && near(a.input, b.input, factor)
                && near(a.output, b.output, factor)
                && near(some(a.concurrency), some(b.concurrency), factor)
                && near(some(a.burst), some(b.burst), factor)
                && near(some(*n), some(*m), factor)
                && a.prefix_hit == b.prefix_hit
                && a.speculation == b.speculation
                && a.disaggregated == b.disaggregated
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_near_within_a_factor() {
        assert!(near(0.0, 0.0, 1.05));
        assert!(near(100.0, 104.0, 1.05));
        assert!(!near(100.0, 106.0, 1.05));
        assert!(!near(0.0, 8.0, 2.0));
    }
}
