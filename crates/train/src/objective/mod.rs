//! What a run learns from, where that is not the next token of a text: preferences, or rewards of its own answers.
//!
//! Module map: `config` what is asked for · `begin` from files to the first step · `dpo` pairs of answers · `grpo` rewards ·
//! `factors` both as mathematics · `prompts` what is asked · `draw` answers from the model in training.
//!
//! The gradient of either objective is a sum over tokens of a factor times the gradient of their cross entropy, and a factor
//! for every token is what a training program takes. So an objective computes factors, and nothing below it knows of it.

mod begin;
pub mod config;
mod dpo;
mod draw;
pub mod factors;
mod grpo;
mod prompts;

use std::path::Path;

use autarky_graph::Device;

use crate::config::Config;
use crate::metrics::Metric;
use crate::plan::RunPlan;
use crate::ranks::Shards;
use crate::run::RunError;
use crate::subject::Subject;
use crate::trainer::Trainer;

pub(crate) use begin::go;

/// What an objective needs to know of the run that it is in.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) config: &'a Config,
    pub(crate) device: &'a dyn Device,
    pub(crate) subject: &'a Subject,
    pub(crate) plan: &'a RunPlan,
    pub(crate) folder: &'a Path,
    pub(crate) shards: Shards<'a>,
}

/// What a step came to.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// The loss before it; none where there was nothing to learn.
    pub(crate) loss: Option<f32>,
    /// The norm of its gradients.
    pub(crate) norm: Option<f32>,
    /// Tokens that were learned.
    pub(crate) tokens: usize,
    /// Passes over the data so far.
    pub(crate) epoch: f64,
    /// What else is told of it.
    pub(crate) metric: Option<Metric>,
}

/// What a run learns from.
pub(crate) trait Objective {
    /// Called once by all ranks, while the trainer has the weights that the run begins with.
    fn begin(&mut self, place: &Place<'_>, trainer: &mut Trainer) -> Result<(), RunError>;

    /// Step `step`, the first being 0. What it does depends on the seed, the step, the number of shards and the weights alone.
    /// All ranks call it.
    fn step(
        &mut self,
        place: &Place<'_>,
        trainer: &mut Trainer,
        step: u64,
        rate: f32,
    ) -> Result<Taken, RunError>;

    /// How well the model does on what is held out, if anything is: a number, and the line for it. One rank calls it.
    fn evaluate(
        &mut self,
        place: &Place<'_>,
        trainer: &mut Trainer,
        step: u64,
    ) -> Result<Option<(f64, Metric)>, RunError>;
}

/// The sums of what was said of every shard.
fn total<const N: usize>(said: &[[f64; N]]) -> [f64; N] {
    said.iter().fold([0.0; N], |sum, said| std::array::from_fn(|i| sum[i] + said[i]))
}

/// Which of `count` things every step takes: pass after pass, each in an order of its own.
#[derive(Debug)]
struct Order {
    count: usize,
    seed: u64,
    pass: Option<(u64, Vec<u32>)>,
}

impl Order {
    fn new(count: usize, seed: u64) -> Order {
        Order { count, seed, pass: None }
    }

    /// The `each` things of a step.
    fn of(&mut self, step: u64, each: usize) -> Vec<usize> {
        let first = step * each as u64;
        (first..first + each as u64).map(|i| self.at(i)).collect()
    }

    fn at(&mut self, index: u64) -> usize {
        let (epoch, within) = (index / self.count as u64, (index % self.count as u64) as usize);
        if self.pass.as_ref().is_none_or(|(of, _)| *of != epoch) {
            let mut order: Vec<u32> = (0..self.count as u32).collect();
            let seed = self.seed ^ epoch.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            autarky_graph::conformance::Rng::new(seed).shuffle(&mut order);
            self.pass = Some((epoch, order));
        }
        self.pass.as_ref().map_or(0, |(_, order)| order[within] as usize)
    }

    /// Passes after so many steps.
    fn epochs(&self, steps: u64, each: usize) -> f64 {
        (steps * each as u64) as f64 / self.count as f64
    }
}

#[cfg(test)]
mod tests {
    use super::Order;

    #[test]
    fn a_pass_takes_everything_once_wherever_it_is_begun() {
        let mut order = Order::new(10, 3);
        let steps: Vec<Vec<usize>> = (0..7).map(|step| order.of(step, 4)).collect();
        let mut passes = steps.concat();
        passes.truncate(20);
        for pass in passes.chunks_mut(10) {
            pass.sort_unstable();
            assert_eq!(pass, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(steps.concat()[..10], steps.concat()[10..20]);
        for (step, expected) in steps.iter().enumerate().rev() {
            assert_eq!(Order::new(10, 3).of(step as u64, 4), *expected);
        }
        assert_eq!(order.epochs(5, 4), 2.0);
    }
}
