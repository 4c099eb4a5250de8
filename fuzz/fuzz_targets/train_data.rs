//! Training data: records or problems that name their file, whatever the bytes, and memory that does not follow them.
//!
//! An input is a byte that chooses format, compression and what records are for, and the file.
#![no_main]

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use autarky_fuzz::bounded;
use autarky_train::data::{Compression, Content, DataFile, Format, ReadOptions, read_from};
use libfuzzer_sys::fuzz_target;

const FILE: &str = "data";
const FORMATS: [Format; 3] = [Format::JsonLines, Format::Json, Format::Text];
const COMPRESSIONS: [Compression; 3] = [Compression::None, Compression::Gzip, Compression::Zstd];
const LONGEST_LINE: usize = 1000;

fn check(file: &DataFile, prompts: bool, bytes: &[u8]) {
    let options = ReadOptions { longest_line: LONGEST_LINE, prompts, ..ReadOptions::default() };
    let mut items = 0_u64;
    for item in read_from(Box::new(Cursor::new(bytes.to_vec())), file, &options) {
        items += 1;
        match item {
            Ok(record) => match record.content {
                Content::Text { text, .. } => {
                    assert!(!text.is_empty() && text.len() <= 1 << 20, "a piece of {} bytes", text.len());
                    assert!(file.format == Format::Text || text.len() <= LONGEST_LINE);
                }
                Content::Messages { messages, .. } => {
                    assert!(
                        messages.iter().any(|m| m["role"] == "assistant"),
                        "nothing to learn: {messages:?}"
                    );
                }
                Content::Preference { prompt, chosen, rejected } => {
                    assert!(!prompt.is_empty() && !chosen.is_empty() && !rejected.is_empty());
                }
                Content::Prompt { messages, .. } => {
                    let last = messages.last().expect("something to answer");
                    assert!(prompts && last["role"] != "assistant", "already answered: {messages:?}");
                }
            },
            Err(problem) => assert!(problem.to_string().starts_with(FILE), "no file is named: {problem}"),
        }
    }
    assert!(items > 0, "a file without records is a problem");
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, bytes)) = bytes.split_first() else { return };
    let choice = usize::from(first);
    let compression = COMPRESSIONS[choice / FORMATS.len() % COMPRESSIONS.len()];
    let prompts = choice / FORMATS.len() / COMPRESSIONS.len() % 2 == 1;
    let file = DataFile {
        path: Arc::from(Path::new(FILE)),
        format: FORMATS[choice % FORMATS.len()],
        compression,
        bytes: bytes.len() as u64,
    };
    match compression {
        // A frame may ask for a window of 128 MiB.
        Compression::Zstd => check(&file, prompts, bytes),
        _ => bounded(|| check(&file, prompts, bytes)),
    }
});
