//! Predictions: physics, corrections and intervals.

use std::sync::LazyLock;

use super::regression::Regression;
use super::sample::{Side, sample};
use super::stored::{Fit, Fits, Interval, built_in_runs, select};
use crate::Error;
use crate::chips::{Catalog, Chip};
use crate::predict::{Efficiencies, TrainingEfficiencies};
use crate::runs::{Job, Row};

/// Standard deviations of an interval that no runs calibrate.
const UNCALIBRATED: f64 = 1.5;

/// Whether a run of that id and document is kept.
type Keep<'a> = &'a dyn Fn(&str, &str) -> bool;

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
    sides: [Fitted; 3],
    intervals: Vec<Interval>,
}

struct Fitted {
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
        Predictor::of(fits, own, catalog, &|_, _| true)
    }

    /// A predictor whose regression has not seen the runs for which `out(id, document)` holds. Efficiencies and the
    /// kernel's scales, some two hundred numbers, were fitted with them still.
    pub fn without(fits: &Fits, out: &dyn Fn(&str, &str) -> bool) -> Result<Predictor, Error> {
        Predictor::of(fits, &[], Catalog::built_in()?, &|id, document| !out(id, document))
    }

    /// The runs that come with the program and are fitted: ids and documents.
    pub fn fitted() -> Result<Vec<(String, String)>, Error> {
        let mut out = Vec::new();
        for side in Side::ALL {
            let runs = built_in_runs(side)?;
            out.extend(runs.ids.into_iter().zip(runs.documents));
        }
        Ok(out)
    }

    fn of(fits: &Fits, own: &[Row], catalog: &Catalog, keep: Keep<'_>) -> Result<Predictor, Error> {
        let of = |side| Fitted::new(side, fits.of(side), own, catalog, keep);
        Ok(Predictor {
            sides: [of(Side::Serving)?, of(Side::Local)?, of(Side::Training)?],
            intervals: fits.intervals.clone(),
        })
    }

    /// The fitted efficiencies of servers.
    pub fn efficiencies(&self) -> Efficiencies {
        let [serving, ..] = &self.sides;
        let logs = <&[f64; Efficiencies::COUNT]>::try_from(serving.fit.efficiencies.as_slice());
        Efficiencies::from_logs(logs.unwrap_or(&Efficiencies::PRIOR.map(f64::ln)))
    }

    /// The fitted efficiencies of training.
    pub fn training_efficiencies(&self) -> TrainingEfficiencies {
        let [.., training] = &self.sides;
        let logs = <&[f64; TrainingEfficiencies::COUNT]>::try_from(training.fit.efficiencies.as_slice());
        TrainingEfficiencies::from_logs(logs.unwrap_or(&TrainingEfficiencies::PRIOR.map(f64::ln)))
    }

    /// The rate of `job`. An error names the figure of the chip that is missing.
    pub fn predict(&self, job: &Job) -> Result<Prediction, &'static str> {
        let [serving, local, training] = &self.sides;
        let side = match Side::of(job) {
            Side::Serving => serving,
            Side::Local => local,
            Side::Training => training,
        };
        side.predict(job, &self.intervals)
    }
}

impl Fitted {
    fn new(side: Side, fit: &Fit, own: &[Row], catalog: &Catalog, keep: Keep<'_>) -> Result<Fitted, Error> {
        let mut runs = built_in_runs(side)?;
        let kept = runs.ids.iter().zip(&runs.documents).enumerate();
        let kept: Vec<usize> =
            kept.filter(|(_, (id, document))| keep(id, document)).map(|(i, _)| i).collect();
        if kept.len() < runs.jobs.len() {
            runs = runs.part(&kept);
        }
        let more = select(side, own.iter(), catalog);
        runs.jobs.extend(more.jobs);
        runs.targets.extend(more.targets);
        let (samples, residuals) = runs.in_numbers(&fit.efficiencies).ok_or(Error::Fit)?;
        let mut range: Vec<(f64, f64)> = Vec::new();
        for s in &samples {
            range.resize(s.features.len(), (f64::INFINITY, f64::NEG_INFINITY));
            for (r, f) in range.iter_mut().zip(&s.features) {
                *r = (r.0.min(*f), r.1.max(*f));
            }
        }
        let regression = Regression::fit(&fit.kernel, samples, &residuals).ok_or(Error::Fit)?;
        let seen = runs.jobs.iter().map(|j| (j.chip.id.clone(), j.chip.vendor.clone())).collect();
        Ok(Fitted { fit: fit.clone(), regression, seen, range })
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

    fn predict(&self, job: &Job, intervals: &[Interval]) -> Result<Prediction, &'static str> {
        let s = sample(job, &self.fit.efficiencies)?;
        let (mean, variance) = self.regression.predict(&s);
        let basis = self.basis(&job.chip);
        let interval = intervals.iter().find(|i| i.kind == job.kind.name());
        let factor = interval.map_or(UNCALIBRATED, |i| i.factor);
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
