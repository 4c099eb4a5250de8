//! The `autarky` command: flags to calls, nothing else.
//!
//! Module map: [`args`] what can be typed, and its check · `commands` one file for each command · [`load`] from a
//! path to an engine · [`exit`] exit codes · [`terminal`] colours, progress, Ctrl-C · [`pages`] help pages,
//! completions and man pages, all made from `args`.

mod args;
mod builtin;
mod chat;
mod commands;
mod exit;
mod load;
mod pages;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

use args::Cli;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error),
    };
    match commands::run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::failure(&error),
    }
}
