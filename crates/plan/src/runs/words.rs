//! Figures in remarks and commands.

/// The number that follows `before`, the first time that one does.
pub(super) fn number_after(text: &str, before: &str) -> Option<f64> {
    text.match_indices(before).find_map(|(at, _)| leading_number(text.get(at + before.len()..)?))
}

/// The number before `after`.
pub(super) fn number_before(text: &str, after: &str) -> Option<f64> {
    text.match_indices(after).find_map(|(at, _)| {
        let head = text.get(..at)?;
        let start = head.rfind(|c: char| !c.is_ascii_digit() && c != '.').map_or(0, |i| i + 1);
        // The character found may take several bytes.
        head.get(start..).and_then(|n| n.parse().ok())
    })
}

/// The first year from 2020 on that is named.
pub(super) fn year(text: &str) -> Option<f64> {
    let named = |word: &str| word.parse().ok().filter(|y| word.len() == 4 && (2020.0..2100.0).contains(y));
    text.split(|c: char| !c.is_ascii_digit()).find_map(named)
}

fn leading_number(text: &str) -> Option<f64> {
    let mut dots = 0;
    let end = text.find(|c: char| {
        dots += usize::from(c == '.');
        !c.is_ascii_digit() && c != '.' || dots > 1
    });
    text.get(..end.unwrap_or(text.len()))?.trim_end_matches('.').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_beside_their_words() {
        let notes = "384 requests, concurrency 96, request rate 2.5; 90 % cached prefix";
        assert_eq!(number_after(notes, "concurrency "), Some(96.0));
        assert_eq!(number_after(notes, "request rate "), Some(2.5));
        assert_eq!(number_before(notes, " requests"), Some(384.0));
        assert_eq!(number_before(notes, " % cached"), Some(90.0));
        assert_eq!(number_after("request rate None", "request rate "), None);
        assert_eq!(number_after("section 26.04.01 of", "section "), Some(26.04));
        assert_eq!(number_before("é% of", "% of"), None);
        assert_eq!(year("llama.cpp May 2024; 1024 tokens of 2048"), Some(2024.0));
        assert_eq!(year("1024 tokens in 20251"), None);
    }
}
