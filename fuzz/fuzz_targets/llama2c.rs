//! llama2.c checkpoints and tokenizers, which are only read from files.
#![no_main]

use autarky_format::llama2c::{Checkpoint, Tokenizer};
use autarky_fuzz::{bounded, file};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = file("llama2c.bin", bytes);
    bounded(|| {
        if let Ok(checkpoint) = Checkpoint::read(&path) {
            for name in checkpoint.names() {
                let view = checkpoint.tensor(name).expect("a listed tensor is there");
                assert_eq!(view.data.len(), 4 * view.elements());
            }
        }
        // How many tokens there are stands in another file.
        let sizes = [0, 1, 2, 512, usize::MAX];
        for size in sizes {
            if let Ok(tokenizer) = Tokenizer::read(&path, size) {
                assert_eq!(tokenizer.pieces.len(), size);
            }
        }
    });
});
