//! Takes out of a console's text what moves a cursor and sets colours: firmware and network loaders draw on the console,
//! and go on with it in the middle of another program's line:
//!
//! ```text
//! b<ESC>[25;02Hootwright: 2.120 this is n1
//! ```

use std::iter::Peekable;
use std::str::Chars;

/// The text without escape sequences and control characters (tabs stay), and without blanks at its end.
pub fn plain_text(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            skip_sequence(&mut chars);
        } else if !c.is_control() || c == '\t' {
            out.push(c);
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// Passes over the rest of an escape sequence: a control sequence has parameters, intermediate characters and one final
/// character (ECMA-48 section 5.4), any other intermediate characters and a final one (ECMA-35 section 13.2).
fn skip_sequence(chars: &mut Peekable<Chars<'_>>) {
    if chars.next_if_eq(&'[').is_some() {
        while chars.next_if(|c| ('0'..='?').contains(c)).is_some() {}
    }
    while chars.next_if(|c| (' '..='/').contains(c)).is_some() {}
    chars.next_if(|c| ('0'..='~').contains(c));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_and_control_characters_are_taken_out() {
        for (said, plain) in [
            ("\x1b[2J\x1b[1;37mSeaBIOS\x1b[0m (1)\x1bc\x07\r", "SeaBIOS (1)"),
            ("b\x1b[25;02Hootwright: 2.120 this is n1", "bootwright: 2.120 this is n1"),
            ("\x1b[?25l\x1b[=3hGRUB\x1b(B\x1b[m \x1b[1 q2", "GRUB 2"),
            ("a\tb  ", "a\tb"),
            ("a\x1b", "a"),
            ("a\x1b[", "a"),
            ("a\x1b[1;\x1b[2mb", "ab"),
        ] {
            assert_eq!(plain_text(said), plain, "{said:?}");
        }
    }
}
