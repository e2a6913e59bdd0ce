//! Generic netlink (linux/genetlink.h): families that are found by name.

use super::NetlinkError;
use super::message::{Attributes, MessageBuilder, parse_attributes, parse_messages, u16_at, u32_at};
use super::socket::NetlinkSocket;
use bootwright_base::sys::socklen;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::SockProtocol;
use std::os::fd::{AsFd, AsRawFd};

/// `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY`.
const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
/// `CTRL_ATTR_*`, and `CTRL_ATTR_MCAST_GRP_*` in a group.
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const GROUPS: u16 = 7;
const GROUP_NAME: u16 = 1;
const GROUP_ID: u16 = 2;
/// `struct genlmsghdr`: command, version, two bytes of nothing.
const HEADER: usize = 4;

/// The number of a family, and of one of its multicast groups (0 when it has no group of that name).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Family {
    pub id: u16,
    pub group: u32,
}

/// Why a generic netlink family cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenericError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error("the kernel has no netlink family `{0}`: is its module loaded?")]
    NoFamily(&'static str),
    #[error("cannot listen to netlink events: {}", .0.desc())]
    Join(Errno),
}

/// A generic netlink socket.
pub struct GenericSocket(NetlinkSocket);

impl GenericSocket {
    pub fn open() -> Result<GenericSocket, NetlinkError> {
        NetlinkSocket::open(SockProtocol::NetlinkGeneric, 0).map(GenericSocket)
    }

    /// Looks up a family and one of its multicast groups.
    ///
    /// # Errors
    /// [`GenericError`] when the kernel has no such family.
    pub fn family(&mut self, name: &'static str, group: &str) -> Result<Family, GenericError> {
        let text = [name.as_bytes(), b"\0"].concat();
        let builder = self.message(CONTROLLER, GET_FAMILY).attribute(FAMILY_NAME, &text);
        let mut family = Family::default();
        let asked =
            self.ask("find a netlink family", builder, &mut |attributes| family = read_family(attributes, group));
        match asked {
            Err(NetlinkError::Refused { errno: Errno::ENOENT, .. }) => Err(GenericError::NoFamily(name)),
            asked => Ok(asked.map(|()| family)?),
        }
    }

    /// Receives messages of a group from now on.
    pub fn join(&mut self, group: u32) -> Result<(), GenericError> {
        let (size, value) = (socklen(size_of::<u32>()), &raw const group);
        let fd = self.0.as_fd().as_raw_fd();
        // SAFETY: the value is an u32 that lives through the call; the size is its own.
        let done = unsafe { libc::setsockopt(fd, libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, value.cast(), size) };
        Errno::result(done).map(drop).map_err(GenericError::Join)
    }

    /// Begins a message to a family.
    pub fn message(&self, family: u16, command: u8) -> MessageBuilder {
        MessageBuilder::new(family, 0, &[command, 1, 0, 0])
    }

    /// Sends a message and waits for its end. `each` is called with the attributes of every answer.
    pub fn ask(
        &mut self,
        request: &'static str,
        builder: MessageBuilder,
        each: &mut dyn FnMut(Attributes<'_>),
    ) -> Result<(), NetlinkError> {
        self.0.ask(request, builder, &mut |message| {
            each(message.split(HEADER)?.1);
            Ok(())
        })
    }

    /// Calls `each` with family, command and attributes of the group messages that have come in. Never waits.
    pub fn events(&mut self, each: &mut dyn FnMut(u16, u8, Attributes<'_>)) -> Result<(), NetlinkError> {
        while let Some(datagram) = self.0.receive()? {
            for message in parse_messages(&datagram) {
                let message = message?;
                let (head, attributes) = message.split(HEADER)?;
                each(message.kind, head.first().copied().unwrap_or_default(), attributes);
            }
        }
        Ok(())
    }

    pub fn socket(&self) -> &NetlinkSocket {
        &self.0
    }
}

fn read_family(attributes: Attributes<'_>, group: &str) -> Family {
    let mut family = Family::default();
    for (kind, value) in attributes.flatten() {
        match kind {
            FAMILY_ID => family.id = u16_at(value, 0).unwrap_or(0),
            GROUPS => {
                family.group = parse_attributes(value).flatten().find_map(|(_, v)| group_id(v, group)).unwrap_or(0)
            }
            _ => {}
        }
    }
    family
}

/// The number of the group if it has that name.
fn group_id(value: &[u8], name: &str) -> Option<u32> {
    let mut attributes = parse_attributes(value).flatten();
    let named = attributes
        .clone()
        .any(|(kind, value)| kind == GROUP_NAME && value.strip_suffix(b"\0") == Some(name.as_bytes()));
    let id = attributes.find(|(kind, _)| *kind == GROUP_ID).and_then(|(_, value)| u32_at(value, 0));
    id.filter(|_| named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_families_are_found() {
        let mut generic = GenericSocket::open().expect("every kernel has generic netlink");
        let family = generic.family("nlctrl", "notify").expect("the controller");
        assert_eq!(family.id, CONTROLLER);
        assert!(family.group > 0);
        generic.join(family.group).expect("anybody may listen");
        let mut heard = 0;
        generic.events(&mut |_, _, _| heard += 1).expect("a socket that can be read");
        assert_eq!(generic.family("nlctrl", "nothing").expect("the controller").group, 0);
        let error = generic.family("no-such-family", "x").expect_err("nobody has it").to_string();
        assert!(error.starts_with("the kernel has no netlink family `no-such-family`"), "{error}");
    }
}
