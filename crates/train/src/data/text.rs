//! Documents of a text file, in pieces of a bounded size.

use super::problem::{At, Fault};
use super::source::Lines;
use super::{Content, Item};

/// The most bytes of a piece.
pub(super) const PIECE: usize = 1 << 20;

/// Where the first piece of `text` ends: behind the last line that ends within `limit` bytes, or else behind the last
/// character. Never 0 unless the text is empty: `limit` is at least the bytes of a character.
pub(super) fn piece_end(text: &str, limit: usize) -> usize {
    if text.len() <= limit {
        return text.len();
    }
    let end = text.floor_char_boundary(limit);
    text.get(..end).and_then(|fits| fits.rfind('\n')).map_or(end, |newline| newline + 1)
}

/// Reads documents that lines divide.
pub(super) struct Documents {
    lines: Lines,
    separators: Vec<Vec<u8>>,
    /// The most bytes of a piece.
    limit: usize,
    /// What was read last: a line, a part of one, or the bytes of a character that a limit has cut.
    chunk: Vec<u8>,
    /// Whether the next byte begins a line.
    fresh: bool,
    /// Text that is still to be given, and where it begins.
    piece: String,
    at: At,
    /// A piece of this document has been given.
    begun: bool,
    /// What to give next.
    problem: Option<(At, Fault)>,
    done: bool,
}

impl Documents {
    pub(super) fn new(lines: Lines, separators: &[String], limit: usize) -> Documents {
        Documents {
            lines,
            separators: separators.iter().map(|s| s.as_bytes().to_vec()).collect(),
            limit,
            chunk: Vec::new(),
            fresh: true,
            piece: String::new(),
            at: At::File,
            begun: false,
            problem: None,
            done: false,
        }
    }

    /// Gives the text that there is. A document of white space alone is none.
    fn give(&mut self, ends: bool) -> Option<(At, Content)> {
        let text = std::mem::take(&mut self.piece);
        let empty = !self.begun && text.trim().is_empty();
        self.begun = !ends;
        (!(ends && empty)).then_some((self.at, Content::Text { text, ends }))
    }

    /// How many bytes of the chunk are sound. `whole`: no byte of it is to follow; otherwise its last character may be
    /// cut. The error is where it is no UTF-8.
    fn sound(&self, whole: bool) -> Result<usize, usize> {
        match std::str::from_utf8(&self.chunk) {
            Ok(text) => Ok(text.len()),
            Err(e) if e.error_len().is_none() && !whole => Ok(e.valid_up_to()),
            Err(e) => Err(e.valid_up_to()),
        }
    }

    /// Moves the first `count` bytes of the chunk, which are sound, to the piece. The next chunk begins with the others.
    fn append(&mut self, at: At, count: usize) {
        if self.piece.is_empty() {
            self.at = at;
        }
        let sound = self.chunk.get(..count).and_then(|bytes| std::str::from_utf8(bytes).ok());
        self.piece.push_str(sound.unwrap_or_default());
        self.chunk.drain(..count);
    }

    /// Ends the file for `fault`, after what came before it.
    fn stop(&mut self, at: At, fault: Fault) {
        self.done = true;
        let (Ok(sound) | Err(sound)) = self.sound(true);
        self.append(at, sound);
        self.problem = Some((self.lines.at(), fault));
    }
}

impl Iterator for Documents {
    type Item = Item<Content>;

    fn next(&mut self) -> Option<Item<Content>> {
        if let Some(problem) = self.problem.take() {
            return Some(Err(problem));
        }
        while !self.done {
            let (at, offset) = (self.lines.at(), self.lines.offset() - self.chunk.len() as u64);
            let room = self.limit.saturating_sub(self.chunk.len()).max(1);
            let count = match self.lines.read(&mut self.chunk, room) {
                Ok(count) => count,
                Err(fault) => {
                    self.stop(at, fault);
                    break;
                }
            };
            let whole = count < room || self.chunk.last() == Some(&b'\n');
            if count == 0 {
                self.done = true;
            }
            if self.fresh && whole && self.separators.iter().any(|s| s == without_newline(&self.chunk)) {
                self.chunk.clear();
                match self.give(true) {
                    Some(item) => return Some(Ok(item)),
                    None => continue,
                }
            }
            if count > 0 {
                self.fresh = self.chunk.last() == Some(&b'\n');
            }
            let sound = match self.sound(whole) {
                Ok(sound) => sound,
                Err(sound) => {
                    self.chunk.clear();
                    return Some(Err((at, Fault::NotUtf8 { offset: offset + sound as u64 })));
                }
            };
            let full = self.piece.len() + sound > self.limit && !self.piece.is_empty();
            let given = if full { self.give(false) } else { None };
            self.append(at, sound);
            if let Some(item) = given {
                return Some(Ok(item));
            }
        }
        if !self.piece.is_empty()
            && let Some(item) = self.give(true)
        {
            return Some(Ok(item));
        }
        self.problem.take().map(Err)
    }
}

fn without_newline(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::super::find::Compression;
    use super::*;

    fn pieces(text: &str, limit: usize) -> Vec<(At, Content)> {
        let lines = Lines::new(Box::new(Cursor::new(text.to_owned())), Compression::None);
        Documents::new(lines, &["<|endofdoc|>".into()], limit)
            .map(|item| item.expect("text is UTF-8"))
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Pieces that are joined are the document, whatever the limit cuts, and each fits.
        #[test]
        fn pieces_are_the_document(text in "[a漢é\u{1F600}\n\r ]{0,200}x[a漢\n]{0,40}", limit in 16_usize..64) {
            let given = pieces(&text, limit);
            let mut joined = String::new();
            for (i, (at, content)) in given.iter().enumerate() {
                let Content::Text { text: piece, ends } = content else { panic!("no text") };
                prop_assert!(piece.len() <= limit && !piece.is_empty());
                prop_assert_eq!(*ends, i + 1 == given.len());
                prop_assert_eq!(*at, At::Line(1 + joined.matches('\n').count() as u64));
                joined.push_str(piece);
            }
            prop_assert_eq!(joined, text);
        }

        /// A text is cut behind a line or a character, and every piece has something.
        #[test]
        fn a_cut_is_between_characters(text in "[a漢é\u{1F600}\n]{0,100}", limit in 4_usize..32) {
            let end = piece_end(&text, limit);
            prop_assert!(end <= limit && text.is_char_boundary(end) && (end > 0 || text.is_empty()));
            let cut = end < text.len();
            prop_assert!(!cut || end + 4 > limit || text[..end].ends_with('\n'));
        }

        /// As many documents as have something in them lie between separators.
        #[test]
        fn separators_divide_documents(documents in prop::collection::vec("([a漢\n]{0,40}\n)?", 0..6)) {
            let file = documents.join("<|endofdoc|>\n");
            let given: Vec<String> = pieces(&file, 1 << 10)
                .into_iter()
                .map(|(_, content)| match content {
                    Content::Text { text, ends: true } => text,
                    other => panic!("{other:?}"),
                })
                .collect();
            let wanted: Vec<String> = documents.into_iter().filter(|d| !d.trim().is_empty()).collect();
            prop_assert_eq!(given, wanted);
        }
    }
}
