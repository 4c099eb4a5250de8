//! GPT-2's byte alphabet: the printable stand-ins of the 256 bytes in byte-level vocabularies.
//!
//! Bytes that print keep their Latin-1 character; the others take the characters from U+0100 on, in the
//! order of the bytes. So a space is `Ġ` and a line feed `Ċ`. From GPT-2's `encoder.py`, `bytes_to_unicode`.

/// Whether `byte` stands for itself.
const fn prints(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

/// The bytes by their stand-ins.
pub(crate) struct ByteAlphabet {
    // The largest stand-in is U+0143.
    bytes: [Option<u8>; 0x144],
}

impl ByteAlphabet {
    /// The alphabet's tables.
    pub(crate) const TABLE: &Self = &Self::build();

    #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler: a wrong index does not build")]
    const fn build() -> Self {
        let mut bytes = [None; 0x144];
        let mut next = 0x100_u32;
        let mut byte = 0_usize;
        while byte < 256 {
            let own = prints(byte as u8);
            let code = if own { byte as u32 } else { next };
            if !own {
                next += 1;
            }
            bytes[code as usize] = Some(byte as u8);
            byte += 1;
        }
        Self { bytes }
    }

    /// The alphabet's characters by code point, each with its byte: the order in which vocabularies list them.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = (char, u8)> {
        let known = |(code, byte): (u32, Option<u8>)| Some((char::from_u32(code)?, byte?));
        (0..).zip(self.bytes).filter_map(known)
    }

    /// The byte that `c` stands for.
    pub(crate) fn byte(&self, c: char) -> Option<u8> {
        self.bytes.get(c as usize).copied().flatten()
    }

    /// The bytes that a token of the alphabet stands for; `None` if a character is outside of it.
    pub(crate) fn decode(&self, token: &str) -> Option<Vec<u8>> {
        token.chars().map(|c| self.byte(c)).collect()
    }

    /// As [`ByteAlphabet::decode`], if the bytes are text.
    pub(crate) fn decode_text(&self, token: &str) -> Option<String> {
        String::from_utf8(self.decode(token)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_one_to_one_and_gives_the_known_stand_ins() {
        let table = ByteAlphabet::TABLE;
        let mut seen: Vec<u8> = (0..0x144).filter_map(|code| table.byte(char::from_u32(code)?)).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..=255).collect::<Vec<u8>>());
        assert_eq!(table.decode("ĠĊĀŃé"), Some(b" \n\x00\xad\xe9".to_vec()));
        assert_eq!(table.decode("Ġa▁"), None, "`▁` is not in the alphabet");
    }
}
