//! Corrections that measured runs teach, and how far to trust a prediction.
//!
//! The physics of [`crate::predict`] have one number for each efficiency. What they leave unexplained is learned by
//! kernel regression (a Gaussian process) on the logarithm of measured / predicted. Its covariance says which runs speak
//! for which: efficiencies vary by chip, by software and by format, and runs that are alike in size deviate alike. A
//! chip without runs is spoken for by its vendor's and its class's. Intervals are the regression's own spread, scaled so
//! that they cover 80 % of runs that were left out (split-conformal, by kind).
//!
//! Module map: `matrix` symmetric matrices · `sample` a job in numbers · `kernel` how much two jobs have in common ·
//! `regression` the corrections · `search` the efficiencies and the kernel's scales · `cross` what is left out and how
//! well it is predicted · `agreement` how near published runs are to each other · `stored` the result, a file of the
//! tree · `predictor` all of it in use.

mod agreement;
mod cross;
mod kernel;
mod matrix;
mod predictor;
mod regression;
mod sample;
mod search;
mod stored;

pub use agreement::{Alike, Replicate, documents_of, replicates};
pub use cross::{CrossReport, CrossRow, LeftOut, cross_validate, intervals};
pub use kernel::Kernel;
pub use predictor::{Basis, Prediction, Predictor};
pub use search::{Effort, refit};
pub use stored::{Fit, Fits, Interval};
