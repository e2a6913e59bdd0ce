//! The network's event loop: links come and get a carrier, candidates ask for leases, the first one wins and is kept.

use super::dhcp::socket::{PacketSocket, send_renewal};
use super::dhcp::{Action, Client, Machine};
use super::ip_param::format_mac;
use super::netlink::NetlinkError;
use super::netlink::route::{Link, LinkEvent, Route, insert_link};
use super::plan::{Plan, Select, Source};
use super::setup::{self, Setup};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;

/// Links that ask at the same time; a machine with more has its cables in by the dozen and should name one.
const MOST_CANDIDATES: usize = 8;

/// Milliseconds since the kernel started.
pub type Millis = u64;

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error("cannot wait for events: {}", .0.desc())]
    Poll(Errno),
    #[error("no network interface {wanted}, found: {found}")]
    NoInterface { wanted: String, found: String },
    #[error("no carrier on {0}")]
    NoCarrier(String),
    #[error("no DHCP lease on {0}")]
    NoLease(String),
    #[error("{interface}: {cause}")]
    Setup { interface: String, cause: NetlinkError },
}

/// What the engine tells its owner.
pub trait Report {
    /// A line for people.
    fn note(&self, text: &str);
    /// The link has this setup now, or `None` for the link when it lost its address.
    fn changed(&self, link: &Link, setup: Option<&Setup>);
}

/// A link that asks for a lease.
struct Candidate {
    link: Link,
    machine: Machine,
    socket: Option<PacketSocket>,
    renewal: Option<UdpSocket>,
}

/// The state of the network.
pub struct Engine<'a> {
    plan: Plan,
    route: Route,
    links: Vec<Link>,
    candidates: Vec<Candidate>,
    /// Index of the link that is set up, and with what.
    bound: Option<(u32, Setup)>,
    client: Client,
    last_problem: Option<EngineError>,
    report: &'a dyn Report,
    clock: fn() -> Millis,
}

impl<'a> Engine<'a> {
    /// Sets the loopback link up and looks at what links there are. `client`'s MAC is filled in for each link.
    pub fn new(
        plan: Plan,
        client: Client,
        report: &'a dyn Report,
        clock: fn() -> Millis,
    ) -> Result<Self, NetlinkError> {
        let mut route = Route::open()?;
        let links = route.links()?;
        for link in links.iter().filter(|link| link.loopback && !link.up) {
            route.set_up(link.index)?;
        }
        let mut engine = Engine {
            plan,
            route,
            links,
            candidates: Vec::new(),
            bound: None,
            client,
            last_problem: None,
            report,
            clock,
        };
        engine.consider_links();
        Ok(engine)
    }

    /// The first real link's MAC, for the node's name while there is no address.
    pub fn any_mac(&self) -> Option<[u8; 6]> {
        self.links.iter().find(|link| self.plan.select.matches(link)).map(|link| link.mac)
    }

    /// Waits until a link is set up: `timeout_s` for a carrier, and as long again for a lease.
    pub fn wait_until_up(&mut self) -> Result<(), EngineError> {
        if self.plan.source == Source::None {
            return Ok(());
        }
        let timeout = u64::from(self.plan.timeout_s) * 1000;
        let mut deadline = (self.clock)() + timeout;
        let mut asking = !self.candidates.is_empty();
        while self.bound.is_none() {
            if (self.clock)() >= deadline {
                return Err(self.why_down());
            }
            self.step(Some(deadline))?;
            if !asking && !self.candidates.is_empty() {
                asking = true;
                deadline = (self.clock)() + timeout;
            }
        }
        Ok(())
    }

    /// Sleeps until something happens or `until` has come, and deals with it.
    pub fn step(&mut self, until: Option<Millis>) -> Result<(), EngineError> {
        let wanted = self.candidates.iter().filter_map(|c| c.machine.deadline()).chain(until).min();
        let wait = match wanted {
            _ if self.route.socket.has_pending() => PollTimeout::ZERO,
            None => PollTimeout::NONE,
            Some(at) => {
                let left = at.saturating_sub((self.clock)()).min(60_000);
                PollTimeout::from(left as u16)
            }
        };
        let mut fds = vec![PollFd::new(self.route.socket.as_fd(), PollFlags::POLLIN)];
        let sockets = self.candidates.iter().filter_map(|c| c.socket.as_ref());
        fds.extend(sockets.map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, wait) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(EngineError::Poll(errno)),
        }
        drop(fds);
        self.read_links()?;
        self.run_candidates();
        Ok(())
    }

    fn read_links(&mut self) -> Result<(), EngineError> {
        let events = match self.route.link_events()? {
            Some(events) => events,
            None => self.route.links()?.into_iter().map(LinkEvent::Changed).collect(),
        };
        if events.is_empty() {
            return Ok(());
        }
        for event in events {
            match event {
                LinkEvent::Gone { index } => self.forget_link(index),
                LinkEvent::Changed(link) => self.update_link(link),
            }
        }
        self.consider_links();
        Ok(())
    }

    fn forget_link(&mut self, index: u32) {
        self.links.retain(|link| link.index != index);
        self.candidates.retain(|candidate| candidate.link.index != index);
        if self.bound.as_ref().is_some_and(|(bound, _)| *bound == index) {
            self.bound = None;
            self.report.note("the network interface is gone");
        }
    }

    fn update_link(&mut self, link: Link) {
        let now = (self.clock)();
        let had_carrier = match self.links.iter_mut().find(|known| known.index == link.index) {
            Some(known) => std::mem::replace(known, link.clone()).carrier,
            None => {
                insert_link(&mut self.links, link.clone());
                false
            }
        };
        if link.carrier != had_carrier && self.plan.select.matches(&link) {
            let what = if link.carrier { ": carrier" } else { ": no carrier" };
            self.report.note(&[&link.name[..], what].concat());
        }
        if let Some(candidate) = self.candidates.iter_mut().find(|c| c.link.index == link.index) {
            if link.carrier && !had_carrier {
                candidate.machine.on_carrier(now);
            }
            candidate.link = link;
        }
    }

    /// Sets links up that the plan means, and makes those with a carrier candidates or sets them up at once.
    fn consider_links(&mut self) {
        if self.plan.source == Source::None || self.bound.is_some() {
            return;
        }
        for link in self.links.clone() {
            if !self.plan.select.matches(&link) {
                continue;
            }
            if !link.up {
                if let Err(error) = self.route.set_up(link.index) {
                    self.problem(&link.name, error);
                }
            } else if link.carrier {
                self.use_link(link);
            }
        }
    }

    fn use_link(&mut self, link: Link) {
        if self.bound.is_some() || self.candidates.iter().any(|c| c.link.index == link.index) {
            return;
        }
        if let Source::Static { addresses, gateway } = &self.plan.source {
            let setup = Setup::fixed(addresses, *gateway, &self.plan);
            return self.set_up(&link, setup);
        }
        if self.candidates.len() == MOST_CANDIDATES {
            return self.report.note(&[&link.name, ": not asked for a lease, too many others are"].concat());
        }
        let now = (self.clock)();
        let client = Client { mac: link.mac, ..self.client.clone() };
        let mac = link.mac.iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
        // Neighbours differ in their MACs, boots in their times; the odd constant spreads both over all bits.
        let seed = (mac ^ now << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.candidates.push(Candidate { machine: Machine::new(client, seed, now), link, socket: None, renewal: None });
    }

    fn run_candidates(&mut self) {
        let now = (self.clock)();
        let mut work = Vec::new();
        for candidate in &mut self.candidates {
            let index = candidate.link.index;
            let mut actions = Vec::new();
            match candidate.receive() {
                Ok(payloads) => {
                    for payload in payloads {
                        actions.extend(candidate.machine.on_packet(&payload, now));
                    }
                }
                Err(note) => actions.push(note),
            }
            actions.extend(candidate.machine.on_time(now));
            work.extend(actions.into_iter().map(|action| (index, action)));
        }
        for (index, action) in work {
            self.act(index, action);
        }
    }

    /// Carries out one action of the candidate on link `index`; it may be out of the race by now.
    fn act(&mut self, index: u32, action: Action) {
        let Some(candidate) = self.candidates.iter_mut().find(|c| c.link.index == index) else { return };
        let name = candidate.link.name.clone();
        match action {
            Action::Note(text) => self.report.note(&[&name, ": ", &text].concat()),
            Action::Lost(address) => self.take_down(index, address),
            Action::Bound(lease) => {
                candidate.close();
                let link = candidate.link.clone();
                let setup = Setup::from_lease(&lease, &self.plan);
                self.keep_only(index);
                self.set_up(&link, setup);
            }
            Action::Broadcast(payload) => {
                if let Err(error) = candidate.broadcast(&payload) {
                    self.report.note(&[&name, ": ", &error.to_string()].concat());
                }
            }
            Action::Unicast { to, from, payload } => {
                if let Err(error) = candidate.unicast(from, to, &payload) {
                    self.report.note(&[&name, ": ", &error.to_string()].concat());
                }
            }
        }
    }

    /// The race is over: says of each loser that it lost.
    fn keep_only(&mut self, index: u32) {
        let Some(winner) = self.candidates.iter().find(|c| c.link.index == index) else { return };
        let reason = [": no lease yet, ", &winner.link.name, " was first"].concat();
        for loser in self.candidates.iter().filter(|c| c.link.index != index) {
            self.report.note(&[&loser.link.name[..], &reason].concat());
        }
        self.candidates.retain(|c| c.link.index == index);
    }

    fn set_up(&mut self, link: &Link, setup: Setup) {
        let before = self.bound.take();
        if let Some((index, old)) = &before {
            for (address, prefix) in old.addresses.iter().filter(|address| !setup.addresses.contains(address)) {
                if let Err(error) = self.route.remove_address(*index, *address, *prefix) {
                    self.problem(&link.name, error);
                }
            }
        }
        // A server that answers with the same again costs nothing.
        if before.as_ref().is_none_or(|(index, old)| (*index, old) != (link.index, &setup))
            && let Err(error) = setup::apply(&mut self.route, link, &setup)
        {
            self.problem(&link.name, error);
            return;
        }
        self.report.changed(link, Some(&setup));
        self.bound = Some((link.index, setup));
    }

    fn take_down(&mut self, index: u32, address: Ipv4Addr) {
        let Some((bound, setup)) = self.bound.take_if(|(bound, _)| *bound == index) else { return };
        let Some(link) = self.links.iter().find(|link| link.index == bound).cloned() else { return };
        let prefix = setup.addresses.iter().find(|(a, _)| *a == address).map_or(32, |(_, prefix)| *prefix);
        if let Err(error) = self.route.remove_address(bound, address, prefix) {
            self.problem(&link.name, error);
        }
        self.report.changed(&link, None);
    }

    fn problem(&mut self, interface: &str, cause: NetlinkError) {
        let problem = EngineError::Setup { interface: interface.into(), cause };
        self.report.note(&problem.to_string());
        self.last_problem = Some(problem);
    }

    fn why_down(&mut self) -> EngineError {
        if let Some(problem) = self.last_problem.take() {
            return problem;
        }
        let names =
            |links: &mut dyn Iterator<Item = &Link>| links.map(|link| link.name.clone()).collect::<Vec<_>>().join(", ");
        if !self.candidates.is_empty() {
            return EngineError::NoLease(names(&mut self.candidates.iter().map(|c| &c.link)));
        }
        let meant = names(&mut self.links.iter().filter(|link| self.plan.select.matches(link)));
        if !meant.is_empty() {
            return EngineError::NoCarrier(meant);
        }
        let wanted = match &self.plan.select {
            Select::Mac(mac) => ["with the MAC ", &format_mac(mac)].concat(),
            Select::Name(name) => ["`", name, "`"].concat(),
            Select::Carrier => "at all".into(),
        };
        let found = names(&mut self.links.iter().filter(|link| !link.loopback));
        EngineError::NoInterface { wanted, found: if found.is_empty() { "none".into() } else { found } }
    }
}

impl Candidate {
    /// What has come in; a link that went down makes the socket fail once, and then it is opened anew.
    fn receive(&mut self) -> Result<Vec<Vec<u8>>, Action> {
        let mut payloads = Vec::new();
        let Some(socket) = &self.socket else { return Ok(payloads) };
        loop {
            match socket.receive() {
                Ok(Some(payload)) => payloads.push(payload),
                Ok(None) => return Ok(payloads),
                Err(error) => {
                    self.socket = None;
                    return Err(Action::Note(error.to_string()));
                }
            }
        }
    }

    fn open(&mut self) -> Result<&PacketSocket, super::dhcp::socket::SocketError> {
        if self.socket.is_none() {
            self.socket = Some(PacketSocket::open(self.link.index)?);
        }
        match &self.socket {
            Some(socket) => Ok(socket),
            None => unreachable!("it was opened above"),
        }
    }

    fn broadcast(&mut self, payload: &[u8]) -> Result<(), super::dhcp::socket::SocketError> {
        self.open()?.broadcast(payload)
    }

    fn unicast(
        &mut self,
        from: Ipv4Addr,
        to: Ipv4Addr,
        payload: &[u8],
    ) -> Result<(), super::dhcp::socket::SocketError> {
        self.open()?;
        self.renewal = None;
        self.renewal = Some(send_renewal(&self.link.name, from, to, payload)?);
        Ok(())
    }

    /// Nothing is expected until the lease is renewed.
    fn close(&mut self) {
        self.socket = None;
        self.renewal = None;
    }
}
