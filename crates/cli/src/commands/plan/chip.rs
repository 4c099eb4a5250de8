//! `autarky plan chip`

use anyhow::Result;
use autarky_plan::chips::{Field, Origin, Price};
use autarky_plan::policy::Standing;
use autarky_plan::{Chip, Date, Figures, RuleBook};
use serde_json::{Value, json};

use super::table::figure;
use super::verdict;
use crate::args::ChipArgs;
use crate::commands::{print, print_json};
use crate::terminal::{Style, printable};

pub(super) fn run(args: &ChipArgs) -> Result<()> {
    let catalog = args.catalog.catalog()?;
    let chip = catalog.find(&args.name)?;
    let book = RuleBook::built_in()?;
    let today = Date::today();
    match args.json {
        true => print_json(&as_json(chip, book, today)),
        false => print(&as_text(chip, book, today)),
    }
}

fn as_json(chip: &Chip, book: &RuleBook, on: Date) -> Value {
    let figures = Figures::of(chip);
    let verdicts: Vec<Value> = book.classify(&figures, on).iter().map(verdict::json).collect();
    json!({
        "chip": chip,
        "file": file(chip),
        "figures": figures,
        "policy": {
            "on": on,
            "verdicts": verdicts,
            "known": book.status(&chip.id),
            "caveat": verdict::caveat(chip),
            "advice": verdict::ADVICE,
        },
    })
}

fn file(chip: &Chip) -> Option<String> {
    match &chip.origin {
        Origin::BuiltIn => None,
        Origin::File(path) => Some(path.display().to_string()),
    }
}

fn as_text(chip: &Chip, book: &RuleBook, on: Date) -> String {
    let style = Style::stdout();
    let mut text = format!("{} ({})\n", style.bold(&printable(&chip.name)), chip.id);
    let label = |name: &str| style.dim(&format!("{name:<15}"));
    for (name, line, field) in lines(chip) {
        let source = field.and_then(|f| chip.sources.get(&f));
        let confidence =
            source.map(|s| style.dim(&format!("  [{}]", s.confidence.name()))).unwrap_or_default();
        text += &format!("  {} {}{confidence}\n", label(name), printable(&line));
    }
    text += &format!("\n{}\n", style.bold("sources"));
    for (field, source) in &chip.sources {
        let name = style.dim(&format!("{:<20}", field.name()));
        text += &format!("  {name} {}: {}\n", source.confidence.name(), printable(&source.source));
    }
    text += &format!("\n{} on {on}, {}\n", style.bold("policy"), verdict::ADVICE);
    text += &format!("  {}\n", verdict::figures(&Figures::of(chip)));
    for v in book.classify(&Figures::of(chip), on).iter().filter(|v| v.standing == Standing::InForce) {
        text += &format!("  {} {}\n", style.dim(&format!("{:<18}", v.rule.id)), verdict::outcome(v));
    }
    if let Some(caveat) = verdict::caveat(chip) {
        text += &format!("  {caveat}\n");
    }
    if let Some(status) = book.status(&chip.id) {
        for event in &status.events {
            text += &format!("  {:<18} {}\n", event.since, event.what);
        }
        text += &style.dim(&format!("  how this is known: {}\n", status.confidence.name()));
    }
    text
}

/// What is known, a line each, with the field that has its source.
fn lines(chip: &Chip) -> Vec<(&'static str, String, Option<Field>)> {
    let mut lines = vec![("vendor", chip.vendor.clone(), None)];
    let mut say = |name, line: Option<String>, field| lines.extend(line.map(|l| (name, l, field)));
    let with = |x: Option<f64>, unit: &str| x.map(|x| format!("{} {unit}", figure(x)));
    let join = |parts: Vec<Option<String>>| {
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    };
    say("year", chip.year.map(|y| y.to_string()), None);
    say("status", join(vec![Some(chip.status.name().into()), chip.status_note.clone()]), None);
    say("class", Some(chip.class.name().into()), None);
    let peaks = chip.peak_dense_tops.iter().map(|(t, x)| Some(format!("{t} {}", figure(x)))).collect();
    let peaks = join(peaks).map(|p| format!("{p} (dense, 10¹² operations/s)"));
    say("peak", peaks, Some(Field::PeakDenseTops));
    let m = &chip.memory;
    let capacity = with(m.capacity_gib, "GiB").map(|c| match &m.capacity_note {
        Some(note) => format!("{c} ({note})"),
        None => c,
    });
    let usable = with(m.usable_mib, "MiB usable");
    say(
        "memory",
        join(vec![m.kind.clone(), capacity, usable, with(m.bandwidth_gb_s, "GB/s")]),
        Some(Field::Memory),
    );
    say("on-chip memory", with(chip.on_chip_memory_mb, "MB"), Some(Field::OnChipMemoryMb));
    let link = &chip.interconnect;
    let devices = link.max_scale_up_devices.map(|n| match n {
        1 => "not linked to others".to_owned(),
        n => format!("up to {n} devices"),
    });
    let link = join(vec![link.name.clone(), with(link.gb_s_per_direction, "GB/s a direction"), devices]);
    say("interconnect", link, Some(Field::Interconnect));
    let host = &chip.host_link;
    let host = join(vec![host.name.clone(), with(host.gb_s_per_direction, "GB/s a direction")]);
    say("host link", host, Some(Field::HostLink));
    say("power", with(chip.tdp_w, "W"), Some(Field::TdpW));
    let process = join(vec![chip.process.foundry.clone(), with(chip.process.node_nm, "nm")]);
    say("process", process, Some(Field::Process));
    say("die area", with(chip.die_area_mm2, "mm²"), Some(Field::DieAreaMm2));
    say("price", chip.price_usd.as_ref().map(price), Some(Field::PriceUsd));
    let from = chip.peak_dense_tops.tpp().map(|(_, t)| format!(" (from {t})")).unwrap_or_default();
    say("TPP", chip.tpp().map(|t| figure(t) + &from), Some(Field::Tpp));
    say("TPP/mm²", chip.performance_density().map(figure), Some(Field::PerformanceDensity));
    say("software", chip.software_stack.clone(), Some(Field::SoftwareStack));
    say("notes", chip.notes.clone(), None);
    say("file", file(chip), None);
    lines
}

fn price(price: &Price) -> String {
    let range = price.low.zip(price.high).map(|(low, high)| format!("{} to {}", figure(low), figure(high)));
    let sum = match (price.value, range) {
        (Some(value), Some(range)) => format!("{} ({range})", figure(value)),
        (Some(value), None) => figure(value),
        (None, Some(range)) => range,
        (None, None) => "unknown".to_owned(),
    };
    match &price.basis {
        Some(basis) => format!("{sum} USD: {basis}"),
        None => format!("{sum} USD"),
    }
}
