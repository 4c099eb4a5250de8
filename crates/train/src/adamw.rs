//! AdamW: steps along a running mean of gradients, each number scaled by its own running deviation, with weight decay
//! apart from both (Kingma & Ba 2015, arXiv:1412.6980; Loshchilov & Hutter 2019, arXiv:1711.05101).

use crate::parallel::{self, PIECE};

/// What an [`AdamW`] goes by; the usual values are those of PyTorch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWOptions {
    /// How much of the running mean of gradients stays in a step: β₁.
    pub first_decay: f32,
    /// The same of the running mean of their squares: β₂.
    pub second_decay: f32,
    /// Added to the deviation that a step is divided by: ε.
    pub epsilon: f32,
    /// The part of itself, times the learning rate, that a decaying parameter loses in a step.
    pub weight_decay: f32,
}

impl Default for AdamWOptions {
    fn default() -> AdamWOptions {
        AdamWOptions { first_decay: 0.9, second_decay: 0.999, epsilon: 1e-8, weight_decay: 0.01 }
    }
}

/// The optimizer's memory of some tensors of parameters.
#[derive(Clone, Debug)]
pub struct AdamW {
    options: AdamWOptions,
    steps: i32,
    tensors: Vec<Moments>,
}

/// The running means of a tensor's gradients and of their squares.
#[derive(Clone, Debug)]
struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

/// One tensor in a step.
#[derive(Debug)]
pub struct Update<'a> {
    /// Its numbers, which the step changes.
    pub parameters: &'a mut [f32],
    /// The derivatives of the loss by them.
    pub gradients: &'a [f32],
    /// Whether weight decay applies to it.
    pub decays: bool,
}

impl AdamW {
    /// An optimizer of tensors of these sizes, before its first step.
    pub fn new(options: AdamWOptions, sizes: impl IntoIterator<Item = usize>) -> AdamW {
        let moments = |n| Moments { first: vec![0.0; n], second: vec![0.0; n] };
        AdamW { options, steps: 0, tensors: sizes.into_iter().map(moments).collect() }
    }

    /// Steps that were taken.
    pub fn steps(&self) -> u32 {
        self.steps.unsigned_abs()
    }

    /// Of every tensor the running means of its gradients and of their squares.
    pub fn moments(&self) -> impl Iterator<Item = (&[f32], &[f32])> {
        self.tensors.iter().map(|t| (&t.first[..], &t.second[..]))
    }

    /// Goes on from where another one was. The moments are of the same tensors, in their order.
    ///
    /// # Panics
    /// When there are not as many tensors, or one is not of its size.
    pub fn restore(&mut self, steps: u32, moments: Vec<(Vec<f32>, Vec<f32>)>) {
        assert!(moments.len() == self.tensors.len(), "as many tensors as sizes");
        for (tensor, (first, second)) in self.tensors.iter_mut().zip(moments) {
            let size = tensor.first.len();
            assert!(first.len() == size && second.len() == size, "a tensor of its size");
            *tensor = Moments { first, second };
        }
        self.steps = i32::try_from(steps).unwrap_or(i32::MAX);
    }

    /// One step of all tensors, in the order of their sizes, at a learning rate. Gradients are multiplied by
    /// `gradient_scale` first (for clipping).
    ///
    /// # Panics
    /// When there are not as many tensors, or one is not of its size.
    pub fn step<'a>(
        &mut self,
        updates: impl IntoIterator<Item = Update<'a>>,
        learning_rate: f32,
        gradient_scale: f32,
    ) {
        self.steps += 1;
        let o = self.options;
        // Both means begin at zero; this makes up for it.
        let bias = |decay: f32| 1.0 - f64::from(decay).powi(self.steps);
        let rate = (f64::from(learning_rate) / bias(o.first_decay)) as f32;
        let root = bias(o.second_decay).sqrt() as f32;
        let mut tensors = self.tensors.iter_mut();
        let mut pieces = Vec::new();
        for update in updates {
            let moments = tensors.next().expect("as many tensors as sizes");
            assert!(update.parameters.len() == moments.first.len(), "a tensor of its size");
            assert!(update.gradients.len() == moments.first.len(), "gradients of its size");
            let keep = if update.decays { 1.0 - learning_rate * o.weight_decay } else { 1.0 };
            let of_parameters = update.parameters.chunks_mut(PIECE).zip(update.gradients.chunks(PIECE));
            let means = moments.first.chunks_mut(PIECE).zip(moments.second.chunks_mut(PIECE));
            pieces.extend(of_parameters.zip(means).map(|((x, g), (m, v))| (keep, x, g, m, v)));
        }
        assert!(tensors.next().is_none(), "as many tensors as sizes");
        parallel::for_each(pieces, |(keep, parameters, gradients, first, second)| {
            let numbers = parameters.iter_mut().zip(gradients).zip(first.iter_mut().zip(second));
            for ((x, gradient), (first, second)) in numbers {
                let gradient = gradient * gradient_scale;
                *first += (1.0 - o.first_decay) * (gradient - *first);
                *second = o.second_decay * *second + (1.0 - o.second_decay) * gradient * gradient;
                *x = *x * keep - rate * *first / (second.sqrt() / root + o.epsilon);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Its definition, in f64 (algorithm 2 of the paper).
        #[test]
        fn steps_are_those_of_the_paper(
            start in -2.0f32..2.0,
            gradients in prop::collection::vec(-3.0f32..3.0, 1..20),
            rate in 1e-4f32..1e-1,
            decays: bool,
        ) {
            let options = AdamWOptions { weight_decay: 0.1, ..AdamWOptions::default() };
            let mut optimizer = AdamW::new(options, [1]);
            let mut x = [start];
            let (mut m, mut v, mut expected) = (0.0, 0.0, f64::from(start));
            for (t, &g) in gradients.iter().enumerate() {
                let update = Update { parameters: &mut x, gradients: &[g], decays };
                optimizer.step([update], rate, 0.5);
                let (g, rate) = (f64::from(g) * 0.5, f64::from(rate));
                let [b1, b2] = [options.first_decay, options.second_decay].map(f64::from);
                m = b1 * m + (1.0 - b1) * g;
                v = b2 * v + (1.0 - b2) * g * g;
                let decay = if decays { rate * f64::from(options.weight_decay) } else { 0.0 };
                let t = t as i32 + 1;
                let (m, v): (f64, f64) = (m / (1.0 - b1.powi(t)), v / (1.0 - b2.powi(t)));
                expected = expected * (1.0 - decay) - rate * m / (v.sqrt() + f64::from(options.epsilon));
            }
            prop_assert!((f64::from(x[0]) - expected).abs() < 1e-5 * (1.0 + expected.abs()), "{} {expected}", x[0]);
        }
    }
}
