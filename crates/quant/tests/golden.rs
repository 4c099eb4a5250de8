//! Agreement, bit for bit, with what the PyPI package `gguf` made of a few blocks of every type (`golden.py` wrote
//! `golden.bin` and says what is in it). `check_gguf.py` does the same for many more blocks, with `gguf` at hand.

use autarky_quant::{Codes, DType, codes, dequantize, quantize};

const ROUNDED: [DType; 9] = [
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q8_0,
    DType::MXFP4,
];

/// The parts of `golden.bin`, one after another.
struct Golden(&'static [u8]);

impl Golden {
    fn open() -> Golden {
        Golden(include_bytes!("golden.bin"))
    }

    fn bytes(&mut self, count: usize) -> &'static [u8] {
        let (head, tail) = self.0.split_at(count);
        self.0 = tail;
        head
    }

    fn floats(&mut self, count: usize) -> Vec<f32> {
        self.bytes(4 * count).chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    fn blocks(&mut self, dtype: DType) -> (&'static [u8], Vec<f32>) {
        let count = if dtype.is_float() { 64 } else { 4 };
        (self.bytes(count * dtype.block_bytes()), self.floats(count * dtype.block_len()))
    }
}

#[track_caller]
fn assert_same_bits(dtype: DType, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len());
    for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        let same = ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan());
        assert!(same, "{dtype}: element {index} is {ours}, gguf has {theirs}");
    }
}

#[test]
fn dequantizes_as_gguf_does() {
    let mut golden = Golden::open();
    for dtype in DType::ALL {
        let (blocks, theirs) = golden.blocks(dtype);
        let mut ours = vec![0.0; theirs.len()];
        dequantize(dtype, blocks, &mut ours).unwrap();
        assert_same_bits(dtype, &ours, &theirs);
    }
}

/// The formula that kernels build on gives the same bits as gguf, not only as this crate's `dequantize`.
#[test]
fn codes_and_their_formula_give_what_gguf_gives() {
    let mut golden = Golden::open();
    for dtype in DType::ALL {
        let (blocks, theirs) = golden.blocks(dtype);
        let Some(grid) = dtype.grid() else { continue };
        let mut unpacked = Codes::default();
        let theirs = theirs.chunks_exact(dtype.block_len());
        for (block, theirs) in blocks.chunks_exact(dtype.block_bytes()).zip(theirs) {
            codes(dtype, block, &mut unpacked).unwrap();
            let ours: Vec<f32> =
                (0..dtype.block_len()).map(|index| unpacked.weight(&grid, index).unwrap()).collect();
            assert_same_bits(dtype, &ours, theirs);
            let largest = unpacked.codes[..dtype.block_len()].iter().max().unwrap();
            assert!(u32::from(*largest) < 1 << grid.code_bits, "{dtype}: code {largest}");
        }
    }
}

#[test]
fn quantizes_as_gguf_does_where_gguf_can() {
    let mut golden = Golden::open();
    for dtype in DType::ALL {
        golden.blocks(dtype);
    }
    let values = golden.floats(512);
    for dtype in ROUNDED {
        let size = dtype.bytes(values.len()).unwrap();
        let mut ours = vec![0; size];
        quantize(dtype, &values, &mut ours).unwrap();
        let theirs = golden.bytes(size);
        for (index, (ours, theirs)) in
            ours.chunks(dtype.block_bytes()).zip(theirs.chunks(dtype.block_bytes())).enumerate()
        {
            assert_eq!(ours, theirs, "{dtype}: block {index}");
        }
    }
    assert!(golden.0.is_empty(), "golden.bin holds more than this test reads");
}
