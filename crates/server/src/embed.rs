//! Vectors of texts: the seam to what a model gives for them.

use crate::error::ApiError;
use crate::registry::Lease;

/// A vector for each of `texts`, which are in tokens.
///
/// # Errors
/// When the model gives none.
pub(crate) async fn embed(lease: &Lease, _texts: Vec<Vec<u32>>) -> Result<Vec<Vec<f32>>, ApiError> {
    let what =
        format!("`{}` writes text and gives no embeddings; use a model that was made for them", lease.name);
    Err(ApiError::parameter("model", what).code("unsupported_model"))
}

/// Makes `vector` of length 1, with its first `dimensions` numbers only if that is said (Kusupati et al. 2022,
/// "Matryoshka Representation Learning", arXiv:2205.13147).
pub(crate) fn normalize(mut vector: Vec<f32>, dimensions: Option<usize>) -> Vec<f32> {
    vector.truncate(dimensions.unwrap_or(usize::MAX));
    let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
    vector
}

/// The cosine of the angle between two vectors of length 1.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}
