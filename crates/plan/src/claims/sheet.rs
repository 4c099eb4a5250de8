//! Figures of data sheets.

use serde::Serialize;

use super::Of;
use crate::chips::Field;
use crate::{Chip, DataType};

/// A figure and where it is from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sourced {
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// Where it is from, and how far to trust that.
    pub source: String,
}

/// Where a field of a chip is from, in words.
pub(crate) fn source(chip: &Chip, field: Field) -> String {
    match chip.sources.get(&field) {
        Some(source) => format!("{}: {} ({})", chip.id, source.source, source.confidence.name()),
        None => format!("{}: no source is given", chip.id),
    }
}

/// A chip's figure.
pub(super) fn figure(chip: &Chip, of: Of) -> Option<Sourced> {
    let (value, unit, field) = match of {
        Of::Peak(dtype) => (chip.peak_dense_tops.get(dtype), "10¹²/s", Field::PeakDenseTops),
        Of::Bandwidth => (chip.memory.bandwidth_gb_s, "GB/s", Field::Memory),
        Of::Capacity => (chip.memory.capacity_gib, "GiB", Field::Memory),
        Of::Link => (chip.interconnect.gb_s_per_direction, "GB/s a direction", Field::Interconnect),
        Of::OpsPerByte => {
            let bandwidth = chip.memory.bandwidth_gb_s;
            let half = chip.peak_dense_tops.bf16.or(chip.peak_dense_tops.fp16);
            let ratio = half.zip(bandwidth).map(|(peak, bandwidth)| peak * 1e3 / bandwidth);
            (ratio, "operations a byte", Field::PeakDenseTops)
        }
        Of::Tpp => (chip.tpp(), "TPP", Field::PeakDenseTops),
        Of::Peaks | Of::Work(_) | Of::PerPeak(_) => return None,
    };
    Some(Sourced { value: value?, unit, source: source(chip, field) })
}

/// TPP from one data type.
pub(super) fn tpp_from(chip: &Chip, dtype: DataType) -> Option<Sourced> {
    let value = chip.peak_dense_tops.get(dtype)? * dtype.tpp_bits()?;
    Some(Sourced { value, unit: "TPP", source: source(chip, Field::PeakDenseTops) })
}

/// Pairs of data types, not the same of both, whose peaks have a ratio in a range.
pub(super) fn mixed(subject: &Chip, reference: &Chip, range: (f64, f64)) -> Vec<(DataType, DataType, f64)> {
    let mut found = Vec::new();
    for (a, peak) in subject.peak_dense_tops.iter() {
        for (b, other) in reference.peak_dense_tops.iter() {
            // Other widths than half, 8, 6 and 4 bits are not what such statements mix.
            let narrow = |t: DataType| t.tpp_bits().is_some_and(|bits| bits <= 16.0);
            let ratio = peak / other;
            if a != b && a.tpp_bits() != b.tpp_bits() && narrow(a) && narrow(b) && within(ratio, range) {
                found.push((a, b, ratio));
            }
        }
    }
    found
}

pub(super) fn within(value: f64, range: (f64, f64)) -> bool {
    // A figure that equals an end counts as inside, whatever its last bit.
    value >= range.0 * (1.0 - 1e-9) && value <= range.1 * (1.0 + 1e-9)
}
