//! Symmetric positive definite matrices, dense and small (about a thousand rows).

/// A square matrix, row by row.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    n: usize,
    data: Vec<f64>,
}

impl Matrix {
    /// Rows and columns whose numbers `of` gives; it is asked for j ≤ i only.
    pub(crate) fn symmetric(n: usize, of: impl Fn(usize, usize) -> f64 + Sync) -> Matrix {
        let mut m = Matrix { n, data: vec![0.0; n * n] };
        for i in 0..n {
            for j in 0..=i {
                m.set(i, j, of(i, j));
                m.set(j, i, m.get(i, j));
            }
        }
        m
    }

    pub(crate) fn len(&self) -> usize {
        self.n
    }

    pub(crate) fn get(&self, i: usize, j: usize) -> f64 {
        self.data.get(i * self.n + j).copied().unwrap_or(0.0)
    }

    fn set(&mut self, i: usize, j: usize, value: f64) {
        if let Some(x) = self.data.get_mut(i * self.n + j) {
            *x = value;
        }
    }

    pub(crate) fn row(&self, i: usize) -> &[f64] {
        self.data.get(i * self.n..(i + 1) * self.n).unwrap_or(&[])
    }

    /// The rows and columns of `keep`, in that order.
    pub(crate) fn part(&self, keep: &[usize]) -> Matrix {
        Matrix::symmetric(keep.len(), |i, j| match (keep.get(i), keep.get(j)) {
            (Some(&a), Some(&b)) => self.get(a, b),
            _ => 0.0,
        })
    }

    /// The lower triangle L with L Lᵀ = self, or `None` where self is not positive definite.
    pub(crate) fn cholesky(mut self) -> Option<Cholesky> {
        let n = self.n;
        for i in 0..n {
            let (above, below) = self.data.split_at_mut(i * n);
            let row = below.get_mut(..n)?;
            for j in 0..i {
                let other = above.get(j * n..j * n + n)?;
                let (head, tail) = row.split_at_mut(j);
                let x = tail.first_mut()?;
                *x = (*x - dot(head, other.get(..j)?)) / other.get(j)?;
            }
            let (head, tail) = row.split_at_mut(i);
            let pivot = tail.first().copied()? - dot(head, head);
            if pivot.is_nan() || pivot <= 1e-12 {
                return None;
            }
            tail.fill(0.0);
            if let Some(x) = tail.first_mut() {
                *x = pivot.sqrt();
            }
        }
        Some(Cholesky { lower: self })
    }
}

/// The lower triangle of a factorised matrix.
#[derive(Clone, Debug)]
pub(crate) struct Cholesky {
    lower: Matrix,
}

impl Cholesky {
    /// L⁻¹ b.
    pub(crate) fn forward(&self, b: &[f64]) -> Vec<f64> {
        let mut x: Vec<f64> = Vec::with_capacity(b.len());
        for (i, &b) in b.iter().enumerate() {
            let row = self.lower.row(i);
            let known = dot(row.get(..i).unwrap_or(&[]), &x);
            x.push((b - known) / self.lower.get(i, i));
        }
        x
    }

    /// A⁻¹ b.
    pub(crate) fn solve(&self, b: &[f64]) -> Vec<f64> {
        let mut x = self.forward(b);
        for i in (0..x.len()).rev() {
            let xi = x.get(i).copied().unwrap_or(0.0) / self.lower.get(i, i);
            for (j, x) in x.iter_mut().enumerate().take(i) {
                *x -= xi * self.lower.get(i, j);
            }
            if let Some(x) = x.get_mut(i) {
                *x = xi;
            }
        }
        x
    }

    /// A⁻¹.
    pub(crate) fn inverse(&self) -> Matrix {
        let n = self.lower.n;
        // Columns of L⁻¹, each from its diagonal down, kept as rows: dot products run along memory.
        let mut columns = vec![0.0; n * n];
        for i in 0..n {
            let row = self.lower.row(i);
            let pivot = self.lower.get(i, i);
            for c in 0..=i {
                let column = columns.get(c * n + c..c * n + i).unwrap_or(&[]);
                let sum = if c == i { -1.0 } else { dot(row.get(c..i).unwrap_or(&[]), column) };
                if let Some(x) = columns.get_mut(c * n + i) {
                    *x = -sum / pivot;
                }
            }
        }
        let column = |c: usize, from: usize| columns.get(c * n + from..(c + 1) * n).unwrap_or(&[]);
        Matrix::symmetric(n, |i, j| dot(column(i, i), column(j, i)))
    }
}

/// Σ a·b, in eight sums that a processor can run side by side.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a8.zip(b8) {
        for ((s, x), y) in sums.iter_mut().zip(x).zip(y) {
            *s += x * y;
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_times_its_inverse_is_one() {
        let n = 23;
        let m = Matrix::symmetric(
            n,
            |i, j| {
                if i == j { 5.0 + i as f64 } else { 1.0 / (1.0 + (i + 2 * j) as f64) }
            },
        );
        let cholesky = m.clone().cholesky().unwrap();
        let inverse = cholesky.inverse();
        for i in 0..n {
            for j in 0..n {
                let x: f64 = (0..n).map(|k| m.get(i, k) * inverse.get(k, j)).sum();
                assert!((x - f64::from(u8::from(i == j))).abs() < 1e-10, "{i} {j}: {x}");
            }
        }
        let b: Vec<f64> = (0..n).map(|i| (i as f64).sin()).collect();
        let x = cholesky.solve(&b);
        for (i, b) in b.iter().enumerate() {
            assert!((dot(m.row(i), &x) - b).abs() < 1e-10);
        }
        assert!(Matrix::symmetric(2, |i, j| if i == j { 1.0 } else { 2.0 }).cholesky().is_none());
    }
}
