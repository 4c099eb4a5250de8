//! Answers as a page.

use super::{Answer, Aspect, Basis, Verdict};
use crate::report::{Bar, Bars, Block, Cell, Column, Page, Section, Table};

/// A page of answers: a section for each, with its ratios as a chart and all figures as a table.
pub fn page(answers: &[Answer]) -> Page {
    let lead = "Each statement is held against data sheets, measured runs of comparable work, and predictions for \
                typical work with intervals that should hold four times of five. Numbers in small type lead to where a \
                figure is from.";
    let mut page = Page::new("What is said of chips, and what holds of it", lead);
    for answer in answers {
        let section = section(&mut page, answer);
        page.sections.push(section);
    }
    page
}

fn section(page: &mut Page, answer: &Answer) -> Section {
    let claim = &answer.claim;
    let mut blocks = Vec::new();
    let said = page.note(format!("{} ({})", claim.source, claim.confidence.name()));
    let claimed: Vec<String> = claim
        .says
        .iter()
        .map(|s| if s.of.is_empty() { s.words() } else { format!("{} of {}", s.words(), s.of.join(", ")) })
        .collect();
    let chips = match &answer.reference {
        Some(reference) => format!("{} against {reference}", answer.subject),
        None => answer.subject.clone(),
    };
    blocks.push(Block::Text(format!(
        "Said by {}[{said}] of {chips}: {}.",
        claim.said_by,
        claimed.join("; ")
    )));
    let mut points = Vec::new();
    for verdict in [Verdict::Holds, Verdict::DoesNotHold, Verdict::CannotBeKnown] {
        let names = answer.names(verdict);
        if !names.is_empty() {
            let words = verdict.words();
            let mut letters = words.chars();
            let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
            points.push(format!("{first}{} for {}.", letters.as_str(), names.join("; ")));
        }
    }
    points.extend(answer.suspicions.iter().map(|s| format!("{s}.")));
    points.extend(claim.notes.iter().map(|s| format!("{s}.")));
    blocks.push(Block::List(points));
    if answer.reference.is_some() {
        blocks.push(Block::Bars(bars(answer)));
    }
    let rows = answer.aspects.iter().map(|a| row(page, answer, a)).collect();
    let columns = vec![
        Column::text("aspect"),
        Column::text("from"),
        Column::number("subject"),
        Column::number("reference"),
        Column::number("ratio"),
        Column::text("range"),
        Column::text("verdict"),
    ];
    let caption =
        "Ranges of measured work go from the least to the greatest pair of runs, those of predictions are \
                   80 % intervals."
            .to_owned();
    blocks.push(Block::Table(Table { columns, rows, caption }));
    if !answer.pairs.is_empty() {
        let rows = answer
            .pairs
            .iter()
            .take(40)
            .map(|p| {
                let notes = (page.note(p.sources.0.clone()), page.note(p.sources.1.clone()));
                vec![
                    Cell::text(p.kind.name()),
                    Cell::number(p.ratio),
                    Cell::text(format!("{}[{}]", p.conditions.0, notes.0)),
                    Cell::text(format!("{}[{}]", p.conditions.1, notes.1)),
                ]
            })
            .collect();
        let columns = ["kind", "ratio", "subject's run", "reference's run"]
            .map(|h| Column { heading: h.into(), number: h == "ratio" });
        let caption = "Measured runs that were compared, most alike first.".to_owned();
        blocks.push(Block::Table(Table { columns: columns.into(), rows, caption }));
    }
    Section::new(claim.statement.clone(), blocks)
}

fn bars(answer: &Answer) -> Bars {
    let bars = answer.aspects.iter().filter_map(|a| {
        Some(Bar {
            label: a.name.clone(),
            value: a.value?,
            interval: a.interval.map(|i| (i.low, i.high)),
            note: a.judgement.verdict.words().to_owned(),
        })
    });
    let one = match answer.claim.says.as_slice() {
        [said] => Some(said),
        _ => None,
    };
    let mark = one.map(|said| {
        let (low, high) = said.range();
        // A range without an end reaches to the edge.
        (low.max(0.0), high.min(1e9), format!("claimed: {}", said.words()))
    });
    Bars {
        title: "Subject / reference; what is claimed is shaded".to_owned(),
        unit: "x".to_owned(),
        bars: bars.collect(),
        mark: mark.filter(|m| m.1 < 1e9),
    }
}

fn row(page: &mut Page, answer: &Answer, a: &Aspect) -> Vec<Cell> {
    let mut figure = |f: &Option<super::Sourced>| match f {
        Some(f) => {
            let note = page.note(f.source.clone());
            Cell::Number(f.value, format!("{} {}[{note}]", crate::report::short(f.value), f.unit))
        }
        None => Cell::Unknown,
    };
    let (subject, reference) = (figure(&a.subject), figure(&a.reference));
    let basis = match a.basis {
        Basis::DataSheet => "data sheet",
        Basis::Given => "given",
        Basis::Measured => "measured",
        Basis::Predicted => "predicted",
    };
    let range = a.interval.map_or(Cell::text(""), |i| {
        Cell::text(format!("{} to {}", crate::report::short(i.low), crate::report::short(i.high)))
    });
    let why = a.judgement.why.as_ref().map(|w| format!(": {w}")).unwrap_or_default();
    vec![
        Cell::text(a.name.clone()),
        Cell::text(basis),
        subject,
        reference,
        Cell::number(a.value.filter(|_| answer.reference.is_some())),
        range,
        Cell::text(format!("{}{why}", a.judgement.verdict.words())),
    ]
}
