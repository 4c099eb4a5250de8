//! Answers from the model in training: all at once, by the engine that serves models, on the device that trains it.

use std::sync::Arc;

use autarky_engine::sampling::Rng;
use autarky_engine::{Engine, EngineError, Options, Outputs, SamplingError, Sequence, Work};
use autarky_graph::{BLOCK, CacheDType, Weights};

use super::Place;
use crate::adapter::Overlay;
use crate::step::AsBf16;
use crate::subject::Subject;
use crate::trainer::{Precision, Trainer};

/// Positions of all answers that are drawn at a time: the KV cache is so large.
const POSITIONS: usize = 1 << 16;
/// Answers that are drawn at a time, at most.
const AT_A_TIME: usize = 1024;
/// Tokens of a step, where there are not more answers.
const CHUNK: usize = 512;

/// How answers are drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drawing {
    /// Answers to each prompt.
    pub(super) each: usize,
    /// Tokens of an answer, at most.
    pub(super) most: usize,
    /// Divides the logits; 0: the most probable token.
    pub(super) temperature: f32,
    /// Decides what is drawn, with the place of the answer.
    pub(super) seed: u64,
    /// The place of the first answer.
    pub(super) first: u64,
}

/// One answer as it is drawn.
struct Answer {
    sequence: Sequence,
    rng: Rng,
    begun: usize,
    done: bool,
}

/// Answers that are drawn at a time, of so many of so many tokens with their prompts.
fn wave(all: usize, context: usize) -> usize {
    (POSITIONS / context.div_ceil(BLOCK).max(1) / BLOCK).clamp(1, AT_A_TIME).min(all.max(1))
}

/// The bytes that drawing so many answers of so many tokens takes, if they get as long: the weights as they are drawn with, and
/// the KV cache of the answers. Prompts are not counted.
pub(super) fn memory(subject: &Subject, precision: Precision, (answers, tokens): (usize, usize)) -> u64 {
    let position: usize = subject.graph.caches().iter().map(|cache| 4 * cache.width()).sum();
    let positions = wave(answers, tokens) * tokens.next_multiple_of(BLOCK);
    subject.weight_bytes(precision) + (position * positions) as u64
}

/// The tokens of `each` answers to every prompt, prompt after prompt, each with the token that ends it, if it does not reach
/// the most that it may have. The weights are those of the trainer as they are now.
pub(super) fn answers(
    place: &Place<'_>,
    trainer: &Trainer,
    prompts: &[&[u32]],
    drawing: Drawing,
) -> Result<Vec<Vec<u32>>, EngineError> {
    let longest = prompts.iter().map(|p| p.len()).max().unwrap_or(0);
    let context = longest + drawing.most;
    let all = prompts.len() * drawing.each;
    let wave = wave(all, context);
    let options = Options {
        context,
        sequences: wave,
        positions: None,
        chunk: CHUNK.max(wave),
        outputs: wave,
        cache: CacheDType::F32,
    };
    let subject = place.subject;
    let now = Overlay { over: trainer, under: subject.weights() };
    let rounded = AsBf16 { weights: &now, int8: false };
    let weights: &dyn Weights = match place.config.training.precision {
        Precision::F32 => &now,
        Precision::Bf16 | Precision::Int8 => &rounded,
    };
    let mut engine = Engine::new(place.device, Arc::clone(&subject.graph), weights, options)?;
    let places: Vec<usize> = (0..all).collect();
    let mut drawn = Vec::with_capacity(all);
    for wave in places.chunks(wave) {
        let mut answers = begin(&mut engine, prompts, wave, drawing)?;
        while advance(&mut engine, &mut answers, place, drawing)? {}
        drawn.extend(answers.iter().map(|a| a.sequence.tokens()[a.begun..].to_vec()));
    }
    Ok(drawn)
}

/// The answers at these places, with nothing said yet. Those to one prompt share what the cache holds of it.
fn begin(
    engine: &mut Engine,
    prompts: &[&[u32]],
    places: &[usize],
    drawing: Drawing,
) -> Result<Vec<Answer>, EngineError> {
    let mut answers: Vec<Answer> = Vec::with_capacity(places.len());
    let mut shared: Option<(usize, Sequence)> = None;
    for &place in places {
        let index = place / drawing.each;
        let prompt = prompts[index];
        let Some((last, before)) = prompt.split_last() else { continue };
        if shared.as_ref().is_none_or(|(of, _)| *of != index) {
            let mut sequence = Sequence::new();
            sequence.push(before);
            while before.len() >= BLOCK && !sequence.pending().is_empty() {
                let tokens = sequence.pending().len().min(engine.max_tokens());
                engine.step(&mut [Work { sequence: &mut sequence, tokens, outputs: Outputs::None }])?;
            }
            shared = Some((index, sequence));
        }
        let Some((_, prefix)) = &shared else { continue };
        let mut sequence = prefix.fork();
        sequence.push(&[*last]);
        // Different places give different numbers, whatever the seed.
        let number = drawing.first.wrapping_add(place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let rng = Rng::new(drawing.seed ^ number);
        answers.push(Answer { sequence, rng, begun: prompt.len(), done: false });
    }
    Ok(answers)
}

/// Draws the next token of every answer that goes on, and says whether any does.
fn advance(
    engine: &mut Engine,
    answers: &mut [Answer],
    place: &Place<'_>,
    drawing: Drawing,
) -> Result<bool, EngineError> {
    let tokenizer = &place.subject.tokenizer;
    let mut waiting: Vec<&mut Answer> = answers.iter_mut().filter(|a| !a.done).collect();
    if waiting.is_empty() {
        return Ok(false);
    }
    let vocabulary = engine.vocabulary();
    let mut begin = 0;
    while begin < waiting.len() {
        // As many as fit into a step; the last of them perhaps in part.
        let (mut room, mut end) = (engine.max_tokens(), begin);
        let mut work = Vec::new();
        let mut chosen = Vec::new();
        for answer in waiting[begin..].iter_mut() {
            let tokens = answer.sequence.pending().len().min(room);
            if tokens == 0 {
                break;
            }
            room -= tokens;
            let whole = tokens == answer.sequence.pending().len();
            let outputs = if whole { Outputs::Last } else { Outputs::None };
            let Answer { sequence, rng, .. } = &mut **answer;
            work.push(Work { sequence, tokens, outputs });
            if whole {
                chosen.push(rng);
                end += 1;
            }
        }
        let logits = engine.step(&mut work)?;
        let tokens = chosen.into_iter().zip(logits.chunks_exact(vocabulary)).map(|(rng, logits)| {
            let known = &logits[..vocabulary.min(tokenizer.vocab_size())];
            choose(known, drawing.temperature, rng)
        });
        let tokens = tokens.collect::<Result<Vec<u32>, SamplingError>>()?;
        drop(work);
        for (answer, token) in waiting[begin..end].iter_mut().zip(tokens) {
            answer.sequence.push(&[token]);
            let said = answer.sequence.tokens().len() - answer.begun;
            answer.done = said >= drawing.most || tokenizer.is_eog(token);
        }
        begin = end;
    }
    Ok(true)
}

/// A token drawn with the probabilities of the softmax of logits over a temperature; at 0 the first of the highest.
fn choose(logits: &[f32], temperature: f32, rng: &mut Rng) -> Result<u32, SamplingError> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if let Some(token) = logits.iter().position(|x| x.is_nan() || *x == f32::INFINITY) {
        return Err(SamplingError::NotANumber { position: 0, token: token as u32, value: logits[token] });
    }
    if highest == f32::NEG_INFINITY {
        return Err(SamplingError::NoCandidates { position: 0 });
    }
    let best = logits.iter().position(|x| *x == highest).unwrap_or(0) as u32;
    if temperature == 0.0 {
        return Ok(best);
    }
    let weight = |x: f32| (f64::from(x - highest) / f64::from(temperature)).exp();
    let all: f64 = logits.iter().map(|&x| weight(x)).sum();
    let mut left = rng.unit() * all;
    for (token, &x) in logits.iter().enumerate() {
        left -= weight(x);
        if left < 0.0 {
            return Ok(token as u32);
        }
    }
    // Rounding left the draw without a token.
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_drawn_as_often_as_they_are_probable() {
        let logits = [0.0, 2f32.ln(), f32::NEG_INFINITY, 5f32.ln()];
        let mut rng = Rng::new(1);
        let mut counts = [0i32; 4];
        (0..8000).for_each(|_| counts[choose(&logits, 1.0, &mut rng).unwrap() as usize] += 1);
        for (count, wanted) in counts.into_iter().zip([1000, 2000, 0, 5000]) {
            assert!((count - wanted).abs() < 150, "{counts:?}");
        }
        assert_eq!(choose(&logits, 0.0, &mut rng).unwrap(), 3);
        assert!(choose(&[0.0, f32::NAN], 1.0, &mut rng).is_err());
        assert!(choose(&[f32::NEG_INFINITY; 2], 1.0, &mut rng).is_err());
    }
}
