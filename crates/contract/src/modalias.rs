//! Which alias of modules.alias serves which modalias, as kmod finds it.
//!
//! depmod(8) and libkmod write `-` as `_` in both (`alias_normalize` of libkmod/libkmod-util.c), leave out an alias whose
//! brackets do not pair, compare what stands before the first wildcard byte for byte, and give the rest to fnmatch(3)
//! without flags (`index_mm_searchwild_all` of libkmod/libkmod-index.c).

/// Bytes that end the part of an alias that is compared as it is.
const WILDCARDS: [u8; 3] = *b"*?[";

/// Whether `alias`, a pattern of modules.alias, serves `modalias`: what a device says of itself, or another alias that was
/// asked for (`fs-ext3`). An alias whose brackets do not pair serves nothing.
pub fn serves(alias: &str, modalias: &str) -> bool {
    if !may_serve(alias, modalias) {
        return false;
    }
    let (Some(alias), Some(modalias)) = (normalize(alias), normalize(modalias)) else { return false };
    let start = alias.iter().take_while(|b| !WILDCARDS.contains(b)).count();
    match (alias.split_at_checked(start), modalias.split_at_checked(start)) {
        (Some((start, [])), _) => start == modalias,
        (Some((start, pattern)), Some((same, text))) => start == same && fnmatch_bytes(pattern, text),
        _ => false,
    }
}

/// False when `alias` begins otherwise than `modalias`, at little cost: of thousands, nearly all do. `alias` may be the
/// beginning of a line: a blank ends it.
pub fn may_serve(alias: &str, modalias: &str) -> bool {
    let literal = alias.bytes().take_while(|b| *b != b' ' && !WILDCARDS.contains(b));
    literal.zip(modalias.bytes()).all(|(alias, text)| fold(alias) == fold(text))
}

/// A module's name as the kernel and modprobe(8) know it: `-` is `_`.
pub fn kernel_name(name: &str) -> String {
    name.replace('-', "_")
}

/// The same for a module's file: `kernel/fs/nfs/nfs-v3.ko.xz` is `nfs_v3`.
pub fn module_name(path: &str) -> String {
    let file = path.trim().rsplit('/').next().unwrap_or_default();
    kernel_name(file.split_once(".ko").map_or(file, |(stem, _)| stem))
}

fn fold(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte }
}

/// An alias as libkmod compares it: `-` is `_` outside of brackets, which end at the first `]`. `None`: they do not pair.
pub fn normalize(alias: &str) -> Option<Vec<u8>> {
    let mut inside = false;
    let normalized = alias.bytes().map(|byte| {
        match (byte, inside) {
            (b'[', false) => inside = true,
            (b']', true) => inside = false,
            (b']', false) => return None,
            (byte, false) => return Some(fold(byte)),
            _ => {}
        }
        Some(byte)
    });
    let normalized: Vec<u8> = normalized.collect::<Option<_>>()?;
    (!inside).then_some(normalized)
}

/// fnmatch(3) without flags, in the C locale: `*`, `?`, `[a-z]`, `[!a-z]`, `\x` for x itself. An open `[` stands for
/// itself, as glibc has it; character classes (`[:digit:]`) are not known, as no alias can hold one.
pub fn fnmatch(pattern: &str, text: &str) -> bool {
    fnmatch_bytes(pattern.as_bytes(), text.as_bytes())
}

fn fnmatch_bytes(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // What comes after the last `*`, and the text that it has not taken: on a mismatch it takes one more byte.
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        if let Some(after) = pattern.strip_prefix(b"*") {
            star = Some((after, text));
            pattern = after;
            continue;
        }
        let matched = match text.split_first() {
            None if pattern.is_empty() => return true,
            Some((byte, rest)) => match_one(pattern, *byte).map(|after| (after, rest)),
            None => None,
        };
        (pattern, text) = match (matched, star) {
            (Some(both), _) => both,
            (None, Some((after, [_, rest @ ..]))) => {
                star = Some((after, rest));
                (after, rest)
            }
            _ => return false,
        };
    }
}

/// Matches one byte with the first element of the pattern; gives the rest of the pattern.
fn match_one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (expected, after) = match pattern {
        [b'?', after @ ..] => return Some(after),
        [b'[', after @ ..] => match match_set(after, byte) {
            Some((hit, after)) => return hit.then_some(after),
            None => (b'[', after),
        },
        // A `\` at the end matches nothing.
        [b'\\', after @ ..] => {
            let (escaped, after) = after.split_first()?;
            (*escaped, after)
        }
        [literal, after @ ..] => (*literal, after),
        [] => return None,
    };
    (expected == byte).then_some(after)
}

/// Looks for the byte in the set that begins after a `[`; gives the pattern after it. `None`: the set is never closed. One
/// that ends in the middle of a range or of an escape matches nothing.
fn match_set(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (negated, mut rest) = match pattern {
        [b'!' | b'^', rest @ ..] => (true, rest),
        _ => (false, pattern),
    };
    let mut hit = false;
    loop {
        // A `]` in the first place is a member.
        let [_, ..] = rest else { return None };
        let Some((low, after)) = member(rest) else { return Some((false, rest)) };
        let range = match after {
            [b'-', b']', ..] => Some((low, after)),
            [b'-', end @ ..] => member(end),
            _ => Some((low, after)),
        };
        let Some((high, after)) = range else { return Some((false, rest)) };
        rest = after;
        hit |= (low..=high).contains(&byte);
        if let [b']', after @ ..] = rest {
            return Some((hit != negated, after));
        }
    }
}

/// One member of a set, which may be written with a `\` before it, and what follows.
fn member(pattern: &[u8]) -> Option<(u8, &[u8])> {
    match pattern {
        [b'\\', byte, rest @ ..] => Some((*byte, rest)),
        [b'\\'] | [] => None,
        [byte, rest @ ..] => Some((*byte, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ffi::{CString, c_char, c_int};

    unsafe extern "C" {
        fn fnmatch(pattern: *const c_char, text: *const c_char, flags: c_int) -> c_int;
    }

    /// What the C library of this host says.
    fn host_fnmatch(pattern: &str, text: &str) -> bool {
        let c = |text: &str| CString::new(text).unwrap();
        let (pattern, text) = (c(pattern), c(text));
        // SAFETY: both are strings that end with a NUL and outlive the call (fnmatch(3)).
        unsafe { fnmatch(pattern.as_ptr(), text.as_ptr(), 0) == 0 }
    }

    #[test]
    fn patterns_are_those_of_fnmatch() {
        for (pattern, text, expected) in [
            ("pci:v00008086d*", "pci:v00008086d000010D3sv*sd*bc*sc*i*", true),
            ("*a*b", "xaybzb", true),
            ("*a*b", "xaybzc", false),
            ("a**b*c", "aXbYbc", true),
            ("x[!0-9]y", "x1y", false),
            ("x[^0-9]y", "xay", true),
            ("x[]]y", "x]y", true),
            ("x[!]]y", "x]y", false),
            ("x[y", "x[y", true),
            ("x[y", "xy", false),
            ("*[y", "a[y", true),
            (r"a\*", "a*", true),
            (r"a\*", "ab", false),
            (r"a\", r"a\", false),
            (r"[\]a]", "]", true),
            (r"[\a-\c]", "b", true),
            (r"[a-\]", "]", false),
            ("[a-]", "-", true),
            ("[a-", "[a-", false),
            (r"[\", r"[\", false),
            ("[c-a]", "b", false),
            ("net-pf", "net_pf", false),
            ("", "", true),
            ("**", "", true),
            ("", "a", false),
            ("a", "", false),
        ] {
            assert_eq!(super::fnmatch(pattern, text), expected, "{pattern} {text}");
            assert_eq!(host_fnmatch(pattern, text), expected, "the C library: {pattern} {text}");
        }
    }

    #[test]
    fn names_are_the_kernels() {
        for (file, name) in [
            ("kernel/fs/nfs/nfs-v3.ko.xz", "nfs_v3"),
            ("a.ko", "a"),
            ("kernel/lib/libcrc32c.ko.zst", "libcrc32c"),
            ("plain", "plain"),
        ] {
            assert_eq!(module_name(file), name);
        }
    }

    /// The verdicts are those of `modprobe -R` of kmod 30, which the crosscheck suite asks again.
    #[test]
    fn aliases_serve_what_kmod_says() {
        let e1000e = "pci:v00008086d000010D3sv00001AF4sd00001100bc02sc00i00";
        for (alias, modalias, expected) in [
            ("pci:v00008086d000010D3sv*sd*bc*sc*i*", e1000e, true),
            ("pci:v00008086d000010D4sv*sd*bc*sc*i*", e1000e, false),
            ("usb:v*dc[0-9A]?", "usb:v1dcA1", true),
            ("input:b*v*p*e*-e*11,*k*", "input:b0019v0000p0001e0000-e0,11,kra", true),
            ("net-pf-10", "net_pf_10", true),
            ("net_pf_10", "net-pf-10", true),
            // In brackets `-` stays, and what is asked for has `_` in its place.
            ("i:*-e[+-]z", "i:1-e+z", true),
            ("i:*-e[+-]z", "i:1-e-z", false),
            // Before the first wildcard `\` is a byte like others, after it an escape.
            (r"a\*b", "a*b", false),
            (r"a\*b", r"a\xb", true),
            (r"p:*\*q", "p:1*q", true),
            (r"p:*\*q", "p:1xq", false),
            (r"j:[a-c]*\-k", "j:b1-k", true),
            ("o[b", "o[b", false),
            ("x*o[b", "xo[b", false),
            ("l:*]x", "l:1]x", false),
            ("c:*[[:digit:]]", "c:x7", false),
            ("plain", "plain", true),
            ("plain", "plain1", false),
            ("plain1", "plain", false),
            ("plain*", "pla", false),
            ("", "", true),
        ] {
            assert_eq!(serves(alias, modalias), expected, "{alias} {modalias}");
        }
    }

    proptest! {
        #[test]
        fn any_pattern_matches_what_the_c_library_says(
            pattern in r"[abc\[\]!^*?\\-]{0,10}",
            text in r"[abc\[\]!\\-]{0,8}",
        ) {
            prop_assert_eq!(super::fnmatch(&pattern, &text), host_fnmatch(&pattern, &text), "{} {}", pattern, text);
        }

        #[test]
        fn what_cannot_serve_is_told_from_its_beginning(alias in r"[a_\[\]!*?\\-]{0,8}", text in r"[a_\[\]\\-]{0,8}") {
            let line = format!("{alias} name");
            prop_assert!(!serves(&alias, &text) || may_serve(&line, &text));
        }
    }
}
