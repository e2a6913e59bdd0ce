//! What the network shall be: the boot config with the command line over it.

use super::dhcp::lease::is_usable;
use super::ip_param::{IpParam, IpParamError, Method, format_mac, parse_cidr, parse_ip_param, parse_mac};
use super::link_param::{How, LinkParamError, Made, parse_bond, parse_ifname, parse_route, parse_vlan};
use super::netlink::address::{Cidr, RouteTo};
use super::netlink::route::Link;
use super::v6::advert::is_server;
use bootwright_base::cmdline::Cmdline;
use bootwright_contract::{ExtraInterface, Ipv6Mode, Network, NetworkMode};
use std::net::IpAddr;

#[cfg(test)]
mod tests;

/// The whole plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The first is the node's: the phase waits for it, and the default route goes out of it.
    pub interfaces: Vec<Interface>,
    /// Links that are made here, lower ones first.
    pub made: Vec<Made>,
    /// New names by MAC.
    pub names: Vec<(String, [u8; 6])>,
    /// From `ip=`.
    pub hostname: Option<String>,
    /// Come before the lease's when not empty.
    pub dns: Vec<IpAddr>,
    pub search: Vec<String>,
    pub ntp: Vec<IpAddr>,
    /// Servers' name servers are used too.
    pub peer_dns: bool,
    /// Where an NFS root would be, from `ip=`.
    pub server: Option<IpAddr>,
    pub timeout_s: u32,
    /// The network is up only with an IPv6 address: the root's server has one.
    pub need_v6: bool,
    /// No address is ever taken away: the root comes over it.
    pub keep: bool,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub select: Select,
    pub source: Source,
    pub ipv6: Ipv6Mode,
    pub mtu: Option<u32>,
    /// Added to what servers say.
    pub routes: Vec<RouteTo>,
}

/// Where addresses come from, beside what IPv6 routers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nowhere.
    None,
    /// DHCPv4.
    Dhcp,
    Static {
        addresses: Vec<Cidr>,
        gateways: Vec<IpAddr>,
    },
}

/// Which link is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Select {
    Mac([u8; 6]),
    Name(String),
    /// One of these (names or MACs), the first one preferred; none: any with a carrier.
    Any(Vec<String>),
}

/// What the plan cannot be made from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error(transparent)]
    Ip(#[from] IpParamError),
    #[error(transparent)]
    Link(#[from] LinkParamError),
    #[error("`BOOTIF={0}` is no MAC: expected `01-aa-bb-cc-dd-ee-ff`")]
    BootIf(String),
    #[error("`nameserver={0}` is no IP address")]
    NameServer(String),
    #[error("`ip={0}` names no device: with several `ip=` each needs one")]
    NoDevice(String),
    #[error("boot config: `{key}` is no {expected}: `{found}`")]
    Config { key: &'static str, expected: &'static str, found: String },
    #[error("boot config: `network.addresses` is empty")]
    NoAddress,
}

/// Puts the command line over the boot config.
pub fn plan(config: &Network, cmdline: &Cmdline) -> Result<Plan, PlanError> {
    let (first, others) = ip_params(cmdline)?;
    let mut made = made(config);
    for vlan in cmdline.values("vlan") {
        made.push(parse_vlan(vlan)?);
    }
    for (key, value) in cmdline.words().filter(|(key, _)| *key == "bond") {
        debug_assert_eq!(key, "bond");
        made.insert(0, parse_bond(value.unwrap_or_default())?);
    }
    let mut interfaces = vec![primary(config, cmdline, first.as_ref(), &made)?];
    for param in &others {
        interfaces.push(from_param(param, param_select(param), config.ipv6)?);
    }
    for extra in &config.extra {
        let known = interfaces.iter().any(|known| known.select == select_one(&extra.interface));
        if !known {
            interfaces.push(from_extra(extra)?);
        }
    }
    add_routes(&mut interfaces, cmdline)?;
    let mut dns = Vec::new();
    for text in cmdline.values("nameserver") {
        let plain = text.trim_start_matches('[').trim_end_matches(']');
        dns.push(plain.parse().map_err(|_| PlanError::NameServer(text.into()))?);
    }
    dns.extend(first.iter().chain(&others).flat_map(|param| param.dns.iter().copied()));
    if dns.is_empty() {
        dns = addresses("network.dns", &config.dns)?;
    }
    Ok(Plan {
        interfaces,
        made,
        names: cmdline.values("ifname").map(parse_ifname).collect::<Result<_, _>>()?,
        hostname: first.as_ref().and_then(|p| p.hostname.clone()),
        dns,
        search: config.search.clone(),
        ntp: first.as_ref().map(|p| p.ntp.clone()).unwrap_or_default(),
        peer_dns: cmdline.value("rd.peerdns") != Some("0"),
        server: first.and_then(|p| p.server),
        timeout_s: config.timeout_s,
        need_v6: false,
        keep: false,
    })
}

/// The `ip=` of the node's own interface (`bootdev=` tells which it is, else it is the first), and the others.
fn ip_params(cmdline: &Cmdline) -> Result<(Option<IpParam>, Vec<IpParam>), PlanError> {
    let mut params = Vec::new();
    for text in cmdline.values("ip") {
        params.push((text, parse_ip_param(text)?));
    }
    if let Some((text, _)) = params.iter().find(|(_, param)| param.device.is_none() && params.len() > 1) {
        return Err(PlanError::NoDevice(text.to_string()));
    }
    let mut params: Vec<IpParam> = params.into_iter().map(|(_, param)| param).collect();
    if params.is_empty() {
        return Ok((None, params));
    }
    let boot = cmdline.value("bootdev");
    let at = params.iter().position(|param| boot.is_some() && param.device.as_deref() == boot).unwrap_or(0);
    let first = params.remove(at);
    Ok((Some(first), params))
}

fn primary(
    config: &Network,
    cmdline: &Cmdline,
    param: Option<&IpParam>,
    made: &[Made],
) -> Result<Interface, PlanError> {
    let boot_if = match cmdline.value("BOOTIF") {
        Some(text) => Some(parse_mac(text).ok_or_else(|| PlanError::BootIf(text.into()))?),
        None => None,
    };
    let device = param.and_then(|param| param.device.as_deref()).or(cmdline.value("bootdev"));
    let is_made = |name: &str| made.iter().any(|made| made.name == name);
    let select = match (boot_if, device, &config.interfaces[..]) {
        // The interface that the firmware booted from is below the one that is meant.
        (_, Some(name), _) if is_made(name) => Select::Name(name.into()),
        (_, None, [name, ..]) if is_made(name) => Select::Name(name.clone()),
        (Some(mac), ..) => Select::Mac(mac),
        (None, Some(name), _) => select_one(name),
        (None, None, [name]) => select_one(name),
        (None, None, []) if !made.is_empty() => Select::Name(made[made.len() - 1].name.clone()),
        (None, None, names) => Select::Any(names.to_vec()),
    };
    if let Some(param) = param {
        let mut interface = from_param(param, select, config.ipv6)?;
        interface.mtu = interface.mtu.or(config.mtu);
        return Ok(interface);
    }
    let gateways = addresses("network.gateway", &config.gateways)?;
    let source = source("network.addresses", config.mode, &config.addresses, gateways)?;
    Ok(Interface { select, source, ipv6: config.ipv6, mtu: config.mtu, routes: vec![] })
}

fn param_select(param: &IpParam) -> Select {
    select_one(param.device.as_deref().unwrap_or_default())
}

fn from_param(param: &IpParam, select: Select, baked: Ipv6Mode) -> Result<Interface, PlanError> {
    let (source, ipv6) = match (param.method, param.address) {
        (Method::Static, Some(address)) => {
            let gateways = param.gateway.into_iter().collect();
            // As with the kernel: what is static is all there is.
            (Source::Static { addresses: vec![address], gateways }, Ipv6Mode::Off)
        }
        (Method::Dhcp, _) => (Source::Dhcp, baked),
        (Method::Auto6, _) => (Source::None, Ipv6Mode::Auto),
        (Method::Dhcp6, _) => (Source::None, Ipv6Mode::Dhcp),
        (Method::Off | Method::Static | Method::LinkLocal, _) => (Source::None, Ipv6Mode::Off),
    };
    Ok(Interface { select, source, ipv6, mtu: param.mtu, routes: vec![] })
}

fn from_extra(extra: &ExtraInterface) -> Result<Interface, PlanError> {
    let source = source("network.extra.addresses", extra.mode, &extra.addresses, vec![])?;
    let select = select_one(&extra.interface);
    Ok(Interface { select, source, ipv6: extra.ipv6, mtu: extra.mtu, routes: vec![] })
}

/// `rd.route=`: those without a device belong to the first interface.
fn add_routes(interfaces: &mut [Interface], cmdline: &Cmdline) -> Result<(), PlanError> {
    for text in cmdline.values("rd.route") {
        let (route, device) = parse_route(text)?;
        let meant = |interface: &Interface| device.as_deref().is_some_and(|name| interface.select == select_one(name));
        let at = interfaces.iter().position(meant).unwrap_or(0);
        interfaces[at].routes.push(route);
    }
    Ok(())
}

fn made(config: &Network) -> Vec<Made> {
    let bonds = config.bonds.iter().map(|bond| {
        let options = bond.options.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        Made { name: bond.name.clone(), how: How::Bond { members: bond.interfaces.clone(), options }, mtu: None }
    });
    let vlans = config.vlans.iter().map(|vlan| {
        let how = How::Vlan { lower: vlan.interface.clone(), id: vlan.id };
        Made { name: vlan.name.clone(), how, mtu: None }
    });
    bonds.chain(vlans).collect()
}

fn select_one(name: &str) -> Select {
    parse_mac(name).map_or_else(|| Select::Name(name.into()), Select::Mac)
}

fn source(key: &'static str, mode: NetworkMode, texts: &[String], gateways: Vec<IpAddr>) -> Result<Source, PlanError> {
    match mode {
        NetworkMode::None => Ok(Source::None),
        NetworkMode::Dhcp => Ok(Source::Dhcp),
        NetworkMode::Static => {
            let addresses = texts.iter().map(|text| {
                let usable = |(ip, _): &Cidr| match ip {
                    IpAddr::V4(ip) => is_usable(*ip),
                    IpAddr::V6(ip) => is_server(ip) && !ip.is_unicast_link_local(),
                };
                parse_cidr(text).filter(usable).ok_or_else(|| bad(key, "usable address with prefix", text))
            });
            let addresses: Vec<_> = addresses.collect::<Result<_, _>>()?;
            if addresses.is_empty() {
                return Err(PlanError::NoAddress);
            }
            Ok(Source::Static { addresses, gateways })
        }
    }
}

fn addresses(key: &'static str, texts: &[String]) -> Result<Vec<IpAddr>, PlanError> {
    texts.iter().map(|text| text.parse().map_err(|_| bad(key, "IP address", text))).collect()
}

fn bad(key: &'static str, expected: &'static str, found: &str) -> PlanError {
    PlanError::Config { key, expected, found: found.into() }
}

impl Interface {
    /// Nothing is to be set up.
    pub fn is_off(&self) -> bool {
        self.source == Source::None && self.ipv6 == Ipv6Mode::Off
    }
}

impl Select {
    /// The link's place in the order of preference, the smaller the better; `None`: it may not be used. Where nothing
    /// else decides the MAC does: it stays the same from boot to boot, names and numbers do not.
    pub fn rank(&self, link: &Link) -> Option<(usize, [u8; 6])> {
        let place = match self {
            _ if link.loopback || link.has_master => None,
            Select::Mac(mac) => (has_mac(link, mac) && !link.made_by_software).then_some(0),
            Select::Name(name) => (link.name == *name).then_some(0),
            Select::Any(names) if names.is_empty() => (link.ethernet && !link.made_by_software).then_some(0),
            Select::Any(names) => names.iter().position(|name| is_named(link, name)),
        };
        Some((place?, link.mac))
    }

    /// In words, for "no network interface ...".
    pub fn describe(&self) -> String {
        match self {
            Select::Mac(mac) => ["with the MAC ", &format_mac(mac)].concat(),
            Select::Name(name) => ["`", name, "`"].concat(),
            Select::Any(names) if names.is_empty() => "at all".into(),
            Select::Any(names) => ["of ", &names.join(", ")].concat(),
        }
    }
}

/// Whether a name or MAC means the link.
pub fn is_named(link: &Link, name: &str) -> bool {
    match parse_mac(name) {
        Some(mac) => has_mac(link, &mac) && !link.made_by_software,
        None => link.name == name,
    }
}

fn has_mac(link: &Link, mac: &[u8; 6]) -> bool {
    link.permanent_mac.as_ref().unwrap_or(&link.mac) == mac || link.mac == *mac
}
