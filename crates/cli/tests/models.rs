//! `inspect`, `convert`, `quantize`: model files in and out.

mod support;

use std::fs;

use support::{autarky, folder, llama2c, rewrite, stories};

#[test]
fn inspect_says_what_a_model_is_and_needs() {
    let text = autarky(args!["inspect", stories()]).ok();
    for expected in
        ["GGUF version 3", "llama", "260032", "F32", "512 tokens", "SentencePiece", "runs here      yes"]
    {
        assert!(text.contains(expected), "{expected:?} is not in {text}");
    }
    let json = autarky(args!["inspect", stories(), "--json", "--tensors", "--metadata"]).json();
    assert_eq!(json["family"], "llama");
    assert_eq!(json["parameters"], 260_032);
    assert_eq!(json["chat_template"], false);
    assert_eq!(json["runs_here"], true);
    assert_eq!(json["metadata"]["llama.rope.freq_base"], 10000.0);
    assert_eq!(json["tensors"].as_array().unwrap().len(), 47);
    let weights = json["memory"]["weights_bytes"].as_u64().unwrap();
    assert_eq!(weights, 4 * 260_032);
    let long = autarky(args!["inspect", stories(), "--json", "--context", "1024"]).json();
    assert_eq!(
        long["memory"]["cache_bytes"].as_u64().unwrap(),
        2 * json["memory"]["cache_bytes"].as_u64().unwrap()
    );
    let listed = autarky(args!["inspect", stories(), "--tensors", "--metadata"]).ok();
    assert!(listed.contains("64 × 172") && listed.contains("512 × str: [\"<unk>\""), "{listed}");
}

#[test]
fn inspect_names_what_speaks_against_a_model() {
    let dir = tempfile::tempdir().unwrap();
    let unknown = dir.path().join("unknown.gguf");
    rewrite(&stories(), &unknown, |m| {
        m.insert("general.architecture", "mystery");
        m.insert("general.name", "a \u{1b}[31mred name");
    });
    let text = autarky(args!["inspect", unknown, "--metadata"]).ok();
    assert!(
        text.contains("mystery") && text.contains("is not known") && text.contains("runs here      no"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "a file must not drive the terminal: {text}");
    let json = autarky(args!["inspect", unknown, "--json"]).json();
    assert_eq!((&json["family"], &json["runs_here"]), (&serde_json::Value::Null, &false.into()));

    let far = autarky(args!["inspect", stories(), "--context", "2000000000"]).ok();
    assert!(far.contains("runs here      no") && far.contains("fits"), "{far}");
}

#[test]
fn inspect_reads_folders_and_lone_files() {
    let llama = autarky(args!["inspect", folder("llama"), "--json", "--metadata", "--tensors"]).json();
    assert_eq!((&llama["format"], &llama["family"]), (&"safetensors".into(), &"llama".into()));
    assert_eq!(llama["metadata"]["model_type"], "llama");
    assert!(llama["why_not"][0].as_str().unwrap().contains("tokenizer"), "{llama}");

    let dir = tempfile::tempdir().unwrap();
    let lone = dir.path().join("lone.safetensors");
    fs::copy(folder("llama").join("model.safetensors"), &lone).unwrap();
    let json = autarky(args!["inspect", lone, "--json"]).json();
    assert_eq!(json["runs_here"], false);
    assert!(json["why_not"][0].as_str().unwrap().contains("config.json"), "{json}");
}

#[test]
fn files_that_are_no_models_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let cut = dir.path().join("cut.gguf");
    let whole = fs::read(stories()).unwrap();
    fs::write(&cut, &whole[..whole.len() - 1]).unwrap();
    let empty = dir.path().join("empty.gguf");
    fs::write(&empty, "").unwrap();
    let text = dir.path().join("text.bin");
    fs::write(&text, "hello, this is no model").unwrap();
    for (path, says) in [
        (&cut, "cut short"),
        (&empty, "empty.gguf"),
        (&text, "GGUF or safetensors"),
        (&dir.path().join("absent.gguf"), "absent.gguf"),
        (&dir.path().to_path_buf(), "config.json"),
    ] {
        for command in ["inspect", "run", "bench", "tokenize"] {
            let message = autarky(args![command, path]).fails(3);
            assert!(message.contains(path.to_str().unwrap()), "{message}");
            if command == "inspect" && path != dir.path() {
                assert!(message.contains(says), "{message}");
            }
        }
    }
}

#[test]
fn convert_never_replaces_a_file_unasked_nor_leaves_half_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.gguf");
    let (checkpoint, tokenizer) = llama2c();
    fs::write(&out, "precious").unwrap();
    let message = autarky(args!["convert", checkpoint, "--tokenizer", tokenizer, "-o", out]).fails(2);
    assert!(message.contains("--force"), "{message}");
    let message =
        autarky(args!["convert", checkpoint, "--tokenizer", checkpoint, "-o", out, "--force"]).fails(3);
    assert!(message.contains("stories260K.bin"), "{message}");
    assert_eq!(fs::read_to_string(&out).unwrap(), "precious", "a failed conversion changes nothing");
    autarky(args!["convert", checkpoint, "--tokenizer", tokenizer, "-o", out, "--force"]).ok();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left over");
    assert!(
        fs::read(&out).unwrap() == fs::read(stories()).unwrap(),
        "models/stories260k.gguf is what convert makes"
    );
    let message = autarky(args!["convert", checkpoint, "-o", out, "--force"]).fails(2);
    assert!(message.contains("--tokenizer"), "{message}");
}

#[test]
fn folders_convert_to_files_with_the_same_logits() {
    let dir = tempfile::tempdir().unwrap();
    for family in ["llama", "qwen3", "deepseek_v3"] {
        let gguf = dir.path().join(format!("{family}.gguf"));
        let message = autarky(args!["convert", folder(family), "-o", gguf]).fails(3);
        assert!(message.contains("--no-tokenizer"), "{message}");
        let json = autarky(args!["convert", folder(family), "-o", gguf, "--no-tokenizer", "--json"]).json();
        assert!(json["bytes"].as_u64().unwrap() > 0);
        let best = |model| {
            let out = dir.path().join("logits.safetensors");
            autarky(args!["logits", model, "--ids", "1,5,9,13", "-o", out, "--force", "--json"]).json()["best"].take()
        };
        assert_eq!(best(gguf), best(folder(family)), "{family}");
    }
}

#[test]
fn every_type_can_be_quantized_to_and_runs() {
    let dir = tempfile::tempdir().unwrap();
    let types = [
        "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L",
        "q4_k", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "IQ4_NL", "IQ4_XS",
    ];
    for name in types {
        let out = dir.path().join(format!("{name}.gguf"));
        let json = autarky(args!["quantize", stories(), out, "--type", name, "--json"]).json();
        let bits = json["bits_per_weight"].as_f64().unwrap();
        assert!(bits <= 32.0 && bits > 2.0, "{name}: {bits} bits");
        let told = autarky(args!["run", out, "-p", "Once upon a time", "-t", "0", "-n", "8"]).ok();
        assert!(told.starts_with(", there was"), "{name}: {told}");
    }
    let q8 = dir.path().join("Q8_0.gguf");
    let again = dir.path().join("again.gguf");
    let message = autarky(args!["quantize", q8, again, "--type", "Q4_0"]).fails(2);
    assert!(message.contains("--requantize"), "{message}");
    autarky(args!["quantize", q8, again, "--type", "Q4_0", "--requantize"]).ok();
    autarky(args!["quantize", q8, again, "--type", "F32", "--force"]).ok();
    assert!(autarky(args!["quantize", stories(), q8, "--type", "Q8_0"]).fails(2).contains("--force"));
    assert!(autarky(args!["quantize", stories(), q8, "--type", "Q9"]).fails(2).contains("Q4_K_M"));
}

#[test]
fn threads_do_not_change_a_quantized_file() {
    let dir = tempfile::tempdir().unwrap();
    let (one, three) = (dir.path().join("1.gguf"), dir.path().join("3.gguf"));
    autarky(args!["quantize", stories(), one, "--type", "Q4_0", "--threads", "1"]).ok();
    autarky(args!["quantize", stories(), three, "--type", "Q4_0", "--threads", "3"]).ok();
    assert!(fs::read(one).unwrap() == fs::read(three).unwrap());
}
