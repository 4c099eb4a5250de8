//! What was measured, as lines of JSON: the part of a receipt that all the rest of it is made from.
//!
//! The first line is the machine. Then, for each row of the table that was run, a line with both engines' reports, and
//! after it a line for each engine's turn, in the order in which they ran.

use std::fmt::Write;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::machine::Machine;

/// All that one receipt holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) machine: Machine,
    pub(super) runs: Vec<Run>,
}

/// All rounds of one row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    /// The id in the table.
    pub(super) row: String,
    /// `YYYY-MM-DD`.
    pub(super) date: String,
    /// The commit that autarky was built from.
    pub(super) revision: String,
    /// What each engine says of itself and of the work.
    pub(super) autarky: Value,
    pub(super) peer: Value,
    #[serde(skip)]
    pub(super) turns: Vec<Turn>,
}

/// What one engine did in one round. Speeds are tokens a second over all sequences.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Turn {
    pub(super) row: String,
    /// Counted from 1.
    pub(super) round: u32,
    pub(super) engine: Engine,
    #[serde(rename = "prefill_tokens_per_second", skip_serializing_if = "Option::is_none")]
    pub(super) prefill: Option<f64>,
    #[serde(rename = "decode_tokens_per_second", skip_serializing_if = "Option::is_none")]
    pub(super) decode: Option<f64>,
    #[serde(rename = "first_token_seconds", skip_serializing_if = "Option::is_none")]
    pub(super) first_token: Option<f64>,
    /// Bytes a second that the machine was measured to read right after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) read_bandwidth: Option<f64>,
    /// 8-bit integer operations a second that it was measured to do right after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peak_ops: Option<f64>,
    /// The share of the machine, 0 to 1, that other programs used meanwhile.
    #[serde(default)]
    pub(super) others: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Engine {
    #[default]
    Autarky,
    Peer,
}

/// The fences of the lines in a receipt.
const FENCES: [&str; 2] = ["```json\n", "```"];

impl Record {
    /// Reads the lines of a receipt; `None` when it has none.
    pub(super) fn of_receipt(text: &str) -> Result<Option<Self>> {
        let Some((_, rest)) = text.split_once(FENCES[0]) else { return Ok(None) };
        let lines = rest.split_once(FENCES[1]).map_or(rest, |(lines, _)| lines);
        if !lines.starts_with("{\"machine\"") {
            return Ok(None); // The rows of a single comparison.
        }
        Self::parse(lines).map(Some)
    }

    fn parse(lines: &str) -> Result<Self> {
        let mut lines = lines.lines();
        let first: Value = serde_json::from_str(lines.next().unwrap_or_default())?;
        let machine =
            serde_json::from_value(first["machine"].clone()).context("the first line is no machine")?;
        let mut runs: Vec<Run> = Vec::new();
        for line in lines {
            let value: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
            if value["round"].is_null() {
                runs.push(serde_json::from_value(value).with_context(|| format!("no run: {line}"))?);
                continue;
            }
            let turn: Turn = serde_json::from_value(value).with_context(|| format!("no turn: {line}"))?;
            match runs.last_mut() {
                Some(run) if run.row == turn.row => run.turns.push(turn),
                _ => bail!("a turn of {} stands below another row's run", turn.row),
            }
        }
        Ok(Self { machine, runs })
    }

    /// The fenced lines.
    pub(super) fn fenced(&self) -> Result<String> {
        let mut text = String::from(FENCES[0]);
        writeln!(text, "{}", json!({"machine": self.machine}))?;
        for run in &self.runs {
            writeln!(text, "{}", serde_json::to_string(run)?)?;
            for turn in &run.turns {
                writeln!(text, "{}", serde_json::to_string(turn)?)?;
            }
        }
        Ok(text + FENCES[1] + "\n")
    }

    /// Takes in a run. One of the same row that is there already is replaced, or, with `add`, gets the new turns behind
    /// its own, if it was made from the same commit.
    pub(super) fn take(&mut self, mut run: Run, add: bool) {
        let Some(old) = self.runs.iter_mut().find(|old| old.row == run.row) else {
            self.runs.push(run);
            return;
        };
        if add && old.revision == run.revision {
            let last = old.turns.iter().map(|turn| turn.round).max().unwrap_or(0);
            run.turns.iter_mut().for_each(|turn| turn.round += last);
            run.turns.splice(0..0, old.turns.drain(..));
        }
        *old = run;
    }

    pub(super) fn run(&self, row: &str) -> Option<&Run> {
        self.runs.iter().find(|run| run.row == row)
    }
}

impl Run {
    /// What `of` says of each of the engine's turns.
    pub(super) fn spread(&self, engine: Engine, of: impl Fn(&Turn) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.turns.iter().filter(|turn| turn.engine == engine).filter_map(of))
    }
}

/// The middle of a set of numbers, and its ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Spread {
    /// `None` for no numbers.
    pub(super) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let (&least, &most) = (sorted.first()?, sorted.last()?);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Self { median: (low + high) / 2.0, least, most })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A run of two rounds in which the engines took turns.
    pub(in crate::peers) fn run(row: &str, own: [f64; 2], peer: [f64; 2]) -> Run {
        let turn = |round, engine, speed: f64| Turn {
            row: row.into(),
            round,
            engine,
            prefill: Some(10.0 * speed),
            decode: Some(speed),
            first_token: Some(1.0 / speed),
            read_bandwidth: (engine == Engine::Autarky).then_some(50e9),
            peak_ops: (engine == Engine::Autarky).then_some(1e12),
            others: 0.02,
        };
        Run {
            row: row.into(),
            date: "2026-01-02".into(),
            revision: "abc".into(),
            autarky: json!({
                "isa": "avx512", "threads": 2, "prompt": 512, "sequences": 1, "prefill_ops": 1e12,
                "prefill_bytes": 1e9, "decode_step_ops": 1e9, "decode_step_bytes": 1e9,
            }),
            peer: json!({"version": "1", "threads": 2, "isa": "AVX2", "flags": "-O3"}),
            turns: vec![
                turn(1, Engine::Autarky, own[0]),
                turn(1, Engine::Peer, peer[0]),
                turn(2, Engine::Peer, peer[1]),
                turn(2, Engine::Autarky, own[1]),
            ],
        }
    }

    pub(in crate::peers) fn record(runs: Vec<Run>) -> Record {
        let machine = Machine {
            processor: "AMD EPYC".into(),
            processors: 2,
            instruction_sets: "avx2 avx512f".into(),
            memory_gib: 24.0,
            kernel: "6.1".into(),
        };
        Record { machine, runs }
    }

    #[test]
    fn the_median_of_an_even_count_is_between_the_middle_two() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0].into_iter());
        assert_eq!(spread, Some(Spread { median: 2.5, least: 1.0, most: 4.0 }));
        assert_eq!(Spread::of(std::iter::empty()), None);
    }

    #[test]
    fn lines_read_back_as_what_was_written() {
        let record = record(vec![run("a", [1.0, 2.0], [0.5, 0.75]), run("b", [3.0, 4.0], [0.1, 0.2])]);
        let text = format!("# title\n\n{}more", record.fenced().expect("text"));
        assert_eq!(Record::of_receipt(&text).expect("a receipt"), Some(record));
        assert_eq!(Record::of_receipt("# no rows\n").expect("none"), None);
    }

    #[test]
    fn a_damaged_line_is_an_error_that_shows_it() {
        let text = record(vec![run("a", [1.0, 2.0], [0.5, 0.75])]).fenced().expect("text");
        for (from, to) in
            [("\"round\":2", "\"round\":x"), ("\"row\":\"a\",\"round\":1", "\"row\":\"b\",\"round\":1")]
        {
            let damaged = text.replacen(from, to, 1);
            assert_ne!(damaged, text);
            assert!(Record::of_receipt(&damaged).is_err(), "{damaged}");
        }
    }

    #[test]
    fn a_row_that_is_run_again_replaces_its_run_and_no_other() {
        let mut record = record(vec![run("a", [1.0, 1.0], [1.0, 1.0]), run("b", [2.0, 2.0], [1.0, 1.0])]);
        record.take(run("a", [5.0, 5.0], [1.0, 1.0]), false);
        record.take(run("c", [6.0, 6.0], [1.0, 1.0]), false);
        let decode: Vec<_> =
            record.runs.iter().map(|r| (r.row.as_str(), r.turns[0].decode, r.turns.len())).collect();
        assert_eq!(decode, [("a", Some(5.0), 4), ("b", Some(2.0), 4), ("c", Some(6.0), 4)]);
    }

    #[test]
    fn rounds_are_added_to_those_of_the_same_commit_only() {
        let mut record = record(vec![run("a", [1.0, 1.0], [1.0, 1.0])]);
        record.take(run("a", [5.0, 5.0], [1.0, 1.0]), true);
        let rounds: Vec<u32> = record.runs[0].turns.iter().map(|turn| turn.round).collect();
        assert_eq!(rounds, [1, 1, 2, 2, 3, 3, 4, 4]);
        record.take(Run { revision: "def".into(), ..run("a", [5.0, 5.0], [1.0, 1.0]) }, true);
        assert_eq!(record.runs[0].turns.len(), 4);
    }
}
