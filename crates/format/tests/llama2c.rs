//! llama2.c files: a small one made here, the real one where the checkout has it, and damaged ones.

use std::fs;
use std::path::{Path, PathBuf};

use autarky_format::Error;
use autarky_format::llama2c::{Checkpoint, Config, Tokenizer};

const STORIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/stories260k");

/// dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len.
const HEADER: [i32; 7] = [8, 12, 2, 2, 1, -5, 3];
/// Numbers of that model: embedding, per layer the nine weights, norm, two tables, classifier.
const NUMBERS: usize = 40 + 2 * (8 + 64 + 32 + 32 + 64 + 8 + 96 + 96 + 96) + 8 + 3 * 4 + 40;

/// A checkpoint whose number `i` is `i`.
fn checkpoint(header: [i32; 7], numbers: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = header.iter().flat_map(|n| n.to_le_bytes()).collect();
    bytes.extend((0..numbers).flat_map(|i| (i as f32).to_le_bytes()));
    bytes
}

fn write(folder: &Path, bytes: &[u8]) -> PathBuf {
    let path = folder.join("model.bin");
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn weights_are_found_by_name_in_llama2c_order() {
    let folder = tempfile::tempdir().unwrap();
    let model = Checkpoint::read(write(folder.path(), &checkpoint(HEADER, NUMBERS))).unwrap();
    assert_eq!(
        *model.config(),
        Config {
            dim: 8,
            hidden_dim: 12,
            n_layers: 2,
            n_heads: 2,
            n_kv_heads: 1,
            vocab_size: 5,
            seq_len: 3,
            shared_classifier: false
        }
    );
    let first = |name: &str| {
        let tensor = model.tensor(name).unwrap();
        (tensor.shape.to_vec(), tensor.f32s().unwrap()[0])
    };
    assert_eq!(first("tok_embeddings.weight"), (vec![5, 8], 0.0));
    assert_eq!(first("layers.0.attention_norm.weight"), (vec![8], 40.0));
    assert_eq!(first("layers.1.attention_norm.weight"), (vec![8], 48.0), "layers of one kind lie together");
    assert_eq!(first("layers.0.attention.wq.weight"), (vec![8, 8], 56.0));
    assert_eq!(first("layers.1.attention.wk.weight"), (vec![4, 8], 56.0 + 128.0 + 32.0));
    assert_eq!(
        first("layers.0.feed_forward.w2.weight"),
        (vec![8, 12], 56.0 + 128.0 * 2.0 + 128.0 + 16.0 + 192.0)
    );
    assert_eq!(first("output.weight"), (vec![5, 8], NUMBERS as f32 - 40.0));
    assert_eq!(model.names().count(), 1 + 9 * 2 + 1 + 2 + 1);
    assert!(model.tensor("layers.2.attention_norm.weight").is_none());
}

#[test]
fn every_cut_and_every_bad_size_is_a_typed_error() {
    let folder = tempfile::tempdir().unwrap();
    let whole = checkpoint(HEADER, NUMBERS);
    // Every byte of the header; in the weights a byte is like another.
    for length in (0..64).chain((64..whole.len()).step_by(61)) {
        let error = Checkpoint::read(write(folder.path(), &whole[..length])).unwrap_err();
        assert!(matches!(error, Error::Truncated { .. }), "cut at {length}: {error}");
    }
    let longer = [&whole[..], &[0]].concat();
    assert!(
        matches!(Checkpoint::read(write(folder.path(), &longer)), Err(Error::Invalid { .. })),
        "a byte too many"
    );
    for (place, field) in
        ["dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len"].iter().enumerate()
    {
        for value in [0, i32::MAX, i32::MIN, -1, 7] {
            let mut header = HEADER;
            header[place] = value;
            let error = Checkpoint::read(write(folder.path(), &checkpoint(header, NUMBERS))).unwrap_err();
            assert!(error.to_string().contains("model.bin"), "{field} = {value}: {error}");
            if value == 0 {
                assert_eq!(error.place().field, *field, "{error}");
                assert_eq!(error.place().offset, Some(4 * place as u64), "{error}");
            }
        }
    }
    let later = checkpoint([0x616b_3432, 1, 0, 0, 0, 0, 0], 64);
    let error = Checkpoint::read(write(folder.path(), &later)).unwrap_err();
    assert!(
        matches!(error, Error::Unsupported { .. }) && error.to_string().contains("--version 0"),
        "{error}"
    );
}

#[test]
fn tokenizers_hold_exactly_the_models_tokens() {
    let mut bytes = 3_i32.to_le_bytes().to_vec();
    for (score, text) in [(0.0_f32, &b"<s>"[..]), (-1.5, b""), (-2.0, b"\xffa")] {
        bytes.extend(score.to_le_bytes());
        bytes.extend((text.len() as i32).to_le_bytes());
        bytes.extend(text);
    }
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = Tokenizer::read(write(folder.path(), &bytes), 3).unwrap();
    assert_eq!(tokenizer.max_token_length, 3);
    assert_eq!((tokenizer.pieces[2].score, &*tokenizer.pieces[2].bytes), (-2.0, &b"\xffa"[..]));
    for length in 0..bytes.len() {
        let error = Tokenizer::read(write(folder.path(), &bytes[..length]), 3).unwrap_err();
        assert!(matches!(error, Error::Truncated { .. }), "cut at {length}: {error}");
    }
    for vocab_size in [2, 4, usize::MAX] {
        assert!(Tokenizer::read(write(folder.path(), &bytes), vocab_size).is_err(), "{vocab_size} tokens");
    }
    bytes[8..12].copy_from_slice(&(-1_i32).to_le_bytes());
    let error = Tokenizer::read(write(folder.path(), &bytes), 3).unwrap_err();
    assert!(error.to_string().contains("length of token 0"), "{error}");
}

#[test]
fn the_real_model_is_read() {
    let folder = Path::new(STORIES);
    if !folder.exists() {
        return;
    }
    let model = Checkpoint::read(folder.join("stories260K.bin")).unwrap();
    assert!(model.config().shared_classifier);
    assert_eq!(model.tensor("layers.4.feed_forward.w1.weight").unwrap().shape, [172, 64]);
    // The tables are the rotations of each position: their first row is that of position 0.
    assert!(model.tensor("freq_cis_real").unwrap().f32s().unwrap()[..4].iter().all(|x| *x == 1.0));
    let tokenizer = Tokenizer::read(folder.join("tok512.bin"), model.config().vocab_size).unwrap();
    assert_eq!(&*tokenizer.pieces[3].bytes, b"<0x00>");
}
