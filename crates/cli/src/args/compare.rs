//! `autarky plan`: what compares chips.

use std::path::PathBuf;

use autarky_plan::Date;
use clap::Args;

use super::{CatalogArgs, TableArgs};

#[derive(Debug, Args)]
pub(crate) struct HtmlArgs {
    /// Write a page with charts, too: one file that needs no network
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// Replace the file of --html
    #[arg(long, requires = "html")]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A statement is held against data sheets, measured runs of comparable work, and predictions for typical
work, each with its 80 % interval. docs/plan.md shows the file of a statement.

Examples:
  autarky plan claims                              # the statements that come with the program
  autarky plan claims s5000-h100 --sources
  autarky plan claims ours.toml --html claims.html")]
pub(crate) struct ClaimsArgs {
    /// A statement: a TOML file, or the id of one that comes with the program [default: all of those]
    #[arg(value_name = "FILE")]
    pub(crate) claims: Vec<PathBuf>,

    /// Print where each figure is from
    #[arg(long)]
    pub(crate) sources: bool,

    #[command(flatten)]
    pub(crate) catalog: CatalogArgs,

    #[command(flatten)]
    pub(crate) html: HtmlArgs,

    #[command(flatten)]
    pub(crate) table: TableArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The service is what --count chips of --from do under the load. For each other chip, the answer is how many give the same
tokens/s to as many users, what that takes, and what is uncertain. Not legal advice.

Examples:
  autarky plan switch Qwen3-32B --from h100-sxm --to 910c,mi300x
  autarky plan switch DeepSeek-V3 --from h20-96 --to b200-sxm --count 32 --load 4096/1024/512
  autarky plan switch Qwen3-32B --from a100-sxm-80 --to h20-96 --years 4 --electricity 0.08 --html switch.html")]
pub(crate) struct SwitchArgs {
    /// A model's name, or the path of a GGUF file, a Hugging Face folder or its config.json
    pub(crate) model: String,

    /// The chip in use: an id, a name, or a part that only one chip has
    #[arg(long, value_name = "CHIP")]
    pub(crate) from: String,

    /// The chips to go to
    #[arg(long, value_name = "CHIP,...", value_delimiter = ',', required = true)]
    pub(crate) to: Vec<String>,

    /// Chips in use [default: the fewest that hold the model]
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u32>,

    /// Tokens of a prompt, tokens of an answer, and requests in flight over all chips [default: 1024/512/32 a chip]
    #[arg(long, value_name = "IN/OUT/N")]
    pub(crate) load: Option<String>,

    /// The number format: bf16, fp8, int8, ... [default: bf16, or 8 bits above 200 billion weights]
    #[arg(long, value_name = "NAME")]
    pub(crate) format: Option<String>,

    /// Years that energy and cost are counted for
    #[arg(long, value_name = "YEARS", default_value_t = 3.0)]
    pub(crate) years: f64,

    /// Price of electricity, USD/kWh
    #[arg(long, value_name = "USD", default_value_t = 0.10)]
    pub(crate) electricity: f64,

    /// The day whose export rules are looked at [default: today]
    #[arg(long, value_name = "DATE")]
    pub(crate) on: Option<Date>,

    #[command(flatten)]
    pub(crate) catalog: CatalogArgs,

    #[command(flatten)]
    pub(crate) html: HtmlArgs,

    #[command(flatten)]
    pub(crate) table: TableArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
FLEET.toml lists chips and jobs:

  [[chips]]
  chip = \"nvidia-h100-sxm\"
  count = 16

  [[jobs]]
  name = \"chat\"
  kind = \"serve\"              # or train, with tokens, days, length and global_batch
  model = \"Qwen3-32B\"
  priority = 1                # 1 goes first, 9 last
  tokens_per_s = 20000
  concurrency = 512           # input and output, too: tokens of a prompt and of an answer

Examples:
  autarky plan fleet lab.toml
  autarky plan fleet lab.toml --joint              # what two kinds of chips would do together
  autarky plan fleet lab.toml --json | jq .unmet")]
pub(crate) struct FleetArgs {
    /// A TOML file of chips and jobs
    #[arg(value_name = "FLEET.toml")]
    pub(crate) fleet: PathBuf,

    /// Print for each job and pair of kinds of chips what they would do together, by service and by stage of a pipeline
    #[arg(long, conflicts_with_all = ["json", "csv"])]
    pub(crate) joint: bool,

    #[command(flatten)]
    pub(crate) catalog: CatalogArgs,

    #[command(flatten)]
    pub(crate) table: TableArgs,
}
