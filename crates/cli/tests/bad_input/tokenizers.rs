//! GGUF files whose tokenizer or chat template is wrong.

use autarky_format::gguf::{Array, StrArray, Value};

use crate::cases::{Each, Expect, gguf_model, refused, refused_for};
use crate::models::dense;

/// Every case of this module.
pub(crate) fn each(each: &mut Each<'_>) {
    let model = dense();
    for (key, value) in model.metadata.iter().filter(|(k, _)| k.starts_with("tokenizer.ggml.")) {
        let short = key.trim_start_matches("tokenizer.ggml.");
        for wrong in [
            Value::U32(7),
            Value::I64(-7),
            Value::F64(f64::NAN),
            Value::Str("?".into()),
            Value::Array(Array::U8(vec![])),
            Value::Array(Array::F32(vec![f32::NAN; 16])),
            Value::Array(Array::Array(vec![])),
            Value::Array(Array::Str(std::iter::empty::<&str>().collect())),
        ] {
            let same = wrong.value_type() == value.value_type();
            let is_id = short.ends_with("_id");
            let what = format!("{key} = {wrong} ({})", wrong.value_type().name());
            let expect = match (&wrong, same || is_id) {
                (Value::Array(_), _) | (_, true) => Expect::Any,
                _ => refused([key]),
            };
            each(gguf_model(what, &model.clone().with(key, wrong), expect));
        }
    }
    vocabularies(each);
    merges(each);
    templates(each);
}

fn vocabularies(each: &mut Each<'_>) {
    let mut with = |what: &str, key: &str, value: Value, expect| {
        each(gguf_model(what, &dense().with(&format!("tokenizer.ggml.{key}"), value), expect));
    };
    let strings = |s: &[&str]| Value::Array(Array::Str(s.iter().copied().collect()));
    with("no tokens", "tokens", strings(&[]), refused(["vocabulary"]));
    with("fewer tokens than types", "tokens", strings(&["a", "b"]), refused_for(["token_type", "scores"]));
    with("a token twice", "tokens", strings(&["a"; 16]), refused_for(["duplicate", "twice"]));
    with(
        "scores of another length",
        "scores",
        Value::Array(Array::F32(vec![0.0; 3])),
        refused(["scores", "3"]),
    );
    with(
        "types of another length",
        "token_type",
        Value::Array(Array::I32(vec![1; 17])),
        refused(["token_type", "17"]),
    );
    with("types that are none", "token_type", Value::Array(Array::I32(vec![i32::MIN; 16])), Expect::Any);
    with("scores that are none", "scores", Value::Array(Array::F32(vec![f32::NAN; 16])), refused(["score"]));
    with("scores without bound", "scores", Value::Array(Array::F32(vec![f32::INFINITY; 16])), Expect::Any);
    with("an unknown model", "model", Value::Str("abacus".into()), refused(["abacus", "llama"]));
    for (model, pre) in
        [("gpt2", "abacus"), ("gpt2", "default"), ("t5", "default"), ("bert", "default"), ("llama", "x")]
    {
        let model = dense().with("tokenizer.ggml.model", model).with("tokenizer.ggml.pre", pre);
        each(gguf_model(format!("a vocabulary of another model, {pre}"), &model, Expect::Any));
    }
    for id in [16u32, 17, 1 << 31, u32::MAX - 1] {
        for key in ["bos_token_id", "eos_token_id", "unknown_token_id"] {
            let key = format!("tokenizer.ggml.{key}");
            let what = format!("{key} = {id}, beyond the vocabulary");
            each(gguf_model(what, &dense().with(&key, id), refused([&*id.to_string()])));
        }
    }
    let mut charsmap = dense().with("tokenizer.ggml.model", "t5");
    for map in [vec![0u8; 3], vec![255; 64], vec![4, 0, 0, 0, 1, 2, 3, 4, 5], vec![0, 0, 0, 0x80]] {
        charsmap = charsmap.with("tokenizer.ggml.precompiled_charsmap", Value::Array(Array::U8(map.clone())));
        each(gguf_model(format!("charsmap {map:?}"), &charsmap, Expect::Any));
    }
}

fn merges(each: &mut Each<'_>) {
    let bpe = || dense().with("tokenizer.ggml.model", "gpt2").with("tokenizer.ggml.pre", "default");
    for (what, merge, expect) in [
        ("a merge of one token", "ab", refused(["merge", "0"])),
        ("a merge of nothing", " ", refused(["merge"])),
        ("an empty merge", "", refused(["merge"])),
        ("a merge of unknown tokens", "q r", refused(["merge"])),
        ("a merge into an unknown token", "b a", refused(["merge"])),
        ("a merge of three", "a b c", refused(["merge"])),
    ] {
        let merges: StrArray = [merge].into_iter().collect();
        each(gguf_model(what, &bpe().with("tokenizer.ggml.merges", merges), expect));
    }
}

fn templates(each: &mut Each<'_>) {
    let deep = |open: &str, close: &str, n| format!("{{{{ {}1{} }}}}", open.repeat(n), close.repeat(n));
    let loops = [
        ("a loop without end", "{% for i in range(1000000000) %}{% endfor %}".to_owned()),
        ("loops within loops", "{% for i in range(9999) %}{% for j in range(9999) %}{% for k in range(9999) %}{% endfor %}{% endfor %}{% endfor %}".to_owned()),
        ("a macro that calls itself", "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}".to_owned()),
        ("text that doubles", format!("{{% set x = 'xxxxxxxx' %}}{}", "{% set x = x ~ x %}".repeat(64))),
        ("text times a number", "{{ 'x' * 1000000000000 }}".to_owned()),
        ("a list times a number", "{{ [1, 2] * 1000000000000 }}".to_owned()),
        ("a list that doubles in a loop", "{% set ns = namespace(x=[1]) %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}{% endfor %}".to_owned()),
        ("a power", "{{ 9 ** 9 ** 9 ** 9 }}".to_owned()),
        ("a wide field", "{{ '%1000000000d' % 1 }}{{ 'x'|center(10000000000) }}".to_owned()),
        ("replace that doubles", "{% set ns = namespace(x='aa') %}{% for i in range(100) %}{% set ns.x = ns.x.replace('a', 'aa') %}{% endfor %}".to_owned()),
        ("join that doubles", "{% set ns = namespace(x='aa') %}{% for i in range(100) %}{% set ns.x = [ns.x, ns.x]|join(ns.x) %}{% endfor %}".to_owned()),
    ];
    for (what, source) in loops {
        let model = dense().with("tokenizer.chat_template", source);
        each(gguf_model(format!("template: {what}"), &model, refused(["chat template"])));
    }
    let broken = [
        ("an open block", "{% for m in messages %}".to_owned()),
        ("an open expression", "{{ ".to_owned()),
        ("an open string", "{{ 'abc ".to_owned()),
        ("an open comment", "{# abc".to_owned()),
        ("an unknown statement", "{% import 'x' %}".to_owned()),
        ("brackets in brackets", deep("(", ")", 25_000)),
        ("lists in lists", deep("[", "]", 25_000)),
        ("signs upon signs", deep("-", "", 25_000)),
        ("nots upon nots", deep("not ", "", 25_000)),
        ("ifs in ifs", format!("{}{}", "{% if 1 %}".repeat(12_000), "{% endif %}".repeat(12_000))),
        ("fors in fors", format!("{}{}", "{% for x in [1] %}".repeat(5_000), "{% endfor %}".repeat(5_000))),
        ("a long chain", format!("{{{{ 1{} }}}}", " + 1".repeat(25_000))),
        ("a long chain of attributes", format!("{{{{ messages{} }}}}", ".a".repeat(25_000))),
        ("a long chain of filters", format!("{{{{ messages{} }}}}", "|first".repeat(25_000))),
        ("too long", " ".repeat((1 << 18) + 1)),
        ("a value that is not there", "{{ nothing.at.all }}".to_owned()),
        ("an unknown filter", "{{ 1|explode }}".to_owned()),
        ("division by zero", "{{ 1 / 0 }}{{ 1 // 0 }}{{ 1 % 0 }}".to_owned()),
        ("what it refuses", "{{ raise_exception('not this one') }}".to_owned()),
    ];
    for (what, source) in broken {
        let model = dense().with("tokenizer.chat_template", source);
        each(gguf_model(format!("template: {what}"), &model, refused(["chat template"])));
    }
    for (what, source) in [
        ("nothing", "".to_owned()),
        ("a number beyond counting", "{{ 9223372036854775807 + 1 }}{{ 99999999999999999999 }}".to_owned()),
        (
            "the least number's sign",
            "{{ -(-9223372036854775807 - 1) }}{{ (-9223372036854775807 - 1) // -1 }}".to_owned(),
        ),
        (
            "a slice far out",
            "{{ 'abc'[9223372036854775807:-9223372036854775807:-1] }}{{ messages[99:1:2] }}".to_owned(),
        ),
        (
            "a range backwards",
            "{{ range(9223372036854775807, -9223372036854775807, -9223372036854775807)|list }}".to_owned(),
        ),
        ("a slice without step", "{{ 'abc'[::0] }}".to_owned()),
        ("characters of several bytes", "{{ 'äöü😀'[1:3] }}{{ 'äöü😀'|reverse }}{{ 'ß'|upper }}".to_owned()),
    ] {
        let model = dense().with("tokenizer.chat_template", source);
        each(gguf_model(format!("template: {what}"), &model, Expect::Any));
    }
}
