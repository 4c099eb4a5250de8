//! Responses that a later request may build on, in memory, for as long as there is room.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use autarky_text::Message;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Bytes of one response with its conversation; a larger one is not kept.
const LARGEST: usize = 16 << 20;
/// Bytes of all; the oldest go first.
const ALL: usize = 256 << 20;
/// Responses; the oldest go first.
const MOST: usize = 10_000;

/// What is kept of a response.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    /// As it was answered.
    pub(super) response: Value,
    /// The conversation with it, without instructions.
    pub(super) messages: Vec<Message>,
    /// The items that were sent.
    pub(super) input: Vec<Value>,
}

/// Responses by client and id.
#[derive(Debug, Default)]
pub(super) struct Responses {
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    /// As JSON, which takes less room.
    texts: HashMap<(u64, String), String>,
    /// In order of arrival; some may be gone.
    order: VecDeque<(u64, String)>,
    bytes: usize,
}

impl Responses {
    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a response; where it is too large, or cannot be written, it is not there later.
    pub(super) fn put(&self, client: u64, id: &str, kept: &Kept) {
        let Ok(text) = serde_json::to_string(kept) else { return };
        if text.len() > LARGEST {
            return;
        }
        let mut shelf = self.lock();
        let key = (client, id.to_owned());
        shelf.bytes += text.len();
        shelf.order.push_back(key.clone());
        shelf.texts.insert(key, text);
        while shelf.bytes > ALL || shelf.order.len() > MOST {
            let Some(oldest) = shelf.order.pop_front() else { return };
            shelf.remove(&oldest);
        }
    }

    pub(super) fn get(&self, client: u64, id: &str) -> Option<Kept> {
        let text = self.lock().texts.get(&(client, id.to_owned()))?.clone();
        serde_json::from_str(&text).ok()
    }

    /// Whether there was one.
    pub(super) fn delete(&self, client: u64, id: &str) -> bool {
        self.lock().remove(&(client, id.to_owned()))
    }
}

impl Shelf {
    fn remove(&mut self, key: &(u64, String)) -> bool {
        let Some(text) = self.texts.remove(key) else { return false };
        self.bytes -= text.len();
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kept(bytes: usize) -> Kept {
        Kept { response: json!("x".repeat(bytes)), messages: Vec::new(), input: Vec::new() }
    }

    #[test]
    fn the_oldest_go_when_there_is_no_room() {
        let responses = Responses::default();
        for i in 0..30 {
            responses.put(1, &i.to_string(), &kept(10 << 20));
        }
        assert!(responses.get(1, "4").is_none() && responses.get(1, "5").is_some());
        assert!(responses.lock().bytes <= ALL);
        responses.put(1, "huge", &kept(LARGEST));
        assert!(responses.get(1, "huge").is_none());
    }

    #[test]
    fn nobody_sees_anothers() {
        let responses = Responses::default();
        responses.put(1, "a", &kept(1));
        assert!(responses.get(2, "a").is_none() && !responses.delete(2, "a"));
        assert!(responses.delete(1, "a") && !responses.delete(1, "a") && responses.get(1, "a").is_none());
        assert_eq!(responses.lock().bytes, 0);
    }
}
