//! llama.cpp's vocabularies and test vectors: real tokenizers must give exactly these ids.

use std::path::PathBuf;

use autarky_format::gguf;
use autarky_text::{ChatTemplate, EncodeOptions, Message, RenderOptions, Tokenizer};

/// The shared test data, if this checkout has it beside it.
fn vocabularies() -> Option<PathBuf> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vocab"));
    folder.is_dir().then_some(folder)
}

/// The cases of a pair of `.inp` and `.out` files: text and ids.
fn cases(inputs: &str, outputs: &str) -> Vec<(String, Vec<u32>)> {
    let mut texts: Vec<&str> = inputs.split("\n__ggml_vocab_test__\n").collect();
    let ids: Vec<Vec<u32>> =
        outputs.lines().map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect()).collect();
    // The separator ends a case, so nothing stands behind the last one.
    if texts.len() == ids.len() + 1 && texts.last() == Some(&"") {
        texts.pop();
    }
    assert_eq!(texts.len(), ids.len(), "as many texts as lines of ids");
    texts.into_iter().map(str::to_owned).zip(ids).collect()
}

#[test]
fn every_vocabulary_gives_the_published_ids() {
    let Some(folder) = vocabularies() else { return };
    let mut seen = 0;
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "gguf") {
            continue;
        }
        let file = gguf::File::open(&path).unwrap();
        let tokenizer = Tokenizer::from_gguf(file.metadata()).unwrap();
        let read = |suffix: &str| std::fs::read_to_string(format!("{}{suffix}", path.display())).unwrap();
        for (text, expected) in cases(&read(".inp"), &read(".out")) {
            let ids = tokenizer.encode(&text, EncodeOptions::default()).unwrap();
            if ids != expected {
                wrong.push(format!(
                    "{}: {text:?}\n  ours     {ids:?}\n  expected {expected:?}",
                    path.display()
                ));
            }
            seen += 1;
        }
    }
    assert!(wrong.is_empty(), "{} of {seen} cases differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(seen > 200, "only {seen} cases found");
}

#[test]
fn a_models_own_template_is_encoded_with_its_control_tokens() {
    let Some(folder) = vocabularies() else { return };
    let file = gguf::File::open(folder.join("ggml-vocab-qwen2.gguf")).unwrap();
    let tokenizer = Tokenizer::from_gguf(file.metadata()).unwrap();
    let template = ChatTemplate::new(tokenizer.chat_template().unwrap()).unwrap();
    let text =
        template.render(&[Message::new("user", "Hi")], &RenderOptions::for_generation(&tokenizer)).unwrap();
    let ids = tokenizer.encode(&text, EncodeOptions { add_special: false, parse_special: true }).unwrap();
    let (start, end) =
        (tokenizer.special_id("<|im_start|>").unwrap(), tokenizer.special_id("<|im_end|>").unwrap());
    assert_eq!(ids.iter().filter(|&&id| id == start).count(), 3, "{text}");
    assert_eq!(ids.iter().filter(|&&id| id == end).count(), 2, "{text}");
    assert!(tokenizer.is_eog(end) && !tokenizer.is_eog(start));
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
}
