//! The receipt of a machine: everything needed to judge its numbers and to take them again, in Markdown. All of it is made
//! from the record and the table, so that a number that was edited by hand is found out.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::machine::Machine;
use super::record::{Engine, Record, Run, Spread};
use super::table::{Bar, Peer, Phase, Row};
use super::verdict::{DISTURBED, Verdict, number};

/// Writes the receipt of a record that was begun on the day `date`.
pub(super) fn receipt(record: &Record, date: &str, table: &[Row]) -> Result<String> {
    let machine = &record.machine;
    let mut text = format!("# Beside other engines: {}, {date}\n\n", machine.name());
    writeln!(
        text,
        "Medians (least to most) of rounds in which the engines take turns, all loaded at once unless two copies of the \
         model do not fit; the one that starts changes from round to round. Speeds are tokens/s, over all sequences. The \
         limit is what the work's operations and bytes allow at the 8-bit integer arithmetic and the read bandwidth that \
         were measured beside each of our rounds.\n"
    )?;
    let run = |row: &Row| record.run(&row.id());
    let verdicts: Vec<Verdict<'_>> =
        table.iter().filter_map(|row| Some(Verdict::of_run(row, run(row)?))).flatten().collect();
    results(&mut text, &verdicts, machine)?;
    let missing: Vec<String> = table.iter().filter(|row| run(row).is_none()).map(Row::id).collect();
    if !missing.is_empty() {
        writeln!(text, "\nNot measured yet: {}.", missing.join(", "))?;
    }
    losses(&mut text, &verdicts, machine)?;
    conditions(&mut text, record, table)?;
    writeln!(text, "\n## Run again\n\n```sh\ncargo xtask bench-peers                 # all of the table")?;
    writeln!(
        text,
        "cargo xtask bench-peers --only decode   # the rows whose ids begin so\n```\n\n## Raw rows\n"
    )?;
    text += &record.fenced()?;
    Ok(text)
}

/// The table of results.
fn results(text: &mut String, verdicts: &[Verdict<'_>], machine: &Machine) -> Result<()> {
    writeln!(text, "| work | model | autarky | peer | ratio | bar | holds | limit | our share of it |")?;
    writeln!(text, "| --- | --- | ---: | ---: | ---: | ---: | --- | --- | ---: |")?;
    for v in verdicts {
        let phase = v.measure.phase;
        let unit = if phase == Phase::FirstToken { " s" } else { "" };
        let holds = match v.holds {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        let limit = v.limit.map(|l| format!("{} by {}", number(l.rate), l.bound.name()));
        writeln!(
            text,
            "| {} | {} | {}{unit} | {} {}{unit} | {} | {} | {holds} | {} | {} |",
            v.row.work(phase),
            v.row.model.name(),
            spread(&v.own),
            v.row.peer.name(),
            spread(&v.peer),
            v.ratio(),
            bar(v, machine),
            limit.unwrap_or_default(),
            v.share().map(percent).unwrap_or_default(),
        )?;
    }
    if verdicts.iter().any(|v| v.disturbed) {
        writeln!(text, "\n{}", DISTURBED[1])?;
    }
    if !machine.has_matrix_units() && verdicts.iter().any(|v| v.row.bar_is_for_amx) {
        writeln!(
            text,
            "\n\\* A bar that was set for machines with matrix units (AMX), which this one lacks."
        )?;
    }
    Ok(())
}

/// What does not hold, and whether it can.
fn losses(text: &mut String, verdicts: &[Verdict<'_>], machine: &Machine) -> Result<()> {
    writeln!(text, "\n## Where we lose, and which bars do not hold\n")?;
    let bad: Vec<&Verdict<'_>> =
        verdicts.iter().filter(|v| v.holds == Some(false) || v.ratio < 1.0).collect();
    if bad.is_empty() {
        writeln!(text, "Nowhere, and none of those measured.")?;
    }
    for v in bad {
        write!(text, "- {}", v.plainly())?;
        if v.row.bar_is_for_amx && !machine.has_matrix_units() {
            write!(text, " for machines with AMX")?;
        }
        if v.ratio < 1.0 {
            write!(text, ". **The peer is faster**")?;
        }
        if let Some(reach) = v.reach().filter(|_| v.holds == Some(false)) {
            write!(text, ". {}", upper(&reach))?;
        }
        if let Some(share) = v.share() {
            write!(text, ". We are at {} of the limit", percent(share))?;
        }
        writeln!(text, ".")?;
    }
    Ok(())
}

/// The machine, the engines, and what was measured beside each row.
fn conditions(text: &mut String, record: &Record, table: &[Row]) -> Result<()> {
    let machine = &record.machine;
    writeln!(text, "\n## Machine and engines\n\n| | |\n| --- | --- |")?;
    writeln!(
        text,
        "| machine | {}, {:.1} GiB, Linux {} |",
        machine.name(),
        machine.memory_gib,
        machine.kernel
    )?;
    writeln!(text, "| instruction sets | {} |", machine.instruction_sets)?;
    let mut engines: Vec<String> = Vec::new();
    for run in &record.runs {
        let row = table.iter().find(|row| row.id() == run.row);
        let peer = row.map_or("peer", |row| row.peer.name());
        let field = |key: &str| said(&run.peer[key]);
        let attention = match &run.peer["flash_attention"] {
            Value::Null => String::new(),
            choice => format!(", flash attention {}", said(choice)),
        };
        let line = format!(
            "| {peer}{} | {}, {} threads{attention}; {}; `{}` |",
            row.map_or("", |row| variant(row.peer)),
            field("version"),
            field("threads"),
            field("isa"),
            field("flags")
        );
        if !engines.contains(&line) {
            engines.push(line);
        }
    }
    engines.iter().try_for_each(|line| writeln!(text, "{line}"))?;
    writeln!(
        text,
        "\n| row | date | commit | kernels | threads | rounds | used by others | read GB/s | int8 Tops/s |"
    )?;
    writeln!(text, "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: |")?;
    for run in &record.runs {
        let scaled = |scale: f64, of: fn(&super::record::Turn) -> Option<f64>| {
            let of = run.spread(Engine::Autarky, |turn| of(turn).map(|x| x / scale));
            of.map(|s| spread(&s)).unwrap_or_default()
        };
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            run.row,
            run.date,
            run.revision,
            run.autarky["isa"].as_str().unwrap_or_default(),
            said(&run.autarky["threads"]),
            run.turns.iter().map(|turn| turn.round).max().unwrap_or(0),
            others(run),
            scaled(1e9, |turn| turn.read_bandwidth),
            scaled(1e12, |turn| turn.peak_ops),
        )?;
    }
    Ok(())
}

/// The middle and the worst share of the machine that other programs used.
fn others(run: &Run) -> String {
    let shares = Spread::of(run.turns.iter().map(|turn| turn.others));
    shares.map(|s| format!("{} (to {})", percent(s.median), percent(s.most))).unwrap_or_default()
}

fn variant(peer: Peer) -> &'static str {
    match peer {
        Peer::LlamaCppAvx512 => " for AVX-512-VNNI",
        Peer::LlamaCppAvx2 => " for AVX2",
        Peer::LlamaCpp | Peer::OpenVino => "",
    }
}

/// What has to be reached, briefly.
pub(super) fn bar(verdict: &Verdict<'_>, machine: &Machine) -> String {
    let star = if verdict.row.bar_is_for_amx && !machine.has_matrix_units() { "\\*" } else { "" };
    match verdict.measure.bar {
        Some(Bar::Times(times)) => format!("{times}{star}"),
        Some(Bar::TimesAndBandwidth(times, share)) => format!("{times} and {}{star}", percent(share)),
        Some(Bar::Seconds(seconds)) => format!("{seconds} s{star}"),
        None => String::new(),
    }
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

fn spread(s: &Spread) -> String {
    format!("{} ({} to {})", number(s.median), number(s.least), number(s.most))
}

/// A field as text, fit for a table.
fn said(value: &Value) -> String {
    match value {
        Value::String(text) => text.replace('|', "·"),
        Value::Null => "not reported".into(),
        value => value.to_string(),
    }
}

/// A sentence's first letter in upper case.
fn upper(sentence: &str) -> String {
    let start = sentence.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(0);
    let (before, rest) = sentence.split_at(start);
    let first = rest.chars().next().map(|c| c.to_ascii_uppercase());
    format!("{before}{}{}", first.map(String::from).unwrap_or_default(), rest.get(1..).unwrap_or_default())
}

impl Machine {
    /// The processor and how many there are.
    pub(super) fn name(&self) -> String {
        format!("{}, {} processors", self.processor, self.processors)
    }
}

/// All receipts of the table in a folder with what they hold, the oldest first. A missing folder has none.
pub(super) fn all(folder: &Path) -> Result<Vec<(PathBuf, Record)>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|e| e == "md"));
    paths.sort();
    let mut receipts = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path)?;
        let record = Record::of_receipt(&text).with_context(|| format!("cannot read {}", path.display()))?;
        receipts.extend(record.map(|record| (path, record)));
    }
    Ok(receipts)
}

/// The day in the name of a receipt, `YYYY-MM-DD-MACHINE.md`.
pub(super) fn date(path: &Path) -> Result<&str> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.and_then(|name| name.get(..10))
        .with_context(|| format!("{} does not begin with a date", path.display()))
}

/// The machine in the name of a receipt.
pub(super) fn machine_slug(path: &Path) -> Option<&str> {
    path.file_stem()?.to_str()?.get(11..)
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{record, run};
    use super::super::table::rows;
    use super::*;

    #[test]
    fn a_receipt_holds_every_row_what_it_means_and_what_is_missing() {
        let record = record(vec![
            run("prefill512-llama3.2-1b-q4_0", [40.0, 42.0], [20.0, 20.0]),
            run("decode-llama3.2-1b-q4_0", [46.0, 46.0], [20.0, 20.0]),
            run("start-llama3.2-1b-q4_0", [2.0, 2.0], [4.0, 4.0]),
        ]);
        let text = receipt(&record, "2026-01-02", &rows()).expect("text");
        for part in [
            "# Beside other engines: AMD EPYC, 2 processors, 2026-01-02\n",
            // 512 tokens take 1e12 operations at 1e12 a second.
            "| prefill of 512 tokens | llama3.2-1b Q4_0 | 410 (400 to 420) | llama.cpp 200 (200 to 200) | 2.05 | 4\\* \
             | **no** | 512 by operations | 80 % |",
            "| decode | llama3.2-1b Q4_0 | 46.0 (46.0 to 46.0) | llama.cpp 20.0 (20.0 to 20.0) | 2.30 | 1.15 and 90 % \
             | yes | 50.0 by bytes | 92 % |",
            "| start to first token | llama3.2-1b Q4_0 | 0.50 (0.50 to 0.50) s | llama.cpp 0.25 (0.25 to 0.25) s | 0.50 \
             | 1.5 s | yes |  |  |",
            "- prefill of 512 tokens, llama3.2-1b Q4_0: 2.05 times as fast as llama.cpp, and the bar is 4 for machines \
             with AMX. **Out of reach of this machine**: the bar is 800 tokens/s, which takes 1.56 Tops/s;",
            "0.50 s, and the bar is 1.5 s. **The peer is faster**.",
            "Not measured yet: prefill512-llama3.2-1b-q4_k, ",
            "| llama.cpp | 1, 2 threads; AVX2; `-O3` |",
            "| decode-llama3.2-1b-q4_0 | 2026-01-02 | abc | avx512 | 2 | 2 | 2 % (to 2 %) | 50.0 (50.0 to 50.0) |",
        ] {
            assert!(text.contains(part), "{part}\nis missing:\n{text}");
        }
        assert_eq!(text.lines().filter(|line| line.starts_with("{\"row\"")).count(), 3 * 5);
        assert_eq!(Record::of_receipt(&text).expect("a receipt"), Some(record));
    }

    #[test]
    fn on_a_machine_with_matrix_units_their_bars_are_its_own() {
        let mut record = record(vec![run("prefill512-llama3.2-1b-q4_0", [80.0, 80.0], [20.0, 20.0])]);
        record.machine.instruction_sets += " amx_tile amx_int8";
        let text = receipt(&record, "2026-01-02", &rows()).expect("text");
        assert!(text.contains("| 4.00 | 4 | yes |"), "{text}");
        assert!(text.contains("Nowhere, and none of those measured."), "{text}");
    }

    #[test]
    fn names_give_the_day_and_the_machine() {
        let path = Path::new("a/2026-01-02-amd-epyc-x2.md");
        assert_eq!((date(path).expect("a day"), machine_slug(path)), ("2026-01-02", Some("amd-epyc-x2")));
    }
}
