//! The event loop of the network. Links appear and get a carrier; those that an interface of the plan may use ask for
//! addresses; one of them is chosen, configured and kept up.

#![expect(
    clippy::indexing_slicing,
    reason = "slots and candidates are counted by the engine; nothing from the wire is an index"
)]

mod apply;
mod candidate;
mod links;
mod race;

use super::dhcp::{DhcpAction, DhcpClient};
use super::dhcp6::Dhcp6Action;
use super::netlink::NetlinkError;
use super::netlink::address::{AddressEvent, AddressState};
use super::netlink::route::{Link, LinkEvent, Route};
use super::plan::{Interface, InterfaceChoice, Plan};
use super::setup::NetworkSetup;
use bootwright_contract::Ipv6Mode;
use candidate::Candidate;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
pub use race::Millis;
use race::{Runner, Verdict, decide};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;

/// When routers answer and no DHCPv4 server does within this time, the network counts as IPv6-only.
const IPV6_ALONE_MS: Millis = 5_000;

/// After so long without an address the console says what is waited for. Most networks answer within a second.
const SILENT_MS: Millis = 3_000;

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
    #[error("no IPv6 address on {0}")]
    NoIpv6(String),
    #[error("{interface}: {cause}")]
    Setup { interface: String, cause: NetlinkError },
}

/// The state of the network.
pub struct NetworkOutcome<'a> {
    /// The link of the node's own interface (the first one of the plan).
    pub link: Option<&'a Link>,
    /// All setups that are usable: first the `own` ones of the node's own interface, IPv4 before IPv6, then those of
    /// the others.
    pub setups: Vec<&'a NetworkSetup>,
    pub own: usize,
    pub up: bool,
}

/// How the engine reports to the program that runs it.
pub trait EngineReport {
    /// A line for people.
    fn note(&self, text: &str);
    /// The state of the network has changed.
    fn changed(&self, outcome: &NetworkOutcome<'_>);
    /// Loads a kernel module that a virtual link needs.
    ///
    /// # Errors
    /// The reason in words.
    fn load_module(&self, name: &str, options: &str) -> Result<(), String>;
}

/// An interface of the plan, and how far it is.
struct PlannedInterface {
    plan: Interface,
    /// Whether it is the node's own interface.
    first: bool,
    candidates: Vec<Candidate>,
    /// Index of the link that was chosen.
    chosen: Option<u32>,
    v4: Option<NetworkSetup>,
    /// From routers and servers, or static. Its addresses need not be usable yet.
    v6: Option<NetworkSetup>,
    look_at: Option<Millis>,
}

/// Sets up all interfaces of a plan and keeps them up.
pub struct Engine<'a> {
    plan: Plan,
    route: Route,
    links: Vec<Link>,
    slots: Vec<PlannedInterface>,
    addresses: Vec<AddressEvent>,
    client: DhcpClient,
    last_problem: Option<EngineError>,
    /// Lines that were reported and are not to be repeated.
    said: Vec<String>,
    report: &'a dyn EngineReport,
    clock: fn() -> Millis,
}

impl<'a> Engine<'a> {
    /// Sets the loopback link up and reads the list of links. The MAC in `client` is replaced by that of each link.
    pub fn new(
        plan: Plan,
        client: DhcpClient,
        report: &'a dyn EngineReport,
        clock: fn() -> Millis,
    ) -> Result<Self, NetlinkError> {
        let mut route = Route::open()?;
        let links = route.links()?;
        // Fails on kernels without IPv6, which have no such addresses.
        let addresses = route.ipv6_addresses().unwrap_or_default();
        for link in links.iter().filter(|link| link.loopback && !link.up) {
            route.set_up(link.index)?;
        }
        let slot = |(at, interface): (usize, &Interface)| PlannedInterface {
            plan: interface.clone(),
            first: at == 0,
            candidates: Vec::new(),
            chosen: None,
            v4: None,
            v6: None,
            look_at: None,
        };
        let slots = plan.interfaces.iter().enumerate().map(slot).collect();
        let said = Vec::new();
        let mut engine =
            Engine { plan, route, links, slots, addresses, client, last_problem: None, said, report, clock };
        engine.consider_links();
        Ok(engine)
    }

    /// The MAC of the first usable link, from which a name is made while there is no address.
    pub fn any_mac(&self) -> Option<[u8; 6]> {
        let select = &self.slots[0].plan.select;
        self.links.iter().find(|link| select.rank(link).is_some()).map(|link| link.mac)
    }

    /// Waits until the node's own interface is set up: for the plan's time until there is a carrier, and as long again
    /// until there is an address. Notes once what it waits for, when that takes longer than [`SILENT_MS`].
    pub fn wait_until_up(&mut self) -> Result<(), EngineError> {
        let timeout = u64::from(self.plan.timeout_s) * 1000;
        let mut deadline = (self.clock)() + timeout;
        let mut silent_until = Some((self.clock)() + SILENT_MS);
        let mut asking = !self.slots[0].candidates.is_empty();
        while !self.is_up() {
            let now = (self.clock)();
            if now >= deadline {
                return Err(self.last_problem.take().unwrap_or_else(|| self.what_lacks()));
            }
            if silent_until.is_some_and(|until| until <= now) {
                silent_until = None;
                self.report.note(&["waiting: ", &self.what_lacks().to_string()].concat());
            }
            self.step(silent_until.into_iter().chain([deadline]).min())?;
            if !asking && !self.slots[0].candidates.is_empty() {
                asking = true;
                deadline = (self.clock)() + timeout;
            }
        }
        Ok(())
    }

    /// Whether the node's own interface has all addresses that the plan asks for.
    fn is_up(&self) -> bool {
        let slot = &self.slots[0];
        if slot.plan.is_off() {
            return true;
        }
        let v6 = self.usable_v6(slot).is_some_and(|setup| !setup.addresses.is_empty());
        if self.plan.need_v6 {
            return v6;
        }
        let plan = &slot.plan;
        if plan.has_fixed(true) && slot.v4.is_none() || plan.has_fixed(false) && !v6 {
            return false;
        }
        match plan.dhcp {
            true => slot.v4.is_some() || v6 && !slot.has_offer(),
            false => v6 || slot.v4.is_some() || plan.link_local && slot.chosen.is_some(),
        }
    }

    /// Waits for an event, at most until `until`, and handles it.
    pub fn step(&mut self, until: Option<Millis>) -> Result<(), EngineError> {
        let now = (self.clock)();
        let candidates = || self.slots.iter().flat_map(|slot| &slot.candidates);
        let looks = self.slots.iter().filter_map(|slot| slot.look_at);
        let wanted = candidates().filter_map(|c| c.deadline(now)).chain(looks).chain(until).min();
        let wait = match wanted {
            _ if self.route.socket.has_pending() => PollTimeout::ZERO,
            None => PollTimeout::NONE,
            Some(at) => PollTimeout::from(at.saturating_sub(now).min(60_000) as u16),
        };
        let mut fds = vec![PollFd::new(self.route.socket.as_fd(), PollFlags::POLLIN)];
        fds.extend(candidates().flat_map(Candidate::descriptors).map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        match poll(&mut fds, wait) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(EngineError::Poll(errno)),
        }
        drop(fds);
        self.read_links()?;
        for at in 0..self.slots.len() {
            self.run_v4(at);
            self.run_v6(at);
            self.run_race(at);
        }
        Ok(())
    }

    fn read_links(&mut self) -> Result<(), EngineError> {
        let events = match self.route.link_events()? {
            Some(events) => events,
            None => {
                let links = self.route.links()?.into_iter().map(LinkEvent::Changed);
                let addresses = self.route.ipv6_addresses()?.into_iter().map(LinkEvent::Address);
                links.chain(addresses).collect()
            }
        };
        if events.is_empty() {
            return Ok(());
        }
        for event in events {
            match event {
                LinkEvent::Gone { index } => self.forget_link(index),
                LinkEvent::Changed(link) => self.update_link(link),
                LinkEvent::Address(event) => self.update_address(event),
            }
        }
        self.consider_links();
        Ok(())
    }

    fn run_v4(&mut self, at: usize) {
        let now = (self.clock)();
        let mut work = Vec::new();
        for candidate in &mut self.slots[at].candidates {
            let index = candidate.link.index;
            let actions = candidate.v4.as_mut().map(|v4| v4.turn(now)).unwrap_or_default();
            work.extend(actions.into_iter().map(|action| (index, action)));
        }
        for (index, action) in work {
            self.act(at, index, action);
        }
    }

    /// Carries out an action of the DHCPv4 client on link `index`, whose candidate may have been dropped meanwhile.
    fn act(&mut self, at: usize, index: u32, action: DhcpAction) {
        let now = (self.clock)();
        let Some(candidate) = self.slots[at].candidates.iter_mut().find(|c| c.link.index == index) else { return };
        let link = candidate.link.clone();
        let Some(v4) = &mut candidate.v4 else { return };
        let failed = match action {
            DhcpAction::Note(text) => Some(text),
            DhcpAction::Odd(text) => {
                self.say_once([&link.name, ": ", &text].concat());
                None
            }
            DhcpAction::Offered => {
                v4.offer_at = Some(now);
                if self.slots[at].chosen == Some(index) {
                    self.accept(at);
                }
                None
            }
            DhcpAction::Refused => {
                v4.offer_at = None;
                self.reopen_race(at);
                None
            }
            DhcpAction::Lost(address) => {
                self.lose(at, &link, address.into());
                None
            }
            DhcpAction::Bound(lease) => {
                v4.close();
                self.say_what_mtu_holds(at, &link, &lease);
                let setup = NetworkSetup::from_lease(&lease, &self.slots[at].plan, self.slots[at].first);
                self.set_up(at, &link, setup, true);
                None
            }
            DhcpAction::Broadcast(payload) => v4.broadcast(&link, &payload).err().map(|error| error.to_string()),
            DhcpAction::Unicast { to, from, payload } => {
                v4.unicast(&link, from, to, &payload).err().map(|error| error.to_string())
            }
        };
        if let Some(text) = failed {
            self.report.note(&[&link.name, ": ", &text].concat());
        }
    }

    /// Accepts the offer on the chosen link, if there is one.
    fn accept(&mut self, at: usize) {
        let now = (self.clock)();
        let slot = &mut self.slots[at];
        let Some(winner) = slot.candidates.iter_mut().find(|c| Some(c.link.index) == slot.chosen) else { return };
        let index = winner.link.index;
        let actions = winner.v4.as_mut().map(|v4| v4.machine.accept(now)).unwrap_or_default();
        for action in actions {
            self.act(at, index, action);
        }
    }

    fn run_v6(&mut self, at: usize) {
        let now = (self.clock)();
        let (mut notes, mut odd, mut work, mut changed) = (Vec::new(), Vec::new(), Vec::new(), false);
        let (chosen, mode) = (self.slots[at].chosen, self.slots[at].plan.ipv6);
        for candidate in &mut self.slots[at].candidates {
            let link = &candidate.link;
            let Some(v6) = &mut candidate.v6 else { continue };
            match v6.hear(now) {
                Ok(false) => {}
                Ok(true) => {
                    let view = v6.routers.view(now);
                    if !view.addresses.is_empty() || view.managed {
                        v6.heard_at.get_or_insert(now);
                    }
                    changed |= chosen == Some(link.index);
                }
                Err(error) => {
                    v6.socket = None;
                    notes.push([&link.name, ": ", &error.to_string()].concat());
                }
            }
            odd.extend(v6.odd.drain(..).map(|text| [&link.name, ": ", &text].concat()));
            if chosen == Some(link.index) {
                changed |= v6.routers.expires_at(now.saturating_sub(1)).is_some_and(|end| end <= now);
                v6.start_dhcp(&self.client, link, mode, now);
                match v6.turn(link.index, now) {
                    Ok(actions) => work.extend(actions),
                    Err(error) => {
                        v6.dhcp_socket = None;
                        notes.push([&link.name, ": DHCPv6: ", &error.to_string()].concat());
                    }
                }
            }
        }
        for note in notes {
            self.report.note(&note);
        }
        for text in odd {
            self.say_once(text);
        }
        for action in work {
            changed |= self.act6(at, action);
        }
        if changed {
            self.follow_routers(at);
        }
    }

    /// Carries out an action of a DHCPv6 client. Returns true when the setup has to be made anew.
    fn act6(&mut self, at: usize, action: Dhcp6Action) -> bool {
        let now = (self.clock)();
        let slot = &mut self.slots[at];
        let Some(winner) = slot.candidates.iter_mut().find(|c| Some(c.link.index) == slot.chosen) else { return false };
        let link = winner.link.clone();
        let Some(v6) = &mut winner.v6 else { return false };
        match action {
            Dhcp6Action::Send(_) => false,
            Dhcp6Action::Note(text) => {
                self.report.note(&[&link.name, ": ", &text].concat());
                false
            }
            Dhcp6Action::Odd(text) => {
                self.say_once([&link.name, ": ", &text].concat());
                false
            }
            Dhcp6Action::Bound(lease, facts) => {
                (v6.lease, v6.facts) = (lease.map(|lease| (lease, now)), facts);
                true
            }
            Dhcp6Action::Lost(address) => {
                if !self.plan.keep {
                    v6.lease = None;
                }
                self.lose(at, &link, address.into());
                !self.plan.keep
            }
        }
    }

    /// Chooses a candidate if it is time, and begins its setup.
    fn run_race(&mut self, at: usize) {
        let now = (self.clock)();
        let slot = &mut self.slots[at];
        if slot.chosen.is_some() {
            slot.look_at = None;
            return;
        }
        let runners: Vec<Runner> =
            slot.candidates.iter().map(|c| Runner { rank: c.rank, ready_at: slot.plan.ready_at(c) }).collect();
        match decide(&runners, now) {
            Verdict::Wait(at) => slot.look_at = at,
            Verdict::Choose(place) => {
                slot.look_at = None;
                let link = slot.candidates[place].link.clone();
                slot.chosen = Some(link.index);
                self.say_who_lost(at, &link);
                self.slots[at].candidates.retain(|c| c.link.index == link.index);
                self.begin(at, &link);
            }
        }
    }

    /// Begins with the chosen link: its static addresses, its offer, what its routers said.
    fn begin(&mut self, at: usize, link: &Link) {
        for v4 in [true, false] {
            let plan = &self.slots[at].plan;
            // An interface that needs only the link itself gets an empty setup.
            if plan.has_fixed(v4) || !v4 && plan.link_local {
                self.set_up(at, link, NetworkSetup::fixed(plan, v4), v4);
            }
        }
        self.accept(at);
        self.run_v6(at);
        self.follow_routers(at);
    }

    /// The offer was refused: other links get another chance.
    fn reopen_race(&mut self, at: usize) {
        if self.slots[at].v4.is_none() && self.slots[at].v6.is_none() {
            self.slots[at].chosen = None;
            self.consider_links();
        }
    }
}

impl PlannedInterface {
    fn has_offer(&self) -> bool {
        self.candidates.iter().any(|c| c.v4.as_ref().is_some_and(|v4| v4.offer_at.is_some()))
    }
}

impl Interface {
    /// The time from which a candidate can be used; `None` when it cannot yet.
    fn ready_at(&self, candidate: &Candidate) -> Option<Millis> {
        let heard_at = candidate.v6.as_ref().and_then(|v6| v6.heard_at);
        // Static addresses, link-local only, and forced DHCPv6 depend on nobody's answer.
        let fixed = !self.addresses.is_empty() || self.link_local;
        let since = (fixed || self.ipv6 == Ipv6Mode::Dhcp).then_some(candidate.since);
        if !self.dhcp {
            return if fixed { since } else { heard_at.or(since) };
        }
        let offer_at = candidate.v4.as_ref().and_then(|v4| v4.offer_at);
        // With several possible links, silence is no reason to choose one: another link may have the server.
        let named = since.filter(|_| !matches!(self.select, InterfaceChoice::Any(_)));
        offer_at.or(heard_at.or(named).map(|at| at + IPV6_ALONE_MS))
    }
}

/// Whether an address is not link-local.
fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip != Ipv4Addr::UNSPECIFIED,
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    }
}

/// Whether the kernel has finished duplicate address detection for the address.
fn is_usable(addresses: &[AddressEvent], index: u32, ip: IpAddr) -> bool {
    let IpAddr::V6(ip) = ip else { return true };
    addresses.iter().any(|known| (known.index, known.ip, known.state) == (index, ip, AddressState::Usable))
}
