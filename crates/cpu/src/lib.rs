//! The CPU device: packed weights, matrix products per instruction set, and the thread pool that runs a step.

mod device;
pub mod isa;
mod kernels;
pub mod matmul;
pub mod pool;
mod profile;
mod program;

pub use device::{Cpu, CpuOptions};
pub use isa::Isa;
pub use pool::Pool;
pub use profile::Profile;
