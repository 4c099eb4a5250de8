//! What cannot run is refused by name when it is compiled, or before a step changes anything.

use std::sync::Arc;

use autarky_cpu::{Cpu, CpuOptions, Isa};
use autarky_graph::conformance::{RandomWeights, Rng};
use autarky_graph::{
    Attention, Builder, CacheDType, CompileError, Device, Graph, Limits, Program, Route, RunError, Scoring,
    SequenceStep, Step, Tensor, WeightError, Weights,
};
use autarky_quant::DType;

fn cpu() -> Cpu {
    Cpu::new(CpuOptions { threads: Some(1), ..CpuOptions::default() }).expect("a device")
}

/// Embeds, attends, and gives what the head makes of it.
fn graph() -> Graph {
    let mut b = Builder::new();
    let table = b.weight("table", &[20, 64]).unwrap();
    let x = b.embed(table).unwrap();
    let heads = b.reshape(x, &[2, 32]).unwrap();
    let cache = b.cache(2, 32, 32);
    let a = Attention { cache, scale: 1.0, window: None, softcap: None, sinks: None };
    let y = b.attention(heads, heads, heads, a).unwrap();
    let y = b.reshape(y, &[64]).unwrap();
    let y = b.linear(y, table, None).unwrap();
    b.finish(&[y])
}

fn limits() -> Limits {
    Limits { tokens: 8, sequences: 2, outputs: 8, blocks: 4, cache: CacheDType::F16 }
}

fn compile(graph: Graph, limits: Limits) -> Result<Box<dyn Program>, CompileError> {
    let weights = RandomWeights::new(&mut Rng::new(1), &graph, |_| DType::Q8_0);
    cpu().compile(Arc::new(graph), &weights, limits)
}

#[test]
fn an_instruction_set_that_the_machine_lacks_is_refused() {
    for isa in Isa::ALL.into_iter().filter(|isa| !isa.is_available()) {
        let e = Cpu::new(CpuOptions { isa: Some(isa), ..CpuOptions::default() }).unwrap_err();
        assert!(e.to_string().contains(isa.name()), "{e}");
    }
}

struct Nothing;

impl Weights for Nothing {
    fn get(&self, name: &str) -> Result<Tensor<'_>, WeightError> {
        Err(WeightError::Missing { name: name.to_owned(), hint: "none is there".to_owned() })
    }
}

#[test]
fn a_missing_weight_is_named() {
    let Err(e) = cpu().compile(Arc::new(graph()), &Nothing, limits()) else { panic!("it compiled") };
    assert!(matches!(e, CompileError::Weight(WeightError::Missing { .. })));
    assert!(e.to_string().contains("table"), "{e}");
}

/// Gives the right name with another shape.
struct Crooked(Vec<u8>);

impl Weights for Crooked {
    fn get(&self, _: &str) -> Result<Tensor<'_>, WeightError> {
        Ok(Tensor { dtype: DType::F32, shape: vec![64, 20], parts: vec![self.0.as_slice().into()] })
    }
}

#[test]
fn a_weight_of_another_shape_is_named() {
    let weights = Crooked(vec![0; 64 * 20 * 4]);
    let Err(e) = cpu().compile(Arc::new(graph()), &weights, limits()) else { panic!("it compiled") };
    assert!(e.to_string().contains("[64, 20]") && e.to_string().contains("[20, 64]"), "{e}");
}

#[test]
fn limits_that_no_machine_has_are_refused() {
    for limits in [
        Limits { tokens: 0, ..limits() },
        Limits { sequences: 0, ..limits() },
        Limits { blocks: usize::MAX, ..limits() },
        Limits { tokens: usize::MAX, ..limits() },
        Limits { tokens: usize::MAX / 300, ..limits() },
        Limits { outputs: usize::MAX / 2, tokens: 1 << 62, ..limits() },
        Limits { blocks: u32::MAX as usize, tokens: 1 << 55, ..limits() },
    ] {
        let Err(e) = compile(graph(), limits) else { panic!("it compiled with {limits:?}") };
        assert!(matches!(e, CompileError::Limits(_) | CompileError::Memory { .. }), "{limits:?}: {e}");
    }
}

#[test]
fn a_routing_is_no_output() {
    let mut b = Builder::new();
    let x = b.input(0, 4);
    let route =
        Route { top: 2, scoring: Scoring::Softmax, bias: None, groups: None, normalize: true, scale: 1.0 };
    let y = b.route(x, route).unwrap();
    let Err(e) = compile(b.finish(&[y]), limits()) else { panic!("it compiled") };
    assert!(matches!(e, CompileError::Unsupported { .. }), "{e}");
}

#[test]
fn a_step_that_does_not_fit_changes_nothing() {
    let mut program = compile(graph(), limits()).unwrap();
    let blocks = [2u32, 0, 1, 3];
    let run = |program: &mut dyn Program, tokens: &[u32], position: usize, blocks: &[u32]| {
        let sequences = [SequenceStep { position, tokens: tokens.len(), blocks }];
        program.run(&Step { tokens, sequences: &sequences, outputs: &[0], inputs: &[], weights: &[] })
    };
    run(&mut *program, &[1, 2, 3], 0, &blocks).unwrap();
    let before = program.output(0).to_vec();
    assert!(matches!(run(&mut *program, &[1, 20], 3, &blocks), Err(RunError::Token { token: 20, .. })));
    assert!(matches!(run(&mut *program, &[1; 9], 3, &blocks), Err(RunError::Limit { .. })));
    assert!(matches!(run(&mut *program, &[1], 3, &[9]), Err(RunError::Step(_))));
    assert!(matches!(run(&mut *program, &[1], 128, &blocks), Err(RunError::Step(_))));
    assert_eq!(program.output(0), before);
    let memory = program.memory();
    assert!(memory.weights > 0 && memory.cache == 4 * 32 * 2 * 64 * 2 && memory.arena > 0, "{memory:?}");
}
