//! `tojson` as Hugging Face's templates have it: Python's `json.dumps` with `ensure_ascii=False`.

use super::budget::{Budget, Fault};
use super::value::{Value, float_repr, push};

/// How to lay JSON out.
pub(crate) struct Layout {
    /// Blanks a level; `None`: all on one line.
    pub(crate) indent: Option<usize>,
    /// Between items.
    pub(crate) item: String,
    /// Between a key and its value.
    pub(crate) key: String,
    pub(crate) sort_keys: bool,
    /// Whether characters beyond ASCII are escaped.
    pub(crate) ascii: bool,
}

/// Puts `value` as JSON behind `out`.
pub(crate) fn dump(value: &Value, layout: &Layout, out: &mut String, budget: &Budget) -> Result<(), Fault> {
    dump_at(value, layout, 0, out, budget)
}

fn dump_at(
    value: &Value,
    layout: &Layout,
    level: usize,
    out: &mut String,
    budget: &Budget,
) -> Result<(), Fault> {
    match value {
        Value::None => push(out, "null", budget),
        Value::Bool(value) => push(out, if *value { "true" } else { "false" }, budget),
        Value::Int(value) => push(out, &value.to_string(), budget),
        Value::Float(value) if value.is_nan() => push(out, "NaN", budget),
        Value::Float(value) if value.is_infinite() => {
            push(out, if *value > 0.0 { "Infinity" } else { "-Infinity" }, budget)
        }
        Value::Float(value) => push(out, &float_repr(*value), budget),
        Value::Str(text) => dump_string(text, layout.ascii, out, budget),
        Value::List(list) => {
            let items = list.items.iter().map(|item| (None, item));
            dump_items(('[', ']'), items, layout, level, out, budget)
        }
        Value::Map(map) => {
            let mut entries: Vec<(Option<&str>, &Value)> =
                map.entries().iter().map(|(key, value)| (Some(&**key), value)).collect();
            budget.scan(entries.len() * 8)?;
            if layout.sort_keys {
                entries.sort_by_key(|(key, _)| *key);
            }
            dump_items(('{', '}'), entries.into_iter(), layout, level, out, budget)
        }
        other => Err(Fault::new(format!("`{}` cannot be written as JSON", other.type_name()))),
    }
}

fn dump_items<'a>(
    (open, close): (char, char),
    items: impl Iterator<Item = (Option<&'a str>, &'a Value)>,
    layout: &Layout,
    level: usize,
    out: &mut String,
    budget: &Budget,
) -> Result<(), Fault> {
    out.push(open);
    let mut any = false;
    for (key, value) in items {
        if any {
            push(out, &layout.item, budget)?;
        }
        any = true;
        new_line(layout, level + 1, out, budget)?;
        if let Some(key) = key {
            dump_string(key, layout.ascii, out, budget)?;
            push(out, &layout.key, budget)?;
        }
        dump_at(value, layout, level + 1, out, budget)?;
    }
    if any {
        new_line(layout, level, out, budget)?;
    }
    out.push(close);
    budget.grow(2)
}

fn new_line(layout: &Layout, level: usize, out: &mut String, budget: &Budget) -> Result<(), Fault> {
    let Some(indent) = layout.indent else { return Ok(()) };
    let blanks = indent.saturating_mul(level);
    budget.grow(blanks.saturating_add(1))?;
    out.push('\n');
    out.extend(std::iter::repeat_n(' ', blanks));
    Ok(())
}

fn dump_string(text: &str, ascii: bool, out: &mut String, budget: &Budget) -> Result<(), Fault> {
    // An escape takes up to six bytes for one, and twelve for four.
    budget.grow(text.len().saturating_mul(6).saturating_add(2))?;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c if ascii && (c as u32) > 0x7e => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
    Ok(())
}
