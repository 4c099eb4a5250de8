//! Measured runs: published rows, and what each says that was run.
//!
//! Module map: `row` a row as it is written · `words` figures in its remarks · `interpret` from a row to a job that can
//! be predicted · `job` such a job · `built_in` the rows that come with the program.

mod built_in;
mod interpret;
mod job;
mod row;
mod words;

pub use built_in::built_in;
pub use interpret::{Skip, interpret};
pub use job::{Client, Job, Kind, Measured, Quantity, Setup};
pub use row::{MAX_ROWS_BYTES, Row, RowsError};
