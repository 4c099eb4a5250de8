//! `autarky plan`: chips and rules.

use std::env;
use std::path::PathBuf;

use anyhow::Result;
use autarky_plan::{Catalog, Date};
use clap::{Args, Subcommand, ValueEnum};

use super::{BenchArgs, ClaimsArgs, FitArgs, FleetArgs, ServeArgs, SwitchArgs, TrainArgs};

#[derive(Debug, Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "\
What is known is part of the program, with the source of each figure; nothing is fetched.

Examples:
  autarky plan chips --vendor huawei
  autarky plan chip h100-sxm
  autarky plan policy h20-96 --on 2025-05-01
  autarky plan fit meta-llama/Llama-3.1-70B --chip h100-sxm
  autarky plan serve Qwen/Qwen3-32B --chip h100-sxm --input 2048 --output 512
  autarky plan train meta-llama/Llama-3.1-70B --tokens 2e12 --chip h100-sxm --count 1024
  autarky plan validate rows.json"
)]
pub(crate) struct PlanArgs {
    #[command(subcommand)]
    pub(crate) command: PlanCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    /// List chips
    Chips(ChipsArgs),
    /// Show everything that is known of a chip, and where it is from
    Chip(ChipArgs),
    /// List export rules and what is known of their enforcement
    Rules(RulesArgs),
    /// Say what each export rule says of a chip, or of figures
    Policy(PolicyArgs),
    /// Say what holds of public statements about chips
    Claims(ClaimsArgs),
    /// Say what the same service takes on other chips
    Switch(SwitchArgs),
    /// Place jobs on a mixed fleet
    Fleet(FleetArgs),
    /// Say what of a model's memory goes where on chips, and how many are needed
    Fit(FitArgs),
    /// Find the best way to serve a model on chips
    Serve(ServeArgs),
    /// Find the best way to train a model on chips
    Train(TrainArgs),
    /// Forecast what a model does on this machine, run it, and show both
    Here(HereArgs),
    /// Compare predictions with measured runs
    Validate(ValidateArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CatalogArgs {
    /// A folder of chips of your own, one TOML file each [default: $AUTARKY_CHIPS, else ~/.config/autarky/chips if it is
    /// there]
    #[arg(long, value_name = "DIR")]
    pub(crate) chips: Option<PathBuf>,
}

impl CatalogArgs {
    /// The chips that come with the program, and the user's own.
    pub(crate) fn catalog(&self) -> Result<Catalog> {
        let set = |name| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let home = || set("HOME").map(|home| home.join(".config/autarky/chips")).filter(|dir| dir.is_dir());
        let built_in = Catalog::built_in()?;
        Ok(match self.chips.clone().or_else(|| set("AUTARKY_CHIPS")).or_else(home) {
            Some(folder) => built_in.with_folder(&folder)?,
            None => built_in.clone(),
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct TableArgs {
    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    pub(crate) json: bool,

    /// Print comma-separated values
    #[arg(long)]
    pub(crate) csv: bool,
}

/// What chips are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortName {
    Id,
    Vendor,
    Year,
    Bf16,
    Fp8,
    Int8,
    Memory,
    Bandwidth,
    Tdp,
    Price,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Peaks are dense, in 10^12 operations/s; bandwidth is in 10^9 bytes/s; prices are what somebody once wrote.

Examples:
  autarky plan chips --class datacenter-accelerator --sort bandwidth
  autarky plan chips --vendor nvidia --sort year
  autarky plan chips --csv > chips.csv")]
pub(crate) struct ChipsArgs {
    /// Only chips of this vendor, or of a vendor with this in its name
    #[arg(long, value_name = "NAME")]
    pub(crate) vendor: Option<String>,

    /// Only chips of this class: datacenter-accelerator, inference-card, workstation-gpu, consumer-gpu, server-cpu,
    /// desktop-cpu, desktop-soc, laptop-soc or system
    #[arg(long, value_name = "CLASS")]
    pub(crate) class: Option<String>,

    /// What to sort by: text and years upwards, figures from the largest
    #[arg(long, value_name = "BY", default_value = "id")]
    pub(crate) sort: SortName,

    #[command(flatten)]
    pub(crate) catalog: CatalogArgs,

    #[command(flatten)]
    pub(crate) table: TableArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  autarky plan chip nvidia-h100-sxm
  autarky plan chip 910b3
  autarky plan chip 'Instinct MI300X' --json | jq .chip.peak_dense_tops")]
pub(crate) struct ChipArgs {
    /// An id, a name, or a part that only one chip has
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) catalog: CatalogArgs,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Not legal advice: read the rule itself, whose citation is shown.

Examples:
  autarky plan rules
  autarky plan rules --on 2023-12-01
  autarky plan rules --text | less")]
pub(crate) struct RulesArgs {
    /// The day to look at [default: today]
    #[arg(long, value_name = "DATE")]
    pub(crate) on: Option<Date>,

    /// Print all that is known of each rule
    #[arg(long, conflicts_with = "csv")]
    pub(crate) text: bool,

    #[command(flatten)]
    pub(crate) table: TableArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
With a chip, a figure that is given takes the place of the chip's.
This is arithmetic on published figures, not legal advice.

Examples:
  autarky plan policy h20-96 --on 2025-05-01
  autarky plan policy --tpp 4700 --die-area 800 --dram-bandwidth 4000 --io-bandwidth 900
  autarky plan policy a100-sxm-80 --io-bandwidth 462      # an A100 with its links cut")]
pub(crate) struct PolicyArgs {
    /// An id, a name, or a part that only one chip has
    #[arg(value_name = "CHIP")]
    pub(crate) name: Option<String>,

    /// Total Processing Performance: the largest of dense 10^12 operations/s x bit length over data types
    #[arg(long, value_name = "N")]
    pub(crate) tpp: Option<f64>,

    /// Area of the logic dies, mm^2
    #[arg(long, value_name = "MM2")]
    pub(crate) die_area: Option<f64>,

    /// Bandwidth of the memory on the package, GB/s
    #[arg(long, value_name = "GB/S")]
    pub(crate) dram_bandwidth: Option<f64>,

    /// Bandwidth of the links to other chips and to the host, both directions together, GB/s
    #[arg(long, value_name = "GB/S")]
    pub(crate) io_bandwidth: Option<f64>,

    /// Bandwidth of a memory stack over its area, GB/s/mm^2: judges the stack by itself, too
    #[arg(long, value_name = "N")]
    pub(crate) hbm_density: Option<f64>,

    /// Neither designed nor marketed for data centres [default: as the chip is, and figures alone are for data centres]
    #[arg(long)]
    pub(crate) consumer: bool,

    /// The day to look at [default: today]
    #[arg(long, value_name = "DATE")]
    pub(crate) on: Option<Date>,

    #[command(flatten)]
    pub(crate) catalog: CatalogArgs,

    #[command(flatten)]
    pub(crate) table: TableArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
ROWS.json is a list of rows, or {\"rows\": [...]}, or one row a line:

  {\"id\": \"mine-1\", \"kind\": \"serve\", \"quality\": 3, \"chip_id\": \"nvidia-h100-sxm\", \"count\": 8,
   \"model\": {\"name\": \"Llama-3.1-70B\", \"hidden\": 8192, \"layers\": 80, \"heads\": 64, \"kv_heads\": 8,
             \"ffn\": 28672, \"vocab\": 128256},
   \"parallelism\": {\"tp\": 8}, \"dtype_norm\": \"fp8\", \"batch\": 64, \"isl\": 1024, \"osl\": 1024,
   \"measured\": {\"output_tokens_per_s_total\": 3000}, \"source\": \"our own run\"}

kind is train, serve, decode or prefill. A row that cannot be predicted is listed with the reason.
The error is predicted / measured - 1; the interval is meant to hold the measured figure in 80 % of runs.

Examples:
  autarky plan validate rows.json
  autarky plan validate rows.jsonl --exact --json > report.json
  autarky plan validate rows.json --chips ./chips --csv")]
pub(crate) struct ValidateArgs {
    /// A file of measured runs
    #[arg(value_name = "ROWS.json")]
    pub(crate) rows: PathBuf,

    /// The least quality of a row: 3 where all that a prediction needs is known, 1 for a mere claim
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) quality: u8,

    /// List rows of lower quality as skipped
    #[arg(long)]
    pub(crate) all: bool,

    /// Leave rows that are known already out of the regression that corrects predictions
    #[arg(long)]
    pub(crate) exact: bool,

    /// Leave every known row of the rows' documents out of the regression
    #[arg(long)]
    pub(crate) without_documents: bool,

    #[command(flatten)]
    pub(crate) catalog: CatalogArgs,

    #[command(flatten)]
    pub(crate) table: TableArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Memory bandwidth and peak arithmetic are measured, prefill and decode are forecast from them and from earlier
runs on this machine, then the model runs. Each run is added to the history, from which the next forecast learns.

Examples:
  autarky plan here model.gguf
  autarky plan here model.gguf --prompt 2048 --generate 128 --json")]
pub(crate) struct HereArgs {
    #[command(flatten)]
    pub(crate) bench: BenchArgs,

    /// Where runs are kept [default: ~/.local/share/autarky/here.jsonl]
    #[arg(long, value_name = "FILE")]
    pub(crate) history: Option<PathBuf>,
}

impl HereArgs {
    /// Where runs are kept.
    pub(crate) fn history_file(&self) -> PathBuf {
        let set = |name| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let home = || Some(set("HOME")?.join(".local/share"));
        let folder = || set("XDG_DATA_HOME").or_else(home).unwrap_or_default().join("autarky");
        self.history.clone().unwrap_or_else(|| folder().join("here.jsonl"))
    }
}
