//! Measured runs against predictions: how far off each one is, and how often intervals hold.
//!
//! Module map: `read` files of rows, with errors that name row and field · `report` one row and all of them · `groups`
//! errors by kind, chip and document.

mod groups;
mod read;
mod report;

pub use groups::{Group, Groups};
pub use read::{parse, read};
pub use report::{Checked, Compared, LeaveOut, MEMORY_INTERVAL, Options, Report, validate};
