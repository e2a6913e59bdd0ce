//! `ip=` of the kernel command line, and MACs.
//!
//! Forms of `ip=`: the kernel's (Documentation/admin-guide/nfs/nfsroot.rst)
//! `<client>:<server>:<gateway>:<mask>:<hostname>:<device>:<autoconf>:<dns0>:<dns1>:<ntp0>`, one autoconf word alone, and
//! dracut.cmdline(7)'s `<device>:<autoconf>[:[<mtu>][:<mac>]]` and IPv6 addresses in brackets.

use super::dhcp::options::{parse_host_name, parse_mask};
use super::netlink::address::Cidr;
use std::net::{IpAddr, Ipv4Addr};

/// What one `ip=` says. `address` is set for static configuration only.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IpParam {
    pub method: Method,
    pub address: Option<Cidr>,
    pub gateway: Option<IpAddr>,
    /// The kernel's "server": where an NFS root would be.
    pub server: Option<IpAddr>,
    pub hostname: Option<String>,
    pub device: Option<String>,
    pub dns: Vec<IpAddr>,
    pub ntp: Vec<IpAddr>,
    pub mtu: Option<u32>,
}

/// How the address is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    #[default]
    Off,
    /// DHCP; IPv6 as the recipe says.
    Dhcp,
    Static,
    /// IPv6 from routers, no IPv4.
    Auto6,
    /// IPv6 by DHCPv6, no IPv4.
    Dhcp6,
    /// Only the link-local address.
    LinkLocal,
}

/// Why an `ip=` is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IpParamError {
    #[error(
        "`ip=` has no method `{0}`: dhcp, on, any, both, auto6, dhcp6, either6, link-local, off and none are known"
    )]
    Method(String),
    #[error("`ip=` has a bad {field}: `{found}`")]
    Field { field: &'static str, found: String },
    #[error("`ip=` has no net mask for the address {0}")]
    NoMask(IpAddr),
}

/// Reads the value of `ip=`.
pub fn parse_ip_param(value: &str) -> Result<IpParam, IpParamError> {
    let fields = split_fields(value);
    let field = |at: usize| fields.get(at).copied().filter(|text| !text.is_empty());
    // Two to nine fields begin with a device when the second is a method: a MAC as last field has colons of its own.
    let short = fields.len() > 1 && !is_address(fields[0]) && !fields[1].is_empty();
    if fields.len() == 1 {
        return Ok(IpParam { method: parse_method(value)?, ..IpParam::default() });
    }
    if short {
        let method = parse_method(fields[1])?;
        let mtu = field(2).map(parse_mtu).transpose()?;
        return Ok(IpParam { method, device: field(0).map(String::from), mtu, ..IpParam::default() });
    }
    let mut param = IpParam {
        server: field(1).and_then(|text| parse_address("server", text).ok()),
        gateway: field(2).map(|text| parse_address("gateway", text)).transpose()?,
        hostname: field(4).map(parse_hostname).transpose()?,
        device: field(5).map(String::from),
        ..IpParam::default()
    };
    param.method = parse_method(field(6).unwrap_or("none"))?;
    // dracut puts an MTU (and a MAC) where the kernel has the first name server.
    match field(7) {
        Some(text) if !is_address(text) && !text.contains('.') => param.mtu = Some(parse_mtu(text)?),
        None if fields.len() == 14 => {}
        first => {
            for text in [first, field(8)].into_iter().flatten() {
                param.dns.push(parse_address("name server", text)?);
            }
            param.ntp.extend(field(9).map(|text| parse_address("time server", text)).transpose()?);
        }
    }
    if let Some(text) = field(0).filter(|_| matches!(param.method, Method::Off)) {
        param.method = Method::Static;
        param.address = Some(parse_client(text, field(3))?);
    }
    Ok(param)
}

/// Splits at colons that are in no brackets, which are taken off.
fn split_fields(value: &str) -> Vec<&str> {
    let mut fields = Vec::new();
    let mut rest = value;
    loop {
        let (field, behind) = match rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            // `[2001:db8::7]/64` keeps its prefix length: a slash is in no other field.
            Some((address, behind)) if behind.is_empty() || behind.starts_with(':') => (address, behind),
            _ => {
                let start = rest.strip_prefix('[').map_or(0, |inner| inner.find(']').map_or(0, |at| at + 2));
                rest.split_at(rest[start..].find(':').map_or(rest.len(), |at| start + at))
            }
        };
        fields.push(field);
        match behind.strip_prefix(':') {
            Some(next) => rest = next,
            None => return fields,
        }
    }
}

fn is_address(text: &str) -> bool {
    parse_address("", text).is_ok() || parse_cidr(text).is_some()
}

fn parse_method(text: &str) -> Result<Method, IpParamError> {
    match text {
        // DHCP servers answer what BOOTP and RARP were for.
        "dhcp" | "on" | "any" | "both" | "bootp" | "rarp" | "dhcp4" | "single-dhcp" | "" => Ok(Method::Dhcp),
        "auto6" | "either6" => Ok(Method::Auto6),
        "dhcp6" => Ok(Method::Dhcp6),
        "link6" | "link-local" => Ok(Method::LinkLocal),
        "off" | "none" | "static" => Ok(Method::Off),
        _ => Err(IpParamError::Method(text.into())),
    }
}

fn bad(field: &'static str, found: &str) -> IpParamError {
    IpParamError::Field { field, found: found.into() }
}

fn parse_address(field: &'static str, text: &str) -> Result<IpAddr, IpParamError> {
    text.parse().map_err(|_| bad(field, text))
}

fn parse_hostname(text: &str) -> Result<String, IpParamError> {
    parse_host_name(text.as_bytes()).map(String::from).ok_or_else(|| bad("hostname", text))
}

fn parse_mtu(text: &str) -> Result<u32, IpParamError> {
    text.parse().map_err(|_| bad("MTU", text))
}

/// The address with its mask, which is dotted, a prefix length, or behind a slash of the address.
fn parse_client(text: &str, mask: Option<&str>) -> Result<Cidr, IpParamError> {
    if text.contains('/') {
        return parse_cidr(text).ok_or_else(|| bad("address", text));
    }
    let address = parse_address("address", text)?;
    let mask = mask.ok_or(IpParamError::NoMask(address))?;
    let prefix = match mask.parse::<Ipv4Addr>() {
        Ok(mask) if address.is_ipv4() => parse_mask(&mask.octets()),
        _ => mask.parse().ok().filter(|prefix| *prefix <= longest_prefix(address)),
    };
    Ok((address, prefix.ok_or_else(|| bad("net mask", mask))?))
}

/// `192.0.2.7/24`, `2001:db8::7/64`, also `[2001:db8::7]/64`.
pub fn parse_cidr(text: &str) -> Option<Cidr> {
    let (address, prefix) = text.split_once('/')?;
    let address: IpAddr = address.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    Some((address, prefix.parse().ok().filter(|prefix| *prefix <= longest_prefix(address))?))
}

fn longest_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// `aa:bb:cc:dd:ee:ff` or with hyphens, and pxelinux's `BOOTIF` form with the hardware type `01-` before it.
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let parts = match parts.len() {
        7 if parts[0] == "01" => &parts[1..],
        6 => &parts[..],
        _ => return None,
    };
    let mut mac = [0; 6];
    for (byte, part) in mac.iter_mut().zip(parts) {
        // `from_str_radix` would take a sign.
        let hex = part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
        *byte = hex.then(|| u8::from_str_radix(part, 16).ok())??;
    }
    Some(mac)
}

/// A MAC as people write it.
pub fn format_mac(mac: &[u8; 6]) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(17);
    for (i, byte) in mac.iter().enumerate() {
        if i > 0 {
            text.push(':');
        }
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 0xf)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn forms_of_ip() {
        let dhcp = IpParam { method: Method::Dhcp, ..IpParam::default() };
        let fixed = IpParam {
            method: Method::Static,
            address: Some((ip("10.0.2.9"), 24)),
            gateway: Some(ip("10.0.2.2")),
            ..IpParam::default()
        };
        let full = IpParam {
            hostname: Some("n1".into()),
            device: Some("eth0".into()),
            dns: vec![ip("10.0.2.3"), ip("10.0.2.4")],
            ..fixed.clone()
        };
        let six = IpParam {
            method: Method::Static,
            address: Some((ip("2001:db8::7"), 64)),
            gateway: Some(ip("2001:db8::1")),
            device: Some("eth1".into()),
            ..IpParam::default()
        };
        let on_eth1 = IpParam { device: Some("eth1".into()), ..dhcp.clone() };
        for (text, expected) in [
            ("dhcp", dhcp.clone()),
            ("on", dhcp.clone()),
            ("bootp", dhcp.clone()),
            ("rarp", dhcp.clone()),
            ("single-dhcp", dhcp.clone()),
            ("", dhcp.clone()),
            ("off", IpParam::default()),
            ("none", IpParam::default()),
            ("eth1:dhcp", on_eth1.clone()),
            ("eth1:on:9000", IpParam { mtu: Some(9000), ..on_eth1.clone() }),
            (":::::eth1:dhcp", on_eth1.clone()),
            ("10.0.2.9::10.0.2.2:255.255.255.0", fixed.clone()),
            ("10.0.2.9/24::10.0.2.2:", fixed.clone()),
            ("10.0.2.9::10.0.2.2:24:::off", fixed.clone()),
            (
                "10.0.2.9::10.0.2.2:255.255.255.0:n1:eth0:none:10.0.2.3:10.0.2.4:10.0.2.5",
                IpParam { ntp: vec![ip("10.0.2.5")], ..full.clone() },
            ),
            ("10.0.2.9:10.0.2.1:10.0.2.2:24", IpParam { server: Some(ip("10.0.2.1")), ..fixed.clone() }),
            ("auto6", IpParam { method: Method::Auto6, ..IpParam::default() }),
            ("eth1:dhcp6", IpParam { method: Method::Dhcp6, ..on_eth1.clone() }),
            ("eth1:on::52:54:00:12:34:56", on_eth1.clone()),
            ("[2001:db8::7]::[2001:db8::1]:64::eth1:none", six.clone()),
            ("[2001:db8::7]/64::[2001:db8::1]::::none:1400", IpParam { mtu: Some(1400), device: None, ..six.clone() }),
            (
                "[2001:db8::7]/64::[2001:db8::1]:::eth1:off:[2001:db8::53]:10.0.2.3",
                IpParam { dns: vec![ip("2001:db8::53"), ip("10.0.2.3")], ..six },
            ),
            ("10.0.2.9::10.0.2.2:255.255.255.0:n1:eth0:none:1400", IpParam { mtu: Some(1400), dns: vec![], ..full }),
        ] {
            assert_eq!(parse_ip_param(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn bad_ip() {
        for (text, message) in [
            ("ibft2", "no method `ibft2`"),
            ("eth0:bootps", "no method `bootps`"),
            ("[2001:db8::1]::gw", "bad gateway: `gw`"),
            ("[2001:db8::1:::64", "no method"),
            ("[2001:db8::1]::[2001:db8::2]:255.255.255.0", "bad net mask"),
            ("10.0.2.9::10.0.2.2:", "no net mask for the address 10.0.2.9"),
            ("10.0.2.9::10.0.2.2:255.0.255.0", "bad net mask: `255.0.255.0`"),
            ("10.0.2.9::10.0.2.2:33", "bad net mask"),
            ("10.0.2.300:::24", "bad address: `10.0.2.300`"),
            ("[2001:db8::7]/129:::", "bad address"),
            ("10.0.2.9/40:::", "bad address"),
            ("10.0.2.9::x:24", "bad gateway"),
            ("10.0.2.9:::24:a b", "bad hostname"),
            ("eth0:dhcp:big", "bad MTU"),
            (":::::eth0:dhcp:1.2.3", "bad name server"),
        ] {
            let error = parse_ip_param(text).expect_err(text).to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn macs() {
        let mac = Some([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        for text in ["52:54:00:12:34:56", "01-52-54-00-12-34-56", "52-54-00-12-34-56"] {
            assert_eq!(parse_mac(text), mac, "{text}");
        }
        for text in
            ["", "52:54:00:12:34", "20-52-54-00-12-34-56", "52:54:00:12:34:5g", "+2:54:00:12:34:56", "52:54:0:12:34:56"]
        {
            assert_eq!(parse_mac(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn macs_survive(mac: [u8; 6]) {
            prop_assert_eq!(parse_mac(&format_mac(&mac)), Some(mac));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[a-z0-9:./\\[\\] ]{0,60}") {
            let _ = parse_ip_param(&text);
            let _ = parse_mac(&text);
            let _ = parse_cidr(&text);
        }
    }
}
