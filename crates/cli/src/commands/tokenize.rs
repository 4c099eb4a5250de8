//! `autarky tokenize`

use std::io;

use anyhow::{Context, Result};
use autarky_format::Source;
use autarky_text::EncodeOptions;
use serde_json::json;

use super::{print, print_json, read_text};
use crate::args::TokenizeArgs;
use crate::exit::Usage;
use crate::load;

pub(super) fn run(args: &TokenizeArgs) -> Result<()> {
    // A vocabulary without weights is enough.
    let cannot = || format!("cannot use the tokenizer of {}", args.model.display());
    let source = Source::open(&args.model).with_context(cannot)?;
    let tokenizer = load::tokenizer_of(&source, &args.model).with_context(cannot)?;
    let input = read_text(io::stdin().lock(), "standard input")?;
    let ids = match args.decode {
        true => parse_ids(&input)?,
        false => {
            let options = EncodeOptions { add_special: args.special, parse_special: args.special };
            tokenizer.encode(&input, options)?
        }
    };
    if args.json {
        let piece = |&id: &u32| -> Result<_> {
            let bytes = tokenizer.decode_bytes(&[id], false)?;
            Ok(json!({"id": id, "text": String::from_utf8_lossy(&bytes)}))
        };
        let pieces = ids.iter().map(piece).collect::<Result<Vec<_>>>()?;
        let text = tokenizer.decode(&ids, !args.special)?;
        return print_json(&json!({"ids": ids, "tokens": pieces, "text": text}));
    }
    match args.decode {
        // Bytes as they are: what goes in comes out again.
        true => print(&tokenizer.decode(&ids, !args.special)?),
        false => {
            let words: Vec<String> = ids.iter().map(u32::to_string).collect();
            print(&(words.join(" ") + "\n"))
        }
    }
}

/// Numbers separated by blanks, commas or brackets, as lists are printed anywhere.
fn parse_ids(text: &str) -> Result<Vec<u32>, Usage> {
    let words =
        text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']')).filter(|w| !w.is_empty());
    let parse = |w: &str| w.parse().map_err(|_| Usage(format!("{w:?} on standard input is no token id")));
    words.map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_people_and_programs_print_them() {
        assert_eq!(parse_ids("[1, 2,3]\n4 5\t6").unwrap(), [1, 2, 3, 4, 5, 6]);
        assert!(parse_ids("").unwrap().is_empty());
        for wrong in ["1 x", "-1", "4294967296", "1.5"] {
            assert!(parse_ids(wrong).is_err(), "{wrong}");
        }
    }
}
