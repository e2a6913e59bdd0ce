//! A link that is tried: its DHCPv4 client, and its IPv6 client for routers and DHCPv6.

use super::Millis;
use crate::dhcp::socket::{PacketSocket, PacketSocketError, send_renewal};
use crate::dhcp::{DhcpAction, DhcpMachine};
use crate::dhcp6::message::Dhcp6Facts;
use crate::dhcp6::{Dhcp6Action, Dhcp6Machine, Dhcp6Socket, Lease6};
use crate::netlink::route::Link;
use crate::v6::routers::Routers;
use crate::v6::socket::RouterSocket;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

/// A link with a carrier that an interface of the plan may use.
pub struct Candidate {
    pub link: Link,
    pub rank: (usize, [u8; 6]),
    /// When the carrier was first seen.
    pub since: Millis,
    pub v4: Option<Ipv4Client>,
    pub v6: Option<Ipv6Client>,
}

/// The DHCPv4 client of a link.
pub struct Ipv4Client {
    pub machine: DhcpMachine,
    pub socket: Option<PacketSocket>,
    renewal: Option<UdpSocket>,
    pub offer_at: Option<Millis>,
}

/// The IPv6 client of a link.
pub struct Ipv6Client {
    pub routers: Routers,
    pub socket: Option<RouterSocket>,
    /// The link-local address, once duplicate address detection is over.
    pub link_local: Option<Ipv6Addr>,
    /// When the first usable router was heard.
    pub heard_at: Option<Millis>,
    pub dhcp: Option<Dhcp6Machine>,
    pub dhcp_socket: Option<Dhcp6Socket>,
    pub lease: Option<(Lease6, Millis)>,
    pub facts: Dhcp6Facts,
    /// Lines about bad advertisements that were not reported yet.
    pub odd: Vec<String>,
}

impl Ipv4Client {
    pub fn new(machine: DhcpMachine) -> Ipv4Client {
        Ipv4Client { machine, socket: None, renewal: None, offer_at: None }
    }

    /// The payloads that have come in. After the link was down, the socket fails once and is opened anew.
    fn receive(&mut self) -> Result<Vec<Vec<u8>>, PacketSocketError> {
        let mut payloads = Vec::new();
        let Some(socket) = &self.socket else { return Ok(payloads) };
        loop {
            match socket.receive() {
                Ok(Some(payload)) => payloads.push(payload),
                Ok(None) => return Ok(payloads),
                Err(error) => {
                    self.socket = None;
                    return Err(error);
                }
            }
        }
    }

    /// Feeds the state machine with what came in and with the time; returns what it wants done.
    pub fn turn(&mut self, now: Millis) -> Vec<DhcpAction> {
        let mut actions = Vec::new();
        match self.receive() {
            Ok(payloads) => {
                for payload in payloads {
                    actions.extend(self.machine.on_packet(&payload, now));
                }
            }
            Err(error) => actions.push(DhcpAction::Note(error.to_string())),
        }
        actions.extend(self.machine.on_time(now));
        actions
    }

    fn open(&mut self, index: u32) -> Result<&PacketSocket, PacketSocketError> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => PacketSocket::open(index)?,
        };
        Ok(self.socket.insert(socket))
    }

    pub fn broadcast(&mut self, link: &Link, payload: &[u8]) -> Result<(), PacketSocketError> {
        self.open(link.index)?.broadcast(payload)
    }

    pub fn unicast(
        &mut self,
        link: &Link,
        from: Ipv4Addr,
        to: Ipv4Addr,
        payload: &[u8],
    ) -> Result<(), PacketSocketError> {
        self.open(link.index)?;
        self.renewal = None;
        self.renewal = Some(send_renewal(&link.name, from, to, payload)?);
        Ok(())
    }

    /// Closes the packet socket: nothing is expected until the lease is renewed.
    pub fn close(&mut self) {
        self.socket = None;
        self.renewal = None;
    }
}

impl Ipv6Client {
    /// `socket` is `None` where the kernel has no IPv6.
    pub fn new(routers: Routers, socket: Option<RouterSocket>) -> Ipv6Client {
        Ipv6Client {
            routers,
            socket,
            link_local: None,
            heard_at: None,
            dhcp: None,
            dhcp_socket: None,
            lease: None,
            facts: Dhcp6Facts::default(),
            odd: Vec::new(),
        }
    }

    /// Reads advertisements, and sends solicitations when they are due. Returns true when there was news.
    pub fn hear(&mut self, now: Millis) -> Result<bool, crate::v6::socket::RouterSocketError> {
        let Some(socket) = &self.socket else { return Ok(false) };
        let mut news = false;
        while let Some(heard) = socket.receive()? {
            match self.routers.on_advert(&heard, now) {
                Ok(odd) => {
                    news = true;
                    self.odd.extend(odd);
                }
                Err(error) => self.odd.push(["router ", &heard.from.to_string(), ": ", &error.to_string()].concat()),
            }
        }
        // Without a link-local address the routers' answers could not be sent to this node.
        if self.link_local.is_some()
            && let Some(solicitation) = self.routers.on_time(now)
        {
            socket.solicit(&solicitation)?;
        }
        Ok(news)
    }

    /// Feeds the DHCPv6 state machine with what came in and with the time; returns what it wants done.
    pub fn turn(&mut self, index: u32, now: Millis) -> io::Result<Vec<Dhcp6Action>> {
        let (Some(machine), Some(link_local)) = (&mut self.dhcp, self.link_local) else { return Ok(Vec::new()) };
        let mut actions = Vec::new();
        if let Some(socket) = &self.dhcp_socket {
            while let Some(payload) = socket.receive()? {
                actions.extend(machine.on_packet(&payload, now));
            }
        }
        actions.extend(machine.on_time(now));
        for action in &actions {
            let Dhcp6Action::Send(payload) = action else { continue };
            let socket = match self.dhcp_socket.take() {
                Some(socket) => socket,
                None => Dhcp6Socket::open(index, link_local)?,
            };
            self.dhcp_socket.insert(socket).send(payload)?;
        }
        Ok(actions)
    }
}

impl Candidate {
    /// Descriptors that become readable when a packet has come in.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let v4 = self.v4.as_ref().and_then(|v4| v4.socket.as_ref()).map(AsFd::as_fd);
        let routers = self.v6.as_ref().and_then(|v6| v6.socket.as_ref()).map(AsFd::as_fd);
        let dhcp = self.v6.as_ref().and_then(|v6| v6.dhcp_socket.as_ref()).map(|dhcp| dhcp.socket.as_fd());
        [v4, routers, dhcp].into_iter().flatten()
    }

    /// When the next time-driven step is due.
    pub fn deadline(&self, now: Millis) -> Option<Millis> {
        let v4 = self.v4.as_ref().and_then(|v4| v4.machine.deadline());
        let v6 = self.v6.as_ref().and_then(|v6| {
            let ready = v6.link_local.is_some();
            let solicit = v6.routers.solicit_at().filter(|_| ready && v6.socket.is_some());
            let dhcp = v6.dhcp.as_ref().filter(|_| ready).and_then(Dhcp6Machine::deadline);
            [solicit, dhcp, v6.routers.expires_at(now)].into_iter().flatten().min()
        });
        v4.into_iter().chain(v6).min()
    }

    /// The carrier is back: leases are renewed at once, because the node may be on another network.
    pub fn on_carrier(&mut self, now: Millis) {
        if let Some(v4) = &mut self.v4 {
            v4.machine.on_carrier(now);
        }
        if let Some(v6) = &mut self.v6 {
            v6.routers.on_carrier(now);
            if let Some(dhcp) = &mut v6.dhcp {
                dhcp.on_carrier(now);
            }
        }
    }

    /// Why this link was not chosen, in words.
    pub fn why_not(&self) -> &'static str {
        let asks = self.v4.is_some();
        match (self.v4.as_ref().and_then(|v4| v4.offer_at), self.v6.as_ref().and_then(|v6| v6.heard_at)) {
            (Some(_), _) => "has an offer too but comes later in the order",
            (None, Some(_)) if asks => "a router, but no DHCP server",
            (None, Some(_)) => "has a router too but comes later in the order",
            (None, None) if asks => "no DHCP server has answered",
            (None, None) if self.v6.is_some() => "no router has answered",
            (None, None) => "comes later in the order",
        }
    }
}
