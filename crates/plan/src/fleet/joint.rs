//! Two kinds of chips on one job.

use std::sync::Arc;

use serde::Serialize;

use super::file::Wanted;
use crate::chips::Chip;
use crate::fit::Predictor;
use crate::model::Model;
use crate::runs::Kind;
use crate::service::{Work, best};

/// Ways to cut a model into two stages that are tried.
const CUTS: u32 = 16;
/// Bytes/s between chips of two vendors, for each chip: no link joins them, so a network card of 200 Gb/s.
const NETWORK: f64 = 25e9;

/// What two kinds of chips give a job together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Joint {
    /// The job.
    pub job: String,
    /// The chips' ids.
    pub chips: (String, String),
    /// Whether they are of two vendors.
    pub two_vendors: bool,
    /// Tokens/s of all chips of the first kind, and of the second.
    pub alone: (Option<f64>, Option<f64>),
    /// Tokens/s where each kind serves its own requests with a whole model.
    pub by_service: Option<f64>,
    /// Tokens/s where each kind holds some of the layers.
    pub by_pipeline: Option<f64>,
    /// The share of layers on the first kind, then.
    pub first_share: Option<f64>,
    /// The better of both over the better kind alone, less one; none where neither kind does it alone.
    pub gain: Option<f64>,
    /// In words.
    pub advice: String,
}

/// A model of some of the layers. Embedding and output stay with both, which overstates small models a little.
fn stage(model: &Model, share: f64) -> Model {
    let mut part = model.clone();
    part.layers *= share;
    let outer = (model.vocabulary * model.width).min(model.dense);
    part.dense = outer + (model.dense - outer) * share;
    for attention in &mut part.attention {
        attention.layers *= share;
    }
    if let Some(mixture) = &mut part.mixture {
        mixture.layers *= share;
    }
    part
}

/// What all chips of two pools give `job` together, against each alone.
pub(super) fn joint(
    predictor: &Predictor,
    a: &(Arc<Chip>, f64),
    b: &(Arc<Chip>, f64),
    job: &Wanted,
) -> Joint {
    let rate = |(chip, count): &(Arc<Chip>, f64), work: &Work| {
        best(predictor, chip, work, *count).ok().map(|p| p.prediction.rate * count)
    };
    let alone = (rate(a, &job.work), rate(b, &job.work));
    let serve = job.work.kind == Kind::Serve;
    let by_service = (serve).then(|| shared(predictor, a, b, job, alone)).flatten();
    let mut pipeline: Option<(f64, f64)> = None;
    for cut in (1..CUTS).filter(|_| serve) {
        let share = f64::from(cut) / f64::from(CUTS);
        let of = |pool: &(Arc<Chip>, f64), share: f64| {
            // Half of the requests are in the other stage.
            let concurrency = job.work.concurrency.map(|c| (c / 2.0).max(1.0));
            rate(pool, &Work { model: stage(&job.work.model, share), concurrency, ..job.work.clone() })
        };
        let Some((first, second)) = of(a, share).zip(of(b, 1.0 - share)) else { continue };
        // A token's state crosses once for its prompt's share, and once for itself.
        let crossing = 2.0 * job.work.model.width * (1.0 + job.work.input / job.work.output.max(1.0));
        let together = first.min(second).min(NETWORK * a.1.min(b.1) / crossing);
        if pipeline.is_none_or(|(most, _)| together > most) {
            pipeline = Some((together, share));
        }
    }
    let most = |x: Option<f64>, y: Option<f64>| match (x, y) {
        (Some(x), Some(y)) => Some(x.max(y)),
        (x, y) => x.or(y),
    };
    let by_pipeline = pipeline.map(|p| p.0);
    let gain = most(by_service, by_pipeline).zip(most(alone.0, alone.1)).map(|(both, one)| both / one - 1.0);
    let advice = advice(serve, alone, by_service, by_pipeline, gain);
    Joint {
        job: job.name.clone(),
        chips: (a.0.id.clone(), b.0.id.clone()),
        two_vendors: a.0.vendor != b.0.vendor,
        alone,
        by_service,
        by_pipeline,
        first_share: pipeline.map(|p| p.1),
        gain,
        advice,
    }
}

/// Requests are shared in proportion to what each kind does alone.
fn shared(
    predictor: &Predictor,
    a: &(Arc<Chip>, f64),
    b: &(Arc<Chip>, f64),
    job: &Wanted,
    alone: (Option<f64>, Option<f64>),
) -> Option<f64> {
    let (x, y) = alone.0.zip(alone.1)?;
    let share = x / (x + y);
    let part = |(chip, count): &(Arc<Chip>, f64), share: f64| {
        let concurrency = job.work.concurrency.map(|c| (c * share).max(1.0));
        let work = Work { concurrency, ..job.work.clone() };
        best(predictor, chip, &work, *count).ok().map(|p| p.prediction.rate * count)
    };
    Some(part(a, share)? + part(b, 1.0 - share)?)
}

fn advice(
    serve: bool,
    alone: (Option<f64>, Option<f64>),
    by_service: Option<f64>,
    by_pipeline: Option<f64>,
    gain: Option<f64>,
) -> String {
    if !serve {
        return "training over two kinds of chips is not predicted: collectives of two vendors do not join"
            .to_owned();
    }
    match (by_service, by_pipeline, gain) {
        (_, _, Some(gain)) if gain <= 0.0 => "keep to one kind: both together give less".to_owned(),
        (Some(service), Some(pipeline), _) if service >= pipeline => {
            "split by service: each kind its own requests, nothing crosses between them".to_owned()
        }
        (Some(_), Some(_), _) | (None, Some(_), Some(_)) => {
            "split by stage: some layers on each; every token waits for the slower side".to_owned()
        }
        (Some(_), None, _) => "split by service: each kind its own requests".to_owned(),
        (None, Some(_), None) => "split by stage: neither kind holds the model alone".to_owned(),
        (None, None, _) if alone.0.or(alone.1).is_some() => "only one of the kinds can take part".to_owned(),
        (None, None, _) => "neither kind does it, alone or together".to_owned(),
    }
}
