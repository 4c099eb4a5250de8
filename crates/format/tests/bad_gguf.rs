//! GGUF files that are wrong in one way each: every answer is a typed error that names file, offset and field.
//!
//! Some of them also lie in `corpus/gguf`, as seeds for the fuzz target. After a change here write them anew with
//! `AUTARKY_BLESS=1 cargo test -p autarky-format --test bad_gguf`.

use std::fs;
use std::path::Path;

use autarky_format::Error;
use autarky_format::gguf::{File, Gguf};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/gguf");

const U32: u32 = 4;
const BOOL: u32 = 7;
const STR: u32 = 8;
const ARRAY: u32 = 9;

/// A file written by hand: every number can be wrong.
#[derive(Clone)]
struct Raw(Vec<u8>);

impl Raw {
    fn new(tensors: u64, keys: u64) -> Raw {
        Raw(Vec::new()).bytes(b"GGUF").u32(3).u64(tensors).u64(keys)
    }

    fn bytes(mut self, bytes: &[u8]) -> Raw {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u32(self, n: u32) -> Raw {
        self.bytes(&n.to_le_bytes())
    }

    fn u64(self, n: u64) -> Raw {
        self.bytes(&n.to_le_bytes())
    }

    fn str(self, s: &[u8]) -> Raw {
        self.u64(s.len() as u64).bytes(s)
    }

    /// A key and its value's type.
    fn key(self, key: &str, kind: u32) -> Raw {
        self.str(key.as_bytes()).u32(kind)
    }

    fn alignment(self, n: u32) -> Raw {
        self.key("general.alignment", U32).u32(n)
    }

    /// A tensor info with dimensions in the file's order.
    fn tensor(self, name: &str, dims: &[u64], kind: u32, offset: u64) -> Raw {
        let raw = self.str(name.as_bytes()).u32(dims.len() as u32);
        dims.iter().fold(raw, |raw, n| raw.u64(*n)).u32(kind).u64(offset)
    }

    /// Padding to a multiple of 32, and `n` bytes of data.
    fn data(mut self, n: usize) -> Raw {
        self.0.resize(self.0.len().next_multiple_of(32) + n, 0);
        self
    }
}

/// A small good file: three keys (one of them an array) and two tensors.
fn good() -> Raw {
    Raw::new(2, 3)
        .key("general.architecture", STR)
        .str(b"llama")
        .alignment(32)
        .key("tokens", ARRAY)
        .u32(STR)
        .u64(2)
        .str(b"a")
        .str(b"b")
        .tensor("x", &[4, 2], 0, 0)
        .tensor("y", &[32], 8, 32)
        .data(32 + 34)
}

/// The error's kind, in a word.
fn kind(error: &Error) -> &'static str {
    match error {
        Error::WrongFormat { .. } => "wrong format",
        Error::Unsupported { .. } => "unsupported",
        Error::Truncated { .. } => "truncated",
        Error::TooLarge { .. } => "too large",
        Error::Invalid { .. } => "invalid",
        Error::Duplicate { .. } => "duplicate",
        Error::WrongType { .. } => "wrong type",
        _ => "other",
    }
}

struct Case {
    what: String,
    raw: Raw,
    kind: &'static str,
    /// Part of the field's name.
    field: &'static str,
}

fn case(what: impl Into<String>, raw: Raw, kind: &'static str, field: &'static str) -> Case {
    Case { what: what.into(), raw, kind, field }
}

/// Numbers that are too large in some way for any count, length or size.
const HUGE: [u64; 4] = [1 << 31, 1 << 32, 1 << 63, u64::MAX];

fn cases() -> Vec<Case> {
    let tensor = |dims: &[u64], kind, offset| Raw::new(1, 0).tensor("x", dims, kind, offset).data(64);
    let key = |kind| Raw::new(0, 1).key("k", kind);
    let mut cases = vec![
        case("empty", Raw(Vec::new()), "truncated", "magic"),
        case("magic", Raw(b"GGML\x03\0\0\0".to_vec()), "wrong format", "magic"),
        case("version-0", Raw(b"GGUF".to_vec()).u32(0).u64(0).u64(0), "unsupported", "version"),
        case("version-1", Raw(b"GGUF".to_vec()).u32(1).u64(0).u64(0), "unsupported", "version"),
        case("version-4", Raw(b"GGUF".to_vec()).u32(4).u64(0).u64(0), "unsupported", "version"),
        case("big-endian", Raw(b"GGUF".to_vec()).u32(3 << 24).u64(0).u64(0), "unsupported", "version"),
        case(
            "key-not-utf8",
            Raw::new(0, 1).str(b"a\xff").u32(U32).u32(0),
            "invalid",
            "key of metadata entry 0",
        ),
        case(
            "key-too-long",
            Raw::new(0, 1).str(&[b'k'; 65_536]).u32(U32).u32(0),
            "too large",
            "key of metadata",
        ),
        case("key-twice", Raw::new(0, 2).key("k", U32).u32(1).key("k", U32).u32(1), "duplicate", "\"k\""),
        case("value-type-13", key(13).u64(0), "invalid", "type of metadata key \"k\""),
        case("value-not-utf8", key(STR).str(b"ab\xc3"), "invalid", "\"k\""),
        case("bool-2", key(BOOL).bytes(&[2]), "invalid", "\"k\""),
        case("bool-array-2", key(ARRAY).u32(BOOL).u64(3).bytes(&[0, 1, 2]), "invalid", "\"k\""),
        case("array-type-13", key(ARRAY).u32(13).u64(0), "invalid", "element type of metadata key \"k\""),
        case(
            "token-not-utf8",
            key(ARRAY).u32(STR).u64(2).str(b"a").str(b"\xed\xa0\x80"),
            "invalid",
            "string 1 of",
        ),
        case(
            "alignment-type",
            Raw::new(0, 1).key("general.alignment", STR).str(b"32"),
            "wrong type",
            "alignment",
        ),
        case("dims-none", tensor(&[], 0, 0), "invalid", "number of dimensions of tensor \"x\""),
        case("dims-five", tensor(&[1; 5], 0, 0), "invalid", "number of dimensions of tensor \"x\""),
        case(
            "dims-product-wraps-to-0",
            tensor(&[1 << 32, 1 << 32], 0, 0),
            "invalid",
            "shape of tensor \"x\"",
        ),
        case(
            "dims-product-wraps-to-4",
            tensor(&[(1 << 62) + 1, 4], 0, 0),
            "invalid",
            "shape of tensor \"x\"",
        ),
        case("dims-bytes-wrap-to-16", tensor(&[(1 << 62) + 4], 0, 0), "invalid", "shape of tensor \"x\""),
        case("row-not-whole-blocks", tensor(&[16, 2], 2, 0), "invalid", "shape of tensor \"x\""),
        case(
            "tensor-name-not-utf8",
            Raw::new(1, 0).str(b"\x80").u32(0).u32(0).u64(0),
            "invalid",
            "name of tensor 0",
        ),
        case(
            "tensor-twice",
            Raw::new(2, 0).tensor("x", &[1], 0, 0).tensor("x", &[1], 0, 32).data(64),
            "duplicate",
            "tensor \"x\"",
        ),
        case(
            "tensors-overlap",
            Raw::new(2, 0).tensor("x", &[16], 0, 0).tensor("y", &[16], 0, 32).data(128),
            "invalid",
            "data of tensor \"y\"",
        ),
        case(
            "tensors-at-one-place",
            Raw::new(2, 0).tensor("x", &[8], 0, 0).tensor("y", &[8], 0, 0).data(64),
            "invalid",
            "data of tensor",
        ),
        case("offset-not-aligned", tensor(&[1], 0, 4), "invalid", "data offset of tensor \"x\""),
        case("offset-past-end", tensor(&[1], 0, 64), "truncated", "data of tensor \"x\""),
        case("data-past-end", tensor(&[17], 0, 0), "truncated", "data of tensor \"x\""),
        // 5 + 8 bytes a level: the count is 1, the element an array again.
        case("arrays-nested-5", nested(5), "too large", "nesting of arrays"),
        case("arrays-nested-100000", nested(100_000), "too large", "nesting of arrays"),
    ];
    for alignment in [0, 3, 12, 33, u32::MAX] {
        let raw = Raw::new(0, 1).alignment(alignment);
        cases.push(case(format!("alignment-{alignment}"), raw, "invalid", "general.alignment"));
    }
    let far = Raw::new(1, 1).alignment(1 << 31).tensor("x", &[1], 0, 0).data(64);
    cases.push(case("alignment-beyond-file", far, "truncated", "data of tensor \"x\""));
    let array = |kind: u32| key(ARRAY).u32(kind);
    for n in HUGE {
        let mut add =
            |what: &str, raw, kind, field| cases.push(case(format!("{what}-{n:x}"), raw, kind, field));
        add("tensor-count", Raw::new(n, 0).data(64), "truncated", "tensor count");
        add("key-count", Raw::new(0, n).data(64), "truncated", "metadata key count");
        add("key-length", Raw::new(0, 1).u64(n).data(64), "truncated", "length of key of metadata entry 0");
        add("string-length", key(STR).u64(n).data(64), "truncated", "length of metadata key \"k\"");
        for kind in (0..13).filter(|k| *k != ARRAY) {
            add(
                "array-length",
                array(kind).u64(n).data(64),
                "truncated",
                "array length of metadata key \"k\"",
            );
        }
        add("array-of-arrays-length", array(ARRAY).u64(n).data(64), "truncated", "array length");
        add("token-length", array(STR).u64(1).u64(n).data(64), "truncated", "length of string 0");
        add("name-length", Raw::new(1, 0).u64(n).data(64), "truncated", "length of name of tensor 0");
        add("dim", tensor(&[n], 1, 0), if n > 1 << 32 { "invalid" } else { "truncated" }, "tensor \"x\"");
        add(
            "offset",
            tensor(&[1], 0, n),
            if n % 32 == 0 { "truncated" } else { "invalid" },
            "of tensor \"x\"",
        );
        let dims = Raw::new(1, 0).str(b"x").u32(n as u32 | 1 << 31).data(64);
        add("dims", dims, "invalid", "number of dimensions");
    }
    for place in 0..4 {
        let mut dims = [1; 4];
        dims[place] = 0;
        cases.push(case(format!("dim-{place}-is-0"), tensor(&dims, 0, 0), "invalid", "dimension"));
    }
    for (id, name) in [(4, "Q4_2"), (9, "Q8_1"), (16, "IQ2_XXS"), (24, "I8"), (35, "TQ2_0"), (40, "NVFP4")] {
        let at = case(format!("type-{name}"), tensor(&[256], id, 0), "unsupported", "type of tensor \"x\"");
        cases.push(at);
    }
    for id in [42, 1 << 31, u32::MAX] {
        cases.push(case(format!("type-{id}"), tensor(&[256], id, 0), "unsupported", "type of tensor \"x\""));
    }
    cases
}

fn nested(levels: usize) -> Raw {
    let raw = Raw::new(0, 1).key("k", ARRAY);
    (0..levels).fold(raw, |raw, _| raw.u32(ARRAY).u64(1)).u32(U32).u64(0)
}

#[test]
fn the_good_file_is_good() {
    let good = good().0;
    let file = Gguf::parse(&good).unwrap();
    assert_eq!(file.tensor("x").unwrap().shape, [2, 4]);
    assert_eq!(file.tensor("y").unwrap().data.len(), 34);
}

#[test]
fn every_cut_is_told_as_one() {
    let good = good().0;
    for length in 0..good.len() {
        let error = Gguf::parse(&good[..length]).unwrap_err();
        assert!(matches!(error, Error::Truncated { .. }), "cut at {length}: {error}");
        assert!(
            !error.place().field.is_empty() && error.place().offset.is_some(),
            "cut at {length}: {error}"
        );
    }
}

#[test]
fn every_bad_file_is_a_typed_error_naming_file_offset_and_field() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.gguf");
    for Case { what, raw, kind: expected, field } in cases() {
        fs::write(&path, &raw.0).unwrap();
        let error = File::open(&path).expect_err(&what);
        assert_eq!(kind(&error), expected, "{what}: {error}");
        let message = error.to_string();
        assert!(message.contains("bad.gguf") && message.contains(field), "{what}: {message}");
        let offset = error.place().offset.unwrap_or_else(|| panic!("{what}: no offset: {message}"));
        assert!(offset <= raw.0.len() as u64, "{what}: offset outside the file: {message}");
    }
}

/// Whatever one byte says instead, the parser answers; and what it takes is inside the file.
#[test]
fn every_change_of_one_byte_is_survived() {
    let good = good().0;
    for place in 0..good.len() {
        for value in [0, 1, 2, 3, 7, 8, 9, 0x20, 0x7f, 0x80, 0xff] {
            let mut changed = good.clone();
            changed[place] = value;
            if let Ok(file) = Gguf::parse(&changed) {
                for info in file.tensors() {
                    let view = file.tensor(&info.name).unwrap();
                    assert_eq!(
                        Some(view.data.len()),
                        view.dtype.bytes(view.elements()),
                        "byte {place} = {value}"
                    );
                }
            }
        }
    }
}

#[test]
fn refused_types_are_named_with_their_number() {
    let raw = Raw::new(1, 0).tensor("blk.0.ffn_up.weight", &[256], 16, 0).data(66);
    let message = Gguf::parse(&raw.0).unwrap_err().to_string();
    assert!(message.contains("IQ2_XXS (type 16)") && message.contains("blk.0.ffn_up.weight"), "{message}");
}

#[test]
fn accessors_name_key_expected_and_found() {
    let file = good().0;
    let file = Gguf::parse(&file).unwrap();
    let metadata = file.metadata();
    let message = metadata.get_u64("general.architecture").unwrap_err().to_string();
    for part in ["\"general.architecture\"", "an unsigned 64-bit integer", "str \"llama\"", "byte 56"] {
        assert!(message.contains(part), "{message} lacks {part}");
    }
    let message = metadata.get_array_f32("tokens").unwrap_err().to_string();
    assert!(message.contains("an array of f32") && message.contains("array of 2 str"), "{message}");
    assert!(matches!(metadata.get_str("llama.context_length"), Err(Error::Missing { .. })));
    assert_eq!(metadata.find::<u64>("llama.context_length").unwrap(), None);
    assert_eq!(metadata.get_u64("general.alignment").unwrap(), 32);
}

/// The seeds of the fuzz target: files of the table that are small.
#[test]
fn the_corpus_on_disk_is_that_of_the_table() {
    let folder = Path::new(CORPUS);
    let bless = std::env::var_os("AUTARKY_BLESS").is_some();
    let wanted = ["big-endian", "key-twice", "tensors-overlap", "arrays-nested-5", "dims-product-wraps-to-0"];
    let mut seeds: Vec<(String, Raw)> =
        cases().into_iter().filter(|c| wanted.contains(&&*c.what)).map(|c| (c.what, c.raw)).collect();
    assert_eq!(seeds.len(), wanted.len());
    seeds.push(("good".into(), good()));
    for (name, raw) in seeds {
        let path = folder.join(name).with_extension("gguf");
        if bless {
            fs::create_dir_all(folder).unwrap();
            fs::write(&path, &raw.0).unwrap();
        }
        assert!(fs::read(&path).is_ok_and(|bytes| bytes == raw.0), "{} is not up to date", path.display());
    }
}
