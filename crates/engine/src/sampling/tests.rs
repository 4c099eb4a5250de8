//! The chain against straightforward definitions.

use std::ops::Range;

use proptest::prelude::*;
use proptest::sample::Index;

use super::{Rng, *};

fn sampler(options: Sampling) -> Sampler {
    Sampler::new(options).unwrap()
}

fn open() -> Sampling {
    Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..Sampling::default() }
}

fn kept(options: Sampling, logits: &[f32]) -> Vec<u32> {
    sampler(options).distribution(logits).unwrap().iter().map(|c| c.token).collect()
}

/// Softmax in f64 by its definition.
fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let e: Vec<f64> = logits.iter().map(|&x| (f64::from(x - best) / temperature).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|x| x / sum).collect()
}

/// Ids from the most to the least probable, ties by id.
fn order(logits: &[f32]) -> Vec<usize> {
    let mut ids: Vec<usize> = (0..logits.len()).collect();
    ids.sort_by(|&a, &b| logits[b].partial_cmp(&logits[a]).unwrap());
    ids
}

fn some_logits() -> impl Strategy<Value = Vec<f32>> {
    some_number_of_logits(1..300)
}

fn some_number_of_logits(number: Range<usize>) -> impl Strategy<Value = Vec<f32>> {
    // A coarse grid makes ties common.
    prop::collection::vec((-40i32..40).prop_map(|x| x as f32 / 4.0), number)
}

proptest! {
    #[test]
    fn greedy_takes_the_lowest_id_of_the_best(logits in some_number_of_logits(1..3000)) {
        let expected = order(&logits)[0] as u32;
        prop_assert_eq!(sampler(Sampling::greedy()).sample(&logits).unwrap(), expected);
        prop_assert_eq!(kept(Sampling::greedy(), &logits), vec![expected]);
    }

    #[test]
    fn what_is_no_number_is_found_wherever_it_is(
        logits in some_number_of_logits(1..3000),
        at: Index,
        later: Index,
        wrong in prop::sample::select(vec![f32::NAN, f32::INFINITY]),
    ) {
        let mut logits = logits;
        let first = at.index(logits.len());
        let later = first + later.index(logits.len() - first);
        logits[later] = f32::INFINITY;
        logits[first] = wrong;
        match sampler(Sampling::greedy()).sample(&logits) {
            Err(SamplingError::NotANumber { token, value, .. }) => {
                prop_assert_eq!((token as usize, value.is_nan()), (first, wrong.is_nan()));
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn top_k_keeps_the_k_best(logits in some_logits(), k in 1usize..400) {
        let expected: Vec<u32> = order(&logits).iter().take(k).map(|&i| i as u32).collect();
        prop_assert_eq!(kept(Sampling { top_k: k, ..open() }, &logits), expected);
    }

    #[test]
    fn top_p_keeps_the_shortest_list_that_reaches_p(logits in some_logits(), p in 0.0f32..1.0) {
        let probability = softmax(&logits, 1.0);
        let found = kept(Sampling { top_p: p, ..open() }, &logits);
        let order = order(&logits);
        prop_assert!(found.iter().zip(&order).all(|(&f, &o)| f as usize == o), "not the most probable");
        let mass = |n: usize| order[..n].iter().map(|&i| probability[i]).sum::<f64>();
        prop_assert!(mass(found.len()) >= f64::from(p) - 1e-9, "falls short");
        prop_assert!(found.len() == 1 || mass(found.len() - 1) < f64::from(p) + 1e-9, "too long");
    }

    #[test]
    fn min_p_keeps_what_is_probable_enough(logits in some_logits(), p in 0.001f32..1.0) {
        let probability = softmax(&logits, 1.0);
        let best = probability.iter().copied().fold(0.0, f64::max);
        let found = kept(Sampling { min_p: p, ..open() }, &logits);
        for (i, &x) in probability.iter().enumerate() {
            let ratio = x / best;
            // At the threshold itself rounding decides.
            if (ratio - f64::from(p)).abs() > 1e-6 {
                prop_assert_eq!(found.contains(&(i as u32)), ratio > f64::from(p), "token {}", i);
            }
        }
    }

    #[test]
    fn typical_p_keeps_what_is_nearest_to_the_entropy(logits in some_logits(), p in 0.01f32..0.99) {
        let probability = softmax(&logits, 1.0);
        let entropy: f64 = probability.iter().map(|x| -x * x.ln()).sum();
        let distance = |i: usize| (-probability[i].ln() - entropy).abs();
        let found = kept(Sampling { typical_p: p, ..open() }, &logits);
        let mass: f64 = found.iter().map(|&i| probability[i as usize]).sum();
        prop_assert!(mass >= f64::from(p) - 1e-9, "falls short");
        let farthest = found.iter().map(|&i| distance(i as usize)).fold(0.0, f64::max);
        for i in 0..logits.len() {
            prop_assert!(found.contains(&(i as u32)) || distance(i) >= farthest - 1e-9, "token {} is nearer", i);
        }
        let last = found.iter().map(|&i| i as usize).filter(|&i| distance(i) >= farthest - 1e-9);
        let without = last.map(|i| mass - probability[i]).fold(f64::MAX, f64::min);
        prop_assert!(found.len() == 1 || without < f64::from(p) + 1e-9, "too many");
    }

    #[test]
    fn temperature_shapes_the_probabilities(logits in some_logits(), t in 0.1f32..3.0) {
        let expected = softmax(&logits, f64::from(t));
        let mut s = sampler(Sampling { temperature: t, ..open() });
        let found = s.distribution(&logits).unwrap();
        prop_assert_eq!(found.len(), logits.len());
        for c in found {
            prop_assert!((c.probability - expected[c.token as usize]).abs() < 1e-9);
        }
    }

    #[test]
    fn penalties_are_their_definitions(
        logits in prop::collection::vec(-5.0f32..5.0, 20),
        history in prop::collection::vec(0u32..24, 0..40),
        window in 0usize..50,
        (repetition, presence, frequency) in (0.5f32..2.0, -1.0f32..1.0, -1.0f32..1.0),
    ) {
        let mut expected = logits.clone();
        let seen = &history[history.len().saturating_sub(window)..];
        for (token, logit) in expected.iter_mut().enumerate() {
            let count = seen.iter().filter(|&&t| t as usize == token).count();
            if count > 0 {
                *logit = if *logit > 0.0 { *logit / repetition } else { *logit * repetition };
                *logit -= count as f32 * frequency + presence;
            }
        }
        let options = Sampling {
            repetition_penalty: repetition,
            presence_penalty: presence,
            frequency_penalty: frequency,
            penalty_window: window,
            ..open()
        };
        let mut s = sampler(options);
        // Shown in two parts, the window must be that of the whole.
        let (first, second) = history.split_at(history.len() / 2);
        s.accept(first);
        s.accept(second);
        for c in s.distribution(&logits).unwrap() {
            prop_assert_eq!(c.logit, expected[c.token as usize], "token {}", c.token);
        }
    }
}

#[test]
fn draws_follow_the_probabilities_and_repeat_with_the_seed() {
    let logits = [0.0f32, 1.0, 2.0, f32::NEG_INFINITY];
    let expected = softmax(&logits, 1.0);
    let draw = |seed| {
        let mut s = sampler(Sampling { seed, ..open() });
        (0..20_000).map(|_| s.sample(&logits).unwrap()).collect::<Vec<u32>>()
    };
    let tokens = draw(11);
    for (i, p) in expected.iter().enumerate() {
        let share = tokens.iter().filter(|&&t| t as usize == i).count() as f64 / tokens.len() as f64;
        assert!((share - p).abs() < 0.015, "token {i} was drawn {share}, not {p}");
    }
    assert_eq!(tokens, draw(11));
    assert_ne!(tokens, draw(12));
}

#[test]
fn a_large_vocabulary_is_cut_in_one_pass_to_the_right_candidates() {
    let mut rng = Rng::new(3);
    let logits: Vec<f32> = (0..50_000).map(|_| (rng.unit() * 1000.0).floor() as f32).collect();
    for k in [1, 40, 1024, 5000] {
        let expected: Vec<u32> = order(&logits)[..k].iter().map(|&i| i as u32).collect();
        assert_eq!(kept(Sampling { top_k: k, ..open() }, &logits), expected, "k = {k}");
    }
}

#[test]
fn broken_logits_are_named_and_ruled_out_tokens_are_not_drawn() {
    let mut s = sampler(Sampling::default());
    s.accept(&[1, 2, 3]);
    match s.sample(&[0.0, f32::NAN]) {
        Err(SamplingError::NotANumber { position: 3, token: 1, value }) => assert!(value.is_nan()),
        other => panic!("{other:?}"),
    }
    assert!(matches!(s.sample(&[f32::INFINITY]), Err(SamplingError::NotANumber { token: 0, .. })));
    let none = Err(SamplingError::NoCandidates { position: 3 });
    assert_eq!(s.sample(&[f32::NEG_INFINITY; 2]), none);
    assert_eq!(s.sample(&[]), none);
    let mut greedy = sampler(Sampling::greedy());
    assert!(greedy.sample(&[f32::NEG_INFINITY; 2]).is_err());
    assert!(greedy.sample(&[1.0, f32::NAN]).is_err(), "greedy must not look past a NaN");
    assert_eq!(greedy.sample(&[f32::NEG_INFINITY, -1e30]), Ok(1));
    assert_eq!(greedy.sample(&[-0.0, 0.0]), Ok(0), "equal logits go to the lowest id");
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    let wrong = [
        (Sampling { temperature: -1.0, ..open() }, "temperature"),
        (Sampling { temperature: f32::NAN, ..open() }, "temperature"),
        (Sampling { top_p: 1.5, ..open() }, "top-p"),
        (Sampling { min_p: -0.1, ..open() }, "min-p"),
        (Sampling { typical_p: f32::NAN, ..open() }, "typical-p"),
        (Sampling { repetition_penalty: 0.0, ..open() }, "repetition penalty"),
        (Sampling { presence_penalty: f32::INFINITY, ..open() }, "presence penalty"),
        (Sampling { frequency_penalty: f32::NAN, ..open() }, "frequency penalty"),
    ];
    for (options, name) in wrong {
        let error = Sampler::new(options).expect_err(name);
        assert!(error.to_string().starts_with(name), "{error}");
    }
}
