//! Shell patterns as modules.alias uses them: `*`, `?`, `[...]` with ranges and `!`; `-` and `_` are alike
//! outside of brackets (modprobe(8)).

/// False when the pattern that this line begins with cannot match: of thousands, nearly all differ in the first few bytes.
pub fn may_match(line: &str, text: &str) -> bool {
    let special = |b: &u8| b" *?[".contains(b);
    let mut both = line.bytes().take_while(|b| !special(b)).zip(text.bytes());
    both.all(|(pattern, text)| fold(pattern) == fold(text))
}

/// True when the whole of `text` matches.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on when a later part does not match: after the last `*`, one more byte of text swallowed by it.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(_) if t < text.len() => match_one(&pattern[p..], text[t]),
            None if t == text.len() => return true,
            _ => None,
        };
        match (step, retry) {
            (Some(used), _) => (p, t) = (p + used, t + 1),
            (None, Some((after_star, from))) if from < text.len() => {
                retry = Some((after_star, from + 1));
                (p, t) = (after_star, from + 1);
            }
            _ => return false,
        }
    }
}

/// Matches one byte with the first element of the pattern; gives the element's length.
fn match_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern[0] {
        b'?' => Some(1),
        b'[' => match_set(pattern, byte),
        literal => (fold(literal) == fold(byte)).then_some(1),
    }
}

fn fold(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte }
}

/// A set that is not closed matches nothing.
fn match_set(pattern: &[u8], byte: u8) -> Option<usize> {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let start = if negated { 2 } else { 1 };
    // A `]` in the first place is a member.
    let end = start + 1 + pattern.get(start + 1..)?.iter().position(|b| *b == b']')?;
    let set = &pattern[start..end];
    let mut found = false;
    let mut i = 0;
    while i < set.len() {
        if set.get(i + 1) == Some(&b'-') && i + 2 < set.len() {
            found |= (set[i]..=set[i + 2]).contains(&byte);
            i += 3;
        } else {
            found |= set[i] == byte;
            i += 1;
        }
    }
    (found != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn table() {
        let virtio = "virtio:d00000001v00001AF4";
        let cases = [
            ("virtio:d00000001v*", virtio, true),
            ("virtio:d00000002v*", virtio, false),
            ("pci:v00008086d0000100[EF]sv*sd*bc*", "pci:v00008086d0000100Esv1sd2bc3", true),
            ("pci:v00008086d0000100[EF]sv*", "pci:v00008086d0000100Gsv1", false),
            ("input:b*v*p*e*-e*11,*k*", "input:b0019v0000p0001e0000-e0,11,kra", true),
            ("usb:v*d[0-2]*", "usb:v1d2x", true),
            ("usb:v*d[0-2]*", "usb:v1d3x", false),
            ("x[!0-9]", "xa", true),
            ("x[!0-9]", "x5", false),
            ("net-pf-10", "net_pf_10", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a[b", "a[b", false),
            ("a[b", "ab", false),
            ("[]]", "]", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a**b*c", "aXbYbc", true),
            ("a*b", "aXbY", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
            assert!(!expected || may_match(pattern, text), "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(pattern in "[-a-c*?!\\[\\]]{0,12}", text in "[-a-c\\]]{0,12}") {
            let line = [&pattern, " name"].concat();
            prop_assert!(!matches(&pattern, &text) || may_match(&line, &text));
        }

        #[test]
        fn literal_text_matches_itself_and_with_stars_around(text in "[a-z0-9:_-]{0,12}", at in 0usize..12) {
            prop_assert!(matches(&text, &text));
            let at = at.min(text.len());
            let starred = format!("*{}*{}*", &text[..at], &text[at..]);
            prop_assert!(matches(&starred, &text));
        }
    }
}
