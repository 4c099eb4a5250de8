//! The graph: nodes, weights and caches.

use std::fmt;

use crate::dim::Shape;
use crate::op::Op;

/// A value of a graph: the result of the node with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub(crate) usize);

/// A weight of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightId(pub(crate) usize);

/// A layer's KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheId(pub(crate) usize);

impl ValueId {
    /// Its place among the nodes.
    pub fn index(self) -> usize {
        self.0
    }
}

impl WeightId {
    /// Its place among the weights.
    pub fn index(self) -> usize {
        self.0
    }
}

impl CacheId {
    /// Its place among the caches.
    pub fn index(self) -> usize {
        self.0
    }
}

/// A weight's name and shape, outermost dimension first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightSpec {
    /// The graph's own name for it.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
}

/// What one layer keeps of every position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSpec {
    /// Key and value heads.
    pub heads: usize,
    /// Numbers in a key.
    pub key_width: usize,
    /// Numbers in a value.
    pub value_width: usize,
}

impl CacheSpec {
    /// Numbers that one position takes.
    pub fn width(&self) -> usize {
        self.heads * (self.key_width + self.value_width)
    }
}

/// One op with its arguments and the shape of its result.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// Of which values.
    pub args: Vec<ValueId>,
    /// The result's shape. For [`Op::Route`], `[rows, K]` pairs of expert and weight.
    pub shape: Shape,
    /// Where in the model, such as `layers.3.attention.q`.
    pub label: String,
}

/// What a model computes. Nodes stand in an order in which they can run.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) weights: Vec<WeightSpec>,
    pub(crate) caches: Vec<CacheSpec>,
    pub(crate) outputs: Vec<ValueId>,
}

impl Graph {
    /// The nodes, in running order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node that makes `value`.
    pub fn node(&self, value: ValueId) -> &Node {
        &self.nodes[value.0]
    }

    /// The weights.
    pub fn weights(&self) -> &[WeightSpec] {
        &self.weights
    }

    /// The weights' ids, in the same order.
    pub fn weight_ids(&self) -> impl Iterator<Item = WeightId> + use<> {
        (0..self.weights.len()).map(WeightId)
    }

    /// One weight.
    pub fn weight(&self, id: WeightId) -> &WeightSpec {
        &self.weights[id.0]
    }

    /// The KV caches, one a layer that attends.
    pub fn caches(&self) -> &[CacheSpec] {
        &self.caches
    }

    /// The values that the graph is for.
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// Numbers in all weights: the model's parameters (a tied table counts once).
    pub fn parameters(&self) -> u64 {
        self.weights.iter().map(|w| w.shape.iter().map(|&n| n as u64).product::<u64>()).sum()
    }

    /// Numbers of KV cache that one position takes, over all layers.
    pub fn cache_width(&self) -> usize {
        self.caches.iter().map(CacheSpec::width).sum()
    }

    /// For every value, the last node that reads it; outputs are read by the caller, after the last node.
    pub fn last_uses(&self) -> Vec<usize> {
        let mut last: Vec<usize> = (0..self.nodes.len()).collect();
        for (i, node) in self.nodes.iter().enumerate() {
            for a in &node.args {
                last[a.0] = i;
            }
        }
        for o in &self.outputs {
            last[o.0] = self.nodes.len();
        }
        last
    }
}

impl fmt::Display for Graph {
    /// One line a node: `%7 = linear(%6) [tokens, 2048]  layers.0.attention.q`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, n) in self.nodes.iter().enumerate() {
            let args: Vec<String> = n.args.iter().map(|a| format!("%{}", a.0)).collect();
            writeln!(f, "%{i} = {}({}) {}  {}", n.op, args.join(", "), n.shape, n.label)?;
        }
        Ok(())
    }
}
