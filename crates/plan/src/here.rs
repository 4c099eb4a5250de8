//! This machine: what a model should do on it, by what was just measured of it, beside what it then does.
//!
//! A forecast is work over what the machine can do, times the share of it that the engine reaches. The shares are those
//! of earlier runs on this machine, kept in a file; before there are any, those of the project's own benchmarks.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// What a machine can do at most, measured.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Bytes/s that all threads together read.
    pub bandwidth: f64,
    /// 8-bit integer operations/s.
    pub integer_ops: f64,
    /// Floating-point operations/s.
    pub float_flops: f64,
}

/// What a model asks of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Operations for a token of a prompt.
    pub prefill_ops: f64,
    /// Operations for a token of an answer.
    pub decode_ops: f64,
    /// Bytes read for a token of an answer.
    pub decode_bytes: f64,
    /// Whether weights are floating-point numbers, so that products are, too.
    pub floating: bool,
    /// Layers, for whose ops threads wait on each other.
    pub layers: f64,
    /// Tokens of a step of prefill, and of decode.
    pub step_tokens: (f64, f64),
}

/// A phase of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Prompts.
    Prefill,
    /// Answers.
    Decode,
}

/// One run, as it is kept.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Seconds since 1970.
    pub at: u64,
    /// The model's path.
    pub model: String,
    /// The phase.
    pub phase: Phase,
    /// The machine, as it was just then.
    pub machine: Machine,
    /// Tokens/s that were forecast.
    pub forecast: f64,
    /// Lower end of its 80 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Tokens/s that were reached.
    pub actual: f64,
    /// The share of the machine's limit that was reached.
    pub share: f64,
}

/// Tokens/s with an 80 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// Tokens/s.
    pub rate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Tokens/s at the machine's limit.
    pub limit: f64,
    /// Earlier runs that it rests on.
    pub runs: usize,
}

/// The share of the limit, and the spread of its logarithm, before anything ran here: medians of the project's receipts
/// on CPUs.
fn expected(phase: Phase) -> (f64, f64) {
    match phase {
        Phase::Prefill => (0.65, 0.18),
        Phase::Decode => (0.92, 0.12),
    }
}

/// Tokens/s at the machine's limit.
pub fn limit(machine: &Machine, work: &Work, phase: Phase) -> f64 {
    let peak = if work.floating { machine.float_flops } else { machine.integer_ops };
    match phase {
        Phase::Prefill => peak / work.prefill_ops,
        Phase::Decode => 1.0 / (work.decode_bytes / machine.bandwidth).max(work.decode_ops / peak),
    }
}

/// Seconds a layer and step in which threads wait on each other: about eleven times, some microseconds each.
const WAITING_S: f64 = 40e-6;

/// Seconds of waiting for a token.
fn waiting(work: &Work, phase: Phase) -> f64 {
    let (prefill, decode) = work.step_tokens;
    WAITING_S * work.layers / if phase == Phase::Prefill { prefill } else { decode }.max(1.0)
}

/// The share of its limit that the machine reached at `actual` tokens/s, waiting left out.
pub fn share(machine: &Machine, work: &Work, phase: Phase, actual: f64) -> f64 {
    let at_limit = 1.0 / limit(machine, work, phase);
    at_limit / (1.0 / actual - waiting(work, phase)).max(at_limit)
}

/// What to expect of `work` on `machine` after the runs in `history`.
pub fn forecast(machine: &Machine, work: &Work, phase: Phase, history: &[Entry]) -> Forecast {
    /// What the expectation counts for, in runs.
    const PRIOR: f64 = 2.0;
    let (share, spread) = expected(phase);
    let seen: Vec<f64> = history
        .iter()
        .filter(|e| e.phase == phase && e.share.is_finite() && e.share > 0.0)
        .map(|e| e.share.ln())
        .collect();
    let n = seen.len() as f64;
    let mean = (PRIOR * share.ln() + seen.iter().sum::<f64>()) / (PRIOR + n);
    let squares: f64 = seen.iter().map(|s| (s - mean) * (s - mean)).sum();
    let sigma = ((PRIOR * spread * spread + squares) / (PRIOR + n)).sqrt().max(0.02);
    // Of a normal distribution 80 % lie within 1.28 standard deviations; the mean is uncertain too.
    let half = 1.28 * sigma * (1.0 + 1.0 / (PRIOR + n)).sqrt();
    let limit = limit(machine, work, phase);
    let rate = 1.0 / (1.0 / (limit * mean.min(0.0).exp()) + waiting(work, phase));
    Forecast {
        rate,
        low: rate * (-half).exp(),
        high: (rate * half.exp()).min(limit.max(rate)),
        limit,
        runs: seen.len(),
    }
}

/// Why a history cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {problem}")]
pub struct HistoryError {
    /// The file.
    pub file: String,
    /// What is wrong, and where.
    pub problem: String,
}

/// Runs on this machine, a line each.
#[derive(Clone, Debug)]
pub struct History {
    file: PathBuf,
    entries: Vec<Entry>,
}

/// The longest history that is read.
const MAX_BYTES: u64 = 8 << 20;

impl History {
    /// The history in `file`; an absent file is an empty one.
    pub fn open(file: &Path) -> Result<History, HistoryError> {
        let fail = |problem: String| HistoryError { file: file.display().to_string(), problem };
        let mut text = String::new();
        match File::open(file) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(fail(e.to_string())),
            Ok(f) => {
                f.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|e| fail(e.to_string()))?;
            }
        }
        if text.len() as u64 > MAX_BYTES {
            return Err(fail(format!("it has more than {MAX_BYTES} bytes: move it away to start anew")));
        }
        let lines = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty());
        let entries = lines
            .map(|(i, l)| serde_json::from_str(l).map_err(|e| fail(format!("line {}: {e}", i + 1))))
            .collect::<Result<_, _>>()?;
        Ok(History { file: file.to_owned(), entries })
    }

    /// The runs.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Adds a run, in the file too.
    pub fn add(&mut self, mut entry: Entry) -> Result<(), HistoryError> {
        let fail = |problem: String| HistoryError { file: self.file.display().to_string(), problem };
        entry.at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let line = serde_json::to_string(&entry).map_err(|e| fail(e.to_string()))? + "\n";
        if let Some(folder) = self.file.parent() {
            std::fs::create_dir_all(folder).map_err(|e| fail(e.to_string()))?;
        }
        let opened = OpenOptions::new().create(true).append(true).open(&self.file);
        opened.and_then(|mut f| f.write_all(line.as_bytes())).map_err(|e| fail(e.to_string()))?;
        self.entries.push(entry);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine { bandwidth: 32e9, integer_ops: 900e9, float_flops: 200e9 };
    const WORK: Work = Work {
        prefill_ops: 2e9,
        decode_ops: 2e9,
        decode_bytes: 0.8e9,
        floating: false,
        layers: 0.0,
        step_tokens: (512.0, 1.0),
    };

    fn entry(share: f64) -> Entry {
        let model = "m".to_owned();
        Entry {
            at: 0,
            model,
            phase: Phase::Decode,
            machine: MACHINE,
            forecast: 1.0,
            low: 1.0,
            high: 1.0,
            actual: 1.0,
            share,
        }
    }

    #[test]
    fn a_history_moves_the_forecast_and_narrows_it() {
        let first = forecast(&MACHINE, &WORK, Phase::Decode, &[]);
        assert_eq!(first.limit, 40.0);
        assert!((first.rate - 36.8).abs() < 1e-9);
        let later = forecast(&MACHINE, &WORK, Phase::Decode, &vec![entry(0.7); 20]);
        assert!((later.rate - 28.0).abs() < 1.0, "{later:?}");
        assert!(later.high / later.low < first.high / first.low);
        // Runs of one phase say nothing of the other.
        assert_eq!(forecast(&MACHINE, &WORK, Phase::Prefill, &vec![entry(0.7); 20]).runs, 0);
    }

    #[test]
    fn small_models_wait_more_than_they_work() {
        let small = Work { prefill_ops: 5e5, decode_ops: 5e5, decode_bytes: 1e6, layers: 5.0, ..WORK };
        let f = forecast(&MACHINE, &small, Phase::Decode, &[]);
        assert!(f.rate < 5000.0 && f.limit > 30_000.0, "{f:?}");
        // What waiting explains is no lack of speed.
        let share = share(&MACHINE, &small, Phase::Decode, f.rate);
        assert!((share - 0.92).abs() < 1e-9, "{share}");
    }

    #[test]
    fn nothing_is_forecast_above_the_limit() {
        for share in [0.1, 0.9, 1.0, 3.0] {
            let f = forecast(&MACHINE, &WORK, Phase::Decode, &vec![entry(share); 50]);
            assert!(f.low <= f.rate && f.rate <= f.high && f.high <= f.limit * (1.0 + 1e-12), "{f:?}");
        }
    }

    #[test]
    fn a_history_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep/here.jsonl");
        let mut history = History::open(&file).unwrap();
        history.add(entry(0.5)).unwrap();
        history.add(entry(0.6)).unwrap();
        assert_eq!(History::open(&file).unwrap().entries().len(), 2);
        std::fs::write(&file, "{}\n").unwrap();
        let error = History::open(&file).unwrap_err().to_string();
        assert!(error.contains("here.jsonl: line 1: missing field"), "{error}");
    }
}
