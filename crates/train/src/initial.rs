//! The weights that a model made from nothing begins with.

use autarky_graph::conformance::Rng;
use autarky_graph::{Graph, Tensor, WeightError, WeightSpec, Weights};

/// Weights drawn at random: matrices about normal with deviation √(2 / 5d), d being the model's width (Nguyen & Salazar
/// 2019, arXiv:1910.05895); those that write into the stream between layers smaller by √(2 · layers) (Radford et al.
/// 2019, GPT-2); gains 1, biases 0.
///
/// A weight depends on the seed and its name alone, and so not on what else the model has.
#[derive(Clone, Debug)]
pub struct Initial {
    specs: Vec<WeightSpec>,
    deviation: f32,
    layers: usize,
    seed: u64,
}

impl Initial {
    /// The weights of `graph`, a model of so many layers and such a width.
    pub fn new(graph: &Graph, layers: usize, width: usize, seed: u64) -> Initial {
        let deviation = (2.0 / (5.0 * width.max(1) as f32)).sqrt();
        Initial { specs: graph.weights().to_vec(), deviation, layers: layers.max(1), seed }
    }

    fn numbers(&self, spec: &WeightSpec) -> Vec<f32> {
        let n = spec.shape.iter().product();
        if spec.name.ends_with(".bias") {
            return vec![0.0; n];
        }
        if spec.shape.len() == 1 {
            return vec![1.0; n];
        }
        let writes = ["attn_output.", "ffn_down.", "ffn_down_exps.", "ffn_down_shexp."];
        let residual = writes.iter().any(|w| spec.name.contains(w));
        let part = if residual { 1.0 / (2.0 * self.layers as f32).sqrt() } else { 1.0 };
        Rng::new(seed_of(&spec.name, self.seed)).normals(n, self.deviation * part)
    }
}

/// A seed of its own for every name (FNV-1a).
pub(crate) fn seed_of(name: &str, seed: u64) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Weights for Initial {
    fn get(&self, name: &str) -> Result<Tensor<'_>, WeightError> {
        let spec = self.specs.iter().find(|s| s.name == name).ok_or_else(|| WeightError::Missing {
            name: name.to_owned(),
            hint: "the model's graph has no such weight".to_owned(),
        })?;
        Ok(Tensor::of_f32(&spec.shape, &self.numbers(spec)))
    }
}
