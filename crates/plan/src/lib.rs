//! The truth before you commit: chips that one can buy, and the export rules that name them.
//!
//! Everything known is data, one readable file a chip and one a rule, with the source of each field and how far to
//! trust it. Nothing here is legal advice.
//!
//! Module map: [`chips`] what each chip is said to do, and finding one by name · [`policy`] export rules, and what each
//! says of a part · [`confidence`] how far to trust a field · [`date`] days of the calendar · `data` the files that come
//! with the program · `read` TOML with errors that name file and field · `error` what can be wrong.

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
