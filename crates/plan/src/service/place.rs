//! Where work fits, and the best of it.

use std::sync::Arc;

use super::{Precision, Work};
use crate::chips::Chip;
use crate::fit::{Prediction, Predictor};
use crate::model::Model;
use crate::predict::{Format, LATEST_SOFTWARE, Layout, Load, Recompute, Stack, Training, training_memory};
use crate::runs::{Client, Job, Kind, Setup};

/// What servers leave of a device's memory, and what training leaves for buffers.
const USABLE: f64 = 0.9;
/// Chips that are tried at most where the fewest are looked for.
const MOST_CHIPS: f64 = 4096.0;

/// Why work has no place on chips.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // The messages say it.
pub enum NoPlace {
    #[error("the chip's `{figure}` is not known")]
    Missing { figure: &'static str },
    #[error("{needed_gib:.0} GiB do not fit in the {there_gib:.0} GiB of {chips} chips")]
    Memory { needed_gib: f64, there_gib: f64, chips: f64 },
    #[error("no way to cut the work over {chips} chips was found")]
    Layout { chips: f64 },
}

/// Work on chips.
#[derive(Clone, Debug)]
pub struct Placed {
    /// How it runs.
    pub job: Job,
    /// What is predicted.
    pub prediction: Prediction,
    /// The layout in words: `tensor 4, 2 copies`.
    pub layout: String,
    /// Why the number format is not the one that was asked for, where it is not.
    pub format_note: Option<String>,
}

/// The format in which `chip` runs work of this precision, and a remark where it is another than asked for.
pub fn format_for(chip: &Chip, precision: &Precision) -> Result<(Format, Option<String>), NoPlace> {
    let named = |name: &str| Format::named(name).filter(|f| f.native(chip));
    let missing = NoPlace::Missing { figure: "peak_dense_tops" };
    let (wished, first): (&str, &[&str]) = match precision {
        Precision::Half => ("bf16", &["bf16"]),
        Precision::Eight => ("8 bits", &["fp8", "int8"]),
        Precision::Exactly(format) if format.native(chip) => return Ok((format.clone(), None)),
        // Weights keep their size; products run in half precision.
        Precision::Exactly(format) if named("bf16").is_some() => {
            let note = format!("no {} arithmetic: products run in a wider type", format.name);
            return Ok((format.clone(), Some(note)));
        }
        Precision::Exactly(format) => (&format.name, &[]),
    };
    if let Some(format) = first.iter().find_map(|n| named(n)) {
        return Ok((format, None));
    }
    if *precision == Precision::Eight && named("bf16").is_some() {
        let format = Format::named("fp8w-bf16a").ok_or(missing)?;
        return Ok((
            format,
            Some("no 8-bit arithmetic: 8-bit weights, products in half precision".to_owned()),
        ));
    }
    let other = ["fp8", "int8", "fp4"].iter().find_map(|n| named(n)).ok_or(missing)?;
    let note = format!("no peak for {wished} is known: taken in {}", other.name);
    Ok((other, Some(note)))
}

/// Bytes of memory of a device that programs can have.
fn device_memory(chip: &Chip) -> Result<f64, NoPlace> {
    let gib = chip.memory.usable_mib.map(|m| m / 1024.0).or(chip.memory.capacity_gib);
    let gib = gib.ok_or(NoPlace::Missing { figure: "memory.capacity_gib" })?;
    Ok(gib * f64::from(1u32 << 30) / dies(chip))
}

fn dies(chip: &Chip) -> f64 {
    f64::from(chip.dies.unwrap_or(1).max(1))
}

/// Bytes of weights on a device, and of one sequence's cache.
fn needs(model: &Model, format: &Format, layout: &Layout, context: f64) -> f64 {
    let cut = layout.tensor * layout.pipeline;
    let experts = model.experts();
    let outside = (model.total() - experts) * format.outside_bits(model) / 8.0;
    let weights = outside / cut + experts * format.weight_bytes() / layout.expert_devices();
    let copies = (layout.tensor / model.kv_heads).max(1.0);
    weights + 2.0 * model.cache(context) * copies / cut
}

/// Whether so many chips hold the work's model and one sequence.
pub fn holds(chip: &Chip, work: &Work, chips: f64) -> Result<bool, NoPlace> {
    let (format, _) = format_for(chip, &work.precision)?;
    Ok(!layouts(chip, work, &format, chips)?.is_empty())
}

/// The layouts to try, those that fit.
fn layouts(chip: &Chip, work: &Work, format: &Format, chips: f64) -> Result<Vec<Layout>, NoPlace> {
    let devices = (chips * dies(chip)).floor().max(1.0);
    let memory = device_memory(chip)? * USABLE;
    let domain = f64::from(chip.interconnect.max_scale_up_devices.unwrap_or(8).clamp(1, 16)) * dies(chip);
    let context = work.input + work.output;
    let mut found: Vec<Layout> = Vec::new();
    for pipeline in [1.0, 2.0, 4.0, 8.0, 16.0] {
        if pipeline > 1.0 && !found.is_empty() {
            break;
        }
        for tensor in [1.0, 2.0, 4.0, 8.0, 16.0] {
            if tensor * pipeline > devices || tensor > domain.max(1.0) || tensor > work.model.heads {
                continue;
            }
            let spread = work.model.mixture.is_some() && devices > 1.0 && pipeline == 1.0;
            for expert_parallel in [false, true].into_iter().filter(|e| !e || spread) {
                let layout = Layout { devices, tensor, pipeline, expert_parallel };
                // Devices beyond whole copies are left idle, so such a layout is worth less than it says.
                if layout.replicas() * tensor * pipeline < devices && !expert_parallel && tensor > 1.0 {
                    continue;
                }
                if needs(&work.model, format, &layout, context) <= memory {
                    found.push(layout);
                }
            }
        }
    }
    Ok(found)
}

fn stack(chip: &Chip, kind: Kind) -> Stack {
    Stack::named(match (kind, chip.vendor.as_str()) {
        (Kind::Train, _) => "megatron",
        (_, "Huawei") => "vllm-ascend",
        _ => "vllm",
    })
}

/// The best of the layouts of `work` on `chips` chips.
///
/// # Errors
/// A figure of the chip that is missing, or how much memory is.
pub fn best(predictor: &Predictor, chip: &Arc<Chip>, work: &Work, chips: f64) -> Result<Placed, NoPlace> {
    let (format, format_note) = format_for(chip, &work.precision)?;
    let mut jobs: Vec<(Job, String)> = Vec::new();
    let job = |setup| Job {
        kind: work.kind,
        model: work.model.clone(),
        chip: chip.clone(),
        chips,
        format: format.clone(),
        stack: stack(chip, work.kind),
        setup,
    };
    if work.kind == Kind::Train {
        let memory = device_memory(chip)? * USABLE * dies(chip);
        for t in trainings(chip, work, &format, chips) {
            if training_memory(&work.model, &t).total() <= memory {
                let words = format!("tensor {}, pipeline {}, {} copies", t.tensor, t.pipeline, t.data());
                let shared = if t.sharded { ", weights spread over copies" } else { "" };
                jobs.push((job(Setup::Training(t)), words + shared));
            }
        }
    } else {
        for layout in layouts(chip, work, &format, chips)? {
            let words = words(&layout);
            let load = Load {
                input: work.input,
                output: work.output,
                concurrency: work.concurrency,
                burst: None,
                varied: false,
                rate: None,
                prefix_hit: 0.0,
                speculation: 0.0,
                max_sequences: None,
                disaggregated: false,
            };
            let direct = work.kind != Kind::Serve;
            let client = match (direct, work.concurrency) {
                (true, _) => Client::Direct,
                (_, Some(_)) => Client::Closed,
                _ => Client::Saturated,
            };
            let batch = if direct { work.concurrency } else { None };
            jobs.push((job(Setup::Inference { layout, load, client, shared: false, batch }), words));
        }
    }
    if jobs.is_empty() {
        return Err(no_room(chip, work, &format, chips)?);
    }
    let mut best: Option<Placed> = None;
    for (job, layout) in jobs {
        let prediction = predictor.predict(&job).map_err(|figure| NoPlace::Missing { figure })?;
        if best.as_ref().is_none_or(|b| prediction.rate > b.prediction.rate) {
            best = Some(Placed { job, prediction, layout, format_note: format_note.clone() });
        }
    }
    best.ok_or(NoPlace::Layout { chips })
}

fn words(layout: &Layout) -> String {
    let mut words = format!("tensor {}", layout.tensor);
    if layout.pipeline > 1.0 {
        words += &format!(", pipeline {}", layout.pipeline);
    }
    if layout.replicas() > 1.0 {
        words += &format!(", {} copies", layout.replicas());
    }
    if layout.expert_parallel {
        words += ", experts over all";
    }
    words
}

fn no_room(chip: &Chip, work: &Work, format: &Format, chips: f64) -> Result<NoPlace, NoPlace> {
    let gib = f64::from(1u32 << 30);
    let there_gib = device_memory(chip)? * dies(chip) * chips / gib;
    let train = work.kind == Kind::Train;
    // Weights and gradients of 2 and 4 bytes, the optimizer's 12.
    let bytes = if train { 18.0 } else { format.weight_bytes() };
    let needed_gib = work.model.total() * bytes / gib;
    Ok(match needed_gib > there_gib * USABLE {
        true => NoPlace::Memory { needed_gib, there_gib, chips },
        false => NoPlace::Layout { chips },
    })
}

fn trainings(chip: &Chip, work: &Work, format: &Format, chips: f64) -> Vec<Training> {
    let domain = f64::from(chip.interconnect.max_scale_up_devices.unwrap_or(8).clamp(1, 16));
    let sizes = [1.0, 2.0, 4.0, 8.0, 16.0];
    let global = work.concurrency.unwrap_or(chips * 4.0).max(1.0);
    let mut found = Vec::new();
    for tensor in sizes {
        for pipeline in sizes {
            let fits = tensor <= domain && tensor <= work.model.heads && pipeline <= work.model.layers;
            if !fits || (chips / (tensor * pipeline)).fract() != 0.0 {
                continue;
            }
            let data = chips / (tensor * pipeline);
            let expert = work.model.mixture.map_or(1.0, |m| data.min(m.count));
            for (sharded, recompute) in
                [(false, Recompute::None), (true, Recompute::None), (true, Recompute::Full)]
            {
                found.push(Training {
                    released: LATEST_SOFTWARE,
                    devices: chips,
                    tensor,
                    pipeline,
                    virtual_stages: 1.0,
                    context: 1.0,
                    expert,
                    sharded,
                    keep_gathered: false,
                    micro_batch: 1.0,
                    global_batch: global.max(data),
                    length: work.input,
                    recompute,
                    adapters_only: false,
                    small: matches!(format.name.as_str(), "fp8" | "fp4"),
                });
            }
        }
    }
    found
}

/// The fewest chips, a power of two, on which `work` runs, and how.
///
/// # Errors
/// As [`best`] on the most chips that are tried.
pub fn smallest(predictor: &Predictor, chip: &Arc<Chip>, work: &Work) -> Result<(f64, Placed), NoPlace> {
    let mut chips = 1.0;
    loop {
        match best(predictor, chip, work, chips) {
            Ok(placed) => return Ok((chips, placed)),
            Err(missing @ NoPlace::Missing { .. }) => return Err(missing),
            Err(error) if chips >= MOST_CHIPS => return Err(error),
            Err(_) => chips *= 2.0,
        }
    }
}
