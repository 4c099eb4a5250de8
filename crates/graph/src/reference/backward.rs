//! Derivatives, one row at a time.

use super::real::Real;
use super::{Interpreter, Place, ops};
use crate::derivative::{Backward, Gradient};
use crate::device::Step;
use crate::graph::{Node, WeightId};
use crate::op::{ActivationKind, Attention, Experts, Norm, NormKind, Route, Scoring};

/// −ln softmax(logits)[target].
pub(super) fn cross_entropy<R: Real>(logits: &[R], target: R) -> R {
    let wide = |x: &R| -> f64 { (*x).into() };
    let largest = logits.iter().map(wide).fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|x| (wide(x) - largest).exp()).sum();
    R::of(largest + sum.ln() - wide(&logits[wide(&target) as usize]))
}

/// f′(x).
fn slope(kind: ActivationKind, x: f64) -> f64 {
    let sigmoid = 1.0 / (1.0 + (-x).exp());
    match kind {
        ActivationKind::Silu => sigmoid * (1.0 + x * (1.0 - sigmoid)),
        ActivationKind::Gelu => {
            let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
            let below = match x {
                0.0 => 0.5,
                _ => ops::activation(kind, x) / x,
            };
            below + x * density
        }
        ActivationKind::GeluTanh => {
            let factor = (2.0 / std::f64::consts::PI).sqrt();
            let tanh = (factor * (x + 0.044715 * x.powi(3))).tanh();
            let inner = factor * (1.0 + 3.0 * 0.044715 * x * x);
            0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * inner
        }
        ActivationKind::Relu => f64::from(u8::from(x > 0.0)),
        ActivationKind::Sigmoid => sigmoid * (1.0 - sigmoid),
    }
}

/// The normed numbers before gain and shift, and what they were multiplied by.
fn normed<R: Real>(x: &[R], norm: &Norm) -> (Vec<f64>, f64) {
    let (mean, scale) = ops::moments(x, norm);
    (x.iter().map(|&x| (x.into() - mean) * scale).collect(), scale)
}

fn norm<R: Real>(x: &[R], dy: &[R], norm: &Norm, weight: Option<&[R]>) -> Vec<R> {
    let (normed, scale) = normed(x, norm);
    let gain = |i: usize| weight.map_or(1.0, |w| w[i].into());
    let by_normed: Vec<f64> = dy.iter().enumerate().map(|(i, &dy)| dy.into() * gain(i)).collect();
    let mean = |numbers: &mut dyn Iterator<Item = f64>| numbers.sum::<f64>() / x.len() as f64;
    let off = match norm.kind {
        NormKind::Rms => 0.0,
        NormKind::Layer => mean(&mut by_normed.iter().copied()),
    };
    let along = mean(&mut by_normed.iter().zip(&normed).map(|(d, n)| d * n));
    by_normed.iter().zip(&normed).map(|(d, n)| R::of(scale * (d - off - n * along))).collect()
}

/// Derivatives by router logits from those by the weights of the chosen experts.
fn route<R: Real>(logits: &[R], chosen: &[u32], by_weights: &[R], route: &Route) -> Vec<R> {
    let scores: Vec<f64> = ops::router_scores(logits, route.scoring).into_iter().map(Into::into).collect();
    let by_weights: Vec<f64> = by_weights.iter().map(|&d| d.into() * f64::from(route.scale)).collect();
    let of_chosen = || chosen.iter().map(|&e| scores[e as usize]).zip(&by_weights);
    let sum: f64 = of_chosen().map(|(score, _)| score).sum::<f64>() + 1e-20;
    let along: f64 = of_chosen().map(|(score, d)| score * d).sum::<f64>() / sum;
    let mut by_scores = vec![0.0; scores.len()];
    for (&expert, d) in chosen.iter().zip(&by_weights) {
        by_scores[expert as usize] = if route.normalize { (d - along) / sum } else { *d };
    }
    let mean: f64 = scores.iter().zip(&by_scores).map(|(s, d)| s * d).sum();
    let by_logit = |(s, d): (&f64, &f64)| match route.scoring {
        Scoring::Sigmoid => s * (1.0 - s) * d,
        Scoring::Softmax => s * (d - mean),
    };
    scores.iter().zip(&by_scores).map(by_logit).map(R::of).collect()
}

/// Adds Σ_i dy_i · W_i to `dx`: the transpose of a product.
fn add_transposed<R: Real>(dx: &mut [R], dy: &[R], w: &[R]) {
    let inner = dx.len();
    for (i, dx) in dx.iter_mut().enumerate() {
        let sum: f64 = dy.iter().enumerate().map(|(o, &dy)| dy.into() * w[o * inner + i].into()).sum();
        *dx = *dx + R::of(sum);
    }
}

/// Adds dy xᵀ to the gradient of a weight.
fn add_outer<R: Real>(gradient: &mut [R], dy: &[R], x: &[R]) {
    for (row, &dy) in gradient.chunks_exact_mut(x.len()).zip(dy) {
        row.iter_mut().zip(x).for_each(|(g, &x)| *g = *g + dy * x);
    }
}

/// What one expert makes of a row, and the derivatives on the way.
struct Expert<R> {
    /// f(gate) · up.
    hidden: Vec<R>,
    /// Before the weight of the routing.
    result: Vec<R>,
    by_gate: Vec<R>,
    by_up: Vec<R>,
}

impl<R: Real> Interpreter<R> {
    fn weight(&self, id: WeightId) -> &[R] {
        &self.weights[id.index()]
    }

    /// The derivatives by q, k and v, and by the sinks.
    fn attention(&self, a: &Attention, node: &Node, places: &[Place]) -> ([Vec<R>; 3], Vec<R>) {
        let spec = self.graph.caches()[a.cache.index()];
        let [q, k, v, dy] = [0, 1, 2, 3].map(|i| self.numbers(node.args[i]));
        let heads = self.graph.node(node.args[0]).shape.features()[0];
        let (kw, vw) = (spec.key_width, spec.value_width);
        let mut by = [q, k, v].map(|x| vec![0.0; x.len()]);
        let mut by_sinks = vec![0.0; heads];
        let wide = |x: R| -> f64 { x.into() };
        for (i, place) in places.iter().enumerate() {
            let first = a.window.map_or(0, |w| (place.position + 1).saturating_sub(w));
            // The tokens of a sequence stand together in the step.
            let tokens = i - (place.position - first)..=i;
            for (h, by_sink) in by_sinks.iter_mut().enumerate() {
                let g = h / (heads / spec.heads);
                let query = (i * heads + h) * kw;
                let result = (i * heads + h) * vw;
                let key = |t: usize| (t * spec.heads + g) * kw;
                let value = |t: usize| (t * spec.heads + g) * vw;
                let keys = tokens.clone().map(|t| &k[key(t)..][..kw]);
                let sink = a.sinks.map(|s| self.weight(s)[h]);
                let (weights, of_sink) = ops::attention_weights(&q[query..][..kw], keys, a, sink);
                let by_weight =
                    |t: usize| -> f64 { (0..vw).map(|d| wide(dy[result + d]) * wide(v[value(t) + d])).sum() };
                let by_weights: Vec<f64> = tokens.clone().map(by_weight).collect();
                let along: f64 = weights.iter().zip(&by_weights).map(|(w, d)| w * d).sum();
                *by_sink -= of_sink * along;
                for ((t, weight), by_weight) in tokens.clone().zip(&weights).zip(&by_weights) {
                    let mut by_score = weight * (by_weight - along) * f64::from(a.scale);
                    if let Some(cap) = a.softcap {
                        let product: f64 = (0..kw).map(|d| wide(q[query + d]) * wide(k[key(t) + d])).sum();
                        by_score *= 1.0 - (product * f64::from(a.scale) / f64::from(cap)).tanh().powi(2);
                    }
                    for d in 0..kw {
                        by[0][query + d] += by_score * wide(k[key(t) + d]);
                        by[1][key(t) + d] += by_score * wide(q[query + d]);
                    }
                    for d in 0..vw {
                        by[2][value(t) + d] += weight * wide(dy[result + d]);
                    }
                }
            }
        }
        let narrow = |x: Vec<f64>| x.into_iter().map(R::of).collect();
        (by.map(narrow), narrow(by_sinks))
    }

    /// What expert `expert` makes of `x`, and the derivatives where that by its weighted result is `dy`.
    fn expert(&self, e: &Experts, expert: u32, share: R, x: &[R], dy: &[R]) -> Expert<R> {
        let inner = self.graph.weight(e.gate).shape[1];
        let of = |id| &self.weight(id)[expert as usize * inner * x.len()..][..inner * x.len()];
        let (gate, up) = (ops::linear(x, of(e.gate), x.len()), ops::linear(x, of(e.up), x.len()));
        let active: Vec<R> = gate.iter().map(|&g| ops::activation(e.activation, g)).collect();
        let hidden: Vec<R> = active.iter().zip(&up).map(|(a, u)| *a * *u).collect();
        let result = ops::linear(&hidden, of(e.down), inner);
        let mut by_hidden = vec![R::default(); inner];
        add_transposed(&mut by_hidden, dy, of(e.down));
        by_hidden.iter_mut().for_each(|d| *d = *d * share);
        let by_up = by_hidden.iter().zip(&active).map(|(d, a)| *d * *a).collect();
        let slopes = gate.iter().map(|&g| R::of(slope(e.activation, g.into())));
        let by_gate = by_hidden.iter().zip(&up).zip(slopes).map(|((d, u), s)| *d * *u * s).collect();
        Expert { hidden, result, by_gate, by_up }
    }

    pub(super) fn backward(&self, op: &Backward, node: &Node, step: &Step<'_>, places: &[Place]) -> Vec<R> {
        let arg = |i: usize| self.numbers(node.args[i]);
        let shape = |i: usize| &self.graph.node(node.args[i]).shape;
        match op {
            Backward::Linear { weight } => {
                let dys = arg(0).chunks_exact(shape(0).width());
                let mut dx = vec![R::default(); dys.len() * node.shape.width()];
                for (dx, dy) in dx.chunks_exact_mut(node.shape.width()).zip(dys) {
                    add_transposed(dx, dy, self.weight(*weight));
                }
                dx
            }
            Backward::HeadLinear { weight } => {
                let (heads, out, inner) = (node.shape.features()[0], shape(0).last(), node.shape.last());
                let dys = arg(0).chunks_exact(out);
                let mut dx = vec![R::default(); dys.len() * inner];
                for (h, (dx, dy)) in dx.chunks_exact_mut(inner).zip(dys).enumerate() {
                    add_transposed(dx, dy, &self.weight(*weight)[h % heads * out * inner..][..out * inner]);
                }
                dx
            }
            Backward::Norm(n) => {
                let last = node.shape.last();
                let weight = n.weight.map(|w| self.weight(w));
                let rows = arg(0).chunks_exact(last).zip(arg(1).chunks_exact(last));
                rows.flat_map(|(x, dy)| norm(x, dy, n, weight)).collect()
            }
            Backward::Attention(a) => {
                let (by, _) = self.attention(a, node, places);
                let widths = [0, 1, 2].map(|i| shape(i).width());
                let row = |i: usize| {
                    (0..3).flat_map({
                        let by = &by;
                        move |x| by[x][i * widths[x]..][..widths[x]].iter().copied()
                    })
                };
                (0..places.len()).flat_map(row).collect()
            }
            Backward::Activation(kind) => {
                let one = |(x, dy): (&R, &R)| R::of(slope(*kind, (*x).into())) * *dy;
                arg(0).iter().zip(arg(1)).map(one).collect()
            }
            Backward::Softcap { cap } => {
                let one = |(x, dy): (&R, &R)| {
                    let x: f64 = (*x).into();
                    R::of(1.0 - (x / f64::from(*cap)).tanh().powi(2)) * *dy
                };
                arg(0).iter().zip(arg(1)).map(one).collect()
            }
            Backward::Slice { start } => {
                let (length, width) = (shape(0).last(), node.shape.last());
                let mut dx = vec![R::default(); arg(0).len() / length * width];
                for (dx, dy) in dx.chunks_exact_mut(width).zip(arg(0).chunks_exact(length)) {
                    dx[*start..start + length].copy_from_slice(dy);
                }
                dx
            }
            Backward::Select => {
                let width = node.shape.width();
                let mut dx = vec![R::default(); places.len() * width];
                for (&output, dy) in step.outputs.iter().zip(arg(0).chunks_exact(width)) {
                    dx[output as usize * width..][..width].copy_from_slice(dy);
                }
                dx
            }
            Backward::Route(r) => {
                let (experts, top) = (shape(0).width(), shape(1).width());
                let chosen = self.values[node.args[1].index()].experts.chunks_exact(top);
                let rows = arg(0).chunks_exact(experts).zip(chosen).zip(arg(2).chunks_exact(top));
                rows.flat_map(|((logits, chosen), d)| route(logits, chosen, d, r)).collect()
            }
            Backward::Experts(e) => {
                let (width, top) = (shape(0).width(), shape(1).width());
                let routing = &self.values[node.args[1].index()];
                let mut out = Vec::new();
                for (i, (x, dy)) in arg(0).chunks_exact(width).zip(arg(2).chunks_exact(width)).enumerate() {
                    let (mut dx, mut by_shares) = (vec![R::default(); width], Vec::new());
                    for j in i * top..(i + 1) * top {
                        let number = routing.experts[j];
                        let expert = self.expert(e, number, routing.numbers[j], x, dy);
                        let inner = expert.hidden.len();
                        let of = |id| &self.weight(id)[number as usize * inner * width..][..inner * width];
                        add_transposed(&mut dx, &expert.by_gate, of(e.gate));
                        add_transposed(&mut dx, &expert.by_up, of(e.up));
                        by_shares.push(ops::linear(dy, &expert.result, width)[0]);
                    }
                    out.extend(dx.into_iter().chain(by_shares));
                }
                out
            }
            Backward::CrossEntropy => {
                let width = node.shape.width();
                let rows = arg(0).chunks_exact(width).zip(arg(1)).zip(arg(2));
                let row = |((logits, target), factor): ((&[R], &R), &R)| {
                    let mut dx = ops::router_scores(logits, Scoring::Softmax);
                    let at = (*target).into() as usize;
                    dx[at] = dx[at] + R::of(-1.0);
                    dx.iter_mut().for_each(|d| *d = *d * *factor);
                    dx
                };
                rows.flat_map(row).collect()
            }
        }
    }

    pub(super) fn gather(&mut self, op: &Gradient, node: &Node, step: &Step<'_>, places: &[Place]) {
        // Taken out while it is added to, since the rest is read.
        let mut gradients: Vec<Vec<R>> =
            op.of().iter().map(|id| std::mem::take(&mut self.gradients[id.index()])).collect();
        self.add_gradients(op, node, step, places, &mut gradients);
        for (id, gradient) in op.of().into_iter().zip(gradients) {
            self.gradients[id.index()] = gradient;
        }
    }

    /// Adds to the gradients of the op's weights, in their order.
    fn add_gradients(
        &self,
        op: &Gradient,
        node: &Node,
        step: &Step<'_>,
        places: &[Place],
        gradients: &mut [Vec<R>],
    ) {
        let arg = |i: usize| self.numbers(node.args[i]);
        let shape = |i: usize| &self.graph.node(node.args[i]).shape;
        let rows = |i: usize, width: usize| arg(i).chunks_exact(width);
        match op {
            Gradient::Embed { .. } => {
                let width = shape(0).width();
                for (&token, dy) in step.tokens.iter().zip(rows(0, width)) {
                    ops::add_to(&mut gradients[0][token as usize * width..][..width], dy);
                }
            }
            Gradient::Linear { weight, bias } => {
                for (x, dy) in rows(0, shape(0).width()).zip(rows(1, shape(1).width())) {
                    if weight.is_some() {
                        add_outer(&mut gradients[0], dy, x);
                    }
                    if bias.is_some() {
                        ops::add_to(&mut gradients[usize::from(weight.is_some())], dy);
                    }
                }
            }
            Gradient::HeadLinear { .. } => {
                let (heads, inner, out) = (shape(0).features()[0], shape(0).last(), shape(1).last());
                for (h, (x, dy)) in rows(0, inner).zip(rows(1, out)).enumerate() {
                    add_outer(&mut gradients[0][h % heads * out * inner..][..out * inner], dy, x);
                }
            }
            Gradient::Norm(n) => {
                let last = shape(0).last();
                for (x, dy) in rows(0, last).zip(rows(1, last)) {
                    if n.weight.is_some() {
                        let (normed, _) = normed(x, n);
                        let by_gain: Vec<R> =
                            normed.into_iter().zip(dy).map(|(x, &dy)| R::of(x) * dy).collect();
                        ops::add_to(&mut gradients[0], &by_gain);
                    }
                    if n.bias.is_some() {
                        ops::add_to(&mut gradients[usize::from(n.weight.is_some())], dy);
                    }
                }
            }
            Gradient::Sinks(a) => {
                let (_, by_sinks) = self.attention(a, node, places);
                ops::add_to(&mut gradients[0], &by_sinks);
            }
            Gradient::Experts(e) => {
                let (width, top) = (shape(0).width(), shape(1).width());
                let routing = &self.values[node.args[1].index()];
                for (i, (x, dy)) in rows(0, width).zip(rows(2, width)).enumerate() {
                    for j in i * top..(i + 1) * top {
                        let (number, share) = (routing.experts[j], routing.numbers[j]);
                        let expert = self.expert(e, number, share, x, dy);
                        let inner = expert.hidden.len();
                        let at = number as usize * inner * width;
                        let weighted: Vec<R> = dy.iter().map(|d| *d * share).collect();
                        add_outer(&mut gradients[0][at..][..inner * width], &expert.by_gate, x);
                        add_outer(&mut gradients[1][at..][..inner * width], &expert.by_up, x);
                        add_outer(&mut gradients[2][at..][..inner * width], &weighted, &expert.hidden);
                    }
                }
            }
        }
    }
}
