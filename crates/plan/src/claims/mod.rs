//! Public statements about chips, as data, and what can be said of them.
//!
//! A statement such as "A is 2.87 times B" may hold for one figure and not for another. [`check`] looks at all of them:
//! data sheets, measured runs of comparable work, and predictions for typical work.
//!
//! Module map: `claim` a statement as a file · `of` what a statement may be about · `sheet` figures of data sheets ·
//! `measured` runs of both chips · `expected` predictions · `check` all of it against the statement · `page` answers
//! for a reader.

mod check;
mod claim;
mod expected;
mod measured;
mod of;
mod page;
mod sheet;

pub use check::{Answer, Aspect, Basis, Judgement, Verdict, check};
pub use claim::{Claim, Given, Says, built_in};
pub(crate) use expected::rests_on;
pub(crate) use measured::of as runs_of;
pub use measured::{Pair, pairs};
pub use of::Of;
pub use page::page;
pub use sheet::Sourced;
pub(crate) use sheet::source as field_source;
