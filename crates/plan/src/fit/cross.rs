//! What is left out of fitting, and how well it is predicted.
//!
//! Nested: documents (or chips) are dealt into folds. Efficiencies and the kernel's scales are searched without any run
//! of a fold; then each document (or chip) of the fold is predicted by a regression that has seen all others.

use std::collections::HashMap;

use super::regression::{covariance, inverse, left_out};
use super::sample::Side;
use super::search::{Effort, Runs, efficiencies, search};
use super::stored::{Interval, built_in_runs};
use crate::Error;
use crate::runs::Kind;

/// What is left out together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// Whole documents.
    Documents,
    /// Whole chips.
    Chips,
}

/// One run, predicted by what has not seen it.
#[derive(Clone, Debug)]
pub struct CrossRow {
    /// The run.
    pub id: String,
    /// Its kind.
    pub kind: Kind,
    /// Where it was published.
    pub document: String,
    /// On what.
    pub chip: String,
    /// Sequences at once, for decoding.
    pub single: bool,
    /// ln(measured / predicted).
    pub error: f64,
    /// ln(measured / physics), with efficiencies of the fold.
    pub physics_error: f64,
    /// The regression's standard deviation of the logarithm.
    pub sigma: f64,
}

/// All runs of both sides.
#[derive(Clone, Debug)]
pub struct CrossReport {
    /// What was left out.
    pub left_out: LeftOut,
    /// The runs.
    pub rows: Vec<CrossRow>,
}

/// Predicts every run that comes with the program without it, its document or its chip.
pub fn cross_validate(what: LeftOut, folds: usize, effort: Effort) -> Result<CrossReport, Error> {
    let mut rows = Vec::new();
    for side in Side::ALL {
        rows.extend(cross_side(&built_in_runs(side)?, what, folds, effort)?);
    }
    Ok(CrossReport { left_out: what, rows })
}

fn cross_side(runs: &Runs, what: LeftOut, folds: usize, effort: Effort) -> Result<Vec<CrossRow>, Error> {
    let groups = match what {
        LeftOut::Documents => runs.by_document(),
        LeftOut::Chips => runs.by_chip(),
    };
    // The largest groups first, each to the emptiest fold.
    let mut order: Vec<&Vec<usize>> = groups.iter().collect();
    order.sort_by_key(|g| std::cmp::Reverse(g.len()));
    let mut dealt: Vec<Vec<&Vec<usize>>> = vec![Vec::new(); folds.clamp(2, groups.len().max(2))];
    for group in order {
        if let Some(fold) = dealt.iter_mut().min_by_key(|f| f.iter().map(|g| g.len()).sum::<usize>()) {
            fold.push(group);
        }
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut out = Vec::new();
    for batch in dealt.chunks(threads) {
        let results: Vec<Option<Vec<CrossRow>>> = std::thread::scope(|scope| {
            let handles: Vec<_> =
                batch.iter().map(|fold| scope.spawn(move || cross_fold(runs, fold, effort))).collect();
            handles.into_iter().map(|h| h.join().ok().flatten()).collect()
        });
        for result in results {
            out.extend(result.ok_or(Error::Fit)?);
        }
    }
    Ok(out)
}

fn cross_fold(runs: &Runs, fold: &[&Vec<usize>], effort: Effort) -> Option<Vec<CrossRow>> {
    let mut held = vec![false; runs.jobs.len()];
    for &i in fold.iter().copied().flatten() {
        if let Some(h) = held.get_mut(i) {
            *h = true;
        }
    }
    let keep: Vec<usize> = (0..held.len()).filter(|&i| held.get(i) == Some(&false)).collect();
    let inner = runs.part(&keep);
    let logs = efficiencies(&inner);
    let kernel = search(&inner, &logs, None, effort)?;
    let (samples, residuals) = runs.in_numbers(&logs)?;
    let ready = kernel.ready();
    let inverse = inverse(&covariance(&ready, &samples), ready.noise)?;
    let groups: Vec<Vec<usize>> = fold.iter().map(|g| (*g).clone()).collect();
    let out = left_out(&inverse, &residuals, &groups)?;
    let mut rows = Vec::new();
    for &i in fold.iter().copied().flatten() {
        let (job, (mean, variance)) = (runs.jobs.get(i)?, out.get(i)?);
        let single = match &job.setup {
            crate::runs::Setup::Inference { batch, .. } => *batch == Some(1.0),
            crate::runs::Setup::Training(_) => false,
        };
        let limit = samples.get(i)?.limit - samples.get(i)?.base;
        rows.push(CrossRow {
            id: runs.ids.get(i)?.clone(),
            kind: job.kind,
            document: runs.documents.get(i)?.clone(),
            chip: job.chip.id.clone(),
            single,
            error: residuals.get(i)? - mean.min(limit),
            physics_error: *residuals.get(i)?,
            sigma: variance.sqrt(),
        });
    }
    Some(rows)
}

/// For each kind the factor on standard deviations that covers `share` of the runs. Errors of runs left out with their
/// documents and with their chips count alike: the regression's standard deviation says how far off what it knows a run is,
/// and one factor has to do for all that is asked.
pub fn intervals(reports: &[CrossReport], share: f64) -> Vec<Interval> {
    let mut out: Vec<Interval> = Kind::ALL
        .iter()
        .filter_map(|&kind| {
            let mut scores = scores(reports, kind, |_| true);
            let factor = quantile(&mut scores, share)?;
            Some(Interval { kind: kind.name().to_owned(), factor, errors: scores.len() })
        })
        .collect();
    out.sort_by(|a, b| a.kind.cmp(&b.kind));
    out
}

/// Errors in standard deviations, of the runs of a kind that `of` takes.
fn scores(reports: &[CrossReport], kind: Kind, of: impl Fn(&CrossRow) -> bool) -> Vec<f64> {
    let rows = reports.iter().flat_map(|r| &r.rows).filter(|r| r.kind == kind && of(r));
    rows.map(|r| r.error.abs() / r.sigma).collect()
}

impl CrossReport {
    /// Of each kind the share of runs in their intervals, and the intervals' median width upwards. Each interval's factor is
    /// that of [`intervals`] without the run's document (or chip).
    pub fn coverage(&self, reports: &[CrossReport], share: f64) -> Vec<(Kind, f64, f64)> {
        let key = |r: &CrossRow| match self.left_out {
            LeftOut::Documents => r.document.clone(),
            LeftOut::Chips => r.chip.clone(),
        };
        let mut out = Vec::new();
        for kind in Kind::ALL {
            let rows: Vec<&CrossRow> = self.rows.iter().filter(|r| r.kind == kind).collect();
            let mut factors: HashMap<String, f64> = HashMap::new();
            let (mut inside, mut widths) = (0.0, Vec::new());
            for row in &rows {
                let own = key(row);
                let factor = *factors.entry(own.clone()).or_insert_with(|| {
                    quantile(&mut scores(reports, kind, |r| key(r) != own), share).unwrap_or(1.3)
                });
                inside += f64::from(u8::from(row.error.abs() <= factor * row.sigma));
                widths.push((factor * row.sigma).exp() - 1.0);
            }
            if !rows.is_empty() {
                out.push((kind, inside / rows.len() as f64, quantile(&mut widths, 0.5).unwrap_or(0.0)));
            }
        }
        out
    }
}

/// The value that `share` of `values` do not pass, as conformal prediction counts: of n + 1.
pub(crate) fn quantile(values: &mut [f64], share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let at = ((values.len() + 1) as f64 * share).ceil() as usize;
    values.get(at.clamp(1, values.len().max(1)) - 1).copied()
}
