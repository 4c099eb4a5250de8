//! The CPU device: packed weights, kernels per instruction set, and the thread pool that runs a step.
//!
//! [`Cpu`] compiles a graph into a program; a step of a program is one [`Pool::run`]. Results are the same bits on
//! every instruction set (but for BF16 tiles, which must be asked for), with any number of threads, and whatever else
//! is in the step.
//!
//! Module map: [`isa`] what the machine can run · [`matmul`] weights packed and multiplied · `kernels` everything else
//! that computes · `program` graphs made into tasks, and steps run · [`pool`] threads.

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
