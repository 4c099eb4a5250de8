//! `autarky plan here`

use std::path::Path;

use anyhow::Result;
use autarky_plan::here::{Entry, Forecast, History, Machine, Phase, Work, forecast, share};
use serde_json::{Value, json};

use super::super::bench::{self, Measured};
use super::super::{print, print_json};
use super::table::{Table, number, text};
use crate::args::HereArgs;
use crate::terminal::Style;

pub(super) fn run(args: &HereArgs) -> Result<()> {
    let mut history = History::open(&args.history_file())?;
    let found = bench::measure(&args.bench)?;
    let machine = Machine {
        bandwidth: found.bandwidth,
        integer_ops: found.integer_ops,
        float_flops: found.float_flops,
    };
    let work = Work {
        prefill_ops: found.prefill_ops,
        decode_ops: found.decode_ops,
        decode_bytes: found.decode_bytes,
        floating: found.floating,
        layers: found.layers,
        step_tokens: (found.chunk, args.bench.sequences as f64),
    };
    let mut phases = Vec::new();
    for (phase, actual) in [(Phase::Prefill, Some(found.prefill)), (Phase::Decode, found.decode)] {
        let Some(actual) = actual else { continue };
        let f = forecast(&machine, &work, phase, history.entries());
        history.add(Entry {
            at: 0,
            model: args.bench.model.display().to_string(),
            phase,
            machine,
            forecast: f.rate,
            low: f.low,
            high: f.high,
            actual,
            share: share(&machine, &work, phase, actual),
        })?;
        phases.push((phase, f, actual));
    }
    let training = training(&found);
    match args.bench.json {
        true => print_json(&as_json(&machine, &phases, training, &args.history_file())),
        false => print(&as_text(&machine, &phases, training, &history, &args.history_file())),
    }
}

/// Tokens/s of training in floating point: forward, and twice that backward, at half the peak.
fn training(found: &Measured) -> f64 {
    0.5 * found.float_flops / (3.0 * found.prefill_ops)
}

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Prefill => "prefill",
        Phase::Decode => "decode",
    }
}

fn as_json(machine: &Machine, phases: &[(Phase, Forecast, f64)], training: f64, file: &Path) -> Value {
    let phases: Vec<Value> = phases
        .iter()
        .map(|(phase, f, actual)| {
            json!({
                "phase": name(*phase),
                "unit": "tokens/s",
                "predicted": f.rate,
                "low": f.low,
                "high": f.high,
                "actual": actual,
                "limit": f.limit,
                "rests_on_runs": f.runs,
            })
        })
        .collect();
    json!({
        "machine": machine,
        "phases": phases,
        "training": {"predicted": training, "unit": "tokens/s", "actual": null},
        "history": file.display().to_string(),
    })
}

fn as_text(
    machine: &Machine,
    phases: &[(Phase, Forecast, f64)],
    training: f64,
    history: &History,
    file: &Path,
) -> String {
    let mut out = format!(
        "measured here   read {:.1} GB/s, int8 {:.2} Tops/s, f32 {:.2} Tflop/s\n\n",
        machine.bandwidth / 1e9,
        machine.integer_ops / 1e12,
        machine.float_flops / 1e12
    );
    let mut table = Table::new([
        text("phase", "phase"),
        number("predicted", "forecast"),
        number("low", "low"),
        number("high", "high"),
        number("actual", "actual"),
        number("error_percent", "error %"),
        number("limit_percent", "of limit %"),
        text("rests_on", "rests on"),
    ]);
    let round = |x: f64| json!((x * 10.0).round() / 10.0);
    for (phase, f, actual) in phases {
        table.push([
            name(*phase).into(),
            round(f.rate),
            round(f.low),
            round(f.high),
            round(*actual),
            round(100.0 * (f.rate / actual - 1.0)),
            round(100.0 * actual / f.limit),
            match f.runs {
                0 => "the project's benchmarks".into(),
                n => format!("{n} runs here").into(),
            },
        ]);
    }
    out += &table.text(Style::stdout());
    out += &format!(
        "\ntraining in f32 would reach about {training:.1} tokens/s; this build cannot run it yet\n"
    );
    let inside = history.entries().iter().filter(|e| e.low <= e.actual && e.actual <= e.high).count();
    out += &format!(
        "history: {inside} of {} runs lay in their intervals ({})\n",
        history.entries().len(),
        file.display()
    );
    out
}
