//! Ten steps of training beside PyTorch's: `fixtures/adamw.py` wrote its losses.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use autarky_cpu::Isa;
use autarky_family::{Model, outline_of};
use autarky_graph::Device;
use autarky_graph::conformance::{RandomWeights, Rng};
use autarky_graph::reference::Reference;
use autarky_quant::DType;
use autarky_train::ranks::{Alone, Group};
use autarky_train::{AdamWOptions, Example, Precision, TrainError, Trainer, TrainerOptions};
use support::{checkpoint, cpu, devices, input};

/// A tiny checkpoint, ready to be trained on so many sequences, and its input.
fn trainer(name: &str, sequences: usize) -> (Trainer, Vec<u32>) {
    trainer_on(&Reference, name, sequences, Precision::F32)
}

/// What a device trains in.
fn precisions(device: &dyn Device) -> Vec<Precision> {
    let mut all = vec![Precision::F32, Precision::Bf16];
    if device.abilities().int8_training {
        all.push(Precision::Int8);
    }
    all
}

/// One sequence of so many tokens, AdamW, and nothing else.
fn plain(tokens: usize, precision: Precision) -> TrainerOptions {
    TrainerOptions {
        tokens,
        sequences: 1,
        adamw: AdamWOptions::default(),
        muon: None,
        largest_norm: None,
        largest_jump: None,
        precision,
        recompute: false,
        ema: None,
    }
}

fn trainer_on(
    device: &dyn Device,
    name: &str,
    sequences: usize,
    precision: Precision,
) -> (Trainer, Vec<u32>) {
    let folder = checkpoint(name);
    let model = Model::open(&folder).unwrap();
    let tokens = input(&folder);
    let options = TrainerOptions {
        sequences,
        adamw: AdamWOptions { second_decay: 0.95, weight_decay: 0.1, ..AdamWOptions::default() },
        largest_norm: Some(1.0),
        ..plain(sequences * (tokens.len() - 1), precision)
    };
    (Trainer::new(device, model.graph(), model.weights(), options).unwrap(), tokens)
}

#[test]
fn ten_steps_have_the_losses_of_pytorch() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/adamw.json"))
            .unwrap();
    let expected: BTreeMap<String, Vec<f32>> = serde_json::from_str(&text).unwrap();
    assert_eq!(expected.len(), 4);
    for (device, run) in devices() {
        for (name, losses) in &expected {
            let (mut trainer, tokens) = trainer_on(&*run, name, 1, Precision::F32);
            for (step, loss) in losses.iter().enumerate() {
                let found = trainer.step(&[&tokens], 3e-3).unwrap().loss;
                assert!(
                    (found - loss).abs() < 1e-4 * loss,
                    "{name} on {device}, step {step}: {found}, and {loss} by PyTorch"
                );
            }
        }
    }
}

/// After n steps the average is dⁿ w₀ + (1 - d) Σ dⁿ⁻ᵏ wₖ.
#[test]
fn the_average_is_that_of_the_weights_after_every_applied_step() {
    const DECAY: f32 = 0.7;
    let folder = checkpoint("llama");
    let model = Model::open(&folder).unwrap();
    let tokens = input(&folder);
    let trainer = |ema| {
        let options =
            TrainerOptions { largest_norm: Some(1.0), ema, ..plain(tokens.len() - 1, Precision::F32) };
        Trainer::new(&Reference, model.graph(), model.weights(), options).unwrap()
    };
    let (mut plain, mut averaging) = (trainer(None), trainer(Some(DECAY)));
    let all = |t: &Trainer| t.state().flat_map(|w| w.numbers.to_vec()).collect::<Vec<f32>>();
    let decay = f64::from(DECAY);
    let mut expected: Vec<f64> = all(&plain).into_iter().map(f64::from).collect();
    let group = Group::new(&Alone);
    for _ in 0..6 {
        plain.step(&[&tokens], 3e-3).unwrap();
        averaging.step(&[&tokens], 3e-3).unwrap();
        // One that is dropped counts for nothing.
        assert!(averaging.step(&[&tokens], f32::NAN).is_err());
        let weights = all(&plain);
        let mean = expected.iter().zip(&weights).map(|(a, w)| decay * a + (1.0 - decay) * f64::from(*w));
        expected = mean.collect();
        let used = averaging.with_average(&group, |t| all(t)).unwrap();
        assert!(all(&averaging) == weights);
        let kept: Vec<f32> = averaging.state().flat_map(|w| w.average.to_vec()).collect();
        assert!(used == kept && used != weights);
        let off = used.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        assert!(off < 1e-6, "{off}");
    }
}

#[test]
fn threads_change_no_bit() {
    let all = precisions(&cpu(Isa::detect(), 1));
    for (name, precision) in ["llama", "mixtral"].iter().flat_map(|name| all.iter().map(move |p| (*name, *p)))
    {
        let losses = |threads: usize| {
            let (mut trainer, tokens) = trainer_on(&cpu(Isa::detect(), threads), name, 1, precision);
            (0..5).map(|_| trainer.step(&[&tokens], 3e-3).unwrap().loss.to_bits()).collect::<Vec<_>>()
        };
        let one = losses(1);
        assert_eq!(one, losses(2), "{name}, {precision:?}");
        assert_eq!(one, losses(5), "{name}, {precision:?}");
    }
}

#[test]
fn products_of_rounded_numbers_train_as_well() {
    for (device, run) in devices() {
        for name in ["llama", "qwen3", "mixtral", "deepseek_v3"] {
            let all = precisions(&*run);
            let mut trainers: Vec<_> = all.iter().map(|p| trainer_on(&*run, name, 1, *p)).collect();
            for step in 0..10 {
                let mut losses =
                    trainers.iter_mut().map(|(t, tokens)| t.step(&[&*tokens], 3e-3).unwrap().loss);
                let exact = losses.next().unwrap();
                for (rounded, precision) in losses.zip(&all[1..]) {
                    // Rounding can send a token to other experts.
                    assert!(
                        (exact - rounded).abs() < 0.1 * exact,
                        "{name} on {device}, step {step}: {exact} in F32, {rounded} in {precision:?}"
                    );
                }
            }
        }
    }
}

/// A program that takes many tokens computes a loss in windows of rows, of which a short step leaves most empty.
#[test]
fn a_step_may_be_far_shorter_than_the_largest() {
    let folder = checkpoint("llama");
    let model = Model::open(&folder).unwrap();
    let tokens = input(&folder);
    let device = cpu(Isa::detect(), 2);
    for precision in precisions(&device) {
        let losses = [tokens.len(), 2000].map(|most| {
            let options = plain(most, precision);
            let mut trainer = Trainer::new(&device, model.graph(), model.weights(), options).unwrap();
            [0; 3].map(|_| trainer.step(&[&tokens], 3e-3).unwrap().loss.to_bits())
        });
        assert_eq!(losses[0], losses[1], "{precision:?}");
    }
}

#[test]
fn bytes_are_refused_where_nothing_multiplies_them() {
    let folder = checkpoint("llama");
    let model = Model::open(&folder).unwrap();
    let options = plain(8, Precision::Int8);
    for device in [&Reference as &dyn Device, &cpu(Isa::Scalar, 1)] {
        let error = Trainer::new(device, model.graph(), model.weights(), options).err().unwrap();
        assert!(error.to_string().contains("the kernels here are scalar: use \"bf16\""), "{error}");
    }
}

#[test]
fn what_cannot_be_learned_from_is_refused_and_changes_nothing() {
    let (mut trainer, tokens) = trainer("llama", 1);
    assert!(matches!(trainer.step(&[&tokens[..1]], 1e-3), Err(TrainError::Short(0))));
    assert!(matches!(trainer.step(&[&tokens, &tokens], 1e-3), Err(TrainError::Run(_))));
    assert!(matches!(trainer.step(&[&[1, 9999]], 1e-3), Err(TrainError::Run(_))));
    let loss = trainer.step(&[&tokens], f32::MAX).unwrap().loss;
    assert!(matches!(trainer.step(&[&tokens], 1e-3), Err(TrainError::NotANumber("loss"))));
    let (mut fresh, _) = self::trainer("llama", 1);
    assert_eq!(fresh.step(&[&tokens], 1e-3).unwrap().loss, loss);
}

#[test]
fn a_step_with_gradients_far_above_the_usual_changes_nothing() {
    let folder = checkpoint("llama");
    let model = Model::open(&folder).unwrap();
    let tokens = input(&folder);
    let options = TrainerOptions {
        largest_norm: Some(1.0),
        largest_jump: Some(5.0),
        ..plain(tokens.len(), Precision::F32)
    };
    let mut trainer = Trainer::new(&Reference, model.graph(), model.weights(), options).unwrap();
    let example = [Example::from(&tokens[..])];
    let of = example[0].learned();
    for _ in 0..32 {
        trainer.gather(&example, of).unwrap();
        trainer.update(1e-5).unwrap();
    }
    let numbers = |t: &Trainer| t.state().map(|w| w.kinds().map(<[f32]>::to_vec)).collect::<Vec<_>>();
    let before = numbers(&trainer);
    trainer.gather(&example, of / 10).unwrap();
    let error = trainer.update(1e-5).unwrap_err();
    assert!(matches!(error, TrainError::Spike { norm, usual } if norm > 9.0 * usual), "{error}");
    assert!(numbers(&trainer) == before);
    // One that goes on has the same norms behind it.
    let norms = trainer.norms();
    trainer.restore_norms(&norms);
    trainer.gather(&example, of / 10).unwrap();
    assert!(trainer.update(1e-5).is_err());
    trainer.gather(&example, of).unwrap();
    trainer.update(1e-5).unwrap();
}

#[test]
fn weights_of_a_few_bits_are_not_trained() {
    let config = serde_json::json!({
        "model_type": "llama",
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    });
    let graph = outline_of(Path::new("made up"), config.as_object().unwrap()).unwrap().graph;
    let weights = RandomWeights::new(&mut Rng::new(5), &graph, |_| DType::Q8_0);
    let options = plain(8, Precision::Bf16);
    let error = Trainer::new(&cpu(Isa::detect(), 1), &graph, &weights, options).err().unwrap();
    assert!(error.to_string().contains("is Q8_0: small steps would be lost"), "{error}");
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
