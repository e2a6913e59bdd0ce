//! Reads and checks the lease in a DHCPOFFER or DHCPACK.

use super::options::{self, StaticRoute};
use super::packet::DhcpPacket;
use crate::domain::parse_name_list;
use crate::netlink::address::mask;
use std::net::Ipv4Addr;

/// Length of a lease when the server names none; udhcpc assumes the same.
const USUAL_LEASE_S: u32 = 3600;
/// Shorter leases are used as if they had this length, so that renewals do not flood the server.
const SHORTEST_LEASE_S: u32 = 10;
/// RFC 2131 section 4.4.5 asks for at least a minute between two renewal requests.
const SHORTEST_RENEWAL_S: u32 = 60;
/// RFC 2132 section 5.1.
const SMALLEST_MTU: u16 = 68;

/// A lease. Times are in seconds from the request for it.
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
    /// Option 17 as the server sent it. Boot loaders disagree on its form.
    pub root_path: Option<String>,
    /// `u32::MAX` means for ever (RFC 2131 section 3.3).
    pub lease_s: u32,
    pub renew_s: u32,
    pub rebind_s: u32,
    /// Lines about parts of the answer that were corrected or left out.
    pub odd: Vec<String>,
}

/// Why an offer or a lease is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Zero, loopback, link-local, multicast or broadcast.
    #[error("no node may have the address `{0}`")]
    Address(Ipv4Addr),
    /// The first or the last address of its own network.
    #[error("no node may have the address `{0}/{1}`: it is that of the network or its broadcast address")]
    Edge(Ipv4Addr, u8),
    #[error("the address `{0}` is the DHCP server's own")]
    Server(Ipv4Addr),
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
///
/// # Errors
/// [`LeaseError`] when the address cannot be used or an option that RFC 2131 demands is missing. Other bad options are
/// left out, with a line in [`Lease::odd`].
pub fn parse_lease(packet: &DhcpPacket) -> Result<Lease, LeaseError> {
    let mut reader = OptionReader { packet, odd: Vec::new(), own: (packet.yiaddr, 32) };
    let server = packet.option(54).and_then(options::parse_address).ok_or(LeaseError::Option { code: 54 })?;
    let prefix = reader.prefix();
    reader.own = (packet.yiaddr, prefix);
    check_address(packet.yiaddr, prefix, server)?;
    let routes = reader.routes();
    // RFC 3442: option 3 is ignored when option 121 is there.
    let gateway = if routes.is_empty() { reader.hosts(3).first().copied() } else { None };
    let lease_s = reader.lease_time();
    let (renew_s, rebind_s) = reader.renewal_times(lease_s);
    Ok(Lease {
        address: packet.yiaddr,
        prefix,
        gateway,
        routes,
        dns: reader.hosts(6),
        search: reader.search(),
        hostname: reader.text(12, options::parse_host_name),
        mtu: reader.mtu(),
        ntp: reader.hosts(42),
        server,
        boot_server: reader.boot_server(),
        root_path: reader.text(17, options::parse_text),
        lease_s,
        renew_s,
        rebind_s,
        odd: reader.odd,
    })
}

impl Lease {
    /// The gateway of the default route, from option 121 or option 3.
    pub fn default_gateway(&self) -> Option<Ipv4Addr> {
        let classless = self.routes.iter().find(|r| r.prefix == 0 && !r.gateway.is_unspecified());
        classless.map(|r| r.gateway).or(self.gateway)
    }
}

fn check_address(address: Ipv4Addr, prefix: u8, server: Ipv4Addr) -> Result<(), LeaseError> {
    if !is_usable(address) {
        Err(LeaseError::Address(address))
    } else if is_edge((address, prefix), address) {
        Err(LeaseError::Edge(address, prefix))
    } else if address == server {
        Err(LeaseError::Server(address))
    } else {
        Ok(())
    }
}

/// Whether an address is the first or last one of its network, which no node may have. Networks of one or two addresses
/// have no such addresses (RFC 3021).
fn is_edge((own, prefix): (Ipv4Addr, u8), address: Ipv4Addr) -> bool {
    let mask = mask(prefix);
    prefix < 31 && address & mask == own & mask && (address & !mask == !mask || (address & !mask).is_unspecified())
}

/// Reads options, and keeps a line about each that cannot be used as it is.
struct OptionReader<'a> {
    packet: &'a DhcpPacket,
    odd: Vec<String>,
    /// Our address, and the prefix length of its network.
    own: (Ipv4Addr, u8),
}

impl OptionReader<'_> {
    fn odd(&mut self, code: u8, what: &str) {
        self.odd.push(["DHCP option ", &code.to_string(), ": ", what].concat());
    }

    /// The prefix length of option 1. Without a valid mask it is that of the address's class, as in dhcpcd and the
    /// kernel.
    fn prefix(&mut self) -> u8 {
        let class = options::class_prefix(self.packet.yiaddr);
        let Some(value) = self.packet.option(1) else { return class };
        if let Some(prefix) = options::parse_mask(value).filter(|prefix| *prefix > 0) {
            return prefix;
        }
        let found = options::parse_address(value).map_or("it is malformed".into(), |mask| mask.to_string());
        self.odd(1, &[&found, " is no net mask of a link: /", &class.to_string(), " is used"].concat());
        class
    }

    /// The addresses of an option that another node can have. Others are left out with a line.
    fn hosts(&mut self, code: u8) -> Vec<Ipv4Addr> {
        let Some(value) = self.packet.option(code) else { return Vec::new() };
        let mut hosts = options::parse_addresses(value);
        if hosts.is_empty() {
            self.odd(code, "no address in it");
        }
        let own = self.own;
        let (good, bad): (Vec<_>, Vec<_>) = hosts.drain(..).partition(|host| is_host(own, *host));
        for host in bad {
            self.odd(code, &[&host.to_string(), " is left out, no other node can have it"].concat());
        }
        good
    }

    /// The routes of option 121. If none of them is valid, the list is empty and option 3 counts.
    fn routes(&mut self) -> Vec<StaticRoute> {
        let Some(value) = self.packet.option(121) else { return Vec::new() };
        let Some(routes) = options::parse_classless_routes(value) else {
            self.odd(121, "it is malformed, no route of it is used");
            return Vec::new();
        };
        let mut good: Vec<StaticRoute> = Vec::new();
        for route in routes {
            let to = (route.destination, route.prefix);
            let on_link = route.gateway.is_unspecified();
            let usable = (on_link && route.prefix > 0 || is_host(self.own, route.gateway))
                && !(route.destination.is_loopback() || route.destination.octets()[0] >= 224);
            if !usable {
                let (to, via) = (route.destination.to_string(), route.gateway.to_string());
                self.odd(
                    121,
                    &["the route to ", &to, "/", &route.prefix.to_string(), " by ", &via, " is left out"].concat(),
                );
            } else if !good.iter().any(|known| (known.destination, known.prefix) == to) {
                // The first of several routes to one destination counts: the kernel takes only one.
                good.push(route);
            }
        }
        good
    }

    fn lease_time(&mut self) -> u32 {
        let asked = self.packet.option(51).and_then(options::parse_u32);
        match asked {
            None => {
                self.odd(51, "the server does not say for how long the address is ours: taken for an hour");
                USUAL_LEASE_S
            }
            Some(lease_s) if lease_s < SHORTEST_LEASE_S => {
                let shortest = SHORTEST_LEASE_S.to_string();
                self.odd(
                    51,
                    &["a lease of ", &lease_s.to_string(), " s is taken for one of ", &shortest, " s"].concat(),
                );
                SHORTEST_LEASE_S
            }
            Some(lease_s) => lease_s,
        }
    }

    /// T1 and T2 (options 58 and 59), else half and seven eighths of the lease (RFC 2131 section 4.4.5). The result has
    /// T1 <= T2 <= lease, and T1 is at least [`SHORTEST_RENEWAL_S`] where the lease allows it.
    fn renewal_times(&mut self, lease_s: u32) -> (u32, u32) {
        let floor = SHORTEST_RENEWAL_S.min(lease_s / 2);
        let mut time = |code, usual| match self.packet.option(code).map(options::parse_u32) {
            None => usual,
            Some(Some(time_s)) if (floor..lease_s).contains(&time_s) => time_s,
            Some(found) => {
                let found = found.map_or("it is malformed".into(), |time_s| [&time_s.to_string()[..], " s"].concat());
                let usual_s = usual.to_string();
                let lease_s = lease_s.to_string();
                self.odd(code, &[&found, " for a lease of ", &lease_s, " s: ", &usual_s, " s is used"].concat());
                usual
            }
        };
        let renew_s = time(58, lease_s / 2);
        let rebind_s = time(59, lease_s - lease_s / 8);
        if renew_s > rebind_s {
            self.odd(58, "the lease is to be renewed after it is to be rebound: both are done at once");
        }
        (renew_s.min(rebind_s), rebind_s)
    }

    fn mtu(&mut self) -> Option<u16> {
        let mtu = options::parse_u16(self.packet.option(26)?);
        if mtu.is_none_or(|mtu| mtu < SMALLEST_MTU) {
            let found = mtu.map_or("it is malformed".into(), |mtu| mtu.to_string());
            self.odd(26, &[&found, ", and no link has less than 68: left out"].concat());
            return None;
        }
        mtu
    }

    fn text(&mut self, code: u8, parse: fn(&[u8]) -> Option<&str>) -> Option<String> {
        let found = parse(self.packet.option(code)?);
        if found.is_none() {
            self.odd(code, "it holds what may not be in it, and is left out");
        }
        found.map(String::from)
    }

    fn boot_server(&mut self) -> Option<String> {
        let next = self.packet.siaddr;
        if is_host(self.own, next) {
            return Some(next.to_string());
        }
        if !next.is_unspecified() {
            self.odd.push(["the next server ", &next.to_string(), " is left out, no other node can have it"].concat());
        }
        self.text(66, options::parse_host_name)
    }

    /// The search list of option 119, else of option 15, in which many servers put several domains divided by blanks.
    fn search(&mut self) -> Vec<String> {
        if let Some(value) = self.packet.option(119) {
            match parse_name_list(value) {
                Some(list) if !list.is_empty() => return list,
                Some(_) => {}
                None => self.odd(119, "it is malformed, and is left out"),
            }
        }
        let mut names = Vec::new();
        let value = self.packet.option(15).unwrap_or_default();
        for name in value.split(|byte| b" \t,\0".contains(byte)).filter(|name| !name.is_empty()) {
            match options::parse_host_name(name) {
                Some(name) => names.push(name.to_string()),
                None => self.odd(15, "a name in it is no domain, and is left out"),
            }
        }
        names
    }
}

/// Whether another node of the Internet or of our link can have this address.
fn is_host(own: (Ipv4Addr, u8), host: Ipv4Addr) -> bool {
    let first = host.octets()[0];
    first != 0 && first < 224 && !host.is_loopback() && host != own.0 && !is_edge(own, host)
}
