//! What can be typed: every command and flag, defined once. Parsing, `--help`, completions, man pages and
//! `docs/cli.md` come from these definitions. Each group of flags has a method that checks it and gives the values
//! that the libraries want.

mod compare;
mod model;
mod plan;
mod sampling;
mod search;
mod serve;
mod train;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub(crate) use compare::{ClaimsArgs, FleetArgs, HtmlArgs, SwitchArgs};
pub(crate) use model::{DTypeName, DeviceArgs, DeviceName, KvArgs, KvName};
pub(crate) use plan::{
    CatalogArgs, ChipArgs, ChipsArgs, HereArgs, PlanArgs, PlanCommand, PolicyArgs, RulesArgs, SortName,
    TableArgs, ValidateArgs,
};
pub(crate) use sampling::{SamplingArgs, SpeculateName};
pub(crate) use search::{ByName, FitArgs, ServeArgs, TrainArgs, format};
pub(crate) use serve::{KeysArgs, KeysCommand, KeysCreateArgs, LogName, NamedAdapter, ServerArgs};
pub(crate) use train::{PrecisionName, TrainingArgs};

use crate::builtin::DEFAULT;
use crate::commands::Mix;
use crate::exit;

/// Runs, converts and measures language models on this machine, with nothing from outside.
#[derive(Debug, Parser)]
#[command(name = "autarky", version, max_term_width = 100, after_help = exit::HELP, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer a prompt, or chat
    Run(RunArgs),
    /// Make a model from text, or train one further
    Train(TrainingArgs),
    /// Serve models to applications, with a web page
    Serve(ServerArgs),
    /// Make and end API keys of the server
    Keys(KeysArgs),
    /// Show what is in a model file, and whether it runs here
    Inspect(InspectArgs),
    /// Convert a Hugging Face folder or a llama2.c checkpoint to GGUF
    Convert(ConvertArgs),
    /// Make a GGUF smaller by storing its numbers in fewer bits
    Quantize(QuantizeArgs),
    /// Measure prefill and decode speed, and memory
    Bench(BenchArgs),
    /// Measure how well a model predicts a text
    Perplexity(PerplexityArgs),
    /// Look up chips, and what export rules say of them
    Plan(PlanArgs),
    /// Turn text into token ids, or back
    Tokenize(TokenizeArgs),
    /// Write the logits of given tokens to a file, to compare engines
    Logits(LogitsArgs),
    /// Print a shell's completion script
    Completions(CompletionsArgs),
    /// Write man pages into a folder
    Man(ManArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  autarky run                                     chat with the small model that is in this program
  autarky run model.gguf                          chat
  autarky run model.gguf -p 'Why is the sky blue?'
  autarky run model.gguf --adapter runs/chats/adapter
  autarky run model.gguf --raw -p 'Once upon a time' -n 200 --temperature 0
  git diff | autarky run model.gguf --system 'Review this change.'")]
pub(crate) struct RunArgs {
    /// A GGUF file, or a Hugging Face folder; `default` is the small model that is in this program
    #[arg(default_value = DEFAULT)]
    pub(crate) model: PathBuf,

    /// A LoRA adapter that is applied to the model: a folder that PEFT wrote, or a GGUF file
    #[arg(long, value_name = "ADAPTER")]
    pub(crate) adapter: Option<PathBuf>,

    /// Answer this and exit. Without it: a chat on a terminal, else the prompt is read from standard input
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) prompt: Option<String>,

    /// Chat even when standard input is not a terminal: one message a line
    #[arg(short, long, conflicts_with_all = ["prompt", "json"])]
    pub(crate) interactive: bool,

    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with = "raw")]
    pub(crate) system: Option<String>,

    /// Continue the prompt as it is, without the chat template. Special tokens in it, such as <|im_start|>, count
    #[arg(long)]
    pub(crate) raw: bool,

    /// Tokens to generate at most [default: until the model ends its answer or the context is full]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) max_tokens: Option<usize>,

    /// Stop before this text. May be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) stop: Vec<String>,

    /// Guess the next tokens where the text repeats itself, and check several in one step. The answer is the same
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) speculate: SpeculateName,

    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,

    #[command(flatten)]
    pub(crate) device: DeviceArgs,

    #[command(flatten)]
    pub(crate) kv: KvArgs,

    /// Print one JSON object when the answer is complete, instead of text as it comes
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  autarky inspect model.gguf
  autarky inspect model.gguf --tensors --context 32768
  autarky inspect hf_folder --json | jq .family")]
pub(crate) struct InspectArgs {
    /// A GGUF or safetensors file, or a Hugging Face folder
    pub(crate) model: PathBuf,

    /// List every tensor
    #[arg(long)]
    pub(crate) tensors: bool,

    /// List every metadata key; long values are cut
    #[arg(long)]
    pub(crate) metadata: bool,

    #[command(flatten)]
    pub(crate) kv: KvArgs,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  autarky convert hf_folder -o model.gguf
  autarky convert hf_folder -o model-f16.gguf --dtype F16
  autarky convert stories260K.bin --tokenizer tok512.bin -o stories260K.gguf")]
pub(crate) struct ConvertArgs {
    /// A Hugging Face folder, or a llama2.c checkpoint (.bin)
    pub(crate) source: PathBuf,

    /// The GGUF file to write
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,

    /// The llama2.c tokenizer (.bin) that belongs to a llama2.c checkpoint
    #[arg(long, value_name = "FILE")]
    pub(crate) tokenizer: Option<PathBuf>,

    /// Convert without a tokenizer. The result takes token ids only: `logits` and `bench`
    #[arg(long, conflicts_with = "tokenizer")]
    pub(crate) no_tokenizer: bool,

    /// How matrices are stored: F32, F16, BF16 or Q8_0 [default: as in the source]
    #[arg(long, value_name = "TYPE", ignore_case = true)]
    pub(crate) dtype: Option<DTypeName>,

    /// Replace the output file if there is one
    #[arg(long)]
    pub(crate) force: bool,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Vectors, norms and routers stay as they are. A tensor whose rows are not whole blocks of the type (256 numbers for \
K types, 32 for the others) takes IQ4_NL, Q5_0, Q5_1 or Q8_0, whichever is next above, or stays in F16.

Examples:
  autarky quantize model.gguf model-Q4_K_M.gguf --type Q4_K_M
  autarky quantize model.gguf model-Q8_0.gguf --type Q8_0")]
pub(crate) struct QuantizeArgs {
    /// The GGUF file to read
    pub(crate) input: PathBuf,

    /// The GGUF file to write
    pub(crate) output: PathBuf,

    /// What to quantize to. Q3_K, Q4_K and Q5_K stand for their _M mixes
    #[arg(long = "type", short = 't', value_name = "TYPE", value_parser = Mix::parser(), ignore_case = true)]
    pub(crate) mix: String,

    /// Threads [default: one for each core]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,

    /// Replace the output file if there is one
    #[arg(long)]
    pub(crate) force: bool,

    /// Quantize a model again that is already quantized (its errors add up)
    #[arg(long)]
    pub(crate) requantize: bool,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  autarky bench model.gguf
  autarky bench model.gguf --prompt 2048 --generate 128 --depth 4096
  autarky bench model.gguf --sequences 8 --json
  autarky bench --train 15m                  # steps of training a Llama of 15 million parameters, 16 x 256 tokens
  autarky bench --train config.json --sequences 4 --prompt 512")]
pub(crate) struct BenchArgs {
    /// A GGUF file, or a Hugging Face folder
    pub(crate) model: PathBuf,

    /// Tokens of each prompt
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub(crate) prompt: usize,

    /// Tokens that each sequence then generates
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) generate: usize,

    /// Tokens that are in the KV cache before each prompt
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) depth: usize,

    /// Sequences side by side
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) sequences: usize,

    /// Rounds that are timed, after one that is not; the median counts
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) rounds: usize,

    /// Tokens in one step of prefill
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub(crate) chunk: usize,

    #[command(flatten)]
    pub(crate) device: DeviceArgs,

    /// How keys and values are kept [default: f16, or f32 when the weights are F32]
    #[arg(long, value_name = "TYPE")]
    pub(crate) kv: Option<KvName>,

    /// Skip measuring the machine's memory bandwidth and peak arithmetic
    #[arg(long)]
    pub(crate) no_peak: bool,

    /// Time steps of training instead, with made-up weights and tokens, and AdamW. MODEL is then 15m or 110m (Llamas of as
    /// many parameters), or a config.json for --sequences of --prompt tokens
    #[arg(long, conflicts_with_all = ["generate", "depth", "chunk", "kv", "turns"])]
    pub(crate) train: bool,

    /// Compute activations again for the derivatives, and keep few of them: less memory, more time
    #[arg(long, requires = "train")]
    pub(crate) recompute: bool,

    /// What products of training are computed in [default: bf16]
    #[arg(long, value_name = "TYPE", requires = "train")]
    pub(crate) precision: Option<PrecisionName>,

    /// Say where the time of a step goes
    #[arg(long, requires = "train")]
    pub(crate) profile: bool,

    /// Run a round for each line of standard input, and print one line of JSON for each: for programs that let engines
    /// take turns
    #[arg(long, hide = true)]
    pub(crate) turns: bool,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The text is cut into windows of --context tokens; in each the second half is scored, as llama.cpp does.

Examples:
  autarky perplexity model.gguf wiki.test.raw
  autarky perplexity model-Q4_K_M.gguf wiki.test.raw --against model-F32.gguf
  autarky perplexity model.gguf wiki.test.raw --kv i8 --against model.gguf    # what an i8 KV cache costs
  autarky perplexity model.gguf questions.jsonl --choices

A line of questions.jsonl: {\"prompt\": \"The key to the cabinets\", \"choices\": [\" is\", \" are\"], \"answer\": 0}")]
pub(crate) struct PerplexityArgs {
    /// A GGUF file, or a Hugging Face folder
    pub(crate) model: PathBuf,

    /// A text file (UTF-8)
    pub(crate) text: PathBuf,

    /// TEXT has questions, one a line: tell how often the model holds the right one of their choices for the likeliest
    #[arg(long, conflicts_with_all = ["against", "windows"])]
    pub(crate) choices: bool,

    /// A LoRA adapter that is applied to MODEL: a folder that PEFT wrote, or a GGUF file
    #[arg(long, value_name = "ADAPTER")]
    pub(crate) adapter: Option<PathBuf>,

    /// Also measure the KL divergence of MODEL from this model, which keeps keys and values as MODEL does, or as floats
    /// when MODEL keeps them as i8
    #[arg(long, value_name = "MODEL")]
    pub(crate) against: Option<PathBuf>,

    /// Tokens in a window
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub(crate) context: usize,

    /// Windows to measure at most [default: all]
    #[arg(long, value_name = "N")]
    pub(crate) windows: Option<usize>,

    #[command(flatten)]
    pub(crate) device: DeviceArgs,

    /// How keys and values are kept [default: f16, or f32 when the weights are F32]
    #[arg(long, value_name = "TYPE")]
    pub(crate) kv: Option<KvName>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  echo -n 'Hello, world' | autarky tokenize model.gguf
  echo '1 15043 29892 3186' | autarky tokenize model.gguf --decode")]
pub(crate) struct TokenizeArgs {
    /// A GGUF file, or a Hugging Face folder
    pub(crate) model: PathBuf,

    /// Read ids (separated by spaces, commas or lines) and print their text
    #[arg(long)]
    pub(crate) decode: bool,

    /// Text to ids: add BOS and EOS where the model wants them, and read special tokens such as <|im_start|> in the
    /// text as such. Ids to text: print special tokens
    #[arg(long)]
    pub(crate) special: bool,

    /// Print JSON: ids with the text of each
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The output is a safetensors file with `logits`, [tokens, vocabulary], f32.

Examples:
  autarky logits model.gguf --ids 1,2,3 -o logits.safetensors
  autarky logits model.gguf --ids 1,2,3 --device reference -o reference.safetensors")]
pub(crate) struct LogitsArgs {
    /// A GGUF file, or a Hugging Face folder
    pub(crate) model: PathBuf,

    /// Token ids of one sequence
    #[arg(long, value_name = "IDS", value_delimiter = ',', required = true, num_args = 1..)]
    pub(crate) ids: Vec<u32>,

    /// The safetensors file to write
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,

    /// Tokens in one step
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub(crate) chunk: usize,

    #[command(flatten)]
    pub(crate) device: DeviceArgs,

    /// How keys and values are kept [default: f16, or f32 when the weights are F32]
    #[arg(long, value_name = "TYPE")]
    pub(crate) kv: Option<KvName>,

    /// Replace the output file if there is one
    #[arg(long)]
    pub(crate) force: bool,

    /// Print JSON: the shape, and the best token after each
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  autarky completions bash > ~/.local/share/bash-completion/completions/autarky
  autarky completions zsh > ~/.zfunc/_autarky
  autarky completions fish > ~/.config/fish/completions/autarky.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: CompletionShell,
}

/// Shells that completions are made for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum CompletionShell {
    Bash,
    Zsh,
    Fish,
}

impl From<CompletionShell> for Shell {
    fn from(shell: CompletionShell) -> Shell {
        match shell {
            CompletionShell::Bash => Shell::Bash,
            CompletionShell::Zsh => Shell::Zsh,
            CompletionShell::Fish => Shell::Fish,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  autarky man ~/.local/share/man/man1 && man autarky-run")]
pub(crate) struct ManArgs {
    /// The folder, made if need be; pages in it are replaced
    pub(crate) folder: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_help_and_every_command_examples() {
        let mut commands: Vec<_> = Cli::command().get_subcommands().cloned().collect();
        while let Some(command) = commands.pop() {
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{} {}", command.get_name(), arg.get_id());
            }
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains("Examples:"), "{}", command.get_name());
            commands.extend(command.get_subcommands().cloned());
        }
    }

    #[test]
    fn a_prompt_may_begin_with_a_hyphen() {
        let cli = Cli::try_parse_from(["autarky", "run", "m", "-p", "- a list"]).unwrap();
        assert!(matches!(cli.command, Command::Run(r) if r.prompt.as_deref() == Some("- a list")));
    }
}
