//! A llama2.c vocabulary as a tokenizer.
//!
//! llama2.c's `tokenizer.py` exports a SentencePiece model with `▁` written as a space, and leaves out the tokens'
//! types: ids 0, 1 and 2 are `<unk>`, `<s>` and `</s>` (written with line breaks around them), and bytes are written
//! `<0x0A>`.

use autarky_format::llama2c::Tokenizer;
use autarky_text::{Model, Spec, SpecialIds, TokenType};

use crate::exit::Input;

const SPECIAL: [(&str, TokenType); 3] =
    [("<unk>", TokenType::Unknown), ("<s>", TokenType::Control), ("</s>", TokenType::Control)];

pub(super) fn spec(tokenizer: &Tokenizer) -> Result<Spec, Input> {
    let mut spec = Spec {
        model: Model::SentencePiece,
        special: SpecialIds { bos: Some(1), eos: Some(2), unk: Some(0), ..SpecialIds::default() },
        add_bos: Some(true),
        add_eos: Some(false),
        add_space_prefix: Some(true),
        ..Spec::default()
    };
    if tokenizer.pieces.len() < SPECIAL.len() {
        return Err(Input(
            "the llama2.c vocabulary has fewer than 3 tokens; give its own tokenizer file".to_owned(),
        ));
    }
    for (id, piece) in tokenizer.pieces.iter().enumerate() {
        let (text, kind) = match (SPECIAL.get(id), std::str::from_utf8(&piece.bytes)) {
            (Some((name, kind)), _) => ((*name).to_owned(), *kind),
            (None, Ok(text)) if is_byte(text) => (text.to_owned(), TokenType::Byte),
            (None, Ok(text)) => (text.replace(' ', "▁"), TokenType::Normal),
            (None, Err(_)) => {
                return Err(Input(format!(
                    "token {id} of the llama2.c vocabulary is not UTF-8; export it again"
                )));
            }
        };
        spec.tokens.push(text);
        spec.token_types.push(kind);
        spec.scores.push(piece.score);
    }
    Ok(spec)
}

/// `<0x` two hexadecimal digits `>`.
fn is_byte(text: &str) -> bool {
    let digits = text.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
    digits.is_some_and(|d| d.len() == 2 && d.bytes().all(|b| b.is_ascii_hexdigit()))
}
