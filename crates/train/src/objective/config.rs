//! What the sections of a run's file say about preferences and rewards.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{Config, ConfigError};
use crate::trainer::Precision;

/// Learning from pairs of answers of which one is preferred (DPO; Rafailov et al. 2023, arXiv:2305.18290).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PreferenceConfig {
    /// β: how dear it is to leave the model that the run begins with.
    pub beta: f32,
    /// Pairs of a step.
    pub pairs: usize,
}

impl Default for PreferenceConfig {
    fn default() -> PreferenceConfig {
        PreferenceConfig { beta: 0.1, pairs: 32 }
    }
}

/// Learning from rewards of answers that the model draws itself (GRPO; Shao et al. 2024, arXiv:2402.03300), without a
/// penalty for leaving the model that it begins with, a wider clip upwards, and a mean over all tokens of a step (Yu et al.
/// 2025, arXiv:2503.14476), unless said otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct GrpoConfig {
    /// Prompts of a step.
    pub prompts: usize,
    /// Answers to each, which are compared with each other.
    pub answers: usize,
    /// Tokens of an answer, at most.
    pub answer_tokens: usize,
    /// Divides the logits when answers are drawn.
    pub temperature: f32,
    /// Updates of the weights from the answers of a step; from the second on, ratios of probabilities are clipped.
    pub updates: usize,
    /// Ratios count down to 1 - this.
    pub clip_low: f32,
    /// Ratios count up to 1 + this.
    pub clip_high: f32,
    /// Whether advantages are divided by the deviation of a prompt's rewards. Without it, prompts that are nearly always or
    /// nearly never answered do not weigh more (Liu et al. 2025, arXiv:2503.20783).
    pub divide_by_deviation: bool,
    /// What a nat of divergence from the model that the run begins with costs.
    pub kl: f32,
}

impl Default for GrpoConfig {
    fn default() -> GrpoConfig {
        GrpoConfig {
            prompts: 16,
            answers: 8,
            answer_tokens: 256,
            temperature: 1.0,
            updates: 1,
            clip_low: 0.2,
            clip_high: 0.28,
            divide_by_deviation: true,
            kl: 0.0,
        }
    }
}

/// What rewards an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RewardKind {
    /// The answer, or what a pattern finds in it, is what the record says.
    #[default]
    Exact,
    /// The last number of the answer is that of the record.
    Number,
    /// A regular expression matches.
    Regex,
    /// The answer is JSON that a schema allows.
    JsonSchema,
    /// A program says how good the answer is.
    Command,
}

/// One reward; those of a run are added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RewardConfig {
    /// What rewards.
    pub kind: RewardKind,
    /// What it is multiplied by.
    pub weight: f64,
    /// Of `exact`: what finds the result in an answer, by its first group; of `regex`: what must match.
    pub pattern: Option<String>,
    /// The field of the record that has, for `exact` and `number`, the result (without it, `answer`); for `regex`, the pattern; for `json-schema`, the schema.
    pub field: Option<String>,
    /// Of `json-schema`: a file.
    pub schema: Option<PathBuf>,
    /// Of `command`: a program and its arguments.
    pub command: Vec<String>,
    /// Of `command`: seconds for the answers of a step.
    pub timeout: f64,
}

impl Default for RewardConfig {
    fn default() -> RewardConfig {
        RewardConfig {
            kind: RewardKind::Exact,
            weight: 1.0,
            pattern: None,
            field: None,
            schema: None,
            command: Vec::new(),
            timeout: 60.0,
        }
    }
}

/// Refuses objectives that make no sense.
pub(crate) fn check(config: &Config) -> Result<(), ConfigError> {
    let value = |key, problem: &str| Err(ConfigError::Value { key, problem: problem.to_owned() });
    let finite = |x: f32| x.is_finite() && x >= 0.0;
    if config.preference.is_some() && config.grpo.is_some() {
        return value("grpo", "a run learns from preferences or from rewards: leave one of the sections out");
    }
    if config.grpo.is_none() && !config.reward.is_empty() {
        return value("reward", "rewards are for answers that are drawn: add a section [grpo]");
    }
    if config.grpo.is_none() && config.preference.is_none() {
        return Ok(());
    }
    let (model, training) = (&config.model, &config.training);
    if model.from.is_none() {
        return value(
            "model.from",
            "preferences and rewards are for a model that can answer already: name it",
        );
    }
    if training.tokens.is_some() || training.batch.is_some() {
        return value(
            "training.batch",
            "steps are counted in pairs or prompts here: give preference.pairs or grpo.prompts, and training.steps or \
             training.epochs",
        );
    }
    if config.data.packing.is_some() || config.data.text_field.is_some() {
        return value(
            "data.packing",
            "pairs and prompts are neither packed nor text: leave it out, and text-field",
        );
    }
    if let Some(p) = &config.preference {
        if !(finite(p.beta) && p.beta > 0.0) {
            return value("preference.beta", "must be a number above 0");
        }
        if !(1..=1 << 20).contains(&p.pairs) {
            return value("preference.pairs", "must be from 1 to 1048576");
        }
    }
    if let Some(g) = &config.grpo {
        if !(1..=1 << 20).contains(&g.prompts) || !(1..=100).contains(&g.updates) {
            return value("grpo.prompts", "must be from 1 to 1048576, and updates from 1 to 100");
        }
        if !(2..=1 << 16).contains(&g.answers) {
            return value("grpo.answers", "must be from 2 to 65536: answers are compared with each other");
        }
        if !(1..=1 << 20).contains(&g.answer_tokens) {
            return value("grpo.answer-tokens", "must be from 1 to 1048576");
        }
        if !(finite(g.temperature) && g.temperature > 0.0) {
            return value("grpo.temperature", "must be a number above 0");
        }
        if !(finite(g.clip_low) && g.clip_low < 1.0 && finite(g.clip_high) && finite(g.kl)) {
            return value("grpo.clip-low", "must be from 0 to below 1; clip-high and kl must be 0 or more");
        }
        if g.kl > 0.0 && config.training.precision == Precision::Int8 {
            return value(
                "training.precision",
                "\"int8\" with grpo.kl would take its rounding for a distance from the first model: use \"bf16\"",
            );
        }
        if config.reward.is_empty() {
            return value("reward", "say what is rewarded: add at least one [[reward]]");
        }
    }
    for reward in &config.reward {
        check_reward(reward)?;
    }
    Ok(())
}

fn check_reward(reward: &RewardConfig) -> Result<(), ConfigError> {
    let value = |key, problem: &str| Err(ConfigError::Value { key, problem: problem.to_owned() });
    let RewardConfig { kind, weight, pattern, field, schema, command, timeout } = reward;
    if !weight.is_finite() {
        return value("reward.weight", "must be a number");
    }
    if !(*timeout > 0.0 && *timeout <= 86_400.0) {
        return value("reward.timeout", "must be above 0, and at most 86400 seconds");
    }
    match kind {
        RewardKind::Regex if pattern.is_some() == field.is_some() => {
            return value("reward.pattern", "a regex needs one of `pattern` and `field`");
        }
        RewardKind::JsonSchema if schema.is_some() == field.is_some() => {
            return value("reward.schema", "a json-schema needs one of `schema` (a file) and `field`");
        }
        RewardKind::Command if command.is_empty() => {
            return value(
                "reward.command",
                "name the program, and its arguments: [\"python3\", \"grade.py\"]",
            );
        }
        _ => {}
    }
    let strange = [
        ("reward.pattern", pattern.is_some() && !matches!(kind, RewardKind::Exact | RewardKind::Regex)),
        ("reward.field", field.is_some() && *kind == RewardKind::Command),
        ("reward.schema", schema.is_some() && *kind != RewardKind::JsonSchema),
        ("reward.command", !command.is_empty() && *kind != RewardKind::Command),
    ];
    match strange.into_iter().find(|(_, is)| *is) {
        Some((key, _)) => value(key, "is not for a reward of this kind"),
        None => Ok(()),
    }
}
