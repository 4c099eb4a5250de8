//! Quantization blocks: any bytes are numbers, and the codes of a block say the same numbers.
#![no_main]

use autarky_fuzz::bounded;
use autarky_quant::{Codes, DType, codes, dequantize, quantize};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let [choice, bytes @ ..] = bytes else { return };
    let dtype = DType::ALL[usize::from(*choice) % DType::ALL.len()];
    bounded(|| {
        // Lengths that do not fit are errors.
        let blocks = bytes.len() / dtype.block_bytes();
        let mut values = vec![0.0; blocks * dtype.block_len()];
        let whole = blocks * dtype.block_bytes() == bytes.len();
        assert_eq!(dequantize(dtype, bytes, &mut values).is_ok(), whole);
        let bytes = &bytes[..blocks * dtype.block_bytes()];
        dequantize(dtype, bytes, &mut values).expect("whole blocks");

        if let Some(grid) = dtype.grid() {
            let mut block = Codes::default();
            for (bytes, values) in
                bytes.chunks_exact(dtype.block_bytes()).zip(values.chunks_exact(dtype.block_len()))
            {
                codes(dtype, bytes, &mut block).expect("one block");
                for (i, value) in values.iter().enumerate() {
                    let weight = block.weight(&grid, i).expect("an element of the block");
                    let same = weight.to_bits() == value.to_bits() || weight.is_nan() && value.is_nan();
                    assert!(same, "{dtype}: element {i} is {value}, its codes say {weight}");
                }
            }
        }

        // Any numbers can be quantized to any type, or are refused: so are those that are not finite.
        let numbers: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let rows = &numbers[..numbers.len() / dtype.block_len() * dtype.block_len()];
        let mut out = vec![0; dtype.bytes(rows.len()).expect("whole blocks")];
        match quantize(dtype, rows, &mut out) {
            Ok(()) => {
                let mut back = vec![0.0; rows.len()];
                dequantize(dtype, &out, &mut back).expect("whole blocks");
                assert!(back.iter().all(|x| x.is_finite()), "{dtype}: what was quantized is not finite");
            }
            Err(e) => assert!(!e.to_string().is_empty()),
        }
    });
});
