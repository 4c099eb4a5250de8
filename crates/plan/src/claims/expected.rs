//! Predictions for typical work on both chips.

use std::sync::Arc;

use crate::chips::Chip;
use crate::fit::Predictor;
use crate::predict::Format;
use crate::runs::Kind;
use crate::service::{NoPlace, Placed, Precision, Ratio, Work, best, ratio};

/// Typical work on both chips.
pub(super) struct Expected {
    pub(super) work: Work,
    /// The format of both, where one chip lacks what the work wants.
    pub(super) in_format: Option<&'static str>,
    pub(super) result: Result<(Placed, Placed, Ratio), String>,
}

pub(super) fn expected(
    predictor: &Predictor,
    works: &[Work],
    subject: &Arc<Chip>,
    reference: &Arc<Chip>,
) -> Vec<Expected> {
    let placed = |chip: &Arc<Chip>, work: &Work| {
        let chips = work.chips.unwrap_or(1.0);
        best(predictor, chip, work, chips).map_err(|e: NoPlace| format!("{}: {e}", chip.id))
    };
    let both = |work: &Work| {
        let (a, b) = (placed(subject, work)?, placed(reference, work)?);
        let ratio = ratio(&a.prediction, &b.prediction);
        Ok((a, b, ratio))
    };
    let one = |work: &Work| {
        let result = both(work);
        // Weights of one width on both, or the ratio is one of formats.
        let bits = |p: &Placed| p.job.format.weight_bits;
        let apart = result.as_ref().is_ok_and(|(a, b, _)| (bits(a) / bits(b)).ln().abs() > f64::ln(1.2));
        match Format::named("fp4").filter(|_| apart) {
            Some(format) if work.kind != Kind::Train => {
                let narrow = Work { precision: Precision::Exactly(format), ..work.clone() };
                Expected { result: both(&narrow), work: narrow, in_format: Some("fp4") }
            }
            Some(_) => {
                let result = Err("the chips share no number format that models are trained in".to_owned());
                Expected { work: work.clone(), in_format: None, result }
            }
            None => Expected { work: work.clone(), in_format: None, result },
        }
    };
    works.iter().map(one).collect()
}

/// What a prediction is and rests on, in words.
pub(crate) fn rests_on(placed: &Placed) -> String {
    let p = &placed.prediction;
    let job = &placed.job;
    let mut words = format!(
        "predicted for {} chips {} in {} under {} ({}); rests on {}",
        job.chips,
        job.chip.id,
        job.format.name,
        job.stack.name,
        placed.layout,
        p.basis.words()
    );
    if p.extrapolated {
        words += "; sizes outside those of all runs";
    }
    if let Some(note) = &placed.format_note {
        words += &format!("; {note}");
    }
    words
}
