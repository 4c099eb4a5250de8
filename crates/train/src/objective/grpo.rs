//! Learning from rewards of answers that the model itself draws, compared with other answers to the same prompt (GRPO; Shao
//! et al. 2024, arXiv:2402.03300).

use std::sync::Arc;

use autarky_engine::EngineError;
use autarky_graph::Program;
use autarky_graph::derivative;

use super::config::GrpoConfig;
use super::draw::{self, Drawing};
use super::factors::{Surrogate, advantages};
use super::prompts::Prompt;
use super::{Objective, Order, Place, Taken, total};
use crate::metrics::Metric;
use crate::reward::{Answered, Rewards};
use crate::run::RunError;
use crate::step::{With, compile, losses};
use crate::subject::Subject;
use crate::trainer::{Example, Precision, TrainError, Trainer};

/// Prompts, and what answers to them are worth.
pub(super) struct Grpo {
    config: GrpoConfig,
    rewards: Rewards,
    prompts: Vec<Prompt>,
    held_out: Vec<Prompt>,
    order: Order,
    /// The model that the run begins with, where divergence from it costs something.
    reference: Option<(Box<dyn Program>, Vec<u32>)>,
}

impl Grpo {
    pub(super) fn new(
        config: &GrpoConfig,
        rewards: Rewards,
        prompts: Vec<Prompt>,
        held_out: Vec<Prompt>,
        seed: u64,
    ) -> Grpo {
        let order = Order::new(prompts.len(), seed);
        Grpo { config: config.clone(), rewards, prompts, held_out, order, reference: None }
    }

    /// The log probabilities of all tokens of examples but the first of each, under the reference.
    fn reference(&mut self, place: &Place<'_>, examples: &[Example]) -> Result<Option<Vec<f32>>, TrainError> {
        let Some((program, blocks)) = &mut self.reference else { return Ok(None) };
        let size = (place.plan.at_once, place.plan.sequences());
        Ok(Some(losses(&mut **program, With { blocks, weights: &[] }, examples, size)?))
    }
}

/// The bytes that the model takes a second time where divergence from it costs something.
pub(super) fn memory(config: &GrpoConfig, subject: &Subject, precision: Precision) -> u64 {
    if config.kl > 0.0 { subject.weight_bytes(precision) } else { 0 }
}

/// Answers to prompts, and what they are worth.
struct Judged {
    answers: Vec<Vec<u32>>,
    rewards: Vec<f64>,
    tally: Tally,
}

fn judged(
    place: &Place<'_>,
    trainer: &Trainer,
    prompts: &[&Prompt],
    rewards: &mut Rewards,
    drawing: Drawing,
) -> Result<Judged, RunError> {
    let tokenizer = &place.subject.tokenizer;
    let asked: Vec<&[u32]> = prompts.iter().map(|p| &p.tokens[..]).collect();
    let answers = draw::answers(place, trainer, &asked, drawing)?;
    let texts = answers.iter().map(|a| tokenizer.decode(a, true)).collect::<Result<Vec<String>, _>>();
    let texts = texts.map_err(EngineError::from)?;
    let answered: Vec<Answered<'_>> = texts
        .iter()
        .enumerate()
        .map(|(i, answer)| {
            let prompt = prompts[i / drawing.each];
            Answered { prompt: &prompt.text, answer, record: &prompt.record }
        })
        .collect();
    let rewards = rewards.judge(&answered)?;
    let tokens: usize = answers.iter().map(Vec::len).sum();
    let ended = answers.iter().filter(|a| a.last().is_some_and(|&t| tokenizer.is_eog(t))).count();
    let tally = Tally {
        sums: [rewards.iter().sum(), answers.len() as f64, tokens as f64, ended as f64],
        equal: 0.0,
        highest: rewards.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        lowest: rewards.iter().copied().fold(f64::INFINITY, f64::min),
    };
    Ok(Judged { answers, rewards, tally })
}

impl Judged {
    /// How much better each answer is than the others to its prompt; nothing for prompts whose answers are worth the same.
    fn advantages(&self, config: &GrpoConfig) -> Vec<Option<Vec<f64>>> {
        let groups = self.rewards.chunks(config.answers);
        let all = groups.map(|rewards| advantages(rewards, config.divide_by_deviation));
        all.map(|all| Some(all).filter(|all| all.iter().any(|a| *a != 0.0))).collect()
    }
}

/// What answers come to.
#[derive(Clone, Copy)]
struct Tally {
    /// Of their rewards, their number, their tokens, and those that ended by themselves.
    sums: [f64; 4],
    /// Prompts whose answers are worth the same.
    equal: f64,
    highest: f64,
    lowest: f64,
}

impl Tally {
    fn numbers(self) -> [f64; 7] {
        let [rewards, answers, tokens, ended] = self.sums;
        [rewards, answers, tokens, ended, self.equal, self.highest, self.lowest]
    }

    /// Of the [`Tally::numbers`] of all shards.
    fn of(all: &[[f64; 7]]) -> Tally {
        let [rewards, answers, tokens, ended, equal, ..] = total(all);
        let highest = all.iter().map(|t| t[5]).fold(f64::NEG_INFINITY, f64::max);
        let lowest = all.iter().map(|t| t[6]).fold(f64::INFINITY, f64::min);
        Tally { sums: [rewards, answers, tokens, ended], equal, highest, lowest }
    }

    fn metric(&self, step: u64, held_out: bool) -> Metric {
        let [_, answers, ..] = self.sums;
        let [reward, _, length, ended] = self.sums.map(|sum| sum / answers.max(1.0));
        let (highest, lowest) = (self.highest, self.lowest);
        let (equal, clipped, divergence) = (None, None, None);
        let answers = answers as usize;
        Metric::Rewards {
            step,
            held_out,
            reward,
            highest,
            lowest,
            answers,
            length,
            ended,
            equal,
            clipped,
            divergence,
        }
    }
}

/// A shard's answers that are learned from.
#[derive(Default)]
struct Drawn {
    examples: Vec<Example>,
    advantages: Vec<f64>,
    /// The losses of all tokens under the weights that drew them.
    old: Vec<f32>,
    /// The same under the reference.
    reference: Option<Vec<f32>>,
}

impl Objective for Grpo {
    fn begin(&mut self, place: &Place<'_>, _trainer: &mut Trainer) -> Result<(), RunError> {
        let prompts = self.prompts.iter().chain(&self.held_out);
        for prompt in prompts {
            self.rewards.admit(&prompt.record)?;
        }
        if self.config.kl > 0.0 {
            let subject = place.subject;
            let graph = subject.adapter.as_ref().map_or(&subject.graph, |a| &a.base);
            let graph = Arc::new(derivative::losses(graph).ok_or(TrainError::Inputs)?);
            let size = (place.plan.at_once, place.plan.sequences());
            let precision = place.config.training.precision;
            let compiled = compile(place.device, graph, subject.weights(), precision, size);
            self.reference = Some(compiled.map_err(TrainError::from)?);
        }
        Ok(())
    }

    fn step(
        &mut self,
        place: &Place<'_>,
        trainer: &mut Trainer,
        step: u64,
        rate: f32,
    ) -> Result<Taken, RunError> {
        let GrpoConfig { prompts, answers: each, .. } = self.config;
        let (chosen, shards) = (self.order.of(step, prompts), place.shards);
        let (mut drawn, mut tallies) = (Vec::new(), Vec::new());
        for shard in shards.own() {
            let rows = shards.rows(chosen.len(), shard);
            let drawing = Drawing {
                each,
                most: self.config.answer_tokens,
                temperature: self.config.temperature,
                seed: place.config.seed,
                first: step
                    .wrapping_mul(prompts as u64)
                    .wrapping_add(rows.start as u64)
                    .wrapping_mul(each as u64),
            };
            let asked: Vec<&Prompt> = chosen[rows].iter().map(|&i| &self.prompts[i]).collect();
            let found = judged(place, trainer, &asked, &mut self.rewards, drawing)?;
            let mut tally = found.tally;
            let mut shard = Drawn::default();
            let groups = asked.iter().zip(found.answers.chunks(each)).zip(found.advantages(&self.config));
            for ((prompt, answers), advantages) in groups {
                tally.equal += f64::from(u8::from(advantages.is_none()));
                if advantages.is_none() && self.config.kl == 0.0 {
                    continue;
                }
                for answer in answers {
                    let learned = [vec![false; prompt.tokens.len()], vec![true; answer.len()]].concat();
                    shard.examples.push(Example { tokens: [&prompt.tokens[..], answer].concat(), learned });
                }
                shard.advantages.extend(advantages.unwrap_or_else(|| vec![0.0; each]));
            }
            drawn.push(shard);
            tallies.push(tally.numbers());
        }
        let tallies = shards.group.all_say_numbers(tallies.as_flattened())?;
        let tally = Tally::of(tallies.as_chunks().0);
        let mut metric = tally.metric(step + 1, false);
        let epoch = self.order.epochs(step + 1, prompts);
        if let Metric::Rewards { equal, .. } = &mut metric {
            *equal = Some(tally.equal / chosen.len() as f64);
        }
        if tally.equal == chosen.len() as f64 && self.config.kl == 0.0 {
            return Ok(Taken { epoch, metric: Some(metric), ..Taken::default() });
        }
        let [_, _, tokens, _] = tally.sums;
        let learned = self.learn(place, trainer, drawn, tokens, rate)?;
        if let Metric::Rewards { clipped, divergence, .. } = &mut metric {
            *clipped = (self.config.updates > 1).then_some(learned.clipped);
            *divergence = (self.config.kl > 0.0).then_some(learned.divergence);
        }
        let Learned { loss, norm, tokens, .. } = learned;
        Ok(Taken { loss: Some(loss), norm: Some(norm), tokens, epoch, metric: Some(metric) })
    }

    fn evaluate(
        &mut self,
        place: &Place<'_>,
        trainer: &mut Trainer,
        step: u64,
    ) -> Result<Option<(f64, Metric)>, RunError> {
        let most = self.config.answer_tokens;
        let mut left = place.config.evaluation.tokens;
        let asked: Vec<&Prompt> = self
            .held_out
            .iter()
            .take_while(|p| {
                let read = p.tokens.len() + most;
                let fits = read <= left;
                left = left.saturating_sub(read);
                fits
            })
            .collect();
        if asked.is_empty() {
            return Ok(None);
        }
        let drawing = Drawing { each: 1, most, temperature: 0.0, seed: 0, first: 0 };
        let found = judged(place, trainer, &asked, &mut self.rewards, drawing)?;
        let [rewards, answers, ..] = found.tally.sums;
        Ok(Some((rewards / answers, found.tally.metric(step, true))))
    }
}

/// What learning from answers came to: of the first update the loss, of the last the rest.
#[derive(Default)]
struct Learned {
    loss: f32,
    norm: f32,
    tokens: usize,
    clipped: f64,
    divergence: f64,
}

impl Grpo {
    /// Learns from this rank's shards of answers that have so many tokens in all.
    fn learn(
        &mut self,
        place: &Place<'_>,
        trainer: &mut Trainer,
        mut drawn: Vec<Drawn>,
        of: f64,
        rate: f32,
    ) -> Result<Learned, RunError> {
        let GrpoConfig { updates, clip_low, clip_high, kl, .. } = self.config;
        let [clip_low, clip_high, kl] = [clip_low, clip_high, kl].map(f64::from);
        let surrogate = Surrogate { clip_low, clip_high, kl };
        // The first update is of the weights that drew: all ratios are 1, and nothing needs to be known but with a reference.
        if updates > 1 || self.reference.is_some() {
            for shard in &mut drawn {
                shard.reference = self.reference(place, &shard.examples)?;
                shard.old = trainer.losses(&shard.examples)?;
            }
        }
        let first = place.shards.own().start;
        let mut learned = Learned::default();
        for update in 0..updates {
            let (said, norm) = trainer.step_in_shards(place.shards, rate, |trainer, shard| {
                let drawn = &drawn[shard - first];
                let now = match update {
                    0 => drawn.old.clone(),
                    _ => trainer.losses(&drawn.examples)?,
                };
                let (factors, said) = drawn.factors(surrogate, &now, of);
                trainer.gather_weighted(&drawn.examples, &factors)?;
                Ok(said)
            })?;
            let [loss, clipped, divergence, tokens] = total(&said);
            learned = Learned {
                loss: if update == 0 { (loss / of) as f32 } else { learned.loss },
                norm,
                tokens: tokens as usize,
                clipped: clipped / tokens.max(1.0),
                divergence: divergence / tokens.max(1.0),
            };
        }
        Ok(learned)
    }
}

impl Drawn {
    /// The factor of every token's loss, from the losses now; and the sums over what is learned of their surrogate's losses, of
    /// those that are clipped, of their divergence, and of their number.
    fn factors(&self, surrogate: Surrogate, now: &[f32], of: f64) -> (Vec<f32>, [f64; 4]) {
        let mut factors = Vec::new();
        let mut said = [0.0; 4];
        let tokens = self.examples.iter().zip(&self.advantages).flat_map(|(example, advantage)| {
            example.predicted().map(move |(_, learned)| learned.then_some(*advantage))
        });
        for (i, advantage) in tokens.enumerate() {
            let Some(advantage) = advantage else {
                factors.push(0.0);
                continue;
            };
            let log = |losses: &[f32]| losses.get(i).map(|&loss| -f64::from(loss));
            let (policy, old) = (log(now).unwrap_or(0.0), log(&self.old).unwrap_or(0.0));
            let token = surrogate.token(advantage, policy, old, self.reference.as_deref().and_then(log));
            let clipped = f64::from(u8::from(token.clipped));
            said = [said[0] + token.loss, said[1] + clipped, said[2] + token.divergence, said[3] + 1.0];
            factors.push((token.factor / of) as f32);
        }
        (factors, said)
    }
}
