//! Verdicts of rules, for people and for programs.

use autarky_plan::policy::{Line, Outcome, Standing};
use autarky_plan::{Chip, Figures, Verdict};
use serde_json::{Value, json};

use super::table::figure;

/// Said once wherever verdicts are shown.
pub(super) const ADVICE: &str = "arithmetic on published figures, not legal advice";

/// The figures on one line.
pub(super) fn figures(figures: &Figures) -> String {
    let show = |x: Option<f64>| x.map_or_else(|| "unknown".to_owned(), figure);
    let for_whom = match figures.datacentre {
        Some(true) => "for data centres",
        Some(false) => "not for data centres",
        None => "for whom is unknown",
    };
    format!(
        "TPP {}, TPP/mm² {}, DRAM {} GB/s, I/O {} GB/s, {for_whom}",
        show(figures.tpp),
        show(figures.performance_density),
        show(figures.dram_bandwidth_gb_s),
        show(figures.io_bandwidth_bidir_gb_s),
    )
}

/// Whether the rule holds: `in force since 2023-11-17`.
pub(super) fn standing(verdict: &Verdict) -> String {
    let rule = verdict.rule;
    match verdict.standing {
        Standing::NotYet => format!("not yet: from {}", rule.effective),
        Standing::InForce => format!("in force since {}", rule.effective),
        Standing::Superseded { by } => format!("superseded by {} on {}", by.id, by.effective),
        Standing::Ended => format!("not enforced since {}", rule.ended.unwrap_or(rule.effective)),
    }
}

/// One word for it.
pub(super) fn standing_name(standing: Standing) -> &'static str {
    match standing {
        Standing::NotYet => "not yet",
        Standing::InForce => "in force",
        Standing::Superseded { .. } => "superseded",
        Standing::Ended => "ended",
    }
}

/// What the rule says: `3A090.a: licence ...`.
pub(super) fn outcome(verdict: &Verdict) -> String {
    match &verdict.outcome {
        Outcome::Class(class) => format!("{}: {}", class.name, class.meaning),
        Outcome::Otherwise(name) => (*name).to_owned(),
        Outcome::Needs { needs, possible } => {
            let needs: Vec<&str> = needs.iter().map(|n| n.label()).collect();
            format!("open: needs {}; then {}", needs.join(" and "), possible.join(", or "))
        }
    }
}

/// How far the part is from a line: `TPP 2368 is below 2400 by 32 (1.3 %)`.
pub(super) fn line(line: &Line) -> String {
    let (name, at) = (line.figure.label(), figure(line.line));
    match (line.value, line.crossed, line.distance) {
        (Some(value), Some(crossed), Some(distance)) => {
            let side = if crossed { "at or above" } else { "below" };
            let share = 100.0 * distance.abs() / line.line;
            format!("{name} {} is {side} {at} by {} ({share:.1} %)", figure(value), figure(distance.abs()))
        }
        _ => format!("{name} is unknown; the line is {at}"),
    }
}

/// What figures cannot say of a chip.
pub(super) fn caveat(chip: &Chip) -> Option<&'static str> {
    if chip.class.is_cpu() {
        return Some("how the rules treat CPUs whose matrix units reach their lines was not found");
    }
    let system = chip.class == autarky_plan::chips::Class::System;
    system.then_some("this is a system; rules judge its chips, so ask for those")
}

pub(super) fn json(verdict: &Verdict) -> Value {
    let (needs, possible) = match &verdict.outcome {
        Outcome::Needs { needs, possible } => (json!(needs), json!(possible)),
        _ => (Value::Null, Value::Null),
    };
    let meaning = match &verdict.outcome {
        Outcome::Class(class) => Some(&class.meaning),
        _ => None,
    };
    json!({
        "rule": verdict.rule.id,
        "title": verdict.rule.title,
        "citation": verdict.rule.citation,
        "effective": verdict.rule.effective,
        "standing": standing_name(verdict.standing),
        "superseded_by": verdict.rule.superseded_by,
        "verdict": verdict.outcome.name(),
        "meaning": meaning,
        "needs": needs,
        "possible": possible,
        "lines": verdict.lines,
        "source": verdict.rule.source,
        "confidence": verdict.rule.confidence,
    })
}
