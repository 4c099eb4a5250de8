//! One dial for a model's size: its depth. Everything else follows by rules that others measured.
//!
//! | what | rule | from |
//! | --- | --- | --- |
//! | width | 64 · depth: the ratio at which loss is flat around its best | Kaplan et al. 2020, arXiv:2001.08361, fig. 5 |
//! | heads | of 64 numbers | Vaswani et al. 2017, arXiv:1706.03762 |
//! | feed-forward | 8/3 · width, gated | Shazeer 2020, arXiv:2002.05202 |
//! | tokens | 20 for a parameter | Hoffmann et al. 2022, arXiv:2203.15556 |
//! | tokens of a step | 0.2920 · C^0.3271 | DeepSeek LLM, arXiv:2401.02954, section 3.1 |
//! | learning rate | 0.3118 · C^-0.1250 | the same |
//!
//! C is the computation of the whole run: 6 operations for a parameter and token. The last two rules were measured with
//! C from 1e17 to 2e19. Smaller runs have the learning rate of 1e17: what the rule says of them is more than they bear.

use serde_json::{Map, Value as Json, json};

const RATIO: usize = 64;
const HEAD: usize = 64;

/// The least computation for which the rules were measured.
const LEAST: f64 = 1e17;

/// The `config.json` of a new model of a family, so many layers deep.
pub fn shape(family: &str, depth: usize, vocabulary: usize, context: usize) -> Map<String, Json> {
    let width = RATIO * depth;
    let heads = width / HEAD;
    let feed_forward = (8 * width / 3).next_multiple_of(32);
    let shape = json!({
        "model_type": family,
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": feed_forward,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": HEAD,
        "max_position_embeddings": context,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": true,
    });
    match shape {
        Json::Object(shape) => shape,
        _ => Map::new(),
    }
}

/// The tokens that a new model of so many parameters is best trained on.
pub fn tokens(parameters: u64) -> u64 {
    20 * parameters
}

/// Tokens of a step, for a run of so many tokens.
pub fn batch(parameters: u64, tokens: u64) -> usize {
    (0.2920 * libm::pow(computation(parameters, tokens), 0.3271)) as usize
}

/// The highest learning rate, for a run of so many tokens.
pub fn learning_rate(parameters: u64, tokens: u64) -> f32 {
    (0.3118 * libm::pow(computation(parameters, tokens).max(LEAST), -0.1250)) as f32
}

fn computation(parameters: u64, tokens: u64) -> f64 {
    6.0 * parameters as f64 * tokens as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_give_what_their_authors_used() {
        // DeepSeek LLM 7B on 2e12 tokens: 2304 x 4096 tokens a step and 4.2e-4.
        let (parameters, tokens) = (6_900_000_000, 2_000_000_000_000);
        let (batch, rate) = (batch(parameters, tokens) as f64, learning_rate(parameters, tokens));
        assert!((batch / 9_437_184.0 - 1.0).abs() < 0.1, "{batch}");
        assert!((rate / 4.2e-4 - 1.0).abs() < 0.1, "{rate}");
    }
}
