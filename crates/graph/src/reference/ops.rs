//! The mathematics of the ops, one row at a time.

use crate::op::{ActivationKind, Attention, GroupScore, Norm, NormKind, Rope, Route, Scoring};

/// y = W x for every row of `x` (each `inner` wide); W is `[out, inner]`. Sums are kept in f64.
pub(crate) fn linear(x: &[f32], w: &[f32], inner: usize) -> Vec<f32> {
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

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>() as f32
}

pub(crate) fn add_to(row: &mut [f32], more: &[f32]) {
    row.iter_mut().zip(more).for_each(|(x, m)| *x += m);
}

pub(crate) fn norm(x: &[f32], norm: &Norm, weight: Option<&[f32]>, bias: Option<&[f32]>) -> Vec<f32> {
    let n = x.len() as f64;
    let mean = match norm.kind {
        NormKind::Rms => 0.0,
        NormKind::Layer => x.iter().map(|&x| f64::from(x)).sum::<f64>() / n,
    };
    let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
    let scale = 1.0 / (variance + f64::from(norm.epsilon)).sqrt();
    let one = |(i, &x): (usize, &f32)| {
        let y = ((f64::from(x) - mean) * scale) as f32;
        y * weight.map_or(1.0, |w| w[i]) + bias.map_or(0.0, |b| b[i])
    };
    x.iter().enumerate().map(one).collect()
}

pub(crate) fn rope(head: &mut [f32], rope: &Rope, position: usize) {
    for (i, frequency) in rope.frequencies.iter().enumerate() {
        let (sin, cos) = (position as f32 * frequency).sin_cos();
        let (a, b) = rope.pair(i);
        let (x, y) = (head[a], head[b]);
        head[a] = (x * cos - y * sin) * rope.scale;
        head[b] = (x * sin + y * cos) * rope.scale;
    }
}

pub(crate) fn activation(kind: ActivationKind, x: f32) -> f32 {
    let wide = f64::from(x);
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
    y as f32
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
pub(crate) fn attend<'a>(
    query: &[f32],
    entries: impl Iterator<Item = (&'a [f32], &'a [f32])> + Clone,
    value_width: usize,
    attention: &Attention,
    sink: Option<f32>,
) -> Vec<f32> {
    let score = |key: &[f32]| {
        let s = dot(query, key) * attention.scale;
        attention.softcap.map_or(s, |cap| cap * (s / cap).tanh())
    };
    let scores: Vec<f32> = entries.clone().map(|(key, _)| score(key)).collect();
    let largest = scores.iter().copied().chain(sink).fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = scores.iter().map(|s| f64::from(s - largest).exp()).collect();
    let sum = weights.iter().sum::<f64>() + sink.map_or(0.0, |s| f64::from(s - largest).exp());
    let mut y = vec![0.0; value_width];
    for ((_, value), w) in entries.zip(&weights) {
        y.iter_mut().zip(value).for_each(|(y, &v)| *y += w * f64::from(v));
    }
    y.into_iter().map(|y: f64| (y / sum) as f32).collect()
}

/// The chosen experts with their weights, best first.
pub(crate) fn route(logits: &[f32], route: &Route, bias: Option<&[f32]>) -> Vec<(u32, f32)> {
    let scores: Vec<f32> = match route.scoring {
        Scoring::Sigmoid => logits.iter().map(|&x| activation(ActivationKind::Sigmoid, x)).collect(),
        Scoring::Softmax => {
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let e: Vec<f32> = logits.iter().map(|x| (x - largest).exp()).collect();
            let sum: f32 = e.iter().sum();
            e.iter().map(|x| x / sum).collect()
        }
    };
    let ranked: Vec<f32> = scores.iter().enumerate().map(|(i, s)| s + bias.map_or(0.0, |b| b[i])).collect();
    let best_first = |keys: &[f32]| {
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by(|&a, &b| keys[b].total_cmp(&keys[a]).then(a.cmp(&b)));
        order
    };
    let eligible = |expert: usize| match route.groups {
        None => true,
        Some(g) => {
            let size = ranked.len() / g.count;
            let group_score = |members: &[f32]| {
                let order = best_first(members);
                match g.score {
                    GroupScore::Best => members[order[0]],
                    GroupScore::BestTwo => members[order[0]] + members[order[1]],
                }
            };
            let groups: Vec<f32> = ranked.chunks_exact(size).map(group_score).collect();
            best_first(&groups)[..g.keep].contains(&(expert / size))
        }
    };
    let chosen = best_first(&ranked).into_iter().filter(|&e| eligible(e)).take(route.top);
    let mut chosen: Vec<(u32, f32)> = chosen.map(|e| (e as u32, scores[e])).collect();
    let sum: f32 = chosen.iter().map(|c| c.1).sum();
    for (_, share) in &mut chosen {
        if route.normalize {
            *share /= sum + 1e-20;
        }
        *share *= route.scale;
    }
    chosen
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
        let chosen = route(&[3.0, -9.0, 2.0, 1.5], &r, None);
        assert_eq!(chosen.iter().map(|c| c.0).collect::<Vec<_>>(), [2, 3]);
        assert!((chosen[0].1 + chosen[1].1 - 2.0).abs() < 1e-6);
    }
}
