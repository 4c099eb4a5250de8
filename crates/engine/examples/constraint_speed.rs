//! Times constraints over a real vocabulary: `cargo run --release --example constraint_speed -- MODEL.gguf`.
//!
//! Texts are written from random logits, which is harder than what models write: their strings are never words.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use autarky_engine::{Constraint, ConstraintSpec, ConstraintVocabulary, ToolSchema, ToolSyntax};
use autarky_text::Tokenizer;
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = PathBuf::from(std::env::args_os().nth(1).ok_or("give a GGUF file that has a tokenizer")?);
    let file = autarky_format::gguf::File::open(&path)?;
    let tokenizer = Tokenizer::from_gguf(file.metadata())?;
    let start = Instant::now();
    let vocabulary = ConstraintVocabulary::new(&tokenizer)?;
    println!("{} tokens, taken in in {:.0?}", tokenizer.vocab_size(), start.elapsed());
    let address = json!({"type": "object", "additionalProperties": false, "required": ["street", "zip"],
        "properties": {"street": {"type": "string", "maxLength": 60}, "zip": {"type": "string", "pattern": "^[0-9]{5}$"},
            "country": {"enum": ["DE", "FR", "IT", "ES", "PL"]}}});
    let person = json!({"type": "object", "additionalProperties": false, "required": ["name", "age", "addresses"],
        "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 130},
            "email": {"type": "string", "format": "email"}, "addresses": {"type": "array", "items": address}}});
    let syntax = ToolSyntax {
        before: "<tool_call>\n{\"name\": \"".into(),
        between: "\", \"arguments\": ".into(),
        after: "}\n</tool_call>".into(),
        separator: "\n".into(),
    };
    let tool = |i: usize| ToolSchema { name: format!("tool_{i}"), arguments: person.clone() };
    for (name, spec) in [
        ("JSON mode", ConstraintSpec::Json),
        ("JSON Schema", ConstraintSpec::JsonSchema(person.clone())),
        ("regular expression", ConstraintSpec::Regex(r"[A-Z]\w+( \w+){5,40}\.".into())),
        (
            "calls of 20 tools",
            ConstraintSpec::ToolCalls { tools: (0..20).map(tool).collect(), syntax, at_most_one: false },
        ),
    ] {
        let start = Instant::now();
        let fresh = Constraint::new(&vocabulary, &spec)?;
        let compiled = start.elapsed();
        let (mut masks, mut accepts) = (Vec::new(), Vec::new());
        let mut random = 1u64;
        for _ in 0..20 {
            let mut constraint = fresh.fork();
            for _ in 0..120 {
                let mut logits: Vec<f32> = (0..tokenizer.vocab_size()).map(|_| unit(&mut random)).collect();
                let start = Instant::now();
                constraint.mask(&mut logits)?;
                masks.push(start.elapsed());
                let best = (0u32..).zip(&logits).max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(id, _)| id);
                let start = Instant::now();
                constraint.accept(best)?;
                accepts.push(start.elapsed());
                if constraint.is_done() {
                    break;
                }
            }
        }
        println!("{name}: compiled in {compiled:.1?}; mask {}; accept {}", figures(masks), figures(accepts));
    }
    Ok(())
}

fn unit(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 40) as f32 / (1u64 << 24) as f32
}

fn figures(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |part: f64| {
        times.get((times.len() as f64 * part) as usize).or(times.last()).copied().unwrap_or_default()
    };
    format!("median {:.0?}, 95 % below {:.0?}, most {:.0?} of {}", at(0.5), at(0.95), at(1.0), times.len())
}
