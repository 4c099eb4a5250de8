//! A model cut over devices.

use crate::chips::{Chip, Class};

use super::{Format, Stack};
use crate::model::Model;

/// What software sees of a chip: one die, with its share of the chip's figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Device {
    /// Operations/s of products in the model's format.
    pub peak: f64,
    /// Operations/s of half precision.
    pub half: f64,
    /// Operations/s that the software's attention can reach for.
    pub attention: f64,
    /// Bytes/s of memory.
    pub bandwidth: f64,
    /// Bytes of memory.
    pub memory: f64,
    /// Bytes/s of the scale-up link, each direction.
    pub link: f64,
    /// Bytes/s of the network between scale-up domains, each direction.
    pub network: f64,
    /// Part of tensor parallelism's messages in training that no computing hides.
    pub exposed: f64,
    /// Time of a launch, against one of many that a GPU was handed at once.
    pub launch: f64,
    /// Operations/s of products of a few vectors with quantized weights, where software does them without matrix units.
    pub vectors: f64,
    /// Devices in a scale-up domain.
    pub domain: f64,
    /// Devices in one chip as it is counted.
    pub per_chip: f64,
}

/// Microseconds a layer that a GPU takes to start kernels which it was handed at once.
const LAUNCHED: f64 = 20.0;

impl Device {
    /// The device that `stack` sees on `chip` with a model in `format`; the missing figure's name where one is needed.
    pub fn of(chip: &Chip, format: &Format, stack: &Stack) -> Result<Device, &'static str> {
        let (mut peak, mut half) = format.peaks(chip).ok_or("a peak in peak_dense_tops")?;
        let mut bandwidth = chip.memory.bandwidth_gb_s.ok_or("memory.bandwidth_gb_s")? * 1e9;
        let per_chip = f64::from(chip.dies.unwrap_or(1).max(1));
        let big = chip.class.is_datacentre() && !chip.class.is_cpu();
        let hopper = big && chip.peak_dense_tops.fp8.is_some();
        // A barrier after each of some twenty ops takes about a tenth of a microsecond a core.
        let barriers = |cores: f64| 2.0 * cores / LAUNCHED;
        let (mut launch, mut vectors) = (1.0, f64::INFINITY);
        if chip.class.is_cpu() {
            // Sustained shares of what data sheets list, by ik_llama.cpp on an EPYC 9355 and a Ryzen 7950X.
            peak *= 0.6;
            half *= 0.05;
            bandwidth *= 0.8;
            launch = barriers(f64::from(chip.cores.unwrap_or(16)));
        } else if stack.cpu_only {
            // Cores draw about 115 of 400 GB/s on an M2 Max, and reach 2 of 13.6 TFLOP/s.
            bandwidth *= 0.31;
            peak *= 0.17;
            half *= 0.17;
            launch = barriers(8.0);
        } else if stack.half_only {
            // Some thirty kernels a layer, one by one: 3 µs each on a GPU of its own, 5 with Metal.
            launch = match chip.vendor.as_str() {
                "Apple" => 170.0 / LAUNCHED,
                "NVIDIA" if stack.graphs => 1.0,
                _ => 90.0 / LAUNCHED,
            };
            // Up to eight columns are multiplied by vector units, which unpack the weights, too.
            if format.weight_bits < 12.0 && !matches!(chip.class, Class::DesktopSoc | Class::LaptopSoc) {
                vectors = chip.peak_dense_tops.fp32.map_or(f64::INFINITY, |f| 0.35e12 * f);
            }
            peak = peak.min(half);
            let (compute, memory) = match () {
                // Instructions of the generation before reach some 60 % of Hopper's peak (arXiv:2402.13499).
                // Nor do kernels for consumer cards keep enough of HBM busy.
                () if hopper => (0.25, 0.66),
                () if big => (0.42, 0.66),
                () if chip.class == Class::WorkstationGpu => (0.6, 1.0),
                () if matches!(chip.class, Class::DesktopSoc | Class::LaptopSoc) => (0.8, 1.0),
                () => (1.0, 1.0),
            };
            // Quantized weights are widened on the way.
            // Blocks with one scale (Q4_0, Q8_0) are widened in fewer instructions than those of K- and I-quants.
            let plain = format.name.ends_with("_0") || format.name.ends_with("_1");
            let (widened, unpacked) = match () {
                () if format.weight_bits >= 12.0 => (1.0, 1.0),
                () if plain => (0.92, 0.95),
                () => (0.82, 0.95),
            };
            peak *= compute * widened;
            half *= compute;
            bandwidth *= memory * unpacked;
        }
        if format.name.ends_with("-fp8a") && chip.peak_dense_tops.fp4.is_none() {
            // Four bits become FP8 by vector units, where no instruction does it.
            vectors = chip.peak_dense_tops.fp32.map_or(f64::INFINITY, |f| 0.35e12 * f);
        }
        let attention = half * if hopper { stack.attention.0 } else { stack.attention.1 };
        // Without a link of their own chips talk through the host, at about 0.8 of its link.
        let host = chip.host_link.gb_s_per_direction.map_or(25.0, |h| 0.8 * h);
        let link = chip.interconnect.gb_s_per_direction.unwrap_or(host).max(16.0) * 1e9;
        // 200 Gb/s a device until 2021, then 400, and 800 from 2025 on.
        let network = match chip.year {
            Some(year) if year >= 2025 => 100e9,
            Some(year) if year >= 2022 => 50e9,
            _ => 25e9,
        };
        Ok(Device {
            peak: peak / per_chip,
            half: half / per_chip,
            attention: attention / per_chip,
            bandwidth: bandwidth / per_chip,
            memory: chip.memory.capacity_gib.unwrap_or(16.0) * f64::from(1u32 << 30) / per_chip,
            link: link / per_chip,
            network,
            exposed: stack.exposed,
            launch,
            vectors: vectors / per_chip,
            domain: f64::from(chip.interconnect.max_scale_up_devices.unwrap_or(8).max(1)) * per_chip,
            per_chip,
        })
    }
}

/// How a served model is cut over devices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layout {
    /// Devices that software sees, all replicas together.
    pub devices: f64,
    /// Devices over which a layer is cut.
    pub tensor: f64,
    /// Stages of the pipeline.
    pub pipeline: f64,
    /// Whether experts are spread over all devices, instead of over those of a replica.
    pub expert_parallel: bool,
}

impl Layout {
    /// Copies of the attention layers.
    pub fn replicas(&self) -> f64 {
        (self.devices / (self.tensor * self.pipeline)).floor().max(1.0)
    }

    /// Devices that hold one copy of the experts.
    pub fn expert_devices(&self) -> f64 {
        if self.expert_parallel { self.devices } else { self.tensor * self.pipeline }
    }
}

/// A model on devices, ready to be asked for times.
#[derive(Clone, Copy, Debug)]
pub struct Deployment<'a> {
    /// The model.
    pub model: &'a Model,
    /// Its number format.
    pub format: &'a Format,
    /// The software.
    pub stack: &'a Stack,
    /// One device.
    pub device: Device,
    /// How the model is cut over them.
    pub layout: Layout,
    /// Whether servers run more sequences on the chip unless they are told otherwise: those of 90 GB, and of Hopper's
    /// speed (vLLM's defaults).
    pub big: bool,
}

impl<'a> Deployment<'a> {
    /// A deployment on `chip`; the missing figure's name where one is needed.
    pub fn new(
        model: &'a Model,
        chip: &Chip,
        format: &'a Format,
        stack: &'a Stack,
        layout: Layout,
    ) -> Result<Deployment<'a>, &'static str> {
        let device = Device::of(chip, format, stack)?;
        let gib = chip.memory.capacity_gib.unwrap_or(0.0);
        let fast = chip.peak_dense_tops.fp8.is_some_and(|p| p >= 900.0);
        Ok(Deployment { model, format, stack, device, layout, big: gib >= 90.0 || fast && gib >= 78.0 })
    }
}
