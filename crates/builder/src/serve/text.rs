//! Text that a stranger sent, as it may stand on a terminal and on the page.

use std::borrow::Cow;

/// `text` with at most `most` characters, and with a replacement character for each that steers instead of showing: control
/// characters, and those that change the direction or the grouping of what stands beside them (Unicode, UAX #9, table 4; U+2028 and
/// U+2029 end a line).
pub fn shown(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most && !text.chars().any(steers) {
        return text.into();
    }
    let mut chars = text.chars();
    let mut cut: String =
        chars.by_ref().take(most).map(|c| if steers(c) { char::REPLACEMENT_CHARACTER } else { c }).collect();
    if chars.next().is_some() {
        cut.push('…');
    }
    cut.into()
}

fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_is_replaced_and_what_is_long_is_cut() {
        for (text, expected) in [
            ("GET /worker/vmlinuz 200", "GET /worker/vmlinuz 200"),
            ("Ünïcödé שלום 日本", "Ünïcödé שלום 日本"),
            ("\u{1b}[2J\u{7}\u{9b}31m\n", "\u{fffd}[2J\u{fffd}\u{fffd}31m\u{fffd}"),
            ("a\u{202e}exe.b\u{2066}\u{2069}\u{200f}", "a\u{fffd}exe.b\u{fffd}\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(shown(text, 30), expected);
        }
        assert_eq!(shown("äöüß", 4), "äöüß");
        assert_eq!(shown("äöüßx", 4), "äöüß…");
    }
}
