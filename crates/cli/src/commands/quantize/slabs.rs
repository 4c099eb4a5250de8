//! A tensor from one type to another, a few rows at a time on each thread, so that memory stays small whatever the
//! tensor's size.

use anyhow::Result;
use autarky_format::TensorView;
use autarky_quant::{DType, QuantError, dequantize, quantize};

/// Numbers that one thread takes at a time: 4 MiB of f32.
const SLAB: usize = 1 << 20;

/// Hands the tensor's numbers to `take` as blocks of `to`, in order: bytes and how many numbers they are.
pub(super) fn convert(
    view: &TensorView<'_>,
    to: DType,
    threads: usize,
    take: &mut dyn FnMut(&[u8], usize) -> Result<()>,
) -> Result<()> {
    let from = view.dtype;
    let row = view.shape.last().copied().unwrap_or(1).max(1);
    let rows_a_slab = (SLAB / row).max(1);
    let slab_bytes = (rows_a_slab * row / from.block_len()) * from.block_bytes();
    if from == to {
        for slab in view.data.chunks(slab_bytes.max(1)) {
            take(slab, slab.len() / from.block_bytes() * from.block_len())?;
        }
        return Ok(());
    }
    let slabs: Vec<&[u8]> = view.data.chunks(slab_bytes.max(1)).collect();
    let mut scratch: Vec<Scratch> = (0..threads.min(slabs.len())).map(|_| Scratch::default()).collect();
    for group in slabs.chunks(scratch.len().max(1)) {
        let results: Vec<Result<(), QuantError>> = std::thread::scope(|scope| {
            let pairs = group.iter().zip(&mut scratch);
            let threads: Vec<_> =
                pairs.map(|(slab, scratch)| scope.spawn(|| scratch.fill(from, to, slab))).collect();
            threads.into_iter().map(|t| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect()
        });
        for (result, s) in results.into_iter().zip(&scratch) {
            result?;
            take(&s.out, s.numbers.len())?;
        }
    }
    Ok(())
}

/// A thread's buffers, used again for every slab.
#[derive(Default)]
struct Scratch {
    numbers: Vec<f32>,
    out: Vec<u8>,
}

impl Scratch {
    fn fill(&mut self, from: DType, to: DType, slab: &[u8]) -> Result<(), QuantError> {
        self.numbers.resize(slab.len() / from.block_bytes() * from.block_len(), 0.0);
        dequantize(from, slab, &mut self.numbers)?;
        self.out.resize(self.numbers.len() / to.block_len() * to.block_bytes(), 0);
        quantize(to, &self.numbers, &mut self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_and_threads_do_not_change_the_bytes() {
        let shape = [70, 32768];
        let numbers: Vec<f32> = (0..shape[0] * shape[1]).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
        let data: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        let view = TensorView { name: "w", dtype: DType::F32, shape: &shape, data: &data };
        let mut expected = vec![0; DType::Q8_0.bytes(numbers.len()).unwrap()];
        quantize(DType::Q8_0, &numbers, &mut expected).unwrap();
        for threads in [1, 3] {
            let (mut found, mut count) = (Vec::new(), 0);
            let mut take = |bytes: &[u8], n: usize| {
                found.extend_from_slice(bytes);
                count += n;
                Ok(())
            };
            convert(&view, DType::Q8_0, threads, &mut take).unwrap();
            assert!(found == expected && count == numbers.len(), "{threads} threads");
        }
        let mut same = Vec::new();
        convert(&view, DType::F32, 2, &mut |bytes, _| {
            same.extend_from_slice(bytes);
            Ok(())
        })
        .unwrap();
        assert!(same == data);
    }

    #[test]
    fn numbers_that_cannot_be_quantized_are_an_error() {
        let data: Vec<u8> = [f32::NAN; 32].iter().flat_map(|x| x.to_le_bytes()).collect();
        let view = TensorView { name: "w", dtype: DType::F32, shape: &[1, 32], data: &data };
        assert!(convert(&view, DType::Q8_0, 1, &mut |_, _| Ok(())).is_err());
    }
}
