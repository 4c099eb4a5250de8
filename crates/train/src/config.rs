//! What a run is: read from a TOML file, flags, or both.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::adamw::AdamWOptions;
use crate::batches::Packing;
use crate::muon::MuonOptions;
use crate::objective::config::{GrpoConfig, PreferenceConfig, RewardConfig};
use crate::schedule::Decay;
use crate::trainer::Precision;

/// A configuration that cannot be meant.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// It is not what a configuration is.
    #[error("{place}: {problem}")]
    Parse {
        /// The file, or the flags.
        place: String,
        /// What is wrong, and where.
        problem: String,
    },
    /// A value makes no sense.
    #[error("{key}: {problem}")]
    Value {
        /// The key, such as `training.batch`.
        key: &'static str,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
}

/// A run of training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Decides everything that is drawn at random.
    pub seed: u64,
    /// What is trained.
    pub model: ModelConfig,
    /// A small part beside the model that is trained in its stead.
    pub adapter: Option<AdapterConfig>,
    /// What it is trained on.
    pub data: DataConfig,
    /// How long, and in what steps.
    pub training: TrainingConfig,
    /// AdamW.
    pub optimizer: OptimizerConfig,
    /// The learning rate of every step.
    pub schedule: ScheduleConfig,
    /// What is looked at on the way.
    pub evaluation: EvaluationConfig,
    /// What is kept on the way.
    pub checkpoints: CheckpointsConfig,
    /// Learning from pairs of answers.
    pub preference: Option<PreferenceConfig>,
    /// Learning from rewards.
    pub grpo: Option<GrpoConfig>,
    /// The rewards.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reward: Vec<RewardConfig>,
}

/// What is trained: a model that there is, or one made from nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ModelConfig {
    /// A GGUF file or a Hugging Face folder whose weights are trained further.
    pub from: Option<PathBuf>,
    /// A `config.json` whose shape a new model has.
    pub config: Option<PathBuf>,
    /// The size of a new model, by its layers: see [`crate::scale`].
    pub depth: Option<usize>,
    /// The family of a new model made by its depth.
    pub family: Option<String>,
    /// A GGUF file or a Hugging Face folder whose tokenizer a new model has. Without it one is learned from the data.
    pub tokenizer: Option<PathBuf>,
    /// Tokens of a tokenizer that is learned.
    pub vocabulary: Option<usize>,
    /// A file with the chat template, in Jinja.
    pub chat_template: Option<PathBuf>,
}

/// Low-rank updates beside a model's products (LoRA; Hu et al. 2021, arXiv:2106.09685): they alone are trained, whatever type
/// the model's weights have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AdapterConfig {
    /// Rows of A.
    pub rank: usize,
    /// Updates are multiplied by this over the rank; without it, twice the rank.
    pub alpha: Option<f32>,
    /// Over the square root of the rank instead (rank-stabilised; Kalajdzievski 2023, arXiv:2312.03732).
    pub rank_stabilized: bool,
    /// Whether each row of a product has a length of its own, which is trained beside its direction (DoRA; Liu et al. 2024,
    /// arXiv:2402.09353).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dora: bool,
    /// The projections that have one, by their names in GGUF files: `attn_q`, `ffn_down` and their like; without it all of
    /// the layers.
    pub targets: Option<Vec<String>>,
    /// Whether the result is also written as one model.
    pub merge: bool,
}

impl Default for AdapterConfig {
    fn default() -> AdapterConfig {
        AdapterConfig {
            rank: 16,
            alpha: None,
            rank_stabilized: false,
            dora: false,
            targets: None,
            merge: true,
        }
    }
}

impl AdapterConfig {
    /// α.
    pub fn alpha(&self) -> f32 {
        self.alpha.unwrap_or(2.0 * self.rank as f32)
    }

    /// What updates are multiplied by.
    pub fn scale(&self) -> f32 {
        let rank = self.rank as f32;
        self.alpha() / if self.rank_stabilized { rank.sqrt() } else { rank }
    }
}

/// What a model is trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DataConfig {
    /// Files and folders.
    pub train: Vec<PathBuf>,
    /// Files and folders that are not learned from, but tell how well what was learned holds elsewhere.
    pub validation: Vec<PathBuf>,
    /// Without them, this part of every file, from its end.
    pub held_out: f64,
    /// The field that has the text, for JSON whose text is in another than `text` or `content`.
    pub text_field: Option<String>,
    /// Lines that end a document, in files of text.
    pub separators: Option<Vec<String>>,
    /// How documents come into rows; without it, `whole` for conversations and `apart` for text.
    pub packing: Option<Packing>,
    /// Whether the first record that cannot be read ends the run, before it begins.
    pub strict: bool,
}

impl Default for DataConfig {
    fn default() -> DataConfig {
        DataConfig {
            train: Vec::new(),
            validation: Vec::new(),
            held_out: 0.01,
            text_field: None,
            separators: None,
            packing: None,
            strict: false,
        }
    }
}

/// How long a model is trained, and in what steps. At most one of `steps`, `tokens` and `epochs` is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrainingConfig {
    /// Tokens of a row.
    pub context: Option<usize>,
    /// Tokens of a step.
    pub batch: Option<usize>,
    /// Tokens that are read at a time, at most; a step has as many such parts as it needs. Memory grows with it.
    pub at_once: Option<usize>,
    /// Steps of the run.
    pub steps: Option<u64>,
    /// Tokens of the run.
    pub tokens: Option<u64>,
    /// Passes over the data.
    pub epochs: Option<f64>,
    /// What products are computed in.
    pub precision: Precision,
    /// Whether most of what layers compute is computed again, and not kept: less memory, more time.
    pub recompute: bool,
    /// Parts of a step whose gradients are added up one by one, a power of two: so many ranks can share it at most.
    pub shards: Option<usize>,
}

/// What changes the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// [`AdamW`](crate::adamw).
    #[default]
    Adamw,
    /// [`Muon`](crate::muon) for the matrices of the layers, and AdamW for the rest.
    Muon,
}

/// What the optimizer goes by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct OptimizerConfig {
    /// Which it is.
    pub method: Method,
    /// The highest learning rate.
    pub learning_rate: Option<f32>,
    /// β₁.
    pub first_decay: f32,
    /// β₂.
    pub second_decay: f32,
    /// ε.
    pub epsilon: f32,
    /// The part of itself, times the learning rate, that a matrix loses in a step.
    pub weight_decay: f32,
    /// μ of Muon.
    pub momentum: f32,
    /// The decay of a running mean of the weights, which is what is evaluated and written: see [`crate::average`].
    pub ema: Option<f32>,
    /// Gradients are scaled down to this norm; 0: never.
    pub largest_norm: f32,
    /// Steps whose gradients' norm is this many times the usual one are dropped; 0: none is.
    pub largest_jump: f32,
}

impl Default for OptimizerConfig {
    fn default() -> OptimizerConfig {
        // The values of Llama 2 (arXiv:2307.09288, section 2.2).
        OptimizerConfig {
            method: Method::default(),
            learning_rate: None,
            first_decay: 0.9,
            second_decay: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            momentum: MuonOptions::default().momentum,
            ema: None,
            largest_norm: 1.0,
            largest_jump: 20.0,
        }
    }
}

impl OptimizerConfig {
    /// As the optimizer takes it.
    pub fn adamw(&self) -> AdamWOptions {
        AdamWOptions {
            first_decay: self.first_decay,
            second_decay: self.second_decay,
            epsilon: self.epsilon,
            weight_decay: self.weight_decay,
        }
    }

    /// As Muon takes it, where it is asked for.
    pub fn muon(&self, precision: Precision) -> Option<MuonOptions> {
        let bf16 = precision != Precision::F32;
        let options = MuonOptions { momentum: self.momentum, weight_decay: self.weight_decay, bf16 };
        (self.method == Method::Muon).then_some(options)
    }
}

/// The learning rate of every step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ScheduleConfig {
    /// How it falls.
    pub decay: Decay,
    /// Steps in which it rises; without it a fiftieth of the run.
    pub warmup: Option<u64>,
    /// What it falls to, as a part of the highest.
    pub floor: f32,
    /// The part of the run in which `wsd` falls.
    pub cooldown: f32,
}

impl Default for ScheduleConfig {
    fn default() -> ScheduleConfig {
        ScheduleConfig { decay: Decay::default(), warmup: None, floor: 0.1, cooldown: 0.2 }
    }
}

/// What is looked at on the way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct EvaluationConfig {
    /// Steps from one evaluation to the next; without it a twentieth of the run.
    pub every: Option<u64>,
    /// Tokens that one reads, at most.
    pub tokens: usize,
    /// Texts that the model then goes on with.
    pub samples: Vec<String>,
    /// Tokens of each such text.
    pub sample_tokens: usize,
}

impl Default for EvaluationConfig {
    fn default() -> EvaluationConfig {
        EvaluationConfig { every: None, tokens: 65_536, samples: Vec::new(), sample_tokens: 48 }
    }
}

/// What is kept on the way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CheckpointsConfig {
    /// Steps from one to the next; without it a twentieth of the run.
    pub every: Option<u64>,
    /// How many are kept: the latest.
    pub keep: usize,
    /// Whether the model as it is then is written with each, too, for a server to load.
    pub model: bool,
}

impl Default for CheckpointsConfig {
    fn default() -> CheckpointsConfig {
        CheckpointsConfig { every: None, keep: 2, model: false }
    }
}

impl Config {
    /// Reads a table; `place` names in errors where it is from. Paths are as they stand.
    ///
    /// # Errors
    /// For keys that there are not, with the nearest that there is, and values of other types.
    pub fn from_toml(text: &str, place: &str) -> Result<Config, ConfigError> {
        toml::from_str(text).map_err(|e| {
            let mut problem = e.to_string().trim_end().to_owned();
            if let Some(nearest) = nearest(e.message()) {
                problem += &format!("\ndid you mean `{nearest}`?");
            }
            ConfigError::Parse { place: place.to_owned(), problem }
        })
    }

    /// Makes the paths that it has, which are of the file at `file`, paths of the present folder.
    pub fn relative_to(&mut self, file: &Path) {
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        let model = &mut self.model;
        let models = [&mut model.from, &mut model.config, &mut model.tokenizer, &mut model.chat_template];
        let data = self.data.train.iter_mut().chain(&mut self.data.validation);
        let schemas = self.reward.iter_mut().filter_map(|r| r.schema.as_mut());
        for path in models.into_iter().flatten().chain(data).chain(schemas) {
            *path = folder.join(&path);
        }
    }

    /// Refuses what makes no sense whatever the model and the data.
    ///
    /// # Errors
    /// Names the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        let value = |key, problem: &str| Err(ConfigError::Value { key, problem: problem.to_owned() });
        let (m, t, o, s) = (&self.model, &self.training, &self.optimizer, &self.schedule);
        if [m.from.is_some(), m.config.is_some(), m.depth.is_some()].iter().filter(|g| **g).count() != 1 {
            return value(
                "model",
                "give one of `from` (train a model further), `depth` (a new model by its size) and `config` (a new one of a given shape)",
            );
        }
        if m.from.is_some() && (m.tokenizer.is_some() || m.vocabulary.is_some()) {
            return value("model.tokenizer", "a model that is trained further keeps its own tokenizer");
        }
        if m.tokenizer.is_some() && m.vocabulary.is_some() {
            return value(
                "model.vocabulary",
                "`tokenizer` has its vocabulary; `vocabulary` is for one that is learned",
            );
        }
        if m.depth.is_some_and(|d| !(1..=128).contains(&d)) {
            return value("model.depth", "must be from 1 to 128 layers");
        }
        if let Some(adapter) = &self.adapter {
            if m.from.is_none() {
                return value(
                    "adapter",
                    "it is for a model that there is (model.from): a new one is trained itself",
                );
            }
            if t.precision == Precision::Int8 {
                return value(
                    "training.precision",
                    "\"int8\" is for weights that are trained, and beside an adapter those are few: leave it out",
                );
            }
            if !(1..=1024).contains(&adapter.rank) {
                return value("adapter.rank", "must be from 1 to 1024");
            }
            if adapter.alpha.is_some_and(|a| !(a.is_finite() && a > 0.0)) {
                return value("adapter.alpha", "must be a number above 0");
            }
        }
        if self.data.train.is_empty() {
            return value("data.train", "name at least one file or folder to learn from");
        }
        if !(0.0..=0.5).contains(&self.data.held_out) {
            return value("data.held-out", "must be from 0 to 0.5, the part that is not learned from");
        }
        if [t.steps.is_some(), t.tokens.is_some(), t.epochs.is_some()].iter().filter(|g| **g).count() > 1 {
            return value("training", "give one of `steps`, `tokens` and `epochs`");
        }
        let sizes =
            [("training.context", t.context), ("training.batch", t.batch), ("training.at-once", t.at_once)];
        for (key, size) in sizes {
            if size.is_some_and(|n| !(2..=1 << 28).contains(&n)) {
                return value(key, "must be from 2 to 268435456 tokens");
            }
        }
        if t.epochs.is_some_and(|e| !(e > 0.0 && e <= 1e6)) {
            return value("training.epochs", "must be above 0, and at most a million");
        }
        if t.steps == Some(0) || t.tokens == Some(0) {
            return value("training.steps", "must be at least 1");
        }
        let positive = |x: f32| x.is_finite() && x > 0.0;
        if o.learning_rate.is_some_and(|r| !positive(r)) {
            return value("optimizer.learning-rate", "must be a number above 0");
        }
        let shares = [
            ("optimizer.first-decay", o.first_decay),
            ("optimizer.second-decay", o.second_decay),
            ("optimizer.momentum", o.momentum),
            ("schedule.floor", s.floor),
            ("schedule.cooldown", s.cooldown),
        ];
        for (key, share) in shares {
            let most = if key.starts_with("optimizer") { share < 1.0 } else { share <= 1.0 };
            if !(share >= 0.0 && most) {
                return value(key, "must be from 0 to 1");
            }
        }
        if o.ema.is_some_and(|d| !(d > 0.0 && d < 1.0)) {
            return value("optimizer.ema", "must be above 0 and below 1, such as 0.999");
        }
        if !positive(o.epsilon) {
            return value("optimizer.epsilon", "must be a number above 0");
        }
        let amounts = [
            ("optimizer.weight-decay", o.weight_decay),
            ("optimizer.largest-norm", o.largest_norm),
            ("optimizer.largest-jump", o.largest_jump),
        ];
        for (key, x) in amounts {
            if !(x.is_finite() && x >= 0.0) {
                return value(key, "must be a number that is not below 0");
            }
        }
        if self.evaluation.every == Some(0) || self.checkpoints.every == Some(0) {
            return value("evaluation.every", "must be at least 1 step; so must checkpoints.every");
        }
        crate::objective::config::check(self)
    }
}

/// Of the keys that a message of the TOML reader names, the one that is most like the unknown one.
fn nearest(message: &str) -> Option<&str> {
    let mut names = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let unknown = names.next()?;
    let distance = |name: &&str| strsim::damerau_levenshtein(unknown, name);
    names.min_by_key(distance).filter(|name| distance(name) <= unknown.len().div_ceil(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Config, String> {
        let config = Config::from_toml(text, "run.toml").map_err(|e| e.to_string())?;
        config.check().map_err(|e| e.to_string())?;
        Ok(config)
    }

    #[test]
    fn a_run_needs_a_model_and_data() {
        let run = parsed("[model]\ndepth = 4\n[data]\ntrain = ['a.txt']\n").unwrap();
        assert_eq!(run.optimizer.adamw().second_decay, 0.95);
        assert!(parsed("[model]\ndepth = 4\n").unwrap_err().contains("data.train"));
        assert!(parsed("[data]\ntrain = ['a.txt']\n").unwrap_err().contains("one of `from`"));
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest() {
        let text = "[model]\ndepth = 4\n[optimizer]\nlerning-rate = 1\n";
        let error = parsed(text).unwrap_err();
        assert!(error.contains("run.toml") && error.contains("line 4"), "{error}");
        assert!(error.contains("did you mean `learning-rate`?"), "{error}");
        assert!(!parsed("[model]\nqwertzuiop = 4\n").unwrap_err().contains("did you mean"));
    }

    #[test]
    fn values_that_make_no_sense_are_refused_by_key() {
        let base = "[model]\ndepth = 4\n[data]\ntrain = ['a.txt']\n";
        for (more, key) in [
            ("held-out = 0.9", "data.held-out"),
            ("[training]\nsteps = 3\nepochs = 2.0", "training"),
            ("[training]\ncontext = 1", "training.context"),
            ("[training]\nepochs = nan", "training.epochs"),
            ("[optimizer]\nlearning-rate = -1.0", "optimizer.learning-rate"),
            ("[optimizer]\nlearning-rate = nan", "optimizer.learning-rate"),
            ("[optimizer]\nsecond-decay = 1.0", "optimizer.second-decay"),
            ("[optimizer]\nema = 1.0", "optimizer.ema"),
            ("[schedule]\nfloor = 2.0", "schedule.floor"),
            ("[checkpoints]\nevery = 0", "every"),
        ] {
            let error = parsed(&format!("{base}{more}\n")).unwrap_err();
            assert!(error.contains(key), "{more}: {error}");
        }
    }

    #[test]
    fn the_documented_file_has_every_key_with_what_holds_without_it() {
        let page = include_str!("../../../docs/train.md");
        let file = page.split("## The file").nth(1).unwrap();
        let toml = file.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        let run = parsed(toml).unwrap();
        let same = Config {
            model: ModelConfig {
                depth: Some(6),
                family: Some("llama".to_owned()),
                vocabulary: Some(4096),
                ..ModelConfig::default()
            },
            data: DataConfig { train: run.data.train.clone(), ..DataConfig::default() },
            evaluation: EvaluationConfig {
                samples: run.evaluation.samples.clone(),
                ..EvaluationConfig::default()
            },
            ..Config::default()
        };
        assert_eq!(run, same);
        // What is left out there is a key, too.
        let absent =
            toml.lines().filter_map(|line| line.strip_prefix("# ").or(line.strip_prefix('[').map(|_| line)));
        let text = absent.collect::<Vec<_>>().join("\n");
        let all = Config::from_toml(&text, "docs").unwrap();
        assert!(all.model.from.is_some() && all.training.epochs.is_some() && all.checkpoints.every.is_some());
    }

    #[test]
    fn paths_are_those_of_the_file() {
        let mut run = parsed("[model]\nfrom = 'm'\n[data]\ntrain = ['a.txt', '/b']\n").unwrap();
        run.relative_to(Path::new("runs/small.toml"));
        assert_eq!(run.model.from.unwrap(), Path::new("runs/m"));
        assert_eq!(run.data.train, [Path::new("runs/a.txt"), Path::new("/b")]);
    }
}
