//! The shell patterns of modules.alias (fnmatch(3) without flags): `*`, `?`, `[a-z]`, `[!a-z]`, `\x`.

/// Whether the whole text matches. `-` and `_` are alike, as modprobe(8) takes them.
pub fn fnmatch(pattern: &str, text: &str) -> bool {
    matches(pattern.as_bytes(), text.as_bytes())
}

fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where the last `*` was, and how much text it has taken: on a mismatch it takes one more byte.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p, t));
            p += 1;
            continue;
        }
        if t == text.len() {
            return pattern[p..].iter().all(|b| *b == b'*');
        }
        if p < pattern.len()
            && let Some(next) = match_one(pattern, p, text[t])
        {
            (p, t) = (next, t + 1);
            continue;
        }
        let Some((at, taken)) = star else { return false };
        star = Some((at, taken + 1));
        (p, t) = (at + 1, taken + 1);
    }
}

/// Matches one byte; returns where the pattern goes on.
fn match_one(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    match pattern[p] {
        b'?' => Some(p + 1),
        b'[' => match_set(pattern, p, byte).unwrap_or_else(|| (byte == b'[').then_some(p + 1)),
        b'\\' if p + 1 < pattern.len() => (pattern[p + 1] == byte).then_some(p + 2),
        other => (plain(other) == plain(byte)).then_some(p + 1),
    }
}

fn plain(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte }
}

/// `None`: the bracket is never closed and stands for itself.
fn match_set(pattern: &[u8], open: usize, byte: u8) -> Option<Option<usize>> {
    let negated = matches!(pattern.get(open + 1), Some(b'!' | b'^'));
    let first = open + 1 + usize::from(negated);
    // A `]` right at the start is one of the set.
    let close = first + 1 + pattern.get(first + 1..)?.iter().position(|b| *b == b']')?;
    let (mut at, mut hit) = (first, false);
    while at < close {
        let low = pattern[at];
        if at + 2 < close && pattern[at + 1] == b'-' {
            hit |= (low..=pattern[at + 2]).contains(&byte);
            at += 3;
        } else {
            hit |= low == byte;
            at += 1;
        }
    }
    Some((hit != negated).then_some(close + 1))
}

#[cfg(test)]
mod tests {
    use super::fnmatch;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("pci:v00008086d*", "pci:v00008086d000010D3sv*sd*bc*sc*i*", true),
            ("pci:v00008086d000010D3sv*sd*bc*sc*i*", "pci:v00008086d000010D3sv00001AF4sd00001100bc02sc00i00", true),
            ("pci:v00008086d000010D4sv*", "pci:v00008086d000010D3sv1", false),
            ("*a*b", "xaybzb", true),
            ("*a*b", "xaybzc", false),
            ("usb:v*dc[0-9A]?", "usb:v1dcA1", true),
            ("x[!0-9]y", "x1y", false),
            ("x[!0-9]y", "xay", true),
            ("x[]]y", "x]y", true),
            ("x[y", "x[y", true),
            ("net-pf-10", "net_pf_10", true),
            (r"a\*", "a*", true),
            (r"a\*", "ab", false),
            ("", "", true),
            ("**", "", true),
            ("a", "", false),
        ] {
            assert_eq!(fnmatch(pattern, text), expected, "{pattern} {text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(pattern in r"[a\[\]!*?\\-]{0,12}", text in r"[a\[\]!-]{0,12}") {
            fnmatch(&pattern, &text);
        }

        #[test]
        fn a_plain_text_matches_itself(text in "[a-z0-9:_]{0,20}") {
            let longer = format!("{text}*");
            proptest::prop_assert!(fnmatch(&text, &text) && fnmatch(&longer, &text));
        }
    }
}
