//! The values of DHCP options (RFC 2132 and the RFCs named below).

use std::net::Ipv4Addr;

/// A route that the server hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaticRoute {
    pub destination: Ipv4Addr,
    /// Prefix length, 0 to 32.
    pub prefix: u8,
    /// `0.0.0.0`: the destination is on the link.
    pub gateway: Ipv4Addr,
}

/// The address in the first four bytes.
pub fn parse_address(value: &[u8]) -> Option<Ipv4Addr> {
    parse_addresses(value).first().copied()
}

/// A list of addresses; a rest of fewer than four bytes is dropped.
pub fn parse_addresses(value: &[u8]) -> Vec<Ipv4Addr> {
    value.as_chunks::<4>().0.iter().map(|bytes| Ipv4Addr::from(*bytes)).collect()
}

/// A big-endian number of four bytes. More are there when a server or relay sent the option twice, as parts of one option
/// are joined: the first four count.
pub fn parse_u32(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*value.first_chunk()?))
}

/// A big-endian number of two bytes; see [`parse_u32`].
pub fn parse_u16(value: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(*value.first_chunk()?))
}

/// The prefix length of a net mask; `None` when its ones are not contiguous.
pub fn parse_mask(value: &[u8]) -> Option<u8> {
    let bits = parse_u32(value)?;
    let prefix = bits.leading_ones();
    let has_holes = prefix + bits.trailing_zeros().min(32 - prefix) != 32;
    u8::try_from(prefix).ok().filter(|_| !has_holes)
}

/// The prefix length of the address's class (RFC 791), for addresses that come without a net mask.
pub fn class_prefix(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..128 => 8,
        128..192 => 16,
        _ => 24,
    }
}

/// The classless static routes of option 121 (RFC 3442). `None` when malformed: then none of them is used.
pub fn parse_classless_routes(mut value: &[u8]) -> Option<Vec<StaticRoute>> {
    let mut routes = Vec::new();
    while let Some((&prefix, rest)) = value.split_first() {
        let significant = usize::from(prefix).div_ceil(8);
        let (known, rest) = rest.split_at_checked(significant).filter(|_| prefix <= 32)?;
        let (gateway, rest) = rest.split_first_chunk::<4>()?;
        let mut destination = [0; 4];
        destination.iter_mut().zip(known).for_each(|(to, from)| *to = *from);
        let destination = Ipv4Addr::from(destination) & crate::netlink::address::mask(prefix);
        routes.push(StaticRoute { destination, prefix, gateway: Ipv4Addr::from(*gateway) });
        value = rest;
    }
    Some(routes)
}

/// Printable ASCII without blanks, at most 255 bytes. NUL bytes at the end are dropped.
pub fn parse_text(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?.trim_end_matches('\0');
    let good = !text.is_empty() && text.len() <= 255 && text.bytes().all(|b| b.is_ascii_graphic());
    good.then_some(text)
}

/// A host or domain name from the net: letters, digits, `-`, `_` and inner dots, at most 253 bytes (RFC 1123 section 2.1).
/// Anything else could break out of the files that it is written into. NUL bytes and a dot at the end are dropped.
pub fn parse_host_name(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?.trim_end_matches('\0');
    let text = text.strip_suffix('.').unwrap_or(text);
    let good = !text.is_empty()
        && text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        });
    good.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::parse_name_list;
    use proptest::prelude::*;

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().expect("an address")
    }

    #[test]
    fn masks_without_holes() {
        for (mask, prefix) in [
            ("255.255.255.0", Some(24)),
            ("255.255.255.255", Some(32)),
            ("0.0.0.0", Some(0)),
            ("255.0.255.0", None),
            ("0.0.0.1", None),
        ] {
            assert_eq!(parse_mask(&ip(mask).octets()), prefix, "{mask}");
        }
        assert_eq!(parse_mask(&[255, 255]), None);
        assert_eq!(parse_mask(&[255, 255, 0, 0, 255, 255, 0, 0]), Some(16), "sent twice");
    }

    #[test]
    fn classless_routes() {
        // The example of RFC 3442 and a default route.
        let value = [24, 10, 17, 0, 10, 0, 0, 1, 0, 10, 0, 0, 2, 32, 1, 2, 3, 4, 0, 0, 0, 0];
        let route =
            |destination, prefix, gateway| StaticRoute { destination: ip(destination), prefix, gateway: ip(gateway) };
        let expected =
            [route("10.17.0.0", 24, "10.0.0.1"), route("0.0.0.0", 0, "10.0.0.2"), route("1.2.3.4", 32, "0.0.0.0")];
        assert_eq!(parse_classless_routes(&value).as_deref(), Some(&expected[..]));
        assert_eq!(parse_classless_routes(&[]), Some(vec![]));
        // Bits behind the prefix are no part of the destination.
        assert_eq!(
            parse_classless_routes(&[20, 10, 17, 255, 1, 1, 1, 1]),
            Some(vec![route("10.17.240.0", 20, "1.1.1.1")])
        );
        for bad in [&[33, 1, 1, 1, 1, 1, 1, 1, 1][..], &[24, 10, 17, 0, 10, 0, 0], &[0, 1], &[24]] {
            assert_eq!(parse_classless_routes(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn search_lists() {
        // RFC 3397: `eng.apple.com.` and `marketing.apple.com.`
        let value = b"\x03eng\x05apple\x03com\0\x09marketing\xc0\x04";
        let expected = vec!["eng.apple.com".to_string(), "marketing.apple.com".to_string()];
        assert_eq!(parse_name_list(value), Some(expected));
        for bad in [
            &b"\xc0\x00"[..],
            b"\x03ab",
            b"\x01a",
            b"\x02a\n\0",
            b"\xc0",
            b"\x40a\0",
            b"\x01a\xc0\x02",
            b"\x01a\xc0\x04\0",
        ] {
            assert_eq!(parse_name_list(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn host_names() {
        for (name, good) in [
            ("node-1", Some("node-1")),
            ("n.example.org.", Some("n.example.org")),
            ("n\0", Some("n")),
            ("", None),
            ("a b", None),
            ("a\nnameserver 6.6.6.6", None),
            ("-a", None),
            ("a..b", None),
            ("../x", None),
        ] {
            assert_eq!(parse_host_name(name.as_bytes()), good, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn routes_survive(routes in prop::collection::vec((any::<u32>(), 0u8..=32, any::<u32>()), 0..8)) {
            let mut bytes = Vec::new();
            let mut expected = Vec::new();
            for (destination, prefix, gateway) in routes {
                let destination = Ipv4Addr::from_bits(destination) & crate::netlink::address::mask(prefix);
                bytes.push(prefix);
                bytes.extend(&destination.octets()[..usize::from(prefix).div_ceil(8)]);
                bytes.extend(gateway.to_be_bytes());
                expected.push(StaticRoute { destination, prefix, gateway: Ipv4Addr::from_bits(gateway) });
            }
            prop_assert_eq!(parse_classless_routes(&bytes), Some(expected));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse_classless_routes(&bytes);
            for name in parse_name_list(&bytes).unwrap_or_default() {
                prop_assert!(name.len() <= 253 && parse_host_name(name.as_bytes()).is_some(), "{:?}", name);
            }
        }
    }
}
