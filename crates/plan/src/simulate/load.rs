//! Requests, and making them from a rate and lengths.

use super::error::{SimulateError, at_least_one, field, not_negative, positive};
use super::random::Random;

/// One request to the service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request {
    /// When it arrives, in seconds of the simulation's clock. A closed loop ignores it.
    pub arrival_s: f64,
    /// Tokens of the prompt, those of the prefix included; at least 1.
    pub input: u32,
    /// Tokens of the answer; at least 1.
    pub output: u32,
    /// The first tokens of the prompt that an earlier request shares and that are still cached, so that they are not
    /// prefilled; at most `input`. The last token of a prompt is always prefilled, for its logits. The sequence is
    /// charged for the prefix's blocks as for its own, as though nothing else held them.
    pub prefix: u32,
}

impl Request {
    /// Tokens of the prompt that need not be prefilled.
    pub(super) fn hit(&self) -> u32 {
        self.prefix.min(self.input.saturating_sub(1))
    }

    /// The most tokens that the cache ever holds of it: the last token of the answer is never fed back.
    pub(super) fn most_tokens(&self) -> u64 {
        u64::from(self.input) + u64::from(self.output) - 1
    }

    pub(super) fn check(&self, index: usize) -> Result<(), SimulateError> {
        let place = || format!("request {index}");
        let least =
            |name, value| if value == 0 { Err(field(place(), name, 0, "at least 1")) } else { Ok(()) };
        if !(self.arrival_s.is_finite() && self.arrival_s >= 0.0) {
            return Err(field(place(), "arrival_s", self.arrival_s, "a finite time, zero or later"));
        }
        least("input", self.input)?;
        least("output", self.output)?;
        if self.prefix > self.input {
            return Err(field(place(), "prefix", self.prefix, "at most the input"));
        }
        Ok(())
    }
}

/// When requests of an open loop come. (For clients that wait for their answers there is
/// [`simulate_closed_loop`](super::simulate_closed_loop), for measured times [`trace`](super::trace).)
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrivals {
    /// At random, independent of each other.
    Poisson {
        /// Mean requests a second.
        per_s: f64,
    },
    /// In bursts (or evenly): times between arrivals are gamma distributed.
    Gamma {
        /// Mean requests a second.
        per_s: f64,
        /// Coefficient of variation of the times between arrivals, from 0.001 to 1000: 1 is Poisson, more burstier.
        variation: f64,
    },
    /// Evenly.
    Constant {
        /// Requests a second.
        per_s: f64,
    },
}

/// How long prompts or answers are, in tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// All the same.
    Fixed(u32),
    /// Exponential with a mean, rounded up to whole tokens, as of answers that may end at any token alike.
    Exponential {
        /// The mean before rounding, in tokens.
        mean: f64,
    },
    /// Log-normal, as measured prompts and answers nearly are; rounded, and at least one token.
    LogNormal {
        /// The mean, in tokens.
        mean: f64,
        /// Coefficient of variation: standard deviation over mean.
        variation: f64,
    },
}

/// A load to make requests of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// When they come.
    pub arrivals: Arrivals,
    /// Tokens of the prompts.
    pub input: Length,
    /// Tokens of the answers.
    pub output: Length,
    /// Cached tokens at each prompt's start; a shorter prompt is cached but for its last token.
    pub prefix: u32,
}

impl Load {
    /// Draws `count` requests, the same for the same seed on every platform. Arrivals, prompts and answers are drawn
    /// independently: changing one leaves the others as they were.
    ///
    /// # Errors
    ///
    /// Where a rate, mean or variation is not a positive finite number, or a length is 0.
    pub fn requests(&self, count: usize, seed: u64) -> Result<Vec<Request>, SimulateError> {
        self.arrivals.check()?;
        self.input.check("input")?;
        self.output.check("output")?;
        let [mut gaps, mut inputs, mut outputs] = [0, 1, 2].map(|stream| Random::new(seed, stream));
        let mut now = 0.0;
        let requests: Vec<Request> = (0..count)
            .map(|_| {
                now += self.arrivals.gap(&mut gaps);
                let input = self.input.draw(&mut inputs);
                Request {
                    arrival_s: now,
                    input,
                    output: self.output.draw(&mut outputs),
                    prefix: self.prefix.min(input),
                }
            })
            .collect();
        if !now.is_finite() {
            return Err(field(
                "arrivals",
                "per_s",
                "too small",
                "large enough that all arrive in finite time",
            ));
        }
        Ok(requests)
    }
}

impl Arrivals {
    fn check(self) -> Result<(), SimulateError> {
        let (Arrivals::Poisson { per_s } | Arrivals::Gamma { per_s, .. } | Arrivals::Constant { per_s }) =
            self;
        positive("arrivals", "per_s", per_s)?;
        if let Arrivals::Gamma { variation, .. } = self
            && !(1e-3..=1e3).contains(&variation)
        {
            return Err(field("arrivals", "variation", variation, "from 0.001 to 1000"));
        }
        Ok(())
    }

    /// Seconds to the next arrival.
    fn gap(self, random: &mut Random) -> f64 {
        match self {
            Arrivals::Poisson { per_s } => random.exponential() / per_s,
            Arrivals::Gamma { per_s, variation } => {
                let shape = 1.0 / (variation * variation);
                random.gamma(shape) / (shape * per_s)
            }
            Arrivals::Constant { per_s } => 1.0 / per_s,
        }
    }
}

impl Length {
    fn check(self, place: &'static str) -> Result<(), SimulateError> {
        match self {
            Length::Fixed(tokens) => at_least_one(place, "length", tokens),
            Length::Exponential { mean } => positive(place, "mean", mean).map(|_| ()),
            Length::LogNormal { mean, variation } => {
                positive(place, "mean", mean)?;
                not_negative(place, "variation", variation).map(|_| ())
            }
        }
    }

    fn draw(self, random: &mut Random) -> u32 {
        // Casting saturates: the longest length is the type's.
        match self {
            Length::Fixed(tokens) => tokens,
            Length::Exponential { mean } => (libm::ceil(mean * random.exponential()) as u32).max(1),
            Length::LogNormal { mean, variation } => {
                let variance = libm::log1p(variation * variation);
                let location = libm::log(mean) - variance / 2.0;
                let tokens = libm::exp(location + libm::sqrt(variance) * random.normal());
                (libm::round(tokens) as u32).max(1)
            }
        }
    }
}
