//! Collects what the routers of a link say, without clock and socket: solicits until a router answers, and sums up what
//! all of them said last.

use super::advert::{Advert, AdvertError, Preference, eui64_address, parse_advert, write_solicit};
use super::socket::{HOP_LIMIT, HeardAdvert};
use crate::netlink::address::{Address, FOREVER, RouteTo};
pub use bootwright_base::sys::Millis;
use std::net::{IpAddr, Ipv6Addr};

/// RFC 4861 section 10: RTR_SOLICITATION_INTERVAL.
const FIRST_WAIT_MS: Millis = 4_000;
/// RFC 7559 lets the wait double up to an hour. A node that boots must find a late router sooner.
const LONGEST_WAIT_MS: Millis = 32_000;
/// At most so many routers of a link are remembered.
const MOST_ROUTERS: usize = 4;

/// The routers of one link.
pub struct Routers {
    mac: [u8; 6],
    /// Address of each router, and when it said what.
    heard: Vec<(Ipv6Addr, Millis, Advert)>,
    next_solicit: Option<Millis>,
    wait: Millis,
    /// Nothing ends with its lifetime, because the root is on this network.
    keep: bool,
}

/// The sum at one point in time, from which lifetimes count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouterView {
    pub addresses: Vec<Address>,
    pub routes: Vec<RouteTo>,
    pub gateway: Option<Ipv6Addr>,
    pub mtu: Option<u32>,
    pub dns: Vec<Ipv6Addr>,
    pub search: Vec<String>,
    pub managed: bool,
    pub other: bool,
}

impl Routers {
    /// Solicits from `now` on.
    pub fn new(mac: [u8; 6], keep: bool, now: Millis) -> Routers {
        Routers { mac, heard: Vec::new(), next_solicit: Some(now), wait: FIRST_WAIT_MS, keep }
    }

    /// Whether a router was heard.
    pub fn any(&self) -> bool {
        !self.heard.is_empty()
    }

    /// The carrier is back: solicits again.
    pub fn on_carrier(&mut self, now: Millis) {
        (self.next_solicit, self.wait) = (Some(now), FIRST_WAIT_MS);
    }

    /// When the next solicitation is due.
    pub fn solicit_at(&self) -> Option<Millis> {
        self.next_solicit
    }

    /// The solicitation to send, if it is due.
    pub fn on_time(&mut self, now: Millis) -> Option<Vec<u8>> {
        self.next_solicit.filter(|at| now >= *at)?;
        self.next_solicit = Some(now + self.wait);
        self.wait = (self.wait * 2).min(LONGEST_WAIT_MS);
        Some(write_solicit(&self.mac))
    }

    /// Takes a message. Returns lines about what in it could not be used.
    ///
    /// # Errors
    /// [`AdvertError`] when it is no advertisement of a router on this link; it is ignored then.
    pub fn on_advert(&mut self, heard: &HeardAdvert, now: Millis) -> Result<Vec<String>, AdvertError> {
        let from = heard.from;
        if heard.hops != HOP_LIMIT {
            return Err(AdvertError::Hops { hops: heard.hops });
        }
        if !from.is_unicast_link_local() {
            return Err(AdvertError::Sender);
        }
        let mut advert = parse_advert(&heard.bytes)?;
        let odd = std::mem::take(&mut advert.odd).into_iter();
        let odd = odd.map(|text| ["router ", &from.to_string(), ": not used: ", &text].concat()).collect();
        self.next_solicit = None;
        let keep = self.keep;
        self.heard.retain(|(router, at, advert)| *router == from || keep || now < *at + longest(advert));
        // A router keeps its place, so that the order does not change with each advertisement.
        let known = self.heard.iter_mut().find(|(router, ..)| *router == from);
        if let Some(known) = known {
            *known = (from, now, advert);
        } else if self.heard.len() < MOST_ROUTERS {
            self.heard.push((from, now, advert));
        }
        Ok(odd)
    }

    /// When [`Routers::view`] changes next without a message: a router or name server expires. Addresses and routes
    /// expire in the kernel.
    pub fn expires_at(&self, now: Millis) -> Option<Millis> {
        let ends = |(_, at, advert): &(Ipv6Addr, Millis, Advert)| {
            let times = advert.dns.iter().map(|(_, s)| *s).chain(advert.search.iter().map(|(_, s)| *s));
            let at = *at;
            let times: Vec<Millis> = times.chain([u32::from(advert.router_s)]).map(|s| after(at, s)).collect();
            times.into_iter().filter(|end| *end > now && *end != Millis::MAX).min()
        };
        self.heard.iter().filter(|_| !self.keep).filter_map(ends).min()
    }

    /// The sum of all that has not expired.
    pub fn view(&self, now: Millis) -> RouterView {
        let mut view = RouterView::default();
        let mut best: Option<(Preference, Ipv6Addr, u32)> = None;
        for (router, at, advert) in &self.heard {
            let left = |lifetime_s: u32| self.left(*at, lifetime_s, now);
            if let Some(left_s) = left(u32::from(advert.router_s))
                && best.is_none_or(|(preference, ..)| advert.preference > preference)
            {
                best = Some((advert.preference, *router, left_s));
            }
            self.add_prefixes(&mut view, advert, &left);
            view.mtu = view.mtu.or(advert.mtu);
            view.managed |= advert.managed;
            view.other |= advert.other;
            for (server, _) in advert.dns.iter().filter(|(_, lifetime_s)| left(*lifetime_s).is_some()) {
                if !view.dns.contains(server) {
                    view.dns.push(*server);
                }
            }
            for (name, _) in advert.search.iter().filter(|(_, lifetime_s)| left(*lifetime_s).is_some()) {
                if !view.search.contains(name) {
                    view.search.push(name.clone());
                }
            }
        }
        if let Some((_, router, left_s)) = best {
            view.gateway = Some(router);
            let to = (Ipv6Addr::UNSPECIFIED.into(), 0);
            view.routes.push(RouteTo { to, via: Some(router.into()), expires_s: left_s });
        }
        view
    }

    fn add_prefixes(&self, view: &mut RouterView, advert: &Advert, left: &dyn Fn(u32) -> Option<u32>) {
        for prefix in &advert.prefixes {
            let Some(valid_s) = left(prefix.valid_s) else { continue };
            let to = (IpAddr::V6(prefix.prefix), prefix.length);
            if prefix.on_link && !view.routes.iter().any(|route| route.to == to) {
                view.routes.push(RouteTo { to, via: None, expires_s: valid_s });
            }
            let ip: IpAddr = eui64_address(prefix.prefix, &self.mac).into();
            // RFC 4862 section 5.5.3 d: the prefix and our 64 bits must make 128.
            if prefix.auto && prefix.length == 64 && !view.addresses.iter().any(|address| address.ip == ip) {
                let preferred_s = if self.keep { FOREVER } else { left(prefix.preferred_s).unwrap_or(0) };
                view.addresses.push(Address { ip, prefix: 64, valid_s, preferred_s, alone: true });
            }
        }
    }

    /// Seconds that are left of a lifetime; `None` when it is over or zero.
    fn left(&self, at: Millis, lifetime_s: u32, now: Millis) -> Option<u32> {
        match lifetime_s {
            0 => None,
            FOREVER => Some(FOREVER),
            _ if self.keep => Some(FOREVER),
            _ => {
                let left_s = after(at, lifetime_s).saturating_sub(now).div_ceil(1000);
                u32::try_from(left_s).ok().filter(|left_s| *left_s > 0)
            }
        }
    }
}

fn after(at: Millis, lifetime_s: u32) -> Millis {
    if lifetime_s == FOREVER { Millis::MAX } else { at + u64::from(lifetime_s) * 1000 }
}

/// Milliseconds after which nothing of the advertisement is valid.
fn longest(advert: &Advert) -> Millis {
    let times = advert.dns.iter().map(|(_, s)| *s).chain(advert.search.iter().map(|(_, s)| *s));
    let times = times.chain(advert.prefixes.iter().map(|p| p.valid_s)).chain([u32::from(advert.router_s)]);
    times.max().map_or(0, |s| u64::from(s) * 1000)
}

#[cfg(test)]
mod tests {
    use super::super::advert::tests::{advert, dns_option, prefix_option};
    use super::*;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().expect("an address")
    }

    fn heard(from: &str, bytes: Vec<u8>) -> HeardAdvert {
        HeardAdvert { from: ip(from), hops: HOP_LIMIT, bytes }
    }

    /// Takes in a good advertisement.
    fn hear(routers: &mut Routers, from: &str, bytes: &[u8], now: Millis) {
        assert_eq!(routers.on_advert(&heard(from, bytes.to_vec()), now), Ok(vec![]));
    }

    #[test]
    fn solicits_until_a_router_answers() {
        let mut routers = Routers::new(MAC, false, 0);
        let mut times = Vec::new();
        while times.len() < 6 {
            let at = routers.solicit_at().expect("still asking");
            assert!(routers.on_time(at.saturating_sub(1)).is_none() || at == 0);
            if routers.solicit_at() == Some(at) {
                assert!(routers.on_time(at).is_some());
            }
            times.push(at);
        }
        assert_eq!(times, [0, 4000, 12_000, 28_000, 60_000, 92_000]);
        let good = heard("fe80::1", advert(0, 0, &[]));
        for (bad, why) in [
            (heard("fe80::1", vec![0; 3]), AdvertError::Short { found: 3 }),
            (HeardAdvert { hops: 254, ..good.clone() }, AdvertError::Hops { hops: 254 }),
            (heard("2001:db8::1", good.bytes.clone()), AdvertError::Sender),
        ] {
            assert_eq!(routers.on_advert(&bad, 93_000), Err(why));
            assert!(routers.solicit_at().is_some() && !routers.any());
        }
        assert_eq!(routers.on_advert(&good, 93_000), Ok(vec![]));
        assert_eq!(routers.solicit_at(), None);
        routers.on_carrier(100_000);
        assert_eq!(routers.solicit_at(), Some(100_000));
    }

    #[test]
    fn the_best_router_wins_and_what_is_over_is_dropped() {
        let mut routers = Routers::new(MAC, false, 0);
        let prefix = prefix_option("2001:db8::", 64, 0xc0, 3600, 1800);
        hear(&mut routers, "fe80::1", &advert(0, 10, &[prefix, dns_option("2001:db8::53", 30)]), 0);
        hear(&mut routers, "fe80::2", &advert(0x48, 5, &[]), 1000);
        let view = routers.view(1000);
        assert_eq!(view.gateway, Some(ip("fe80::2")), "high preference");
        let address: IpAddr = ip("2001:db8::5054:ff:fe12:3456").into();
        let expected = Address { ip: address, prefix: 64, valid_s: 3599, preferred_s: 1799, alone: true };
        assert_eq!(view.addresses, [expected]);
        assert!(view.other && !view.managed && view.dns == [ip("2001:db8::53")]);
        let on_link = RouteTo { to: (ip("2001:db8::").into(), 64), via: None, expires_s: 3599 };
        assert_eq!(view.routes[0], on_link);
        assert_eq!(routers.expires_at(1000), Some(6000));
        assert_eq!(routers.view(6000).gateway, Some(ip("fe80::1")));
        assert_eq!(routers.view(10_000).gateway, None);
        assert_eq!(routers.expires_at(10_000), Some(30_000));
        assert!(routers.view(30_000).dns.is_empty());
        // The router says good-bye.
        hear(&mut routers, "fe80::1", &advert(0, 0, &[]), 2000);
        hear(&mut routers, "fe80::2", &advert(0, 0, &[]), 2000);
        assert_eq!(routers.view(2000), RouterView::default());
    }

    #[test]
    fn of_two_equal_routers_the_first_stays_whoever_speaks_last() {
        let mut routers = Routers::new(MAC, false, 0);
        for (now, from, dns) in [(0, "fe80::1", 1), (10, "fe80::2", 2), (20, "fe80::1", 1), (30, "fe80::2", 2)] {
            hear(&mut routers, from, &advert(0, 1800, &[dns_option(&format!("2001:db8::{dns}"), 600)]), now);
            let view = routers.view(now);
            assert_eq!((view.gateway, view.dns[0]), (Some(ip("fe80::1")), ip("2001:db8::1")), "{now}");
        }
    }

    #[test]
    fn with_a_root_on_the_network_nothing_ends() {
        let mut routers = Routers::new(MAC, true, 0);
        let prefix = prefix_option("2001:db8::", 64, 0xc0, 20, 10);
        hear(&mut routers, "fe80::1", &advert(0, 10, &[prefix, dns_option("2001:db8::53", 30)]), 0);
        let view = routers.view(1_000_000);
        assert_eq!((view.gateway, view.dns.len(), routers.expires_at(0)), (Some(ip("fe80::1")), 1, None));
        assert!(view.addresses.iter().all(|a| a.valid_s == FOREVER && a.preferred_s == FOREVER));
        assert!(view.routes.iter().all(|r| r.expires_s == FOREVER));
    }

    #[test]
    fn other_prefixes_give_no_address() {
        let mut routers = Routers::new(MAC, false, 0);
        let options = [
            prefix_option("2001:db8:1::", 48, 0x40, 60, 60),
            prefix_option("2001:db8:2::", 64, 0x80, 60, 60),
            prefix_option("2001:db8:3::", 64, 0xc0, 0, 0),
        ];
        let odd = routers.on_advert(&heard("fe80::1", advert(0, 0, &options)), 0);
        let line = "router fe80::1: not used: prefix 2001:db8:1::/48 for addresses, as its length is not 64";
        assert_eq!(odd, Ok(vec![line.to_string()]));
        let view = routers.view(0);
        assert_eq!((view.addresses.len(), view.routes.len(), view.gateway), (0, 1, None));
    }
}
