//! The CPU device: packed weights, matrix products per instruction set, and the thread pool that runs a step.

pub mod isa;
pub mod matmul;
pub mod pool;

pub use isa::Isa;
pub use pool::Pool;
