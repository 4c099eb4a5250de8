//! From logits to a token.
//!
//! The chain, in this order (llama.cpp's default order, so that settings mean the same in both):
//!
//! 1. **penalties** on tokens of the last `penalty_window` (prompt included): repetition (Keskar et al. 2019,
//!    arXiv:1909.05858: a positive logit is divided, another multiplied), frequency (minus `frequency_penalty` for
//!    each occurrence) and presence (minus `presence_penalty` once);
//! 2. **temperature 0** ends here: the highest logit wins, of equal ones the lowest id;
//! 3. **top-k**: the k highest logits (Fan et al. 2018, arXiv:1805.04833);
//! 4. **typical-p**: the tokens whose surprise is nearest to the entropy, up to mass p (Meister et al. 2022,
//!    arXiv:2202.00666);
//! 5. **top-p**: the most probable tokens up to mass p (Holtzman et al. 2019, arXiv:1904.09751);
//! 6. **min-p**: tokens at least `min_p` times as probable as the best (Nguyen et al. 2024, arXiv:2407.01082);
//! 7. **temperature** divides what is left, and one token is drawn.
//!
//! Filters 3 to 6 therefore see the probabilities at temperature 1. Probabilities are computed in f64. The same
//! options, seed and logits give the same tokens.

mod chain;
mod penalty;
mod rng;

pub use rng::Rng;

use autarky_text::SamplingHints;
use thiserror::Error;

use penalty::Window;

/// How tokens are chosen. The default draws as llama.cpp's does; [`Sampling::greedy`] does not draw at all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits: higher is more varied; 0 always takes the best.
    pub temperature: f32,
    /// Keep this many of the best tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the best tokens up to this probability mass; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens at least this many times as probable as the best; 0 keeps all.
    pub min_p: f32,
    /// Keep the most typical tokens up to this probability mass; 1 keeps all.
    pub typical_p: f32,
    /// Divides the positive logits of recent tokens and multiplies the others; 1 does nothing.
    pub repetition_penalty: f32,
    /// Subtracted from the logits of recent tokens; 0 does nothing.
    pub presence_penalty: f32,
    /// Subtracted from the logits of recent tokens once for each occurrence; 0 does nothing.
    pub frequency_penalty: f32,
    /// How many of the last tokens the penalties see.
    pub penalty_window: usize,
    /// What the draws start from.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalty_window: 64,
            seed: 0,
        }
    }
}

impl Sampling {
    /// Always the most probable token.
    pub fn greedy() -> Sampling {
        Sampling { temperature: 0.0, ..Sampling::default() }
    }

    /// These options, but those that the hints give.
    #[must_use]
    pub fn hinted(self, hints: &SamplingHints) -> Sampling {
        Sampling {
            temperature: hints.temperature.unwrap_or(self.temperature),
            top_k: hints.top_k.unwrap_or(self.top_k),
            top_p: hints.top_p.unwrap_or(self.top_p),
            min_p: hints.min_p.unwrap_or(self.min_p),
            repetition_penalty: hints.repetition_penalty.unwrap_or(self.repetition_penalty),
            ..self
        }
    }

    /// Checks that every option lies in its range.
    ///
    /// # Errors
    /// Names the first option that does not.
    pub fn validate(&self) -> Result<(), SamplingError> {
        let probability = 0.0..=1.0f32;
        let finite = |x: f32| x.is_finite();
        let checks = [
            (
                "temperature",
                self.temperature,
                finite(self.temperature) && self.temperature >= 0.0,
                "0 or more",
            ),
            ("top-p", self.top_p, probability.contains(&self.top_p), "between 0 and 1"),
            ("min-p", self.min_p, probability.contains(&self.min_p), "between 0 and 1"),
            ("typical-p", self.typical_p, probability.contains(&self.typical_p), "between 0 and 1"),
            (
                "repetition penalty",
                self.repetition_penalty,
                finite(self.repetition_penalty) && self.repetition_penalty > 0.0,
                "above 0",
            ),
            ("presence penalty", self.presence_penalty, finite(self.presence_penalty), "finite"),
            ("frequency penalty", self.frequency_penalty, finite(self.frequency_penalty), "finite"),
        ];
        match checks.into_iter().find(|(_, _, good, _)| !good) {
            Some((option, value, _, range)) => Err(SamplingError::Option { option, value, range }),
            None => Ok(()),
        }
    }

    fn penalizes(&self) -> bool {
        let off =
            self.repetition_penalty == 1.0 && self.presence_penalty == 0.0 && self.frequency_penalty == 0.0;
        !off && self.penalty_window > 0
    }
}

/// Why no token could be chosen.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum SamplingError {
    /// An option is out of its range.
    #[error("{option} is {value}, and must be {range}")]
    Option {
        /// Which.
        option: &'static str,
        /// What it was.
        value: f32,
        /// What it may be.
        range: &'static str,
    },
    /// The model gave a logit that is not a number, or is +∞.
    #[error(
        "the model gave {value} as the logit of token {token} after {position} tokens; its weights are damaged, or \
         its numbers outgrew their type (check the file, or try --device reference)"
    )]
    NotANumber {
        /// Tokens that were accepted before: the step.
        position: u64,
        /// Whose logit.
        token: u32,
        /// NaN or +∞.
        value: f32,
    },
    /// No token has a probability above 0.
    #[error("every token is ruled out after {position} tokens (all logits are -inf)")]
    NoCandidates {
        /// Tokens that were accepted before: the step.
        position: u64,
    },
}

/// A token that may be drawn, and how probable it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Its id.
    pub token: u32,
    /// Its logit after penalties.
    pub logit: f32,
    /// Its probability among the candidates of the last filter.
    pub probability: f64,
}

/// The natural logarithm of the softmax of `logits` at `token`, and at the `most` highest, best first.
pub fn logprobs(logits: &[f32], token: u32, most: usize) -> (f32, Vec<(u32, f32)>) {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - highest).exp()).sum();
    let normal = f64::from(highest) + sum.ln();
    let of = |logit: f32| (f64::from(logit) - normal) as f32;
    let mut top = Vec::new();
    if most > 0 {
        chain::top_k(logits, most, &mut Vec::new(), &mut top);
    }
    let top = top.iter().map(|c| (c.token, of(c.logit))).collect();
    (logits.get(token as usize).map_or(f32::NEG_INFINITY, |&x| of(x)), top)
}

/// Chooses tokens one after another.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: Sampling,
    rng: Rng,
    window: Window,
    accepted: u64,
    /// Kept between tokens so that choosing one allocates nothing.
    logits: Vec<f32>,
    keys: Vec<u64>,
    candidates: Vec<Candidate>,
}

impl Sampler {
    /// A sampler that has seen no tokens.
    ///
    /// # Errors
    /// When an option is out of its range.
    pub fn new(options: Sampling) -> Result<Sampler, SamplingError> {
        options.validate()?;
        Ok(Sampler {
            options,
            rng: Rng::new(options.seed),
            window: Window::new(if options.penalizes() { options.penalty_window } else { 0 }),
            accepted: 0,
            logits: Vec::new(),
            keys: Vec::new(),
            candidates: Vec::new(),
        })
    }

    /// Its options.
    pub fn options(&self) -> &Sampling {
        &self.options
    }

    /// Shows it tokens that were not chosen by it (the prompt), for the penalties.
    pub fn accept(&mut self, tokens: &[u32]) {
        self.accepted += tokens.len() as u64;
        self.window.push(tokens);
    }

    /// Chooses the next token from its logits `[vocabulary]`, and accepts it.
    ///
    /// # Errors
    /// When a logit is NaN or +∞, or all are −∞.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, SamplingError> {
        let token = if self.options.temperature == 0.0 {
            self.check(logits)?;
            let best = match self.options.penalizes() {
                true => {
                    self.penalize(logits);
                    chain::best(&self.logits)
                }
                false => chain::best(logits),
            };
            best.ok_or(SamplingError::NoCandidates { position: self.accepted })?
        } else {
            self.distribution(logits)?;
            // The sum is 1 but for rounding, which must not leave the draw without a token.
            let mut left = self.rng.unit();
            let mut chosen = self.candidates[0].token;
            for c in &self.candidates {
                chosen = c.token;
                left -= c.probability;
                if left < 0.0 {
                    break;
                }
            }
            chosen
        };
        self.accept(&[token]);
        Ok(token)
    }

    /// The tokens that may be drawn from these logits, most probable first, with their probabilities. At
    /// temperature 0 that is one token.
    ///
    /// # Errors
    /// When a logit is NaN or +∞, or all are −∞.
    pub fn distribution(&mut self, logits: &[f32]) -> Result<&[Candidate], SamplingError> {
        self.check(logits)?;
        self.penalize(logits);
        let o = self.options;
        let top_k = if o.temperature == 0.0 { 1 } else { o.top_k };
        chain::top_k(&self.logits, top_k, &mut self.keys, &mut self.candidates);
        if self.candidates.is_empty() {
            return Err(SamplingError::NoCandidates { position: self.accepted });
        }
        chain::typical_p(&mut self.candidates, o.typical_p);
        chain::top_p(&mut self.candidates, o.top_p);
        chain::min_p(&mut self.candidates, o.min_p);
        let temperature = if o.temperature == 0.0 { 1.0 } else { o.temperature };
        chain::softmax(&mut self.candidates, temperature);
        Ok(&self.candidates)
    }

    /// Whether these are logits.
    fn check(&self, logits: &[f32]) -> Result<(), SamplingError> {
        let Some(i) = chain::not_a_number(logits) else { return Ok(()) };
        Err(SamplingError::NotANumber { position: self.accepted, token: i as u32, value: logits[i] })
    }

    /// Copies the logits, penalised, into `self.logits`.
    fn penalize(&mut self, logits: &[f32]) {
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        self.window.penalize(&self.options, &mut self.logits);
    }
}

#[cfg(test)]
mod tests;
