//! Learning rates, step by step.

use serde::{Deserialize, Serialize};

/// How the learning rate falls after its warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// Not at all.
    Constant,
    /// In a straight line.
    Linear,
    /// Along half a wave (Loshchilov & Hutter 2017, arXiv:1608.03983).
    #[default]
    Cosine,
    /// Not until the last part of the run, then in a straight line (warm-up, stable, decay; Hu et al. 2024,
    /// arXiv:2404.06395).
    Wsd,
}

/// The learning rate of every step of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// How it falls.
    pub decay: Decay,
    /// The highest rate.
    pub peak: f32,
    /// What it falls to, as a part of the highest.
    pub floor: f32,
    /// Steps in which it rises to the highest.
    pub warmup: u64,
    /// Steps of the run.
    pub steps: u64,
    /// The part of the run in which [`Decay::Wsd`] falls.
    pub cooldown: f32,
}

impl Schedule {
    /// The rate of step `step`, the first being 0.
    pub fn rate(&self, step: u64) -> f32 {
        if step < self.warmup {
            return (f64::from(self.peak) * (step + 1) as f64 / self.warmup as f64) as f32;
        }
        let falling = match self.decay {
            Decay::Constant => return self.peak,
            Decay::Linear | Decay::Cosine => self.steps.saturating_sub(self.warmup),
            Decay::Wsd => (self.steps as f64 * f64::from(self.cooldown)).round() as u64,
        };
        let begin = self.steps.saturating_sub(falling).max(self.warmup);
        let length = self.steps.saturating_sub(begin).max(1) as f64;
        let done = (step.saturating_sub(begin) as f64 / length).min(1.0);
        let left = match self.decay {
            Decay::Cosine => 0.5 + 0.5 * libm::cos(std::f64::consts::PI * done),
            _ => 1.0 - done,
        };
        let floor = f64::from(self.floor);
        (f64::from(self.peak) * (floor + (1.0 - floor) * left)) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(decay: Decay) -> Vec<f32> {
        let schedule = Schedule { decay, peak: 1.0, floor: 0.1, warmup: 4, steps: 24, cooldown: 0.25 };
        (0..26).map(|step| schedule.rate(step)).collect()
    }

    #[test]
    fn rates_rise_to_the_peak_and_fall_to_the_floor() {
        for decay in [Decay::Constant, Decay::Linear, Decay::Cosine, Decay::Wsd] {
            let rates = rates(decay);
            assert_eq!(rates[..5], [0.25, 0.5, 0.75, 1.0, 1.0], "{decay:?}");
            assert!(rates[4..].windows(2).all(|w| w[1] <= w[0]), "{decay:?}: {rates:?}");
        }
        assert_eq!(rates(Decay::Constant)[25], 1.0);
        for decay in [Decay::Linear, Decay::Cosine, Decay::Wsd] {
            assert!((rates(decay)[24] - 0.1).abs() < 1e-6, "{decay:?}");
            assert_eq!(rates(decay)[25], rates(decay)[24]);
        }
        assert!((rates(Decay::Linear)[14] - 0.55).abs() < 1e-6);
        assert!((rates(Decay::Cosine)[14] - 0.55).abs() < 1e-6);
        assert_eq!(rates(Decay::Wsd)[18], 1.0);
        assert!((rates(Decay::Wsd)[21] - 0.55).abs() < 1e-6);
    }

    #[test]
    fn runs_without_room_for_warmup_or_decay_have_rates() {
        for decay in [Decay::Constant, Decay::Linear, Decay::Cosine, Decay::Wsd] {
            for (warmup, steps) in [(0, 0), (0, 1), (5, 3), (1, 1)] {
                let schedule = Schedule { decay, peak: 1e-3, floor: 0.0, warmup, steps, cooldown: 1.0 };
                for step in 0..8 {
                    let rate = schedule.rate(step);
                    assert!((0.0..=1e-3).contains(&rate), "{schedule:?} {step}: {rate}");
                }
            }
        }
    }
}
