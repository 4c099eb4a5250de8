//! The receipt of a comparison: everything needed to judge it and to run it again, in Markdown.

use std::fmt;

use anyhow::{Result, bail};

use super::machine::{Machine, slug};
use super::{Engine, PeersArgs, Row};

/// One comparison. `Display` writes the receipt.
pub(super) struct Receipt<'a> {
    /// `YYYY-MM-DD`.
    pub(super) date: String,
    pub(super) machine: Machine,
    /// The commit of the tree that autarky was built from.
    pub(super) revision: String,
    pub(super) args: &'a PeersArgs,
    pub(super) rows: &'a [Row],
}

/// The middle of a set of speeds, and its ends.
#[derive(Debug, PartialEq)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    /// The spread of a set that is not empty.
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Self { median: (low + high) / 2.0, least: sorted[0], most: sorted[sorted.len() - 1] }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2} to {:.2})", self.median, self.least, self.most)
    }
}

/// A column of a row, in tokens per second.
type Speed = fn(&Row) -> f64;

/// The two measured phases, and where a row has their speeds.
const PHASES: [(&str, Speed); 2] = [("prefill", |row| row.prefill), ("decode", |row| row.decode)];

impl Receipt<'_> {
    /// `DATE-MACHINE-MODEL.md`, with the depth when there is one.
    pub(super) fn file_name(&self) -> String {
        let model = self.args.model.file_stem().unwrap_or_default().to_string_lossy();
        let depth = if self.args.depth == 0 { String::new() } else { format!("-depth{}", self.args.depth) };
        format!("{}-{}-{}{depth}.md", self.date, self.machine.slug(), slug(&model))
    }

    /// Medians with their spread, and the ratio of the medians, as a Markdown table.
    pub(super) fn summary(&self) -> String {
        let mut table =
            String::from("| | autarky, tokens/s | llama.cpp, tokens/s | ratio |\n| --- | --- | --- | --- |");
        for (name, speed) in PHASES {
            let (own, peer) = (self.spread(Engine::Autarky, speed), self.spread(Engine::LlamaCpp, speed));
            table += &format!("\n| {name} | {own} | {peer} | {:.3} |", own.median / peer.median);
        }
        table
    }

    /// Fails when a ratio of medians is below the floor that was asked for.
    pub(super) fn check_floors(&self) -> Result<()> {
        for ((name, speed), floor) in PHASES.into_iter().zip([self.args.min_prefill, self.args.min_decode]) {
            let ratio =
                self.spread(Engine::Autarky, speed).median / self.spread(Engine::LlamaCpp, speed).median;
            if let Some(floor) = floor.filter(|floor| ratio < *floor) {
                bail!("{name} is {ratio:.3} of llama.cpp's, below the floor of {floor}");
            }
        }
        Ok(())
    }

    fn of(&self, engine: Engine) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.engine == engine)
    }

    fn spread(&self, engine: Engine, speed: Speed) -> Spread {
        Spread::of(self.of(engine).map(speed))
    }

    /// A field of the engine's first report as text.
    fn field(&self, engine: Engine, key: &str) -> String {
        let value = self.of(engine).next().map(|row| &row.report[key]);
        match value {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(value) if !value.is_null() => value.to_string(),
            _ => "not reported".into(),
        }
    }
}

impl fmt::Display for Receipt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (args, machine) = (self.args, &self.machine);
        let model = args.model.file_name().unwrap_or_default().to_string_lossy();
        let bytes = std::fs::metadata(&args.model).map_or(0, |m| m.len());
        writeln!(f, "# {model}: autarky beside llama.cpp, {}\n", self.date)?;
        writeln!(f, "{}\n", self.summary())?;
        writeln!(
            f,
            "Median of {} rounds (least to most). Each round runs both engines, one after the other, and the one that \
             starts changes from round to round; each warms up first. Prompt {} tokens, {} generated, {} in the cache \
             before.\n",
            args.rounds, args.prompt, args.generate, args.depth
        )?;
        writeln!(f, "| | |\n| --- | --- |")?;
        writeln!(
            f,
            "| machine | {}, {} processors, {:.1} GiB, Linux {} |",
            machine.processor, machine.processors, machine.memory_gib, machine.kernel
        )?;
        writeln!(f, "| instruction sets | {} |", machine.instruction_sets)?;
        writeln!(f, "| model | `{model}`, {bytes} bytes |")?;
        let others = Spread::of(self.rows.iter().map(|row| row.others * 100.0));
        writeln!(f, "| used by other programs meanwhile | {others} % of the machine |")?;
        let autarky = |key| self.field(Engine::Autarky, key);
        writeln!(
            f,
            "| autarky | commit {}, kernels {}, {} threads |",
            self.revision,
            autarky("isa"),
            autarky("threads")
        )?;
        let peer = |key| self.field(Engine::LlamaCpp, key).replace('|', "·");
        writeln!(
            f,
            "| llama.cpp | {}, {} threads, built for {} |",
            peer("version"),
            peer("threads"),
            peer("isa")
        )?;
        writeln!(f, "| llama.cpp's build | `{}` |", peer("flags"))?;
        writeln!(f, "\nRun again with:\n\n```sh\nbench/peers/setup.sh")?;
        writeln!(
            f,
            "cargo xtask bench-peers {model} --prompt {} --generate {} --depth {} --rounds {}\n```\n",
            args.prompt, args.generate, args.depth, args.rounds
        )?;
        writeln!(f, "Raw rows, in the order in which they ran:\n\n```json")?;
        for row in self.rows {
            let mut report = row.report.clone();
            if let Some(fields) = report.as_object_mut() {
                fields.insert("round".into(), row.round.into());
                fields.insert("engine".into(), row.engine.name().into());
                fields.insert(
                    "others_share_of_machine".into(),
                    ((row.others * 1000.0).round() / 1000.0).into(),
                );
                // Said once above.
                fields.remove("flags");
                // Paths and prompts of the machine that ran it help nobody.
                fields.insert("model".into(), model.as_ref().into());
            }
            writeln!(f, "{report}")?;
        }
        writeln!(f, "```")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: PeersArgs,
    }

    fn args(flags: &[&str]) -> PeersArgs {
        let line = ["bench-peers", "folder/llama3.2-1b-Q4_0.gguf"].iter().chain(flags);
        Line::try_parse_from(line).map(|line| line.args).expect("valid flags")
    }

    fn rows() -> Vec<Row> {
        let row = |round, engine, prefill, decode| {
            let report = json!({"isa": "AVX2 = 1 | FMA = 1", "threads": 2, "flags": "-O3"});
            Row { round, engine, prefill, decode, others: 0.0123, report }
        };
        vec![
            row(1, Engine::Autarky, 110.0, 9.0),
            row(1, Engine::LlamaCpp, 100.0, 10.0),
            row(2, Engine::LlamaCpp, 200.0, 10.0),
            row(2, Engine::Autarky, 120.0, 8.0),
            row(3, Engine::Autarky, 500.0, 9.5),
            row(3, Engine::LlamaCpp, 90.0, 10.0),
        ]
    }

    fn receipt<'a>(args: &'a PeersArgs, rows: &'a [Row]) -> Receipt<'a> {
        let machine = Machine {
            processor: "AMD EPYC".into(),
            processors: 2,
            instruction_sets: "avx2".into(),
            memory_gib: 24.0,
            kernel: "6.1".into(),
        };
        Receipt { date: "2026-01-02".into(), machine, revision: "abc".into(), args, rows }
    }

    #[test]
    fn the_median_of_an_even_count_is_between_the_middle_two() {
        assert_eq!(
            Spread::of([4.0, 1.0, 3.0, 2.0].into_iter()),
            Spread { median: 2.5, least: 1.0, most: 4.0 }
        );
        assert_eq!(Spread::of([7.0].into_iter()), Spread { median: 7.0, least: 7.0, most: 7.0 });
    }

    #[test]
    fn the_ratio_is_that_of_the_medians() {
        let (args, rows) = (args(&[]), rows());
        let summary = receipt(&args, &rows).summary();
        assert!(
            summary.contains("| prefill | 120.00 (110.00 to 500.00) | 100.00 (90.00 to 200.00) | 1.200 |"),
            "{summary}"
        );
        assert!(
            summary.contains("| decode | 9.00 (8.00 to 9.50) | 10.00 (10.00 to 10.00) | 0.900 |"),
            "{summary}"
        );
    }

    #[test]
    fn a_ratio_below_its_floor_fails_by_name() {
        let rows = rows();
        for (flags, fails) in [
            (&["--min-prefill", "1.2", "--min-decode", "0.9"][..], None),
            (&["--min-prefill", "1.3"], Some("prefill")),
            (&["--min-decode", "0.95"], Some("decode")),
        ] {
            let args = args(flags);
            let error = receipt(&args, &rows).check_floors().err().map(|e| e.to_string());
            assert_eq!(error.as_ref().is_none(), fails.is_none(), "{error:?}");
            assert!(error.unwrap_or_default().contains(fails.unwrap_or_default()));
        }
    }

    #[test]
    fn the_receipt_holds_every_row_and_what_is_needed_to_repeat_it() {
        let (args, rows) = (args(&["--depth", "4096"]), rows());
        let receipt = receipt(&args, &rows);
        let text = receipt.to_string();
        assert_eq!(receipt.file_name(), "2026-01-02-amd-epyc-x2-llama3.2-1b-q4-0-depth4096.md");
        assert_eq!(text.lines().filter(|line| line.starts_with("{\"")).count(), rows.len());
        assert!(!text.contains("folder/"), "a path of this machine: {text}");
        for part in [
            "commit abc",
            "`-O3`",
            "AVX2 = 1 · FMA = 1",
            "--depth 4096",
            "AMD EPYC, 2 processors",
            "1.23 (1.23 to 1.23) %",
        ] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
    }
}
