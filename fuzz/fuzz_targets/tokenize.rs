//! Texts, through tokenizers of every form: byte-level ones give the text back, and no text takes long.
#![no_main]

use std::sync::LazyLock;

use autarky_fuzz::bounded;
use autarky_text::{EncodeOptions, HuggingFaceFiles, Spec, Tokenizer};
use libfuzzer_sys::fuzz_target;

/// A tokenizer, and whether what it encodes decodes to the same.
static TOKENIZERS: LazyLock<Vec<(Tokenizer, bool)>> = LazyLock::new(|| {
    macro_rules! tokenizer {
        ($name:literal, $exact:literal) => {
            (
                load(include_str!(concat!("../../crates/text/tests/fixtures/tokenizers/", $name, ".json"))),
                $exact,
            )
        };
    }
    vec![
        tokenizer!("llama3", true),
        tokenizer!("tekken", true),
        tokenizer!("deepseek_v3", true),
        tokenizer!("deepseek_coder", true),
        tokenizer!("qwen2", false),
        tokenizer!("llama2", false),
        tokenizer!("mistral", false),
        tokenizer!("unigram", false),
        tokenizer!("bert_uncased", false),
    ]
});

fn load(tokenizer: &str) -> Tokenizer {
    let files = HuggingFaceFiles { tokenizer: tokenizer.to_owned(), ..HuggingFaceFiles::default() };
    Tokenizer::new(&Spec::from_hugging_face_files(&files).expect("a fixture is read"))
        .expect("a fixture is sound")
}

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    for (tokenizer, exact) in TOKENIZERS.iter() {
        bounded(|| {
            for parse_special in [false, true] {
                let options = EncodeOptions { add_special: false, parse_special };
                let Ok(ids) = tokenizer.encode(&text, options) else { continue };
                let back = tokenizer.decode(&ids, false).expect("ids of the vocabulary");
                assert!(!exact || back == text, "{text:?} came back as {back:?}");
            }
        });
    }
});
