//! A running mean of the weights in training: average ← d · average + (1 - d) · weights after every step that changes them,
//! beginning with the weights that the run begins with (exponential moving average; Polyak & Juditsky 1992, "Acceleration of
//! stochastic approximation by averaging", with weights that fall instead of even ones). It does better than the weights of
//! any one step where the learning rate is high, and changes nothing of the steps themselves.
//!
//! Where several ranks share the optimizer's state, each keeps the average of its part of the weights; rank 0 has all of it
//! while it is used.

use crate::parallel::{PIECE, for_each};
use crate::ranks::Group;
use crate::trainer::{TrainError, Trainer};

/// The average of some parts of weights.
pub(crate) struct Average {
    decay: f32,
    parts: Vec<Vec<f32>>,
}

impl Average {
    /// The average that begins with these numbers.
    pub(crate) fn new<'a>(decay: f32, parts: impl Iterator<Item = &'a [f32]>) -> Average {
        Average { decay, parts: parts.map(<[f32]>::to_vec).collect() }
    }

    /// The average of part `i`; none while it is in the place of the weights.
    pub(crate) fn part(&self, i: usize) -> &[f32] {
        self.parts.get(i).map_or(&[], |part| part)
    }

    /// Goes on from where another one was.
    pub(crate) fn restore(&mut self, parts: Vec<Vec<f32>>) {
        self.parts = parts;
    }

    /// Takes in the numbers of the same parts after a step.
    pub(crate) fn add<'a>(&mut self, parts: impl Iterator<Item = &'a [f32]>) {
        let decay = self.decay;
        let both = self.parts.iter_mut().zip(parts);
        let pieces = both.flat_map(|(a, x)| a.chunks_mut(PIECE).zip(x.chunks(PIECE))).collect();
        for_each(pieces, |(average, numbers): (&mut [f32], &[f32])| {
            average.iter_mut().zip(numbers).for_each(|(a, x)| *a = decay * *a + (1.0 - decay) * x);
        });
    }
}

impl Trainer {
    /// Calls `f` while rank 0 has the averaged weights in the place of its own; where no average is kept, with the weights as
    /// they are. All ranks call it.
    ///
    /// # Errors
    /// When a rank is gone, or a weight of the model beside which is trained cannot be read.
    pub fn with_average<T>(
        &mut self,
        group: &Group<'_>,
        f: impl FnOnce(&mut Trainer) -> T,
    ) -> Result<T, TrainError> {
        let weights = self.take_average(group)?;
        let result = f(self);
        if let Some(weights) = weights {
            let averaged = self.exchange(weights)?;
            if let Some(average) = self.average.as_mut().filter(|_| group.size() == 1) {
                average.restore(averaged);
            }
        }
        Ok(result)
    }

    /// Puts the averaged weights in the place of rank 0's own, for good, and gives these; nothing where no average is kept, or
    /// on another rank. All ranks call it.
    ///
    /// # Errors
    /// As [`Trainer::with_average`].
    pub fn take_average(&mut self, group: &Group<'_>) -> Result<Option<Vec<Vec<f32>>>, TrainError> {
        let Some(average) = &mut self.average else { return Ok(None) };
        let Some(share) = self.shared.as_ref().filter(|_| group.size() > 1) else {
            let all = std::mem::take(&mut average.parts);
            return Ok(Some(self.exchange(all)?));
        };
        let mut own = share.parts().into_iter().zip(&average.parts).peekable();
        let mut all = Vec::with_capacity(self.trained.len());
        for i in 0..self.trained.len() {
            let part = own.next_if(|((weight, _), _)| *weight == i).map_or(&[][..], |(_, part)| part);
            all.extend(share.collect(group, i, part)?);
        }
        group.writes().then(|| self.exchange(all)).transpose()
    }

    /// Puts numbers in the place of all weights, and gives those that were there.
    fn exchange(&mut self, mut weights: Vec<Vec<f32>>) -> Result<Vec<Vec<f32>>, TrainError> {
        for (t, numbers) in self.trained.iter_mut().zip(&mut weights) {
            std::mem::swap(&mut t.numbers, numbers);
        }
        self.put_weights()?;
        Ok(weights)
    }
}
