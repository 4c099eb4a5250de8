//! What is asked of chips.

use crate::model::{Model, Models};
use crate::predict::Format;
use crate::runs::Kind;

/// How narrow numbers may be.
#[derive(Clone, Debug, PartialEq)]
pub enum Precision {
    /// BF16 or FP16.
    Half,
    /// FP8 where a chip has it, else INT8, else weights of 8 bits and products in half precision.
    Eight,
    /// This format and no other.
    Exactly(Format),
}

/// A piece of work.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// A heading for it.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The model.
    pub model: Model,
    /// How narrow numbers may be.
    pub precision: Precision,
    /// Tokens of a prompt, or of a training sequence.
    pub input: f64,
    /// Tokens of an answer.
    pub output: f64,
    /// Sequences in flight over all chips; none: as many as memory and software allow. In training, those of an
    /// iteration.
    pub concurrency: Option<f64>,
    /// Chips to run on; none: the fewest that hold the model.
    pub chips: Option<f64>,
}

/// Work that chips are often bought for: one sequence decoded, a prompt of 4096 tokens, busy serving of a dense model and
/// of one with experts, and training.
pub fn typical() -> Vec<Work> {
    let model = |name: &str| Models::find(name).ok().and_then(|s| Model::from_shape(s).ok());
    let (Some(small), Some(dense), Some(mixed)) =
        (model("Meta-Llama-3.1-8B"), model("Qwen3-32B"), model("DeepSeek-V3"))
    else {
        return Vec::new();
    };
    let work = |name: &str, kind, model: &Model, precision, sizes: (f64, f64), concurrency, chips| Work {
        name: name.to_owned(),
        kind,
        model: model.clone(),
        precision,
        input: sizes.0,
        output: sizes.1,
        concurrency,
        chips,
    };
    use Precision::{Eight, Half};
    vec![
        work("decode, one sequence (8B)", Kind::Decode, &small, Half, (1024.0, 512.0), Some(1.0), Some(1.0)),
        work("prefill of 4096 (8B)", Kind::Prefill, &small, Half, (4096.0, 0.0), Some(1.0), Some(1.0)),
        work("busy serving, dense (32B)", Kind::Serve, &dense, Half, (1024.0, 512.0), Some(256.0), Some(8.0)),
        work(
            "busy serving, experts (671B)",
            Kind::Serve,
            &mixed,
            Eight,
            (2048.0, 1024.0),
            Some(2048.0),
            Some(32.0),
        ),
        work("training (8B)", Kind::Train, &small, Half, (4096.0, 0.0), Some(128.0), Some(8.0)),
    ]
}
