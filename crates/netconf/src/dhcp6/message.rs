//! DHCPv6 messages as bytes (RFC 8415 sections 8 and 21).

use crate::domain::parse_name_list;
use crate::v6::advert::is_server;
use std::net::Ipv6Addr;

pub const CLIENT_PORT: u16 = 546;
pub const SERVER_PORT: u16 = 547;

/// Option codes (RFC 8415 section 21; 23 and 24 RFC 3646, 31 RFC 4075, 56 RFC 5908).
const CLIENT_ID: u16 = 1;
const SERVER_ID: u16 = 2;
const IA_NA: u16 = 3;
const IA_ADDRESS: u16 = 5;
const REQUESTED: u16 = 6;
const PREFERENCE: u16 = 7;
const ELAPSED: u16 = 8;
const STATUS: u16 = 13;
const RAPID_COMMIT: u16 = 14;
const DNS: u16 = 23;
const SEARCH: u16 = 24;
const SNTP: u16 = 31;
const REFRESH: u16 = 32;
const NTP: u16 = 56;
/// RFC 8415 section 11.1 allows no longer DUIDs.
const LONGEST_DUID: usize = 130;

/// Message types (RFC 8415 section 7.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageType {
    Solicit = 1,
    Advertise = 2,
    Request = 3,
    Renew = 5,
    Rebind = 6,
    Reply = 7,
    InformationRequest = 11,
}

/// A message of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientMessage {
    pub kind: MessageType,
    /// 24 bits.
    pub xid: u32,
    /// Time since the first message of this exchange, in hundredths of a second.
    pub elapsed: u16,
    pub client: Vec<u8>,
    pub server: Option<Vec<u8>>,
    /// The identity association (IA_NA) with the addresses that we have or ask for. `None` in an information request.
    pub association: Option<(u32, Vec<Ipv6Addr>)>,
}

/// A message of a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerMessage {
    pub advertise: bool,
    pub rapid_commit: bool,
    pub server: Vec<u8>,
    /// 255: the client takes this offer at once.
    pub preference: u8,
    /// T1 and T2 in seconds; 0 leaves the choice to the client.
    pub renew_s: u32,
    pub rebind_s: u32,
    /// Address, preferred and valid lifetime in seconds.
    pub addresses: Vec<(Ipv6Addr, u32, u32)>,
    /// The first status code other than success, of the message or of the association.
    pub status: Option<u16>,
    pub facts: Dhcp6Facts,
}

/// What a server says beside addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dhcp6Facts {
    pub dns: Vec<Ipv6Addr>,
    pub search: Vec<String>,
    pub ntp: Vec<Ipv6Addr>,
    /// Seconds after which facts without addresses should be asked for again.
    pub refresh_s: Option<u32>,
}

/// Why bytes are no message to this client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Dhcp6MessageError {
    #[error("the message has only {found} bytes")]
    Short { found: usize },
    #[error("message type {found} is no answer")]
    Kind { found: u8 },
    #[error("DHCPv6 option {code} runs over the end or is malformed")]
    Option { code: u16 },
    #[error("the answer names no server")]
    NoServer,
    #[error("the answer is not for us")]
    Foreign,
}

impl ClientMessage {
    /// The bytes of the UDP payload.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = (u32::from(self.kind as u8) << 24 | self.xid & 0xff_ffff).to_be_bytes().to_vec();
        push(&mut bytes, CLIENT_ID, &self.client);
        if let Some(server) = &self.server {
            push(&mut bytes, SERVER_ID, server);
        }
        push(&mut bytes, ELAPSED, &self.elapsed.to_be_bytes());
        let mut wanted = vec![DNS, SEARCH, SNTP, NTP];
        match &self.association {
            Some((id, addresses)) => {
                // T1 and T2 are 0: the server chooses them.
                let mut association = [id.to_be_bytes(), [0; 4], [0; 4]].concat();
                for address in addresses {
                    push(&mut association, IA_ADDRESS, &[&address.octets()[..], &[0; 8]].concat());
                }
                push(&mut bytes, IA_NA, &association);
            }
            None => wanted.push(REFRESH),
        }
        if self.kind == MessageType::Solicit {
            push(&mut bytes, RAPID_COMMIT, &[]);
        }
        push(&mut bytes, REQUESTED, &wanted.iter().flat_map(|code| code.to_be_bytes()).collect::<Vec<u8>>());
        bytes
    }
}

fn push(bytes: &mut Vec<u8>, code: u16, value: &[u8]) {
    bytes.extend_from_slice(&code.to_be_bytes());
    bytes.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend_from_slice(value);
}

/// Reads an ADVERTISE or REPLY with transaction id `xid` to the client with the DUID `client`. Other associations are
/// skipped.
pub fn parse_answer(
    bytes: &[u8],
    xid: u32,
    client: &[u8],
    association: u32,
) -> Result<ServerMessage, Dhcp6MessageError> {
    let (head, rest) = bytes.split_first_chunk::<4>().ok_or(Dhcp6MessageError::Short { found: bytes.len() })?;
    let head = u32::from_be_bytes(*head);
    let kind = (head >> 24) as u8;
    if ![MessageType::Advertise as u8, MessageType::Reply as u8].contains(&kind) {
        return Err(Dhcp6MessageError::Kind { found: kind });
    }
    let mut answer = ServerMessage { advertise: kind == MessageType::Advertise as u8, ..ServerMessage::default() };
    let mut ours = false;
    for option in options(rest) {
        let (code, value) = option?;
        match code {
            CLIENT_ID => ours = value == client,
            SERVER_ID => answer.server = value.to_vec(),
            IA_NA if long(value, 0) == Some(association) => read_association(&mut answer, value)?,
            PREFERENCE => answer.preference = value.first().copied().unwrap_or(0),
            STATUS => answer.note_status(value),
            RAPID_COMMIT => answer.rapid_commit = true,
            _ => read_fact(&mut answer.facts, code, value)?,
        }
    }
    if !ours || head & 0xff_ffff != xid & 0xff_ffff {
        return Err(Dhcp6MessageError::Foreign);
    }
    if answer.server.is_empty() || answer.server.len() > LONGEST_DUID {
        return Err(Dhcp6MessageError::NoServer);
    }
    Ok(answer)
}

fn read_association(answer: &mut ServerMessage, value: &[u8]) -> Result<(), Dhcp6MessageError> {
    let bad = Dhcp6MessageError::Option { code: IA_NA };
    let (renew_s, rebind_s) = (long(value, 4).ok_or(bad)?, long(value, 8).ok_or(bad)?);
    // RFC 8415 section 21.4: an association with T1 after T2 is invalid.
    if rebind_s > 0 && renew_s > rebind_s {
        return Ok(());
    }
    (answer.renew_s, answer.rebind_s) = (renew_s, rebind_s);
    for option in options(value.get(12..).unwrap_or_default()) {
        match option? {
            (IA_ADDRESS, value) => {
                let bad = Dhcp6MessageError::Option { code: IA_ADDRESS };
                let ip = Ipv6Addr::from(value.first_chunk::<16>().copied().ok_or(bad)?);
                let (preferred_s, valid_s) = (long(value, 16).ok_or(bad)?, long(value, 20).ok_or(bad)?);
                if is_server(&ip) && !ip.is_unicast_link_local() && valid_s > 0 && preferred_s <= valid_s {
                    answer.addresses.push((ip, preferred_s, valid_s));
                }
            }
            (STATUS, value) => answer.note_status(value),
            _ => {}
        }
    }
    Ok(())
}

fn read_fact(facts: &mut Dhcp6Facts, code: u16, value: &[u8]) -> Result<(), Dhcp6MessageError> {
    match code {
        DNS => facts.dns.extend(addresses(value)),
        SNTP => facts.ntp.extend(addresses(value)),
        NTP => {
            for option in options(value) {
                // Suboption 1 is the address of a server.
                if let (1, value) = option? {
                    facts.ntp.extend(addresses(value));
                }
            }
        }
        // A malformed search list is dropped: the rest of the message is still good.
        SEARCH => facts.search = parse_name_list(value).unwrap_or_default(),
        REFRESH => facts.refresh_s = long(value, 0),
        _ => {}
    }
    Ok(())
}

impl ServerMessage {
    fn note_status(&mut self, value: &[u8]) {
        let code = value.first_chunk::<2>().map(|code| u16::from_be_bytes(*code));
        self.status = self.status.or(code.filter(|code| *code != 0));
    }
}

/// Status codes in words (RFC 8415 section 21.13).
pub fn status_name(code: u16) -> &'static str {
    match code {
        1 => "failure",
        2 => "no addresses left",
        3 => "no such association",
        4 => "not on this link",
        5 => "use multicast",
        _ => "unknown status",
    }
}

fn addresses(value: &[u8]) -> Vec<Ipv6Addr> {
    value.as_chunks::<16>().0.iter().map(|bytes| Ipv6Addr::from(*bytes)).filter(is_server).collect()
}

/// The options as (code, value). Ends after the first option that is longer than what is left.
fn options(bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), Dhcp6MessageError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let code = rest.first_chunk::<2>().map_or(0, |code| u16::from_be_bytes(*code));
        let split = || {
            let (head, behind) = rest.split_first_chunk::<4>()?;
            behind.split_at_checked(usize::from(u16::from_be_bytes([head[2], head[3]])))
        };
        match split() {
            Some((value, after)) => {
                rest = after;
                Some(Ok((code, value)))
            }
            None => {
                rest = &[];
                Some(Err(Dhcp6MessageError::Option { code }))
            }
        }
    })
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The client's DUID: from the firmware's UUID (RFC 6355), as iPXE makes it, else from the MAC address (RFC 8415
/// section 11.4).
pub fn duid(uuid: Option<&[u8; 16]>, mac: &[u8; 6]) -> Vec<u8> {
    match uuid {
        Some(uuid) => [&[0, 4][..], uuid].concat(),
        None => [&[0, 3, 0, 1][..], mac].concat(),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    pub const SERVER: &[u8] = &[0, 3, 0, 1, 2, 2, 2, 2, 2, 2];

    /// An answer with these options behind client and server id.
    pub fn answer(kind: MessageType, xid: u32, client: &[u8], more: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = ((kind as u32) << 24 | xid & 0xff_ffff).to_be_bytes().to_vec();
        push(&mut bytes, CLIENT_ID, client);
        push(&mut bytes, SERVER_ID, SERVER);
        for (code, value) in more {
            push(&mut bytes, *code, value);
        }
        bytes
    }

    /// An association with one address.
    pub fn association(id: u32, t1: u32, t2: u32, address: &str, preferred: u32, valid: u32) -> (u16, Vec<u8>) {
        let ip: Ipv6Addr = address.parse().expect("an address");
        let mut bytes = [id, t1, t2].map(u32::to_be_bytes).concat();
        let times = [preferred, valid].map(u32::to_be_bytes).concat();
        push(&mut bytes, IA_ADDRESS, &[&ip.octets()[..], &times].concat());
        (IA_NA, bytes)
    }

    #[test]
    fn answers_are_read() {
        let dns: Ipv6Addr = "2001:db8::53".parse().expect("an address");
        let mut ntp = Vec::new();
        push(&mut ntp, 1, &dns.octets());
        push(&mut ntp, 3, b"\x03ntp\0");
        let more = [
            association(7, 10, 20, "2001:db8::7", 30, 40),
            association(8, 10, 20, "2001:db8::8", 30, 40),
            (DNS, dns.octets().to_vec()),
            (SEARCH, b"\x03lab\0".to_vec()),
            (NTP, ntp),
            (PREFERENCE, vec![255]),
            (99, vec![1]),
        ];
        let found = parse_answer(&answer(MessageType::Advertise, 5, b"me", &more), 5, b"me", 7).expect("good");
        assert!(found.advertise && found.preference == 255 && found.status.is_none());
        assert_eq!((found.renew_s, found.rebind_s), (10, 20));
        assert_eq!(found.addresses, [("2001:db8::7".parse().expect("an address"), 30, 40)]);
        assert_eq!(found.facts.dns, found.facts.ntp);
        assert_eq!((&found.facts.search[..], found.facts.dns[0]), (&["lab".to_string()][..], dns));
    }

    #[test]
    fn what_is_not_for_us_or_void_is_refused() {
        let read = |bytes: &[u8]| parse_answer(bytes, 5, b"me", 7);
        assert_eq!(read(&answer(MessageType::Reply, 6, b"me", &[])), Err(Dhcp6MessageError::Foreign));
        assert_eq!(read(&answer(MessageType::Reply, 5, b"you", &[])), Err(Dhcp6MessageError::Foreign));
        assert_eq!(read(&answer(MessageType::Solicit, 5, b"me", &[])), Err(Dhcp6MessageError::Kind { found: 1 }));
        assert_eq!(read(&[7, 0]), Err(Dhcp6MessageError::Short { found: 2 }));
        let short = (IA_NA, vec![0, 0, 0, 7, 0]);
        assert_eq!(
            read(&answer(MessageType::Reply, 5, b"me", &[short])),
            Err(Dhcp6MessageError::Option { code: IA_NA })
        );
        let mut cut = answer(MessageType::Reply, 5, b"me", &[(DNS, vec![0; 16])]);
        cut.truncate(cut.len() - 1);
        assert_eq!(read(&cut), Err(Dhcp6MessageError::Option { code: DNS }));
        // T1 after T2, a lifetime of nothing, preferred for longer than valid, an address that no node may have.
        for (t1, t2, address, preferred, valid) in [
            (20, 10, "2001:db8::7", 30, 40),
            (10, 20, "2001:db8::7", 0, 0),
            (10, 20, "2001:db8::7", 50, 40),
            (10, 20, "ff02::7", 30, 40),
        ] {
            let bytes = answer(MessageType::Reply, 5, b"me", &[association(7, t1, t2, address, preferred, valid)]);
            assert!(read(&bytes).expect("well-formed").addresses.is_empty(), "{address} {t1} {preferred} {valid}");
        }
        let refused = answer(MessageType::Reply, 5, b"me", &[(STATUS, vec![0, 2, b'x'])]);
        assert_eq!(read(&refused).expect("well-formed").status, Some(2));
    }

    #[test]
    fn identities() {
        assert_eq!(duid(Some(&[9; 16]), &[1; 6])[..3], [0, 4, 9]);
        assert_eq!(duid(None, &[1; 6]), [0, 3, 0, 1, 1, 1, 1, 1, 1, 1]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(rest in prop::collection::vec(any::<u8>(), 0..300), whole: bool) {
            let bytes = if whole { rest } else { [answer(MessageType::Reply, 5, b"me", &[]), rest].concat() };
            if let Ok(found) = parse_answer(&bytes, 5, b"me", 7) {
                prop_assert!(found.addresses.iter().all(|(_, preferred, valid)| preferred <= valid && *valid > 0));
            }
        }
    }
}
