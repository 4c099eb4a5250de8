//! Predictions beside measured runs.

use std::path::Path;

use autarky_plan::Catalog;
use autarky_plan::runs::built_in;
use autarky_plan::validate::{LeaveOut, MEMORY_INTERVAL, Options, Report, parse, validate};
use serde_json::{Value, json};

fn report(rows: &Value, options: &Options) -> Report {
    let rows = parse(Path::new("rows.json"), rows.to_string().as_bytes()).expect("sound rows");
    validate(&rows, Catalog::built_in().expect("chips"), options).expect("a fit")
}

fn new_row() -> Value {
    json!({
        "id": "mine", "kind": "serve", "quality": 3, "chip_id": "nvidia-h100-sxm", "count": 8,
        "model": {"name": "New-70B", "hidden": 8192, "layers": 80, "heads": 64, "kv_heads": 8, "ffn": 28672, "vocab": 128256},
        "parallelism": {"tp": 8}, "dtype_norm": "fp8", "batch": 64, "isl": 1024, "osl": 1024,
        "measured": {"output_tokens_per_s_total": 3000.0}, "source": "our own run"
    })
}

#[test]
fn a_row_never_seen_is_predicted_in_its_own_unit() {
    let report = report(&json!([new_row()]), &Options::default());
    let row = report.rows[0].json();
    assert_eq!(row["unit"], "tokens/s");
    assert_eq!(row["measured"], 3000.0);
    assert_eq!(row["fitted"], false);
    let [low, predicted, high] = ["low", "predicted", "high"].map(|k| row[k].as_f64().expect("a number"));
    assert!(low < predicted && predicted < high);
    assert!((1000.0..10_000.0).contains(&predicted), "{predicted}");
    assert_eq!(report.fitted(), 0);
}

#[test]
fn what_cannot_be_predicted_says_why() {
    let edit = |key: &str, value: Value| {
        let mut row = new_row();
        row[key] = value;
        row
    };
    let rows = json!([
        edit("chip_id", json!("no-such-chip")),
        edit("kind", json!("microbench")),
        edit("dtype_norm", json!("base-12")),
        edit("measured", json!({})),
        edit("model", json!({"name": "nothing known"})),
        edit("model", json!({"name": "vast", "hidden": 1e200, "layers": 1e200})),
    ]);
    let report = report(&rows, &Options::default());
    let words = ["no chip", "microbench", "base-12", "no figure", "hidden", "no finite figure"];
    for (row, word) in report.rows.iter().zip(words) {
        let reason = row.json()["skipped"].as_str().expect("a reason").to_owned();
        assert!(reason.contains(word), "{reason}");
    }
    assert_eq!(report.predicted(), 0);
}

#[test]
fn rows_that_corrections_know_are_marked_under_any_name() {
    let known = built_in().iter().find(|r| r.quality == 3 && r.kind == "train").expect("a run").clone();
    let mut renamed = known.clone();
    renamed.id = "another name".to_owned();
    let rows = json!([known, renamed]);
    let seen = report(&rows, &Options::default());
    assert_eq!((seen.predicted(), seen.fitted()), (2, 2));
    assert!(seen.honesty().contains("say little"));
    // Without them, the prediction is another one.
    let predicted = |r: &Report| r.rows[1].json()["predicted"].as_f64().expect("a number");
    for leave_out in [LeaveOut::Rows, LeaveOut::Documents] {
        let exact = report(&rows, &Options { leave_out, ..Options::default() });
        assert_ne!(predicted(&exact), predicted(&seen));
        assert_eq!(exact.fitted(), 2);
    }
}

#[test]
fn rows_of_low_quality_are_told_apart() {
    let mut row = new_row();
    row["quality"] = json!(1);
    let rows = json!([row, new_row()]);
    let usual = report(&rows, &Options::default());
    assert_eq!((usual.rows.len(), usual.omitted), (1, 1));
    let all = report(&rows, &Options { all: true, ..Options::default() });
    assert!(all.rows[0].json()["skipped"].as_str().expect("a reason").contains("quality"));
    let low = report(&rows, &Options { quality: 1, ..Options::default() });
    assert_eq!(low.predicted(), 2);
}

#[test]
fn memory_of_training_is_compared_in_gib() {
    let row = built_in()
        .iter()
        .find(|r| r.quality == 3 && r.measured.contains_key("weights_optimizer_gib_per_device"));
    let report = report(&json!([row.expect("a run")]), &Options::default());
    let out = report.rows[0].json();
    assert_eq!(out["unit"], "GiB per device");
    let predicted = out["predicted"].as_f64().expect("a number");
    assert!((out["high"].as_f64().expect("a number") / predicted - 1.0 - MEMORY_INTERVAL).abs() < 1e-9);
    let measured = out["measured"].as_f64().expect("a number");
    assert!((predicted / measured - 1.0).abs() < 0.1, "{predicted} {measured}");
}
