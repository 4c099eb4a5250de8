//! The corrections: kernel regression on what the physics leave unexplained.

use super::kernel::{Kernel, Ready};
use super::matrix::{Cholesky, Matrix};
use super::sample::Sample;

/// A fitted regression.
pub(crate) struct Regression {
    ready: Ready,
    samples: Vec<Sample>,
    places: Vec<Vec<f64>>,
    weights: Vec<f64>,
    factor: Cholesky,
}

/// The covariance of all pairs, without noise.
pub(crate) fn covariance(ready: &Ready, samples: &[Sample]) -> Matrix {
    let places: Vec<_> = samples.iter().map(|s| ready.place(s)).collect();
    Matrix::symmetric(samples.len(), |i, j| pair(ready, samples, &places, i, j))
}

fn pair(ready: &Ready, samples: &[Sample], places: &[Vec<f64>], i: usize, j: usize) -> f64 {
    match (samples.get(i), places.get(i), samples.get(j), places.get(j)) {
        (Some(a), Some(at_a), Some(b), Some(at_b)) => ready.covariance(a, at_a, b, at_b),
        _ => 0.0,
    }
}

/// `m` with `noise` added to the diagonal.
pub(crate) fn noisy(m: &Matrix, noise: f64) -> Matrix {
    Matrix::symmetric(m.len(), |i, j| m.get(i, j) + if i == j { noise } else { 0.0 })
}

impl Regression {
    /// Fits `residuals`, the logarithms of measured / physics, of `samples`. `None`: the kernel's scales make no
    /// positive definite covariance.
    pub(crate) fn fit(kernel: &Kernel, samples: Vec<Sample>, residuals: &[f64]) -> Option<Regression> {
        let ready = kernel.ready();
        let factor = noisy(&covariance(&ready, &samples), ready.noise).cholesky()?;
        let weights = factor.solve(residuals);
        let places = samples.iter().map(|s| ready.place(s)).collect();
        Some(Regression { ready, samples, places, weights, factor })
    }

    /// Mean and variance of the correction of `sample`, a run's own spread included.
    pub(crate) fn predict(&self, sample: &Sample) -> (f64, f64) {
        let at = self.ready.place(sample);
        let known = self.samples.iter().zip(&self.places);
        let row: Vec<f64> = known.map(|(s, p)| self.ready.covariance(sample, &at, s, p)).collect();
        let mean = row.iter().zip(&self.weights).map(|(k, w)| k * w).sum();
        let explained: f64 = self.factor.forward(&row).iter().map(|v| v * v).sum();
        let own = self.ready.covariance(sample, &at, sample, &at);
        (mean, (own - explained).max(0.0) + self.ready.noise)
    }
}

/// The inverse of `covariance` with `noise`; `None` where it has none.
pub(crate) fn inverse(covariance: &Matrix, noise: f64) -> Option<Matrix> {
    Some(noisy(covariance, noise).cholesky()?.inverse())
}

/// What each group of samples would be predicted as, had the regression not seen it: means and variances. The group's
/// block of the inverse covariance is all that it takes (Rasmussen & Williams 2006, section 5.4.2).
pub(crate) fn left_out(
    inverse: &Matrix,
    residuals: &[f64],
    groups: &[Vec<usize>],
) -> Option<Vec<(f64, f64)>> {
    let n = residuals.len();
    let weights: Vec<f64> =
        (0..n).map(|i| inverse.row(i).iter().zip(residuals).map(|(a, b)| a * b).sum()).collect();
    let mut out = vec![(0.0, 0.0); n];
    for group in groups {
        let block = inverse.part(group).cholesky()?;
        let w: Vec<f64> = group.iter().filter_map(|&i| weights.get(i).copied()).collect();
        let shift = block.solve(&w);
        let spread = block.inverse();
        for (k, (&i, shift)) in group.iter().zip(shift).enumerate() {
            if let (Some(o), Some(y)) = (out.get_mut(i), residuals.get(i)) {
                *o = (y - shift, spread.get(k, k));
            }
        }
    }
    Some(out)
}
