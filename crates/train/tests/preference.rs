//! Learning from pairs of answers: losses and gradients are those of autograd, runs learn what is preferred, and go on with
//! the same bits.

#[path = "support/chats.rs"]
mod chats;

use autarky_train::metrics::Metric;
use autarky_train::objective::factors::pair;
use chats::Chats;
use serde_json::{Value as Json, json};

#[test]
fn factors_are_the_gradients_of_autograd() {
    let cases: Json = serde_json::from_str(include_str!("fixtures/objective.json")).unwrap();
    for case in cases["preference"].as_array().unwrap() {
        let rows = |name: &str, answer: usize| -> Vec<(Vec<f64>, usize)> {
            let targets = case["targets"][answer].as_array().unwrap();
            let numbers = |row: &Json| row.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
            let rows = case[name][answer].as_array().unwrap().iter().map(numbers);
            rows.zip(targets.iter().map(|t| t.as_u64().unwrap() as usize)).collect()
        };
        let sum = |logits: &[f64]| logits.iter().map(|x| x.exp()).sum::<f64>();
        let log = |name: &str| {
            [0, 1].map(|answer| rows(name, answer).iter().map(|(x, t)| x[*t] - sum(x).ln()).sum::<f64>())
        };
        let found = pair(log("policy"), log("reference"), case["beta"].as_f64().unwrap());
        assert!((found.loss - case["loss"].as_f64().unwrap()).abs() < 1e-12);
        assert!((found.margin - case["margin"].as_f64().unwrap()).abs() < 1e-12);
        for (answer, factor) in [(0, found.factor), (1, -found.factor)] {
            let gradients = case["gradients"][answer].as_array().unwrap();
            for ((logits, target), gradients) in rows("policy", answer).iter().zip(gradients) {
                for (j, x) in logits.iter().enumerate() {
                    // The gradient of cross entropy by the logits is softmax - one-hot.
                    let by = factor * (x.exp() / sum(logits) - f64::from(u8::from(j == *target)));
                    assert!((by - gradients[j].as_f64().unwrap()).abs() < 1e-12);
                }
            }
        }
    }
}

#[test]
fn losses_of_pairs_far_apart_are_numbers() {
    let far = pair([-1e6, 0.0], [0.0, 0.0], 1.0);
    assert_eq!((far.loss, far.factor), (1e6, 1.0));
    let far = pair([0.0, -1e6], [0.0, 0.0], 1.0);
    assert_eq!((far.loss, far.factor), (0.0, 0.0));
    let even = pair([-3.0, -4.0], [-3.0, -4.0], 0.1);
    assert_eq!((even.loss, even.margin, even.factor), (2f64.ln(), 0.0, 0.05));
}

const DPO: &str = "[optimizer]\nlearning-rate = 0.001\n[preference]\npairs = 8\n";

fn pairs(chats: &Chats) -> std::path::PathBuf {
    let line = |i: usize| json!({"prompt": format!("{} {}", i % 10, i / 10), "chosen": "c", "rejected": (["a", "b", "d"][i % 3])});
    chats.write("pairs.jsonl", (0..100).map(line))
}

/// Loss and accuracy of the steps, and of held-out pairs.
fn seen(metrics: &[Metric]) -> [Vec<(f64, f64)>; 2] {
    [false, true].map(|wanted| {
        let pair = |m: &Metric| match m {
            Metric::Pairs { held_out, loss, accuracy, .. } if *held_out == wanted => Some((*loss, *accuracy)),
            _ => None,
        };
        metrics.iter().filter_map(pair).collect()
    })
}

#[test]
fn what_is_preferred_becomes_more_likely() {
    let chats = Chats::new();
    let config = chats.config(&pairs(&chats), &format!("[training]\nsteps = 20\n{DPO}"));
    chats.run(&config, "a", |_| false).unwrap();
    let [steps, held_out] = seen(&chats.metrics("a"));
    assert_eq!((steps.len(), held_out.len()), (20, 6));
    // The policy is the reference yet.
    assert!((steps[0].0 - 2f64.ln()).abs() < 1e-6 && steps[0].1 == 0.0, "{steps:?}");
    assert!(steps[19].0 < 0.6 && steps[19].1 == 1.0, "{steps:?}");
    assert!(held_out[5].0 < 0.6 && held_out[5].1 > 0.9, "{held_out:?}");
}

#[test]
fn a_run_that_was_stopped_goes_on_with_the_same_bits() {
    let chats = Chats::new();
    let config = chats.config(&pairs(&chats), &format!("[training]\nsteps = 7\n{DPO}"));
    chats.breaks_change_nothing(&config, &[1, 4, 5]);
    // Neither does it matter whether the reference is there or is computed again.
    chats.run(&config, "again", |step| step == 3).unwrap();
    std::fs::remove_file(chats.path("again/data/reference.json")).unwrap();
    chats.run(&config, "again", |_| false).unwrap();
    assert_eq!(chats.metrics("again"), chats.metrics("whole"));
}

#[test]
fn ranks_change_no_bit() {
    let chats = Chats::new();
    let config = chats.config(&pairs(&chats), &format!("[training]\nsteps = 4\n{DPO}"));
    chats.ranks_change_nothing(&config);
    let [steps, held_out] = seen(&chats.metrics("four"));
    assert_eq!((steps.len(), held_out.len()), (4, 2));
    assert!(steps[3].0 < steps[0].0, "{steps:?}");
    // Six pairs are too few for eight shards.
    let mut config = chats.config(&pairs(&chats), "[training]\nshards = 8\n[preference]\npairs = 6\n");
    config.training.steps = Some(1);
    let error = chats.run(&config, "few", |_| false).unwrap_err().to_string();
    assert!(error.contains("6 rows") && error.contains("preference.pairs"), "{error}");
}

#[test]
fn an_adapter_learns_from_pairs_too() {
    let chats = Chats::new();
    let more = format!("[training]\nsteps = 20\n[adapter]\nrank = 4\n{}", DPO.replace("0.001", "0.02"));
    let config = chats.config(&pairs(&chats), &more);
    chats.run(&config, "a", |_| false).unwrap();
    let [steps, _] = seen(&chats.metrics("a"));
    assert!((steps[0].0 - 2f64.ln()).abs() < 1e-6, "{steps:?}");
    assert!(steps[19].1 == 1.0, "{steps:?}");
}

#[test]
fn what_is_no_pair_is_left_out_and_told() {
    let chats = Chats::new();
    let config = chats.config(&chats.path("chats.jsonl"), "[preference]\n");
    let error = chats.run(&config, "a", |_| false).unwrap_err().to_string();
    assert!(error.contains("chats.jsonl") && error.contains("`rejected`"), "{error}");
    let config = chats.config(&pairs(&chats), "[preference]\nbeta = 0.0\n");
    assert!(chats.run(&config, "b", |_| false).unwrap_err().to_string().contains("preference.beta"));
    let mut config = chats.config(&pairs(&chats), "[preference]\n");
    config.model.from = None;
    config.model.depth = Some(1);
    assert!(chats.run(&config, "c", |_| false).unwrap_err().to_string().contains("model.from"));
}
