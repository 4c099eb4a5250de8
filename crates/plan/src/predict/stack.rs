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
    /// What its attention reaches, against today's: on Hopper and later, and on chips before.
    pub attention: (f64, f64),
    /// Part of tensor parallelism's messages in training that no computing hides.
    pub exposed: f64,
    /// Keeps products in half precision whatever the weights' format, in kernels written for consumer cards.
    pub half_only: bool,
    /// Whether it hands a GPU all kernels of a step at once, as llama.cpp does with CUDA since 2024 and with fewer, fused
    /// kernels since 2025; else one by one.
    pub graphs: bool,
    /// Runs on the CPU cores of a chip whose data sheet speaks of its GPU.
    pub cpu_only: bool,
    /// Sequences that a replica runs at once unless it is told otherwise: on chips of at least 94 GB or Hopper's
    /// speed, and on smaller ones (vLLM's defaults by device).
    pub sequences: (f64, f64),
    /// Sequences that a replica runs at once while it guesses tokens, unless it is told otherwise.
    pub guessing: f64,
    /// Bytes of a device that it leaves to activations and graphs, for each token of its largest step; else it takes
    /// nine tenths of the device.
    pub reserved: Option<f64>,
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
            attention: (1.0, 1.0),
            exposed: 0.5,
            half_only: false,
            graphs: true,
            cpu_only: false,
            sequences: (1024.0, 256.0),
            guessing: f64::INFINITY,
            reserved: None,
            small_cache: false,
        };
        match server.name.as_str() {
            "llama.cpp" | "llama.cpp-vulkan" | "ollama" => {
                Stack { scheduling: 0.05, local: true, half_only: true, ..server }
            }
            "ik_llama" => Stack { scheduling: 0.05, local: true, cpu_only: true, ..server },
            "autarky" => Stack { scheduling: 0.02, local: true, cpu_only: true, ..server },
            "trtllm" => Stack { sequences: (2048.0, 2048.0), small_cache: true, ..server },
            // FlashAttention-2 reaches on Hopper half the share that it reaches on Ampere (arXiv:2407.08608).
            "composer" | "internevo" => Stack { attention: (0.5, 1.0), ..server },
            // Scores go through memory, and all-reduces wait for each other (arXiv:2205.05198).
            "megatron-2022" => Stack { attention: (0.5, 0.5), exposed: 1.0, ..server },
            // Intel's measurements store it in FP8: else their batches would not fit.
            "gaudi" => Stack { small_cache: true, ..server },
            // Its `server_args.py` reserves 1.5 MiB a token of a step, and lets 48 sequences guess.
            "sglang" => Stack {
                sequences: (1024.0, 1024.0),
                guessing: 48.0,
                reserved: Some(1.5 * f64::from(1u32 << 20)),
                ..server
            },
            "vllm-ascend" => Stack { sequences: (1024.0, 1024.0), ..server },
            _ => server,
        }
    }
}
