//! Routing of a token to its experts.

use autarky_graph::{GroupScore, Route, Scoring};

use super::lanes::{LANES, Lanes, load_part, store_part};
use super::math;

/// Numbers of scratch that [`route`] needs for `experts` experts.
pub(crate) fn scratch(experts: usize) -> usize {
    3 * experts
}

/// Chooses experts for one token, as [`autarky_graph::Op::Route`] says. `chosen` and `weights` have K places;
/// a null `bias` is none; `scratch` has [`scratch`] numbers.
///
/// # Safety
/// As for [`Lanes`]; `bias`, when not null, is good for as many numbers as there are logits.
#[inline(always)]
pub(crate) unsafe fn route<V: Lanes>(
    route: &Route,
    logits: &[f32],
    bias: *const f32,
    scratch: &mut [f32],
    chosen: &mut [u32],
    weights: &mut [f32],
) {
    let n = logits.len();
    let (scores, rest) = scratch.split_at_mut(n);
    let (ranked, groups) = rest.split_at_mut(n);
    let mut largest = f32::NEG_INFINITY;
    if route.scoring == Scoring::Softmax {
        largest = logits.iter().fold(largest, |m, &x| if x > m { x } else { m });
    }
    let mut i = 0;
    // SAFETY: every place lies within the slices, the instruction set is the caller's promise.
    unsafe {
        while i < n {
            let count = LANES.min(n - i);
            let v: V = load_part(logits.as_ptr().add(i), count, 0.0);
            let v = match route.scoring {
                Scoring::Sigmoid => math::sigmoid(v),
                Scoring::Softmax => math::exp(v.sub(V::splat(largest))),
            };
            store_part(v, scores.as_mut_ptr().add(i), count);
            i += LANES;
        }
    }
    if route.scoring == Scoring::Softmax {
        let sum: f32 = scores.iter().sum();
        scores.iter_mut().for_each(|x| *x /= sum);
    }
    for (i, (ranked, score)) in ranked.iter_mut().zip(scores.iter()).enumerate() {
        // SAFETY: as the caller promises.
        *ranked = if bias.is_null() { *score } else { *score + unsafe { *bias.add(i) } };
    }
    if let Some(limits) = route.groups {
        let size = n / limits.count;
        let groups = &mut groups[..limits.count];
        for (group, members) in groups.iter_mut().zip(ranked.chunks_exact(size)) {
            let best = best(members);
            *group = members[best];
            if limits.score == GroupScore::BestTwo {
                let second = (0..size).filter(|&i| i != best).reduce(|a, b| better(members, a, b));
                *group += second.map_or(0.0, |i| members[i]);
            }
        }
        // What lies outside the kept groups is no longer a candidate.
        let mut kept = [0u64; 16];
        for _ in 0..limits.keep {
            let free = (0..limits.count).filter(|g| kept[g / 64] >> (g % 64) & 1 == 0);
            if let Some(g) = free.reduce(|a, b| better(groups, a, b)) {
                kept[g / 64] |= 1 << (g % 64);
            }
        }
        for (g, members) in ranked.chunks_exact_mut(size).enumerate() {
            if kept[g / 64] >> (g % 64) & 1 == 0 {
                members.fill(EXCLUDED);
            }
        }
    }
    let mut sum = 0.0;
    for (expert, weight) in chosen.iter_mut().zip(weights.iter_mut()) {
        let e = best(ranked);
        ranked[e] = EXCLUDED;
        (*expert, *weight) = (e as u32, scores[e]);
        sum += scores[e];
    }
    for weight in weights {
        if route.normalize {
            *weight /= sum + 1e-20;
        }
        *weight *= route.scale;
    }
}

/// Groups that [`route`] can limit.
pub(crate) const MOST_GROUPS: usize = 1024;

/// The least number in the total order of `f32`: what was taken or is out of reach.
const EXCLUDED: f32 = f32::from_bits(u32::MAX);

fn best(keys: &[f32]) -> usize {
    (0..keys.len()).reduce(|a, b| better(keys, a, b)).unwrap_or(0)
}

/// The greater of two places' keys in the total order of `f32`; the first of equals.
fn better(keys: &[f32], a: usize, b: usize) -> usize {
    if keys[b].total_cmp(&keys[a]).is_gt() { b } else { a }
}
