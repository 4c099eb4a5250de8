//! `autarky plan`: what compares chips.

use std::path::PathBuf;

use clap::Args;

use super::{CatalogArgs, TableArgs};

#[derive(Debug, Args)]
pub(crate) struct HtmlArgs {
    /// Write a page with charts, too: one file that needs no network
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// Replace the file of --html
    #[arg(long, requires = "html")]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A statement is held against data sheets, measured runs of comparable work, and predictions for typical
work, each with its 80 % interval. docs/plan.md shows the file of a statement.

Examples:
  autarky plan claims                              # the statements that come with the program
  autarky plan claims s5000-h100 --sources
  autarky plan claims ours.toml --html claims.html")]
pub(crate) struct ClaimsArgs {
    /// A statement: a TOML file, or the id of one that comes with the program [default: all of those]
    #[arg(value_name = "FILE")]
    pub(crate) claims: Vec<PathBuf>,

    /// Print where each figure is from
    #[arg(long)]
    pub(crate) sources: bool,

    #[command(flatten)]
    pub(crate) catalog: CatalogArgs,

    #[command(flatten)]
    pub(crate) html: HtmlArgs,

    #[command(flatten)]
    pub(crate) table: TableArgs,
}
