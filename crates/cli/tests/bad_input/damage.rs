//! Damage done to bytes: where a GGUF header's integers and texts stand, and what they are set to.

/// Numbers that catch counts, lengths, dimensions and offsets out.
pub(crate) const EVIL: [u64; 10] =
    [0, 1, 255, (1 << 31) - 1, 1 << 31, u32::MAX as u64, 1 << 32, (1 << 62) + 1, 1 << 63, u64::MAX];

/// Something in a header.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Bytes from the start of the file.
    pub(crate) at: usize,
    /// Its length in bytes.
    pub(crate) width: usize,
    /// What it is.
    pub(crate) what: String,
    /// Whether it is text; else it is a number.
    pub(crate) text: bool,
}

/// Everything in the header of a valid GGUF file, in order.
pub(crate) fn items(bytes: &[u8]) -> Vec<Item> {
    let mut walk = Walk { bytes, at: 4, items: Vec::new() };
    walk.number(4, "version");
    let tensors = walk.number(8, "tensor count");
    let keys = walk.number(8, "metadata key count");
    for _ in 0..keys {
        let key = walk.text("key");
        let kind = walk.number(4, &format!("type of {key}"));
        walk.value(kind, &key);
    }
    for _ in 0..tensors {
        let name = walk.text("tensor");
        let dimensions = walk.number(4, &format!("number of dimensions of {name}"));
        for d in 0..dimensions {
            walk.number(8, &format!("dimension {d} of {name}"));
        }
        walk.number(4, &format!("type of {name}"));
        walk.number(8, &format!("offset of {name}"));
    }
    walk.items
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    items: Vec<Item>,
}

impl Walk<'_> {
    fn number(&mut self, width: usize, what: &str) -> u64 {
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(&self.bytes[self.at..self.at + width]);
        self.items.push(Item { at: self.at, width, what: what.to_owned(), text: false });
        self.at += width;
        u64::from_le_bytes(bytes)
    }

    fn text(&mut self, what: &str) -> String {
        let length = self.number(8, &format!("length of {what}")) as usize;
        let text = String::from_utf8(self.bytes[self.at..self.at + length].to_vec()).expect("a valid file");
        self.items.push(Item { at: self.at, width: length, what: format!("{what} {text:?}"), text: true });
        self.at += length;
        text
    }

    fn value(&mut self, kind: u64, key: &str) {
        match kind {
            0 | 1 | 7 => drop(self.number(1, key)),
            2 | 3 => drop(self.number(2, key)),
            4..=6 => drop(self.number(4, key)),
            10..=12 => drop(self.number(8, key)),
            8 => drop(self.text(key)),
            _ => {
                let kind = self.number(4, &format!("element type of {key}"));
                let count = self.number(8, &format!("length of {key}"));
                (0..count).for_each(|_| self.value(kind, key));
            }
        }
    }
}

/// The bytes with `item` set to `value`, cut to its width.
pub(crate) fn set(bytes: &[u8], item: &Item, value: u64) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[item.at..item.at + item.width].copy_from_slice(&value.to_le_bytes()[..item.width]);
    bytes
}
