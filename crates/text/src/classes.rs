//! Unicode character classes, from the tables of `regex-syntax`.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};

/// A set of characters as sorted ranges.
pub(crate) struct CharClass(Vec<(char, char)>);

impl CharClass {
    /// The class that the expression `source`, one class such as `\p{Mn}`, stands for.
    fn new(source: &str) -> Self {
        let ranges = match regex_syntax::parse(source).map(|hir| hir.into_kind()) {
            Ok(HirKind::Class(Class::Unicode(class))) => {
                class.ranges().iter().map(|range| (range.start(), range.end())).collect()
            }
            // The sources are the constants below, which a test checks.
            _ => Vec::new(),
        };
        Self(ranges)
    }

    /// Whether `c` is in the class.
    pub(crate) fn contains(&self, c: char) -> bool {
        let after = self.0.partition_point(|range| range.0 <= c);
        after.checked_sub(1).and_then(|place| self.0.get(place)).is_some_and(|range| c <= range.1)
    }
}

/// Marks that combine with the character before them without taking space.
pub(crate) static NONSPACING_MARK: LazyLock<CharClass> = LazyLock::new(|| CharClass::new(r"\p{Mn}"));
/// Control characters, format marks and private use: what BERT drops.
pub(crate) static OTHER: LazyLock<CharClass> = LazyLock::new(|| CharClass::new(r"[\p{Cc}\p{Cf}\p{Co}]"));
/// Letters, digits, marks and connectors.
pub(crate) static WORD: LazyLock<CharClass> = LazyLock::new(|| CharClass::new(r"\w"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_hold_the_known_members() {
        assert!(NONSPACING_MARK.contains('\u{301}') && !NONSPACING_MARK.contains('a'));
        assert!(OTHER.contains('\u{7}') && OTHER.contains('\u{200d}') && !OTHER.contains(' '));
        assert!(WORD.contains('é') && !WORD.contains('-'));
    }
}
