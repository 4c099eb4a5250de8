//! Files made to exhaust memory: what the parsers take is counted, byte by byte.
//!
//! Each file is as large as it must be to ask for much with little (the counts themselves are honest, or they would be
//! refused at once); the largest is near 100 MB.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use autarky_format::gguf::Gguf;
use autarky_format::safetensors::SafeTensors;

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn grow(bytes: usize) {
    let now = NOW.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(now, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator unchanged; only counters are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that parsing takes at its peak, beside the file's own.
fn peak(what: &str, file: &[u8], parse: fn(&[u8]) -> Result<(), String>) -> usize {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let start = Instant::now();
    let answer = parse(file);
    let time = start.elapsed();
    let peak = PEAK.load(Ordering::Relaxed) - before;
    let (file, peak_mb) = (file.len() >> 20, peak >> 20);
    println!("{what}: file {file} MiB, peak {peak_mb} MiB, {time:?}: {answer:?}");
    peak
}

fn gguf(tensors: u64, keys: u64, rest: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(tensors.to_le_bytes());
    bytes.extend(keys.to_le_bytes());
    rest.into_iter().for_each(|part| bytes.extend(part));
    bytes
}

/// A key `k` whose value is an array of so many elements of a type, each of these bytes.
fn array(kind: u8, count: usize, element: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x01\0\0\0\0\0\0\0k\x09\0\0\0".to_vec();
    bytes.extend([kind, 0, 0, 0]);
    bytes.extend((count as u64).to_le_bytes());
    bytes.extend(element.repeat(count));
    gguf(0, 1, [bytes])
}

fn safetensors(header: String) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.into_bytes());
    bytes
}

#[test]
fn no_file_makes_a_parser_take_more_than_64_mib() {
    const MILLION: usize = 1_000_000;
    let parse_gguf = |bytes: &[u8]| Gguf::parse(bytes).map(drop).map_err(|e| e.to_string());
    // Eight hexadecimal digits: a name for each.
    let name = |i: usize| [&8_u64.to_le_bytes()[..], format!("{i:08x}").as_bytes()].concat();
    let mut empty_array = vec![4, 0, 0, 0];
    empty_array.extend([0; 8]);
    let keys = |count: usize| {
        let key = |i| [&name(i)[..], &[0; 5]].concat();
        gguf(0, count as u64, (0..count).map(key))
    };
    let tensors = |count: usize| {
        let tensor = |i| [&name(i)[..], b"\x01\0\0\0\x20", &[0; 19]].concat();
        gguf(count as u64, 0, (0..count).map(tensor))
    };
    let ggufs = [
        ("as many strings as pass", array(8, 29 * MILLION / 8, &[0; 8])),
        ("more strings than pass", array(8, 12 * MILLION, &[0; 8])),
        ("long strings", array(8, 90, &[&MILLION.to_le_bytes()[..], &[b'a'; MILLION]].concat())),
        ("as many bytes as pass", array(0, 7 * MILLION, &[0])),
        ("as many bools as pass", array(7, 7 * MILLION, &[1])),
        ("more bytes than pass", array(0, 100 * MILLION, &[0])),
        ("empty arrays in an array", array(9, 500_000, &empty_array)),
        ("more empty arrays than pass", array(9, 8 * MILLION, &empty_array)),
        ("as many keys as pass", keys(28_000)),
        ("more keys than pass", keys(MILLION)),
        ("as many tensors as pass", tensors(150_000)),
        ("more tensors than pass", tensors(2 * MILLION)),
    ];
    for (what, file) in &ggufs {
        assert!(peak(what, file, parse_gguf) < 64 << 20, "{what}");
    }
    drop(ggufs);

    let parse_safetensors = |bytes: &[u8]| SafeTensors::parse(bytes).map(drop).map_err(|e| e.to_string());
    let entries = |count: usize| {
        let entry = |i| format!(r#""{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
        format!("{{{}}}", (0..count).map(entry).collect::<Vec<_>>().join(","))
    };
    let metadata = |count: usize| {
        let entry = |i| format!(r#""{i}":"""#);
        format!(r#"{{"__metadata__":{{{}}}}}"#, (0..count).map(entry).collect::<Vec<_>>().join(","))
    };
    let skipped = format!(r#"{{"x":{{"y":[{}0]}}}}"#, "0,".repeat(45 * MILLION));
    let files = [
        ("as many tensors as pass", entries(170_000)),
        ("more tensors than pass", entries(MILLION)),
        ("as many strings as pass", metadata(170_000)),
        ("more strings than pass", metadata(5 * MILLION)),
        ("a long key", format!("{{\"{}\":", "\u{1}x".repeat(20 * MILLION).replace('\u{1}', "é"))),
        ("a long key of escapes", format!("{{\"{}\":", r"\u0001".repeat(16 * MILLION))),
        ("a long key that fits", format!("{{\"{}\":1", r"\n".repeat(13 * MILLION))),
        ("a long value", format!(r#"{{"__metadata__":{{"a":"{}"}}}}"#, "x".repeat(99 * MILLION))),
        ("blanks", format!("{{{}", " ".repeat(99 * MILLION))),
        ("many offsets", format!(r#"{{"x":{{"data_offsets":[{}"#, "0,".repeat(49 * MILLION))),
        ("a long number", format!(r#"{{"x":{{"shape":[{}"#, "1".repeat(99 * MILLION))),
        ("a long value to pass over", skipped),
    ];
    for (what, header) in files {
        let file = safetensors(header);
        assert!(peak(what, &file, parse_safetensors) < 64 << 20, "{what}");
    }
}
