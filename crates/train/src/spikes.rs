//! Spikes: steps whose gradients are far longer than those of the steps before, as broken data gives them. One such step can
//! undo many (Chowdhery et al. 2022, arXiv:2204.02311, section 5.1, where batches at which losses jumped are skipped).

use std::collections::VecDeque;

/// Norms that are remembered.
const REMEMBERED: usize = 64;

/// Norms from which on one knows what is usual.
const KNOWN: usize = 32;

/// The norms of the last steps' gradients.
#[derive(Clone, Debug, Default)]
pub(crate) struct Norms(VecDeque<f32>);

impl Norms {
    /// Those of a run that goes on, oldest first.
    pub(crate) fn of(norms: &[f32]) -> Norms {
        Norms(norms.iter().copied().collect())
    }

    /// Oldest first.
    pub(crate) fn all(&self) -> Vec<f32> {
        self.0.iter().copied().collect()
    }

    /// Remembers another one, and gives the median of those before it, if there are enough.
    pub(crate) fn add(&mut self, norm: f32) -> Option<f32> {
        let mut sorted = self.all();
        sorted.sort_by(f32::total_cmp);
        let usual = (sorted.len() >= KNOWN).then(|| sorted[sorted.len() / 2]);
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        // Spikes, too: what stays is usual after a while.
        self.0.push_back(norm);
        usual
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_usual_is_the_median_of_the_last() {
        let mut norms = Norms::default();
        for i in 0..KNOWN {
            assert_eq!(norms.add(i as f32), None);
        }
        assert_eq!(norms.add(1e9), Some(16.0));
        assert_eq!(Norms::of(&norms.all()).add(0.0), norms.add(0.0));
        for _ in 0..REMEMBERED {
            norms.add(5.0);
        }
        assert_eq!((norms.all().len(), norms.add(5.0)), (REMEMBERED, Some(5.0)));
    }
}
