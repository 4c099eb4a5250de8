//! Repository chores, run as `cargo xtask CHORE`.
//!
//! | Chore | What it does |
//! | --- | --- |
//! | `tidy` | checks the house rules that the compiler and clippy do not know |
//! | `fuzz` | builds the targets of `fuzz/` with coverage and runs each for a while |
//! | `fit-plan` | fits the planner to its measured runs, and writes how well it predicts those left out |
//! | `bench-peers` | times autarky beside other engines in turns, and writes a receipt and the README's table |
//!
//! A chore prints what is wrong and what to do, and exits non-zero.

mod fuzz;
mod peers;
mod plan;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Repository chores")]
struct Args {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Check the house rules over every tracked file.
    Tidy,
    /// Build the fuzz targets with coverage and run each of them.
    Fuzz(fuzz::FuzzArgs),
    /// Fit the planner to the measured runs of the tree, and write how well it predicts those left out.
    FitPlan(plan::PlanArgs),
    /// Time autarky beside other engines in turns, and write a receipt and the README's table of speeds.
    BenchPeers(peers::PeersArgs),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.chore {
        Chore::Tidy => tidy::run(&root()),
        Chore::Fuzz(args) => fuzz::run(&root(), &args),
        Chore::FitPlan(args) => plan::run(&root(), &args),
        Chore::BenchPeers(args) => peers::run(&root(), &args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The repository's root: the folder above this crate.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Runs a command, its standard error shown, and returns what it printed. Fails, by name, when the command
/// cannot be started, fails, or prints something that is not UTF-8.
fn output_of(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    // A missing working folder is reported as if the program were missing: say both.
    let started = command.stderr(Stdio::inherit()).output();
    let output =
        started.with_context(|| format!("cannot start {command:?} in {:?}", command.get_current_dir()))?;
    if !output.status.success() {
        bail!("{name} failed ({}): {command:?}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{name} printed something that is not UTF-8"))
}
