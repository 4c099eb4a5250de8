//! GGUF files damaged byte by byte: cuts, integers, texts, names given twice.

use crate::cases::{Each, Expect, gguf, refused};
use crate::damage::{EVIL, Item, items, set};
use crate::models::dense;

/// Every case of this module.
pub(crate) fn each(each: &mut Each<'_>) {
    let good = dense().bytes().expect("a valid file");
    let items = items(&good);
    cuts(&good, each);
    integers(&good, &items, each);
    texts(&good, &items, each);
    twice(&good, &items, each);
    wrapping(&good, &items, each);
    each(gguf("empty", Vec::new(), refused(["magic", "byte 0"])));
    each(gguf("text", b"This is no model.\n".to_vec(), refused(["magic", "GGUF", "byte 0"])));
}

/// The file cut at every byte.
fn cuts(good: &[u8], each: &mut Each<'_>) {
    for length in 0..good.len() {
        // What is cut off behind the last tensor's data is padding.
        let padding = good.len() - length < 32;
        let expect = if padding { Expect::Any } else { refused([", byte "]) };
        each(gguf(format!("cut at byte {length}"), good[..length].to_vec(), expect));
    }
}

/// Every integer of the header, a key's value or an element of an array, set to each evil number.
fn integers(good: &[u8], items: &[Item], each: &mut Each<'_>) {
    for item in items.iter().filter(|i| !i.text) {
        for value in EVIL {
            let expect = match &*item.what {
                // Lengths and counts of what does not follow are told with their place.
                w if w.contains("count") && !w.contains("llama.") && value > 1 << 30 => refused([", byte "]),
                w if w.starts_with("length of") && value > 1 << 20 => refused([", byte "]),
                w if w.starts_with("dimension ") && value > 1 << 30 => refused([", byte "]),
                w if w.starts_with("offset of ") && value > 1 << 20 => refused([", byte "]),
                _ => Expect::Any,
            };
            each(gguf(format!("{} = {value:#x}", item.what), set(good, item, value), expect));
        }
    }
}

/// Every text begins with a byte that UTF-8 never has.
fn texts(good: &[u8], items: &[Item], each: &mut Each<'_>) {
    for item in items.iter().filter(|i| i.text && i.width > 0) {
        let mut bytes = good.to_vec();
        bytes[item.at] = 0xff;
        let place = format!("byte {}", item.at);
        each(gguf(format!("not UTF-8: {}", item.what), bytes, refused(["not valid UTF-8", &place])));
    }
}

/// Every key and every tensor takes the name of another of the same length.
fn twice(good: &[u8], items: &[Item], each: &mut Each<'_>) {
    let names: Vec<&Item> =
        items.iter().filter(|i| i.what.starts_with("key ") || i.what.starts_with("tensor ")).collect();
    for (n, a) in names.iter().enumerate() {
        let same =
            |b: &&&Item| b.width == a.width && b.what.starts_with("key ") == a.what.starts_with("key ");
        for b in names[n + 1..].iter().filter(same) {
            let mut bytes = good.to_vec();
            bytes.copy_within(a.at..a.at + a.width, b.at);
            let what = format!("{} in place of {}", a.what, b.what);
            each(gguf(what, bytes, refused(["occurs a second time", ", byte "])));
        }
    }
}

/// Dimensions whose product wraps round to something small.
fn wrapping(good: &[u8], items: &[Item], each: &mut Each<'_>) {
    let dims: Vec<&Item> = items.iter().filter(|i| i.what.starts_with("dimension ")).collect();
    for pair in dims
        .windows(2)
        .filter(|p| p[0].what.starts_with("dimension 0") && p[1].what.starts_with("dimension 1"))
    {
        for (a, b) in
            [(1 << 32, 1 << 32), (1 << 63, 2), ((1 << 62) + 32, 4), (32, (1 << 59) + 1), (1 << 61, 8)]
        {
            let bytes = set(&set(good, pair[0], a), pair[1], b);
            let what = format!("{} and the next = {a:#x}, {b:#x}", pair[0].what);
            each(gguf(what, bytes, refused([", byte "])));
        }
    }
}
