//! How tokens are chosen.

use std::time::{SystemTime, UNIX_EPOCH};

use autarky_engine::{Sampling, SamplingError, Speculation};
use autarky_text::SamplingHints;
use clap::{Args, ValueEnum};

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// Higher is more varied; 0 always takes the most probable token [default: the model's, else 0.8]
    #[arg(long, short = 't', value_name = "T", allow_negative_numbers = true)]
    pub(crate) temperature: Option<f32>,

    /// Consider only the K most probable tokens; 0 considers all [default: the model's, else 40]
    #[arg(long, value_name = "K")]
    pub(crate) top_k: Option<usize>,

    /// Consider the most probable tokens up to this share of the probability; 1 considers all [default: the
    /// model's, else 0.95]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub(crate) top_p: Option<f32>,

    /// Consider tokens at least this many times as probable as the best; 0 considers all [default: the model's, else
    /// 0.05]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub(crate) min_p: Option<f32>,

    /// Consider the tokens that are most typical, up to this share of the probability; 1 considers all
    #[arg(long, value_name = "P", default_value_t = Sampling::default().typical_p, allow_negative_numbers = true)]
    pub(crate) typical_p: f32,

    /// Make recent tokens less probable by this factor; 1 does nothing [default: the model's, else 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) repetition_penalty: Option<f32>,

    /// Subtracted from the logits of recent tokens
    #[arg(long, value_name = "X", default_value_t = Sampling::default().presence_penalty, allow_negative_numbers = true)]
    pub(crate) presence_penalty: f32,

    /// Subtracted from the logits of recent tokens for each time they occur
    #[arg(long, value_name = "X", default_value_t = Sampling::default().frequency_penalty, allow_negative_numbers = true)]
    pub(crate) frequency_penalty: f32,

    /// How many of the last tokens the penalties see
    #[arg(long, value_name = "N", default_value_t = Sampling::default().penalty_window)]
    pub(crate) penalty_window: usize,

    /// Start of the random draws: the same seed gives the same answer [default: another each time]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

impl SamplingArgs {
    /// The checked options, with what the model's makers say where nothing was asked for.
    pub(crate) fn options(&self, hints: &SamplingHints) -> Result<Sampling, SamplingError> {
        let asked = SamplingHints {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
        };
        let options = Sampling {
            typical_p: self.typical_p,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            penalty_window: self.penalty_window,
            seed: self.seed.unwrap_or_else(seed_of_now),
            ..Sampling::default().hinted(hints).hinted(&asked)
        };
        options.validate()?;
        Ok(options)
    }
}

/// A seed that differs from run to run. Sampling needs variety, not secrecy.
fn seed_of_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_nanos() as u64 ^ u64::from(std::process::id()).rotate_left(32)
}

/// When guesses at the next tokens are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SpeculateName {
    /// While measurements say that it saves time
    Auto,
    /// Wherever the text repeats itself
    Always,
    /// Never
    Off,
}

impl From<SpeculateName> for Speculation {
    fn from(name: SpeculateName) -> Speculation {
        match name {
            SpeculateName::Auto => Speculation::Measured,
            SpeculateName::Always => Speculation::Always,
            SpeculateName::Off => Speculation::Off,
        }
    }
}
