//! GGUF headers: whatever the bytes, an answer; what is taken lies inside them, and is written back the same.
#![no_main]

use autarky_format::gguf::{Gguf, to_bytes};
use autarky_fuzz::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    bounded(|| {
        let Ok(file) = Gguf::parse(bytes) else { return };
        for info in file.tensors() {
            let view = file.tensor(&info.name).expect("a listed tensor is there");
            assert_eq!(Some(view.data.len()), view.dtype.bytes(view.elements()));
            let _ = view.f32s();
        }
        for (key, value) in file.metadata().iter() {
            assert!(file.metadata().contains(key));
            let _ = value.to_string();
        }
        write_back(&file);
    });
});

fn write_back(file: &Gguf<'_>) {
    let views: Vec<_> = file.tensors().iter().filter_map(|t| file.tensor(&t.name)).collect();
    // The writer is narrower than the reader: it refuses long names and small alignments.
    let Ok(written) = to_bytes(file.metadata(), &views) else { return };
    let again = Gguf::parse(&written).expect("what was written is read");
    // By text, in which a NaN is equal to itself.
    assert_eq!(
        format!("{:?}", Vec::from_iter(again.metadata().iter())),
        format!("{:?}", Vec::from_iter(file.metadata().iter()))
    );
    for view in views {
        assert_eq!(again.tensor(view.name), Some(view));
    }
}
