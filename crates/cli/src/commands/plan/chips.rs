//! `autarky plan chips`

use std::cmp::Ordering;

use anyhow::Result;
use autarky_plan::Chip;
use autarky_plan::chips::{Class, Price};
use serde_json::Value;

use super::table::{Table, number, text, value};
use crate::args::{ChipsArgs, SortName};
use crate::exit::Usage;

pub(super) fn run(args: &ChipsArgs) -> Result<()> {
    let class = args.class.as_deref().map(class).transpose()?;
    let catalog = args.catalog.catalog()?;
    let vendor = args.vendor.as_deref().map(str::to_lowercase);
    let wanted = |c: &&Chip| {
        vendor.as_ref().is_none_or(|v| c.vendor.to_lowercase().contains(v))
            && class.is_none_or(|class| c.class == class)
    };
    let mut chips: Vec<&Chip> = catalog.chips().iter().filter(wanted).collect();
    if chips.is_empty() {
        let mut vendors: Vec<&str> = catalog.chips().iter().map(|c| c.vendor.as_str()).collect();
        vendors.sort_unstable();
        vendors.dedup();
        return Err(Usage(format!("no such chip; vendors: {}", vendors.join(", "))).into());
    }
    chips.sort_by(|a, b| order(args.sort, a, b));
    let mut table = Table::new([
        text("id", "id"),
        text("vendor", "vendor"),
        number("year", "year"),
        number("bf16_tops", "bf16"),
        number("fp8_tops", "fp8"),
        number("int8_tops", "int8"),
        number("memory_gib", "GiB"),
        number("bandwidth_gb_s", "GB/s"),
        number("tdp_w", "W"),
        number("price_usd", "USD"),
    ]);
    for chip in chips {
        let figures = [
            chip.year.map(f64::from),
            chip.peak_dense_tops.bf16,
            chip.peak_dense_tops.fp8,
            chip.peak_dense_tops.int8,
            chip.memory.capacity_gib,
            chip.memory.bandwidth_gb_s,
            chip.tdp_w,
            price(chip),
        ];
        let names = [Value::from(chip.id.as_str()), Value::from(chip.vendor.as_str())];
        table.push(names.into_iter().chain(figures.into_iter().map(value)));
    }
    table.print(&args.table)
}

fn class(name: &str) -> Result<Class, Usage> {
    let found = Class::ALL.into_iter().find(|c| c.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| {
        let names = Class::ALL.map(Class::name).join(", ");
        Usage(format!("--class {name}: no such class; there are {names}"))
    })
}

fn price(chip: &Chip) -> Option<f64> {
    chip.price_usd.as_ref().and_then(Price::typical)
}

/// Text and years upwards, figures from the largest, what is unknown last; equals by id.
fn order(by: SortName, a: &Chip, b: &Chip) -> Ordering {
    let figure = |of: &dyn Fn(&Chip) -> Option<f64>| {
        of(b).unwrap_or(f64::NEG_INFINITY).total_cmp(&of(a).unwrap_or(f64::NEG_INFINITY))
    };
    let first = match by {
        SortName::Id => Ordering::Equal,
        SortName::Vendor => a.vendor.to_lowercase().cmp(&b.vendor.to_lowercase()),
        SortName::Year => a.year.unwrap_or(u16::MAX).cmp(&b.year.unwrap_or(u16::MAX)),
        SortName::Bf16 => figure(&|c| c.peak_dense_tops.bf16),
        SortName::Fp8 => figure(&|c| c.peak_dense_tops.fp8),
        SortName::Int8 => figure(&|c| c.peak_dense_tops.int8),
        SortName::Memory => figure(&|c| c.memory.capacity_gib),
        SortName::Bandwidth => figure(&|c| c.memory.bandwidth_gb_s),
        SortName::Tdp => figure(&|c| c.tdp_w),
        SortName::Price => figure(&price),
    };
    first.then_with(|| a.id.cmp(&b.id))
}
