//! Models from graphs, from published sizes and from paths agree.

use std::fs;
use std::path::{Path, PathBuf};

use autarky_plan::model::{Model, OpenError, Shape};
use serde_json::Value;

fn tree(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn open(path: &Path) -> Model {
    Model::open(path.to_str().expect("a path of UTF-8")).expect("a model")
}

/// The sizes that a model card gives of the model in a `config.json`.
fn shape(config: &Path) -> Shape {
    let json: Value = serde_json::from_slice(&fs::read(config).expect("a file")).expect("JSON");
    let number = |names: &[&str]| names.iter().find_map(|n| json[n].as_f64()).filter(|x| *x > 0.0);
    Shape {
        hidden: number(&["hidden_size"]),
        layers: number(&["num_hidden_layers"]),
        heads: number(&["num_attention_heads"]),
        kv_heads: number(&["num_key_value_heads"]),
        head_dim: number(&["head_dim"]),
        ffn: number(&["intermediate_size"]),
        vocab: number(&["vocab_size"]),
        experts: number(&["num_experts", "n_routed_experts", "num_local_experts"]),
        topk: number(&["num_experts_per_tok"]),
        moe_ffn: number(&["moe_intermediate_size", "intermediate_size"]),
        shared_experts_or_ffn: number(&["n_shared_experts"]),
        attention: json["kv_lora_rank"].as_f64().map(|_| "MLA".to_owned()),
        kv_lora_rank: number(&["kv_lora_rank"]),
        q_lora_rank: number(&["q_lora_rank"]),
        first_k_dense: number(&["first_k_dense_replace"])
            .or(json["mlp_only_layers"].as_array().map(|layers| layers.len() as f64)),
        ..Shape::default()
    }
}

/// Weights, weights that a token meets, cache and operations of attention within 1 %.
fn agree(of_graph: &Model, of_shape: &Model, file: &Path) {
    let what = file.display();
    // Norms and biases, which published sizes do not count: nothing in a model, and 6 % in one of width 16.
    let graph = autarky_family::outline(file).expect("an outline").graph;
    let vectors: usize = graph.weights().iter().filter(|w| w.shape.len() == 1).map(|w| w.shape[0]).sum();
    // A tied table is stored once; published sizes do not say which models have one.
    let twice = if of_graph.embedding == 0.0 { of_shape.embedding } else { 0.0 };
    for context in [128.0, 8192.0] {
        let pairs = [
            ("total", of_graph.total() - vectors as f64, of_shape.total() - twice),
            ("active", of_graph.active() - vectors as f64, of_shape.active()),
            ("cache", of_graph.cache(context), of_shape.cache(context)),
            ("decoding", of_graph.attention_flops(context, true), of_shape.attention_flops(context, true)),
            ("prefill", of_graph.attention_flops(context, false), of_shape.attention_flops(context, false)),
        ];
        for (figure, a, b) in pairs {
            assert!(
                (a / b - 1.0).abs() < 0.01,
                "{what}: {figure} at {context}: {a} of the graph, {b} of sizes"
            );
        }
    }
    assert_eq!(of_graph.kv_heads, of_shape.kv_heads, "{what}");
}

#[test]
fn published_sizes_say_what_graphs_do() {
    for (name, billions) in [
        ("llama-3-8b", 8.03),
        ("qwen3-8b", 8.19),
        ("qwen3-30b-a3b", 30.5),
        ("mixtral-8x7b", 46.7),
        ("deepseek-v3", 671.0),
    ] {
        let file = tree(&format!("crates/plan/tests/data/configs/{name}.json"));
        let model = open(&file);
        assert!((model.total() / 1e9 / billions - 1.0).abs() < 0.005, "{name}: {}", model.total());
        agree(&model, &Model::from_shape(&shape(&file)).expect("sizes"), &file);
    }
}

#[test]
fn checkpoints_of_the_tree_agree_too() {
    // Tiny latent heads and windows are nothing that a model card tells.
    for family in ["llama", "llama3", "mixtral", "qwen2", "qwen3", "qwen3_moe"] {
        let folder = tree(&format!("crates/family/tests/fixtures/{family}"));
        let file = folder.join("config.json");
        let (by_folder, by_file) = (open(&folder), open(&file));
        assert_eq!(by_folder, by_file);
        let json: Value = serde_json::from_slice(&fs::read(&file).expect("a file")).expect("JSON");
        if json["sliding_window"].is_null() {
            agree(&by_folder, &Model::from_shape(&shape(&file)).expect("sizes"), &file);
        }
    }
}

#[test]
fn a_gguf_file_is_what_its_folder_is() {
    let model = open(&tree("models/stories260k.gguf"));
    assert_eq!((model.name.as_str(), model.width, model.layers), ("stories260k", 64.0, 5.0));
    assert!((model.total() / 260e3 - 1.0).abs() < 0.1, "{}", model.total());
}

#[test]
fn a_family_that_is_not_known_is_summed_from_its_sizes() {
    let model = open(&tree("crates/plan/tests/data/configs/gpt-oss-20b.json"));
    assert!(model.assumed.iter().any(|a| a.contains("not known")), "{:?}", model.assumed);
    assert!((model.total() / 20.9e9 - 1.0).abs() < 0.03, "{}", model.total());
    assert!(model.attention.iter().any(|a| a.window == Some(128.0)));
}

#[test]
fn errors_say_what_is_near_and_what_is_missing() {
    let error = Model::open("qwen3-8c").expect_err("no model");
    assert!(
        matches!(&error, OpenError::Unknown(e) if e.nearest.iter().any(|n| n.contains("Qwen3-8B"))),
        "{error}"
    );
    assert!(Model::open("/no/such/config.json").expect_err("no file").to_string().contains("config.json"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config.json");
    for (text, word) in
        [("[1]", "JSON object"), ("{\"model_type\":\"new\",\"hidden_size\":64}", "layers"), ("{", "JSON")]
    {
        fs::write(&file, text).expect("a file");
        let error = Model::open(file.to_str().expect("UTF-8")).expect_err("no model").to_string();
        assert!(error.contains(word), "{error}");
    }
}

/// Checkpoints with few bits an expert keep the rest wider: gpt-oss-120b is 60.8 GiB (arXiv:2508.10925, table 1).
#[test]
fn experts_alone_have_few_bits() {
    let format = autarky_plan::predict::Format::named("fp4w").expect("a format");
    let sparse = Model::open("openai/gpt-oss-120b").expect("a model");
    let gib = format.model_bytes(&sparse) / f64::from(1u32 << 30);
    assert!((gib / 60.8 - 1.0).abs() < 0.06, "{gib} GiB");
    assert_eq!(format.outside_bits(&sparse), 16.0);
    let dense = Model::open("Qwen/Qwen3-32B").expect("a model");
    assert_eq!(format.outside_bits(&dense), format.weight_bits);
    assert_eq!(format.model_bytes(&dense), dense.total() * format.weight_bytes());
}
