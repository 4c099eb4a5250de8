//! Weights in the forms that tasks read: packed once, when a graph is compiled.

use std::ops::Index;

use autarky_graph::derivative::Backward;
use autarky_graph::{CompileError, Graph, Op, WeightError, WeightSpec, Weights, device::fetch};
use autarky_quant::DType;

use crate::isa::Isa;
use crate::matmul::{Blocks, Int8Panels, PANEL_ROWS, PackError, PackedWeight};
use crate::pool::Pool;

use super::task::Task;

/// A weight of the graph.
#[derive(Debug)]
pub(super) enum Loaded {
    /// No node reads it.
    Unused,
    /// Gains, shifts and the like.
    Vector(Vec<f32>),
    /// A matrix, or one for each head or expert.
    Matrices(DType, Vec<PackedWeight>),
    /// A table of which only rows are read, as it is in the file.
    Table { dtype: DType, row_bytes: usize, bytes: Vec<u8> },
    /// Nothing: every step lends its numbers.
    Lent(Lent),
}

/// A matrix whose numbers every step lends, which are rounded to a type where they are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lent {
    /// The graph's weight that it is.
    pub(super) weight: usize,
    pub(super) dtype: DType,
    /// Rows and columns as a product takes it.
    pub(super) shape: (usize, usize),
    /// Whether the numbers are lent column by column.
    pub(super) transposed: bool,
    /// Whether products round them to 8-bit integers.
    pub(super) int8: bool,
}

/// Bytes that a panel may have of a matrix that is not kept: a thread packs a few at a time.
const LENT_PANEL: usize = 512 << 10;

/// Panels of a block, when there is room for so many: in threes as kernels take them, and in blocks of about the same size.
pub(super) fn panels_at_once(panels: usize, room: usize) -> usize {
    let most = (room / 3).max(1) * 3;
    panels.div_ceil(panels.div_ceil(most)).next_multiple_of(3)
}

impl Lent {
    /// A matrix that can be packed, and whose panels are small enough. (Large ones of 8-bit integers are packed once a step.)
    fn of(weight: usize, dtype: DType, shape: (usize, usize), transposed: bool, int8: bool) -> Option<Lent> {
        let floats = matches!(dtype, DType::F32 | DType::BF16);
        PackedWeight::bytes_for(dtype, 1, shape.1)?;
        let lent = Lent { weight, dtype, shape, transposed, int8 };
        (floats && (int8 || lent.panel_bytes() <= LENT_PANEL)).then_some(lent)
    }

    /// Panels that a thread packs at a time: about as many as its second-level cache has room for beside activations.
    pub(super) fn at_once(&self) -> usize {
        const ROOM: usize = 400 << 10;
        panels_at_once(self.shape.0.div_ceil(PANEL_ROWS), ROOM / self.panel_bytes())
    }

    fn panel_bytes(&self) -> usize {
        match self.int8 {
            true => Int8Panels::panel_bytes(self.shape.1),
            false => PackedWeight::bytes_for(self.dtype, 1, self.shape.1),
        }
        .expect("a matrix that is there")
    }

    /// Row `row` of a table, of which these are the numbers.
    pub(super) fn row(&self, numbers: &[f32], row: usize, out: &mut [f32]) {
        let numbers = &numbers[row * out.len()..][..out.len()];
        match self.dtype {
            DType::BF16 => {
                out.iter_mut().zip(numbers).for_each(|(y, x)| *y = half::bf16::from_f32(*x).to_f32())
            }
            _ => out.copy_from_slice(numbers),
        }
    }
}

/// All weights of a program.
#[derive(Debug)]
pub(super) struct LoadedWeights {
    /// Those of the graph, in its order; then those that transposed products read, packed for them.
    pub(super) all: Vec<Loaded>,
    /// For every weight of the graph where it is packed for transposed products.
    pub(super) transposed: Vec<Option<usize>>,
}

/// How the nodes use a weight.
#[derive(Clone, Copy, Default)]
struct Uses {
    /// In products: matrices it is divided into.
    products: Option<usize>,
    /// The same, in transposed products.
    transposed: Option<usize>,
    rows: bool,
    numbers: bool,
    /// The graph gathers its gradient: every step lends it.
    lent: bool,
    /// By an op that reads a matrix that it keeps.
    kept: bool,
    /// Rounded to 8-bit integers, where it is lent.
    int8: bool,
}

impl Loaded {
    /// How its numbers are stored.
    pub(super) fn dtype(&self) -> DType {
        match self {
            Loaded::Unused | Loaded::Vector(_) => DType::F32,
            Loaded::Matrices(dtype, _) | Loaded::Table { dtype, .. } => *dtype,
            Loaded::Lent(lent) => lent.dtype,
        }
    }

    /// Bytes that it holds.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Loaded::Unused | Loaded::Lent(_) => 0,
            Loaded::Vector(v) => 4 * v.len() as u64,
            Loaded::Matrices(_, all) => all.iter().map(|m| m.bytes() as u64).sum(),
            Loaded::Table { bytes, .. } => bytes.len() as u64,
        }
    }

    /// Its packed matrices.
    pub(super) fn matrices(&self) -> &[PackedWeight] {
        match self {
            Loaded::Matrices(_, all) => all,
            _ => unreachable!("weights of products are packed"),
        }
    }

    /// What it is, if steps lend it.
    pub(super) fn lent(&self) -> Option<&Lent> {
        match self {
            Loaded::Lent(lent) => Some(lent),
            _ => None,
        }
    }

    /// Row `row` of a table as numbers. The row is below the table's: the step was checked.
    pub(super) fn row(&self, row: usize, out: &mut [f32]) {
        match self {
            Loaded::Matrices(_, all) => all[0].dequantize_row(row, out),
            Loaded::Table { dtype, row_bytes, bytes } => {
                let row = &bytes[row * row_bytes..][..*row_bytes];
                autarky_quant::dequantize(*dtype, row, out).expect("rows were checked when they were loaded");
            }
            Loaded::Unused | Loaded::Vector(_) | Loaded::Lent(_) => {
                unreachable!("embedding tables are loaded as tables")
            }
        }
    }

    /// Its numbers, for a vector.
    pub(super) fn vector(&self) -> &[f32] {
        match self {
            Loaded::Vector(v) => v,
            _ => unreachable!("gains and shifts are loaded as vectors"),
        }
    }
}

/// Loads every weight of the graph that a node reads, one after another, and releases each.
///
/// # Errors
/// When one is missing, wrong, or does not fit into memory.
pub(super) fn load(
    graph: &Graph,
    weights: &dyn Weights,
    (isa, pool): (Isa, &Pool),
) -> Result<LoadedWeights, CompileError> {
    let mut uses = vec![Uses::default(); graph.weights().len()];
    for node in graph.nodes() {
        if let Op::Gradient(gradient) = &node.op {
            gradient.of().iter().for_each(|id| uses[id.index()].lent = true);
        }
        for id in node.op.weights() {
            let shape = &graph.weight(id).shape;
            let u = &mut uses[id.index()];
            match &node.op {
                Op::Embed { .. } => u.rows = true,
                Op::Linear { weight, .. } if *weight == id => u.products = Some(1),
                Op::HeadLinear { .. } | Op::Experts(_) => (u.products, u.kept) = (Some(shape[0]), true),
                Op::Backward(Backward::Linear { .. }) => u.transposed = Some(1),
                Op::Backward(Backward::HeadLinear { .. } | Backward::Experts(_)) => {
                    (u.transposed, u.kept) = (Some(shape[0]), true);
                }
                _ => u.numbers = true,
            }
        }
    }
    for (u, spec) in uses.iter_mut().zip(graph.weights()) {
        u.int8 = u.lent && isa.has_int8_training() && weights.in_int8(&spec.name);
    }
    // Rounding can turn the choice of experts, for little work.
    for node in graph.nodes().iter().filter(|n| matches!(n.op, Op::Route(_))) {
        if let Op::Linear { weight, .. } = graph.node(node.args[0]).op {
            uses[weight.index()].int8 = false;
        }
    }
    let one = |(i, u): (usize, &Uses)| one(graph, i, *u, weights, pool);
    let mut all: Vec<Loaded> = uses.iter().enumerate().map(one).collect::<Result<_, _>>()?;
    let mut transposed = vec![None; uses.len()];
    for (i, uses) in uses.iter().enumerate() {
        let Some(count) = uses.transposed else { continue };
        let spec = &graph.weights()[i];
        let tensor = fetch(weights, &spec.name, &spec.shape)?;
        if uses.lent
            && !uses.kept
            && let &[rows, cols] = &spec.shape[..]
            && let Some(lent) = Lent::of(i, tensor.dtype, (cols, rows), true, uses.int8)
        {
            transposed[i] = Some(all.len());
            all.push(Loaded::Lent(lent));
            continue;
        }
        // Rows of types with blocks would be blocks of other neighbours; what is left of their numbers fits into BF16.
        let dtype = match tensor.dtype {
            DType::F32 | DType::F16 => DType::F32,
            _ => DType::BF16,
        };
        let numbers = tensor.to_f32(&spec.name)?;
        transposed[i] = Some(all.len());
        drop(tensor);
        weights.release(&spec.name);
        all.push(pack_transposed(spec, count, dtype, &numbers, pool)?);
    }
    Ok(LoadedWeights { all, transposed })
}

impl LoadedWeights {
    /// Those that steps lend.
    pub(super) fn lent(&self) -> impl Iterator<Item = &Lent> {
        self.all.iter().filter_map(Loaded::lent)
    }

    /// Memory in which threads pack what steps lend, for the products among some tasks.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn blocks(&self, tasks: &[Task], threads: usize) -> Result<Blocks, CompileError> {
        let lent = |task: &Task| match task {
            Task::Linear { weight, packed: None, .. } => self[*weight].lent().copied(),
            _ => None,
        };
        let bytes = |lent: Lent| lent.at_once() * lent.panel_bytes();
        let each = tasks.iter().filter_map(lent).map(bytes).max().unwrap_or(0);
        Blocks::new(threads, each).ok_or_else(|| CompileError::Memory {
            what: "blocks of weights".to_owned(),
            bytes: (each as u64).saturating_mul(threads as u64),
            hint: "use fewer threads".to_owned(),
        })
    }

    /// Changes weight `index` of the graph to `numbers`, in all forms in which it is kept.
    pub(super) fn set(&mut self, index: usize, numbers: &[f32], pool: &Pool) {
        match &mut self.all[index] {
            Loaded::Unused | Loaded::Lent(_) => {}
            Loaded::Vector(v) => v.copy_from_slice(numbers),
            Loaded::Table { dtype, bytes, .. } => *bytes = encode(*dtype, numbers),
            Loaded::Matrices(_, all) => set_matrices(all, numbers, false, pool),
        }
        if let Some(Loaded::Matrices(_, all)) = self.transposed[index].map(|at| &mut self.all[at]) {
            set_matrices(all, numbers, true, pool);
        }
    }
}

impl Index<usize> for LoadedWeights {
    type Output = Loaded;

    fn index(&self, index: usize) -> &Loaded {
        &self.all[index]
    }
}

/// Replaces matrices of one shape, which `numbers` are one after another.
fn set_matrices(all: &mut [PackedWeight], numbers: &[f32], transposed: bool, pool: &Pool) {
    let each = numbers.len() / all.len();
    for (matrix, numbers) in all.iter_mut().zip(numbers.chunks_exact(each)) {
        matrix.set_numbers(numbers, transposed, pool);
    }
}

/// Numbers as the bytes of a float type.
fn encode(dtype: DType, numbers: &[f32]) -> Vec<u8> {
    match dtype {
        DType::BF16 => numbers.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect(),
        _ => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

/// `count` matrices, each packed the other way.
fn pack_transposed(
    spec: &WeightSpec,
    count: usize,
    dtype: DType,
    numbers: &[f32],
    pool: &Pool,
) -> Result<Loaded, CompileError> {
    let cols = spec.shape.last().copied().unwrap_or(1);
    let rows = numbers.len() / count.max(1) / cols.max(1);
    let mut packed = Vec::with_capacity(count);
    for matrix in numbers.chunks_exact((rows * cols).max(1)) {
        let matrix = PackedWeight::pack_numbers(dtype, (cols, rows), matrix, true, pool);
        packed.push(matrix.map_err(|e| pack_error(spec, e))?);
    }
    Ok(Loaded::Matrices(dtype, packed))
}

fn no_memory(spec: &WeightSpec, bytes: usize) -> CompileError {
    CompileError::Memory {
        what: format!("weight \"{}\"", spec.name),
        bytes: bytes as u64,
        hint: "close other programs, or use a model with fewer or smaller weights".to_owned(),
    }
}

fn pack(
    spec: &WeightSpec,
    dtype: DType,
    (rows, cols): (usize, usize),
    parts: &[&[u8]],
    pool: &Pool,
) -> Result<PackedWeight, CompileError> {
    PackedWeight::pack(dtype, rows, cols, parts, pool).map_err(|e| pack_error(spec, e))
}

fn pack_error(spec: &WeightSpec, error: PackError) -> CompileError {
    match error {
        PackError::Memory { bytes } => no_memory(spec, bytes),
        other => WeightError::Data { name: spec.name.clone(), what: other.to_string() }.into(),
    }
}

fn one(
    graph: &Graph,
    index: usize,
    uses: Uses,
    weights: &dyn Weights,
    pool: &Pool,
) -> Result<Loaded, CompileError> {
    let spec = &graph.weights()[index];
    if uses.products.is_none() && !uses.rows && !uses.numbers {
        return Ok(Loaded::Unused);
    }
    let tensor = fetch(weights, &spec.name, &spec.shape)?;
    let cols = spec.shape.last().copied().unwrap_or(1);
    let lent = match spec.shape[..] {
        [rows, cols] if uses.lent && !uses.kept && (uses.rows || uses.products.is_some()) => {
            Lent::of(index, tensor.dtype, (rows, cols), false, uses.int8)
        }
        _ => None,
    };
    let loaded = if let Some(lent) = lent {
        Loaded::Lent(lent)
    } else if let Some(count) = uses.products {
        let rows = spec.shape.iter().rev().skip(1).product::<usize>() / count.max(1);
        let row_bytes = tensor.dtype.bytes(cols).unwrap_or(0);
        let parts: Vec<&[u8]> = tensor.parts.iter().map(|p| p.as_ref()).collect();
        let mut packed = Vec::with_capacity(count);
        for i in 0..count {
            let pieces = pieces(&parts, i * rows * row_bytes, rows * row_bytes);
            packed.push(pack(spec, tensor.dtype, (rows, cols), &pieces, pool)?);
        }
        Loaded::Matrices(tensor.dtype, packed)
    } else if uses.rows {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(tensor.bytes()).map_err(|_| no_memory(spec, tensor.bytes()))?;
        tensor.parts.iter().for_each(|p| bytes.extend_from_slice(p));
        Loaded::Table { dtype: tensor.dtype, row_bytes: tensor.dtype.bytes(cols).unwrap_or(0), bytes }
    } else {
        Loaded::Vector(tensor.to_f32(&spec.name)?)
    };
    drop(tensor);
    weights.release(&spec.name);
    Ok(loaded)
}

/// `length` bytes from `start` of what the parts hold together.
fn pieces<'a>(parts: &[&'a [u8]], start: usize, length: usize) -> Vec<&'a [u8]> {
    let (mut at, end) = (0, start + length);
    let mut found = Vec::new();
    for part in parts {
        let (from, to) = (start.max(at), end.min(at + part.len()));
        if from < to {
            found.push(&part[from - at..to - at]);
        }
        at += part.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_may_begin_and_end_within_parts() {
        let parts: [&[u8]; 3] = [&[0, 1, 2], &[3, 4], &[5, 6, 7]];
        assert_eq!(pieces(&parts, 2, 4), [&[2][..], &[3, 4], &[5]]);
        assert_eq!(pieces(&parts, 3, 2), [&[3, 4][..]]);
    }
}
