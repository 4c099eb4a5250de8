//! Little-endian `f32` on stdin to blocks on stdout: `cargo run -p autarky-quant --example quantize -- Q4_K`.
//! The time it took goes to stderr.

use autarky_quant::{DType, quantize};
use std::error::Error;
use std::io::{Read, Write, stdin, stdout};
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).ok_or("which type? give a name such as Q4_K")?;
    let dtype = DType::from_name(&name).ok_or_else(|| format!("{name}: no such type"))?;
    let mut bytes = Vec::new();
    stdin().read_to_end(&mut bytes)?;
    let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let size = dtype.bytes(values.len()).ok_or_else(|| format!("{dtype}: not whole blocks"))?;
    let mut out = vec![0u8; size];
    let start = Instant::now();
    quantize(dtype, &values, &mut out)?;
    eprintln!("{dtype}: {:.1} ns an element", start.elapsed().as_nanos() as f64 / values.len() as f64);
    stdout().write_all(&out)?;
    Ok(())
}
