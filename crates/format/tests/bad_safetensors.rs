//! safetensors files that are wrong in one way each: every answer is a typed error that names file, offset and field.
//!
//! Some of them also lie in `corpus/safetensors`, as seeds for the fuzz target. After a change here write them anew
//! with `AUTARKY_BLESS=1 cargo test -p autarky-format --test bad_safetensors`.

use std::fs;
use std::path::Path;

use autarky_format::Error;
use autarky_format::safetensors::{File, SafeTensors};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/safetensors");

/// A file with this header and so many bytes of data.
fn raw(header: impl AsRef<[u8]>, data: usize) -> Vec<u8> {
    let header = header.as_ref();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header);
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// The entry of an F32 tensor.
fn entry(name: &str, shape: &str, offsets: &str) -> String {
    format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}"#)
}

/// A file of one F32 tensor `x`, with 8 bytes of data.
fn one(shape: &str, offsets: &str) -> Vec<u8> {
    raw(format!("{{{}}}", entry("x", shape, offsets)), 8)
}

/// A file of these entries.
fn many(entries: &[String], data: usize) -> Vec<u8> {
    raw(format!("{{{}}}", entries.join(",")), data)
}

fn good() -> Vec<u8> {
    let metadata = r#""__metadata__":{"format":"pt"}"#.to_string();
    many(&[metadata, entry("y", "[1]", "[8,12]"), entry("x", "[2, 1]", "[0,8]")], 12)
}

fn kind(error: &Error) -> &'static str {
    match error {
        Error::WrongFormat { .. } => "wrong format",
        Error::Unsupported { .. } => "unsupported",
        Error::Truncated { .. } => "truncated",
        Error::TooLarge { .. } => "too large",
        Error::Invalid { .. } => "invalid",
        Error::Duplicate { .. } => "duplicate",
        Error::Missing { .. } => "missing",
        _ => "other",
    }
}

struct Case {
    what: String,
    bytes: Vec<u8>,
    kind: &'static str,
    /// Part of the field's name.
    field: &'static str,
}

fn case(what: impl Into<String>, bytes: Vec<u8>, kind: &'static str, field: &'static str) -> Case {
    Case { what: what.into(), bytes, kind, field }
}

fn cases() -> Vec<Case> {
    let length = |n: u64| [&n.to_le_bytes()[..], b"{}"].concat();
    let x = |shape, offsets| entry("x", shape, offsets);
    let y = |shape, offsets| entry("y", shape, offsets);
    let mut cases = vec![
        case("empty", vec![], "truncated", "header length"),
        case("length-0", length(0), "wrong format", "header"),
        case("length-3-of-2", length(3), "truncated", "header"),
        case("length-limit", length(100_000_000), "truncated", "header"),
        case("not-an-object", raw("[]", 0), "wrong format", "header"),
        case("not-utf8", raw(b"{\"\xff\":1}", 0), "invalid", "key in header"),
        case("surrogate", raw(r#"{"\ud800":1}"#, 0), "invalid", "key in header"),
        case("control", raw("{\"\n\":1}", 0), "invalid", "key in header"),
        case("not-closed", raw(r#"{"x":{"#, 0), "truncated", "tensor \"x\""),
        case("trailing", raw("{} {}", 0), "invalid", "header"),
        case("comma", raw(format!("{{{},}}", x("[2]", "[0,8]")), 8), "invalid", "key in header"),
        case("entry-not-an-object", raw(r#"{"x":[]}"#, 0), "invalid", "tensor \"x\""),
        case(
            "nested",
            raw(format!(r#"{{"x":{{"y":{}"#, "[".repeat(1000)), 0),
            "too large",
            "nesting of JSON",
        ),
        case("metadata-not-strings", raw(r#"{"__metadata__":{"a":1}}"#, 0), "invalid", "__metadata__"),
        case(
            "metadata-twice",
            raw(r#"{"__metadata__":{},"__metadata__":{}}"#, 0),
            "duplicate",
            "__metadata__",
        ),
        case("metadata-key-twice", raw(r#"{"__metadata__":{"a":"","a":""}}"#, 0), "duplicate", "\"a\" in"),
        case("tensor-twice", many(&[x("[1]", "[0,4]"), x("[1]", "[4,8]")], 8), "duplicate", "tensor \"x\""),
        case(
            "escaped-twice",
            many(&[x("[1]", "[0,4]"), entry(r"\u0078", "[1]", "[4,8]")], 8),
            "duplicate",
            "\"x\"",
        ),
        case(
            "overlap",
            many(&[x("[2]", "[0,8]"), y("[2]", "[4,12]")], 12),
            "invalid",
            "data_offsets of tensor \"y\"",
        ),
        case(
            "same-place",
            many(&[x("[2]", "[0,8]"), y("[2]", "[0,8]")], 8),
            "invalid",
            "data_offsets of tensor",
        ),
        case(
            "hole",
            many(&[x("[1]", "[0,4]"), y("[1]", "[8,12]")], 12),
            "invalid",
            "data_offsets of tensor \"y\"",
        ),
        case("hole-at-start", one("[1]", "[4,8]"), "invalid", "data_offsets of tensor \"x\""),
        case("rest", one("[1]", "[0,4]"), "invalid", "data"),
        case("data-without-tensors", raw("{}", 8), "invalid", "data"),
        case("past-end", one("[3]", "[0,12]"), "truncated", "data_offsets of tensor \"x\""),
        case("backwards", one("[2]", "[8,0]"), "invalid", "data_offsets of tensor \"x\""),
        case("shape-too-small", one("[1]", "[0,8]"), "invalid", "data_offsets of tensor \"x\""),
        case("shape-has-0", one("[2,0]", "[0,8]"), "invalid", "data_offsets of tensor \"x\""),
        case(
            "product-wraps-to-2",
            one("[9223372036854775809,2]", "[0,8]"),
            "invalid",
            "data_offsets of tensor \"x\"",
        ),
        case(
            "bytes-wrap-to-8",
            one("[4611686018427387906]", "[0,8]"),
            "invalid",
            "data_offsets of tensor \"x\"",
        ),
        case("one-offset", one("[2]", "[8]"), "invalid", "data_offsets of tensor \"x\""),
        case("three-offsets", one("[2]", "[0,8,8]"), "invalid", "data_offsets of tensor \"x\""),
        case(
            "many-dims",
            one(&format!("[{}2]", "1,".repeat(64)), "[0,8]"),
            "too large",
            "number of dimensions",
        ),
        case(
            "dtype-unknown",
            raw(r#"{"x":{"dtype":"F99","shape":[],"data_offsets":[0,0]}}"#, 0),
            "unsupported",
            "x",
        ),
        case(
            "dtype-number",
            raw(r#"{"x":{"dtype":1,"shape":[],"data_offsets":[0,0]}}"#, 0),
            "invalid",
            "dtype of",
        ),
        case(
            "dtype-twice",
            raw(r#"{"x":{"dtype":"F32","dtype":"F32"}}"#, 0),
            "duplicate",
            "dtype of tensor \"x\"",
        ),
        case(
            "no-dtype",
            raw(r#"{"x":{"shape":[],"data_offsets":[0,4]}}"#, 4),
            "missing",
            "dtype of tensor \"x\"",
        ),
        case("no-shape", raw(r#"{"x":{"dtype":"F32","data_offsets":[0,4]}}"#, 4), "missing", "shape of"),
        case("no-offsets", raw(r#"{"x":{"dtype":"F32","shape":[1]}}"#, 4), "missing", "data_offsets of"),
        case(
            "half-a-byte",
            raw(r#"{"x":{"dtype":"F4","shape":[1],"data_offsets":[0,0]}}"#, 0),
            "invalid",
            "x",
        ),
    ];
    for n in [100_000_001, 1 << 31, 1 << 32, 1 << 63, u64::MAX] {
        cases.push(case(format!("length-{n:x}"), length(n), "too large", "header length"));
        cases.push(case(format!("end-{n:x}"), one("[2]", &format!("[0,{n}]")), "truncated", "data_offsets"));
        cases.push(case(
            format!("begin-{n:x}"),
            one("[2]", &format!("[{n},{n}]")),
            "truncated",
            "data_offsets",
        ));
        cases.push(case(format!("dim-{n:x}"), one(&format!("[{n}]"), "[0,8]"), "invalid", "data_offsets"));
    }
    for number in ["18446744073709551616", "-1", "1.0", "1e3", "01", "\"2\"", "null", ""] {
        cases.push(case(
            format!("shape-{number}"),
            one(&format!("[{number},1]"), "[0,8]"),
            "invalid",
            "shape of",
        ));
        cases.push(case(
            format!("offset-{number}"),
            one("[2]", &format!("[0,{number}]")),
            "invalid",
            "data_offsets",
        ));
    }
    cases
}

#[test]
fn the_good_file_is_good() {
    let good = good();
    let file = SafeTensors::parse(&good).unwrap();
    assert_eq!(file.tensor("x").unwrap().shape, [2, 1]);
    assert_eq!(file.tensors()[1].range, good.len() - 4..good.len());
    assert_eq!(file.metadata().next(), Some(("format", "pt")));
}

#[test]
fn every_cut_is_a_typed_error() {
    let good = good();
    for length in 0..good.len() {
        let error = SafeTensors::parse(&good[..length]).unwrap_err();
        assert!(matches!(error, Error::Truncated { .. }), "cut at {length}: {error}");
        assert!(
            !error.place().field.is_empty() && error.place().offset.is_some(),
            "cut at {length}: {error}"
        );
    }
}

/// As above, but with a header length that fits, so that the JSON itself ends early.
#[test]
fn every_cut_of_the_header_is_a_typed_error() {
    let good = good();
    let header = &good[8..good.len() - 12];
    for length in 0..header.len() {
        let error = SafeTensors::parse(&raw(&header[..length], 12)).unwrap_err();
        assert!(matches!(kind(&error), "truncated" | "invalid" | "wrong format"), "cut at {length}: {error}");
        assert!(
            !error.place().field.is_empty() && error.place().offset.is_some(),
            "cut at {length}: {error}"
        );
    }
}

#[test]
fn every_bad_file_is_a_typed_error_naming_file_offset_and_field() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.safetensors");
    for Case { what, bytes, kind: expected, field } in cases() {
        fs::write(&path, &bytes).unwrap();
        let error = File::open(&path).expect_err(&what);
        assert_eq!(kind(&error), expected, "{what}: {error}");
        let message = error.to_string();
        assert!(message.contains("bad.safetensors") && message.contains(field), "{what}: {message}");
        let offset = error.place().offset.unwrap_or_else(|| panic!("{what}: no offset: {message}"));
        assert!(offset <= bytes.len() as u64, "{what}: offset outside the file: {message}");
    }
}

#[test]
fn every_change_of_one_byte_is_survived() {
    let good = good();
    for place in 0..good.len() {
        for value in *b"\0 \"\\[]{},:0129ux\x7f\x80\xff" {
            let mut changed = good.clone();
            changed[place] = value;
            if let Ok(file) = SafeTensors::parse(&changed) {
                for info in file.tensors() {
                    let raw = file.raw(&info.name).unwrap();
                    let elements = raw.shape.iter().product();
                    assert_eq!(Some(raw.data.len()), raw.dtype.bytes(elements), "byte {place} = {value}");
                }
            }
        }
    }
}

#[test]
fn an_index_names_files_of_its_own_folder_only() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("model");
    fs::create_dir(&inner).unwrap();
    fs::write(folder.path().join("secret.safetensors"), good()).unwrap();
    fs::write(inner.join("a.safetensors"), good()).unwrap();
    let index = inner.join("model.safetensors.index.json");
    let open = |text: &str| {
        fs::write(&index, text).unwrap();
        File::open_folder(&inner)
    };
    let file =
        open(r#"{"metadata":{"total_size":12},"weight_map":{"x":"a.safetensors","y":"a.safetensors"}}"#)
            .unwrap();
    assert_eq!(file.require("y").unwrap().shape, [1]);

    let absolute = folder.path().join("secret.safetensors");
    for name in
        ["../secret.safetensors", "..\\\\secret.safetensors", absolute.to_str().unwrap(), "", "..", "a.bin"]
    {
        let error = open(&format!(r#"{{"weight_map":{{"x":"{name}"}}}}"#)).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{name}: {error}");
        assert!(
            error.to_string().contains("own folder") && error.to_string().contains("\"x\""),
            "{name}: {error}"
        );
    }
    for (text, expected, part) in [
        ("{}", "missing", "weight_map"),
        (r#"{"weight_map":{"z":"a.safetensors"}}"#, "missing", "\"z\""),
        (r#"{"weight_map":{"x":"a.safetensors","x":"a.safetensors"}}"#, "duplicate", "\"x\""),
        (r#"{"weight_map":{},"weight_map":{}}"#, "duplicate", "weight_map"),
        (r#"{"weight_map":{"x":"b.safetensors"}}"#, "other", "b.safetensors"),
        (r#"{"weight_map":{"x":1}}"#, "invalid", "\"x\""),
        ("", "truncated", "index"),
    ] {
        let error = open(text).unwrap_err();
        assert_eq!(kind(&error), expected, "{text}: {error}");
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
    fs::copy(inner.join("a.safetensors"), inner.join("b.safetensors")).unwrap();
    let error = open(r#"{"weight_map":{"x":"a.safetensors","y":"b.safetensors"}}"#).unwrap_err();
    assert!(matches!(error, Error::Duplicate { .. }), "two shards hold the same tensors: {error}");
}

/// The seeds of the fuzz target: files of the table that are small.
#[test]
fn the_corpus_on_disk_is_that_of_the_table() {
    let folder = Path::new(CORPUS);
    let bless = std::env::var_os("AUTARKY_BLESS").is_some();
    let wanted = ["escaped-twice", "overlap", "hole", "product-wraps-to-2", "nested", "not-utf8"];
    let mut seeds: Vec<(String, Vec<u8>)> =
        cases().into_iter().filter(|c| wanted.contains(&&*c.what)).map(|c| (c.what, c.bytes)).collect();
    assert_eq!(seeds.len(), wanted.len());
    seeds.push(("good".into(), good()));
    for (name, bytes) in seeds {
        let path = folder.join(name).with_extension("safetensors");
        if bless {
            fs::create_dir_all(folder).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        assert!(fs::read(&path).is_ok_and(|read| read == bytes), "{} is not up to date", path.display());
    }
}
