//! rtnetlink(7): links, and events about links and IPv6 addresses.

use super::address::{AddressEvent, parse_address};
use super::message::{
    Attributes, MalformedMessage, MessageBuilder, NetlinkMessage, parse_attributes, parse_messages, u16_at, u32_at,
};
use super::socket::{NetlinkError, NetlinkSocket};
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

/// Message types (include/uapi/linux/rtnetlink.h).
pub(super) const NEW_LINK: u16 = 16;
const DEL_LINK: u16 = 17;
const GET_LINK: u16 = 18;
pub(super) const NEW_ADDRESS: u16 = 20;
pub(super) const DEL_ADDRESS: u16 = 21;
pub(super) const GET_ADDRESS: u16 = 22;
/// `NLM_F_REPLACE | NLM_F_CREATE`, `NLM_F_EXCL | NLM_F_CREATE`.
pub(super) const REPLACE: u16 = 0x100 | 0x400;
pub(super) const CREATE: u16 = 0x200 | 0x400;
/// `RTMGRP_LINK` and `RTMGRP_IPV6_IFADDR`: events about links and about IPv6 addresses.
const GROUPS: u32 = 1 | 0x100;
/// Size of `struct ifinfomsg`.
pub(super) const LINK_BODY: usize = 16;
/// `IFF_UP`, `IFF_LOOPBACK`, `IFF_LOWER_UP` (include/uapi/linux/if.h).
pub(super) const FLAG_UP: u32 = 0x1;
const FLAG_LOOPBACK: u32 = 0x8;
const FLAG_LOWER_UP: u32 = 0x1_0000;
/// `ARPHRD_ETHER` (include/uapi/linux/if_arp.h).
const HARDWARE_ETHERNET: u16 = 1;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub mac: [u8; 6],
    /// The MAC of the device itself, when the driver tells it. In a bond, `mac` is that of the bond.
    pub permanent_mac: Option<[u8; 6]>,
    pub mtu: u32,
    /// Limits for the MTU; 0 means that there is none.
    pub min_mtu: u32,
    pub max_mtu: u32,
    pub up: bool,
    /// The cable is plugged in and the link is ready.
    pub carrier: bool,
    pub loopback: bool,
    pub ethernet: bool,
    /// Whether software made the link (bridge, bond, dummy, veth): such links have an `IFLA_INFO_KIND`.
    pub made_by_software: bool,
    /// Whether the link is in a bond or a bridge.
    pub has_master: bool,
}

/// An event about a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    Address(AddressEvent),
    Changed(Link),
    Gone { index: u32 },
}

/// Reads an `RTM_NEWLINK` or `RTM_DELLINK`; `None` for other messages.
pub fn parse_link(message: &NetlinkMessage<'_>) -> Result<Option<LinkEvent>, MalformedMessage> {
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
        permanent_mac: None,
        mtu: 0,
        min_mtu: 0,
        max_mtu: 0,
        up: flags & FLAG_UP != 0,
        carrier: flags & FLAG_UP != 0 && flags & FLAG_LOWER_UP != 0,
        loopback: flags & FLAG_LOOPBACK != 0,
        ethernet: u16_at(body, 2) == Some(HARDWARE_ETHERNET),
        made_by_software: false,
        has_master: false,
    };
    read_link_attributes(&mut link, attributes)?;
    Ok(Some(LinkEvent::Changed(link)))
}

/// Attribute numbers are `IFLA_*` of include/uapi/linux/if_link.h.
fn read_link_attributes(link: &mut Link, attributes: Attributes<'_>) -> Result<(), MalformedMessage> {
    for attribute in attributes {
        let (kind, value) = attribute?;
        match kind {
            1 => link.mac = value.try_into().unwrap_or_default(),
            3 => link.name = String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned(),
            54 => link.permanent_mac = value.try_into().ok().filter(|mac| *mac != [0; 6]),
            10 => link.has_master = u32_at(value, 0).is_some_and(|index| index != 0),
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

/// An rtnetlink socket.
pub struct Route {
    pub socket: NetlinkSocket,
}

impl Route {
    /// Opens a socket that also receives events about links and IPv6 addresses.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Route { socket: NetlinkSocket::open(SockProtocol::NetlinkRoute, GROUPS)? })
    }

    /// All links, sorted by index.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let mut links = Vec::new();
        self.socket.dump("list links", MessageBuilder::new(GET_LINK, 0, &[0; LINK_BODY]), &mut |message| {
            if let Some(LinkEvent::Changed(link)) = parse_link(&message)? {
                insert_link(&mut links, link);
            }
            Ok(())
        })?;
        Ok(links)
    }

    /// The events since the last call; `None` when the kernel has dropped some, and the links must be listed again.
    pub fn link_events(&mut self) -> Result<Option<Vec<LinkEvent>>, NetlinkError> {
        let mut events = Vec::new();
        loop {
            match self.socket.receive() {
                Ok(None) => return Ok(Some(events)),
                Ok(Some(datagram)) => {
                    for message in parse_messages(&datagram) {
                        let message = message?;
                        events.extend(parse_link(&message)?);
                        events.extend(parse_address(&message)?.map(LinkEvent::Address));
                    }
                }
                Err(NetlinkError::Socket { errno: Errno::ENOBUFS, .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sets a link up.
    pub fn set_up(&mut self, index: u32) -> Result<(), NetlinkError> {
        let builder = MessageBuilder::new(NEW_LINK, 0, &link_body(index, FLAG_UP, FLAG_UP));
        self.socket.request("set the link up", builder)
    }

    /// Sets a link's MTU in bytes.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<(), NetlinkError> {
        let builder = MessageBuilder::new(NEW_LINK, 0, &link_body(index, 0, 0)).attribute(4, &mtu.to_ne_bytes());
        self.socket.request("set the MTU", builder)
    }
}

/// Inserts a link into a list that is sorted by index, in place of the one with the same index.
pub fn insert_link(links: &mut Vec<Link>, link: Link) {
    links.insert(links.partition_point(|known| known.index < link.index), link);
}

/// `struct ifinfomsg` for one link: the flags, and the mask of those that change.
pub(super) fn link_body(index: u32, flags: u32, change: u32) -> [u8; LINK_BODY] {
    let mut body = [0; LINK_BODY];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body[8..12].copy_from_slice(&flags.to_ne_bytes());
    body[12..16].copy_from_slice(&change.to_ne_bytes());
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_with_their_flags() {
        let nested = [8u16.to_ne_bytes(), 1u16.to_ne_bytes(), *b"du", *b"my"].concat();
        let mut body = link_body(3, FLAG_UP | FLAG_LOWER_UP, 0);
        body[2..4].copy_from_slice(&1u16.to_ne_bytes());
        let bytes = MessageBuilder::new(NEW_LINK, 0, &body)
            .attribute(1, &[2, 0, 0, 0, 0, 9])
            .attribute(3, b"eth0\0")
            .attribute(4, &1500u32.to_ne_bytes())
            .attribute(50, &68u32.to_ne_bytes())
            .attribute(51, &9000u32.to_ne_bytes())
            .attribute(10, &7u32.to_ne_bytes())
            .attribute(54, &[2, 0, 0, 0, 0, 8])
            .attribute(18, &nested)
            .finish(1);
        let message = parse_messages(&bytes).next().expect("one").expect("good");
        let expected = Link {
            index: 3,
            name: "eth0".into(),
            mac: [2, 0, 0, 0, 0, 9],
            permanent_mac: Some([2, 0, 0, 0, 0, 8]),
            mtu: 1500,
            min_mtu: 68,
            max_mtu: 9000,
            up: true,
            carrier: true,
            loopback: false,
            ethernet: true,
            made_by_software: true,
            has_master: true,
        };
        assert_eq!(parse_link(&message), Ok(Some(LinkEvent::Changed(expected))));
        let gone = MessageBuilder::new(DEL_LINK, 0, &link_body(3, 0, 0)).finish(1);
        let message = parse_messages(&gone).next().expect("one").expect("good");
        assert_eq!(parse_link(&message), Ok(Some(LinkEvent::Gone { index: 3 })));
        let short = MessageBuilder::new(NEW_LINK, 0, &[0; 8]).finish(1);
        let message = parse_messages(&short).next().expect("one").expect("good");
        assert!(parse_link(&message).is_err());
    }
}
