//! Two uncertain rates against each other.

use serde::Serialize;

use crate::fit::Prediction;

/// An 80 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// A ratio and its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// The ratio of the two middles.
    pub value: f64,
    /// Where it is with 80 % probability.
    pub interval: Interval,
}

/// `a / b` in tokens/s and chip. The two errors are taken as independent, so the logarithm's half widths add as squares;
/// what both share of their errors (the model, the load) makes the true interval narrower, not wider.
pub fn ratio(a: &Prediction, b: &Prediction) -> Ratio {
    let below = (a.rate / a.low).ln().hypot((b.high / b.rate).ln());
    let above = (a.high / a.rate).ln().hypot((b.rate / b.low).ln());
    let value = a.rate / b.rate;
    Ratio { value, interval: Interval { low: value * (-below).exp(), high: value * above.exp() } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::Basis;

    fn rate(rate: f64, low: f64, high: f64) -> Prediction {
        let basis = Basis::DataSheet;
        Prediction { rate, low, high, physics: rate, limit: 1e9, basis, extrapolated: false }
    }

    #[test]
    fn errors_of_both_widen_the_ratio() {
        let one = ratio(&rate(200.0, 100.0, 400.0), &rate(100.0, 100.0, 100.0));
        assert!((one.interval.low - 1.0).abs() < 1e-9 && (one.interval.high - 4.0).abs() < 1e-9, "{one:?}");
        let both = ratio(&rate(200.0, 100.0, 400.0), &rate(100.0, 50.0, 200.0));
        let widening = (2f64.sqrt() * 2f64.ln()).exp();
        assert!((both.interval.high - 2.0 * widening).abs() < 1e-9, "{both:?}");
        assert!(both.interval.low < one.interval.low);
    }
}
