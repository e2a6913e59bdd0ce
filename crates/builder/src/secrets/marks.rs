//! Forms that are a secret wherever they stand.

use super::{Author, Secret};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use regex::bytes::{Captures, Regex};
use std::sync::LazyLock;

/// A form, and what it is.
struct Mark {
    what: &'static str,
    form: Regex,
    /// Looks at the first group where the form alone is not enough.
    holds: fn(&[u8]) -> bool,
    /// Only in what was written by hand: elsewhere it is an example too often.
    own_only: bool,
}

static MARKS: LazyLock<Vec<Mark>> = LazyLock::new(|| {
    let mark = |what, form: &str, holds, own_only| {
        let form = Regex::new(&format!("(?-u){form}")).expect("the form is written here");
        Mark { what, form, holds, own_only }
    };
    let always: fn(&[u8]) -> bool = |_| true;
    vec![
        // RFC 7468 and its forerunners: the label, perhaps headers (RFC 1421), then the key. In JSON and programs line ends
        // are `\n` and lines are quoted. A label alone is how programs look for one.
        mark(
            "a private key",
            r#"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:[\s"'+,]|\\[nr]|[A-Za-z-]+: [^\n]*\n)*[A-Za-z0-9+/]{16}"#,
            always,
            false,
        ),
        mark("a private key", r"LS0tLS1CRUdJTi([A-Za-z0-9+/]{16,60})", is_wrapped_key, false),
        mark("a private key", r"PuTTY-User-Key-File-[0-9]+: ", always, false),
        mark("a private key", r"\((?:21:protected-private-key|11:private-key)", always, false),
        mark("a private key", r"AGE-SECRET-KEY-1[0-9A-Z]{50}", always, false),
        mark("a private key", r"(?m)^\s*(?:PrivateKey|PresharedKey)\s*=\s*[A-Za-z0-9+/]{43}=", always, false),
        // RFC 7519: two parts in JSON, a signature.
        mark("a token", r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}", always, false),
        // RFC 6750 section 2.1.
        mark("a token", r"(?i)\bauthorization\W{1,4}bearer\s+([A-Za-z0-9._~+/-]{12,}=*)", is_mixed, true),
        // RFC 7617, in containerd's hosts.toml too.
        mark("a login", r#"(?i)\bauthorization\W{1,4}basic\s+([A-Za-z0-9+/]{4,}={0,2})"#, is_login, true),
        // Kubernetes' bootstrap tokens ("Authenticating with Bootstrap Tokens").
        mark(
            "a bootstrap token",
            r#"(?:^|[^A-Za-z0-9._/-])[a-z0-9]{6}\.([a-z0-9]{16})(?:$|[^A-Za-z0-9._/-])"#,
            is_mixed,
            true,
        ),
        // Of k3s and RKE2.
        mark("a cluster's token", r"\bK10[0-9a-f]{64}::[^\s]+", always, false),
        mark(
            "a token of a service",
            r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60}|glpat-[A-Za-z0-9_-]{20}|xox[abprs]-[A-Za-z0-9-]{20}|AIza[A-Za-z0-9_-]{35}|npm_[A-Za-z0-9]{36}|hvs\.[A-Za-z0-9_-]{24}|tskey-[a-z]+-[A-Za-z0-9-]{16}|dckr_pat_[A-Za-z0-9_-]{20})",
            always,
            false,
        ),
        mark(
            "a cloud's secret key",
            r#"(?i)aws_?secret_?access_?key["']?\s*[=:]\s*["']?([A-Za-z0-9/+=]{40})"#,
            is_no_example,
            false,
        ),
        mark("a cloud's secret key", r"AccountKey=[A-Za-z0-9+/]{60,}={0,2}", always, false),
        // docker's config.json and containerd's registry settings: user and password in base64.
        mark("a registry's password", r#"\bauth"?\s*[:=]\s*"([A-Za-z0-9+/]{4,}={0,2})""#, is_login, false),
        mark("a registry's token", r#""identitytoken"\s*:\s*"[^"]{8,}""#, always, false),
        // netrc(5)
        mark("a password", r"(?:\bmachine\s+\S+|\bdefault)\s+login\s+\S+\s+password\s+(\S+)", is_no_placeholder, false),
        // shadow(5), htpasswd(1): crypt(5) hashes, which can be guessed at.
        mark(
            "a password's hash",
            r"(?m)^[^:\s#]+:\$(?:1|2[abxy]|5|6|7|y|gy|apr1|argon2id?)\$[A-Za-z0-9./$,=+-]{20,}",
            always,
            false,
        ),
        mark(
            "a password in an address",
            r#"\b[a-z][a-z0-9+.-]*://[^\s/:@"'<>{}$]*:([^\s/@"'<>]+)@"#,
            is_no_placeholder,
            true,
        ),
        // dracut.cmdline(7): netroot=iscsi:USER:PASSWORD@...
        mark("a password in an address", r"\biscsi:[^\s/:@]+:([^\s/@]+)@", is_no_placeholder, true),
        // Options of our own addresses (docs/network-roots.md).
        mark("a password in an address", r"[?&]secret(?:_in)?=([^\s&]+)", is_no_placeholder, true),
    ]
});

/// What stands in `bytes`, by line.
pub fn find(bytes: &[u8], author: Author) -> Vec<Secret> {
    let mut found = Vec::new();
    for mark in MARKS.iter().filter(|mark| author == Author::Own || !mark.own_only) {
        let holds = |group: &Captures<'_>| group.get(1).is_none_or(|part| (mark.holds)(part.as_bytes()));
        for group in mark.form.captures_iter(bytes).filter(holds) {
            let start = group.get(0).map_or(0, |whole| whole.start());
            // A form may take in the end of the line before.
            let start = start + bytes[start..].iter().take_while(|b| b.is_ascii_whitespace()).count();
            found.push(Secret { line: line_at(bytes, start), what: mark.what });
        }
    }
    found.sort();
    found.dedup();
    found
}

/// 1-based.
fn line_at(bytes: &[u8], at: usize) -> u32 {
    u32::try_from(bytes[..at].iter().filter(|b| **b == b'\n').count() + 1).unwrap_or(u32::MAX)
}

/// What follows `-----BEGIN` in base64.
fn is_wrapped_key(rest: &[u8]) -> bool {
    let whole = [b"LS0tLS1CRUdJTi", rest].concat();
    let label = BASE64.decode(&whole[..whole.len() / 4 * 4]).unwrap_or_default();
    label.windows(11).any(|window| window == b"PRIVATE KEY")
}

/// Letters and digits, as a random text has them.
fn is_mixed(text: &[u8]) -> bool {
    text.iter().any(u8::is_ascii_digit) && text.iter().any(u8::is_ascii_alphabetic)
}

fn is_no_example(text: &[u8]) -> bool {
    !text.windows(7).any(|window| window == b"EXAMPLE") && is_no_placeholder(text)
}

/// `USER:PASSWORD` in base64.
fn is_login(text: &[u8]) -> bool {
    let login = BASE64.decode(text).unwrap_or_default();
    let colon = login.iter().position(|b| *b == b':');
    let printable = login.iter().all(|b| (b' '..=b'~').contains(b));
    printable && colon.is_some_and(|at| at > 0 && at + 1 < login.len())
}

fn is_no_placeholder(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| !super::pairs::is_placeholder(text))
}
