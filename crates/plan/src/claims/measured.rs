//! Measured runs of both chips on comparable work.

use std::sync::Arc;

use serde::Serialize;

use crate::chips::{Catalog, Chip};
use crate::model::Model;
use crate::runs::{self, Client, Job, Kind, Quantity, Setup, interpret};

/// Two runs that differ in the chip, and in little else.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// Kind of work.
    #[serde(serialize_with = "kind_name")]
    pub kind: Kind,
    /// Subject's tokens/s and chip over the reference's.
    pub ratio: f64,
    /// The same for each peak operation/s of the runs' own number formats.
    pub per_peak: Option<f64>,
    /// Tokens/s and chip of both.
    pub rates: (f64, f64),
    /// What was run on both, in words.
    pub conditions: (String, String),
    /// Where both were published.
    pub sources: (String, String),
    /// How unlike the runs are; 0 for the same.
    pub distance: f64,
}

fn kind_name<S: serde::Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}

pub(crate) struct Run {
    pub(crate) job: Job,
    pub(crate) rate: f64,
    pub(crate) source: String,
    /// Sequences in flight on a chip, where they are known.
    in_flight: Option<f64>,
    lengths: (Option<f64>, Option<f64>),
}

/// The runs on a chip that can be compared.
pub(crate) fn of(chip: &Chip, catalog: &Catalog) -> Vec<Run> {
    let rows = runs::built_in().iter().filter(|r| r.quality >= 2);
    let mut found = Vec::new();
    for row in rows {
        // Cheap first: most rows are of other chips.
        if row.chip_id.as_deref().is_some_and(|id| id != chip.id) {
            continue;
        }
        let Ok((job, measured)) = interpret(row, catalog) else { continue };
        let Quantity::Rate(scale) = measured.quantity else { continue };
        let notes = row.notes.as_deref().unwrap_or_default();
        // Without its batch, a run under a limit of latency is at an unknown place of the curve.
        let unplaced = row.batch.is_none() && row.figure("tpot_ms_max").is_some();
        if job.chip.id != chip.id || notes.contains("simulated") || unplaced {
            continue;
        }
        let in_flight = match &job.setup {
            // Some tell the batch of a die.
            Setup::Inference { .. } if notes.contains("per die") => {
                row.batch.map(|b| b * f64::from(chip.dies.unwrap_or(1)) * job.chips)
            }
            Setup::Inference { load, batch, .. } => {
                batch.or(load.concurrency).filter(|_| row.batch.is_some())
            }
            Setup::Training(_) => None,
        };
        found.push(Run {
            rate: measured.value / scale,
            source: format!("{} ({})", row.source, row.confidence.as_deref().unwrap_or("measured")),
            in_flight: in_flight.map(|n| n / job.chips),
            lengths: (row.isl.filter(|n| *n > 0.0), row.osl.filter(|n| *n > 0.0)),
            job,
        });
    }
    found
}

/// The reference's closest run for each of the subject's, where one is comparable: same model and kind of work, weights of
/// the same width, prompts and answers that differ by a factor of 2.5 at most, load on a chip by 4. `document` is a part of
/// the name of what published the subject's runs, where only those count.
pub fn pairs(
    subject: &Arc<Chip>,
    reference: &Arc<Chip>,
    catalog: &Catalog,
    document: Option<&str>,
) -> Vec<Pair> {
    let others = of(reference, catalog);
    let mut found: Vec<Pair> = Vec::new();
    let wanted = |run: &Run| document.is_none_or(|d| run.source.contains(d));
    for run in of(subject, catalog).into_iter().filter(wanted) {
        let close = others.iter().filter_map(|other| Some((distance(&run, other)?, other)));
        let Some((distance, other)) = close.min_by(|a, b| a.0.total_cmp(&b.0)) else { continue };
        let ratio = run.rate / other.rate;
        let peak = |run: &Run| run.job.format.peaks(&run.job.chip).map(|p| p.0);
        let per_peak = peak(&run).zip(peak(other)).map(|(a, b)| ratio / (a / b));
        found.push(Pair {
            kind: run.job.kind,
            ratio,
            per_peak,
            rates: (run.rate, other.rate),
            conditions: (conditions(&run), conditions(other)),
            sources: (run.source, other.source.clone()),
            distance,
        });
    }
    found.sort_by(|a, b| a.distance.total_cmp(&b.distance));
    found
}

fn same_model(a: &Model, b: &Model) -> bool {
    a.width == b.width && a.layers == b.layers && (a.total() / b.total()).ln().abs() < 0.05
}

/// How unlike two runs are, or `None` where they cannot be compared.
fn distance(a: &Run, b: &Run) -> Option<f64> {
    let (x, y) = (&a.job, &b.job);
    if x.kind != y.kind || !same_model(&x.model, &y.model) || client(x) != client(y) {
        return None;
    }
    // Four bits against eight, or eight against sixteen, is another question.
    if (x.format.weight_bits / y.format.weight_bits).ln().abs() > f64::ln(1.3) {
        return None;
    }
    let cached = |job: &Job| match &job.setup {
        Setup::Inference { load, .. } => load.prefix_hit,
        Setup::Training(_) => 0.0,
    };
    if (cached(x) - cached(y)).abs() > 0.1 {
        return None;
    }
    let mut sum = 0.0;
    let pairs = [
        (a.lengths.0, b.lengths.0, 2.5, 1.0),
        (a.lengths.1, b.lengths.1, 2.5, 1.0),
        (a.in_flight, b.in_flight, 4.0, 1.0),
        // Published deployments of one phase differ more in chips than in what a chip does.
        (
            Some(x.chips),
            Some(y.chips),
            if matches!(x.kind, Kind::Prefill | Kind::Decode) { 5.0 } else { 2.5 },
            0.5,
        ),
    ];
    for (a, b, most, weight) in pairs {
        let Some((a, b)) = a.zip(b) else {
            sum += 0.5;
            continue;
        };
        let apart = (a / b).ln().abs();
        if apart > f64::ln(most) {
            return None;
        }
        sum += weight * apart;
    }
    if x.format.name != y.format.name {
        sum += 0.5 + 0.5 * (x.format.weight_bits / y.format.weight_bits).ln().abs();
    }
    Some(sum)
}

fn client(job: &Job) -> Option<Client> {
    match &job.setup {
        Setup::Inference { client, .. } => Some(*client),
        Setup::Training(_) => None,
    }
}

fn conditions(run: &Run) -> String {
    let mut words = format!(
        "{}, {}, {} chips, {}",
        run.job.model.name, run.job.format.name, run.job.chips, run.job.stack.name
    );
    if let Some(n) = run.lengths.0 {
        words += &format!(", {n} in");
    }
    if let Some(n) = run.lengths.1 {
        words += &format!(", {n} out");
    }
    if let Some(n) = run.in_flight {
        words += &format!(", {n:.0} in flight a chip");
    }
    words
}
