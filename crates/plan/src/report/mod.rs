//! One page of HTML that holds an answer: tables that sort, and charts that show intervals and say their values.
//!
//! A page is a single file. It asks no other host for anything, follows the reader's choice of dark or light, and works
//! at the width of a telephone. Text is escaped, whatever it holds.
//!
//! ```
//! use autarky_plan::report::{Bar, Bars, Block, Cell, Column, Page, Section, Table};
//!
//! let mut page = Page::new("Two chips", "Which of them is faster?");
//! let source = page.note("data sheet");
//! page.sections.push(Section::new("Peaks", [
//!     Block::Text(format!("One has more [{source}].")),
//!     Block::Table(Table {
//!         columns: vec![Column::text("chip"), Column::number("TFLOP/s")],
//!         rows: vec![vec![Cell::text("a"), Cell::number(989.0)], vec![Cell::text("b"), Cell::Unknown]],
//!         caption: String::new(),
//!     }),
//!     Block::Bars(Bars {
//!         title: "Peak".to_owned(),
//!         unit: "TFLOP/s".to_owned(),
//!         bars: vec![Bar { label: "a".to_owned(), value: 989.0, interval: Some((900.0, 1000.0)), note: String::new() }],
//!         mark: None,
//!     }),
//! ]));
//! assert!(page.html().starts_with("<!DOCTYPE html>"));
//! ```
//!
//! Module map: `page` what a page holds · `html` how it is written.

mod html;
mod page;

pub(crate) use page::short;
pub use page::{Bar, Bars, Block, Cell, Column, Curve, Curves, Page, Point, Section, Table};
