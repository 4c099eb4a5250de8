//! Texts that a model in training writes, for people to see how far it is.

use std::error::Error;
use std::ops::ControlFlow;
use std::sync::Arc;

use autarky_engine::{Engine, Event, Options, Request, Sampler, Sampling, Sequence, generate};
use autarky_graph::{CacheDType, Device, Weights};
use autarky_text::EncodeOptions;

use crate::subject::Subject;

/// What the model goes on with after a prompt, in which control tokens count. It writes so many tokens at most, drawn with a
/// seed.
///
/// # Errors
/// When the prompt has no tokens, or the device does not run the model.
pub fn text(
    device: &dyn Device,
    subject: &Subject,
    weights: &dyn Weights,
    prompt: &str,
    (most, seed): (usize, u64),
) -> Result<String, Box<dyn Error>> {
    let tokenizer = &subject.tokenizer;
    let tokens = tokenizer.encode(prompt, EncodeOptions { add_special: true, parse_special: true })?;
    let options = Options::single(tokens.len() + most, CacheDType::F32);
    let mut engine = Engine::new(device, Arc::clone(&subject.graph), weights, options)?;
    let mut sequence = Sequence::new();
    sequence.push(&tokens);
    let mut sampler = Sampler::new(Sampling { seed, ..Sampling::default() })?;
    let request = Request {
        max_tokens: Some(most),
        end: tokenizer.eog().to_vec(),
        vocabulary: Some(tokenizer.vocab_size()),
        ..Request::default()
    };
    let mut text = String::new();
    let mut hear = |event: Event<'_>| {
        if let Event::Text(piece) = event {
            text.push_str(piece);
        }
        ControlFlow::Continue(())
    };
    generate(&mut engine, &mut sequence, &mut sampler, &mut tokenizer.decoder(), &request, &mut hear)?;
    Ok(text)
}
