//! Vectors of texts: the seam to what a model gives for them.

use std::collections::VecDeque;

use autarky_engine::Sampling;
use autarky_engine::service::{Goal, Job, JobEvent, Pooling};

use crate::error::ApiError;
use crate::state::AppState;
use crate::stream::JobStream;

/// Texts of one request that are computed at the same time; the others wait here, and take no place in the queue.
const AT_ONCE: usize = 8;

/// A vector for each of `texts`, which are in tokens: the mean of their hidden states.
///
/// # Errors
/// When there is no such model, it gives none, or there is no room.
pub(crate) async fn embed(
    state: &AppState,
    model: &str,
    texts: Vec<Vec<u32>>,
) -> Result<Vec<Vec<f32>>, ApiError> {
    let mut running = VecDeque::new();
    let mut vectors = Vec::with_capacity(texts.len());
    for text in texts {
        if running.len() >= AT_ONCE
            && let Some(first) = running.pop_front()
        {
            vectors.push(vector(first).await?);
        }
        let mut job = Job::new(text, Sampling::greedy());
        job.goal = Goal::Embedding(Pooling::Mean);
        let stream = JobStream::submit(state.registry.get(model).await?, job);
        running.push_back(stream.map_err(|refused| match ApiError::from(refused) {
            error if error.param.as_deref() == Some("prompt") => error.about("input"),
            error => error,
        })?);
    }
    for stream in running {
        vectors.push(vector(stream).await?);
    }
    Ok(vectors)
}

/// Waits for the vector of one text.
async fn vector(mut stream: JobStream) -> Result<Vec<f32>, ApiError> {
    while let Some(event) = stream.next().await {
        match event {
            JobEvent::Embedding(vector) => return Ok(vector),
            JobEvent::Failed(error) => return Err(error.into()),
            _ => {}
        }
    }
    Err(ApiError::internal("the model's engine has stopped; try again"))
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
