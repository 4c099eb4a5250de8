//! Constrained texts, written from random logits: whatever is left over by the masks is what was asked for.

mod hostile;
mod schemas;
mod tools;

use std::sync::{Arc, LazyLock};

use autarky_text::{Model, Spec, SpecialIds, TokenType, Tokenizer};
use regex_automata::meta::Regex;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::{Constraint, ConstraintError, ConstraintSpec, ConstraintVocabulary};

const UNK: u32 = 0;
const BOS: u32 = 1;
const EOS: u32 = 2;
const CONTROL: [&str; 6] = ["<unk>", "<s>", "</s>", "<|im_end|>", "<tool_call>", "</tool_call>"];
const TOOL_CALL: u32 = 4;
const FIRST_BYTE: u32 = CONTROL.len() as u32;
/// Tokens of several bytes, across what a grammar takes for one word.
const TEXT: [&str; 22] = [
    "{\"", "\":", "\",", "▁\"", "▁", "\"}", "}}", "[[", "]}", "true", "al", "12", "-3", ".5", "é", "日本",
    "🦙", "\\n", "\\u00", "name", "\n▁▁", "<s>",
];

/// A SentencePiece tokenizer of all bytes and `TEXT`; `ends` says whether it has tokens that end a generation.
fn tokenizer(ends: bool) -> Tokenizer {
    let mut tokens: Vec<String> = CONTROL.iter().map(|name| (*name).to_owned()).collect();
    let mut token_types = vec![TokenType::Control; tokens.len()];
    token_types[UNK as usize] = TokenType::Unknown;
    tokens.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
    token_types.resize(tokens.len(), TokenType::Byte);
    tokens.extend(TEXT.iter().filter(|text| **text != "<s>").map(|text| (*text).to_owned()));
    token_types.resize(tokens.len(), TokenType::Normal);
    tokens.extend(["\n\n".to_owned(), "<reserved>".to_owned()]);
    token_types.extend([TokenType::UserDefined, TokenType::Unused]);
    if !ends {
        tokens[EOS as usize] = "<no end>".to_owned();
        tokens[3] = "<none either>".to_owned();
    }
    let eos = ends.then_some(EOS);
    let spec = Spec {
        model: Model::SentencePiece,
        scores: vec![0.0; tokens.len()],
        tokens,
        token_types,
        special: SpecialIds { bos: Some(BOS), eos, unk: Some(UNK), ..SpecialIds::default() },
        add_space_prefix: Some(false),
        ..Spec::default()
    };
    Tokenizer::new(&spec).unwrap()
}

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| tokenizer(true));
static VOCABULARY: LazyLock<Arc<ConstraintVocabulary>> =
    LazyLock::new(|| ConstraintVocabulary::new(&TOKENIZER).unwrap());

fn constraint(spec: &ConstraintSpec) -> Constraint {
    Constraint::new(&VOCABULARY, spec).unwrap_or_else(|e| panic!("{e}"))
}

fn error(spec: &ConstraintSpec) -> ConstraintError {
    Constraint::new(&VOCABULARY, spec).expect_err("a constraint that is refused")
}

/// The tokens of single bytes.
fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(|byte| FIRST_BYTE + u32::from(byte)).collect()
}

/// Whether the constraint takes `text`, byte by byte, as a complete one.
fn takes(spec: &ConstraintSpec, text: &str) -> bool {
    let mut constraint = constraint(spec);
    bytes(text).into_iter().all(|token| constraint.accept(token).is_ok()) && constraint.may_end().unwrap()
}

/// Pseudo-random numbers (splitmix64, Steele et al. 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }
}

/// Writes a text from random logits: the tokens before the one that ended it. After `patience` tokens, those are
/// preferred that bring things to an end.
fn write(constraint: &mut Constraint, tokenizer: &Tokenizer, seed: u64, patience: usize) -> Vec<u32> {
    let mut random = Random(seed);
    let mut written = Vec::new();
    let closes = |id: u32| match tokenizer.token_bytes(id).unwrap_or_default() {
        _ if tokenizer.is_eog(id) => 30.0,
        b"\"" => 20.0,
        b"y" | b"\xc3\xa9" => 17.0,
        b"}" | b"]" => 15.0,
        b"," => 12.0,
        b"0" => 10.0,
        _ => 0.0,
    };
    loop {
        if constraint.is_done() && tokenizer.eog().is_empty() {
            return written;
        }
        let mut logits: Vec<f32> = (0..tokenizer.vocab_size() + 40).map(|_| random.unit()).collect();
        if written.len() > patience {
            (0..).zip(&mut logits).for_each(|(id, logit)| *logit += closes(id));
        }
        match constraint.mask(&mut logits) {
            Ok(()) => {}
            Err(ConstraintError::Complete) if tokenizer.eog().is_empty() => return written,
            Err(e) => panic!("{e}"),
        }
        if written.len() % 16 == 0 {
            for (id, logit) in (0..).zip(&logits).take(tokenizer.vocab_size()) {
                let valid = constraint.validate_tokens(&[id]).unwrap();
                assert_eq!(valid == 1, logit.is_finite(), "token {id} by mask and by validation");
            }
        }
        let (token, _) = (0..).zip(&logits).max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
        let refused = random.next() as u32 % tokenizer.vocab_size() as u32;
        if !logits[refused as usize].is_finite() {
            assert_eq!(constraint.accept(refused), Err(ConstraintError::Refused { token: refused }));
        }
        constraint.accept(token).unwrap();
        if tokenizer.is_eog(token) {
            assert!(constraint.is_done());
            assert_eq!(constraint.mask(&mut logits), Err(ConstraintError::Complete));
            assert_eq!(constraint.accept(token), Err(ConstraintError::Complete));
            return written;
        }
        assert!(!tokenizer.is_special(token), "a control token as text");
        written.push(token);
        assert!(written.len() < 2_000, "a text without an end: {:?}", text(&written));
        if tokenizer.eog().is_empty() && written.len() > patience && constraint.may_end().unwrap() {
            return written;
        }
    }
}

fn text(tokens: &[u32]) -> String {
    let bytes: Vec<u8> = tokens.iter().flat_map(|&id| TOKENIZER.token_bytes(id).unwrap()).copied().collect();
    String::from_utf8(bytes).expect("constrained text is UTF-8")
}

/// The value of a text that must be JSON; `None` if it has a number beyond the range of doubles, which JSON allows.
fn parse(text: &str) -> Option<Value> {
    serde_json::from_str::<IgnoredAny>(text).unwrap_or_else(|e| panic!("{e}: {text:?}"));
    match serde_json::from_str(text) {
        Err(e) if e.to_string().contains("out of range") => None,
        value => Some(value.unwrap()),
    }
}

fn texts(spec: &ConstraintSpec, seeds: u64) -> Vec<String> {
    let fresh = constraint(spec);
    (0..seeds).map(|seed| text(&write(&mut fresh.fork(), &TOKENIZER, seed, 40))).collect()
}

#[test]
fn constraints_go_from_thread_to_thread() {
    fn goes<T: Send>(_: &T) {}
    fn is_shared<T: Send + Sync>(_: &T) {}
    is_shared(&*VOCABULARY);
    goes(&constraint(&ConstraintSpec::Json));
}

#[test]
fn json_mode_gives_objects() {
    let mut beyond_ascii = 0;
    for text in texts(&ConstraintSpec::Json, 60) {
        assert!(text.starts_with('{') && parse(&text).is_none_or(|value| value.is_object()), "{text}");
        beyond_ascii += usize::from(!text.is_ascii());
    }
    assert!(beyond_ascii > 20, "{beyond_ascii} texts with characters of several bytes");
    for text in ["{}", "{ }", "{\"a\": [1, null, {\"b\": \"é🦙\"}]}", "{\n  \"a\": 1,\n  \"b\": -2.5e3\n}"]
    {
        assert!(takes(&ConstraintSpec::Json, text), "{text}");
    }
    for text in ["", "[]", "1", " {}", "{}{", "{\"a\":\"\n\"}", "{'a':1}"] {
        assert!(!takes(&ConstraintSpec::Json, text), "{text}");
    }
}

#[test]
fn regular_expressions_match_as_a_whole() {
    let cases = [
        r"[a-c]{2,5}(x|yz)+",
        r"\d{4}-\d{2}-\d{2}",
        r"/[^/\s]{1,9}/é+",
        r"(?i)yes|no",
        r"\p{Greek}{3}",
        "",
        r"a?",
        r"[\x{1F300}-\x{1F5FF}]",
    ];
    for regex in cases {
        let whole = Regex::new(&format!("^(?:{regex})$")).unwrap();
        for text in texts(&ConstraintSpec::Regex(regex.to_owned()), 20) {
            assert!(whole.is_match(&text), "{regex}: {text:?}");
        }
    }
    assert!(matches!(error(&ConstraintSpec::Regex("a(b".into())), ConstraintError::Regex(_)));
    assert!(matches!(error(&ConstraintSpec::Regex("a\\b".into())), ConstraintError::Regex(_)));
}

#[test]
fn grammars_are_followed() {
    let grammar =
        "start: sum\nsum: term (\"+\" term)*\nterm: NUMBER | \"(\" sum \")\"\nNUMBER: /[0-9]{1,3}/\n";
    let spec = ConstraintSpec::Lark(grammar.to_owned());
    for text in texts(&spec, 20) {
        let mut depth = 0;
        for c in text.chars() {
            depth += i32::from(c == '(') - i32::from(c == ')');
            assert!(depth >= 0 && "0123456789+()".contains(c), "{text}");
        }
        assert_eq!(depth, 0, "{text}");
    }
    assert!(takes(&spec, "(1+(22))+333"));
    assert!(!takes(&spec, "(1+(22)"));
    let ConstraintError::Grammar(message) = error(&ConstraintSpec::Lark("start: \"a\" b".into())) else {
        panic!("an unknown rule is an error of the grammar");
    };
    assert!(message.contains("\"b\""), "{message}");
}

#[test]
fn a_grammar_cannot_name_tokens_that_are_no_text() {
    for token in ["<[1]>", "<[0-300]>", "<[*]>", "<[^7]>", "<[2]>", "<[3]>"] {
        let spec = ConstraintSpec::Lark(format!("start: \"a\" {token} \"b\""));
        let Ok(mut constraint) = Constraint::new(&VOCABULARY, &spec) else { continue };
        constraint.accept(bytes("a")[0]).unwrap();
        let mut logits = vec![0.0; TOKENIZER.vocab_size()];
        let masked = constraint.mask(&mut logits);
        for id in 0..FIRST_BYTE {
            assert!(masked.is_err() || logits[id as usize].is_infinite(), "{token} allows {id}");
            assert!(constraint.accept(id).is_err(), "{token} takes {id}");
        }
    }
    for name in ["<s>", "<tool_call>", "<nothing>"] {
        let spec = ConstraintSpec::Lark(format!("start: {name}"));
        assert!(matches!(error(&spec), ConstraintError::Grammar(_)), "{name}");
    }
    // Text that reads like a control token is text.
    let mut constraint = constraint(&ConstraintSpec::Regex("<s>".into()));
    assert_eq!(constraint.accept(BOS), Err(ConstraintError::Refused { token: BOS }));
    assert_eq!(constraint.validate_tokens(&bytes("<s>")), Ok(3));
}

#[test]
fn the_end_is_allowed_only_where_the_text_is_complete() {
    let mut constraint = constraint(&ConstraintSpec::Regex("ab?".into()));
    assert_eq!(constraint.accept(EOS), Err(ConstraintError::Refused { token: EOS }));
    assert!(!constraint.may_end().unwrap());
    constraint.accept(bytes("a")[0]).unwrap();
    assert!(constraint.may_end().unwrap() && !constraint.is_done());
    let mut logits = vec![0.0; TOKENIZER.vocab_size()];
    constraint.mask(&mut logits).unwrap();
    let left: Vec<u32> = (0..).zip(&logits).filter(|(_, l)| l.is_finite()).map(|(id, _)| id).collect();
    assert_eq!(left, [EOS, 3, bytes("b")[0]], "both ends, and `b`");
    let mut other = constraint.fork();
    other.accept(bytes("b")[0]).unwrap();
    assert!(other.is_done());
    assert_eq!(other.validate_tokens(&[3, EOS]), Ok(1));
    assert_eq!(other.accept(bytes("b")[0]), Err(ConstraintError::Refused { token: bytes("b")[0] }));
    assert!(!constraint.is_done(), "a fork goes its own way");
    constraint.accept(3).unwrap();
    assert!(constraint.is_done());
    assert_eq!(constraint.validate_tokens(&[EOS]), Ok(0));
}

#[test]
fn guesses_are_validated_and_nothing_changes() {
    let spec =
        ConstraintSpec::JsonSchema(json!({"type": "object", "properties": {"n": {"type": "integer"}}}));
    let mut constraint = constraint(&spec);
    let guess = [bytes("{\"n\":1}"), vec![EOS, EOS]].concat();
    assert_eq!(constraint.validate_tokens(&guess), Ok(8));
    assert_eq!(constraint.validate_tokens(&bytes("{\"n\":x}")), Ok(5));
    assert_eq!(constraint.validate_tokens(&[]), Ok(0));
    assert_eq!(constraint.validate_tokens(&[BOS, 9_999_999]), Ok(0));
    assert_eq!(constraint.accept(9_999_999), Err(ConstraintError::Refused { token: 9_999_999 }));
    for token in bytes("{\"n\":1}") {
        constraint.accept(token).unwrap();
    }
    assert!(constraint.is_done(), "nothing comes after the last brace");
}

#[test]
fn without_tokens_that_end_a_text_the_engine_is_told() {
    let tokenizer = tokenizer(false);
    assert!(tokenizer.eog().is_empty());
    let vocabulary = ConstraintVocabulary::new(&tokenizer).unwrap();
    for (spec, regex) in [
        (ConstraintSpec::Regex("(ab){3}".into()), "^(ab){3}$"),
        (ConstraintSpec::Regex("x*".into()), "^x*$"),
        (ConstraintSpec::Regex(String::new()), "^$"),
        (ConstraintSpec::Json, r"^\{(?s:.*)\}$"),
    ] {
        for seed in 0..10 {
            let mut constraint = Constraint::new(&vocabulary, &spec).unwrap();
            let written = text(&write(&mut constraint, &tokenizer, seed, 30));
            assert!(Regex::new(regex).unwrap().is_match(&written), "{spec:?}: {written:?}");
        }
    }
}

#[test]
fn a_vocabulary_without_the_letters_is_a_dead_end() {
    let names = ["<unk>", "</s>", "a"];
    let spec = Spec {
        model: Model::SentencePiece,
        scores: vec![0.0; 3],
        tokens: names.map(str::to_owned).to_vec(),
        token_types: vec![TokenType::Unknown, TokenType::Control, TokenType::Normal],
        special: SpecialIds { eos: Some(1), unk: Some(0), ..SpecialIds::default() },
        ..Spec::default()
    };
    let vocabulary = ConstraintVocabulary::new(&Tokenizer::new(&spec).unwrap()).unwrap();
    let mut constraint = Constraint::new(&vocabulary, &ConstraintSpec::Regex("ab".into())).unwrap();
    constraint.accept(2).unwrap();
    assert_eq!(constraint.mask(&mut [0.0; 3]), Err(ConstraintError::DeadEnd));
    assert_eq!(constraint.mask(&mut [0.0; 3]), Err(ConstraintError::DeadEnd));
}
