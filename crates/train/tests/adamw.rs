//! Ten steps of training beside PyTorch's: `fixtures/adamw.py` wrote its losses.

use std::collections::BTreeMap;
use std::path::Path;

use autarky_family::Model;
use autarky_format::safetensors::File;
use autarky_graph::reference::Reference;
use autarky_train::{AdamWOptions, TrainError, Trainer, TrainerOptions};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// A tiny checkpoint, ready to be trained on so many sequences, and its input.
fn trainer(name: &str, sequences: usize) -> (Trainer, Vec<u32>) {
    let folder = Path::new(HERE).join("../family/tests/fixtures").join(name);
    let model = Model::open(&folder).unwrap();
    let file = File::open(folder.join("expected.safetensors")).unwrap();
    let tokens: Vec<u32> = file.raw("input_ids").unwrap().ints().unwrap().iter().map(|&i| i as u32).collect();
    let options = TrainerOptions {
        sequences,
        length: tokens.len() - 1,
        adamw: AdamWOptions { second_decay: 0.95, weight_decay: 0.1, ..AdamWOptions::default() },
        largest_norm: Some(1.0),
    };
    (Trainer::new(&Reference, model.graph(), model.weights(), options).unwrap(), tokens)
}

#[test]
fn ten_steps_have_the_losses_of_pytorch() {
    let text = std::fs::read_to_string(Path::new(HERE).join("tests/fixtures/adamw.json")).unwrap();
    let expected: BTreeMap<String, Vec<f32>> = serde_json::from_str(&text).unwrap();
    assert_eq!(expected.len(), 4);
    for (name, losses) in expected {
        let (mut trainer, tokens) = trainer(&name, 1);
        for (step, loss) in losses.into_iter().enumerate() {
            let found = trainer.step(&[&tokens], 3e-3).unwrap().loss;
            assert!(
                (found - loss).abs() < 1e-4 * loss,
                "{name}, step {step}: {found}, and {loss} by PyTorch"
            );
        }
    }
}

#[test]
fn what_cannot_be_learned_from_is_refused_and_changes_nothing() {
    let (mut trainer, tokens) = trainer("llama", 1);
    assert!(matches!(trainer.step(&[&tokens[..1]], 1e-3), Err(TrainError::Short(0))));
    assert!(matches!(trainer.step(&[&tokens, &tokens], 1e-3), Err(TrainError::Run(_))));
    assert!(matches!(trainer.step(&[&[1, 9999]], 1e-3), Err(TrainError::Run(_))));
    let loss = trainer.step(&[&tokens], f32::NAN).unwrap().loss;
    assert!(matches!(trainer.step(&[&tokens], 1e-3), Err(TrainError::NotANumber("loss"))));
    let (mut fresh, _) = self::trainer("llama", 1);
    assert_eq!(fresh.step(&[&tokens], 1e-3).unwrap().loss, loss);
}

#[test]
fn sequences_of_a_step_do_not_see_each_other() {
    let (_, tokens) = trainer("llama", 1);
    let (short, long) = tokens.split_at(tokens.len() / 3);
    let alone = |tokens: &[u32]| trainer("llama", 1).0.step(&[tokens], 1e-3).unwrap();
    let (a, b) = (alone(short), alone(long));
    let (mut both, _) = trainer("llama", 2);
    let found = both.step(&[short, long], 1e-3).unwrap();
    assert_eq!(found.tokens, a.tokens + b.tokens);
    let sum = a.loss * a.tokens as f32 + b.loss * b.tokens as f32;
    assert!((found.loss - sum / found.tokens as f32).abs() < 1e-6, "{found:?} {a:?} {b:?}");
}
