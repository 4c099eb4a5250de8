//! Chips: what each is said to do, where that is from, and finding one by name.
//!
//! Module map: `data_type` the types that peaks are given for · `chip` the fields · `validate` what cannot be ·
//! `catalog` all chips · `find` names to chips.

mod catalog;
mod chip;
mod data_type;
mod find;
mod validate;

pub use catalog::Catalog;
pub use chip::{
    Chip, Class, Field, HostLink, Interconnect, Memory, Origin, Peaks, Price, Process, Source, Status,
};
pub use data_type::DataType;
