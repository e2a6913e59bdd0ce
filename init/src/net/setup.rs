//! Puts an address set on a link: rtnetlink requests in order, then the files and the hostname.

use super::dhcp::Lease;
use super::files::{self, FileError};
use super::ip_param::format_mac;
use super::netlink::NetlinkError;
use super::netlink::route::{Link, Route, mask};
use super::plan::Plan;
use serde::Serialize;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

/// RFC 791: what every host takes in; a smaller MTU from a server is a mistake or an attack.
const SMALLEST_MTU: u32 = 576;

/// What services may use; `None` as long as it is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Facts {
    pub interface: Option<String>,
    /// The node's address: the IPv4 one if there is one.
    pub ip: Option<IpAddr>,
    pub prefix: u8,
    pub mac: Option<String>,
    pub gateway: Option<IpAddr>,
    pub hostname: String,
    pub dns: Vec<IpAddr>,
    pub search: Vec<String>,
    pub ntp: Vec<IpAddr>,
    /// The DHCP server and the length of its lease in seconds; `None` when static.
    pub server: Option<IpAddr>,
    pub lease_s: Option<u32>,
    /// The server to boot from, an address or a name (DHCP's next server or option 66).
    pub boot_server: Option<String>,
    /// DHCP option 17.
    pub root_path: Option<String>,
}

impl Facts {
    /// The host that a root without one comes from: the boot server, else the DHCP server.
    pub fn boot_host(&self) -> Option<String> {
        self.boot_server.clone().or_else(|| self.server.map(|server| server.to_string()))
    }
}

/// One route: destination with prefix, and the gateway unless it is on the link.
pub type RouteTo = ((Ipv4Addr, u8), Option<Ipv4Addr>);

/// What a link shall have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setup {
    /// Addresses with prefixes; the first is the node's.
    pub addresses: Vec<(Ipv4Addr, u8)>,
    /// In the order in which they are added.
    pub routes: Vec<RouteTo>,
    pub gateway: Option<Ipv4Addr>,
    pub mtu: Option<u32>,
    pub dns: Vec<Ipv4Addr>,
    pub search: Vec<String>,
    pub hostname: Option<String>,
    pub ntp: Vec<Ipv4Addr>,
    pub server: Option<Ipv4Addr>,
    pub boot_server: Option<String>,
    pub root_path: Option<String>,
    pub lease_s: Option<u32>,
}

/// Where the files go; a test has its own.
#[derive(Debug, Clone)]
pub struct Places {
    pub etc: PathBuf,
    pub run: PathBuf,
}

impl Setup {
    /// What a lease says, with the plan over it.
    pub fn from_lease(lease: &Lease, plan: &Plan) -> Setup {
        let mut routes: Vec<RouteTo> = lease
            .routes
            .iter()
            .map(|r| ((r.destination, r.prefix), Some(r.gateway).filter(|gateway| !gateway.is_unspecified())))
            .collect();
        routes.extend(lease.gateway.map(|gateway| ((Ipv4Addr::UNSPECIFIED, 0), Some(gateway))));
        let addresses = vec![(lease.address, lease.prefix)];
        let or =
            |own: &Vec<Ipv4Addr>, theirs: &Vec<Ipv4Addr>| if own.is_empty() { theirs.clone() } else { own.clone() };
        Setup {
            routes: reachable(&addresses, routes),
            addresses,
            gateway: lease.default_gateway(),
            mtu: plan.mtu.or(lease.mtu.map(u32::from)),
            dns: or(&plan.dns, &lease.dns),
            search: if plan.search.is_empty() { lease.search.clone() } else { plan.search.clone() },
            hostname: lease.hostname.clone(),
            ntp: lease.ntp.clone(),
            server: Some(lease.server),
            boot_server: lease.boot_server.clone(),
            root_path: lease.root_path.clone(),
            lease_s: Some(lease.lease_s),
        }
    }

    /// A static configuration.
    pub fn fixed(addresses: &[(Ipv4Addr, u8)], gateway: Option<Ipv4Addr>, plan: &Plan) -> Setup {
        let routes = gateway.iter().map(|gateway| ((Ipv4Addr::UNSPECIFIED, 0), Some(*gateway))).collect();
        Setup {
            routes: reachable(addresses, routes),
            addresses: addresses.to_vec(),
            gateway,
            mtu: plan.mtu,
            dns: plan.dns.clone(),
            search: plan.search.clone(),
            ..Setup::default()
        }
    }
}

/// Routes on the link first, and a host route to each gateway that no address's network holds (as with /32 leases):
/// the kernel refuses a gateway that it cannot reach.
fn reachable(addresses: &[(Ipv4Addr, u8)], routes: Vec<RouteTo>) -> Vec<RouteTo> {
    let (mut ordered, far): (Vec<RouteTo>, Vec<RouteTo>) =
        routes.into_iter().partition(|(_, gateway)| gateway.is_none());
    for gateway in far.iter().filter_map(|(_, gateway)| *gateway) {
        let near = addresses.iter().any(|(address, prefix)| *address & mask(*prefix) == gateway & mask(*prefix));
        let known = ordered.iter().any(|((to, prefix), _)| *to & mask(*prefix) == gateway & mask(*prefix));
        if !near && !known {
            ordered.push(((gateway, 32), None));
        }
    }
    ordered.extend(far);
    ordered
}

/// The MTU to set, if any: within what the device says and not below [`SMALLEST_MTU`].
pub fn choose_mtu(link: &Link, wanted: Option<u32>) -> Option<u32> {
    let largest = if link.max_mtu == 0 { u32::MAX } else { link.max_mtu };
    let mtu = wanted?.clamp(SMALLEST_MTU.max(link.min_mtu).min(largest), largest);
    (mtu != link.mtu).then_some(mtu)
}

/// Sets up the link. Adding what is there already renews it.
pub fn apply(route: &mut Route, link: &Link, setup: &Setup) -> Result<(), NetlinkError> {
    if let Some(mtu) = choose_mtu(link, setup.mtu) {
        route.set_mtu(link.index, mtu)?;
    }
    for (address, prefix) in &setup.addresses {
        route.add_address(link.index, *address, *prefix)?;
    }
    let source = setup.addresses.first().map_or(Ipv4Addr::UNSPECIFIED, |(address, _)| *address);
    for (destination, gateway) in &setup.routes {
        route.add_route(link.index, *destination, *gateway, source)?;
    }
    Ok(())
}

/// What services and commands on the node are told.
pub fn facts(link: Option<&Link>, setup: &Setup, hostname: String) -> Facts {
    let first = setup.addresses.first();
    Facts {
        interface: link.map(|link| link.name.clone()),
        ip: first.map(|(address, _)| IpAddr::V4(*address)),
        prefix: first.map_or(0, |(_, prefix)| *prefix),
        mac: link.map(|link| format_mac(&link.mac)),
        gateway: setup.gateway.map(IpAddr::V4),
        hostname,
        dns: any_family(&setup.dns),
        search: setup.search.clone(),
        ntp: any_family(&setup.ntp),
        server: setup.server.map(IpAddr::V4),
        boot_server: setup.boot_server.clone(),
        root_path: setup.root_path.clone(),
        lease_s: setup.lease_s,
    }
}

fn any_family(addresses: &[Ipv4Addr]) -> Vec<IpAddr> {
    addresses.iter().copied().map(IpAddr::V4).collect()
}

/// Writes `resolv.conf`, `hosts` and `lease.json`. Without any name server an image's own `resolv.conf` stays.
pub fn write_files(places: &Places, facts: &Facts) -> Result<(), FileError> {
    let resolv_conf = places.etc.join("resolv.conf");
    if !facts.dns.is_empty() || !resolv_conf.exists() {
        files::replace_file(&resolv_conf, &files::format_resolv_conf(&facts.dns, &facts.search))?;
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

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().expect("an address")
    }

    #[test]
    fn gateways_off_the_network_get_a_route_first() {
        let default = ((Ipv4Addr::UNSPECIFIED, 0), Some(ip("10.0.0.1")));
        assert_eq!(reachable(&[(ip("10.0.0.9"), 24)], vec![default]), [default]);
        let host = ((ip("10.0.0.1"), 32), None);
        assert_eq!(reachable(&[(ip("10.0.0.9"), 32)], vec![default]), [host, default]);
        let near = ((ip("10.0.0.0"), 24), None);
        assert_eq!(reachable(&[(ip("10.0.0.9"), 32)], vec![default, near]), [near, default]);
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
    fn files_are_written_and_an_images_own_resolv_conf_stays() {
        let folder = std::env::temp_dir().join(format!("bootwright-net-files-{}", std::process::id()));
        let places = Places { etc: folder.join("etc"), run: folder.join("run") };
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect(name);
        let mut facts = Facts { hostname: "n1".into(), ip: Some(ip("10.0.2.15").into()), ..Facts::default() };
        write_files(&places, &facts).expect("a new folder");
        assert_eq!(read("etc/resolv.conf"), "# no name server is known\n");
        std::fs::write(folder.join("etc/resolv.conf"), "nameserver 9.9.9.9\n").expect("writable");
        write_files(&places, &facts).expect("again");
        assert_eq!(read("etc/resolv.conf"), "nameserver 9.9.9.9\n");
        facts.dns = vec![ip("10.0.2.3").into()];
        write_files(&places, &facts).expect("again");
        assert_eq!(read("etc/resolv.conf"), "nameserver 10.0.2.3\n");
        assert!(read("etc/hosts").contains("10.0.2.15 n1"));
        assert!(read("run/lease.json").contains("\"ip\":\"10.0.2.15\""));
        std::fs::remove_dir_all(folder).expect("ours");
    }
}
