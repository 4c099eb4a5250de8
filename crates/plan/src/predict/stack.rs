//! What software adds to a step.

/// Serving or training software, and what is known of it before any measurement is fitted.
#[derive(Clone, Debug, PartialEq)]
pub struct Stack {
    /// Its name: `vllm`, `sglang`, `trtllm`, `vllm-ascend`, `llama.cpp`, `megatron`, ...
    pub name: String,
    /// Scheduling between steps, as a share of what a Python server takes.
    pub scheduling: f64,
    /// Whether it runs a model for one user, without a server in Python.
    pub local: bool,
    /// Shares of the matrix peak and of the bandwidth that its kernels reach for on cards for data centres and
    /// workstations: they are written for consumer cards, whose peaks are lower for the same memory.
    pub on_big_cards: (f64, f64),
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
            local: false,
            on_big_cards: (1.0, 1.0),
            half_only: false,
            cpu_only: false,
            sequences: (1024.0, 256.0),
            small_cache: false,
        };
        match server.name.as_str() {
            "llama.cpp" | "ollama" => {
                Stack { scheduling: 0.05, local: true, on_big_cards: (0.42, 0.6), half_only: true, ..server }
            }
            "ik_llama" => Stack { scheduling: 0.05, local: true, cpu_only: true, ..server },
            "autarky" => Stack { scheduling: 0.02, local: true, cpu_only: true, ..server },
            "trtllm" => Stack { sequences: (2048.0, 2048.0), small_cache: true, ..server },
            "sglang" => Stack { sequences: (1024.0, 1024.0), ..server },
            "vllm-ascend" => Stack { sequences: (1024.0, 1024.0), ..server },
            _ => server,
        }
    }
}
