//! `tokenize`, `logits`, `perplexity`, `bench`: numbers out of models.

mod support;

use std::fs;
use std::path::Path;

use autarky_format::safetensors::File;
use support::{autarky, autarky_with, folder, stories};

#[test]
fn text_becomes_ids_and_ids_become_the_text() {
    let text = "Once upon a time, there was a café.\n  Two spaces.";
    let ids = autarky_with(args!["tokenize", stories()], text.as_bytes()).ok();
    assert!(ids.ends_with('\n') && ids.split_whitespace().all(|w| w.parse::<u32>().is_ok()), "{ids}");
    assert_eq!(autarky_with(args!["tokenize", stories(), "--decode"], ids.as_bytes()).ok(), text);

    let special = autarky_with(args!["tokenize", stories(), "--special"], b"Once").ok();
    assert!(special.starts_with("1 "), "BOS comes first: {special}");
    let shown = autarky_with(args!["tokenize", stories(), "--special", "--decode"], special.as_bytes()).ok();
    assert!(shown.contains("<s>"), "{shown}");

    let json = autarky_with(args!["tokenize", stories(), "--json"], b"Once").json();
    assert_eq!(json["text"], "Once");
    let pieces = json["tokens"].as_array().unwrap();
    assert_eq!(pieces.len(), json["ids"].as_array().unwrap().len());
    assert!(autarky_with(args!["tokenize", stories(), "--decode"], b"1 two").fails(2).contains("two"));
    assert!(autarky_with(args!["tokenize", stories(), "--decode"], b"512").fails(3).contains("512"));
    assert!(autarky_with(args!["tokenize", stories()], b"\xff\xfe").fails(3).contains("UTF-8"));
}

fn logits(model: &Path, out: &Path, ids: &str, more: &[&str]) -> Vec<f32> {
    let common = args!["logits", model, "--ids", ids, "-o", out, "--force"];
    autarky(common.into_iter().chain(more.iter().map(Into::into))).ok();
    let file = File::open(out).unwrap();
    let logits = file.tensor("logits").unwrap();
    assert_eq!(logits.shape[0], ids.split(',').count());
    logits.f32s().unwrap().to_vec()
}

#[test]
fn logits_are_the_same_bits_in_chunks_and_on_threads_and_near_the_reference() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("logits.safetensors");
    let ids: Vec<String> = (1..80).map(|i| ((i * 37) % 512).to_string()).collect();
    let ids = ids.join(",");
    let whole = logits(&stories(), &out, &ids, &[]);
    assert_eq!(whole.len(), 79 * 512);
    for more in
        [&["--chunk", "1"][..], &["--chunk", "7"], &["--threads", "1"], &["--threads", "2", "--chunk", "33"]]
    {
        assert!(logits(&stories(), &out, &ids, more) == whole, "{more:?}");
    }
    let reference = logits(&stories(), &out, &ids, &["--device", "reference"]);
    let worst = whole.iter().zip(&reference).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-3, "{worst}");
}

#[test]
fn logits_are_those_of_an_independent_implementation() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("logits.safetensors");
    for family in ["llama", "mixtral", "deepseek_v3"] {
        let expected = File::open(folder(family).join("expected.safetensors")).unwrap();
        let ids = expected.raw("input_ids").unwrap().ints().unwrap();
        let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
        let expected = expected.tensor("logits").unwrap().f32s().unwrap().to_vec();
        for (device, bound) in [("reference", 1e-3), ("cpu", 5e-3)] {
            let found = logits(&folder(family), &out, &ids.join(","), &["--device", device]);
            assert_eq!(found.len(), expected.len());
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < bound, "{family} on {device}: {worst}");
        }
    }
}

#[test]
fn logits_refuses_what_it_cannot_do() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("logits.safetensors");
    assert!(
        autarky(args!["logits", stories(), "--ids", "1,512", "-o", out]).fails(2).contains("512 entries")
    );
    assert!(autarky(args!["logits", stories(), "--ids", "x", "-o", out]).fails(2).contains("--ids"));
    fs::write(&out, "precious").unwrap();
    assert!(autarky(args!["logits", stories(), "--ids", "1", "-o", out]).fails(2).contains("--force"));
    assert_eq!(fs::read_to_string(&out).unwrap(), "precious");
}

#[test]
fn perplexity_is_low_on_the_models_own_story_and_kl_divergence_grows_with_fewer_bits() {
    let dir = tempfile::tempdir().unwrap();
    let story = dir.path().join("story.txt");
    let told = autarky(args!["run", stories(), "-p", "", "-t", "0.8", "--seed", "3", "-n", "500"]).ok();
    fs::write(&story, told.trim_end()).unwrap();
    let noise = dir.path().join("noise.txt");
    fs::write(&noise, "zq xv kj wp ".repeat(60)).unwrap();
    let measure = |text: &Path| {
        let json = autarky(args!["perplexity", stories(), text, "--context", "128", "--json"]).json();
        assert!(json["scored_tokens"].as_u64().unwrap() >= 63);
        json["perplexity"].as_f64().unwrap()
    };
    assert!(measure(&story) < 10.0 && measure(&noise) > 50.0);

    let against = |model: &Path| {
        let json =
            autarky(args!["perplexity", model, story, "--against", stories(), "--context", "128", "--json"])
                .json();
        json["kl_divergence"].as_f64().unwrap()
    };
    assert_eq!(against(&stories()), 0.0);
    let mut last = 0.0;
    for name in ["Q8_0", "Q4_0"] {
        let model = dir.path().join(format!("{name}.gguf"));
        autarky(args!["quantize", stories(), model, "--type", name]).ok();
        let kl = against(&model);
        assert!(kl > last && kl < 1.0, "{name}: {kl}");
        last = kl;
    }
    let text = autarky(args!["perplexity", stories(), story, "--context", "64", "--windows", "1"]).ok();
    assert!(text.starts_with("perplexity") && text.contains("(31 tokens scored)"), "{text}");
    // The model writes about 2.3 bytes a token.
    let json = autarky(args!["perplexity", stories(), story, "--context", "128", "--json"]).json();
    let bits = |name: &str| json[name].as_f64().unwrap();
    let ratio = bits("surprise_nats") / 2f64.ln() / bits("bits_per_byte");
    assert!((1.5..3.5).contains(&ratio), "{ratio}");

    fs::write(&noise, "too short").unwrap();
    assert!(autarky(args!["perplexity", stories(), noise]).fails(3).contains("longer text"));
    fs::write(&noise, b"\xff").unwrap();
    assert!(autarky(args!["perplexity", stories(), noise]).fails(3).contains("UTF-8"));
    let message = autarky(args!["perplexity", stories(), dir.path().join("absent")]).fails(3);
    assert!(message.contains("absent"), "{message}");
}

#[test]
fn bench_says_how_fast_and_how_large() {
    let common = args!["bench", stories(), "--prompt", "20", "--generate", "4", "--rounds", "2", "--no-peak"];
    let run = |more: &[&str]| autarky(common.iter().cloned().chain(more.iter().map(Into::into)));
    for more in [&["--json"][..], &["--json", "--sequences", "3", "--depth", "5", "--chunk", "16"]] {
        let json = run(more).json();
        for key in ["prefill_tokens_per_second", "decode_tokens_per_second", "load_seconds", "resident_bytes"]
        {
            assert!(json[key].as_f64().unwrap() > 0.0, "{key}: {json}");
        }
        assert_eq!(json["prefill_rounds"].as_array().unwrap().len(), 2);
        assert_eq!(json["decode_rounds"].as_array().unwrap().len(), 2);
        assert_eq!(json["file_bytes"], fs::metadata(stories()).unwrap().len());
        assert!(json["isa"].is_string() && json["threads"].as_u64().unwrap() > 0);
        assert_eq!(json["resident_within_bar"], true, "{json}");
    }
    let text = run(&["--device", "reference"]).ok();
    for expected in ["machine", "prefill", "decode", "tokens/s", "resident"] {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
    assert!(run(&["--sequences", "0"]).fails(2).contains("--sequences"));
}

#[test]
fn bench_times_steps_of_training() {
    let config = folder("llama").join("config.json");
    let common =
        args!["bench", "--train", config, "--sequences", "2", "--prompt", "9", "--rounds", "2", "--no-peak"];
    let json = autarky(common.iter().cloned().chain(args!["--json"])).json();
    assert_eq!(json["train_rounds"].as_array().unwrap().len(), 2);
    assert!(json["train_tokens_per_second"].as_f64().unwrap() > 0.0, "{json}");
    // As many nats as guessing among the vocabulary costs, about.
    let loss = json["losses"][0].as_f64().unwrap();
    assert!((1.0..10.0).contains(&loss), "{json}");
    let text = autarky(common).ok();
    assert!(text.contains("tokens/s") && text.contains("2 x 9 tokens a step"), "{text}");
    assert!(autarky(args!["bench", "--train", "20m"]).fails(3).contains("--train takes 15m, 110m"));
    assert!(autarky(args!["bench", "--train", "15m", "--depth", "4"]).fails(2).contains("--depth"));
}

#[test]
fn bench_runs_a_round_for_each_line_that_it_reads() {
    let flags = args![
        "bench",
        stories(),
        "--turns",
        "--prompt",
        "20",
        "--generate",
        "4",
        "--depth",
        "30",
        "--sequences",
        "2"
    ];
    let printed = autarky_with(flags, b"\n\n").ok();
    let lines: Vec<serde_json::Value> = printed.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let [ready, rounds @ .., report] = &lines[..] else { panic!("{printed}") };
    assert_eq!((&ready["ready"], rounds.len()), (&true.into(), 2), "{printed}");
    for round in rounds {
        for key in ["prefill_tokens_per_second", "decode_tokens_per_second", "read_bandwidth", "peak_ops"] {
            assert!(round[key].as_f64().unwrap() > 0.0, "{key}: {round}");
        }
    }
    // 2 · 20 tokens against 2 · 1, each at about as many operations.
    let ratio = report["prefill_ops"].as_f64().unwrap() / report["decode_step_ops"].as_f64().unwrap();
    assert!((15.0..=20.0).contains(&ratio), "{report}");
    assert!(report["decode_step_bytes"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(report["prefill_rounds"].as_array().unwrap().len(), 2);
}

#[test]
fn of_choices_the_likeliest_is_compared_with_the_right_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("questions.jsonl");
    let question = |prompt: &str, choices: [&str; 2], answer: usize| {
        format!("{}\n", serde_json::json!({ "prompt": prompt, "choices": choices, "answer": answer }))
    };
    // A teller of stories knows how they begin and go on. What ends in a space is cut into tokens with what follows.
    let told = [
        question("Once upon a time, there was a little ", ["girl named Lily.", "zebra of physics."], 0),
        question("Lily and her mom went to the", [" because are", " park"], 1),
        question("", ["One day, Tom", "xq vwz, kj"], 0),
        question("She was very", [" happy", " of"], 1),
    ];
    fs::write(&path, told.concat()).unwrap();
    let json = autarky(args!["perplexity", stories(), path, "--choices", "--json"]).json();
    assert_eq!((&json["questions"], &json["chance"]), (&4.into(), &0.5.into()));
    assert_eq!((&json["right"], &json["right_by_byte"]), (&0.75.into(), &0.75.into()));
    let text = autarky(args!["perplexity", stories(), path, "--choices"]).ok();
    assert!(text.contains("75.0 ± 25.0 %"), "{text}");

    fs::write(&path, format!("{}{{}}", told[0])).unwrap();
    let message = autarky(args!["perplexity", stories(), path, "--choices"]).fails(3);
    assert!(message.contains("questions.jsonl, line 2"), "{message}");
    fs::write(&path, question("", ["a", &"b ".repeat(1000)], 0)).unwrap();
    let message = autarky(args!["perplexity", stories(), path, "--choices"]).fails(3);
    assert!(message.contains("line 1") && message.contains("context"), "{message}");
}
