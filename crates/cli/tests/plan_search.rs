//! `autarky plan fit`, `serve`, `train` and `validate` as people call them.

mod support;

use serde_json::Value;
use support::{Ran, command, ran};

/// Runs `autarky` where nobody has chips of their own.
fn autarky(args: &[&str]) -> Ran {
    ran(command(args).env("HOME", "").env("AUTARKY_CHIPS", "").output().expect("the binary starts"))
}

fn json(args: &[&str]) -> Value {
    autarky(args).json()
}

#[test]
fn fit_serve_and_train_answer_in_text_json_and_csv() {
    let fit = json(&["plan", "fit", "meta-llama/Llama-3.1-70B", "--chip", "h100-sxm,mi300x", "--json"]);
    assert_eq!(fit["plans"][0]["needed"], 2);
    assert_eq!(fit["plans"][1]["chip"], "amd-mi300x");

    let serve =
        ["plan", "serve", "Qwen/Qwen3-32B", "--chip", "h100-sxm", "--input", "1024", "--output", "256"];
    let text = autarky(&serve).ok();
    assert!(
        text.contains("rests on") && text.contains("80 % interval") && text.contains("decode bound by"),
        "{text}"
    );
    let rate = json(&[&serve[..], &["--rate", "2", "--json"]].concat());
    assert!(rate["under_load"][0]["ttft"]["p99_ms"].as_f64().expect("a percentile") > 0.0);
    let csv = autarky(&[&serve[..], &["--csv", "--top", "2"]].concat()).ok();
    assert_eq!(csv.lines().count(), 3, "{csv}");

    let train = [
        "plan",
        "train",
        "meta-llama/Llama-3.1-70B",
        "--tokens",
        "1e12",
        "--chip",
        "h100-sxm",
        "--count",
        "256",
    ];
    let text = autarky(&train).ok();
    assert!(text.contains("failures are to be expected") && text.contains("MFU"), "{text}");
    let plan = json(&[&train[..], &["--json", "--tensor", "4"]].concat());
    assert!(plan["plans"][0]["layout"].as_str().expect("a layout").contains("tensor 4"));
    assert!(plan["plans"][0]["days_low"].as_f64() < plan["plans"][0]["days"].as_f64());
}

#[test]
fn what_cannot_be_is_refused_with_what_can() {
    let cases: [(&[&str], i32, &str); 5] = [
        (&["plan", "fit", "deepseek-ai/DeepSeek-V3", "--chip", "l40s", "--count", "2"], 2, "chips hold it"),
        (&["plan", "fit", "no-such-model", "--chip", "l40s"], 2, "no model is called"),
        (&["plan", "fit", "Qwen/Qwen3-8B", "--chip", "l41"], 2, "no chip"),
        (
            &[
                "plan",
                "train",
                "Qwen/Qwen3-8B",
                "--tokens",
                "1e9",
                "--chip",
                "h100-sxm",
                "--count",
                "8",
                "--tensor",
                "3",
            ],
            2,
            "cannot be cut over 3 devices",
        ),
        (
            &[
                "plan",
                "serve",
                "Qwen/Qwen3-8B",
                "--chip",
                "h100-sxm",
                "--input",
                "8",
                "--output",
                "8",
                "--tpot-ms",
                "0.001",
            ],
            2,
            "no plan meets the targets",
        ),
    ];
    for (args, code, words) in cases {
        let error = autarky(args).fails(code);
        assert!(error.contains(words), "{args:?}: {error}");
    }
}

#[test]
fn rows_are_validated_and_bad_files_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rows.json");
    let name = file.to_str().expect("UTF-8");
    let row = serde_json::json!({
        "id": "mine", "kind": "serve", "quality": 3, "chip_id": "nvidia-h100-sxm", "count": 8,
        "model": {"name": "New-70B", "hidden": 8192, "layers": 80, "heads": 64, "kv_heads": 8, "ffn": 28672, "vocab": 128256},
        "parallelism": {"tp": 8}, "dtype_norm": "fp8", "batch": 64, "isl": 1024, "osl": 1024,
        "measured": {"output_tokens_per_s_total": 3000.0}, "source": "our own run"
    });
    std::fs::write(&file, serde_json::json!([row, {"id": "b", "kind": "microbench", "quality": 3, "model": {"name": "x"}, "measured": {}}]).to_string())
        .expect("a file");
    let report = json(&["plan", "validate", name, "--json"]);
    assert_eq!(report["rows"][0]["measured"], 3000.0);
    assert!(report["rows"][1]["skipped"].as_str().expect("a reason").contains("microbench"));
    let text = autarky(&["plan", "validate", name]).ok();
    assert!(text.contains("median |error|") && text.contains("None of the 1 rows is among"), "{text}");
    std::fs::write(&file, "[{\"id\":\"a\",\"kind\":3,\"model\":{\"name\":\"\"},\"measured\":{}}]")
        .expect("a file");
    let error = autarky(&["plan", "validate", name]).fails(3);
    assert!(error.contains("row 0 (a), field `kind`"), "{error}");
}

#[test]
fn plans_are_pages_that_need_no_network() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = |name: &str, args: &[&str]| {
        let file = folder.path().join(name);
        let html = ["--html", file.to_str().expect("a path")];
        autarky(&[args, &html].concat()).ok();
        let text = std::fs::read_to_string(&file).expect("the page");
        assert!(text.contains("default-src 'none'") && text.contains("<h1>"), "{name}");
        // The one address is a name space.
        let addresses = text.matches("://").count() - text.matches("http://www.w3.org/2000/svg").count();
        assert_eq!(addresses, 0, "{name}");
        text
    };
    let on = ["--chip", "h100-sxm,mi300x"];
    page("fit.html", &[&["plan", "fit", "Qwen/Qwen3-32B"], &on[..]].concat());
    let sizes = ["--input", "1024", "--output", "256"];
    let serve = page("serve.html", &[&["plan", "serve", "Qwen/Qwen3-32B"], &on[..], &sizes].concat());
    assert!(serve.contains("\"name\":\"Instinct MI300X\""));
    page(
        "train.html",
        &[&["plan", "train", "Qwen/Qwen3-8B", "--tokens", "1e12", "--count", "64"], &on[..]].concat(),
    );
}
