//! Predictions: physics, corrections and intervals.

use std::sync::LazyLock;

use super::regression::Regression;
use super::sample::{Sample, Side, sample};
use super::stored::{Fit, Fits, built_in_runs, select};
use crate::Error;
use crate::chips::{Catalog, Chip};
use crate::runs::{Job, Row};

/// Standard deviations of an interval that no runs calibrate.
const UNCALIBRATED: f64 = 1.5;

/// What a prediction rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Basis {
    /// So many measured runs on this chip, of this side (training or inference).
    Chip(usize),
    /// No run on this chip, so many on its vendor's.
    Vendor(usize),
    /// Data sheets only, and what other vendors' chips make of theirs.
    DataSheet,
}

impl Basis {
    /// In words.
    pub fn words(self) -> String {
        match self {
            Basis::Chip(n) => format!("{n} runs on this chip"),
            Basis::Vendor(n) => format!("no run on this chip; {n} on chips of its vendor"),
            Basis::DataSheet => "data sheets only: no run on this chip or its vendor's".to_owned(),
        }
    }
}

/// A rate with its 80 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// Tokens/s and chip.
    pub rate: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// What physics alone say.
    pub physics: f64,
    /// What the data sheet's peaks allow.
    pub limit: f64,
    /// What it rests on.
    pub basis: Basis,
    /// Whether sizes are outside those of all runs that it rests on.
    pub extrapolated: bool,
}

/// Predicts rates of jobs.
pub struct Predictor {
    inference: Half,
    training: Half,
}

struct Half {
    fit: Fit,
    regression: Regression,
    /// Chips of the runs, and their vendors.
    seen: Vec<(String, String)>,
    /// Least and greatest of each feature.
    range: Vec<(f64, f64)>,
}

impl Predictor {
    /// The predictor that comes with the program: made once, in about a fifth of a second.
    pub fn built_in() -> Result<&'static Predictor, Error> {
        static PREDICTOR: LazyLock<Result<Predictor, Error>> = LazyLock::new(|| {
            let fits = Fits::built_in()?;
            Predictor::new(fits, &[], Catalog::built_in()?)
        });
        PREDICTOR.as_ref().map_err(Clone::clone)
    }

    /// A predictor that knows `own` runs besides those that come with the program.
    pub fn new(fits: &Fits, own: &[Row], catalog: &Catalog) -> Result<Predictor, Error> {
        Ok(Predictor {
            inference: Half::new(Side::Inference, &fits.inference, own, catalog)?,
            training: Half::new(Side::Training, &fits.training, own, catalog)?,
        })
    }

    fn half(&self, side: Side) -> &Half {
        match side {
            Side::Inference => &self.inference,
            Side::Training => &self.training,
        }
    }

    /// Logarithms of the fitted efficiencies of inference.
    pub fn inference_logs(&self) -> &[f64] {
        &self.inference.fit.efficiencies
    }

    /// Logarithms of the fitted efficiencies of training.
    pub fn training_logs(&self) -> &[f64] {
        &self.training.fit.efficiencies
    }

    /// The rate of `job`. An error names the figure of the chip that is missing.
    pub fn predict(&self, job: &Job) -> Result<Prediction, &'static str> {
        self.half(Side::of(job.kind)).predict(job)
    }
}

impl Half {
    fn new(side: Side, fit: &Fit, own: &[Row], catalog: &Catalog) -> Result<Half, Error> {
        let mut runs = built_in_runs(side)?;
        let more = select(side, own.iter(), catalog);
        runs.jobs.extend(more.jobs);
        runs.targets.extend(more.targets);
        let samples: Vec<Sample> =
            runs.jobs.iter().filter_map(|j| sample(j, &fit.efficiencies).ok()).collect();
        if samples.len() != runs.jobs.len() {
            return Err(Error::Fit);
        }
        let residuals: Vec<f64> = runs.targets.iter().zip(&samples).map(|(t, s)| t - s.base).collect();
        let mut range: Vec<(f64, f64)> = Vec::new();
        for s in &samples {
            range.resize(s.features.len(), (f64::INFINITY, f64::NEG_INFINITY));
            for (r, f) in range.iter_mut().zip(&s.features) {
                *r = (r.0.min(*f), r.1.max(*f));
            }
        }
        let regression = Regression::fit(&fit.kernel, samples, &residuals).ok_or(Error::Fit)?;
        let seen = runs.jobs.iter().map(|j| (j.chip.id.clone(), j.chip.vendor.clone())).collect();
        Ok(Half { fit: fit.clone(), regression, seen, range })
    }

    fn basis(&self, chip: &Chip) -> Basis {
        let own = self.seen.iter().filter(|(id, _)| *id == chip.id).count();
        let vendor = self.seen.iter().filter(|(_, v)| *v == chip.vendor).count();
        match (own, vendor) {
            (0, 0) => Basis::DataSheet,
            (0, n) => Basis::Vendor(n),
            (n, _) => Basis::Chip(n),
        }
    }

    fn predict(&self, job: &Job) -> Result<Prediction, &'static str> {
        let s = sample(job, &self.fit.efficiencies)?;
        let (mean, variance) = self.regression.predict(&s);
        let basis = self.basis(&job.chip);
        let stratum = if matches!(basis, Basis::Chip(_)) { "chip" } else { "family" };
        let intervals = &self.fit.intervals;
        let factor = intervals
            .iter()
            .find(|i| i.kind == job.kind.name() && i.basis == stratum)
            .or_else(|| intervals.iter().find(|i| i.kind == job.kind.name()))
            .map_or(UNCALIBRATED, |i| i.factor);
        // A correction never passes the data sheet's peaks.
        let log = (s.base + mean).min(s.limit);
        let half = factor * variance.sqrt();
        let outside = s.features.iter().zip(&self.range).any(|(f, (low, high))| {
            let slack = 0.05 * (high - low).max(1e-9);
            *f < low - slack || *f > high + slack
        });
        Ok(Prediction {
            rate: log.exp(),
            low: (log - half).exp(),
            high: (log + half).min(s.limit.max(log)).exp(),
            physics: s.base.exp(),
            limit: s.limit.exp(),
            basis,
            extrapolated: outside,
        })
    }
}
