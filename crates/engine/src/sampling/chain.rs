//! The filters. Each takes candidates sorted from best to worst (ties: lower id first) and leaves them so.

use super::Candidate;

/// Candidates that a buffer gathers before it is cut, whatever k is.
const GATHER: usize = 1024;

/// Orders candidates: a higher logit is a higher key, and of equal logits the lower id is.
fn key(token: usize, logit: f32) -> u64 {
    // Adding 0 makes −0 into 0, which is its equal.
    let bits = (logit + 0.0).to_bits();
    let ordered = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    u64::from(ordered) << 32 | u64::from(!(token as u32))
}

/// Logits that are looked at together, many at a time, to see whether one among them deserves a closer look.
const STRETCH: usize = 1024;

/// The id of the first logit that is NaN or +∞.
pub(super) fn not_a_number(logits: &[f32]) -> Option<usize> {
    let good = |x: &f32| *x < f32::INFINITY;
    let mut stretches = logits.chunks(STRETCH);
    let found = stretches.position(|stretch| !stretch.iter().fold(true, |all, x| all & good(x)))?;
    logits.iter().skip(found * STRETCH).position(|x| !good(x)).map(|i| found * STRETCH + i)
}

/// The id of the highest logit, the lowest of equal ones; `None` when all are −∞. None may be NaN.
pub(super) fn best(logits: &[f32]) -> Option<u32> {
    let higher = |a: f32, b: f32| if b > a { b } else { a };
    let mut best = f32::NEG_INFINITY;
    let mut place = None;
    for (i, stretch) in logits.chunks(STRETCH).enumerate() {
        let mut lanes = [f32::NEG_INFINITY; 16];
        let (whole, rest) = stretch.as_chunks::<16>();
        for sixteen in whole {
            for (lane, logit) in lanes.iter_mut().zip(sixteen) {
                *lane = higher(*lane, *logit);
            }
        }
        let highest = lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, higher);
        if highest > best {
            (best, place) = (highest, Some((i, stretch)));
        }
    }
    let (i, stretch) = place?;
    stretch.iter().position(|logit| *logit == best).map(|at| (i * STRETCH + at) as u32)
}

/// The `k` highest of finite logits (all when `k` is 0), sorted, into `out`. Looks at each logit once: keys below
/// the k-th best so far are dropped at once.
pub(super) fn top_k(logits: &[f32], k: usize, keys: &mut Vec<u64>, out: &mut Vec<Candidate>) {
    let k = if k == 0 { logits.len() } else { k.min(logits.len()) };
    let full = (2 * k).max(GATHER);
    keys.clear();
    let mut threshold = 0;
    for (i, &logit) in logits.iter().enumerate() {
        let key = key(i, logit);
        if key > threshold && logit > f32::NEG_INFINITY {
            keys.push(key);
            if keys.len() == full && k < full {
                keys.select_nth_unstable_by(k - 1, |a, b| b.cmp(a));
                threshold = keys[k - 1];
                keys.truncate(k);
            }
        }
    }
    keys.sort_unstable_by(|a, b| b.cmp(a));
    keys.truncate(k);
    out.clear();
    out.extend(keys.iter().map(|&key| {
        let token = !(key as u32);
        Candidate { token, logit: logits[token as usize], probability: 0.0 }
    }));
}

/// Sets the probabilities to softmax(logits / temperature).
pub(super) fn softmax(candidates: &mut [Candidate], temperature: f32) {
    let Some(best) = candidates.first().map(|c| f64::from(c.logit)) else { return };
    let mut sum = 0.0;
    for c in candidates.iter_mut() {
        c.probability = ((f64::from(c.logit) - best) / f64::from(temperature)).exp();
        sum += c.probability;
    }
    candidates.iter_mut().for_each(|c| c.probability /= sum);
}

/// How many of the first candidates it takes to reach the mass `p`, at least one.
fn reach(candidates: &[Candidate], p: f32) -> usize {
    let mut mass = 0.0;
    let reached = candidates.iter().position(|c| {
        mass += c.probability;
        mass >= f64::from(p)
    });
    reached.map_or(candidates.len(), |i| i + 1)
}

/// The best candidates up to the mass `p`.
pub(super) fn top_p(candidates: &mut Vec<Candidate>, p: f32) {
    if p >= 1.0 {
        return;
    }
    softmax(candidates, 1.0);
    candidates.truncate(reach(candidates, p));
}

/// The candidates at least `p` times as probable as the best.
pub(super) fn min_p(candidates: &mut Vec<Candidate>, p: f32) {
    let Some(best) = candidates.first().map(|c| c.logit) else { return };
    if p <= 0.0 {
        return;
    }
    let least = best + p.ln();
    let keep = candidates.partition_point(|c| c.logit >= least);
    candidates.truncate(keep.max(1));
}

/// The candidates whose surprise −log p is nearest to the entropy, up to the mass `p`.
pub(super) fn typical_p(candidates: &mut Vec<Candidate>, p: f32) {
    if p >= 1.0 {
        return;
    }
    softmax(candidates, 1.0);
    let surprise = |c: &Candidate| -c.probability.ln();
    let share = |c: &Candidate| if c.probability > 0.0 { c.probability * surprise(c) } else { 0.0 };
    let entropy: f64 = candidates.iter().map(share).sum();
    let distance = |c: &Candidate| (surprise(c) - entropy).abs();
    candidates.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
    candidates.truncate(reach(candidates, p));
    candidates.sort_unstable_by_key(|c| std::cmp::Reverse(key(c.token as usize, c.logit)));
}
