//! JSON within bounds: in memory a value takes up to a hundred times its text, so the number of values is limited
//! while they are read, not after.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Values in a part of a file that is read without types. The largest in use, Gemma's `tokenizer_config.json`, has 60
/// thousand.
const MOST_VALUES: usize = 1 << 18;

/// Any JSON of at most [`MOST_VALUES`] values.
#[derive(Default)]
pub(super) struct Loose(pub(super) Value);

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Bounded { left: &Cell::new(MOST_VALUES) }.deserialize(deserializer).map(Loose)
    }
}

/// Reads a value, and counts it and all within it.
#[derive(Clone, Copy)]
struct Bounded<'a> {
    left: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.ok_or_else(|| D::Error::custom(format_args!("more than {MOST_VALUES} values")))?);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(flag.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = sequence.next_element_seed(self)? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            object.insert(key, map.next_value_seed(self)?);
        }
        Ok(Value::Object(object))
    }
}

/// A list of at most `MOST` items.
pub(super) struct List<T, const MOST: usize>(pub(super) Vec<T>);

impl<T, const MOST: usize> Default for List<T, MOST> {
    fn default() -> Self {
        List(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for List<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T, const MOST: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Items<T, MOST> {
            type Value = List<T, MOST>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MOST} items")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = sequence.next_element()? {
                    if items.len() == MOST {
                        return Err(A::Error::custom(format_args!("a list of more than {MOST} items")));
                    }
                    items.push(item);
                }
                Ok(List(items))
            }
        }

        deserializer.deserialize_seq(Items::<T, MOST>(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loose_json_is_what_serde_json_makes_of_it() {
        let text = r#"{"a": [null, true, -3, 18446744073709551615, 0.5, "ä\n", {"b": []}], "c": {}}"#;
        let loose: Loose = serde_json::from_str(text).unwrap();
        assert_eq!(loose.0, serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn too_many_values_are_told_before_they_fill_the_memory() {
        let list = |count: usize| format!("[{}0]", "0,".repeat(count - 1));
        // The list is a value, too.
        assert!(serde_json::from_str::<Loose>(&list(MOST_VALUES - 1)).is_ok());
        let error = serde_json::from_str::<Loose>(&list(MOST_VALUES)).err().unwrap();
        assert!(error.to_string().contains("more than 262144 values at line 1"), "{error}");
        assert_eq!(serde_json::from_str::<List<u8, 3>>("[1, 2, 3]").unwrap().0, [1, 2, 3]);
        let error = serde_json::from_str::<List<u8, 3>>("[1, 2, 3, 4]").err().unwrap();
        assert!(error.to_string().contains("more than 3 items"), "{error}");
    }
}
