//! Every family against an independent implementation: tiny checkpoints with the logits that it computed.

mod support;

use autarky_family::Model;
use support::{Expected, check, checkpoints};

#[test]
fn logits_and_greedy_tokens_are_those_of_another_implementation() {
    for c in checkpoints() {
        let model = Model::open(&c.folder).unwrap();
        assert_eq!(model.family(), c.family, "{}", c.name);
        assert_eq!(model.warnings(), [""; 0], "{}", c.name);
        check(&model, &Expected::read(&c.folder), 1e-3, c.name);
    }
}
