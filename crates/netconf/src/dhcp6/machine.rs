//! The state machine of a DHCPv6 client (RFC 8415 section 18.2). It has neither clock nor socket: events go in, actions
//! come out.

use super::message::{ClientMessage, Dhcp6Facts, MessageType, ServerMessage, parse_answer, status_name};
pub use bootwright_base::sys::Millis;
use std::net::Ipv6Addr;

#[cfg(test)]
mod tests;

/// First waits (RFC 8415 section 7.6): SOL_TIMEOUT, REQ_TIMEOUT and INF_TIMEOUT; REN_TIMEOUT and REB_TIMEOUT.
const FIRST_WAIT_MS: Millis = 1_000;
const FIRST_RENEWAL_WAIT_MS: Millis = 10_000;
/// The RFC lets the pauses between solicitations grow to an hour. A node that boots must find a late server sooner.
const LONGEST_WAIT_MS: Millis = 30_000;
const LONGEST_RENEWAL_WAIT_MS: Millis = 600_000;
/// REQ_MAX_RC.
const REQUESTS: u32 = 10;
/// An advertisement with this preference is taken at once. Others are collected during the first wait; after that the
/// first one is taken.
const BEST_PREFERENCE: u8 = 255;
/// IRT_DEFAULT and IRT_MINIMUM (RFC 8415 section 7.6), in seconds.
const REFRESH_S: u32 = 86_400;
const SHORTEST_REFRESH_S: u32 = 600;
/// Shorter leases are used as if they had this length, and leases above two minutes are renewed after a minute at the
/// earliest, so that the server is not asked all the time.
const SHORTEST_LEASE_S: u32 = 10;
const SHORTEST_RENEWAL_S: u32 = 60;
/// Pause after the first refusal; it doubles with each refusal in a row.
const PAUSE_MS: Millis = 1_000;

/// An address with its lifetimes, in seconds from the request for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease6 {
    pub ip: Ipv6Addr,
    pub preferred_s: u32,
    pub valid_s: u32,
    renew_s: u32,
    rebind_s: u32,
    server: Vec<u8>,
}

/// What the caller has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dhcp6Action {
    /// Send this UDP payload to all servers of the link.
    Send(Vec<u8>),
    /// A lease, and what the server said beside addresses. Without a lease the node has its addresses from routers.
    Bound(Option<Lease6>, Dhcp6Facts),
    /// The lease has ended. The caller removes the address.
    Lost(Ipv6Addr),
    /// A line for the log.
    Note(String),
    /// A line for the log that would be repeated with every answer: to be logged once.
    Odd(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Dhcp6State {
    Soliciting { best: Option<Box<ServerMessage>> },
    Requesting { offer: Box<ServerMessage> },
    Bound { lease: Lease6, asked_at: Millis },
    Renewing { lease: Lease6, asked_at: Millis },
    Rebinding { lease: Lease6, asked_at: Millis },
    Asking,
    Informed,
}

/// A DHCPv6 client on one link.
pub struct Dhcp6Machine {
    client: Vec<u8>,
    association: u32,
    state: Dhcp6State,
    random: u64,
    xid: u32,
    began_at: Millis,
    wait: Millis,
    tries: u32,
    next_at: Millis,
    /// Refusals in a row.
    refusals: u32,
}

impl Dhcp6Machine {
    /// Makes a client. It asks for an address, or without `managed` only for other facts. `client` is its DUID; `seed`
    /// spreads the messages of clients that start together.
    pub fn new(client: Vec<u8>, mac: &[u8; 6], managed: bool, seed: u64, now: Millis) -> Self {
        let mut machine = Dhcp6Machine {
            client,
            association: u32::from_be_bytes([mac[2], mac[3], mac[4], mac[5]]),
            state: Dhcp6State::Asking,
            random: seed | 1,
            xid: 0,
            began_at: now,
            wait: 0,
            tries: 0,
            next_at: now,
            refusals: 0,
        };
        machine.begin(if managed { Dhcp6State::Soliciting { best: None } } else { Dhcp6State::Asking }, now);
        machine
    }

    /// When to call [`Dhcp6Machine::on_time`]. `None` when the lease is for ever.
    pub fn deadline(&self) -> Option<Millis> {
        (self.next_at != Millis::MAX).then_some(self.next_at)
    }

    /// A router says that addresses come by DHCPv6: asks for one from now on.
    pub fn become_managed(&mut self, now: Millis) {
        if matches!(self.state, Dhcp6State::Asking | Dhcp6State::Informed) {
            self.begin(Dhcp6State::Soliciting { best: None }, now);
        }
    }

    /// The link has a carrier again: renews at once.
    pub fn on_carrier(&mut self, now: Millis) {
        if matches!(self.state, Dhcp6State::Bound { .. } | Dhcp6State::Informed) {
            self.next_at = now;
        }
    }

    /// To be called at [`Dhcp6Machine::deadline`].
    pub fn on_time(&mut self, now: Millis) -> Vec<Dhcp6Action> {
        if now < self.next_at {
            return Vec::new();
        }
        match self.state.clone() {
            Dhcp6State::Soliciting { best: Some(offer) } => self.request(offer, now),
            Dhcp6State::Soliciting { best: None } => vec![self.send(MessageType::Solicit, None, vec![], now)],
            Dhcp6State::Requesting { .. } if self.tries >= REQUESTS => {
                self.begin(Dhcp6State::Soliciting { best: None }, now);
                vec![Dhcp6Action::Odd("no answer to the DHCPv6 request".into())]
            }
            Dhcp6State::Requesting { offer } => {
                let addresses = offer.addresses.iter().map(|(ip, ..)| *ip).collect();
                vec![self.send(MessageType::Request, Some(offer.server.clone()), addresses, now)]
            }
            Dhcp6State::Bound { lease, asked_at } => {
                self.begin(Dhcp6State::Renewing { lease, asked_at }, now);
                self.on_time(now)
            }
            Dhcp6State::Renewing { lease, asked_at } => {
                let end = after(asked_at, lease.rebind_s);
                if now >= end {
                    self.begin(Dhcp6State::Rebinding { lease, asked_at }, now);
                    return self.on_time(now);
                }
                let message = self.send(MessageType::Renew, Some(lease.server.clone()), vec![lease.ip], now);
                self.not_after(end, now);
                vec![message]
            }
            Dhcp6State::Rebinding { lease, asked_at } => {
                let end = after(asked_at, lease.valid_s);
                if now >= end {
                    self.begin(Dhcp6State::Soliciting { best: None }, now);
                    let note = ["the lease of ", &lease.ip.to_string(), " has ended"].concat();
                    return vec![Dhcp6Action::Note(note), Dhcp6Action::Lost(lease.ip)];
                }
                let message = self.send(MessageType::Rebind, None, vec![lease.ip], now);
                self.not_after(end, now);
                vec![message]
            }
            Dhcp6State::Informed => {
                self.begin(Dhcp6State::Asking, now);
                self.on_time(now)
            }
            Dhcp6State::Asking => vec![self.send(MessageType::InformationRequest, None, vec![], now)],
        }
    }

    /// Takes a UDP payload that came to port 546. Messages for other clients are ignored.
    pub fn on_packet(&mut self, payload: &[u8], now: Millis) -> Vec<Dhcp6Action> {
        let Ok(answer) = parse_answer(payload, self.xid, &self.client, self.association) else { return Vec::new() };
        match self.state.clone() {
            Dhcp6State::Soliciting { best } if answer.advertise => self.on_offer(best, answer, now),
            Dhcp6State::Soliciting { .. } if answer.rapid_commit => self.on_lease(answer, None, now),
            Dhcp6State::Requesting { .. } if !answer.advertise => self.on_lease(answer, None, now),
            Dhcp6State::Renewing { lease, .. } | Dhcp6State::Rebinding { lease, .. } if !answer.advertise => {
                self.on_lease(answer, Some(lease), now)
            }
            Dhcp6State::Asking if !answer.advertise => {
                let refresh_s = answer.facts.refresh_s.unwrap_or(REFRESH_S).max(SHORTEST_REFRESH_S);
                self.state = Dhcp6State::Informed;
                self.next_at = after(now, refresh_s);
                vec![Dhcp6Action::Bound(None, answer.facts)]
            }
            _ => Vec::new(),
        }
    }

    /// RFC 8415 section 18.2.1: until the first wait is over, a better offer may come. After that the first one is
    /// taken.
    fn on_offer(&mut self, best: Option<Box<ServerMessage>>, offer: ServerMessage, now: Millis) -> Vec<Dhcp6Action> {
        if offer.addresses.is_empty() {
            let why = offer.status.map_or("no address in it", status_name);
            return vec![Dhcp6Action::Odd(["DHCPv6 offer refused: ", why].concat())];
        }
        if offer.preference == BEST_PREFERENCE || self.tries > 1 {
            return self.request(Box::new(offer), now);
        }
        if best.is_none_or(|best| offer.preference > best.preference) {
            self.state = Dhcp6State::Soliciting { best: Some(Box::new(offer)) };
        }
        Vec::new()
    }

    fn request(&mut self, offer: Box<ServerMessage>, now: Millis) -> Vec<Dhcp6Action> {
        self.begin(Dhcp6State::Requesting { offer }, now);
        self.on_time(now)
    }

    fn on_lease(&mut self, answer: ServerMessage, old: Option<Lease6>, now: Millis) -> Vec<Dhcp6Action> {
        let kept = old.as_ref().and_then(|old| answer.addresses.iter().find(|(ip, ..)| *ip == old.ip));
        let Some((ip, preferred_s, valid_s)) = kept.or(answer.addresses.first()).copied() else {
            let why = answer.status.map_or("no address in it", status_name);
            let note = Dhcp6Action::Odd(["DHCPv6 lease refused: ", why].concat());
            // A server that has lost the association wants a new exchange (RFC 8415 section 18.2.10.1).
            self.begin(Dhcp6State::Soliciting { best: None }, now);
            self.next_at = now + (PAUSE_MS << self.refusals.min(8)).min(LONGEST_WAIT_MS);
            self.refusals += 1;
            let lost = old.map(|old| Dhcp6Action::Lost(old.ip));
            return std::iter::once(note).chain(lost).collect();
        };
        let lost = old.filter(|old| old.ip != ip).map(|old| Dhcp6Action::Lost(old.ip));
        let mut actions: Vec<Dhcp6Action> = lost.into_iter().collect();
        if valid_s < SHORTEST_LEASE_S {
            let (short, shortest) = (valid_s.to_string(), SHORTEST_LEASE_S.to_string());
            let text = ["a DHCPv6 lease of ", &short, " s is taken for one of ", &shortest, " s"].concat();
            actions.push(Dhcp6Action::Odd(text));
        }
        let valid_s = valid_s.max(SHORTEST_LEASE_S);
        // RFC 8415 section 14.2: half and four fifths of the preferred lifetime, when the server leaves T1 and T2 to
        // us.
        let span = if preferred_s == 0 { valid_s } else { preferred_s.max(SHORTEST_LEASE_S).min(valid_s) };
        let or = |server_s: u32, fraction: u32| if server_s > 0 { server_s } else { fraction };
        let floor = SHORTEST_RENEWAL_S.min(span / 2);
        let rebind_s = or(answer.rebind_s, span - span.div_ceil(5)).max(floor).min(valid_s);
        let renew_s = or(answer.renew_s, span / 2).max(floor).min(rebind_s);
        let lease = Lease6 { ip, preferred_s, valid_s, renew_s, rebind_s, server: answer.server };
        self.refusals = 0;
        self.next_at = after(now, lease.renew_s);
        self.state = Dhcp6State::Bound { lease: lease.clone(), asked_at: now };
        actions.push(Dhcp6Action::Bound(Some(lease), answer.facts));
        actions
    }

    fn begin(&mut self, state: Dhcp6State, now: Millis) {
        self.state = state;
        self.xid = (self.next_random() >> 40) as u32;
        self.began_at = now;
        (self.wait, self.tries, self.next_at) = (0, 0, now);
    }

    fn not_after(&mut self, end: Millis, now: Millis) {
        // Short leases allow shorter pauses, so that there are still several tries.
        let half = now + (end.saturating_sub(now) / 2).max(FIRST_WAIT_MS);
        self.next_at = self.next_at.min(half).min(end);
    }

    /// Makes a message and sets the next deadline. The wait doubles and is spread by a tenth (RFC 8415 section 15).
    fn send(
        &mut self,
        kind: MessageType,
        server: Option<Vec<u8>>,
        addresses: Vec<Ipv6Addr>,
        now: Millis,
    ) -> Dhcp6Action {
        let (first, longest) = match kind {
            MessageType::Renew | MessageType::Rebind => (FIRST_RENEWAL_WAIT_MS, LONGEST_RENEWAL_WAIT_MS),
            _ => (FIRST_WAIT_MS, LONGEST_WAIT_MS),
        };
        let elapsed = u16::try_from((now - self.began_at) / 10).unwrap_or(u16::MAX);
        let association = (kind != MessageType::InformationRequest).then_some((self.association, addresses));
        let message = ClientMessage { kind, xid: self.xid, elapsed, client: self.client.clone(), server, association };
        self.wait = (self.wait * 2).clamp(first, longest);
        self.next_at = now + self.wait + self.next_random() % (self.wait / 10);
        self.tries += 1;
        Dhcp6Action::Send(message.to_bytes())
    }

    /// xorshift64. It only spreads the messages of neighbours that boot together.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// The time `seconds` after `start`; [`Millis::MAX`] for an endless lease.
fn after(start: Millis, seconds: u32) -> Millis {
    if seconds == u32::MAX { Millis::MAX } else { start + u64::from(seconds) * 1000 }
}
