//! Low-rank updates beside a model's products (LoRA; Hu et al. 2021, arXiv:2106.09685): y = W x + scale · B (A x), where A has
//! few rows; and updates with a length of their own for each row (DoRA; Liu et al. 2024, arXiv:2402.09353):
//! y = m / ‖W + scale · B A‖ · (W x + scale · B (A x)), with the norms of the rows. A graph with them is a graph like any
//! other: it is run, differentiated and measured as they all are.

use std::sync::Mutex;
use std::thread;

use crate::device::Tensor;
use crate::dim::Shape;
use crate::error::WeightError;
use crate::graph::{Graph, Node, ValueId, WeightId, WeightSpec};
use crate::op::{Norm, NormKind, Op};

/// What ends the name of A, behind that of the weight that it is beside.
pub const DOWN: &str = ".lora_a";
/// What ends the name of B.
pub const UP: &str = ".lora_b";
/// What ends the name of DoRA's factors, [`FACTOR`] · m / ‖W + scale · B A‖.
pub const MAGNITUDE: &str = ".lora_magnitude";

/// What DoRA's factors are multiplied by where a graph has them. Columns are multiplied by a root-mean-square norm that does
/// not norm: its ε is FACTOR², beside which the squares of all that a model computes are nothing, so that it multiplies by
/// 1 / FACTOR and by its gain, and its derivatives do the same. Powers of two cost no bit.
pub const FACTOR: f32 = (1u64 << 30) as f32;

/// Updates of a rank.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Updates {
    /// Rows of A.
    pub rank: usize,
    /// What they are multiplied by.
    pub scale: f32,
    /// Whether rows have lengths of their own.
    pub dora: bool,
}

/// The graph with an update beside every linear product whose weight is `chosen`. The weights of a product `W`
/// `[out, in]` are `W.lora_a` `[rank, in]`, `W.lora_b` `[out, rank]` and, of DoRA, `W.lora_magnitude` `[out]`.
pub fn adapted(graph: &Graph, chosen: impl Fn(&WeightSpec) -> bool, updates: Updates) -> Graph {
    let Updates { rank, scale, dora } = updates;
    let mut out = Graph { nodes: Vec::with_capacity(graph.nodes.len()), ..graph.clone() };
    let mut moved: Vec<ValueId> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let args: Vec<ValueId> = node.args.iter().map(|a| moved[a.0]).collect();
        let mut push = |op: Op, args: &[ValueId], shape: Shape| {
            out.nodes.push(Node { op, args: args.to_vec(), shape, label: node.label.clone() });
            ValueId(out.nodes.len() - 1)
        };
        let (weight, bias) = match node.op {
            Op::Linear { weight, bias } if chosen(&graph.weights[weight.0]) => (weight, bias),
            _ => {
                moved.push(push(node.op.clone(), &args, node.shape.clone()));
                continue;
            }
        };
        let WeightSpec { name, shape } = &graph.weights[weight.0];
        let mut add = |end: &str, shape: Vec<usize>| {
            out.weights.push(WeightSpec { name: format!("{name}{end}"), shape });
            WeightId(out.weights.len() - 1)
        };
        let (down, up) = (add(DOWN, vec![rank, shape[1]]), add(UP, vec![shape[0], rank]));
        let magnitude = dora.then(|| add(MAGNITUDE, vec![shape[0]]));
        // The bias is not scaled with the rows.
        let own = if dora { None } else { bias };
        let value = push(Op::Linear { weight, bias: own }, &args, node.shape.clone());
        let few = Shape::new(node.shape.rows(), [rank]);
        let few = push(Op::Linear { weight: down, bias: None }, &args, few);
        let update = push(Op::Linear { weight: up, bias: None }, &[few], node.shape.clone());
        let update = push(Op::Scale { factor: scale }, &[update], node.shape.clone());
        let mut value = push(Op::Add, &[value, update], node.shape.clone());
        if magnitude.is_some() {
            let norm = Norm { kind: NormKind::Rms, epsilon: FACTOR * FACTOR, weight: magnitude, bias };
            value = push(Op::Norm(norm), &[value], node.shape.clone());
        }
        moved.push(value);
    }
    out.outputs = graph.outputs.iter().map(|o| moved[o.0]).collect();
    out
}

/// Rows whose norms a thread finds at a time.
const ROWS: usize = 64;

/// ‖W + scale · B A‖ of every row, for W `[out, in]` of any type, A `[rank, in]` and B `[out, rank]` (DoRA, equation 5). One
/// thread finds a norm, in f64, so that it does not depend on their number. `name` is the weight's, for errors.
///
/// # Errors
/// When W is not whole rows of its type, or A and B do not fit it.
pub fn row_norms(
    w: &Tensor<'_>,
    name: &str,
    (a, b): (&[f32], &[f32]),
    scale: f32,
) -> Result<Vec<f32>, WeightError> {
    let data = |what: &str| WeightError::Data { name: name.to_owned(), what: what.to_owned() };
    let &[rows, width] = &w.shape[..] else { return Err(data("it is no matrix")) };
    let rank = a.len() / width.max(1);
    if rank == 0 || a.len() != rank * width || b.len() != rows * rank {
        return Err(data("the update beside it has another shape"));
    }
    let bytes = w.dtype.bytes(width).ok_or_else(|| data("its rows are not whole blocks"))?;
    let mut norms = vec![0.0; rows];
    let mut pieces = Vec::new();
    let (mut rest_b, mut rest) = (b, &mut norms[..]);
    for part in &w.parts {
        for piece in part.chunks(bytes * ROWS) {
            let count = piece.len() / bytes;
            if piece.len() != count * bytes || rest.len() < count {
                return Err(data("its parts are not whole rows"));
            }
            let (own_b, own);
            (own_b, rest_b) = rest_b.split_at(count * rank);
            (own, rest) = rest.split_at_mut(count);
            pieces.push((piece, own_b, own));
        }
    }
    if !rest.is_empty() {
        return Err(data("rows are missing"));
    }
    let threads = thread::available_parallelism().map_or(1, |n| n.get()).min(pieces.len());
    let pieces = Mutex::new(pieces.into_iter());
    let work = || -> Result<(), WeightError> {
        let mut numbers = Vec::new();
        loop {
            let next = pieces.lock().map_or(None, |mut pieces| pieces.next());
            let Some((piece, b, norms)) = next else { return Ok(()) };
            numbers.resize(norms.len() * width, 0.0);
            autarky_quant::dequantize(w.dtype, piece, &mut numbers).map_err(|e| data(&e.to_string()))?;
            let rows = numbers.chunks_exact_mut(width).zip(b.chunks_exact(rank));
            for ((row, b), norm) in rows.zip(norms.iter_mut()) {
                for (b, a) in b.iter().zip(a.chunks_exact(width)) {
                    let b = scale * b;
                    row.iter_mut().zip(a).for_each(|(w, a)| *w += b * a);
                }
                let mut lanes = [0.0f64; 8];
                for x in row.chunks(lanes.len()) {
                    lanes.iter_mut().zip(x).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
                }
                *norm = lanes.iter().sum::<f64>().sqrt() as f32;
            }
        }
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        let failed =
            others.into_iter().try_for_each(|t| t.join().unwrap_or_else(|_| Err(data("a thread ended"))));
        own.and(failed)
    })?;
    Ok(norms)
}

/// What a row with this norm is multiplied by to have the length m: m / norm, and 0 for a row of zeros.
pub fn stretch(magnitude: f32, norm: f32) -> f32 {
    if norm > 0.0 { magnitude / norm } else { 0.0 }
}

/// What a graph has for it: [`FACTOR`] · [`stretch`].
pub fn factor(magnitude: f32, norm: f32) -> f32 {
    FACTOR * stretch(magnitude, norm)
}
