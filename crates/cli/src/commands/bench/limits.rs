//! What a benchmark's work calls for, and what the machine can do at most.

use autarky_cpu::{Isa, Pool, matmul::peak};
use autarky_engine::EngineError;
use autarky_family::Model;
use autarky_graph::cost::{self, Storage};
use autarky_graph::{CacheDType, Sizes, WeightId};
use autarky_quant::DType;
use serde_json::{Map, Value};

use super::rounds::Rates;
use crate::args::BenchArgs;

/// Read to measure memory bandwidth; several times the last-level cache of most machines.
pub(super) const BANDWIDTH_BYTES: usize = 512 << 20;

/// What the mathematics calls for.
pub(super) struct Demand {
    /// Operations of the prompts' prefill, all sequences.
    pub(super) prefill_ops: f64,
    /// Bytes that the prefill reads when it is one step.
    pub(super) prefill_bytes: f64,
    /// Operations of a decode step halfway through the generation, all sequences.
    pub(super) decode_ops: f64,
    /// Bytes that this step reads.
    pub(super) decode_bytes: f64,
}

impl Demand {
    pub(super) fn of(model: &Model, args: &BenchArgs, cache: CacheDType) -> Result<Demand, EngineError> {
        let graph = model.graph();
        let mut dtypes = Vec::with_capacity(graph.weights().len());
        for weight in graph.weights() {
            let found = model.weights().get(&weight.name).map(|t| t.dtype);
            dtypes.push(found.map_err(autarky_graph::CompileError::from)?);
        }
        let of = |id: WeightId| -> DType { dtypes[id.index()] };
        let position: usize = graph.caches().iter().map(|spec| cache.position_bytes(spec)).sum();
        let numbers = graph.cache_width().max(1);
        let storage = Storage { weights: &of, cache_bytes: position as f64 / numbers as f64 };
        let cost = cost::graph(graph, &storage);
        let sizes = |position: usize, tokens: usize| {
            Sizes::new(vec![(position, tokens); args.sequences], args.sequences)
        };
        let prefill = sizes(args.depth, args.prompt);
        let decode = sizes(args.depth + args.prompt + args.generate / 2, 1);
        Ok(Demand {
            prefill_ops: cost.flops.value(&prefill),
            prefill_bytes: cost.read.value(&prefill),
            decode_ops: cost.flops.value(&decode),
            decode_bytes: cost.read.value(&decode),
        })
    }
}

/// What the machine can do at most.
#[derive(Clone, Copy)]
pub(super) struct Peaks {
    /// Bytes a second that all threads together read.
    pub(super) bandwidth: f64,
    /// 8-bit integer operations a second.
    pub(super) ops: f64,
    /// Floating-point operations a second.
    pub(super) flops: f64,
}

impl Peaks {
    /// Measures them, less the bandwidth if it is known.
    pub(super) fn measure(threads: usize, isa: &str, bandwidth: Option<f64>) -> Peaks {
        let pool = Pool::new(threads);
        let isa = isa.parse().unwrap_or_else(|_| Isa::detect());
        Peaks {
            bandwidth: bandwidth.unwrap_or_else(|| peak::read_bandwidth(&pool, BANDWIDTH_BYTES)),
            ops: peak::int8_ops(isa, &pool),
            flops: peak::f32_flops(isa, &pool),
        }
    }

    /// Adds them to what is printed.
    pub(super) fn describe(&self, json: &mut Map<String, Value>) {
        json.insert("read_bandwidth".into(), self.bandwidth.into());
        json.insert("peak_ops".into(), self.ops.into());
        json.insert("peak_flops".into(), self.flops.into());
    }
}

/// How near measured speeds are to the peaks.
#[derive(Clone, Copy)]
pub(super) struct Shares {
    /// Of memory bandwidth, in decode.
    pub(super) bandwidth: Option<f64>,
    /// Of peak integer arithmetic, in prefill.
    pub(super) ops: f64,
}

impl Shares {
    pub(super) fn of(peaks: &Peaks, work: &Demand, rates: Rates, args: &BenchArgs) -> Shares {
        let (s, n) = (args.sequences as f64, args.prompt as f64);
        Shares {
            bandwidth: rates.decode.map(|rate| work.decode_bytes * rate / s / peaks.bandwidth),
            ops: work.prefill_ops / (s * n) * rates.prefill / peaks.ops,
        }
    }
}
