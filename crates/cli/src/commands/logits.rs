//! `autarky logits`

use anyhow::Result;
use autarky_engine::{Options, Sequence};
use autarky_format::TensorSpec;
use autarky_format::safetensors::{SafeDType, Writer};
use serde_json::json;

use super::{may_write, print, print_json};
use crate::args::LogitsArgs;
use crate::exit::Usage;
use crate::load;

/// Positions whose logits one step gives: a step's logits must not take gigabytes.
const OUTPUTS: usize = 64;

pub(super) fn run(args: &LogitsArgs) -> Result<()> {
    may_write(&args.output, args.force)?;
    let model = load::model(&args.model)?;
    let vocabulary = model.config().vocabulary;
    if let Some(id) = args.ids.iter().find(|&&id| id as usize >= vocabulary) {
        return Err(Usage(format!("--ids {id}: the vocabulary has {vocabulary} entries")).into());
    }
    let tokens = args.ids.len();
    let options = Options {
        context: tokens,
        sequences: 1,
        positions: None,
        chunk: args.chunk.min(tokens),
        outputs: args.chunk.min(tokens).min(OUTPUTS),
        cache: load::cache_dtype(&model, args.kv),
    };
    let mut loaded = load::engine(&model, &args.device, options)?;
    let mut sequence = Sequence::new();
    sequence.push(&args.ids);
    let spec = TensorSpec::new("logits", SafeDType::F32, [tokens, vocabulary]);
    let mut file = Writer::create(&args.output, &[("format", "pt")], &[spec])?;
    let mut best = Vec::with_capacity(tokens);
    loaded.engine.each_logits(&mut sequence, &mut |_, rows| -> Result<()> {
        let bytes: Vec<u8> = rows.iter().flat_map(|x| x.to_le_bytes()).collect();
        file.append("logits", &bytes)?;
        best.extend(rows.chunks_exact(vocabulary).map(highest));
        Ok(())
    })?;
    file.finish()?;
    let output = args.output.display().to_string();
    match args.json {
        true => print_json(&json!({
            "output": output,
            "shape": [tokens, vocabulary],
            "best": best,
            "device": loaded.device,
            "isa": loaded.instruction_set,
            "threads": loaded.threads,
        })),
        false => print(&format!("logits [{tokens}, {vocabulary}] written to {output}\n")),
    }
}

/// The lowest id of the highest logit.
fn highest(row: &[f32]) -> usize {
    (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}
