//! How many chips give a service.

use std::sync::Arc;

use super::{NoPlace, Placed, Work, best};
use crate::chips::Chip;
use crate::fit::Predictor;

/// The fewest chips, in multiples of `unit` and at most about `most`, that give `tokens_per_s`, and how; none where no number
/// does: more chips
/// make the work of each smaller, but no token faster than a step.
///
/// # Errors
/// A figure of the chip is missing.
pub fn fewest(
    predictor: &Predictor,
    chip: &Arc<Chip>,
    work: &Work,
    unit: f64,
    tokens_per_s: f64,
    most: f64,
) -> Result<Option<Placed>, NoPlace> {
    let enough = |p: &Placed| p.prediction.rate * p.job.chips >= tokens_per_s * (1.0 - 1e-9);
    let mut low = 0.0;
    let mut high = 1.0;
    let mut found;
    loop {
        match best(predictor, chip, work, unit * high) {
            Ok(placed) if enough(&placed) => {
                found = placed;
                break;
            }
            Ok(_) | Err(NoPlace::Layout { .. } | NoPlace::Memory { .. }) => {}
            Err(missing) => return Err(missing),
        }
        low = high;
        high *= 2.0;
        if unit * high > most {
            return Ok(None);
        }
    }
    while high - low > 1.0 {
        let middle = ((low + high) / 2.0).floor();
        match best(predictor, chip, work, unit * middle) {
            Ok(placed) if enough(&placed) => {
                found = placed;
                high = middle;
            }
            Ok(_) | Err(_) => low = middle,
        }
    }
    Ok(Some(found))
}
