//! From a row's words to a job that can be predicted.

use std::sync::Arc;

use serde_json::Value;

use super::words::{number_after, number_before, year};
use super::{Client, Job, Kind, Measured, Quantity, Row, Setup};
use crate::chips::{Catalog, Chip};
use crate::model::Model;
use crate::predict::{Compute, Format, Layout, Load, Recompute, Stack, Training};

/// Why a row cannot be predicted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Skip(pub String);

fn skip(reason: impl Into<String>) -> Skip {
    Skip(reason.into())
}

/// The job that `row` tells of and the figure that it gives for it.
///
/// # Errors
/// What is missing or unknown in the row.
pub fn interpret(row: &Row, chips: &Catalog) -> Result<(Job, Measured), Skip> {
    let kind = Kind::named(&row.kind).ok_or_else(|| {
        skip(format!("kind {:?} is not one that is predicted: train, prefill, decode, serve", row.kind))
    })?;
    let chip = chip(row, chips)?;
    let model =
        Model::from_shape(&row.model).map_err(|size| skip(format!("the model's `{size}` is not given")))?;
    let name = row.dtype_norm.as_deref().or(row.dtype.as_deref()).ok_or_else(|| skip("no `dtype_norm`"))?;
    let mut format = Format::named(name).ok_or_else(|| {
        skip(format!(
            "the format {name:?} is unknown: {}, gguf-...",
            Format::names().collect::<Vec<_>>().join(", ")
        ))
    })?;
    if kind != Kind::Train
        && row.model.name.to_lowercase().contains("gpt-oss")
        && !format.name.starts_with("gguf")
    {
        // Its checkpoints are MXFP4; only chips with FP4 multiply the weights without widening them, by FP8.
        let wide = if chip.peak_dense_tops.fp4.is_some() { Compute::Fp8 } else { Compute::Half };
        (format.weight_bits, format.compute) = (4.4, wide);
    }
    if let Some(gib) = row.model.weights_gib.filter(|g| *g > 0.0) {
        format.weight_bits = 8.0 * gib * f64::from(1u32 << 30) / model.total();
    }
    let chips = row.count.filter(|n| n.is_finite() && *n > 0.0).ok_or_else(|| skip("no `count` of chips"))?;
    let mut stack = Stack::named(stack(row));
    if let Some(year) = year(row.notes.as_deref().unwrap_or("")) {
        stack.graphs = year >= 2025.0;
    }
    let (setup, measured) = match kind {
        Kind::Train => training(row, &model, chips, &format)?,
        _ => inference(row, kind, &model, &chip, chips)?,
    };
    Ok((Job { kind, model, chip, chips, format, stack, setup }, measured))
}

fn chip(row: &Row, chips: &Catalog) -> Result<Arc<Chip>, Skip> {
    let names = [row.chip_id.as_deref(), row.chip.as_deref()];
    let mut problem = None;
    for name in names.into_iter().flatten() {
        match chips.find(name) {
            Ok(chip) => {
                let mut chip = chip.clone();
                // A processor's memory is what its owner put in.
                let other = size(row, "memory_gb_per_s");
                chip.memory.bandwidth_gb_s = other.or(chip.memory.bandwidth_gb_s);
                return Ok(Arc::new(chip));
            }
            Err(e) => problem = problem.or(Some(e.to_string())),
        }
    }
    Err(skip(problem.unwrap_or_else(|| "no `chip_id`".to_owned())))
}

/// The software, from where a row was published and what it says.
fn stack(row: &Row) -> &str {
    let notes = row.notes.as_deref().unwrap_or("");
    let text = format!("{} {notes} {}", row.source, text(row, "command")).to_lowercase();
    if let Some(at) = notes.find("framework ") {
        return notes.get(at + 10..).and_then(|t| t.split([' ', ';']).next()).unwrap_or("server");
    }
    let has = |part: &str| text.contains(part);
    if has("mindie") {
        return "mindie";
    }
    if has("performance-lab") {
        return match () {
            () if has("trtllm") || has("engine tensorrt") => "trtllm",
            () if has("engine sglang") || has("sglang.launch") => "sglang",
            () if row.chip_id.as_deref().is_some_and(|c| c.starts_with("huawei")) => "vllm-ascend",
            () => "vllm",
        };
    }
    const BY_WORD: &[(&str, &str)] = &[
        ("tensorrt-llm", "trtllm"),
        ("vllm-ascend", "vllm-ascend"),
        ("amd.com", "vllm"),
        ("intel.com", "gaudi"),
        ("ik_llama", "ik_llama"),
        ("gpu-benchmarks-on-llm-inference", "llama.cpp"),
        ("ggml-org", "llama.cpp"),
        ("llama.cpp, vulkan", "llama.cpp-vulkan"),
        ("llama.cpp", "llama.cpp"),
        ("chitu", "chitu"),
        ("sglang", "sglang"),
        ("lmsys", "sglang"),
        ("llm-foundry", "composer"),
        ("megatron-bridge", "megatron"),
        ("2205.05198", "megatron-2022"),
        ("internevo", "internevo"),
        ("autarky", "autarky"),
        ("vllm", "vllm"),
    ];
    BY_WORD.iter().find(|(word, _)| has(word)).map_or("other", |(_, name)| name)
}

/// When training software is from: containers are numbered by year and month.
fn released(row: &Row) -> f64 {
    const UNSAID: f64 = 25.0;
    let version = number_after(&row.source, "section ").filter(|v| (15.0..100.0).contains(v));
    version.map_or(UNSAID, |v| v.floor() + (v.fract() * 100.0 - 0.5) / 12.0)
}

/// A number in `parallelism`, or in the first of its `instances`.
fn size(row: &Row, name: &str) -> Option<f64> {
    number(row.parallelism.get(name)?)
}

fn number(value: &Value) -> Option<f64> {
    let n = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    (n.is_finite() && n >= 1.0).then_some(n)
}

fn text<'a>(row: &'a Row, name: &str) -> &'a str {
    row.parallelism.get(name).and_then(Value::as_str).unwrap_or("")
}

fn is_true(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Bool(b)) => *b,
        Some(v) => number(v).is_some_and(|n| n > 1.0),
        None => false,
    }
}

fn inference(
    row: &Row,
    kind: Kind,
    model: &Model,
    chip: &Chip,
    chips: f64,
) -> Result<(Setup, Measured), Skip> {
    let notes = row.notes.as_deref().unwrap_or("");
    let per_chip = f64::from(chip.dies.unwrap_or(1).max(1));
    let mut devices = (chips * per_chip).round().max(1.0);
    let note = text(row, "note");
    let mut tensor = size(row, "tp");
    let mut pipeline = size(row, "pp").unwrap_or(1.0);
    let mut expert = ["ep", "moe_ep", "expert_parallel"].iter().any(|n| is_true(row.parallelism.get(*n)));
    let mut max_sequences = None;
    let mut speculation = 0.0;
    if let Some(instance) = row.parallelism.get("instances").and_then(|i| i.get(0)) {
        tensor = instance.get("tp").and_then(number).or(tensor);
        expert |= is_true(instance.get("ep"));
        max_sequences = instance.get("max_num_seqs").and_then(number);
        speculation = instance.get("spec_tokens").and_then(number).unwrap_or(0.0);
    }
    let disaggregated = row.parallelism.contains_key("prefill_tp_dp");
    if disaggregated {
        let first = |name: &str| row.parallelism.get(name)?.get(0)?.get(0).and_then(number);
        tensor = first("decode_tp_dp").or(first("prefill_tp_dp")).or(tensor);
        expert = true;
        let guesses = row.parallelism.get("spec_tokens").and_then(Value::as_array);
        speculation = guesses.into_iter().flatten().filter_map(number).fold(0.0, f64::max);
    }
    let command = format!("{} {}", text(row, "command"), text(row, "variant"));
    const TENSOR_FLAGS: [&str; 5] = ["-tp ", "-tp=", "--tp-size ", "--tensor-parallel-size ", "--tp_size "];
    tensor = tensor.or_else(|| TENSOR_FLAGS.iter().find_map(|f| number_after(&command, f)));
    if command.contains("speculative") {
        const GUESSES: [&str; 2] = ["--speculative-num-steps ", "\"num_speculative_tokens\":"];
        let said =
            GUESSES.iter().find_map(|f| number_after(text(row, "variant"), f).or(number_after(&command, f)));
        speculation = f64::max(speculation, said.unwrap_or(3.0));
    }
    // "DEP8": attention is copied on 8 devices, experts are spread over them.
    if let Some(n) = number_after(note, "DEP") {
        tensor = Some(1.0);
        expert = n > 1.0;
        pipeline = number_after(note, " PP").unwrap_or(1.0);
    }
    if let (Some(t), Some(mt), Some(me)) = (tensor, size(row, "moe_tp"), size(row, "moe_ep")) {
        if mt == me && mt >= 4.0 && t == mt * me {
            // Both names are of the same devices, which the row has multiplied.
            (devices, tensor, expert) = (mt, Some(mt), true);
        } else if t >= 32.0 && mt == t {
            // No attention layer is cut over 32 devices: a rack runs copies of it.
            (tensor, expert) = (Some(1.0), true);
        }
    }
    let copied = note.contains("DEP") || row.parallelism.contains_key("ep");
    let tensor =
        tensor.unwrap_or(if copied { 1.0 } else { (devices / pipeline).max(1.0) }).clamp(1.0, devices);
    let layout = Layout { devices, tensor, pipeline, expert_parallel: expert };

    let source = row.source.as_str();
    let client = match () {
        () if kind != Kind::Serve => Client::Direct,
        () if notes.contains("concurrency ") && !notes.contains("CI baseline") => Client::Closed,
        () if source.contains("performance-lab") && row.batch.is_none() => Client::Burst,
        () if notes.contains("maximum-load") => Client::Saturated,
        () if notes.contains("CI baseline") => Client::Gate,
        () if row.batch.is_some() => Client::Closed,
        () => Client::Saturated,
    };
    let requests = number_before(notes, " requests");
    let figure_requests = row.figure("requests");
    let mut concurrency = number_after(notes, "concurrency ").or(row.batch);
    if let (Some(c), Some(n)) = (concurrency, requests) {
        concurrency = Some(c.min(n));
    }
    // Clients spread over replicas of which the row counts one: its figure is that of all of them.
    let mut replicas = 1.0;
    if let (Some(clients), Some(batch), Some(1.0)) = (concurrency, row.batch, size(row, "attention_dp"))
        && model.mixture.is_none()
        && clients >= 4.0 * batch
        && clients % batch == 0.0
    {
        (concurrency, replicas) = (Some(batch), clients / batch);
    }
    let hit = number_before(notes, " % of the prompt").or(number_before(notes, " % cached prefix"));
    let rate =
        number_after(notes, "request rate ").or(number_after(notes, "prompts at ")).filter(|r| *r > 0.0);
    let load = Load {
        input: row.isl.filter(|n| *n >= 0.0).unwrap_or(0.0),
        output: row.osl.filter(|n| *n > 0.0).unwrap_or(if kind == Kind::Serve { 128.0 } else { 0.0 }),
        concurrency,
        burst: figure_requests.or(requests).filter(|_| concurrency.is_none()),
        varied: notes.contains("ShareGPT"),
        rate,
        prefix_hit: hit.map_or(0.0, |h| (h / 100.0).clamp(0.0, 1.0)),
        speculation,
        max_sequences,
        disaggregated,
    };
    // A prompt at some depth in small pieces costs what decoding so many tokens of one sequence does.
    let shared = kind == Kind::Prefill && notes.contains("depth");
    let batch = match kind {
        // DeepSeek's published deployments give the batch of a device.
        Kind::Decode if notes.contains("per GPU") => row.batch.map(|b| b * devices),
        Kind::Decode => Some(row.batch.unwrap_or(64.0 * if expert { devices } else { 1.0 })),
        _ => row.batch,
    };
    if kind == Kind::Serve && !(load.input > 0.0 || row.isl == Some(0.0)) {
        return Err(skip("no `isl` (tokens of a prompt)"));
    }
    if kind == Kind::Prefill && load.input <= 0.0 {
        return Err(skip("no `isl` (tokens of a prompt)"));
    }
    let mut measured = inference_figure(row, kind, chips)?;
    if let Quantity::Rate(scale) = &mut measured.quantity {
        *scale *= replicas;
    }
    Ok((Setup::Inference { layout, load, client, shared, batch }, measured))
}

fn inference_figure(row: &Row, kind: Kind, chips: f64) -> Result<Measured, Skip> {
    let input = row.isl.unwrap_or(0.0);
    // (field, what one token/s and chip is in it)
    let nodes = size(row, "nodes").map_or(8.0, |n| chips / n);
    let fields: &[(&str, f64)] = match kind {
        Kind::Serve => &[
            ("output_tokens_per_s_per_device", 1.0),
            ("derived_output_tokens_per_s_per_device", 1.0),
            ("output_tokens_per_s_per_device_approx", 1.0),
            ("output_tokens_per_s_total", chips),
        ],
        Kind::Prefill => &[
            ("input_tokens_per_s_total", chips),
            ("input_tokens_per_s_per_device", 1.0),
            ("input_tokens_per_s_per_node", nodes),
            ("prefill_tokens_per_s", chips),
            ("tokens_per_s_total", chips),
        ],
        _ => &[
            ("output_tokens_per_s_per_device", 1.0),
            ("output_tokens_per_s_per_node", nodes),
            ("output_tokens_per_s_total", chips),
            ("decode_tokens_per_s", chips),
            ("tokens_per_s_total", chips),
        ],
    };
    for (field, scale) in fields {
        if let Some(value) = row.figure(field) {
            let unit = if *scale == 1.0 { "tokens/s per device" } else { "tokens/s" };
            return Ok(Measured {
                field: (*field).to_owned(),
                unit,
                value,
                quantity: Quantity::Rate(*scale),
            });
        }
    }
    if let (Kind::Decode, Some(value)) = (kind, row.figure("tokens_per_s_per_sequence")) {
        let field = "tokens_per_s_per_sequence".to_owned();
        return Ok(Measured {
            field,
            unit: "tokens/s per sequence",
            value,
            quantity: Quantity::Rate(chips / row.batch.unwrap_or(1.0)),
        });
    }
    if let (Kind::Prefill, Some(seconds)) = (kind, row.figure("ttft_s")) {
        // Seconds to the first token, told as prompt tokens/s.
        let value = input / seconds;
        return Ok(Measured {
            field: "ttft_s".to_owned(),
            unit: "tokens/s",
            value,
            quantity: Quantity::Rate(chips),
        });
    }
    Err(skip(format!("no figure that a {} run is predicted by: {}", kind.name(), names(fields))))
}

fn names(fields: &[(&str, f64)]) -> String {
    fields.iter().map(|f| f.0).collect::<Vec<_>>().join(", ")
}

fn training(row: &Row, model: &Model, chips: f64, format: &Format) -> Result<(Setup, Measured), Skip> {
    let get = |name: &str| size(row, name).unwrap_or(1.0);
    let length = row
        .isl
        .or(row.model.seq)
        .filter(|n| *n > 0.0)
        .ok_or_else(|| skip("no `isl` (tokens of a sequence)"))?;
    let recompute = match text(row, "recompute") {
        t if t.contains("full") => Recompute::Full,
        t if t.contains("selective") => Recompute::Selective,
        _ => Recompute::None,
    };
    let fsdp = row.parallelism.get("fsdp");
    let sharded = match fsdp {
        Some(Value::String(s)) => s != "NO_SHARD" && s != "None",
        Some(v) => number(v).is_some_and(|n| n > 1.0),
        None => false,
    };
    let mut t = Training {
        devices: chips,
        tensor: get("tp"),
        pipeline: get("pp"),
        virtual_stages: get("vp"),
        context: get("cp"),
        expert: get("ep"),
        sharded,
        keep_gathered: text(row, "fsdp").contains("SHARD_GRAD"),
        micro_batch: get("micro_batch"),
        global_batch: 1.0,
        length,
        recompute,
        adapters_only: text(row, "task").contains("LoRA"),
        released: released(row),
        small: matches!(format.name.as_str(), "fp8" | "fp4"),
    };
    let steps = size(row, "grad_accum").or(size(row, "micro_num")).unwrap_or(1.0);
    t.global_batch = size(row, "global_batch")
        .or_else(|| Some(size(row, "tokens_per_batch")? / length))
        .or(row.batch.filter(|b| *b >= 1.0))
        .unwrap_or(t.micro_batch * t.data() * steps);
    if t.tensor * t.pipeline * t.context > chips {
        return Err(skip(format!(
            "tp {} x pp {} x cp {} is more than {chips} chips",
            t.tensor, t.pipeline, t.context
        )));
    }
    let rate = |field: &str, unit, value: f64, scale: f64| Measured {
        field: field.to_owned(),
        unit,
        value,
        quantity: Quantity::Rate(scale),
    };
    let measured = if let Some(v) = row.figure("tokens_per_s_per_device") {
        rate("tokens_per_s_per_device", "tokens/s per device", v, 1.0)
    } else if let Some(s) = row.figure("iteration_seconds") {
        // Told as a rate: a longer iteration is a lower one.
        rate("iteration_seconds", "tokens/s per device", t.global_batch * length / s / chips, 1.0)
    } else if let Some(v) = row.figure("model_tflops_per_device") {
        let flops = 6.0 * model.active() + 3.0 * model.attention_flops(length, false);
        rate("model_tflops_per_device", "TFLOP/s per device", v, flops / 1e12)
    } else if let Some(value) = row.figure("weights_optimizer_gib_per_device") {
        let field = "weights_optimizer_gib_per_device".to_owned();
        Measured { field, unit: "GiB per device", value, quantity: Quantity::WeightsAndOptimizer }
    } else {
        return Err(skip(
            "no figure that a train run is predicted by: tokens_per_s_per_device, iteration_seconds, model_tflops_per_device",
        ));
    };
    Ok((Setup::Training(t), measured))
}
