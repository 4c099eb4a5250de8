//! Learning from rewards: what a token is learned by is what autograd says, runs learn what is rewarded, and go on with the
//! same bits.

#[path = "support/chats.rs"]
mod chats;

use autarky_family::Model;
use autarky_train::config::Config;
use autarky_train::metrics::Metric;
use autarky_train::objective::factors::{Surrogate, advantages};
use autarky_train::{AdamWOptions, Example, Precision, Trainer, TrainerOptions};
use chats::Chats;
use serde_json::{Value as Json, json};

fn log(logits: &Json, target: usize) -> (f64, Vec<f64>) {
    let logits: Vec<f64> = logits.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    let sum: f64 = logits.iter().map(|x| x.exp()).sum();
    (logits[target] - sum.ln(), logits.iter().map(|x| x.exp() / sum).collect())
}

#[test]
fn factors_are_the_gradients_of_autograd() {
    let cases: Json = serde_json::from_str(include_str!("fixtures/objective.json")).unwrap();
    let mut clipped = 0;
    for case in cases["reward"].as_array().unwrap() {
        let number = |name: &str| case[name].as_f64().unwrap();
        let surrogate = Surrogate { clip_low: number("low"), clip_high: number("high"), kl: number("kl") };
        let mut loss = 0.0;
        for (i, target) in case["targets"].as_array().unwrap().iter().enumerate() {
            let target = target.as_u64().unwrap() as usize;
            let (policy, shares) = log(&case["policy"][i], target);
            let [old, reference] = ["old", "reference"].map(|name| log(&case[name][i], target).0);
            let token = surrogate.token(number("advantage"), policy, old, Some(reference));
            loss += token.loss;
            clipped += usize::from(token.clipped);
            assert!(token.divergence >= 0.0);
            // The gradient of cross entropy by the logits is softmax - one-hot.
            for (j, share) in shares.iter().enumerate() {
                let found = token.factor * (share - f64::from(u8::from(j == target)));
                let wanted = case["gradients"][i][j].as_f64().unwrap();
                assert!((found - wanted).abs() < 1e-12, "{found} and {wanted}");
            }
        }
        assert!((loss - number("loss")).abs() < 1e-10);
    }
    assert!(clipped > 3, "the cases have clipped tokens");
}

#[test]
fn advantages_are_beside_the_mean() {
    assert_eq!(advantages(&[1.0, 0.0, 0.0, 1.0], false), [0.5, -0.5, -0.5, 0.5]);
    let divided = advantages(&[3.0, 0.0, 0.0, 0.0], true);
    assert!((divided[0] - 3f64.sqrt()).abs() < 1e-5, "{divided:?}");
    assert!(divided.iter().sum::<f64>().abs() < 1e-12);
    assert_eq!(advantages(&[0.1; 3], true), [0.0; 3]);
}

#[test]
fn a_factor_for_every_token_is_the_same_step() {
    let chats = Chats::new();
    let model = Model::open(chats.path("first/model")).unwrap();
    let device = autarky_cpu::Cpu::new(Default::default()).unwrap();
    let options = TrainerOptions {
        tokens: 64,
        sequences: 4,
        adamw: AdamWOptions::default(),
        muon: None,
        largest_norm: Some(1.0),
        largest_jump: None,
        recompute: false,
        ema: None,
        precision: Precision::Bf16,
    };
    let learned = vec![false, false, true, false, true, true];
    let examples =
        [Example { tokens: vec![50, 61, 52, 99, 70, 3], learned }, Example::from(&[40, 41, 42][..])];
    let trainer = || Trainer::new(&device, model.graph(), model.weights(), options).unwrap();
    let (mut one, mut other) = (trainer(), trainer());
    let sum = one.gather(&examples, 5).unwrap();
    let factors: Vec<f32> = [0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0].map(|f: f32| f * (1.0 / 5.0)).to_vec();
    let losses = other.gather_weighted(&examples, &factors).unwrap();
    let weighted: f64 =
        losses.iter().zip(&factors).filter(|(_, f)| **f > 0.0).map(|(&l, _)| f64::from(l)).sum();
    assert_eq!(sum, weighted);
    // What counts nothing changes nothing.
    other.gather_weighted(&examples, &[0.0; 7]).unwrap();
    assert_eq!(one.update(0.01).unwrap(), other.update(0.01).unwrap());
    for (a, b) in one.state().zip(other.state()) {
        assert!(a.numbers == b.numbers, "{}", a.name);
    }
}

fn prompts(chats: &Chats) -> std::path::PathBuf {
    let letters = ["a", "b", "c", "d"];
    let line = |i: usize| json!({"prompt": format!("{} {}", i % 10, i / 10), "answer": (letters[i % 4])});
    chats.write("prompts.jsonl", (0..100).map(line))
}

/// The mean rewards of the steps, and those of held-out prompts.
fn rewards(metrics: &[Metric]) -> (Vec<f64>, Vec<f64>) {
    let of = |wanted: bool| {
        let reward = |m: &Metric| match m {
            Metric::Rewards { held_out, reward, .. } if *held_out == wanted => Some(*reward),
            _ => None,
        };
        metrics.iter().filter_map(reward).collect()
    };
    (of(false), of(true))
}

const GRPO: &str =
    "[optimizer]\nlearning-rate = 0.003\n[grpo]\nprompts = 8\nanswers = 8\nanswer-tokens = 4\n";

#[test]
fn what_is_rewarded_becomes_more_likely() {
    let chats = Chats::new();
    // Three times out of four the model was taught otherwise.
    let more = format!("[training]\nsteps = 30\n{GRPO}[[reward]]\nkind = 'regex'\npattern = '^c$'\n");
    let config = chats.config(&prompts(&chats), &more);
    chats.run(&config, "a", |_| false).unwrap();
    let (drawn, held_out) = rewards(&chats.metrics("a"));
    assert_eq!((drawn.len(), held_out.len()), (30, 9));
    assert!(drawn[0] < 0.5 && drawn[29] > 0.9, "{drawn:?}");
    assert!(held_out[0] < 0.5 && held_out[8] > 0.9, "{held_out:?}");
    Model::open(chats.path("a/model.gguf")).unwrap();
}

#[test]
fn a_run_that_was_stopped_goes_on_with_the_same_bits() {
    let chats = Chats::new();
    let more = format!("[training]\nsteps = 7\n{GRPO}updates = 2\nkl = 0.01\n[[reward]]\nkind = 'exact'\n");
    let config = chats.config(&prompts(&chats), &more);
    chats.breaks_change_nothing(&config, &[1, 4, 5]);
    let has =
        |m: &Metric| matches!(m, Metric::Rewards { clipped: Some(_), divergence: Some(d), .. } if *d > 0.0);
    assert!(chats.metrics("whole").iter().any(has));
}

#[test]
fn ranks_change_no_bit() {
    let chats = Chats::new();
    let more = format!("[training]\nsteps = 4\n{GRPO}updates = 2\nkl = 0.01\n[[reward]]\nkind = 'exact'\n");
    chats.ranks_change_nothing(&chats.config(&prompts(&chats), &more));
    assert_eq!(rewards(&chats.metrics("four")).0.len(), 4);
}

#[test]
fn an_adapter_learns_from_rewards_too() {
    let chats = Chats::new();
    let more = format!(
        "[training]\nsteps = 30\nprecision = 'f32'\n[adapter]\nrank = 8\n{}[[reward]]\nkind = 'exact'\nfield = 'wanted'\n",
        GRPO.replace("0.003", "0.02")
    );
    let line = |i: usize| json!({"messages": [{"role": "user", "content": format!("{i}")}], "wanted": "b"});
    let data = chats.write("messages.jsonl", (0..60).map(line));
    let config = chats.config(&data, &more);
    chats.run(&config, "a", |_| false).unwrap();
    let (drawn, _) = rewards(&chats.metrics("a"));
    assert!(drawn[0] < 0.6 && drawn[29] > 0.9, "{drawn:?}");
    assert!(chats.path("a/adapter.gguf").exists());
}

#[test]
fn what_cannot_be_rewarded_is_refused_before_anything_is_drawn() {
    let chats = Chats::new();
    let data = prompts(&chats);
    for (more, wanted) in [
        ("[[reward]]\nkind = 'exact'\nfield = 'result'\n", "`result`"),
        ("[[reward]]\nkind = 'regex'\npattern = '('\n", "no regular expression"),
        ("[[reward]]\nkind = 'regex'\n", "reward.pattern"),
        ("[[reward]]\nkind = 'command'\n", "reward.command"),
        ("[[reward]]\nkind = 'exact'\ncommand = ['x']\n", "reward.command"),
        ("[[reward]]\nkind = 'json-schema'\nschema = '/nowhere.json'\n", "/nowhere.json"),
        ("", "[[reward]]"),
        ("answers = 1\n[[reward]]\n", "grpo.answers"),
        ("[preference]\n[[reward]]\n", "leave one"),
        ("[training]\nbatch = 64\n[[reward]]\n", "training.batch"),
        ("[training]\ncontext = 4\n[[reward]]\n", "grpo.answer-tokens"),
    ] {
        let grpo = if more.starts_with("answers") { "[grpo]\n" } else { "[grpo]\nanswer-tokens = 4\n" };
        let config = chats.config(&data, &format!("{grpo}{more}"));
        let error = chats.run(&config, "a", |_| false).unwrap_err().to_string();
        assert!(error.contains(wanted), "{more}: {error}");
        assert!(!chats.path("a/metrics.jsonl").exists());
    }
    let config = Config { grpo: Some(Default::default()), ..Config::default() };
    assert!(config.check().is_err());
    // Texts are no prompts.
    let data = chats.write("texts.jsonl", [json!({"text": "only text"})].into_iter());
    let config = chats.config(&data, "[grpo]\nanswer-tokens = 4\n[[reward]]\n");
    assert!(chats.run(&config, "b", |_| false).unwrap_err().to_string().contains("texts.jsonl"));
}
