//! Files of keys that are no text, by how they begin.

/// DER of the object identifiers that PKCS#8 names the kind of a key with (RFC 3279, RFC 5480, RFC 8410).
const KEY_KINDS: [&[u8]; 4] = [
    b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01",
    b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01",
    b"\x06\x03\x2b\x65\x70",
    b"\x06\x03\x2b\x65\x71",
];
/// PKCS#7 data, plain or signed: what a PKCS#12 file holds (RFC 7292, section 4).
const PKCS7: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07";

/// What the file is, if it is one of keys.
pub fn kind(path: &str, bytes: &[u8]) -> Option<&'static str> {
    if let Some(body) = sequence(bytes) {
        return der(path, body);
    }
    match bytes {
        // RFC 4253 6.6 and dropbear's own layout: the kind of the key, and then more than the public half. As a file of its own
        // that is a host key of dropbear; public keys are texts.
        [0, 0, 0, 7, b's', b's', b'h', b'-', ..]
        | [0, 0, 0, 11, b's', b's', b'h', b'-', ..]
        | [0, 0, 0, 19, b'e', b'c', b'd', b's', b'a', b'-', ..] => Some("a private key"),
        // Java's own keystore: the first entry is a private key (1), not a certificate (2).
        [0xfe, 0xed, 0xfe, 0xed, _, _, _, _, _, _, _, _, 0, 0, 0, 1, ..] => Some("a keystore"),
        // MIT Kerberos' keytab, versions 1 and 2.
        [5, 1 | 2, ..] if path.ends_with("keytab") => Some("a keytab"),
        _ => None,
    }
}

/// The content of a DER sequence that fills the file.
fn sequence(bytes: &[u8]) -> Option<&[u8]> {
    let (length, body) = match bytes {
        [0x30, short @ 0..=0x7f, body @ ..] => (usize::from(*short), body),
        [0x30, 0x81, a, body @ ..] => (usize::from(*a), body),
        [0x30, 0x82, a, b, body @ ..] => (usize::from(*a) << 8 | usize::from(*b), body),
        [0x30, 0x83, a, b, c, body @ ..] => (usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c), body),
        _ => return None,
    };
    (length == body.len()).then_some(body)
}

fn der(path: &str, body: &[u8]) -> Option<&'static str> {
    let begins = |part: &[u8]| body.get(..40.min(body.len())).is_some_and(|head| contains(head, part));
    match body {
        // PKCS#12. A store of Java's trusted certificates is one too, and says so by its name.
        [2, 1, 3, 0x30, ..] if begins(PKCS7) && !path.ends_with("cacerts") => Some("a keystore (PKCS#12)"),
        // PKCS#8 (RFC 5958): version, and the key's kind in a sequence.
        [2, 1, 0 | 1, 0x30, ..] if KEY_KINDS.iter().any(|kind| begins(kind)) => Some("a private key"),
        // PKCS#1 (RFC 8017, A.1.2): version, and the modulus; of 1024 bits at least.
        [2, 1, 0, 2, 0x81 | 0x82, ..] => Some("a private key"),
        // SEC1 (RFC 5915): version 1, and the key's bytes.
        [2, 1, 1, 4, 0x20 | 0x30 | 0x42, ..] => Some("a private key"),
        // PKCS#8, encrypted with a password (RFC 8018: PBES1, PBES2).
        [0x30, ..] if begins(b"\x2a\x86\x48\x86\xf7\x0d\x01\x05") => Some("a private key"),
        _ => None,
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
