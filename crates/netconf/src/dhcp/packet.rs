//! DHCP messages as bytes (RFC 2131 section 2), and the IPv4 and UDP headers around them, which a packet socket does
//! not make.

use std::net::Ipv4Addr;

/// Offset of the magic cookie, behind the fixed fields of which `sname` and `file` are the last.
const COOKIE_AT: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;
/// Smallest message that is sent: BOOTP relays may drop shorter ones (RFC 1542 section 2.1).
const SHORTEST: usize = 300;
const FLAG_BROADCAST: u16 = 0x8000;
pub const CLIENT_PORT: u16 = 68;
pub const SERVER_PORT: u16 = 67;

const OPTION_PAD: u8 = 0;
const OPTION_OVERLOAD: u8 = 52;
const OPTION_END: u8 = 255;

/// Why bytes are no DHCP message to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DhcpPacketError {
    /// Fewer bytes than the headers claim.
    #[error("the packet has only {found} bytes")]
    Short { found: usize },
    /// Without the magic cookie: BOOTP or other data.
    #[error("the packet has no DHCP cookie")]
    Cookie,
    /// An option's length runs over the end.
    #[error("DHCP option {code} runs over the end")]
    Option { code: u8 },
    /// Not IPv4 with UDP to port 68, or a fragment.
    #[error("the packet is not for a DHCP client")]
    Foreign,
}

/// A DHCP message without what we neither send nor use (`hops`, `giaddr`, `sname`, `file`; options in the last two are read).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhcpPacket {
    /// 1 request, 2 reply.
    pub op: u8,
    pub xid: u32,
    /// Seconds since the client has begun (`secs`).
    pub secs: u16,
    pub broadcast: bool,
    pub ciaddr: Ipv4Addr,
    pub yiaddr: Ipv4Addr,
    /// The server to boot from (`siaddr`).
    pub siaddr: Ipv4Addr,
    pub mac: [u8; 6],
    /// Code and value of each option. Parts of one option are joined (RFC 3396), so each code occurs once.
    pub options: Vec<(u8, Vec<u8>)>,
}

impl DhcpPacket {
    /// An option's value.
    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.iter().find(|(c, _)| *c == code).map(|(_, value)| &value[..])
    }

    /// The message type, option 53.
    pub fn kind(&self) -> Option<u8> {
        self.option(53).and_then(|value| value.first().copied())
    }

    /// The bytes of the UDP payload. Values above 255 bytes are split (RFC 3396).
    pub fn to_bytes(&self) -> Vec<u8> {
        let flags = if self.broadcast { FLAG_BROADCAST } else { 0 };
        // Hardware type 1 is Ethernet, with addresses of 6 bytes.
        let mut bytes = vec![self.op, 1, 6, 0];
        bytes.extend_from_slice(&self.xid.to_be_bytes());
        bytes.extend_from_slice(&self.secs.to_be_bytes());
        bytes.extend_from_slice(&flags.to_be_bytes());
        for address in [self.ciaddr, self.yiaddr, self.siaddr, Ipv4Addr::UNSPECIFIED] {
            bytes.extend_from_slice(&address.octets());
        }
        bytes.extend_from_slice(&self.mac);
        // The unused bytes of `chaddr`, then `sname` and `file`.
        bytes.resize(COOKIE_AT, 0);
        bytes.extend_from_slice(&COOKIE);
        for (code, value) in &self.options {
            if value.is_empty() {
                bytes.extend_from_slice(&[*code, 0]);
            }
            for part in value.chunks(255) {
                bytes.extend_from_slice(&[*code, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
                bytes.extend_from_slice(part);
            }
        }
        bytes.push(OPTION_END);
        bytes.resize(bytes.len().max(SHORTEST), 0);
        bytes
    }
}

/// Reads a UDP payload.
pub fn parse_packet(bytes: &[u8]) -> Result<DhcpPacket, DhcpPacketError> {
    let short = DhcpPacketError::Short { found: bytes.len() };
    let (fixed, rest) = bytes.split_first_chunk::<COOKIE_AT>().ok_or(short)?;
    let (cookie, rest) = rest.split_first_chunk::<4>().ok_or(short)?;
    if *cookie != COOKIE {
        return Err(DhcpPacketError::Cookie);
    }
    let mut options = Vec::new();
    parse_options(rest, &mut options)?;
    // Option overload (RFC 2132 section 9.3, order of RFC 3396 section 5): 1 `file`, 2 `sname`, 3 both.
    let overload = options.iter().find(|(code, _)| *code == OPTION_OVERLOAD).and_then(|(_, v)| v.first().copied());
    let overload = overload.unwrap_or(0);
    if overload & 1 != 0 {
        parse_options(fixed.get(FILE).unwrap_or_default(), &mut options)?;
    }
    if overload & 2 != 0 {
        parse_options(fixed.get(SNAME).unwrap_or_default(), &mut options)?;
    }
    Ok(DhcpPacket {
        op: fixed[0],
        xid: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
        secs: u16::from_be_bytes([fixed[8], fixed[9]]),
        broadcast: fixed[10] & 0x80 != 0,
        ciaddr: [fixed[12], fixed[13], fixed[14], fixed[15]].into(),
        yiaddr: [fixed[16], fixed[17], fixed[18], fixed[19]].into(),
        siaddr: [fixed[20], fixed[21], fixed[22], fixed[23]].into(),
        mac: [fixed[28], fixed[29], fixed[30], fixed[31], fixed[32], fixed[33]],
        options,
    })
}

/// Reads the options of one field and adds them to those of earlier fields. The end mark may be missing, because
/// servers fill fields to the last byte.
fn parse_options(mut rest: &[u8], options: &mut Vec<(u8, Vec<u8>)>) -> Result<(), DhcpPacketError> {
    while let Some((&code, behind)) = rest.split_first() {
        match code {
            OPTION_PAD => rest = behind,
            OPTION_END => return Ok(()),
            _ => {
                let (&length, behind) = behind.split_first().ok_or(DhcpPacketError::Option { code })?;
                let (value, after) =
                    behind.split_at_checked(usize::from(length)).ok_or(DhcpPacketError::Option { code })?;
                match options.iter_mut().find(|(c, _)| *c == code) {
                    Some((_, whole)) => whole.extend_from_slice(value),
                    None => options.push((code, value.to_vec())),
                }
                rest = after;
            }
        }
    }
    Ok(())
}

/// Puts IPv4 (RFC 791) and UDP headers (RFC 768) before `payload`, from the client's to the server's port.
pub fn wrap_udp(payload: &[u8], from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    // Our messages are far shorter than 64 KiB.
    let udp_length = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX - 20);
    // No identification, don't fragment, TTL 64, UDP.
    let head = [&[0x45, 0][..], &(20 + udp_length).to_be_bytes(), &[0, 0, 0x40, 0, 64, 17]].concat();
    let addresses = [from.octets(), to.octets()].concat();
    let head_sum = checksum(0, &[&head[..], &addresses].concat());
    let ports = [CLIENT_PORT.to_be_bytes(), SERVER_PORT.to_be_bytes(), udp_length.to_be_bytes()].concat();
    // The checksum covers a pseudo header: both addresses, protocol 17, length. A sum of 0 would mean that there is
    // none.
    let sum = match checksum(17 + u32::from(udp_length), &[&addresses[..], &ports, payload].concat()) {
        0 => 0xffff,
        sum => sum,
    };
    [&head[..], &head_sum.to_be_bytes(), &addresses, &ports, &sum.to_be_bytes(), payload].concat()
}

/// The Internet checksum (RFC 1071), begun with the sum `start`.
fn checksum(start: u32, bytes: &[u8]) -> u16 {
    let (pairs, last) = bytes.as_chunks::<2>();
    let last = last.first().map_or(0, |byte| u16::from_be_bytes([*byte, 0]));
    let words = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).chain([last]);
    let mut sum = words.fold(start, |sum, word| sum + u32::from(word));
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

/// The UDP payload of an IPv4 packet to the client port.
///
/// Checksums are not checked: with checksum offload, packets of virtual machines arrive before theirs is filled in.
/// Transaction id, MAC and lengths are checked instead.
pub fn unwrap_udp(bytes: &[u8]) -> Result<&[u8], DhcpPacketError> {
    let short = DhcpPacketError::Short { found: bytes.len() };
    let ip = bytes.first_chunk::<20>().ok_or(short)?;
    let header = usize::from(ip[0] & 0xf) * 4;
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0;
    if ip[0] >> 4 != 4 || header < 20 || ip[9] != 17 || fragment {
        return Err(DhcpPacketError::Foreign);
    }
    let udp = bytes.get(header..total).ok_or(short)?;
    let head = udp.first_chunk::<8>().ok_or(short)?;
    if u16::from_be_bytes([head[2], head[3]]) != CLIENT_PORT {
        return Err(DhcpPacketError::Foreign);
    }
    let length = usize::from(u16::from_be_bytes([head[4], head[5]]));
    udp.get(8..length).ok_or(short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(options: Vec<(u8, Vec<u8>)>) -> DhcpPacket {
        DhcpPacket {
            op: 2,
            xid: 0x1234_5678,
            secs: 3,
            broadcast: true,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::new(10, 0, 2, 15),
            siaddr: Ipv4Addr::new(10, 0, 2, 4),
            mac: [2, 3, 4, 5, 6, 7],
            options,
        }
    }

    #[test]
    fn overloaded_fields_are_joined_in_the_order_of_rfc_3396() {
        let mut bytes = packet(vec![(52, vec![3]), (119, vec![1])]).to_bytes();
        bytes[FILE][..4].copy_from_slice(&[119, 1, 2, 255]);
        bytes[SNAME][..3].copy_from_slice(&[119, 1, 3]);
        assert_eq!(parse_packet(&bytes).expect("good").option(119), Some(&[1, 2, 3][..]));
        // Without the overload option the fields are names.
        bytes[COOKIE_AT + 6] = 0;
        assert_eq!(parse_packet(&bytes).expect("good").option(119), Some(&[1][..]));
    }

    #[test]
    fn bad_packets_are_refused() {
        let good = packet(vec![(53, vec![5])]).to_bytes();
        assert!(parse_packet(&good).is_ok());
        assert_eq!(parse_packet(&good[..239]), Err(DhcpPacketError::Short { found: 239 }));
        assert_eq!(parse_packet(&good[..242]), Err(DhcpPacketError::Option { code: 53 }));
        let mut bytes = good.clone();
        bytes[COOKIE_AT] = 0;
        assert_eq!(parse_packet(&bytes), Err(DhcpPacketError::Cookie));
        let mut bytes = good[..243].to_vec();
        bytes[241] = 200;
        assert_eq!(parse_packet(&bytes), Err(DhcpPacketError::Option { code: 53 }));
    }

    #[test]
    fn udp_is_wrapped_as_the_rfcs_say() {
        let bytes = wrap_udp(b"hello", Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
        assert_eq!(checksum(0, &bytes[..20]), 0, "IP header");
        assert_eq!(checksum(17 + 13, &bytes[12..]), 0, "UDP with pseudo header");
        // Ours goes to port 67: the other way round it is for us.
        assert_eq!(unwrap_udp(&bytes), Err(DhcpPacketError::Foreign));
        let mut reply = bytes.clone();
        reply[22..24].copy_from_slice(&CLIENT_PORT.to_be_bytes());
        // The checksum is now wrong and does not matter; Ethernet's padding behind the packet neither.
        reply.extend([0; 20]);
        assert_eq!(unwrap_udp(&reply), Ok(&b"hello"[..]));
        for (at, value) in [(0, 0x65), (0, 0x44), (9, 6), (6, 0x20)] {
            let mut bad = reply.clone();
            bad[at] = value;
            assert_eq!(unwrap_udp(&bad), Err(DhcpPacketError::Foreign), "byte {at}");
        }
        for (at, value) in [(3, 200), (25, 4), (25, 200)] {
            let mut bad = reply.clone();
            bad[at] = value;
            assert!(unwrap_udp(&bad).is_err(), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(xid: u32, secs: u16, broadcast: bool, ip: u32, mac: [u8; 6],
            options in prop::collection::btree_map(1u8..=51, prop::collection::vec(any::<u8>(), 0..700), 0..6)) {
            let sent = DhcpPacket { op: 1, xid, secs, broadcast, ciaddr: Ipv4Addr::from_bits(ip), yiaddr: Ipv4Addr::from_bits(!ip), siaddr: Ipv4Addr::from_bits(ip ^ 1),
                mac, options: options.into_iter().collect() };
            prop_assert_eq!(parse_packet(&sent.to_bytes()), Ok(sent));
        }

        #[test]
        fn any_bytes_are_read_or_refused(start in prop::collection::vec(any::<u8>(), 236), rest in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_packet(&[&start[..], &COOKIE, &rest].concat());
            let _ = parse_packet(&rest);
            let _ = unwrap_udp(&rest);
        }
    }
}
