//! Rows with lengths of their own beside low-rank updates (DoRA; Liu et al. 2024, arXiv:2402.09353, equation 5), in training:
//! W' = m / ‖W + s B A‖ · (W + s B A), row by row.
//!
//! What a graph has of it is m / ‖W + s B A‖, times a constant ([`autarky_graph::adapt`]). Whenever A and B change the norms
//! are found anew, from the model's own weights as they are stored. Norms are no function of A and B for the derivative
//! (section 4.3 of the paper), so what a number of m is multiplied by for the graph is what the graph's derivative by it is
//! multiplied by, too.

use std::borrow::Cow;
use std::sync::Arc;

use autarky_graph::adapt::{DOWN, MAGNITUDE, UP, factor, row_norms};
use autarky_graph::{Program, Weights};

use crate::trainer::{TrainError, Trained, Trainer};

/// The model's own weights, where threads may read them.
pub type Stored = Arc<dyn Weights + Send + Sync>;

/// The norms of rows beside which magnitudes are trained.
pub(crate) struct Norms {
    model: Stored,
    scale: f32,
    rows: Vec<Rows>,
}

/// Those of one weight.
struct Rows {
    weight: String,
    /// The places of m, A and B among what is trained.
    magnitude: usize,
    down: usize,
    up: usize,
    /// ‖W + s B A‖ as A and B are.
    norms: Vec<f32>,
}

impl Norms {
    /// The norms beside trained weight `i`, if that is of magnitudes.
    fn of(&self, i: usize) -> Option<&[f32]> {
        self.rows.iter().find(|rows| rows.magnitude == i).map(|rows| &rows.norms[..])
    }

    /// Finds all norms anew.
    fn find(&mut self, trained: &[Trained]) -> Result<(), TrainError> {
        for rows in &mut self.rows {
            let both = (&trained[rows.down].numbers[..], &trained[rows.up].numbers[..]);
            rows.norms = row_norms(&self.model.get(&rows.weight)?, &rows.weight, both, self.scale)?;
        }
        Ok(())
    }
}

/// What a program has for trained weight `i`, of which these are the numbers.
pub(crate) fn programmed<'a>(norms: Option<&Norms>, i: usize, numbers: &'a [f32]) -> Cow<'a, [f32]> {
    match norms.and_then(|norms| norms.of(i)) {
        Some(norms) => numbers.iter().zip(norms).map(|(&m, &norm)| factor(m, norm)).collect(),
        None => Cow::Borrowed(numbers),
    }
}

/// The gradient by trained weight `i`.
pub(crate) fn gradient<'a>(
    norms: Option<&Norms>,
    program: &'a dyn Program,
    (i, t): (usize, &Trained),
) -> Cow<'a, [f32]> {
    let found = program.gradient(t.id);
    match norms.and_then(|norms| norms.of(i)) {
        Some(norms) => found.iter().zip(norms).map(|(g, &norm)| g * factor(1.0, norm)).collect(),
        None => Cow::Borrowed(found),
    }
}

impl Trainer {
    /// Lets the magnitudes among the trained weights be those of the rows of `model` with their updates times `scale`. Called
    /// once, before the first step, of a trainer of a graph that has magnitudes.
    ///
    /// # Errors
    /// When a weight of the model cannot be read.
    pub fn with_magnitudes(&mut self, model: Stored, scale: f32) -> Result<(), TrainError> {
        let place = |name: String| self.trained.iter().position(|t| t.name == name);
        let rows = self.trained.iter().enumerate().filter_map(|(magnitude, t)| {
            let weight = t.name.strip_suffix(MAGNITUDE)?.to_owned();
            let (down, up) = (place(format!("{weight}{DOWN}"))?, place(format!("{weight}{UP}"))?);
            Some(Rows { weight, magnitude, down, up, norms: Vec::new() })
        });
        self.row_norms = Some(Norms { model, scale, rows: rows.collect() });
        self.put_weights()
    }

    /// Gives the program the trained weights as they are now.
    pub(crate) fn put_weights(&mut self) -> Result<(), TrainError> {
        if let Some(norms) = &mut self.row_norms {
            norms.find(&self.trained)?;
        }
        for (i, t) in self.trained.iter().enumerate() {
            self.program.set_weight(t.id, &programmed(self.row_norms.as_ref(), i, &t.numbers));
        }
        Ok(())
    }

    /// The gradients that the program has, weight by weight.
    pub(crate) fn gradients(&self) -> Vec<Cow<'_, [f32]>> {
        let all = self.trained.iter().enumerate();
        all.map(|it| gradient(self.row_norms.as_ref(), &*self.program, it)).collect()
    }
}
