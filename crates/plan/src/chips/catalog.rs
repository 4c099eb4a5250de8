//! All chips: those that come with the program, and a user's own.

use std::path::Path;
use std::sync::LazyLock;

use super::{Chip, Origin};
use crate::{DataError, data, read};

/// Files that are read from a folder, at most.
const MOST_FILES: usize = 10_000;

/// Chips, by id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    chips: Vec<Chip>,
}

impl Catalog {
    /// The chips that come with the program, parsed once.
    ///
    /// # Errors
    ///
    /// What is wrong with a file of `data/chips`; tests keep that from happening.
    pub fn built_in() -> Result<&'static Catalog, DataError> {
        static CATALOG: LazyLock<Result<Catalog, DataError>> = LazyLock::new(|| {
            let chips = data::CHIPS.iter().map(|(file, text)| Chip::parse(file, text));
            let mut chips = chips.collect::<Result<Vec<_>, _>>()?;
            chips.sort_by(|a, b| a.id.cmp(&b.id));
            Ok(Catalog { chips })
        });
        CATALOG.as_ref().map_err(DataError::clone)
    }

    /// These chips and those of the `.toml` files in `folder`. A chip of the folder takes the place of one with its id.
    ///
    /// # Errors
    ///
    /// The folder or a file in it cannot be read, or a file is not a sound chip.
    pub fn with_folder(&self, folder: &Path) -> Result<Catalog, DataError> {
        let name = folder.display().to_string();
        let fail = |e: std::io::Error| DataError::read(&name, e.to_string());
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if path.extension().is_some_and(|e| e == "toml") {
                files.push(path);
            }
            if files.len() > MOST_FILES {
                return Err(DataError::read(&name, format!("has more than {MOST_FILES} chips")));
            }
        }
        files.sort();
        let mut catalog = self.clone();
        for path in files {
            let mut chip = Chip::parse(&path.display().to_string(), &read::text(&path)?)?;
            chip.origin = Origin::File(path);
            match catalog.chips.binary_search_by(|c| c.id.cmp(&chip.id)) {
                Ok(at) => {
                    if let Some(there) = catalog.chips.get_mut(at) {
                        *there = chip;
                    }
                }
                Err(at) => catalog.chips.insert(at, chip),
            }
        }
        Ok(catalog)
    }

    /// Every chip, by id.
    pub fn chips(&self) -> &[Chip] {
        &self.chips
    }
}
