//! What a DHCPACK says, checked.

use super::options::{self, StaticRoute};
use super::packet::Packet;
use crate::domain::parse_name_list;
use std::net::Ipv4Addr;

/// A lease. Times are seconds from when it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub address: Ipv4Addr,
    pub prefix: u8,
    /// The default gateway of option 3; not set when option 121 is there (RFC 3442: then option 3 is ignored).
    pub gateway: Option<Ipv4Addr>,
    /// Routes of option 121, the default route among them.
    pub routes: Vec<StaticRoute>,
    pub dns: Vec<Ipv4Addr>,
    /// Search list (option 119), else the domain (option 15).
    pub search: Vec<String>,
    pub hostname: Option<String>,
    pub mtu: Option<u16>,
    pub ntp: Vec<Ipv4Addr>,
    pub server: Ipv4Addr,
    /// The server to boot from: `siaddr`, else option 66 (an address or a name).
    pub boot_server: Option<String>,
    /// Option 17, in whatever form the boot loader of the day wants.
    pub root_path: Option<String>,
    /// `u32::MAX` is for ever (RFC 2131 section 3.3).
    pub lease_s: u32,
    pub renew_s: u32,
    pub rebind_s: u32,
}

/// Why an offer or a lease is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Zero, loopback, link-local, multicast or broadcast.
    #[error("no node may have the address `{0}`")]
    Address(Ipv4Addr),
    /// An option that the RFC demands.
    #[error("DHCP option {code} is missing or malformed")]
    Option { code: u8 },
}

/// Whether a node may have this address.
pub fn is_usable(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && first < 224 && !address.is_loopback() && !address.is_link_local()
}

/// Reads a DHCPOFFER or DHCPACK.
pub fn parse_lease(packet: &Packet) -> Result<Lease, LeaseError> {
    let address = packet.yiaddr;
    if !is_usable(address) {
        return Err(LeaseError::Address(address));
    }
    let bad = |code| LeaseError::Option { code };
    let server = packet.option(54).and_then(options::parse_address).ok_or(bad(54))?;
    let lease_s = packet.option(51).and_then(options::parse_u32).filter(|s| *s > 0).ok_or(bad(51))?;
    let prefix = match packet.option(1) {
        Some(value) => options::parse_mask(value).ok_or(bad(1))?,
        None => class_prefix(address),
    };
    let routes = packet.option(121).and_then(options::parse_classless_routes).unwrap_or_default();
    let gateway = match routes.is_empty() {
        true => packet.option(3).and_then(options::parse_address).filter(|ip| !ip.is_unspecified()),
        false => None,
    };
    let (renew_s, rebind_s) = renewal_times(packet, lease_s);
    Ok(Lease {
        address,
        prefix,
        gateway,
        routes,
        dns: addresses(packet, 6),
        search: search(packet),
        hostname: packet.option(12).and_then(options::parse_host_name).map(String::from),
        mtu: packet.option(26).and_then(|v| Some(u16::from_be_bytes(v.try_into().ok()?))),
        ntp: addresses(packet, 42),
        server,
        boot_server: boot_server(packet),
        root_path: packet.option(17).and_then(options::parse_text).map(String::from),
        lease_s,
        renew_s,
        rebind_s,
    })
}

impl Lease {
    /// The gateway of the default route, from whichever option it came.
    pub fn default_gateway(&self) -> Option<Ipv4Addr> {
        let classless = self.routes.iter().find(|r| r.prefix == 0 && !r.gateway.is_unspecified());
        classless.map(|r| r.gateway).or(self.gateway)
    }
}

fn addresses(packet: &Packet, code: u8) -> Vec<Ipv4Addr> {
    packet.option(code).map(options::parse_addresses).unwrap_or_default()
}

fn boot_server(packet: &Packet) -> Option<String> {
    if !packet.siaddr.is_unspecified() {
        return Some(packet.siaddr.to_string());
    }
    packet.option(66).and_then(options::parse_host_name).map(String::from)
}

fn search(packet: &Packet) -> Vec<String> {
    let list = packet.option(119).and_then(parse_name_list).unwrap_or_default();
    if !list.is_empty() {
        return list;
    }
    packet.option(15).and_then(options::parse_host_name).map(String::from).into_iter().collect()
}

/// T1 and T2 (options 58 and 59), else half and seven eighths of the lease (RFC 2131 section 4.4.5); always T1 <= T2 <= lease.
fn renewal_times(packet: &Packet, lease_s: u32) -> (u32, u32) {
    let time = |code| packet.option(code).and_then(options::parse_u32).filter(|s| *s > 0 && *s < lease_s);
    let rebind_s = time(59).unwrap_or(lease_s - lease_s / 8);
    let renew_s = time(58).unwrap_or(lease_s / 2).min(rebind_s);
    (renew_s, rebind_s)
}

/// The prefix of the address's class (RFC 791), for servers that send no mask.
fn class_prefix(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..128 => 8,
        128..192 => 16,
        _ => 24,
    }
}
