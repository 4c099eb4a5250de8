//! Sizes: fixed numbers and the symbols that a step binds.

use std::fmt;

/// A size that changes from step to step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Symbol {
    /// Tokens in the step, over all sequences.
    Tokens,
    /// Tokens whose results are wanted.
    Outputs,
    /// Sequences in the step.
    Sequences,
    /// Pairs of a query and a key that causal attention computes; each query sees at most `window` keys.
    Attended {
        /// The sliding window in positions, or none.
        window: Option<usize>,
    },
    /// Positions of the KV cache that attention has to read, each once a sequence.
    Cached {
        /// The sliding window in positions, or none.
        window: Option<usize>,
    },
    /// Distinct experts that the step's tokens reach, expected under uniform routing.
    Reached {
        /// Experts in the layer.
        experts: usize,
        /// Experts that a token uses.
        per_token: usize,
    },
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Symbol::Tokens => f.write_str("tokens"),
            Symbol::Outputs => f.write_str("outputs"),
            Symbol::Sequences => f.write_str("sequences"),
            Symbol::Attended { window: None } => f.write_str("attended"),
            Symbol::Attended { window: Some(w) } => write!(f, "attended(window {w})"),
            Symbol::Cached { window: None } => f.write_str("cached"),
            Symbol::Cached { window: Some(w) } => write!(f, "cached(window {w})"),
            Symbol::Reached { experts, per_token } => write!(f, "reached({per_token} of {experts} experts)"),
        }
    }
}

/// One dimension of a [`Shape`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// The same in every step.
    Fixed(usize),
    /// Bound by the step.
    Symbol(Symbol),
}

impl From<usize> for Dim {
    fn from(n: usize) -> Dim {
        Dim::Fixed(n)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(n) => write!(f, "{n}"),
            Dim::Symbol(s) => write!(f, "{s}"),
        }
    }
}

/// The shape of a value: rows (a symbol) and then fixed features, row-major.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    rows: Symbol,
    features: Vec<usize>,
}

impl Shape {
    /// `[rows, features...]`.
    pub fn new(rows: Symbol, features: impl Into<Vec<usize>>) -> Shape {
        Shape { rows, features: features.into() }
    }

    /// What a row stands for: a token or a wanted output.
    pub fn rows(&self) -> Symbol {
        self.rows
    }

    /// The fixed dimensions after the rows.
    pub fn features(&self) -> &[usize] {
        &self.features
    }

    /// Numbers in one row: the product of the features.
    pub fn width(&self) -> usize {
        self.features.iter().product()
    }

    /// The innermost dimension (1 for a shape without features).
    pub fn last(&self) -> usize {
        self.features.last().copied().unwrap_or(1)
    }

    /// Every dimension, rows first.
    pub fn dims(&self) -> impl Iterator<Item = Dim> + '_ {
        std::iter::once(Dim::Symbol(self.rows)).chain(self.features.iter().map(|&n| Dim::Fixed(n)))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, d) in self.dims().enumerate() {
            write!(f, "{}{d}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

/// Numbers for the symbols: what one step holds.
#[derive(Clone, Debug, Default)]
pub struct Sizes {
    sequences: Vec<(usize, usize)>,
    outputs: usize,
}

impl Sizes {
    /// A step over `sequences`, each `(position, tokens)`: positions already cached, then tokens of this step,
    /// with `outputs` tokens whose results are wanted.
    pub fn new(sequences: impl Into<Vec<(usize, usize)>>, outputs: usize) -> Sizes {
        Sizes { sequences: sequences.into(), outputs }
    }

    /// The number that `symbol` stands for. Only [`Symbol::Reached`] is not whole: it is an expectation.
    pub fn value(&self, symbol: Symbol) -> f64 {
        match symbol {
            Symbol::Tokens => self.sequences.iter().map(|&(_, n)| n as f64).sum(),
            Symbol::Outputs => self.outputs as f64,
            Symbol::Sequences => self.sequences.len() as f64,
            Symbol::Attended { window } => {
                let attended = |first: usize, count: usize| -> f64 {
                    // Queries at first.. see first+1, first+2, ... keys, cut at the window.
                    let window = window.unwrap_or(usize::MAX);
                    let growing = count.min(window.saturating_sub(first));
                    let (g, f) = (growing as f64, first as f64);
                    let full = count - growing;
                    g * f + g * (g + 1.0) / 2.0 + if full > 0 { full as f64 * window as f64 } else { 0.0 }
                };
                self.sequences.iter().map(|&(p, n)| attended(p, n)).sum()
            }
            Symbol::Cached { window } => {
                let read =
                    |p: usize, n: usize| (p + n).min(window.map_or(usize::MAX, |w| w.saturating_add(n)));
                self.sequences.iter().map(|&(p, n)| read(p, n) as f64).sum()
            }
            Symbol::Reached { experts, per_token } => {
                let (e, k) = (experts as f64, per_token as f64);
                e * (1.0 - (1.0 - k / e).powf(self.value(Symbol::Tokens)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attended_counts_the_pairs_of_a_causal_window() {
        for (p, n, w) in [(0, 5, None), (3, 4, None), (0, 9, Some(4)), (10, 3, Some(4)), (2, 7, Some(5))] {
            let count: usize = (p..p + n).map(|i| (i + 1).min(w.unwrap_or(usize::MAX))).sum();
            let sizes = Sizes::new([(p, n)], 1);
            assert_eq!(sizes.value(Symbol::Attended { window: w }), count as f64, "{p} {n} {w:?}");
        }
    }

    #[test]
    fn one_token_reaches_exactly_its_experts() {
        let sizes = Sizes::new([(7, 1)], 1);
        let reached = sizes.value(Symbol::Reached { experts: 128, per_token: 8 });
        assert!((reached - 8.0).abs() < 1e-9, "{reached}");
    }
}
