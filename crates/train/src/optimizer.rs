//! Which optimizer changes which weight.

use autarky_graph::{CompileError, Device, RunError};

use crate::adamw::{AdamW, AdamWOptions, Update};
use crate::muon::{Muon, MuonOptions};

/// AdamW for all weights, or for those only that are no matrices of layers, beside Muon for these.
pub(crate) struct Optimizer {
    adamw: AdamW,
    muon: Option<Muon>,
    /// For every weight whether it is Muon's.
    by_muon: Vec<bool>,
}

/// Whether Muon, where it is asked for, changes a weight: a matrix of a layer.
pub(crate) fn is_muons(name: &str, shape: &[usize]) -> bool {
    // Not for what tokens go in and out by: its rows are apart from each other (Jordan et al. 2024).
    shape.len() > 1 && name.starts_with("blk.")
}

impl Optimizer {
    /// An optimizer of weights of these names and shapes, before its first step.
    ///
    /// # Errors
    /// When the device does not run Muon's products.
    pub(crate) fn new<'a>(
        device: &dyn Device,
        (adamw, muon): (AdamWOptions, Option<MuonOptions>),
        weights: impl Iterator<Item = (&'a str, &'a [usize])>,
    ) -> Result<Optimizer, CompileError> {
        let (mut sizes, mut matrices, mut by_muon) = (Vec::new(), Vec::new(), Vec::new());
        for (name, shape) in weights {
            by_muon.push(muon.is_some() && is_muons(name, shape));
            match by_muon.last() {
                Some(true) => matrices.push(shape),
                _ => sizes.push(shape.iter().product()),
            }
        }
        let muon = muon.map(|options| Muon::new(device, options, matrices)).transpose()?;
        Ok(Optimizer { adamw: AdamW::new(adamw, sizes), muon, by_muon })
    }

    /// For every weight whether it is Muon's, which changes it as a whole.
    pub(crate) fn by_muon(&self) -> &[bool] {
        &self.by_muon
    }

    /// Steps that were taken.
    pub(crate) fn steps(&self) -> u32 {
        self.adamw.steps()
    }

    /// Of every weight the running mean of its gradients, and that of their squares where it is kept.
    pub(crate) fn means(&self) -> impl Iterator<Item = (&[f32], &[f32])> {
        let mut adamw = self.adamw.moments();
        let mut muon = self.muon.iter().flat_map(Muon::momentum);
        self.by_muon.iter().filter_map(move |by_muon| match by_muon {
            true => muon.next().map(|first| (first, &[][..])),
            false => adamw.next(),
        })
    }

    /// Goes on from where another one was, with what [`Optimizer::means`] gave there.
    pub(crate) fn restore(&mut self, steps: u32, means: Vec<(Vec<f32>, Vec<f32>)>) {
        let (mut moments, mut momentum) = (Vec::new(), Vec::new());
        for (means, by_muon) in means.into_iter().zip(&self.by_muon) {
            match by_muon {
                true => momentum.push(means.0),
                false => moments.push(means),
            }
        }
        self.adamw.restore(steps, moments);
        if let Some(muon) = &mut self.muon {
            muon.restore(momentum);
        }
    }

    /// One step of all weights, in their order, at a learning rate. Gradients are multiplied by `gradient_scale` first.
    ///
    /// # Errors
    /// When one of Muon's products cannot be computed.
    pub(crate) fn step<'a>(
        &mut self,
        updates: impl Iterator<Item = Update<'a>>,
        learning_rate: f32,
        gradient_scale: f32,
    ) -> Result<(), RunError> {
        let (mut adamw, mut matrices) = (Vec::new(), Vec::new());
        for (update, by_muon) in updates.zip(&self.by_muon) {
            if *by_muon { &mut matrices } else { &mut adamw }.push(update);
        }
        if let Some(muon) = &mut self.muon {
            muon.step(matrices, learning_rate, gradient_scale)?;
        }
        self.adamw.step(adamw, learning_rate, gradient_scale);
        Ok(())
    }
}
