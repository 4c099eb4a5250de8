//! `autarky plan switch`

use std::sync::Arc;

use anyhow::Result;
use autarky_plan::fit::Predictor;
use autarky_plan::model::Model;
use autarky_plan::predict::Format;
use autarky_plan::service::Precision;
use autarky_plan::switch::{self, Answer, Ask, Side};
use autarky_plan::{Date, RuleBook};
use serde_json::{Value, json};

use super::page;
use super::table::{Table, number, rounded, text};
use super::verdict;
use crate::args::SwitchArgs;
use crate::commands::{print, print_json};
use crate::exit::Usage;
use crate::terminal::{Style, printable};

pub(super) fn run(args: &SwitchArgs) -> Result<()> {
    page::check(&args.html)?;
    let catalog = args.catalog.catalog()?;
    let find = |name: &String| catalog.find(name).map(|c| Arc::new(c.clone()));
    let (input, output, concurrency) = load(args.load.as_deref())?;
    let ask = Ask {
        model: Model::open(&args.model)?,
        precision: args.format.as_deref().map(format).transpose()?,
        from: find(&args.from)?,
        to: args.to.iter().map(find).collect::<Result<_, _>>()?,
        chips: args.count.map(f64::from),
        input,
        output,
        concurrency,
        years: args.years,
        usd_per_kwh: args.electricity,
        on: args.on.unwrap_or_else(Date::today),
    };
    let answer = switch::switch(&ask, &catalog, Predictor::built_in()?, RuleBook::built_in()?);
    let answer = answer.map_err(|e| Usage(e.to_string()))?;
    page::write(&args.html, || switch::page(&answer))?;
    if args.table.csv {
        return table(&answer).print(&args.table);
    }
    if args.table.json {
        return print_json(&json!({
            "answer": answer,
            "summary": switch::summary(&answer),
            "advice": verdict::ADVICE,
        }));
    }
    print(&as_text(&answer))
}

/// `1024/512/32` as three numbers; the last may be left out.
fn load(text: Option<&str>) -> Result<(f64, f64, Option<f64>), Usage> {
    let Some(text) = text else { return Ok((1024.0, 512.0, None)) };
    let parts: Vec<Option<f64>> = text.split('/').map(|p| p.trim().parse().ok()).collect();
    match parts.as_slice() {
        [Some(input), Some(output)] => Ok((*input, *output, None)),
        [Some(input), Some(output), Some(n)] => Ok((*input, *output, Some(*n))),
        _ => Err(Usage(format!(
            "--load {text}: write tokens in, tokens out and requests, such as 1024/512/64"
        ))),
    }
}

fn format(name: &str) -> Result<Precision, Usage> {
    Format::named(name).map(Precision::Exactly).ok_or_else(|| {
        let names = Format::names().collect::<Vec<_>>().join(", ");
        Usage(format!("--format {name}: no such format; there are {names}, and gguf-..."))
    })
}

fn table(answer: &Answer) -> Table {
    let mut table = Table::new([
        text("chip", "chip"),
        number("chips", "chips"),
        number("chips_low", "low"),
        number("chips_high", "high"),
        number("chips_tokens_alone", "tokens alone"),
        number("tokens_per_s_chip", "tok/s chip"),
        number("tokens_per_s_user", "tok/s user"),
        number("speed_ratio", "speed"),
        number("kw", "kW"),
        number("energy_usd", "USD energy"),
        number("chips_usd", "USD chips"),
        text("format", "numbers"),
        text("status", "status"),
    ]);
    for side in std::iter::once(&answer.from).chain(&answer.to) {
        let (need, service) = (side.need.service, side.service.as_ref());
        let whole = |x: Option<f64>| rounded(x.map(f64::round));
        table.push([
            side.id.as_str().into(),
            rounded(need.map(|n| n.chips)),
            rounded(need.and_then(|n| n.low)),
            rounded(need.and_then(|n| n.high)),
            rounded(side.need.tokens_alone),
            whole(service.map(|s| s.rate)),
            rounded(service.map(|s| s.per_user)),
            rounded(side.speed.map(|r| r.value)),
            rounded(side.cost.power_w.map(|w| w / 1000.0)),
            whole(side.cost.energy_usd),
            whole(side.cost.chips_usd),
            service.map_or(Value::Null, |s| s.format.as_str().into()),
            side.status.name().into(),
        ]);
    }
    table
}

fn as_text(answer: &Answer) -> String {
    let style = Style::stdout();
    let (input, output, requests) = answer.load;
    let mut out = format!(
        "{}  {:.1} billion weights, {input} tokens in, {output} out, {requests} requests in flight\n\n",
        style.bold(&printable(&answer.model)),
        answer.weights / 1e9,
    );
    for line in &answer.assumed {
        out += &style.dim(&format!("assumed: {line}\n"));
    }
    out += &table(answer).text(style);
    for side in std::iter::once(&answer.from).chain(&answer.to) {
        out += &one(side, style);
    }
    let words = switch::summary(answer);
    out += &format!("\n{}\n", style.bold("in short"));
    for line in &words.paragraphs {
        out += &format!("  {}\n", printable(line));
    }
    out += &format!("\n{}, {}\n", style.bold("sources"), verdict::ADVICE);
    for (i, note) in words.notes.iter().enumerate() {
        out += &style.dim(&format!("  [{}] {}\n", i + 1, printable(note)));
    }
    out
}

fn one(side: &Side, style: Style) -> String {
    let mut out = format!("\n{} ({})\n", style.bold(&printable(&side.name)), side.id);
    let mut say = |label: &str, line: &str| {
        out += &format!("  {} {}\n", style.dim(&format!("{label:<9}")), printable(line));
    };
    if let Some(problem) = &side.need.problem {
        say("problem", problem);
    }
    if let Some(s) = &side.service {
        say("layout", &format!("{} chips, {}, {}", s.chips, s.format, s.layout));
    }
    if let Some(f) = &side.fit {
        say("memory", &format!("{:.0} GiB of weights in {:.0} GiB", f.weights_gib, f.memory_gib));
    }
    for m in &side.maturity {
        let (median, best) = (100.0 * m.median, 100.0 * m.best);
        say(
            "software",
            &format!(
                "{}: {median:.0} % of the data sheet's limit in the median of {} runs, best {best:.0} %",
                m.kind, m.runs
            ),
        );
    }
    if !side.lacks.is_empty() {
        say("lacks", &format!("a known peak of {}", side.lacks.join(", ")));
    }
    if !side.unknown.is_empty() {
        say("unknown", &side.unknown.join(", "));
    }
    for p in &side.policy {
        say("policy", &p.says);
    }
    for r in &side.risks {
        say("beware", r);
    }
    out
}
