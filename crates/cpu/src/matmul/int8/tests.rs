use super::super::tests::{Random, random_x};
use super::super::{ActivationBuffer, ActivationKind, ActivationShape, Blocks, quantize_part};
use super::*;
use crate::isa::Isa;

/// The largest magnitude, divided into so many steps.
fn step(x: &[f32], steps: f32) -> f32 {
    x.iter().fold(0.0, |most: f32, x| most.max(x.abs())) * (1.0 / steps)
}

/// A matrix of activations, and what its bytes stand for.
fn activations(x: &[f32], cols: usize, rounding: Rounding) -> (ActivationBuffer, Vec<f64>) {
    let rows = x.len() / cols;
    let shape = ActivationShape::new(ActivationKind::Int8Rows(rounding), rows, cols);
    let mut buffer = ActivationBuffer::new(shape);
    let view = buffer.fill(Isa::Avx512, shape, x);
    let mut meant = Vec::new();
    for i in 0..rows * cols {
        let (row, col) = (i / cols, i % cols);
        // SAFETY: the row and the column are the view's.
        let (code, scale) =
            unsafe { (*view.int8s(col / 256, row).add(col % 256), *view.int8_scale(col / STRIPE, row).0) };
        meant.push(f64::from(code) * f64::from(scale));
    }
    (buffer, meant)
}

/// A weight rounded to nearest, with a scale for each row of a stripe.
fn rounded(w: &[f32], cols: usize) -> Vec<f64> {
    let row = |w: &[f32]| -> Vec<f64> {
        let stripe = |w: &[f32]| -> Vec<f64> {
            let (inverse, scale) = (127.0 / step(w, 1.0), step(w, 127.0));
            w.iter().map(|w| f64::from((w * inverse).round_ties_even()) * f64::from(scale)).collect()
        };
        w.chunks(STRIPE).flat_map(stripe).collect()
    };
    w.chunks(cols).flat_map(row).collect()
}

fn near(found: f32, terms: impl Iterator<Item = f64>, what: &str) {
    let (sum, size) = terms.fold((0.0, 1e-30), |(s, a), t| (s + t, a + t.abs()));
    assert!((f64::from(found) - sum).abs() <= 1e-5 * size, "{what}: {found}, {sum}");
}

#[test]
fn products_are_those_of_rounded_numbers_however_they_are_divided() {
    if !Isa::Avx512.is_available() {
        return;
    }
    let mut random = Random(51);
    for (n, k, m) in [(1, 1, 1), (16, 64, 8), (37, 301, 9), (80, 288, 30), (50, 2100, 7), (7, 4200, 3)] {
        // Numbers of one size, so that few of them are halfway between two steps in one precision and not in another.
        let w: Vec<f32> = (0..n * k).map(|_| random.unit()).collect();
        let across: Vec<f32> = (0..n * k).map(|i| w[i % n * k + i / n]).collect();
        let meant = rounded(&w, k);
        let blocks = Blocks::new(1, n.div_ceil(16) * Int8Panels::panel_bytes(k).unwrap()).unwrap();
        for rounding in [Rounding::Nearest, Rounding::Dithered] {
            let x = random_x(m, k, &mut random);
            let (buffer, codes) = activations(&x, k, rounding);
            let mut first: Option<Vec<f32>> = None;
            for (numbers, transposed, at_once, window) in
                [(&w, false, 9, 40), (&across, true, 9, 40), (&w, false, 2, 4), (&across, true, 1, 3)]
            {
                let mut y = vec![f32::NAN; m * n];
                for panel in (0..n.div_ceil(16)).step_by(at_once) {
                    let panels = panel..n.div_ceil(16).min(panel + at_once);
                    // SAFETY: the machine has the instructions; the block is used alone, and the result has room.
                    unsafe {
                        let block = blocks.pack_int8(0, (n, k), (numbers, transposed), panels);
                        for row in (0..m).step_by(window) {
                            let to = Output::new(y.as_mut_ptr().add(16 * panel), n);
                            block.product(&buffer.view(), row..m.min(row + window), to);
                        }
                    }
                }
                for (i, y) in y.iter().enumerate() {
                    let terms = (0..k).map(|j| codes[i / n * k + j] * meant[i % n * k + j]);
                    near(*y, terms, &format!("[{n}, {k}], {rounding:?}, number {i}"));
                }
                assert!(*first.get_or_insert_with(|| y.clone()) == y, "[{n}, {k}] in blocks of {at_once}");
            }
        }
    }
}

#[test]
fn rounding_is_within_a_step_and_dithering_right_on_average() {
    if !Isa::Avx512.is_available() {
        return;
    }
    let mut random = Random(52);
    for cols in [1, 15, 288, 2050] {
        let x = random_x(5, cols, &mut random);
        for (rounding, steps, most) in
            [(Rounding::Nearest, 127.0, 0.5001), (Rounding::Dithered, 126.0, 1.0001)]
        {
            let (_, meant) = activations(&x, cols, rounding);
            for (i, (x_i, meant)) in x.iter().zip(meant).enumerate() {
                let stripe = i / cols * cols + i % cols / STRIPE * STRIPE;
                let end = (stripe + STRIPE).min((i / cols + 1) * cols);
                let allowed = f64::from(most * step(&x[stripe..end], steps));
                assert!((f64::from(*x_i) - meant).abs() <= allowed + 1e-30, "{rounding:?}: {x_i} is {meant}");
            }
        }
    }
    // A hundredth of a step is lost when it is rounded to nearest, and not when it is dithered: in all, in every row and in
    // every column, of numbers whose lowest bits are zero, too.
    let (rows, cols) = (512, 512);
    for part in [0.01f32, 0.3, 0.77, 0.5, 1.0 / 64.0] {
        let row = |_| std::iter::once(126.0f32).chain(std::iter::repeat_n(part, cols - 1));
        let x: Vec<f32> = (0..rows).flat_map(row).collect();
        let (_, meant) = activations(&x, cols, Rounding::Dithered);
        // How far the mean of some numbers is from right, in standard deviations.
        let off = |meant: &mut dyn Iterator<Item = f64>| {
            let (sum, count) = meant.fold((0.0, 0.0), |(sum, count), m| (sum + m, count + 1.0));
            (sum / count - f64::from(part)) / (f64::from(part * (1.0 - part)) / count).sqrt()
        };
        let inner = |i: &usize| !i.is_multiple_of(cols);
        let all = off(&mut (0..rows * cols).filter(inner).map(|i| meant[i]));
        assert!(all.abs() < 4.0, "{part} is {all} deviations off");
        let by_row = (0..rows).map(|r| off(&mut (r * cols + 1..(r + 1) * cols).map(|i| meant[i])));
        let by_column = (1..cols).map(|c| off(&mut (0..rows).map(|r| meant[r * cols + c])));
        // What shares a scale is rounded by chances that are spread evenly; what does not, by independent ones.
        for (off, range) in [(by_row.collect::<Vec<_>>(), 0.0..0.5), (by_column.collect(), 0.4..2.0)] {
            let spread = (off.iter().map(|o| o * o).sum::<f64>() / off.len() as f64).sqrt();
            assert!(range.contains(&spread), "means of {part} are {spread} deviations off");
        }
    }
}

#[test]
fn outer_products_are_those_of_rounded_numbers() {
    if !Isa::Avx512.is_available() {
        return;
    }
    let mut random = Random(53);
    for (rows, out, inner) in [(1, 1, 1), (5, 16, 48), (64, 21, 70), (1100, 40, 290), (513, 33, 100)] {
        let (dy, x) = (random_x(rows, out, &mut random), random_x(rows, inner, &mut random));
        // What is already BF16 is the same from both sources.
        let bf16 =
            |x: Vec<f32>| -> Vec<f32> { x.into_iter().map(|x| half::bf16::from_f32(x).to_f32()).collect() };
        let (dy, x) = (bf16(dy), bf16(x));
        let quads = |numbers: &[f32], cols: usize, rounding: Rounding, floats: bool| {
            let mut memory = vec![u64::MAX; Quads::bytes(rows, cols).unwrap() / 8];
            let shape = ActivationShape::new(ActivationKind::Bf16, rows, cols);
            let mut operand = ActivationBuffer::new(shape);
            let source = match floats {
                true => ColumnSource::Floats(numbers.as_ptr(), cols),
                false => ColumnSource::Bf16(operand.fill(Isa::Avx512, shape, numbers)),
            };
            // SAFETY: the memory has the bytes, and the numbers are the matrix's.
            unsafe {
                let quads = Quads::new(memory.as_mut_ptr().cast(), rows, cols, rounding);
                for stretch in 0..quads.stretches() {
                    for panel in (0..quads.panels()).step_by(7) {
                        quads.write(panel..quads.panels().min(panel + 7), stretch, &source);
                    }
                }
            }
            memory
        };
        let (mut left, mut right) =
            (quads(&dy, out, Rounding::Dithered, true), quads(&x, inner, Rounding::Nearest, true));
        assert!(left == quads(&dy, out, Rounding::Dithered, false), "[{out}, {inner}] over {rows}");
        assert!(right == quads(&x, inner, Rounding::Nearest, false), "[{out}, {inner}] over {rows}");
        // SAFETY: the memory has the bytes.
        let (left, right) = unsafe {
            (
                Quads::new(left.as_mut_ptr().cast(), rows, out, Rounding::Dithered),
                Quads::new(right.as_mut_ptr().cast(), rows, inner, Rounding::Nearest),
            )
        };
        let meant = |of: &Quads, row: usize, col: usize| {
            let (stretch, row) = (row / STRETCH, row % STRETCH);
            // SAFETY: the row and the column are the matrix's.
            unsafe {
                let at = of.at(col / 16, stretch);
                let code = *at.add(row / 4 * WORDS + col % 16 * 4 + row % 4);
                let scale = *at.add(of.words(stretch) * WORDS).cast::<f32>().add(col % 16);
                let code = match of.rounding {
                    Rounding::Nearest => i32::from(code) - 128,
                    Rounding::Dithered => i32::from(code.cast_signed()),
                };
                f64::from(code) * f64::from(scale)
            }
        };
        for (of, numbers, cols, steps, most) in
            [(&left, &dy, out, 126.0, 1.0001), (&right, &x, inner, 127.0, 0.5001)]
        {
            for i in 0..rows * cols {
                let (row, col) = (i / cols, i % cols);
                let stretch = row / STRETCH * STRETCH..rows.min((row / STRETCH + 1) * STRETCH);
                let column: Vec<f32> = stretch.map(|row| numbers[row * cols + col]).collect();
                let off = (f64::from(numbers[i]) - meant(of, row, col)).abs();
                assert!(off <= f64::from(most * step(&column, steps)) + 1e-30, "{}", numbers[i]);
            }
        }
        let mut to = vec![0.5f32; out * inner];
        for panel in 0..left.panels() {
            for first in (0..right.panels()).step_by(5) {
                // SAFETY: both are written; `to` has a row for every column.
                unsafe {
                    left.add_outer(panel, &right, (first, right.panels().min(first + 5)), to.as_mut_ptr())
                };
            }
        }
        for (i, found) in to.iter().enumerate() {
            let products = (0..rows).map(|r| meant(&left, r, i / inner) * meant(&right, r, i % inner));
            near(*found, std::iter::once(0.5).chain(products), &format!("[{out}, {inner}] over {rows}: {i}"));
        }
    }
}

#[test]
fn what_is_not_finite_shows_in_the_result() {
    if !Isa::Avx512.is_available() {
        return;
    }
    let w = vec![1.0f32; 20 * 32];
    let blocks = Blocks::new(1, 2 * Int8Panels::panel_bytes(32).unwrap()).unwrap();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for rounding in [Rounding::Nearest, Rounding::Dithered] {
            let mut x = vec![0.5f32; 3 * 32];
            x[32 + 7] = bad;
            let (buffer, _) = activations(&x, 32, rounding);
            let mut y = vec![0f32; 3 * 20];
            // SAFETY: the machine has the instructions; the block is used alone, and the result has room.
            unsafe {
                let block = blocks.pack_int8(0, (20, 32), (&w, false), 0..2);
                block.product(&buffer.view(), 0..3, Output::new(y.as_mut_ptr(), 20));
            }
            let is_bad = |i: usize| i / 20 == 1;
            assert!(y.iter().enumerate().all(|(i, y)| y.is_nan() == is_bad(i)), "{bad}, {rounding:?}: {y:?}");
        }
    }
}

#[test]
fn large_matrices_and_parts_of_rows_have_the_bytes_of_small_ones() {
    if !Isa::Avx512.is_available() {
        return;
    }
    let mut random = Random(54);
    let (rows, cols) = (33, 2 * STRIPE + 70);
    for kind in [ActivationKind::Int8Rows(Rounding::Dithered), ActivationKind::Bf16] {
        let x = random_x(1, cols, &mut random);
        // The second has so many columns that it is not kept in caches.
        let shapes = [cols, 129 * STRIPE].map(|cols| ActivationShape::new(kind, rows, cols));
        let bytes = |shape: ActivationShape, step: usize| {
            let mut memory = vec![0u8; shape.bytes() + 64];
            let start = memory.as_mut_ptr();
            // SAFETY: the memory has the bytes from an aligned place on; all parts but the last are whole stripes.
            unsafe {
                let view = Activations::new(start.add(start.align_offset(64)), shape);
                let mut row = x.clone();
                row.resize(shape.cols(), 0.25);
                for first in (0..shape.cols()).step_by(step) {
                    let part = &row[first..shape.cols().min(first + step)];
                    quantize_part(Isa::Avx512, part, &view, rows - 1, first);
                }
                // Whole stripes, which both have.
                let chunks = (0..2 * STRIPE / 256).map(|chunk| match kind {
                    ActivationKind::Bf16 => {
                        std::slice::from_raw_parts(view.bf16s(chunk, rows - 1).cast::<u8>(), 512)
                    }
                    _ => std::slice::from_raw_parts(view.int8s(chunk, rows - 1).cast::<u8>(), 256),
                });
                chunks.flatten().copied().collect::<Vec<u8>>()
            }
        };
        let [small, large] = shapes;
        let right = bytes(small, small.cols());
        assert!(right == bytes(small, STRIPE), "{kind:?} in stripes");
        assert!(right == bytes(large, large.cols()), "{kind:?}, {large:?}");
        assert!(right == bytes(large, 2 * STRIPE), "{kind:?}, {large:?} in parts");
    }
}
