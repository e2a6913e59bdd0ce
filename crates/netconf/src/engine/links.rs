//! Looks at links: finds those that exist, makes virtual ones, and makes links candidates.

#![expect(
    clippy::indexing_slicing,
    reason = "slots and candidates are counted by the engine; nothing from the wire is an index"
)]

use super::candidate::{Candidate, Ipv4Client, Ipv6Client};
use super::{Engine, EngineError, is_global};
use crate::dhcp::{DhcpClient, DhcpMachine};
use crate::dhcp6::{Dhcp6Machine, message::duid};
use crate::link_param::{VirtualLink, VirtualLinkKind};
use crate::netlink::NetlinkError;
use crate::netlink::address::{AddressEvent, AddressState};
use crate::netlink::route::{Link, insert_link};
use crate::netlink::virtual_link::bond_attributes;
use crate::plan::{InterfaceChoice, is_named};
use crate::v6::routers::Routers;
use crate::v6::socket::RouterSocket;
use bootwright_contract::Ipv6Mode;
use std::net::IpAddr;

/// At most so many links are tried at the same time. Machines with more connected links should name one.
const MOST_CANDIDATES: usize = 8;

/// At most so many different lines are kept to say each once. A server that makes a new mistake in each answer must not
/// fill the boot record.
const MOST_SAID: usize = 100;

impl Engine<'_> {
    pub(super) fn forget_link(&mut self, index: u32) {
        self.links.retain(|link| link.index != index);
        self.addresses.retain(|address| address.index != index);
        let mut gone = false;
        for slot in &mut self.slots {
            slot.candidates.retain(|candidate| candidate.link.index != index);
            if slot.chosen == Some(index) {
                (slot.chosen, slot.v4, slot.v6) = (None, None, None);
                gone = true;
            }
        }
        if gone {
            self.report.note("the network interface is gone");
            self.tell();
        }
    }

    pub(super) fn update_link(&mut self, link: Link) {
        let now = (self.clock)();
        let had_carrier = match self.links.iter_mut().find(|known| known.index == link.index) {
            Some(known) => std::mem::replace(known, link.clone()).carrier,
            None => {
                insert_link(&mut self.links, link.clone());
                false
            }
        };
        let meant = self.slots.iter().any(|slot| slot.plan.select.rank(&link).is_some());
        if link.carrier != had_carrier && meant {
            let what = if link.carrier { ": carrier" } else { ": no carrier" };
            self.report.note(&[&link.name[..], what].concat());
        }
        for candidate in self.slots.iter_mut().flat_map(|slot| &mut slot.candidates) {
            if candidate.link.index == link.index {
                if link.carrier && !had_carrier {
                    candidate.on_carrier(now);
                }
                candidate.link = link.clone();
            }
        }
    }

    pub(super) fn update_address(&mut self, event: AddressEvent) {
        self.addresses.retain(|known| (known.index, known.ip) != (event.index, event.ip));
        if event.state != AddressState::Gone {
            self.addresses.push(event);
        }
        let ip = IpAddr::V6(event.ip);
        if !is_global(ip) {
            for candidate in self.slots.iter_mut().flat_map(|slot| &mut slot.candidates) {
                if let Some(v6) = candidate.v6.as_mut().filter(|_| candidate.link.index == event.index) {
                    v6.link_local = (event.state == AddressState::Usable).then_some(event.ip);
                }
            }
        }
        let name = self.links.iter().find(|link| link.index == event.index).map(|link| link.name.clone());
        let name = name.unwrap_or_default();
        if event.state == AddressState::Duplicate {
            self.report.note(&[&name, ": another node has the address ", &event.ip.to_string()].concat());
        }
        let mut ours = false;
        for slot in self.slots.iter_mut().filter(|slot| slot.chosen == Some(event.index)) {
            let Some(setup) = &mut slot.v6 else { continue };
            ours |= setup.addresses.iter().any(|address| address.ip == ip);
            if event.state == AddressState::Gone {
                setup.addresses.retain(|address| address.ip != ip);
            }
        }
        if ours && event.state == AddressState::Gone {
            self.report.note(&[&name, ": the address ", &event.ip.to_string(), " has ended"].concat());
        }
        if ours {
            self.tell();
        }
    }

    /// Makes virtual links, sets up the links that the plan uses, and makes those with a carrier candidates.
    pub(super) fn consider_links(&mut self) {
        for link in self.links.clone() {
            self.rename(&link);
        }
        for made in self.plan.made.clone() {
            self.make(&made);
        }
        for link in self.links.clone() {
            let is_lower = self
                .plan
                .made
                .iter()
                .any(|made| matches!(&made.how, VirtualLinkKind::Vlan { lower, .. } if is_named(&link, lower)));
            if is_lower && !link.up && !link.loopback {
                self.bring_up(&link);
            }
            for at in 0..self.slots.len() {
                let slot = &self.slots[at];
                let is_free = slot.chosen.is_none() && !slot.plan.is_off();
                if !is_free || slot.plan.select.rank(&link).is_none() {
                    continue;
                }
                if !self.is_taken(at, &link) {
                    self.consider(at, &link);
                } else if !at_any(&slot.plan.select) {
                    self.say_once([&link.name, ": already used; what else is planned for it is left out"].concat());
                }
            }
        }
    }

    /// Whether the link belongs to another interface of the plan or to a bond. An interface that names the link goes
    /// before one that takes any link; of two that name it (by name and by MAC) the first goes first.
    fn is_taken(&self, at: usize, link: &Link) -> bool {
        let member = |made: &VirtualLink| match &made.how {
            VirtualLinkKind::Bond { members, .. } => members.iter().any(|name| is_named(link, name)),
            VirtualLinkKind::Vlan { .. } => false,
        };
        let any = at_any(&self.slots[at].plan.select);
        let others = self.slots.iter().enumerate().filter(|(other, _)| *other != at);
        let mut named = others.filter(|(other, slot)| {
            let by_name = !at_any(&slot.plan.select) && slot.plan.select.rank(link).is_some();
            slot.chosen == Some(link.index) || by_name && (any || *other < at)
        });
        self.plan.made.iter().any(member) || named.next().is_some()
    }

    fn consider(&mut self, at: usize, link: &Link) {
        if !link.up {
            return self.bring_up(link);
        }
        let known = self.slots[at].candidates.iter().any(|c| c.link.index == link.index);
        if known || !link.carrier {
            return;
        }
        if self.slots[at].candidates.len() == MOST_CANDIDATES {
            return self.say_once([&link.name, ": not asked for an address, too many others are"].concat());
        }
        let now = (self.clock)();
        let Some(rank) = self.slots[at].plan.select.rank(link) else { return };
        let plan = &self.slots[at].plan;
        let client = DhcpClient { mac: link.mac, ..self.client.clone() };
        let v4 = plan.dhcp.then(|| {
            Ipv4Client::new(DhcpMachine::new(client, u64::from_ne_bytes(bootwright_base::sys::random()), now))
        });
        let v6 = (plan.ipv6 != Ipv6Mode::Off).then(|| {
            let socket = RouterSocket::open(link.index, &link.name);
            let failed = socket.as_ref().err().map(|error| [&link.name, ": ", &error.to_string()].concat());
            (Ipv6Client::new(Routers::new(link.mac, self.plan.keep, now), socket.ok()), failed)
        });
        let (mut v6, failed) = v6.unzip();
        if let Some(text) = failed.flatten() {
            self.say_once(text);
        }
        if let Some(v6) = &mut v6 {
            let local = |a: &&AddressEvent| {
                a.index == link.index && a.state == AddressState::Usable && a.ip.is_unicast_link_local()
            };
            v6.link_local = self.addresses.iter().find(local).map(|address| address.ip);
        }
        self.slots[at].candidates.push(Candidate { link: link.clone(), rank, since: now, v4, v6 });
    }

    fn bring_up(&mut self, link: &Link) {
        // The engine itself listens to routers, so the kernel must not. The file is missing when the kernel has no
        // IPv6.
        let _ = std::fs::write(["/proc/sys/net/ipv6/conf/", &link.name, "/accept_ra"].concat(), "0");
        let done = self.route.set_up(link.index);
        self.problem(&link.name, done);
    }

    fn rename(&mut self, link: &Link) {
        let wanted = self.plan.names.iter().find(|(_, mac)| !link.made_by_software && link.mac == *mac);
        let Some((name, _)) = wanted.filter(|(name, _)| *name != link.name && !link.has_master) else { return };
        let name = name.clone();
        let done = self.route.rename(link.index, &name);
        if done.is_ok() {
            self.replace_known(&Link { name, up: false, carrier: false, ..link.clone() });
        }
        self.problem(&link.name, done);
    }

    fn replace_known(&mut self, link: &Link) {
        if let Some(known) = self.links.iter_mut().find(|known| known.index == link.index) {
            *known = link.clone();
        }
    }

    /// Makes a virtual link as soon as its lower links exist. When they appear, an event calls this again.
    fn make(&mut self, made: &VirtualLink) {
        let own = self.links.iter().find(|link| link.name == made.name).cloned();
        match (&made.how, own) {
            (VirtualLinkKind::Vlan { lower, id }, None) => {
                let Some(lower) = self.links.iter().find(|link| is_named(link, lower)).map(|link| link.index) else {
                    return;
                };
                self.load_module("8021q", "");
                let done = self.route.make_vlan(&made.name, lower, *id);
                self.problem(&made.name, done);
            }
            (VirtualLinkKind::Bond { options, .. }, None) => match bond_attributes(options) {
                Ok(attributes) => {
                    // Without the option the module makes a `bond0` by itself.
                    self.load_module("bonding", "max_bonds=0");
                    let done = self.route.make_bond(&made.name, &attributes);
                    self.problem(&made.name, done);
                }
                Err(error) => self.say_once([&made.name, ": ", &error.to_string()].concat()),
            },
            (VirtualLinkKind::Bond { members, .. }, Some(bond)) => {
                let joins = |link: &&Link| !link.has_master && members.iter().any(|name| is_named(link, name));
                for link in self.links.clone().iter().filter(joins) {
                    let done = self.route.join(link.index, bond.index);
                    if done.is_ok() {
                        self.report.note(&[&link.name, ": goes into ", &bond.name].concat());
                        self.replace_known(&Link { has_master: true, ..link.clone() });
                    }
                    self.problem(&link.name, done);
                }
                self.set_made_mtu(made, &bond);
            }
            (VirtualLinkKind::Vlan { .. }, Some(vlan)) => self.set_made_mtu(made, &vlan),
        }
    }

    fn set_made_mtu(&mut self, made: &VirtualLink, link: &Link) {
        if let Some(mtu) = crate::setup::choose_mtu(link, made.mtu) {
            let done = self.route.set_mtu(link.index, mtu);
            if done.is_ok() {
                self.replace_known(&Link { mtu, ..link.clone() });
            }
            self.problem(&link.name, done);
        }
    }

    fn load_module(&mut self, name: &str, options: &str) {
        if let Err(reason) = self.report.load_module(name, options) {
            // The driver may be built in: making the link shows whether it is there.
            self.say_once(reason);
        }
    }

    pub(super) fn say_once(&mut self, text: String) {
        if self.said.len() < MOST_SAID && !self.said.contains(&text) {
            self.report.note(&text);
            self.said.push(text);
        }
    }

    /// Notes once what the kernel refused.
    pub(super) fn problem(&mut self, interface: &str, done: Result<(), NetlinkError>) {
        if let Err(cause) = done {
            let problem = EngineError::Setup { interface: interface.into(), cause };
            self.say_once(problem.to_string());
            self.last_problem = Some(problem);
        }
    }

    /// A link was chosen: notes for each other candidate why it was not.
    pub(super) fn say_who_lost(&mut self, at: usize, winner: &Link) {
        let slot = &self.slots[at];
        let mut lines = Vec::new();
        for link in self.links.iter().filter(|link| link.index != winner.index && link.ethernet && !link.has_master) {
            let other = self.slots.iter().any(|slot| slot.chosen == Some(link.index));
            if link.loopback || other || link.made_by_software && slot.plan.select.rank(link).is_none() {
                continue;
            }
            let candidate = slot.candidates.iter().find(|c| c.link.index == link.index);
            let why = match (slot.plan.select.rank(link), candidate) {
                (None, _) if !slot.first => continue,
                (None, _) => ["not the interface ", &slot.plan.select.describe()].concat(),
                (_, Some(candidate)) => candidate.why_not().into(),
                (_, None) if !link.carrier => "no carrier".into(),
                (_, None) => "not asked, too many others are".into(),
            };
            lines.push([&link.name, ": not used (", &why, "), ", &winner.name, " is"].concat());
        }
        lines.iter().for_each(|line| self.report.note(line));
    }

    /// What the node's own interface lacks: the interface itself, a carrier, or an address.
    pub(super) fn what_lacks(&self) -> EngineError {
        let names =
            |links: &mut dyn Iterator<Item = &Link>| links.map(|link| link.name.clone()).collect::<Vec<_>>().join(", ");
        let slot = &self.slots[0];
        let select = &slot.plan.select;
        if !slot.candidates.is_empty() {
            let asked = names(&mut slot.candidates.iter().map(|c| &c.link));
            let only_v6 = self.plan.need_v6 || !slot.plan.dhcp;
            return if only_v6 { EngineError::NoIpv6(asked) } else { EngineError::NoLease(asked) };
        }
        let meant = names(&mut self.links.iter().filter(|link| select.rank(link).is_some()));
        if !meant.is_empty() {
            return EngineError::NoCarrier(meant);
        }
        let found = names(&mut self.links.iter().filter(|link| !link.loopback));
        let found = if found.is_empty() { "none".into() } else { found };
        EngineError::NoInterface { wanted: select.describe(), found }
    }
}

fn at_any(select: &InterfaceChoice) -> bool {
    matches!(select, InterfaceChoice::Any(_))
}

impl Ipv6Client {
    /// Starts the DHCPv6 client, or changes its mode, as the plan or the routers ask.
    pub(super) fn start_dhcp(&mut self, client: &DhcpClient, link: &Link, mode: Ipv6Mode, now: u64) {
        let view = self.routers.view(now);
        let managed = view.managed || mode == Ipv6Mode::Dhcp;
        if !managed && !view.other || self.link_local.is_none() {
            return;
        }
        match &mut self.dhcp {
            Some(machine) if managed => machine.become_managed(now),
            Some(_) => {}
            None => {
                let id = duid(client.uuid.as_ref(), &link.mac);
                let seed = u64::from_ne_bytes(bootwright_base::sys::random());
                self.dhcp = Some(Dhcp6Machine::new(id, &link.mac, managed, seed, now));
            }
        }
    }
}
