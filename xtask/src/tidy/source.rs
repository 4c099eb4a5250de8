//! Rust source with its comments and literals blanked, so that a rule about code is not broken by prose.

/// The code of `source`: the contents of comments, strings and character literals become spaces; every newline stays,
/// so line numbers agree.
pub(super) fn code_of(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = at + literal_length(&chars, at);
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// How many characters the comment or literal that starts at `at` takes, its delimiters included; 0 for code.
fn literal_length(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    let inside_word = at > 0 && is_word(chars[at - 1]);
    match rest {
        ['/', '/', ..] => rest.iter().position(|&c| c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => block_comment(rest),
        ['"', ..] => quoted(rest, '"'),
        ['\'', ..] => char_literal(rest),
        ['b' | 'c' | 'r', ..] if !inside_word => prefixed(rest),
        _ => 0,
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Block comments nest.
fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// A literal between two `quote`s in which a backslash escapes the next character.
fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A character literal; 0 for a lifetime or a label, which start alike.
fn char_literal(rest: &[char]) -> usize {
    match rest {
        ['\'', '\\', ..] => quoted(rest, '\''),
        ['\'', _, '\'', ..] => 3,
        _ => 0,
    }
}

/// `b"…"`, `c"…"`, `b'…'`, `r"…"`, `r#"…"#`, `br#"…"#` and `cr#"…"#`; 0 for a name that starts with such a letter.
fn prefixed(rest: &[char]) -> usize {
    let prefix = rest.iter().take_while(|c| matches!(c, 'b' | 'c' | 'r')).count();
    let raw = rest[..prefix].contains(&'r');
    let hashes = if raw { rest[prefix..].iter().take_while(|&&c| c == '#').count() } else { 0 };
    let open = prefix + hashes;
    match rest.get(open) {
        Some('"') if raw => {
            let closing = |at: usize| {
                rest[at] == '"' && rest[at + 1..].iter().take_while(|&&c| c == '#').count() >= hashes
            };
            (open + 1..rest.len()).find(|&at| closing(at)).map_or(rest.len(), |at| at + 1 + hashes)
        }
        Some('"') if prefix == 1 => 1 + quoted(&rest[1..], '"'),
        Some('\'') if rest[..open] == ['b'] => match char_literal(&rest[1..]) {
            0 => 0,
            n => 1 + n,
        },
        _ => 0,
    }
}

/// Whether `word` stands in `line` as a whole word.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the word `unsafe` is left when comments and literals are gone.
    fn sees(source: &str) -> bool {
        has_word(&code_of(source), "unsafe")
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        for source in [
            "// unsafe",
            "/* a /* nested */ unsafe */",
            "/// unsafe\nfn f() {}",
            "let s = \"unsafe\";",
            "let s = \"a \\\" unsafe\";",
            "let s = r\"\\\" ; let t = \" unsafe\";",
            "let s = r#\"a \" unsafe\"#;",
            "let s = br##\"a \"# unsafe\"##;",
            "let s = b\"unsafe\";",
            "let s = c\"unsafe\";",
            "let c = '\"'; let s = \"unsafe\";",
            "let c = b'\"'; let s = \"unsafe\";",
            "let c = '\\''; let s = \"unsafe\";",
            "\"unterminated unsafe",
            "unsafe_code",
        ] {
            assert!(!sees(source), "{source}");
        }
    }

    #[test]
    fn code_beside_comments_and_literals_is_kept() {
        for source in [
            "unsafe { f() }",
            "/* a */ unsafe { f() }",
            "\"a\"; unsafe { f() }",
            "r#\"a\"#; unsafe { f() }",
            "fn f<'a>(x: &'a str) -> &'a str { unsafe { g(x) } }",
            "'label: loop { unsafe { f() } }",
            "let var = 1; unsafe { f(var) }",
            "let c = 'x'; unsafe { f(c) }",
            "let r#type = 1; unsafe { f() }",
            "(unsafe{f()})",
        ] {
            assert!(sees(source), "{source}");
        }
    }

    #[test]
    fn line_numbers_agree() {
        let source = "/* a\nb */ x\n\"c\nd\" y\n";
        let code = code_of(source);
        assert_eq!(code.lines().count(), source.lines().count());
        assert_eq!(code.lines().map(str::trim).collect::<Vec<_>>(), ["", "x", "", "y"]);
    }
}
