//! What the commands that search say besides their tables.

use anyhow::Result;
use autarky_plan::model::{Model, OpenError};
use autarky_plan::search::Refusal;
use serde_json::{Value, json};

use crate::exit::Usage;
use crate::terminal::{Style, printable};

/// The model at a path or of that name. A file that is no model is another mistake than a name that nothing has.
pub(super) fn open(name: &str) -> Result<Model> {
    Model::open(name).map_err(|error| match error {
        OpenError::Family(error) => (*error).into(),
        other => Usage(other.to_string()).into(),
    })
}

/// What could not be planned, and why.
#[derive(Default)]
pub(super) struct Refused(Vec<(String, String)>);

impl Refused {
    pub(super) fn push(&mut self, what: &str, why: &Refusal) {
        self.0.push((what.to_owned(), why.to_string()));
    }

    /// An error, where there is nothing else to show.
    pub(super) fn only(&self, nothing_else: bool) -> Result<(), Usage> {
        match nothing_else && !self.0.is_empty() {
            true => {
                let lines: Vec<String> = self.0.iter().map(|(what, why)| format!("{what}: {why}")).collect();
                Err(Usage(lines.join("; ")))
            }
            false => Ok(()),
        }
    }

    pub(super) fn json(&self) -> Value {
        self.0.iter().map(|(what, why)| json!({"what": what, "why": why})).collect()
    }

    pub(super) fn text(&self) -> String {
        self.0.iter().map(|(what, why)| format!("\n{}: {}\n", printable(what), printable(why))).collect()
    }
}

/// What was assumed of a model, a line each.
pub(super) fn assumed(model: &Model) -> String {
    let style = Style::stdout();
    model.assumed.iter().map(|a| style.dim(&format!("assumed: {a}\n"))).collect()
}
