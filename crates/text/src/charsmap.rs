//! SentencePiece's compiled normalization: a double-array trie from byte sequences to replacements.
//!
//! Layout, little-endian: the byte length of the trie, the trie's 32-bit units, then the replacements as
//! NUL-terminated strings that the trie's values point into. Units as in `darts-clone`.

use crate::error::TokenizerError;

/// The table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Charsmap {
    units: Vec<u32>,
    replacements: Vec<u8>,
}

/// A trie's unit: label in bits 0-7 and 31, "has a value" in bit 8, offset to the children in bits 9-30.
#[derive(Clone, Copy)]
struct Unit(u32);

impl Unit {
    fn label(self) -> u32 {
        self.0 & (1 << 31 | 0xff)
    }

    fn has_value(self) -> bool {
        self.0 >> 8 & 1 == 1
    }

    fn value(self) -> usize {
        (self.0 & 0x7fff_ffff) as usize
    }

    fn offset(self) -> u32 {
        (self.0 >> 10) << ((self.0 & 1 << 9) >> 6)
    }
}

impl Charsmap {
    /// Reads the table from the bytes of a SentencePiece model.
    pub(crate) fn new(bytes: &[u8]) -> Result<Self, TokenizerError> {
        let fail = |problem| TokenizerError::Charsmap { problem };
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or(fail("is shorter than its header"))?;
        let length = u32::from_le_bytes(*length) as usize;
        if !length.is_multiple_of(4) {
            return Err(fail("has a trie that is no list of 32-bit units"));
        }
        let (trie, replacements) = rest.split_at_checked(length).ok_or(fail("is shorter than its trie"))?;
        if std::str::from_utf8(replacements).is_err() {
            return Err(fail("has replacements that are no UTF-8"));
        }
        if replacements.last().is_some_and(|&last| last != 0) {
            return Err(fail("has a replacement without an end"));
        }
        let units = trie
            .chunks_exact(4)
            .map(|unit| u32::from_le_bytes(unit.try_into().unwrap_or_default()))
            .collect();
        Ok(Self { units, replacements: replacements.to_vec() })
    }

    /// The longest prefix of `text` in the table: its length in bytes and its replacement.
    fn longest_prefix<'a>(&'a self, text: &[u8]) -> Option<(usize, &'a str)> {
        let unit = |node: u32| self.units.get(node as usize).copied().map(Unit);
        let mut found = None;
        let mut node = unit(0)?.offset();
        for (place, &byte) in text.iter().enumerate() {
            node ^= u32::from(byte);
            let Some(here) = unit(node).filter(|here| byte != 0 && here.label() == u32::from(byte)) else {
                break;
            };
            node ^= here.offset();
            if here.has_value()
                && let Some(leaf) = unit(node)
            {
                found = Some((place + 1, leaf.value()));
            }
        }
        let (length, value) = found?;
        let tail = self.replacements.get(value..)?;
        let end = tail.iter().position(|&byte| byte == 0)?;
        // A value may point into the middle of a character in a damaged table: then there is no match.
        Some((length, std::str::from_utf8(tail.get(..end)?).ok()?))
    }

    /// The text with every longest match replaced.
    pub(crate) fn normalize(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            // A key that ends within a character would leave bytes that are no text.
            let hit =
                self.longest_prefix(rest.as_bytes()).filter(|(length, _)| rest.is_char_boundary(*length));
            let taken = if let Some((length, replacement)) = hit {
                out.push_str(replacement);
                length
            } else {
                out.push(c);
                c.len_utf8()
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
        out
    }
}
