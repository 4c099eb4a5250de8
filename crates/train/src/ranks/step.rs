//! A step of a trainer whose rows several ranks share.

use autarky_graph::Device;

use super::{Group, Shards, Share};
use crate::adamw::Update;
use crate::checkpoint::CheckpointError;
use crate::optimizer::Optimizer;
use crate::trainer::{TrainError, Trainer, WeightState};

/// What is said of some shards, and the sum of their gradients; without it, that is in the program.
type Gathered<const N: usize> = (Vec<[f64; N]>, Option<Vec<f32>>);

impl Trainer {
    /// Makes the trainer one of several ranks', before its first step: it keeps the optimizer's state of its part of the
    /// weights alone. `device` is the one that it was made on.
    ///
    /// # Errors
    /// When the device does not run the optimizer's products.
    pub fn share(&mut self, device: &dyn Device, rank: usize, size: usize) -> Result<(), TrainError> {
        let share = Share::new(self.trained.iter().map(|t| (t.numbers.len(), t.whole)), rank, size);
        if size > 1 {
            let parts: Vec<_> = share.parts().into_iter().map(|(i, range)| (i, [range.len()])).collect();
            let weights = parts.iter().map(|(i, cut)| {
                let t = &self.trained[*i];
                (&t.name[..], if t.whole { &t.shape[..] } else { &cut[..] })
            });
            self.optimizer = Optimizer::new(device, (self.options.adamw, self.options.muon), weights)?;
        }
        if let Some(average) = &mut self.average {
            let parts = share.parts().into_iter();
            let own = parts.map(|(i, range)| average.part(i)[range].to_vec()).collect();
            average.restore(own);
        }
        self.shared = Some(share);
        Ok(())
    }

    /// One step over all shards, of which this rank takes its own: `gather` adds the gradients of one to those that are there,
    /// and says some numbers of it, such as its loss. Gives what was said of all shards, in their order, and the norm of their
    /// gradients. Every rank calls it with the same rate, and has the same weights after it.
    ///
    /// # Errors
    /// Those of `gather`, and as [`Trainer::update`]: where any shard has something else than numbers, all ranks say so, and
    /// weights are as they were. When a rank is gone.
    pub(crate) fn step_in_shards<const N: usize>(
        &mut self,
        shards: Shards<'_>,
        learning_rate: f32,
        gather: impl FnMut(&mut Trainer, usize) -> Result<[f64; N], TrainError>,
    ) -> Result<(Vec<[f64; N]>, f32), TrainError> {
        let group = shards.group;
        let (said, gradients) = self.gather_shards(shards, gather)?;
        let said = group.all_say_numbers(said.as_flattened())?;
        if said.iter().any(|x| !x.is_finite()) {
            self.discard();
            return Err(TrainError::NotANumber("loss"));
        }
        let norm = match self.shared.take() {
            None => self.update(learning_rate),
            Some(share) => {
                let norm = self.update_by(group, &share, gradients, learning_rate);
                self.shared = Some(share);
                norm
            }
        };
        self.discard();
        Ok((said.as_chunks().0.to_vec(), norm?))
    }

    /// What is said of this rank's shards, and the sum of their gradients over a binary tree; of a single shard it is left in
    /// the program. Where no number came out, that is what is said, and the gradients are of no use.
    fn gather_shards<const N: usize>(
        &mut self,
        shards: Shards<'_>,
        mut gather: impl FnMut(&mut Trainer, usize) -> Result<[f64; N], TrainError>,
    ) -> Result<Gathered<N>, TrainError> {
        let own = shards.own();
        let mut said = Vec::with_capacity(own.len());
        // Sums of 1, 2, 4, ... shards that wait for as many more.
        let mut sums: Vec<Vec<f32>> = Vec::new();
        for (i, shard) in own.clone().enumerate() {
            said.push(match gather(self, shard) {
                Err(TrainError::NotANumber(_)) => [f64::NAN; N],
                said => said?,
            });
            if own.len() == 1 {
                return Ok((said, None));
            }
            let gradients = self.gradients();
            match sums.last_mut().filter(|_| i % 2 == 1) {
                Some(sum) => {
                    let mut rest = &mut sum[..];
                    for gradients in gradients {
                        let (sum, later) = rest.split_at_mut(gradients.len());
                        sum.iter_mut().zip(&*gradients).for_each(|(sum, x)| *sum += x);
                        rest = later;
                    }
                }
                None => sums.push(gradients.concat()),
            }
            self.discard();
            // After shard 3 the sums of two become one of four, and so on.
            for _ in 1..(i + 1).trailing_zeros() {
                if let (Some(later), Some(sum)) = (sums.pop(), sums.last_mut()) {
                    sum.iter_mut().zip(&later).for_each(|(sum, x)| *sum += x);
                }
            }
        }
        Ok((said, sums.pop()))
    }

    /// As [`Trainer::update`], by the sum of all ranks' gradients: those given, or those in the program.
    fn update_by(
        &mut self,
        group: &Group<'_>,
        share: &Share,
        gradients: Option<Vec<f32>>,
        learning_rate: f32,
    ) -> Result<f32, TrainError> {
        let sum = match gradients {
            Some(all) if group.size() == 1 => all,
            Some(all) => share.sum(group, &[&all])?,
            None => {
                let own = self.gradients();
                let own: Vec<&[f32]> = own.iter().map(|gradients| &**gradients).collect();
                share.sum(group, &own)?
            }
        };
        let norm = share.sum_of_squares(group, &sum)?.sqrt() as f32;
        let scale = self.scale_for(norm, learning_rate)?;
        let mut parts = share.parts().into_iter().peekable();
        let (mut updates, mut rest) = (Vec::new(), &sum[..]);
        for (i, t) in self.trained.iter_mut().enumerate() {
            let Some((_, range)) = parts.next_if(|(weight, _)| *weight == i) else { continue };
            let gradients;
            (gradients, rest) = rest.split_at(range.len());
            updates.push(Update { parameters: &mut t.numbers[range], gradients, decays: t.decays });
        }
        self.optimizer.step(updates.into_iter(), learning_rate, scale)?;
        if let Some(average) = &mut self.average {
            let trained = &self.trained;
            average.add(share.parts().iter().map(|(i, range)| &trained[*i].numbers[range.clone()]));
        }
        let mut weights: Vec<&mut [f32]> = self.trained.iter_mut().map(|t| &mut t.numbers[..]).collect();
        share.spread(group, &mut weights)?;
        self.put_weights()?;
        Ok(norm)
    }

    /// Calls `take` on rank 0 with everything that a later step depends on, weight by weight, wherever it is kept. All ranks
    /// call it.
    ///
    /// # Errors
    /// Those of `take`, and when a rank is gone.
    pub fn each_state(
        &self,
        group: &Group<'_>,
        take: &mut dyn FnMut(WeightState<'_>) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let Some(share) = self.shared.as_ref().filter(|_| group.size() > 1) else {
            return self.state().try_for_each(take);
        };
        let means = self.optimizer.means().enumerate().map(|(part, (first, second))| {
            let average = self.average.as_ref().map_or(&[][..], |average| average.part(part));
            [first, second, average]
        });
        let mut kept = share.parts().into_iter().zip(means).peekable();
        for (i, t) in self.trained.iter().enumerate() {
            let own = kept.next_if(|((weight, _), _)| *weight == i).map(|(_, means)| means);
            let there = [true, !t.whole, self.average.is_some()];
            let mut all = [const { Vec::new() }; 3];
            for ((all, own), there) in all.iter_mut().zip(own.unwrap_or_default()).zip(there) {
                if there {
                    *all = share.collect(group, i, own).map_err(TrainError::from)?.unwrap_or_default();
                }
            }
            if group.writes() {
                let [first, second, average] = all.each_ref().map(|x| &x[..]);
                let (name, shape, numbers) = (&t.name[..], &t.shape[..], &t.numbers[..]);
                take(WeightState { name, shape, numbers, first, second, average })?;
            }
        }
        Ok(())
    }
}
