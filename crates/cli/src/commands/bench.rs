//! `autarky bench`

mod limits;
mod machine;
mod rounds;
mod train;
mod turns;

use anyhow::Result;
use autarky_cpu::{Pool, matmul::peak::Reader};
use autarky_engine::Options;
use autarky_engine::memory::human;
use autarky_graph::CacheDType;
use serde_json::{Value, json};

use super::{print, print_json};
use crate::args::{BenchArgs, DeviceName};
use crate::exit::Usage;
use crate::load;
use crate::terminal::Progress;
use limits::{Demand, Peaks, Shares};
use machine::{Machine, Resident};
use rounds::{Rates, Rounds};

/// What resident memory may be beyond the file (with 15%) and the KV cache, after load.
const RESIDENT_SLACK: u64 = 200 << 20;

pub(super) fn run(args: &BenchArgs) -> Result<()> {
    check(args)?;
    if args.train {
        return train::run(args);
    }
    let model = load::model(&args.model)?;
    let cache = load::cache_dtype(&model, args.kv);
    let options = options(args, cache);
    let loaded = load::engine(&model, &args.device, options)?;
    let resident = Resident::now();
    let cache_bytes = loaded.engine.memory().cache;
    let with_peaks = args.device.device == DeviceName::Cpu && !args.no_peak;
    let measure_peaks = |rates: &Rates| {
        with_peaks.then(|| Peaks::measure(loaded.threads, &loaded.instruction_set, rates.bandwidth))
    };

    let memory = (with_peaks && args.generate > 0).then(|| {
        let pool = Pool::new(loaded.threads);
        let reader = Reader::new(&pool, limits::BANDWIDTH_BYTES);
        (pool, reader)
    });
    let mut rounds = Rounds::new(args, loaded.engine, memory)?;
    let rates = if args.turns {
        turns::run(&mut rounds, &measure_peaks)?
    } else {
        in_a_row(&mut rounds, args.rounds)?
    };
    let all = |of: &dyn Fn(&Rates) -> Option<f64>| -> Vec<f64> { rates.iter().filter_map(of).collect() };
    let (prefill, decode) = (all(&|r| Some(r.prefill)), all(&|r| r.decode));
    let bandwidth = median(&all(&|r| r.bandwidth));
    let rates = median(&prefill).map(|prefill| Rates { prefill, decode: median(&decode), bandwidth });

    let work = Demand::of(&model, args, cache)?;
    let machine = Machine::here();
    let bar = 1.15 * model.file_bytes() as f64 + (cache_bytes + RESIDENT_SLACK) as f64;
    let memory = rounds.engine().memory();
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
        "kv": cache.name(),
        "load_seconds": loaded.load_time.as_secs_f64(),
        "prefill_tokens_per_second": median(&prefill),
        "decode_tokens_per_second": median(&decode),
        "prefill_rounds": prefill,
        "decode_rounds": decode,
        "file_bytes": model.file_bytes(),
        "cache_bytes": cache_bytes,
        "weights_bytes": memory.weights,
        "arena_bytes": memory.arena,
        "resident_bytes": resident.map(|r| r.total),
        "resident_anonymous_bytes": resident.map(|r| r.anonymous),
        "resident_file_bytes": resident.map(|r| r.file),
        "resident_bar_bytes": bar as u64,
        "resident_within_bar": resident.map(|r| r.total as f64 <= bar),
        "prefill_ops": work.prefill_ops,
        "prefill_bytes": work.prefill_bytes,
        "decode_step_ops": work.decode_ops,
        "decode_step_bytes": work.decode_bytes,
    });
    // Turns have printed the peaks, each round its own.
    let peaks = if args.turns { None } else { rates.as_ref().and_then(measure_peaks) };
    let shares = peaks.zip(rates).map(|(p, r)| Shares::of(&p, &work, r, args));
    if let (Some(p), Some(s), Value::Object(json)) = (peaks, shares, &mut json) {
        p.describe(json);
        json.insert("decode_bandwidth_share".into(), s.bandwidth.into());
        json.insert("prefill_peak_ops_share".into(), s.ops.into());
    }
    if args.turns {
        return print(&format!("{json}\n"));
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
    let ops = shares.map(|s| format!("  {:4.1}% of peak arithmetic", 100.0 * s.ops));
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

/// Refuses sizes of nothing.
fn check(args: &BenchArgs) -> Result<()> {
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
    Ok(())
}

/// The engine's sizes for the work.
fn options(args: &BenchArgs, cache: CacheDType) -> Options {
    let context = args.depth.saturating_add(args.prompt).saturating_add(args.generate);
    Options {
        context,
        sequences: args.sequences,
        positions: None,
        chunk: args.chunk.min(context.saturating_mul(args.sequences)),
        outputs: args.sequences,
        cache,
    }
}

/// What a benchmark found, and what it had to do, for commands that set forecasts beside it. Rates are medians, tokens/s.
pub(super) struct Measured {
    pub(super) bandwidth: f64,
    pub(super) integer_ops: f64,
    pub(super) float_flops: f64,
    /// Operations a prompt's token.
    pub(super) prefill_ops: f64,
    /// Operations and bytes an answer's token.
    pub(super) decode_ops: f64,
    pub(super) decode_bytes: f64,
    /// Whether most weights are floating-point numbers.
    pub(super) floating: bool,
    pub(super) layers: f64,
    /// Tokens of a step of prefill.
    pub(super) chunk: f64,
    pub(super) prefill: f64,
    pub(super) decode: Option<f64>,
}

/// Runs the benchmark of `args` and measures the machine beside it.
pub(super) fn measure(args: &BenchArgs) -> Result<Measured> {
    check(args)?;
    if args.train {
        return Err(
            Usage("--train: forecasts are of prefill and decode here; see bench --train".to_owned()).into()
        );
    }
    let model = load::model(&args.model)?;
    let cache = load::cache_dtype(&model, args.kv);
    let options = options(args, cache);
    let work = Demand::of(&model, args, cache)?;
    let loaded = load::engine(&model, &args.device, options)?;
    let pool = Pool::new(loaded.threads);
    let reader = Reader::new(&pool, limits::BANDWIDTH_BYTES);
    let mut rounds = Rounds::new(args, loaded.engine, Some((pool, reader)))?;
    let rates = in_a_row(&mut rounds, args.rounds)?;
    let all = |of: &dyn Fn(&Rates) -> Option<f64>| median(&rates.iter().filter_map(of).collect::<Vec<_>>());
    let peaks = Peaks::measure(loaded.threads, &loaded.instruction_set, all(&|r| r.bandwidth));
    let sequences = args.sequences as f64;
    Ok(Measured {
        bandwidth: peaks.bandwidth,
        integer_ops: peaks.ops,
        float_flops: peaks.flops,
        prefill_ops: work.prefill_ops / (sequences * args.prompt as f64),
        decode_ops: work.decode_ops / sequences,
        decode_bytes: work.decode_bytes / sequences,
        floating: model.dtypes().first().is_some_and(|t| t.dtype.is_float()),
        layers: model.config().layers as f64,
        chunk: options.chunk.min(args.prompt * args.sequences) as f64,
        prefill: all(&|r| Some(r.prefill)).unwrap_or(0.0),
        decode: all(&|r| r.decode),
    })
}

/// Rounds one after another.
fn in_a_row(rounds: &mut Rounds<'_>, count: usize) -> Result<Vec<Rates>> {
    let mut progress = Progress::new("bench");
    let mut all = Vec::new();
    for i in 0..count {
        progress.set(i as u64, count as u64, "");
        all.push(rounds.next()?);
    }
    Ok(all)
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
