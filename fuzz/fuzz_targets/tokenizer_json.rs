//! Tokenizers from Hugging Face files: whatever they say, a tokenizer that keeps its promises or a typed error.
//!
//! An input is `tokenizer.json`, then optionally a NUL and `tokenizer_config.json`.
#![no_main]

use autarky_format::gguf::Metadata;
use autarky_fuzz::bounded;
use autarky_text::{EncodeOptions, HuggingFaceFiles, Spec, Tokenizer};
use libfuzzer_sys::fuzz_target;

const TEXTS: [&str; 4] = [
    "Hello  world's 123\r\n\t",
    "<s>▁a</s> é 中文 🦙",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\0\u{fffd}",
];

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let (tokenizer, config) = text.split_once('\0').unwrap_or((&text, ""));
    bounded(|| {
        let files = HuggingFaceFiles {
            tokenizer: tokenizer.to_owned(),
            tokenizer_config: Some(config.to_owned()).filter(|config| !config.is_empty()),
            ..HuggingFaceFiles::default()
        };
        let Ok(spec) = Spec::from_hugging_face_files(&files) else { return };
        if let Ok(tokenizer) = Tokenizer::new(&spec) {
            check(&tokenizer);
        }
        let mut metadata = Metadata::new();
        if spec.to_gguf(&mut metadata).is_ok() {
            let again = Spec::from_gguf(&metadata).expect("what was written is read");
            if let Ok(tokenizer) = Tokenizer::new(&again) {
                check(&tokenizer);
            }
        }
    });
});

/// Ids are of the vocabulary, and their chunks are the whole text.
fn check(tokenizer: &Tokenizer) {
    for text in TEXTS {
        for (add_special, parse_special) in [(false, false), (true, true)] {
            let Ok(ids) = tokenizer.encode(text, EncodeOptions { add_special, parse_special }) else {
                continue;
            };
            let whole = tokenizer.decode(&ids, false).expect("ids of the vocabulary");
            let mut decoder = tokenizer.decoder().skip_special(false);
            let mut chunks = String::new();
            for id in ids {
                chunks.push_str(&decoder.push(id).expect("ids of the vocabulary").unwrap_or_default());
            }
            chunks.push_str(&decoder.flush().unwrap_or_default());
            assert_eq!(chunks, whole);
        }
    }
}
