//! Files made large to cost much: what is wrong with them stands at the end.

use autarky_format::gguf::{Array, StrArray, Value};

use crate::cases::{Case, Each, Expect, gguf_model};
use crate::models::{TOKENIZER_JSON, dense};

/// Every case of this module.
pub(crate) fn each(each: &mut Each<'_>) {
    let strings = |s: StrArray| Value::Array(Array::Str(s));
    for count in [100_000, 300_000, 1_000_000, 2_000_000] {
        let tokens: StrArray = (0..count).map(|i| format!("{i:x}")).chain(["0".to_owned()]).collect();
        let what = format!("{count} tokens, the last a second time");
        let model = dense().with("tokenizer.ggml.tokens", strings(tokens));
        let numbers = |x: f32| Value::Array(Array::F32(vec![x; count + 1]));
        let types = Value::Array(Array::I32(vec![1; count + 1]));
        let model =
            model.with("tokenizer.ggml.scores", numbers(0.0)).with("tokenizer.ggml.token_type", types);
        each(gguf_model(what, &model, Expect::Any));
        let bpe = model.clone().with("tokenizer.ggml.model", "gpt2");
        each(gguf_model(format!("{count} tokens of BPE, the last a second time"), &bpe, Expect::Any));
        let merges: StrArray = std::iter::repeat_n("a b", count).chain(["q r"]).collect();
        let bpe = dense().with("tokenizer.ggml.model", "gpt2").with("tokenizer.ggml.merges", strings(merges));
        each(gguf_model(format!("{count} merges, the last of unknown tokens"), &bpe, Expect::Any));
    }
    for megabytes in [1, 4, 16] {
        let vocabulary: Vec<String> = (0..megabytes * 60_000).map(|i| format!("\"{i:09}\": {i}")).collect();
        let text = TOKENIZER_JSON.replace("\"<s>\": 0", &format!("{}, \"<s>\": 0", vocabulary.join(", ")));
        let file = vec![("tokenizer.json", Some(text.clone().into_bytes()))];
        each(Case { what: format!("tokenizer.json of {megabytes} MB"), files: file, expect: Expect::Any });
        let file = vec![("tokenizer.json", Some(text.trim_end().trim_end_matches('}').into()))];
        each(Case {
            what: format!("tokenizer.json of {megabytes} MB, cut"),
            files: file,
            expect: Expect::Any,
        });
        let deep = "[".repeat(megabytes << 20);
        let file = vec![("tokenizer.json", Some(deep.into_bytes()))];
        each(Case {
            what: format!("tokenizer.json of {megabytes} MB of brackets"),
            files: file,
            expect: Expect::Any,
        });
        let flat = format!("{{\"added_tokens\": [], \"normalizer\": [{}0]", "0,".repeat(megabytes << 19));
        let file = vec![("tokenizer.json", Some(flat.into_bytes()))];
        each(Case {
            what: format!("tokenizer.json of {megabytes} MB of numbers"),
            files: file,
            expect: Expect::Any,
        });
    }
    for field in ["x", "mlp_only_layers", "layer_types"] {
        let text =
            format!("{{\"model_type\": \"qwen3_moe\", \"{field}\": [{}0]}}", "0,".repeat(262_000 - 60));
        let file = vec![("config.json", Some(text.into_bytes()))];
        each(Case {
            what: format!("config.json as long as may be, {field}"),
            files: file,
            expect: Expect::Any,
        });
    }
    let text = "a {{ 1 }}".repeat((1 << 18) / 9);
    each(gguf_model(
        "a template as long as may be",
        &dense().with("tokenizer.chat_template", text),
        Expect::Any,
    ));
    let text = "{% for i in range(99999) %}{{ i }}{% endfor %}".to_owned();
    each(gguf_model(
        "a template that stops at its limit",
        &dense().with("tokenizer.chat_template", text),
        Expect::Any,
    ));
}
