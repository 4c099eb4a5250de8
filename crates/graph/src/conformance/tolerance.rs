//! How far a device may be from the reference.
//!
//! - Sums of products in f32 in any order: 2⁻²⁰ of the row's largest magnitude, times what cancels, taken together as
//!   2·10⁻⁵ of the row's largest magnitude plus 10⁻⁵; the same for exponentials and other functions.
//! - Keys and values kept as F16: a value moves by 2⁻¹¹ of itself, and a score by up to 2⁻¹¹ · Σ|q k|, which shifts
//!   weights between values: together 2⁻⁸ of the row's largest magnitude more.
//! - Keys and values kept as I8: what is right is the reference that rounds them, and queries, too. Weights may be
//!   rounded to 2⁻¹⁶ of the largest of a tile of 128 positions, each: together 2⁻⁹ of the largest magnitude of a value,
//!   and no more than 2⁻⁸ of the row's, unless nearly all cancels. A number between two steps may go either way, by
//!   which a score moves by 2⁻⁷ of one of its products: less than what is allowed for the weights.
//! - Activations rounded to integers in groups beside quantized weights: what is right is the reference that rounds
//!   too. What rounding may cost at all is half of a group's step for every number, so Σ_k |w_k| · step_k / 2 for
//!   every product; for experts that is carried through the gate (|f'| ≤ 1.13,
//!   |f(x)| ≤ |x|) to the second product. A quarter of it is allowed, since a number that lies between two steps may go
//!   either way.
//! - BF16 weights on a device with bf16 products: activations are cut to 8 significant bits, Σ_k |w_k x_k| / 256.

use autarky_quant::DType;

use super::{Case, LENGTHS};
use crate::device::{Abilities, Activations, CacheDType, Weights};
use crate::graph::{Node, WeightId};
use crate::op::Op;
use crate::reference::ops;

/// What every number of a sequence's results may differ by, beyond a share of its row's largest magnitude.
pub(super) struct Allowed {
    share: f32,
    /// One a number of the first output, or empty for none.
    extra: Vec<f32>,
    /// Numbers in a row of the first output.
    width: usize,
}

/// The allowance of every sequence of the case.
pub(super) fn allowed(case: &Case, abilities: &Abilities) -> Vec<Allowed> {
    let base = match case.cache {
        CacheDType::F32 => 2e-5,
        CacheDType::F16 if case.graph.caches().is_empty() => 2e-5,
        CacheDType::F16 => 4e-3,
        CacheDType::I8 => 4e-3,
    };
    let output = case.graph.node(case.graph.outputs()[0]);
    let width = output.shape.width();
    let quantized = |id: WeightId| {
        let dtype = case.weights.get(&case.graph.weight(id).name).map(|t| t.dtype);
        dtype.is_ok_and(|d| !d.is_float())
    };
    let rounded = case.graph.nodes().iter().any(|n| n.op.weights().iter().any(|w| quantized(*w)));
    let bf16 =
        case.graph.weights().iter().any(|w| case.weights.get(&w.name).is_ok_and(|t| t.dtype == DType::BF16));
    let bound = |sequence: usize| match abilities.activations {
        Activations::Int8 { group } if rounded => rounding_bound(case, output, sequence, group),
        _ => Vec::new(),
    };
    let share = if bf16 && abilities.bf16_products { 1e-2 } else { base };
    (0..LENGTHS.len()).map(|s| Allowed { share, extra: bound(s), width }).collect()
}

/// What is wrong with `found` where `right` is right: at most the worst number.
pub(super) fn compare(sequence: usize, right: &[f32], found: &[f32], allowed: &Allowed) -> Option<String> {
    if right.len() != found.len() {
        return Some(format!("sequence {sequence}: {} numbers where {} are right", found.len(), right.len()));
    }
    let mut worst: Option<(f32, String)> = None;
    for (row, (r, f)) in right.chunks(allowed.width).zip(found.chunks(allowed.width)).enumerate() {
        let largest = r.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        for (i, (&r, &f)) in r.iter().zip(f).enumerate() {
            let extra = allowed.extra.get(row * allowed.width + i).copied().unwrap_or(0.0);
            let limit = allowed.share * largest + 1e-5 + 0.25 * extra;
            let over = (r - f).abs() / limit;
            if (over > 1.0 || over.is_nan()) && worst.as_ref().is_none_or(|w| over > w.0 || over.is_nan()) {
                let what =
                    format!("sequence {sequence}, row {row}, number {i}: {f} where {r} ± {limit} is right");
                worst = Some((over, what));
            }
        }
    }
    worst.map(|w| w.1)
}

/// Σ_k |w_k| · (half a step of x's group + what x is off already), for every row of W (`inner` wide).
fn product_bound(x: &[f32], off: &[f32], w: &[f32], group: usize) -> Vec<f32> {
    let of_row = ops::largest(x);
    let half_steps =
        x.chunks(group).flat_map(|g| std::iter::repeat_n(ops::step(of_row, ops::largest(g)) / 2.0, g.len()));
    // An argument that is off may also be rounded by a slightly larger step.
    let moved: Vec<f32> = half_steps.zip(off).map(|(step, off)| step + 1.01 * off).collect();
    w.chunks(x.len()).map(|row| row.iter().zip(&moved).map(|(w, m)| w.abs() * m).sum()).collect()
}

fn product(x: &[f32], w: &[f32]) -> Vec<f32> {
    w.chunks(x.len()).map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
}

/// The bound for graphs of one op on the first input; larger graphs with quantized weights are not in the suite.
fn rounding_bound(case: &Case, node: &Node, sequence: usize, group: usize) -> Vec<f32> {
    let weight = |id: WeightId| {
        let name = &case.graph.weight(id).name;
        case.weights.get(name).and_then(|t| t.to_f32(name)).unwrap_or_default()
    };
    let x = case.inputs.first().map_or(&[][..], |slot| &slot[sequence]);
    match &node.op {
        Op::Linear { weight: w, .. } => {
            let inner = case.graph.weight(*w).shape[1];
            let w = weight(*w);
            x.chunks(inner).flat_map(|x| product_bound(x, &vec![0.0; inner], &w, group)).collect()
        }
        Op::HeadLinear { weight: w } => {
            let [heads, out, inner] = case.graph.weight(*w).shape[..] else { return Vec::new() };
            let w = weight(*w);
            let head = |(h, x): (usize, &[f32])| {
                product_bound(x, &vec![0.0; inner], &w[h % heads * out * inner..][..out * inner], group)
            };
            x.chunks(inner).enumerate().flat_map(head).collect()
        }
        Op::Experts(e) => {
            let [_, inner, width] = case.graph.weight(e.gate).shape[..] else { return Vec::new() };
            let (gate, up, down) = (weight(e.gate), weight(e.up), weight(e.down));
            let Op::Route(route) = &case.graph.node(node.args[1]).op else { return Vec::new() };
            let logits = &case.inputs[1][sequence];
            let experts = logits.len() / (x.len() / width);
            let bias = route.bias.map(&weight);
            let row = |(x, logits): (&[f32], &[f32])| {
                let mut bound = vec![0.0; width];
                for (expert, share) in ops::route(logits, route, bias.as_deref()) {
                    let of = |w: &[f32]| w[expert as usize * inner * width..][..inner * width].to_vec();
                    let (g, u) = (product(x, &of(&gate)), product(x, &of(&up)));
                    let none = vec![0.0; width];
                    let (off_g, off_u) = (
                        product_bound(x, &none, &of(&gate), group),
                        product_bound(x, &none, &of(&up), group),
                    );
                    let f = |x: f32| ops::activation(e.activation, x);
                    let hidden: Vec<f32> = g.iter().zip(&u).map(|(g, u)| f(*g) * u).collect();
                    let off: Vec<f32> = (0..inner)
                        .map(|i| {
                            let slope = 1.13 * off_g[i];
                            slope * u[i].abs() + (f(g[i]).abs() + slope) * off_u[i]
                        })
                        .collect();
                    let down = product_bound(&hidden, &off, &of(&down), group);
                    bound.iter_mut().zip(down).for_each(|(b, d)| *b += share * d);
                }
                bound
            };
            x.chunks(width).zip(logits.chunks(experts)).flat_map(row).collect()
        }
        _ => Vec::new(),
    }
}
