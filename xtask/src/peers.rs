//! Times autarky beside other engines, row by row of a table, and writes a receipt with every raw row.
//!
//! Both engines of a row are loaded at once and take turns on the same sizes, and the one that goes first changes from
//! round to round, so that a machine that slows down slows both. An engine that waits uses no processor. Where two
//! copies of a model do not fit in memory, each round loads each engine anew. What counts is the median of the rounds;
//! the spread is in the receipt.

mod engine;
mod machine;
mod processor_time;
mod readme;
mod receipt;
mod record;
mod table;
mod verdict;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use self::engine::{Engines, Live};
use self::machine::Machine;
use self::record::{Engine, Record, Run, Turn};
use self::table::{Bar, Measure, Model, Phase, Row};
use self::verdict::Verdict;

pub(crate) use self::readme::stale;

/// Where receipts are, relative to the root.
const RECEIPTS: &str = "bench/receipts";

/// Which rows, and where the engines are.
#[derive(Args)]
pub(crate) struct PeersArgs {
    /// A GGUF file to time beside llama.cpp, instead of the table; the result is only printed.
    model: Option<PathBuf>,
    /// Only rows of the table whose ids begin with one of these.
    #[arg(long, value_delimiter = ',', conflicts_with = "model")]
    only: Vec<String>,
    /// Print the table's ids and measure nothing.
    #[arg(long)]
    list: bool,
    /// Write the receipts and the README's table again from the rows that are there, and measure nothing.
    #[arg(long)]
    render: bool,
    /// Begin a new receipt; without it, rows go into the newest receipt of this machine.
    #[arg(long)]
    new: bool,
    /// Keep the rounds of the same rows that are in the receipt from the same commit.
    #[arg(long)]
    add: bool,
    /// Times each engine runs.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Tokens of the prompt, with a model.
    #[arg(long, default_value_t = 512, requires = "model")]
    prompt: u32,
    /// Tokens to generate, with a model.
    #[arg(long, default_value_t = 64, requires = "model")]
    generate: u32,
    /// Tokens in the KV cache before the prompt, with a model.
    #[arg(long, default_value_t = 0, requires = "model")]
    depth: u32,
    /// Sequences side by side, with a model.
    #[arg(long, default_value_t = 1, requires = "model")]
    sequences: u32,
    /// Fail when prefill is not so many times as fast as the peer's, with a model.
    #[arg(long, requires = "model")]
    min_prefill: Option<f64>,
    /// Fail when decode is not so many times as fast as the peer's, with a model.
    #[arg(long, requires = "model")]
    min_decode: Option<f64>,
    /// Threads of each engine; all processors when not given.
    #[arg(long)]
    threads: Option<usize>,
    /// An autarky binary to time; built from this tree when not given.
    #[arg(long, requires = "revision")]
    autarky: Option<PathBuf>,
    /// The commit that the binary of --autarky was built from.
    #[arg(long, requires = "autarky")]
    revision: Option<String>,
    /// Folder of the models, which are written where they are missing; `target/peers/models` when not given.
    #[arg(long)]
    models: Option<PathBuf>,
}

/// Runs the rows that were asked for. Fails when an engine does, after all rows, and when a model's speed is below the
/// floor that was asked for.
pub(crate) fn run(root: &Path, args: &PeersArgs) -> Result<()> {
    let rows = match &args.model {
        Some(model) => vec![single(model, args)],
        None => table::select(&args.only).map_err(anyhow::Error::msg)?,
    };
    if args.list {
        rows.iter().for_each(|row| println!("{}", row.id()));
        return Ok(());
    }
    let folder = root.join(RECEIPTS);
    if args.render {
        return readme::render(root, &folder);
    }
    let (autarky, revision) = match (&args.autarky, &args.revision) {
        (Some(path), Some(revision)) => (path.clone(), revision.clone()),
        _ => (build_autarky(root)?, revision(root)?),
    };
    let engines = Engines {
        root: root.to_path_buf(),
        autarky,
        revision,
        models: args.models.clone().unwrap_or_else(|| root.join("target/peers/models")),
        threads: match args.threads {
            Some(threads) => threads,
            None => std::thread::available_parallelism()?.get(),
        },
    };
    let machine = Machine::read();
    if let [row @ Row { model: Model::File(_), .. }] = &rows[..] {
        let record = Record { machine, runs: vec![measure(&engines, row, args.rounds)?] };
        println!("{}", receipt::receipt(&record, &today()?, std::slice::from_ref(row))?);
        return check_floors(row, &record.runs[0]);
    }
    std::fs::create_dir_all(&folder)?;
    let (path, mut record) = receipt_to_write(&folder, machine, args.new)?;
    let mut failed = Vec::new();
    for row in &rows {
        match measure(&engines, row, args.rounds) {
            Ok(run) => {
                record.take(run, args.add);
                let text = receipt::receipt(&record, receipt::date(&path)?, &table::rows())?;
                std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            }
            Err(error) => {
                println!("{}: {error:#}", row.id());
                failed.push(row.id());
            }
        }
    }
    readme::render(root, &folder)?;
    println!("receipt: {}", path.display());
    if failed.is_empty() { Ok(()) } else { bail!("rows that failed: {}", failed.join(", ")) }
}

/// The row that flags describe.
fn single(model: &Path, args: &PeersArgs) -> Row {
    let floor = |floor: Option<f64>| floor.map(Bar::Times);
    let mut measures = vec![Measure { phase: Phase::Prefill, bar: floor(args.min_prefill) }];
    if args.generate > 0 {
        measures.push(Measure { phase: Phase::Decode, bar: floor(args.min_decode) });
    }
    Row {
        prompt: args.prompt,
        generate: args.generate,
        depth: args.depth,
        sequences: args.sequences,
        measures,
        ..Row::new("single", Model::File(model.to_path_buf()))
    }
}

fn check_floors(row: &Row, run: &Run) -> Result<()> {
    let missed = Verdict::of_run(row, run).into_iter().filter(|v| v.holds == Some(false));
    let missed: Vec<String> = missed.map(|v| v.plainly()).collect();
    if missed.is_empty() { Ok(()) } else { bail!("{}", missed.join("; ")) }
}

/// The newest receipt of this machine with what it holds, or a new one of today.
fn receipt_to_write(folder: &Path, machine: Machine, new: bool) -> Result<(PathBuf, Record)> {
    let slug = machine.slug();
    let ours = |path: &PathBuf| receipt::machine_slug(path).is_some_and(|s| s == slug);
    let newest = receipt::all(folder)?.into_iter().rfind(|(path, _)| ours(path));
    match newest.filter(|_| !new) {
        Some((path, record)) => Ok((path, Record { machine, ..record })),
        None => Ok((folder.join(format!("{}-{slug}.md", today()?)), Record { machine, runs: Vec::new() })),
    }
}

/// Runs all rounds of a row.
fn measure(engines: &Engines, row: &Row, rounds: u32) -> Result<Run> {
    let model = engines.model(row)?;
    let mut run = Run {
        row: row.id(),
        date: today()?,
        revision: engines.revision.clone(),
        autarky: Value::Null,
        peer: Value::Null,
        turns: Vec::new(),
    };
    let first_token = row.measures.iter().any(|m| m.phase == Phase::FirstToken);
    let mut loaded: Vec<(Engine, Live)> = Vec::new();
    let together = !first_token && both_fit(&model, machine::memory_available());
    if together {
        for engine in order(1) {
            loaded.push((engine, engines.start(engine, row, &model)?));
        }
    }
    // Without engines that warm up before they wait, the first round is for the file cache and does not count.
    for round in u32::from(!first_token)..=rounds {
        for engine in order(round) {
            let alive: Vec<u32> = loaded.iter().map(|(_, live)| live.id()).collect();
            let (turn, report) = if first_token {
                let (turn, report) = engines.first_token(engine, row, &model)?;
                (turn, Some(report))
            } else if let Some((_, live)) = loaded.iter_mut().find(|(e, _)| *e == engine) {
                (live.turn(&alive)?, None)
            } else {
                let mut live = engines.start(engine, row, &model)?;
                let id = live.id();
                (live.turn(&[id])?, Some(live.finish()?))
            };
            if let Some(report) = report {
                run.set_report(engine, report);
            }
            if round > 0 {
                let turn = Turn { row: run.row.clone(), round, ..turn };
                println!("{}", progress(row, &turn));
                run.turns.push(turn);
            }
        }
    }
    for (engine, live) in loaded {
        run.set_report(engine, live.finish()?);
    }
    Ok(run)
}

/// What a user who watches wants to see of a turn.
fn progress(row: &Row, turn: &Turn) -> String {
    let engine = match turn.engine {
        Engine::Autarky => "autarky",
        Engine::Peer => row.peer.name(),
    };
    let number = |value: Option<f64>, name| value.map(|v| format!("{name} {v:.2}  ")).unwrap_or_default();
    format!(
        "{} round {}: {engine:<13}  {}{}{}others used {:.0}% of the machine",
        turn.row,
        turn.round,
        number(turn.prefill, "prefill tok/s"),
        number(turn.decode, "decode tok/s"),
        number(turn.first_token, "seconds"),
        turn.others * 100.0
    )
}

impl Run {
    /// Keeps what an engine reports that does not change from round to round, and nothing of this machine's folders.
    fn set_report(&mut self, engine: Engine, mut report: Value) {
        if let Some(fields) = report.as_object_mut() {
            let gone = ["model", "machine", "first_token_seconds"];
            fields.retain(|key, _| {
                !gone.contains(&key.as_str())
                    && !key.ends_with("_rounds")
                    && !key.ends_with("_tokens_per_second")
            });
        }
        match engine {
            Engine::Autarky => self.autarky = report,
            Engine::Peer => self.peer = report,
        }
    }
}

/// Whether both engines' copies of a model fit: llama.cpp keeps the file and, for some of it, a copy in another order.
fn both_fit(model: &Path, available: u64) -> bool {
    let bytes = std::fs::metadata(model).map_or(0, |m| m.len());
    3 * bytes + (3 << 30) < available
}

/// The one that goes first changes from round to round.
fn order(round: u32) -> [Engine; 2] {
    if round % 2 == 1 { [Engine::Autarky, Engine::Peer] } else { [Engine::Peer, Engine::Autarky] }
}

/// Builds the release binary and returns where it is.
fn build_autarky(root: &Path) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--package", "autarky", "--message-format=json-render-diagnostics"]);
    let messages = crate::output_of(cargo.current_dir(root))?;
    let mut executables = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    executables.next_back().context("cargo built no executable in the package autarky")
}

/// The commit, with a mark when the tree differs from it.
fn revision(root: &Path) -> Result<String> {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--abbrev=12"]).current_dir(root);
    Ok(crate::output_of(&mut git)?.trim().to_string())
}

fn today() -> Result<String> {
    Ok(machine::date(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: PeersArgs,
    }

    fn row(flags: &[&str]) -> Row {
        let line = ["bench-peers", "folder/llama3.2-1b-Q4_0.gguf"].iter().chain(flags);
        let args = Line::try_parse_from(line).map(|line| line.args).expect("valid flags");
        single(args.model.as_deref().expect("a model"), &args)
    }

    #[test]
    fn both_engines_run_in_every_round_and_take_turns_to_start() {
        assert_ne!(order(1)[0], order(2)[0]);
        for round in 1..4 {
            let [first, second] = order(round);
            assert_ne!(first, second);
        }
    }

    #[test]
    fn a_ratio_below_its_floor_fails_by_name() {
        let run = record::tests::run("single", [9.0, 9.0], [10.0, 10.0]);
        for (flags, fails) in [
            (&["--min-prefill", "0.9", "--min-decode", "0.9"][..], None),
            (&["--min-prefill", "1.3"], Some("prefill")),
            (&["--min-decode", "0.95"], Some("decode")),
            (&[], None),
        ] {
            let error = check_floors(&row(flags), &run).err().map(|e| e.to_string());
            assert_eq!(error.is_none(), fails.is_none(), "{error:?}");
            assert!(error.unwrap_or_default().contains(fails.unwrap_or_default()));
        }
    }

    #[test]
    fn sizes_are_for_a_model_and_rows_are_for_the_table() {
        for flags in [&["--prompt", "5"][..], &["m.gguf", "--only", "decode"]] {
            assert!(Line::try_parse_from(["bench-peers"].iter().chain(flags)).is_err(), "{flags:?}");
        }
        assert_eq!(row(&["--generate", "0"]).measures.len(), 1);
    }

    #[test]
    fn reports_keep_no_folder_and_no_speed() {
        let mut run = record::tests::run("a", [1.0, 1.0], [1.0, 1.0]);
        let report = serde_json::json!({"model": "home/m.gguf", "isa": "avx2", "prefill_rounds": [], "decode_tokens_per_second": 1});
        run.set_report(Engine::Autarky, report);
        assert_eq!(run.autarky, serde_json::json!({"isa": "avx2"}));
    }
}
