//! Every family on the CPU device, on every instruction set of this machine, against the logits and the greedy tokens
//! that another implementation computed; and a trained model whose logits must not change by a bit.

use std::path::{Path, PathBuf};

use autarky_cpu::{Cpu, CpuOptions, Isa};
use autarky_engine::{Engine, Options, Outputs, Sequence, Work};
use autarky_family::{FamilyError, Model};
use autarky_format::safetensors::File;
use autarky_graph::{CacheDType, Device};

/// What a device in f32 may differ by.
const TOLERANCE: f32 = 5e-3;

/// The checkpoints of this tree, and the larger set (made by transformers) where it lies beside the checkout.
fn checkpoints() -> Vec<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let roots = [here.join("../family/tests/fixtures"), here.join("../../../shared/oracle")];
    let folders =
        roots.iter().filter_map(|r| r.read_dir().ok()).flatten().map(|e| e.expect("readable").path());
    let mut folders: Vec<PathBuf> = folders.filter(|f| f.join("expected.safetensors").is_file()).collect();
    folders.sort();
    folders
}

fn cpu(isa: Isa, threads: usize) -> Cpu {
    let options = CpuOptions { isa: Some(isa), threads: Some(threads), ..CpuOptions::default() };
    Cpu::new(options).expect("the instruction set is available")
}

fn engine(model: &Model, device: &dyn Device, chunk: usize) -> Engine {
    let options =
        Options { context: 192, sequences: 2, positions: None, chunk, outputs: 192, cache: CacheDType::F32 };
    Engine::new(device, model.graph().clone(), model.weights(), options).expect("the model fits the device")
}

/// The logits of every token of `ids`.
fn logits(engine: &mut Engine, ids: &[u32]) -> Vec<f32> {
    let mut sequence = Sequence::new();
    sequence.push(ids);
    let mut all = Vec::new();
    let each = &mut |_: usize, logits: &[f32]| -> Result<(), autarky_engine::EngineError> {
        all.extend_from_slice(logits);
        Ok(())
    };
    engine.each_logits(&mut sequence, each).expect("it runs");
    all
}

fn greedy(engine: &mut Engine, ids: &[u32], count: usize) -> Vec<u32> {
    let mut sequence = Sequence::new();
    sequence.push(ids);
    for _ in 0..count {
        let logits = engine.advance(&mut sequence, &mut |_, _| true).expect("it runs").expect("not stopped");
        let best = (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best });
        sequence.push(&[best as u32]);
    }
    sequence.tokens()[ids.len()..].to_vec()
}

#[test]
fn logits_and_greedy_tokens_are_those_of_another_implementation() {
    let mut compared = 0;
    for folder in checkpoints() {
        let model = match Model::open(&folder) {
            // The larger set has families that are still to come.
            Err(FamilyError::UnknownFamily { .. }) => continue,
            other => other.expect("a good checkpoint"),
        };
        let file = File::open(folder.join("expected.safetensors")).expect("readable");
        let ids = |name: &str| -> Vec<u32> {
            let raw = file.raw(name).expect(name);
            raw.ints().expect("integers").iter().map(|&i| i as u32).collect()
        };
        let right = file.tensor("logits").expect("logits").f32s().expect("f32").into_owned();
        for isa in Isa::available() {
            let mut engine = engine(&model, &cpu(isa, 2), 192);
            let found = logits(&mut engine, &ids("input_ids"));
            let worst = right.iter().zip(&found).fold(0.0f32, |worst, (r, f)| worst.max((r - f).abs()));
            assert_eq!(right.len(), found.len(), "{}", folder.display());
            assert!(worst <= TOLERANCE, "{}, {isa}: logits differ by {worst}", folder.display());
            let (right, found) = (ids("greedy"), greedy(&mut engine, &ids("input_ids"), ids("greedy").len()));
            assert_eq!(right, found, "{}, {isa}: greedy tokens", folder.display());
        }
        compared += 1;
    }
    assert!(compared >= 11, "the tree has eleven checkpoints, {compared} were compared");
}

#[test]
fn a_trained_model_gives_the_same_bits_however_it_is_run() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/stories260k.gguf");
    let model = Model::open(model).expect("in the tree");
    let text: Vec<u32> = (0..150).map(|i| (i * 37 + 11) % 500 + 3).collect();
    let bits = |logits: &[f32]| logits.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let right = bits(&logits(&mut engine(&model, &cpu(Isa::detect(), 1), 192), &text));
    for isa in Isa::available() {
        for threads in [1, 2] {
            for chunk in [1, 7, 192] {
                let found = bits(&logits(&mut engine(&model, &cpu(isa, threads), chunk), &text));
                assert!(right == found, "{isa}, {threads} threads, chunks of {chunk}: other bits");
            }
        }
    }
    // Beside another sequence, in pieces that do not line up.
    let mut both = engine(&model, &cpu(Isa::detect(), 2), 192);
    let (mut one, mut other) = (Sequence::new(), Sequence::new());
    one.push(&text);
    other.push(&text[20..140]);
    let mut found = Vec::new();
    for (tokens, beside) in [(64, 50), (1, 69), (85, 1)] {
        let mut work = [
            Work { sequence: &mut one, tokens, outputs: Outputs::All },
            Work { sequence: &mut other, tokens: beside, outputs: Outputs::None },
        ];
        found.extend_from_slice(both.step(&mut work).expect("it runs"));
    }
    assert!(right == bits(&found), "beside another sequence: other bits");
}
