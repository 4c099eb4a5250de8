//! Every kernel gives the same bits on every instruction set.

use autarky_graph::{ActivationKind, GroupScore, Groups, NormKind, Pairing, Rope, Route, Scoring};

use super::Kernels;
use super::backward::{Columns, Softmax};
use super::cache::Layout;
use super::elementwise::{Binary, Unary};
use super::gemm::Gemm;
use super::rope::{fill_table, table_width};
use crate::isa::Isa;

/// Numbers of every size and sign, with zeros and, at the end, what is not finite.
fn numbers(n: usize, seed: u32, finite: bool) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let mut all: Vec<f32> = (0..n)
        .map(|_| {
            let fraction = next() as f32 / u32::MAX as f32 * 2.0 - 1.0;
            fraction * [1e-3, 0.01, 0.1, 1.0, 10.0, 100.0, 1e3][next() as usize % 7]
        })
        .collect();
    all[0] = 0.0;
    if !finite {
        let special = [-0.0, f32::INFINITY, f32::NEG_INFINITY, 1e-42, 88.0, -88.0, 3e38];
        let tail = n - special.len();
        all[tail..].copy_from_slice(&special);
    }
    all
}

/// Runs `f` with every instruction set's kernels and compares what it returns with the portable ones' result.
fn same_bits(what: &str, f: impl Fn(&Kernels) -> Vec<f32>) {
    let bits = |isa| f(Kernels::of(isa)).into_iter().map(f32::to_bits).collect::<Vec<_>>();
    let right = bits(Isa::Scalar);
    for isa in Isa::available() {
        let found = bits(isa);
        let differs = right.iter().zip(&found).position(|(a, b)| {
            // A NaN may be any NaN.
            a != b && !(f32::from_bits(*a).is_nan() && f32::from_bits(*b).is_nan())
        });
        assert_eq!(differs, None, "{what} on {isa}");
    }
}

use ActivationKind::*;
const FUNCTIONS: [ActivationKind; 5] = [Silu, Gelu, GeluTanh, Relu, Sigmoid];

#[test]
fn elementwise() {
    let (x, z) = (numbers(103, 1, false), numbers(103, 2, false));
    let unary = FUNCTIONS.map(Unary::Activation).into_iter().chain([Unary::Scale(0.3), Unary::Softcap(7.0)]);
    for op in unary {
        same_bits(&format!("{op:?}"), |k| {
            let mut y = vec![0.0; x.len()];
            // SAFETY: as many numbers as there are; the instruction set is available.
            unsafe { (k.unary)(op, x.as_ptr(), y.as_mut_ptr(), x.len()) };
            y
        });
    }
    let others = [Binary::Add, Binary::Multiply, Binary::CapSlope(7.0)];
    let binary = FUNCTIONS.map(Binary::Gated).into_iter().chain(FUNCTIONS.map(Binary::Slope)).chain(others);
    for op in binary {
        same_bits(&format!("{op:?}"), |k| {
            let mut y = vec![0.0; x.len()];
            // SAFETY: as above.
            unsafe { (k.binary)(op, x.as_ptr(), z.as_ptr(), y.as_mut_ptr(), x.len()) };
            // SAFETY: as above.
            unsafe { (k.add_scaled)(0.7, x.as_ptr(), y.as_mut_ptr(), x.len()) };
            y
        });
    }
}

#[test]
fn derivatives_of_gates_are_those_of_their_parts() {
    let n = 103;
    let (gate, up, dy) = (numbers(n, 6, true), numbers(n, 7, true), numbers(n, 8, true));
    for kind in FUNCTIONS {
        same_bits(&format!("gated by {kind:?}"), |k| {
            let mut found = vec![0.0; 2 * n];
            let mut parts = vec![0.0; 2 * n];
            // SAFETY: as many numbers as there are; the instruction set is available.
            unsafe {
                let (by_gate, by_up) = found.split_at_mut(n);
                let from = (gate.as_ptr(), up.as_ptr(), dy.as_ptr());
                (k.gated_backward)(kind, from, (by_gate.as_mut_ptr(), by_up.as_mut_ptr()), n);
                let (by_gate, by_up) = parts.split_at_mut(n);
                (k.unary)(Unary::Activation(kind), gate.as_ptr(), by_up.as_mut_ptr(), n);
                (k.binary)(Binary::Multiply, dy.as_ptr(), by_up.as_ptr(), by_up.as_mut_ptr(), n);
                (k.binary)(Binary::Multiply, dy.as_ptr(), up.as_ptr(), by_gate.as_mut_ptr(), n);
                let slope = Binary::Slope(kind);
                (k.binary)(slope, gate.as_ptr(), by_gate.as_ptr(), by_gate.as_mut_ptr(), n);
            }
            assert_eq!(found, parts, "{kind:?}");
            found
        });
    }
}

#[test]
fn norms() {
    for n in [7, 16, 64, 1000] {
        let (x, w, b) = (numbers(n, 3, true), numbers(n, 4, true), numbers(n, 5, true));
        for kind in [NormKind::Rms, NormKind::Layer] {
            for (w, b) in [(w.as_ptr(), b.as_ptr()), (std::ptr::null(), std::ptr::null())] {
                same_bits(&format!("{kind:?} norm of {n}"), |k| {
                    let mut y = x.clone();
                    // SAFETY: as many numbers as there are; in place, as it may be.
                    unsafe { (k.norm)(kind, 1e-5, y.as_ptr(), w, b, y.as_mut_ptr(), n) };
                    y
                });
            }
        }
    }
}

#[test]
fn ropes() {
    for pairing in [Pairing::Halves, Pairing::Adjacent] {
        for pairs in [1, 9, 32] {
            let frequencies = (0..pairs).map(|i| 10_000f32.powf(-(i as f32) / pairs as f32)).collect();
            let rope = Rope { pairing, start: 0, frequencies, scale: 1.1 };
            let mut table = vec![0.0; table_width(&rope)];
            fill_table(&rope, 4711, &mut table);
            let x = numbers(2 * pairs, 6, true);
            same_bits(&format!("{pairing:?} {pairs}"), |k| {
                let mut y = x.clone();
                // SAFETY: the table is this rope's.
                unsafe { (k.rotate)(pairing, 2 * pairs, table.as_ptr(), x.as_ptr(), y.as_mut_ptr()) };
                y
            });
        }
    }
}

#[test]
fn routes() {
    let (logits, bias) = (numbers(48, 7, true), numbers(48, 8, true));
    for scoring in [Scoring::Softmax, Scoring::Sigmoid] {
        for score in [GroupScore::Best, GroupScore::BestTwo] {
            let groups = Some(Groups { count: 8, keep: 3, score });
            let route = Route { top: 5, scoring, bias: None, groups, normalize: true, scale: 2.5 };
            same_bits(&format!("{route:?}"), |k| {
                let (mut chosen, mut weights) = (vec![0; 5], vec![0.0; 5]);
                let mut scratch = vec![0.0; super::route::scratch(48)];
                // SAFETY: the lengths are the route's.
                unsafe {
                    (k.route)(&route, &logits, bias.as_ptr(), &mut scratch, &mut chosen, &mut weights);
                }
                weights.into_iter().chain(chosen.into_iter().map(|e| e as f32)).collect()
            });
        }
    }
}

#[test]
fn merging_a_span_with_nothing_changes_nothing() {
    let layout = Layout { heads: 1, key_width: 8, value_width: 20 };
    let record = |seed: u32, largest: f32| {
        let mut r = numbers(layout.record(), seed, true);
        r[layout.value_stride()] = largest;
        r
    };
    let nothing = record(9, f32::NEG_INFINITY);
    for isa in Isa::available() {
        let mut total = record(10, 1.5);
        // SAFETY: both are records of the layout.
        unsafe { (Kernels::of(isa).merge)(&layout, total.as_mut_ptr(), nothing.as_ptr()) };
        assert_eq!(total, record(10, 1.5), "{isa}");
        let mut empty = nothing.clone();
        // SAFETY: as above.
        unsafe { (Kernels::of(isa).merge)(&layout, empty.as_mut_ptr(), total.as_ptr()) };
        assert_eq!(empty, total, "{isa}");
    }
    same_bits("merge and finish", |k| {
        let (mut total, next) = (record(11, 1.5), record(12, 2.25));
        let mut out = vec![0.0; layout.value_width];
        // SAFETY: as above.
        unsafe {
            (k.merge)(&layout, total.as_mut_ptr(), next.as_ptr());
            (k.finish)(&layout, total.as_ptr(), Some(3.0), out.as_mut_ptr());
        }
        out
    });
}

#[test]
fn matrices_are_multiplied() {
    for (rows, cols, inner) in [(1, 1, 1), (5, 17, 3), (13, 70, 300), (24, 32, 16), (2, 100, 0)] {
        for (turned, add) in [(false, false), (true, true)] {
            let left = numbers(rows * inner + 1, 21, true);
            let right = numbers(inner * cols + 1, 22, true);
            let before = numbers(rows * (cols + 3), 23, true);
            let left_strides = if turned { (1, rows) } else { (inner, 1) };
            let what = format!("[{rows}, {inner}] · [{inner}, {cols}], turned: {turned}, add: {add}");
            let product = |k: &Kernels| {
                let mut to = before.clone();
                let gemm = Gemm {
                    left: left.as_ptr(),
                    left_strides,
                    right: right.as_ptr(),
                    right_stride: cols,
                    to: to.as_mut_ptr(),
                    to_stride: cols + 3,
                    rows,
                    cols,
                    inner,
                    add,
                };
                // SAFETY: the matrices have these shapes.
                unsafe { (k.gemm)(&gemm) };
                to
            };
            same_bits(&what, product);
            let found = product(Kernels::of(Isa::detect()));
            for (i, (found, before)) in found.iter().zip(&before).enumerate() {
                let (row, col) = (i / (cols + 3), i % (cols + 3));
                if col >= cols {
                    assert_eq!(found, before, "{what}: written beside the columns");
                    continue;
                }
                let mut size = 1e-30;
                let mut sum = if add { f64::from(*before) } else { 0.0 };
                for k in 0..inner {
                    let a = f64::from(left[row * left_strides.0 + k * left_strides.1]);
                    let term = a * f64::from(right[k * cols + col]);
                    (sum, size) = (sum + term, size + term.abs());
                }
                assert!(
                    (f64::from(*found) - sum).abs() <= 1e-5 * (size + sum.abs()),
                    "{what}: [{row}, {col}]"
                );
            }
        }
    }
}

#[test]
fn derivatives_of_rows() {
    for n in [7, 16, 100] {
        let (x, w, dy) = (numbers(3 * n, 31, true), numbers(n, 32, true), numbers(3 * n, 33, true));
        for kind in [NormKind::Rms, NormKind::Layer] {
            same_bits(&format!("{kind:?} norm backward of {n}"), |k| {
                let (mut dx, mut sums) = (vec![0.0; n], [vec![0.0; n], vec![0.0; n]]);
                // SAFETY: three rows of as many numbers.
                unsafe {
                    let stats: [(f32, f32); 3] =
                        std::array::from_fn(|r| (k.norm_stats)(kind, 1e-5, x.as_ptr().add(r * n), n));
                    let from = (x.as_ptr(), w.as_ptr(), dy.as_ptr());
                    (k.norm_backward)(kind, stats[0], from, dx.as_mut_ptr(), n);
                    let stats = stats.map(|(mean, factor)| [mean, factor]);
                    let columns = Columns {
                        dy: dy.as_ptr(),
                        x: x.as_ptr(),
                        stats: stats.as_ptr(),
                        rows: 3,
                        width: n,
                        columns: (1, n - 2),
                    };
                    let [gain, shift] = sums.each_mut().map(|s| s.as_mut_ptr());
                    (k.column_sums)(&columns, gain, shift);
                }
                assert!(
                    sums.iter().all(|s| s[0] == 0.0 && s[n - 1] == 0.0),
                    "columns that were not asked for"
                );
                [dx].into_iter().chain(sums).flatten().collect()
            });
        }
        same_bits(&format!("cross entropy of {n}"), |k| {
            let mut by = x.clone();
            // SAFETY: as many numbers, in place.
            let (loss, sum) = unsafe { (k.cross_entropy)(by.as_ptr(), n, 3, by.as_mut_ptr()) };
            // SAFETY: as above.
            unsafe { (k.scale)(0.25 / sum, by.as_mut_ptr(), n) };
            by.truncate(n);
            by.into_iter().chain([loss]).collect()
        });
    }
    let products = numbers(64, 34, true);
    let by_weights = numbers(64, 35, true);
    for (softcap, sink) in [(None, None), (Some(5.0), Some(0.5))] {
        same_bits(&format!("attention's row, {softcap:?}, {sink:?}"), |k| {
            let (mut row, mut slopes, mut by) = (products.clone(), vec![1.0; 64], by_weights.clone());
            let softmax = Softmax { scale: 0.125, softcap, sink };
            // SAFETY: all have 64 numbers.
            let (of_sink, along) = unsafe {
                let of_sink =
                    (k.attention_weights)(softmax, row.as_mut_ptr(), slopes.as_mut_ptr(), (5, 50, 64));
                let slopes = slopes.as_ptr();
                (of_sink, (k.attention_backward)(0.125, row.as_ptr(), slopes, by.as_mut_ptr(), 64))
            };
            let sum: f32 = row.iter().sum();
            assert!((sum + of_sink - 1.0).abs() < 1e-5, "weights add up to {sum} and {of_sink}");
            assert!(
                row.iter().enumerate().all(|(i, w)| (5..50).contains(&i) || *w == 0.0),
                "what is not seen"
            );
            row.into_iter().chain(slopes).chain(by).chain([of_sink, along]).collect()
        });
    }
}

#[test]
fn bits_do_not_depend_on_the_platform() {
    let rope = Rope {
        pairing: Pairing::Halves,
        start: 0,
        frequencies: (1..33).map(|i| 1.0 / (i * i * i) as f32).collect(),
        scale: 1.0,
    };
    let mut table = vec![0.0; table_width(&rope)];
    let (x, z) = (numbers(103, 1, true), numbers(103, 2, true));
    let mut all = Vec::new();
    for position in [0, 1, 4711, 131_071] {
        fill_table(&rope, position, &mut table);
        all.extend_from_slice(&table);
    }
    let kernels = Kernels::of(Isa::detect());
    for kind in FUNCTIONS {
        let mut y = vec![0.0; x.len()];
        // SAFETY: as many numbers as there are; the instruction set is available.
        unsafe {
            (kernels.binary)(Binary::Gated(kind), x.as_ptr(), z.as_ptr(), y.as_mut_ptr(), x.len());
            let none = std::ptr::null();
            (kernels.norm)(NormKind::Layer, 1e-5, y.as_ptr(), z.as_ptr(), none, y.as_mut_ptr(), x.len());
        }
        all.extend(y);
    }
    // FNV-1a of what an x86-64 gave.
    let hash = all
        .iter()
        .flat_map(|x| x.to_bits().to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    assert_eq!(hash, 0x5b6d_c122_2724_76d2, "{hash:#x}");
}
