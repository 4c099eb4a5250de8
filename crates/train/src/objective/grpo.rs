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
use super::{Objective, Order, Place, Taken, gather, losses};
use crate::metrics::Metric;
use crate::reward::{Answered, Rewards};
use crate::run::RunError;
use crate::step::{Laid, With, compile, parts};
use crate::trainer::{Example, TrainError, Trainer};

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
        let mut all = Vec::new();
        for part in parts(examples, place.plan.at_once, place.plan.sequences()) {
            let tokens = part.iter().map(Example::read).sum();
            Laid::new(part).compute(&mut **program, With { blocks, weights: &[] }, &vec![0.0; tokens])?;
            all.extend_from_slice(&program.output(0)[..tokens]);
        }
        Ok(Some(all))
    }
}

/// Answers to prompts, and what they are worth.
struct Judged {
    answers: Vec<Vec<u32>>,
    rewards: Vec<f64>,
    /// Tokens of all answers.
    tokens: usize,
    /// Answers that ended by themselves.
    ended: usize,
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
    let tokens = answers.iter().map(Vec::len).sum();
    let ended = answers.iter().filter(|a| a.last().is_some_and(|&t| tokenizer.is_eog(t))).count();
    Ok(Judged { answers, rewards, tokens, ended })
}

impl Judged {
    fn mean(&self) -> f64 {
        self.rewards.iter().sum::<f64>() / self.rewards.len().max(1) as f64
    }

    fn metric(&self, step: u64, held_out: bool) -> Metric {
        let answers = self.answers.len();
        let part = |n: usize| n as f64 / answers.max(1) as f64;
        let highest = self.rewards.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let lowest = self.rewards.iter().copied().fold(f64::INFINITY, f64::min);
        Metric::Rewards {
            step,
            held_out,
            reward: self.mean(),
            highest,
            lowest,
            answers,
            length: part(self.tokens),
            ended: part(self.ended),
            equal: None,
            clipped: None,
            divergence: None,
        }
    }
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
        let asked: Vec<&Prompt> =
            self.order.of(step, prompts).into_iter().map(|i| &self.prompts[i]).collect();
        let drawing = Drawing {
            each,
            most: self.config.answer_tokens,
            temperature: self.config.temperature,
            seed: place.config.seed,
            first: step.wrapping_mul((prompts * each) as u64),
        };
        let found = judged(place, trainer, &asked, &mut self.rewards, drawing)?;
        let mut metric = found.metric(step + 1, false);
        let (mut examples, mut advantage) = (Vec::new(), Vec::new());
        let mut equal = 0;
        let groups = asked.iter().zip(found.answers.chunks(each)).zip(found.rewards.chunks(each));
        for ((prompt, answers), rewards) in groups {
            let all = advantages(rewards, self.config.divide_by_deviation);
            let nothing = all.iter().all(|a| *a == 0.0);
            equal += usize::from(nothing);
            if nothing && self.config.kl == 0.0 {
                continue;
            }
            for (answer, a) in answers.iter().zip(all) {
                let learned =
                    prompt.tokens.iter().map(|_| false).chain(answer.iter().map(|_| true)).collect();
                examples.push(Example { tokens: [&prompt.tokens[..], answer].concat(), learned });
                advantage.push(a);
            }
        }
        let epoch = self.order.epochs(step + 1, prompts);
        if let Metric::Rewards { equal: slot, .. } = &mut metric {
            *slot = Some(equal as f64 / asked.len() as f64);
        }
        if examples.is_empty() {
            return Ok(Taken { epoch, metric: Some(metric), ..Taken::default() });
        }
        let learned = self.learn(place, trainer, &examples, &advantage, found.tokens, rate)?;
        if let Metric::Rewards { clipped, divergence, .. } = &mut metric {
            *clipped = (self.config.updates > 1).then_some(learned.clipped);
            *divergence = (self.config.kl > 0.0).then_some(learned.divergence);
        }
        let tokens = examples.iter().map(Example::learned).sum();
        let (loss, norm) = (Some(learned.loss), Some(learned.norm));
        Ok(Taken { loss, norm, tokens, epoch, metric: Some(metric) })
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
        Ok(Some((found.mean(), found.metric(step, true))))
    }
}

/// What learning from answers came to: of the first update the loss, of the last the rest.
#[derive(Default)]
struct Learned {
    loss: f32,
    norm: f32,
    clipped: f64,
    divergence: f64,
}

impl Grpo {
    /// Learns from answers with their advantages, as parts of `of` tokens.
    fn learn(
        &mut self,
        place: &Place<'_>,
        trainer: &mut Trainer,
        examples: &[Example],
        advantages: &[f64],
        of: usize,
        rate: f32,
    ) -> Result<Learned, RunError> {
        let GrpoConfig { updates, clip_low, clip_high, kl, .. } = self.config;
        let [clip_low, clip_high, kl] = [clip_low, clip_high, kl].map(f64::from);
        let surrogate = Surrogate { clip_low, clip_high, kl };
        let reference = self.reference(place, examples)?;
        // The first update is of the weights that drew: all ratios are 1, and nothing needs to be known but with a reference.
        let blind = updates == 1 && reference.is_none();
        let old = if blind { Vec::new() } else { losses(trainer, place.plan, examples)? };
        let mut learned = Learned::default();
        for update in 0..updates {
            let now = match update {
                0 => old.clone(),
                _ => losses(trainer, place.plan, examples)?,
            };
            let mut factors = Vec::with_capacity(now.len());
            let (mut loss, mut clipped, mut divergence, mut counted) = (0.0, 0usize, 0.0, 0usize);
            let tokens = examples.iter().zip(advantages).flat_map(|(example, advantage)| {
                example.predicted().map(move |(_, learned)| learned.then_some(*advantage))
            });
            for (i, advantage) in tokens.enumerate() {
                let Some(advantage) = advantage else {
                    factors.push(0.0);
                    continue;
                };
                let log = |losses: &[f32]| losses.get(i).map(|&loss| -f64::from(loss));
                let (policy, old) = (log(&now).unwrap_or(0.0), log(&old).unwrap_or(0.0));
                let token = surrogate.token(advantage, policy, old, reference.as_deref().and_then(log));
                loss += token.loss;
                clipped += usize::from(token.clipped);
                divergence += token.divergence;
                counted += 1;
                factors.push((token.factor / of as f64) as f32);
            }
            gather(trainer, place.plan, examples, &factors)?;
            learned.norm = trainer.update(rate)?;
            if update == 0 {
                learned.loss = (loss / of as f64) as f32;
            }
            learned.clipped = clipped as f64 / counted.max(1) as f64;
            learned.divergence = divergence / counted.max(1) as f64;
        }
        Ok(learned)
    }
}
