//! What rules look at in a part.

use serde::{Deserialize, Serialize};

use crate::Chip;
use crate::chips::Class;

/// A figure that rules set lines for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// Total Processing Performance: the largest of dense 10¹² operations/s × bit length over data types.
    Tpp,
    /// TPP / mm² of logic die.
    PerformanceDensity,
    /// Bandwidth of all memory on the package, 10⁹ bytes/s.
    DramBandwidthGbS,
    /// Bandwidth of all other inputs and outputs, both directions together, 10⁹ bytes/s.
    IoBandwidthBidirGbS,
    /// The sum of both.
    DramPlusIoBandwidthGbS,
    /// Bandwidth of a memory stack over its area, 10⁹ bytes/s/mm².
    HbmBandwidthDensityGbSMm2,
}

impl Figure {
    /// The name in data files.
    pub fn name(self) -> &'static str {
        match self {
            Figure::Tpp => "tpp",
            Figure::PerformanceDensity => "performance_density",
            Figure::DramBandwidthGbS => "dram_bandwidth_gb_s",
            Figure::IoBandwidthBidirGbS => "io_bandwidth_bidir_gb_s",
            Figure::DramPlusIoBandwidthGbS => "dram_plus_io_bandwidth_gb_s",
            Figure::HbmBandwidthDensityGbSMm2 => "hbm_bandwidth_density_gb_s_mm2",
        }
    }

    /// What people call it, with its unit.
    pub fn label(self) -> &'static str {
        match self {
            Figure::Tpp => "TPP",
            Figure::PerformanceDensity => "TPP/mm²",
            Figure::DramBandwidthGbS => "DRAM GB/s",
            Figure::IoBandwidthBidirGbS => "I/O GB/s, both directions",
            Figure::DramPlusIoBandwidthGbS => "DRAM + I/O GB/s",
            Figure::HbmBandwidthDensityGbSMm2 => "stack GB/s/mm²",
        }
    }
}

/// Something that a verdict waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // The names say it.
pub enum Need {
    Tpp,
    DieArea,
    DramBandwidth,
    IoBandwidth,
    HbmBandwidthDensity,
    Datacentre,
}

impl Need {
    /// What people call it.
    pub fn label(self) -> &'static str {
        match self {
            Need::Tpp => "TPP",
            Need::DieArea => "die area",
            Need::DramBandwidth => "DRAM bandwidth",
            Need::IoBandwidth => "I/O bandwidth",
            Need::HbmBandwidthDensity => "bandwidth density of the stack",
            Need::Datacentre => "whether it is for data centres",
        }
    }
}

/// The figures of a part; `None` is unknown.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)] // They are those of `Figure`.
pub struct Figures {
    pub tpp: Option<f64>,
    pub performance_density: Option<f64>,
    pub dram_bandwidth_gb_s: Option<f64>,
    pub io_bandwidth_bidir_gb_s: Option<f64>,
    pub hbm_bandwidth_density_gb_s_mm2: Option<f64>,
    /// Whether it is designed or marketed for data centres.
    pub datacentre: Option<bool>,
}

impl Figures {
    /// A chip's. A system has none: rules judge its chips.
    pub fn of(chip: &Chip) -> Figures {
        if chip.class == Class::System {
            return Figures::default();
        }
        Figures {
            tpp: chip.tpp(),
            performance_density: chip.performance_density(),
            dram_bandwidth_gb_s: chip.memory.bandwidth_gb_s,
            io_bandwidth_bidir_gb_s: chip.io_bandwidth_bidir_gb_s(),
            hbm_bandwidth_density_gb_s_mm2: None,
            datacentre: Some(chip.class.is_datacentre()),
        }
    }

    /// One of them.
    pub fn get(&self, figure: Figure) -> Option<f64> {
        match figure {
            Figure::Tpp => self.tpp,
            Figure::PerformanceDensity => self.performance_density,
            Figure::DramBandwidthGbS => self.dram_bandwidth_gb_s,
            Figure::IoBandwidthBidirGbS => self.io_bandwidth_bidir_gb_s,
            Figure::DramPlusIoBandwidthGbS => Some(self.dram_bandwidth_gb_s? + self.io_bandwidth_bidir_gb_s?),
            Figure::HbmBandwidthDensityGbSMm2 => self.hbm_bandwidth_density_gb_s_mm2,
        }
    }

    /// What must be learned to know a figure.
    pub(super) fn missing(&self, figure: Figure, needs: &mut Vec<Need>) {
        let mut need = |value: Option<f64>, need: Need| {
            if value.is_none() {
                needs.push(need);
            }
        };
        match figure {
            Figure::Tpp => need(self.tpp, Need::Tpp),
            Figure::PerformanceDensity if self.performance_density.is_some() => {}
            Figure::PerformanceDensity => {
                need(self.tpp, Need::Tpp);
                need(None, Need::DieArea);
            }
            Figure::DramBandwidthGbS => need(self.dram_bandwidth_gb_s, Need::DramBandwidth),
            Figure::IoBandwidthBidirGbS => need(self.io_bandwidth_bidir_gb_s, Need::IoBandwidth),
            Figure::DramPlusIoBandwidthGbS => {
                need(self.dram_bandwidth_gb_s, Need::DramBandwidth);
                need(self.io_bandwidth_bidir_gb_s, Need::IoBandwidth);
            }
            Figure::HbmBandwidthDensityGbSMm2 => {
                need(self.hbm_bandwidth_density_gb_s_mm2, Need::HbmBandwidthDensity);
            }
        }
    }
}
