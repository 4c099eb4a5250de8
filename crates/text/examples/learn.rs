//! Learns a vocabulary from files of text, writes it as a Hugging Face folder, and says how long that took.
//!
//! `cargo run --release -p autarky-text --example learn -- TOKENS PRE FOLDER FILE...`: TOKENS is the size of the
//! vocabulary, PRE GGUF's name of the pre-tokenizer.

use std::error::Error;
use std::time::Instant;

use autarky_text::{LearnOptions, Learner};

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: learn TOKENS PRE FOLDER FILE...";
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or(usage);
    let mut options = LearnOptions::new(next()?.parse()?);
    options.pre = next()?;
    let folder = next()?;
    options.control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(String::from).to_vec();
    options.bos = Some("<|endoftext|>".into());
    options.eos = options.bos.clone();
    options.pad = options.bos.clone();
    options.eot = Some("<|im_end|>".into());
    options.chat_template = Some(
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}\
         {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
            .into(),
    );
    let mut learner = Learner::new(options)?;
    let begin = Instant::now();
    let mut bytes = 0;
    for path in arguments {
        let text = std::fs::read_to_string(path)?;
        bytes += text.len();
        learner.add(&text);
    }
    let counted = begin.elapsed();
    println!("{bytes} bytes, {} distinct pieces: counted in {counted:.2?}", learner.pieces());
    let spec = learner.learn(&mut |_, _| {})?;
    println!(
        "{} tokens, {} merges: learned in {:.2?}",
        spec.tokens.len(),
        spec.merges.len(),
        begin.elapsed() - counted
    );
    spec.to_hugging_face(folder)?;
    Ok(())
}
