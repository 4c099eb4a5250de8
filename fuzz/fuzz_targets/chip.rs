//! Files of chips: a chip whose figures are sound, or a typed error that names the file.
//!
//! An input is TOML, or edits of a valid file: pairs of lines, each taking the place of another.
#![no_main]

use autarky_fuzz::{bounded, edited};
use autarky_plan::policy::Figures;
use autarky_plan::{Chip, DataType, Date, RuleBook};
use libfuzzer_sys::fuzz_target;

const FILE: &str = "acme-1.toml";
const VALID: &str = include_str!("../seeds/chip/acme-1.toml");

fn check(text: &str) {
    match Chip::parse(FILE, text) {
        Ok(chip) => {
            assert_eq!(chip.id, "acme-1");
            for dtype in DataType::ALL {
                assert!(chip.peak_dense_tops.get(dtype).is_none_or(|x| x.is_finite() && x > 0.0));
            }
            let figures = Figures::of(&chip);
            assert!(figures.performance_density.is_none_or(|x| x.is_finite() && x > 0.0));
            let rules = RuleBook::built_in().expect("sound rules");
            let day: Date = "2026-06-01".parse().expect("a day");
            assert!(!rules.classify(&figures, day).is_empty());
        }
        Err(e) => assert!(e.to_string().starts_with(FILE), "no file is named: {e}"),
    }
}

fuzz_target!(|bytes: &[u8]| {
    bounded(|| {
        check(&String::from_utf8_lossy(bytes));
        check(&edited(VALID, bytes.get(..64).unwrap_or(bytes)));
    });
});
