//! A JSON document that nobody looks into: checked, and copied without the spaces, but never made into a tree.
//!
//! A tree would take a multiple of the memory: of eight megabytes of `[0,0,0,...]` it makes a hundred and more.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::store::conversations::Conversation;

/// The text of any JSON value, compact. Numbers are what JavaScript reads of them: integers of 64 bits, or floats.
/// Nesting is bounded by serde_json, at 128.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CompactJson(Vec<u8>);

impl CompactJson {
    /// The text; `None` when it is longer than `limit`, which may be no more than a document has.
    pub(super) fn text(self, limit: usize) -> Option<String> {
        if self.0.len() > limit { None } else { String::from_utf8(self.0).ok() }
    }
}

impl<'de> Deserialize<'de> for CompactJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<CompactJson, D::Error> {
        let mut out = Vec::new();
        Copy(&mut out).deserialize(deserializer)?;
        Ok(CompactJson(out))
    }
}

/// Writes what it reads, until that is too long: then it only reads.
struct Copy<'a>(&'a mut Vec<u8>);

impl Copy<'_> {
    fn put(&mut self, text: &[u8]) {
        if self.0.len() <= Conversation::MAX_DOCUMENT {
            self.0.extend_from_slice(text);
        }
    }

    fn value<E: serde::de::Error>(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), E> {
        if self.0.len() <= Conversation::MAX_DOCUMENT {
            serde_json::to_writer(&mut *self.0, value).map_err(E::custom)?;
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Copy<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Copy<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E: serde::de::Error>(mut self) -> Result<(), E> {
        self.put(b"null");
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(mut self, value: bool) -> Result<(), E> {
        self.value(&value)
    }

    fn visit_i64<E: serde::de::Error>(mut self, value: i64) -> Result<(), E> {
        self.value(&value)
    }

    fn visit_u64<E: serde::de::Error>(mut self, value: u64) -> Result<(), E> {
        self.value(&value)
    }

    fn visit_f64<E: serde::de::Error>(mut self, value: f64) -> Result<(), E> {
        self.value(&value)
    }

    fn visit_str<E: serde::de::Error>(mut self, value: &str) -> Result<(), E> {
        self.value(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.put(b"[");
        let start = self.0.len();
        while items.next_element_seed(Item(Copy(self.0), start))?.is_some() {}
        self.put(b"]");
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        self.put(b"{");
        let start = self.0.len();
        while entries.next_key_seed(Item(Copy(self.0), start))?.is_some() {
            self.put(b":");
            entries.next_value_seed(Copy(self.0))?;
        }
        self.put(b"}");
        Ok(())
    }
}

/// One of several, with a comma before it unless it begins at `1`.
struct Item<'a>(Copy<'a>, usize);

impl<'de> DeserializeSeed<'de> for Item<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Item(mut copy, start) = self;
        if copy.0.len() > start {
            copy.put(b",");
        }
        copy.deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn compact(text: &str) -> Result<String, String> {
        let json: CompactJson = serde_json::from_str(text).map_err(|e| e.to_string())?;
        json.text(Conversation::MAX_DOCUMENT).ok_or_else(|| "too large".to_owned())
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_filter("JSON has no others", |f| f.is_finite()).prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 60, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((".*", inner), 0..6)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_json_is_copied_as_it_is_without_spaces(value in any_json()) {
            let spaced = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(compact(&spaced).unwrap(), value.to_string());
        }

        #[test]
        fn what_is_not_json_is_refused(text in "[\\[\\]{},:\"0-9a-z\\\\ .-]{0,12}") {
            prop_assert_eq!(compact(&text).is_ok(), serde_json::from_str::<Value>(&text).is_ok());
        }
    }

    #[test]
    fn deep_nesting_is_refused_before_the_stack_ends() {
        assert_eq!(compact(&format!("{}{}", "[".repeat(100), "]".repeat(100))).unwrap().len(), 200);
        let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert!(compact(&deep).unwrap_err().contains("recursion limit"));
    }

    #[test]
    fn a_copy_that_grows_ends_at_the_limit() {
        // Four bytes become eighteen.
        let numbers = format!("[{}1e15]", "1e15,".repeat(1 << 20));
        let json: CompactJson = serde_json::from_str(&numbers).unwrap();
        assert!(json.0.len() < Conversation::MAX_DOCUMENT + 100, "{}", json.0.len());
        assert_eq!(json.text(Conversation::MAX_DOCUMENT), None);
    }
}
