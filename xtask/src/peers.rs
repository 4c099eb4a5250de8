//! Times `autarky bench` and llama.cpp in turns on one model, and writes a receipt with every raw row.
//!
//! Both engines run as processes of their own, one at a time, on the same file with the same threads, prompt and number
//! of generated tokens. They alternate, and the one that goes first alternates too, so that a machine that slows down
//! slows both. What counts is the median of the rounds; the spread is in the receipt.

mod machine;
mod processor_time;
mod receipt;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use self::machine::Machine;
use self::processor_time::ProcessorTime;
use self::receipt::Receipt;

/// The model, the sizes of the run, and where the engines are.
#[derive(Args)]
pub(crate) struct PeersArgs {
    /// GGUF file; `bench/make_model.py` writes one.
    model: PathBuf,
    /// Tokens of the prompt.
    #[arg(long, default_value_t = 512)]
    prompt: u32,
    /// Tokens to generate.
    #[arg(long, default_value_t = 64)]
    generate: u32,
    /// Tokens in the KV cache before the prompt.
    #[arg(long, default_value_t = 0)]
    depth: u32,
    /// Threads of each engine; all processors when not given.
    #[arg(long)]
    threads: Option<usize>,
    /// Times each engine runs.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Fail when the ratio of the prefill medians is less.
    #[arg(long)]
    min_prefill: Option<f64>,
    /// Fail when the ratio of the decode medians is less.
    #[arg(long)]
    min_decode: Option<f64>,
    /// An autarky binary to time; built from this tree when not given.
    #[arg(long)]
    autarky: Option<PathBuf>,
    /// The Python of the environment that `bench/peers/setup.sh` makes.
    #[arg(long)]
    python: Option<PathBuf>,
    /// Folder for the receipt; `bench/receipts` when not given.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// What one engine printed in one round.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    /// Counted from 1.
    round: u32,
    engine: Engine,
    /// Tokens per second.
    prefill: f64,
    /// Tokens per second.
    decode: f64,
    /// The share of the machine, 0 to 1, that other programs used meanwhile.
    others: f64,
    /// The engine's whole report.
    report: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    Autarky,
    LlamaCpp,
}

impl Engine {
    fn name(self) -> &'static str {
        match self {
            Self::Autarky => "autarky",
            Self::LlamaCpp => "llama.cpp",
        }
    }
}

/// Runs the rounds, prints medians and ratios, and writes the receipt. Fails when an engine does, or when a ratio is
/// below the floor that was asked for.
pub(crate) fn run(root: &Path, args: &PeersArgs) -> Result<()> {
    let engines = Engines::find(root, args)?;
    let machine = Machine::read();
    let mut rows = Vec::new();
    for round in 1..=args.rounds {
        for engine in order(round) {
            let row = engines.time(engine, round, args)?;
            println!(
                "round {round}: {:<9}  prefill {:8.1} tok/s  decode {:7.2} tok/s  others used {:.0}% of the machine",
                engine.name(),
                row.prefill,
                row.decode,
                row.others * 100.0
            );
            rows.push(row);
        }
    }
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let receipt =
        Receipt { date: machine::date(seconds), machine, revision: revision(root)?, args, rows: &rows };
    let folder = args.output.clone().unwrap_or_else(|| root.join("bench/receipts"));
    let path = folder.join(receipt.file_name());
    std::fs::create_dir_all(&folder)?;
    std::fs::write(&path, receipt.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", receipt.summary());
    println!("receipt: {}", path.display());
    receipt.check_floors()
}

/// The one that goes first changes from round to round.
fn order(round: u32) -> [Engine; 2] {
    if round % 2 == 1 { [Engine::Autarky, Engine::LlamaCpp] } else { [Engine::LlamaCpp, Engine::Autarky] }
}

/// How to start each engine.
struct Engines {
    autarky: PathBuf,
    python: PathBuf,
    script: PathBuf,
    threads: usize,
}

impl Engines {
    fn find(root: &Path, args: &PeersArgs) -> Result<Self> {
        let python = args.python.clone().unwrap_or_else(|| root.join("target/peers/venv/bin/python"));
        if !python.exists() {
            bail!("{} does not exist: run bench/peers/setup.sh, or give --python", python.display());
        }
        if !args.model.is_file() {
            bail!("{} is not a file: bench/make_model.py writes one", args.model.display());
        }
        let autarky = match &args.autarky {
            Some(path) => path.clone(),
            None => build_autarky(root)?,
        };
        let threads = match args.threads {
            Some(threads) => threads,
            None => std::thread::available_parallelism()?.get(),
        };
        Ok(Self { autarky, python, script: root.join("bench/peers/llama_cpp_bench.py"), threads })
    }

    fn time(&self, engine: Engine, round: u32, args: &PeersArgs) -> Result<Row> {
        let mut command = match engine {
            Engine::Autarky => {
                let mut command = Command::new(&self.autarky);
                command.args(["bench", "--json"]);
                command
            }
            Engine::LlamaCpp => {
                let mut command = Command::new(&self.python);
                command.arg(&self.script);
                command
            }
        };
        command.arg(&args.model);
        let sizes = [("--prompt", args.prompt), ("--generate", args.generate), ("--depth", args.depth)];
        for (flag, size) in sizes {
            command.args([flag, &size.to_string()]);
        }
        command.args(["--threads", &self.threads.to_string()]);
        let before = ProcessorTime::now();
        let printed = crate::output_of(&mut command)?;
        let others = ProcessorTime::now().others_since(before);
        let row =
            row(engine, round, &printed).with_context(|| format!("{} in round {round}", engine.name()))?;
        Ok(Row { others, ..row })
    }
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

/// Reads what an engine printed: a JSON object with at least the two speeds.
fn row(engine: Engine, round: u32, printed: &str) -> Result<Row> {
    let report: Value = serde_json::from_str(printed.trim())
        .with_context(|| format!("its report is not JSON:\n{printed}"))?;
    let speed = |key: &str| {
        let speed =
            report[key].as_f64().with_context(|| format!("its report has no number `{key}`: {report}"))?;
        if speed > 0.0 { Ok(speed) } else { bail!("`{key}` is {speed}") }
    };
    let (prefill, decode) = (speed("prefill_tokens_per_second")?, speed("decode_tokens_per_second")?);
    Ok(Row { round, engine, prefill, decode, others: 0.0, report })
}

/// The commit, with a mark when the tree differs from it.
fn revision(root: &Path) -> Result<String> {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--abbrev=12"]).current_dir(root);
    Ok(crate::output_of(&mut git)?.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_engines_run_in_every_round_and_take_turns_to_start() {
        assert_ne!(order(1)[0], order(2)[0]);
        for round in 1..4 {
            let [first, second] = order(round);
            assert_ne!(first, second);
        }
    }

    #[test]
    fn a_report_gives_a_row() {
        let printed =
            "{\"prefill_tokens_per_second\": 100.5,\n \"decode_tokens_per_second\": 10, \"isa\": \"avx2\"}\n";
        let row = row(Engine::Autarky, 2, printed).expect("a row");
        assert_eq!((row.round, row.prefill, row.decode), (2, 100.5, 10.0));
        assert_eq!(row.report["isa"], "avx2");
    }

    #[test]
    fn a_report_without_speeds_is_an_error_that_says_so() {
        for (printed, expected) in [
            ("loading", "not JSON"),
            ("{\"prefill_tokens_per_second\": 1.0}", "decode_tokens_per_second"),
            (
                "{\"prefill_tokens_per_second\": 0.0, \"decode_tokens_per_second\": 1.0}",
                "prefill_tokens_per_second",
            ),
        ] {
            let error = format!("{:#}", row(Engine::LlamaCpp, 1, printed).expect_err(printed));
            assert!(error.contains(expected), "{error}");
        }
    }
}
