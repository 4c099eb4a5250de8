//! `autarky plan serve`

use std::sync::Arc;

use anyhow::Result;
use autarky_plan::Chip;
use autarky_plan::fit::Predictor;
use autarky_plan::predict::Stack;
use autarky_plan::report::{Block, Curve, Curves, Point};
use autarky_plan::search::{ServeAsk, ServePlan, ServeResults, serve};
use autarky_plan::simulate::{Report, Summary};
use serde_json::{Value, json};

use super::page::{self, INTERVALS};
use super::refused::{Refused, assumed, open};
use super::table::{Table, number, rounded, text, value};
use crate::args::{ByName, ServeArgs, format};
use crate::commands::{print, print_json};
use crate::terminal::Style;

pub(super) fn run(args: &ServeArgs) -> Result<()> {
    page::check(&args.on.html)?;
    let model = open(&args.on.model)?;
    let predictor = Predictor::built_in()?;
    let mut table = Table::new([
        text("chip", "chip"),
        number("chips", "chips"),
        text("format", "format"),
        text("layout", "layout"),
        number("concurrency", "in flight"),
        number("output_tokens_per_s", "tokens/s"),
        number("per_chip", "a chip"),
        number("per_chip_low", "low"),
        number("per_chip_high", "high"),
        number("ttft_ms", "TTFT ms"),
        number("tpot_ms", "TPOT ms"),
        number("usd_per_million", "USD/10⁶"),
        number("kwh_per_million", "kWh/10⁶"),
        text("prefill_bound", "prefill bound by"),
        text("decode_bound", "decode bound by"),
        text("basis", "rests on"),
        text("extrapolated", "extrapolated"),
    ]);
    let mut refused = Refused::default();
    let (mut loads, mut notes, mut considered) = (Vec::new(), String::new(), 0);
    let mut curves = Vec::new();
    for chip in args.on.chips()? {
        let ask = ask(args, &chip)?;
        match serve(predictor, &model, &chip, f64::from(args.count), &ask) {
            Ok(found) => {
                considered += found.considered;
                let plans = by(args.by, &found);
                curves.push(curve(&chip, &found.by_throughput));
                let mut seen = Vec::new();
                // Of one layout, the best batch says enough.
                let fresh = |p: &&ServePlan| {
                    let key = (p.format.name.clone(), layout(p));
                    let fresh = !seen.contains(&key);
                    seen.push(key);
                    fresh
                };
                for p in plans.iter().filter(fresh).take(args.top.max(1)) {
                    table.push(row(&chip, p));
                }
                if let Some(best) = plans.first() {
                    notes += &said(&chip, best);
                    if let Some(report) = best.under_load(predictor, &model, &chip, &ask) {
                        loads.push((chip.id.clone(), report));
                    }
                }
                if plans.is_empty() {
                    notes += &format!("{}: no price is known; give --price or --rent\n", chip.id);
                }
            }
            Err(e) => refused.push(&chip.id, &e),
        }
    }
    refused.only(table.is_empty())?;
    page::write(&args.on.html, || {
        let title = format!("{}: prompts of {} tokens, answers of {}", model.name, args.input, args.output);
        let bars = table.bars(
            "Plans",
            "tokens/s a chip",
            &["chip", "format", "layout"],
            ["per_chip", "per_chip_low", "per_chip_high"],
        );
        let curves = Block::Curves(Curves {
            title: "What users and chips get".to_owned(),
            x: "tokens/s a user".to_owned(),
            y: "tokens/s a chip".to_owned(),
            curves,
        });
        let said = format!("{notes}{}{}", refused.text(), assumed(&model));
        page::of(title, INTERVALS, vec![bars, curves], table.on_page(), &said)
    })?;
    match (args.on.table.json, args.on.table.csv) {
        (true, _) => print_json(&json!({
            "model": model.name,
            "input": args.input,
            "output": args.output,
            "interval": 0.8,
            "plans": table.json(),
            "under_load": loads.iter().map(|(chip, r)| load_json(chip, r)).collect::<Vec<_>>(),
            "refused": refused.json(),
            "assumed": model.assumed,
            "considered": considered,
        })),
        (_, true) => table.print(&args.on.table),
        _ => {
            let style = Style::stdout();
            let mut out = format!(
                "{}: prompts of {} tokens, answers of {}; {considered} configurations, low to high is an 80 % interval\n\n",
                model.name, args.input, args.output
            );
            out += &table.text(style);
            for (chip, report) in &loads {
                out += &load_text(chip, report, args.rate.unwrap_or(0.0));
            }
            print(&(out + "\n" + &notes + &refused.text() + &assumed(&model)))
        }
    }
}

fn ask(args: &ServeArgs, chip: &Chip) -> Result<ServeAsk> {
    let mut ask = ServeAsk::new(chip, f64::from(args.input), f64::from(args.output));
    ask.concurrency = args.concurrency;
    ask.rate = args.rate;
    ask.ttft_s = args.ttft_ms.map(|ms| ms / 1e3);
    ask.tpot_s = args.tpot_ms.map(|ms| ms / 1e3);
    ask.formats = args.format.iter().map(|f| format(f)).collect::<Result<_, _>>()?;
    ask.kv_bits = args.kv_bits.map(f64::from);
    ask.prefix_hit = args.prefix_hit;
    ask.tensor = args.tensor.map(f64::from);
    ask.pipeline = args.pipeline.map(f64::from);
    ask.costs = args.cost.costs()?;
    if let Some(name) = &args.stack {
        ask.stack = Stack::named(name);
    }
    Ok(ask)
}

fn by(what: ByName, found: &ServeResults) -> &[ServePlan] {
    match what {
        ByName::Throughput => &found.by_throughput,
        ByName::Latency => &found.by_latency,
        ByName::Cost => &found.by_cost,
    }
}

/// The plans that no other beats both for users and for chips, from slow users to fast ones.
fn curve(chip: &Chip, plans: &[ServePlan]) -> Curve {
    let mut all: Vec<&ServePlan> = plans.iter().collect();
    all.sort_by(|a, b| a.tpot_s.total_cmp(&b.tpot_s));
    let mut best = 0.0;
    let mut points = Vec::new();
    for p in all {
        if p.per_chip() > best {
            best = p.per_chip();
            points.push(Point {
                x: 1.0 / p.tpot_s,
                y: p.per_chip(),
                interval: Some((p.prediction.low.min(best), p.prediction.high)),
                note: format!(
                    "{}, {}, {:.0} in flight",
                    p.format.name,
                    layout(p),
                    p.concurrency * p.instances
                ),
            });
        }
    }
    points.reverse();
    Curve { name: chip.name.clone(), points }
}

fn layout(p: &ServePlan) -> String {
    let l = &p.layout;
    let mut parts = Vec::new();
    if p.instances > 1.0 {
        parts.push(format!("{} x", p.instances));
    }
    parts.push(format!("tensor {}", l.tensor));
    if l.pipeline > 1.0 {
        parts.push(format!("pipeline {}", l.pipeline));
    }
    if l.expert_parallel {
        parts.push(format!("expert {}", l.devices));
    }
    parts.join(" ")
}

fn row(chip: &Arc<Chip>, p: &ServePlan) -> [Value; 17] {
    // Below what they can do, arrivals decide, and no luck brings more.
    let bound = p.per_chip() < 0.999 * p.prediction.rate;
    let high = if bound { p.per_chip() } else { p.prediction.high };
    [
        chip.id.as_str().into(),
        value(p.chips),
        p.format.name.as_str().into(),
        layout(p).into(),
        rounded(p.concurrency * p.instances),
        rounded(p.output_per_s),
        rounded(p.per_chip()),
        rounded(p.prediction.low.min(p.per_chip())),
        rounded(high),
        rounded(p.ttft_s * 1e3),
        rounded(p.tpot_s * 1e3),
        rounded(p.usd_per_million),
        rounded(p.kwh_per_million),
        p.prefill_bound().into(),
        p.decode_bound().into(),
        p.prediction.basis.words().into(),
        p.prediction.extrapolated.into(),
    ]
}

/// What must be said aloud of a chip's best plan.
fn said(chip: &Chip, p: &ServePlan) -> String {
    match p.prediction.extrapolated {
        true => format!(
            "{}: EXTRAPOLATED: no measured run has such sizes; the interval may be too narrow.\n",
            chip.id
        ),
        false => String::new(),
    }
}

fn summary_json(s: &Summary) -> Value {
    let ms = |x: f64| rounded(x * 1e3);
    json!({"mean_ms": ms(s.mean), "p50_ms": ms(s.p50), "p90_ms": ms(s.p90), "p99_ms": ms(s.p99)})
}

fn load_json(chip: &str, r: &Report) -> Value {
    json!({
        "chip": chip,
        "requests": r.outcomes.len(),
        "ttft": summary_json(&r.ttft_s),
        "tpot": summary_json(&r.tpot_s),
        "output_tokens_per_s": rounded(r.output_tokens_per_s),
        "busy": rounded(r.busy_share),
    })
}

fn load_text(chip: &str, r: &Report, rate: f64) -> String {
    let of = |s: &Summary| format!("{:.0} / {:.0} / {:.0}", s.p50 * 1e3, s.p90 * 1e3, s.p99 * 1e3);
    format!(
        "\n{chip}, the first plan under {rate} requests/s by chance, {} simulated: TTFT p50 / p90 / p99 {} ms, TPOT {} ms\n",
        r.outcomes.len(),
        of(&r.ttft_s),
        of(&r.tpot_s)
    )
}
