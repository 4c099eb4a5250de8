//! One file for each command.

mod bench;
mod convert;
mod inspect;
mod keys;
mod logits;
mod perplexity;
mod plan;
mod quantize;
mod run;
mod serve;
mod tokenize;
mod train;

pub(crate) use quantize::Mix;

use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::args::Command;
use crate::exit::{Input, Usage};
use crate::pages;

/// Runs a command.
pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Keys(args) => keys::run(&args.command),
        Command::Inspect(args) => inspect::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Quantize(args) => quantize::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Perplexity(args) => perplexity::run(&args),
        Command::Plan(args) => plan::run(&args.command),
        Command::Tokenize(args) => tokenize::run(&args),
        Command::Logits(args) => logits::run(&args),
        Command::Completions(args) => pages::completions(args.shell.into()),
        Command::Man(args) => pages::man(&args.folder),
    }
}

/// The longest text that is read: the longest that tokenizers take. An endless one is told before memory is full.
const LONGEST_TEXT: u64 = 256 << 20;

/// Reads text to its end; `what` names it in errors.
fn read_text(from: impl Read, what: &str) -> Result<String> {
    let mut bytes = Vec::new();
    let read = from.take(LONGEST_TEXT + 1).read_to_end(&mut bytes);
    read.map_err(|e| Input(format!("cannot read {what}: {e}")))?;
    if bytes.len() as u64 > LONGEST_TEXT {
        return Err(Input(format!("{what} has more than {LONGEST_TEXT} bytes; use a part of it")).into());
    }
    let text = String::from_utf8(bytes);
    text.map_err(|e| Input(format!("{what} is not UTF-8: {}", e.utf8_error())).into())
}

/// Prints text, without the panic of `print!` on a closed pipe.
fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to standard output")
}

/// Prints JSON, indented.
fn print_json(value: &Value) -> Result<()> {
    print(&format!("{value:#}\n"))
}

/// Refuses to replace a file unless that was asked for.
fn may_write(path: &Path, force: bool) -> Result<(), Usage> {
    match path.exists() && !force {
        true => Err(Usage(format!("{} exists; --force replaces it", path.display()))),
        false => Ok(()),
    }
}

/// A large count as people write it: `1.24 billion`.
fn count(n: u64) -> String {
    let x = n as f64;
    match n {
        0..1_000_000 => n.to_string(),
        1_000_000..1_000_000_000 => format!("{:.1} million", x / 1e6),
        _ => format!("{:.2} billion", x / 1e9),
    }
}
