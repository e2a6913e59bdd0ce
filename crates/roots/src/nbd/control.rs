//! The kernel's interface to NBD: the generic netlink family `nbd` (include/uapi/linux/nbd-netlink.h).

use bootwright_netconf::netlink::NetlinkError;
use bootwright_netconf::netlink::generic::{Family, GenericError, GenericSocket};
use bootwright_netconf::netlink::message::{MessageBuilder, nested, u32_at};
use nix::errno::Errno;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

const FAMILY: &str = "nbd";
const GROUP: &str = "nbd_mc_group";

/// `NBD_CMD_*`.
const CONNECT: u8 = 1;
const DISCONNECT: u8 = 2;
const RECONFIGURE: u8 = 3;
const LINK_DEAD: u8 = 4;

/// `NBD_ATTR_*`.
const INDEX: u16 = 1;
const SIZE_BYTES: u16 = 2;
const BLOCK_SIZE_BYTES: u16 = 3;
const TIMEOUT: u16 = 4;
const SERVER_FLAGS: u16 = 5;
const SOCKETS: u16 = 7;
const DEAD_CONN_TIMEOUT: u16 = 8;
/// `NBD_SOCK_ITEM`, and in it `NBD_SOCK_FD`.
const SOCKET_ITEM: u16 = 1;
const SOCKET_FD: u16 = 1;

/// Timeout of requests on a new connection. A request without an answer for so long shows that the connection is dead,
/// and is sent again on the next one. Requests that were under way when the connection broke wait as long, and up to
/// 1.03 s more, because the block layer rounds its timers (`blk_round_jiffies` of Linux's block/blk-timeout.c).
pub const REQUEST_TIMEOUT_S: u64 = 1;
/// How long requests wait for a new connection: ten years. Much more would overflow the kernel's ticks.
const DEAD_CONN_TIMEOUT_S: u64 = 10 * 365 * 24 * 3600;

/// A device to be made.
pub struct NbdDevice<'a> {
    pub socket: &'a TcpStream,
    pub size: u64,
    pub block_size: u32,
    pub flags: u16,
}

/// A netlink socket for NBD.
pub struct NbdControl {
    generic: GenericSocket,
    family: Family,
}

impl NbdControl {
    /// Opens the socket. With `events` it also receives events about dead connections.
    pub fn open(events: bool) -> Result<NbdControl, GenericError> {
        let mut generic = GenericSocket::open()?;
        let family = generic.family(FAMILY, GROUP)?;
        if events {
            generic.join(family.group)?;
        }
        Ok(NbdControl { generic, family })
    }

    /// Makes a device from a connection. Returns its number.
    pub fn connect(&mut self, device: &NbdDevice) -> Result<u32, NetlinkError> {
        let builder = self
            .generic
            .message(self.family.id, CONNECT)
            .attribute(SIZE_BYTES, &device.size.to_ne_bytes())
            .attribute(BLOCK_SIZE_BYTES, &u64::from(device.block_size).to_ne_bytes())
            .attribute(TIMEOUT, &REQUEST_TIMEOUT_S.to_ne_bytes())
            .attribute(SERVER_FLAGS, &u64::from(device.flags).to_ne_bytes())
            .attribute(DEAD_CONN_TIMEOUT, &DEAD_CONN_TIMEOUT_S.to_ne_bytes());
        let mut index = None;
        self.generic.ask("make an NBD device", with_socket(builder, device.socket), &mut |attributes| {
            index = attributes.flatten().find(|(kind, _)| *kind == INDEX).and_then(|(_, value)| u32_at(value, 0));
        })?;
        index.ok_or(NetlinkError::Refused { request: "name the NBD device", errno: Errno::ENODEV })
    }

    /// Gives the device a new connection in place of its dead one; `timeout_s` changes the timeout of requests. Size
    /// and flags are left out, because changing them can deadlock the kernel.
    pub fn reconnect(&mut self, index: u32, socket: &TcpStream, timeout_s: Option<u64>) -> Result<(), NetlinkError> {
        let mut builder = self.generic.message(self.family.id, RECONFIGURE).attribute(INDEX, &index.to_ne_bytes());
        if let Some(timeout_s) = timeout_s {
            builder = builder.attribute(TIMEOUT, &timeout_s.to_ne_bytes());
        }
        self.generic.ask("reconnect the NBD device", with_socket(builder, socket), &mut |_| {})
    }

    /// Removes the device. Requests that wait for the server fail.
    pub fn disconnect(&mut self, index: u32) -> Result<(), NetlinkError> {
        let builder = self.generic.message(self.family.id, DISCONNECT).attribute(INDEX, &index.to_ne_bytes());
        self.generic.ask("disconnect the NBD device", builder, &mut |_| {})
    }

    /// Whether an event says that the connection of the device is dead. Lost events count as such. Never waits.
    pub fn is_dead(&mut self, index: u32) -> Result<bool, NetlinkError> {
        let mut dead = false;
        let family = self.family.id;
        let read = self.generic.events(&mut |kind, command, attributes| {
            let ours = |(kind, value): (u16, &[u8])| kind == INDEX && u32_at(value, 0) == Some(index);
            dead |= kind == family && command == LINK_DEAD && attributes.flatten().any(ours);
        });
        match read {
            Err(NetlinkError::Socket { errno: Errno::ENOBUFS, .. }) => Ok(true),
            read => read.map(|()| dead),
        }
    }

    /// Readable when there is an event.
    pub fn socket(&self) -> &bootwright_netconf::netlink::socket::NetlinkSocket {
        self.generic.socket()
    }
}

fn with_socket(builder: MessageBuilder, socket: &TcpStream) -> MessageBuilder {
    let fd = (socket.as_raw_fd() as u32).to_ne_bytes();
    builder.attribute(nested(SOCKETS), &attribute(nested(SOCKET_ITEM), &attribute(SOCKET_FD, &fd)))
}

/// Encodes an attribute, to be nested in another one.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    MessageBuilder::new(0, 0, &[]).attribute(kind, value).into_payload()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_netconf::netlink::message::parse_attributes;

    #[test]
    fn sockets_are_nested_twice() {
        let inner = attribute(nested(SOCKET_ITEM), &attribute(SOCKET_FD, &7u32.to_ne_bytes()));
        let (kind, item) = parse_attributes(&inner).next().expect("one").expect("good");
        let (fd, value) = parse_attributes(item).next().expect("one").expect("good");
        assert_eq!((kind, fd, u32_at(value, 0)), (SOCKET_ITEM, SOCKET_FD, Some(7)));
    }
}
