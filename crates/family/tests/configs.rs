//! Configurations: the same model however it is written, and refusals that name what is wrong.

mod support;

use std::path::Path;

use autarky_family::rope::{RopeScaling, mscale};
use autarky_family::{FamilyError, Model, known_families};
use serde_json::{Value, json};
use support::{fixtures, logits};
use tempfile::TempDir;

/// A fixture with its configuration edited.
fn edited(name: &str, edit: impl FnOnce(&mut Value)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let from = fixtures().join(name);
    std::fs::copy(from.join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    let mut config = serde_json::from_slice(&std::fs::read(from.join("config.json")).unwrap()).unwrap();
    edit(&mut config);
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    folder
}

fn open(folder: impl AsRef<Path>) -> Result<Model, FamilyError> {
    Model::open(folder)
}

fn refusal(folder: &TempDir) -> String {
    open(folder.path()).expect_err("the model is opened").to_string()
}

#[test]
fn both_generations_of_transformers_say_the_same() {
    for name in ["llama3", "llama_linear", "deepseek_v2", "mistral"] {
        let before = open(fixtures().join(name)).unwrap();
        let newer = edited(name, |c| {
            let c = c.as_object_mut().unwrap();
            let theta = c.remove("rope_theta").unwrap();
            let mut scaling = c.remove("rope_scaling").unwrap_or_else(|| json!({"rope_type": "default"}));
            if let Some(kind) = scaling.as_object_mut().unwrap().remove("type") {
                scaling["rope_type"] = kind;
            }
            scaling["rope_theta"] = theta;
            c.insert("rope_parameters".to_owned(), scaling);
        });
        assert_eq!(open(newer.path()).unwrap().config(), before.config(), "{name}");
    }
}

#[test]
fn defaults_are_those_of_transformers() {
    let removed = |name: &str, fields: &[&str]| {
        let folder = edited(name, |c| {
            fields.iter().for_each(|f| drop(c.as_object_mut().unwrap().remove(*f)));
        });
        open(folder.path()).unwrap().config().clone()
    };
    let llama = removed(
        "llama_yarn",
        &["rms_norm_eps", "max_position_embeddings", "tie_word_embeddings", "hidden_act"],
    );
    assert_eq!((llama.norm_epsilon, llama.context, llama.tied), (1e-6, 2048, false));
    let mistral = removed("mistral", &["sliding_window", "rope_theta"]);
    assert_eq!(mistral.windows, [Some(4096); 2]);
    assert_eq!(mistral.rope.base, 10_000.0);
    let mixtral = removed("mixtral", &["rms_norm_eps", "rope_parameters"]);
    assert_eq!((mixtral.norm_epsilon, mixtral.rope.base), (1e-5, 1e6));
}

#[test]
fn yarn_factors_follow_transformers() {
    let yarn = |edit: &dyn Fn(&mut Value)| {
        let folder = edited("llama_yarn", |c| edit(&mut c["rope_parameters"]));
        match open(folder.path()).unwrap().config().rope.scaling {
            RopeScaling::Yarn(yarn) => yarn,
            other => panic!("{other:?}"),
        }
    };
    let implied = yarn(&|_| ());
    assert_eq!(implied.attention_factor, mscale(4.0, 1.0));
    assert_eq!((implied.beta_fast, implied.beta_slow, implied.original), (4.0, 1.0, 32.0));
    assert_eq!(yarn(&|r| r["attention_factor"] = json!(0.7)).attention_factor, 0.7);
    let both = yarn(&|r| {
        r["mscale"] = json!(1.0);
        r["mscale_all_dim"] = json!(0.5);
    });
    assert_eq!(both.attention_factor, mscale(4.0, 1.0) / mscale(4.0, 0.5));
    // Without the other, mscale counts for nothing; without a factor, the contexts' ratio is it.
    assert_eq!(yarn(&|r| r["mscale"] = json!(2.0)).attention_factor, mscale(4.0, 1.0));
    assert_eq!(yarn(&|r| r["factor"] = Value::Null).factor, 2.0);
    // The context before stretching is the trained one, where the file does not say.
    let silent = |r: &mut Value| drop(r.as_object_mut().unwrap().remove("original_max_position_embeddings"));
    assert_eq!(yarn(&silent).original, 64.0);
}

#[test]
fn unknown_families_are_refused_by_name() {
    let said = refusal(&edited("llama", |c| c["model_type"] = json!("perceptron")));
    assert!(said.contains("\"perceptron\" is not known"), "{said}");
    for family in known_families() {
        assert!(said.contains(family), "{said}");
    }
    let said = refusal(&edited("llama", |c| drop(c.as_object_mut().unwrap().remove("model_type"))));
    assert!(said.contains("\"model_type\" is missing"), "{said}");
}

#[test]
fn numbers_that_no_model_has_are_refused_by_field() {
    let cases: [(&str, &str, Value); 30] = [
        ("llama", "hidden_size", json!(0)),
        ("llama", "hidden_size", json!(-16)),
        ("llama", "hidden_size", json!(16.5)),
        ("llama", "hidden_size", json!("16")),
        ("llama", "hidden_size", json!(1u64 << 31)),
        ("llama", "hidden_size", json!(u64::MAX)),
        ("llama", "num_hidden_layers", json!(0)),
        ("llama", "num_hidden_layers", json!(1025)),
        ("llama", "num_hidden_layers", Value::Null),
        ("llama", "num_attention_heads", json!(3)),
        ("llama", "num_attention_heads", json!(1u64 << 63)),
        ("llama", "num_key_value_heads", json!(0)),
        ("llama", "num_key_value_heads", json!(5)),
        ("llama", "vocab_size", json!(0)),
        ("llama", "vocab_size", json!(1u64 << 40)),
        ("llama", "intermediate_size", json!(0)),
        ("llama", "max_position_embeddings", json!(0)),
        ("llama", "head_dim", json!(7)),
        ("llama", "head_dim", json!(1_000_000)),
        ("llama", "rms_norm_eps", json!(-1.0)),
        ("llama", "rope_theta", json!(1.0)),
        ("llama", "rope_theta", json!(1e300)),
        ("llama", "attention_bias", json!("yes")),
        ("mistral", "sliding_window", json!(0)),
        ("mixtral", "num_local_experts", json!(0)),
        ("mixtral", "num_experts_per_tok", json!(5)),
        ("deepseek_v3", "n_group", json!(9)),
        ("deepseek_v3", "topk_group", json!(5)),
        ("deepseek_v3", "kv_lora_rank", json!(0)),
        ("deepseek_v3", "qk_rope_head_dim", json!(3)),
    ];
    for (name, field, value) in cases {
        let folder = edited(name, |c| c[field] = value.clone());
        let said = refusal(&folder);
        // An odd head is told by the width that turns.
        let field = if field == "qk_rope_head_dim" { "head_dim" } else { field };
        assert!(
            said.contains(&format!("\"{field}\"")) && said.contains("config.json"),
            "{field} {value}: {said}"
        );
    }
}

#[test]
fn what_is_not_computed_is_refused_by_name() {
    type Edit = fn(&mut Value);
    let cases: [(&str, Edit, &str); 8] = [
        ("llama_yarn", |c| c["rope_parameters"]["rope_type"] = json!("longrope"), "\"longrope\""),
        ("llama_linear", |c| c["rope_scaling"]["type"] = json!("dynamic"), "\"dynamic\""),
        ("llama_yarn", |c| c["rope_parameters"]["full_attention"] = json!({}), "layer to layer"),
        ("llama", |c| c["hidden_act"] = json!("snake"), "\"snake\""),
        ("llama", |c| c["quantization_config"] = json!({"quant_method": "gptq"}), "\"gptq\""),
        ("deepseek_v3", |c| c["topk_method"] = json!("random"), "\"random\""),
        ("deepseek_v2", |c| c["norm_topk_prob"] = json!(true), "norm_topk_prob"),
        ("deepseek_v2", |c| c["attention_bias"] = json!(true), "attention_bias"),
    ];
    for (name, edit, what) in cases {
        let said = refusal(&edited(name, edit));
        assert!(said.contains(what) && said.contains("not supported"), "{said}");
    }
}

#[test]
fn a_configuration_that_is_none_is_refused() {
    let folder = edited("llama", |_| ());
    let config = folder.path().join("config.json");
    for (text, what) in
        [("", "EOF"), ("[]", "something else"), ("{\"model_type\": ", "EOF"), ("\u{1}", "expected")]
    {
        std::fs::write(&config, text).unwrap();
        assert!(refusal(&folder).contains(what), "{}", refusal(&folder));
    }
    std::fs::write(&config, "[".repeat(100_000)).unwrap();
    assert!(refusal(&folder).contains("recursion"), "{}", refusal(&folder));
    std::fs::write(&config, vec![b' '; 2 << 20]).unwrap();
    assert!(refusal(&folder).contains("regular file of at most"), "{}", refusal(&folder));
    std::fs::remove_file(&config).unwrap();
    assert!(refusal(&folder).contains("config.json"), "{}", refusal(&folder));
    std::fs::create_dir(&config).unwrap();
    assert!(refusal(&folder).contains("regular file"), "{}", refusal(&folder));
}

#[test]
fn no_value_in_any_field_breaks_opening() {
    let hostile = [
        json!(0),
        json!(1),
        json!(1u64 << 31),
        json!(u64::MAX),
        json!(-1),
        json!(1e-300),
        json!("x"),
        json!([]),
        json!([1, 2]),
        json!({}),
        json!(true),
        Value::Null,
    ];
    for name in
        ["llama3", "llama_yarn", "mistral", "mixtral", "qwen2", "qwen3_moe", "deepseek_v2", "deepseek_v3"]
    {
        let config: Value =
            serde_json::from_slice(&std::fs::read(fixtures().join(name).join("config.json")).unwrap())
                .unwrap();
        let mut places: Vec<String> = Vec::new();
        for (field, value) in config.as_object().unwrap() {
            places.push(format!("/{field}"));
            places.extend(
                value.as_object().into_iter().flatten().map(|(inner, _)| format!("/{field}/{inner}")),
            );
        }
        let folder = edited(name, |_| ());
        for place in places {
            for value in &hostile {
                let mut config = config.clone();
                *config.pointer_mut(&place).unwrap() = value.clone();
                std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
                match open(folder.path()) {
                    // What is opened can also be compiled and run.
                    Ok(model) => assert_eq!(logits(&model, &[1, 2, 3]).len(), 3 * 40),
                    Err(e) => assert!(!e.to_string().is_empty()),
                }
            }
        }
    }
}
