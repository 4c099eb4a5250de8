//! Steps of training a model with made-up weights on made-up tokens.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use autarky_cpu::{Isa, Profile};
use autarky_engine::memory::human;
use autarky_family::{Outline, outline, outline_of};
use autarky_graph::Device;
use autarky_graph::conformance::Rng;
use autarky_train::initial::Initial;
use autarky_train::{AdamWOptions, Precision, Trainer, TrainerOptions};
use serde_json::{Map, json};

use super::super::train::peak_of;
use super::machine::{Machine, Resident};
use super::{median, print, print_json};
use crate::args::{BenchArgs, DeviceName};
use crate::exit::Usage;
use crate::load;
use crate::terminal::Progress;

/// Steps that are not timed: the first find memory untouched.
const WARM_UP: usize = 2;

/// What is trained: a model's shape, and the sequences of a step.
struct Shape {
    outline: Outline,
    sequences: usize,
    length: usize,
}

impl Shape {
    fn of(args: &BenchArgs) -> Result<Shape> {
        let (width, layers, heads, feed_forward, sequences, length) = match args.model.to_str() {
            Some("15m") => (288, 6, 6, 768, 16, 256),
            Some("110m") => (768, 12, 12, 2048, 4, 512),
            _ => {
                let outline = outline(&args.model)
                    .context("--train takes 15m, 110m, or the config.json of a model of another shape")?;
                return Ok(Shape { outline, sequences: args.sequences, length: args.prompt });
            }
        };
        let config = json!({
            "model_type": "llama",
            "vocab_size": 32_000,
            "hidden_size": width,
            "intermediate_size": feed_forward,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "max_position_embeddings": length,
            "tie_word_embeddings": true,
        });
        let object = config.as_object().cloned().unwrap_or_else(Map::new);
        Ok(Shape { outline: outline_of(&args.model, &object)?, sequences, length })
    }
}

/// Seconds of a step by kind of work, as the first thread spends them, most first.
fn kinds(profile: &Profile, time: Duration, steps: usize) -> Vec<(&'static str, f64)> {
    let (_, mut kinds) = profile.take();
    let rest = time.saturating_sub(kinds.iter().map(|(_, time)| *time).sum());
    kinds.push(("optimizer and the rest", rest));
    kinds.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    kinds.into_iter().map(|(kind, time)| (kind, time.as_secs_f64() / steps as f64)).collect()
}

pub(super) fn run(args: &BenchArgs) -> Result<()> {
    let Shape { outline, sequences, length } = Shape::of(args)?;
    let (device, threads, profile): (Box<dyn Device>, _, _) = match (args.profile, args.device.device) {
        (false, _) => {
            let (device, threads) = load::device(&args.device)?;
            (device, threads, None)
        }
        (true, DeviceName::Cpu) => {
            let cpu = load::cpu(&args.device, true)?;
            let (threads, profile) = (cpu.threads(), cpu.profile());
            (Box::new(cpu), threads, profile)
        }
        (true, _) => return Err(Usage("--profile is for --device cpu".to_owned()).into()),
    };
    let mut rng = Rng::new(1);
    let weights = Initial::new(&outline.graph, outline.config.layers, outline.config.width, 1);
    let precision = args.precision.map(Precision::from).unwrap_or_default();
    let options = TrainerOptions {
        tokens: sequences * length,
        sequences,
        adamw: AdamWOptions::default(),
        muon: None,
        largest_norm: Some(1.0),
        largest_jump: None,
        precision,
        recompute: args.recompute,
        ema: None,
    };
    let mut trainer = Trainer::new(&*device, &outline.graph, &weights, options)?;
    let mut progress = Progress::new("training");
    let all = WARM_UP + args.rounds;
    let (mut rates, mut losses, mut time) = (Vec::new(), Vec::new(), Duration::ZERO);
    for step in 0..all {
        progress.set(step as u64, all as u64, "");
        let mut sequence =
            || -> Vec<u32> { (0..=length).map(|_| rng.below(outline.config.vocabulary) as u32).collect() };
        let tokens: Vec<Vec<u32>> = (0..sequences).map(|_| sequence()).collect();
        let tokens: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
        if step == WARM_UP {
            profile.iter().for_each(|profile| drop(profile.take()));
        }
        let start = Instant::now();
        let report = trainer.step(&tokens, 1e-3)?;
        if step >= WARM_UP {
            time += start.elapsed();
            rates.push(report.tokens as f64 / start.elapsed().as_secs_f64());
            losses.push(report.loss);
        }
    }
    drop(progress);
    let kinds = profile.map(|profile| kinds(&profile, time, args.rounds));

    let parameters = outline.graph.parameters();
    // Two operations a parameter forward, four back.
    let flops = |rate: f64| 6.0 * parameters as f64 * rate;
    let rate = median(&rates).unwrap_or_default();
    let instruction_set = device.abilities().instruction_set;
    let with_peak = args.device.device == DeviceName::Cpu && !args.no_peak;
    let peak = with_peak.then(|| {
        let isa = instruction_set.parse().unwrap_or_else(|_| Isa::detect());
        peak_of(precision, isa, threads)
    });
    let share = peak.map(|peak| flops(rate) / peak);
    let (machine, resident) = (Machine::here(), Resident::now().map(|r| r.total));
    if args.json {
        return print_json(&json!({
            "model": args.model.display().to_string(),
            "family": outline.config.family,
            "parameters": parameters,
            "sequences": sequences,
            "length": length,
            "device": device.name(),
            "isa": instruction_set,
            "threads": threads,
            "precision": precision,
            "machine": machine.json(),
            "train_tokens_per_second": rate,
            "train_rounds": rates,
            "losses": losses,
            "flops": flops(rate),
            "peak_flops": peak,
            "peak_flops_share": share,
            "resident_bytes": resident,
            "seconds_by_kind": kinds.map(|kinds| kinds.into_iter().collect::<BTreeMap<_, _>>()),
        }));
    }
    let each: Vec<String> = rates.iter().map(|r| format!("{r:.0}")).collect();
    let mut text = format!(
        "machine   {}\nkernels   {instruction_set}, {threads} threads\nmodel     {}, {} parameters, {sequences} x {length} \
         tokens a step\n",
        machine.text(),
        outline.config.family,
        super::super::count(parameters),
    );
    let share = share.map_or(String::new(), |s| format!(" ({:.0}% of what this machine can do)", 100.0 * s));
    text += &format!(
        "training  {rate:.0} tokens/s, {:.0} GFLOP/s{share}  rounds: {}\n",
        flops(rate) / 1e9,
        each.join(" ")
    );
    if let Some(resident) = resident {
        text += &format!("resident  {}\n", human(resident));
    }
    for (kind, seconds) in kinds.unwrap_or_default() {
        let share = 100.0 * seconds * args.rounds as f64 / time.as_secs_f64();
        text += &format!("{:>9.1} ms {share:3.0}%  {kind}\n", 1e3 * seconds);
    }
    print(&text)
}
