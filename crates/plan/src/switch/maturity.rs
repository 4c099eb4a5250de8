//! What measured runs reach of data sheets: how far a chip's software has come.

use serde::Serialize;

use crate::chips::{Catalog, Chip};
use crate::claims::runs_of;
use crate::fit::Predictor;
use crate::runs::Kind;

/// Runs of one kind on a chip.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Maturity {
    /// `train`, `prefill`, `decode` or `serve`.
    pub kind: &'static str,
    /// Measured runs.
    pub runs: usize,
    /// The median share of what the data sheet's peaks allow.
    pub median: f64,
    /// The greatest share.
    pub best: f64,
}

/// What measured runs on `chip` reach of what its data sheet allows, by kind of work.
pub fn maturity(chip: &Chip, catalog: &Catalog, predictor: &Predictor) -> Vec<Maturity> {
    let runs = runs_of(chip, catalog);
    let of = |kind: Kind| {
        let own = runs.iter().filter(|r| r.job.kind == kind);
        let mut shares: Vec<f64> =
            own.filter_map(|r| Some(r.rate / predictor.predict(&r.job).ok()?.limit)).collect();
        // Above the limit, a run was not under the conditions that are known of it.
        shares.retain(|share| *share <= 1.0);
        shares.sort_by(f64::total_cmp);
        let median = *shares.get(shares.len() / 2)?;
        let best = *shares.last()?;
        Some(Maturity { kind: kind.name(), runs: shares.len(), median, best })
    };
    Kind::ALL.into_iter().filter_map(of).collect()
}
