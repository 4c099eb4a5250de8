//! Running a model on the reference interpreter, and comparing it with what an independent implementation said.
#![allow(dead_code)] // Each test file uses some of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use autarky_family::Model;
use autarky_format::safetensors::File;
use autarky_graph::reference::Reference;
use autarky_graph::{BLOCK, CacheDType, Device, Limits, Program, SequenceStep, Step};

/// A checkpoint whose logits another implementation computed.
pub(crate) struct Checkpoint {
    pub(crate) name: &'static str,
    pub(crate) family: &'static str,
    pub(crate) folder: PathBuf,
}

/// The checkpoints of this tree, and the larger set (made by transformers) where it is: a user's clone has none.
pub(crate) fn checkpoints() -> Vec<Checkpoint> {
    let of = |root: PathBuf, names: &[(&'static str, &'static str)]| -> Vec<Checkpoint> {
        let one = |&(name, family)| Checkpoint { name, family, folder: root.join(name) };
        names.iter().map(one).collect()
    };
    let mut all = of(
        fixtures(),
        &[
            ("llama", "llama"),
            ("llama_linear", "llama"),
            ("llama3", "llama"),
            ("llama_yarn", "llama"),
            ("mistral", "mistral"),
            ("mixtral", "mixtral"),
            ("qwen2", "qwen2"),
            ("qwen3", "qwen3"),
            ("qwen3_moe", "qwen3moe"),
            ("deepseek_v2", "deepseek2"),
            ("deepseek_v3", "deepseek2"),
        ],
    );
    let oracle = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/oracle"));
    if oracle.is_dir() {
        all.extend(of(
            oracle.to_owned(),
            &[
                ("llama", "llama"),
                ("llama_tied_rope3", "llama"),
                ("llama_yarn", "llama"),
                ("mistral_swa", "mistral"),
                ("mixtral", "mixtral"),
                ("qwen2", "qwen2"),
                ("qwen3", "qwen3"),
                ("qwen3_moe", "qwen3moe"),
                ("deepseek_v2", "deepseek2"),
                ("deepseek_v3", "deepseek2"),
            ],
        ));
    }
    all
}

/// The folder of the checkpoints of this tree.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).to_owned()
}

/// What the other implementation computed for a checkpoint.
pub(crate) struct Expected {
    pub(crate) input: Vec<u32>,
    /// `[input, vocabulary]`.
    pub(crate) logits: Vec<f32>,
    /// The tokens that greedy decoding adds.
    pub(crate) greedy: Vec<u32>,
}

impl Expected {
    pub(crate) fn read(folder: &Path) -> Expected {
        let file = File::open(folder.join("expected.safetensors")).unwrap();
        let ids = |name: &str| -> Vec<u32> {
            file.raw(name).unwrap().ints().unwrap().iter().map(|&i| i as u32).collect()
        };
        let logits = file.tensor("logits").unwrap().f32s().unwrap().into_owned();
        Expected { input: ids("input_ids"), logits, greedy: ids("greedy") }
    }
}

/// A model compiled for one sequence on the reference interpreter.
pub(crate) struct Runner {
    program: Box<dyn Program>,
    blocks: Vec<u32>,
    position: usize,
}

impl Runner {
    pub(crate) fn new(model: &Model) -> Runner {
        let limits = Limits::single(128, 128, CacheDType::F32);
        let program = Reference.compile(Arc::clone(model.graph()), model.weights(), limits).unwrap();
        Runner { program, blocks: (0..128u32 / BLOCK as u32).collect(), position: 0 }
    }

    /// The logits of every token.
    pub(crate) fn step(&mut self, tokens: &[u32]) -> Vec<f32> {
        let outputs: Vec<u32> = (0..tokens.len() as u32).collect();
        let sequence = SequenceStep { position: self.position, tokens: tokens.len(), blocks: &self.blocks };
        let step = Step { tokens, sequences: &[sequence], outputs: &outputs, inputs: &[], weights: &[] };
        self.program.run(&step).unwrap();
        self.position += tokens.len();
        self.program.output(0).to_vec()
    }
}

/// The place of the largest number.
pub(crate) fn largest(logits: &[f32]) -> u32 {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32
}

/// The logits of the whole input at once.
pub(crate) fn logits(model: &Model, input: &[u32]) -> Vec<f32> {
    Runner::new(model).step(input)
}

/// The largest difference of two rows of numbers.
pub(crate) fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "as many logits");
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Checks logits and greedy tokens against the other implementation.
pub(crate) fn check(model: &Model, expected: &Expected, tolerance: f32, what: &str) {
    let mut runner = Runner::new(model);
    let logits = runner.step(&expected.input);
    let off = difference(&logits, &expected.logits);
    assert!(off <= tolerance, "{what}: logits are off by {off}");
    let mut last = logits[logits.len() - model.config().vocabulary..].to_vec();
    for (i, &token) in expected.greedy.iter().enumerate() {
        assert_eq!(largest(&last), token, "{what}: greedy token {i}");
        last = runner.step(&[token]);
    }
}
