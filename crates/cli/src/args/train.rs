//! What is trained, on what, and how long: the flags for the keys of a run's TOML file that are changed most.

use std::path::PathBuf;

use autarky_train::Precision;
use autarky_train::config::{AdapterConfig, Config};
use clap::{Args, ValueEnum};

use super::DeviceArgs;

#[derive(Debug, Args)]
#[command(after_help = "\
The folder of a run has all of it: run.toml, the tokenizer if one was learned, the data as tokens, checkpoints, \
metrics.jsonl, and in the end model/ (for transformers) and model.gguf (for `autarky run` and llama.cpp). The same \
command goes on where a run was stopped or killed: every later loss has the same bits.

A RUN file is TOML; docs/train.md lists its keys. Flags go before it.

Examples:
  autarky train --data book.txt --depth 4 --out runs/book        # a new model from nothing but a text
  autarky train --data corpus/ --data more.jsonl.zst --depth 6 --tokens 20000000 --out runs/corpus
  autarky train --from model/ --data chats.jsonl --out runs/chats  # all weights of a model, on its answers alone
  autarky train --from model.gguf --lora 16 --data chats.jsonl --out runs/lora  # a quantized model, too
  autarky train run.toml --out runs/a --steps 100
  mpirun -n 4 --bind-to none autarky train run.toml --out runs/a  # four processes, of one machine or several")]
pub(crate) struct TrainingArgs {
    /// A TOML file that says what the run is
    pub(crate) run: Option<PathBuf>,

    /// The run's folder [default: the name of RUN without its ending]
    #[arg(short, long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,

    /// Learn from this file or folder: text, JSON Lines, compressed or not. May be given several times
    #[arg(long, value_name = "PATH")]
    pub(crate) data: Vec<PathBuf>,

    /// Tell from this file or folder how well it does [default: the last 1% of every file of the data]
    #[arg(long, value_name = "PATH")]
    pub(crate) validation: Vec<PathBuf>,

    /// Train this model further: a GGUF file, or a Hugging Face folder
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["depth", "config", "tokenizer", "vocabulary"])]
    pub(crate) from: Option<PathBuf>,

    /// Train low-rank updates (LoRA) of this rank beside the model, and not its weights: these may be of any type
    #[arg(long, value_name = "RANK")]
    pub(crate) lora: Option<usize>,

    /// Make a new model, so many layers deep; width, heads, learning rate, batch and tokens follow
    #[arg(long, value_name = "LAYERS", conflicts_with = "config")]
    pub(crate) depth: Option<usize>,

    /// Make a new model of the shape of this config.json
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Use the tokenizer of this GGUF file or Hugging Face folder [default: one is learned from the data]
    #[arg(long, value_name = "MODEL", conflicts_with = "vocabulary")]
    pub(crate) tokenizer: Option<PathBuf>,

    /// Tokens of the tokenizer that is learned [default: 4096]
    #[arg(long, value_name = "N")]
    pub(crate) vocabulary: Option<usize>,

    /// Tokens of a row
    #[arg(long, value_name = "N")]
    pub(crate) context: Option<usize>,

    /// Tokens of a step
    #[arg(long, value_name = "N")]
    pub(crate) batch: Option<usize>,

    /// Cut each step into so many parts, a power of two: as many processes that mpirun starts can share it at most, and any
    /// number of them finds the same bits [default: the number of processes]
    #[arg(long, value_name = "N")]
    pub(crate) shards: Option<usize>,

    /// Steps of the run
    #[arg(long, value_name = "N", conflicts_with_all = ["tokens", "epochs"])]
    pub(crate) steps: Option<u64>,

    /// Tokens of the run
    #[arg(long, value_name = "N", conflicts_with = "epochs")]
    pub(crate) tokens: Option<u64>,

    /// Passes over the data
    #[arg(long, value_name = "N")]
    pub(crate) epochs: Option<f64>,

    /// The highest learning rate
    #[arg(long, value_name = "RATE")]
    pub(crate) learning_rate: Option<f32>,

    /// What products are computed in [default: bf16]
    #[arg(long, value_name = "TYPE")]
    pub(crate) precision: Option<PrecisionName>,

    /// Compute activations again for the derivatives, and keep few of them: less memory, more time
    #[arg(long)]
    pub(crate) recompute: bool,

    /// Decides everything that is drawn at random
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// Have the model go on with this text at every evaluation. May be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) sample: Vec<String>,

    /// Stop before the first record of the data that cannot be read, rather than leave it out
    #[arg(long)]
    pub(crate) strict: bool,

    #[command(flatten)]
    pub(crate) device: DeviceArgs,

    /// Print what happens as JSON Lines
    #[arg(long)]
    pub(crate) json: bool,
}

/// What products of training are computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PrecisionName {
    /// BF16 numbers, with 32-bit sums
    Bf16,
    /// 8-bit integers with scales: a third less time a step on processors that have AVX-512 and no matrix units
    Int8,
    /// 32-bit floats
    F32,
}

impl From<PrecisionName> for Precision {
    fn from(name: PrecisionName) -> Precision {
        match name {
            PrecisionName::Bf16 => Precision::Bf16,
            PrecisionName::Int8 => Precision::Int8,
            PrecisionName::F32 => Precision::F32,
        }
    }
}

impl TrainingArgs {
    /// Puts what the flags say into a configuration. What was given for the same question goes.
    pub(crate) fn apply(&self, config: &mut Config) {
        fn put<T: Clone>(to: &mut Option<T>, from: &Option<T>) {
            if from.is_some() {
                to.clone_from(from);
            }
        }
        let (model, training) = (&mut config.model, &mut config.training);
        if self.from.is_some() || self.depth.is_some() || self.config.is_some() {
            (model.from, model.depth, model.config) = (None, None, None);
        }
        if self.tokenizer.is_some() || self.vocabulary.is_some() {
            (model.tokenizer, model.vocabulary) = (None, None);
        }
        if let Some(rank) = self.lora {
            config.adapter = Some(AdapterConfig { rank, ..config.adapter.clone().unwrap_or_default() });
        }
        put(&mut model.from, &self.from);
        put(&mut model.depth, &self.depth);
        put(&mut model.config, &self.config);
        put(&mut model.tokenizer, &self.tokenizer);
        put(&mut model.vocabulary, &self.vocabulary);
        if self.steps.is_some() || self.tokens.is_some() || self.epochs.is_some() {
            (training.steps, training.tokens, training.epochs) = (None, None, None);
        }
        put(&mut training.context, &self.context);
        put(&mut training.batch, &self.batch);
        put(&mut training.shards, &self.shards);
        put(&mut training.steps, &self.steps);
        put(&mut training.tokens, &self.tokens);
        put(&mut training.epochs, &self.epochs);
        put(&mut config.optimizer.learning_rate, &self.learning_rate);
        config.training.recompute |= self.recompute;
        if let Some(precision) = self.precision {
            config.training.precision = precision.into();
        }
        for (to, from) in
            [(&mut config.data.train, &self.data), (&mut config.data.validation, &self.validation)]
        {
            if !from.is_empty() {
                to.clone_from(from);
            }
        }
        if !self.sample.is_empty() {
            config.evaluation.samples.clone_from(&self.sample);
        }
        config.seed = self.seed.unwrap_or(config.seed);
        config.data.strict |= self.strict;
    }
}
