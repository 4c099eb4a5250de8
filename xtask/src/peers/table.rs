//! The table: what is timed beside whom, and the bar that each row has to clear.
//!
//! The rows and bars are those of the project's goal "the fastest CPU engine there is". Speeds do not depend on the values
//! of weights, so the models are written by `bench/make_model.py`.

use std::path::{Path, PathBuf};

/// A row of the table: one model, one kind of work, one peer.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// What is special about it: the first part of its id.
    pub(super) kind: &'static str,
    pub(super) model: Model,
    /// Tokens of each sequence's prompt.
    pub(super) prompt: u32,
    /// Tokens that each sequence then generates.
    pub(super) generate: u32,
    /// Tokens in the KV cache before the prompt.
    pub(super) depth: u32,
    pub(super) sequences: u32,
    pub(super) peer: Peer,
    /// What else the peer's script is told: what makes the peer faster here than its defaults.
    pub(super) peer_flags: &'static [&'static str],
    /// What of it counts, and the bars.
    pub(super) measures: Vec<Measure>,
    /// The bar was set for machines with matrix units.
    pub(super) bar_is_for_amx: bool,
}

/// Where a row's model comes from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Model {
    /// A shape and a quantization of `bench/make_model.py`.
    Made(&'static str, &'static str),
    /// A file of the caller's.
    File(PathBuf),
}

/// The engine beside autarky. Where it is built for one instruction set, autarky is held to the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// llama.cpp with all that it has.
    LlamaCpp,
    /// llama.cpp built for AVX-512 with VNNI, without matrix units.
    LlamaCppAvx512,
    /// llama.cpp built for AVX2.
    LlamaCppAvx2,
    /// OpenVINO on int4 weights.
    OpenVino,
}

/// One number of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measure {
    pub(super) phase: Phase,
    pub(super) bar: Option<Bar>,
}

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Prefill,
    Decode,
    /// From nothing to the first token's logits.
    FirstToken,
}

/// What has to be reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bar {
    /// So many times as fast as the peer.
    Times(f64),
    /// So many times as fast as the peer, and this share, 0 to 1, of the read bandwidth.
    TimesAndBandwidth(f64, f64),
    /// Not more than so many seconds.
    Seconds(f64),
}

impl Peer {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::LlamaCpp | Self::LlamaCppAvx512 | Self::LlamaCppAvx2 => "llama.cpp",
            Self::OpenVino => "OpenVINO int4",
        }
    }

    /// The instruction set that both engines are held to.
    pub(super) fn instruction_set(self) -> Option<&'static str> {
        match self {
            Self::LlamaCpp | Self::OpenVino => None,
            Self::LlamaCppAvx512 => Some("avx512"),
            Self::LlamaCppAvx2 => Some("avx2"),
        }
    }

    /// The folder of its environment, below `target/peers`.
    pub(super) fn environment(self) -> &'static str {
        match self {
            Self::LlamaCpp => "venv",
            Self::LlamaCppAvx512 => "venv-avx512",
            Self::LlamaCppAvx2 => "venv-avx2",
            Self::OpenVino => "venv-openvino",
        }
    }
}

impl Model {
    /// Its name in ids and tables.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Made(shape, quantization) => format!("{shape} {quantization}"),
            Self::File(path) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }

    /// Its file; made models are in `folder`.
    pub(super) fn path(&self, folder: &Path) -> PathBuf {
        match self {
            Self::Made(shape, quantization) => folder.join(format!("{shape}-{quantization}.gguf")),
            Self::File(path) => path.clone(),
        }
    }
}

impl Row {
    /// A row of 512 prompt tokens beside llama.cpp at its best, which measures nothing yet.
    pub(super) fn new(kind: &'static str, model: Model) -> Self {
        Self {
            kind,
            model,
            prompt: 512,
            generate: 0,
            depth: 0,
            sequences: 1,
            peer: Peer::LlamaCpp,
            peer_flags: &[],
            measures: Vec::new(),
            bar_is_for_amx: false,
        }
    }

    fn measure(mut self, phase: Phase, bar: Bar) -> Self {
        self.measures.push(Measure { phase, bar: Some(bar) });
        self
    }

    /// Its name in receipts and on the command line.
    pub(super) fn id(&self) -> String {
        format!("{}-{}", self.kind, self.model.name()).to_lowercase().replace(' ', "-")
    }

    /// What is done, for people.
    pub(super) fn work(&self, phase: Phase) -> String {
        let mut work = match phase {
            Phase::Prefill => format!("prefill of {} tokens", self.prompt),
            Phase::Decode if self.sequences > 1 => format!("{} sequences decoding together", self.sequences),
            Phase::Decode if self.depth > 0 => format!("decode at depth {}", self.depth),
            Phase::Decode => "decode".into(),
            Phase::FirstToken => "start to first token".into(),
        };
        match self.peer {
            Peer::LlamaCppAvx512 => work += ", AVX-512-VNNI",
            Peer::LlamaCppAvx2 => work += ", AVX2",
            Peer::LlamaCpp | Peer::OpenVino => {}
        }
        work
    }
}

/// The table, in the order of receipts.
pub(super) fn rows() -> Vec<Row> {
    use Bar::{Seconds, Times, TimesAndBandwidth};
    const PREFILL_MODELS: [(&str, &str); 4] =
        [("llama3.2-1b", "Q4_0"), ("llama3.2-1b", "Q4_K"), ("llama3.2-1b", "Q8_0"), ("qwen3-4b", "Q4_K")];
    const DECODE_MODELS: [(&str, &str); 5] = [
        ("llama3.2-1b", "Q4_0"),
        ("llama3.2-1b", "Q4_K"),
        ("llama3.2-1b", "Q8_0"),
        ("qwen2.5-0.5b", "Q4_0"),
        ("qwen3-4b", "Q4_K"),
    ];
    let made = |kind, (shape, quantization)| Row::new(kind, Model::Made(shape, quantization));
    let small = PREFILL_MODELS[0];
    let decode = |kind, model| Row { prompt: 1, generate: 64, ..made(kind, model) };
    let mut rows = Vec::new();
    for (kind, prompt) in [("prefill512", 512), ("prefill8192", 8192)] {
        for model in PREFILL_MODELS {
            let row = Row { prompt, bar_is_for_amx: true, ..made(kind, model) };
            rows.push(row.measure(Phase::Prefill, Times(4.0)));
        }
    }
    let openvino = Row { peer: Peer::OpenVino, bar_is_for_amx: true, ..made("openvino", small) };
    rows.push(openvino.measure(Phase::Prefill, Times(2.0)));
    for (kind, peer) in [("avx512", Peer::LlamaCppAvx512), ("avx2", Peer::LlamaCppAvx2)] {
        for model in &PREFILL_MODELS[..2] {
            rows.push(Row { peer, ..made(kind, *model) }.measure(Phase::Prefill, Times(1.3)));
        }
    }
    for model in DECODE_MODELS {
        rows.push(decode("decode", model).measure(Phase::Decode, TimesAndBandwidth(1.15, 0.9)));
    }
    let peer_flags = &["--no-flash-attention"];
    let deep = Row { depth: 16384, generate: 16, peer_flags, ..decode("decode16384", small) };
    rows.push(deep.measure(Phase::Decode, Times(2.0)));
    let experts = Row { generate: 32, ..made("experts", ("qwen3-30b-a3b", "Q4_K")) };
    rows.push(experts.measure(Phase::Prefill, Times(3.0)).measure(Phase::Decode, Times(1.15)));
    let together = Row { prompt: 64, generate: 32, sequences: 16, ..made("batch16", small) };
    rows.push(together.measure(Phase::Decode, Times(3.0)));
    rows.push(
        Row { prompt: 6, generate: 1, ..made("start", small) }.measure(Phase::FirstToken, Seconds(1.5)),
    );
    rows
}

/// The rows whose ids begin with one of `only`, or all when it is empty; an error names what matches nothing.
pub(super) fn select(only: &[String]) -> Result<Vec<Row>, String> {
    let rows = rows();
    if let Some(unknown) = only.iter().find(|o| !rows.iter().any(|row| row.id().starts_with(o.as_str()))) {
        let ids: Vec<String> = rows.iter().map(Row::id).collect();
        return Err(format!("no row begins with '{unknown}'; the rows are {}", ids.join(", ")));
    }
    let chosen = |row: &Row| only.is_empty() || only.iter().any(|o| row.id().starts_with(o.as_str()));
    Ok(rows.into_iter().filter(chosen).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_has_an_id_of_its_own_and_something_to_measure() {
        let rows = rows();
        let ids: BTreeSet<String> = rows.iter().map(Row::id).collect();
        assert_eq!(ids.len(), rows.len());
        for row in &rows {
            assert!(row.id().chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)), "{}", row.id());
            assert!(!row.measures.is_empty(), "{}", row.id());
            for measure in &row.measures {
                assert!(measure.bar.is_some(), "{}", row.id());
                assert!(measure.phase != Phase::Decode || row.generate > 0, "{}", row.id());
            }
        }
    }

    #[test]
    fn rows_are_chosen_by_the_beginning_of_their_ids() {
        let ids = |only: &[&str]| -> Vec<String> {
            let only: Vec<String> = only.iter().map(ToString::to_string).collect();
            select(&only).expect("known").iter().map(Row::id).collect()
        };
        assert_eq!(ids(&["decode-llama3.2-1b-q4_0"]), ["decode-llama3.2-1b-q4_0"]);
        assert_eq!(ids(&["start", "avx2"]).len(), 3);
        assert_eq!(ids(&[]).len(), rows().len());
        let error = select(&["prefill512".into(), "prefil9".into()]).expect_err("unknown");
        assert!(error.contains("'prefil9'") && error.contains("start-llama3.2-1b-q4_0"), "{error}");
    }

    #[test]
    fn work_is_told_apart() {
        let rows = rows();
        let mut told = BTreeSet::new();
        for row in &rows {
            for m in &row.measures {
                assert!(told.insert((row.work(m.phase), row.model.name(), row.peer.name())), "{}", row.id());
            }
        }
    }
}
