//! Files of statements and of fleets: something sound, or a typed error that names the file.
//!
//! An input is TOML, or edits of a valid file: pairs of lines, each taking the place of another.
#![no_main]

use autarky_fuzz::{bounded, edited};
use autarky_plan::claims::Claim;
use autarky_plan::fleet::Fleet;
use libfuzzer_sys::fuzz_target;

const CLAIM: &str = include_str!("../seeds/claim_fleet/claim.toml");
const FLEET: &str = include_str!("../seeds/claim_fleet/fleet.toml");

fn claim(text: &str) {
    match Claim::parse("own.toml", text) {
        Ok(claim) => {
            assert!(!claim.says.is_empty() && claim.subjects().count() > 0);
            for says in &claim.says {
                let (low, high) = says.range();
                assert!(low <= high && !says.words().is_empty());
            }
        }
        Err(e) => assert!(e.to_string().starts_with("own.toml"), "no file is named: {e}"),
    }
}

fn fleet(text: &str) {
    match Fleet::parse("own.toml", text) {
        Ok(fleet) => assert!(!fleet.chips.is_empty() && !fleet.jobs.is_empty()),
        Err(e) => assert!(e.to_string().starts_with("own.toml"), "no file is named: {e}"),
    }
}

fuzz_target!(|bytes: &[u8]| {
    bounded(|| {
        let text = String::from_utf8_lossy(bytes);
        claim(&text);
        fleet(&text);
        let edits = bytes.get(..64).unwrap_or(bytes);
        claim(&edited(CLAIM, edits));
        fleet(&edited(FLEET, edits));
    });
});
