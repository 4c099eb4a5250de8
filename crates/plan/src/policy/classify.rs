//! What rules say of a part, by its figures.

use serde::Serialize;

use super::{Bound, Figure, Figures, Need, Rule, RuleBook, RuleClass, Subject};
use crate::Date;

/// Whether a rule holds on a day.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Standing<'a> {
    /// It begins later.
    NotYet,
    /// It holds.
    InForce,
    /// Another took its place before that day.
    Superseded {
        /// That one.
        by: &'a Rule,
    },
    /// It is no longer enforced.
    Ended,
}

/// What a rule says of a part.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<'a> {
    /// The part is in a class.
    Class(&'a RuleClass),
    /// No class holds it: the rule's `otherwise`.
    Otherwise(&'a str),
    /// An unknown figure decides.
    Needs {
        /// What must be learned.
        needs: Vec<Need>,
        /// The names of what may come out, in the rule's order.
        possible: Vec<&'a str>,
    },
}

/// How far a figure is from a line of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Line {
    /// What is compared.
    pub figure: Figure,
    /// Where the line is.
    pub line: f64,
    /// The part's figure.
    pub value: Option<f64>,
    /// Whether it is on the far side of the line: at or above it, or above it where the rule says so.
    pub crossed: Option<bool>,
    /// Figure − line.
    pub distance: Option<f64>,
    /// Figure / line.
    pub ratio: Option<f64>,
}

/// A rule's verdict on a part.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// Whether it holds on the day.
    pub standing: Standing<'a>,
    /// What it says of the part.
    pub outcome: Outcome<'a>,
    /// Its lines, and how far the part is from each.
    pub lines: Vec<Line>,
}

impl Outcome<'_> {
    /// The class, or what is said where none holds it; `None` when an unknown figure decides.
    pub fn name(&self) -> Option<&str> {
        match self {
            Outcome::Class(class) => Some(&class.name),
            Outcome::Otherwise(name) => Some(name),
            Outcome::Needs { .. } => None,
        }
    }
}

impl RuleBook {
    /// What each rule with thresholds says of a part, oldest rule first, and whether it holds on a day. Rules about
    /// memory stacks are left out unless the figures are a stack's.
    pub fn classify(&self, figures: &Figures, on: Date) -> Vec<Verdict<'_>> {
        let applies = |rule: &&Rule| match rule.applies_to {
            Subject::IntegratedCircuit => true,
            Subject::HbmStack => figures.hbm_bandwidth_density_gb_s_mm2.is_some(),
        };
        let rules = self.rules().iter().filter(|r| !r.classes.is_empty()).filter(applies);
        let verdict = |rule| Verdict {
            rule,
            standing: self.standing(rule, on),
            outcome: rule.outcome(figures),
            lines: rule.lines(figures),
        };
        rules.map(verdict).collect()
    }

    /// Whether a rule holds on a day.
    pub fn standing<'a>(&'a self, rule: &Rule, on: Date) -> Standing<'a> {
        let successor = rule.superseded_by.as_deref().and_then(|id| self.rule(id));
        match successor {
            _ if on < rule.effective => Standing::NotYet,
            Some(by) if by.effective <= on => Standing::Superseded { by },
            _ if rule.ended.is_some_and(|ended| ended <= on) => Standing::Ended,
            _ => Standing::InForce,
        }
    }
}

impl Rule {
    /// What the rule says of a part, in force or not.
    pub fn outcome(&self, figures: &Figures) -> Outcome<'_> {
        if figures.datacentre.is_some() {
            return self.decide(figures);
        }
        // Both cases are looked at by themselves: classes that share a line would leave it open otherwise.
        let case = |is| self.decide(&Figures { datacentre: Some(is), ..figures.clone() });
        let (yes, no) = (case(true), case(false));
        if yes == no {
            return yes;
        }
        let (mut all_needs, mut names) = (vec![Need::Datacentre], Vec::new());
        for outcome in [yes, no] {
            match outcome {
                Outcome::Class(class) => names.push(class.name.as_str()),
                Outcome::Otherwise(name) => names.push(name),
                Outcome::Needs { needs, possible } => {
                    all_needs.extend(needs);
                    names.extend(possible);
                }
            }
        }
        let classes = self.classes.iter().map(|c| c.name.as_str());
        let possible = classes.chain(self.otherwise.as_deref()).filter(|name| names.contains(name)).collect();
        Outcome::Needs { needs: sorted(all_needs), possible }
    }

    /// The same, where it is known whether the part is for data centres.
    fn decide(&self, figures: &Figures) -> Outcome<'_> {
        let (mut needs, mut possible) = (Vec::new(), Vec::new());
        let otherwise = self.otherwise.as_deref().unwrap_or_default();
        let mut end = Outcome::Otherwise(otherwise);
        let mut last = otherwise;
        for class in &self.classes {
            match class.when.holds(figures) {
                Some(false) => {}
                Some(true) => {
                    end = Outcome::Class(class);
                    last = &class.name;
                    break;
                }
                None => {
                    class.when.needs(figures, &mut needs);
                    possible.push(class.name.as_str());
                }
            }
        }
        if possible.is_empty() {
            return end;
        }
        possible.push(last);
        Outcome::Needs { needs: sorted(needs), possible }
    }

    /// The rule's lines, each once, and how far the part is from each.
    pub fn lines(&self, figures: &Figures) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for threshold in self.classes.iter().flat_map(|c| c.when.thresholds()) {
            let (figure, line) = (threshold.figure, threshold.bound.line());
            if lines.iter().any(|l| l.figure == figure && l.line == line) {
                continue;
            }
            let value = figures.get(figure);
            let crossed = value.map(|v| match threshold.bound {
                Bound::Above(_) => v > line,
                Bound::AtLeast(_) | Bound::Below(_) => v >= line,
            });
            let (distance, ratio) = (value.map(|v| v - line), value.map(|v| v / line));
            lines.push(Line { figure, line, value, crossed, distance, ratio });
        }
        lines
    }
}

fn sorted(mut needs: Vec<Need>) -> Vec<Need> {
    needs.sort();
    needs.dedup();
    needs
}
