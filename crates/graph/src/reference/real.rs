//! The numbers that the interpreter computes with.

use std::ops::{Add, Mul};

/// f32, as devices compute; or f64, in which a derivative can be checked by differences.
pub(crate) trait Real:
    Copy + Default + PartialOrd + Send + Into<f64> + From<f32> + Add<Output = Self> + Mul<Output = Self> + 'static
{
    /// The nearest one.
    fn of(x: f64) -> Self;
}

impl Real for f32 {
    fn of(x: f64) -> f32 {
        x as f32
    }
}

impl Real for f64 {
    fn of(x: f64) -> f64 {
        x
    }
}
