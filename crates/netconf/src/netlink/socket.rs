//! A netlink socket: requests with their answers, and multicast messages.

use super::message::{MalformedMessage, MessageBuilder, NetlinkMessage, parse_messages, u32_at};
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType};
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_DUMP` (include/uapi/linux/netlink.h).
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
/// `NLMSG_ERROR` (also the acknowledgement, with code 0) and `NLMSG_DONE`.
const KIND_ERROR: u16 = 2;
const KIND_DONE: u16 = 3;
/// The largest datagram that the kernel makes in a dump.
const BUFFER: usize = 32 * 1024;

/// Why a netlink request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NetlinkError {
    /// A system call on the socket failed.
    #[error("netlink {call}: {}", errno.desc())]
    Socket { call: &'static str, errno: Errno },
    /// The kernel refused the request.
    #[error("cannot {request}: {}", errno.desc())]
    Refused { request: &'static str, errno: Errno },
    /// The kernel's answer is malformed.
    #[error(transparent)]
    Wire(#[from] MalformedMessage),
}

/// A bound netlink socket. Datagrams that are no answer to a request are kept for [`NetlinkSocket::receive`].
pub struct NetlinkSocket {
    fd: OwnedFd,
    sequence: u32,
    pending: VecDeque<Vec<u8>>,
}

impl NetlinkSocket {
    /// Opens a socket of `protocol` (such as `NetlinkRoute`) that listens to the multicast `groups` (a bit mask).
    pub fn open(protocol: SockProtocol, groups: u32) -> Result<Self, NetlinkError> {
        let failed = |call| move |errno| NetlinkError::Socket { call, errno };
        let fd = socket::socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
            .map_err(failed("socket"))?;
        socket::bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups)).map_err(failed("bind"))?;
        Ok(NetlinkSocket { fd, sequence: 0, pending: VecDeque::new() })
    }

    /// Sends a message and waits for the acknowledgement. `request` names the request in errors.
    pub fn request(&mut self, request: &'static str, builder: MessageBuilder) -> Result<(), NetlinkError> {
        self.exchange(request, builder, ACK, &mut |_| Ok(()))
    }

    /// As [`NetlinkSocket::request`]; `each` is called with every message that comes before the acknowledgement.
    pub fn ask(
        &mut self,
        request: &'static str,
        builder: MessageBuilder,
        each: &mut dyn FnMut(NetlinkMessage<'_>) -> Result<(), MalformedMessage>,
    ) -> Result<(), NetlinkError> {
        self.exchange(request, builder, ACK, each)
    }

    /// Sends a dump request; `each` is called with every message of the answer.
    pub fn dump(
        &mut self,
        request: &'static str,
        builder: MessageBuilder,
        each: &mut dyn FnMut(NetlinkMessage<'_>) -> Result<(), MalformedMessage>,
    ) -> Result<(), NetlinkError> {
        self.exchange(request, builder, DUMP, each)
    }

    fn exchange(
        &mut self,
        request: &'static str,
        builder: MessageBuilder,
        flags: u16,
        each: &mut dyn FnMut(NetlinkMessage<'_>) -> Result<(), MalformedMessage>,
    ) -> Result<(), NetlinkError> {
        self.sequence += 1;
        let sequence = self.sequence;
        let bytes = builder.more_flags(flags | REQUEST).finish(sequence);
        socket::send(self.fd.as_raw_fd(), &bytes, MsgFlags::empty())
            .map_err(|errno| NetlinkError::Socket { call: "send", errno })?;
        loop {
            let datagram = self.read(MsgFlags::empty())?;
            let mut ours = false;
            for message in parse_messages(&datagram) {
                let message = message?;
                if message.sequence != sequence {
                    continue;
                }
                ours = true;
                match message.kind {
                    KIND_DONE => return Ok(()),
                    KIND_ERROR => return answer(request, &message),
                    _ => each(message)?,
                }
            }
            if !ours {
                self.pending.push_back(datagram);
            }
        }
    }

    /// The next multicast datagram; `None` when there is none now. Never waits.
    pub fn receive(&mut self) -> Result<Option<Vec<u8>>, NetlinkError> {
        if let Some(datagram) = self.pending.pop_front() {
            return Ok(Some(datagram));
        }
        match self.read(MsgFlags::MSG_DONTWAIT) {
            Ok(datagram) => Ok(Some(datagram)),
            Err(NetlinkError::Socket { errno: Errno::EAGAIN, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether [`NetlinkSocket::receive`] has a kept datagram. The descriptor need not be readable then.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    fn read(&self, flags: MsgFlags) -> Result<Vec<u8>, NetlinkError> {
        let mut buffer = vec![0; BUFFER];
        loop {
            match socket::recv(self.fd.as_raw_fd(), &mut buffer, flags) {
                Ok(length) => {
                    buffer.truncate(length);
                    return Ok(buffer);
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(NetlinkError::Socket { call: "recv", errno }),
            }
        }
    }
}

impl AsFd for NetlinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Reads `struct nlmsgerr`: a negative errno, or 0 for success.
fn answer(request: &'static str, message: &NetlinkMessage<'_>) -> Result<(), NetlinkError> {
    let found = message.payload.len();
    let code = u32_at(message.payload, 0).ok_or(MalformedMessage::ShortBody { needed: 4, found })? as i32;
    if code == 0 { Ok(()) } else { Err(NetlinkError::Refused { request, errno: Errno::from_raw(code.wrapping_neg()) }) }
}
