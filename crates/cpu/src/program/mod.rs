//! Programs: a graph made into tasks, its memory planned, and the running of a step.
//!
//! | file | what |
//! | --- | --- |
//! | `weights.rs` | weights packed at load |
//! | `task.rs` | tasks and the buffers that they read and write |
//! | `lower.rs` | from the graph's nodes to tasks |
//! | `schedule.rs` | stages of tasks that do not need each other |
//! | `memory.rs` | places of buffers in the arena |
//! | `step.rs` | what the symbols of one step are bound to |
//! | `run.rs`, `products.rs`, `attention.rs`, `experts.rs` | running tasks |
//! | `attention_bf16.rs` | attention when a model is trained with products of BF16 numbers |
//! | `derivative/` | running the tasks of derivatives |
//!
//! A step is one `Pool::run`: every thread goes through the stages, takes pieces of each stage's tasks, and waits for
//! the others at the barrier that ends it.

mod attention;
mod attention_bf16;
mod derivative;
mod experts;
mod lower;
mod memory;
mod products;
mod run;
mod schedule;
mod step;
mod task;
mod weights;

use std::sync::Arc;

use autarky_graph::{
    BLOCK, CacheDType, CompileError, Graph, Limits, MemoryUse, Op, RunError, Step, WeightId, Weights,
};
use autarky_quant::DType;

use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::kernels::cache::Layout;
use crate::matmul::{Blocks, LINE};
use crate::pool::Pool;
use crate::profile::Profile;

use lower::{Lowered, Lowering, Target};
use memory::{Plan, Region};
use run::Run;
use schedule::Schedule;
use step::Bound;
use task::{Matrix, Task};
use weights::{Loaded, LoadedWeights};

/// What the device decides about its programs.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) pool: Arc<Pool>,
    pub(crate) isa: Isa,
    pub(crate) bf16_tiles: bool,
    pub(crate) profile: Option<Arc<Profile>>,
}

/// What does not change from step to step.
struct Prepared {
    isa: Isa,
    kernels: &'static Kernels,
    weights: LoadedWeights,
    /// Where threads pack weights that steps lend.
    blocks: Blocks,
    /// For every weight of the graph what is gathered of its gradient.
    gradients: Vec<Option<Region>>,
    tasks: Vec<Task>,
    /// For every task whether the outputs need it.
    behind_outputs: Vec<bool>,
    stages: Vec<Vec<usize>>,
    offsets: Vec<usize>,
    arena: Region,
    /// One a layer.
    caches: Vec<Region>,
    cache_dtype: CacheDType,
    /// Scratch of the threads, one after another, and its bytes for each.
    scratch: Region,
    scratch_bytes: usize,
    span_records: usize,
    outputs: Vec<Matrix>,
}

/// A compiled graph.
pub(crate) struct CpuProgram {
    settings: Settings,
    graph: Arc<Graph>,
    limits: Limits,
    prepared: Prepared,
    bound: Bound,
}

fn no_memory(what: &str, bytes: usize, hint: &str) -> CompileError {
    CompileError::Memory { what: what.to_owned(), bytes: bytes as u64, hint: hint.to_owned() }
}

impl CpuProgram {
    /// Compiles a graph. See [`autarky_graph::Device::compile`].
    pub(crate) fn compile(
        settings: Settings,
        graph: Arc<Graph>,
        weights: &dyn Weights,
        limits: Limits,
    ) -> Result<CpuProgram, CompileError> {
        if limits.tokens == 0 || limits.sequences == 0 {
            return Err(CompileError::Limits("a step needs room for a token and a sequence".to_owned()));
        }
        if limits.blocks > u32::MAX as usize {
            return Err(CompileError::Limits(format!("{} blocks of cache; at most 2^32 are", limits.blocks)));
        }
        // Training rounds activations as everybody's does; running a model keeps them.
        let trains = graph.nodes().iter().any(|n| matches!(n.op, Op::Gradient(_)));
        let target = Target {
            isa: settings.isa,
            bf16: settings.bf16_tiles || trains,
            threads: settings.pool.threads(),
        };
        let loaded = weights::load(&graph, weights, (settings.isa, &settings.pool))?;
        let gradients = gradients(&graph, &loaded)?;
        let Lowered { tasks, sizes, outputs, tilings, scratch } =
            Lowering::run(&graph, &loaded, limits, target)?;
        let kept: Vec<_> = outputs.iter().map(|m| m.buffer).collect();
        let schedule = Schedule::new(&tasks, sizes.len(), &kept);
        let few_tokens = "ask for fewer tokens or outputs in a step";
        let plan = Plan::new(&sizes, &schedule)
            .ok_or_else(|| no_memory("the activations of a step", usize::MAX, few_tokens))?;
        let region = |bytes: usize| {
            Region::new(bytes).ok_or_else(|| no_memory("the activations of a step", bytes, few_tokens))
        };
        let arena = region(plan.bytes)?;
        let scratch_bytes = (4 * scratch).next_multiple_of(2 * LINE);
        let scratch = region(scratch_bytes.saturating_mul(target.threads))?;
        let caches = caches(&graph, &limits)?;
        let bound = Bound::new(&limits, tilings)
            .ok_or_else(|| no_memory("the tables of a step", limits.tokens, few_tokens))?;
        let prepared = Prepared {
            isa: settings.isa,
            kernels: Kernels::of(settings.isa),
            blocks: loaded.blocks(&tasks, target.threads)?,
            weights: loaded,
            gradients,
            tasks,
            behind_outputs: schedule.behind_kept,
            stages: schedule.stages,
            offsets: plan.offsets,
            arena,
            caches,
            cache_dtype: limits.cache,
            scratch,
            scratch_bytes,
            span_records: lower::span_records(&limits),
            outputs,
        };
        Ok(CpuProgram { settings, graph, limits, prepared, bound })
    }
}

/// Memory for the gradients that the graph gathers, zero.
fn gradients(graph: &Graph, loaded: &LoadedWeights) -> Result<Vec<Option<Region>>, CompileError> {
    let mut all: Vec<Option<Region>> = graph.weights().iter().map(|_| None).collect();
    for node in graph.nodes() {
        let Op::Gradient(gradient) = &node.op else { continue };
        for id in gradient.of() {
            let spec = graph.weight(id);
            let dtype = loaded[id.index()].dtype();
            if !matches!(dtype, DType::F32 | DType::BF16) {
                return Err(CompileError::Unsupported {
                    device: "cpu".to_owned(),
                    op: node.op.name(),
                    label: node.label.clone(),
                    what: format!(
                        "\"{}\" is {dtype}: small steps would be lost in its rounding; train it as F32 or BF16, or \
                         train an adapter beside it",
                        spec.name
                    ),
                });
            }
            if all[id.index()].is_some() {
                continue;
            }
            let bytes = spec.shape.iter().try_fold(4usize, |n, d| n.checked_mul(*d));
            let region = bytes.and_then(Region::new).ok_or_else(|| {
                let hint = "train fewer of the weights, or a smaller model";
                no_memory(&format!("the gradient of \"{}\"", spec.name), bytes.unwrap_or(usize::MAX), hint)
            })?;
            all[id.index()] = Some(region);
        }
    }
    Ok(all)
}

/// The KV cache: one region a layer, zero, and not resident before it is written.
fn caches(graph: &Graph, limits: &Limits) -> Result<Vec<Region>, CompileError> {
    let one = |spec: &autarky_graph::CacheSpec| {
        let layout = Layout::of(spec);
        layout.block_bytes(limits.cache).checked_mul(limits.blocks)
    };
    let mut all = Vec::with_capacity(graph.caches().len());
    for spec in graph.caches() {
        let bytes = one(spec);
        let region = bytes.and_then(Region::new).ok_or_else(|| {
            let what = format!("a layer's KV cache of {} positions", limits.blocks.saturating_mul(BLOCK));
            no_memory(&what, bytes.unwrap_or(usize::MAX), "ask for a shorter context or fewer sequences")
        })?;
        all.push(region);
    }
    Ok(all)
}

impl CpuProgram {
    fn step(&mut self, step: &Step<'_>, gathers: bool) -> Result<(), RunError> {
        step.check(&self.graph, &self.limits)?;
        for lent in self.prepared.weights.lent() {
            let id = self.graph.weight_ids().nth(lent.weight).expect("a weight of the graph");
            step.lent(&self.graph, id)?;
        }
        self.bound.bind(step);
        let (prepared, bound) = (&self.prepared, &self.bound);
        let profile = self.settings.profile.as_deref();
        self.settings.pool.run(&|worker| Run { prepared, step, bound, worker, gathers }.all(profile));
        if let Some(profile) = profile {
            profile.step();
        }
        Ok(())
    }
}

impl autarky_graph::Program for CpuProgram {
    fn run(&mut self, step: &Step<'_>) -> Result<(), RunError> {
        self.step(step, true)
    }

    fn run_outputs(&mut self, step: &Step<'_>) -> Result<(), RunError> {
        self.step(step, false)
    }

    fn output(&self, index: usize) -> &[f32] {
        let matrix = self.prepared.outputs[index];
        let rows = matrix.rows.count(self.bound.tokens, self.bound.outputs);
        let start = self.prepared.offsets[matrix.buffer.0];
        // SAFETY: the buffer lies in the arena, holds at least these rows, is kept to the end of a step, and no step
        // runs while the program is borrowed.
        unsafe {
            let first = self.prepared.arena.start().add(start).cast::<f32>();
            std::slice::from_raw_parts(first, rows * matrix.width)
        }
    }

    fn gradient(&self, weight: WeightId) -> &[f32] {
        match &self.prepared.gradients[weight.index()] {
            None => &[],
            // SAFETY: the region has whole numbers, and no step runs while the program is borrowed.
            Some(r) => unsafe { std::slice::from_raw_parts(r.start().cast(), r.bytes() / 4) },
        }
    }

    fn clear_gradients(&mut self) {
        for region in self.prepared.gradients.iter().flatten() {
            // SAFETY: the region is this program's, which is borrowed mutably.
            unsafe { std::ptr::write_bytes(region.start(), 0, region.bytes()) };
        }
    }

    fn set_weight(&mut self, weight: WeightId, numbers: &[f32]) {
        if self.prepared.gradients[weight.index()].is_some() {
            self.prepared.weights.set(weight.index(), numbers, &self.settings.pool);
        }
    }

    fn memory(&self) -> MemoryUse {
        let p = &self.prepared;
        let gradients: usize = p.gradients.iter().flatten().map(Region::bytes).sum();
        let weights: u64 = p.weights.all.iter().map(Loaded::bytes).sum();
        MemoryUse {
            weights: weights + gradients as u64,
            cache: p.caches.iter().map(|c| c.bytes() as u64).sum(),
            arena: (p.arena.bytes() + p.scratch.bytes() + p.blocks.bytes()) as u64,
        }
    }
}
