//! Times the matrix products of every data type and instruction set beside the measured peaks of the machine.
//!
//! `cargo run --release -p autarky-cpu --example matmul_bench -- [isa=avx512] [dtype=Q4_0] [threads=2] [m=1,512] [nk=8192x2048]`

use autarky_cpu::matmul::{
    ActivationBuffer, ActivationKind, ActivationShape, Output, PackedWeight, matmul, peak, quantize_row,
};
use autarky_cpu::{Isa, Pool};
use autarky_quant::DType;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Weights are cycled through copies of at least this many bytes, so that few-row products read from memory.
const FOOTPRINT: usize = 384 << 20;

struct Options {
    isas: Vec<Isa>,
    dtypes: Vec<DType>,
    threads: Vec<usize>,
    rows: Vec<usize>,
    /// Rows and columns of weights.
    shapes: Vec<(usize, usize)>,
}

fn options() -> Options {
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut options = Options {
        isas: Isa::available().into_iter().filter(|isa| *isa != Isa::Scalar).collect(),
        dtypes: DType::ALL.to_vec(),
        threads: if processors > 1 { vec![1, processors] } else { vec![1] },
        rows: vec![1, 4, 16, 512],
        shapes: vec![(2048, 2048), (8192, 2048)],
    };
    for argument in std::env::args().skip(1) {
        let (key, values) = argument.split_once('=').unwrap_or((&argument, ""));
        let values = values.split(',');
        match key {
            "isa" => options.isas = values.map(|v| v.parse().expect("an instruction set")).collect(),
            "dtype" => options.dtypes = values.map(|v| DType::from_name(v).expect("a data type")).collect(),
            "threads" => options.threads = values.map(|v| v.parse().expect("a number")).collect(),
            "m" => options.rows = values.map(|v| v.parse().expect("a number")).collect(),
            "nk" => {
                let shape =
                    |v: &str| v.split_once('x').and_then(|(n, k)| Some((n.parse().ok()?, k.parse().ok()?)));
                options.shapes = values.map(|v| shape(v).expect("two numbers")).collect();
            }
            _ => panic!("unknown argument {argument} (isa=, dtype=, threads=, m=, nk=)"),
        }
    }
    options
}

fn main() {
    let options = options();
    for &threads in &options.threads {
        let pool = Pool::new(threads);
        let bandwidth = peak::read_bandwidth(&pool, FOOTPRINT);
        println!("# {threads} threads: reads {:.1} GB/s", bandwidth / 1e9);
        for &isa in &options.isas {
            let (int8, f32, bf16) =
                (peak::int8_ops(isa, &pool), peak::f32_flops(isa, &pool), peak::bf16_flops(isa, &pool));
            println!(
                "# {isa}: peak {:.0} GOP/s int8, {:.0} GFLOP/s f32, {:.0} GFLOP/s bf16",
                int8 / 1e9,
                f32 / 1e9,
                bf16 / 1e9
            );
            println!(
                "{:7} {:>8} {:>6} {:>4} | {:>10} {:>9} {:>6} {:>8} {:>6}",
                "isa", "dtype", "N", "M", "µs", "GOP/s", "peak", "GB/s", "band"
            );
            for &dtype in &options.dtypes {
                for &(n, k) in &options.shapes {
                    let weights = weights(dtype, n, k, &pool, &options.rows);
                    for &m in &options.rows {
                        let seconds = time(isa, &pool, &weights, m);
                        let ops = 2.0 * (n * k * m) as f64 / seconds;
                        let bytes = weights[0].bytes() as f64 / seconds;
                        let peak = match ActivationKind::for_weight(dtype, isa, true) {
                            ActivationKind::Int8 | ActivationKind::Int8Rows(_) => int8,
                            ActivationKind::F32 => f32,
                            ActivationKind::Bf16 => bf16,
                        };
                        println!(
                            "{:7} {:>8} {:>6} {:>4} | {:>10.1} {:>9.1} {:>5.1}% {:>8.2} {:>5.1}%",
                            isa.name(),
                            dtype.name(),
                            n,
                            m,
                            seconds * 1e6,
                            ops / 1e9,
                            100.0 * ops / peak,
                            bytes / 1e9,
                            100.0 * bytes / bandwidth
                        );
                    }
                }
            }
        }
    }
}

/// Copies of a matrix of arbitrary numbers: as many as exceed every cache if any of `rows` is small.
fn weights(dtype: DType, n: usize, k: usize, pool: &Pool, rows: &[usize]) -> Vec<PackedWeight> {
    let bytes = dtype.bytes(n * k).expect("whole blocks");
    // Bytes below 0x40 make every f16, bf16 and f32 field finite.
    let file: Vec<u8> = (0..bytes as u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 24) as u8 & 0x3f).collect();
    let copies = if rows.iter().any(|m| *m < 64) { FOOTPRINT.div_ceil(bytes) } else { 1 };
    (0..copies).map(|_| PackedWeight::pack(dtype, n, k, &[&file], pool).expect("it packs")).collect()
}

/// Seconds of a product with `m` rows, the rounding of the activations included: the fastest tenth of many.
///
/// What disturbs a product, such as another program on a shared machine, only slows it; a mean would measure that.
fn time(isa: Isa, pool: &Pool, weights: &[PackedWeight], m: usize) -> f64 {
    let (n, k) = (weights[0].rows(), weights[0].cols());
    let kind = ActivationKind::for_weight(weights[0].dtype(), isa, true);
    let shape = ActivationShape::new(kind, m, k);
    let x: Vec<f32> = (0..m * k).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
    let mut buffer = ActivationBuffer::new(shape);
    let activations = buffer.fill(isa, shape, &x);
    let mut y = vec![0.0f32; m * n];
    let y_start = y.as_mut_ptr() as usize;
    let begin = Instant::now();
    let times = Mutex::new(Vec::new());
    let mut rounds = 0;
    while rounds < 4 || begin.elapsed() < Duration::from_millis(300) {
        // One step over all copies, as a model's step goes over its layers.
        pool.run(&|worker| {
            for weight in weights {
                let start = Instant::now();
                worker.for_each(m, 1, |rows| {
                    for row in rows {
                        // SAFETY: `isa` is available, and each row is one thread's.
                        unsafe { quantize_row(isa, &x[row * k..(row + 1) * k], &activations, row) };
                    }
                });
                worker.barrier();
                worker.for_each(weight.panels(), 4, |panels| {
                    worker.with_scratch(|scratch| {
                        // SAFETY: `y` has all rows and columns, each panel's columns are one thread's.
                        unsafe {
                            let y = Output::new(y_start as *mut f32, n);
                            matmul(isa, weight, panels, &activations, 0..m, y, scratch);
                        }
                    });
                });
                worker.barrier();
                if worker.index() == 0 && rounds > 0 {
                    times.lock().expect("no panic").push(start.elapsed().as_secs_f64());
                }
            }
        });
        rounds += 1;
    }
    let mut times = times.into_inner().expect("no panic");
    times.sort_by(f64::total_cmp);
    times[times.len() / 10]
}
