//! A replica that batches continuously, in the long run and without simulation.
//!
//! With n sequences in the batch each step takes T(n), so a sequence advances at 1/T(n) steps a second however many
//! others come and go: processor sharing whose speed depends on n. With Poisson arrivals at rate λ of requests of D
//! decode steps the share of time with n in the batch is proportional to ∏ₖ₌₁ⁿ λ·D·T(k)/k, whatever the distribution
//! of D (Kelly, "Reversibility and Stochastic Networks", 1979, section 3.3). Where T is a straight line, its mean is
//! the fixed point B = λ·D·T(1 + B); for large batches that is the familiar B = λ·D·T(B).

use super::queues::below_one;
use crate::simulate::error::{SimulateError, field, not_negative, positive};
use crate::simulate::service::Replica;
use crate::simulate::step::{Step, StepTime};

/// The mean request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    /// Mean tokens of the prompt.
    pub input: f64,
    /// Mean tokens of the answer, more than 1.
    pub output: f64,
    /// Coefficient of variation of the answers' lengths: 0 if all are alike.
    pub output_variation: f64,
    /// Mean tokens at each prompt's start that are cached already, less than `input`.
    pub prefix: f64,
    /// Mean tokens that a sequence gains by a decode step, at least 1.
    pub tokens_per_step: f64,
}

/// A replica in the long run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Batching {
    /// The rate of requests over the largest that can be sustained, below 1.
    pub utilisation: f64,
    /// The largest rate that can be sustained, in requests a second.
    pub most_per_s: f64,
    /// Mean sequences that decode.
    pub decoding: f64,
    /// Mean seconds per token after the first.
    pub tpot_s: f64,
    /// Mean seconds from arrival to first token; an estimate (the step under way, the steps that prefill, and a wait
    /// for a full batch as of M/G/c).
    pub ttft_s: f64,
}

/// One replica at `per_s` requests a second, which come at random (Poisson).
///
/// Preemption is left out: the cache bounds the batch by its mean use. Beside simulations at 30 to 80 % load TPOT is
/// within 5 %, and TTFT within 3 % up to 60 % load and 20 % at 80 %, where waiting for a full batch begins to count;
/// answers that all have one length and end in lockstep are slower in an overloaded service than is said here. It asks for the time of up to a few dozen steps
/// for each size of the batch.
///
/// # Errors
///
/// Where an argument cannot be, a step time is not positive, or the replica is overloaded.
pub fn batching<S: StepTime + ?Sized>(
    replica: &Replica,
    time: &S,
    mix: &Mix,
    per_s: f64,
) -> Result<Batching, SimulateError> {
    positive("batching", "per_s", per_s)?;
    let most_per_s = most_per_s(replica, time, mix)?;
    let utilisation = below_one(per_s / most_per_s)?;
    let model = Model { replica, time, mix };
    let (steps, most) = (mix.steps(), model.most_decoding());
    // Sums over the sizes of the batch, each with its weight; the empty one has weight 1 until all are scaled down.
    let (mut weight, mut weights) = (1.0, 1.0);
    let (mut decoding, mut ttft_s) = (0.0, model.batch(0)?.first_token(0.0)?.1);
    let mut last_ratio = 0.0;
    for n in 1..=most {
        let mut batch = model.batch(n)?;
        let step_s = batch.mean_step(per_s)?;
        let ratio = per_s * steps * step_s;
        last_ratio = ratio / n as f64;
        weight *= last_ratio;
        let (residual_s, first_s) = batch.first_token(per_s * step_s)?;
        weights += weight;
        decoding += weight * n as f64;
        ttft_s += weight * (residual_s + first_s);
        if weights > 1e200 {
            for sum in [&mut weight, &mut weights, &mut decoding, &mut ttft_s] {
                *sum *= 1e-200;
            }
        }
        // What follows is less than geometric, since T(n)/n falls.
        if last_ratio < 1.0 && weight * last_ratio < 1e-12 * weights * (1.0 - last_ratio) {
            last_ratio = 0.0;
            break;
        }
    }
    // Full: those that wait are geometric in number, as in M/M/c; Lee and Longton's factor for other lengths.
    let tail = below_one(last_ratio)?;
    let full = weight * tail / (1.0 - tail);
    let (residual_s, first_s) = match tail {
        0.0 => (0.0, 0.0),
        _ => model.batch(most)?.first_token(most as f64 / steps)?,
    };
    let waiting = full / (1.0 - tail) * (1.0 + mix.output_variation * mix.output_variation) / 2.0;
    let weights = weights + full;
    let decoding = (decoding + full * most as f64) / weights;
    Ok(Batching {
        utilisation,
        most_per_s,
        decoding,
        tpot_s: decoding / per_s / (mix.output - 1.0),
        ttft_s: (ttft_s + full * (residual_s + first_s) + waiting / per_s) / weights,
    })
}

/// The largest rate that one replica sustains, in requests a second: that at which its batch is full. In each of the
/// full batch's steps n/D of its n sequences end, and as many prompts begin.
///
/// # Errors
///
/// Where an argument cannot be, or a step time is not positive.
pub fn most_per_s<S: StepTime + ?Sized>(
    replica: &Replica,
    time: &S,
    mix: &Mix,
) -> Result<f64, SimulateError> {
    replica.check("replica")?;
    mix.check()?;
    let model = Model { replica, time, mix };
    let n = model.most_decoding();
    let begun = n as f64 / mix.steps();
    let mut batch = model.batch(n)?;
    Ok(begun / (batch.decode_s + batch.expect(begun, |extra_s| extra_s)?))
}

impl Mix {
    fn check(&self) -> Result<(), SimulateError> {
        positive("mix", "input", self.input)?;
        not_negative("mix", "output_variation", self.output_variation)?;
        not_negative("mix", "prefix", self.prefix)?;
        if !(self.output.is_finite() && self.output > 1.0) {
            return Err(field("mix", "output", self.output, "finite and more than 1"));
        }
        if self.prefix >= self.input {
            return Err(field("mix", "prefix", self.prefix, "less than the input"));
        }
        if !(self.tokens_per_step.is_finite() && self.tokens_per_step >= 1.0) {
            return Err(field("mix", "tokens_per_step", self.tokens_per_step, "finite and at least 1"));
        }
        Ok(())
    }

    /// Mean decode steps of a request.
    fn steps(&self) -> f64 {
        (self.output - 1.0) / self.tokens_per_step
    }

    /// Mean tokens to prefill.
    fn prefill(&self) -> f64 {
        (self.input - self.prefix).max(1.0)
    }

    /// Mean cached tokens of a decoding sequence: long answers are met in proportion to their length.
    fn context(&self) -> f64 {
        self.input + (self.output - 1.0) / 2.0 * (1.0 + self.output_variation * self.output_variation)
    }
}

struct Model<'a, S: ?Sized> {
    replica: &'a Replica,
    time: &'a S,
    mix: &'a Mix,
}

impl<'a, S: StepTime + ?Sized> Model<'a, S> {
    /// The most sequences that decode at once: bounded by the batch, the cache, and the tokens of a step.
    fn most_decoding(&self) -> u64 {
        let (steps, prefill) = (self.mix.steps(), self.mix.prefill());
        let budget = f64::from(self.replica.max_step_tokens);
        let block = f64::from(self.replica.block_tokens);
        let cache = self.replica.blocks() as f64 * block / (self.mix.context() + block / 2.0);
        let mut most = f64::from(self.replica.max_sequences).min(cache);
        if self.replica.chunked {
            // Sequences whose prompts are being prefilled take part in the batch, and their tokens in the step.
            most *= steps / (steps + (prefill / budget).ceil());
            most = most.min(budget / (1.0 + prefill / steps));
        }
        (most.round() as u64).max(1)
    }

    fn batch(&self, decoding: u64) -> Result<Batch<'_, S>, SimulateError> {
        let cached_tokens = (decoding as f64 * self.mix.context()).round() as u64;
        let step = Step { decoding, cached_tokens, ..Step::default() };
        let decode_s = if decoding == 0 { 0.0 } else { step.seconds(self.time)? };
        let batch = Batch { model: Model { ..*self }, step, decode_s, extra_s: vec![0.0] };
        Ok(batch)
    }
}

/// A batch of one size.
struct Batch<'a, S: ?Sized> {
    model: Model<'a, S>,
    step: Step,
    /// A step without prompts.
    decode_s: f64,
    /// By how much so many prompts lengthen the steps that prefill them.
    extra_s: Vec<f64>,
}

/// Prompts that begin in one step at most that are looked at singly; more lengthen it in proportion.
const MOST_PROMPTS: usize = 40;

impl<S: StepTime + ?Sized> Batch<'_, S> {
    fn extra(&mut self, prompts: usize) -> Result<f64, SimulateError> {
        while self.extra_s.len() <= prompts.min(MOST_PROMPTS) {
            let extra_s = self.prefill(self.extra_s.len())?;
            self.extra_s.push(extra_s);
        }
        let known = self.extra_s.get(prompts).copied();
        let last = self.extra_s.last().copied().unwrap_or(0.0);
        Ok(known.unwrap_or(last * prompts as f64 / MOST_PROMPTS as f64))
    }

    fn prefill(&self, prompts: usize) -> Result<f64, SimulateError> {
        let (replica, mix) = (self.model.replica, self.model.mix);
        let budget = f64::from(replica.max_step_tokens);
        let prompt = mix.prefill();
        let seconds = |tokens: f64, context: f64, with: Step| {
            let prefill_tokens = (tokens.round() as u64).max(1);
            Step { prefill_tokens, prefill_context: context, ..with }.seconds(self.model.time)
        };
        if !replica.chunked {
            let at_once = (budget / prompt).floor().max(1.0).min(prompts as f64);
            let all = (prompts as f64 / at_once).floor();
            let rest = prompts as f64 - all * at_once;
            let alone = Step::default();
            let rest_s = if rest > 0.0 { seconds(rest * prompt, mix.prefix, alone)? } else { 0.0 };
            return Ok(all * seconds(at_once * prompt, mix.prefix, alone)? + rest_s);
        }
        let room = (budget - self.step.decoding as f64).max(1.0);
        // Later chunks of a long prompt find its earlier ones cached.
        let context = mix.prefix + ((prompt - room) / 2.0).max(0.0);
        let tokens = prompts as f64 * prompt;
        let all = (tokens / room).floor();
        let rest = tokens - all * room;
        let longer = |tokens| Ok(seconds(tokens, context, self.step)? - self.decode_s);
        let all_s = if all > 0.0 { all * longer(room)? } else { 0.0 };
        Ok(all_s + if rest >= 0.5 { longer(rest)? } else { 0.0 })
    }

    /// The mean of `value` of the extra seconds of Poisson many prompts.
    fn expect(&mut self, mean: f64, value: impl Fn(f64) -> f64) -> Result<f64, SimulateError> {
        if mean > MOST_PROMPTS as f64 / 2.0 {
            let prompts = mean.round().min(1e9) as usize;
            return Ok(value(self.extra(prompts)? * mean / prompts as f64));
        }
        let (mut share, mut left, mut sum) = ((-mean).exp(), 1.0, 0.0);
        for prompts in 0..=MOST_PROMPTS {
            sum += share * value(self.extra(prompts)?);
            left -= share;
            if left < 1e-9 {
                break;
            }
            share *= mean / (prompts + 1) as f64;
        }
        Ok(sum)
    }

    /// The mean seconds of a step at a rate of requests: the least T with T = decode + E[extra of Poisson(rate·T)].
    fn mean_step(&mut self, per_s: f64) -> Result<f64, SimulateError> {
        let mut step_s = self.decode_s;
        for _ in 0..1000 {
            let next = self.decode_s + self.expect(per_s * step_s, |extra_s| extra_s)?;
            let settled = (next - step_s).abs() <= 1e-9 * next;
            step_s = next;
            if settled || step_s > 1e6 * self.decode_s {
                break;
            }
        }
        Ok(step_s)
    }

    /// Mean seconds that a new request waits for the step under way, and those of the steps that prefill it, where
    /// `others` prompts begin in a step.
    fn first_token(&mut self, others: f64) -> Result<(f64, f64), SimulateError> {
        let chunked = self.model.replica.chunked;
        let decode_s = self.decode_s;
        let squares = self.expect(others, |extra_s| match chunked {
            true => (decode_s + extra_s) * (decode_s + extra_s),
            false => decode_s * decode_s + extra_s * extra_s,
        })?;
        let mean_s = decode_s + self.expect(others, |extra_s| extra_s)?;
        let residual_s = if mean_s > 0.0 { squares / (2.0 * mean_s) } else { 0.0 };
        let chunks = match chunked {
            true => {
                let room = f64::from(self.model.replica.max_step_tokens) - self.step.decoding as f64;
                (self.model.mix.prefill() / room.max(1.0)).ceil()
            }
            false => 0.0,
        };
        let alone = self.extra(1)?;
        if chunks > 1.0 && mean_s > 0.0 {
            // Prompts of many steps queue for the steps' tokens, as in M/D/1.
            let own_s = chunks * decode_s + alone;
            let busy = (others / mean_s * own_s).min(0.99);
            return Ok(((1.0 - busy) * residual_s + busy * own_s / (2.0 * (1.0 - busy)), own_s));
        }
        let more = self.extra(2)? - alone;
        Ok((residual_s, chunks * decode_s + alone + others * more))
    }
}
