//! The mathematics of the ops, one row at a time.

use super::real::Real;
use crate::op::{ActivationKind, Attention, GroupScore, Norm, NormKind, Rope, Route, Scoring};

/// y = W x for every row of `x` (each `inner` wide); W is `[out, inner]`. Sums are kept in f64.
pub(crate) fn linear<R: Real>(x: &[R], w: &[R], inner: usize) -> Vec<R> {
    let row = |x| move |w| dot(x, w);
    x.chunks_exact(inner).flat_map(|x| w.chunks_exact(inner).map(row(x))).collect()
}

/// Every row of `x` (each `width` numbers) in groups, rounded to whole multiples of `step`, which is given the largest
/// magnitudes of the row and of the group.
pub(crate) fn round(x: &[f32], width: usize, group: usize, step: fn(f32, f32) -> f32) -> Vec<f32> {
    let rounded = |row: &[f32]| {
        let of_row = largest(row);
        let rounded = move |g: &[f32]| {
            let step = step(of_row, largest(g));
            let one = move |&x: &f32| if step > 0.0 { (x / step).round_ties_even() * step } else { 0.0 };
            g.iter().map(one).collect::<Vec<f32>>()
        };
        row.chunks(group).flat_map(rounded).collect::<Vec<f32>>()
    };
    x.chunks(width).flat_map(rounded).collect()
}

/// The step of a group of activations beside quantized weights, from the largest magnitudes of its row and its own:
/// the row's / 127, halved as often, up to 11 times, as the group's numbers then still fit ±127 steps.
pub(crate) fn step(of_row: f32, of_group: f32) -> f32 {
    let mut halvings = 0;
    while halvings < 11 && of_group * 2f32.powi(halvings + 1) <= of_row {
        halvings += 1;
    }
    of_row / 127.0 / 2f32.powi(halvings)
}

/// The largest magnitude.
pub(crate) fn largest(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |m, x| m.max(x.abs()))
}

fn dot<R: Real>(a: &[R], b: &[R]) -> R {
    R::of(a.iter().zip(b).map(|(&a, &b)| a.into() * b.into()).sum::<f64>())
}

pub(crate) fn add_to<R: Real>(row: &mut [R], more: &[R]) {
    row.iter_mut().zip(more).for_each(|(x, m)| *x = *x + *m);
}

/// The mean that a norm takes off, and what it multiplies the rest by.
pub(crate) fn moments<R: Real>(x: &[R], norm: &Norm) -> (f64, f64) {
    let n = x.len() as f64;
    let mean = match norm.kind {
        NormKind::Rms => 0.0,
        NormKind::Layer => x.iter().map(|&x| x.into()).sum::<f64>() / n,
    };
    let variance = x.iter().map(|&x| (x.into() - mean).powi(2)).sum::<f64>() / n;
    (mean, 1.0 / (variance + f64::from(norm.epsilon)).sqrt())
}

pub(crate) fn norm<R: Real>(x: &[R], norm: &Norm, weight: Option<&[R]>, bias: Option<&[R]>) -> Vec<R> {
    let (mean, scale) = moments(x, norm);
    let one = |(i, &x): (usize, &R)| {
        let y = R::of((x.into() - mean) * scale);
        y * weight.map_or(R::of(1.0), |w| w[i]) + bias.map_or(R::of(0.0), |b| b[i])
    };
    x.iter().enumerate().map(one).collect()
}

pub(crate) fn rope<R: Real>(head: &mut [R], rope: &Rope, position: usize) {
    for (i, frequency) in rope.frequencies.iter().enumerate() {
        let (sin, cos) = (position as f32 * frequency).sin_cos();
        let (a, b) = rope.pair(i);
        let [x, y, sin, cos, scale]: [R; 5] = [head[a], head[b], sin.into(), cos.into(), rope.scale.into()];
        head[a] = (x * cos + y * sin * R::of(-1.0)) * scale;
        head[b] = (x * sin + y * cos) * scale;
    }
}

pub(crate) fn activation<R: Real>(kind: ActivationKind, x: R) -> R {
    let wide: f64 = x.into();
    let y = match kind {
        ActivationKind::Silu => wide / (1.0 + (-wide).exp()),
        ActivationKind::Gelu => 0.5 * wide * (1.0 + erf(wide * std::f64::consts::FRAC_1_SQRT_2)),
        ActivationKind::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (wide + 0.044715 * wide.powi(3));
            0.5 * wide * (1.0 + inner.tanh())
        }
        ActivationKind::Relu => wide.max(0.0),
        ActivationKind::Sigmoid => 1.0 / (1.0 + (-wide).exp()),
    };
    R::of(y)
}

/// The error function by its Maclaurin series near 0 and the continued fraction of erfc beyond (Abramowitz & Stegun
/// 7.1.5 and 7.1.14).
fn erf(x: f64) -> f64 {
    let a = x.abs();
    let y = if a < 3.0 {
        let (mut term, mut sum) = (a, a);
        for n in 1..100 {
            term *= -a * a / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    } else {
        let fraction = (1..60).rev().fold(a, |f, k| a + f64::from(k) / 2.0 / f);
        1.0 - (-a * a).exp() / fraction / std::f64::consts::PI.sqrt()
    };
    y.copysign(x)
}

/// softmax(q·k · scale) · v over the entries (key, value) that the query sees.
pub(crate) fn attend<'a, R: Real>(
    query: &[R],
    entries: impl Iterator<Item = (&'a [R], &'a [R])> + Clone,
    value_width: usize,
    attention: &Attention,
    sink: Option<R>,
) -> Vec<R> {
    let (weights, _) = attention_weights(query, entries.clone().map(|(key, _)| key), attention, sink);
    let mut y = vec![0.0; value_width];
    for ((_, value), w) in entries.zip(&weights) {
        y.iter_mut().zip(value).for_each(|(y, &v)| *y += w * v.into());
    }
    y.into_iter().map(R::of).collect()
}

/// Softmax of the scores of the keys that a query sees, and the sink's share.
pub(crate) fn attention_weights<'a, R: Real>(
    query: &[R],
    keys: impl Iterator<Item = &'a [R]>,
    attention: &Attention,
    sink: Option<R>,
) -> (Vec<f64>, f64) {
    let scores: Vec<f64> = keys.map(|key| score(dot(query, key), attention).into()).collect();
    let sink = sink.map(Into::into);
    let largest = scores.iter().copied().chain(sink).fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
    let of_sink = sink.map_or(0.0, |s: f64| (s - largest).exp());
    let sum = weights.iter().sum::<f64>() + of_sink;
    (weights.iter().map(|w| w / sum).collect(), of_sink / sum)
}

/// The score of a query and a key from their product.
pub(crate) fn score<R: Real>(product: R, attention: &Attention) -> R {
    let s = product * attention.scale.into();
    attention.softcap.map_or(s, |cap| softcap(s, cap))
}

pub(crate) fn softcap<R: Real>(x: R, cap: f32) -> R {
    let cap = f64::from(cap);
    R::of(cap * (x.into() / cap).tanh())
}

/// The chosen experts with their weights, best first.
pub(crate) fn route<R: Real>(logits: &[R], route: &Route, bias: Option<&[R]>) -> Vec<(u32, R)> {
    let scores = router_scores(logits, route.scoring);
    let chosen = choose(&scores, route, bias);
    let sum: f64 = chosen.iter().map(|&e| scores[e].into()).sum();
    let share = |e: usize| {
        let share: f64 = scores[e].into();
        let share = if route.normalize { share / (sum + 1e-20) } else { share };
        R::of(share * f64::from(route.scale))
    };
    chosen.into_iter().map(|e| (e as u32, share(e))).collect()
}

/// Router logits as scores.
pub(crate) fn router_scores<R: Real>(logits: &[R], scoring: Scoring) -> Vec<R> {
    match scoring {
        Scoring::Sigmoid => logits.iter().map(|&x| activation(ActivationKind::Sigmoid, x)).collect(),
        Scoring::Softmax => {
            let largest = logits.iter().copied().fold(f64::NEG_INFINITY, |m, x| m.max(x.into()));
            let e: Vec<f64> = logits.iter().map(|&x| (x.into() - largest).exp()).collect();
            let sum: f64 = e.iter().sum();
            e.iter().map(|x| R::of(x / sum)).collect()
        }
    }
}

/// The experts with the best scores, best first.
fn choose<R: Real>(scores: &[R], route: &Route, bias: Option<&[R]>) -> Vec<usize> {
    let biased = |(i, s): (usize, &R)| *s + bias.map_or(R::of(0.0), |b| b[i]);
    let ranked: Vec<R> = scores.iter().enumerate().map(biased).collect();
    let best_first = |keys: &[R]| {
        let keys: Vec<f64> = keys.iter().map(|&key| key.into()).collect();
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by(|&a, &b| keys[b].total_cmp(&keys[a]).then(a.cmp(&b)));
        order
    };
    let eligible = |expert: usize| match route.groups {
        None => true,
        Some(g) => {
            let size = ranked.len() / g.count;
            let group_score = |members: &[R]| {
                let order = best_first(members);
                match g.score {
                    GroupScore::Best => members[order[0]],
                    GroupScore::BestTwo => members[order[0]] + members[order[1]],
                }
            };
            let groups: Vec<R> = ranked.chunks_exact(size).map(group_score).collect();
            best_first(&groups)[..g.keep].contains(&(expert / size))
        }
    };
    best_first(&ranked).into_iter().filter(|&e| eligible(e)).take(route.top).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_agrees_with_published_values() {
        // Abramowitz & Stegun, table 7.1.
        for (x, y) in
            [(0.0, 0.0), (0.5, 0.5204998778), (1.0, 0.8427007929), (2.0, 0.9953222650), (-1.5, -0.9661051465)]
        {
            assert!((erf(x) - y).abs() < 1e-9, "erf({x})");
        }
        assert!((erf(2.999999) - erf(3.000001)).abs() < 1e-8, "the two expansions meet");
    }

    #[test]
    fn group_limits_hide_the_best_expert_of_a_poor_group() {
        let groups = crate::op::Groups { count: 2, keep: 1, score: GroupScore::BestTwo };
        let r = Route {
            top: 2,
            scoring: Scoring::Sigmoid,
            bias: None,
            groups: Some(groups),
            normalize: true,
            scale: 2.0,
        };
        let chosen = route(&[3.0f32, -9.0, 2.0, 1.5], &r, None);
        assert_eq!(chosen.iter().map(|c| c.0).collect::<Vec<_>>(), [2, 3]);
        assert!((chosen[0].1 + chosen[1].1 - 2.0).abs() < 1e-6);
    }
}
