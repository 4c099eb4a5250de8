//! Files of measured runs: rows that are predicted or say why not, or a typed error that names the file.
//!
//! An input is JSON, or edits of a valid row: pairs of bytes, each replacing a byte of it.
#![no_main]

use std::path::Path;

use autarky_fuzz::bounded;
use autarky_plan::Catalog;
use autarky_plan::runs::interpret;
use autarky_plan::validate::parse;
use libfuzzer_sys::fuzz_target;

const FILE: &str = "rows.json";
const VALID: &str = include_str!("../seeds/rows/serve.json");

/// The valid file with some of its bytes replaced, as the input says.
fn edited(bytes: &[u8]) -> Vec<u8> {
    let mut text = VALID.as_bytes().to_vec();
    for edit in bytes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % text.len();
        text[at] = edit[2];
    }
    text
}

fn check(text: &[u8]) {
    match parse(Path::new(FILE), text) {
        Ok(rows) => {
            let chips = Catalog::built_in().expect("sound chips");
            for row in &rows {
                match interpret(row, chips) {
                    Ok((job, measured)) => assert!(job.chips > 0.0 && measured.value > 0.0),
                    Err(skip) => assert!(!skip.to_string().is_empty()),
                }
            }
        }
        Err(e) => assert!(e.to_string().starts_with(FILE), "no file is named: {e}"),
    }
}

fuzz_target!(|bytes: &[u8]| {
    bounded(|| {
        check(bytes);
        check(&edited(bytes.get(..96).unwrap_or(bytes)));
    });
});
