//! Encodes standard input with the tokenizer of a GGUF file or a Hugging Face folder, and says how fast.
//!
//! `cargo run --release -p autarky-text --example encode -- MODEL.gguf < text > ids`: one line of ids for each
//! text, where texts are separated by NUL characters; the speed goes to standard error.

use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use autarky_format::gguf;
use autarky_text::{EncodeOptions, Tokenizer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = std::env::args().nth(1).ok_or("usage: encode MODEL.gguf|FOLDER < text")?;
    let begin = Instant::now();
    let tokenizer = if Path::new(&model).is_dir() {
        Tokenizer::from_hugging_face(&model)?
    } else {
        Tokenizer::from_gguf(gguf::File::open(&model)?.metadata())?
    };
    eprintln!("{} tokens loaded in {:.0?}", tokenizer.vocab_size(), begin.elapsed());
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let texts: Vec<&str> = text.split('\0').collect();
    let begin = Instant::now();
    let ids = texts
        .iter()
        .map(|text| tokenizer.encode(text, EncodeOptions::default()))
        .collect::<Result<Vec<_>, _>>()?;
    let seconds = begin.elapsed().as_secs_f64();
    let count: usize = ids.iter().map(Vec::len).sum();
    eprintln!("{} bytes, {count} ids, {:.1} MB/s", text.len(), text.len() as f64 / 1e6 / seconds);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for (text, ids) in texts.iter().zip(&ids) {
        if tokenizer.decode(ids, false)? != *text {
            eprintln!("does not come back as it was: {:?}", text.chars().take(60).collect::<String>());
        }
        writeln!(out, "{}", ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" "))?;
    }
    Ok(())
}
