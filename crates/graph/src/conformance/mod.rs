//! The suite that every device must pass before it runs a model: op by op, data type by data type, over random
//! shapes, then whole small models.
//!
//! Each case is checked twice. **Right**: against the [`Reference`], or the [`RoundedReference`] for a device that
//! rounds activations, within a bound that is stated (see `tolerance`). **The same every time**: a sequence's results
//! must be the same bits alone, in chunks of 1 and of 7,
//! beside others, and wherever its blocks of KV cache lie.

mod cases;
mod random;
mod tolerance;

use std::fmt;
use std::sync::Arc;

use crate::device::{Activations, BLOCK, CacheDType, Device, Limits, Program, SequenceStep, Step};
use crate::dim::Symbol;
use crate::error::{CompileError, RunError};
use crate::graph::Graph;
use crate::reference::{Reference, RoundedReference};

pub use random::{RandomWeights, Rng};

/// Tokens of the sequences of a case: the longest spans three blocks of cache, the last has one token.
const LENGTHS: [usize; 3] = [70, 33, 1];

/// One thing that was wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The case, such as `linear Q4_K [50, 512]`.
    pub case: String,
    /// What was wrong with it.
    pub what: String,
}

/// What the suite found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Cases run.
    pub cases: usize,
    /// What was wrong.
    pub failures: Vec<Failure>,
}

impl Report {
    /// Whether the device conforms.
    pub fn passed(&self) -> bool {
        self.failures.is_empty() && self.cases > 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} cases, {} failures", self.cases, self.failures.len())?;
        self.failures.iter().try_for_each(|x| writeln!(f, "  {}: {}", x.case, x.what))
    }
}

/// A graph with random weights and random sequences to run it on.
struct Case {
    name: String,
    graph: Arc<Graph>,
    weights: RandomWeights,
    cache: CacheDType,
    /// For every sequence its tokens.
    tokens: Vec<Vec<u32>>,
    /// For every input slot, for every sequence, its rows.
    inputs: Vec<Vec<Vec<f32>>>,
}

/// Runs the suite on `device`. The same `seed` gives the same cases.
pub fn run(device: &dyn Device, seed: u64) -> Report {
    let mut report = Report::default();
    for case in cases::all(&device.abilities(), &mut Rng::new(seed)) {
        report.cases += 1;
        for what in check(device, &case) {
            report.failures.push(Failure { case: case.name.clone(), what });
        }
    }
    report
}

/// What is wrong with the device on this case.
fn check(device: &dyn Device, case: &Case) -> Vec<String> {
    let alone: Schedule = (0..LENGTHS.len()).map(|s| vec![(s, LENGTHS[s])]).collect();
    let right = match device.abilities().activations {
        Activations::F32 => results(&Reference, case, &alone),
        Activations::Int8 { group } => results(&RoundedReference { group }, case, &alone),
    };
    let right = match right {
        Ok(r) => r,
        Err(e) => return vec![format!("the reference does not run it: {e}")],
    };
    let found = match results(device, case, &alone) {
        Ok(f) => f,
        Err(e) => return vec![format!("does not run: {e}")],
    };
    let mut wrong = Vec::new();
    let allowed = tolerance::allowed(case, &device.abilities());
    for (sequence, (right, found)) in right.iter().zip(&found).enumerate() {
        wrong.extend(tolerance::compare(sequence, right, found, &allowed[sequence]));
    }
    for (how, schedule) in schedules() {
        match results(device, case, &schedule) {
            Err(e) => wrong.push(format!("does not run {how}: {e}")),
            Ok(again) => {
                let differs = |(a, b): (&Vec<f32>, &Vec<f32>)| {
                    a.len() != b.len() || a.iter().zip(b).any(|(x, y)| x.to_bits() != y.to_bits())
                };
                if let Some(s) = found.iter().zip(&again).position(differs) {
                    wrong.push(format!("sequence {s} has other bits {how} than alone"));
                }
            }
        }
    }
    wrong
}

/// Steps; each is the sequences that take part in it, with how many of their tokens.
type Schedule = Vec<Vec<(usize, usize)>>;

/// Ways to run the same sequences that must not change a bit.
fn schedules() -> Vec<(&'static str, Schedule)> {
    let chunks = |size: usize| -> Schedule {
        let sequence = |s: usize| {
            let whole = (0..LENGTHS[s] / size).map(move |_| vec![(s, size)]);
            let rest = LENGTHS[s] % size;
            whole.chain((rest > 0).then(|| vec![(s, rest)]))
        };
        (0..LENGTHS.len()).flat_map(sequence).collect()
    };
    let beside = vec![vec![(0, 41), (1, 1)], vec![(1, 31), (2, 1), (0, 1)], vec![(0, 28), (1, 1)]];
    let together = vec![(0..LENGTHS.len()).map(|s| (s, LENGTHS[s])).collect()];
    vec![
        ("in chunks of 1", chunks(1)),
        ("in chunks of 7", chunks(7)),
        ("beside others in parts", beside),
        ("beside others at once", together),
    ]
}

/// Runs the case by the schedule; gives every sequence's results, all outputs of the graph one after another.
fn results(device: &dyn Device, case: &Case, schedule: &Schedule) -> Result<Vec<Vec<f32>>, ConformanceError> {
    let blocks_of: Vec<usize> = LENGTHS.iter().map(|n| n.div_ceil(BLOCK)).collect();
    let blocks: usize = blocks_of.iter().sum();
    let total: usize = LENGTHS.iter().sum();
    let limits =
        Limits { tokens: total, sequences: LENGTHS.len(), outputs: total, blocks, cache: case.cache };
    let mut program = device.compile(Arc::clone(&case.graph), &case.weights, limits)?;

    // Blocks lie scattered, and differently for every schedule.
    let mut order: Vec<u32> = (0..blocks as u32).collect();
    Rng::new(schedule.len() as u64).shuffle(&mut order);
    let mut left = order.as_slice();
    let tables: Vec<&[u32]> = (blocks_of.iter())
        .map(|&n| {
            let (table, rest) = left.split_at(n);
            left = rest;
            table
        })
        .collect();

    let mut done = vec![0; LENGTHS.len()];
    let outputs = case.graph.outputs();
    let mut rows: Vec<Vec<Vec<f32>>> = vec![vec![Vec::new(); outputs.len()]; LENGTHS.len()];
    for step in schedule {
        run_step(program.as_mut(), case, step, &tables, &mut done, &mut rows)?;
    }
    Ok(rows.into_iter().map(|outputs| outputs.concat()).collect())
}

fn run_step(
    program: &mut dyn Program,
    case: &Case,
    parts: &[(usize, usize)],
    tables: &[&[u32]],
    done: &mut [usize],
    rows: &mut [Vec<Vec<f32>>],
) -> Result<(), RunError> {
    let range = |&(s, n): &(usize, usize)| (s, done[s]..done[s] + n);
    let tokens: Vec<u32> = parts.iter().map(range).flat_map(|(s, r)| case.tokens[s][r].to_vec()).collect();
    let slot = |sequences: &Vec<Vec<f32>>| -> Vec<f32> {
        let part = |(s, r): (usize, std::ops::Range<usize>)| {
            let width = sequences[s].len() / LENGTHS[s];
            sequences[s][r.start * width..r.end * width].to_vec()
        };
        parts.iter().map(range).flat_map(part).collect()
    };
    let inputs: Vec<Vec<f32>> = case.inputs.iter().map(slot).collect();
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let sequence =
        |&(s, n): &(usize, usize)| SequenceStep { position: done[s], tokens: n, blocks: tables[s] };
    let sequences: Vec<SequenceStep<'_>> = parts.iter().map(sequence).collect();
    // Every third position of a sequence is wanted, so that choosing rows is tested too.
    let places = parts.iter().map(range).flat_map(|(_, r)| r);
    let wanted: Vec<u32> = (0..).zip(places).filter(|(_, p)| p % 3 == 0).map(|(i, _)| i).collect();
    program.run(&Step {
        tokens: &tokens,
        sequences: &sequences,
        outputs: &wanted,
        inputs: &inputs,
        weights: &[],
    })?;

    for (index, output) in case.graph.outputs().iter().enumerate() {
        let shape = &case.graph.node(*output).shape;
        let (width, mut left) = (shape.width(), program.output(index));
        for &(s, n) in parts {
            let count = match shape.rows() {
                Symbol::Outputs => (done[s]..done[s] + n).filter(|p| p % 3 == 0).count(),
                _ => n,
            };
            let Some((part, rest)) = left.split_at_checked(count * width) else {
                return Err(RunError::Lost(format!("output {index} is short")));
            };
            rows[s][index].extend_from_slice(part);
            left = rest;
        }
        if !left.is_empty() {
            return Err(RunError::Lost(format!("output {index} has {} numbers too many", left.len())));
        }
    }
    parts.iter().for_each(|&(s, n)| done[s] += n);
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum ConformanceError {
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Run(#[from] RunError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_conforms() {
        let report = run(&Reference, 1);
        assert!(report.passed(), "{report}");
    }

    /// A suite that passes everything tests nothing: a device that is wrong in one op must fail.
    #[test]
    fn a_device_that_is_wrong_is_found() {
        struct Wrong;
        impl Device for Wrong {
            fn name(&self) -> &str {
                "wrong"
            }
            fn abilities(&self) -> crate::Abilities {
                Reference.abilities()
            }
            fn compile(
                &self,
                graph: Arc<Graph>,
                weights: &dyn crate::Weights,
                limits: Limits,
            ) -> Result<Box<dyn Program>, CompileError> {
                Ok(Box::new(Off(Reference.compile(graph, weights, limits)?, Vec::new())))
            }
        }
        /// Adds a little that depends on the batch.
        struct Off(Box<dyn Program>, Vec<f32>);
        impl Program for Off {
            fn run(&mut self, step: &Step<'_>) -> Result<(), RunError> {
                self.0.run(step)?;
                let off = step.rows() as f32 * 1e-7;
                self.1 = self.0.output(0).iter().map(|x| x + off).collect();
                Ok(())
            }
            fn run_outputs(&mut self, step: &Step<'_>) -> Result<(), RunError> {
                self.run(step)
            }
            fn output(&self, index: usize) -> &[f32] {
                if index == 0 { &self.1 } else { self.0.output(index) }
            }
            fn memory(&self) -> crate::MemoryUse {
                self.0.memory()
            }
        }
        let report = run(&Wrong, 1);
        assert!(report.failures.iter().any(|f| f.what.contains("other bits")), "{report}");
    }
}
