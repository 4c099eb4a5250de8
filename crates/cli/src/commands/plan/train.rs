//! `autarky plan train`

use anyhow::Result;
use autarky_plan::Chip;
use autarky_plan::fit::Predictor;
use autarky_plan::predict::Recompute;
use autarky_plan::search::{MTBF_SOURCE, Pins, Reliability, TrainAsk, TrainPlan, train};
use serde_json::json;

use super::page::{self, INTERVALS};
use super::refused::{Refused, assumed, open};
use super::table::{Table, number, rounded, text, value};
use crate::args::{TrainArgs, format};
use crate::commands::{print, print_json};
use crate::exit::Usage;
use crate::terminal::Style;

const DAY: f64 = 86_400.0;
const GIB: f64 = (1u64 << 30) as f64;

pub(super) fn run(args: &TrainArgs) -> Result<()> {
    if !(args.tokens.is_finite() && args.tokens >= 1.0) {
        return Err(Usage("--tokens: a number from 1 on is wanted, such as 15e12".to_owned()).into());
    }
    page::check(&args.on.html)?;
    let model = open(&args.on.model)?;
    let predictor = Predictor::built_in()?;
    let mut reliability = Reliability::default();
    if let Some(hours) = args.mtbf_hours {
        if !(hours.is_finite() && hours > 0.0) {
            return Err(Usage("--mtbf-hours: more than 0 are wanted".to_owned()).into());
        }
        reliability.mtbf_hours = hours;
    }
    let ask = ask(args)?;
    let costs = args.cost.costs()?;
    let mut table = Table::new([
        text("chip", "chip"),
        number("chips", "chips"),
        text("layout", "layout"),
        number("micro_batch", "micro"),
        text("recompute", "recompute"),
        number("memory_gib", "GiB"),
        number("tokens_per_s", "tokens/s"),
        number("per_chip", "a chip"),
        number("per_chip_low", "low"),
        number("per_chip_high", "high"),
        number("mfu_percent", "MFU %"),
        number("days", "days"),
        number("days_low", "least"),
        number("days_high", "most"),
        number("goodput_percent", "goodput %"),
        number("mwh", "MWh"),
        number("usd", "USD"),
        text("bound", "bound by"),
        text("basis", "rests on"),
        text("extrapolated", "extrapolated"),
    ]);
    let mut refused = Refused::default();
    let (mut notes, mut considered) = (String::new(), 0);
    for chip in args.on.chips()? {
        match train(predictor, &model, &chip, f64::from(args.count), &ask) {
            Ok(found) => {
                considered += found.considered;
                let mut seen = Vec::new();
                // Pieces of stages and microbatches make little difference.
                let fresh = |p: &&TrainPlan| {
                    let t = &p.training;
                    let key = [t.tensor, t.pipeline, t.data(), t.context, t.expert];
                    let fresh = !seen.contains(&key);
                    seen.push(key);
                    fresh
                };
                for (i, p) in found.plans.iter().filter(fresh).take(args.top.max(1)).enumerate() {
                    let [work, least, most] = p.seconds(args.tokens);
                    let run = reliability.run(work, p.chips, model.total());
                    let slower = run.wall_s / work;
                    let bill = costs.bill(&chip, p.chips, run.wall_s);
                    table.push([
                        chip.id.as_str().into(),
                        value(p.chips),
                        layout(p).into(),
                        value(p.training.micro_batch),
                        recompute(p).into(),
                        rounded(p.memory.total() / GIB),
                        value(p.tokens_per_s().round()),
                        rounded(p.prediction.rate),
                        rounded(p.prediction.low),
                        rounded(p.prediction.high),
                        rounded(p.utilization(&model, &chip).map(|u| u * 100.0)),
                        rounded(run.wall_s / DAY),
                        rounded(least * slower / DAY),
                        rounded(most * slower / DAY),
                        rounded(run.goodput * 100.0),
                        rounded(bill.kwh.map(|kwh| kwh / 1e3)),
                        value(bill.usd.map(f64::round)),
                        p.time.bottleneck().into(),
                        p.prediction.basis.words().into(),
                        p.prediction.extrapolated.into(),
                    ]);
                    if i == 0 {
                        notes += &said(&chip, p, &run);
                    }
                }
            }
            Err(e) => refused.push(&chip.id, &e),
        }
    }
    refused.only(table.is_empty())?;
    page::write(&args.on.html, || {
        let title = format!("{}: training on {:e} tokens", model.name, args.tokens);
        let label = ["chip", "layout"];
        let rates =
            table.bars("Speed", "tokens/s a chip", &label, ["per_chip", "per_chip_low", "per_chip_high"]);
        let days = table.bars("Time", "days", &label, ["days", "days_low", "days_high"]);
        let said = format!("{notes}{}{}", refused.text(), assumed(&model));
        page::of(title, INTERVALS, vec![rates, days], table.on_page(), &said)
    })?;
    match (args.on.table.json, args.on.table.csv) {
        (true, _) => print_json(&json!({
            "model": model.name,
            "tokens": args.tokens,
            "length": args.length,
            "global_batch": args.global_batch,
            "format": args.format,
            "interval": 0.8,
            "mtbf_hours": reliability.mtbf_hours,
            "mtbf_source": if args.mtbf_hours.is_none() { MTBF_SOURCE } else { "given" },
            "plans": table.json(),
            "refused": refused.json(),
            "assumed": model.assumed,
            "considered": considered,
        })),
        (_, true) => table.print(&args.on.table),
        _ => {
            let head = format!(
                "{}: {:e} tokens in {}, {} sequences of {} an iteration; {considered} configurations, low to high is an 80 % interval\n\n",
                model.name, args.tokens, args.format, args.global_batch, args.length
            );
            let text = table.text(Style::stdout());
            print(&(head + &text + "\n" + &notes + &refused.text() + &assumed(&model)))
        }
    }
}

fn ask(args: &TrainArgs) -> Result<TrainAsk> {
    let mut ask = TrainAsk::new(format(&args.format)?);
    ask.length = f64::from(args.length);
    ask.global_batch = f64::from(args.global_batch);
    ask.adapters_only = args.adapters;
    ask.pins = Pins {
        tensor: args.tensor.map(f64::from),
        pipeline: args.pipeline.map(f64::from),
        context: args.context.map(f64::from),
        expert: args.expert.map(f64::from),
        micro_batch: args.micro_batch.map(f64::from),
        ..Pins::default()
    };
    Ok(ask)
}

fn layout(p: &TrainPlan) -> String {
    let t = &p.training;
    let mut parts = Vec::new();
    let sizes = [
        ("tensor", t.tensor),
        ("pipeline", t.pipeline),
        ("data", t.data()),
        ("context", t.context),
        ("expert", t.expert),
    ];
    for (name, size) in sizes.into_iter().filter(|(_, n)| *n > 1.0) {
        parts.push(match name {
            "pipeline" if t.virtual_stages > 1.0 => format!("pipeline {size}x{}", t.virtual_stages),
            _ => format!("{name} {size}"),
        });
    }
    if t.sharded {
        parts.push(if t.keep_gathered { "ZeRO-2" } else { "ZeRO-3" }.to_owned());
    }
    if parts.is_empty() { "one chip".to_owned() } else { parts.join(" ") }
}

fn recompute(p: &TrainPlan) -> &'static str {
    match p.training.recompute {
        Recompute::None => "none",
        Recompute::Selective => "selective",
        Recompute::Full => "full",
    }
}

/// What is said of a chip's best plan below the table.
fn said(chip: &Chip, p: &TrainPlan, run: &autarky_plan::search::Endurance) -> String {
    let mut out = format!(
        "{}: {:.1} failures are to be expected; a checkpoint of {:.0} s every {:.0} min (Young and Daly)\n",
        chip.id,
        run.failures,
        run.checkpoint_s,
        run.interval_s / 60.0
    );
    if p.prediction.extrapolated {
        out += &format!(
            "{}: EXTRAPOLATED: no measured run has such sizes; the interval may be too narrow.\n",
            chip.id
        );
    }
    out
}
