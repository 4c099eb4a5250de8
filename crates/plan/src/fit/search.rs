//! The efficiencies and the kernel's scales that predict best what was left out.

use std::collections::HashMap;

use super::kernel::{Kernel, Scales};
use super::matrix::Matrix;
use super::regression::{covariance, inverse, left_out};
use super::sample::{Sample, Side, sample};
use super::stored::Fit;
use crate::runs::{Job, Kind};

/// Measured runs of one side, ready to fit.
#[derive(Clone)]
pub(crate) struct Runs {
    pub(crate) side: Side,
    pub(crate) jobs: Vec<Job>,
    /// Logarithms of tokens/s and chip, measured.
    pub(crate) targets: Vec<f64>,
    pub(crate) ids: Vec<String>,
    pub(crate) documents: Vec<String>,
}

impl Runs {
    pub(crate) fn part(&self, keep: &[usize]) -> Runs {
        let pick = |v: &[String]| keep.iter().filter_map(|&i| v.get(i).cloned()).collect::<Vec<_>>();
        Runs {
            side: self.side,
            jobs: keep.iter().filter_map(|&i| self.jobs.get(i).cloned()).collect(),
            targets: keep.iter().filter_map(|&i| self.targets.get(i).copied()).collect(),
            ids: pick(&self.ids),
            documents: pick(&self.documents),
        }
    }

    /// The runs in numbers with efficiencies of those logarithms, and the logarithms of measured / physics. `None` where
    /// a run's chip lacks a figure.
    pub(crate) fn in_numbers(&self, logs: &[f64]) -> Option<(Vec<Sample>, Vec<f64>)> {
        let samples = self.jobs.iter().map(|j| sample(j, logs).ok()).collect::<Option<Vec<_>>>()?;
        let residuals = self.targets.iter().zip(&samples).map(|(t, s)| t - s.base).collect();
        Some((samples, residuals))
    }

    /// Runs by document.
    pub(crate) fn by_document(&self) -> Vec<Vec<usize>> {
        groups(self.documents.iter().map(String::as_str))
    }

    /// Runs by chip.
    pub(crate) fn by_chip(&self) -> Vec<Vec<usize>> {
        groups(self.jobs.iter().map(|j| j.chip.id.as_str()))
    }
}

/// Places of equal keys, in order of first sight.
pub(crate) fn groups<'a>(keys: impl Iterator<Item = &'a str>) -> Vec<Vec<usize>> {
    let mut place: HashMap<&str, usize> = HashMap::new();
    let mut out: Vec<Vec<usize>> = Vec::new();
    for (i, key) in keys.enumerate() {
        let at = *place.entry(key).or_insert(out.len());
        match out.get_mut(at) {
            Some(group) => group.push(i),
            None => out.push(vec![i]),
        }
    }
    out
}

/// How long to search.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Changes of the kernel's scales that are tried.
    pub steps: usize,
    /// Where the search's random numbers start.
    pub seed: u64,
    /// What it costs to move a scale by a factor of e.
    pub caution: f64,
}

/// Logarithms of the efficiencies that fit `runs` best, robustly: least absolute deviations by reweighting, with the
/// prior worth a few runs.
pub(crate) fn efficiencies(runs: &Runs) -> Vec<f64> {
    const PRIOR_WEIGHT: f64 = 8.0;
    let prior = runs.side.prior();
    let mut logs = prior.clone();
    let floor = if runs.side == Side::Training { 0.08 } else { 0.15 };
    for _ in 0..7 {
        let k = logs.len();
        let mut a = vec![0.0; k * k];
        let mut b: Vec<f64> = prior.iter().zip(&logs).map(|(p, l)| PRIOR_WEIGHT * (p - l)).collect();
        for (i, x) in a.iter_mut().enumerate() {
            if i / k == i % k {
                *x = PRIOR_WEIGHT;
            }
        }
        for (job, target) in runs.jobs.iter().zip(&runs.targets) {
            let Ok(s) = sample(job, &logs) else { continue };
            let residual = target - s.base;
            let scarce = if matches!(job.kind, Kind::Serve | Kind::Train) { 1.0 } else { 2.0 };
            let weight = scarce / residual.abs().max(floor);
            for (i, x) in s.slopes.iter().enumerate() {
                for (j, y) in s.slopes.iter().enumerate() {
                    if let Some(a) = a.get_mut(i * k + j) {
                        *a += weight * x * y;
                    }
                }
                if let Some(b) = b.get_mut(i) {
                    *b += weight * x * residual;
                }
            }
        }
        let matrix = Matrix::symmetric(k, |i, j| a.get(i * k + j).copied().unwrap_or(0.0));
        let Some(factor) = matrix.cholesky() else { break };
        for (l, d) in logs.iter_mut().zip(factor.solve(&b)) {
            *l += d.clamp(-0.5, 0.5);
        }
    }
    logs
}

/// A search's state: a kernel, and how badly it predicts what is left out.
struct State<'a> {
    samples: &'a [Sample],
    residuals: &'a [f64],
    kinds: Vec<Kind>,
    documents: Vec<Vec<usize>>,
    chips: Vec<Vec<usize>>,
}

/// What a run counts for by its kind.
fn kind_weight(kind: Kind) -> f64 {
    match kind {
        Kind::Serve | Kind::Train => 1.0,
        Kind::Prefill => 0.35,
        Kind::Decode => 0.45,
    }
}

impl State<'_> {
    /// The mean of a robust loss over what is left out, document by document, and a little of chip by chip.
    fn loss(&self, kernel: &Kernel) -> f64 {
        let ready = kernel.ready();
        let Some(inverse) = inverse(&covariance(&ready, self.samples), ready.noise) else {
            return f64::INFINITY;
        };
        let by_document = self.loss_of(&inverse, &self.documents);
        by_document + 0.25 * self.loss_of(&inverse, &self.chips)
    }

    fn loss_of(&self, inverse: &Matrix, groups: &[Vec<usize>]) -> f64 {
        let Some(out) = left_out(inverse, self.residuals, groups) else { return f64::INFINITY };
        // (sum, runs) by kind
        let mut sums: HashMap<Kind, (f64, f64)> = HashMap::new();
        for ((residual, (mean, variance)), kind) in self.residuals.iter().zip(out).zip(&self.kinds) {
            let error = (residual - mean).abs();
            let (wide, narrow) = if *kind == Kind::Train { (0.5, 0.1) } else { (0.6, 0.2) };
            let near = 1.0 - (-(error / narrow) * (error / narrow)).exp();
            // The last term asks for spreads of the right order.
            let sigma = variance.sqrt().max(0.02);
            let honest = 0.02 * (sigma.ln() + 0.5 * (error / sigma).min(4.0).powi(2));
            let sum = sums.entry(*kind).or_default();
            sum.0 += error.min(wide) + 0.3 * near + honest;
            sum.1 += 1.0;
        }
        sums.iter().map(|(kind, (sum, n))| kind_weight(*kind) * sum / n).sum()
    }
}

/// A small generator of random numbers (SplitMix64, Steele et al. 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, n: usize) -> usize {
        ((self.unit() * n as f64) as usize).min(n.saturating_sub(1))
    }

    /// Normal, by Box and Muller.
    fn normal(&mut self) -> f64 {
        let r = (-2.0 * self.unit().max(1e-300).ln()).sqrt();
        r * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// The kernel that a random walk of `effort` finds: a change stays if what is left out is predicted better.
pub(crate) fn search(runs: &Runs, logs: &[f64], start: Option<&Kernel>, effort: Effort) -> Option<Kernel> {
    let (samples, residuals) = runs.in_numbers(logs)?;
    let state = State {
        samples: &samples,
        residuals: &residuals,
        kinds: runs.jobs.iter().map(|j| j.kind).collect(),
        documents: runs.by_document(),
        chips: runs.by_chip(),
    };
    let features: Vec<Vec<f64>> = samples.iter().map(|s| s.features.clone()).collect();
    let scales = match runs.side {
        Side::Serving => Scales { spread: 0.2, slopes: 0.7, sharpness: 0.5, noise: 0.2 },
        Side::Local => Scales { spread: 0.1, slopes: 0.1, sharpness: 0.8, noise: 0.1 },
        Side::Training => Scales { spread: 0.07, slopes: 1.0, sharpness: 0.35, noise: 0.05 },
    };
    let fresh = Kernel::start(&features, &runs.side.spreads(), scales);
    // A kernel has some eighty scales and there are about a hundred documents: moves have to pay for themselves.
    let loss_of = |kernel: &Kernel| state.loss(kernel) + effort.caution * kernel.distance(&fresh);
    let mut best = match start {
        Some(kernel) => Kernel { center: fresh.center.clone(), ..kernel.clone() },
        None => fresh.clone(),
    };
    let mut least = loss_of(&best);
    let mut random = Random(effort.seed);
    for _ in 0..effort.steps {
        let mut tried = best.clone();
        for _ in 0..1 + random.below(3) {
            let mut groups = tried.groups();
            // Sharpness and amplitudes matter most.
            let pick = [0, 0, 1, 1, 2, 3, 4, 5, 6, 7];
            let group = pick.get(random.below(pick.len())).and_then(|&g| groups.get_mut(g));
            let Some(group) = group else { continue };
            let at = random.below(group.len());
            if let Some(scale) = group.get_mut(at) {
                *scale = (*scale + 0.7 * random.normal()).clamp(-6.0, 4.0);
            }
        }
        let loss = loss_of(&tried);
        if loss < least {
            (best, least) = (tried, loss);
        }
    }
    Some(best)
}

/// Efficiencies and kernel for `runs`: what is stored in the tree.
pub(crate) fn fit(runs: &Runs, start: Option<&Kernel>, effort: Effort) -> Option<Fit> {
    let logs = efficiencies(runs);
    let kernel = search(runs, &logs, start, effort)?;
    Some(Fit { efficiencies: logs, kernel })
}

/// Fits again from the runs that come with the program, starting from what is stored, or anew.
pub fn refit(start: Option<&super::Fits>, effort: Effort) -> Result<super::Fits, crate::Error> {
    let of = |side, start: Option<&Fit>| {
        let runs = super::stored::built_in_runs(side)?;
        fit(&runs, start.map(|f| &f.kernel), effort).ok_or(crate::Error::Fit)
    };
    Ok(super::Fits {
        serving: of(Side::Serving, start.map(|s| &s.serving))?,
        local: of(Side::Local, start.map(|s| &s.local))?,
        training: of(Side::Training, start.map(|s| &s.training))?,
        intervals: start.map(|s| s.intervals.clone()).unwrap_or_default(),
    })
}
