//! Tests of the service, on the tiny model of this crate's tests.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use autarky_text::{Model, Spec, TokenType, Tokenizer};
use proptest::prelude::*;

use super::*;
use crate::constraint::{Constraint, ConstraintSpec, ConstraintVocabulary};
use crate::generate::StopReason;
use crate::sampling::Sampling;
use crate::testing::{self, VOCABULARY};

/// A letter a token, and an unknown one.
fn tokenizer() -> Arc<Tokenizer> {
    let mut tokens: Vec<String> = vec!["<unk>".into()];
    tokens.extend((1..VOCABULARY as u8).map(|i| char::from(b'A' + i).to_string()));
    let mut token_types = vec![TokenType::Normal; tokens.len()];
    token_types[0] = TokenType::Unknown;
    let scores = vec![0.0; tokens.len()];
    let spec = Spec { model: Model::SentencePiece, scores, tokens, token_types, ..Spec::default() };
    Arc::new(Tokenizer::new(&spec).unwrap())
}

/// A service over `positions` positions of cache.
fn service(sequences: usize, positions: usize, chunk: usize) -> Service {
    let engine = testing::paged(128, sequences, positions, chunk);
    let options = ServiceOptions { sequences, waiting: 64, beside: chunk.div_ceil(2) };
    Service::start(engine, tokenizer(), options).unwrap()
}

fn job(prompt: &[u32], tokens: usize, seed: u64) -> Job {
    let sampling =
        Sampling { temperature: 1.5, top_k: 0, top_p: 1.0, min_p: 0.0, seed, ..Sampling::default() };
    Job { max_tokens: Some(tokens), logprobs: Some(3), ..Job::new(prompt.to_vec(), sampling) }
}

fn submit(service: &Service, job: Job) -> (Ticket, Receiver<JobEvent>) {
    let (sender, receiver) = channel();
    let listener = move |event| match sender.send(event) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    (service.submit(job, Box::new(listener)).unwrap(), receiver)
}

/// Everything that was heard of one answer.
#[derive(Clone, Debug, Default, PartialEq)]
struct Heard {
    text: String,
    tokens: Vec<Chosen>,
    reason: Option<StopReason>,
}

fn hear(events: &Receiver<JobEvent>, choices: usize) -> (Vec<Heard>, Usage) {
    let mut heard = vec![Heard::default(); choices];
    loop {
        match events.recv().unwrap() {
            JobEvent::Started { .. } | JobEvent::Embedding(_) => {}
            JobEvent::Piece(piece) => {
                heard[piece.choice].text += &piece.text;
                heard[piece.choice].tokens.extend(piece.tokens);
            }
            JobEvent::Ended { choice, reason } => {
                assert_eq!(heard[choice].reason.replace(reason), None, "an answer ends once");
            }
            JobEvent::Finished(usage) => return (heard, usage),
            JobEvent::Failed(error) => panic!("{error}"),
        }
    }
}

/// A job that has begun and holds the service up until its gate opens.
struct Gate {
    ticket: Ticket,
    open: Sender<()>,
}

impl Gate {
    fn new(service: &Service, job: Job) -> Gate {
        let (open, opened) = channel();
        let (begin, begun) = channel();
        let listener: JobListener = Box::new(move |event| {
            if matches!(event, JobEvent::Started { .. }) {
                begin.send(()).unwrap();
                opened.recv().unwrap();
            }
            ControlFlow::Continue(())
        });
        let ticket = service.submit(job, listener).unwrap();
        begun.recv().unwrap();
        Gate { ticket, open }
    }

    /// Drops the ticket, then lets the service go on.
    fn abandon(self) {
        drop(self.ticket);
        self.open.send(()).unwrap();
    }
}

fn prompt(length: usize, seed: u32) -> Vec<u32> {
    (0..length as u32).map(|i| 1 + (i * 7 + i * i * seed + seed) % (VOCABULARY as u32 - 1)).collect()
}

fn alone(job: Job) -> (Vec<Heard>, Usage) {
    let choices = job.choices;
    hear(&submit(&service(4, 512, 64), job).1, choices)
}

#[test]
fn an_answer_is_the_same_in_any_company() {
    let mine = || job(&prompt(50, 3), 40, 11);
    let expected = alone(mine()).0;
    assert_eq!(expected[0].reason, Some(StopReason::MaxTokens));
    assert_eq!(expected[0].tokens.len(), 40);
    // 11 blocks: less than half of what the four would need, so that some are parked and come back.
    let tight = service(4, 11 * 32, 48);
    let mut others = Vec::new();
    for i in 0..12u32 {
        others.push(submit(&tight, job(&prompt(20 + 5 * i as usize, i), 30, u64::from(i))));
    }
    let (_ticket, events) = submit(&tight, mine());
    // Half of the others go away at some point.
    others.drain(..).enumerate().filter(|(i, _)| i % 2 == 0).for_each(drop);
    for _ in 0..5 {
        let (_ticket, events) = submit(&tight, mine());
        assert_eq!(hear(&events, 1).0, expected);
    }
    assert_eq!(hear(&events, 1).0, expected);
}

#[test]
fn parked_answers_go_on_where_they_were() {
    let jobs: Vec<u32> = (0..4).collect();
    let expected: Vec<_> = jobs.iter().map(|&i| alone(job(&prompt(30, i), 90, 5)).0).collect();
    let tight = service(4, 4 * 32, 64);
    let running: Vec<_> = jobs.iter().map(|&i| submit(&tight, job(&prompt(30, i), 90, 5))).collect();
    for ((_ticket, events), expected) in running.iter().zip(&expected) {
        assert_eq!(hear(events, 1).0, *expected);
    }
    let counters = tight.counters();
    assert!(counters.preempted > 0, "four answers of four blocks each do not fit: {counters:?}");
}

#[test]
fn choices_are_those_of_their_seeds_and_share_the_prompt() {
    let choices = 3;
    let found = alone(Job { choices, ..job(&prompt(70, 2), 20, 40) });
    for (i, heard) in found.0.iter().enumerate() {
        assert_eq!(*heard, alone(job(&prompt(70, 2), 20, 40 + i as u64)).0[0], "choice {i}");
    }
    assert_ne!(found.0[0], found.0[1]);
    assert_eq!((found.1.prompt, found.1.generated), (70, 60));
}

#[test]
fn a_prompt_that_was_computed_is_not_computed_again() {
    let s = service(2, 512, 64);
    let first = hear(&submit(&s, job(&prompt(100, 1), 5, 1)).1, 1);
    let second = hear(&submit(&s, job(&prompt(100, 1), 5, 1)).1, 1);
    assert_eq!((first.1.cached, second.1.cached), (0, 96));
    assert_eq!(first.0, second.0);
    assert_eq!(s.counters().cached, 96);
}

#[test]
fn two_equal_prompts_at_once_are_computed_once() {
    let s = service(2, 512, 8);
    let both = [(); 2].map(|()| submit(&s, job(&prompt(100, 1), 5, 1)));
    let cached: usize = both.iter().map(|(_, events)| hear(events, 1).1.cached).sum();
    assert_eq!(cached, 96);
}

#[test]
fn what_nobody_waits_for_holds_nothing() {
    let s = service(2, 512, 16);
    let gate = Gate::new(&s, job(&prompt(40, 1), 10_000, 1));
    let (waiting, _) = submit(&s, Job { choices: 2, ..job(&prompt(40, 2), 20, 1) });
    drop(waiting);
    gate.abandon();
    let after = hear(&submit(&s, job(&prompt(40, 3), 20, 1)).1, 1);
    assert_eq!(after.0, alone(job(&prompt(40, 3), 20, 1)).0);
    let settled = s.settled();
    assert_eq!((settled.cancelled, settled.finished, settled.blocks_used), (2, 1, 0), "{settled:?}");
}

#[test]
fn a_listener_that_panics_loses_its_own_job_only() {
    let s = service(3, 512, 16);
    let listener: JobListener = Box::new(|event| match event {
        JobEvent::Piece(_) => panic!("a listener's own fault"),
        _ => ControlFlow::Continue(()),
    });
    let _ticket = s.submit(job(&prompt(10, 1), 20, 1), listener).unwrap();
    let (heard, _) = hear(&submit(&s, job(&prompt(10, 2), 20, 1)).1, 1);
    assert_eq!(heard, alone(job(&prompt(10, 2), 20, 1)).0);
    assert_eq!(s.settled().blocks_used, 0);
}

#[test]
fn what_cannot_be_is_refused_at_the_door() {
    let s = service(2, 128, 16);
    let refused = |job: Job| s.submit(job, Box::new(|_| ControlFlow::Continue(()))).unwrap_err().to_string();
    assert!(refused(job(&[], 1, 1)).contains("empty"));
    assert!(refused(job(&[1; 129], 1, 1)).contains("129 tokens"));
    assert!(refused(job(&[VOCABULARY as u32], 1, 1)).contains("token"));
    assert!(refused(Job { choices: 3, ..job(&[1], 1, 1) }).contains("between 1 and 2"));
    assert!(refused(Job { choices: 0, ..job(&[1], 1, 1) }).contains("between 1 and 2"));
    assert!(refused(Job { bias: vec![(1, f32::NAN)], ..job(&[1], 1, 1) }).contains("logit_bias"));
    let hot = Sampling { temperature: f32::NAN, ..Sampling::default() };
    assert!(refused(Job::new(vec![1], hot)).contains("temperature"));
    assert_eq!(s.counters().finished, 0);
    s.drain();
    assert!(refused(job(&[1], 1, 1)).contains("stop"));
}

#[test]
fn a_full_queue_says_when_to_come_again() {
    let engine = testing::paged(128, 1, 128, 16);
    let options = ServiceOptions { sequences: 1, waiting: 2, beside: 8 };
    let s = Service::start(engine, tokenizer(), options).unwrap();
    let gate = Gate::new(&s, job(&[1, 2], 5, 1));
    let mut taken = Vec::new();
    let refused = loop {
        match s.submit(job(&[1, 2], 5, 1), Box::new(|_| ControlFlow::Continue(()))) {
            Ok(ticket) => taken.push(ticket),
            Err(refused) => break refused,
        }
    };
    assert!(
        matches!(refused, Refused::QueueFull { retry_after, .. } if retry_after >= Duration::from_secs(1))
    );
    assert!((2..=4).contains(&taken.len()), "{}", taken.len());
    drop(taken);
    gate.abandon();
    assert_eq!(s.settled().refused, 1);
}

#[test]
fn stopping_tells_everyone() {
    let s = service(1, 128, 16);
    let (_one, events) = submit(&s, job(&prompt(10, 1), 10_000, 1));
    let (_two, waiting) = submit(&s, job(&prompt(10, 1), 10_000, 1));
    assert!(matches!(events.recv().unwrap(), JobEvent::Started { .. }));
    drop(s);
    for receiver in [events, waiting] {
        let last = receiver.iter().last().unwrap();
        assert!(matches!(last, JobEvent::Failed(JobError::Stopped) | JobEvent::Finished(_)), "{last:?}");
    }
}

#[test]
fn bias_and_logprobs_are_of_the_logits() {
    let biased = Job { bias: vec![(7, 1000.0)], ..job(&prompt(9, 1), 6, 1) };
    let (heard, _) = alone(biased);
    assert!(heard[0].tokens.iter().all(|t| t.token == 7));
    let logprobs = heard[0].tokens[0].logprobs.clone().unwrap();
    assert_eq!((logprobs.top.len(), logprobs.top[0].0, logprobs.chosen), (3, 7, logprobs.top[0].1));
    assert!(logprobs.chosen.abs() < 1e-6);
    let (heard, _) = alone(Job { logprobs: Some(VOCABULARY), ..job(&prompt(9, 1), 1, 1) });
    let all = heard[0].tokens[0].logprobs.clone().unwrap().top;
    let sum: f64 = all.iter().map(|(_, l)| f64::from(*l).exp()).sum();
    assert!(all.len() == VOCABULARY && (sum - 1.0).abs() < 1e-5, "{sum}");
}

#[test]
fn an_embedding_is_the_same_in_any_company_and_however_it_is_cut() {
    let embed = |service: &Service, length, pooling| {
        let job = Job { goal: Goal::Embedding(pooling), ..Job::new(prompt(length, 3), Sampling::greedy()) };
        let (ticket, events) = submit(service, job);
        let vector = events.iter().find_map(|event| match event {
            JobEvent::Embedding(vector) => Some(vector),
            _ => None,
        });
        assert!(matches!(events.recv(), Ok(JobEvent::Finished(Usage { generated: 0, .. }))));
        drop(ticket);
        vector.unwrap()
    };
    for pooling in [Pooling::Mean, Pooling::Last] {
        let expected = embed(&service(1, 128, 128), 100, pooling);
        let busy = service(3, 5 * 32, 7);
        let others = [1, 2, 4].map(|seed| submit(&busy, job(&prompt(40, seed), 60, 1)));
        let found = [(); 3].map(|()| embed(&busy, 100, pooling));
        drop(others);
        assert!(found.iter().all(|vector| *vector == expected), "{pooling:?}");
        assert_ne!(expected, embed(&busy, 99, pooling));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_load_leaves_nothing_behind_and_no_trace_in_an_answer(
        loads in prop::collection::vec((1usize..60, 1usize..50, 0u32..4, any::<bool>()), 1..12),
        blocks in 4usize..20,
        chunk in 2usize..40,
    ) {
        let s = service(3, blocks * 32, chunk);
        let running: Vec<_> = loads
            .iter()
            .map(|&(length, tokens, seed, stays)| (submit(&s, job(&prompt(length, seed), tokens, 9)), stays))
            .collect();
        for (((ticket, events), stays), load) in running.into_iter().zip(&loads) {
            if stays {
                let heard = hear(&events, 1).0;
                prop_assert_eq!(heard, alone(job(&prompt(load.0, load.2), load.1, 9)).0);
            }
            drop(ticket);
        }
        let counters = s.settled();
        prop_assert_eq!(counters.blocks_used, 0);
        prop_assert_eq!(counters.finished + counters.cancelled, loads.len() as u64);
    }
}

/// A constraint of the letters' vocabulary.
fn constraint(spec: &ConstraintSpec) -> Constraint {
    Constraint::new(&ConstraintVocabulary::new(&tokenizer()).unwrap(), spec).unwrap()
}

#[test]
fn an_answer_says_what_its_constraint_allows_and_then_ends() {
    let service = service(4, 256, 16);
    let spec = ConstraintSpec::Regex("(AB|CD){3}E".into());
    let bounded =
        |choices, seed| Job { constraint: Some(constraint(&spec)), choices, ..job(&[1, 2, 3], 60, seed) };
    for seed in 0..8 {
        let (_ticket, events) = submit(&service, bounded(3, seed));
        let (heard, _) = hear(&events, 3);
        for answer in heard {
            let (pairs, end) = answer.text.split_at(6);
            assert_eq!((end, answer.reason), ("E", Some(StopReason::Complete)), "the vocabulary has no end");
            assert!(
                pairs.as_bytes().chunks(2).all(|pair| [b"AB", b"CD"].iter().any(|p| *p == pair)),
                "{pairs}"
            );
            // Probabilities are the model's own.
            assert!(answer.tokens.iter().all(|t| t.logprobs.as_ref().unwrap().chosen < 0.0));
        }
    }
    // A constraint changes nothing for others.
    let alone = { hear(&submit(&service, job(&[1, 2, 3], 20, 5)).1, 1).0 };
    let (_bounded, _events) = submit(&service, bounded(2, 1));
    let (_ticket, events) = submit(&service, job(&[1, 2, 3], 20, 5));
    assert_eq!(hear(&events, 1).0, alone);
}

#[test]
fn a_constraint_begins_behind_its_marker() {
    let service = service(2, 256, 16);
    let spec = ConstraintSpec::Regex("Z{4}".into());
    let mut found = 0;
    for seed in 0..30 {
        let bounded = Job {
            constraint: Some(constraint(&spec)),
            constraint_after: Some("B".into()),
            ..job(&[4, 5], 100, seed)
        };
        let (_ticket, events) = submit(&service, bounded);
        let answer = hear(&events, 1).0.remove(0);
        if let Some(at) = answer.text.find('B') {
            let said = &answer.text[at + 1..];
            assert!("ZZZZ".starts_with(said), "{}", answer.text);
            found += usize::from(said == "ZZZZ");
        }
    }
    assert!(found > 0, "some answer gets to the marker");
}
