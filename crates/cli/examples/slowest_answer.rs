//! How long the slowest answer to a bad file takes, and how much memory the largest: the whole corpus of the test
//! `bad_input`, and files made large to cost much.
//!
//! `cargo run --release -p autarky --example slowest_answer`
#![allow(dead_code)] // The test uses the rest.

#[path = "../tests/bad_input/answer.rs"]
mod answer;
#[path = "../tests/bad_input/cases.rs"]
mod cases;
#[path = "../tests/bad_input/damage.rs"]
mod damage;
#[path = "../tests/bad_input/folders.rs"]
mod folders;
#[path = "../tests/bad_input/gguf_bytes.rs"]
mod gguf_bytes;
#[path = "../tests/bad_input/gguf_models.rs"]
mod gguf_models;
#[path = "../tests/bad_input/large.rs"]
mod large;
#[allow(unreachable_pub)]
#[path = "../tests/bad_input/memory.rs"]
mod memory;
#[allow(unreachable_pub)]
#[path = "../tests/bad_input/models.rs"]
mod models;
#[path = "../tests/bad_input/tokenizers.rs"]
mod tokenizers;

use std::time::{Duration, Instant};

use cases::Each;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// A case that took longer is tried again, and the shortest time counts: others use the machine, too.
const TRIES: usize = 5;

/// Gives its cases one by one.
type Group = fn(&mut Each<'_>);

struct Measured {
    what: String,
    time: Duration,
    peak: usize,
    answer: String,
}

fn main() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let groups: [(&str, Group); 5] = [
        ("GGUF, damaged byte by byte", gguf_bytes::each),
        ("GGUF models without sense", gguf_models::each),
        ("tokenizers and templates", tokenizers::each),
        ("Hugging Face folders", folders::each),
        ("large files", large::each),
    ];
    for (name, group) in groups {
        let mut all = Vec::new();
        group(&mut |case| {
            let path = case.write(scratch.path());
            let mut best = measure(&case.what, &path);
            for _ in 1..TRIES {
                if best.time > Duration::from_millis(2) {
                    let again = measure(&case.what, &path);
                    best.time = best.time.min(again.time);
                }
            }
            all.push(best);
        });
        println!("{name}: {} cases", all.len());
        all.sort_by_key(|m| std::cmp::Reverse(m.time));
        let shown = if name == "large files" { all.len() } else { 3 };
        for m in all.iter().take(shown) {
            show(m);
        }
        if let Some(m) = all.iter().max_by_key(|m| m.peak) {
            print!("  most memory:");
            show(m);
        }
    }
}

fn measure(what: &str, path: &std::path::Path) -> Measured {
    let start = Instant::now();
    let answer = answer::answer(what, path);
    let time = start.elapsed();
    let said = answer.error.unwrap_or_else(|| "accepted".to_owned());
    Measured { what: what.to_owned(), time, peak: answer.peak, answer: said }
}

fn show(m: &Measured) {
    let (ms, mib) = (m.time.as_secs_f64() * 1e3, m.peak as f64 / (1 << 20) as f64);
    println!("  {ms:8.2} ms {mib:7.2} MiB  {:.60}: {:.150}", m.what, m.answer);
}
