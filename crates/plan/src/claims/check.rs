//! A statement against all that is known.

use std::sync::Arc;

use serde::Serialize;

use super::expected::{expected, rests_on};
use super::measured::{Pair, pairs};
use super::sheet::{self, Sourced, within};
use super::{Claim, Of, Says};
use crate::chips::{Catalog, Chip};
use crate::fit::Predictor;
use crate::runs::Kind;
use crate::service::{Interval, Work};
use crate::{DataType, Error};

/// What can be said of a part of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It holds.
    Holds,
    /// It does not.
    DoesNotHold,
    /// It cannot be known from what there is.
    CannotBeKnown,
    /// The statement is not about this.
    NotClaimed,
}

impl Verdict {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Holds => "holds",
            Verdict::DoesNotHold => "does not hold",
            Verdict::CannotBeKnown => "cannot be known",
            Verdict::NotClaimed => "not claimed",
        }
    }
}

/// Where a ratio is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// The chips' files.
    DataSheet,
    /// A figure that the statement's file gives.
    Given,
    /// Runs.
    Measured,
    /// The predictor.
    Predicted,
}

/// A verdict and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, where the figures do not say it.
    pub why: Option<String>,
}

/// One thing that a statement may be about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Aspect {
    /// What it is.
    pub of: Of,
    /// A heading.
    pub name: String,
    /// Where it is from.
    pub basis: Basis,
    /// The subject's figure.
    pub subject: Option<Sourced>,
    /// The reference's.
    pub reference: Option<Sourced>,
    /// Subject / reference; without a reference, the subject's figure.
    pub value: Option<f64>,
    /// Of measured pairs, the least and the greatest; of predictions, the 80 % interval.
    pub interval: Option<Interval>,
    /// What that makes of the statement.
    pub judgement: Judgement,
}

/// What can be said of a statement about one chip.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// The statement.
    pub claim: Claim,
    /// The chip's id.
    pub subject: String,
    /// The other's.
    pub reference: Option<String>,
    /// Everything that was looked at.
    pub aspects: Vec<Aspect>,
    /// The measured runs that were compared, most alike first.
    pub pairs: Vec<Pair>,
    /// How the statement may have come about.
    pub suspicions: Vec<String>,
}

impl Answer {
    /// How many aspects have a verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.aspects.iter().filter(|a| a.judgement.verdict == verdict).count()
    }

    /// The names of the aspects that have a verdict.
    pub fn names(&self, verdict: Verdict) -> Vec<&str> {
        let with = self.aspects.iter().filter(|a| a.judgement.verdict == verdict);
        with.map(|a| a.name.as_str()).collect()
    }
}

/// What holds of a statement, and what does not: an answer for each chip that it is about. `works` is what is predicted
/// ([`crate::service::typical`]).
///
/// # Errors
/// A chip of the statement is not in `catalog`.
pub fn check(
    claim: &Claim,
    catalog: &Catalog,
    predictor: &Predictor,
    works: &[Work],
) -> Result<Vec<Answer>, Error> {
    let find = |name: &str| catalog.find(name).map(|c| Arc::new(c.clone()));
    let reference = claim.reference.as_deref().map(find).transpose()?;
    let mut answers = Vec::new();
    for name in claim.subjects() {
        let subject = find(name)?;
        answers.push(match &reference {
            Some(reference) => against(claim, &subject, reference, catalog, predictor, works),
            None => alone(claim, &subject),
        });
    }
    Ok(answers)
}

fn judge(says: &[Says], of: Of, value: Option<f64>, interval: Option<Interval>, why: &str) -> Judgement {
    // More is not better for these, so a statement about everything is not about them.
    let neutral = matches!(of, Of::OpsPerByte | Of::Tpp);
    let Some(said) = says.iter().find(|s| s.is_of(of) && !(neutral && s.of.is_empty())) else {
        return Judgement { verdict: Verdict::NotClaimed, why: None };
    };
    let range = said.range();
    let unknown = |why: String| Judgement { verdict: Verdict::CannotBeKnown, why: Some(why) };
    let clear =
        |holds| Judgement { verdict: if holds { Verdict::Holds } else { Verdict::DoesNotHold }, why: None };
    match (value, interval) {
        (None, _) => unknown(why.to_owned()),
        (Some(value), None) => clear(within(value, range)),
        (Some(_), Some(i)) if i.low > range.1 || i.high < range.0 => clear(false),
        (Some(_), Some(i)) if within(i.low, range) && within(i.high, range) => clear(true),
        (Some(value), Some(_)) => {
            let place = if within(value, range) { "within" } else { "outside" };
            unknown(format!("the middle is {place} what is claimed, the interval on both sides of it"))
        }
    }
}

/// A statement of one chip's figures.
fn alone(claim: &Claim, subject: &Chip) -> Answer {
    let mut aspects = Vec::new();
    let mut push = |of: Of, name: String, figure: Option<Sourced>| {
        let value = figure.as_ref().map(|f| f.value);
        let why = format!("the figure of {} is not known", subject.id);
        let judgement = judge(&claim.says, of, value, None, &why);
        let basis = Basis::DataSheet;
        aspects.push(Aspect {
            of,
            name,
            basis,
            subject: figure,
            reference: None,
            value,
            interval: None,
            judgement,
        });
    };
    for dtype in DataType::ALL {
        if let Some(figure) = sheet::figure(subject, Of::Peak(dtype)) {
            push(Of::Peak(dtype), format!("peak {dtype}"), Some(figure));
        }
    }
    for dtype in DataType::ALL {
        if let Some(figure) = sheet::tpp_from(subject, dtype) {
            push(Of::Tpp, format!("TPP from {dtype}"), Some(figure));
        }
    }
    let from = subject.peak_dense_tops.tpp().map(|(_, t)| format!(", from {t}")).unwrap_or_default();
    push(Of::Tpp, format!("TPP as the rule counts it{from}"), sheet::figure(subject, Of::Tpp));
    for of in [Of::Bandwidth, Of::Capacity, Of::Link, Of::OpsPerByte] {
        push(of, heading(of), sheet::figure(subject, of));
    }
    let id = subject.id.clone();
    Answer { claim: claim.clone(), subject: id, reference: None, aspects, pairs: vec![], suspicions: vec![] }
}

fn heading(of: Of) -> String {
    match of {
        Of::Bandwidth => "memory bandwidth".to_owned(),
        Of::Capacity => "memory capacity".to_owned(),
        Of::Link => "link to other chips".to_owned(),
        Of::OpsPerByte => "half-precision operations a byte".to_owned(),
        Of::Peak(dtype) => format!("peak {dtype}"),
        other => other.to_string(),
    }
}

fn against(
    claim: &Claim,
    subject: &Arc<Chip>,
    reference: &Arc<Chip>,
    catalog: &Catalog,
    predictor: &Predictor,
    works: &[Work],
) -> Answer {
    let says = &claim.says;
    let mut aspects = Vec::new();
    let known: Vec<DataType> = DataType::ALL
        .into_iter()
        .filter(|t| {
            let (a, b) = (subject.peak_dense_tops.get(*t), reference.peak_dense_tops.get(*t));
            let named = says.iter().any(|s| s.of.iter().any(|n| n == t.name()));
            // Of wide types, data sheets often say nothing.
            let narrow = t.tpp_bits().is_some_and(|bits| bits <= 16.0);
            named || a.and(b).is_some() || narrow && a.or(b).is_some()
        })
        .collect();
    let sheets = known.into_iter().map(Of::Peak);
    for of in sheets.chain([Of::Bandwidth, Of::Capacity, Of::Link, Of::OpsPerByte, Of::Tpp]) {
        let (a, b) = (sheet::figure(subject, of), sheet::figure(reference, of));
        let lacking = [(&a, subject), (&b, reference)].into_iter().filter(|(f, _)| f.is_none());
        let why = lacking
            .map(|(_, chip)| format!("no figure of {} is known", chip.id))
            .collect::<Vec<_>>()
            .join("; ");
        push(&mut aspects, says, of, heading(of), Basis::DataSheet, (a, b), &why);
    }
    for given in &claim.given {
        let Some(of) = Of::named(&given.of) else { continue };
        let source = format!("{} ({})", given.why, given.confidence.name());
        let side = |own: Option<f64>, chip: &Chip| match own {
            Some(value) => Some(Sourced { value, unit: "", source: source.clone() }),
            None => sheet::figure(chip, of),
        };
        let figures = (side(given.subject, subject), side(given.reference, reference));
        let name = format!("{}, {}", heading(of), given.why);
        push(&mut aspects, says, of, name, Basis::Given, figures, "a figure is missing");
    }
    let pairs = pairs(subject, reference, catalog, claim.runs.as_deref());
    for kind in Kind::ALL {
        from_runs(&mut aspects, says, kind, &pairs);
    }
    for e in expected(predictor, works, subject, reference) {
        let of = Of::Work(e.work.kind);
        let name = e.work.name.clone();
        match e.result {
            Ok((a, b, ratio)) => {
                let name = e.in_format.map_or(name.clone(), |f| format!("{name}, weights in {f}"));
                let sourced = |p: &crate::service::Placed| Sourced {
                    value: p.prediction.rate,
                    unit: "tokens/s a chip",
                    source: rests_on(p),
                };
                aspects.push(Aspect {
                    of,
                    name,
                    basis: Basis::Predicted,
                    judgement: judge(says, of, Some(ratio.value), Some(ratio.interval), ""),
                    subject: Some(sourced(&a)),
                    reference: Some(sourced(&b)),
                    value: Some(ratio.value),
                    interval: Some(ratio.interval),
                });
            }
            Err(why) => push(&mut aspects, says, of, name, Basis::Predicted, (None, None), &why),
        }
    }
    Answer {
        suspicions: suspicions(claim, subject, reference, &aspects),
        claim: claim.clone(),
        subject: subject.id.clone(),
        reference: Some(reference.id.clone()),
        aspects,
        pairs,
    }
}

fn push(
    aspects: &mut Vec<Aspect>,
    says: &[Says],
    of: Of,
    name: String,
    basis: Basis,
    (subject, reference): (Option<Sourced>, Option<Sourced>),
    why: &str,
) {
    let value = subject.as_ref().zip(reference.as_ref()).map(|(a, b)| a.value / b.value);
    let judgement = judge(says, of, value, None, why);
    aspects.push(Aspect { of, name, basis, subject, reference, value, interval: None, judgement });
}

/// What runs of one kind say: the median of all pairs, from the least to the greatest.
fn from_runs(aspects: &mut Vec<Aspect>, says: &[Says], kind: Kind, pairs: &[Pair]) {
    let mine: Vec<&Pair> = pairs.iter().filter(|p| p.kind == kind).collect();
    let per_peak = says.iter().any(|s| !s.of.is_empty() && s.is_of(Of::PerPeak(kind)));
    for of in [Some(Of::Work(kind)), per_peak.then_some(Of::PerPeak(kind))].into_iter().flatten() {
        let peak = matches!(of, Of::PerPeak(_));
        let mut values: Vec<f64> =
            mine.iter().filter_map(|p| if peak { p.per_peak } else { Some(p.ratio) }).collect();
        values.sort_by(f64::total_cmp);
        let value = values.get(values.len() / 2).copied();
        let ends = values.first().zip(values.last()).filter(|_| values.len() > 1);
        let interval = ends.map(|(&low, &high)| Interval { low, high });
        let what = if peak { " for each peak operation" } else { "" };
        let count = match values.len() {
            0 => "no comparable runs".to_owned(),
            1 => "1 pair of runs".to_owned(),
            n => format!("{n} pairs of runs"),
        };
        let name = format!("measured {}{what}, {count}", kind.name());
        let judgement = judge(says, of, value, interval, "no comparable runs of both chips are known");
        let figure = |side: fn(&Pair) -> (f64, &String)| {
            let pair = mine.first()?;
            let (value, source) = side(pair);
            Some(Sourced { value, unit: "tokens/s a chip", source: source.clone() })
        };
        let sides = match peak {
            true => (None, None),
            false => (figure(|p| (p.rates.0, &p.sources.0)), figure(|p| (p.rates.1, &p.sources.1))),
        };
        aspects.push(Aspect {
            of,
            name,
            basis: Basis::Measured,
            subject: sides.0,
            reference: sides.1,
            value,
            interval,
            judgement,
        });
    }
}

/// Ways in which a number like the claimed one comes about: another data type, or sparsity, on one side only.
fn suspicions(claim: &Claim, subject: &Chip, reference: &Chip, aspects: &[Aspect]) -> Vec<String> {
    let mut found = Vec::new();
    let lacks = |chip: &Chip, other: &Chip| {
        let only = other.peak_dense_tops.iter().filter(|(t, _)| chip.peak_dense_tops.get(*t).is_none());
        only.map(|(t, _)| t.name()).collect::<Vec<_>>().join(", ")
    };
    for (chip, other) in [(subject, reference), (reference, subject)] {
        let types = lacks(chip, other);
        if !types.is_empty() {
            found.push(format!("{} has no known peak of {types}; {} has", chip.id, other.id));
        }
    }
    let about_peaks = |s: &&Says| s.of.is_empty() || DataType::ALL.iter().any(|t| s.is_of(Of::Peak(*t)));
    for said in claim.says.iter().filter(about_peaks).filter(|s| s.range().0 > 0.0 && s.range().1.is_finite())
    {
        let range = said.range();
        let fits = aspects.iter().any(|a| {
            matches!(a.of, Of::Peak(_))
                && a.basis == Basis::DataSheet
                && a.value.is_some_and(|v| within(v, range))
        });
        if fits {
            continue;
        }
        let mut explained = false;
        for (dtype, peak) in subject.peak_dense_tops.iter() {
            let Some(other) = reference.peak_dense_tops.get(dtype) else { continue };
            let sides = [(peak / (2.0 * other), reference), (2.0 * peak / other, subject)];
            for (ratio, chip) in sides.into_iter().filter(|(r, _)| within(*r, range)) {
                explained = true;
                found.push(format!(
                    "{} fits {dtype} if the peak of {} is doubled ({ratio:.3}): perhaps it is that with sparsity, the other's is dense ({:.3})",
                    said.words(), chip.id, peak / other
                ));
            }
        }
        let pairs = sheet::mixed(subject, reference, range);
        for (a, b, ratio) in &pairs {
            found.push(format!(
                "{} fits {a} of {} against {b} of {} ({ratio:.3}): not the same data type",
                said.words(),
                subject.id,
                reference.id
            ));
        }
        if pairs.is_empty() && !explained {
            found.push(format!(
                "no two dense peaks of these chips, of the same data type or not, have a ratio of {}",
                said.words()
            ));
        }
    }
    found
}
