//! Configures links: puts addresses and routes on them, removes them, and reports the outcome.

#![expect(
    clippy::indexing_slicing,
    reason = "slots and candidates are counted by the engine; nothing from the wire is an index"
)]

use super::{Engine, EngineError, NetworkOutcome, PlannedInterface, is_usable};
use crate::dhcp::Lease;
use crate::netlink::address::{FOREVER, RouteTo};
use crate::netlink::route::Link;
use crate::setup::{self, NetworkSetup};
use std::net::IpAddr;

impl Engine<'_> {
    /// Puts the setup of one family on the link in place of the one before it.
    pub(super) fn set_up(&mut self, at: usize, link: &Link, setup: NetworkSetup, v4: bool) {
        let slot = &mut self.slots[at];
        let before = if v4 { slot.v4.take() } else { slot.v6.take() };
        let setup = if self.plan.keep { keep_old(setup, before.as_ref()) } else { setup };
        if let Some(old) = &before {
            for address in old.addresses.iter().filter(|old| !setup.addresses.iter().any(|new| new.ip == old.ip)) {
                let done = self.route.remove_address(link.index, (address.ip, address.prefix));
                self.problem(&link.name, done);
            }
            let stays = |old: &RouteTo| setup.routes.iter().any(|new| (new.to, new.via) == (old.to, old.via));
            // The kernel removes IPv4 routes together with their address, so only IPv6 routes are removed here.
            for route in old.routes.iter().filter(|old| old.to.0.is_ipv6() && !stays(old)) {
                let done = self.route.remove_route(link.index, route);
                self.problem(&link.name, done);
            }
        }
        // Nothing is done when a server answers with the same again.
        if before.as_ref() != Some(&setup) {
            match setup::apply(&mut self.route, link, &setup) {
                Err(error) => return self.problem(&link.name, Err(error)),
                // Refused routes are only noted: the address is of use without them.
                Ok(refused) => {
                    for cause in refused {
                        let interface = link.name.clone();
                        self.say_once(EngineError::Setup { interface, cause }.to_string());
                    }
                }
            }
        }
        let changed = before.is_none_or(|before| without_times(&before) != without_times(&setup));
        let slot = &mut self.slots[at];
        *(if v4 { &mut slot.v4 } else { &mut slot.v6 }) = Some(setup);
        if changed || v4 {
            self.tell();
        }
    }

    /// Takes over what routers and DHCPv6 servers say on the link that won.
    pub(super) fn follow_routers(&mut self, at: usize) {
        let now = (self.clock)();
        let slot = &self.slots[at];
        let winner = slot.candidates.iter().find(|c| Some(c.link.index) == slot.chosen);
        let Some((candidate, v6)) = winner.and_then(|c| Some((c, c.v6.as_ref()?))) else { return };
        if !v6.routers.any() && v6.lease.is_none() && v6.facts == Default::default() {
            return;
        }
        let link = candidate.link.clone();
        let view = v6.routers.view(now);
        let (mtu, too_large) = (view.mtu.filter(|mtu| *mtu <= link.mtu), view.mtu.filter(|mtu| *mtu > link.mtu));
        let lease = v6.lease.as_ref().map(|(lease, at)| (lease, u32::try_from((now - at) / 1000).unwrap_or(u32::MAX)));
        let mut setup = NetworkSetup::from_v6(view, lease, &v6.facts, &slot.plan, slot.first);
        if slot.plan.has_fixed(false) {
            let fixed = NetworkSetup::fixed(&slot.plan, false);
            setup.addresses.splice(0..0, fixed.addresses);
            setup.routes.extend(fixed.routes);
            setup.gateway = fixed.gateway.or(setup.gateway);
        }
        if self.plan.keep {
            for address in &mut setup.addresses {
                (address.valid_s, address.preferred_s) = (FOREVER, FOREVER);
            }
        }
        if let Some(mtu) = too_large {
            let (name, own) = (&link.name, link.mtu);
            self.say_once(format!("{name}: a router names an MTU of {mtu}, and the link has {own}: left out"));
        }
        if let Some(mtu) = mtu {
            // This MTU is for IPv6 alone. The kernel refuses values that are out of range and keeps its own.
            let _ = std::fs::write(["/proc/sys/net/ipv6/conf/", &link.name, "/mtu"].concat(), mtu.to_string());
        }
        self.set_up(at, &link, setup, false);
    }

    /// Notes when the MTU of the lease is not the one that is used.
    pub(super) fn say_what_mtu_holds(&mut self, at: usize, link: &Link, lease: &Lease) {
        let plan = &self.slots[at].plan;
        let (Some(mtu), None) = (lease.mtu.map(u32::from), plan.mtu) else { return };
        let used = setup::lease_mtu(mtu, plan);
        if used != mtu {
            self.say_once(format!("{}: the MTU of {mtu} that the DHCP server names is too small: {used}", link.name));
        }
    }

    /// A lease has ended. The address is kept while the root is on the network: without it the root would be lost.
    pub(super) fn lose(&mut self, at: usize, link: &Link, ip: IpAddr) {
        if self.plan.keep {
            let text = [&link.name, ": keeps ", &ip.to_string(), ", as the root comes over it"].concat();
            return self.report.note(&text);
        }
        let slot = &mut self.slots[at];
        let setup = if ip.is_ipv4() { &mut slot.v4 } else { &mut slot.v6 };
        let Some(held) = setup else { return };
        let Some(place) = held.addresses.iter().position(|address| address.ip == ip) else { return };
        let prefix = held.addresses.remove(place).prefix;
        if ip.is_ipv4() {
            *setup = None;
        }
        let done = self.route.remove_address(link.index, (ip, prefix));
        self.problem(&link.name, done);
        self.report.note(&[&link.name, " lost its address ", &ip.to_string()].concat());
        self.tell();
    }

    /// Reports the state of the network.
    pub(super) fn tell(&self) {
        let usable: Vec<(usize, NetworkSetup)> =
            self.slots.iter().enumerate().filter_map(|(at, slot)| Some((at, self.usable_v6(slot)?))).collect();
        let mut own = 0;
        let mut setups = Vec::new();
        for (at, slot) in self.slots.iter().enumerate() {
            setups.extend(&slot.v4);
            setups.extend(usable.iter().filter(|(of, _)| *of == at).map(|(_, setup)| setup));
            if at == 0 {
                own = setups.len();
            }
        }
        let link = self.links.iter().find(|link| Some(link.index) == self.slots[0].chosen).filter(|_| own > 0);
        self.report.changed(&NetworkOutcome { link, setups, own, up: link.is_some() && self.is_up() });
    }

    /// The IPv6 setup with those addresses that passed duplicate address detection.
    pub(super) fn usable_v6(&self, slot: &PlannedInterface) -> Option<NetworkSetup> {
        let (index, mut setup) = (slot.chosen?, slot.v6.clone()?);
        setup.addresses.retain(|address| is_usable(&self.addresses, index, address.ip));
        Some(setup)
    }
}

/// The new setup with the addresses of the old one beside its own.
fn keep_old(mut setup: NetworkSetup, before: Option<&NetworkSetup>) -> NetworkSetup {
    let old = before.map(|before| &before.addresses[..]).unwrap_or_default();
    let gone = old.iter().filter(|old| !setup.addresses.iter().any(|new| new.ip == old.ip));
    let gone: Vec<_> = gone.copied().collect();
    setup.addresses.extend(gone);
    setup
}

/// The setup without the lifetimes, which change with each answer.
fn without_times(setup: &NetworkSetup) -> NetworkSetup {
    let mut setup = setup.clone();
    for address in &mut setup.addresses {
        (address.valid_s, address.preferred_s) = (0, 0);
    }
    for route in &mut setup.routes {
        route.expires_s = 0;
    }
    setup
}
