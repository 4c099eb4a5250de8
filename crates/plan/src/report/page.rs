//! What a page holds.

use serde::Serialize;

/// A page. Text may refer to a note by its number in brackets, as [`Page::note`] gives it: `[3]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Its title.
    pub title: String,
    /// A paragraph below it.
    pub lead: String,
    /// Its parts.
    pub sections: Vec<Section>,
    notes: Vec<String>,
}

impl Page {
    /// A page without sections.
    pub fn new(title: impl Into<String>, lead: impl Into<String>) -> Page {
        Page { title: title.into(), lead: lead.into(), ..Page::default() }
    }

    /// The number of a note with this text, which is kept once.
    pub fn note(&mut self, text: impl Into<String>) -> usize {
        let text = text.into();
        if let Some(at) = self.notes.iter().position(|n| *n == text) {
            return at + 1;
        }
        self.notes.push(text);
        self.notes.len()
    }

    /// The notes, the first of which is number 1.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// A part of a page, with a heading.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section {
    /// Its heading.
    pub heading: String,
    /// What it holds, in order.
    pub blocks: Vec<Block>,
}

impl Section {
    /// A section of these blocks.
    pub fn new(heading: impl Into<String>, blocks: impl IntoIterator<Item = Block>) -> Section {
        Section { heading: heading.into(), blocks: blocks.into_iter().collect() }
    }
}

/// A piece of a section.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// Points.
    List(Vec<String>),
    /// A table, which sorts by the column whose heading is clicked.
    Table(Table),
    /// Values side by side.
    Bars(Bars),
    /// Curves in one plane.
    Curves(Curves),
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its rows: a cell for each column.
    pub rows: Vec<Vec<Cell>>,
    /// A sentence below it, or nothing.
    pub caption: String,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its heading.
    pub heading: String,
    /// Whether it holds numbers.
    pub number: bool,
}

impl Column {
    /// A column of text.
    pub fn text(heading: impl Into<String>) -> Column {
        Column { heading: heading.into(), number: false }
    }

    /// A column of numbers.
    pub fn number(heading: impl Into<String>) -> Column {
        Column { heading: heading.into(), number: true }
    }
}

/// A cell of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Text.
    Text(String),
    /// A number, and how it is shown.
    Number(f64, String),
    /// Nothing is known.
    Unknown,
}

impl Cell {
    /// Text.
    pub fn text(text: impl Into<String>) -> Cell {
        Cell::Text(text.into())
    }

    /// A number with three significant digits, or with all before its point.
    pub fn number(value: impl Into<Option<f64>>) -> Cell {
        match value.into().filter(|v| v.is_finite()) {
            Some(value) => Cell::Number(value, short(value)),
            None => Cell::Unknown,
        }
    }
}

/// Three significant digits, or all before the point.
pub(crate) fn short(value: f64) -> String {
    let digits = match value.abs() {
        x if x >= 99.95 || x == 0.0 => 0,
        x if x >= 9.995 => 1,
        x if x >= 0.9995 => 2,
        x if x >= 0.0995 => 3,
        _ => 4,
    };
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Values side by side, with intervals.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Bars {
    /// Its title.
    pub title: String,
    /// The unit of all values.
    pub unit: String,
    /// The bars.
    pub bars: Vec<Bar>,
    /// A range that is marked across all bars: its ends, and what it is.
    pub mark: Option<(f64, f64, String)>,
}

/// A value.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Bar {
    /// What it is of.
    pub label: String,
    /// The value.
    pub value: f64,
    /// Its 80 % interval.
    pub interval: Option<(f64, f64)>,
    /// What is said when it is pointed at.
    pub note: String,
}

/// Curves in one plane, such as throughput against latency.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Curves {
    /// Its title.
    pub title: String,
    /// What is to the right, with its unit.
    pub x: String,
    /// What is up, with its unit.
    pub y: String,
    /// The curves.
    pub curves: Vec<Curve>,
}

/// A curve.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// Its points, in the order in which they are joined.
    pub points: Vec<Point>,
}

/// A point of a curve.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Point {
    /// To the right.
    pub x: f64,
    /// Up.
    pub y: f64,
    /// The 80 % interval of `y`.
    pub interval: Option<(f64, f64)>,
    /// What is said when it is pointed at.
    pub note: String,
}
