//! rtnetlink(7): addresses and routes of both families.

use super::message::{MalformedMessage, MessageBuilder, NetlinkMessage, u32_at};
use super::route::{DEL_ADDRESS, GET_ADDRESS, NEW_ADDRESS, REPLACE, Route};
use super::socket::NetlinkError;
use nix::errno::Errno;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Message types (include/uapi/linux/rtnetlink.h).
const NEW_ROUTE: u16 = 24;
const DEL_ROUTE: u16 = 25;
/// `AF_INET`, `AF_INET6`.
const FAMILY_IPV4: u8 = 2;
const FAMILY_IPV6: u8 = 10;
/// Size of `struct ifaddrmsg`.
const ADDRESS_BODY: usize = 8;
/// `IFA_F_DADFAILED`, `IFA_F_TENTATIVE`, `IFA_F_NOPREFIXROUTE` (include/uapi/linux/if_addr.h).
const FLAG_DAD_FAILED: u32 = 0x08;
const FLAG_TENTATIVE: u32 = 0x40;
const FLAG_NO_PREFIX_ROUTE: u32 = 0x200;
/// A lifetime that never ends.
pub const FOREVER: u32 = u32::MAX;

/// An address and its prefix length.
pub type Cidr = (IpAddr, u8);

/// An address to be set on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    pub ip: IpAddr,
    pub prefix: u8,
    /// Seconds until the kernel removes the address (valid lifetime), and until it stops using it for new connections
    /// (preferred lifetime). [`FOREVER`]: never.
    pub valid_s: u32,
    pub preferred_s: u32,
    /// Without a route to the prefix. IPv6 only: routers say themselves what is on the link.
    pub alone: bool,
}

/// A route to be set on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteTo {
    pub to: Cidr,
    /// The gateway; `None` when the destination is on the link.
    pub via: Option<IpAddr>,
    /// Seconds until the kernel removes the route; [`FOREVER`]: never. IPv6 only.
    pub expires_s: u32,
}

/// A message about an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressEvent {
    pub index: u32,
    pub ip: Ipv6Addr,
    pub state: AddressState,
}

/// The state of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressState {
    /// Duplicate address detection is going on (RFC 4862 section 5.4).
    Tentative,
    Usable,
    /// Another node has it.
    Duplicate,
    Gone,
}

impl Address {
    /// An address without an end.
    pub fn lasting((ip, prefix): Cidr) -> Address {
        Address { ip, prefix, valid_s: FOREVER, preferred_s: FOREVER, alone: false }
    }
}

impl RouteTo {
    /// A route without an end.
    pub fn lasting(to: Cidr, via: Option<IpAddr>) -> RouteTo {
        RouteTo { to, via, expires_s: FOREVER }
    }

    /// Whether this is a default route.
    pub fn is_default(&self) -> bool {
        self.to.1 == 0
    }
}

/// Reads an `RTM_NEWADDR` or `RTM_DELADDR` of IPv6; `None` for other messages.
pub fn parse_address(message: &NetlinkMessage<'_>) -> Result<Option<AddressEvent>, MalformedMessage> {
    if message.kind != NEW_ADDRESS && message.kind != DEL_ADDRESS {
        return Ok(None);
    }
    let (body, attributes) = message.split(ADDRESS_BODY)?;
    let [FAMILY_IPV6, _, flags, ..] = *body else { return Ok(None) };
    let mut flags = u32::from(flags);
    let mut ip = None;
    for attribute in attributes {
        match attribute? {
            // On point-to-point links both IFA_LOCAL and IFA_ADDRESS are there. IFA_LOCAL, the own address, comes
            // first.
            (2, value) => ip = <[u8; 16]>::try_from(value).ok(),
            (1, value) => ip = ip.or(<[u8; 16]>::try_from(value).ok()),
            (8, value) => flags = u32_at(value, 0).unwrap_or(flags),
            _ => {}
        }
    }
    let state = match message.kind {
        DEL_ADDRESS => AddressState::Gone,
        _ if flags & FLAG_DAD_FAILED != 0 => AddressState::Duplicate,
        _ if flags & FLAG_TENTATIVE != 0 => AddressState::Tentative,
        _ => AddressState::Usable,
    };
    let index = u32_at(body, 4).unwrap_or(0);
    Ok(ip.map(|ip| AddressEvent { index, ip: ip.into(), state }))
}

impl Route {
    /// All IPv6 addresses of the machine.
    pub fn ipv6_addresses(&mut self) -> Result<Vec<AddressEvent>, NetlinkError> {
        let mut found = Vec::new();
        let builder = MessageBuilder::new(GET_ADDRESS, 0, &[FAMILY_IPV6, 0, 0, 0, 0, 0, 0, 0]);
        self.socket.dump("list addresses", builder, &mut |message| {
            found.extend(parse_address(&message)?);
            Ok(())
        })?;
        Ok(found)
    }

    /// Adds an address, IPv4 with its broadcast address. An address that is there gets the new lifetimes.
    pub fn add_address(&mut self, index: u32, address: &Address) -> Result<(), NetlinkError> {
        // IFA_LOCAL 2, IFA_ADDRESS 1, IFA_BROADCAST 4, IFA_CACHEINFO 6, IFA_FLAGS 8 (include/uapi/linux/if_addr.h).
        let ip = octets(address.ip);
        let mut builder = MessageBuilder::new(NEW_ADDRESS, REPLACE, &address_body(index, (address.ip, address.prefix)))
            .attribute(2, &ip)
            .attribute(1, &ip);
        match address.ip {
            IpAddr::V4(ip) if address.prefix < 31 => {
                builder = builder.attribute(4, &(ip | !mask(address.prefix)).octets());
            }
            IpAddr::V4(_) => {}
            IpAddr::V6(_) => {
                let times = [address.preferred_s.min(address.valid_s), address.valid_s, 0, 0];
                let flags = if address.alone { FLAG_NO_PREFIX_ROUTE } else { 0 };
                let times = times.map(u32::to_ne_bytes).concat();
                builder = builder.attribute(6, &times).attribute(8, &flags.to_ne_bytes());
            }
        }
        self.socket.request("add the address", builder)
    }

    /// Removes an address. One that is not there is no error.
    pub fn remove_address(&mut self, index: u32, address: Cidr) -> Result<(), NetlinkError> {
        let builder =
            MessageBuilder::new(DEL_ADDRESS, 0, &address_body(index, address)).attribute(2, &octets(address.0));
        match self.socket.request("remove the address", builder) {
            Err(NetlinkError::Refused { errno: Errno::EADDRNOTAVAIL, .. }) => Ok(()),
            other => other,
        }
    }

    /// Adds a route, or replaces the one to the same destination. `source`: the source address of packets; without it
    /// the kernel chooses.
    pub fn add_route(&mut self, index: u32, route: &RouteTo, source: Option<IpAddr>) -> Result<(), NetlinkError> {
        let builder = route_message(NEW_ROUTE, REPLACE, index, route, source);
        self.socket.request("add the route", builder)
    }

    /// Removes a route. One that is not there is no error.
    pub fn remove_route(&mut self, index: u32, route: &RouteTo) -> Result<(), NetlinkError> {
        match self.socket.request("remove the route", route_message(DEL_ROUTE, 0, index, route, None)) {
            Err(NetlinkError::Refused { errno: Errno::ESRCH, .. }) => Ok(()),
            other => other,
        }
    }
}

fn route_message(kind: u16, flags: u16, index: u32, route: &RouteTo, source: Option<IpAddr>) -> MessageBuilder {
    // struct rtmsg: family, dst_len, src_len, tos, table MAIN 254, protocol BOOT 3, scope UNIVERSE 0 or LINK 253, type UNICAST 1.
    let (to, prefix) = route.to;
    let scope = if route.via.is_some() || to.is_ipv6() { 0 } else { 253 };
    let body = [family(to), prefix, 0, 0, 254, 3, scope, 1, 0, 0, 0, 0];
    // RTA_DST 1, RTA_OIF 4, RTA_GATEWAY 5, RTA_PREFSRC 7, RTA_EXPIRES 23.
    let mut builder = MessageBuilder::new(kind, flags, &body);
    if prefix > 0 {
        builder = builder.attribute(1, &octets(network(to, prefix)));
    }
    builder = builder.attribute(4, &index.to_ne_bytes());
    if let Some(source) = source {
        builder = builder.attribute(7, &octets(source));
    }
    if let Some(via) = route.via {
        builder = builder.attribute(5, &octets(via));
    }
    if kind == NEW_ROUTE && route.expires_s != FOREVER {
        builder = builder.attribute(23, &route.expires_s.to_ne_bytes());
    }
    builder
}

/// `struct ifaddrmsg`: family, prefix length, flags, scope, index.
fn address_body(index: u32, (ip, prefix): Cidr) -> [u8; ADDRESS_BODY] {
    let [a, b, c, d] = index.to_ne_bytes();
    [family(ip), prefix, 0, 0, a, b, c, d]
}

fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { FAMILY_IPV4 } else { FAMILY_IPV6 }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The net mask for a prefix length of 0 to 32.
pub fn mask(prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0))
}

/// The first address of the network that `ip` is in.
pub fn network(ip: IpAddr, prefix: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => (ip & mask(prefix)).into(),
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    }
}

/// Whether the network of an address contains another address.
pub fn holds((ip, prefix): Cidr, other: IpAddr) -> bool {
    ip.is_ipv4() == other.is_ipv4() && network(ip, prefix) == network(other, prefix)
}

#[cfg(test)]
mod tests {
    use super::super::message::parse_messages;
    use super::*;

    #[test]
    fn masks_and_networks() {
        for (prefix, text) in
            [(0, "0.0.0.0"), (8, "255.0.0.0"), (24, "255.255.255.0"), (31, "255.255.255.254"), (32, "255.255.255.255")]
        {
            assert_eq!(mask(prefix).to_string(), text);
        }
        let ip = |text: &str| text.parse::<IpAddr>().expect(text);
        for (inside, prefix, other, expected) in [
            ("10.0.0.9", 24, "10.0.0.1", true),
            ("10.0.0.9", 24, "10.0.1.1", false),
            ("10.0.0.9", 0, "8.8.8.8", true),
            ("2001:db8::1", 64, "2001:db8::ffff:1", true),
            ("2001:db8::1", 64, "2001:db8:0:1::1", false),
            ("2001:db8::1", 128, "2001:db8::2", false),
            ("2001:db8::1", 0, "10.0.0.1", false),
        ] {
            assert_eq!(holds((ip(inside), prefix), ip(other)), expected, "{inside}/{prefix} {other}");
        }
    }

    #[test]
    fn address_events() {
        let ip: Ipv6Addr = "2001:db8::7".parse().expect("an address");
        let event = |kind, family, short: u8, long: Option<u32>| {
            let mut builder =
                MessageBuilder::new(kind, 0, &[family, 64, short, 0, 3, 0, 0, 0]).attribute(1, &ip.octets());
            if let Some(long) = long {
                builder = builder.attribute(8, &long.to_ne_bytes());
            }
            let bytes = builder.finish(1);
            parse_address(&parse_messages(&bytes).next().expect("one").expect("good")).expect("well-formed")
        };
        let index = u32::from_ne_bytes([3, 0, 0, 0]);
        for (kind, short, long, state) in [
            (NEW_ADDRESS, 0x40, None, AddressState::Tentative),
            (NEW_ADDRESS, 0x40, Some(0x200), AddressState::Usable),
            (NEW_ADDRESS, 0, Some(0x48), AddressState::Duplicate),
            (DEL_ADDRESS, 0, None, AddressState::Gone),
        ] {
            assert_eq!(event(kind, FAMILY_IPV6, short, long), Some(AddressEvent { index, ip, state }));
        }
        assert_eq!(event(NEW_ADDRESS, FAMILY_IPV4, 0, None), None);
        assert_eq!(event(16, FAMILY_IPV6, 0, None), None);
    }
}
