//! Low-rank updates beside a model's products (LoRA; Hu et al. 2021, arXiv:2106.09685): y = W x + scale · B (A x), where A has
//! few rows. A graph with them is a graph like any other: it is run, differentiated and measured as they all are.

use crate::dim::Shape;
use crate::graph::{Graph, Node, ValueId, WeightId, WeightSpec};
use crate::op::Op;

/// What ends the name of A, behind that of the weight that it is beside.
pub const DOWN: &str = ".lora_a";
/// What ends the name of B.
pub const UP: &str = ".lora_b";

/// The graph with an update of a rank beside every linear product whose weight is `chosen`. The weights of a product `W`
/// `[out, in]` are `W.lora_a` `[rank, in]` and `W.lora_b` `[out, rank]`.
pub fn adapted(graph: &Graph, chosen: impl Fn(&WeightSpec) -> bool, rank: usize, scale: f32) -> Graph {
    let mut out = Graph { nodes: Vec::with_capacity(graph.nodes.len()), ..graph.clone() };
    let mut moved: Vec<ValueId> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let args: Vec<ValueId> = node.args.iter().map(|a| moved[a.0]).collect();
        let mut push = |op: Op, args: &[ValueId], shape: Shape| {
            out.nodes.push(Node { op, args: args.to_vec(), shape, label: node.label.clone() });
            ValueId(out.nodes.len() - 1)
        };
        let mut value = push(node.op.clone(), &args, node.shape.clone());
        if let Op::Linear { weight, .. } = node.op
            && chosen(&graph.weights[weight.0])
        {
            let WeightSpec { name, shape } = &graph.weights[weight.0];
            let mut add = |end: &str, shape: Vec<usize>| {
                out.weights.push(WeightSpec { name: format!("{name}{end}"), shape });
                WeightId(out.weights.len() - 1)
            };
            let (down, up) = (add(DOWN, vec![rank, shape[1]]), add(UP, vec![shape[0], rank]));
            let few = Shape::new(node.shape.rows(), [rank]);
            let few = push(Op::Linear { weight: down, bias: None }, &args, few);
            let update = push(Op::Linear { weight: up, bias: None }, &[few], node.shape.clone());
            let update = push(Op::Scale { factor: scale }, &[update], node.shape.clone());
            value = push(Op::Add, &[value, update], node.shape.clone());
        }
        moved.push(value);
    }
    out.outputs = graph.outputs.iter().map(|o| moved[o.0]).collect();
    out
}
