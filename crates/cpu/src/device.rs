//! The device: options, abilities, compiling.

use std::sync::Arc;

use autarky_graph::{Abilities, Activations, CompileError, Device, Graph, Limits, Program, Weights};
use autarky_quant::DType;

use crate::isa::{Isa, IsaError};
use crate::matmul::GROUP;
use crate::pool::Pool;
use crate::profile::Profile;
use crate::program::{CpuProgram, Settings};

/// How the CPU device is to run. The default is the best of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuOptions {
    /// Threads; none: one for every processor that this process may use.
    pub threads: Option<usize>,
    /// Instruction set; none: the best that the machine has.
    pub isa: Option<Isa>,
    /// On AMX, multiply BF16 weights in BF16 tiles: faster, but activations are rounded to BF16 and results are no
    /// longer the bits of the other instruction sets.
    pub bf16_tiles: bool,
    /// Count where the time goes: see [`Cpu::profile`].
    pub profile: bool,
}

/// The CPU device.
#[derive(Debug)]
pub struct Cpu {
    settings: Settings,
}

impl Cpu {
    /// The device, with its threads started.
    ///
    /// # Errors
    /// When this machine cannot run the instruction set that was asked for.
    pub fn new(options: CpuOptions) -> Result<Cpu, IsaError> {
        let isa = match options.isa {
            None => Isa::detect(),
            // Parsing the name says whether it is available, and which are.
            Some(isa) => isa.name().parse()?,
        };
        let pool = match options.threads {
            None => Pool::for_machine(),
            Some(threads) => Pool::new(threads),
        };
        let profile = options.profile.then(|| Arc::new(Profile::new()));
        let bf16_tiles = options.bf16_tiles && isa == Isa::Amx;
        Ok(Cpu { settings: Settings { pool: Arc::new(pool), isa, bf16_tiles, profile } })
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.settings.isa
    }

    /// Threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.settings.pool.threads()
    }

    /// One line about the device, such as `cpu, avx512, 2 threads`.
    pub fn describe(&self) -> String {
        let threads = self.threads();
        format!("cpu, {}, {threads} thread{}", self.isa(), if threads == 1 { "" } else { "s" })
    }

    /// Where the time of this device's programs went, when [`CpuOptions::profile`] asked for it.
    pub fn profile(&self) -> Option<Arc<Profile>> {
        self.settings.profile.clone()
    }
}

impl Device for Cpu {
    fn name(&self) -> &str {
        "cpu"
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            dtypes: DType::ALL.to_vec(),
            activations: Activations::Int8 { group: GROUP },
            bf16_products: self.settings.bf16_tiles,
            int8_training: self.isa().has_int8_training(),
            instruction_set: self.isa().name().to_owned(),
            largest_allocation: isize::MAX as u64,
        }
    }

    fn compile(
        &self,
        graph: Arc<Graph>,
        weights: &dyn Weights,
        limits: Limits,
    ) -> Result<Box<dyn Program>, CompileError> {
        Ok(Box::new(CpuProgram::compile(self.settings.clone(), graph, weights, limits)?))
    }
}
