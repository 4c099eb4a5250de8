//! Released tensors leave memory: a device that packs its own copy must not hold the file twice.

#![cfg(target_os = "linux")]

use std::fs;

use autarky_format::{Source, TensorSpec, gguf};
use autarky_quant::DType;

const ROWS: usize = 4096;

/// Resident bytes of this process that belong to mapped files.
fn resident_file_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
fn released_tensors_leave_memory_and_come_back_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let names = ["a", "b"];
    let specs = names.map(|name| TensorSpec::new(name, DType::F32, [ROWS, 1024]));
    let mut writer = gguf::Writer::create(&path, &gguf::Metadata::new(), &specs).unwrap();
    for (i, name) in names.iter().enumerate() {
        for row in 0..ROWS {
            writer.append(name, &((row + i) as f32).to_le_bytes().repeat(1024)).unwrap();
        }
    }
    writer.finish().unwrap();

    let source = Source::open(&path).unwrap();
    let sum =
        |name: &str| source.require(name).unwrap().f32s().unwrap().iter().map(|x| f64::from(*x)).sum::<f64>();
    let before = resident_file_bytes();
    let sums = names.map(sum);
    let read = resident_file_bytes();
    assert!(read > before + (30 << 20), "reading 32 MiB took {} bytes of file pages", read - before);
    source.release("a");
    let released = resident_file_bytes();
    // All but the pages shared with a neighbour, with room for pages of up to 64 KiB and other files' pages.
    assert!(released + (15 << 20) < read, "only {} bytes left memory", read.saturating_sub(released));
    source.release("b");
    source.release("unknown");
    assert_eq!(names.map(sum), sums, "bytes came back changed");
}
