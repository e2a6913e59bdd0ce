//! Values of `nodes.toml`: addresses of cards, machines and roots.

use super::Address;
use crate::recipe::RootMode;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// The MAC address of a network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    fn joined(self, separator: &str) -> String {
        self.0.map(|byte| format!("{byte:02x}")).join(separator)
    }

    /// `52-54-00-12-34-56`, as file names have it.
    pub fn hyphens(self) -> String {
        self.joined("-")
    }
}

impl fmt::Display for Mac {
    /// `52:54:00:12:34:56`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.joined(":"))
    }
}

/// Six bytes in hex with `:` or `-` between them; not all zeros, no multicast address (IEEE 802).
pub fn parse_mac(text: &str) -> Option<Mac> {
    let mut mac = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    (parts.next().is_none() && mac != [0; 6] && mac[0] & 1 == 0).then_some(Mac(mac))
}

/// RFC 9562's text form, lower case; not all digits the same, as firmware has it that was never told its own.
pub fn parse_uuid(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
    let good = lengths == [8, 4, 4, 4, 12]
        && digits.iter().all(u8::is_ascii_hexdigit)
        && digits.iter().any(|digit| *digit != digits[0]);
    good.then_some(text)
}

/// `192.0.2.7/24` or `2001:db8::7/64`.
pub fn parse_address(text: &str) -> Option<Address> {
    let (ip, prefix) = text.split_once('/')?;
    let ip: IpAddr = ip.parse().ok()?;
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.parse().ok().filter(|prefix| (1..=longest).contains(prefix))?;
    (!ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast()).then_some(Address { ip, prefix })
}

/// RFC 1123: labels of letters, digits and `-`, 64 bytes at most, as the kernel takes it.
pub fn is_hostname(text: &str) -> bool {
    let label = |label: &str| {
        let edges = [label.as_bytes().first(), label.as_bytes().last()];
        label.len() <= 63
            && edges.iter().all(|edge| edge.is_some_and(|b| b.is_ascii_alphanumeric()))
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    text.len() <= 64 && text.split('.').all(label)
}

/// The kind of root that an address is for, by its scheme. Its further parts are PID1's to read.
pub fn root_mode(url: &str) -> Option<RootMode> {
    let known = RootMode::of_source(url)?;
    let (_, rest) = url.split_once("://")?;
    (!rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic()) && !rest.contains(['"', '\'', '$']))
        .then_some(known)
}

/// A word that every boot loader hands to the kernel as it is.
pub fn is_kernel_word(word: &str) -> bool {
    !word.is_empty()
        && word.bytes().all(|b| b.is_ascii_graphic())
        && !word.contains(['"', '\'', '$', '|', '&', '\\', ';'])
}

/// A name that the kernel gives a network interface: at most 15 bytes (IFNAMSIZ of linux/if.h), of those that stand for themselves in
/// dnsmasq's configuration.
pub fn is_interface(name: &str) -> bool {
    !name.is_empty() && name.len() < 16 && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b',')
}

/// `FIRST,LAST[,NETMASK][,LEASE]`, of dnsmasq(8), `--dhcp-range`.
pub fn is_dhcp_range(text: &str) -> bool {
    let fields: Vec<&str> = text.split(',').collect();
    let ip = |text: &str| text.parse::<Ipv4Addr>().ok();
    let lease = |text: &str| {
        let digits = text.strip_suffix(['s', 'm', 'h', 'd']).unwrap_or(text);
        text == "infinite" || digits.parse::<u32>().is_ok()
    };
    let [first, last, rest @ ..] = &fields[..] else { return false };
    let in_order = matches!((ip(first), ip(last)), (Some(first), Some(last)) if first <= last);
    in_order
        && match rest {
            [] => true,
            [one] => ip(one).is_some() || lease(one),
            [mask, time] => ip(mask).is_some() && lease(time),
            _ => false,
        }
}

/// `https://HOST[:PORT]`, of an API server.
pub fn is_api_server(text: &str) -> bool {
    let rest = text.strip_prefix("https://");
    rest.is_some_and(|rest| !rest.contains(['/', '~', '%']) && parse_server_url(&format!("http://{rest}")).is_some())
}

/// `http://HOST[:PORT][/path]`, without what stands at its end; loaders of firmware know no TLS.
pub fn parse_server_url(text: &str) -> Option<String> {
    let rest = text.strip_prefix("http://")?.trim_end_matches('/');
    let host = rest.split('/').next()?;
    let plain = rest.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_~/:[]%".contains(&b));
    let (name, port) = match host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        Some((name, port)) => (name, port.parse::<u16>().is_ok_and(|port| port > 0)),
        None => (host, true),
    };
    (plain && port && !name.is_empty()).then(|| format!("http://{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs() {
        for text in ["52:54:00:12:34:5a", "52-54-00-12-34-5A"] {
            let mac = parse_mac(text).unwrap();
            assert_eq!((mac.to_string().as_str(), mac.hyphens().as_str()), ("52:54:00:12:34:5a", "52-54-00-12-34-5a"));
        }
        let bad = ["", "52:54:00:12:34", "52:54:00:12:34:56:78", "+2:54:00:12:34:56", "00:00:00:00:00:00"];
        for text in bad.into_iter().chain(["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "5254.0012.3456"]) {
            assert_eq!(parse_mac(text), None, "{text}");
        }
    }

    #[test]
    fn uuids() {
        let good = "0E3C1A5B-0000-4000-8000-0123456789AB";
        assert_eq!(parse_uuid(good).unwrap(), good.to_ascii_lowercase());
        for text in
            ["", "0e3c1a5b000040008000-0123456789ab", "00000000-0000-0000-0000-000000000000", &good.replace('E', "g")]
        {
            assert_eq!(parse_uuid(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_and_names() {
        assert!(parse_address("192.0.2.7/24").is_some() && parse_address("2001:db8::7/64").is_some());
        for text in
            ["192.0.2.7", "192.0.2.7/33", "192.0.2.7/0", "0.0.0.0/8", "127.0.0.1/8", "224.0.0.1/4", "2001:db8::/129"]
        {
            assert_eq!(parse_address(text), None, "{text}");
        }
        for (text, good) in
            [("n1", true), ("n1.lab.example", true), ("-n", false), ("n_1", false), ("n1.", false), ("", false)]
        {
            assert_eq!(is_hostname(text), good, "{text}");
        }
        assert!(!is_hostname(&"n".repeat(64)) && is_hostname(&format!("{}.x", "n".repeat(62))));
    }

    #[test]
    fn what_stands_in_the_configuration_of_dnsmasq() {
        for (name, good) in [("eth0", true), ("br-lab.7", true), ("", false), ("sixteen-bytes-xx", false)] {
            assert_eq!(is_interface(name), good, "{name}");
        }
        assert!(["eth0\ndhcp-script=/x", "e h", "a/b", "a,b"].iter().all(|name| !is_interface(name)));
        for good in ["192.0.2.1,192.0.2.9", "192.0.2.1,192.0.2.9,12h", "192.0.2.1,192.0.2.9,255.255.255.0,infinite"] {
            assert!(is_dhcp_range(good), "{good}");
        }
        for bad in [
            "",
            "192.0.2.9,192.0.2.1",
            "192.0.2.1,192.0.2.9,12h\ndhcp-script=/x",
            "set:x,192.0.2.1",
            "192.0.2.1,192.0.2.9,1,2,3",
        ] {
            assert!(!is_dhcp_range(bad), "{bad}");
        }
    }

    #[test]
    fn roots_by_scheme() {
        for (text, mode) in [
            ("nbd:///worker", Some(RootMode::Nbd)),
            ("https://h/x", Some(RootMode::Http)),
            ("nfs://h:2049/srv?vers=4.2&rw", Some(RootMode::Nfs)),
            ("ram://x", None),
            ("ftp://h/x", None),
            ("nbd://", None),
            ("nbd://a b", None),
            ("nbd://${ip}/x", None),
        ] {
            assert_eq!(root_mode(text), mode, "{text}");
        }
    }

    #[test]
    fn server_addresses() {
        for (text, url) in [
            ("http://192.0.2.1:8080", Some("http://192.0.2.1:8080")),
            ("http://boot.lab/images/", Some("http://boot.lab/images")),
            ("http://[2001:db8::1]:80", Some("http://[2001:db8::1]:80")),
            ("http://[2001:db8::1]", Some("http://[2001:db8::1]")),
            ("https://x", None),
            ("http://", None),
            ("http://x:0", None),
            ("http://x:y", None),
            ("http://x/${y}", None),
            ("http://x/a b", None),
        ] {
            assert_eq!(parse_server_url(text).as_deref(), url, "{text}");
        }
    }

    #[test]
    fn addresses_of_api_servers() {
        for (text, good) in [
            ("https://192.0.2.1:6443", true),
            ("https://[2001:db8::1]:6443", true),
            ("https://api.lab.example", true),
            ("http://192.0.2.1:6443", false),
            ("https://192.0.2.1:6443/", false),
            ("https://", false),
            ("https://a b", false),
        ] {
            assert_eq!(is_api_server(text), good, "{text}");
        }
    }
}
