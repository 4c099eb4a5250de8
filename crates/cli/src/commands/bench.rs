//! `autarky bench`

mod machine;

use std::time::{Duration, Instant};

use anyhow::Result;
use autarky_cpu::{Isa, Pool, matmul::peak};
use autarky_engine::memory::human;
use autarky_engine::sampling::Rng;
use autarky_engine::{Engine, EngineError, Options, Outputs, Sequence, Work};
use autarky_family::Model;
use autarky_graph::cost::{self, Storage};
use autarky_graph::{CacheDType, Sizes, WeightId};
use autarky_quant::DType;
use serde_json::{Value, json};

use super::{print, print_json};
use crate::args::{BenchArgs, DeviceName};
use crate::exit::{Interrupted, Usage};
use crate::load;
use crate::terminal::{CtrlC, Progress};
use machine::{Machine, Resident};

/// What resident memory may be beyond the file (with 15%) and the KV cache, after load.
const RESIDENT_SLACK: u64 = 200 << 20;
/// Read to measure memory bandwidth; several times the last-level cache of most machines.
const BANDWIDTH_BYTES: usize = 512 << 20;

pub(super) fn run(args: &BenchArgs) -> Result<()> {
    for (flag, value) in [
        ("--prompt", args.prompt),
        ("--sequences", args.sequences),
        ("--rounds", args.rounds),
        ("--chunk", args.chunk),
    ] {
        if value == 0 {
            return Err(Usage(format!("{flag} 0: must be at least 1")).into());
        }
    }
    let model = load::model(&args.model)?;
    let cache = load::cache_dtype(&model, args.kv);
    let context = args.depth.saturating_add(args.prompt).saturating_add(args.generate);
    let options = Options {
        context,
        sequences: args.sequences,
        chunk: args.chunk.min(context.saturating_mul(args.sequences)),
        outputs: args.sequences,
        cache,
    };
    let loaded = load::engine(&model, &args.device, options)?;
    let resident = Resident::now();
    let mut engine = loaded.engine;
    let cache_bytes = engine.memory().cache;

    let interrupt = CtrlC::watch();
    let mut progress = Progress::new("bench");
    let mut rounds = Vec::new();
    // The first round pages in, warms caches and clocks, and does not count.
    for i in 0..=args.rounds {
        let round = round(args, &mut engine, i as u64, &interrupt)?;
        progress.set(i as u64 + 1, args.rounds as u64 + 1, "");
        if i > 0 {
            rounds.push(round);
        }
    }
    drop(progress);
    let (prefill, decode) = rates(args, &rounds);

    let work = Demand::of(&model, args, cache)?;
    let peaks = (args.device.device == DeviceName::Cpu && !args.no_peak)
        .then(|| Peaks::measure(loaded.threads, &loaded.instruction_set));
    let machine = Machine::here();
    let bar = 1.15 * model.file_bytes() as f64 + (cache_bytes + RESIDENT_SLACK) as f64;
    let mut json = json!({
        "model": args.model.display().to_string(),
        "family": model.family(),
        "parameters": model.graph().parameters(),
        "device": loaded.device,
        "isa": loaded.instruction_set,
        "threads": loaded.threads,
        "machine": machine.json(),
        "prompt": args.prompt,
        "generate": args.generate,
        "depth": args.depth,
        "sequences": args.sequences,
        "chunk": options.chunk,
        "kv": if cache == CacheDType::F16 { "f16" } else { "f32" },
        "load_seconds": loaded.load_time.as_secs_f64(),
        "prefill_tokens_per_second": median(&prefill),
        "decode_tokens_per_second": median(&decode),
        "prefill_rounds": prefill,
        "decode_rounds": decode,
        "file_bytes": model.file_bytes(),
        "cache_bytes": cache_bytes,
        "weights_bytes": engine.memory().weights,
        "arena_bytes": engine.memory().arena,
        "resident_bytes": resident.map(|r| r.total),
        "resident_anonymous_bytes": resident.map(|r| r.anonymous),
        "resident_file_bytes": resident.map(|r| r.file),
        "resident_bar_bytes": bar as u64,
        "resident_within_bar": resident.map(|r| r.total as f64 <= bar),
    });
    let shares = peaks.map(|p| Shares::of(&p, &work, median(&prefill), median(&decode), args));
    if let (Some(p), Some(s), Value::Object(json)) = (peaks, shares, &mut json) {
        json.insert("read_bandwidth".into(), p.bandwidth.into());
        json.insert("peak_ops".into(), p.ops.into());
        json.insert("peak_flops".into(), p.flops.into());
        json.insert("decode_bandwidth_share".into(), s.bandwidth.into());
        json.insert("prefill_peak_ops_share".into(), s.ops.into());
    }
    if args.json {
        return print_json(&json);
    }
    let mut text = format!(
        "machine   {}\nkernels   {}, {} threads\nmodel     {}, {} parameters, file {}\n",
        machine.text(),
        loaded.instruction_set,
        loaded.threads,
        model.family(),
        super::count(model.graph().parameters()),
        human(model.file_bytes()),
    );
    text += &format!("load      {:.2} s\n", loaded.load_time.as_secs_f64());
    if let Some(r) = resident {
        let verdict = if r.total as f64 <= bar { "within" } else { "ABOVE" };
        text += &format!(
            "resident  {} after load ({} KV cache); {verdict} the bar of 1.15 × file + KV cache + 200 MiB = {}\n",
            human(r.total),
            human(cache_bytes),
            human(bar as u64),
        );
    }
    let line = |name: &str, rates: &[f64], share: Option<String>| match median(rates) {
        None => String::new(),
        Some(rate) => {
            let all: Vec<String> = rates.iter().map(|r| format!("{r:.2}")).collect();
            format!("{name}{rate:10.2} tokens/s{}   rounds: {}\n", share.unwrap_or_default(), all.join(" "))
        }
    };
    let ops = shares.and_then(|s| s.ops).map(|x| format!("  {:4.1}% of peak arithmetic", 100.0 * x));
    let bandwidth =
        shares.and_then(|s| s.bandwidth).map(|x| format!("  {:4.1}% of memory bandwidth", 100.0 * x));
    text += &line("prefill ", &prefill, ops);
    text += &line("decode  ", &decode, bandwidth);
    if let Some(p) = peaks {
        let tera = |x: f64| x / 1e12;
        text += &format!(
            "peaks     read {:.1} GB/s, int8 {:.2} Tops/s, f32 {:.2} Tflops/s (measured here, {} threads)\n",
            p.bandwidth / 1e9,
            tera(p.ops),
            tera(p.flops),
            loaded.threads
        );
    }
    print(&text)
}

/// How long one round took.
#[derive(Clone, Copy)]
struct Round {
    prefill: Duration,
    decode: Duration,
}

fn round(args: &BenchArgs, engine: &mut Engine, seed: u64, interrupt: &CtrlC) -> Result<Round> {
    let mut rng = Rng::new(seed);
    let vocabulary = engine.vocabulary() as u64;
    let mut random =
        |n: usize| -> Vec<u32> { (0..n).map(|_| (rng.next_u64() % vocabulary) as u32).collect() };
    let mut sequences: Vec<Sequence> = (0..args.sequences).map(|_| Sequence::new()).collect();
    let check = || if interrupt.pressed() { Err(anyhow::Error::from(Interrupted)) } else { Ok(()) };
    if args.depth > 0 {
        sequences.iter_mut().for_each(|s| s.push(&random(args.depth)));
        prefill(engine, &mut sequences, &check)?;
    }
    sequences.iter_mut().for_each(|s| s.push(&random(args.prompt)));
    let start = Instant::now();
    prefill(engine, &mut sequences, &check)?;
    let prefill = start.elapsed();
    let start = Instant::now();
    for _ in 0..args.generate {
        // Random tokens, so that nothing but the model is timed; logits are made as for sampling.
        sequences.iter_mut().for_each(|s| s.push(&random(1)));
        let mut work: Vec<Work<'_>> = sequences
            .iter_mut()
            .map(|sequence| Work { sequence, tokens: 1, outputs: Outputs::Last })
            .collect();
        engine.step(&mut work)?;
        check()?;
    }
    Ok(Round { prefill, decode: start.elapsed() })
}

/// Computes all pending tokens, as many a step as it takes, the last of each sequence with its logits.
fn prefill(engine: &mut Engine, sequences: &mut [Sequence], check: &dyn Fn() -> Result<()>) -> Result<()> {
    while sequences.iter().any(|s| !s.pending().is_empty()) {
        let mut room = engine.chunk();
        let mut work = Vec::new();
        for sequence in sequences.iter_mut() {
            let pending = sequence.pending().len();
            let tokens = pending.min(room);
            if tokens > 0 {
                room -= tokens;
                let outputs = if tokens == pending { Outputs::Last } else { Outputs::None };
                work.push(Work { sequence, tokens, outputs });
            }
        }
        engine.step(&mut work)?;
        check()?;
    }
    Ok(())
}

/// Tokens a second of every round, over all sequences.
fn rates(args: &BenchArgs, rounds: &[Round]) -> (Vec<f64>, Vec<f64>) {
    let rate = |tokens: usize, time: Duration| (tokens * args.sequences) as f64 / time.as_secs_f64();
    let prefill = rounds.iter().map(|r| rate(args.prompt, r.prefill)).collect();
    let decode = match args.generate {
        0 => Vec::new(),
        n => rounds.iter().map(|r| rate(n, r.decode)).collect(),
    };
    (prefill, decode)
}

fn median(numbers: &[f64]) -> Option<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let n = sorted.len();
    match n {
        0 => None,
        _ if n % 2 == 1 => Some(sorted[n / 2]),
        _ => Some((sorted[n / 2 - 1] + sorted[n / 2]) / 2.0),
    }
}

/// What the mathematics calls for.
struct Demand {
    /// Operations of the prompts' prefill, all sequences.
    prefill_ops: f64,
    /// Bytes that a decode step reads, halfway through the generation.
    decode_bytes: f64,
}

impl Demand {
    fn of(model: &Model, args: &BenchArgs, cache: CacheDType) -> Result<Demand, EngineError> {
        let graph = model.graph();
        let mut dtypes = Vec::with_capacity(graph.weights().len());
        for weight in graph.weights() {
            let found = model.weights().get(&weight.name).map(|t| t.dtype);
            dtypes.push(found.map_err(autarky_graph::CompileError::from)?);
        }
        let of = |id: WeightId| -> DType { dtypes[id.index()] };
        let storage = Storage { weights: &of, cache_bytes: cache.bytes() as f64 };
        let cost = cost::graph(graph, &storage);
        let sizes = |position: usize, tokens: usize| {
            Sizes::new(vec![(position, tokens); args.sequences], args.sequences)
        };
        Ok(Demand {
            prefill_ops: cost.flops.value(&sizes(args.depth, args.prompt)),
            decode_bytes: cost.read.value(&sizes(args.depth + args.prompt + args.generate / 2, 1)),
        })
    }
}

/// What the machine can do at most.
#[derive(Clone, Copy)]
struct Peaks {
    bandwidth: f64,
    ops: f64,
    flops: f64,
}

impl Peaks {
    fn measure(threads: usize, isa: &str) -> Peaks {
        let pool = Pool::new(threads);
        let isa = isa.parse().unwrap_or_else(|_| Isa::detect());
        Peaks {
            bandwidth: peak::read_bandwidth(&pool, BANDWIDTH_BYTES),
            ops: peak::int8_ops(isa, &pool),
            flops: peak::f32_flops(isa, &pool),
        }
    }
}

/// How near the measured speeds are to the peaks.
#[derive(Clone, Copy)]
struct Shares {
    /// Of memory bandwidth, in decode.
    bandwidth: Option<f64>,
    /// Of peak integer arithmetic, in prefill.
    ops: Option<f64>,
}

impl Shares {
    fn of(
        peaks: &Peaks,
        work: &Demand,
        prefill: Option<f64>,
        decode: Option<f64>,
        args: &BenchArgs,
    ) -> Shares {
        let (s, n) = (args.sequences as f64, args.prompt as f64);
        Shares {
            bandwidth: decode.map(|rate| work.decode_bytes * rate / s / peaks.bandwidth),
            ops: prefill.map(|rate| work.prefill_ops / (s * n) * rate / peaks.ops),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
