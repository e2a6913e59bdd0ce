//! The sockets of a DHCP client: a packet socket, which works without an address, and a UDP socket for renewals.

use super::packet::{CLIENT_PORT, SERVER_PORT, unwrap_udp, wrap_udp};
use bootwright_base::sys::{errno, socklen};
use nix::errno::Errno;
use nix::libc;
use std::ffi::CString;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `ETH_P_IP` in network byte order.
const PROTOCOL_IPV4: u16 = 0x0800u16.to_be();

/// A system call on a DHCP socket failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("DHCP {call}: {}", errno.desc())]
pub struct PacketSocketError {
    pub call: &'static str,
    pub errno: Errno,
}

/// Receives every UDP packet to port 68 on one link, to whatever address (packet(7)).
pub struct PacketSocket {
    fd: OwnedFd,
    index: u32,
}

/// A filter for IPv4 packets (Documentation/networking/filter.rst): UDP, not a fragment, destination port 68. Without
/// it every packet of the node would wake PID1.
const FILTER: [libc::sock_filter; 9] = [
    statement(0x30, 9),
    jump(0x15, 17, 0, 5),
    statement(0x28, 6),
    jump(0x45, 0x1fff, 3, 0),
    statement(0xb1, 0),
    statement(0x48, 2),
    jump(0x15, CLIENT_PORT as u32, 1, 0),
    statement(0x06, 0),
    statement(0x06, 0xffff),
];

const fn statement(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: 0, k }
}

const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

impl PacketSocket {
    /// Opens the socket on the link with this index.
    pub fn open(index: u32) -> Result<Self, PacketSocketError> {
        // With protocol 0 nothing arrives before filter and link are set.
        let flags = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: plain integers; the new descriptor is owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(check("socket", libc::socket(libc::AF_PACKET, flags, 0))?) };
        let mut filter = FILTER;
        let program =
            libc::sock_fprog { len: u16::try_from(filter.len()).unwrap_or(u16::MAX), filter: filter.as_mut_ptr() };
        // SAFETY: the kernel copies the program, which lives until the call returns.
        let done = unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                socklen(size_of::<libc::sock_fprog>()),
            )
        };
        check("filter", done)?;
        let address = link_address(index);
        // SAFETY: a valid sockaddr_ll of the size given.
        let done =
            unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), socklen(size_of::<libc::sockaddr_ll>())) };
        check("bind", done)?;
        Ok(PacketSocket { fd, index })
    }

    /// Sends a DHCP message from 0.0.0.0 to everybody on the link.
    pub fn broadcast(&self, payload: &[u8]) -> Result<(), PacketSocketError> {
        let packet = wrap_udp(payload, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
        let address = link_address(self.index);
        // SAFETY: buffer and address are valid for the sizes given.
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const address).cast(),
                socklen(size_of::<libc::sockaddr_ll>()),
            )
        };
        Errno::result(sent).map(drop).map_err(|errno| PacketSocketError { call: "send", errno })
    }

    /// The next DHCP message; `None` when there is none now. Other packets are skipped.
    pub fn receive(&self) -> Result<Option<Vec<u8>>, PacketSocketError> {
        let mut buffer = vec![0; 2048];
        loop {
            match nix::sys::socket::recv(self.fd.as_raw_fd(), &mut buffer, nix::sys::socket::MsgFlags::empty()) {
                Ok(length) => {
                    if let Ok(payload) = unwrap_udp(buffer.get(..length).unwrap_or_default()) {
                        return Ok(Some(payload.to_vec()));
                    }
                }
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(PacketSocketError { call: "receive", errno }),
            }
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The broadcast address of a link.
fn link_address(index: u32) -> libc::sockaddr_ll {
    // SAFETY: sockaddr_ll is plain data, for which zeros are valid.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or_default();
    address.sll_protocol = PROTOCOL_IPV4;
    address.sll_ifindex = index as i32;
    address.sll_halen = 6;
    address.sll_addr[..6].fill(0xff);
    address
}

fn check(call: &'static str, done: i32) -> Result<i32, PacketSocketError> {
    Errno::result(done).map_err(|errno| PacketSocketError { call, errno })
}

/// Sends a renewal from our address to the server, by the kernel's routes. The answer comes in on the packet socket.
/// The caller keeps the returned socket: without it the kernel would answer the server with "port unreachable".
pub fn send_renewal(
    interface: &str,
    from: Ipv4Addr,
    to: Ipv4Addr,
    payload: &[u8],
) -> Result<UdpSocket, PacketSocketError> {
    let failed = |call| move |error: std::io::Error| PacketSocketError { call, errno: errno(error) };
    let socket = UdpSocket::bind(SocketAddrV4::new(from, CLIENT_PORT)).map_err(failed("bind"))?;
    let name = CString::new(interface).map_err(|_| PacketSocketError { call: "bind", errno: Errno::EINVAL })?;
    // SAFETY: the name is valid for the length given.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            name.as_ptr().cast(),
            socklen(name.as_bytes().len()),
        )
    };
    check("bind to the link", done)?;
    socket.send_to(payload, SocketAddrV4::new(to, SERVER_PORT)).map_err(failed("send"))?;
    Ok(socket)
}
