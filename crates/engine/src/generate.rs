//! The loop from prompt to text.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use autarky_text::StreamDecoder;

use crate::engine::{Engine, Outputs, Work};
use crate::error::EngineError;
use crate::sampling::Sampler;
use crate::sequence::Sequence;
use crate::speculation::{Speculation, Speculator};
use crate::writer::{Ends, Writer};

/// When to stop.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Tokens to generate at most; `None` until something else ends it.
    pub max_tokens: Option<usize>,
    /// Tokens that end a generation, sorted; they give no text.
    pub end: Vec<u32>,
    /// Strings that end it; they are not part of the text.
    pub stop: Vec<String>,
    /// Ids below this may be chosen; `None`: all that have logits. Matrices often have more rows than the tokenizer
    /// has tokens.
    pub vocabulary: Option<usize>,
    /// Whether steps compute guesses at the next tokens. It changes no token, only time.
    pub speculation: Speculation,
}

/// What is told on the way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// A chunk of the prompt was computed.
    Prefill {
        /// Tokens computed.
        done: usize,
        /// Tokens to compute, those that were cached left out.
        total: usize,
    },
    /// Whole characters of the answer.
    Text(&'a str),
    /// A token was chosen. Its text may come later, when its last character is complete.
    Token(u32),
}

/// Why a generation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The model chose a token that ends its turn.
    End {
        /// That token.
        token: u32,
    },
    /// All that its constraint allows is said.
    Complete,
    /// A stop string came up.
    StopString(String),
    /// As many tokens as were asked for.
    MaxTokens,
    /// The sequence fills its context.
    ContextFull,
    /// The listener wanted no more.
    Cancelled,
}

impl StopReason {
    /// The reason as one word, as `--json` prints it.
    pub fn name(&self) -> &'static str {
        match self {
            StopReason::End { .. } => "end",
            StopReason::Complete => "complete",
            StopReason::StopString(_) => "stop_string",
            StopReason::MaxTokens => "max_tokens",
            StopReason::ContextFull => "context_full",
            StopReason::Cancelled => "cancelled",
        }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Generated {
    /// Why it ended.
    pub reason: StopReason,
    /// Tokens chosen, the ending one included.
    pub tokens: usize,
    /// Tokens of the prompt that were computed (not cached before).
    pub prefilled: usize,
    /// Time that the prefill took.
    pub prefill: Duration,
    /// Time from the first token to the last.
    pub decode: Duration,
    /// Guesses at tokens that steps computed ([`Request::speculation`]).
    pub guessed: usize,
    /// How many of them were right.
    pub right: usize,
}

impl Generated {
    /// Tokens of the prompt a second; `None` when there was nothing to compute.
    pub fn prefill_rate(&self) -> Option<f64> {
        rate(self.prefilled, self.prefill)
    }

    /// Tokens a second after the first, whose step is the prefill's last; `None` for fewer than two tokens.
    pub fn decode_rate(&self) -> Option<f64> {
        rate(self.tokens.saturating_sub(1), self.decode)
    }
}

fn rate(tokens: usize, time: Duration) -> Option<f64> {
    (tokens > 0 && !time.is_zero()).then(|| tokens as f64 / time.as_secs_f64())
}

/// Generates from a sequence whose pending tokens are the prompt (at least one). Chosen tokens are appended to the
/// sequence; the last one stays pending, and a later call may go on from there. `decoder` turns tokens to text;
/// `listener` hears what happens and may break it off, which leaves the sequence in order.
///
/// The sampler is not shown the prompt: call [`Sampler::accept`] first where penalties shall see it.
///
/// # Errors
/// When the prompt does not fit the context, a step fails, the logits are broken, or a chosen token is not in the
/// tokenizer's vocabulary.
pub fn generate(
    engine: &mut Engine,
    sequence: &mut Sequence,
    sampler: &mut Sampler,
    decoder: &mut StreamDecoder,
    request: &Request,
    listener: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Generated, EngineError> {
    let start = Instant::now();
    let prefilled = sequence.pending().len();
    let mut writer = Writer::new(&request.stop);
    let mut done = Generated {
        reason: StopReason::Cancelled,
        tokens: 0,
        prefilled,
        prefill: Duration::ZERO,
        decode: Duration::ZERO,
        guessed: 0,
        right: 0,
    };
    if request.max_tokens == Some(0) {
        return Ok(Generated { reason: StopReason::MaxTokens, prefilled: 0, ..done });
    }
    let (context, vocabulary) = (engine.context(), engine.vocabulary());
    let choice = vocabulary.min(request.vocabulary.unwrap_or(usize::MAX));
    let mut speculator = Speculator::new(request.speculation);
    let mut first = None;
    done.reason = 'generation: {
        let mut broken_off = false;
        let logits = engine.advance(sequence, &mut |done, total| {
            broken_off = listener(Event::Prefill { done, total }).is_break();
            !broken_off
        })?;
        let mut logits = match logits {
            Some(logits) if !broken_off => logits,
            _ => break 'generation StopReason::Cancelled,
        };
        // What a chosen token does beside being appended: why the generation ends with it, if it does.
        let mut chosen = |token: u32, done: &mut Generated, written: usize| -> Result<_, EngineError> {
            let now = Instant::now();
            done.prefill = *first.get_or_insert(now) - start;
            done.decode = first.map_or(Duration::ZERO, |first| now - first);
            done.tokens += 1;
            if listener(Event::Token(token)).is_break() {
                return Ok(Some(StopReason::Cancelled));
            }
            let ends = Ends { end: &request.end, most: request.max_tokens, room: written <= context };
            let mut text = String::new();
            let ended = writer.take(token, decoder, ends, &mut text)?;
            if !text.is_empty() && listener(Event::Text(&text)).is_break() {
                return Ok(Some(StopReason::Cancelled));
            }
            Ok(ended)
        };
        loop {
            // Guesses stand in the sequence, and are computed: each stays when it is what is drawn.
            let written = sequence.tokens().len() - speculator.taken().len();
            for (i, logits) in logits.chunks_exact(vocabulary).enumerate() {
                let drawn = sampler.sample(&logits[..choice]).inspect_err(|_| sequence.truncate(written + i));
                let token = drawn?;
                let right = speculator.came(i, token);
                done.right += usize::from(right);
                let ended = chosen(token, &mut done, written + i + 1);
                if right && matches!(ended, Ok(None)) {
                    continue;
                }
                sequence.truncate(written + i);
                sequence.push(&[token]);
                match ended? {
                    Some(reason) => break 'generation reason,
                    None => break,
                }
            }
            let begin = Instant::now();
            let left = request.max_tokens.map_or(usize::MAX, |most| most - done.tokens);
            logits = step(engine, sequence, &mut speculator, left)?;
            done.guessed += speculator.taken().len();
            speculator.took(begin.elapsed());
        }
    };
    let mut rest = String::new();
    writer.finish(&done.reason, decoder, &mut rest);
    if !rest.is_empty() {
        // The generation has ended either way.
        let _ = listener(Event::Text(&rest));
    }
    Ok(done)
}

/// Computes the pending token and guesses after it, of `left` tokens that are still wanted, and gives the logits of
/// each.
fn step<'a>(
    engine: &'a mut Engine,
    sequence: &mut Sequence,
    speculator: &mut Speculator,
    left: usize,
) -> Result<&'a [f32], EngineError> {
    let written = sequence.tokens().len();
    let room = (left - 1).min(engine.context().saturating_sub(written)).min(engine.max_outputs() - 1);
    let guesses = speculator.guess(sequence.tokens(), room).len();
    // Other sequences may have taken the cache.
    if engine.has_room(sequence, written + guesses) {
        sequence.push(speculator.taken());
    } else {
        speculator.give_up();
    }
    let tokens = 1 + speculator.taken().len();
    let work = Work { sequence: &mut *sequence, tokens, outputs: Outputs::All };
    match engine.step(&mut [work]) {
        Ok(logits) => Ok(logits),
        Err(error) => {
            sequence.truncate(written);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use autarky_text::{Model, Spec, TokenType, Tokenizer};

    use super::*;
    use crate::sampling::Sampling;
    use crate::testing;

    /// 40 tokens: an unknown token, letters, the two bytes of é, and more letters.
    fn tokenizer() -> Tokenizer {
        let mut tokens: Vec<String> = vec!["<unk>".into(), "<0xC3>".into(), "<0xA9>".into()];
        tokens.extend((3..testing::VOCABULARY as u8).map(|i| char::from(b'A' + i).to_string()));
        let mut token_types = vec![TokenType::Normal; tokens.len()];
        token_types[0] = TokenType::Unknown;
        token_types[1..3].fill(TokenType::Byte);
        let spec = Spec {
            model: Model::SentencePiece,
            scores: vec![0.0; tokens.len()],
            tokens,
            token_types,
            ..Spec::default()
        };
        Tokenizer::new(&spec).unwrap()
    }

    struct Run {
        generated: Generated,
        text: String,
        tokens: Vec<u32>,
    }

    fn run(prompt: &[u32], request: Request, context: usize, seed: u64) -> Run {
        let mut engine = testing::engine(context, 1, 4);
        let mut sequence = Sequence::new();
        sequence.push(prompt);
        let sampling =
            Sampling { temperature: 2.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed, ..Sampling::default() };
        let mut sampler = Sampler::new(sampling).unwrap();
        let (mut text, mut tokens) = (String::new(), Vec::new());
        let mut listen = |event: Event<'_>| {
            match event {
                Event::Text(t) => text += t,
                Event::Token(t) => tokens.push(t),
                Event::Prefill { done, total } => assert!(done <= total && total == prompt.len()),
            }
            ControlFlow::Continue(())
        };
        let mut decoder = tokenizer().decoder();
        let generated =
            generate(&mut engine, &mut sequence, &mut sampler, &mut decoder, &request, &mut listen).unwrap();
        assert_eq!(&sequence.tokens()[prompt.len()..], tokens);
        assert_eq!(generated.tokens, tokens.len());
        Run { generated, text, tokens }
    }

    fn at_most(n: usize) -> Request {
        Request { max_tokens: Some(n), ..Request::default() }
    }

    #[test]
    fn the_text_is_that_of_all_tokens_and_pieces_are_whole() {
        for seed in 0..20 {
            let r = run(&[5, 6, 7, 8, 9], at_most(24), 64, seed);
            assert_eq!(r.generated.reason, StopReason::MaxTokens);
            assert_eq!(r.text, tokenizer().decode(&r.tokens, true).unwrap(), "seed {seed}");
        }
    }

    #[test]
    fn it_stops_at_an_end_token_a_stop_string_and_a_full_context() {
        let free = run(&[5, 6, 7], at_most(24), 64, 3);
        let third = free.tokens[2];
        let first = free.tokens.iter().position(|&t| t == third).unwrap();
        let ended = run(&[5, 6, 7], Request { end: vec![third], ..at_most(24) }, 64, 3);
        assert_eq!(ended.generated.reason, StopReason::End { token: third });
        assert_eq!(ended.tokens, free.tokens[..=first]);

        let letters: Vec<char> = free.text.chars().collect();
        let stop: String = letters[4..6].iter().collect();
        let stopped = run(&[5, 6, 7], Request { stop: vec![stop.clone()], ..at_most(24) }, 64, 3);
        assert_eq!(stopped.generated.reason, StopReason::StopString(stop.clone()));
        assert_eq!(stopped.text, free.text[..free.text.find(&stop).unwrap()]);

        let full = run(&[5, 6, 7], Request::default(), 32, 3);
        assert_eq!(full.generated.reason, StopReason::ContextFull);
        assert_eq!(full.tokens.len(), 30, "the last token is chosen from the last position");

        assert!(run(&[5], at_most(0), 32, 3).tokens.is_empty());
    }

    #[test]
    fn ids_beyond_the_vocabulary_are_not_chosen() {
        let free = run(&[5, 6, 7], at_most(24), 64, 3);
        let highest = *free.tokens.iter().max().unwrap();
        let cut = run(&[5, 6, 7], Request { vocabulary: Some(highest as usize), ..at_most(24) }, 64, 3);
        assert!(cut.tokens.iter().all(|&t| t < highest), "{:?}", cut.tokens);
    }

    #[test]
    fn what_is_held_back_for_a_stop_string_is_shown_at_the_end() {
        let free = run(&[5, 6, 7], at_most(6), 64, 5);
        let stop = format!("{}!", free.text.chars().last().unwrap());
        let held = run(&[5, 6, 7], Request { stop: vec![stop], ..at_most(6) }, 64, 5);
        assert_eq!(held.text, free.text);
    }

    #[test]
    fn breaking_off_leaves_a_sequence_that_can_go_on() {
        let mut engine = testing::engine(64, 2, 4);
        let mut sampler = Sampler::new(Sampling::greedy()).unwrap();
        let request = at_most(8);
        let mut go = |sequence: &mut Sequence, until: usize| {
            let mut tokens = 0;
            let mut listen = |event: Event<'_>| {
                tokens += usize::from(matches!(event, Event::Token(_)));
                match tokens == until {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            };
            let mut decoder = tokenizer().decoder();
            generate(&mut engine, sequence, &mut sampler, &mut decoder, &request, &mut listen).unwrap()
        };
        let mut whole = Sequence::new();
        whole.push(&[4, 5, 6, 7, 8, 9]);
        let mut parts = whole.fork();
        go(&mut whole, usize::MAX);
        let cut = go(&mut parts, 3);
        assert_eq!((cut.reason, cut.tokens), (StopReason::Cancelled, 3));
        go(&mut parts, 5);
        assert_eq!(parts.tokens(), whole.tokens());
    }
}
