//! Steps that nobody checked: what [`Step::check`] lets pass, the reference interpreter runs.
#![no_main]

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arbitrary::Arbitrary;
use autarky_fuzz::bounded;
use autarky_graph::reference::Reference;
use autarky_graph::{
    Attention, BLOCK, Builder, CacheDType, Device, Graph, Limits, SequenceStep, Sizes, Step, Symbol, Tensor,
    WeightError, Weights, cost,
};
use autarky_quant::DType;
use libfuzzer_sys::fuzz_target;
use std::borrow::Cow;

const VOCABULARY: usize = 7;
const WIDTH: usize = 4;

#[derive(Arbitrary, Debug)]
struct Case {
    limits: (u8, u8, u8, u8),
    tokens: Vec<u32>,
    small_tokens: bool,
    sequences: Vec<(Count, Count, Vec<u8>)>,
    outputs: Vec<u32>,
    window: Option<u8>,
}

/// Mostly a small number.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Count {
    Small(u8),
    Any(usize),
}

impl Count {
    fn get(self) -> usize {
        match self {
            Count::Small(n) => usize::from(n % 40),
            Count::Any(n) => n,
        }
    }
}

/// Embedding, attention of two heads over one, and a projection of the wanted rows.
fn graph(window: Option<usize>) -> Graph {
    let mut b = Builder::new();
    let table = b.weight("embed", &[VOCABULARY, WIDTH]).expect("new");
    let x = b.embed(table).expect("a table");
    let q = b.reshape(x, &[2, 2]).expect("as many numbers");
    let k = b.slice(x, 0, 2).expect("inside");
    let k = b.reshape(k, &[1, 2]).expect("as many numbers");
    let cache = b.cache(1, 2, 2);
    let attention = Attention { cache, scale: 0.7, window, softcap: None, sinks: None };
    let y = b.attention(q, k, k, attention).expect("shapes that fit");
    let y = b.reshape(y, &[WIDTH]).expect("as many numbers");
    let y = b.select(y).expect("rows of tokens");
    let logits = b.linear(y, table, None).expect("shapes that fit");
    b.finish(&[logits])
}

struct Given(HashMap<&'static str, Vec<u8>>);

impl Weights for Given {
    fn get(&self, name: &str) -> Result<Tensor<'_>, WeightError> {
        let data = self
            .0
            .get(name)
            .ok_or_else(|| WeightError::Missing { name: name.into(), hint: String::new() })?;
        Ok(Tensor { dtype: DType::F32, shape: vec![VOCABULARY, WIDTH], parts: vec![Cow::Borrowed(data)] })
    }
}

fuzz_target!(|case: Case| {
    let window = case.window.map(|w| usize::from(w).max(1));
    let graph = Arc::new(graph(window));
    let numbers = (0..VOCABULARY * WIDTH).flat_map(|i| (i as f32 * 0.1 - 1.0).to_le_bytes()).collect();
    let weights = Given(HashMap::from([("embed", numbers)]));
    let (tokens, sequences, outputs, blocks) = case.limits;
    let limits = Limits {
        tokens: tokens.into(),
        sequences: sequences.into(),
        outputs: outputs.into(),
        blocks: blocks.into(),
        cache: CacheDType::F32,
    };
    let small = |t: &u32| if case.small_tokens { t % VOCABULARY as u32 } else { *t };
    let tokens: Vec<u32> = case.tokens.iter().map(small).collect();
    let tables: Vec<Vec<u32>> =
        case.sequences.iter().map(|(_, _, blocks)| blocks.iter().map(|&b| b.into()).collect()).collect();
    let sequences: Vec<SequenceStep<'_>> = (case.sequences.iter().zip(&tables))
        .map(|((position, tokens, _), blocks)| SequenceStep {
            position: position.get(),
            tokens: tokens.get(),
            blocks,
        })
        .collect();
    let step =
        Step { tokens: &tokens, sequences: &sequences, outputs: &case.outputs, inputs: &[], weights: &[] };
    bounded(|| {
        let mut program = Reference.compile(Arc::clone(&graph), &weights, limits).expect("a graph that fits");
        let checked = step.check(&graph, &limits);
        let ran = program.run(&step);
        assert_eq!(checked, ran, "run says what check says");
        if ran.is_ok() {
            let mut written = HashSet::new();
            for s in &sequences {
                for place in (s.position..s.position + s.tokens).map(|p| (s.blocks[p / BLOCK], p % BLOCK)) {
                    assert!(written.insert(place), "two tokens share a place of the cache");
                }
            }
            let logits = program.output(0);
            assert_eq!(logits.len(), case.outputs.len() * VOCABULARY);
            assert!(logits.iter().all(|x| x.is_finite()));
            let sizes: Vec<(usize, usize)> = sequences.iter().map(|s| (s.position, s.tokens)).collect();
            let sizes = Sizes::new(sizes, case.outputs.len());
            let storage = cost::Storage { weights: &|_| DType::F32, cache_bytes: 4.0 };
            assert!(cost::graph(&graph, &storage).flops.value(&sizes) >= sizes.value(Symbol::Tokens));
            assert!(sizes.value(Symbol::Attended { window }) >= sizes.value(Symbol::Tokens));
        }
    });
});
