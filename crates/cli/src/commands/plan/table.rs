//! Tables: for people, as comma-separated values, and as JSON.

use anyhow::Result;
use autarky_plan::report::{Bar, Bars, Block, Cell, Column as PageColumn, Table as PageTable};
use serde_json::{Map, Value};

use crate::args::TableArgs;
use crate::commands::{print, print_json};
use crate::terminal::{Style, printable};

/// A column: its key in CSV and JSON, its heading for people, and whether it holds numbers.
pub(super) struct Column {
    pub(super) key: &'static str,
    pub(super) heading: &'static str,
    pub(super) number: bool,
}

/// A column of text.
pub(super) const fn text(key: &'static str, heading: &'static str) -> Column {
    Column { key, heading, number: false }
}

/// A column of numbers.
pub(super) const fn number(key: &'static str, heading: &'static str) -> Column {
    Column { key, heading, number: true }
}

pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Value>>,
}

impl Table {
    pub(super) fn new(columns: impl IntoIterator<Item = Column>) -> Table {
        Table { columns: columns.into_iter().collect(), rows: Vec::new() }
    }

    /// Adds a row: a value for each column; null is unknown.
    pub(super) fn push(&mut self, row: impl IntoIterator<Item = Value>) {
        let row: Vec<Value> = row.into_iter().collect();
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(row);
    }

    /// Whether it has no row.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Prints it as the flags want it.
    pub(super) fn print(&self, args: &TableArgs) -> Result<()> {
        match (args.json, args.csv) {
            (true, _) => print_json(&self.json()),
            (_, true) => print(&self.csv()),
            _ => print(&self.text(Style::stdout())),
        }
    }

    /// It as a page has it.
    pub(super) fn on_page(&self) -> Block {
        let columns = self.columns.iter();
        let columns = columns
            .map(|c| if c.number { PageColumn::number(c.heading) } else { PageColumn::text(c.heading) });
        let cell = |value: &Value| match value {
            Value::Null => Cell::Unknown,
            Value::Number(n) => Cell::number(n.as_f64()),
            Value::String(text) => Cell::text(text),
            other => Cell::text(other.to_string()),
        };
        let rows = self.rows.iter().map(|row| row.iter().map(cell).collect());
        Block::Table(PageTable { columns: columns.collect(), rows: rows.collect(), caption: String::new() })
    }

    /// A bar for each row: the cells of the keys in `label` joined, and the values of the three keys, in `unit`.
    pub(super) fn bars(&self, title: &str, unit: &str, label: &[&str], value: [&str; 3]) -> Block {
        let at = |key: &str| self.columns.iter().position(|c| c.key == key);
        let text = |row: &[Value], key: &str| match at(key).and_then(|i| row.get(i)) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let figure = |row: &[Value], key: &str| at(key).and_then(|i| row.get(i)).and_then(Value::as_f64);
        let [middle, low, high] = value;
        let bars = self.rows.iter().filter_map(|row| {
            Some(Bar {
                label: label.iter().map(|key| text(row, key)).collect::<Vec<_>>().join(", "),
                value: figure(row, middle)?,
                interval: figure(row, low).zip(figure(row, high)),
                note: text(row, "basis"),
            })
        });
        let bars = Bars { title: title.to_owned(), unit: unit.to_owned(), bars: bars.collect(), mark: None };
        Block::Bars(bars)
    }

    pub(super) fn json(&self) -> Value {
        let keys = || self.columns.iter().map(|c| c.key.to_owned());
        self.rows.iter().map(|row| keys().zip(row.iter().cloned()).collect::<Map<_, _>>()).collect()
    }

    /// RFC 4180, with a line of keys; an unknown value is empty.
    pub(super) fn csv(&self) -> String {
        let quoted = |cell: String| match cell.contains(['"', ',', '\n', '\r']) {
            true => format!("\"{}\"", cell.replace('"', "\"\"")),
            false => cell,
        };
        let mut text = self.columns.iter().map(|c| c.key).collect::<Vec<_>>().join(",") + "\n";
        for row in &self.rows {
            text += &row.iter().map(|v| quoted(shown(v))).collect::<Vec<_>>().join(",");
            text.push('\n');
        }
        text
    }

    /// Columns side by side; an unknown value is `-`.
    pub(super) fn text(&self, style: Style) -> String {
        let cell = |value: &Value| match value {
            Value::Null => "-".to_owned(),
            value => printable(&shown(value)),
        };
        let rows: Vec<Vec<String>> = self.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
        let width = |(i, column): (usize, &Column)| {
            let widest = rows.iter().filter_map(|row| row.get(i)).map(|c| c.chars().count()).max();
            widest.unwrap_or(0).max(column.heading.chars().count())
        };
        let widths: Vec<usize> = self.columns.iter().enumerate().map(width).collect();
        let line = |cells: &[&str]| {
            let padded = cells.iter().zip(&self.columns).zip(&widths).map(|((cell, column), &width)| {
                if column.number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let headings: Vec<&str> = self.columns.iter().map(|c| c.heading).collect();
        let mut text = style.dim(&line(&headings)) + "\n";
        for row in &rows {
            text += &line(&row.iter().map(String::as_str).collect::<Vec<_>>());
            text.push('\n');
        }
        text
    }
}

/// A number as a cell: whole where it is whole, null where it is unknown.
pub(super) fn value(number: impl Into<Option<f64>>) -> Value {
    match number.into() {
        Some(x) if x.fract() == 0.0 && x.abs() < 1e15 => Value::from(x as i64),
        Some(x) => Value::from(x),
        None => Value::Null,
    }
}

/// A number with two decimals at most.
pub(super) fn rounded(number: impl Into<Option<f64>>) -> Value {
    value(number.into().map(|x| (x * 100.0).round() / 100.0))
}

/// A number with two decimals at most, as text.
pub(super) fn figure(number: f64) -> String {
    shown(&rounded(number))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table() -> Table {
        let mut table = Table::new([text("name", "name"), number("x_gb", "GB")]);
        table.push(["a, \"b\"".into(), value(2.5)]);
        table.push(["\u{1b}é".into(), value(None)]);
        table
    }

    #[test]
    fn values_with_commas_and_quotes_stay_whole() {
        assert_eq!(table().csv(), "name,x_gb\n\"a, \"\"b\"\"\",2.5\n\u{1b}é,\n");
    }

    #[test]
    fn columns_line_up_and_nothing_drives_the_terminal() {
        let text = table().text(Style::stdout());
        assert_eq!(text, "name      GB\na, \"b\"   2.5\n\\u{1b}é    -\n");
    }

    #[test]
    fn numbers_are_whole_where_they_are() {
        assert_eq!(
            table().json(),
            json!([{"name": "a, \"b\"", "x_gb": 2.5}, {"name": "\u{1b}é", "x_gb": null}])
        );
        assert_eq!((value(4800.0), rounded(2.909)), (json!(4800), json!(2.91)));
        assert_eq!(figure(19.4496), "19.45");
    }
}
