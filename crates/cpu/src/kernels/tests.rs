//! Every kernel gives the same bits on every instruction set.

use autarky_graph::{ActivationKind, GroupScore, Groups, NormKind, Pairing, Rope, Route, Scoring};

use super::Kernels;
use super::cache::Layout;
use super::elementwise::{Binary, Unary};
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
    let binary = FUNCTIONS.map(Binary::Gated).into_iter().chain([Binary::Add, Binary::Multiply]);
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
