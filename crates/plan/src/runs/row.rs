//! A row of measured runs, as it is written.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model::Shape;

/// One published run. The words are those of the sources; [`super::interpret`] makes sense of them.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Row {
    /// A name of its own.
    pub id: String,
    /// `train`, `serve`, `decode`, `prefill` or `microbench`.
    pub kind: String,
    /// The model's published sizes.
    pub model: Shape,
    /// The chip as the source names it.
    #[serde(default)]
    pub chip: Option<String>,
    /// The chip's id in the catalogue.
    #[serde(default)]
    pub chip_id: Option<String>,
    /// Chips.
    #[serde(default)]
    pub count: Option<f64>,
    /// How the model was cut over them.
    #[serde(default)]
    pub parallelism: Map<String, Value>,
    /// The number format in the source's words.
    #[serde(default)]
    pub dtype: Option<String>,
    /// The number format in [`crate::predict::Format`]'s words.
    #[serde(default)]
    pub dtype_norm: Option<String>,
    /// Sequences in flight.
    #[serde(default)]
    pub batch: Option<f64>,
    /// Tokens of a prompt.
    #[serde(default)]
    pub isl: Option<f64>,
    /// Tokens of an answer.
    #[serde(default)]
    pub osl: Option<f64>,
    /// Figures by name; names end in their unit.
    pub measured: Map<String, Value>,
    /// 3: all that a prediction needs is known. 2: one important field is missing. 1: only a claim.
    #[serde(default)]
    pub quality: u8,
    /// How far to trust it.
    #[serde(default)]
    pub confidence: Option<String>,
    /// Where it was published.
    #[serde(default)]
    pub source: String,
    /// Remarks.
    #[serde(default)]
    pub notes: Option<String>,
}

impl Row {
    /// A figure, if it is a positive number.
    pub fn figure(&self, name: &str) -> Option<f64> {
        self.measured.get(name).and_then(Value::as_f64).filter(|v| v.is_finite() && *v > 0.0)
    }

    /// The document that published it: rows of one document are not independent of each other. A section, a table's row
    /// or a file's line is not a document of its own.
    pub fn document(&self) -> &str {
        let source = self.source.as_str();
        if let Some((file, id)) = source.split_once(" id=").filter(|_| source.contains("silicon_sample")) {
            // One list of several campaigns: dated sweeps, numbered configurations, and the makers' own runs.
            return match () {
                () if id.starts_with("20") => source.get(..file.len() + 14).unwrap_or(source),
                () if id.contains("_cfg") => "silicon_sample.csv, numbered configurations",
                () => "silicon_sample.csv, the maker's own runs",
            };
        }
        if source.contains("performance-lab") {
            return source.split(" section ").next().unwrap_or(source);
        }
        source
    }
}

/// What can be wrong with a file of rows.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// It cannot be read.
    #[error("{file}: {problem}")]
    Read {
        /// The file.
        file: String,
        /// Why.
        problem: String,
    },
    /// It is not JSON of that shape.
    #[error(
        "{file}: {place}: {problem}\nExpected: a JSON list of rows, or an object whose `rows` is one; `autarky plan validate --help` shows a row."
    )]
    Shape {
        /// The file.
        file: String,
        /// Where.
        place: String,
        /// What is wrong.
        problem: String,
    },
}

/// The longest file of rows that is read.
pub const MAX_ROWS_BYTES: u64 = 64 << 20;
