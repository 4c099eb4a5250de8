//! What cannot be: numbers out of reach, and figures that contradict each other.

use std::path::Path;

use super::{Chip, Class, DataType, Field};
use crate::DataError;

/// Chips of the largest system, which widens the range of its figures.
const SYSTEM: f64 = 1e5;

/// What a stated figure may differ from the computed one: sheets round.
const ROUNDING: f64 = 0.005;

/// Bytes/s of a memory for each of its bytes, at most, by the beginning of its name: today's are at 80, 60, 10 and 10.
const BANDWIDTH_PER_BYTE: [(&str, f64); 5] =
    [("HBM", 200.0), ("GDDR", 120.0), ("LPDDR", 60.0), ("DDR", 60.0), ("MRDIMM", 60.0)];

/// Pairs of data types of which the second, being narrower, is never slower. INT8 after BF16 is none: some chips cut it.
const NEVER_SLOWER: [(DataType, DataType); 9] = [
    (DataType::Fp32, DataType::Fp16),
    (DataType::Fp32, DataType::Bf16),
    (DataType::Fp32, DataType::Tf32),
    (DataType::Tf32, DataType::Bf16),
    (DataType::Fp16, DataType::Fp8),
    (DataType::Bf16, DataType::Fp8),
    (DataType::Fp8, DataType::Fp6),
    (DataType::Fp8, DataType::Fp4),
    (DataType::Int8, DataType::Int4),
];

impl Chip {
    /// Refuses what cannot be. `file` is named in the error.
    pub(super) fn validate(&self, file: &str) -> Result<(), DataError> {
        let fail = |field: &str, reason: String| Err(DataError::field(file, field, reason));
        self.texts(file)?;
        let stem = Path::new(file).file_stem().unwrap_or_default();
        if stem != self.id.as_str() {
            return fail(
                "id",
                format!("is {:?} where the file's name wants {:?}", self.id, stem.to_string_lossy()),
            );
        }
        self.ranges(file)?;
        let peaks = &self.peak_dense_tops;
        for (wide, narrow) in NEVER_SLOWER {
            if let (Some(w), Some(n)) = (peaks.get(wide), peaks.get(narrow))
                && n < w * (1.0 - ROUNDING)
            {
                return fail(
                    &format!("peak_dense_tops.{narrow}"),
                    format!("is {n}, below {wide} at {w}; a narrower type is not slower"),
                );
            }
        }
        self.memory(file)?;
        self.tpp_agrees(file)?;
        if let Some(price) = &self.price_usd {
            let bounds = [("low", price.low), ("value", price.value), ("high", price.high)];
            let known: Vec<(&str, f64)> = bounds.into_iter().filter_map(|(n, v)| Some((n, v?))).collect();
            if known.is_empty() {
                return fail("price_usd", "has neither a value nor a range".into());
            }
            if !known.is_sorted_by(|a, b| a.1 <= b.1) {
                return fail("price_usd", "low, value and high must not fall".into());
            }
        }
        for field in Field::ALL {
            let name = format!("sources.{}", field.name());
            match (self.has(field), self.sources.contains_key(&field)) {
                (true, false) => return fail(&name, "is missing: say where the field is from".into()),
                (false, true) => return fail(&name, "is a source for nothing: the field is absent".into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Names that are there, ids that can be typed.
    fn texts(&self, file: &str) -> Result<(), DataError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
        if self.id.is_empty() || !self.id.bytes().all(allowed) {
            let reason = format!("is {:?}; lower-case letters, digits, `-` and `.` make an id", self.id);
            return Err(DataError::field(file, "id", reason));
        }
        let mut texts = vec![("name".to_owned(), &self.name), ("vendor".to_owned(), &self.vendor)];
        texts.extend(self.sources.iter().map(|(f, s)| (format!("sources.{}", f.name()), &s.source)));
        match texts.into_iter().find(|(_, text)| text.trim().is_empty()) {
            Some((field, _)) => Err(DataError::field(file, field, "is empty")),
            None => Ok(()),
        }
    }

    /// Numbers that no chip has: a slip of a factor of ten or a thousand, or another unit.
    fn ranges(&self, file: &str) -> Result<(), DataError> {
        let many = if self.class == Class::System { SYSTEM } else { 1.0 };
        let price = self.price_usd.clone().unwrap_or_default();
        let mut numbers = vec![
            ("year".to_owned(), self.year.map(f64::from), 2000.0, 2100.0),
            ("tdp_w".into(), self.tdp_w, 1.0, 30_000.0 * many),
            // A wafer is 46,225 mm².
            ("die_area_mm2".into(), self.die_area_mm2, 5.0, 50_000.0 * many),
            ("on_chip_memory_mb".into(), self.on_chip_memory_mb, 0.01, 100_000.0 * many),
            ("tpp".into(), self.tpp, 1.0, 1e7),
            ("performance_density".into(), self.performance_density, 0.001, 1e4),
            ("process.node_nm".into(), self.process.node_nm, 0.5, 200.0),
            ("memory.capacity_gib".into(), self.memory.capacity_gib, 0.01, 1e5 * many),
            ("memory.usable_mib".into(), self.memory.usable_mib, 10.0, 1e8 * many),
            ("memory.bandwidth_gb_s".into(), self.memory.bandwidth_gb_s, 1.0, 3e7 * many),
            ("interconnect.gb_s_per_direction".into(), self.interconnect.gb_s_per_direction, 0.1, 1e5 * many),
            ("host_link.gb_s_per_direction".into(), self.host_link.gb_s_per_direction, 0.1, 5000.0 * many),
            ("price_usd.value".into(), price.value, 5.0, 5e6 * many),
            ("price_usd.low".into(), price.low, 5.0, 5e6 * many),
            ("price_usd.high".into(), price.high, 5.0, 5e6 * many),
        ];
        let devices = self.interconnect.max_scale_up_devices.map(f64::from);
        numbers.push(("interconnect.max_scale_up_devices".into(), devices, 1.0, 1e6));
        let peaks = self.peak_dense_tops.iter();
        numbers.extend(
            peaks.map(|(dtype, peak)| (format!("peak_dense_tops.{dtype}"), Some(peak), 1e-3, 1e6 * many)),
        );
        for (field, value, low, high) in numbers {
            if let Some(value) = value
                && !(low..=high).contains(&value)
            {
                let reason = format!("is {value}; {low} to {high} can be (check the unit)");
                return Err(DataError::field(file, field, reason));
            }
        }
        Ok(())
    }

    fn memory(&self, file: &str) -> Result<(), DataError> {
        let memory = &self.memory;
        if let (Some(usable), Some(capacity)) = (memory.usable_mib, memory.capacity_gib)
            && usable > capacity * 1024.0 * (1.0 + ROUNDING)
        {
            let reason = format!("is {usable}, more than capacity_gib of {capacity} holds");
            return Err(DataError::field(file, "memory.usable_mib", reason));
        }
        let kind = memory.kind.as_deref().unwrap_or_default();
        let most = BANDWIDTH_PER_BYTE.iter().find(|(name, _)| kind.starts_with(name));
        if let (Some((name, most)), Some(bandwidth), Some(capacity)) =
            (most, memory.bandwidth_gb_s, memory.capacity_gib)
            && bandwidth > most * capacity
        {
            let reason = format!(
                "is {bandwidth}, {:.0} a GiB; {name} gives at most {most} (a factor of ten?)",
                bandwidth / capacity
            );
            return Err(DataError::field(file, "memory.bandwidth_gb_s", reason));
        }
        Ok(())
    }

    /// TPP and density as they are stated, against peaks and area.
    fn tpp_agrees(&self, file: &str) -> Result<(), DataError> {
        let fail = |field: &str, reason: String| Err(DataError::field(file, field, reason));
        let differ = |stated: f64, computed: f64| (stated - computed).abs() > (ROUNDING * computed).max(0.01);
        if self.class == Class::System && (self.tpp.is_some() || self.performance_density.is_some()) {
            return fail("tpp", "has no meaning for a system; leave it out".into());
        }
        match (self.tpp, self.peak_dense_tops.tpp()) {
            (Some(stated), Some((computed, dtype))) if differ(stated, computed) => {
                return fail("tpp", format!("is {stated} where the peak of {dtype} gives {computed}"));
            }
            _ => {}
        }
        if let Some(dtype) = self.tpp_from {
            let own = self.peak_dense_tops.get(dtype).zip(dtype.tpp_bits()).map(|(peak, bits)| peak * bits);
            match (self.tpp, own) {
                (Some(tpp), Some(own)) if !differ(tpp, own) => {}
                _ => return fail("tpp_from", format!("the peak of {dtype} does not give the TPP")),
            }
        }
        if let (Some(stated), Some(tpp), Some(area)) =
            (self.performance_density, self.tpp(), self.die_area_mm2)
            && differ(stated, tpp / area)
        {
            let computed = tpp / area;
            return fail(
                "performance_density",
                format!("is {stated} where TPP {tpp} over {area} mm² gives {computed:.2}"),
            );
        }
        Ok(())
    }
}
