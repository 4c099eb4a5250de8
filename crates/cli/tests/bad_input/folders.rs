//! Hugging Face folders, each file of them damaged.

use crate::cases::{Case, Each, Expect, folder, refused};
use crate::damage::EVIL;
use crate::models::{HF_CONFIG, Tensor, hf_tensors, safetensors_bytes};
use autarky_quant::DType;

/// Every case of this module.
pub(crate) fn each(each: &mut Each<'_>) {
    each(case("a folder as it should be", "config.json", HF_CONFIG.into(), Expect::Accepted));
    cuts(each);
    absent(each);
    sizes(each);
    texts(each);
    header(each);
    tensors(each);
}

fn case(what: impl Into<String>, file: &'static str, bytes: Vec<u8>, expect: Expect) -> Case {
    Case { what: what.into(), files: vec![(file, Some(bytes))], expect }
}

/// Every file cut at every byte.
fn cuts(each: &mut Each<'_>) {
    for (file, bytes) in folder() {
        // The last byte of text may be a line break.
        for length in 0..bytes.trim_ascii_end().len() {
            let what = format!("{file} cut at byte {length}");
            each(case(what, file, bytes[..length].to_vec(), refused([file])));
        }
    }
}

fn absent(each: &mut Each<'_>) {
    for (file, optional) in [
        ("config.json", false),
        ("model.safetensors", false),
        ("tokenizer.json", false),
        ("tokenizer_config.json", true),
    ] {
        let expect = if optional { Expect::Accepted } else { refused([file]) };
        each(Case { what: format!("without {file}"), files: vec![(file, None)], expect });
    }
    for text in
        ["", "null", "[]", "3", "\"x\"", "{}", "{\"model_type\": 3}", "\u{feff}{}", "{\"a\":1,\"a\":2}"]
    {
        for file in ["config.json", "tokenizer.json"] {
            each(case(format!("{file}: {text:?}"), file, text.into(), refused([file])));
        }
    }
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        for (what, text) in [
            ("nested", "[".repeat(200_000)),
            ("nested objects", "{\"a\":".repeat(100_000)),
            ("not UTF-8", "\u{1}".to_owned()),
        ] {
            let mut bytes = text.into_bytes();
            if what == "not UTF-8" {
                bytes = b"{\"model_type\": \"\xff\"}".to_vec();
            }
            each(case(format!("{file} {what}"), file, bytes, refused([file])));
        }
    }
    let long = format!("{{\"model_type\": \"llama\", \"x\": \"{}\"}}", "x".repeat(2 << 20));
    each(case("config.json of 2 MiB", "config.json", long.into(), refused(["config.json"])));
}

/// The configuration with one field as given.
fn with(field: &str, value: &str) -> Vec<u8> {
    let mut object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(HF_CONFIG).expect("JSON");
    let (outer, inner) = field.split_once('.').unwrap_or((field, ""));
    // A number that no type of this program holds is kept by a placeholder.
    let mark = "@@value@@";
    let place = serde_json::Value::String(mark.to_owned());
    match (inner, object.get_mut(outer)) {
        ("", _) => drop(object.insert(outer.to_owned(), place)),
        (_, Some(serde_json::Value::Object(section))) => drop(section.insert(inner.to_owned(), place)),
        _ => panic!("{field} is not in the configuration"),
    }
    let text = serde_json::to_string(&object).expect("JSON");
    text.replace(&format!("\"{mark}\""), value).into_bytes()
}

/// Numbers of the configuration set to what no model has.
fn sizes(each: &mut Each<'_>) {
    let wholes = [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "vocab_size",
        "max_position_embeddings",
    ];
    let reals = [
        "rms_norm_eps",
        "rope_theta",
        "rope_scaling.factor",
        "rope_scaling.original_max_position_embeddings",
    ];
    for field in wholes {
        let name = field.rsplit('.').next().unwrap_or(field);
        for value in [
            "0",
            "-1",
            "0.5",
            "1e308",
            "1e999",
            "2147483648",
            "4294967295",
            "9223372036854775808",
            "18446744073709551615",
            "340282366920938463463374607431768211456",
            "\"8\"",
            "true",
            "[8, 9]",
            "{}",
        ] {
            let expect = match value {
                // No JSON number is infinite; the parser says where.
                "1e999" => refused(["config.json"]),
                _ => refused([name]),
            };
            each(case(format!("{field} = {value}"), "config.json", with(field, value), expect));
        }
        for value in ["null", "1", "3", "5", "7", "4097", "100000"] {
            each(case(format!("{field} = {value}"), "config.json", with(field, value), Expect::Any));
        }
    }
    for field in reals {
        let name = field.rsplit('.').next().unwrap_or(field);
        for value in ["-1", "1e300", "\"1\"", "[1]", "{}", "true"] {
            each(case(format!("{field} = {value}"), "config.json", with(field, value), refused([name])));
        }
    }
    for (field, value) in [
        ("vocab_size", "2147483648"),
        ("max_position_embeddings", "9223372036854775808"),
        ("num_hidden_layers", "1048576"),
    ] {
        each(case(format!("huge {field}"), "config.json", with(field, value), refused([field, value])));
    }
    // Many values: what is made of them must not grow with their number squared.
    let many = "0,".repeat(250_000);
    for (field, model_type) in [("mlp_only_layers", "qwen3_moe"), ("layer_types", "qwen2"), ("x", "llama")] {
        let text = String::from_utf8(with("model_type", &format!("\"{model_type}\""))).expect("text");
        let text = text.replacen('{', &format!("{{\"use_sliding_window\": true, \"{field}\": [{many}0],"), 1);
        each(case(format!("{field} of 250001 numbers"), "config.json", text.into(), Expect::Any));
    }
}

fn texts(each: &mut Each<'_>) {
    for (field, value, words) in [
        ("model_type", "\"gpt5\"", &["gpt5", "llama"][..]),
        ("model_type", "null", &["model_type"]),
        ("model_type", "[]", &["model_type"]),
        ("hidden_act", "\"spiral\"", &["spiral", "silu"]),
        ("hidden_act", "1", &["hidden_act"]),
        ("rope_scaling", "3", &["rope_scaling"]),
        ("rope_scaling.rope_type", "\"spiral\"", &["spiral", "yarn"]),
        ("rope_scaling.rope_type", "0", &["rope_type"]),
        ("tie_word_embeddings", "\"yes\"", &["tie_word_embeddings"]),
        ("tie_word_embeddings", "false", &["lm_head.weight", "missing"]),
        ("attention_bias", "true", &["bias", "missing"]),
        ("mlp_bias", "true", &["bias", "missing"]),
        ("quantization_config", "{\"quant_method\": \"awq\"}", &["awq"]),
    ] {
        each(case(
            format!("{field} = {value}"),
            "config.json",
            with(field, value),
            refused(words.iter().copied()),
        ));
    }
}

/// `model.safetensors`: every number of the header, its length, and element types.
fn header(each: &mut Each<'_>) {
    let file = "model.safetensors";
    let good = safetensors_bytes(&hf_tensors()).expect("a valid file");
    for value in EVIL {
        let mut bytes = good.clone();
        bytes[..8].copy_from_slice(&value.to_le_bytes());
        each(case(format!("header of {value:#x} bytes"), file, bytes, refused([file, ", byte "])));
    }
    let length = u64::from_le_bytes(good[..8].try_into().expect("8 bytes")) as usize;
    let header = std::str::from_utf8(&good[8..8 + length]).expect("a valid file");
    let build = |header: &str| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&good[8 + length..]);
        bytes
    };
    let mut from = 0;
    while let Some(start) = header[from..].find(|c: char| c.is_ascii_digit()).map(|i| i + from) {
        let end = header[start..].find(|c: char| !c.is_ascii_digit()).map_or(header.len(), |i| i + start);
        from = end;
        // Digits of names stand after a dot or in "F32".
        if !header[..start].ends_with(['[', ',']) {
            continue;
        }
        for value in [
            "0",
            "1",
            "2147483648",
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "-1",
            "1.5",
            "1e3",
            "null",
            "[]",
            "\"4\"",
        ] {
            if value == &header[start..end] {
                continue;
            }
            let changed = format!("{}{value}{}", &header[..start], &header[end..]);
            let what = format!("{value} for the number at {start} of the header");
            each(case(what, file, build(&changed), refused([file])));
        }
    }
    for dtype in ["F64", "F16", "I64", "BOOL", "F8_E4M3", "F33", "", "f32"] {
        let changed = header.replacen("\"F32\"", &format!("\"{dtype}\""), 1);
        each(case(format!("a tensor of {dtype:?}"), file, build(&changed), refused([file])));
    }
    let twice = header.replacen("k_proj", "q_proj", 1);
    each(case("a tensor twice", file, build(&twice), refused([file, "second time", ", byte "])));
}

fn tensors(each: &mut Each<'_>) {
    let file = "model.safetensors";
    let all = hf_tensors();
    let written = |tensors: &[Tensor]| safetensors_bytes(tensors).expect("a file that can be written");
    for (i, tensor) in all.iter().enumerate() {
        let mut without = all.clone();
        without.remove(i);
        each(case(
            format!("without {}", tensor.name),
            file,
            written(&without),
            refused([&*tensor.name, "missing"]),
        ));
        for shape in [
            vec![tensor.shape.iter().product()],
            [&[1], &*tensor.shape].concat(),
            vec![],
            vec![0, 8],
            tensor.shape.iter().map(|n| n + 1).collect(),
        ] {
            if shape == tensor.shape {
                continue;
            }
            let mut other = all.clone();
            // An empty shape is one number.
            let elements = shape.iter().product::<usize>();
            other[i] = Tensor {
                shape: shape.clone(),
                data: vec![0; 4 * elements],
                dtype: DType::F32,
                name: tensor.name.clone(),
            };
            each(case(
                format!("{} of shape {shape:?}", tensor.name),
                file,
                written(&other),
                refused([&*tensor.name]),
            ));
        }
    }
    let mut more = all.clone();
    more.push(Tensor::new("model.layers.0.self_attn.sinks", DType::F32, &[2]));
    each(case("a tensor without a place", file, written(&more), refused(["self_attn.sinks", "no place"])));
}
