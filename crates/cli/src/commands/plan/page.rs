//! Pages on disk.

use std::fs;

use anyhow::Result;
use autarky_plan::report::Page;

use crate::args::HtmlArgs;
use crate::commands::may_write;
use crate::exit::Input;

/// Refuses what [`write`] would refuse, before any work is done.
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
