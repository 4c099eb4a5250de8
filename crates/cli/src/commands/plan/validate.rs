//! `autarky plan validate`

use anyhow::Result;
use autarky_plan::validate::{Group, LeaveOut, Options, Report, read, validate};
use serde_json::Value;

use super::table::{Table, number, rounded, text};
use crate::args::ValidateArgs;
use crate::commands::{print, print_json};
use crate::exit::Input;
use crate::terminal::{Style, printable};

/// Rows and groups that a table for people shows at most.
const SHOWN: usize = 12;

pub(super) fn run(args: &ValidateArgs) -> Result<()> {
    let rows = read(&args.rows).map_err(|e| Input(e.to_string()))?;
    let leave_out = match (args.exact, args.without_documents) {
        (_, true) => LeaveOut::Documents,
        (true, _) => LeaveOut::Rows,
        _ => LeaveOut::Nothing,
    };
    let options = Options { quality: args.quality, all: args.all, leave_out };
    let report = validate(&rows, &args.catalog.catalog()?, &options)?;
    match (args.table.json, args.table.csv) {
        (true, _) => print_json(&report.json()),
        (_, true) => table(&report).print(&args.table),
        _ => print(&as_text(&report, &options)),
    }
}

/// Every row.
fn table(report: &Report) -> Table {
    let mut table = Table::new([
        text("id", "id"),
        text("kind", "kind"),
        text("unit", "unit"),
        number("predicted", "predicted"),
        number("low", "low"),
        number("high", "high"),
        number("measured", "measured"),
        text("basis", "basis"),
        text("extrapolated", "extrapolated"),
        text("fitted", "fitted"),
        text("skipped", "skipped"),
    ]);
    for row in &report.rows {
        let json = row.json();
        let keys = [
            "id",
            "kind",
            "unit",
            "predicted",
            "low",
            "high",
            "measured",
            "basis",
            "extrapolated",
            "fitted",
            "skipped",
        ];
        table.push(keys.map(|key| json.get(key).cloned().unwrap_or(Value::Null)));
    }
    table
}

fn as_text(report: &Report, options: &Options) -> String {
    let style = Style::stdout();
    let mut out = String::new();
    let all: Vec<Group> = report.groups.all.iter().cloned().collect();
    let kinds: Vec<Group> = report.groups.kinds.iter().chain(&all).cloned().collect();
    for (heading, groups) in
        [("kind", &kinds), ("chip", &report.groups.chips), ("document", &report.groups.documents)]
    {
        if !groups.is_empty() {
            out += &grouped(heading, groups).text(style);
            if groups.len() > SHOWN && heading != "kind" {
                out += &style.dim(&format!("... and {} more; --json has all\n", groups.len() - SHOWN));
            }
            out.push('\n');
        }
    }
    let worst = report.worst();
    if !worst.is_empty() {
        out += &style.bold("the worst rows\n");
        let mut table = Table::new([
            text("id", "id"),
            text("kind", "kind"),
            number("predicted", "predicted"),
            number("low", "low"),
            number("high", "high"),
            number("measured", "measured"),
            text("unit", "unit"),
            number("error", "error %"),
        ]);
        for (row, c) in worst.iter().take(SHOWN) {
            table.push([
                row.id.as_str().into(),
                row.kind.as_str().into(),
                rounded(c.predicted),
                rounded(c.low),
                rounded(c.high),
                rounded(c.measured),
                c.unit.into(),
                percent(c.error()),
            ]);
        }
        out += &table.text(style);
        out.push('\n');
    }
    out += &skipped(report, options, style);
    out += &format!("{}\n", report.honesty());
    out
}

fn grouped(heading: &'static str, groups: &[Group]) -> Table {
    let mut table = Table::new([
        text("name", heading),
        number("rows", "rows"),
        number("median_error", "median |error| %"),
        number("p90_error", "p90 %"),
        number("inside", "in 80 % interval, %"),
        number("fitted", "fitted on"),
    ]);
    let shown = if heading == "kind" { groups.len() } else { SHOWN };
    for g in groups.iter().take(shown) {
        // A document's address differs from others' at its end.
        let length = g.name.chars().count();
        let name: String = match length > 70 {
            true => "...".chars().chain(g.name.chars().skip(length - 67)).collect(),
            false => g.name.clone(),
        };
        table.push([
            name.into(),
            g.rows.into(),
            percent(g.median_error),
            percent(g.p90_error),
            percent(g.inside),
            g.fitted.into(),
        ]);
    }
    table
}

fn percent(share: f64) -> Value {
    let x = (share * 1000.0).round() / 10.0;
    // "-0.0" would be read as a sign.
    if x == 0.0 { Value::from(0) } else { Value::from(x) }
}

fn skipped(report: &Report, options: &Options, style: Style) -> String {
    let mut out = String::new();
    let mut reasons: Vec<(&str, usize, &str)> = Vec::new();
    for row in &report.rows {
        let Err(reason) = &row.outcome else { continue };
        match reasons.iter_mut().find(|r| r.0 == reason) {
            Some(known) => known.1 += 1,
            None => reasons.push((reason, 1, &row.id)),
        }
    }
    if !reasons.is_empty() {
        out += &style.bold("skipped\n");
        for (reason, n, id) in &reasons {
            let id = printable(id);
            let which = if *n == 1 { id } else { format!("{n} rows such as {id}") };
            out += &format!("  {which}: {}\n", printable(reason));
        }
        out.push('\n');
    }
    if report.omitted > 0 {
        out += &format!(
            "{} rows of quality below {} were left out; --all lists them.\n",
            report.omitted, options.quality
        );
    }
    out
}
