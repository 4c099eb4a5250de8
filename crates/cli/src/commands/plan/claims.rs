//! `autarky plan claims`

use std::path::Path;

use anyhow::Result;
use autarky_plan::Error;
use autarky_plan::claims::{self, Answer, Aspect, Basis, Claim, Verdict};
use autarky_plan::fit::Predictor;
use autarky_plan::service::typical;
use serde_json::Value;

use super::page;
use super::table::{Table, number, rounded, text};
use crate::args::ClaimsArgs;
use crate::commands::{print, print_json};
use crate::exit::Usage;
use crate::terminal::{Style, printable};

pub(super) fn run(args: &ClaimsArgs) -> Result<()> {
    page::check(&args.html)?;
    let catalog = args.catalog.catalog()?;
    let shipped = claims::built_in()?;
    let mut wanted: Vec<Claim> = Vec::new();
    for name in &args.claims {
        wanted.push(find(name, &shipped)?);
    }
    if wanted.is_empty() {
        wanted = shipped;
    }
    let predictor = Predictor::built_in()?;
    let works = typical();
    let mut answers = Vec::new();
    for claim in &wanted {
        answers.extend(claims::check(claim, &catalog, predictor, &works).map_err(cause)?);
    }
    page::write(&args.html, || claims::page(&answers))?;
    match (args.table.json, args.table.csv) {
        (true, _) => print_json(&serde_json::to_value(&answers)?),
        (_, true) => rows(&answers).print(&args.table),
        _ => print(&answers.iter().map(|a| as_text(a, args.sources)).collect::<Vec<_>>().join("\n")),
    }
}

/// The error itself, whose kind decides the exit code.
pub(super) fn cause(error: Error) -> anyhow::Error {
    match error {
        Error::Data(error) => error.into(),
        Error::Find(error) => error.into(),
        error => error.into(),
    }
}

/// A file, or a statement that comes with the program.
fn find(name: &Path, shipped: &[Claim]) -> Result<Claim> {
    if let Some(claim) = shipped.iter().find(|c| name.as_os_str() == c.id.as_str()) {
        return Ok(claim.clone());
    }
    if !name.exists() && name.extension().is_none() {
        let ids = shipped.iter().map(|c| c.id.as_str()).collect::<Vec<_>>().join(", ");
        return Err(Usage(format!(
            "{}: no such file, and no statement of that id; there are {ids}",
            name.display()
        ))
        .into());
    }
    Ok(Claim::read(name)?)
}

fn basis(aspect: &Aspect) -> &'static str {
    match aspect.basis {
        Basis::DataSheet => "data sheet",
        Basis::Given => "given",
        Basis::Measured => "measured",
        Basis::Predicted => "predicted",
    }
}

fn as_text(answer: &Answer, sources: bool) -> String {
    let style = Style::stdout();
    let claim = &answer.claim;
    let said = claim.says.iter().map(|s| match s.of.is_empty() {
        true => s.words(),
        false => format!("{} of {}", s.words(), s.of.join(", ")),
    });
    let chips = match &answer.reference {
        Some(reference) => format!("{} against {reference}", answer.subject),
        None => answer.subject.clone(),
    };
    let mut out = format!(
        "{}  {}\n  said by {}: {} ({})\n  {chips}; claimed: {}\n",
        style.bold(&printable(&claim.id)),
        printable(&claim.statement),
        printable(&claim.said_by),
        printable(&claim.source),
        claim.confidence.name(),
        said.collect::<Vec<_>>().join("; "),
    );
    for verdict in [Verdict::Holds, Verdict::DoesNotHold, Verdict::CannotBeKnown] {
        let names = answer.names(verdict);
        if !names.is_empty() {
            let count = format!("{} for", verdict.words());
            out += &format!("  {} {}\n", style.dim(&format!("{count:<19}")), names.join("; "));
        }
    }
    let mut table = Table::new([
        text("aspect", "aspect"),
        text("basis", "from"),
        number("subject", "subject"),
        number("reference", "reference"),
        number("ratio", "ratio"),
        text("range", "range"),
        text("verdict", "verdict"),
    ]);
    for a in &answer.aspects {
        let range = a.interval.map_or(Value::Null, |i| format!("{:.2} to {:.2}", i.low, i.high).into());
        let figure = |f: &Option<claims::Sourced>| rounded(f.as_ref().map(|f| f.value));
        let ratio = if answer.reference.is_some() { ratio(a.value) } else { Value::Null };
        table.push([
            a.name.as_str().into(),
            basis(a).into(),
            figure(&a.subject),
            figure(&a.reference),
            ratio,
            range,
            a.judgement.verdict.words().into(),
        ]);
    }
    for line in table.text(style).lines() {
        out += &format!("  {line}\n");
    }
    for line in &answer.suspicions {
        out += &format!("  note: {}\n", printable(line));
    }
    for line in &claim.notes {
        out += &format!("  note: {}\n", printable(line));
    }
    if sources {
        out += &from(answer, style);
    }
    out
}

/// Where the figures are from, and what the runs were.
fn from(answer: &Answer, style: Style) -> String {
    let mut out = String::new();
    for a in &answer.aspects {
        if let Some(why) = &a.judgement.why {
            out += &format!("  {} {}\n", style.dim(&format!("{}:", a.name)), printable(why));
        }
        for figure in a.subject.iter().chain(&a.reference) {
            out += &format!("  {} {}\n", style.dim(&format!("{}:", a.name)), printable(&figure.source));
        }
    }
    for pair in &answer.pairs {
        out += &format!(
            "  {} {:.2}: {} [{}] against {} [{}]\n",
            style.dim(&format!("pair, {}", pair.kind.name())),
            pair.ratio,
            printable(&pair.conditions.0),
            printable(&pair.sources.0),
            printable(&pair.conditions.1),
            printable(&pair.sources.1),
        );
    }
    out
}

fn ratio(value: Option<f64>) -> Value {
    value.map_or(Value::Null, |v| Value::from((v * 1000.0).round() / 1000.0))
}

fn rows(answers: &[Answer]) -> Table {
    let mut table = Table::new([
        text("claim", "claim"),
        text("subject", "subject"),
        text("reference", "reference"),
        text("aspect", "aspect"),
        text("of", "of"),
        text("basis", "basis"),
        number("subject_value", "subject"),
        number("reference_value", "reference"),
        text("unit", "unit"),
        number("ratio", "ratio"),
        number("low", "low"),
        number("high", "high"),
        text("verdict", "verdict"),
        text("why", "why"),
    ]);
    for answer in answers {
        for a in &answer.aspects {
            let value = |f: &Option<claims::Sourced>| rounded(f.as_ref().map(|f| f.value));
            table.push([
                answer.claim.id.as_str().into(),
                answer.subject.as_str().into(),
                answer.reference.as_deref().map_or(Value::Null, Value::from),
                a.name.as_str().into(),
                a.of.to_string().into(),
                basis(a).into(),
                value(&a.subject),
                value(&a.reference),
                a.subject.as_ref().map_or(Value::Null, |f| f.unit.into()),
                ratio(a.value.filter(|_| answer.reference.is_some())),
                ratio(a.interval.map(|i| i.low)),
                ratio(a.interval.map(|i| i.high)),
                a.judgement.verdict.words().into(),
                a.judgement.why.as_deref().map_or(Value::Null, Value::from),
            ]);
        }
    }
    table
}
