//! Texts of others on the console and in the record: without what a terminal obeys, in one line, and not without end.

/// Longest reason in bytes: a report of the whole timeline must not exceed what a server accepts.
const LONGEST_REASON: usize = 1000;

/// The first [`LONGEST_REASON`] bytes, cut between two characters.
pub fn bounded(text: &str) -> String {
    let end = text.floor_char_boundary(LONGEST_REASON);
    let more = if end < text.len() { "..." } else { "" };
    [&text[..end], more].concat()
}

/// Replaces everything that a terminal would obey, because PID1's lines contain names and answers of servers. Control
/// characters other than newline and tab are written as in JSON: `\u001b`.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if !c.is_control() || c == '\n' || c == '\t' {
            shown.push(c);
            continue;
        }
        // The last control character is U+009F, so two digits are enough.
        shown.push_str("\\u00");
        let digits = [u32::from(c) >> 4, u32::from(c) & 15];
        shown.extend(digits.iter().filter_map(|digit| char::from_digit(*digit, 16)));
    }
    shown
}

/// A text without line ends.
pub fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_given_nothing_to_obey() {
        for (text, shown) in [
            ("phase ä\tdone\n", "phase ä\tdone\n"),
            ("\u{1b}]0;t\u{7}\r\u{7f}", r"\u001b]0;t\u0007\u000d\u007f"),
            ("\u{9b}31m", r"\u009b31m"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }

    #[test]
    fn no_character_is_cut() {
        assert_eq!(bounded("aä"), "aä");
        assert_eq!(bounded(&"ä".repeat(600)).len(), 1003);
        assert_eq!(bounded(&["a", &"ä".repeat(600)].concat()).len(), 1002);
    }
}
