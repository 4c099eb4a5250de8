//! `autarky plan policy`

use anyhow::Result;
use autarky_plan::policy::ChipStatus;
use autarky_plan::{Chip, Date, Figures, RuleBook, Verdict};
use serde_json::{Value, json};

use super::table::{Table, number, rounded, text, value};
use super::verdict;
use crate::args::PolicyArgs;
use crate::commands::{print, print_json};
use crate::exit::Usage;
use crate::terminal::{Style, printable};

pub(super) fn run(args: &PolicyArgs) -> Result<()> {
    check(args)?;
    let catalog;
    let chip = match &args.name {
        Some(name) => {
            catalog = args.catalog.catalog()?;
            Some(catalog.find(name)?)
        }
        None => None,
    };
    let figures = figures(args, chip);
    let book = RuleBook::built_in()?;
    let on = args.on.unwrap_or_else(Date::today);
    let verdicts = book.classify(&figures, on);
    let status = chip.and_then(|c| book.status(&c.id));
    if args.table.csv {
        return lines(&verdicts).print(&args.table);
    }
    if args.table.json {
        return print_json(&json!({
            "chip": chip.map(|c| &c.id),
            "on": on,
            "figures": figures,
            "verdicts": verdicts.iter().map(verdict::json).collect::<Vec<Value>>(),
            "known": status,
            "caveat": chip.and_then(verdict::caveat),
            "advice": verdict::ADVICE,
        }));
    }
    print(&as_text(chip, &figures, &verdicts, status, on))
}

/// Figures that can be.
fn check(args: &PolicyArgs) -> Result<(), Usage> {
    let given = [
        ("--tpp", args.tpp, false),
        ("--die-area", args.die_area, false),
        ("--dram-bandwidth", args.dram_bandwidth, true),
        ("--io-bandwidth", args.io_bandwidth, true),
        ("--hbm-density", args.hbm_density, false),
    ];
    for (flag, value, zero) in given {
        if let Some(x) = value
            && !(x.is_finite() && (x > 0.0 || (zero && x == 0.0)))
        {
            return Err(Usage(format!("{flag} {x}: must be a number above zero")));
        }
    }
    if args.name.is_none() && given.iter().all(|(_, value, _)| value.is_none()) {
        let flags = given.map(|(flag, _, _)| flag).join(", ");
        return Err(Usage(format!("give a chip, or figures: {flags}")));
    }
    Ok(())
}

fn figures(args: &PolicyArgs, chip: Option<&Chip>) -> Figures {
    let of = chip.map(Figures::of);
    let mut figures = of.unwrap_or(Figures { datacentre: Some(true), ..Figures::default() });
    let area = args.die_area.or(chip.and_then(|c| c.die_area_mm2));
    if args.tpp.is_some() || args.die_area.is_some() {
        figures.tpp = args.tpp.or(figures.tpp);
        figures.performance_density = figures.tpp.zip(area).map(|(tpp, area)| tpp / area);
    }
    figures.dram_bandwidth_gb_s = args.dram_bandwidth.or(figures.dram_bandwidth_gb_s);
    figures.io_bandwidth_bidir_gb_s = args.io_bandwidth.or(figures.io_bandwidth_bidir_gb_s);
    figures.hbm_bandwidth_density_gb_s_mm2 = args.hbm_density;
    if args.consumer {
        figures.datacentre = Some(false);
    }
    figures
}

fn as_text(
    chip: Option<&Chip>,
    figures: &Figures,
    verdicts: &[Verdict],
    status: Option<&ChipStatus>,
    on: Date,
) -> String {
    let style = Style::stdout();
    let name = chip.map_or_else(|| "these figures".to_owned(), |c| printable(&c.name));
    let mut text = format!("{} on {on}, {}\n", style.bold(&name), verdict::ADVICE);
    text += &format!("  {}\n", verdict::figures(figures));
    if let Some(caveat) = chip.and_then(verdict::caveat) {
        text += &format!("  {caveat}\n");
    }
    for v in verdicts {
        text += &format!("\n{}  {}, {}\n", style.bold(&v.rule.id), v.rule.title, verdict::standing(v));
        text += &format!("  {}\n", verdict::outcome(v));
        for line in &v.lines {
            text += &style.dim(&format!("  {}\n", verdict::line(line)));
        }
    }
    if let Some(status) = status {
        text += &format!("\n{} ({})\n", style.bold("what became of it"), status.confidence.name());
        for event in status.events.iter().filter(|e| e.since <= on) {
            text += &format!("  {:<10}  {}\n", event.since, event.what);
        }
    }
    text
}

/// A row for each line of each rule.
fn lines(verdicts: &[Verdict]) -> Table {
    let mut table = Table::new([
        text("rule", "rule"),
        text("standing", "standing"),
        text("verdict", "verdict"),
        text("needs", "needs"),
        text("figure", "figure"),
        number("value", "value"),
        number("line", "line"),
        number("distance", "distance"),
        text("crossed", "crossed"),
    ]);
    for v in verdicts {
        let needs = match &v.outcome {
            autarky_plan::policy::Outcome::Needs { needs, .. } => {
                needs.iter().map(|n| n.label()).collect::<Vec<_>>().join("; ")
            }
            _ => String::new(),
        };
        for line in &v.lines {
            table.push([
                v.rule.id.as_str().into(),
                verdict::standing_name(v.standing).into(),
                v.outcome.name().map_or(Value::Null, Value::from),
                needs.as_str().into(),
                line.figure.name().into(),
                rounded(line.value),
                value(line.line),
                rounded(line.distance),
                line.crossed.map_or(Value::Null, Value::from),
            ]);
        }
    }
    table
}
