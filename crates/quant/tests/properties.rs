//! What must hold of any bytes and any numbers.

use autarky_quant::{Codes, DType, Grid, Levels, QuantError, codes, dequantize, quantize};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

fn any_dtype() -> impl Strategy<Value = DType> {
    select(DType::ALL.to_vec())
}

/// Whole blocks of random bytes.
fn any_blocks() -> impl Strategy<Value = (DType, Vec<u8>)> {
    (any_dtype(), 1usize..4)
        .prop_flat_map(|(dtype, count)| (Just(dtype), vec(any::<u8>(), count * dtype.block_bytes())))
}

/// 512 weights as models have them, of some magnitude; some rows with outliers, some of one sign, some constant.
fn weights() -> impl Strategy<Value = Vec<f32>> {
    let kind =
        prop_oneof![Just("even"), Just("outliers"), Just("positive"), Just("negative"), Just("constant")];
    (vec(-1f32..1.0, 512), 0.01f32..100.0, kind).prop_map(|(mut values, scale, kind)| {
        let first = values[0];
        for (index, value) in values.iter_mut().enumerate() {
            *value *= scale;
            match kind {
                "outliers" if index % 50 == 7 => *value *= 20.0,
                "positive" => *value = value.abs(),
                "negative" => *value = -value.abs(),
                "constant" => *value = first * scale,
                _ => (),
            }
        }
        values
    })
}

fn to_blocks(dtype: DType, values: &[f32]) -> Vec<u8> {
    let mut blocks = vec![0; dtype.bytes(values.len()).unwrap()];
    quantize(dtype, values, &mut blocks).unwrap();
    blocks
}

fn to_floats(dtype: DType, blocks: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0; blocks.len() / dtype.block_bytes() * dtype.block_len()];
    dequantize(dtype, blocks, &mut values).unwrap();
    values
}

/// The most that a quantizer may be off in this block: `(largest error, root mean square error)`.
///
/// `peak` is the largest magnitude, `range` what lies between the smallest and the largest number, 0 included. A scale
/// that is stored as f16 is off by 2^-11 of itself, or by 2^-25 below the normal numbers, which moves the block's ends
/// by as much times the largest whole number that it multiplies.
fn bound(dtype: DType, values: &[f32]) -> (f32, f32) {
    let peak = values.iter().fold(0.0, |peak: f32, value| peak.max(value.abs()));
    let low = values.iter().fold(0.0, |low: f32, value| low.min(*value));
    let high = values.iter().fold(0.0, |high: f32, value| high.max(*value));
    let range = high - low;
    let multiples = match dtype {
        DType::F32 | DType::F16 | DType::BF16 | DType::MXFP4 => 1.0,
        DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 => 32.0,
        DType::Q8_0 | DType::IQ4_NL => 128.0,
        DType::Q2_K => 15.0 * 3.0,
        DType::Q3_K => 32.0 * 4.0,
        DType::Q4_K => 63.0 * 15.0,
        DType::Q5_K => 63.0 * 31.0,
        DType::Q6_K | DType::IQ4_XS => 128.0 * 32.0,
    };
    let half_ulp = f32::max(peak / 2048.0, multiples * 2.0f32.powi(-25));
    let each = |largest: f32| (largest, largest);
    let mean = |rms: f32| (f32::INFINITY, rms);
    match dtype {
        DType::F32 => each(0.0),
        DType::F16 => each(half_ulp),
        DType::BF16 => each(peak / 256.0),
        // Half a step, but a whole one where the end opposite to the peak is clipped.
        DType::Q4_0 => each(peak / 8.0 + half_ulp),
        DType::Q5_0 => each(peak / 16.0 + half_ulp),
        // Half a step, and two scales that are rounded.
        DType::Q4_1 => each(range / 30.0 + 3.0 * half_ulp),
        DType::Q5_1 => each(range / 62.0 + 3.0 * half_ulp),
        DType::Q8_0 => each(peak / 254.0 + half_ulp),
        // Numbers up to 8 · 2^e fall on levels that end at 6 · 2^e, and the peak is at least 4 · 2^e.
        DType::MXFP4 => each(peak / 2.0),
        // A search must not do worse than what is there without one: the same plain scale in all groups of the
        // block, which puts the peak, or both ends of the range, at the ends of the codes.
        DType::Q3_K => mean(peak / 4.0 + half_ulp),
        DType::Q6_K => mean(peak / 32.0 + half_ulp),
        DType::IQ4_NL | DType::IQ4_XS => mean(peak * 14.0 / 127.0 + half_ulp),
        DType::Q2_K => mean(range / 6.0 + 2.0 * half_ulp),
        DType::Q4_K => mean(range / 30.0 + 2.0 * half_ulp),
        DType::Q5_K => mean(range / 62.0 + 2.0 * half_ulp),
    }
}

/// Types whose codes follow from the extremes of a block, which dequantize to themselves exactly.
const IDEMPOTENT: [DType; 7] =
    [DType::F32, DType::F16, DType::BF16, DType::Q4_0, DType::Q5_0, DType::Q8_0, DType::MXFP4];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any lengths: an answer exactly when they fit each other, else an error, and never a panic.
    #[test]
    fn dequantize_takes_or_refuses_any_lengths(
        dtype in any_dtype(), bytes in vec(any::<u8>(), 0..600), elements in 0usize..600,
    ) {
        let mut out = vec![7.0; elements];
        let fits = dtype.bytes(elements) == Some(bytes.len());
        let result = dequantize(dtype, &bytes, &mut out);
        prop_assert_eq!(result.is_ok(), fits);
        prop_assert!(fits || out.iter().all(|value| *value == 7.0), "an error left something in the output");
    }

    #[test]
    fn codes_takes_one_block_only(dtype in any_dtype(), bytes in vec(any::<u8>(), 0..300)) {
        let result = codes(dtype, &bytes, &mut Codes::default());
        prop_assert_eq!(result.is_ok(), !dtype.is_float() && bytes.len() == dtype.block_bytes());
    }

    /// One buffer of codes serves blocks of different types one after another.
    #[test]
    fn codes_leave_nothing_of_an_earlier_block(first in any_blocks(), second in any_blocks()) {
        let mut unpacked = Codes::default();
        for (dtype, bytes) in [first, second] {
            let Some(grid) = dtype.grid() else { continue };
            let values = to_floats(dtype, &bytes);
            for (block, values) in bytes.chunks(dtype.block_bytes()).zip(values.chunks(dtype.block_len())) {
                codes(dtype, block, &mut unpacked).unwrap();
                for (index, value) in values.iter().enumerate() {
                    let weight = unpacked.weight(&grid, index).unwrap();
                    prop_assert!(
                        weight.to_bits() == value.to_bits() || (weight.is_nan() && value.is_nan()),
                        "{} element {}: {} from codes, {} from dequantize", dtype, index, weight, value
                    );
                }
                prop_assert!(grid.has_mins || (unpacked.dmin == 0.0 && unpacked.mins[0] == 0));
                prop_assert!(grid.has_scales || unpacked.scales[0] == 1);
            }
        }
    }

    #[test]
    fn quantize_refuses_any_lengths_that_do_not_fit(
        dtype in any_dtype(), elements in 0usize..600, size in 0usize..600,
    ) {
        let mut out = vec![0; size];
        let result = quantize(dtype, &vec![0.5; elements], &mut out);
        prop_assert_eq!(result.is_ok(), dtype.bytes(elements) == Some(size));
    }

    /// Any bit patterns: an error that names an element which is not finite or too large, or finite numbers back.
    #[test]
    fn quantize_takes_or_refuses_any_numbers(
        dtype in any_dtype(), bits in vec(any::<u32>(), 256), mask in select(vec![u32::MAX, 0xbfff_ffff, 0x807f_ffff]),
    ) {
        let values: Vec<f32> = bits.iter().map(|bits| f32::from_bits(bits & mask)).collect();
        let mut out = vec![0; dtype.bytes(256).unwrap()];
        match quantize(dtype, &values, &mut out) {
            Ok(()) => prop_assert!(to_floats(dtype, &out).iter().all(|value| value.is_finite())),
            Err(QuantError::NotFinite { index, .. }) => {
                prop_assert!(!values[index].is_finite());
                prop_assert!(values[..index].iter().all(|value| value.is_finite()), "not the first");
            }
            Err(QuantError::OutOfRange { index, value, .. }) => {
                prop_assert_eq!(values[index], value);
                prop_assert!(value.abs() > 60_000.0, "{} refused", value);
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn errors_are_within_what_theory_allows(values in weights()) {
        for dtype in DType::ALL {
            let back = to_floats(dtype, &to_blocks(dtype, &values));
            let length = if dtype.is_float() { 1 } else { dtype.block_len() };
            for (block, (values, back)) in values.chunks(length).zip(back.chunks(length)).enumerate() {
                let errors = values.iter().zip(back).map(|(value, back)| (value - back).abs());
                let largest = errors.clone().fold(0.0, f32::max);
                let rms = (errors.map(|error| error * error).sum::<f32>() / length as f32).sqrt();
                let (bound, rms_bound) = bound(dtype, values);
                let slack = 1.0 + 1e-4;
                prop_assert!(largest <= bound * slack, "{} block {}: {} off, at most {}", dtype, block, largest, bound);
                prop_assert!(rms <= rms_bound * slack, "{} block {}: rms {}, at most {}", dtype, block, rms, rms_bound);
            }
        }
    }

    #[test]
    fn quantizing_again_changes_nothing(values in weights()) {
        for dtype in IDEMPOTENT {
            let once = to_blocks(dtype, &values);
            let twice = to_blocks(dtype, &to_floats(dtype, &once));
            prop_assert_eq!(to_floats(dtype, &once), to_floats(dtype, &twice), "{}", dtype);
        }
    }

    /// Threads may take a tensor's parts: no block depends on its neighbours.
    #[test]
    fn blocks_are_independent(values in weights()) {
        for dtype in DType::ALL {
            let whole = to_blocks(dtype, &values);
            let (head, tail) = values.split_at(256);
            prop_assert_eq!(whole, [to_blocks(dtype, head), to_blocks(dtype, tail)].concat(), "{}", dtype);
        }
    }
}

/// Numbers that are nearly normal: the sum of twelve uniform ones, from a fixed sequence.
fn gaussian(count: usize) -> Vec<f32> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..count).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
}

/// Relative errors of llama.cpp's quantizers (ggml 0.25.3, no importance matrix) on a million normal numbers. A search
/// that got worse than that would cost every user of the type quality without failing anything else.
#[test]
fn errors_are_no_larger_than_llama_cpp_s() {
    let peers = [
        (DType::Q4_0, 0.08582),
        (DType::Q4_1, 0.07813),
        (DType::Q5_0, 0.04262),
        (DType::Q5_1, 0.03782),
        (DType::Q8_0, 0.00534),
        (DType::Q2_K, 0.29619),
        (DType::Q3_K, 0.15076),
        (DType::Q4_K, 0.07128),
        (DType::Q5_K, 0.03607),
        (DType::Q6_K, 0.01771),
        (DType::IQ4_NL, 0.07608),
        (DType::IQ4_XS, 0.07668),
        (DType::MXFP4, 0.11504),
    ];
    let values = gaussian(1 << 16);
    let square: f64 = values.iter().map(|value| f64::from(value * value)).sum();
    for (dtype, theirs) in peers {
        let back = to_floats(dtype, &to_blocks(dtype, &values));
        let error: f64 = values.iter().zip(back).map(|(value, back)| f64::from(value - back).powi(2)).sum();
        let relative = (error / square).sqrt();
        assert!(relative < theirs * 1.005, "{dtype}: relative error {relative:.5}, llama.cpp {theirs}");
    }
}

/// Blocks whose scale is a subnormal f16, and below: coarse, but never infinite or wild.
#[test]
fn tiny_numbers_become_tiny_numbers() {
    for dtype in DType::ALL {
        // A scale of half the smallest subnormal, 2^-25, may round to twice itself: all levels are then twice as far
        // from the lowest (which a minimum, rounded too, puts at the smallest number) or from 0.
        let (factor, step) = match dtype.grid() {
            Some(grid) if grid.has_mins => (2.0, 2f32.powi(-25)),
            _ => (1.0, 0.0),
        };
        for exponent in -140..-8 {
            let scale = 2f32.powi(exponent);
            let values: Vec<f32> = gaussian(256).iter().map(|value| value * scale).collect();
            let back = to_floats(dtype, &to_blocks(dtype, &values));
            let peak = values.iter().fold(0.0, |peak: f32, value| peak.max(value.abs()));
            let largest = values.iter().zip(back).fold(0.0, |e: f32, (a, b)| e.max((a - b).abs()));
            assert!(
                largest <= factor * 1.01 * peak + step,
                "{dtype}: numbers of 2^{exponent} are {largest} off, the largest is {peak}"
            );
        }
    }
}

#[test]
fn zeros_stay_zeros() {
    for dtype in DType::ALL {
        let back = to_floats(dtype, &to_blocks(dtype, &[0.0; 256]));
        assert!(back.iter().all(|value| *value == 0.0), "{dtype}");
    }
}

#[test]
fn numbers_beyond_a_type_are_refused_by_place() {
    for dtype in DType::ALL {
        let mut values = vec![1.0f32; 512];
        values[300] = f32::NAN;
        let mut out = vec![0; dtype.bytes(512).unwrap()];
        let error = quantize(dtype, &values, &mut out).unwrap_err();
        assert!(matches!(error, QuantError::NotFinite { index: 300, .. }), "{dtype}: {error}");
        // F32 and MXFP4, whose scale is an exponent of eight bits, hold any finite number.
        values[300] = f32::MAX;
        let result = quantize(dtype, &values, &mut out);
        match dtype {
            DType::F32 | DType::MXFP4 => assert!(result.is_ok(), "{dtype}"),
            _ => assert!(
                matches!(result, Err(QuantError::OutOfRange { index: 300, .. })),
                "{dtype}: {result:?}"
            ),
        }
    }
}

#[test]
fn grids_fit_their_blocks() {
    for dtype in DType::ALL {
        let Some(Grid { levels, code_bits, group, .. }) = dtype.grid() else {
            assert!(dtype.is_float());
            continue;
        };
        assert_eq!(dtype.block_len() % group, 0, "{dtype}");
        if let Levels::Offset { zero } = levels {
            assert!(u32::from(zero) < 1 << code_bits, "{dtype}");
        }
    }
}
