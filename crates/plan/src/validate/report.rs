//! One row against its prediction, and all rows.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::{Value, json};

use super::Groups;
use crate::Error;
use crate::chips::Catalog;
use crate::fit::{Fits, Predictor};
use crate::predict::training_memory;
use crate::runs::{self, Job, Quantity, Row, Setup, interpret};

/// Half the 80 % interval of bytes of weights, gradients and optimizer, as a share. Arithmetic gives these bytes; what
/// allocators and buffers add to them is of this order.
pub const MEMORY_INTERVAL: f64 = 0.08;

const GIB: f64 = (1u64 << 30) as f64;

/// What the regression is not to have seen of the rows that are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeaveOut {
    /// It has seen what it has seen.
    #[default]
    Nothing,
    /// The rows themselves.
    Rows,
    /// Every row of their documents.
    Documents,
}

/// What to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The least quality of a row that is predicted: 3 where all that a prediction needs is known.
    pub quality: u8,
    /// Whether rows below that are listed as skipped.
    pub all: bool,
    /// What the regression is not to have seen.
    pub leave_out: LeaveOut,
}

impl Default for Options {
    fn default() -> Options {
        Options { quality: 3, all: false, leave_out: LeaveOut::Nothing }
    }
}

/// A prediction beside what was measured, both in the row's unit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// The unit.
    pub unit: &'static str,
    /// The field of the row that was measured.
    pub field: String,
    /// The prediction.
    pub predicted: f64,
    /// Lower end of its 80 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// What was measured.
    pub measured: f64,
    /// What the prediction rests on.
    pub basis: String,
    /// Whether sizes are outside those of all runs that it rests on.
    pub extrapolated: bool,
    /// Whether corrections were fitted on this very row.
    pub fitted: bool,
}

impl Compared {
    /// predicted / measured - 1.
    pub fn error(&self) -> f64 {
        self.predicted / self.measured - 1.0
    }

    /// Whether the measured figure is inside the interval.
    pub fn inside(&self) -> bool {
        self.low <= self.measured && self.measured <= self.high
    }
}

/// A row that was looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// Its id.
    pub id: String,
    /// Its kind, as the row says it.
    pub kind: String,
    /// Its chip: the catalogue's id, or the row's word.
    pub chip: String,
    /// Where it was published.
    pub document: String,
    /// Beside its prediction, or why there is none.
    pub outcome: Result<Compared, String>,
}

impl Checked {
    /// As JSON: `{"id", "kind", "unit", "predicted", "low", "high", "measured", ...}`, or `{"id", "kind", "skipped"}`.
    pub fn json(&self) -> Value {
        match &self.outcome {
            Err(reason) => json!({"id": self.id, "kind": self.kind, "skipped": reason}),
            Ok(c) => json!({
                "id": self.id,
                "kind": self.kind,
                "unit": c.unit,
                "predicted": c.predicted,
                "low": c.low,
                "high": c.high,
                "measured": c.measured,
                "field": c.field,
                "basis": c.basis,
                "extrapolated": c.extrapolated,
                "fitted": c.fitted,
                "chip": self.chip,
                "document": self.document,
            }),
        }
    }
}

/// All rows, and how well they are predicted.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The rows, in the file's order.
    pub rows: Vec<Checked>,
    /// Rows of too low a quality that are not listed.
    pub omitted: usize,
    /// What the regression had not seen.
    pub leave_out: LeaveOut,
    /// Their errors.
    pub groups: Groups,
}

impl Report {
    /// Rows that were predicted.
    pub fn predicted(&self) -> usize {
        self.groups.all.as_ref().map_or(0, |g| g.rows)
    }

    /// Predicted rows that corrections were fitted on.
    pub fn fitted(&self) -> usize {
        self.groups.all.as_ref().map_or(0, |g| g.fitted)
    }

    /// Predicted rows, the worst first.
    pub fn worst(&self) -> Vec<(&Checked, &Compared)> {
        let mut rows: Vec<_> = self.rows.iter().filter_map(|r| Some((r, r.outcome.as_ref().ok()?))).collect();
        let size = |c: &Compared| (c.predicted / c.measured).ln().abs();
        rows.sort_by(|a, b| size(b.1).total_cmp(&size(a.1)));
        rows
    }

    /// What the figures are worth, in a sentence: how many rows were fitted on, and what was left out.
    pub fn honesty(&self) -> String {
        let (fitted, predicted) = (self.fitted(), self.predicted());
        let rows = format!("{fitted} of {predicted} rows are among those that corrections were fitted on");
        match self.leave_out {
            _ if fitted == 0 => {
                format!("None of the {predicted} rows is among those that corrections were fitted on.")
            }
            LeaveOut::Nothing => format!("{rows}: their errors say little of new runs."),
            LeaveOut::Rows => format!(
                "{rows}; the regression left them out, but not other rows of their documents. Efficiencies and scales were fitted with all."
            ),
            LeaveOut::Documents => format!(
                "{rows}; the regression left out their whole documents. Efficiencies and scales were fitted with all."
            ),
        }
    }

    /// The report as JSON: `rows` as [`Checked::json`], `summary` by kind, chip and document.
    pub fn json(&self) -> Value {
        let leave_out = match self.leave_out {
            LeaveOut::Nothing => "nothing",
            LeaveOut::Rows => "rows",
            LeaveOut::Documents => "documents",
        };
        json!({
            "rows": self.rows.iter().map(Checked::json).collect::<Vec<_>>(),
            "predicted": self.predicted(),
            "skipped": self.rows.len() - self.predicted(),
            "omitted_for_quality": self.omitted,
            "fitted": self.fitted(),
            "left_out": leave_out,
            "interval": 0.8,
            "note": self.honesty(),
            "summary": self.groups,
        })
    }
}

/// Predicts `rows` with the fits that come with the program, and compares.
///
/// # Errors
/// [`Error::Fit`] if the program's own fits are unreadable. Whatever is wrong with a row is told in its place.
pub fn validate(rows: &[Row], chips: &Catalog, options: &Options) -> Result<Report, Error> {
    let known = Known::built_in()?;
    let own;
    let predictor = match options.leave_out {
        LeaveOut::Nothing => Predictor::built_in()?,
        what => {
            let ids: HashSet<&str> = rows.iter().map(|r| known.id(r)).collect();
            let documents: HashSet<&str> = rows
                .iter()
                .map(Row::document)
                .chain(known.rows.iter().filter(|(id, _)| ids.contains(id.as_str())).map(|(_, d)| d.as_str()))
                .collect();
            own = Predictor::without(Fits::built_in()?, &|id, document| {
                ids.contains(id) || what == LeaveOut::Documents && documents.contains(document)
            })?;
            &own
        }
    };
    let mut omitted = 0;
    let mut checked = Vec::new();
    for row in rows {
        let low = row.quality < options.quality;
        if low && !options.all {
            omitted += 1;
            continue;
        }
        let outcome = match low {
            true => Err(format!("its quality is {}, below {}", row.quality, options.quality)),
            false => compare(row, chips, predictor, known.has(row)),
        };
        checked.push(Checked {
            id: row.id.clone(),
            kind: row.kind.clone(),
            chip: row.chip_id.clone().or(row.chip.clone()).unwrap_or_else(|| "unknown".to_owned()),
            document: row.document().to_owned(),
            outcome,
        });
    }
    let groups = Groups::of(&checked);
    Ok(Report { rows: checked, omitted, leave_out: options.leave_out, groups })
}

/// The rows that corrections were fitted on.
struct Known {
    /// Ids and documents.
    rows: Vec<(String, String)>,
    ids: HashSet<String>,
}

impl Known {
    fn built_in() -> Result<Known, Error> {
        let rows = Predictor::fitted()?;
        let ids = rows.iter().map(|(id, _)| id.clone()).collect();
        Ok(Known { rows, ids })
    }

    /// The id under which corrections were fitted on the row: its own, or that of a row which says the same.
    fn id<'a>(&self, row: &'a Row) -> &'a str {
        if self.ids.contains(&row.id) {
            return &row.id;
        }
        let same = |r: &&'static Row| {
            r.measured == row.measured
                && r.kind == row.kind
                && r.chip_id == row.chip_id
                && r.count == row.count
                && r.model.name == row.model.name
                && (r.isl, r.osl, r.batch) == (row.isl, row.osl, row.batch)
        };
        match runs::built_in().iter().find(same) {
            Some(r) => &r.id,
            None => &row.id,
        }
    }

    fn has(&self, row: &Row) -> bool {
        self.ids.contains(self.id(row))
    }
}

fn compare(row: &Row, chips: &Catalog, predictor: &Predictor, fitted: bool) -> Result<Compared, String> {
    let (job, measured) = interpret(row, chips).map_err(|e| e.to_string())?;
    let compared = |predicted, low, high, basis, extrapolated| Compared {
        unit: measured.unit,
        field: measured.field.clone(),
        predicted,
        low,
        high,
        measured: measured.value,
        basis,
        extrapolated,
        fitted,
    };
    let out = match measured.quantity {
        Quantity::Rate(scale) => {
            let p = predictor
                .predict(&job)
                .map_err(|missing| format!("the chip's data sheet lacks {missing}"))?;
            compared(p.rate * scale, p.low * scale, p.high * scale, p.basis.words(), p.extrapolated)
        }
        Quantity::WeightsAndOptimizer => {
            let gib = held(&job).ok_or("bytes of weights and optimizer are of training")? / GIB;
            let (low, high) = (gib * (1.0 - MEMORY_INTERVAL), gib * (1.0 + MEMORY_INTERVAL));
            let basis = format!("arithmetic; the interval is set to {} %", MEMORY_INTERVAL * 100.0);
            Compared { fitted: false, ..compared(gib, low, high, basis, false) }
        }
    };
    let figures = [out.predicted, out.low, out.high, out.measured];
    match figures.iter().all(|x| x.is_finite() && *x > 0.0) {
        true => Ok(out),
        false => Err("its sizes give no finite figure".to_owned()),
    }
}

/// Bytes of weights, gradients and optimizer on a device.
fn held(job: &Job) -> Option<f64> {
    let Setup::Training(t) = &job.setup else { return None };
    let m = training_memory(&job.model, t);
    Some(m.weights + m.gradients + m.optimizer)
}
