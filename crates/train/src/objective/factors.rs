//! What objectives come to for every token: a loss, and the factor of the token's cross entropy in its gradient.
//!
//! A token's cross entropy is -log π, so a loss L has the factor -∂L / ∂ log π.

/// The loss of a pair (Rafailov et al. 2023, arXiv:2305.18290, equation 7), with what the gradient is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// -log σ(margin).
    pub loss: f64,
    /// How much more the policy prefers the chosen answer than the reference does, times β.
    pub margin: f64,
    /// The factor of every token of the chosen answer; that of the rejected one has the other sign.
    pub factor: f64,
}

/// The loss of a pair from the log probabilities of the `[chosen, rejected]` answers under the policy and the reference.
pub fn pair(policy: [f64; 2], reference: [f64; 2], beta: f64) -> Pair {
    let margin = beta * ((policy[0] - reference[0]) - (policy[1] - reference[1]));
    // Without overflow on either side.
    let loss = (-margin).max(0.0) + (-margin.abs()).exp().ln_1p();
    let wrong =
        if margin > 0.0 { (-margin).exp() / (1.0 + (-margin).exp()) } else { 1.0 / (1.0 + margin.exp()) };
    Pair { loss, margin, factor: beta * wrong }
}

/// How much better each answer to a prompt is than the mean of them (Shao et al. 2024, arXiv:2402.03300, section 4.1.2), over
/// the deviation of the rewards where that is asked for. All zero where all rewards are equal.
pub fn advantages(rewards: &[f64], divide: bool) -> Vec<f64> {
    if rewards.windows(2).all(|w| w[0] == w[1]) {
        return vec![0.0; rewards.len()];
    }
    let n = rewards.len() as f64;
    let mean = rewards.iter().sum::<f64>() / n;
    let deviation = (rewards.iter().map(|r| (r - mean) * (r - mean)).sum::<f64>() / n).sqrt();
    let by = if divide { deviation + 1e-6 } else { 1.0 };
    rewards.iter().map(|r| (r - mean) / by).collect()
}

/// What a token of an answer is learned by.
#[derive(Clone, Copy, Debug)]
pub struct Surrogate {
    /// Ratios count down to 1 - this.
    pub clip_low: f64,
    /// Ratios count up to 1 + this.
    pub clip_high: f64,
    /// What divergence from the reference costs.
    pub kl: f64,
}

/// A token's loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Token {
    /// -min(ρ A, clip(ρ) A) + kl · (r - log r - 1).
    pub loss: f64,
    /// Its factor.
    pub factor: f64,
    /// Whether the clip took its gradient away.
    pub clipped: bool,
    /// The estimate r - log r - 1 of the divergence, r being reference over policy (Schulman 2020, "k3").
    pub divergence: f64,
}

impl Surrogate {
    /// The loss of a token with this advantage: `policy`, `old` and `reference` are its log probabilities now, when it was
    /// drawn, and under the reference (Shao et al. 2024, arXiv:2402.03300, equations 3 and 4).
    pub fn token(&self, advantage: f64, policy: f64, old: f64, reference: Option<f64>) -> Token {
        let ratio = (policy - old).exp();
        let bounded = ratio.clamp(1.0 - self.clip_low, 1.0 + self.clip_high);
        let clipped = bounded * advantage < ratio * advantage;
        let gained = if clipped { bounded * advantage } else { ratio * advantage };
        let log = reference.map_or(0.0, |reference| reference - policy);
        let divergence = log.exp() - log - 1.0;
        let factor = if clipped { 0.0 } else { ratio * advantage };
        Token {
            loss: self.kl * divergence - gained,
            factor: factor + self.kl * (log.exp() - 1.0),
            clipped,
            divergence,
        }
    }
}
