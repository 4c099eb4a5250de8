//! What must hold of every kernel: right, and the same bits however it is called.

use super::activations::{ActivationBuffer, ActivationKind, ActivationShape};
use super::*;
use crate::isa::Isa;
use crate::pool::Pool;
use autarky_quant::{DType, dequantize};
use half::f16;

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Between −1 and 1.
    pub(super) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// Random rows in the file's layout of `dtype`: any codes and sub-scales, finite scales of either sign.
pub(super) fn random_rows(dtype: DType, rows: usize, cols: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..dtype.bytes(rows * cols).unwrap()).map(|_| random.next() as u8).collect();
    for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
        let halves: &[usize] = match dtype {
            DType::F32 => {
                block.copy_from_slice(&random.unit().to_le_bytes());
                &[]
            }
            DType::BF16 => {
                block.copy_from_slice(&half::bf16::from_f32(random.unit()).to_le_bytes());
                &[]
            }
            DType::MXFP4 => {
                block[0] = [0, 1, 2, 120, 125, 127, 130][random.below(7)];
                &[]
            }
            DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[0, 2],
            DType::Q2_K => &[80, 82],
            DType::Q3_K => &[108],
            DType::Q6_K => &[208],
            DType::F16 | DType::Q4_0 | DType::Q5_0 | DType::Q8_0 | DType::IQ4_NL | DType::IQ4_XS => &[0],
        };
        for at in halves {
            block[*at..at + 2].copy_from_slice(&f16::from_f32(random.unit()).to_le_bytes());
        }
    }
    bytes
}

/// Activations whose groups differ in size, as a model's do.
pub(super) fn random_x(rows: usize, cols: usize, random: &mut Random) -> Vec<f32> {
    let mut size = 1.0;
    let mut one = |i: usize| {
        if i.is_multiple_of(GROUP) {
            size = 3.0 * 2f32.powi(-(random.below(14) as i32));
        }
        random.unit() * size
    };
    (0..rows * cols).map(&mut one).collect()
}

/// The product with instruction set `isa`, in one call.
pub(super) fn product(isa: Isa, weight: &PackedWeight, x: &[f32], kind: ActivationKind) -> Vec<f32> {
    let rows = x.len() / weight.cols();
    let shape = ActivationShape::new(kind, rows, weight.cols());
    let mut buffer = ActivationBuffer::new(shape);
    let activations = buffer.fill(isa, shape, x);
    let mut y = vec![f32::NAN; rows * weight.rows()];
    // SAFETY: `y` has all rows and columns; `isa` is available where this is called.
    unsafe {
        let panels = 0..weight.panels();
        let scratch = &mut Scratch::new();
        matmul(
            isa,
            weight,
            panels,
            &activations,
            0..rows,
            Output::new(y.as_mut_ptr(), weight.rows()),
            scratch,
        );
    }
    y
}

pub(super) fn kind_of(dtype: DType) -> ActivationKind {
    ActivationKind::for_weight(dtype, Isa::Scalar, false)
}

pub(super) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Shapes that meet every edge: one panel and several, full and partial; one chunk, several, and a short last one.
pub(super) fn shapes(dtype: DType) -> Vec<(usize, usize)> {
    let block = dtype.block_len();
    let mut shapes = vec![(16, 256), (1, 512), (37, 768), (48, 1024)];
    if block <= 32 {
        shapes.extend([(17, 32), (5, 96), (20, 288 + 256)]);
    }
    if block == 1 {
        shapes.extend([(3, 1), (18, 7), (33, 301), (16, 258)]);
    }
    shapes
}

#[test]
fn a_packed_matrix_dequantizes_to_the_same_bits_as_the_file() {
    let pool = Pool::new(2);
    let mut random = Random(1);
    for dtype in DType::ALL {
        for (rows, cols) in shapes(dtype) {
            let bytes = random_rows(dtype, rows, cols, &mut random);
            let row_bytes = dtype.bytes(cols).unwrap();
            let (first, second) = bytes.split_at(rows / 3 * row_bytes);
            let weight = PackedWeight::pack(dtype, rows, cols, &[first, second], &pool).unwrap();
            let mut expected = vec![0.0; rows * cols];
            dequantize(dtype, &bytes, &mut expected).unwrap();
            let mut found = vec![0.0; cols];
            for (row, expected) in expected.chunks_exact(cols).enumerate() {
                weight.dequantize_row(row, &mut found);
                assert_eq!(bits(&found), bits(expected), "{dtype}: row {row} of {rows} × {cols}");
            }
        }
    }
}

#[test]
fn parts_that_do_not_make_the_matrix_are_refused() {
    let pool = Pool::new(1);
    let pack = |dtype, rows, cols, parts: &[&[u8]]| PackedWeight::pack(dtype, rows, cols, parts, &pool).err();
    let dtype = DType::Q4_0;
    let shape = |rows, cols| Some(PackError::Shape { rows, cols, dtype });
    assert_eq!(pack(dtype, 0, 32, &[]), shape(0, 32));
    assert_eq!(pack(dtype, 1, 0, &[]), shape(1, 0));
    assert_eq!(pack(dtype, 1, 40, &[&[0; 18]]), Some(PackError::PartialBlock { dtype, cols: 40 }));
    assert_eq!(pack(dtype, 3, 32, &[&[0; 36]]), Some(PackError::Rows { rows: 3, found: 2 }));
    let partial = PackError::PartialRow { part: 1, bytes: 17, row_bytes: 18, cols: 32, dtype };
    assert_eq!(pack(dtype, 2, 32, &[&[0; 18], &[0; 17]]), Some(partial));
    assert_eq!(
        pack(dtype, usize::MAX, 32, &[&[0; 18]]),
        Some(PackError::Rows { rows: usize::MAX, found: 1 })
    );
    assert!(matches!(pack(DType::F32, 1, usize::MAX, &[&[0; 8]]), Some(PackError::Shape { .. })));
}

/// The scalar kernel against dequantized weights and activations in f64: what is left is the rounding of f32 sums.
#[test]
fn the_scalar_kernel_computes_the_product() {
    let pool = Pool::new(1);
    let mut random = Random(2);
    for dtype in DType::ALL {
        for (n, k) in shapes(dtype) {
            let m = 1 + random.below(5);
            let bytes = random_rows(dtype, n, k, &mut random);
            let weight = PackedWeight::pack(dtype, n, k, &[&bytes], &pool).unwrap();
            let x = random_x(m, k, &mut random);
            let y = product(Isa::Scalar, &weight, &x, kind_of(dtype));
            let rounded: Vec<f64> = if dtype.is_float() {
                x.iter().map(|x| f64::from(*x)).collect()
            } else {
                x.chunks(k).flat_map(rounded_row).collect()
            };
            let mut w = vec![0.0; n * k];
            dequantize(dtype, &bytes, &mut w).unwrap();
            for (row, x) in rounded.chunks_exact(k).enumerate() {
                for (column, w) in w.chunks_exact(k).enumerate() {
                    let terms = w.iter().zip(x).map(|(w, x)| f64::from(*w) * x);
                    let (sum, size) = terms.fold((0.0, 0.0), |(s, z), t| (s + t, z + t.abs()));
                    let found = f64::from(y[row * n + column]);
                    let difference = (found - sum).abs();
                    // Types with minima subtract numbers larger than the result.
                    assert!(
                        difference <= size * 2e-6 * 16.0,
                        "{dtype} {n} × {k}: {found} for {sum} ({size})"
                    );
                }
            }
        }
    }
}

/// A row as its 8-bit codes stand for it, computed another way.
fn rounded_row(x: &[f32]) -> Vec<f64> {
    let largest = |x: &[f32]| x.iter().fold(0.0f32, |a, b| a.max(b.abs()));
    let of_row = largest(x);
    let rounded = |group: &[f32]| {
        let mut power = 1.0;
        while power < 2048.0 && largest(group) * power * 2.0 <= of_row {
            power *= 2.0;
        }
        let code = |x: &f32| (x * (127.0 / of_row * power)).round_ties_even();
        group.iter().map(|x| f64::from(code(x)) * f64::from(of_row / 127.0 / power)).collect::<Vec<_>>()
    };
    x.chunks(GROUP).flat_map(rounded).collect()
}

#[test]
fn a_groups_step_is_less_than_twice_what_its_own_largest_element_asks_for() {
    let mut random = Random(9);
    let cols = 512;
    // Groups of very different sizes.
    let x: Vec<f32> = (0..cols).map(|i| random.unit() * 2f32.powi(-((i / GROUP) as i32) * 3 / 2)).collect();
    let shape = ActivationShape::new(ActivationKind::Int8, 1, cols);
    let mut buffer = ActivationBuffer::new(shape);
    let view = buffer.fill(Isa::Scalar, shape, &x);
    let of_row = x.iter().fold(0.0f32, |a, b| a.max(b.abs()));
    for (group, x) in x.chunks(GROUP).enumerate() {
        // SAFETY: the buffer is this test's alone.
        let (scale, shift, codes) = unsafe {
            let at = group * GROUP % CHUNK;
            let codes = std::slice::from_raw_parts(view.codes(group * GROUP / CHUNK, 0).add(at), GROUP);
            (*view.scale(0), *view.shifts(group * GROUP / CHUNK, 0).add(at / GROUP), codes)
        };
        let step = scale * 2f32.powi(shift);
        let largest = x.iter().fold(0.0f32, |a, b| a.max(b.abs()));
        assert!(step <= (2.0 * largest / 127.0).max(of_row / 127.0 / 2048.0) * 1.000_001, "group {group}");
        for (x, code) in x.iter().zip(codes) {
            assert!((x - f32::from(*code) * step).abs() <= 0.501 * step, "{x} as {code} · {step}");
        }
    }
}

#[test]
fn every_instruction_set_rounds_activations_to_the_same_bytes() {
    let mut random = Random(3);
    for isa in Isa::available() {
        for kind in [ActivationKind::Int8, ActivationKind::F32, ActivationKind::Bf16] {
            for cols in [32, 256, 608] {
                let mut x = random_x(7, cols, &mut random);
                // Products of BF16 numbers take smaller ones as zero, which may be written so.
                x[3] = 2e-38;
                x[cols..cols + 32].fill(1e-36);
                x[2 * cols + 5] = f32::INFINITY;
                x[3 * cols + 6] = f32::NAN;
                x[4 * cols..5 * cols].fill(0.0);
                let shape = ActivationShape::new(kind, 7, cols);
                let bytes = |isa| {
                    let mut buffer = ActivationBuffer::new(shape);
                    buffer.fill(isa, shape, &x);
                    buffer.bytes().to_vec()
                };
                assert!(bytes(isa) == bytes(Isa::Scalar), "{isa}: {shape:?}");
            }
        }
    }
}

#[test]
fn a_row_that_is_not_finite_shows_in_the_result() {
    let pool = Pool::new(1);
    let mut random = Random(4);
    for fault in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for isa in Isa::available() {
            for dtype in [DType::Q4_0, DType::Q4_K, DType::Q6_K] {
                let weight =
                    PackedWeight::pack(dtype, 16, 256, &[&random_rows(dtype, 16, 256, &mut random)], &pool);
                let mut x = random_x(5, 256, &mut random);
                x[2 * 256 + 100] = fault;
                let y = product(isa, &weight.unwrap(), &x, ActivationKind::Int8);
                for (i, y) in y.iter().enumerate() {
                    assert_eq!(y.is_nan(), i / 16 == 2, "{isa} {dtype}: result {i} for a {fault} in row 2");
                }
            }
        }
    }
}

#[test]
fn every_instruction_set_gives_the_bits_of_the_scalar_kernel() {
    for isa in Isa::available() {
        parity_with_scalar(isa, 5);
    }
}

/// `isa` against the scalar kernel: every type, shapes with every edge, few rows and many.
pub(super) fn parity_with_scalar(isa: Isa, seed: u64) {
    let pool = Pool::new(1);
    let mut random = Random(seed);
    for dtype in DType::ALL {
        for (n, k) in shapes(dtype) {
            let bytes = random_rows(dtype, n, k, &mut random);
            let weight = PackedWeight::pack(dtype, n, k, &[&bytes], &pool).unwrap();
            for m in [1, 2, 3, 4, 5, 7, 16, 29, 61] {
                let x = random_x(m, k, &mut random);
                let expected = product(Isa::Scalar, &weight, &x, kind_of(dtype));
                let found = product(isa, &weight, &x, kind_of(dtype));
                assert!(bits(&found) == bits(&expected), "{isa} {dtype}: {m} rows by {n} × {k}");
            }
        }
    }
}

/// Codes and activations at both ends of their ranges, where a 16-bit sum could saturate.
#[test]
fn extreme_codes_are_exact_on_every_instruction_set() {
    let pool = Pool::new(1);
    for dtype in DType::ALL.into_iter().filter(|d| !d.is_float()) {
        for byte in [0x00, 0x80, 0xff, 0x7f, 0x0f, 0xf0] {
            let k = 512;
            let mut bytes = vec![byte; dtype.bytes(16 * k).unwrap()];
            let one = f16::from_f32(1.0).to_le_bytes();
            for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
                match dtype {
                    DType::MXFP4 => block[0] = 127,
                    DType::Q2_K => block[80..84].copy_from_slice(&[one, one].concat()),
                    DType::Q3_K => block[108..].copy_from_slice(&one),
                    DType::Q6_K => block[208..].copy_from_slice(&one),
                    DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => {
                        block[..4].copy_from_slice(&[one, one].concat());
                    }
                    _ => block[..2].copy_from_slice(&one),
                }
            }
            let weight = PackedWeight::pack(dtype, 16, k, &[&bytes], &pool).unwrap();
            for m in [1, 6] {
                let mut x = vec![1.0f32; m * k];
                x[k / 2..k].fill(-1.0);
                let expected = product(Isa::Scalar, &weight, &x, ActivationKind::Int8);
                for isa in Isa::available() {
                    let found = product(isa, &weight, &x, ActivationKind::Int8);
                    assert!(bits(&found) == bits(&expected), "{isa} {dtype} of bytes {byte:#x}, {m} rows");
                }
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_among_others() {
    for isa in Isa::available() {
        let kinds = |dtype: DType| {
            let mut kinds = vec![kind_of(dtype), ActivationKind::for_weight(dtype, isa, true)];
            kinds.dedup();
            kinds
        };
        let mut random = Random(6);
        let pool = Pool::new(1);
        for dtype in DType::ALL {
            for kind in kinds(dtype) {
                let (m, n, k) = (71, 40, 512);
                let bytes = random_rows(dtype, n, k, &mut random);
                let weight = PackedWeight::pack(dtype, n, k, &[&bytes], &pool).unwrap();
                let x = random_x(m, k, &mut random);
                let together = product(isa, &weight, &x, kind);
                for rows in [1, 2, 3, 5, 13, 17, 33] {
                    let chunked: Vec<f32> =
                        x.chunks(rows * k).flat_map(|x| product(isa, &weight, x, kind)).collect();
                    assert!(bits(&chunked) == bits(&together), "{isa} {dtype}: by {rows} rows");
                }
            }
        }
    }
}

#[test]
fn row_ranges_panel_ranges_and_threads_change_no_bit() {
    let mut random = Random(7);
    let (m, n, k) = (300, 100, 256);
    for isa in Isa::available() {
        for dtype in [DType::Q4_0, DType::Q6_K, DType::F32, DType::BF16] {
            let pool = Pool::new(3);
            let bytes = random_rows(dtype, n, k, &mut random);
            let weight = PackedWeight::pack(dtype, n, k, &[&bytes], &pool).unwrap();
            let x = random_x(m, k, &mut random);
            let kind = ActivationKind::for_weight(dtype, isa, true);
            let whole = product(isa, &weight, &x, kind);
            let mut threaded = vec![f32::NAN; m * n];
            matmul_with(isa, &pool, &weight, &x, &mut threaded);
            assert!(bits(&threaded) == bits(&whole), "{isa} {dtype}: three threads");

            let shape = ActivationShape::new(kind, m, k);
            let mut buffer = ActivationBuffer::new(shape);
            let activations = buffer.fill(isa, shape, &x);
            let stride = n + 5;
            let mut pieces = vec![7.5f32; m * stride];
            let mut scratch = Scratch::new();
            let mut row = 0;
            while row < m {
                let rows = row..m.min(row + 1 + random.below(70));
                let middle = random.below(weight.panels());
                for panels in [middle..weight.panels(), 0..middle] {
                    // SAFETY: `pieces` has all rows, `stride` apart.
                    unsafe {
                        let y = Output::new(pieces.as_mut_ptr(), stride);
                        matmul(isa, &weight, panels, &activations, rows.clone(), y, &mut scratch);
                    }
                }
                row = rows.end;
            }
            for (pieces, whole) in pieces.chunks_exact(stride).zip(whole.chunks_exact(n)) {
                assert!(bits(&pieces[..n]) == bits(whole), "{isa} {dtype}: in pieces");
                assert!(pieces[n..].iter().all(|y| *y == 7.5), "{isa} {dtype}: wrote behind a row");
            }
        }
    }
}

#[test]
fn a_copied_row_gives_the_same_result() {
    let mut random = Random(8);
    let pool = Pool::new(1);
    let (n, k) = (16, 544);
    for (dtype, kind) in [(DType::Q4_1, ActivationKind::Int8), (DType::F16, ActivationKind::F32)] {
        let bytes = random_rows(dtype, n, k, &mut random);
        let weight = PackedWeight::pack(dtype, n, k, &[&bytes], &pool).unwrap();
        let x = random_x(6, k, &mut random);
        let isa = Isa::detect();
        let y = product(isa, &weight, &x, kind);
        let (from, to) = (ActivationShape::new(kind, 6, k), ActivationShape::new(kind, 2, k));
        let (mut source, mut gathered) = (ActivationBuffer::new(from), ActivationBuffer::new(to));
        source.fill(isa, from, &x);
        let target = gathered.fill(isa, to, &vec![0.0; 2 * k]);
        let mut z = vec![0.0; 2 * n];
        // SAFETY: the views are this test's alone, and `z` has two rows.
        unsafe {
            target.copy_row(0, &source.view(), 4);
            target.copy_row(1, &source.view(), 1);
            let z = Output::new(z.as_mut_ptr(), n);
            matmul(isa, &weight, 0..1, &target, 0..2, z, &mut Scratch::new());
        }
        assert_eq!(bits(&z[..n]), bits(&y[4 * n..5 * n]));
        assert_eq!(bits(&z[n..]), bits(&y[n..2 * n]));
    }
}

#[test]
fn numbers_are_packed_as_their_bytes_are() {
    let mut random = Random(8);
    let pool = Pool::new(2);
    for dtype in [DType::F32, DType::BF16] {
        for (n, k) in shapes(dtype) {
            let numbers: Vec<f32> = (0..n * k).map(|_| random.unit()).collect();
            let turned: Vec<f32> =
                (0..k).flat_map(|c| (0..n).map(move |r| (r, c))).map(|(r, c)| numbers[r * k + c]).collect();
            let bytes: Vec<u8> = match dtype {
                DType::F32 => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
                _ => numbers.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect(),
            };
            let expected = PackedWeight::pack(dtype, n, k, &[&bytes], &pool).unwrap();
            for (numbers, transposed) in [(&numbers, false), (&turned, true)] {
                let mut found =
                    PackedWeight::pack_numbers(dtype, (n, k), &vec![7.0; n * k], transposed, &pool).unwrap();
                found.set_numbers(numbers, transposed, &pool);
                for panel in 0..expected.panels() {
                    let same = found.panel_slice(panel) == expected.panel_slice(panel);
                    assert!(same, "{dtype} [{n}, {k}], transposed: {transposed}, panel {panel}");
                }
            }
        }
    }
}
