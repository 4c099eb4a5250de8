//! Files of chips: a chip whose figures are sound, or a typed error that names the file.
//!
//! An input is TOML, or edits of a valid file: pairs of lines, each taking the place of another.
#![no_main]

use autarky_fuzz::bounded;
use autarky_plan::policy::Figures;
use autarky_plan::{Chip, DataType, Date, RuleBook};
use libfuzzer_sys::fuzz_target;

const FILE: &str = "acme-1.toml";
const VALID: &str = include_str!("../seeds/chip/acme-1.toml");

/// The valid file with some of its lines replaced or doubled, as the bytes say.
fn edited(bytes: &[u8]) -> String {
    let mut lines: Vec<&str> = VALID.lines().collect();
    let all = lines.clone();
    for pair in bytes.chunks_exact(2) {
        let (to, from) = (usize::from(pair[0]), usize::from(pair[1]));
        let at = to % lines.len();
        match to % 2 {
            0 => lines[at] = all[from % all.len()],
            _ => lines.insert(at, all[from % all.len()]),
        }
    }
    lines.join("\n")
}

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
        check(&edited(bytes.get(..64).unwrap_or(bytes)));
    });
});
