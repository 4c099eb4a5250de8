//! A mixed fleet and jobs: which job runs on which chips.
//!
//! Each job has options: the fewest chips of one kind that do it, or of two kinds that share its requests. Jobs of higher
//! priority go first, and among plans that do the same jobs the one that draws less power is taken. Small cases are solved
//! exactly, others by a greedy plan that moves and swaps improve.
//!
//! Module map: `file` a fleet as it is written · `options` ways to do a job · `assign` one of them for each · `joint` two
//! kinds of chips on one job · `plan` all of it.

mod assign;
mod file;
mod joint;
mod options;
mod plan;

pub use file::{Fleet, JobFile, Pool};
pub use joint::Joint;
pub use options::Part;
pub use plan::{Assignment, Plan, Unmet, Use, plan};
