//! The result of fitting, a file of the tree.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::kernel::Kernel;
use super::sample::Side;
use super::search::Runs;
use crate::Error;
use crate::chips::Catalog;
use crate::runs::{self, Quantity, interpret};

/// All fits, and how wide intervals are.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fits {
    /// Prefill, decode and serving by servers.
    pub serving: Fit,
    /// Prefill and decode by programs for one user.
    pub local: Fit,
    /// Training.
    pub training: Fit,
    /// How wide intervals are.
    pub intervals: Vec<Interval>,
}

/// What fitting found.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fit {
    /// Logarithms of the efficiencies, in the order of their names.
    pub efficiencies: Vec<f64>,
    /// The corrections' covariance.
    pub kernel: Kernel,
}

/// How many of the regression's standard deviations make an interval that covers 80 % of what is left out.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// `train`, `prefill`, `decode` or `serve`.
    pub kind: String,
    /// Standard deviations to each side.
    pub factor: f64,
    /// Errors that it was calibrated on: two a run, one without its document and one without its chip.
    pub errors: usize,
}

const TEXT: &str = include_str!("../../data/fit.json");

impl Fits {
    pub(crate) fn of(&self, side: Side) -> &Fit {
        match side {
            Side::Serving => &self.serving,
            Side::Local => &self.local,
            Side::Training => &self.training,
        }
    }

    /// The fits that come with the program.
    pub fn built_in() -> Result<&'static Fits, Error> {
        static FITS: LazyLock<Option<Fits>> = LazyLock::new(|| serde_json::from_str(TEXT).ok());
        FITS.as_ref().ok_or(Error::Fit)
    }
}

/// Runs of quality 3 that come with the program, of one side.
pub(crate) fn built_in_runs(side: Side) -> Result<Runs, Error> {
    let catalog = Catalog::built_in()?;
    let rows = runs::built_in().iter().filter(|r| r.quality == 3);
    Ok(select(side, rows, catalog))
}

/// The runs among `rows` that can be fitted.
pub(crate) fn select<'a>(side: Side, rows: impl Iterator<Item = &'a runs::Row>, catalog: &Catalog) -> Runs {
    let mut out = Runs { side, jobs: vec![], targets: vec![], ids: vec![], documents: vec![] };
    for row in rows {
        let Ok((job, measured)) = interpret(row, catalog) else { continue };
        if Side::of(&job) != side {
            continue;
        }
        let Quantity::Rate(scale) = measured.quantity else { continue };
        if super::sample::physics(&job, &side.prior()).is_err() {
            continue;
        }
        out.jobs.push(job);
        out.targets.push((measured.value / scale).ln());
        out.ids.push(row.id.clone());
        out.documents.push(row.document().to_owned());
    }
    out
}
