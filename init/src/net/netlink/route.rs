//! rtnetlink(7): links, IPv4 addresses and routes.

use super::message::{Attributes, Builder, Message, WireError, parse_attributes, parse_messages, u16_at, u32_at};
use super::socket::{NetlinkError, Socket};
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use std::net::Ipv4Addr;

/// Message types (include/uapi/linux/rtnetlink.h).
const NEW_LINK: u16 = 16;
const DEL_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const DEL_ADDRESS: u16 = 21;
const NEW_ROUTE: u16 = 24;
/// `NLM_F_REPLACE | NLM_F_CREATE`.
const REPLACE: u16 = 0x100 | 0x400;
/// `RTMGRP_LINK`: links that come, go or change.
pub const GROUP_LINK: u32 = 1;
/// Size of `struct ifinfomsg`.
const LINK_BODY: usize = 16;
/// `IFF_UP`, `IFF_LOOPBACK`, `IFF_LOWER_UP` (include/uapi/linux/if.h).
const FLAG_UP: u32 = 0x1;
const FLAG_LOOPBACK: u32 = 0x8;
const FLAG_LOWER_UP: u32 = 0x1_0000;
/// `ARPHRD_ETHER` (include/uapi/linux/if_arp.h).
const HARDWARE_ETHERNET: u16 = 1;
const FAMILY_IPV4: u8 = 2;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub mac: [u8; 6],
    pub mtu: u32,
    /// Limits of the device for its MTU; 0 says that there is none.
    pub min_mtu: u32,
    pub max_mtu: u32,
    pub up: bool,
    /// The cable is in and the link has settled.
    pub carrier: bool,
    pub loopback: bool,
    pub ethernet: bool,
    /// Made by software (bridge, bond, dummy, veth, ...): has an `IFLA_INFO_KIND`.
    pub made_by_software: bool,
}

/// What a multicast message says about links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    Changed(Link),
    Gone { index: u32 },
}

/// Reads an `RTM_NEWLINK` or `RTM_DELLINK`; `None` for other messages.
pub fn parse_link(message: &Message<'_>) -> Result<Option<LinkEvent>, WireError> {
    if message.kind != NEW_LINK && message.kind != DEL_LINK {
        return Ok(None);
    }
    let (body, attributes) = message.split(LINK_BODY)?;
    let index = u32_at(body, 4).unwrap_or(0);
    if message.kind == DEL_LINK {
        return Ok(Some(LinkEvent::Gone { index }));
    }
    let flags = u32_at(body, 8).unwrap_or(0);
    let mut link = Link {
        index,
        name: String::new(),
        mac: [0; 6],
        mtu: 0,
        min_mtu: 0,
        max_mtu: 0,
        up: flags & FLAG_UP != 0,
        carrier: flags & FLAG_UP != 0 && flags & FLAG_LOWER_UP != 0,
        loopback: flags & FLAG_LOOPBACK != 0,
        ethernet: u16_at(body, 2) == Some(HARDWARE_ETHERNET),
        made_by_software: false,
    };
    read_link_attributes(&mut link, attributes)?;
    Ok(Some(LinkEvent::Changed(link)))
}

/// Attribute numbers: `IFLA_*` of include/uapi/linux/if_link.h.
fn read_link_attributes(link: &mut Link, attributes: Attributes<'_>) -> Result<(), WireError> {
    for attribute in attributes {
        let (kind, value) = attribute?;
        match kind {
            1 => link.mac = value.try_into().unwrap_or_default(),
            3 => link.name = String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned(),
            4 => link.mtu = u32_at(value, 0).unwrap_or(0),
            50 => link.min_mtu = u32_at(value, 0).unwrap_or(0),
            51 => link.max_mtu = u32_at(value, 0).unwrap_or(0),
            // IFLA_LINKINFO holds IFLA_INFO_KIND (1).
            18 => link.made_by_software = parse_attributes(value).flatten().any(|(kind, _)| kind == 1),
            _ => {}
        }
    }
    Ok(())
}

/// rtnetlink requests on one socket.
pub struct Route {
    pub socket: Socket,
}

impl Route {
    /// A socket that also hears of links that change.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Route { socket: Socket::open(SockProtocol::NetlinkRoute, GROUP_LINK)? })
    }

    /// All links, by index.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let mut links = Vec::new();
        self.socket.dump("list links", Builder::new(GET_LINK, 0, &[0; LINK_BODY]), &mut |message| {
            if let Some(LinkEvent::Changed(link)) = parse_link(&message)? {
                insert_link(&mut links, link);
            }
            Ok(())
        })?;
        Ok(links)
    }

    /// Everything that happened to links since the last call; `None` when the kernel dropped events (list them again).
    pub fn link_events(&mut self) -> Result<Option<Vec<LinkEvent>>, NetlinkError> {
        let mut events = Vec::new();
        loop {
            match self.socket.receive() {
                Ok(None) => return Ok(Some(events)),
                Ok(Some(datagram)) => {
                    for message in parse_messages(&datagram) {
                        events.extend(parse_link(&message?)?);
                    }
                }
                Err(NetlinkError::Socket { errno: Errno::ENOBUFS, .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sets a link up.
    pub fn set_up(&mut self, index: u32) -> Result<(), NetlinkError> {
        let builder = Builder::new(NEW_LINK, 0, &link_body(index, FLAG_UP, FLAG_UP));
        self.socket.request("set the link up", builder)
    }

    /// Sets a link's MTU in bytes.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<(), NetlinkError> {
        let builder = Builder::new(NEW_LINK, 0, &link_body(index, 0, 0)).attribute(4, &mtu.to_ne_bytes());
        self.socket.request("set the MTU", builder)
    }

    /// Adds an address with its broadcast address, or renews the same one.
    pub fn add_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> Result<(), NetlinkError> {
        // IFA_LOCAL 2, IFA_ADDRESS 1, IFA_BROADCAST 4 (include/uapi/linux/if_addr.h).
        let mut builder = Builder::new(NEW_ADDRESS, REPLACE, &address_body(index, prefix))
            .attribute(2, &address.octets())
            .attribute(1, &address.octets());
        if prefix < 31 {
            builder = builder.attribute(4, &(address | !mask(prefix)).octets());
        }
        self.socket.request("add the address", builder)
    }

    /// Removes an address; one that is not there is no error.
    pub fn remove_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> Result<(), NetlinkError> {
        let builder = Builder::new(DEL_ADDRESS, 0, &address_body(index, prefix)).attribute(2, &address.octets());
        match self.socket.request("remove the address", builder) {
            Err(NetlinkError::Refused { errno: Errno::EADDRNOTAVAIL, .. }) => Ok(()),
            other => other,
        }
    }

    /// Adds a route from `source`, or replaces the one to the same destination. Without a gateway the destination is on the link.
    pub fn add_route(
        &mut self,
        index: u32,
        destination: (Ipv4Addr, u8),
        gateway: Option<Ipv4Addr>,
        source: Ipv4Addr,
    ) -> Result<(), NetlinkError> {
        // struct rtmsg: family, dst_len, src_len, tos, table MAIN 254, protocol BOOT 3, scope UNIVERSE 0 or LINK 253, type UNICAST 1.
        let scope = if gateway.is_some() { 0 } else { 253 };
        let body = [FAMILY_IPV4, destination.1, 0, 0, 254, 3, scope, 1, 0, 0, 0, 0];
        // RTA_DST 1, RTA_OIF 4, RTA_GATEWAY 5, RTA_PREFSRC 7.
        let mut builder = Builder::new(NEW_ROUTE, REPLACE, &body);
        if destination.1 > 0 {
            builder = builder.attribute(1, &(destination.0 & mask(destination.1)).octets());
        }
        builder = builder.attribute(4, &index.to_ne_bytes()).attribute(7, &source.octets());
        if let Some(gateway) = gateway {
            builder = builder.attribute(5, &gateway.octets());
        }
        self.socket.request("add the route", builder)
    }
}

/// Adds a link to a list that is sorted by index.
pub fn insert_link(links: &mut Vec<Link>, link: Link) {
    links.insert(links.partition_point(|known| known.index < link.index), link);
}

/// The net mask of a prefix length (0 to 32).
pub fn mask(prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0))
}

/// `struct ifinfomsg` for one link, with the flags to set and which of them are meant.
fn link_body(index: u32, flags: u32, change: u32) -> [u8; LINK_BODY] {
    let mut body = [0; LINK_BODY];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body[8..12].copy_from_slice(&flags.to_ne_bytes());
    body[12..16].copy_from_slice(&change.to_ne_bytes());
    body
}

/// `struct ifaddrmsg`: family, prefix length, flags, scope, index.
fn address_body(index: u32, prefix: u8) -> [u8; 8] {
    let [a, b, c, d] = index.to_ne_bytes();
    [FAMILY_IPV4, prefix, 0, 0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        for (prefix, text) in
            [(0, "0.0.0.0"), (8, "255.0.0.0"), (24, "255.255.255.0"), (31, "255.255.255.254"), (32, "255.255.255.255")]
        {
            assert_eq!(mask(prefix).to_string(), text);
        }
    }

    #[test]
    fn links_are_read_with_their_flags() {
        let nested = [8u16.to_ne_bytes(), 1u16.to_ne_bytes(), *b"du", *b"my"].concat();
        let mut body = link_body(3, FLAG_UP | FLAG_LOWER_UP, 0);
        body[2..4].copy_from_slice(&1u16.to_ne_bytes());
        let bytes = Builder::new(NEW_LINK, 0, &body)
            .attribute(1, &[2, 0, 0, 0, 0, 9])
            .attribute(3, b"eth0\0")
            .attribute(4, &1500u32.to_ne_bytes())
            .attribute(50, &68u32.to_ne_bytes())
            .attribute(51, &9000u32.to_ne_bytes())
            .attribute(18, &nested)
            .finish(1);
        let message = parse_messages(&bytes).next().expect("one").expect("good");
        let expected = Link {
            index: 3,
            name: "eth0".into(),
            mac: [2, 0, 0, 0, 0, 9],
            mtu: 1500,
            min_mtu: 68,
            max_mtu: 9000,
            up: true,
            carrier: true,
            loopback: false,
            ethernet: true,
            made_by_software: true,
        };
        assert_eq!(parse_link(&message), Ok(Some(LinkEvent::Changed(expected))));
        let gone = Builder::new(DEL_LINK, 0, &link_body(3, 0, 0)).finish(1);
        let message = parse_messages(&gone).next().expect("one").expect("good");
        assert_eq!(parse_link(&message), Ok(Some(LinkEvent::Gone { index: 3 })));
        let short = Builder::new(NEW_LINK, 0, &[0; 8]).finish(1);
        let message = parse_messages(&short).next().expect("one").expect("good");
        assert!(parse_link(&message).is_err());
    }
}
