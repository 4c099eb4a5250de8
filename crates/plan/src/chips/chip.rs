//! What is known of a chip. An absent field is unknown.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::DataType;
use crate::{Confidence, DataError, read};

/// A chip that one can buy or rent, or a system of chips: one file of `data/chips`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Chip {
    /// Its file's name: lower-case letters, digits, `-` and `.`.
    pub id: String,
    /// What its vendor calls it.
    pub name: String,
    /// Who sells it.
    pub vendor: String,
    /// When it came out, or is to.
    pub year: Option<u16>,
    /// Whether it can be had.
    pub status: Status,
    /// More on that.
    pub status_note: Option<String>,
    /// What it is made for.
    pub class: Class,
    /// What programs it.
    pub software_stack: Option<String>,
    /// Thermal design power, W.
    pub tdp_w: Option<f64>,
    /// Area of its logic dies, mm².
    pub die_area_mm2: Option<f64>,
    /// Caches and scratchpads that all cores share, MB.
    pub on_chip_memory_mb: Option<f64>,
    /// Devices that software sees in one chip, where they are several.
    pub dies: Option<u8>,
    /// Cores of a processor.
    pub cores: Option<u16>,
    /// Total Processing Performance as it is stated; [`Chip::tpp`] computes it.
    pub tpp: Option<f64>,
    /// The data type that it comes from.
    pub tpp_from: Option<DataType>,
    /// TPP / mm² as it is stated; [`Chip::performance_density`] computes it.
    pub performance_density: Option<f64>,
    /// What else one should know.
    pub notes: Option<String>,
    /// How it is made.
    #[serde(default)]
    pub process: Process,
    /// Peak arithmetic.
    #[serde(default)]
    pub peak_dense_tops: Peaks,
    /// Its memory.
    #[serde(default)]
    pub memory: Memory,
    /// Its link to chips of its kind.
    #[serde(default)]
    pub interconnect: Interconnect,
    /// Its link to the host.
    #[serde(default)]
    pub host_link: HostLink,
    /// What it costs.
    pub price_usd: Option<Price>,
    /// Where each field is from.
    pub sources: BTreeMap<Field, Source>,
    /// Which file it is from.
    #[serde(skip)]
    pub origin: Origin,
}

/// Whether a chip can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It is sold.
    Shipping,
    /// It can only be rented from its maker.
    CloudOnly,
    /// First samples are out.
    Sampling,
    /// Its vendor speaks of it.
    Announced,
    /// Others speak of it.
    Rumoured,
    /// Another took its place before it came.
    Superseded,
    /// It will not come.
    Cancelled,
}

impl Status {
    /// The name in data files.
    pub fn name(self) -> &'static str {
        match self {
            Status::Shipping => "shipping",
            Status::CloudOnly => "cloud-only",
            Status::Sampling => "sampling",
            Status::Announced => "announced",
            Status::Rumoured => "rumoured",
            Status::Superseded => "superseded",
            Status::Cancelled => "cancelled",
        }
    }
}

/// What a chip is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // The names say it.
pub enum Class {
    DatacenterAccelerator,
    InferenceCard,
    WorkstationGpu,
    ConsumerGpu,
    ServerCpu,
    DesktopCpu,
    DesktopSoc,
    LaptopSoc,
    /// Many chips that are sold together.
    System,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 9] = [
        Class::DatacenterAccelerator,
        Class::InferenceCard,
        Class::WorkstationGpu,
        Class::ConsumerGpu,
        Class::ServerCpu,
        Class::DesktopCpu,
        Class::DesktopSoc,
        Class::LaptopSoc,
        Class::System,
    ];

    /// The name in data files.
    pub fn name(self) -> &'static str {
        match self {
            Class::DatacenterAccelerator => "datacenter-accelerator",
            Class::InferenceCard => "inference-card",
            Class::WorkstationGpu => "workstation-gpu",
            Class::ConsumerGpu => "consumer-gpu",
            Class::ServerCpu => "server-cpu",
            Class::DesktopCpu => "desktop-cpu",
            Class::DesktopSoc => "desktop-soc",
            Class::LaptopSoc => "laptop-soc",
            Class::System => "system",
        }
    }

    /// Whether parts of the class are designed or marketed for data centres.
    pub fn is_datacentre(self) -> bool {
        use Class::{DatacenterAccelerator, InferenceCard, ServerCpu, System};
        matches!(self, DatacenterAccelerator | InferenceCard | ServerCpu | System)
    }

    /// Whether it is a processor that runs the operating system.
    pub fn is_cpu(self) -> bool {
        matches!(self, Class::ServerCpu | Class::DesktopCpu)
    }
}

/// How a chip is made.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// The node's name, nm.
    pub node_nm: Option<f64>,
    /// Who makes it.
    pub foundry: Option<String>,
}

/// Peak dense arithmetic by data type, 10¹² operations/s; a multiply and an add are two. Sparsity is left out.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // The names are the data types'.
pub struct Peaks {
    pub fp64: Option<f64>,
    pub fp32: Option<f64>,
    pub tf32: Option<f64>,
    pub fp16: Option<f64>,
    pub bf16: Option<f64>,
    pub fp8: Option<f64>,
    pub fp6: Option<f64>,
    pub fp4: Option<f64>,
    pub int8: Option<f64>,
    pub int4: Option<f64>,
}

impl Peaks {
    /// The peak for a data type, 10¹² operations/s, or `None` where it is unknown or the type is not supported.
    pub fn get(&self, dtype: DataType) -> Option<f64> {
        match dtype {
            DataType::Fp64 => self.fp64,
            DataType::Fp32 => self.fp32,
            DataType::Tf32 => self.tf32,
            DataType::Fp16 => self.fp16,
            DataType::Bf16 => self.bf16,
            DataType::Fp8 => self.fp8,
            DataType::Fp6 => self.fp6,
            DataType::Fp4 => self.fp4,
            DataType::Int8 => self.int8,
            DataType::Int4 => self.int4,
        }
    }

    /// The known peaks.
    pub fn iter(&self) -> impl Iterator<Item = (DataType, f64)> + '_ {
        DataType::ALL.into_iter().filter_map(|t| Some((t, self.get(t)?)))
    }

    /// Total Processing Performance: the largest of operations × bit length over data types, TF32 left out, and the
    /// first type that reaches it (15 CFR 774 Supp. 1, technical notes to ECCN 3A090).
    pub fn tpp(&self) -> Option<(f64, DataType)> {
        let mut best: Option<(f64, DataType)> = None;
        for (dtype, peak) in self.iter() {
            let Some(bits) = dtype.tpp_bits() else { continue };
            if best.is_none_or(|(tpp, _)| peak * bits > tpp) {
                best = Some((peak * bits, dtype));
            }
        }
        best
    }
}

/// A chip's memory.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// HBM3, GDDR6, ...
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// How much of it, GiB.
    pub capacity_gib: Option<f64>,
    /// How that is counted.
    pub capacity_note: Option<String>,
    /// What programs can have of it, MiB.
    pub usable_mib: Option<f64>,
    /// Peak read bandwidth, 10⁹ bytes/s.
    pub bandwidth_gb_s: Option<f64>,
}

/// A chip's link to chips of its kind.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Interconnect {
    /// NVLink 4, HCCS, ...
    pub name: Option<String>,
    /// All links of a chip together, 10⁹ bytes/s in each direction.
    pub gb_s_per_direction: Option<f64>,
    /// How many chips it joins.
    pub max_scale_up_devices: Option<u32>,
}

/// A chip's link to its host.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HostLink {
    /// PCIe 5.0 x16, ...
    pub name: Option<String>,
    /// 10⁹ bytes/s in each direction.
    pub gb_s_per_direction: Option<f64>,
}

/// What a chip costs, in US dollars: a value, a range, or both.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Price {
    pub value: Option<f64>,
    pub low: Option<f64>,
    pub high: Option<f64>,
    /// Whose price, and when.
    pub basis: Option<String>,
}

impl Price {
    /// One figure: the value, else the middle of the range.
    pub fn typical(&self) -> Option<f64> {
        self.value.or_else(|| Some((self.low? + self.high?) / 2.0))
    }
}

/// What a source is given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // The names are the fields'.
pub enum Field {
    PeakDenseTops,
    Memory,
    OnChipMemoryMb,
    Interconnect,
    HostLink,
    TdpW,
    DieAreaMm2,
    Process,
    PriceUsd,
    SoftwareStack,
    Tpp,
    PerformanceDensity,
}

impl Field {
    /// All of them.
    pub const ALL: [Field; 12] = [
        Field::PeakDenseTops,
        Field::Memory,
        Field::OnChipMemoryMb,
        Field::Interconnect,
        Field::HostLink,
        Field::TdpW,
        Field::DieAreaMm2,
        Field::Process,
        Field::PriceUsd,
        Field::SoftwareStack,
        Field::Tpp,
        Field::PerformanceDensity,
    ];

    /// The name in data files.
    pub fn name(self) -> &'static str {
        match self {
            Field::PeakDenseTops => "peak_dense_tops",
            Field::Memory => "memory",
            Field::OnChipMemoryMb => "on_chip_memory_mb",
            Field::Interconnect => "interconnect",
            Field::HostLink => "host_link",
            Field::TdpW => "tdp_w",
            Field::DieAreaMm2 => "die_area_mm2",
            Field::Process => "process",
            Field::PriceUsd => "price_usd",
            Field::SoftwareStack => "software_stack",
            Field::Tpp => "tpp",
            Field::PerformanceDensity => "performance_density",
        }
    }
}

/// Where a field is from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The document.
    pub source: String,
    /// How far to trust it.
    pub confidence: Confidence,
}

/// Which file a chip is from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// It comes with the program.
    #[default]
    BuiltIn,
    /// A user's file.
    File(PathBuf),
}

impl Chip {
    /// Reads and checks a chip's file. `file` is its name, which is the id and `.toml`, or a path to it.
    ///
    /// # Errors
    ///
    /// The file, the field, and what is wrong with it: no TOML, a field that is unknown, missing or of another type, a
    /// number that cannot be, figures that contradict each other, a field without a source.
    pub fn parse(file: &str, text: &str) -> Result<Chip, DataError> {
        let chip: Chip = read::parse(file, text)?;
        chip.validate(file)?;
        Ok(chip)
    }

    /// Whether anything is known of a field.
    pub fn has(&self, field: Field) -> bool {
        match field {
            Field::PeakDenseTops => self.peak_dense_tops.iter().next().is_some(),
            Field::Memory => self.memory != Memory::default(),
            Field::OnChipMemoryMb => self.on_chip_memory_mb.is_some(),
            Field::Interconnect => self.interconnect != Interconnect::default(),
            Field::HostLink => self.host_link != HostLink::default(),
            Field::TdpW => self.tdp_w.is_some(),
            Field::DieAreaMm2 => self.die_area_mm2.is_some(),
            Field::Process => self.process != Process::default(),
            Field::PriceUsd => self.price_usd.is_some(),
            Field::SoftwareStack => self.software_stack.is_some(),
            Field::Tpp => self.tpp.is_some(),
            Field::PerformanceDensity => self.performance_density.is_some(),
        }
    }

    /// Total Processing Performance: from the peaks, else as it is stated. None for a system, for which it has no
    /// meaning.
    pub fn tpp(&self) -> Option<f64> {
        match self.class {
            Class::System => None,
            _ => self.peak_dense_tops.tpp().map(|(tpp, _)| tpp).or(self.tpp),
        }
    }

    /// TPP / mm² of die: from both, else as it is stated.
    pub fn performance_density(&self) -> Option<f64> {
        match (self.tpp(), self.die_area_mm2) {
            (Some(tpp), Some(area)) => Some(tpp / area),
            _ => self.performance_density,
        }
    }

    /// Bandwidth of the links to other chips and to the host, both directions together, 10⁹ bytes/s: what rules call
    /// the aggregate bidirectional transfer rate. `None` where the speed of a link is unknown, or where nothing is known
    /// of the links, as for a CPU. Ports of a network card are not counted.
    pub fn io_bandwidth_bidir_gb_s(&self) -> Option<f64> {
        let (link, host) = (&self.interconnect, &self.host_link);
        if link.name.is_none() && host.name.is_none() {
            return None;
        }
        let of = |name: &Option<String>, speed: Option<f64>| match (name, speed) {
            (None, None) => Some(0.0),
            (_, speed) => speed,
        };
        let sum = of(&link.name, link.gb_s_per_direction)? + of(&host.name, host.gb_s_per_direction)?;
        Some(2.0 * sum)
    }
}
