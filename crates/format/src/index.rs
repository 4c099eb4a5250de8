//! Finding tensors by name without a second copy of the names.

/// The places of a list's items in the order of their names.
#[derive(Clone, Debug, Default)]
pub(crate) struct NameIndex {
    order: Vec<u32>,
}

impl NameIndex {
    /// Indexes the items, or gives an item whose name an earlier one has.
    pub(crate) fn new<T>(items: &[T], name: impl Fn(&T) -> &str) -> Result<NameIndex, &T> {
        let named = |&i: &u32| items.get(i as usize).map(&name);
        let mut order: Vec<u32> = (0..u32::try_from(items.len()).unwrap_or(u32::MAX)).collect();
        // Stable, so that of two equal names the later item comes second.
        order.sort_by(|a, b| named(a).cmp(&named(b)));
        let twice = order.iter().zip(order.iter().skip(1)).find(|(a, b)| named(a) == named(b));
        match twice.and_then(|(_, later)| items.get(*later as usize)) {
            Some(item) => Err(item),
            None => Ok(NameIndex { order }),
        }
    }

    /// The item of that name. `items` and `name` are those that the index was made of.
    pub(crate) fn find<'a, T>(
        &self,
        items: &'a [T],
        wanted: &str,
        name: impl Fn(&T) -> &str,
    ) -> Option<&'a T> {
        items.get(self.position(items, wanted, name)?)
    }

    /// The place of the item of that name.
    pub(crate) fn position<T>(&self, items: &[T], wanted: &str, name: impl Fn(&T) -> &str) -> Option<usize> {
        let named = |&i: &u32| items.get(i as usize).map(&name);
        let at = self.order.binary_search_by(|i| named(i).cmp(&Some(wanted))).ok()?;
        self.order.get(at).map(|i| *i as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_the_later_of_two_equal_is_told() {
        let items = ["b", "a", "c"];
        let index = NameIndex::new(&items, |s| s).unwrap();
        for s in &items {
            assert_eq!(index.find(&items, s, |s| s), Some(s));
        }
        assert_eq!(index.find(&items, "d", |s| s), None);
        let twice = [("b", 0), ("a", 1), ("b", 2)];
        assert_eq!(NameIndex::new(&twice, |t| t.0).unwrap_err(), &("b", 2));
    }
}
