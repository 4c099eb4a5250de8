//! A piece of work on chips of one kind: a number format that they have, a layout that fits, and what is predicted for it.
//!
//! Few layouts are tried: what compares chips has to treat all of them alike, not to find the last per cent of one.
//!
//! Module map: `work` what is asked · `place` where it fits, and the best of it · `size` how many chips are enough ·
//! `ratio` two uncertain rates against each other.

mod place;
mod ratio;
mod size;
mod work;

pub use place::{NoPlace, Placed, best, format_for, holds, smallest};
pub use ratio::{Interval, Ratio, ratio};
pub use size::fewest;
pub use work::{Precision, Work, typical};
