//! Pages on disk.

use std::fs;

use anyhow::Result;
use autarky_plan::report::{Block, Page, Section};

use crate::args::HtmlArgs;
use crate::commands::may_write;
use crate::exit::Input;

/// What is said of all predictions.
pub(super) const INTERVALS: &str = "Predicted. An interval is meant to hold 80 % of what one would measure.";

/// Refuses what [`write()`] would refuse, before any work is done.
pub(super) fn check(args: &HtmlArgs) -> Result<()> {
    match &args.html {
        Some(file) => Ok(may_write(file, args.force)?),
        None => Ok(()),
    }
}

/// Writes the page where `--html` wants it.
pub(super) fn write(args: &HtmlArgs, page: impl FnOnce() -> Page) -> Result<()> {
    let Some(file) = &args.html else { return Ok(()) };
    may_write(file, args.force)?;
    let written = fs::write(file, page().html());
    written.map_err(|e| Input(format!("cannot write {}: {e}", file.display())).into())
}

/// A page of charts, a table and what is said of them.
pub(super) fn of(title: String, lead: &str, charts: Vec<Block>, table: Block, said: &str) -> Page {
    let mut page = Page::new(title, lead);
    let lines: Vec<String> =
        said.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
    let mut blocks = charts;
    blocks.push(table);
    if !lines.is_empty() {
        blocks.push(Block::List(lines));
    }
    page.sections.push(Section::new("Plans", blocks));
    page
}
