//! Muon: steps along the running mean of a matrix's gradients with all its singular values made about equal, so that no
//! direction is left behind (Jordan et al. 2024, kellerjordan.github.io/posts/muon). Steps are as long as AdamW's usually
//! are, 0.2 in each number, and weights decay, so that both take the same rates (Liu et al. 2025, arXiv:2502.16982, section 2.2).

use std::collections::HashMap;
use std::sync::Arc;

use autarky_graph::derivative::product;
use autarky_graph::{
    CacheDType, CompileError, Device, Limits, Program, RunError, SequenceStep, Step, Tensor, WeightError,
    Weights,
};
use autarky_quant::DType;

use crate::adamw::Update;
use crate::parallel::sum_of_squares;

/// What a [`Muon`] goes by; the usual values are those of its author.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MuonOptions {
    /// How much of the running mean of gradients stays in a step: μ.
    pub momentum: f32,
    /// The part of itself, times the learning rate, that a matrix loses in a step.
    pub weight_decay: f32,
    /// Whether products are of numbers rounded to BF16, which is enough here.
    pub bf16: bool,
}

impl Default for MuonOptions {
    fn default() -> MuonOptions {
        MuonOptions { momentum: 0.95, weight_decay: 0.1, bf16: true }
    }
}

/// Iterations that bring singular values near 1, and the odd polynomial that each applies to them:
/// σ ← aσ + bσ³ + cσ⁵. It is steepest at 0 among those that end between 0.7 and 1.2 (Jordan et al. 2024).
const ITERATIONS: usize = 5;
const POLYNOMIAL: [f32; 3] = [3.4445, -4.7750, 2.0315];

/// The root mean square of a step's numbers at a learning rate of 1.
const STEP: f32 = 0.2;

/// The optimizer's memory of some matrices, or stacks of them.
pub struct Muon {
    options: MuonOptions,
    matrices: Vec<Matrices>,
    products: Products,
}

struct Matrices {
    /// Of one of the stack.
    rows: usize,
    columns: usize,
    /// The running mean of gradients.
    momentum: Vec<f32>,
}

impl Muon {
    /// An optimizer of tensors of these shapes before its first step: `[.., rows, columns]`. Products run on `device`.
    ///
    /// # Errors
    /// When the device does not run them.
    ///
    /// # Panics
    /// When a shape has fewer than two dimensions.
    pub fn new<'a>(
        device: &dyn Device,
        options: MuonOptions,
        shapes: impl IntoIterator<Item = &'a [usize]>,
    ) -> Result<Muon, CompileError> {
        let mut products = Products { bf16: options.bf16, programs: HashMap::new() };
        let mut matrices = Vec::new();
        for shape in shapes {
            let [.., rows, columns] = *shape else { panic!("a matrix has two dimensions: {shape:?}") };
            let (short, long) = (rows.min(columns), rows.max(columns));
            for sizes in [(long, short, short), (short, short, short), (short, short, long)] {
                products.prepare(device, sizes)?;
            }
            let momentum = vec![0.0; shape.iter().product()];
            matrices.push(Matrices { rows, columns, momentum });
        }
        Ok(Muon { options, matrices, products })
    }

    /// Of every tensor the running mean of its gradients.
    pub fn momentum(&self) -> impl Iterator<Item = &[f32]> {
        self.matrices.iter().map(|m| &m.momentum[..])
    }

    /// Goes on from where another one was, with its running means in the tensors' order.
    ///
    /// # Panics
    /// When there are not as many, or one is not of its size.
    pub fn restore(&mut self, momentum: Vec<Vec<f32>>) {
        assert!(momentum.len() == self.matrices.len(), "as many tensors as shapes");
        for (matrices, momentum) in self.matrices.iter_mut().zip(momentum) {
            assert!(momentum.len() == matrices.momentum.len(), "a tensor of its size");
            matrices.momentum = momentum;
        }
    }

    /// One step of all tensors, in the order of their shapes, at a learning rate. Gradients are multiplied by
    /// `gradient_scale` first (for clipping).
    ///
    /// # Errors
    /// When a product cannot be computed.
    ///
    /// # Panics
    /// When there are not as many tensors, or one is not of its size.
    pub fn step<'a>(
        &mut self,
        updates: impl IntoIterator<Item = Update<'a>>,
        learning_rate: f32,
        gradient_scale: f32,
    ) -> Result<(), RunError> {
        let MuonOptions { momentum: keep, weight_decay, .. } = self.options;
        let mut all = self.matrices.iter_mut();
        for update in updates {
            let Matrices { rows, columns, momentum } = all.next().expect("as many tensors as shapes");
            let size = *rows * *columns;
            assert!(update.parameters.len() == momentum.len(), "a tensor of its size");
            assert!(update.gradients.len() == momentum.len(), "gradients of its size");
            let decay = if update.decays { 1.0 - learning_rate * weight_decay } else { 1.0 };
            let length = learning_rate * STEP * (*rows.max(columns) as f32).sqrt();
            let stack = momentum.chunks_mut(size).zip(update.gradients.chunks(size));
            for (parameters, (mean, gradients)) in update.parameters.chunks_mut(size).zip(stack) {
                let mut ahead = Vec::with_capacity(size);
                for (mean, gradient) in mean.iter_mut().zip(gradients) {
                    let gradient = gradient * gradient_scale;
                    *mean += (1.0 - keep) * (gradient - *mean);
                    // Nesterov's: as the mean will be with this gradient once more.
                    ahead.push(gradient + keep * (*mean - gradient));
                }
                let direction = self.products.orthogonal(ahead, *rows, *columns)?;
                for (x, direction) in parameters.iter_mut().zip(direction) {
                    *x = *x * decay - length * direction;
                }
            }
        }
        assert!(all.next().is_none(), "as many tensors as shapes");
        Ok(())
    }
}

/// Products of matrices on a device, by their sizes.
struct Products {
    bf16: bool,
    programs: HashMap<Sizes, Box<dyn Program>>,
}

/// Of Aᵀ B: the rows of both, the columns of A, and those of B.
type Sizes = (usize, usize, usize);

impl Products {
    fn prepare(&mut self, device: &dyn Device, sizes: Sizes) -> Result<(), CompileError> {
        if self.programs.contains_key(&sizes) {
            return Ok(());
        }
        let (rows, m, n) = sizes;
        let limits = Limits { tokens: rows, sequences: 1, outputs: 0, blocks: 0, cache: CacheDType::F32 };
        let zeros = Zeros { shape: [m, n], bf16: self.bf16 };
        let program = device.compile(Arc::new(product(m, n)), &zeros, limits)?;
        self.programs.insert(sizes, program);
        Ok(())
    }

    /// Aᵀ B, row-major.
    fn product(&mut self, sizes: Sizes, a: &[f32], b: &[f32]) -> Result<&[f32], RunError> {
        let program = self.programs.get_mut(&sizes).expect("a product that was prepared");
        program.clear_gradients();
        let sequences = [SequenceStep { position: 0, tokens: sizes.0, blocks: &[] }];
        program.run(&Step {
            tokens: &[],
            sequences: &sequences,
            outputs: &[],
            inputs: &[a, b],
            weights: &[],
        })?;
        let only = product(1, 1).weight_ids().next().expect("a product has one weight");
        Ok(program.gradient(only))
    }

    /// U Vᵀ of the singular value decomposition U Σ Vᵀ of a matrix, nearly: a few of the steps of Newton and Schulz.
    fn orthogonal(&mut self, mut x: Vec<f32>, rows: usize, columns: usize) -> Result<Vec<f32>, RunError> {
        let turned = rows > columns;
        if turned {
            x = transpose(&x, rows, columns);
        }
        let (m, n) = (rows.min(columns), rows.max(columns));
        let norm = sum_of_squares([&x[..]]).sqrt() as f32 + 1e-7;
        x.iter_mut().for_each(|x| *x /= norm);
        let [a, b, c] = POLYNOMIAL;
        for _ in 0..ITERATIONS {
            let y = transpose(&x, m, n);
            let square = self.product((n, m, m), &y, &y)?.to_vec();
            let fourth = self.product((m, m, m), &square, &square)?;
            let sum: Vec<f32> = square.iter().zip(fourth).map(|(s, f)| b * s + c * f).collect();
            // The sum is symmetric: its transpose is itself.
            let more = self.product((m, m, n), &sum, &x)?;
            x.iter_mut().zip(more).for_each(|(x, more)| *x = a * *x + more);
        }
        Ok(if turned { transpose(&x, m, n) } else { x })
    }
}

/// The transpose of a row-major matrix.
fn transpose(x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const TILE: usize = 16;
    let mut out = vec![0.0; x.len()];
    for i in (0..rows).step_by(TILE) {
        for j in (0..columns).step_by(TILE) {
            for row in i..rows.min(i + TILE) {
                for column in j..columns.min(j + TILE) {
                    out[column * rows + row] = x[row * columns + column];
                }
            }
        }
    }
    out
}

/// The weight of a product, which only lends its gradient.
struct Zeros {
    shape: [usize; 2],
    bf16: bool,
}

impl Weights for Zeros {
    fn get(&self, _name: &str) -> Result<Tensor<'_>, WeightError> {
        let dtype = if self.bf16 { DType::BF16 } else { DType::F32 };
        let bytes = self.shape[0] * self.shape[1] * dtype.block_bytes();
        Ok(Tensor { dtype, shape: self.shape.to_vec(), parts: vec![vec![0; bytes].into()] })
    }
}

#[cfg(test)]
mod tests {
    use autarky_graph::conformance::Rng;
    use autarky_graph::reference::Reference;

    use super::*;

    /// Muon as its author writes it, in f64.
    fn orthogonal(x: &[f64], rows: usize, columns: usize) -> Vec<f64> {
        let product = |a: &[f64], b: &[f64], (r, k, c): (usize, usize, usize)| -> Vec<f64> {
            (0..r * c).map(|i| (0..k).map(|j| a[i / c * k + j] * b[j * c + i % c]).sum()).collect()
        };
        let turn = |x: &[f64], r: usize, c: usize| -> Vec<f64> {
            (0..r * c).map(|i| x[i % r * c + i / r]).collect()
        };
        if rows > columns {
            return turn(&orthogonal(&turn(x, rows, columns), columns, rows), columns, rows);
        }
        let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt() + 1e-7;
        let mut x: Vec<f64> = x.iter().map(|x| x / norm).collect();
        for _ in 0..5 {
            let a = product(&x, &turn(&x, rows, columns), (rows, columns, rows));
            let aa = product(&a, &a, (rows, rows, rows));
            let b: Vec<f64> = a.iter().zip(&aa).map(|(a, aa)| -4.775 * a + 2.0315 * aa).collect();
            let bx = product(&b, &x, (rows, rows, columns));
            x = x.iter().zip(&bx).map(|(x, bx)| 3.4445 * x + bx).collect();
        }
        x
    }

    #[test]
    fn steps_are_those_of_its_author() {
        let mut rng = Rng::new(7);
        for shape in [&[4, 6][..], &[7, 3], &[2, 5, 5]] {
            let [.., rows, columns] = *shape else { unreachable!() };
            let size: usize = shape.iter().product();
            let mut numbers = |n: usize| (0..n).map(|_| rng.uniform() - 0.5).collect::<Vec<f32>>();
            let mut x = numbers(size);
            let mut expected: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
            let mut mean = vec![0.0f64; size];
            let options = MuonOptions { bf16: false, ..MuonOptions::default() };
            let mut muon = Muon::new(&Reference, options, [shape]).unwrap();
            for _ in 0..3 {
                let gradients = numbers(size);
                let update = Update { parameters: &mut x, gradients: &gradients, decays: true };
                muon.step([update], 0.02, 0.5).unwrap();
                let gradients: Vec<f64> = gradients.iter().map(|&g| f64::from(g) * 0.5).collect();
                mean.iter_mut().zip(&gradients).for_each(|(m, g)| *m = 0.95 * *m + 0.05 * g);
                let ahead: Vec<f64> = mean.iter().zip(&gradients).map(|(m, g)| 0.95 * m + 0.05 * g).collect();
                let length = 0.02 * 0.2 * (rows.max(columns) as f64).sqrt();
                for (i, ahead) in ahead.chunks(rows * columns).enumerate() {
                    for (j, d) in orthogonal(ahead, rows, columns).into_iter().enumerate() {
                        let x = &mut expected[i * rows * columns + j];
                        *x = *x * (1.0 - 0.02 * 0.1) - length * d;
                    }
                }
            }
            for (x, expected) in x.iter().zip(&expected) {
                assert!((f64::from(*x) - expected).abs() < 1e-5, "{shape:?}: {x} {expected}");
            }
        }
    }
}
