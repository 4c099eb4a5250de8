//! The derivatives of gated activations are four ops in the graph, which read one another's results once: one task.

use autarky_graph::derivative::Backward;
use autarky_graph::{ActivationKind as Function, CompileError, Op, ValueId};

use super::super::derivative::{Derivative, GatedBackward, Stored};
use super::Lowering;

/// The nodes of the derivatives of f(gate) · up. The last, which is the derivative by the gate, is what it is found by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gate {
    function: Function,
    gate: ValueId,
    up: ValueId,
    dy: ValueId,
    /// dy · f(gate).
    by_up: usize,
}

impl Lowering<'_> {
    /// Finds f′(gate) · (dy · up), and dy · f(gate) before it, where nobody else reads what is between.
    pub(super) fn find_gates(&mut self) {
        let nodes = self.graph.nodes();
        for (index, node) in nodes.iter().enumerate() {
            let Op::Backward(Backward::Activation(function)) = node.op else { continue };
            let (gate, by_active) = (node.args[0], node.args[1]);
            let multiplied = |value: ValueId| {
                let node = self.graph.node(value);
                (node.op == Op::Multiply).then(|| (node.args[0], node.args[1]))
            };
            let Some((dy, up)) = multiplied(by_active) else { continue };
            let is_active = |value: ValueId| {
                let node = self.graph.node(value);
                node.op == Op::Activation(function) && self.root(node.args[0]) == self.root(gate)
            };
            let Some(by_up) = (0..by_active.index()).rev().find(|&i| {
                let (op, args) = (&nodes[i].op, &nodes[i].args);
                *op == Op::Multiply && self.root(args[0]) == self.root(dy) && is_active(args[1])
            }) else {
                continue;
            };
            let active = nodes[by_up].args[1];
            let lone = [active, by_active].iter().all(|v| self.needs[v.index()].readers == 1);
            // The derivative by what is gated comes later than its node.
            let later = nodes[by_up..index].iter().all(|n| n.args.iter().all(|a| self.root(*a) != by_up));
            if lone && later {
                [active.index(), by_active.index(), by_up].iter().for_each(|&i| self.absorbed[i] = true);
                self.gates.insert(index, Gate { function, gate, up, dy, by_up });
            }
        }
    }

    /// Lowers what [`Lowering::find_gates`] found.
    pub(super) fn gate(&mut self, index: usize, gate: Gate) -> Result<(), CompileError> {
        let stored = |value: ValueId| match self.kept(value) {
            Some(operand) => Stored::Rounded(operand),
            None => Stored::Numbers(self.value_of(value)),
        };
        let (function, dy) = (gate.function, self.value_of(gate.dy));
        let (gate, up, by_up) = (stored(gate.gate), stored(gate.up), gate.by_up);
        self.scratch(4 * dy.width);
        let (by_gate, by_up) = (self.sink(index)?, self.sink(by_up)?);
        let task = GatedBackward { function, gate, up, dy, by_gate, by_up };
        self.derive(Derivative::Gated(Box::new(task)));
        Ok(())
    }
}
