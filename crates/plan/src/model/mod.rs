//! What a prediction needs to know of a model: its work by kind of op.
//!
//! [`Model::from_graph`] sums a family's graph op by op; [`Model::from_shape`] makes the same sums from published sizes,
//! for models of which only those are known. Both agree where both are possible (tests/models.rs).
//!
//! Module map: `graph` sums over a graph · `shape` sums from published sizes · `catalog` models known by name ·
//! `open` a model from a path or a name · `config` sizes of families that are not known.

mod catalog;
mod config;
mod graph;
mod open;
mod shape;

pub use catalog::{Models, UnknownModel};
pub use open::OpenError;
pub use shape::Shape;

/// The work of a model, in numbers (not bytes) and operations. A multiplication and an addition are two operations.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// What it is called.
    pub name: String,
    /// Numbers that stand for a token between layers.
    pub width: f64,
    /// Layers.
    pub layers: f64,
    /// Query heads.
    pub heads: f64,
    /// Key and value heads, over which tensor parallelism can cut the cache; 1 for latent attention.
    pub kv_heads: f64,
    /// Whether keys and values are made from one latent (MLA).
    pub latent: bool,
    /// Entries of the vocabulary.
    pub vocabulary: f64,
    /// Hidden numbers of a token in a feed-forward block.
    pub feed_forward: f64,
    /// Numbers in the embedding table, of which a token reads one row.
    pub embedding: f64,
    /// Numbers of weights that every token meets, the output table among them.
    pub dense: f64,
    /// Experts.
    pub mixture: Option<Mixture>,
    /// Attention, by kind of layer.
    pub attention: Vec<Attention>,
    /// Keys that a query looks at where attention is sparse (DeepSeek-V3.2's indexer), or none.
    pub sparse: Option<f64>,
    /// What was assumed where published sizes do not say.
    pub assumed: Vec<&'static str>,
}

/// A mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mixture {
    /// Layers that have experts.
    pub layers: f64,
    /// Experts in a layer.
    pub count: f64,
    /// Experts that a token uses.
    pub per_token: f64,
    /// Numbers in one expert.
    pub expert: f64,
    /// Hidden numbers of an expert.
    pub feed_forward: f64,
}

/// Layers that attend in one way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// How many.
    pub layers: f64,
    /// Sliding window in positions, or none.
    pub window: Option<f64>,
    /// Operations for a query and a key, all heads, when keys and values are read from the cache.
    pub decode_pair: f64,
    /// The same when keys and values of many positions are made at once (latent attention is cheaper then).
    pub prefill_pair: f64,
    /// Numbers of cache a position takes.
    pub cache: f64,
}

impl Model {
    /// Numbers in all weights.
    pub fn total(&self) -> f64 {
        self.embedding + self.dense + self.mixture.map_or(0.0, |m| m.layers * m.count * m.expert)
    }

    /// Numbers of weights that one token is multiplied with.
    pub fn active(&self) -> f64 {
        self.dense + self.active_experts()
    }

    /// Those of them in experts.
    pub fn active_experts(&self) -> f64 {
        self.mixture.map_or(0.0, |m| m.layers * m.per_token * m.expert)
    }

    /// Numbers in all experts.
    pub fn experts(&self) -> f64 {
        self.mixture.map_or(0.0, |m| m.layers * m.count * m.expert)
    }

    /// Numbers of cache that a sequence of `context` positions takes.
    pub fn cache(&self, context: f64) -> f64 {
        self.attention.iter().map(|a| a.layers * a.cache * a.window.map_or(context, |w| w.min(context))).sum()
    }

    /// Operations of attention for one token that sees `context` positions.
    pub fn attention_flops(&self, context: f64, decoding: bool) -> f64 {
        let sparse = self.sparse.map_or(f64::INFINITY, |k| if decoding { k } else { 2.0 * k });
        self.attention
            .iter()
            .map(|a| {
                let pair = if decoding { a.decode_pair } else { a.prefill_pair };
                a.layers * pair * a.window.map_or(context, |w| w.min(context)).min(sparse)
            })
            .sum()
    }

    /// Kernels of a layer, against a dense one's dozen with grouped heads: routing, sorting and joining experts add six;
    /// latent attention, with its two projections down, their norms and the two products that its absorbed form puts
    /// around attention, a dozen; an indexer ten more.
    pub fn kernels(&self) -> f64 {
        let has = |what: bool, count: f64| if what { count / 12.0 } else { 0.0 };
        1.0 + has(self.mixture.is_some(), 6.0) + has(self.latent, 24.0) + has(self.sparse.is_some(), 10.0)
    }

    /// Operations of training on one token of a sequence of `length`: forward and twice that backward, causal.
    pub fn training_flops(&self, length: f64) -> f64 {
        6.0 * self.active() + 3.0 * self.attention_flops(length / 2.0, false)
    }
}
