//! Attention blocks.

use autarky_graph::{Attention, ValueId};

use crate::config::LatentConfig;
use crate::decoder::{Built, Layer};

/// Grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245) with rotary positions: `[tokens, width]` → the same.
///
/// Covers multi-head (as many key heads as query heads) and multi-query attention (one), biases, norms of each query
/// and key head (Qwen 3), and sliding windows (Mistral), as the configuration says.
pub(crate) fn grouped_query(layer: &mut Layer<'_>, x: ValueId) -> Built {
    let c = layer.config;
    let mut project = |name, heads: usize| {
        let projected = layer.linear(x, name, heads * c.head_width, c.biases.qkv)?;
        layer.graph.reshape(projected, &[heads, c.head_width])
    };
    let (mut q, mut k, v) =
        (project("attn_q", c.heads)?, project("attn_k", c.kv_heads)?, project("attn_v", c.kv_heads)?);
    if c.head_norms {
        q = layer.norm(q, "attn_q_norm", c.norm_epsilon)?;
        k = layer.norm(k, "attn_k_norm", c.norm_epsilon)?;
    }
    layer.scope("attn_q_rope");
    q = layer.graph.rope(q, layer.rope.clone())?;
    layer.scope("attn_k_rope");
    k = layer.graph.rope(k, layer.rope.clone())?;

    layer.scope("attention");
    let attention = Attention {
        cache: layer.graph.cache(c.kv_heads, c.head_width, c.head_width),
        scale: 1.0 / (c.head_width as f32).sqrt(),
        window: c.windows.get(layer.index).copied().flatten(),
        softcap: None,
        sinks: None,
    };
    let heads = layer.graph.attention(q, k, v, attention)?;
    let joined = layer.graph.reshape(heads, &[c.heads * c.head_width])?;
    layer.linear(joined, "attn_output", c.width, c.biases.attention_output)
}

/// Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1) in its absorbed form: `[tokens, width]` →
/// the same.
///
/// Of each position only the latent c (`rank` numbers) and the shared turning part of the key are kept. A head's key
/// would be W_k c and its value W_v c, so that q·(W_k c) = (W_kᵀ q)·c: queries are taken into the latent space, all
/// heads attend to the one latent, and what comes out is taken to values by W_v.
pub(crate) fn latent(layer: &mut Layer<'_>, x: ValueId, m: &LatentConfig) -> Built {
    let c = layer.config;
    let query_width = m.nope + m.rope;

    let q = match m.query_rank {
        None => layer.linear(x, "attn_q", c.heads * query_width, false)?,
        Some(rank) => {
            let down = layer.linear(x, "attn_q_a", rank, false)?;
            let normed = layer.norm(down, "attn_q_a_norm", m.norm_epsilon)?;
            layer.linear(normed, "attn_q_b", c.heads * query_width, false)?
        }
    };
    let q = layer.graph.reshape(q, &[c.heads, query_width])?;
    layer.scope("attn_q_nope");
    let q_nope = layer.graph.slice(q, 0, m.nope)?;
    layer.scope("attn_k_b");
    let to_latent = layer.weight("attn_k_b.weight", &[c.heads, m.rank, m.nope])?;
    let q_latent = layer.graph.head_linear(q_nope, to_latent)?;
    layer.scope("attn_q_rope");
    let q_rope = layer.graph.slice(q, m.nope, m.rope)?;
    let q_rope = layer.graph.rope(q_rope, layer.rope.clone())?;
    let q = layer.graph.concat(q_latent, q_rope)?;

    let kv = layer.linear(x, "attn_kv_a_mqa", m.rank + m.rope, false)?;
    layer.scope("attn_kv_latent");
    let latent = layer.graph.slice(kv, 0, m.rank)?;
    let latent = layer.norm(latent, "attn_kv_a_norm", m.norm_epsilon)?;
    let latent = layer.graph.reshape(latent, &[1, m.rank])?;
    layer.scope("attn_k_rope");
    let k_rope = layer.graph.slice(kv, m.rank, m.rope)?;
    let k_rope = layer.graph.reshape(k_rope, &[1, m.rope])?;
    let k_rope = layer.graph.rope(k_rope, layer.rope.clone())?;
    let k = layer.graph.concat(latent, k_rope)?;

    layer.scope("attention");
    let attention = Attention {
        cache: layer.graph.cache(1, m.rank + m.rope, m.rank),
        scale: (c.rope.score_factor() / (query_width as f64).sqrt()) as f32,
        window: None,
        softcap: None,
        sinks: None,
    };
    let heads = layer.graph.attention(q, k, latent, attention)?;
    layer.scope("attn_v_b");
    let to_values = layer.weight("attn_v_b.weight", &[c.heads, m.value, m.rank])?;
    let heads = layer.graph.head_linear(heads, to_values)?;
    let joined = layer.graph.reshape(heads, &[c.heads * m.value])?;
    layer.linear(joined, "attn_output", c.width, false)
}
