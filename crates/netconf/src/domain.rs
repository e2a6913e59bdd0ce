//! Domain names as bytes (RFC 1035 section 3.1): labels with their length in front, ended by a length of zero.

/// Longest name in text form (RFC 1035 section 3.1: 255 bytes on the wire).
const LONGEST: usize = 253;

/// Reads the name at `start`. Returns its labels joined by dots, and the offset behind it. Compression pointers (RFC
/// 1035 section 4.1.4) may only lead backwards, so that reading ends. `None` when malformed or when a label holds a
/// dot.
pub fn read_name(bytes: &[u8], start: usize) -> Option<(Vec<u8>, usize)> {
    let mut name = Vec::new();
    let mut at = start;
    // Target of the last pointer: the next one must lead to before it.
    let mut floor = start;
    let mut behind = None;
    loop {
        let length = usize::from(*bytes.get(at)?);
        match length {
            0 => return Some((name, behind.unwrap_or(at + 1))),
            1..=63 => {
                let label = bytes.get(at + 1..at + 1 + length)?;
                if !name.is_empty() {
                    name.push(b'.');
                }
                name.extend_from_slice(label);
                if label.contains(&b'.') || name.len() > LONGEST {
                    return None;
                }
                at += 1 + length;
            }
            192.. => {
                let target = (length & 0x3f) << 8 | usize::from(*bytes.get(at + 1)?);
                behind = behind.or(Some(at + 2));
                if target >= floor {
                    return None;
                }
                (at, floor) = (target, target);
            }
            _ => return None,
        }
    }
}

/// Writes a name; `None` when a label is empty or too long. One dot at the end is dropped.
pub fn write_name(name: &str) -> Option<Vec<u8>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        bytes.push(length);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    (name.len() <= LONGEST).then_some(bytes)
}

/// Reads names one after another, such as a search list. Each must be a host name; empty names are dropped. `None` when
/// malformed.
pub fn parse_name_list(bytes: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let (name, next) = read_name(bytes, at)?;
        if !name.is_empty() {
            names.push(super::dhcp::options::parse_host_name(&name)?.to_string());
        }
        at = next;
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn jumps_go_back_only() {
        let bytes = b"\x03com\0\x01a\xc0\x00\xc0\x05";
        assert_eq!(read_name(bytes, 5), Some((b"a.com".to_vec(), 9)));
        assert_eq!(read_name(bytes, 9), Some((b"a.com".to_vec(), 11)));
        for bad in [&b"\xc0\x00"[..], b"\x01a\xc0\x00", b"\x01a\xc0\x02", b"\x01.\0", b"\x40", b"\xc0", b"\x02a"] {
            assert_eq!(read_name(bad, 0), None, "{bad:?}");
        }
    }

    #[test]
    fn names_that_cannot_be_asked_for() {
        assert_eq!(write_name("a.b."), Some(b"\x01a\x01b\0".to_vec()));
        for bad in ["", ".", "a..b", &"a".repeat(64), &"abc.".repeat(64)] {
            assert_eq!(write_name(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(name in "[a-z0-9-]{1,63}(\\.[a-z0-9-]{1,20}){0,8}") {
            let bytes = write_name(&name).unwrap();
            prop_assert_eq!(read_name(&bytes, 0), Some((name.into_bytes(), bytes.len())));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), start in 0usize..300) {
            if let Some((name, behind)) = read_name(&bytes, start) {
                prop_assert!(name.len() <= LONGEST && behind <= bytes.len() && behind > start);
            }
            let _ = parse_name_list(&bytes);
        }
    }
}
