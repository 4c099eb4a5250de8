//! `autarky plan fit`

use anyhow::Result;
use autarky_plan::search::{Memory, MemoryAsk, fit};
use serde_json::Value;

use super::page;
use super::refused::{Refused, assumed, open};
use super::table::{Table, number, rounded, text, value};
use crate::args::{FitArgs, format};
use crate::commands::{print, print_json};
use crate::terminal::Style;

const GIB: f64 = (1u64 << 30) as f64;

pub(super) fn run(args: &FitArgs) -> Result<()> {
    page::check(&args.on.html)?;
    let model = open(&args.on.model)?;
    let ask = MemoryAsk {
        context: f64::from(args.context),
        batch: f64::from(args.batch),
        kv_bits: f64::from(args.kv_bits),
        chips: args.count.map(f64::from),
    };
    let mut table = Table::new([
        text("chip", "chip"),
        text("format", "format"),
        number("chips", "chips"),
        number("needed", "needed"),
        number("tensor", "tensor"),
        number("pipeline", "pipeline"),
        number("memory_gib", "GiB"),
        number("weights_gib", "weights"),
        number("cache_kib_per_token", "cache KiB/token"),
        number("cache_gib", "cache"),
        number("activations_gib", "activations"),
        number("reserve_gib", "reserve"),
        number("left_gib", "left"),
        number("max_context", "longest context"),
        number("max_batch", "largest batch"),
    ]);
    let mut refused = Refused::default();
    for chip in args.on.chips()? {
        for name in &args.format {
            match fit(&model, &chip, &format(name)?, &ask) {
                Ok(m) => table.push(row(&chip.id, name, &m)),
                Err(e) => refused.push(&format!("{} in {name}", chip.id), &e),
            }
        }
    }
    refused.only(table.is_empty())?;
    page::write(&args.on.html, || {
        let title = format!("{}: what of it goes where", model.name);
        let bars = table.bars("Chips needed", "chips", &["chip", "format"], ["needed", "needed", "needed"]);
        let lead = format!("{} sequences of {} positions. GiB over all chips.", args.batch, args.context);
        page::of(title, &lead, vec![bars], table.on_page(), &(refused.text() + &assumed(&model)))
    })?;
    match (args.on.table.json, args.on.table.csv) {
        (true, _) => print_json(&serde_json::json!({
            "model": model.name,
            "weights": model.total(),
            "context": args.context,
            "batch": args.batch,
            "kv_bits": args.kv_bits,
            "plans": table.json(),
            "refused": refused.json(),
            "assumed": model.assumed,
        })),
        (_, true) => table.print(&args.on.table),
        _ => {
            let head = format!(
                "{}: {:.4} billion weights; {} sequences of {} positions, GiB over all chips\n\n",
                model.name,
                model.total() / 1e9,
                args.batch,
                args.context
            );
            print(&(head + &table.text(Style::stdout()) + &refused.text() + &assumed(&model)))
        }
    }
}

fn row(chip: &str, format: &str, m: &Memory) -> [Value; 15] {
    let gib = |bytes: f64| rounded(bytes / GIB);
    [
        chip.into(),
        format.into(),
        value(m.chips),
        value(m.needed),
        value(m.tensor),
        value(m.pipeline),
        gib(m.memory),
        gib(m.weights),
        rounded(m.cache_per_token / 1024.0),
        gib(m.cache),
        gib(m.activations),
        gib(m.reserve),
        gib(m.left),
        value(m.max_context),
        value(m.max_batch),
    ]
}
