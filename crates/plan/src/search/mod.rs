//! The best way to run a model on chips: what fits, and what of that is fastest, quickest or cheapest.
//!
//! A search asks the closed forms of [`crate::predict`] for every configuration that can exist, and
//! [`crate::fit::Predictor`] for the best few hundred of them. Chips may stay idle, so that more chips never make a worse
//! plan.
//!
//! Module map: `memory` what a served model takes · `serve` serving · `layouts` ways to cut a served model · `train`
//! training · `space` ways to cut training · `check` whether one can exist, and the nearest that can · `endurance`
//! failures and checkpoints of long runs · `under_load` arrivals by chance · `costs` energy and money · `refusal` why nothing was found.

mod check;
mod costs;
mod endurance;
mod layouts;
mod memory;
mod refusal;
mod serve;
mod space;
mod train;
mod under_load;

pub use check::check;
pub use costs::{Bill, Costs};
pub use endurance::{Endurance, MTBF_SOURCE, Reliability};
pub use memory::{Memory, MemoryAsk, fit};
pub use refusal::Refusal;
pub use serve::{ServeAsk, ServePlan, ServeResults, serve};
pub use train::{Pins, TrainAsk, TrainPlan, TrainResults, physics_search, train};

use crate::chips::Chip;

/// What software, its buffers and fragments leave of a device's memory.
pub const USABLE: f64 = 0.9;

pub(crate) const GIB: f64 = (1u64 << 30) as f64;

/// Devices that software sees in a chip.
pub(crate) fn dies(chip: &Chip) -> f64 {
    f64::from(chip.dies.unwrap_or(1).max(1))
}

/// 1, 2, 4, ... up to `most`.
pub(crate) fn powers(most: f64) -> impl Iterator<Item = f64> {
    std::iter::successors(Some(1.0), |n| Some(n * 2.0)).take_while(move |n| *n <= most)
}

/// Whether `n` is a whole multiple of `of`.
pub(crate) fn divides(of: f64, n: f64) -> bool {
    of >= 1.0 && n % of == 0.0
}
