//! Blocks on stdin to little-endian `f32` on stdout: `cargo run -p autarky-quant --example dequantize -- Q4_K`.
//! With `--codes` after the type each number is made from `codes` and the formula in its documentation instead.

use autarky_quant::{Codes, DType, codes, dequantize};
use std::error::Error;
use std::io::{Read, Write, stdin, stdout};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let name = arguments.first().ok_or("which type? give a name such as Q4_K")?;
    let dtype = DType::from_name(name).ok_or_else(|| format!("{name}: no such type"))?;
    let mut bytes = Vec::new();
    stdin().read_to_end(&mut bytes)?;
    let elements = bytes.len() / dtype.block_bytes() * dtype.block_len();
    let mut values = vec![0f32; elements];
    if arguments.iter().any(|argument| argument == "--codes") {
        let grid = dtype.grid().ok_or_else(|| format!("{dtype} has no codes"))?;
        let mut block = Codes::default();
        let blocks = bytes.chunks_exact(dtype.block_bytes());
        for (bytes, values) in blocks.zip(values.chunks_exact_mut(dtype.block_len())) {
            codes(dtype, bytes, &mut block)?;
            for (index, value) in values.iter_mut().enumerate() {
                *value = block.weight(&grid, index).ok_or("index beyond the block")?;
            }
        }
    } else {
        dequantize(dtype, &bytes, &mut values)?;
    }
    let out: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    stdout().write_all(&out)?;
    Ok(())
}
