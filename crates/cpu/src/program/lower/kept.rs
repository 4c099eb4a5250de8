//! Values that the backward pass reads are kept for it in BF16, where products are of BF16 numbers: half the memory of what
//! is there for longest. They are what products give, with more digits than products take; PyTorch's autocast keeps them so, too.

use autarky_graph::derivative::Gradient;
use autarky_graph::{CompileError, Op, Symbol, ValueId};

use super::super::derivative::Derivative;
use super::super::task::{Operand, Task};
use super::derivative::Loss;
use super::{Form, Lowering};
use crate::matmul::{ActivationKind, CHUNK};

impl Lowering<'_> {
    /// Finds the values to be kept: results of products, rotated or not, that both passes read as numbers.
    pub(super) fn find_to_keep(&mut self) {
        let nodes = self.graph.nodes();
        let Some(loss) = nodes.iter().position(|n| n.op == Op::CrossEntropy) else { return };
        if !self.multiplies_bf16() {
            return;
        }
        let by_loss: Vec<usize> = self.loss.iter().flat_map(Loss::absorbed).collect();
        for (index, node) in nodes.iter().enumerate().skip(loss + 1) {
            let paired = matches!(node.op, Op::Gradient(Gradient::Linear { weight: Some(w), .. }) if self.is_paired(w));
            for (nth, arg) in node.args.iter().enumerate() {
                let root = self.root(*arg);
                let of_product = matches!(nodes[root].op, Op::Linear { .. } | Op::Rope(_));
                let as_numbers = !by_loss.contains(&index) && (nth > 0 || !paired);
                if root < loss && of_product && as_numbers && !self.absorbed[root] && self.halves(root) {
                    self.to_keep.insert(root);
                }
            }
        }
        self.pass = loss;
    }

    /// Whether a value takes about half the memory in BF16: rows are whole chunks there.
    fn halves(&self, root: usize) -> bool {
        let shape = &self.graph.nodes()[root].shape;
        let width = shape.width();
        shape.rows() == Symbol::Tokens && width.next_multiple_of(CHUNK) <= width + width / 5
    }

    /// Keeps a value that is there.
    pub(super) fn keep(&mut self, index: usize) -> Result<(), CompileError> {
        match self.values[index] {
            Some(from) if self.to_keep.contains(&index) => {
                let form: Form = (ActivationKind::Bf16, 1, from.width);
                let to = self.new_operand(from.rows, form, &self.graph.nodes()[index].label)?;
                self.push(Task::Operand { from, to });
                self.kept.insert(index, to);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A value that is kept in BF16 and not brought back yet.
    pub(super) fn kept(&self, value: ValueId) -> Option<Operand> {
        self.kept.get(&self.root(value)).copied()
    }

    /// Brings back what a node of the backward pass reads and was kept.
    pub(super) fn bring_back(&mut self, index: usize) -> Result<(), CompileError> {
        if index <= self.pass || self.kept.is_empty() {
            return Ok(());
        }
        // No sooner than what the backward pass computed last is there.
        let after =
            self.values[self.pass + 1..index].iter().rev().find_map(|v| v.map(|matrix| matrix.buffer));
        let roots: Vec<usize> = self.graph.nodes()[index].args.iter().map(|arg| self.root(*arg)).collect();
        for root in roots {
            let Some(from) = self.kept.remove(&root) else { continue };
            let to = self.matrix(from.rows, from.width, &self.graph.nodes()[root].label)?;
            self.push(Task::Derivative(Box::new(Derivative::Widened { from, to, after })));
            self.values[root] = Some(to);
        }
        Ok(())
    }
}
