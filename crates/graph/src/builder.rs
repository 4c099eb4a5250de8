//! Building a graph, with every shape checked on the way.

use std::collections::HashMap;

use crate::dim::{Shape, Symbol};
use crate::error::GraphError;
use crate::graph::{CacheId, CacheSpec, Graph, Node, ValueId, WeightId, WeightSpec};
use crate::op::{ActivationKind, Attention, Experts, GroupScore, Norm, Op, Rope, Route};

/// Builds a graph, checking shapes as it goes.
///
/// Labels are the caller's scope: [`Builder::scope`] sets it, and errors name it.
#[derive(Debug, Default)]
pub struct Builder {
    nodes: Vec<Node>,
    weights: Vec<WeightSpec>,
    by_name: HashMap<String, WeightId>,
    caches: Vec<CacheSpec>,
    label: String,
}

type Built = Result<ValueId, GraphError>;

impl Builder {
    /// An empty graph.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Labels the ops that follow.
    pub fn scope(&mut self, label: impl Into<String>) {
        self.label = label.into();
    }

    /// Declares the weight `name`; a second declaration of the same name is the same weight (a tied table).
    ///
    /// # Errors
    /// When it was declared with another shape.
    pub fn weight(&mut self, name: &str, shape: &[usize]) -> Result<WeightId, GraphError> {
        if let Some(&id) = self.by_name.get(name) {
            let first = &self.weights[id.0].shape;
            return match first == shape {
                true => Ok(id),
                false => Err(GraphError::Weight {
                    name: name.to_owned(),
                    first: first.clone(),
                    second: shape.to_vec(),
                }),
            };
        }
        let id = WeightId(self.weights.len());
        self.weights.push(WeightSpec { name: name.to_owned(), shape: shape.to_vec() });
        self.by_name.insert(name.to_owned(), id);
        Ok(id)
    }

    /// Declares a layer's KV cache.
    pub fn cache(&mut self, heads: usize, key_width: usize, value_width: usize) -> CacheId {
        self.caches.push(CacheSpec { heads, key_width, value_width });
        CacheId(self.caches.len() - 1)
    }

    /// The shape of a value.
    pub fn shape(&self, value: ValueId) -> &Shape {
        &self.nodes[value.0].shape
    }

    fn push(&mut self, op: Op, args: &[ValueId], shape: Shape) -> ValueId {
        self.nodes.push(Node { op, args: args.to_vec(), shape, label: self.label.clone() });
        ValueId(self.nodes.len() - 1)
    }

    fn wrong(&self, op: &Op, args: &[ValueId], what: impl Into<String>) -> GraphError {
        let mut shapes: Vec<String> = args.iter().map(|a| self.shape(*a).to_string()).collect();
        shapes.extend(op.weights().iter().map(|w| {
            let spec = &self.weights[w.0];
            format!("{} {:?}", spec.name, spec.shape)
        }));
        GraphError::Shape {
            op: op.name(),
            label: self.label.clone(),
            what: what.into(),
            shapes: shapes.join(", "),
        }
    }

    fn expect_weight(
        &self,
        op: &Op,
        args: &[ValueId],
        id: WeightId,
        shape: &[usize],
    ) -> Result<(), GraphError> {
        match self.weights[id.0].shape == shape {
            true => Ok(()),
            false => {
                Err(self.wrong(op, args, format!("weight \"{}\" must be {shape:?}", self.weights[id.0].name)))
            }
        }
    }

    fn expect_not_routing(&self, op: &Op, args: &[ValueId]) -> Result<(), GraphError> {
        match args.iter().any(|a| matches!(self.nodes[a.0].op, Op::Route(_))) {
            true => Err(self.wrong(op, args, "a routing is for experts only")),
            false => Ok(()),
        }
    }

    /// [`Op::Input`]: numbers from the caller, `[tokens, width]`.
    pub fn input(&mut self, slot: usize, width: usize) -> ValueId {
        self.push(Op::Input { slot }, &[], Shape::new(Symbol::Tokens, [width]))
    }

    /// [`Op::Embed`]: the tokens' rows of `table` `[vocabulary, D]`.
    ///
    /// # Errors
    /// When the table is not two-dimensional.
    pub fn embed(&mut self, table: WeightId) -> Built {
        let op = Op::Embed { table };
        let [_, width] = self.weights[table.0].shape[..] else {
            return Err(self.wrong(&op, &[], "the table must be [vocabulary, width]"));
        };
        Ok(self.push(op, &[], Shape::new(Symbol::Tokens, [width])))
    }

    /// [`Op::Linear`]: x `[R, in]`, weight `[out, in]` → `[R, out]`.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn linear(&mut self, x: ValueId, weight: WeightId, bias: Option<WeightId>) -> Built {
        let op = Op::Linear { weight, bias };
        self.expect_not_routing(&op, &[x])?;
        let (&[out, inner], &[width]) = (&self.weights[weight.0].shape[..], self.shape(x).features()) else {
            return Err(self.wrong(&op, &[x], "the argument must be [rows, in] and the weight [out, in]"));
        };
        if width != inner {
            return Err(self.wrong(&op, &[x], format!("{width} numbers meet a weight for {inner}")));
        }
        if let Some(b) = bias {
            self.expect_weight(&op, &[x], b, &[out])?;
        }
        let rows = self.shape(x).rows();
        Ok(self.push(op, &[x], Shape::new(rows, [out])))
    }

    /// [`Op::HeadLinear`]: x `[R, H, in]`, weight `[H, out, in]` → `[R, H, out]`.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn head_linear(&mut self, x: ValueId, weight: WeightId) -> Built {
        let op = Op::HeadLinear { weight };
        self.expect_not_routing(&op, &[x])?;
        match (&self.weights[weight.0].shape[..], self.shape(x).features()) {
            (&[heads, out, inner], &[h, width]) if h == heads && width == inner => {
                let rows = self.shape(x).rows();
                Ok(self.push(op, &[x], Shape::new(rows, [heads, out])))
            }
            _ => Err(self.wrong(&op, &[x], "the argument must be [rows, H, in] and the weight [H, out, in]")),
        }
    }

    /// [`Op::Norm`] over the last dimension; the shape stays.
    ///
    /// # Errors
    /// When weight or bias is not as wide as the last dimension.
    pub fn norm(&mut self, x: ValueId, norm: Norm) -> Built {
        let op = Op::Norm(norm);
        self.expect_not_routing(&op, &[x])?;
        let width = self.shape(x).last();
        for w in [norm.weight, norm.bias].into_iter().flatten() {
            self.expect_weight(&op, &[x], w, &[width])?;
        }
        let shape = self.shape(x).clone();
        Ok(self.push(op, &[x], shape))
    }

    /// [`Op::Rope`] on `[tokens, H, D]`; the shape stays.
    ///
    /// # Errors
    /// When the argument has no heads, is not one row a token, or a head is narrower than the rotated part.
    pub fn rope(&mut self, x: ValueId, rope: Rope) -> Built {
        let end = rope.start + rope.rotated();
        let op = Op::Rope(rope);
        self.expect_not_routing(&op, &[x])?;
        let shape = self.shape(x).clone();
        match shape.features() {
            &[_, width] if width >= end && shape.rows() == Symbol::Tokens => Ok(self.push(op, &[x], shape)),
            _ => Err(self.wrong(
                &op,
                &[x],
                format!("the argument must be [tokens, H, D] with D at least {end}"),
            )),
        }
    }

    /// [`Op::Attention`]: q `[tokens, H, Dk]`, k `[tokens, G, Dk]`, v `[tokens, G, Dv]` → `[tokens, H, Dv]`.
    ///
    /// # Errors
    /// When the shapes disagree with each other or the cache, or G does not divide H.
    pub fn attention(&mut self, q: ValueId, k: ValueId, v: ValueId, attention: Attention) -> Built {
        let op = Op::Attention(attention);
        let args = [q, k, v];
        self.expect_not_routing(&op, &args)?;
        let cache = self.caches[attention.cache.0];
        let features = |x: ValueId| match (self.shape(x).features(), self.shape(x).rows()) {
            (&[heads, width], Symbol::Tokens) => Some((heads, width)),
            _ => None,
        };
        let (Some((heads, qw)), Some(key), Some(value)) = (features(q), features(k), features(v)) else {
            return Err(self.wrong(&op, &args, "every argument must be [tokens, heads, width]"));
        };
        if key != (cache.heads, cache.key_width) || value != (cache.heads, cache.value_width) {
            return Err(self.wrong(&op, &args, format!("keys and values must fit the cache {cache:?}")));
        }
        if qw != key.1 || key.0 == 0 || heads % key.0 != 0 {
            return Err(self.wrong(&op, &args, "queries must be as wide as keys, in whole groups of heads"));
        }
        if let Some(s) = attention.sinks {
            self.expect_weight(&op, &args, s, &[heads])?;
        }
        if attention.window == Some(0) {
            return Err(self.wrong(&op, &args, "a window of 0 positions sees nothing"));
        }
        Ok(self.push(op, &args, Shape::new(Symbol::Tokens, [heads, value.1])))
    }

    /// [`Op::Activation`]; the shape stays.
    ///
    /// # Errors
    /// When the argument is a routing.
    pub fn activation(&mut self, x: ValueId, kind: ActivationKind) -> Built {
        self.elementwise(Op::Activation(kind), &[x])
    }

    /// [`Op::GatedActivation`]: f(gate) · up.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn gated_activation(&mut self, gate: ValueId, up: ValueId, kind: ActivationKind) -> Built {
        self.elementwise(Op::GatedActivation(kind), &[gate, up])
    }

    /// [`Op::Add`].
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn add(&mut self, a: ValueId, b: ValueId) -> Built {
        self.elementwise(Op::Add, &[a, b])
    }

    /// [`Op::Multiply`].
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn multiply(&mut self, a: ValueId, b: ValueId) -> Built {
        self.elementwise(Op::Multiply, &[a, b])
    }

    /// [`Op::Scale`].
    ///
    /// # Errors
    /// When the argument is a routing.
    pub fn scale(&mut self, x: ValueId, factor: f32) -> Built {
        self.elementwise(Op::Scale { factor }, &[x])
    }

    /// [`Op::After`].
    ///
    /// # Errors
    /// When an argument is a routing.
    pub fn after(&mut self, x: ValueId, y: ValueId) -> Built {
        self.expect_not_routing(&Op::After, &[x, y])?;
        let shape = self.shape(x).clone();
        Ok(self.push(Op::After, &[x, y], shape))
    }

    /// [`Op::Softcap`].
    ///
    /// # Errors
    /// When the argument is a routing.
    pub fn softcap(&mut self, x: ValueId, cap: f32) -> Built {
        self.elementwise(Op::Softcap { cap }, &[x])
    }

    fn elementwise(&mut self, op: Op, args: &[ValueId]) -> Built {
        self.expect_not_routing(&op, args)?;
        let shape = self.shape(args[0]).clone();
        match args.iter().all(|a| *self.shape(*a) == shape) {
            true => Ok(self.push(op, args, shape)),
            false => Err(self.wrong(&op, args, "the arguments must have one shape")),
        }
    }

    /// [`Op::Concat`] along the last dimension.
    ///
    /// # Errors
    /// When the other dimensions differ.
    pub fn concat(&mut self, a: ValueId, b: ValueId) -> Built {
        let op = Op::Concat;
        self.expect_not_routing(&op, &[a, b])?;
        let (first, second) = (self.shape(a), self.shape(b));
        let (Some((last, outer)), Some((more, other))) =
            (first.features().split_last(), second.features().split_last())
        else {
            return Err(self.wrong(&op, &[a, b], "there is no last dimension"));
        };
        if outer != other || first.rows() != second.rows() {
            return Err(self.wrong(&op, &[a, b], "all dimensions but the last must agree"));
        }
        let mut features = outer.to_vec();
        features.push(last + more);
        let shape = Shape::new(first.rows(), features);
        Ok(self.push(op, &[a, b], shape))
    }

    /// [`Op::Slice`] of the last dimension.
    ///
    /// # Errors
    /// When the range is empty or beyond the last dimension.
    pub fn slice(&mut self, x: ValueId, start: usize, length: usize) -> Built {
        let op = Op::Slice { start, length };
        self.expect_not_routing(&op, &[x])?;
        let shape = self.shape(x);
        let within = start.checked_add(length).is_some_and(|end| end <= shape.last());
        let Some((_, outer)) = shape.features().split_last().filter(|_| within && length > 0) else {
            let what = format!(
                "numbers {start} to {} of the last dimension do not exist",
                start.saturating_add(length)
            );
            return Err(self.wrong(&op, &[x], what));
        };
        let mut features = outer.to_vec();
        features.push(length);
        let shape = Shape::new(shape.rows(), features);
        Ok(self.push(op, &[x], shape))
    }

    /// [`Op::Reshape`] of the features.
    ///
    /// # Errors
    /// When the number of numbers changes.
    pub fn reshape(&mut self, x: ValueId, features: &[usize]) -> Built {
        let op = Op::Reshape { features: features.to_vec() };
        self.expect_not_routing(&op, &[x])?;
        let shape = Shape::new(self.shape(x).rows(), features);
        match shape.width() == self.shape(x).width() {
            true => Ok(self.push(op, &[x], shape)),
            false => {
                let what = format!("{} numbers a row do not make {shape}", self.shape(x).width());
                Err(self.wrong(&op, &[x], what))
            }
        }
    }

    /// [`Op::Route`]: logits `[R, E]` → a routing `[R, K]`, for [`Builder::experts`].
    ///
    /// # Errors
    /// When there are fewer experts than a token uses, or groups do not divide them.
    pub fn route(&mut self, logits: ValueId, route: Route) -> Built {
        let op = Op::Route(route);
        self.expect_not_routing(&op, &[logits])?;
        let &[experts] = self.shape(logits).features() else {
            return Err(self.wrong(&op, &[logits], "the argument must be [rows, experts]"));
        };
        if let Some(b) = route.bias {
            self.expect_weight(&op, &[logits], b, &[experts])?;
        }
        let mut eligible = experts;
        if let Some(g) = route.groups {
            if g.count == 0 || experts % g.count != 0 || g.keep == 0 || g.keep > g.count {
                return Err(self.wrong(&op, &[logits], format!("{g:?} does not divide {experts} experts")));
            }
            eligible = experts / g.count * g.keep;
            if g.score == GroupScore::BestTwo && experts / g.count < 2 {
                return Err(self.wrong(&op, &[logits], "groups of one expert have no two best"));
            }
        }
        if route.top == 0 || route.top > eligible {
            let what = format!("a token cannot use {} of {eligible} eligible experts", route.top);
            return Err(self.wrong(&op, &[logits], what));
        }
        let rows = self.shape(logits).rows();
        Ok(self.push(op, &[logits], Shape::new(rows, [route.top])))
    }

    /// [`Op::Experts`]: x `[R, D]` and a routing → `[R, D]`.
    ///
    /// # Errors
    /// When the weights' shapes disagree, or the second argument is not a routing over as many experts.
    pub fn experts(&mut self, x: ValueId, routing: ValueId, experts: Experts) -> Built {
        let op = Op::Experts(experts);
        let args = [x, routing];
        self.expect_not_routing(&op, &[x])?;
        let Op::Route(_) = self.nodes[routing.0].op else {
            return Err(self.wrong(&op, &args, "the second argument must be a routing"));
        };
        let routed = self.shape(self.nodes[routing.0].args[0]).last();
        let (&[width], &[count, inner, _]) =
            (self.shape(x).features(), &self.weights[experts.gate.0].shape[..])
        else {
            return Err(self.wrong(&op, &args, "the argument must be [rows, D] and the gate [E, F, D]"));
        };
        if routed != count || self.shape(x).rows() != self.shape(routing).rows() {
            return Err(self.wrong(&op, &args, format!("the routing is over {routed} experts")));
        }
        self.expect_weight(&op, &args, experts.gate, &[count, inner, width])?;
        self.expect_weight(&op, &args, experts.up, &[count, inner, width])?;
        self.expect_weight(&op, &args, experts.down, &[count, width, inner])?;
        let shape = self.shape(x).clone();
        Ok(self.push(op, &args, shape))
    }

    /// [`Op::Select`]: the rows whose results are wanted.
    ///
    /// # Errors
    /// When the argument is not one row a token.
    pub fn select(&mut self, x: ValueId) -> Built {
        let op = Op::Select;
        self.expect_not_routing(&op, &[x])?;
        if self.shape(x).rows() != Symbol::Tokens {
            return Err(self.wrong(&op, &[x], "rows are chosen from tokens, once"));
        }
        let shape = Shape::new(Symbol::Outputs, self.shape(x).features());
        Ok(self.push(op, &[x], shape))
    }

    /// The finished graph, for these values.
    pub fn finish(self, outputs: &[ValueId]) -> Graph {
        Graph { nodes: self.nodes, weights: self.weights, caches: self.caches, outputs: outputs.to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_op_place_and_shapes() {
        let mut b = Builder::new();
        let table = b.weight("embed", &[100, 8]).unwrap();
        let x = b.embed(table).unwrap();
        let w = b.weight("q", &[16, 9]).unwrap();
        b.scope("layers.0.attention.q");
        let e = b.linear(x, w, None).unwrap_err();
        assert_eq!(
            e.to_string(),
            "linear \"layers.0.attention.q\": 8 numbers meet a weight for 9 (arguments: [tokens, 8], q [16, 9])"
        );
    }

    #[test]
    fn a_weight_declared_twice_is_one() {
        let mut b = Builder::new();
        assert_eq!(b.weight("embed", &[4, 8]), b.weight("embed", &[4, 8]));
        assert!(matches!(b.weight("embed", &[8, 4]), Err(GraphError::Weight { .. })));
    }

    #[test]
    fn impossible_ops_are_refused() {
        let mut b = Builder::new();
        let x = b.input(0, 12);
        assert!(b.reshape(x, &[5, 3]).is_err());
        assert!(b.slice(x, 8, 5).is_err());
        assert!(b.slice(x, usize::MAX, 2).is_err());
        let chosen = b.select(x).unwrap();
        assert!(b.select(chosen).is_err());
        assert!(b.add(x, chosen).is_err());
        let route = Route {
            top: 3,
            scoring: crate::op::Scoring::Softmax,
            bias: None,
            groups: Some(crate::op::Groups { count: 6, keep: 1, score: crate::op::GroupScore::Best }),
            normalize: true,
            scale: 1.0,
        };
        let e = b.route(x, route).unwrap_err();
        assert!(e.to_string().contains("3 of 2 eligible experts"), "{e}");
    }
}
