//! How likely a model holds each of several continuations of a prompt.

use super::LogSoftmax;
use crate::engine::{Engine, Outputs, Work};
use crate::error::EngineError;
use crate::sequence::Sequence;

/// ln p(choice | prompt) of every choice, in nats: the sum over its tokens. The prompt is computed once.
///
/// # Errors
/// When the prompt is empty, the prompt with a choice does not fit the engine's context, or a step fails.
pub fn choices(engine: &mut Engine, prompt: &[u32], choices: &[&[u32]]) -> Result<Vec<f64>, EngineError> {
    let Some(before) = prompt.len().checked_sub(1) else {
        return Err(EngineError::Options(
            "a choice is scored after a prompt of at least one token".to_owned(),
        ));
    };
    let longest = choices.iter().map(|c| c.len()).max().unwrap_or(0);
    if prompt.len() + longest > engine.context() {
        return Err(EngineError::ContextFull { needed: prompt.len() + longest, context: engine.context() });
    }
    let mut sequence = Sequence::new();
    sequence.push(prompt);
    while sequence.cached() < before {
        let tokens = engine.chunk().min(before - sequence.cached());
        engine.step(&mut [Work { sequence: &mut sequence, tokens, outputs: Outputs::None }])?;
    }
    choices.iter().map(|choice| continuation(engine, &mut sequence, prompt, choice)).collect()
}

/// ln p of one choice. `sequence` has all of the prompt but its last token computed.
fn continuation(
    engine: &mut Engine,
    sequence: &mut Sequence,
    prompt: &[u32],
    choice: &[u32],
) -> Result<f64, EngineError> {
    // The last token is only ever predicted.
    let (before, after) = (prompt.len() - 1, choice.len().saturating_sub(1));
    sequence.truncate(before);
    sequence.push(&prompt[before..]);
    sequence.push(&choice[..after]);
    let (chunk, vocabulary) = (engine.chunk().min(engine.max_outputs()), engine.vocabulary());
    let mut sum = 0.0;
    let mut left = choice;
    while !left.is_empty() {
        let (first, tokens) = (sequence.cached(), chunk.min(left.len()));
        let rows = engine.step(&mut [Work { sequence, tokens, outputs: Outputs::All }])?;
        for (row, &token) in rows.chunks_exact(vocabulary).zip(left) {
            sum -= LogSoftmax::new(row, first)?.surprise(token);
        }
        left = &left[tokens..];
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// By the definition, one token at a time.
    fn slow(prompt: &[u32], choice: &[u32]) -> f64 {
        let mut engine = testing::engine(32, 1, 1);
        let mut so_far = prompt.to_vec();
        let mut sum = 0.0;
        for &token in choice {
            let mut sequence = Sequence::new();
            sequence.push(&so_far);
            let logits = engine.advance(&mut sequence, &mut |_, _| true).unwrap().unwrap();
            let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
            sum += f64::from(logits[token as usize]) - total.ln();
            so_far.push(token);
        }
        sum
    }

    #[test]
    fn choices_are_scored_as_if_each_were_alone_whatever_the_chunks() {
        let prompt: Vec<u32> = (0..19).map(|i| (i * 5 + 1) % testing::VOCABULARY as u32).collect();
        // Two begin alike: what is cached of one must not keep the other's tokens from being scored.
        let asked: [&[u32]; 5] = [&[3, 4, 5], &[3, 4, 6, 7, 1, 2], &[9], &[], &[3, 4, 5]];
        for prompt in [&prompt[..], &prompt[..1]] {
            for chunk in [1, 2, 16] {
                let found = choices(&mut testing::engine(32, 1, chunk), prompt, &asked).unwrap();
                for (found, choice) in found.iter().zip(asked) {
                    assert!((found - slow(prompt, choice)).abs() < 1e-9, "{found}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_scored_is_refused() {
        let mut engine = testing::engine(16, 1, 8);
        assert!(matches!(choices(&mut engine, &[], &[&[1]]), Err(EngineError::Options(_))));
        let long = [1; 8];
        let error = choices(&mut engine, &[1; 9], &[&[1], &long]);
        assert!(matches!(error, Err(EngineError::ContextFull { needed: 17, context: 16 })));
        assert!(choices(&mut engine, &[1; 9], &[]).unwrap().is_empty());
    }
}
