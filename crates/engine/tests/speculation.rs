//! Guessed tokens change no token, no text and no end of a generation: a trained model with guesses and without.

use std::ops::ControlFlow;
use std::path::Path;

use autarky_cpu::{Cpu, CpuOptions};
use autarky_engine::{
    Engine, Event, Generated, Options, Request, Sampler, Sampling, Sequence, Speculation, StopReason,
    generate,
};
use autarky_family::Model;
use autarky_graph::CacheDType;
use autarky_text::{EncodeOptions, Tokenizer};

const PROMPT: &str = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. \
                      One day, she saw a big, red ball. Once upon a time, there was a little girl named Lily. She";

struct Told {
    generated: Generated,
    text: String,
    tokens: Vec<u32>,
    cached: usize,
}

struct Teller {
    engine: Engine,
    tokenizer: Tokenizer,
}

impl Teller {
    fn new(context: usize) -> Teller {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/stories260k.gguf");
        let model = Model::open(model).expect("in the tree");
        let tokenizer =
            Tokenizer::from_gguf(model.source().metadata().expect("a GGUF file")).expect("it is good");
        let cpu = Cpu::new(CpuOptions { threads: Some(2), ..CpuOptions::default() }).expect("a processor");
        let outputs = 1 + Speculation::MOST;
        let options =
            Options { context, sequences: 1, positions: None, chunk: 64, outputs, cache: CacheDType::F16 };
        let engine = Engine::new(&cpu, model.graph().clone(), model.weights(), options).expect("it fits");
        Teller { engine, tokenizer }
    }

    /// What is told; the listener ends it at token `cut`.
    fn tell(&mut self, sampling: Sampling, request: &Request, cut: usize) -> Told {
        let special = EncodeOptions { add_special: true, parse_special: false };
        let prompt = self.tokenizer.encode(PROMPT, special).expect("it is text");
        let mut sequence = Sequence::new();
        sequence.push(&prompt);
        let mut sampler = Sampler::new(sampling).expect("good options");
        sampler.accept(&prompt);
        let (mut text, mut tokens) = (String::new(), Vec::new());
        let mut listen = |event: Event<'_>| {
            match event {
                Event::Text(piece) => text.push_str(piece),
                Event::Token(token) => tokens.push(token),
                Event::Prefill { .. } => {}
            }
            if tokens.len() == cut { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let mut decoder = self.tokenizer.decoder().continuing();
        let generated =
            generate(&mut self.engine, &mut sequence, &mut sampler, &mut decoder, request, &mut listen)
                .expect("it runs");
        assert_eq!(sequence.tokens()[prompt.len()..], tokens, "the sequence holds what was told");
        Told { generated, text, tokens, cached: sequence.cached() }
    }

    /// Asserts that guesses change nothing, and gives what was told with them.
    fn compare(&mut self, sampling: Sampling, request: Request, cut: usize) -> Told {
        let plain = self.tell(sampling, &Request { speculation: Speculation::Off, ..request.clone() }, cut);
        assert_eq!(plain.generated.guessed, 0);
        let guessed = self.tell(sampling, &Request { speculation: Speculation::Always, ..request }, cut);
        assert_eq!(plain.tokens, guessed.tokens);
        assert_eq!(plain.text, guessed.text);
        assert_eq!(plain.cached, guessed.cached, "positions of guesses that were wrong are forgotten");
        assert_eq!(plain.generated.reason, guessed.generated.reason);
        assert_eq!(plain.generated.tokens, guessed.generated.tokens);
        guessed
    }
}

fn at_most(tokens: usize) -> Request {
    Request { max_tokens: Some(tokens), ..Request::default() }
}

#[test]
fn a_greedy_answer_is_the_same() {
    let told = Teller::new(512).compare(Sampling::greedy(), at_most(200), usize::MAX);
    let (guessed, right) = (told.generated.guessed, told.generated.right);
    assert!(right >= 5 && guessed > right, "{right} of {guessed} guesses right: both ways must be tried");
}

#[test]
fn sampled_answers_are_the_same() {
    let mut teller = Teller::new(512);
    let mut right = 0;
    for seed in 0..8 {
        let penalty = if seed % 2 == 0 { 1.0 } else { 1.1 };
        let sampling =
            Sampling { seed, temperature: 0.7, repetition_penalty: penalty, ..Sampling::default() };
        right += teller.compare(sampling, at_most(120), usize::MAX).generated.right;
    }
    assert!(right > 0, "no guess was ever right");
}

#[test]
fn it_ends_where_it_would_have_ended() {
    let mut teller = Teller::new(192);
    for tokens in (1..40).step_by(3) {
        let told = teller.compare(Sampling::greedy(), at_most(tokens), usize::MAX);
        assert_eq!(told.generated.reason, StopReason::MaxTokens);
        let told = teller.compare(Sampling::greedy(), Request::default(), tokens);
        assert_eq!(told.generated.reason, StopReason::Cancelled);
    }
    let told = teller.compare(Sampling::greedy(), Request::default(), usize::MAX);
    assert_eq!(told.generated.reason, StopReason::ContextFull);
    let end = vec![told.tokens[17]];
    let ended = teller.compare(Sampling::greedy(), Request { end, ..Request::default() }, usize::MAX);
    assert!(matches!(ended.generated.reason, StopReason::End { .. }));
    let stop = vec![told.text[20..23].to_owned()];
    let stopped = teller.compare(Sampling::greedy(), Request { stop, ..Request::default() }, usize::MAX);
    assert!(matches!(stopped.generated.reason, StopReason::StopString(_)));
}
