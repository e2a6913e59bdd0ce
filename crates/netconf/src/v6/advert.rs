//! Router advertisements (RFC 4861 section 4.2) with their options, and solicitations.

use crate::domain::parse_name_list;
use std::net::Ipv6Addr;

/// ICMPv6 types.
const SOLICIT: u8 = 133;
const ADVERT: u8 = 134;
/// RFC 8200 section 5: the smallest MTU of an IPv6 link.
const SMALLEST_MTU: u32 = 1280;

/// A router advertisement. Lifetimes are in seconds from its arrival; `u32::MAX` means for ever.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Advert {
    /// Addresses come by DHCPv6 (flag M).
    pub managed: bool,
    /// Other facts come by DHCPv6 (flag O).
    pub other: bool,
    /// Seconds for which it is a default router; 0 when it is none.
    pub router_s: u16,
    pub preference: Preference,
    pub prefixes: Vec<Prefix>,
    pub mtu: Option<u32>,
    /// Name servers with their lifetime (RFC 8106).
    pub dns: Vec<(Ipv6Addr, u32)>,
    /// Search list with its lifetime (RFC 8106).
    pub search: Vec<(String, u32)>,
    /// Lines about what could not be used.
    pub odd: Vec<String>,
}

/// Preference of a default router (RFC 4191 section 2.1); greater is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Preference {
    Low,
    #[default]
    Medium,
    High,
}

/// A prefix information option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    pub prefix: Ipv6Addr,
    pub length: u8,
    pub on_link: bool,
    /// Addresses may be made from the prefix (flag A).
    pub auto: bool,
    pub valid_s: u32,
    pub preferred_s: u32,
}

impl Prefix {
    fn text(&self) -> String {
        [&self.prefix.to_string()[..], "/", &self.length.to_string()].concat()
    }
}

/// Why bytes are no usable router advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AdvertError {
    #[error("the router advertisement has only {found} bytes")]
    Short { found: usize },
    #[error("ICMPv6 type {found} is no router advertisement")]
    Kind { found: u8 },
    #[error("option {code} of the router advertisement runs over the end")]
    Option { code: u8 },
    /// RFC 4861 section 6.1.2.
    #[error("the router advertisement has come from another link: its hop limit is {hops}")]
    Hops { hops: i32 },
    #[error("the router advertisement is from an address that is not link-local")]
    Sender,
}

/// Reads an ICMPv6 message. Malformed and unknown options are skipped.
pub fn parse_advert(bytes: &[u8]) -> Result<Advert, AdvertError> {
    let (fixed, mut rest) = bytes.split_first_chunk::<16>().ok_or(AdvertError::Short { found: bytes.len() })?;
    if fixed[0] != ADVERT || fixed[1] != 0 {
        return Err(AdvertError::Kind { found: fixed[0] });
    }
    let mut advert = Advert {
        managed: fixed[5] & 0x80 != 0,
        other: fixed[5] & 0x40 != 0,
        preference: match fixed[5] >> 3 & 3 {
            1 => Preference::High,
            3 => Preference::Low,
            _ => Preference::Medium,
        },
        router_s: u16::from_be_bytes([fixed[6], fixed[7]]),
        ..Advert::default()
    };
    while let [code, units, ..] = *rest {
        // RFC 4861 section 4.6: a message with an option of length zero is discarded.
        let length = usize::from(units) * 8;
        let (option, after) =
            rest.split_at_checked(length).filter(|_| units > 0).ok_or(AdvertError::Option { code })?;
        read_option(&mut advert, code, option.get(2..).unwrap_or_default());
        rest = after;
    }
    Ok(advert)
}

/// Reads one option; `value` begins behind type and length.
fn read_option(advert: &mut Advert, code: u8, value: &[u8]) {
    match (code, value.len()) {
        (3, 30) => match parse_prefix(value) {
            Some((prefix, None)) => {
                // RFC 4862 section 5.5.3 d: the prefix and our 64 bits must make 128.
                if prefix.auto && prefix.length != 64 {
                    advert.odd.push(["prefix ", &prefix.text(), " for addresses, as its length is not 64"].concat());
                }
                advert.prefixes.push(prefix);
            }
            Some((prefix, Some(why))) => advert.odd.push(["prefix ", &prefix.text(), ", which ", why].concat()),
            None => {}
        },
        (5, 6) => {
            let mtu = long(value, 2).unwrap_or(0);
            match mtu >= SMALLEST_MTU {
                true => advert.mtu = Some(mtu),
                false => advert.odd.push(["an MTU of ", &mtu.to_string(), ", too small for IPv6"].concat()),
            }
        }
        (25, 22..) => {
            let lifetime_s = long(value, 2).unwrap_or(0);
            for server in
                value.get(6..).unwrap_or_default().as_chunks::<16>().0.iter().map(|bytes| Ipv6Addr::from(*bytes))
            {
                match is_server(&server) {
                    true => advert.dns.push((server, lifetime_s)),
                    false => advert.odd.push(["name server ", &server.to_string()].concat()),
                }
            }
        }
        (31, 14..) => {
            let lifetime_s = long(value, 2).unwrap_or(0);
            match parse_name_list(value.get(6..).unwrap_or_default()) {
                Some(names) => advert.search.extend(names.into_iter().map(|name| (name, lifetime_s))),
                None => advert.odd.push("the search list, which is malformed".into()),
            }
        }
        (3 | 5 | 25 | 31, _) => advert.odd.push(["option ", &code.to_string(), ", which has a wrong length"].concat()),
        _ => {}
    }
}

/// Reads a prefix, with the reason why it cannot be used, if there is one.
fn parse_prefix(value: &[u8]) -> Option<(Prefix, Option<&'static str>)> {
    let (fixed, rest) = value.split_first_chunk::<14>()?;
    let prefix = Prefix {
        length: fixed[0],
        on_link: fixed[1] & 0x80 != 0,
        auto: fixed[1] & 0x40 != 0,
        valid_s: long(value, 2)?,
        preferred_s: long(value, 6)?,
        prefix: Ipv6Addr::from(*rest.first_chunk::<16>()?),
    };
    let why = if prefix.length == 0 || prefix.length > 128 {
        Some("has a length that no prefix of a link has")
    } else if !is_server(&prefix.prefix) || prefix.prefix.is_unicast_link_local() {
        Some("is for no addresses that a router gives out")
    } else if prefix.preferred_s > prefix.valid_s {
        // RFC 4862 section 5.5.3 c.
        Some("is preferred for longer than it is valid")
    } else {
        None
    };
    Some((prefix, why))
}

/// Whether the address can be that of a server.
pub fn is_server(ip: &Ipv6Addr) -> bool {
    !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast()
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A router solicitation (RFC 4861 section 4.1) with our MAC, so that routers can answer to us alone. The kernel fills
/// in the checksum.
pub fn write_solicit(mac: &[u8; 6]) -> Vec<u8> {
    let mut bytes = vec![SOLICIT, 0, 0, 0, 0, 0, 0, 0, 1, 1];
    bytes.extend_from_slice(mac);
    bytes
}

/// The address of an interface in a prefix of 64 bits (EUI-64, RFC 4291 appendix A).
pub fn eui64_address(prefix: Ipv6Addr, mac: &[u8; 6]) -> Ipv6Addr {
    let mut bytes = prefix.octets();
    bytes[8..11].copy_from_slice(&mac[..3]);
    bytes[8] ^= 2;
    bytes[11..13].copy_from_slice(&[0xff, 0xfe]);
    bytes[13..].copy_from_slice(&mac[3..]);
    bytes.into()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().expect("an address")
    }

    /// The bytes of an advertisement with flags and lifetime.
    pub fn advert(flags: u8, router_s: u16, options: &[Vec<u8>]) -> Vec<u8> {
        let [high, low] = router_s.to_be_bytes();
        [&[ADVERT, 0, 0, 0, 64, flags, high, low, 0, 0, 0, 0, 0, 0, 0, 0][..], &options.concat()].concat()
    }

    pub fn prefix_option(prefix: &str, length: u8, flags: u8, valid_s: u32, preferred_s: u32) -> Vec<u8> {
        let times = [valid_s.to_be_bytes(), preferred_s.to_be_bytes(), [0; 4]].concat();
        [&[3, 4, length, flags][..], &times, &ip(prefix).octets()].concat()
    }

    pub fn dns_option(server: &str, lifetime_s: u32) -> Vec<u8> {
        [&[25, 3, 0, 0][..], &lifetime_s.to_be_bytes(), &ip(server).octets()].concat()
    }

    #[test]
    fn all_parts_are_read() {
        let search = [&[31, 2, 0, 0, 0, 0, 0, 60][..], b"\x03lab\0\0\0\0"].concat();
        let mtu = vec![5, 1, 0, 0, 0, 0, 5, 0xdc];
        let unknown = vec![14, 1, 1, 2, 3, 4, 5, 6];
        let prefix = prefix_option("2001:db8::", 64, 0xc0, 3600, 1800);
        let bytes = advert(0xc8, 1800, &[prefix, mtu, unknown, dns_option("2001:db8::53", 60), search]);
        let expected = Advert {
            managed: true,
            other: true,
            router_s: 1800,
            preference: Preference::High,
            prefixes: vec![Prefix {
                prefix: ip("2001:db8::"),
                length: 64,
                on_link: true,
                auto: true,
                valid_s: 3600,
                preferred_s: 1800,
            }],
            mtu: Some(1500),
            dns: vec![(ip("2001:db8::53"), 60)],
            search: vec![("lab".into(), 60)],
            odd: vec![],
        };
        assert_eq!(parse_advert(&bytes), Ok(expected));
    }

    #[test]
    fn what_makes_no_sense_is_passed_over_or_refused() {
        for (option, why) in [
            (prefix_option("2001:db8::", 64, 0xc0, 10, 20), "2001:db8::/64, which is preferred for longer"),
            (prefix_option("fe80::", 10, 0xc0, 20, 10), "fe80::/10, which is for no addresses"),
            (prefix_option("ff02::", 64, 0xc0, 20, 10), "ff02::/64, which is for no addresses"),
            (prefix_option("2001:db8::", 129, 0xc0, 20, 10), "/129, which has a length"),
            (prefix_option("2001:db8::", 0, 0xc0, 20, 10), "/0, which has a length"),
            (vec![3, 1, 64, 0xc0, 0, 0, 0, 0], "option 3, which has a wrong length"),
            (dns_option("::", 60), "name server ::"),
            (vec![5, 1, 0, 0, 0, 0, 0, 1], "an MTU of 1, too small"),
            ([&[31, 2, 0, 0, 0, 0, 0, 60][..], b"\x02a\n\0\0\0\0\0"].concat(), "search list, which is malformed"),
        ] {
            let mut found = parse_advert(&advert(0x18, 0, &[option])).expect("the rest is good");
            let odd = std::mem::take(&mut found.odd);
            assert!(odd.len() == 1 && odd[0].contains(why), "{odd:?}, expected {why:?}");
            assert_eq!(found, Advert { preference: Preference::Low, ..Advert::default() });
        }
        assert_eq!(parse_advert(&[ADVERT, 0]), Err(AdvertError::Short { found: 2 }));
        assert_eq!(parse_advert(&[135; 16]), Err(AdvertError::Kind { found: 135 }));
        for option in [vec![3, 0], vec![3, 4, 0, 0]] {
            assert_eq!(parse_advert(&advert(0, 0, &[option])), Err(AdvertError::Option { code: 3 }));
        }
    }

    #[test]
    fn interface_addresses() {
        let mac = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
        assert_eq!(eui64_address(ip("2001:db8::"), &mac), ip("2001:db8::5054:ff:fe12:3456"));
        assert_eq!(write_solicit(&mac).len(), 16);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(rest in prop::collection::vec(any::<u8>(), 0..200), whole: bool) {
            let bytes = if whole { rest } else { advert(0, 9, &[rest]) };
            if let Ok(advert) = parse_advert(&bytes) {
                prop_assert!(advert.prefixes.iter().all(|p| p.length <= 128 && p.preferred_s <= p.valid_s));
            }
        }
    }
}
