//! Sums over a family's graph.

use std::collections::HashSet;

use autarky_family::Config;
use autarky_graph::{Graph, Op};

use super::{Attention, Mixture, Model};

impl Model {
    /// The work of `graph`, op by op. `config` tells what the graph's ops do not: how latent attention is computed when
    /// many positions are filled at once (arXiv:2405.04434).
    pub fn from_graph(name: &str, config: &Config, graph: &Graph) -> Model {
        let numbers = |id| graph.weight(id).shape.iter().map(|&n| n as f64).product::<f64>();
        let mut model = Model {
            name: name.to_owned(),
            width: config.width as f64,
            layers: config.layers as f64,
            heads: config.heads as f64,
            kv_heads: config.kv_heads as f64,
            latent: config.latent.is_some(),
            vocabulary: config.vocabulary as f64,
            feed_forward: config.feed_forward as f64,
            embedding: 0.0,
            dense: 0.0,
            mixture: None,
            attention: Vec::new(),
            sparse: None,
            assumed: Vec::new(),
        };
        let mut tables = HashSet::new();
        for node in graph.nodes() {
            match &node.op {
                Op::Embed { table } => {
                    tables.insert(*table);
                    model.embedding += numbers(*table);
                }
                Op::Experts(e) => {
                    let shape = &graph.weight(e.gate).shape;
                    let count = shape.first().map_or(1.0, |&n| n as f64);
                    let mixture = model.mixture.get_or_insert(Mixture {
                        layers: 0.0,
                        count,
                        per_token: node.args.get(1).map_or(1.0, |a| graph.node(*a).shape.width() as f64),
                        expert: node.op.weights().iter().map(|w| numbers(*w)).sum::<f64>() / count,
                        feed_forward: shape.get(1).map_or(0.0, |&n| n as f64),
                    });
                    mixture.layers += 1.0;
                }
                Op::Attention(a) => {
                    let Some(spec) = graph.caches().get(a.cache.index()) else { continue };
                    let heads = config.heads as f64;
                    let decode_pair = 2.0 * heads * (spec.key_width + spec.value_width) as f64;
                    let prefill_pair = config
                        .latent
                        .map_or(decode_pair, |l| 2.0 * heads * (l.nope + l.rope + l.value) as f64);
                    // The latent is stored once, whatever this project's own cache does today.
                    let cache = config.latent.map_or(spec.width() as f64, |l| (l.rank + l.rope) as f64);
                    model.attend(Attention {
                        layers: 1.0,
                        window: a.window.map(|w| w as f64),
                        decode_pair,
                        prefill_pair,
                        cache,
                    });
                }
                op => model.dense += op.weights().iter().map(|w| numbers(*w)).sum::<f64>(),
            }
        }
        if config.tied {
            // The one table is counted as output already; no second one is stored.
            model.embedding = 0.0;
        }
        if model.feed_forward == 0.0 {
            model.feed_forward = model.mixture.map_or(0.0, |m| m.feed_forward * m.per_token);
        }
        model
    }

    /// Adds layers to those of their kind.
    pub(super) fn attend(&mut self, kind: Attention) {
        let same = |a: &&mut Attention| {
            a.window == kind.window && a.cache == kind.cache && a.decode_pair == kind.decode_pair
        };
        match self.attention.iter_mut().find(same) {
            Some(known) => known.layers += kind.layers,
            None => self.attention.push(kind),
        }
    }
}
