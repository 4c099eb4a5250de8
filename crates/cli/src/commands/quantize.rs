//! `autarky quantize`

mod mix;
mod slabs;

use anyhow::{Context, Result};
use autarky_engine::memory::human;
use autarky_format::TensorSpec;
use autarky_format::gguf::{File, Writer};
use autarky_quant::DType;
use serde_json::json;

use super::{may_write, print, print_json};
use crate::args::QuantizeArgs;
use crate::exit::{Interrupted, Usage};
use crate::terminal::{CtrlC, Progress};
pub(crate) use mix::Mix;

pub(super) fn run(args: &QuantizeArgs) -> Result<()> {
    let mix = Mix::named(&args.mix).ok_or_else(|| Usage(format!("--type {}: unknown type", args.mix)))?;
    let threads = match args.threads {
        Some(0) => return Err(Usage("--threads 0: must be at least 1".to_owned()).into()),
        Some(n) => n.min(1024),
        None => std::thread::available_parallelism().map_or(1, |n| n.get()),
    };
    may_write(&args.output, args.force)?;
    let input = File::open(&args.input).with_context(|| format!("cannot open {}", args.input.display()))?;

    let plan = mix::plan(&input, mix)?;
    let again = |t: &&mix::Planned| !t.from.is_float() && !t.to.is_float() && t.to != t.from;
    if let Some(t) = plan.iter().find(again).filter(|_| !args.requantize) {
        let what = format!(
            "tensor {:?} is {} already, and quantizing it again to {} adds up the errors of both; start from an F16, \
             BF16 or F32 file, or say --requantize",
            t.name, t.from, t.to
        );
        return Err(Usage(what).into());
    }
    let mut metadata = input.metadata().clone();
    mix.describe(&mut metadata);
    let specs: Vec<_> = plan.iter().map(|t| TensorSpec::new(&*t.name, t.to, &*t.shape)).collect();
    let mut writer = Writer::create(&args.output, &metadata, &specs)?;

    let interrupt = CtrlC::watch();
    let mut progress = Progress::new("quantize");
    let total: u64 = plan.iter().map(|t| t.elements() as u64).sum();
    let mut done = 0u64;
    for tensor in &plan {
        let view = input.require(&tensor.name)?;
        slabs::convert(&view, tensor.to, threads, &mut |bytes, elements| {
            writer.append(&tensor.name, bytes)?;
            done += elements as u64;
            progress.set(done, total, &tensor.name);
            if interrupt.pressed() { Err(Interrupted.into()) } else { Ok(()) }
        })
        .with_context(|| format!("cannot quantize tensor {:?} to {}", tensor.name, tensor.to))?;
        input.release(&tensor.name);
    }
    drop(progress);
    input.check_unchanged()?;
    writer.finish()?;

    let bytes = |dtype: fn(&mix::Planned) -> DType| -> u64 {
        plan.iter().map(|t| dtype(t).bytes(t.elements()).unwrap_or(0) as u64).sum()
    };
    let (before, after) = (bytes(|t| t.from), bytes(|t| t.to));
    let bits = 8.0 * after as f64 / total.max(1) as f64;
    let fallbacks: Vec<_> = plan.iter().filter(|t| t.fallback).collect();
    match args.json {
        true => print_json(&json!({
            "output": args.output.display().to_string(),
            "type": mix.name(),
            "tensors": plan.len(),
            "bytes_before": before,
            "bytes_after": after,
            "bits_per_weight": bits,
            "fallbacks": fallbacks.iter().map(|t| json!({"name": t.name, "type": t.to.name()})).collect::<Vec<_>>(),
        })),
        false => {
            let mut text = format!(
                "{} written: {} of tensors, {} before, {bits:.2} bits a weight\n",
                args.output.display(),
                human(after),
                human(before),
            );
            if let Some(first) = fallbacks.first() {
                text += &format!(
                    "{} tensors have rows that are not whole blocks and took another type (such as {:?}: {})\n",
                    fallbacks.len(),
                    first.name,
                    first.to
                );
            }
            print(&text)
        }
    }
}
