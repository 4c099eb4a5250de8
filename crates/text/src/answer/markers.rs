//! Finding fixed texts in a text that comes character by character.

/// Looks for any of some markers. No marker is the beginning of another.
#[derive(Debug)]
pub(super) struct Markers {
    texts: Vec<&'static str>,
    /// The beginning of a marker, or nothing.
    held: String,
}

impl Markers {
    pub(super) fn new(texts: impl Into<Vec<&'static str>>) -> Self {
        Self { texts: texts.into(), held: String::new() }
    }

    /// Takes the next character. Puts what belongs to no marker behind `free`, and gives the marker that is
    /// complete. Amortized, the time depends on the markers alone.
    pub(super) fn push(&mut self, c: char, free: &mut String) -> Option<&'static str> {
        if self.held.is_empty() && !self.texts.iter().any(|text| text.starts_with(c)) {
            free.push(c);
            return None;
        }
        self.held.push(c);
        while !self.texts.iter().any(|text| text.starts_with(&*self.held)) {
            let Some(first) = self.held.chars().next() else { break };
            free.push(first);
            self.held.drain(..first.len_utf8());
        }
        let found = self.texts.iter().copied().find(|text| *text == self.held);
        if found.is_some() {
            self.held.clear();
        }
        found
    }

    /// Whether nothing is held back.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty()
    }

    /// Gives up what is held back.
    pub(super) fn take(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// What an [`Expect`] makes of a character.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Blanks or the beginning of a marker, so far.
    More,
    /// This marker, and nothing before it but blanks.
    Found(&'static str),
    /// Something else; the text from its beginning on.
    Other(String),
}

/// Wants one of some markers, with blanks before it.
#[derive(Debug)]
pub(super) struct Expect {
    texts: &'static [&'static str],
    held: String,
}

impl Expect {
    pub(super) fn new(texts: &'static [&'static str]) -> Self {
        Self { texts, held: String::new() }
    }

    /// Whether nothing but blanks came.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn push(&mut self, c: char) -> Expected {
        if self.held.is_empty() && c.is_whitespace() {
            return Expected::More;
        }
        self.held.push(c);
        if let Some(found) = self.texts.iter().copied().find(|text| *text == self.held) {
            self.held.clear();
            return Expected::Found(found);
        }
        if self.texts.iter().any(|text| text.starts_with(&*self.held)) {
            return Expected::More;
        }
        Expected::Other(std::mem::take(&mut self.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(texts: &[&'static str], text: &str) -> (String, Vec<&'static str>, String) {
        let mut markers = Markers::new(texts);
        let mut free = String::new();
        let found = text.chars().filter_map(|c| markers.push(c, &mut free)).collect();
        (free, found, markers.take())
    }

    #[test]
    fn markers_are_found_wherever_they_begin() {
        let texts = ["<a>", "<<b>", "</a>"];
        assert_eq!(run(&texts, "x<a>y"), ("xy".into(), vec!["<a>"], String::new()));
        assert_eq!(run(&texts, "<<a><<<b>"), ("<<".into(), vec!["<a>", "<<b>"], String::new()));
        assert_eq!(run(&texts, "1 < 2 </b> <"), ("1 < 2 </b> ".into(), vec![], "<".into()));
        assert_eq!(run(&[], "<a>"), ("<a>".into(), vec![], String::new()));
    }
}
