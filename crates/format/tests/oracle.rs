//! Real checkpoints written by transformers, where the checkout has them beside it.

use std::path::Path;

use autarky_format::Source;
use autarky_format::safetensors::{File, SafeDType};

const ORACLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/oracle");

#[test]
fn every_checkpoint_and_its_expected_results_are_read() {
    let Ok(folder) = Path::new(ORACLE).read_dir() else { return };
    for folder in folder.map(|entry| entry.unwrap().path()) {
        let source = Source::open(&folder).unwrap();
        assert!(source.names().count() > 10, "{}: tensors are missing", folder.display());
        for name in source.names() {
            let view = source.require(name).unwrap();
            assert_eq!(
                view.data.len(),
                view.dtype.bytes(view.elements()).unwrap(),
                "{name}: bytes and shape differ"
            );
            let before = view.data.to_vec();
            source.release(name);
            assert_eq!(source.tensor(name).unwrap().data, before, "{name}: released bytes came back changed");
        }
        let expected = File::open(folder.join("expected.safetensors")).unwrap();
        let ids = expected.raw("input_ids").unwrap();
        assert_eq!((ids.dtype, ids.shape), (SafeDType::I64, &[40][..]), "{}", folder.display());
        assert!(ids.ints().unwrap().iter().all(|id| (0..512).contains(id)), "{}: ids", folder.display());
        assert_eq!(expected.tensor("logits").unwrap().f32s().unwrap().len(), 40 * 512);
        let refused = expected.require("input_ids").unwrap_err().to_string();
        assert!(refused.contains("I64") && refused.contains("input_ids"), "{refused}");
    }
}
