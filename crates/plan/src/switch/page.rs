//! An answer as a page.

use super::summary::{chips, summary};
use super::{Answer, Side};
use crate::report::{Bar, Bars, Block, Cell, Column, Curve, Curves, Page, Point, Section, Table, short};

/// The answer as a page: in words, as tables, and as curves of throughput against the speed of a user.
pub fn page(answer: &Answer) -> Page {
    let names: Vec<&str> = answer.to.iter().map(|s| s.name.as_str()).collect();
    let title = format!("{}: from {} to {}", answer.model, answer.from.name, names.join(", "));
    let lead = "Speeds are predictions with intervals that should hold four times of five. Export rules are arithmetic on \
                published figures, not legal advice.";
    let mut page = Page::new(title, lead);
    let words = summary(answer);
    // Notes of the words first, so that their numbers stay.
    for note in &words.notes {
        page.note(note.clone());
    }
    let paragraphs = words.paragraphs.into_iter().map(Block::Text);
    page.sections.push(Section::new("In short", paragraphs));
    let sides: Vec<&Side> = std::iter::once(&answer.from).chain(&answer.to).collect();
    let table = table(&mut page, &sides);
    let bars = bars(&sides, &answer.from.name);
    page.sections.push(Section::new("Chips", [table, bars]));
    page.sections.push(Section::new("Throughput and speed", [curves(&sides)]));
    page.sections.push(software(&sides));
    let policy = policy(&mut page, &sides);
    page.sections.push(policy);
    page
}

fn table(page: &mut Page, sides: &[&Side]) -> Block {
    let columns = vec![
        Column::text("chip"),
        Column::number("chips"),
        Column::text("80 %"),
        Column::number("for tokens alone"),
        Column::number("tokens/s a chip"),
        Column::number("tokens/s a user"),
        Column::text("numbers"),
        Column::text("layout"),
        Column::number("kW"),
        Column::number("USD, chips"),
        Column::number("USD, energy"),
        Column::text("not known"),
    ];
    let mut rows = Vec::new();
    for side in sides {
        let service = side.service.as_ref();
        let note = service.map(|v| format!("[{}]", page.note(v.rests_on.clone()))).unwrap_or_default();
        let mut sourced = |value: Option<f64>, source: &Option<String>| match value.zip(source.as_ref()) {
            Some((v, source)) => Cell::Number(v, format!("{}[{}]", short(v), page.note(source.clone()))),
            None => Cell::Unknown,
        };
        let predicted =
            |value: Option<f64>| value.map_or(Cell::Unknown, |v| Cell::Number(v, short(v) + &note));
        let (power, price) = (
            sourced(side.cost.power_w.map(|w| w / 1000.0), &side.cost.power_source),
            sourced(side.cost.chips_usd, &side.cost.price_source),
        );
        let range = side.need.service.map(chips).or_else(|| side.need.problem.clone()).unwrap_or_default();
        rows.push(vec![
            Cell::text(side.name.clone()),
            predicted(side.need.service.map(|n| n.chips)),
            Cell::text(range),
            predicted(side.need.tokens_alone),
            predicted(service.map(|v| v.rate)),
            predicted(service.map(|v| v.per_user)),
            Cell::text(service.map(|v| v.format.clone()).unwrap_or_default()),
            Cell::text(service.map(|v| v.layout.clone()).unwrap_or_default()),
            power,
            price,
            Cell::number(side.cost.energy_usd),
            Cell::text(side.unknown.join(", ")),
        ]);
    }
    let caption =
        "Power is the thermal design power of the chips alone. Prices are what somebody once wrote."
            .to_owned();
    Block::Table(Table { columns, rows, caption })
}

fn bars(sides: &[&Side], from: &str) -> Block {
    let bar = |side: &&Side| {
        let r = side.speed?;
        let interval = Some((r.interval.low, r.interval.high)).filter(|_| side.name != from);
        let note = side.service.as_ref().map(|v| v.rests_on.clone()).unwrap_or_default();
        Some(Bar { label: side.name.clone(), value: r.value, interval, note })
    };
    Block::Bars(Bars {
        title: format!("A chip's tokens/s over those of {from}"),
        unit: "x".to_owned(),
        bars: sides.iter().filter_map(bar).collect(),
        mark: None,
    })
}

fn curves(sides: &[&Side]) -> Block {
    let curves = sides.iter().filter_map(|side| {
        let service = side.service.as_ref()?;
        let points = service.curve.iter().map(|p| Point {
            x: p.per_user,
            y: p.rate,
            interval: Some((p.low, p.high)),
            note: format!("{} requests in flight", short(p.requests)),
        });
        Some(Curve { name: format!("{} {}", short(service.chips), side.name), points: points.collect() })
    });
    Block::Curves(Curves {
        title: "Throughput of a chip against the speed that each user sees, by requests in flight".to_owned(),
        x: "tokens/s a user".to_owned(),
        y: "tokens/s a chip".to_owned(),
        curves: curves.collect(),
    })
}

fn software(sides: &[&Side]) -> Section {
    let columns = vec![
        Column::text("chip"),
        Column::text("work"),
        Column::number("runs"),
        Column::number("median, %"),
        Column::number("best, %"),
    ];
    let mut rows = Vec::new();
    for side in sides {
        for m in &side.maturity {
            rows.push(vec![
                Cell::text(side.name.clone()),
                Cell::text(m.kind),
                Cell::number(m.runs as f64),
                Cell::number(100.0 * m.median),
                Cell::number(100.0 * m.best),
            ]);
        }
        if side.maturity.is_empty() {
            rows.push(vec![
                Cell::text(side.name.clone()),
                Cell::text("none"),
                Cell::number(0.0),
                Cell::Unknown,
                Cell::Unknown,
            ]);
        }
    }
    let caption = "What measured runs reach of the tokens/s that a data sheet's peaks allow.".to_owned();
    Section::new("Software", [Block::Table(Table { columns, rows, caption })])
}

fn policy(page: &mut Page, sides: &[&Side]) -> Section {
    let mut blocks = Vec::new();
    for side in sides {
        let mut points: Vec<String> = Vec::new();
        for p in &side.policy {
            let note = page.note(p.source.clone());
            points.push(format!("{}[{note}]", p.says));
        }
        points.extend(side.risks.iter().map(|r| format!("Beware: {r}.")));
        blocks.push(Block::Text(format!("{} ({})", side.name, side.status.name())));
        blocks.push(Block::List(points));
    }
    Section::new("Export rules and risks", blocks)
}
