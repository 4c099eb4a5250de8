//! Stop strings in a stream of text.

/// Watches a stream for stop strings and holds back whatever might be the beginning of one, so that nothing of a
/// stop string is ever passed on.
#[derive(Clone, Debug, Default)]
pub struct StopStrings {
    stops: Vec<String>,
    held: String,
}

/// What a piece of text leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Text that is safe to show.
    pub text: String,
    /// The stop string that ended it, by its place in the list.
    pub stop: Option<usize>,
}

impl StopStrings {
    /// Watches for `stops`; empty strings are left out, as they would stop everything.
    pub fn new(stops: impl IntoIterator<Item = String>) -> StopStrings {
        StopStrings { stops: stops.into_iter().filter(|s| !s.is_empty()).collect(), held: String::new() }
    }

    /// Takes the next piece. Text before the earliest stop string is passed on; what follows it is dropped.
    pub fn push(&mut self, piece: &str) -> Passed {
        self.held.push_str(piece);
        let found = self.stops.iter().enumerate().filter_map(|(i, s)| Some((self.held.find(s)?, i))).min();
        if let Some((at, stop)) = found {
            let mut text = std::mem::take(&mut self.held);
            text.truncate(at);
            return Passed { text, stop: Some(stop) };
        }
        let might_begin = |at: &usize| self.stops.iter().any(|s| s.starts_with(&self.held[*at..]));
        let held = self.held.char_indices().map(|(at, _)| at).find(might_begin).unwrap_or(self.held.len());
        let rest = self.held.split_off(held);
        Passed { text: std::mem::replace(&mut self.held, rest), stop: None }
    }

    /// The stop string at place `index` of the list.
    pub fn string(&self, index: usize) -> &str {
        self.stops.get(index).map_or("", String::as_str)
    }

    /// The text that was held back, when the stream ends without a stop string.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, Option<usize>) {
        let mut watch = StopStrings::new(stops.iter().map(|s| (*s).to_owned()));
        let mut text = String::new();
        for piece in pieces {
            let passed = watch.push(piece);
            text += &passed.text;
            if passed.stop.is_some() {
                return (text, passed.stop);
            }
        }
        (text + &watch.finish(), None)
    }

    #[test]
    fn a_stop_string_in_pieces_is_found_and_never_shown() {
        assert_eq!(run(&["###"], &["a#", "b##", "#c"]), ("a#b".to_owned(), Some(0)));
        assert_eq!(run(&["\nUser:", "x"], &["hi\nUs", "er", ": no"]), ("hi".to_owned(), Some(0)));
        assert_eq!(run(&["é!"], &["café", "?"]), ("café?".to_owned(), None));
        assert_eq!(run(&["ab"], &["aa", "a"]), ("aaa".to_owned(), None));
        assert_eq!(run(&[""], &["all of it"]), ("all of it".to_owned(), None));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[abé]{0,30}", stops in prop::collection::vec("[abé]{1,4}", 0..3), cuts in prop::collection::vec(0usize..31, 0..8)) {
            let expected = match stops.iter().enumerate().filter_map(|(i, s)| Some((text.find(s)?, i))).min() {
                // In a stream the stop string that is complete first may win over one that begins earlier.
                Some(_) => None,
                None => Some(text.clone()),
            };
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|&c| text.is_char_boundary(c)).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut last = 0;
            for cut in cuts {
                pieces.push(&text[last..cut]);
                last = cut;
            }
            pieces.push(&text[last..]);
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let (found, stop) = run(&stops, &pieces);
            match expected {
                Some(whole) => prop_assert_eq!((found, stop), (whole, None)),
                None => {
                    prop_assert!(stop.is_some());
                    prop_assert!(text.starts_with(&found));
                    prop_assert!(stops.iter().all(|s| !found.contains(s)), "a stop string was shown");
                }
            }
        }
    }
}
