//! The state machine of a DHCP client (RFC 2131 figure 5). It has neither clock nor socket: events go in, actions come
//! out.

use super::lease::{Lease, is_usable, parse_lease};
use super::packet::{DhcpPacket, parse_packet};
pub use bootwright_base::sys::Millis;
use std::net::Ipv4Addr;

/// Message types (RFC 2132 section 9.6).
pub const DISCOVER: u8 = 1;
pub const OFFER: u8 = 2;
pub const REQUEST: u8 = 3;
pub const ACK: u8 = 5;
pub const NAK: u8 = 6;

/// First wait for an answer. The wait doubles up to [`LONGEST_WAIT_MS`].
const FIRST_WAIT_MS: Millis = 1000;
/// Short, because a switch with spanning tree passes nothing for up to 50 s after the cable is plugged in.
const LONGEST_WAIT_MS: Millis = 8_000;
/// Requests that stay without an answer before the client discovers again.
const REQUESTS: u32 = 4;
/// How long an offer may be kept while another interface may get a better one.
const OFFER_STANDS_MS: Millis = 15_000;
/// RFC 2131 section 4.4.5: at least 60 s between renewals that got no answer.
const SHORTEST_RENEWAL_MS: Millis = 60_000;
/// Pause after a NAK. RFC 2131 section 3.1 says only "restart", but a server that always refuses must not be flooded.
/// The pause doubles with each NAK in a row.
const PAUSE_AFTER_NAK_MS: Millis = 1000;
const LONGEST_PAUSE_MS: Millis = 32_000;
/// So many DISCOVERs ignore offers of a server that has just refused, so that another server can answer.
const SHUNNED_TRIES: u32 = 1;

/// Who the client says that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhcpClient {
    pub mac: [u8; 6],
    /// The machine's UUID as the firmware's PXE sends it in option 97; see [`bootwright_base::firmware_uuid`].
    pub uuid: Option<[u8; 16]>,
    /// Sent as option 12, so that the server can put it into DNS.
    pub hostname: Option<String>,
}

/// What the caller has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DhcpAction {
    /// Send this UDP payload to everybody on the link.
    Broadcast(Vec<u8>),
    /// Send this UDP payload from our address to the server.
    Unicast { to: Ipv4Addr, from: Ipv4Addr, payload: Vec<u8> },
    /// An offer has come. The caller takes it with [`DhcpMachine::accept`].
    Offered,
    /// A lease has come. The caller configures it; the lease may be the same as before.
    Bound(Box<Lease>),
    /// The server does not give what it offered. The caller waits for the next [`DhcpAction::Offered`].
    Refused,
    /// The lease has ended. The caller removes the address.
    Lost(Ipv4Addr),
    /// A line for the log.
    Note(String),
    /// A line for the log that would be repeated with every answer: to be logged once.
    Odd(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum DhcpState {
    Selecting,
    Offered(Box<Lease>),
    Requesting { offer: Box<Lease>, left: u32 },
    Bound { lease: Box<Lease>, asked_at: Millis },
    Renewing { lease: Box<Lease>, asked_at: Millis },
    Rebinding { lease: Box<Lease>, asked_at: Millis },
}

/// A DHCP client on one interface.
pub struct DhcpMachine {
    client: DhcpClient,
    state: DhcpState,
    random: u64,
    xid: u32,
    /// When the first message of this exchange was sent; `secs` counts from then.
    began_at: Millis,
    /// When the message was sent from which the times of the lease count.
    sent_at: Millis,
    wait: Millis,
    tries: u32,
    next_at: Millis,
    /// Refusals in a row, and the server of the last one.
    refusals: u32,
    shunned: Option<Ipv4Addr>,
}

impl DhcpMachine {
    /// Makes a client that discovers on the first [`DhcpMachine::on_time`]. `seed` spreads the messages of clients that
    /// start together.
    pub fn new(client: DhcpClient, seed: u64, now: Millis) -> Self {
        let mut machine = DhcpMachine {
            client,
            state: DhcpState::Selecting,
            random: seed | 1,
            xid: 0,
            began_at: now,
            sent_at: now,
            wait: FIRST_WAIT_MS,
            tries: 0,
            next_at: now,
            refusals: 0,
            shunned: None,
        };
        machine.discover_again(now);
        machine
    }

    /// When to call [`DhcpMachine::on_time`]. `None` when the lease is for ever.
    pub fn deadline(&self) -> Option<Millis> {
        (self.next_at != Millis::MAX).then_some(self.next_at)
    }

    /// The link has a carrier again: renews at once, because the node may be on another network now.
    pub fn on_carrier(&mut self, now: Millis) {
        if matches!(self.state, DhcpState::Bound { .. }) {
            self.next_at = now;
        }
    }

    /// To be called at [`DhcpMachine::deadline`].
    pub fn on_time(&mut self, now: Millis) -> Vec<DhcpAction> {
        if now < self.next_at {
            return Vec::new();
        }
        match self.state.clone() {
            DhcpState::Selecting => {
                let message = self.message(DISCOVER, now);
                self.wait_longer(now);
                vec![DhcpAction::Broadcast(message.to_bytes())]
            }
            DhcpState::Offered(_) => {
                self.discover_again(now);
                self.on_time(now)
            }
            DhcpState::Requesting { left: 0, offer } => {
                self.discover_again(now);
                self.shunned = Some(offer.server);
                vec![DhcpAction::Odd("no answer to the request".into()), DhcpAction::Refused]
            }
            DhcpState::Requesting { offer, left } => {
                self.state = DhcpState::Requesting { offer: offer.clone(), left: left - 1 };
                vec![self.request(&offer, now)]
            }
            DhcpState::Bound { lease, asked_at } => {
                self.new_exchange(now);
                self.state = DhcpState::Renewing { lease, asked_at };
                self.on_time(now)
            }
            DhcpState::Renewing { lease, asked_at } => {
                let rebind_at = after(asked_at, lease.rebind_s);
                if now >= rebind_at {
                    self.state = DhcpState::Rebinding { lease, asked_at };
                    return self.on_time(now);
                }
                let payload = self.renewal(&lease, now, rebind_at);
                match is_usable(lease.server) {
                    true => vec![DhcpAction::Unicast { to: lease.server, from: lease.address, payload }],
                    // The server's identifier is no address that can be sent to.
                    false => vec![DhcpAction::Broadcast(payload)],
                }
            }
            DhcpState::Rebinding { lease, asked_at } => {
                let end = after(asked_at, lease.lease_s);
                if now >= end {
                    self.discover_again(now);
                    let note = format!("the lease of {} has ended", lease.address);
                    return vec![DhcpAction::Note(note), DhcpAction::Lost(lease.address)];
                }
                vec![DhcpAction::Broadcast(self.renewal(&lease, now, end))]
            }
        }
    }

    /// Requests what was offered. Does nothing when there is no offer.
    pub fn accept(&mut self, now: Millis) -> Vec<DhcpAction> {
        let DhcpState::Offered(offer) = self.state.clone() else { return Vec::new() };
        self.wait = FIRST_WAIT_MS;
        let request = self.request(&offer, now);
        self.state = DhcpState::Requesting { offer, left: REQUESTS - 1 };
        vec![request]
    }

    /// Takes a UDP payload that came to port 68. Messages for other clients are ignored.
    pub fn on_packet(&mut self, payload: &[u8], now: Millis) -> Vec<DhcpAction> {
        let packet = match parse_packet(payload) {
            Ok(packet) => packet,
            Err(error) if is_answer(payload, self.xid, &self.client.mac) => {
                return vec![DhcpAction::Odd(format!("answer refused: {error}"))];
            }
            Err(_) => return Vec::new(),
        };
        if packet.op != 2 || packet.xid != self.xid || packet.mac != self.client.mac {
            return Vec::new();
        }
        match (packet.kind(), self.state.clone()) {
            (Some(OFFER), DhcpState::Selecting) => match parse_lease(&packet) {
                Ok(offer) if self.shunned == Some(offer.server) && self.tries <= SHUNNED_TRIES => Vec::new(),
                Ok(offer) => {
                    self.state = DhcpState::Offered(Box::new(offer));
                    self.next_at = now + OFFER_STANDS_MS;
                    vec![DhcpAction::Offered]
                }
                Err(error) => vec![DhcpAction::Odd(format!("offer refused: {error}"))],
            },
            (Some(ACK), DhcpState::Requesting { .. } | DhcpState::Renewing { .. } | DhcpState::Rebinding { .. }) => {
                self.on_ack(&packet, now)
            }
            (Some(NAK), DhcpState::Requesting { offer, .. }) if from_server(&packet, offer.server) => {
                self.refused(Some(offer.server), now);
                vec![DhcpAction::Odd("the server refused the request".into()), DhcpAction::Refused]
            }
            // A NAK of another server counts only when the renewal was sent to all servers.
            (Some(NAK), DhcpState::Renewing { lease, .. })
                if packet.option(54).is_some() && !from_server(&packet, lease.server) =>
            {
                Vec::new()
            }
            (Some(NAK), DhcpState::Renewing { lease, .. } | DhcpState::Rebinding { lease, .. }) => {
                self.refused(None, now);
                vec![DhcpAction::Note("the server took the lease back".into()), DhcpAction::Lost(lease.address)]
            }
            _ => Vec::new(),
        }
    }

    fn on_ack(&mut self, packet: &DhcpPacket, now: Millis) -> Vec<DhcpAction> {
        match parse_lease(packet) {
            Ok(mut lease) => {
                let asked_at = self.sent_at;
                self.next_at = after(asked_at, lease.renew_s);
                (self.refusals, self.shunned) = (0, None);
                let odd = std::mem::take(&mut lease.odd).into_iter().map(DhcpAction::Odd);
                self.state = DhcpState::Bound { lease: Box::new(lease.clone()), asked_at };
                odd.chain([DhcpAction::Bound(Box::new(lease))]).collect()
            }
            Err(error) => {
                let (server, lost) = match &self.state {
                    DhcpState::Renewing { lease, .. } | DhcpState::Rebinding { lease, .. } => {
                        (None, Some(lease.address))
                    }
                    DhcpState::Requesting { offer, .. } => (Some(offer.server), None),
                    _ => (None, None),
                };
                self.refused(server, now);
                let note = DhcpAction::Odd(format!("lease refused: {error}"));
                [note, lost.map_or(DhcpAction::Refused, DhcpAction::Lost)].into()
            }
        }
    }

    fn discover_again(&mut self, now: Millis) {
        self.new_exchange(now);
        self.state = DhcpState::Selecting;
        self.next_at = now;
    }

    /// Starts over after a pause. The server whose offer was refused is passed over at first.
    fn refused(&mut self, server: Option<Ipv4Addr>, now: Millis) {
        self.discover_again(now);
        self.shunned = server;
        self.next_at = now + (PAUSE_AFTER_NAK_MS << self.refusals.min(8)).min(LONGEST_PAUSE_MS);
        self.refusals += 1;
    }

    fn new_exchange(&mut self, now: Millis) {
        self.xid = (self.next_random() >> 32) as u32;
        self.began_at = now;
        (self.wait, self.tries) = (FIRST_WAIT_MS, 0);
    }

    /// xorshift64. It only spreads the messages of neighbours that boot together.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// Doubles the wait. RFC 2131 section 4.1 spreads it by a second; here it is a quarter of a second.
    fn wait_longer(&mut self, now: Millis) {
        self.next_at = now + self.wait + self.next_random() % (FIRST_WAIT_MS / 4);
        self.wait = (self.wait * 2).min(LONGEST_WAIT_MS);
        self.tries += 1;
    }

    fn request(&mut self, offer: &Lease, now: Millis) -> DhcpAction {
        let mut message = self.message(REQUEST, now);
        message.options.push((50, offer.address.octets().to_vec()));
        message.options.push((54, offer.server.octets().to_vec()));
        self.sent_at = now;
        self.wait_longer(now);
        DhcpAction::Broadcast(message.to_bytes())
    }

    /// A renewal request. The next one is due after half of the time that is left until `end`.
    fn renewal(&mut self, lease: &Lease, now: Millis, end: Millis) -> Vec<u8> {
        let mut message = self.message(REQUEST, now);
        message.ciaddr = lease.address;
        message.broadcast = false;
        self.sent_at = now;
        // Short leases allow shorter pauses, so that there are still several tries.
        let shortest = SHORTEST_RENEWAL_MS.min(u64::from(lease.lease_s) * 1000 / 8);
        self.next_at = (now + ((end - now) / 2).max(shortest)).min(end);
        message.to_bytes()
    }

    /// The fields that all messages share. The first try of an exchange asks for a unicast answer, later ones for a
    /// broadcast.
    fn message(&self, kind: u8, now: Millis) -> DhcpPacket {
        let mut client_id = vec![1];
        client_id.extend_from_slice(&self.client.mac);
        let mut options = vec![
            (53, vec![kind]),
            (61, client_id),
            // Option 57: the longest message that we take, which fits an Ethernet frame.
            (57, 1472u16.to_be_bytes().to_vec()),
            // Option 55: the options that we ask for. RFC 3442 demands 121 before 3.
            (55, vec![1, 121, 3, 6, 12, 15, 17, 26, 42, 51, 54, 58, 59, 66, 119]),
        ];
        if let Some(uuid) = &self.client.uuid {
            options.push((97, [&[0], &uuid[..]].concat()));
        }
        if let Some(hostname) = &self.client.hostname {
            options.push((12, hostname.clone().into_bytes()));
        }
        DhcpPacket {
            op: 1,
            xid: self.xid,
            secs: u16::try_from((now - self.began_at) / 1000).unwrap_or(u16::MAX),
            broadcast: self.tries > 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            mac: self.client.mac,
            options,
        }
    }
}

/// The time `seconds` after `start`; [`Millis::MAX`] for an endless lease.
fn after(start: Millis, seconds: u32) -> Millis {
    if seconds >= u32::MAX / 2 { Millis::MAX } else { start + u64::from(seconds) * 1000 }
}

/// Whether the message names `server` in option 54, which RFC 2131 table 3 demands of a NAK.
fn from_server(packet: &DhcpPacket, server: Ipv4Addr) -> bool {
    packet.option(54) == Some(&server.octets()[..])
}

/// Whether bytes that could not be parsed claim to be an answer to our message.
fn is_answer(bytes: &[u8], xid: u32, mac: &[u8; 6]) -> bool {
    bytes.first() == Some(&2) && bytes.get(4..8) == Some(&xid.to_be_bytes()) && bytes.get(28..34) == Some(mac)
}
