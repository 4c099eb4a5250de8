//! The truth before you commit: what chips would do with a model, what a switch costs, which rules a part crosses.
//!
//! Everything known is data, one readable file a chip and one a rule, with the source of each field and how far to
//! trust it, and published runs, one a line. A prediction is physics with fitted efficiencies, corrected by the runs that
//! have most in common with it, and has an interval that is calibrated on runs that were left out. Nothing here is legal
//! advice.
//!
//! Module map, knowledge first: [`chips`] what each chip is said to do, and finding one by name · [`policy`] export rules,
//! and what each says of a part · [`runs`] measured runs, and what each says that was run · [`model`] a model's work by kind
//! of op. Prediction: [`predict`] the physics · [`fit`] corrections learned from runs, and intervals · [`search`] the best way
//! to cut a model over chips · [`simulate`] what users feel under load. Answers: [`validate`] predictions beside measured
//! rows · [`switch`] the same service on other chips · [`fleet`] jobs on mixed chips · `service` what those two share ·
//! [`claims`] what holds of public statements · [`here`] this machine · [`report`] pages of HTML. Besides: [`confidence`]
//! how far to trust a field · [`date`] days of the calendar · `data` the files that come with the program · `read` TOML
//! with errors that name file and field · `error` what can be wrong.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod chips;
pub mod claims;
pub mod confidence;
mod data;
pub mod date;
mod error;
pub mod fit;
pub mod fleet;
pub mod here;
pub mod model;
pub mod policy;
pub mod predict;
mod read;
pub mod report;
pub mod runs;
pub mod search;
pub mod service;
pub mod simulate;
pub mod switch;
pub mod validate;

pub use chips::{Catalog, Chip, DataType};
pub use confidence::Confidence;
pub use date::Date;
pub use error::{DataError, Error, FindError};
pub use policy::{Figures, RuleBook, Verdict};
