//! What the network shall be: the boot config, changed by the command line.

use super::dhcp::lease::is_usable;
use super::ip_param::{IpParam, IpParamError, V6Method, format_mac, parse_cidr, parse_ip_param, parse_mac};
use super::link_param::{
    LinkParamError, VirtualLink, VirtualLinkKind, parse_bond, parse_ifname, parse_route, parse_vlan,
};
use super::netlink::address::{Cidr, RouteTo};
use super::netlink::route::Link;
use super::v6::advert::is_server;
use bootwright_base::cmdline::Cmdline;
use bootwright_contract::{ExtraInterface, Ipv6Mode, Network, NetworkMode};
use std::net::IpAddr;

#[cfg(test)]
mod tests;

/// The plan for all interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The first one is the node's own: the phase `network` waits for it, and the default route goes through it.
    pub interfaces: Vec<Interface>,
    /// Links to be made, lower ones first.
    pub made: Vec<VirtualLink>,
    /// Names to be given to links, by MAC.
    pub names: Vec<(String, [u8; 6])>,
    /// The host name from `ip=`.
    pub hostname: Option<String>,
    /// Name servers; when there are any, they come before those of the lease.
    pub dns: Vec<IpAddr>,
    pub search: Vec<String>,
    pub ntp: Vec<IpAddr>,
    /// Whether name servers from DHCP and routers are used too.
    pub peer_dns: bool,
    /// The server of an NFS root, from `ip=`.
    pub server: Option<IpAddr>,
    pub timeout_s: u32,
    /// Whether the network counts as up only with an IPv6 address, because the root's server has one.
    pub need_v6: bool,
    /// Whether addresses are kept after their lease, because the root is reached through them.
    pub keep: bool,
    /// Lines about words of the command line that were not understood, and what is used instead.
    pub notes: Vec<String>,
}

/// An interface of the plan. Its IPv6 addresses from routers follow `ipv6`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub select: InterfaceChoice,
    /// Whether a DHCPv4 server is asked.
    pub dhcp: bool,
    /// Static addresses of both families.
    pub addresses: Vec<Cidr>,
    /// Default gateways for the static addresses. The first of each family counts.
    pub gateways: Vec<IpAddr>,
    pub ipv6: Ipv6Mode,
    /// Whether the interface is set up for its link-local address alone.
    pub link_local: bool,
    pub mtu: Option<u32>,
    /// Routes beside those from servers.
    pub routes: Vec<RouteTo>,
}

/// Which link an interface uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InterfaceChoice {
    Mac([u8; 6]),
    Name(String),
    /// One of these names or MACs, the first one preferred. An empty list means any link with a carrier.
    Any(Vec<String>),
}

/// Why no plan can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("boot config: `{key}` is no {expected}: `{found}`")]
    Config { key: &'static str, expected: &'static str, found: String },
    #[error("boot config: `network.addresses` is empty")]
    NoAddress,
}

/// A word of the command line that is left out. A typing error there must not cost a machine its network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum WordError {
    #[error("`ip={word}` {cause}")]
    Ip { word: String, cause: IpParamError },
    #[error(transparent)]
    Link(#[from] LinkParamError),
    #[error("`BOOTIF={0}` is no MAC: expected `01-aa-bb-cc-dd-ee-ff`")]
    BootIf(String),
    #[error("`nameserver={0}` is no IP address")]
    NameServer(String),
}

/// Parses words of the command line, and keeps a line for each that is not understood.
#[derive(Default)]
struct WordReader {
    notes: Vec<String>,
}

impl WordReader {
    fn take<T, E: Into<WordError>>(&mut self, parsed: Result<T, E>) -> Option<T> {
        parsed.map_err(|error| self.notes.push([&error.into().to_string(), ": left out"].concat())).ok()
    }

    /// All `ip=` that are not empty.
    fn ip_params(&mut self, cmdline: &Cmdline) -> Vec<IpParam> {
        let mut params = Vec::new();
        let mut bad = false;
        for word in cmdline.values("ip") {
            let of_word = |cause| WordError::Ip { word: word.into(), cause };
            let param = self.take(parse_ip_param(word).map_err(of_word));
            bad |= param.is_none();
            for cause in param.iter().flat_map(|param| param.left_out.clone()) {
                self.notes.push([&of_word(cause).to_string(), ": that is left out"].concat());
            }
            params.extend(param);
        }
        if bad && params.is_empty() {
            self.notes.push("without a usable `ip=` the network is that of the recipe".into());
        }
        params
    }
}

/// All `ip=` with the same device, or all without one.
struct Group {
    device: Option<String>,
    select: Option<InterfaceChoice>,
    params: Vec<IpParam>,
}

/// Makes the plan from the boot config and the command line. Words that are not understood are left out, each with a
/// line in [`Plan::notes`].
///
/// # Errors
/// [`PlanError`] when the boot config itself is wrong.
pub fn plan(config: &Network, cmdline: &Cmdline) -> Result<Plan, PlanError> {
    let mut reader = WordReader::default();
    let mut made = made(config);
    made.extend(cmdline.values("vlan").filter_map(|vlan| reader.take(parse_vlan(vlan))));
    for (_, value) in cmdline.words().filter(|(key, _)| *key == "bond") {
        if let Some(bond) = reader.take(parse_bond(value.unwrap_or_default())) {
            made.insert(0, bond);
        }
    }
    let groups = groups(reader.ip_params(cmdline), cmdline.value("bootdev"));
    let mut interfaces = vec![primary(config, cmdline, groups.first(), &made, &mut reader)?];
    for group in groups.iter().skip(1) {
        if let Some(select) = group.select.clone() {
            interfaces.push(from_params(&group.params, select, config.ipv6, &mut reader.notes));
        }
    }
    for extra in &config.extra {
        let known = interfaces.iter().any(|known| known.select == select_one(&extra.interface));
        if !known {
            interfaces.push(from_extra(extra)?);
        }
    }
    for (route, device) in cmdline.values("rd.route").filter_map(|route| reader.take(parse_route(route))) {
        add_route(&mut interfaces, route, device.as_deref());
    }
    let mut dns: Vec<IpAddr> = cmdline.values("nameserver").filter_map(|text| reader.take(name_server(text))).collect();
    dns.extend(groups.iter().flat_map(|group| &group.params).flat_map(|param| &param.dns));
    if dns.is_empty() {
        dns = addresses("network.dns", &config.dns)?;
    }
    let own = || groups.iter().take(1).flat_map(|group| &group.params);
    Ok(Plan {
        interfaces,
        made,
        names: cmdline.values("ifname").filter_map(|name| reader.take(parse_ifname(name))).collect(),
        hostname: own().find_map(|param| param.hostname.clone()),
        dns,
        search: config.search.clone(),
        ntp: own().flat_map(|param| param.ntp.iter().copied()).collect(),
        peer_dns: cmdline.value("rd.peerdns") != Some("0"),
        server: own().find_map(|param| param.server),
        timeout_s: config.timeout_s,
        need_v6: false,
        keep: false,
        notes: reader.notes,
    })
}

fn name_server(text: &str) -> Result<IpAddr, WordError> {
    let plain = text.trim_start_matches('[').trim_end_matches(']');
    plain.parse().map_err(|_| WordError::NameServer(text.into()))
}

/// Groups all `ip=` by device, so that two of them can give one interface an address of each family. Those without a
/// device belong to the node's own interface, which is that of `bootdev=`, else the first that is named. The node's own
/// group comes first.
fn groups(params: Vec<IpParam>, bootdev: Option<&str>) -> Vec<Group> {
    let bootdev = bootdev.filter(|name| params.iter().any(|param| param.select() == Some(select_one(name))));
    let own = bootdev.map(String::from).or_else(|| params.iter().find_map(|param| param.device.clone()));
    let mut groups: Vec<Group> = Vec::new();
    for mut param in params {
        param.device = param.device.or_else(|| own.clone());
        let select = param.select();
        match groups.iter_mut().find(|group| group.select == select) {
            Some(group) => group.params.push(param),
            None => groups.push(Group { device: param.device.clone(), select, params: vec![param] }),
        }
    }
    let own = own.as_deref().map(select_one);
    if let Some(at) = groups.iter().position(|group| group.select == own) {
        let group = groups.remove(at);
        groups.insert(0, group);
    }
    groups
}

impl IpParam {
    fn select(&self) -> Option<InterfaceChoice> {
        self.device.as_deref().map(select_one)
    }
}

fn primary(
    config: &Network,
    cmdline: &Cmdline,
    group: Option<&Group>,
    made: &[VirtualLink],
    reader: &mut WordReader,
) -> Result<Interface, PlanError> {
    let boot_if = cmdline
        .value("BOOTIF")
        .and_then(|text| reader.take(parse_mac(text).ok_or_else(|| WordError::BootIf(text.into()))));
    let device = group.and_then(|group| group.device.as_deref()).or(cmdline.value("bootdev"));
    let is_made = |name: &str| made.iter().any(|made| made.name == name);
    let select = match (boot_if, device, &config.interfaces[..]) {
        // The firmware booted from a lower link of the named bond or VLAN.
        (_, Some(name), _) if is_made(name) => InterfaceChoice::Name(name.into()),
        (_, None, [name, ..]) if is_made(name) => InterfaceChoice::Name(name.clone()),
        (Some(mac), ..) => InterfaceChoice::Mac(mac),
        (None, Some(name), _) => select_one(name),
        (None, None, [name]) => select_one(name),
        (None, None, names) => match made.last().filter(|_| names.is_empty()) {
            Some(last) => InterfaceChoice::Name(last.name.clone()),
            None => InterfaceChoice::Any(names.to_vec()),
        },
    };
    if let Some(group) = group {
        let mut interface = from_params(&group.params, select, config.ipv6, &mut reader.notes);
        interface.mtu = interface.mtu.or(config.mtu);
        return Ok(interface);
    }
    let gateways = addresses("network.gateway", &config.gateways)?;
    let mut interface = Interface { gateways, mtu: config.mtu, ..Interface::off(select) };
    interface.ipv6 = config.ipv6;
    interface.set_mode("network.addresses", config.mode, &config.addresses)?;
    Ok(interface)
}

/// Makes an interface from all `ip=` of one device. As in the kernel, the last one with an IPv4 method decides between
/// DHCP and static addresses. A family with a static address has no other, unless a method for it is named.
fn from_params(params: &[IpParam], select: InterfaceChoice, baked: Ipv6Mode, notes: &mut Vec<String>) -> Interface {
    let mut interface = Interface::off(select);
    let mut v6 = None;
    for param in params {
        let fixed_v4 = param.address.is_some_and(|(ip, _)| ip.is_ipv4());
        if param.methods.dhcp && interface.has_fixed(true) || fixed_v4 && interface.dhcp {
            let which = if fixed_v4 { "the static address" } else { "DHCP" };
            notes.push(
                [
                    "`ip=` asks for DHCP and for a static IPv4 address on one device: ",
                    which,
                    " holds, which comes last",
                ]
                .concat(),
            );
            interface.addresses.retain(|(ip, _)| ip.is_ipv6());
            interface.dhcp = false;
        }
        interface.dhcp |= param.methods.dhcp;
        interface.addresses.extend(param.address);
        interface.gateways.extend(param.gateway);
        interface.mtu = interface.mtu.or(param.mtu);
        v6 = v6.max(param.methods.v6);
    }
    interface.ipv6 = match v6 {
        Some(V6Method::Auto) => Ipv6Mode::Auto,
        Some(V6Method::Dhcp) => Ipv6Mode::Dhcp,
        Some(V6Method::AsRecipe) if !interface.has_fixed(false) => baked,
        _ => Ipv6Mode::Off,
    };
    interface.link_local = v6 == Some(V6Method::LinkLocal);
    interface
}

fn from_extra(extra: &ExtraInterface) -> Result<Interface, PlanError> {
    let mut interface = Interface { ipv6: extra.ipv6, mtu: extra.mtu, ..Interface::off(select_one(&extra.interface)) };
    interface.set_mode("network.extra.addresses", extra.mode, &extra.addresses)?;
    Ok(interface)
}

/// Adds a `rd.route=`. Without a device the route belongs to the first interface.
fn add_route(interfaces: &mut [Interface], route: RouteTo, device: Option<&str>) {
    let meant = |interface: &Interface| device.is_some_and(|name| interface.select == select_one(name));
    let at = interfaces.iter().position(meant).unwrap_or(0);
    if let Some(interface) = interfaces.get_mut(at) {
        interface.routes.push(route);
    }
}

fn made(config: &Network) -> Vec<VirtualLink> {
    let bonds = config.bonds.iter().map(|bond| {
        let options = bond.options.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        VirtualLink {
            name: bond.name.clone(),
            how: VirtualLinkKind::Bond { members: bond.interfaces.clone(), options },
            mtu: None,
        }
    });
    let vlans = config.vlans.iter().map(|vlan| {
        let how = VirtualLinkKind::Vlan { lower: vlan.interface.clone(), id: vlan.id };
        VirtualLink { name: vlan.name.clone(), how, mtu: None }
    });
    bonds.chain(vlans).collect()
}

fn select_one(name: &str) -> InterfaceChoice {
    parse_mac(name).map_or_else(|| InterfaceChoice::Name(name.into()), InterfaceChoice::Mac)
}

fn addresses(key: &'static str, texts: &[String]) -> Result<Vec<IpAddr>, PlanError> {
    texts.iter().map(|text| text.parse().map_err(|_| bad(key, "IP address", text))).collect()
}

fn bad(key: &'static str, expected: &'static str, found: &str) -> PlanError {
    PlanError::Config { key, expected, found: found.into() }
}

impl Interface {
    /// An interface on which nothing is set up.
    pub fn off(select: InterfaceChoice) -> Interface {
        Interface {
            select,
            dhcp: false,
            addresses: vec![],
            gateways: vec![],
            ipv6: Ipv6Mode::Off,
            link_local: false,
            mtu: None,
            routes: vec![],
        }
    }

    /// Sets the mode of the boot config; `key` names the key of its addresses in errors.
    fn set_mode(&mut self, key: &'static str, mode: NetworkMode, texts: &[String]) -> Result<(), PlanError> {
        self.dhcp = mode == NetworkMode::Dhcp;
        if mode != NetworkMode::Static {
            return Ok(());
        }
        let usable = |(ip, _): &Cidr| match ip {
            IpAddr::V4(ip) => is_usable(*ip),
            IpAddr::V6(ip) => is_server(ip) && !ip.is_unicast_link_local(),
        };
        let read =
            |text: &String| parse_cidr(text).filter(usable).ok_or_else(|| bad(key, "usable address with prefix", text));
        self.addresses = texts.iter().map(read).collect::<Result<_, _>>()?;
        if self.addresses.is_empty() { Err(PlanError::NoAddress) } else { Ok(()) }
    }

    /// Whether the interface has static addresses of that family.
    pub fn has_fixed(&self, v4: bool) -> bool {
        self.addresses.iter().any(|(ip, _)| ip.is_ipv4() == v4)
    }

    /// Whether nothing is to be set up on the interface.
    pub fn is_off(&self) -> bool {
        !self.dhcp && self.addresses.is_empty() && self.ipv6 == Ipv6Mode::Off && !self.link_local
    }
}

impl InterfaceChoice {
    /// The rank of a link, smaller is better; `None` when the interface may not use it. Where nothing else decides, the
    /// lower MAC goes first: unlike names and indexes it is the same at each boot.
    pub fn rank(&self, link: &Link) -> Option<(usize, [u8; 6])> {
        let place = match self {
            _ if link.loopback || link.has_master => None,
            InterfaceChoice::Mac(mac) => (has_mac(link, mac) && !link.made_by_software).then_some(0),
            InterfaceChoice::Name(name) => (link.name == *name).then_some(0),
            InterfaceChoice::Any(names) if names.is_empty() => (link.ethernet && !link.made_by_software).then_some(0),
            InterfaceChoice::Any(names) => names.iter().position(|name| is_named(link, name)),
        };
        Some((place?, link.mac))
    }

    /// The choice in words, for "no network interface ...".
    pub fn describe(&self) -> String {
        match self {
            InterfaceChoice::Mac(mac) => ["with the MAC ", &format_mac(mac)].concat(),
            InterfaceChoice::Name(name) => ["`", name, "`"].concat(),
            InterfaceChoice::Any(names) if names.is_empty() => "at all".into(),
            InterfaceChoice::Any(names) => ["of ", &names.join(", ")].concat(),
        }
    }
}

/// Whether the link has this name or MAC.
pub fn is_named(link: &Link, name: &str) -> bool {
    match parse_mac(name) {
        Some(mac) => has_mac(link, &mac) && !link.made_by_software,
        None => link.name == name,
    }
}

fn has_mac(link: &Link, mac: &[u8; 6]) -> bool {
    link.permanent_mac.as_ref().unwrap_or(&link.mac) == mac || link.mac == *mac
}
