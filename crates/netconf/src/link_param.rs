//! Parses `vlan=`, `bond=`, `ifname=` and `rd.route=` (dracut.cmdline(7)).

use super::ip_param::{parse_cidr, parse_mac};
use super::netlink::address::RouteTo;
use std::net::IpAddr;

/// IEEE 802.1Q: 0 and 4095 are reserved.
pub const LARGEST_VLAN: u16 = 4094;
/// `IFNAMSIZ` less the NUL byte.
const LONGEST_NAME: usize = 15;
/// dracut's `bond=` without a value.
const DEFAULT_BOND: &str = "bond0:eth0,eth1:mode=balance-rr";

/// A link that the engine makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualLink {
    pub name: String,
    pub how: VirtualLinkKind,
    pub mtu: Option<u32>,
}

/// The kind of a virtual link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VirtualLinkKind {
    /// A VLAN with its number, on a lower link that is given by name or MAC.
    Vlan { lower: String, id: u16 },
    /// A bond of links that are given by name or MAC. The options are named as in the kernel.
    Bond { members: Vec<String>, options: Vec<(String, String)> },
}

/// A key of the command line that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}={found}` is not understood: expected {expected}")]
pub struct LinkParamError {
    pub key: &'static str,
    pub found: String,
    pub expected: &'static str,
}

/// Parses `vlan=<name>:<link>`. The number is the end of the name: `vlan0005`, `vlan5`, `eth0.0005`, `eth0.5`.
pub fn parse_vlan(value: &str) -> Result<VirtualLink, LinkParamError> {
    let bad = || LinkParamError { key: "vlan", found: value.into(), expected: "`vlan=eth0.5:eth0`" };
    let (name, lower) = value.split_once(':').ok_or_else(bad)?;
    let digits = name.trim_start_matches(|c: char| c != '.').strip_prefix('.').or_else(|| name.strip_prefix("vlan"));
    let id = digits.and_then(|digits| digits.parse().ok()).filter(|id| (1..=LARGEST_VLAN).contains(id));
    let (true, true, Some(id)) = (is_link_name(name), is_link(lower), id) else { return Err(bad()) };
    Ok(VirtualLink { name: name.into(), how: VirtualLinkKind::Vlan { lower: lower.into(), id }, mtu: None })
}

/// Parses `bond=<name>[:<links>[:<options>[:<mtu>]]]`; links and options are divided by commas.
pub fn parse_bond(value: &str) -> Result<VirtualLink, LinkParamError> {
    let expected = "`bond=bond0:eth0,eth1:mode=active-backup,miimon=100`";
    let bad = || LinkParamError { key: "bond", found: value.into(), expected };
    let text = if value.is_empty() { DEFAULT_BOND } else { value };
    let fields: Vec<&str> = text.split(':').collect();
    let [name, more @ ..] = &fields[..] else { return Err(bad()) };
    let (links, options, mtu) = match more {
        [] => ("eth0,eth1", "", None),
        [links] => (*links, "", None),
        [links, options] => (*links, *options, None),
        [links, options, mtu] => (*links, *options, Some(mtu.parse().map_err(|_| bad())?)),
        _ => return Err(bad()),
    };
    let members: Vec<String> = links.split(',').map(String::from).collect();
    let pair = |text: &str| text.split_once('=').map(|(key, value)| (key.to_string(), value.to_string()));
    let options = options.split(',').filter(|text| !text.is_empty()).map(pair).collect::<Option<Vec<_>>>();
    let good = is_link_name(name) && members.iter().all(|member| is_link_name(member));
    let options = options.filter(|_| good).ok_or_else(bad)?;
    Ok(VirtualLink { name: name.to_string(), how: VirtualLinkKind::Bond { members, options }, mtu })
}

/// Parses `ifname=<name>:<mac>`.
pub fn parse_ifname(value: &str) -> Result<(String, [u8; 6]), LinkParamError> {
    let read = || {
        let (name, mac) = value.split_once(':')?;
        Some((name.to_string(), parse_mac(mac)?)).filter(|(name, _)| is_link_name(name))
    };
    read().ok_or_else(|| LinkParamError {
        key: "ifname",
        found: value.into(),
        expected: "`ifname=lan0:aa:bb:cc:dd:ee:ff`",
    })
}

/// Parses `rd.route=<net>/<prefix>:<gateway>[:<device>]`. IPv6 addresses stand in brackets; without a gateway the
/// destination is on the link.
pub fn parse_route(value: &str) -> Result<(RouteTo, Option<String>), LinkParamError> {
    let read = || {
        let (net, rest) = split_bracket(value)?;
        let to = parse_cidr(&net)?;
        let (gateway, rest) = if rest.is_empty() { (String::new(), rest) } else { split_bracket(rest)? };
        let via = if gateway.is_empty() { None } else { Some(gateway.parse::<IpAddr>().ok()?) };
        let device = Some(rest.to_string()).filter(|device| !device.is_empty());
        let fits = via.is_none_or(|via| via.is_ipv4() == to.0.is_ipv4()) && (via.is_some() || device.is_some());
        fits.then_some((RouteTo::lasting(to, via), device))
    };
    let expected = "`rd.route=192.0.2.0/24:10.0.0.1`";
    read().ok_or_else(|| LinkParamError { key: "rd.route", found: value.into(), expected })
}

/// The text before the next colon outside of brackets (brackets removed), and the text behind it.
fn split_bracket(text: &str) -> Option<(String, &str)> {
    let start = if text.starts_with('[') { text.find(']')? } else { 0 };
    let end = text[start..].find(':').map_or(text.len(), |at| start + at);
    Some((text[..end].replace(['[', ']'], ""), text.get(end + 1..).unwrap_or_default()))
}

fn is_link(text: &str) -> bool {
    is_link_name(text) || parse_mac(text).is_some()
}

/// Whether the kernel takes the text as the name of an interface (`dev_valid_name`).
pub fn is_link_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
    !name.is_empty() && name.len() <= LONGEST_NAME && name != "." && name != ".." && name.bytes().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn vlans() {
        for (text, name, lower, id) in [
            ("vlan0005:eth0", "vlan0005", "eth0", 5),
            ("vlan5:bond0", "vlan5", "bond0", 5),
            ("eth0.0005:eth0", "eth0.0005", "eth0", 5),
            ("eth0.4094:52:54:00:12:34:56", "eth0.4094", "52:54:00:12:34:56", 4094),
        ] {
            let how = VirtualLinkKind::Vlan { lower: lower.into(), id };
            assert_eq!(parse_vlan(text), Ok(VirtualLink { name: name.into(), how, mtu: None }), "{text}");
        }
        for bad in ["", "vlan5", "vlan:eth0", "eth0.0:eth0", "eth0.4095:eth0", "eth0:eth0", "vlan5:", "a/b.5:eth0"] {
            let error = parse_vlan(bad).expect_err(bad).to_string();
            assert!(error.starts_with(&format!("`vlan={bad}` is not understood")), "{error}");
        }
    }

    #[test]
    fn bonds() {
        let bond = |members: &[&str], options: &[(&str, &str)], mtu| {
            let members = members.iter().map(|m| m.to_string()).collect();
            let options = options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            Ok(VirtualLink { name: "bond0".into(), how: VirtualLinkKind::Bond { members, options }, mtu })
        };
        let both = ["eth0", "eth1"];
        assert_eq!(parse_bond(""), bond(&both, &[("mode", "balance-rr")], None));
        assert_eq!(parse_bond("bond0"), bond(&both, &[], None));
        assert_eq!(parse_bond("bond0:a"), bond(&["a"], &[], None));
        let options = [("mode", "802.3ad"), ("miimon", "100")];
        assert_eq!(parse_bond("bond0:eth0,eth1:mode=802.3ad,miimon=100:9000"), bond(&both, &options, Some(9000)));
        for bad in ["bond0:", "bond0:eth0:mode", "bond0:eth0:mode=1:big", "bond0:eth0:::", ":eth0", "bond0:a b"] {
            assert!(parse_bond(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_and_routes() {
        assert_eq!(parse_ifname("lan0:02:00:00:00:00:01"), Ok(("lan0".into(), [2, 0, 0, 0, 0, 1])));
        assert!(parse_ifname("lan0:02:00").is_err() && parse_ifname("x/y:02:00:00:00:00:01").is_err());
        let route = |to: &str, via: Option<&str>, device: Option<&str>| {
            let via = via.map(|via| via.parse().expect("an address"));
            Ok((RouteTo::lasting(parse_cidr(to).expect("a net"), via), device.map(String::from)))
        };
        for (text, expected) in [
            ("192.0.2.0/24:10.0.0.1", route("192.0.2.0/24", Some("10.0.0.1"), None)),
            ("192.0.2.0/24:10.0.0.1:eth1", route("192.0.2.0/24", Some("10.0.0.1"), Some("eth1"))),
            ("192.0.2.0/24::eth1", route("192.0.2.0/24", None, Some("eth1"))),
            ("[2001:db8:5::/48]:[2001:db8::1]:eth1", route("2001:db8:5::/48", Some("2001:db8::1"), Some("eth1"))),
        ] {
            assert_eq!(parse_route(text), expected, "{text}");
        }
        for bad in ["", "192.0.2.0:10.0.0.1", "192.0.2.0/24", "192.0.2.0/24:2001:db8::1", "192.0.2.0/24:[2001:db8::1]"]
        {
            assert!(parse_route(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z0-9:.,=/\\[\\] ]{0,60}") {
            let _ = (parse_vlan(&text), parse_bond(&text), parse_ifname(&text), parse_route(&text));
        }
    }
}
