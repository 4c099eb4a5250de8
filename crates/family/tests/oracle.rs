//! Every family against an independent implementation: tiny checkpoints whose logits transformers computed.

mod support;

use autarky_family::Model;
use support::{Expected, check, oracle};

const FOLDERS: [(&str, &str); 10] = [
    ("llama", "llama"),
    ("llama_tied_rope3", "llama"),
    ("llama_yarn", "llama"),
    ("mistral_swa", "mistral"),
    ("mixtral", "mixtral"),
    ("qwen2", "qwen2"),
    ("qwen3", "qwen3"),
    ("qwen3_moe", "qwen3moe"),
    ("deepseek_v2", "deepseek2"),
    ("deepseek_v3", "deepseek2"),
];

#[test]
fn logits_and_greedy_tokens_are_those_of_transformers() {
    let Some(oracle) = oracle() else { return };
    for (name, family) in FOLDERS {
        let folder = oracle.join(name);
        let model = Model::open(&folder).unwrap();
        assert_eq!(model.family(), family);
        assert_eq!(model.warnings(), [""; 0], "{name}");
        check(&model, &Expected::read(&folder), 1e-3, name);
    }
}
