//! DNS messages with one question, and the addresses in their answers (RFC 1035 section 4).

use crate::domain::{read_name, write_name};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Size of the header.
const HEADER: usize = 12;
/// `QR`, `AA`, `TC`, `RD` and `RA` in the second half-word of the header.
const RESPONSE: u16 = 0x8000;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const RECURSION: u16 = 0x0100;
const RECURSION_THERE: u16 = 0x0080;
const CLASS_INTERNET: u16 = 1;
const TYPE_CNAME: u16 = 5;
/// Aliases that are followed within one answer.
const MOST_ALIASES: usize = 16;

/// The type of record that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordType {
    /// `A`.
    V4,
    /// `AAAA` (RFC 3596).
    V6,
}

impl RecordType {
    fn number(self) -> u16 {
        match self {
            RecordType::V4 => 1,
            RecordType::V6 => 28,
        }
    }
}

/// The answer of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsAnswer {
    /// The addresses; empty when the name has none of this type.
    Addresses(Vec<IpAddr>),
    /// The name does not exist.
    NoName,
    /// The answer was truncated: ask again over TCP.
    Truncated,
    /// Another response code, such as 2 (server failure) or 5 (refused).
    Refused(u8),
    /// An empty answer from a server that neither owns the name nor resolves it for clients. A server that is no
    /// resolver answers so.
    Elsewhere,
}

/// The bytes of a question; `None` when the name is no valid domain name.
pub fn write_question(id: u16, name: &str, kind: RecordType) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(HEADER + name.len() + 6);
    for word in [id, RECURSION, 1, 0, 0, 0] {
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    bytes.extend_from_slice(&write_name(name)?);
    bytes.extend_from_slice(&kind.number().to_be_bytes());
    bytes.extend_from_slice(&CLASS_INTERNET.to_be_bytes());
    Some(bytes)
}

/// Reads the answer to `question`; `None` when the bytes are malformed or answer another question.
pub fn parse_answer(bytes: &[u8], question: &[u8], kind: RecordType) -> Option<DnsAnswer> {
    let flags = word(bytes, 2)?;
    let code = (flags & 0xf) as u8;
    if bytes.get(..2)? != question.get(..2)? || flags & RESPONSE == 0 {
        return None;
    }
    // A server that does not understand the question (codes 1 and 4, RFC 1035 section 4.1.1) need not repeat it.
    if matches!((code, word(bytes, 4)?), (1 | 4, 0)) {
        return Some(DnsAnswer::Refused(code));
    }
    // The question must come back as it was, except for the case of letters.
    let asked = question.get(HEADER..)?;
    if word(bytes, 4)? != 1 || !bytes.get(HEADER..question.len())?.eq_ignore_ascii_case(asked) {
        return None;
    }
    match code {
        _ if flags & TRUNCATED != 0 => return Some(DnsAnswer::Truncated),
        0 => {}
        3 => return Some(DnsAnswer::NoName),
        code => return Some(DnsAnswer::Refused(code)),
    }
    if word(bytes, 6)? == 0 && word(bytes, 10)? == 0 && flags & (AUTHORITATIVE | RECURSION_THERE) == 0 {
        return Some(DnsAnswer::Elsewhere);
    }
    let mut records = Vec::new();
    let mut at = question.len();
    for _ in 0..word(bytes, 6)? {
        let (record, next) = read_record(bytes, at)?;
        records.push(record);
        at = next;
    }
    let (name, _) = read_name(question, HEADER)?;
    Some(DnsAnswer::Addresses(follow(name, &records, kind)))
}

enum RecordData {
    Address(IpAddr),
    Alias(Vec<u8>),
    Other,
}

/// Reads one record: its owner and data, and the offset behind it.
fn read_record(bytes: &[u8], at: usize) -> Option<((Vec<u8>, RecordData), usize)> {
    let (owner, at) = read_name(bytes, at)?;
    let (kind, class) = (word(bytes, at)?, word(bytes, at + 2)?);
    let start = at + 10;
    let end = start + usize::from(word(bytes, at + 8)?);
    let value = bytes.get(start..end)?;
    let data = match (class, kind) {
        (CLASS_INTERNET, 1) => RecordData::Address(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into()),
        (CLASS_INTERNET, 28) => RecordData::Address(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into()),
        (CLASS_INTERNET, TYPE_CNAME) => RecordData::Alias(read_name(bytes, start)?.0),
        _ => RecordData::Other,
    };
    Some(((owner, data), end))
}

/// The addresses of `name`, or of the name that it is an alias for. Records about other names are ignored.
fn follow(mut name: Vec<u8>, records: &[(Vec<u8>, RecordData)], kind: RecordType) -> Vec<IpAddr> {
    for _ in 0..MOST_ALIASES {
        let mut own = records.iter().filter(|(owner, _)| owner.eq_ignore_ascii_case(&name)).map(|(_, data)| data);
        let alias = own.clone().find_map(|data| match data {
            RecordData::Alias(target) => Some(target.clone()),
            _ => None,
        });
        match alias {
            Some(target) => name = target,
            None => {
                let wanted = |data: &RecordData| match data {
                    RecordData::Address(ip) if ip.is_ipv4() == (kind == RecordType::V4) => Some(*ip),
                    _ => None,
                };
                return own.by_ref().filter_map(wanted).collect();
            }
        }
    }
    Vec::new()
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An answer to `question` with response code and flags, and records of owner, type and data.
    pub fn answer(question: &[u8], flags: u16, records: &[(&[u8], u16, &[u8])]) -> Vec<u8> {
        let mut bytes = question.to_vec();
        bytes[2..4].copy_from_slice(&(RESPONSE | RECURSION_THERE | flags).to_be_bytes());
        bytes[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
        for (owner, kind, data) in records {
            bytes.extend_from_slice(owner);
            bytes.extend_from_slice(&kind.to_be_bytes());
            bytes.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
            bytes.extend_from_slice(&(data.len() as u16).to_be_bytes());
            bytes.extend_from_slice(data);
        }
        bytes
    }

    /// A pointer to the name of the question.
    pub const ASKED: &[u8] = &[0xc0, 12];

    fn question() -> Vec<u8> {
        write_question(0x1234, "Root.lab", RecordType::V4).expect("a good name")
    }

    #[test]
    fn addresses_of_the_name_and_of_its_aliases() {
        let question = question();
        let good =
            answer(&question, 0, &[(ASKED, 1, &[10, 0, 0, 1]), (ASKED, 28, &[0; 16]), (ASKED, 1, &[10, 0, 0, 2])]);
        let expected = DnsAnswer::Addresses(vec![[10, 0, 0, 1].into(), [10, 0, 0, 2].into()]);
        assert_eq!(parse_answer(&good, &question, RecordType::V4), Some(expected));
        let alias: &[(&[u8], u16, &[u8])] =
            &[(ASKED, 5, b"\x01x\xc0\x11"), (b"\x01X\x03lab\0", 1, &[1, 2, 3, 4]), (b"\x01y\0", 1, &[6, 6, 6, 6])];
        let expected = DnsAnswer::Addresses(vec![[1, 2, 3, 4].into()]);
        assert_eq!(parse_answer(&answer(&question, 0, alias), &question, RecordType::V4), Some(expected));
        let ring: &[(&[u8], u16, &[u8])] = &[(ASKED, 5, ASKED)];
        let none = Some(DnsAnswer::Addresses(vec![]));
        assert_eq!(parse_answer(&answer(&question, 0, ring), &question, RecordType::V4), none);
    }

    #[test]
    fn other_outcomes() {
        let question = question();
        for (flags, expected) in [
            (3, DnsAnswer::NoName),
            (2, DnsAnswer::Refused(2)),
            (5, DnsAnswer::Refused(5)),
            (0x0200, DnsAnswer::Truncated),
        ] {
            assert_eq!(parse_answer(&answer(&question, flags, &[]), &question, RecordType::V4), Some(expected));
        }
        let good = answer(&question, 0, &[(ASKED, 1, &[10, 0, 0, 1])]);
        for (at, what) in
            [(0, "another id"), (2, "no response"), (5, "two questions"), (13, "another name"), (22, "type")]
        {
            let mut bad = good.clone();
            bad[at] ^= if at == 2 { 0x80 } else { 3 };
            assert_eq!(parse_answer(&bad, &question, RecordType::V4), None, "{what}");
        }
        for length in 0..good.len() {
            assert_eq!(parse_answer(&good[..length], &question, RecordType::V4), None, "{length}");
        }
        // Without the question, as some say that they do not understand it.
        for code in [1, 4] {
            let bare = [&question[..2], &[0x80, code, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
            assert_eq!(parse_answer(&bare, &question, RecordType::V4), Some(DnsAnswer::Refused(code)));
        }
        let mut lame = answer(&question, 0, &[]);
        assert_eq!(parse_answer(&lame, &question, RecordType::V4), Some(DnsAnswer::Addresses(vec![])));
        lame[3] &= 0x7f;
        assert_eq!(parse_answer(&lame, &question, RecordType::V4), Some(DnsAnswer::Elsewhere));
        let short = answer(&question, 0, &[(ASKED, 1, &[10, 0, 0])]);
        assert_eq!(parse_answer(&short, &question, RecordType::V4), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(rest in prop::collection::vec(any::<u8>(), 0..200), count in 0u16..9) {
            let question = question();
            let mut bytes = answer(&question, 0, &[]);
            bytes[6..8].copy_from_slice(&count.to_be_bytes());
            bytes.extend(rest);
            if let Some(DnsAnswer::Addresses(found)) = parse_answer(&bytes, &question, RecordType::V4) {
                prop_assert!(found.len() <= usize::from(count) && found.iter().all(IpAddr::is_ipv4));
            }
        }
    }
}
