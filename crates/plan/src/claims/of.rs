//! What a statement may be about.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::DataType;
use crate::runs::Kind;

/// What figures are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Peak arithmetic of a data type.
    Peak(DataType),
    /// Peak arithmetic of any data type.
    Peaks,
    /// Memory bandwidth.
    Bandwidth,
    /// Memory capacity.
    Capacity,
    /// The scale-up link.
    Link,
    /// Peak operations for a byte of memory traffic.
    OpsPerByte,
    /// Total Processing Performance.
    Tpp,
    /// Tokens/s of a kind of work, measured or predicted.
    Work(Kind),
    /// Tokens/s of a kind of work for each peak operation/s.
    PerPeak(Kind),
}

impl Of {
    /// All names, in the order of tables.
    pub fn names() -> Vec<String> {
        let mut all: Vec<Of> = DataType::ALL.into_iter().map(Of::Peak).collect();
        all.extend([Of::Peaks, Of::Bandwidth, Of::Capacity, Of::Link, Of::OpsPerByte, Of::Tpp]);
        all.extend(Kind::ALL.map(Of::Work));
        all.extend(Kind::ALL.map(Of::PerPeak));
        all.into_iter().map(|of| of.to_string()).collect()
    }

    /// What a name in a file means.
    pub fn named(name: &str) -> Option<Of> {
        if let Some(dtype) = DataType::ALL.into_iter().find(|t| t.name() == name) {
            return Some(Of::Peak(dtype));
        }
        if let Some(kind) = name.strip_suffix("-per-peak").and_then(Kind::named) {
            return Some(Of::PerPeak(kind));
        }
        Some(match name {
            "peak" => Of::Peaks,
            "bandwidth" => Of::Bandwidth,
            "capacity" => Of::Capacity,
            "link" => Of::Link,
            "ops-per-byte" => Of::OpsPerByte,
            "tpp" => Of::Tpp,
            name => Of::Work(Kind::named(name)?),
        })
    }

    /// Whether a statement about `self` is one about `other`.
    pub fn covers(self, other: Of) -> bool {
        self == other || matches!((self, other), (Of::Peaks, Of::Peak(_)))
    }
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Of::Peak(dtype) => f.pad(dtype.name()),
            Of::Peaks => f.pad("peak"),
            Of::Bandwidth => f.pad("bandwidth"),
            Of::Capacity => f.pad("capacity"),
            Of::Link => f.pad("link"),
            Of::OpsPerByte => f.pad("ops-per-byte"),
            Of::Tpp => f.pad("tpp"),
            Of::Work(kind) => f.pad(kind.name()),
            Of::PerPeak(kind) => f.pad(&format!("{}-per-peak", kind.name())),
        }
    }
}

impl Serialize for Of {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
