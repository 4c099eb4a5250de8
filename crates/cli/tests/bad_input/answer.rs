//! What the commands say to a file: everything that `inspect`, `tokenize`, `run` and `logits` do with it, in process.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use autarky_cpu::{Cpu, CpuOptions};
use autarky_engine::{Engine, EngineError, Options, Sequence, memory};
use autarky_family::Model;
use autarky_graph::reference::Reference;
use autarky_graph::{CacheDType, Device, Limits};
use autarky_text::{ChatTemplate, EncodeOptions, Message, RenderOptions, Spec, Tokenizer};

use crate::memory::peak;

/// The most that answering may allocate.
pub(crate) const MEMORY: usize = 64 << 20;

/// What came of a file.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The error's text; `None` when all went well.
    pub(crate) error: Option<String>,
    /// The most bytes that were allocated at a time.
    pub(crate) peak: usize,
}

/// Asks everything of the model at `path`.
///
/// # Panics
/// With `what`, when anything panics.
pub(crate) fn answer(what: &str, path: &Path) -> Answer {
    let (result, peak) = peak(|| catch_unwind(AssertUnwindSafe(|| everything(path))));
    match result {
        Ok(result) => Answer { error: result.err(), peak },
        Err(_) => panic!("{what}: panicked"),
    }
}

fn everything(path: &Path) -> Result<(), String> {
    let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let model = Model::open(path).map_err(|e| e.to_string())?;
    let _ = memory::estimate(model.graph(), 0, &Limits::single(64, 8, CacheDType::F16));

    // The commands put the path before what is wrong with a tokenizer or a template.
    let spec = match model.source().metadata() {
        Some(metadata) => Spec::from_gguf(metadata),
        None => Spec::from_hugging_face(path),
    };
    let tokenizer = spec.and_then(|s| Tokenizer::new(&s)).map_err(|e| named(&e))?;
    let options = EncodeOptions { add_special: true, parse_special: true };
    let ids = tokenizer.encode("abc \u{1f600}", options).map_err(|e| named(&e))?;
    tokenizer.decode(&ids, false).map_err(|e| named(&e))?;
    if let Some(source) = tokenizer.chat_template() {
        let template = ChatTemplate::new(source).map_err(|e| named(&e))?;
        let messages =
            [Message::new("user", "abc"), Message::new("assistant", "a"), Message::new("user", "b")];
        let text = template.render(&messages, &RenderOptions::for_generation(&tokenizer));
        tokenizer.encode(&text.map_err(|e| named(&e))?, options).map_err(|e| named(&e))?;
    }

    logits(&model, &Reference).map_err(|e| named(&e))?;
    CPU.with(|cpu| logits(&model, cpu)).map_err(|e| named(&e))
}

thread_local! {
    static CPU: Cpu = Cpu::new(CpuOptions { threads: Some(2), ..CpuOptions::default() }).expect("the best there is");
}

/// The logits of a few tokens.
fn logits(model: &Model, device: &dyn Device) -> Result<(), EngineError> {
    let options =
        Options { context: 8, sequences: 1, positions: None, chunk: 4, outputs: 4, cache: CacheDType::F32 };
    let mut engine = Engine::new(device, Arc::clone(model.graph()), model.weights(), options)?;
    let mut sequence = Sequence::new();
    sequence.push(&[1, 0, 0, 0, 0]);
    let mut seen = 0;
    engine.each_logits(&mut sequence, &mut |_, logits| -> Result<(), EngineError> {
        seen += logits.len();
        Ok(())
    })?;
    assert_eq!(seen, 5 * model.config().vocabulary);
    Ok(())
}
