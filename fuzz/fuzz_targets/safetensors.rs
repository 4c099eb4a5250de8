//! safetensors headers: whatever the bytes, an answer; what is taken lies inside them, and is written back the same.
#![no_main]

use autarky_format::safetensors::{SafeTensors, to_bytes};
use autarky_fuzz::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    bounded(|| {
        let Ok(file) = SafeTensors::parse(bytes) else { return };
        for info in file.tensors() {
            let raw = file.raw(&info.name).expect("a listed tensor is there");
            assert!(raw.data.len() <= bytes.len());
            if let Some(view) = raw.view() {
                assert_eq!(Some(view.data.len()), view.dtype.bytes(view.elements()));
            }
            let _ = raw.ints();
        }
        write_back(&file);
    });
});

fn write_back(file: &SafeTensors<'_>) {
    let raws: Vec<_> = file.tensors().iter().filter_map(|t| file.raw(&t.name)).collect();
    let metadata: Vec<_> = file.metadata().collect();
    let written = to_bytes(&metadata, &raws).expect("what was read can be written");
    let again = SafeTensors::parse(&written).expect("what was written is read");
    assert!(again.metadata().eq(file.metadata()));
    for raw in raws {
        assert_eq!(again.raw(raw.name), Some(raw));
    }
}
