//! An answer in plain words, each number with its source.

use serde::Serialize;

use super::{Answer, Chips, Side};
use crate::report::short;

/// Sentences whose numbers refer to notes: `[1]` is the first.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// A paragraph for each chip.
    pub paragraphs: Vec<String>,
    /// Where numbers are from.
    pub notes: Vec<String>,
}

impl Summary {
    fn note(&mut self, text: &str) -> String {
        let at = self.notes.iter().position(|n| n == text).unwrap_or_else(|| {
            self.notes.push(text.to_owned());
            self.notes.len() - 1
        });
        format!("[{}]", at + 1)
    }
}

pub(super) fn chips(need: Chips) -> String {
    let end = |n: Option<f64>| n.map_or("no number".to_owned(), short);
    match (need.low, need.high) {
        (Some(low), Some(high)) if low == high => short(need.chips),
        (low, high) => format!("{} ({} to {})", short(need.chips), end(low), end(high)),
    }
}

/// The answer in plain words.
pub fn summary(answer: &Answer) -> Summary {
    let mut s = Summary::default();
    let given = s.note("as it was asked");
    let (input, output, requests) = answer.load;
    let from = &answer.from;
    if let Some(service) = &from.service {
        let note = s.note(&service.rests_on);
        let line = format!(
            "{} {} serve {} at {} requests in flight{given} ({} tokens in, {} out): {} tokens/s{note}, or {} for each user{note}, \
             with 80 % probability {} to {} tokens/s{note}.",
            short(service.chips),
            from.name,
            answer.model,
            short(requests),
            short(input),
            short(output),
            short(service.tokens_per_s),
            short(service.per_user),
            short(service.low * service.chips),
            short(service.high * service.chips),
        );
        s.paragraphs.push(line);
    }
    for side in &answer.to {
        let line = other(&mut s, answer, side);
        s.paragraphs.push(line);
    }
    s
}

fn other(s: &mut Summary, answer: &Answer, side: &Side) -> String {
    let mut line = format!("{}:", side.name);
    let note = side.service.as_ref().map(|v| s.note(&v.rests_on)).unwrap_or_default();
    match (side.need.service, &side.need.problem) {
        (Some(need), _) => line += &format!(" the same service takes {} chips{note}.", chips(need)),
        (None, Some(problem)) => line += &format!(" {problem}{note}."),
        (None, None) => {}
    }
    if let Some(n) = side.need.tokens_alone {
        line += &format!(
            " For the tokens alone, with fuller batches and slower users, {} are enough{note}.",
            short(n)
        );
    }
    if let Some(r) = side.speed {
        line += &format!(
            " A chip does {} times the work of a {} there (80 %: {} to {}){note}.",
            short(r.value),
            answer.from.name,
            short(r.interval.low),
            short(r.interval.high)
        );
    }
    let years = format!("{} years", short(answer.terms.0));
    if let Some((w, source)) = side.cost.power_w.zip(side.cost.power_source.as_ref()) {
        let note = s.note(source);
        line += &format!(" They draw up to {} kW{note}", short(w / 1000.0));
        if let Some(own) = answer.from.cost.power_w {
            let from = answer.from.cost.power_source.as_ref().map(|n| s.note(n)).unwrap_or_default();
            line += &format!(" where {} kW{from} are drawn today", short(own / 1000.0));
        }
        line += ".";
        if let Some(kwh) = side.cost.energy_kwh {
            let how = format!(
                "computed: thermal design power of the chips, all hours of {years}, at {} USD/kWh",
                answer.terms.1
            );
            let how = s.note(&how);
            line += &format!(
                " That is {} MWh{how} in {years}, for {} USD{how}.",
                short(kwh / 1000.0),
                short(side.cost.energy_usd.unwrap_or(0.0))
            );
        }
    }
    match side.cost.chips_usd.zip(side.cost.price_source.as_ref()) {
        Some((usd, source)) => {
            let note = s.note(source);
            line += &format!(" The chips cost about {} USD{note}.", short(usd));
        }
        None => line += " What they cost is not known.",
    }
    if let Some(m) = side.maturity.iter().max_by_key(|m| m.runs) {
        let note = s.note(&format!(
            "measured runs of {} that come with the program, against its data sheet",
            side.id
        ));
        line += &format!(
            " Its software reaches {} %{note} of what the data sheet allows in the median of {} {} runs{note}.",
            short(100.0 * m.median),
            m.runs,
            m.kind
        );
    }
    if !side.lacks.is_empty() {
        line += &format!(" No peak of {} is known for it.", side.lacks.join(", "));
    }
    if let Some(p) = side.policy.first() {
        let note = s.note(&p.source);
        line += &format!(" Export rules on {}: {}{note}.", answer.terms.2, p.says.trim_end_matches('.'));
    }
    if !side.risks.is_empty() {
        line += &format!(" Beware: {}.", side.risks.join("; "));
    }
    line
}
