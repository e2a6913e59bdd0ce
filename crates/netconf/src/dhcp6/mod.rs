//! A DHCPv6 client (RFC 8415): messages, the state machine, and the socket under it.

pub mod machine;
pub mod message;

use message::{CLIENT_PORT, SERVER_PORT};
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};

pub use machine::{Dhcp6Action, Dhcp6Machine, Lease6};

/// All_DHCP_Relay_Agents_and_Servers (RFC 8415 section 7.1).
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// The client's socket on one link.
pub struct Dhcp6Socket {
    pub socket: UdpSocket,
    index: u32,
}

impl Dhcp6Socket {
    /// Opens the socket bound to the link-local address of the link.
    pub fn open(index: u32, link_local: Ipv6Addr) -> io::Result<Dhcp6Socket> {
        let socket = UdpSocket::bind(SocketAddrV6::new(link_local, CLIENT_PORT, 0, index))?;
        socket.set_nonblocking(true)?;
        Ok(Dhcp6Socket { socket, index })
    }

    /// Sends to all servers of the link.
    pub fn send(&self, payload: &[u8]) -> io::Result<()> {
        self.socket.send_to(payload, SocketAddrV6::new(SERVERS, SERVER_PORT, 0, self.index)).map(drop)
    }

    /// The next packet; `None` when there is none now.
    pub fn receive(&self) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; 2048];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => {
                    buffer.truncate(length);
                    return Ok(Some(buffer));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
