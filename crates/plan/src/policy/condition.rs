//! Thresholds, and what is made of them.

use serde::{Deserialize, Serialize};

use super::{Figure, Figures, Need};

/// When a class of a rule holds a part.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub enum Condition {
    /// At least one of them holds.
    AnyOf(Vec<Condition>),
    /// All of them hold.
    AllOf(Vec<Condition>),
    /// A figure is on one side of a line.
    Threshold(Threshold),
    /// It is, or is not, designed or marketed for data centres.
    Datacentre(bool),
}

/// A line for a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// What is compared.
    pub figure: Figure,
    /// With what, and how.
    pub bound: Bound,
}

/// A side of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// `>=`
    AtLeast(f64),
    /// `>`
    Above(f64),
    /// `<`
    Below(f64),
}

impl Bound {
    /// Where the line is.
    pub fn line(self) -> f64 {
        match self {
            Bound::AtLeast(x) | Bound::Above(x) | Bound::Below(x) => x,
        }
    }

    fn holds(self, value: f64) -> bool {
        match self {
            Bound::AtLeast(line) => value >= line,
            Bound::Above(line) => value > line,
            Bound::Below(line) => value < line,
        }
    }
}

/// A condition as files have it: one key, or a figure with a bound.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(skip_serializing_if = "Option::is_none")]
    any_of: Option<Vec<Condition>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    all_of: Option<Vec<Condition>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    figure: Option<Figure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_least: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    above: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    below: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    datacentre: Option<bool>,
}

impl TryFrom<Raw> for Condition {
    type Error = &'static str;

    fn try_from(raw: Raw) -> Result<Condition, &'static str> {
        let bound = match (raw.at_least, raw.above, raw.below) {
            (None, None, None) => None,
            (Some(line), None, None) => Some(Bound::AtLeast(line)),
            (None, Some(line), None) => Some(Bound::Above(line)),
            (None, None, Some(line)) => Some(Bound::Below(line)),
            _ => return Err("one of at_least, above and below is wanted"),
        };
        if bound.is_some_and(|b| !b.line().is_finite() || b.line() <= 0.0) {
            return Err("a line must be a number above zero");
        }
        match (raw.any_of, raw.all_of, raw.figure, bound, raw.datacentre) {
            (Some(of), None, None, None, None) if !of.is_empty() => Ok(Condition::AnyOf(of)),
            (None, Some(of), None, None, None) if !of.is_empty() => Ok(Condition::AllOf(of)),
            (None, None, Some(figure), Some(bound), None) => {
                Ok(Condition::Threshold(Threshold { figure, bound }))
            }
            (None, None, None, None, Some(wanted)) => Ok(Condition::Datacentre(wanted)),
            _ => Err("a condition is any_of, all_of, datacentre, or a figure with at_least, above or below"),
        }
    }
}

impl From<Condition> for Raw {
    fn from(condition: Condition) -> Raw {
        let mut raw = Raw::default();
        match condition {
            Condition::AnyOf(of) => raw.any_of = Some(of),
            Condition::AllOf(of) => raw.all_of = Some(of),
            Condition::Datacentre(wanted) => raw.datacentre = Some(wanted),
            Condition::Threshold(Threshold { figure, bound }) => {
                raw.figure = Some(figure);
                match bound {
                    Bound::AtLeast(line) => raw.at_least = Some(line),
                    Bound::Above(line) => raw.above = Some(line),
                    Bound::Below(line) => raw.below = Some(line),
                }
            }
        }
        raw
    }
}

impl Condition {
    /// Whether it holds, in Kleene's logic: `None` when an unknown figure decides.
    pub fn holds(&self, figures: &Figures) -> Option<bool> {
        let some = |of: &[Condition], wanted: bool| {
            let mut known = true;
            for condition in of {
                match condition.holds(figures) {
                    Some(is) if is == wanted => return Some(wanted),
                    Some(_) => {}
                    None => known = false,
                }
            }
            known.then_some(!wanted)
        };
        match self {
            Condition::AnyOf(of) => some(of, true),
            Condition::AllOf(of) => some(of, false),
            Condition::Datacentre(wanted) => figures.datacentre.map(|is| is == *wanted),
            Condition::Threshold(t) => figures.get(t.figure).map(|value| t.bound.holds(value)),
        }
    }

    /// What must be learned to decide it: the unknown figures of the parts that are undecided.
    pub(super) fn needs(&self, figures: &Figures, needs: &mut Vec<Need>) {
        if self.holds(figures).is_some() {
            return;
        }
        match self {
            Condition::AnyOf(of) | Condition::AllOf(of) => of.iter().for_each(|c| c.needs(figures, needs)),
            Condition::Datacentre(_) => needs.push(Need::Datacentre),
            Condition::Threshold(t) => figures.missing(t.figure, needs),
        }
    }

    /// Its thresholds, in order.
    pub fn thresholds(&self) -> Vec<Threshold> {
        match self {
            Condition::AnyOf(of) | Condition::AllOf(of) => {
                of.iter().flat_map(Condition::thresholds).collect()
            }
            Condition::Datacentre(_) => Vec::new(),
            Condition::Threshold(t) => vec![*t],
        }
    }
}
