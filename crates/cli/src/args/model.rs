//! Where and how large a model runs.

use autarky_cpu::Isa;
use autarky_graph::CacheDType;
use autarky_quant::DType;
use clap::{Args, ValueEnum};

use crate::exit::Usage;

/// What runs the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeviceName {
    /// This machine's processor
    Cpu,
    /// The slow interpreter that says what is right
    Reference,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Device")]
pub(crate) struct DeviceArgs {
    /// What runs the model
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    pub(crate) device: DeviceName,

    /// Threads [default: one for each core]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,

    /// Kernels: scalar, avx2, avx512, amx or neon [default: the best that this machine has]
    #[arg(long, value_name = "NAME")]
    pub(crate) isa: Option<String>,
}

impl DeviceArgs {
    /// The kernels that were asked for, if this machine has them.
    pub(crate) fn isa(&self) -> Result<Option<Isa>, Usage> {
        let parse = |name: &str| name.parse::<Isa>().map_err(|e| Usage(format!("--isa: {e}")));
        self.isa.as_deref().map(parse).transpose()
    }

    /// The number of threads that was asked for, if it makes sense.
    pub(crate) fn threads(&self) -> Result<Option<usize>, Usage> {
        match self.threads {
            Some(n) if !(1..=1024).contains(&n) => Err(Usage(format!("--threads {n}: must be 1 to 1024"))),
            other => Ok(other),
        }
    }
}

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KvName {
    /// 16-bit floats
    F16,
    /// 32-bit floats
    F32,
    /// 8-bit integers: about half of f16's memory, and faster at depth
    I8,
}

impl From<KvName> for CacheDType {
    fn from(name: KvName) -> CacheDType {
        match name {
            KvName::F16 => CacheDType::F16,
            KvName::F32 => CacheDType::F32,
            KvName::I8 => CacheDType::I8,
        }
    }
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "KV cache")]
pub(crate) struct KvArgs {
    /// Tokens that the conversation may have [default: the model's own context, at most 4096]
    #[arg(long, short = 'c', value_name = "N")]
    pub(crate) context: Option<usize>,

    /// How keys and values are kept [default: f16, or f32 when the weights are F32]
    #[arg(long, value_name = "TYPE")]
    pub(crate) kv: Option<KvName>,
}

/// Types that `convert` stores matrices in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(non_camel_case_types)]
pub(crate) enum DTypeName {
    #[value(name = "F32")]
    F32,
    #[value(name = "F16")]
    F16,
    #[value(name = "BF16")]
    BF16,
    #[value(name = "Q8_0")]
    Q8_0,
}

impl From<DTypeName> for DType {
    fn from(name: DTypeName) -> DType {
        match name {
            DTypeName::F32 => DType::F32,
            DTypeName::F16 => DType::F16,
            DTypeName::BF16 => DType::BF16,
            DTypeName::Q8_0 => DType::Q8_0,
        }
    }
}
