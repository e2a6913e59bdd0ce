//! Parses `ip=` of the kernel command line, and MAC addresses.
//!
//! Forms of `ip=`: the kernel's (Documentation/admin-guide/nfs/nfsroot.rst)
//! `<client>:<server>:<gateway>:<mask>:<hostname>:<device>:<autoconf>:<dns0>:<dns1>:<ntp0>`; one autoconf word alone;
//! and dracut.cmdline(7)'s `<device>:<autoconf>[:[<mtu>][:<mac>]]`. IPv6 addresses stand in brackets. Several autoconf
//! words are divided by commas, as in dracut and nm-initrd-generator(8).

use super::dhcp::options::{class_prefix, parse_host_name, parse_mask};
use super::netlink::address::Cidr;
use bootwright_contract::hex;
use std::net::{IpAddr, Ipv4Addr};

#[cfg(test)]
mod tests;

/// Length of a MAC address as text.
const MAC_LENGTH: usize = 17;

/// The content of one `ip=`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IpParam {
    pub methods: Methods,
    /// A static address.
    pub address: Option<Cidr>,
    pub gateway: Option<IpAddr>,
    /// The kernel's field "server": the server of an NFS root.
    pub server: Option<IpAddr>,
    pub hostname: Option<String>,
    /// A name or a MAC.
    pub device: Option<String>,
    pub dns: Vec<IpAddr>,
    pub ntp: Vec<IpAddr>,
    pub mtu: Option<u32>,
    /// Fields that were not understood. The others count all the same.
    pub left_out: Vec<IpParamError>,
}

/// How addresses are found. When nothing is set, none are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Methods {
    /// DHCPv4.
    pub dhcp: bool,
    /// `None` when the words say nothing about IPv6.
    pub v6: Option<V6Method>,
}

/// How IPv6 addresses are found. Of several words the greatest counts, because each does what the ones before it do,
/// and more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum V6Method {
    /// As the recipe says.
    AsRecipe,
    /// Only the link-local address.
    LinkLocal,
    /// From routers, and by DHCPv6 when routers say so.
    Auto,
    /// By DHCPv6, whatever routers say.
    Dhcp,
}

/// Why an `ip=` is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IpParamError {
    #[error(
        "has no method `{0}`: dhcp, dhcp6, auto, auto6, either6, on, any, both, single-dhcp, link6, link-local, off and none are known"
    )]
    Method(String),
    #[error("has a bad {field}: `{found}`")]
    Field { field: &'static str, found: String },
}

impl IpParam {
    /// The value of an optional field. One that cannot be parsed is put into `left_out`.
    fn keep<T>(&mut self, parsed: Option<Result<T, IpParamError>>) -> Option<T> {
        parsed?.map_err(|error| self.left_out.push(error)).ok()
    }
}

/// Parses the value of `ip=`.
///
/// # Errors
/// [`IpParamError`] for a field without which the others mean nothing.
pub fn parse_ip_param(value: &str) -> Result<IpParam, IpParamError> {
    let fields = split_fields(value);
    let field = |at: usize| fields.get(at).copied().filter(|text| !text.is_empty());
    let mut param = IpParam::default();
    let first = field(0).unwrap_or_default();
    if fields.len() == 1 && !is_address(first) {
        param.methods = parse_methods(first, &mut param.left_out)?;
        return Ok(param);
    }
    // The short form: a device, its methods, MTU and MAC.
    if let Some(methods) = field(1).filter(|text| !is_address(first) && !is_address(text)) {
        param.methods = parse_methods(methods, &mut param.left_out)?;
        param.device = field(0).map(String::from);
        param.mtu = param.keep(field(2).map(parse_mtu));
        return Ok(param);
    }
    param.methods = parse_methods(field(6).unwrap_or("none"), &mut param.left_out)?;
    param.server = field(1).and_then(|text| text.parse().ok());
    param.gateway = field(2).map(|text| parse_address("gateway", text)).transpose()?;
    param.hostname = param.keep(field(4).map(parse_hostname));
    param.device = field(5).map(String::from);
    read_servers(&mut param, [field(7), field(8), field(9)]);
    if let Some(text) = field(0) {
        let address = parse_client(text, field(3))?;
        let automatic = match address.0 {
            IpAddr::V4(_) => param.methods.dhcp,
            IpAddr::V6(_) => param.methods.v6 > Some(V6Method::AsRecipe),
        };
        param.address = Some(address).filter(|_| !automatic);
    }
    Ok(param)
}

/// The last fields: two name servers and a time server, or dracut's MTU and MAC instead.
fn read_servers(param: &mut IpParam, [first, second, third]: [Option<&str>; 3]) {
    let mtu = first.filter(|text| !is_address(text) && !text.contains('.'));
    if mtu.is_some() || first.is_none() && second.is_some_and(|text| parse_mac(text).is_some()) {
        param.mtu = param.keep(mtu.map(parse_mtu));
        return;
    }
    for text in [first, second].into_iter().flatten() {
        let server = param.keep(Some(parse_address("name server", text)));
        param.dns.extend(server);
    }
    let server = param.keep(third.map(|text| parse_address("time server", text)));
    param.ntp.extend(server);
}

/// Splits at colons that are neither in brackets nor in a MAC. Brackets are removed.
fn split_fields(value: &str) -> Vec<&str> {
    let mut fields = Vec::new();
    let mut rest = value;
    loop {
        let (field, behind) = match rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            // `[2001:db8::7]/64` keeps its prefix length. No other field has a slash.
            Some((address, behind)) if behind.is_empty() || behind.starts_with(':') => (address, behind),
            _ => {
                let start =
                    rest.strip_prefix('[').map_or(mac_length(rest), |inner| inner.find(']').map_or(0, |at| at + 2));
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

/// Length of the MAC that the text begins with; 0 when it begins with none.
fn mac_length(text: &str) -> usize {
    let mac = text.get(..MAC_LENGTH).filter(|mac| parse_mac(mac).is_some());
    let ends = matches!(text.as_bytes().get(MAC_LENGTH), None | Some(b':'));
    mac.filter(|_| ends).map_or(0, str::len)
}

fn is_address(text: &str) -> bool {
    parse_address("", text).is_ok() || parse_cidr(text).is_some()
}

/// Parses methods divided by commas. Unknown ones are left out when at least one is known.
fn parse_methods(text: &str, left_out: &mut Vec<IpParamError>) -> Result<Methods, IpParamError> {
    let mut methods = Methods::default();
    let mut known = false;
    let mut unknown = Vec::new();
    for word in text.split(',').filter(|word| !word.is_empty() || text.is_empty()) {
        match parse_method(word) {
            Some(one) => {
                known = true;
                methods = Methods { dhcp: methods.dhcp || one.dhcp, v6: methods.v6.max(one.v6) };
            }
            None => unknown.push(IpParamError::Method(word.into())),
        }
    }
    if !known {
        return Err(unknown.pop().unwrap_or_else(|| IpParamError::Method(text.into())));
    }
    left_out.extend(unknown);
    Ok(methods)
}

fn parse_method(text: &str) -> Option<Methods> {
    let only = |method| Methods { dhcp: false, v6: Some(method) };
    let with_dhcp = |method| Methods { dhcp: true, v6: Some(method) };
    match text {
        // BOOTP and RARP are answered by DHCP servers.
        "dhcp" | "on" | "any" | "both" | "bootp" | "rarp" | "dhcp4" | "single-dhcp" | "" => {
            Some(with_dhcp(V6Method::AsRecipe))
        }
        "auto" => Some(with_dhcp(V6Method::Auto)),
        "auto6" | "either6" => Some(only(V6Method::Auto)),
        "dhcp6" => Some(only(V6Method::Dhcp)),
        "link6" | "link-local" => Some(only(V6Method::LinkLocal)),
        "off" | "none" | "static" => Some(Methods::default()),
        _ => None,
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

/// Parses an address with its mask, which is dotted, a prefix length, or follows the address behind a slash. Without a
/// mask it is that of the address's class, as in the kernel (net/ipv4/ipconfig.c), or 64 for IPv6.
fn parse_client(text: &str, mask: Option<&str>) -> Result<Cidr, IpParamError> {
    if text.contains('/') {
        return parse_cidr(text).ok_or_else(|| bad("address", text));
    }
    let address = parse_address("address", text)?;
    let prefix = match (mask, address) {
        (None, IpAddr::V4(ip)) => Some(class_prefix(ip)),
        (None, IpAddr::V6(_)) => Some(64),
        (Some(mask), _) => match mask.parse::<Ipv4Addr>() {
            Ok(mask) if address.is_ipv4() => parse_mask(&mask.octets()),
            _ => mask.parse().ok().filter(|prefix| *prefix <= longest_prefix(address)),
        },
    };
    Ok((address, prefix.ok_or_else(|| bad("net mask", mask.unwrap_or_default()))?))
}

/// Parses `192.0.2.7/24`, `2001:db8::7/64` and `[2001:db8::7]/64`.
pub fn parse_cidr(text: &str) -> Option<Cidr> {
    let (address, prefix) = text.split_once('/')?;
    let address: IpAddr = address.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    Some((address, prefix.parse().ok().filter(|prefix| *prefix <= longest_prefix(address))?))
}

fn longest_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Parses `aa:bb:cc:dd:ee:ff`, also with hyphens, and pxelinux's `BOOTIF`, which has the hardware type `01-` in front.
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let parts = match &parts[..] {
        ["01", parts @ ..] if parts.len() == 6 => parts,
        parts if parts.len() == 6 => parts,
        _ => return None,
    };
    let mut mac = [0; 6];
    for (byte, part) in mac.iter_mut().zip(parts) {
        let [one] = hex::decode(part.as_bytes())?[..] else { return None };
        *byte = one;
    }
    Some(mac)
}

/// A MAC as `aa:bb:cc:dd:ee:ff`.
pub fn format_mac(mac: &[u8; 6]) -> String {
    mac.map(|byte| hex::encode(&[byte])).join(":")
}
