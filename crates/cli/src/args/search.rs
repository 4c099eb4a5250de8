//! `autarky plan`: what fits on chips, and the best way to serve or to train there.

use std::sync::Arc;

use anyhow::Result;
use autarky_plan::Chip;
use autarky_plan::predict::Format;
use autarky_plan::search::Costs;
use clap::{Args, ValueEnum};

use super::{CatalogArgs, HtmlArgs, TableArgs};
use crate::exit::Usage;

/// Which model and which chips.
#[derive(Debug, Args)]
pub(crate) struct OnArgs {
    /// A model: a name, a GGUF file, a Hugging Face folder or its config.json (weights need not be there)
    pub(crate) model: String,

    /// Chips to look at: ids, names, or parts that only one chip has
    #[arg(long = "chip", value_name = "CHIP,...", value_delimiter = ',', required = true)]
    pub(crate) chip: Vec<String>,

    #[command(flatten)]
    pub(crate) catalog: CatalogArgs,

    #[command(flatten)]
    pub(crate) html: HtmlArgs,

    #[command(flatten)]
    pub(crate) table: TableArgs,
}

impl OnArgs {
    pub(crate) fn chips(&self) -> Result<Vec<Arc<Chip>>> {
        let catalog = self.catalog.catalog()?;
        self.chip.iter().map(|name| Ok(Arc::new(catalog.find(name)?.clone()))).collect()
    }
}

/// The format of that name.
pub(crate) fn format(name: &str) -> Result<Format, Usage> {
    Format::named(name).ok_or_else(|| {
        let names = Format::names().collect::<Vec<_>>().join(", ");
        Usage(format!("--format {name}: no such format; there are {names}, and gguf-..."))
    })
}

#[derive(Debug, Args)]
pub(crate) struct CostArgs {
    /// Price of a chip with its share of the machine, USD [default: as the chip's file says]
    #[arg(long, value_name = "USD")]
    pub(crate) price: Option<f64>,

    /// Rent of a chip, USD an hour with its power: takes the place of price and electricity
    #[arg(long, value_name = "USD")]
    pub(crate) rent: Option<f64>,

    /// Price of electricity, USD/kWh
    #[arg(long, value_name = "USD", default_value_t = 0.10)]
    pub(crate) electricity: f64,

    /// Share of the thermal design power that is drawn at work
    #[arg(long, value_name = "SHARE", default_value_t = 0.8)]
    pub(crate) duty: f64,

    /// Years in which a bought chip pays for itself
    #[arg(long, value_name = "YEARS", default_value_t = 4.0)]
    pub(crate) years: f64,
}

impl CostArgs {
    pub(crate) fn costs(&self) -> Result<Costs, Usage> {
        let given = [("--price", self.price), ("--rent", self.rent), ("--years", Some(self.years))];
        let free = [("--electricity", Some(self.electricity)), ("--duty", Some(self.duty))];
        let wrong = |(_, v): &&(&str, Option<f64>)| v.is_some_and(|v| !v.is_finite() || v < 0.0);
        if let Some((name, _)) = given.iter().chain(&free).find(wrong) {
            return Err(Usage(format!("{name}: a number from 0 on is wanted")));
        }
        if self.years == 0.0 {
            return Err(Usage("--years: more than 0 are wanted".to_owned()));
        }
        Ok(Costs {
            price_usd: self.price,
            rent_usd_per_hour: self.rent,
            electricity_usd_per_kwh: self.electricity,
            duty: self.duty,
            life_hours: self.years * 8766.0,
            ..Costs::default()
        })
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Memory is arithmetic: weights, the cache of a batch of sequences, activations of the largest step, and a tenth
that software and fragments take.

Examples:
  autarky plan fit meta-llama/Llama-3.1-70B --chip h100-sxm,mi300x
  autarky plan fit ./my-model/config.json --chip l40s --format fp8 --context 32768 --batch 8
  autarky plan fit deepseek-ai/DeepSeek-V3 --chip h200-sxm --count 8 --format fp8 --kv-bits 8")]
pub(crate) struct FitArgs {
    #[command(flatten)]
    pub(crate) on: OnArgs,

    /// Number formats of the weights: bf16, fp8, int8, int4w, gguf-q4_k_m, ...
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', default_value = "bf16")]
    pub(crate) format: Vec<String>,

    /// Positions of a sequence
    #[arg(long, value_name = "TOKENS", default_value_t = 8192)]
    pub(crate) context: u32,

    /// Sequences at once
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) batch: u32,

    /// Bits of a number of cache
    #[arg(long, value_name = "BITS", default_value_t = 16)]
    pub(crate) kv_bits: u32,

    /// Chips [default: as few as hold it]
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u32>,
}

/// What plans are listed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ByName {
    /// Output tokens/s and chip
    Throughput,
    /// Seconds that a request takes
    Latency,
    /// USD for a million output tokens
    Cost,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Layouts, formats and batches are searched on up to --count chips; fewer are used where they do better. Rates are
corrected by measured runs, with an interval that is meant to hold 80 % of what one would measure. With --rate, the
best plan is simulated under arrivals by chance, and percentiles are told.

Examples:
  autarky plan serve Qwen/Qwen3-32B --chip h100-sxm,mi300x --input 2048 --output 512 --count 8
  autarky plan serve meta-llama/Llama-3.1-70B --chip b200-sxm --input 1024 --output 1024 --rate 20 --count 16 --tpot-ms 40
  autarky plan serve deepseek-ai/DeepSeek-V3 --chip h200-sxm --input 4096 --output 1024 --count 16 --format fp8 --by latency")]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) on: OnArgs,

    /// Tokens of a prompt
    #[arg(long, value_name = "TOKENS")]
    pub(crate) input: u32,

    /// Tokens of an answer
    #[arg(long, value_name = "TOKENS")]
    pub(crate) output: u32,

    /// Requests in flight over all chips [default: as many as is best]
    #[arg(long, value_name = "N", conflicts_with = "rate")]
    pub(crate) concurrency: Option<f64>,

    /// Requests/s that arrive
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<f64>,

    /// Milliseconds to the first token at most
    #[arg(long, value_name = "MS")]
    pub(crate) ttft_ms: Option<f64>,

    /// Milliseconds a token of an answer at most
    #[arg(long, value_name = "MS")]
    pub(crate) tpot_ms: Option<f64>,

    /// Chips at most
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) count: u32,

    /// Number formats to choose from: bf16, fp8, int8, fp4, int4w, gguf-q4_k_m, ...
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', default_value = "bf16")]
    pub(crate) format: Vec<String>,

    /// Bits of a number of cache [default: as the software does]
    #[arg(long, value_name = "BITS")]
    pub(crate) kv_bits: Option<u32>,

    /// Share of a prompt whose cache is there already, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub(crate) prefix_hit: f64,

    /// The software: vllm, sglang, trtllm, vllm-ascend, llama.cpp, ... [default: vllm, or the vendor's own]
    #[arg(long, value_name = "NAME")]
    pub(crate) stack: Option<String>,

    /// Devices over which a layer is cut [default: searched]
    #[arg(long, value_name = "N")]
    pub(crate) tensor: Option<u32>,

    /// Stages of the pipeline [default: searched]
    #[arg(long, value_name = "N")]
    pub(crate) pipeline: Option<u32>,

    /// What plans are listed by
    #[arg(long, value_name = "BY", default_value = "throughput")]
    pub(crate) by: ByName,

    /// Plans that are listed of each chip
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) top: usize,

    #[command(flatten)]
    pub(crate) cost: CostArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Tensor, pipeline (with virtual stages), data, context and expert parallelism, the microbatch, recomputation and sharding
are searched on up to --count chips; fewer are used where they do better. Whatever is given is not searched.

Examples:
  autarky plan train meta-llama/Llama-3.1-70B --tokens 2e12 --chip h100-sxm,910c --count 1024
  autarky plan train deepseek-ai/DeepSeek-V3 --tokens 14.8e12 --chip h800-sxm --count 2048 --format fp8
  autarky plan train ./config.json --tokens 1e11 --chip mi300x --count 64 --tensor 1 --length 8192")]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    pub(crate) on: OnArgs,

    /// Tokens to train on, such as 15e12
    #[arg(long, value_name = "N")]
    pub(crate) tokens: f64,

    /// Chips at most
    #[arg(long, value_name = "N")]
    pub(crate) count: u32,

    /// The number format of products: bf16, fp8 or fp4
    #[arg(long, value_name = "NAME", default_value = "bf16")]
    pub(crate) format: String,

    /// Tokens of a sequence
    #[arg(long, value_name = "TOKENS", default_value_t = 4096)]
    pub(crate) length: u32,

    /// Sequences of an iteration
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(crate) global_batch: u32,

    /// Devices over which a layer is cut
    #[arg(long, value_name = "N")]
    pub(crate) tensor: Option<u32>,

    /// Stages of the pipeline
    #[arg(long, value_name = "N")]
    pub(crate) pipeline: Option<u32>,

    /// Devices over which a sequence is cut
    #[arg(long, value_name = "N")]
    pub(crate) context: Option<u32>,

    /// Devices over which experts are spread
    #[arg(long, value_name = "N")]
    pub(crate) expert: Option<u32>,

    /// Sequences of a microbatch
    #[arg(long, value_name = "N")]
    pub(crate) micro_batch: Option<u32>,

    /// Train adapters (LoRA) only
    #[arg(long)]
    pub(crate) adapters: bool,

    /// Mean hours between failures that stop the run, a chip [default: 50677, 419 interruptions of 16,384 H100 in 54 days,
    /// arXiv:2407.21783]
    #[arg(long, value_name = "HOURS")]
    pub(crate) mtbf_hours: Option<f64>,

    /// Plans that are listed of each chip
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) top: usize,

    #[command(flatten)]
    pub(crate) cost: CostArgs,
}
