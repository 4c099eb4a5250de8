//! `autarky plan fleet`

use anyhow::Result;
use autarky_plan::fit::Predictor;
use autarky_plan::fleet::{self, Fleet, Plan};
use serde_json::Value;

use super::claims::cause;
use super::table::{Table, number, rounded, text, value};
use crate::args::FleetArgs;
use crate::commands::{print, print_json};
use crate::terminal::{Style, printable};

pub(super) fn run(args: &FleetArgs) -> Result<()> {
    let catalog = args.catalog.catalog()?;
    let fleet = Fleet::read(&args.fleet)?;
    let file = args.fleet.display().to_string();
    let plan = fleet::plan(&fleet, &file, &catalog, Predictor::built_in()?).map_err(cause)?;
    match (args.table.json, args.table.csv) {
        (true, _) => print_json(&serde_json::to_value(&plan)?),
        (_, true) => jobs(&plan).print(&args.table),
        _ => print(&as_text(&fleet, &plan, args.joint)),
    }
}

fn whole(x: f64) -> Value {
    value(x.round())
}

/// A row for each part of each job, and one for each job that does not run.
fn jobs(plan: &Plan) -> Table {
    let mut table = Table::new([
        text("job", "job"),
        number("priority", "priority"),
        text("chip", "on"),
        number("chips", "chips"),
        number("tokens_per_s", "tok/s"),
        number("low", "low"),
        number("high", "high"),
        number("wanted_tokens_per_s", "wanted"),
        text("layout", "layout"),
        text("unmet", "unmet"),
    ]);
    for a in &plan.assigned {
        for part in &a.parts {
            table.push([
                a.job.as_str().into(),
                a.priority.into(),
                part.chip.as_str().into(),
                value(part.chips),
                whole(part.tokens_per_s),
                whole(part.low),
                whole(part.high),
                whole(a.wanted),
                part.layout.as_str().into(),
                Value::Null,
            ]);
        }
    }
    for u in &plan.unmet {
        let mut row = vec![u.job.as_str().into(), u.priority.into()];
        row.extend(std::iter::repeat_n(Value::Null, 7));
        row.push(u.reason.as_str().into());
        table.push(row);
    }
    table
}

fn as_text(fleet: &Fleet, plan: &Plan, joint: bool) -> String {
    let style = Style::stdout();
    let how = match plan.exact {
        true => "the best of all plans that were considered",
        false => "a greedy plan, improved by moves and swaps",
    };
    let name = fleet.name.as_deref().unwrap_or("fleet");
    let mut out = format!("{}  {how}\n\n", style.bold(&printable(name)));
    out += &jobs(plan).text(style);
    let mut chips = Table::new([
        text("chip", "chip"),
        number("count", "chips"),
        number("used", "used"),
        number("share", "%"),
        number("kw", "kW"),
    ]);
    for u in &plan.chips {
        let share = rounded((100.0 * u.used / u.count).round());
        let kw = rounded(u.power_w.map(|w| w / 1000.0));
        chips.push([u.chip.as_str().into(), value(u.count), value(u.used), share, kw]);
    }
    out += &format!("\n{}", chips.text(style));
    if joint {
        out += &format!("\n{}", together(plan).text(style));
    } else if let Some(best) = plan
        .joint
        .iter()
        .filter(|j| j.gain.is_some())
        .max_by(|a, b| a.gain.unwrap_or(0.0).total_cmp(&b.gain.unwrap_or(0.0)))
    {
        out += &format!(
            "\nall {} and {} together on {:?}: {:+.0} % over the better of them alone ({}); --joint shows all\n",
            best.chips.0,
            best.chips.1,
            best.job,
            100.0 * best.gain.unwrap_or(0.0),
            best.advice,
        );
    }
    out
}

/// What two kinds of chips would do together.
fn together(plan: &Plan) -> Table {
    let mut table = Table::new([
        text("job", "job"),
        text("first", "first"),
        text("second", "second"),
        number("first_alone", "first alone"),
        number("second_alone", "second alone"),
        number("by_service", "by service"),
        number("by_pipeline", "by stage"),
        number("first_layers", "layers on first, %"),
        number("gain", "gain, %"),
        text("advice", "advice"),
    ]);
    for j in &plan.joint {
        let speed = |x: Option<f64>| x.map_or(Value::Null, whole);
        table.push([
            j.job.as_str().into(),
            j.chips.0.as_str().into(),
            j.chips.1.as_str().into(),
            speed(j.alone.0),
            speed(j.alone.1),
            speed(j.by_service),
            speed(j.by_pipeline),
            speed(j.first_share.map(|s| 100.0 * s)),
            speed(j.gain.map(|g| 100.0 * g)),
            j.advice.as_str().into(),
        ]);
    }
    table
}
