//! What is wrong with a vocabulary or a text is a typed error that names it; nothing panics or hangs.

use autarky_format::gguf::{Metadata, StrArray};
use autarky_text::{
    EncodeOptions, HuggingFaceFiles, Model, Spec, SpecialIds, TokenType, Tokenizer, TokenizerError,
};

const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };
const PARSED: EncodeOptions = EncodeOptions { add_special: false, parse_special: true };

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

/// A byte-level vocabulary of the letters a to e and a space.
fn bpe(merged: &[&str], merges: &[&str]) -> Spec {
    let mut tokens = strings(&["a", "b", "c", "d", "e", "Ġ"]);
    tokens.extend(strings(merged));
    Spec { pre: Some("gpt-2".into()), tokens, merges: strings(merges), ..Spec::default() }
}

/// A SentencePiece vocabulary with all bytes, `▁`, `a` and pairs of `a`.
fn sentencepiece() -> Spec {
    let mut tokens = strings(&["<unk>", "<s>", "</s>"]);
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(strings(&["▁", "a", "aa", "aaaa", "▁a", "<extra>"]));
    let mut token_types = vec![TokenType::Unknown, TokenType::Control, TokenType::Control];
    token_types.extend([TokenType::Byte; 256]);
    token_types.extend([TokenType::Normal; 5]);
    token_types.push(TokenType::UserDefined);
    let scores = (0..tokens.len()).map(|id| -(id as f32)).collect();
    let special = SpecialIds { unk: Some(0), bos: Some(1), eos: Some(2), ..SpecialIds::default() };
    Spec { model: Model::SentencePiece, tokens, token_types, scores, special, ..Spec::default() }
}

fn error(spec: &Spec) -> TokenizerError {
    Tokenizer::new(spec).expect_err("a malformed vocabulary")
}

#[test]
fn malformed_vocabularies_are_named() {
    assert!(matches!(error(&Spec::default()), TokenizerError::EmptyVocabulary));
    let twice = bpe(&["a"], &[]);
    assert!(
        matches!(error(&twice), TokenizerError::DuplicateToken { text, first: 0, second: 6 } if text == "a")
    );
    let unknown_pre = Spec { pre: Some("nonsense".into()), ..bpe(&[], &[]) };
    let message = error(&unknown_pre).to_string();
    assert!(
        message.contains("`nonsense`") && message.contains("llama-bpe") && message.contains("qwen2"),
        "{message}"
    );
    for (merges, expected) in [(&["a b"][..], "ab"), (&["a z"], "az"), (&["z a"], "za")] {
        let error = error(&bpe(&[], merges));
        assert!(
            matches!(&error, TokenizerError::UnknownMergeToken { index: 0, token } if token == expected),
            "{error}"
        );
    }
    for merge in ["", " ", "a", "a ", " a", "ab"] {
        let error = error(&bpe(&["ab"], &["a b", merge]));
        assert!(matches!(error, TokenizerError::MalformedMerge { index: 1, .. }), "{merge:?}: {error}");
    }
    let short_types = Spec { token_types: vec![TokenType::Normal], ..bpe(&[], &[]) };
    assert!(matches!(
        error(&short_types),
        TokenizerError::LengthMismatch { field: "token_type", expected: 6, found: 1 }
    ));
    let long_scores = Spec { scores: vec![0.0; 7], ..bpe(&[], &[]) };
    assert!(matches!(
        error(&long_scores),
        TokenizerError::LengthMismatch { field: "scores", expected: 6, found: 7 }
    ));
    let no_number = Spec { scores: vec![0.0, 0.0, f32::NAN, 0.0, 0.0, 0.0], ..bpe(&[], &[]) };
    assert!(matches!(error(&no_number), TokenizerError::ScoreNotANumber { id: 2 }));
    for special in [
        SpecialIds { bos: Some(6), ..SpecialIds::default() },
        SpecialIds { pad: Some(u32::MAX), ..SpecialIds::default() },
    ] {
        assert!(matches!(
            error(&Spec { special, ..bpe(&[], &[]) }),
            TokenizerError::SpecialIdOutOfRange { size: 6, .. }
        ));
    }
    let ends = Spec { end_of_generation: vec![99], ..bpe(&[], &[]) };
    assert!(matches!(error(&ends), TokenizerError::SpecialIdOutOfRange { id: 99, .. }));
    let adds_nothing = Spec { add_bos: Some(true), ..bpe(&[], &[]) };
    assert!(matches!(error(&adds_nothing), TokenizerError::MissingSpecial { name: "BOS" }));
    for charsmap in
        [vec![1], vec![3, 0, 0, 0, 1, 2, 3], vec![255; 64], vec![0, 0, 0, 0, b'x'], vec![0, 0, 0, 0, 0xff, 0]]
    {
        let spec = Spec { model: Model::Unigram, precompiled_charsmap: charsmap, ..bpe(&[], &[]) };
        assert!(matches!(error(&spec), TokenizerError::Charsmap { .. }));
    }
}

#[test]
fn ids_beyond_the_vocabulary_are_errors() {
    let tokenizer = Tokenizer::new(&bpe(&[], &[])).unwrap();
    for id in [6, u32::MAX - 1, u32::MAX] {
        let expected =
            |error| matches!(error, TokenizerError::TokenIdOutOfRange { id: found, size: 6 } if found == id);
        assert!(expected(tokenizer.decode(&[0, id], false).unwrap_err()));
        assert!(expected(tokenizer.decoder().push(id).unwrap_err()));
        assert_eq!(tokenizer.token_bytes(id), None);
        assert!(!tokenizer.is_eog(id) && !tokenizer.is_special(id));
    }
}

#[test]
fn text_without_tokens_is_an_error_or_unknown() {
    let tokenizer = Tokenizer::new(&bpe(&["ab"], &["a b"])).unwrap();
    assert_eq!(tokenizer.encode("ab ab", PLAIN).unwrap(), [6, 5, 6]);
    let error = tokenizer.encode("abz", PLAIN).unwrap_err();
    assert!(matches!(&error, TokenizerError::Unspellable { text } if text == "z"), "{error}");
    let with_unk =
        Spec { special: SpecialIds { unk: Some(4), ..SpecialIds::default() }, ..bpe(&["ab"], &["a b"]) };
    assert_eq!(Tokenizer::new(&with_unk).unwrap().encode("abz", PLAIN).unwrap(), [6, 4]);
}

#[test]
fn text_cannot_spell_control_tokens_unless_asked() {
    let tokenizer = Tokenizer::new(&sentencepiece()).unwrap();
    let bos = tokenizer.bos().unwrap();
    assert!(!tokenizer.encode("<s>aa</s><unk>", PLAIN).unwrap().iter().any(|&id| id < 3));
    assert_eq!(tokenizer.encode("<s>aa</s>", PARSED).unwrap()[0], bos);
    // User-defined tokens are text of their own, and bytes written out are text.
    let extra = tokenizer.special_id("<extra>").unwrap();
    assert!(tokenizer.encode("a<extra>a", PLAIN).unwrap().contains(&extra));
    assert!(!tokenizer.encode("<0x41>", PARSED).unwrap().contains(&(3 + 0x41)));
    assert_eq!(tokenizer.decode(&tokenizer.encode("<0x41>é", PLAIN).unwrap(), true).unwrap(), "<0x41>é");
}

#[test]
fn a_stream_never_gives_half_a_character() {
    let tokenizer = Tokenizer::new(&sentencepiece()).unwrap();
    let byte = |byte: u8| 3 + u32::from(byte);
    let push = |decoder: &mut autarky_text::StreamDecoder, bytes: &[u8]| -> Vec<Option<String>> {
        bytes.iter().map(|&b| decoder.push(byte(b)).unwrap()).collect()
    };
    let some = |text: &str| Some(text.to_owned());
    let mut decoder = tokenizer.decoder();
    assert_eq!(push(&mut decoder, "🦙".as_bytes()), [None, None, None, some("🦙")]);
    // A lead byte without its rest is given up as soon as that is sure, not before.
    assert_eq!(push(&mut decoder, b"\xf0\x9f\x41"), [None, None, some("\u{fffd}A")]);
    assert_eq!(push(&mut decoder, b"\xff\xc0\x80"), [some("\u{fffd}"), some("\u{fffd}"), some("\u{fffd}")]);
    assert_eq!(push(&mut decoder, b"\xe4\xb8"), [None, None]);
    assert_eq!(decoder.flush(), some("\u{fffd}"));
    assert_eq!(decoder.flush(), None);
    // However many bytes are wrong, no more than a character's wait.
    assert_eq!(push(&mut decoder, &[0xf0; 100]).into_iter().flatten().count(), 99);
}

#[test]
fn the_space_before_a_text_goes_only_where_a_text_begins() {
    let tokenizer = Tokenizer::new(&sentencepiece()).unwrap();
    let ids = tokenizer.encode("a a", EncodeOptions { add_special: true, parse_special: false }).unwrap();
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "a a");
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), "<s> a a");
    let mut decoder = tokenizer.decoder().continuing();
    assert_eq!(decoder.push(ids[1]).unwrap().as_deref(), Some(" a"));
}

#[test]
fn hostile_texts_take_no_more_than_their_share() {
    let million = 1 << 20;
    let wide = ["aa", "aaaa", "aaaaaaaa", "Ġa", "ĠĠ"];
    let merges = ["a a", "aa aa", "aaaa aaaa", "Ġ a", "Ġ Ġ"];
    for spec in [bpe(&wide, &merges), sentencepiece()] {
        let tokenizer = Tokenizer::new(&spec).unwrap();
        for text in
            ["a".repeat(million), " ".repeat(million), "a ".repeat(million / 2), " a".repeat(million / 2)]
        {
            // In quadratic time this would be an hour.
            let ids = tokenizer.encode(&text, PLAIN).unwrap();
            assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
        }
    }
}

#[test]
fn malformed_json_is_an_error_with_its_place() {
    let parse = |tokenizer: &str| {
        let files = HuggingFaceFiles { tokenizer: tokenizer.to_owned(), ..HuggingFaceFiles::default() };
        Spec::from_hugging_face_files(&files).and_then(|spec| Tokenizer::new(&spec).map(|_| ()))
    };
    let model = |model: &str| parse(&format!(r#"{{"model": {model}}}"#));
    assert!(model(r#"{"type": "BPE", "vocab": {"a": 0}, "merges": []}"#).is_ok());
    for text in ["", "{", "[]", "null", "{}", "\u{0}", r#"{"model": 1}"#] {
        assert!(matches!(parse(text), Err(TokenizerError::Json { .. })), "{text:?}");
    }
    let deep = "[".repeat(100_000);
    assert!(matches!(parse(&format!(r#"{{"normalizer": {deep}"#)), Err(TokenizerError::Json { .. })));
    for bad in [
        r#"{"type": "BPE", "vocab": {"a": -1}, "merges": []}"#,
        r#"{"type": "BPE", "vocab": {"a": 1.5}, "merges": []}"#,
        r#"{"type": "BPE", "vocab": {"a": 4294967295}, "merges": []}"#,
        r#"{"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []}"#,
        r#"{"type": "BPE", "vocab": {"a": 0}}"#,
        r#"{"type": "BPE", "vocab": [["a", 0]], "merges": []}"#,
        r#"{"type": "Unigram", "vocab": [["a"]]}"#,
        r#"{"type": "Unigram", "vocab": [["a", "b"]]}"#,
        r#"{"type": "Unigram", "vocab": [[1, 2]]}"#,
    ] {
        let error = model(bad).unwrap_err();
        let placed = match &error {
            TokenizerError::Field { field, .. } => field.starts_with("model."),
            TokenizerError::Json { source, .. } => source.line() == 1 && source.column() > 0,
            _ => false,
        };
        assert!(placed, "{bad}: {error}");
    }
    for unsupported in [
        r#"{"type": "Other", "vocab": {}}"#,
        r#"{"type": "BPE", "vocab": {"a": 0}, "merges": [], "end_of_word_suffix": "</w>"}"#,
    ] {
        let error = model(unsupported).unwrap_err();
        assert!(matches!(error, TokenizerError::Unsupported { .. }), "{unsupported}: {error}");
    }
    for merges in [r#"["a"]"#, r#"[["a"]]"#, r#"[["a", "b", "c"]]"#, r#"[["a b", "c"]]"#, "[1]", r#"["a b"]"#]
    {
        assert!(
            model(&format!(r#"{{"type": "BPE", "vocab": {{"a": 0}}, "merges": {merges}}}"#)).is_err(),
            "{merges}"
        );
    }
    let step = |step: &str| {
        parse(&format!(
            r#"{{"pre_tokenizer": {step}, "model": {{"type": "BPE", "vocab": {{"a": 0}}, "merges": []}}}}"#
        ))
    };
    for bad in [
        r#"{"type": "Unknown"}"#,
        r#"{"type": 1}"#,
        r#"{"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"}"#,
        r#"{"type": "Split", "pattern": {"Regex": "\\d{1,3}(?=(\\d{3})*\\b)"}, "behavior": "Isolated"}"#,
        r#"{"type": "Split", "pattern": {"Regex": "((\\p{L}{100}){100}){100}"}, "behavior": "Isolated"}"#,
        r#"{"type": "Split", "pattern": {}, "behavior": "Isolated"}"#,
        r#"{"type": "Split", "pattern": {"String": " "}, "behavior": "Sometimes"}"#,
        r#"{"type": "Metaspace", "replacement": "ab"}"#,
        r#"{"type": "Sequence"}"#,
    ] {
        assert!(step(bad).is_err(), "{bad}");
    }
    let many = vec![r#"{"type": "Digits"}"#; 1000].join(",");
    assert!(matches!(
        step(&format!(r#"{{"type": "Sequence", "pretokenizers": [{many}]}}"#)),
        Err(TokenizerError::Unsupported { .. })
    ));
}

#[test]
fn malformed_metadata_is_an_error_with_its_key() {
    let mut metadata = Metadata::new();
    assert!(matches!(Spec::from_gguf(&metadata), Err(TokenizerError::Gguf(_))));
    metadata.insert("tokenizer.ggml.model", "rwkv");
    let message = Spec::from_gguf(&metadata).unwrap_err().to_string();
    assert!(message.contains("`rwkv`") && message.contains("gpt2"), "{message}");
    metadata.insert("tokenizer.ggml.model", "gpt2");
    assert!(matches!(Spec::from_gguf(&metadata), Err(TokenizerError::Gguf(_))), "no tokens");
    metadata.insert("tokenizer.ggml.tokens", vec![1_u32]);
    assert!(matches!(Spec::from_gguf(&metadata), Err(TokenizerError::Gguf(_))), "tokens that are no strings");
    sentencepiece().to_gguf(&mut metadata).unwrap();
    assert_eq!(Spec::from_gguf(&metadata).unwrap().tokens.len(), sentencepiece().tokens.len());
    metadata.insert("tokenizer.ggml.bos_token_id", -5_i64);
    assert!(matches!(Spec::from_gguf(&metadata), Err(TokenizerError::Field { .. })));
    metadata.insert("tokenizer.ggml.bos_token_id", 99_999_u32);
    assert!(matches!(Tokenizer::from_gguf(&metadata), Err(TokenizerError::SpecialIdOutOfRange { .. })));
    metadata.insert("tokenizer.ggml.bos_token_id", u32::MAX);
    assert_eq!(Spec::from_gguf(&metadata).unwrap().special.bos, Some(1), "the writer's way to say none");
    metadata.insert("tokenizer.ggml.scores", "high");
    assert!(matches!(Spec::from_gguf(&metadata), Err(TokenizerError::Gguf(_))));
}

#[test]
fn merges_may_lead_to_tokens_that_are_written_as_plain_text() {
    let mut spec = bpe(&["  "], &["Ġ Ġ"]);
    spec.token_types = vec![TokenType::Normal; 6];
    spec.token_types.push(TokenType::UserDefined);
    let tokenizer = Tokenizer::new(&spec).unwrap();
    assert_eq!(tokenizer.encode("a  a a", PLAIN).unwrap(), [0, 6, 0, 5, 0]);
}

#[test]
fn folders_are_read_or_refused_by_path() {
    let folder = tempfile::tempdir().unwrap();
    let error = Tokenizer::from_hugging_face(folder.path()).unwrap_err();
    assert!(matches!(&error, TokenizerError::Io { file, .. } if file.ends_with("tokenizer.json")), "{error}");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("tokenizer.json", r#"{"model": {"type": "BPE", "vocab": {"a": 0, "<e>": 1}, "merges": []}}"#);
    write("tokenizer_config.json", r#"{"eos_token": "<e>", "chat_template": "config"}"#);
    let tokenizer = Tokenizer::from_hugging_face(folder.path()).unwrap();
    assert_eq!((tokenizer.eos(), tokenizer.chat_template()), (Some(1), Some("config")));
    write("chat_template.jinja", "file");
    assert_eq!(Tokenizer::from_hugging_face(folder.path()).unwrap().chat_template(), Some("file"));
    write("generation_config.json", "{");
    let error = Tokenizer::from_hugging_face(folder.path()).unwrap_err();
    assert!(
        matches!(&error, TokenizerError::Json { file, .. } if file == "generation_config.json"),
        "{error}"
    );
    std::fs::remove_file(folder.path().join("generation_config.json")).unwrap();
    std::fs::create_dir(folder.path().join("generation_config.json")).unwrap();
    assert!(matches!(Tokenizer::from_hugging_face(folder.path()), Err(TokenizerError::Io { .. })));
}

/// Files that are small for what they would take in memory.
#[test]
fn vocabularies_and_settings_beyond_any_model_are_refused_while_they_are_read() {
    let from = |tokenizer: String| {
        let files = HuggingFaceFiles { tokenizer, ..HuggingFaceFiles::default() };
        Spec::from_hugging_face_files(&files).expect_err("more than any model has").to_string()
    };
    let model = r#"{"type": "BPE", "vocab": {"a": 0}, "merges": []}"#;
    let numbers = "0,".repeat(300_000);
    for part in ["normalizer", "pre_tokenizer", "post_processor", "decoder"] {
        let message = from(format!(r#"{{"{part}": [{numbers}0], "model": {model}}}"#));
        assert!(message.contains("tokenizer.json: more than 262144 values at line 1"), "{part}: {message}");
    }
    let files = HuggingFaceFiles {
        tokenizer: format!(r#"{{"model": {model}}}"#),
        tokenizer_config: Some(format!("[{numbers}0]")),
        ..HuggingFaceFiles::default()
    };
    let message = Spec::from_hugging_face_files(&files).expect_err("too many values").to_string();
    assert!(message.contains("tokenizer_config.json: more than"), "{message}");
    let entries: Vec<String> = (0..(1 << 19) + 1).map(|id| format!(r#""{id}": {id}"#)).collect();
    let vocabulary = entries.join(",");
    let message = from(format!(r#"{{"model": {{"type": "BPE", "vocab": {{{vocabulary}}}, "merges": []}}}}"#));
    assert!(message.contains("more than 524288 tokens"), "{message}");
    let merges = r#""a a","#.repeat(1 << 20);
    let message =
        from(format!(r#"{{"model": {{"type": "BPE", "vocab": {{"a": 0}}, "merges": [{merges}"a a"]}}}}"#));
    assert!(message.contains("more than 655360 items"), "{message}");

    let mut metadata = Metadata::new();
    metadata.insert("tokenizer.ggml.model", "gpt2");
    metadata
        .insert("tokenizer.ggml.tokens", (0..(1 << 19) + 1).map(|id| id.to_string()).collect::<StrArray>());
    let error = Spec::from_gguf(&metadata).expect_err("too many tokens");
    assert!(matches!(error, TokenizerError::TooLarge { size: 524_289, limit: 524_288, .. }), "{error}");
}
