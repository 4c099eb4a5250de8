//! What software adds to a step.

/// Serving or training software, and what is known of it before any measurement is fitted.
#[derive(Clone, Debug, PartialEq)]
pub struct Stack {
    /// Its name: `vllm`, `sglang`, `trtllm`, `vllm-ascend`, `llama.cpp`, `megatron`, ...
    pub name: String,
    /// Scheduling between steps, as a share of what a Python server takes.
    pub scheduling: f64,
    /// Share of the matrix peak that its kernels reach for: on chips for data centres, and on others. Data sheets of
    /// consumer cards list half-speed accumulation in FP32, which llama.cpp does not use.
    pub kernels: (f64, f64),
    /// Keeps products in half precision whatever the weights' format.
    pub half_only: bool,
    /// Runs on the CPU cores of a chip whose data sheet speaks of its GPU.
    pub cpu_only: bool,
    /// Sequences that a replica runs at once unless it is told otherwise: on chips of at least 94 GB or Hopper's
    /// speed, and on smaller ones (vLLM's defaults by device).
    pub sequences: (f64, f64),
    /// Whether it stores the cache of FP8 and FP4 models in FP8 unless told otherwise.
    pub small_cache: bool,
}

impl Stack {
    /// The stack of that name; an unknown one is taken for a Python server.
    pub fn named(name: &str) -> Stack {
        let server = Stack {
            name: name.to_ascii_lowercase(),
            scheduling: 1.0,
            kernels: (1.0, 1.0),
            half_only: false,
            cpu_only: false,
            sequences: (1024.0, 256.0),
            small_cache: false,
        };
        match server.name.as_str() {
            "llama.cpp" | "ollama" => {
                Stack { scheduling: 0.05, kernels: (0.4, 1.2), half_only: true, ..server }
            }
            "ik_llama" => Stack { scheduling: 0.05, cpu_only: true, ..server },
            "autarky" => Stack { scheduling: 0.02, cpu_only: true, ..server },
            "trtllm" => Stack { sequences: (2048.0, 2048.0), small_cache: true, ..server },
            "sglang" => Stack { sequences: (1024.0, 1024.0), ..server },
            "vllm-ascend" => Stack { sequences: (1024.0, 1024.0), ..server },
            _ => server,
        }
    }
}
