//! `autarky plan rules`

use anyhow::Result;
use autarky_plan::policy::{Issuer, Kind, Rule, Standing};
use autarky_plan::{Date, RuleBook};
use serde_json::{Value, json};

use super::table::{Table, figure, text};
use super::verdict::{ADVICE, standing_name};
use crate::args::RulesArgs;
use crate::commands::{print, print_json};
use crate::terminal::Style;

pub(super) fn run(args: &RulesArgs) -> Result<()> {
    let book = RuleBook::built_in()?;
    let on = args.on.unwrap_or_else(Date::today);
    if args.table.json {
        let rules: Vec<Value> = book.rules().iter().map(|rule| as_json(book, rule, on)).collect();
        return print_json(&json!({
            "on": on,
            "rules": rules,
            "definitions": book.definitions(),
            "payments": book.payments(),
            "advice": ADVICE,
        }));
    }
    if args.text {
        let style = Style::stdout();
        let mut all = String::new();
        book.rules().iter().for_each(|rule| all += &as_text(book, rule, on, style));
        all += &definitions(book, style);
        return print(&all);
    }
    let mut table = Table::new([
        text("id", "id"),
        text("kind", "what"),
        text("issuer", "by"),
        text("effective", "from"),
        text("standing", "standing"),
        text("confidence", "confidence"),
        text("title", "title"),
    ]);
    for rule in book.rules() {
        table.push([
            rule.id.as_str().into(),
            rule.kind.name().into(),
            issuer(rule.issuer).into(),
            rule.effective.to_string().into(),
            standing(book, rule, on).into(),
            rule.confidence.name().into(),
            rule.title.as_str().into(),
        ]);
    }
    table.print(&args.table)
}

fn issuer(issuer: Issuer) -> &'static str {
    match issuer {
        Issuer::Us => "US",
        Issuer::China => "China",
    }
}

/// Whether it holds on a day; what happened once does not hold, it is past.
fn standing(book: &RuleBook, rule: &Rule, on: Date) -> &'static str {
    match (rule.kind, book.standing(rule, on)) {
        (Kind::Event, Standing::InForce) => "past",
        (_, standing) => standing_name(standing),
    }
}

fn as_json(book: &RuleBook, rule: &Rule, on: Date) -> Value {
    let mut json = json!(rule);
    json["standing"] = standing(book, rule, on).into();
    json
}

fn as_text(book: &RuleBook, rule: &Rule, on: Date, style: Style) -> String {
    let mut text = format!("{}  {}\n", style.bold(&rule.id), rule.title);
    let mut say = |label: &str, line: &str| {
        text += &format!("  {} {line}\n", style.dim(&format!("{label:<12}")));
    };
    say("standing", &format!("{}, from {}", standing(book, rule, on), rule.effective));
    say("text", &rule.text);
    for class in &rule.classes {
        say("class", &format!("{}: {}", class.name, class.meaning));
    }
    for limit in &rule.limits {
        say("limit", &format!("{}: {} {}", limit.what, figure(limit.value), limit.unit));
    }
    let optional = [
        ("effect", &rule.effect),
        ("scope", &rule.scope),
        ("exceptions", &rule.exceptions),
        ("named", &rule.named),
        ("companion", &rule.companion),
        ("replaced by", &rule.superseded_by),
        ("citation", &rule.citation),
    ];
    for (label, line) in optional {
        if let Some(line) = line {
            say(label, line);
        }
    }
    rule.conditions.iter().for_each(|line| say("condition", line));
    rule.notes.iter().for_each(|line| say("note", line));
    let note = rule.confidence_note.as_ref().map(|n| format!(": {n}")).unwrap_or_default();
    say("source", &format!("{} [{}{note}]", rule.source, rule.confidence.name()));
    text + "\n"
}

fn definitions(book: &RuleBook, style: Style) -> String {
    let mut text = String::new();
    for d in book.definitions() {
        text += &format!("{}\n  {}\n", style.bold(&d.term), d.formula);
        d.notes.iter().for_each(|note| text += &format!("  {note}\n"));
        text += &style.dim(&format!("  {} [{}]\n", d.source, d.confidence.name()));
    }
    text += &format!("{}\n", style.bold("payments"));
    for p in book.payments() {
        let codified = if p.codified { "in a rule" } else { "agreed, in no rule" };
        text +=
            &format!("  {}: {} % since {} ({codified}; {})\n", p.what, figure(p.percent), p.since, p.rule);
    }
    text + &format!("\n{ADVICE}\n")
}
