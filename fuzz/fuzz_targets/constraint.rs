//! Constraints of clients: whatever the schema, expression or grammar, texts that keep to it or a typed error, at a
//! bounded cost.
//!
//! An input is a letter for the kind (`s`chema, `r`egular expression, `t`ool, else a grammar), and its text.
#![no_main]

use std::sync::{Arc, LazyLock};

use autarky_engine::{
    Constraint, ConstraintError, ConstraintSpec, ConstraintVocabulary, ToolSchema, ToolSyntax,
};
use autarky_fuzz::bounded;
use autarky_text::{Model, Spec, SpecialIds, TokenType, Tokenizer};
use libfuzzer_sys::fuzz_target;

const EOS: u32 = 1;
const FIRST_BYTE: usize = 3;
/// Tokens of a text at most.
const STEPS: usize = 48;

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let mut tokens: Vec<String> = ["<unk>", "</s>", "<call>"].map(str::to_owned).into();
    tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(["{\"", "\":", "\"}", "true", "é", "🦙", "12", "\n "].map(str::to_owned));
    let mut token_types = vec![TokenType::Control; FIRST_BYTE];
    token_types[0] = TokenType::Unknown;
    token_types.resize(tokens.len(), TokenType::Normal);
    let spec = Spec {
        model: Model::SentencePiece,
        scores: vec![0.0; tokens.len()],
        tokens,
        token_types,
        special: SpecialIds { eos: Some(EOS), unk: Some(0), ..SpecialIds::default() },
        ..Spec::default()
    };
    Tokenizer::new(&spec).expect("a tokenizer of bytes")
});
static VOCABULARY: LazyLock<Arc<ConstraintVocabulary>> =
    LazyLock::new(|| ConstraintVocabulary::new(&TOKENIZER).expect("a small vocabulary"));

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let Some(kind) = text.chars().next() else { return };
    let rest = &text[kind.len_utf8()..];
    let spec = match kind {
        's' | 't' => {
            let Ok(schema) = serde_json::from_str(rest) else { return };
            if kind == 's' {
                ConstraintSpec::JsonSchema(schema)
            } else {
                let tools = vec![ToolSchema { name: "f".into(), arguments: schema }];
                let syntax =
                    ToolSyntax { before: "<call>".into(), between: " ".into(), ..ToolSyntax::default() };
                ConstraintSpec::ToolCalls { tools, syntax, at_most_one: false }
            }
        }
        'r' => ConstraintSpec::Regex(rest.to_owned()),
        _ => ConstraintSpec::Lark(rest.to_owned()),
    };
    let vocabulary = &*VOCABULARY;
    bounded(|| {
        let Ok(mut constraint) = Constraint::new(vocabulary, &spec) else { return };
        let mut state = bytes.iter().fold(7_u64, |state, &byte| state.wrapping_mul(31) + u64::from(byte));
        let mut written = Vec::new();
        for _ in 0..STEPS {
            let mut logits = vec![0.0_f32; TOKENIZER.vocab_size()];
            match constraint.mask(&mut logits) {
                Ok(()) => {}
                Err(ConstraintError::TooComplex(_) | ConstraintError::DeadEnd) => return,
                Err(e) => panic!("a mask: {e}"),
            }
            let left: Vec<u32> =
                (0..).zip(&logits).filter(|(_, logit)| logit.is_finite()).map(|(id, _)| id).collect();
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let token = left[(state >> 33) as usize % left.len()];
            match constraint.accept(token) {
                Ok(()) => {}
                Err(ConstraintError::TooComplex(_)) => return,
                Err(e) => panic!("a token that the mask leaves: {e}"),
            }
            if token == EOS {
                let text = TOKENIZER.decode_bytes(&written, true).expect("tokens of the vocabulary");
                let text = String::from_utf8(text).expect("constrained text is UTF-8");
                if kind == 's' {
                    assert!(is_json(&text), "no JSON: {text:?}");
                }
                return;
            }
            assert!(kind == 't' || !TOKENIZER.is_special(token), "a control token as text");
            written.push(token);
        }
    });
});

/// Whether `text` is JSON, though perhaps with numbers beyond the range of doubles.
fn is_json(text: &str) -> bool {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(_) => true,
        Err(e) => e.to_string().contains("out of range"),
    }
}
