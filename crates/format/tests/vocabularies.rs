//! Real files made by others: the vocabularies of llama.cpp, where the checkout has them beside it.

use std::path::Path;
use std::time::Instant;

use autarky_format::gguf::File;

const VOCABULARIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vocab");

#[test]
fn every_vocabulary_is_read() {
    let Ok(folder) = Path::new(VOCABULARIES).read_dir() else { return };
    for path in
        folder.map(|entry| entry.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "gguf"))
    {
        let start = Instant::now();
        let file = File::open(&path).unwrap();
        let tokens = file.metadata().get_array_str("tokenizer.ggml.tokens").unwrap();
        let types = file.metadata().get_array_i32("tokenizer.ggml.token_type").unwrap();
        println!("{}: {} tokens in {:?}", path.display(), tokens.len(), start.elapsed());
        assert_eq!(tokens.len(), types.len(), "{}: a token without a type", path.display());
        assert!(file.tensors().is_empty(), "a vocabulary has no tensors");
    }
}
