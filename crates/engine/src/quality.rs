//! How good a model is on a text: perplexity, and KL divergence from another model.
//!
//! The text is cut into windows of `window` tokens that do not overlap; a shorter rest is left out. Each window
//! starts from an empty cache; with a beginning-of-sequence token, that token takes the place of the window's first.
//! Only the second half is scored, so that every scored token has at least half a window before it: positions
//! `window / 2 .. window − 1` each predict the token that follows. These are llama.cpp's choices, so that numbers can
//! be compared with those that it prints. [`choices`] scores answers to questions.

mod choices;

pub use choices::choices;

use crate::engine::{Engine, Outputs, Work};
use crate::error::EngineError;
use crate::sampling::SamplingError;
use crate::sequence::Sequence;

/// How a text is cut.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// Tokens in a window, at least 4.
    pub window: usize,
    /// The beginning-of-sequence token, where the model wants one.
    pub bos: Option<u32>,
}

/// A mean with its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// Its standard error, σ / √(n − 1); 0 for fewer than two numbers.
    pub error: f64,
}

impl Mean {
    /// Of `numbers`.
    pub fn of(numbers: &[f64]) -> Mean {
        let n = numbers.len() as f64;
        let value = numbers.iter().sum::<f64>() / n;
        let variance = numbers.iter().map(|x| (x - value).powi(2)).sum::<f64>() / n;
        Mean { value, error: if numbers.len() < 2 { 0.0 } else { (variance / (n - 1.0)).sqrt() } }
    }
}

/// A model's surprise at a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Perplexity {
    /// Tokens that were scored.
    pub tokens: usize,
    /// Mean −ln p of the scored tokens, in nats.
    pub surprise: Mean,
}

impl Perplexity {
    fn of(surprises: &[f64]) -> Perplexity {
        Perplexity { tokens: surprises.len(), surprise: Mean::of(surprises) }
    }

    /// e^surprise, with its standard error to first order.
    pub fn perplexity(&self) -> Mean {
        let value = self.surprise.value.exp();
        Mean { value, error: value * self.surprise.error }
    }
}

/// How far a model's predictions are from a base model's.
#[derive(Clone, Debug, PartialEq)]
pub struct Divergence {
    /// The base's perplexity.
    pub base: Perplexity,
    /// The other model's perplexity.
    pub other: Perplexity,
    /// KL(base ‖ other) = Σ p ln(p / q) of every scored position, in nats.
    pub kl: Mean,
    /// The median of the KL divergences.
    pub kl_median: f64,
    /// The 99th percentile.
    pub kl_p99: f64,
    /// The largest.
    pub kl_max: f64,
    /// The share of positions where both models' best token is the same.
    pub same_best: f64,
}

/// Measures perplexity on `text`. `progress` hears how many windows are done and how many there are.
///
/// # Errors
/// When the text has no whole window, the window does not fit the engine, or a step fails.
pub fn perplexity(
    engine: &mut Engine,
    text: &[u32],
    windows: Windows,
    progress: &mut dyn FnMut(usize, usize, Perplexity),
) -> Result<Perplexity, EngineError> {
    let count = windows.count(text, &[engine])?;
    let mut surprises = Vec::with_capacity(count * windows.window / 2);
    for i in 0..count {
        let mut part = Part::new(text, windows, i);
        let vocabulary = engine.vocabulary();
        while let Some((tokens, outputs)) = part.next(engine.chunk().min(engine.max_outputs())) {
            let first = part.sequence.cached();
            let rows = engine.step(&mut [Work { sequence: &mut part.sequence, tokens, outputs }])?;
            for (row, target) in rows.chunks_exact(vocabulary).zip(&part.targets[first..]) {
                surprises.push(LogSoftmax::new(row, first)?.surprise(*target));
            }
        }
        progress(i + 1, count, Perplexity::of(&surprises));
    }
    Ok(Perplexity::of(&surprises))
}

/// Measures how far `other` is from `base` on `text`.
///
/// # Errors
/// As [`perplexity`], and when the vocabularies differ in size.
pub fn divergence(
    base: &mut Engine,
    other: &mut Engine,
    text: &[u32],
    windows: Windows,
    progress: &mut dyn FnMut(usize, usize, Mean),
) -> Result<Divergence, EngineError> {
    let vocabulary = base.vocabulary();
    if vocabulary != other.vocabulary() {
        let what = format!("their vocabularies have {vocabulary} and {} entries", other.vocabulary());
        return Err(EngineError::Vocabulary(what));
    }
    let count = windows.count(text, &[base, other])?;
    let chunk = [&*base, other].map(|e| e.chunk().min(e.max_outputs())).into_iter().min().unwrap_or(1);
    let (mut p_surprises, mut q_surprises, mut kls) = (Vec::new(), Vec::new(), Vec::new());
    let mut same = 0usize;
    for i in 0..count {
        let (mut a, mut b) = (Part::new(text, windows, i), Part::new(text, windows, i));
        while let (Some((tokens, outputs)), Some(_)) = (a.next(chunk), b.next(chunk)) {
            let first = a.sequence.cached();
            let p = base.step(&mut [Work { sequence: &mut a.sequence, tokens, outputs }])?;
            let q = other.step(&mut [Work { sequence: &mut b.sequence, tokens, outputs }])?;
            let rows = p.chunks_exact(vocabulary).zip(q.chunks_exact(vocabulary));
            for ((p, q), &target) in rows.zip(&a.targets[first..]) {
                let (p, q) = (LogSoftmax::new(p, first)?, LogSoftmax::new(q, first)?);
                p_surprises.push(p.surprise(target));
                q_surprises.push(q.surprise(target));
                kls.push(p.kl(&q));
                same += usize::from(p.best == q.best);
            }
        }
        progress(i + 1, count, Mean::of(&kls));
    }
    let kl = Mean::of(&kls);
    kls.sort_unstable_by(f64::total_cmp);
    let quantile = |share: f64| kls[((kls.len() - 1) as f64 * share).round() as usize];
    Ok(Divergence {
        base: Perplexity::of(&p_surprises),
        other: Perplexity::of(&q_surprises),
        kl,
        kl_median: quantile(0.5),
        kl_p99: quantile(0.99),
        kl_max: quantile(1.0),
        same_best: same as f64 / kls.len() as f64,
    })
}

impl Windows {
    /// How many whole windows the text has.
    fn count(&self, text: &[u32], engines: &[&Engine]) -> Result<usize, EngineError> {
        if self.window < 4 {
            return Err(EngineError::Options(format!("a window of {} tokens scores nothing", self.window)));
        }
        for e in engines {
            if self.window > e.context() {
                return Err(EngineError::ContextFull { needed: self.window, context: e.context() });
            }
        }
        match text.len() / self.window {
            0 => Err(EngineError::TextTooShort { found: text.len(), window: self.window }),
            n => Ok(n),
        }
    }
}

/// One window on its way through an engine.
struct Part {
    sequence: Sequence,
    /// The token that follows each position.
    targets: Vec<u32>,
    /// Positions before this one are not scored.
    scored: usize,
}

impl Part {
    fn new(text: &[u32], windows: Windows, index: usize) -> Part {
        let window = &text[index * windows.window..][..windows.window];
        let mut sequence = Sequence::new();
        // The last token is only ever predicted.
        sequence.push(&[windows.bos.unwrap_or(window[0])]);
        sequence.push(&window[1..windows.window - 1]);
        Part { sequence, targets: window[1..].to_vec(), scored: windows.window / 2 }
    }

    /// The next chunk of at most `chunk` tokens: all scored, or none.
    fn next(&self, chunk: usize) -> Option<(usize, Outputs)> {
        let (done, left) = (self.sequence.cached(), self.sequence.pending().len());
        if left == 0 {
            return None;
        }
        Some(match self.scored.saturating_sub(done) {
            0 => (left.min(chunk), Outputs::All),
            unscored => (unscored.min(chunk), Outputs::None),
        })
    }
}

/// Logits with the logarithm of their normaliser.
struct LogSoftmax<'a> {
    logits: &'a [f32],
    normalizer: f64,
    best: usize,
}

impl<'a> LogSoftmax<'a> {
    fn new(logits: &'a [f32], position: usize) -> Result<LogSoftmax<'a>, EngineError> {
        let mut best = 0;
        for (i, &x) in logits.iter().enumerate() {
            if x.is_nan() || x == f32::INFINITY {
                let (position, token) = (position as u64, i as u32);
                return Err(SamplingError::NotANumber { position, token, value: x }.into());
            }
            if x > logits[best] {
                best = i;
            }
        }
        let top = f64::from(logits[best]);
        let sum: f64 = logits.iter().map(|&x| (f64::from(x) - top).exp()).sum();
        Ok(LogSoftmax { logits, normalizer: top + sum.ln(), best })
    }

    fn surprise(&self, token: u32) -> f64 {
        self.normalizer - self.logits.get(token as usize).map_or(f64::NEG_INFINITY, |&x| f64::from(x))
    }

    fn kl(&self, other: &LogSoftmax<'_>) -> f64 {
        let terms = self.logits.iter().zip(other.logits).map(|(&p, &q)| {
            let (p, q) = (f64::from(p) - self.normalizer, f64::from(q) - other.normalizer);
            // 0 · ln(0 / q) is 0.
            if p == f64::NEG_INFINITY { 0.0 } else { p.exp() * (p - q) }
        });
        // Rounding may take a sum of zeros below 0.
        terms.sum::<f64>().max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn text(n: u32) -> Vec<u32> {
        (0..n).map(|i| (i * i + 3 * i + 1) % testing::VOCABULARY as u32).collect()
    }

    /// Perplexity by its definition, one token at a time.
    fn slow(text: &[u32], w: usize, bos: Option<u32>) -> Vec<f64> {
        let mut engine = testing::engine(w, 1, 1);
        let mut surprises = Vec::new();
        for window in text.chunks_exact(w) {
            let mut window = window.to_vec();
            window[0] = bos.unwrap_or(window[0]);
            for i in w / 2..w - 1 {
                let mut s = Sequence::new();
                s.push(&window[..=i]);
                let logits = engine.advance(&mut s, &mut |_, _| true).unwrap().unwrap();
                let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
                surprises.push(sum.ln() - f64::from(logits[window[i + 1] as usize]));
            }
        }
        surprises
    }

    #[test]
    fn perplexity_is_its_definition_whatever_the_chunks() {
        let text = text(50);
        for (bos, window) in [(None, 16), (Some(2), 16), (None, 11)] {
            let expected = Mean::of(&slow(&text, window, bos));
            for chunk in [1, 5, 16] {
                let mut engine = testing::engine(16, 1, chunk);
                let mut told = Vec::new();
                let found = perplexity(&mut engine, &text, Windows { window, bos }, &mut |done, of, _| {
                    told.push((done, of))
                })
                .unwrap();
                assert!((found.surprise.value - expected.value).abs() < 1e-9);
                assert!((found.surprise.error - expected.error).abs() < 1e-9);
                assert_eq!(found.tokens, 50 / window * (window - 1 - window / 2));
                assert_eq!(told.last(), Some(&(50 / window, 50 / window)));
            }
        }
    }

    #[test]
    fn a_model_does_not_diverge_from_itself_and_does_from_another() {
        let text = text(64);
        let windows = Windows { window: 32, bos: None };
        let run = |seed, chunk| {
            let (mut a, mut b) = (testing::engine(32, 1, 8), testing::seeded(32, 1, chunk, seed));
            divergence(&mut a, &mut b, &text, windows, &mut |_, _, _| {}).unwrap()
        };
        let same = run(1, 8);
        assert_eq!((same.kl.value, same.kl_max, same.same_best), (0.0, 0.0, 1.0));
        assert_eq!(same.base, same.other);
        let other = run(2, 3);
        assert!(other.kl.value > 0.01 && other.kl_max >= other.kl_p99 && other.kl_p99 >= other.kl_median);
        assert!(other.same_best < 1.0);
        assert_eq!(other.base, same.base);
        // The straightforward definition at one position.
        let (p, q) = ([0.5f32, 0.25, 0.25].map(f32::ln), [0.25f32, 0.25, 0.5].map(f32::ln));
        let kl = LogSoftmax::new(&p, 0).unwrap().kl(&LogSoftmax::new(&q, 0).unwrap());
        assert!((kl - 0.25 * 2f64.ln()).abs() < 1e-7, "{kl}");
    }

    #[test]
    fn what_cannot_be_measured_is_said() {
        let mut engine = testing::engine(16, 1, 8);
        let mut run = |n, window| {
            perplexity(&mut engine, &text(n), Windows { window, bos: None }, &mut |_, _, _| {}).unwrap_err()
        };
        assert!(matches!(run(15, 16), EngineError::TextTooShort { found: 15, window: 16 }));
        assert!(matches!(run(99, 17), EngineError::ContextFull { needed: 17, context: 16 }));
        assert!(matches!(run(99, 3), EngineError::Options(_)));
        assert!(LogSoftmax::new(&[f32::NAN], 0).is_err());
    }
}
