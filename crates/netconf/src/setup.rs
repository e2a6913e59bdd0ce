//! The configuration of a link, how it is applied by rtnetlink, and the files that describe the network.

use super::dhcp::Lease;
use super::dhcp6::Lease6;
use super::dhcp6::message::Dhcp6Facts;
use super::files::{self, FileError, Name};
use super::ip_param::format_mac;
use super::netlink::NetlinkError;
use super::netlink::address::{Address, Cidr, RouteTo, holds};
use super::netlink::route::{Link, Route};
use super::plan::{Interface, Plan};
use super::v6::routers::RouterView;
use bootwright_contract::Ipv6Mode;
use serde::Serialize;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// RFC 791: every host accepts packets of this size. A smaller MTU from a server is a mistake or an attack.
const SMALLEST_MTU: u32 = 576;
/// RFC 8200 section 5. Below this MTU the kernel removes all IPv6 addresses of the link.
const SMALLEST_IPV6_MTU: u32 = 1280;

/// What is known of the network, for services and commands. `None`: not known yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NetworkFacts {
    pub interface: Option<String>,
    /// The node's address, IPv4 if it has one.
    pub ip: Option<IpAddr>,
    pub prefix: u8,
    /// The node's IPv6 address, also when `ip` is IPv4.
    pub ip6: Option<Ipv6Addr>,
    pub mac: Option<String>,
    pub gateway: Option<IpAddr>,
    pub hostname: String,
    /// Whether the name was given to the node, and not made from the MAC.
    #[serde(skip)]
    pub named: bool,
    pub dns: Vec<IpAddr>,
    pub search: Vec<String>,
    pub ntp: Vec<IpAddr>,
    /// The DHCP server; `None` with static addresses. The length of its lease is in seconds.
    pub server: Option<IpAddr>,
    pub lease_s: Option<u32>,
    /// The server to boot from: an address or a name, from DHCP (next server or option 66).
    pub boot_server: Option<String>,
    /// DHCP option 17.
    pub root_path: Option<String>,
}

impl NetworkFacts {
    /// The host of a root whose source names none: the boot server, else the DHCP server.
    pub fn boot_host(&self) -> Option<String> {
        self.boot_server.clone().or_else(|| self.server.map(|server| server.to_string()))
    }
}

/// The configuration of a link from one source, such as a lease.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkSetup {
    /// Addresses; the first one is the node's.
    pub addresses: Vec<Address>,
    /// Routes in the order in which they are added.
    pub routes: Vec<RouteTo>,
    pub gateway: Option<IpAddr>,
    pub mtu: Option<u32>,
    pub dns: Vec<IpAddr>,
    pub search: Vec<String>,
    pub hostname: Option<String>,
    pub ntp: Vec<IpAddr>,
    pub server: Option<IpAddr>,
    pub boot_server: Option<String>,
    pub root_path: Option<String>,
    pub lease_s: Option<u32>,
}

/// The folders of the files; tests have their own.
#[derive(Debug, Clone)]
pub struct NetworkFiles {
    pub etc: PathBuf,
    pub run: PathBuf,
}

impl NetworkSetup {
    /// The configuration from a lease. Only the node's own (`first`) interface takes default routes.
    pub fn from_lease(lease: &Lease, interface: &Interface, first: bool) -> NetworkSetup {
        let address = (lease.address.into(), lease.prefix);
        let to_route = |to: Ipv4Addr, prefix, via: Ipv4Addr| {
            RouteTo::lasting((to.into(), prefix), Some(via.into()).filter(|_| !via.is_unspecified()))
        };
        let mut routes: Vec<RouteTo> =
            lease.routes.iter().map(|r| to_route(r.destination, r.prefix, r.gateway)).collect();
        routes.extend(lease.gateway.map(|gateway| to_route(Ipv4Addr::UNSPECIFIED, 0, gateway)));
        routes.retain(|route| first || !route.is_default());
        routes.extend(interface.routes.iter().filter(|route| route.to.0.is_ipv4()));
        NetworkSetup {
            routes: reachable(&[address], routes),
            addresses: vec![Address::lasting(address)],
            gateway: lease.default_gateway().map(IpAddr::V4).filter(|_| first),
            mtu: interface.mtu.or(lease.mtu.map(|mtu| lease_mtu(mtu.into(), interface))),
            dns: lease.dns.iter().copied().map(IpAddr::V4).collect(),
            search: lease.search.clone(),
            hostname: lease.hostname.clone(),
            ntp: lease.ntp.iter().copied().map(IpAddr::V4).collect(),
            server: Some(lease.server.into()),
            boot_server: lease.boot_server.clone(),
            root_path: lease.root_path.clone(),
            lease_s: Some(lease.lease_s),
        }
    }

    /// The static addresses of one family.
    pub fn fixed(interface: &Interface, v4: bool) -> NetworkSetup {
        let ours: Vec<Cidr> = interface.addresses.iter().copied().filter(|(ip, _)| ip.is_ipv4() == v4).collect();
        let gateway = interface.gateways.iter().copied().find(|gateway| gateway.is_ipv4() == v4);
        let everywhere: Cidr = if v4 { ([0; 4].into(), 0) } else { ([0; 16].into(), 0) };
        let mut routes: Vec<RouteTo> =
            gateway.iter().map(|gateway| RouteTo::lasting(everywhere, Some(*gateway))).collect();
        routes.extend(interface.routes.iter().filter(|route| route.to.0.is_ipv4() == v4));
        NetworkSetup {
            routes: reachable(&ours, routes),
            addresses: ours.into_iter().map(Address::lasting).collect(),
            gateway,
            mtu: interface.mtu,
            ..NetworkSetup::default()
        }
    }

    /// The configuration from routers and DHCPv6 servers; `elapsed_s` seconds of the lease have passed. A DHCPv6
    /// address has the prefix length 128, because routers say what is on the link.
    pub fn from_v6(
        view: RouterView,
        lease: Option<(&Lease6, u32)>,
        facts: &Dhcp6Facts,
        interface: &Interface,
        first: bool,
    ) -> NetworkSetup {
        let mut addresses = Vec::new();
        if let Some((lease, elapsed_s)) = lease {
            let left = |s: u32| if s == u32::MAX { s } else { s.saturating_sub(elapsed_s) };
            let (valid_s, preferred_s) = (left(lease.valid_s), left(lease.preferred_s));
            addresses.push(Address { ip: lease.ip.into(), prefix: 128, valid_s, preferred_s, alone: true });
        }
        addresses.extend(view.addresses);
        let mut routes: Vec<RouteTo> = view.routes.into_iter().filter(|route| first || !route.is_default()).collect();
        routes.extend(interface.routes.iter().filter(|route| route.to.0.is_ipv6()));
        let mut dns: Vec<Ipv6Addr> = view.dns;
        dns.extend(&facts.dns);
        let mut search = view.search;
        search.extend(facts.search.iter().cloned());
        NetworkSetup {
            addresses,
            routes,
            gateway: view.gateway.map(IpAddr::V6).filter(|_| first),
            mtu: None,
            dns: unique(dns.into_iter().map(IpAddr::V6)),
            search: unique(search),
            ntp: facts.ntp.iter().copied().map(IpAddr::V6).collect(),
            ..NetworkSetup::default()
        }
    }
}

/// Puts on-link routes first, and adds a host route to each gateway outside of all networks (as with /32 leases): the
/// kernel refuses gateways that it cannot reach. Link-local gateways are always reachable.
fn reachable(addresses: &[Cidr], routes: Vec<RouteTo>) -> Vec<RouteTo> {
    let (mut ordered, far): (Vec<RouteTo>, Vec<RouteTo>) = routes.into_iter().partition(|route| route.via.is_none());
    for gateway in far.iter().filter_map(|route| route.via) {
        let near = addresses.iter().any(|address| holds(*address, gateway));
        let known = ordered.iter().any(|route| holds(route.to, gateway));
        let local = matches!(gateway, IpAddr::V6(ip) if ip.is_unicast_link_local());
        if !near && !known && !local {
            ordered.push(RouteTo::lasting((gateway, if gateway.is_ipv4() { 32 } else { 128 }), None));
        }
    }
    ordered.extend(far);
    ordered
}

fn unique<T: PartialEq>(all: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for one in all {
        if !found.contains(&one) {
            found.push(one);
        }
    }
    found
}

/// The MTU of a lease, raised to what the interface needs.
pub fn lease_mtu(mtu: u32, interface: &Interface) -> u32 {
    let has_v6 = interface.ipv6 != Ipv6Mode::Off || interface.has_fixed(false);
    mtu.max(if has_v6 { SMALLEST_IPV6_MTU } else { SMALLEST_MTU })
}

/// The MTU to set, within the limits of the device and at least [`SMALLEST_MTU`]; `None` when it stays.
pub fn choose_mtu(link: &Link, wanted: Option<u32>) -> Option<u32> {
    let largest = if link.max_mtu == 0 { u32::MAX } else { link.max_mtu };
    let mtu = wanted?.clamp(SMALLEST_MTU.max(link.min_mtu).min(largest), largest);
    (mtu != link.mtu).then_some(mtu)
}

/// Applies a configuration. Existing addresses and routes are renewed. Returns lines about routes that the kernel
/// refused.
pub fn apply(route: &mut Route, link: &Link, setup: &NetworkSetup) -> Result<Vec<NetlinkError>, NetlinkError> {
    if let Some(mtu) = choose_mtu(link, setup.mtu) {
        route.set_mtu(link.index, mtu)?;
    }
    for address in &setup.addresses {
        route.add_address(link.index, address)?;
    }
    // The kernel refuses an IPv6 source address during duplicate address detection, and chooses well by itself.
    let source = setup.addresses.first().map(|address| address.ip).filter(IpAddr::is_ipv4);
    let add = |to| route.add_route(link.index, to, source).err();
    Ok(setup.routes.iter().filter_map(add).collect())
}

/// Facts for services and commands. Each comes from the first of `setups` that has it: the node's own interface first,
/// IPv4 before IPv6. The first `own` setups are those of that interface.
pub fn facts(link: Option<&Link>, own: usize, setups: &[&NetworkSetup], plan: &Plan, name: Name) -> NetworkFacts {
    let mine = setups.get(..own).unwrap_or(setups);
    let first = mine.iter().find_map(|setup| setup.addresses.first());
    let ip6 = mine.iter().flat_map(|setup| &setup.addresses).find_map(|address| match address.ip {
        IpAddr::V6(ip) => Some(ip),
        IpAddr::V4(_) => None,
    });
    let lists =
        |of: fn(&NetworkSetup) -> &Vec<IpAddr>| unique(setups.iter().flat_map(|setup| of(setup).iter().copied()));
    let mut dns = plan.dns.clone();
    if dns.is_empty() && plan.peer_dns {
        dns = lists(|setup| &setup.dns);
    }
    let mut search = plan.search.clone();
    if search.is_empty() && plan.peer_dns {
        search = unique(setups.iter().flat_map(|setup| setup.search.iter().cloned()));
    }
    NetworkFacts {
        interface: link.map(|link| link.name.clone()),
        ip: first.map(|address| address.ip),
        prefix: first.map_or(0, |address| address.prefix),
        ip6,
        mac: link.map(|link| format_mac(&link.mac)),
        gateway: mine.iter().find_map(|setup| setup.gateway),
        hostname: name.text,
        named: name.given,
        dns,
        search,
        ntp: unique(plan.ntp.iter().copied().chain(lists(|setup| &setup.ntp))),
        server: mine.iter().find_map(|setup| setup.server).or(plan.server),
        boot_server: mine.iter().find_map(|setup| setup.boot_server.clone()),
        root_path: mine.iter().find_map(|setup| setup.root_path.clone()),
        lease_s: mine.iter().find_map(|setup| setup.lease_s),
    }
}

/// Writes `resolv.conf`, `hosts` and `lease.json`. Without name servers an image's own `resolv.conf` stays.
pub fn write_files(places: &NetworkFiles, facts: &NetworkFacts) -> Result<(), FileError> {
    let resolv_conf = places.etc.join("resolv.conf");
    if !facts.dns.is_empty() || !resolv_conf.exists() {
        let link = facts.interface.as_deref();
        files::replace_file(&resolv_conf, &files::format_resolv_conf(&facts.dns, &facts.search, link))?;
    }
    let hosts = places.etc.join("hosts");
    let present = std::fs::read_to_string(&hosts).unwrap_or_default();
    files::replace_file(&hosts, &files::format_hosts(&present, facts.ip, &facts.hostname))?;
    let lease = serde_json::to_string(facts).unwrap_or_default();
    files::replace_file(&places.run.join("lease.json"), &lease)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::cmdline::Cmdline;
    use bootwright_contract::fixture::boot_config;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn gateways_off_the_network_get_a_route_first() {
        for (own, net, gateway, long) in
            [("10.0.0.9", "10.0.0.0", "10.0.0.1", 32), ("2001:db8::9", "2001:db8::", "2001:db8::1", 128)]
        {
            let (own, net, gateway) = (ip(own), ip(net), ip(gateway));
            let everywhere = if own.is_ipv4() { ip("0.0.0.0") } else { ip("::") };
            let default = RouteTo::lasting((everywhere, 0), Some(gateway));
            assert_eq!(reachable(&[(own, 24)], vec![default]), [default]);
            let host = RouteTo::lasting((gateway, long), None);
            assert_eq!(reachable(&[(own, long)], vec![default]), [host, default]);
            let near = RouteTo::lasting((net, long - 8), None);
            assert_eq!(reachable(&[(own, long)], vec![default, near]), [near, default]);
        }
        let local = RouteTo::lasting((ip("::"), 0), Some(ip("fe80::1")));
        assert_eq!(reachable(&[], vec![local]), [local]);
    }

    #[test]
    fn mtu_within_limits() {
        let mut link = super::super::tests::link(1, "eth0");
        (link.mtu, link.min_mtu, link.max_mtu) = (1500, 68, 9000);
        for (wanted, chosen) in [
            (None, None),
            (Some(1500), None),
            (Some(1400), Some(1400)),
            (Some(9999), Some(9000)),
            (Some(68), Some(576)),
        ] {
            assert_eq!(choose_mtu(&link, wanted), chosen, "{wanted:?}");
        }
        (link.min_mtu, link.max_mtu) = (0, 0);
        assert_eq!(choose_mtu(&link, Some(9999)), Some(9999));
    }

    #[test]
    fn the_first_interface_decides_and_others_add_servers() {
        let plan = Plan {
            ntp: vec![ip("10.0.0.7")],
            ..crate::plan::plan(&boot_config().network, &Cmdline::default()).expect("good")
        };
        let address = |text: &str| vec![Address::lasting((ip(text), 24))];
        let v4 = NetworkSetup {
            addresses: address("10.0.0.9"),
            gateway: Some(ip("10.0.0.1")),
            dns: vec![ip("10.0.0.1")],
            ..NetworkSetup::default()
        };
        let v6 = NetworkSetup {
            addresses: address("2001:db8::9"),
            dns: vec![ip("2001:db8::1"), ip("10.0.0.1")],
            ..NetworkSetup::default()
        };
        let other = NetworkSetup {
            addresses: address("10.9.0.9"),
            gateway: Some(ip("10.9.0.1")),
            ntp: vec![ip("10.9.0.1")],
            ..NetworkSetup::default()
        };
        let link = crate::tests::link(1, "eth0");
        let name = || Name { text: "n".into(), given: true };
        let all = facts(Some(&link), 2, &[&v4, &v6, &other], &plan, name());
        assert_eq!(
            (all.ip, all.ip6.map(IpAddr::V6), all.gateway),
            (Some(ip("10.0.0.9")), Some(ip("2001:db8::9")), Some(ip("10.0.0.1")))
        );
        assert_eq!(all.dns, [ip("10.0.0.1"), ip("2001:db8::1")]);
        assert_eq!(all.ntp, [ip("10.0.0.7"), ip("10.9.0.1")]);
        let alone = facts(Some(&link), 1, &[&v6], &Plan { peer_dns: false, ..plan }, name());
        assert_eq!((alone.ip, alone.dns.len()), (Some(ip("2001:db8::9")), 0));
    }

    #[test]
    fn files_are_written_and_an_images_own_resolv_conf_stays() {
        let folder = std::env::temp_dir().join(format!("bootwright-net-files-{}", std::process::id()));
        let places = NetworkFiles { etc: folder.join("etc"), run: folder.join("run") };
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect(name);
        let mut facts = NetworkFacts { hostname: "n1".into(), ip: Some(ip("10.0.2.15")), ..NetworkFacts::default() };
        write_files(&places, &facts).expect("a new folder");
        assert_eq!(read("etc/resolv.conf"), "# no name server is known\n");
        std::fs::write(folder.join("etc/resolv.conf"), "nameserver 9.9.9.9\n").expect("writable");
        write_files(&places, &facts).expect("again");
        assert_eq!(read("etc/resolv.conf"), "nameserver 9.9.9.9\n");
        facts.dns = vec![ip("10.0.2.3")];
        write_files(&places, &facts).expect("again");
        assert_eq!(read("etc/resolv.conf"), "nameserver 10.0.2.3\n");
        assert!(read("etc/hosts").contains("10.0.2.15 n1"));
        assert!(read("run/lease.json").contains("\"ip\":\"10.0.2.15\""));
        std::fs::remove_dir_all(folder).expect("ours");
    }
}
