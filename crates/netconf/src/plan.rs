//! What the network shall be: the boot config with the command line over it.

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

/// The whole plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The first is the node's: the phase waits for it, and the default route goes out of it.
    pub interfaces: Vec<Interface>,
    /// Links that are made here, lower ones first.
    pub made: Vec<VirtualLink>,
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
    /// What on the command line is not understood, and what holds in its place: lines for people.
    pub notes: Vec<String>,
}

/// One interface. Beside what is here, IPv6 addresses come from routers as `ipv6` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub select: InterfaceChoice,
    /// A DHCPv4 server is asked.
    pub dhcp: bool,
    /// Static addresses of both families.
    pub addresses: Vec<Cidr>,
    /// Default gateways beside them; the first of a family counts.
    pub gateways: Vec<IpAddr>,
    pub ipv6: Ipv6Mode,
    /// It is wanted although nothing is asked for: for its link-local address.
    pub link_local: bool,
    pub mtu: Option<u32>,
    /// Added to what servers say.
    pub routes: Vec<RouteTo>,
}

/// Which link is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InterfaceChoice {
    Mac([u8; 6]),
    Name(String),
    /// One of these (names or MACs), the first one preferred; none: any with a carrier.
    Any(Vec<String>),
}

/// What the plan cannot be made from.
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

/// Reads words of the command line, and keeps a line for each that is not understood.
#[derive(Default)]
struct WordReader {
    notes: Vec<String>,
}

impl WordReader {
    fn take<T, E: Into<WordError>>(&mut self, parsed: Result<T, E>) -> Option<T> {
        parsed.map_err(|error| self.notes.push([&error.into().to_string(), ": left out"].concat())).ok()
    }

    /// All `ip=` that say something.
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

/// All `ip=` of one device; without one it is the node's own.
struct Group {
    device: Option<String>,
    select: Option<InterfaceChoice>,
    params: Vec<IpParam>,
}

/// Puts the command line over the boot config. Words that are not understood are left out, each with a line in
/// [`Plan::notes`].
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

/// Puts all `ip=` of one device together, so that two of them can give it an address of each family. Those without a
/// device are the node's own interface's: that is the one of `bootdev=` if it is named, else the first that is. The
/// node's own comes first.
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
        // The interface that the firmware booted from is below the one that is meant.
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

/// What all `ip=` of one device say together. The last one that says how IPv4 is had decides between DHCP and static
/// addresses, as with the kernel; what is static is all there is of its family unless a method is named for it.
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

/// One of `rd.route=`: without a device it belongs to the first interface.
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
    /// One on which nothing is to be set up.
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

    /// The mode of the boot config; `key` is that of its addresses.
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

    /// Whether it has static addresses of that family.
    pub fn has_fixed(&self, v4: bool) -> bool {
        self.addresses.iter().any(|(ip, _)| ip.is_ipv4() == v4)
    }

    /// Nothing is to be set up.
    pub fn is_off(&self) -> bool {
        !self.dhcp && self.addresses.is_empty() && self.ipv6 == Ipv6Mode::Off && !self.link_local
    }
}

impl InterfaceChoice {
    /// The link's place in the order of preference, the smaller the better; `None`: it may not be used. Where nothing
    /// else decides the MAC does: it stays the same from boot to boot, names and numbers do not.
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

    /// In words, for "no network interface ...".
    pub fn describe(&self) -> String {
        match self {
            InterfaceChoice::Mac(mac) => ["with the MAC ", &format_mac(mac)].concat(),
            InterfaceChoice::Name(name) => ["`", name, "`"].concat(),
            InterfaceChoice::Any(names) if names.is_empty() => "at all".into(),
            InterfaceChoice::Any(names) => ["of ", &names.join(", ")].concat(),
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
