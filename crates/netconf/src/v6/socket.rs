//! The ICMPv6 socket for router solicitations and advertisements (icmp(7), ipv6(7), RFC 3542).

use bootwright_base::sys::socklen;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg};
use std::io::IoSliceMut;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `ICMPV6_FILTER` (include/uapi/linux/icmpv6.h).
const ICMPV6_FILTER: i32 = 1;
/// Router advertisements, the only type that passes the filter.
const ADVERT: u32 = 134;
/// RFC 4861 section 6.1.2: a lower hop limit shows that the packet came through a router, so not from this link.
pub const HOP_LIMIT: i32 = 255;
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// A system call on the socket failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("router discovery {call}: {}", errno.desc())]
pub struct RouterSocketError {
    pub call: &'static str,
    pub errno: Errno,
}

/// A message that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeardAdvert {
    pub from: Ipv6Addr,
    /// Hop limit of its packet; see [`HOP_LIMIT`].
    pub hops: i32,
    pub bytes: Vec<u8>,
}

/// The socket for the routers of one link.
pub struct RouterSocket {
    fd: OwnedFd,
    index: u32,
}

impl RouterSocket {
    /// Opens the socket on the link.
    pub fn open(index: u32, name: &str) -> Result<Self, RouterSocketError> {
        let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: plain integers; the new descriptor is owned by nobody else.
        let fd = unsafe {
            let fd = libc::socket(libc::AF_INET6, flags, libc::IPPROTO_ICMPV6);
            OwnedFd::from_raw_fd(Errno::result(fd).map_err(|errno| RouterSocketError { call: "socket", errno })?)
        };
        // A set bit blocks that type.
        let mut filter = [u32::MAX; 8];
        if let Some(word) = filter.get_mut(usize::try_from(ADVERT / 32).unwrap_or(usize::MAX)) {
            *word &= !(1 << (ADVERT % 32));
        }
        set(&fd, "filter", libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &filter.map(u32::to_ne_bytes).concat())?;
        set(&fd, "bind to the link", libc::SOL_SOCKET, libc::SO_BINDTODEVICE, name.as_bytes())?;
        let number = |call, option, value: i32| set(&fd, call, libc::IPPROTO_IPV6, option, &value.to_ne_bytes());
        number("hop limits", libc::IPV6_RECVHOPLIMIT, 1)?;
        number("hop limit", libc::IPV6_MULTICAST_HOPS, HOP_LIMIT)?;
        Ok(RouterSocket { fd, index })
    }

    /// Sends a solicitation to all routers of the link.
    pub fn solicit(&self, message: &[u8]) -> Result<(), RouterSocketError> {
        let to = SockaddrIn6::from(SocketAddrV6::new(ALL_ROUTERS, 0, 0, self.index));
        let sent = nix::sys::socket::sendto(self.fd.as_raw_fd(), message, &to, MsgFlags::empty());
        sent.map(drop).map_err(|errno| RouterSocketError { call: "send", errno })
    }

    /// The next message; `None` when there is none now.
    pub fn receive(&self) -> Result<Option<HeardAdvert>, RouterSocketError> {
        let mut buffer = vec![0; 2048];
        loop {
            let mut control = nix::cmsg_space!(i32);
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let fd = self.fd.as_raw_fd();
            match recvmsg::<SockaddrIn6>(fd, &mut parts, Some(&mut control), MsgFlags::empty()) {
                Ok(message) => {
                    let hops = message.cmsgs().ok().and_then(|mut all| {
                        all.find_map(|one| match one {
                            ControlMessageOwned::Ipv6HopLimit(hops) => Some(hops),
                            _ => None,
                        })
                    });
                    let from = message.address.map(|from| from.ip());
                    let (Some(hops), Some(from)) = (hops, from) else { continue };
                    let length = message.bytes;
                    buffer.truncate(length);
                    return Ok(Some(HeardAdvert { from, hops, bytes: buffer }));
                }
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(RouterSocketError { call: "receive", errno }),
            }
        }
    }
}

impl AsFd for RouterSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn set(fd: &OwnedFd, call: &'static str, level: i32, option: i32, value: &[u8]) -> Result<(), RouterSocketError> {
    // SAFETY: the value is valid for its length, which no option's value exceeds.
    let done = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, value.as_ptr().cast(), socklen(value.len())) };
    Errno::result(done).map(drop).map_err(|errno| RouterSocketError { call, errno })
}
