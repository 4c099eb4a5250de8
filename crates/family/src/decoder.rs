//! What all decoder families share: a stack of pre-norm blocks between an embedding table and an output table.
//!
//! Weights carry GGUF's names (`token_embd.weight`, `blk.3.attn_q.weight`, ...) whatever the checkpoint calls them.

use autarky_graph::{Builder, Graph, GraphError, Norm, NormKind, Rope, ValueId, WeightId};

use crate::config::Config;

/// A value, or why it cannot be.
pub(crate) type Built = Result<ValueId, GraphError>;

/// One layer while it is built.
pub(crate) struct Layer<'a> {
    /// The graph so far.
    pub(crate) graph: &'a mut Builder,
    /// The model's sizes.
    pub(crate) config: &'a Config,
    /// The layer's place, from 0.
    pub(crate) index: usize,
    /// The model's rotary embedding of a head's first numbers.
    pub(crate) rope: &'a Rope,
}

/// A decoder: in every layer x + attention(norm x), then x + feed_forward(norm x); the logits of the wanted tokens.
///
/// Both functions get the normed values `[tokens, width]` and give back as many. The last layer's feed-forward block
/// runs for the wanted tokens only.
pub(crate) fn decoder(
    config: &Config,
    attention: fn(&mut Layer<'_>, ValueId) -> Built,
    feed_forward: fn(&mut Layer<'_>, ValueId) -> Built,
) -> Result<Graph, GraphError> {
    let mut graph = Builder::new();
    let rope = config.rope.op(0);

    graph.scope("embed");
    let table = graph.weight("token_embd.weight", &[config.vocabulary, config.width])?;
    let mut x = graph.embed(table)?;

    for index in 0..config.layers {
        let layer = &mut Layer { graph: &mut graph, config, index, rope: &rope };
        let normed = layer.norm(x, "attn_norm", config.norm_epsilon)?;
        let mut attended = attention(layer, normed)?;
        if index + 1 == config.layers {
            layer.scope("select");
            x = layer.graph.select(x)?;
            attended = layer.graph.select(attended)?;
        }
        layer.scope("attn_residual");
        x = layer.graph.add(x, attended)?;

        let normed = layer.norm(x, "ffn_norm", config.norm_epsilon)?;
        let fed = feed_forward(layer, normed)?;
        layer.scope("ffn_residual");
        x = layer.graph.add(x, fed)?;
    }

    graph.scope("output_norm");
    let gain = graph.weight("output_norm.weight", &[config.width])?;
    let normed = graph.norm(x, rms(gain, config.norm_epsilon))?;
    graph.scope("output");
    let table = match config.tied {
        true => table,
        false => graph.weight("output.weight", &[config.vocabulary, config.width])?,
    };
    let logits = graph.linear(normed, table, None)?;
    Ok(graph.finish(&[logits, normed]))
}

fn rms(gain: WeightId, epsilon: f32) -> Norm {
    Norm { kind: NormKind::Rms, epsilon, weight: Some(gain), bias: None }
}

impl Layer<'_> {
    /// Labels the ops that follow.
    pub(crate) fn scope(&mut self, name: &str) {
        self.graph.scope(format!("layers.{}.{name}", self.index));
    }

    /// The layer's weight `name` (with its ending, `.weight` or `.bias`).
    pub(crate) fn weight(&mut self, name: &str, shape: &[usize]) -> Result<WeightId, GraphError> {
        self.graph.weight(&format!("blk.{}.{name}", self.index), shape)
    }

    /// The root-mean-square norm of the last dimension, with the gain `name`.
    pub(crate) fn norm(&mut self, x: ValueId, name: &str, epsilon: f32) -> Built {
        self.scope(name);
        let width = self.graph.shape(x).last();
        let gain = self.weight(&format!("{name}.weight"), &[width])?;
        self.graph.norm(x, rms(gain, epsilon))
    }

    /// The projection `name` to `out` numbers, with its bias if the model has one.
    pub(crate) fn linear(&mut self, x: ValueId, name: &str, out: usize, bias: bool) -> Built {
        self.scope(name);
        let width = self.graph.shape(x).last();
        let weight = self.weight(&format!("{name}.weight"), &[out, width])?;
        let bias = if bias { Some(self.weight(&format!("{name}.bias"), &[out])?) } else { None };
        self.graph.linear(x, weight, bias)
    }
}
