//! The rows that come with the program.

use std::sync::LazyLock;

use super::Row;

/// One row a line, by kind.
const FILES: [&str; 5] = [
    include_str!("../../data/runs/train.jsonl"),
    include_str!("../../data/runs/serve.jsonl"),
    include_str!("../../data/runs/decode.jsonl"),
    include_str!("../../data/runs/prefill.jsonl"),
    include_str!("../../data/runs/microbench.jsonl"),
];

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let lines = FILES.iter().flat_map(|f| f.lines()).filter(|l| !l.trim().is_empty());
    // tests/runs.rs reads every line, so that none is lost here.
    lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
});

/// All published runs that come with the program, of any quality.
pub fn built_in() -> &'static [Row] {
    &ROWS
}
