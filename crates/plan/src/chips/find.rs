//! Names, as people type them, to chips.

use super::{Catalog, Chip};
use crate::FindError;

/// Names that are offered when none fits.
const OFFERED: usize = 5;
/// Characters of what was typed that are looked at.
const LONGEST: usize = 100;

impl Catalog {
    /// The chip that a name means: an id or a name, whatever its case and punctuation; else the end of one id (`l40`,
    /// which is not the L40S); else a part that only one chip has in its id or name (`910b3`, `h200 nvl`).
    ///
    /// # Errors
    ///
    /// No chip has the name, with the nearest ids; or several have it, with theirs.
    pub fn find(&self, asked: &str) -> Result<&Chip, FindError> {
        let asked: String = asked.trim().chars().take(LONGEST).collect();
        let bare = bare(&asked);
        let exact = self.chips().iter().find(|c| c.id == asked);
        let same = |c: &&Chip| self::bare(&c.id) == bare || self::bare(&c.name) == bare;
        if let Some(chip) = exact.or_else(|| self.chips().iter().find(same)).filter(|_| !bare.is_empty()) {
            return Ok(chip);
        }
        let ends = |c: &&Chip| {
            // At a hyphen: `3090` is no end of `13090`.
            c.id.match_indices('-').any(|(at, _)| c.id.get(at..).is_some_and(|end| self::bare(end) == bare))
        };
        let mut ending = self.chips().iter().filter(ends);
        if let (Some(chip), None) = (ending.next(), ending.next()) {
            return Ok(chip);
        }
        let part = |c: &&Chip| self::bare(&c.id).contains(&bare) || self::bare(&c.name).contains(&bare);
        let parts: Vec<&Chip> = self.chips().iter().filter(part).filter(|_| !bare.is_empty()).collect();
        match parts.as_slice() {
            [chip] => Ok(chip),
            [] => Err(FindError::Unknown { nearest: self.nearest(&bare), asked }),
            several => Err(FindError::Ambiguous {
                candidates: several.iter().map(|c| c.id.clone()).collect(),
                asked,
            }),
        }
    }

    /// Ids by how much of what was typed they share.
    fn nearest(&self, bare: &str) -> Vec<String> {
        let closeness = |chip: &Chip| {
            let short = chip.id.split_once('-').map_or("", |(_, rest)| rest);
            let names = [chip.id.as_str(), short, chip.name.as_str()];
            names
                .iter()
                .map(|n| strsim::normalized_damerau_levenshtein(&self::bare(n), bare))
                .fold(0.0, f64::max)
        };
        let mut all: Vec<(f64, &Chip)> = self.chips().iter().map(|c| (closeness(c), c)).collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        all.into_iter().take(OFFERED).map(|(_, c)| c.id.clone()).collect()
    }
}

/// Letters and digits only, in lower case.
fn bare(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}
