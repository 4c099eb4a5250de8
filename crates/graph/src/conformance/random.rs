//! Random numbers, blocks and weights.

use std::borrow::Cow;
use std::collections::HashMap;

use autarky_quant::DType;

use crate::device::{Tensor, Weights};
use crate::error::WeightError;
use crate::graph::Graph;

/// SplitMix64 (Steele et al. 2014): small, seedable, the same everywhere.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator that the seed decides.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A whole number below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// Evenly within 0..1.
    pub fn uniform(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// About normal with mean 0 and deviation 1 (the sum of twelve uniforms; Irwin-Hall).
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }

    /// `n` normals times `deviation`.
    pub fn normals(&mut self, n: usize, deviation: f32) -> Vec<f32> {
        (0..n).map(|_| self.normal() * deviation).collect()
    }

    /// Puts a slice in random order (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// Random bytes of `elements` numbers of a type, of magnitude about `size`: every code occurs, scales are sane.
pub(super) fn random_bytes(rng: &mut Rng, dtype: DType, elements: usize, size: f32) -> Vec<u8> {
    // Where a block keeps its 16-bit scales, and the largest whole number that the first one multiplies.
    let (scales, largest): (&[usize], f32) = match dtype {
        DType::F32 => return rng.normals(elements, size).iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::F16 => {
            return rng.normals(elements, size).iter().flat_map(|x| half_bits(*x).to_le_bytes()).collect();
        }
        DType::BF16 => {
            let upper = |x: &f32| ((x.to_bits() >> 16) as u16).to_le_bytes();
            return rng.normals(elements, size).iter().flat_map(upper).collect();
        }
        DType::Q4_0 => (&[0], 8.0),
        DType::Q4_1 => (&[0, 2], 15.0),
        DType::Q5_0 => (&[0], 16.0),
        DType::Q5_1 => (&[0, 2], 31.0),
        DType::Q8_0 => (&[0], 128.0),
        DType::Q2_K => (&[80, 82], 15.0 * 3.0),
        DType::Q3_K => (&[108], 32.0 * 4.0),
        DType::Q4_K => (&[0, 2], 63.0 * 15.0),
        DType::Q5_K => (&[0, 2], 63.0 * 31.0),
        DType::Q6_K => (&[208], 128.0 * 32.0),
        DType::IQ4_NL => (&[0], 127.0),
        DType::IQ4_XS => (&[0], 32.0 * 127.0),
        DType::MXFP4 => (&[], 12.0),
    };
    let mut bytes: Vec<u8> =
        (0..elements / dtype.block_len() * dtype.block_bytes()).map(|_| rng.bits() as u8).collect();
    for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
        for at in scales {
            let sign = if rng.uniform() < 0.5 { 1.0 } else { -1.0 };
            let scale = sign * (0.5 + rng.uniform()) * 2.0 * size / largest;
            block[*at..at + 2].copy_from_slice(&half_bits(scale).to_le_bytes());
        }
        if dtype == DType::MXFP4 {
            // 2^(byte − 127), and codes up to 6 in magnitude (12 halves).
            block[0] = (127.0 + (size / 3.0).log2()) as u8 + rng.below(3) as u8;
        }
    }
    bytes
}

/// The bits of a half-precision float near `x`, cut off, which is enough for random numbers.
fn half_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    let (sign, exponent) = ((bits >> 16) as u16 & 0x8000, (bits >> 23 & 0xff) as i32 - 127 + 15);
    let fraction = bits & 0x7f_ffff;
    match exponent {
        31.. => sign | 0x7bff,
        1..=30 => sign | (exponent as u16) << 10 | (fraction >> 13) as u16,
        -9..=0 => sign | ((fraction | 0x80_0000) >> (14 - exponent)) as u16,
        _ => sign,
    }
}

/// Weights made up for a graph, each of a chosen type.
pub struct RandomWeights {
    tensors: HashMap<String, (DType, Vec<usize>, Vec<u8>)>,
}

impl RandomWeights {
    /// Weights for `graph` with the type that `dtype` says for a name, scaled so that values neither vanish nor grow.
    pub fn new(rng: &mut Rng, graph: &Graph, dtype: impl Fn(&str) -> DType) -> RandomWeights {
        let tensors = graph.weights().iter().map(|w| {
            let (dtype, elements) = (dtype(&w.name), w.shape.iter().product());
            let size = (w.shape.last().copied().unwrap_or(1) as f32).sqrt().recip();
            let bytes = match w.shape.len() {
                // Gains, shifts and other vectors lie about 1.
                1 => rng.normals(elements, 0.3).iter().flat_map(|x| (1.0 + x).to_le_bytes()).collect(),
                _ => random_bytes(rng, dtype, elements, size),
            };
            let dtype = if w.shape.len() == 1 { DType::F32 } else { dtype };
            (w.name.clone(), (dtype, w.shape.clone(), bytes))
        });
        RandomWeights { tensors: tensors.collect() }
    }
}

impl Weights for RandomWeights {
    fn get(&self, name: &str) -> Result<Tensor<'_>, WeightError> {
        let Some((dtype, shape, bytes)) = self.tensors.get(name) else {
            return Err(WeightError::Missing {
                name: name.to_owned(),
                hint: "it was not made up".to_owned(),
            });
        };
        // In pieces, as stacked tensors come.
        let half = shape[0] / 2 * (bytes.len() / shape[0].max(1));
        let parts = match shape.len() {
            0 | 1 => vec![Cow::Borrowed(bytes.as_slice())],
            _ => [&bytes[..half], &bytes[half..]]
                .into_iter()
                .filter(|p| !p.is_empty())
                .map(Cow::Borrowed)
                .collect(),
        };
        Ok(Tensor { dtype: *dtype, shape: shape.clone(), parts })
    }
}
