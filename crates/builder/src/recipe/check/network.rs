//! `[network]` and `[time]`.

use super::Check;
use super::system::is_hostname;
use crate::recipe::file::{BondFile, ExtraFile, NetworkFile, OneOrMany, Scalar, TimeFile, VlanFile};
use crate::recipe::node::TomlNode;
use crate::recipe::place::At;
use crate::recipe::problem::Problem;
use bootwright_contract::{BOND_MODES, BOND_OPTIONS, Bond, ExtraInterface, Ipv6Mode, Network, NetworkMode, Time, Vlan};
use std::net::IpAddr;

/// `IFNAMSIZ` less the NUL byte.
const LONGEST_NAME: usize = 15;
/// Link monitoring of a bond whose recipe does not say; the kernel's own default would never see a cable that is out.
const MIIMON_MS: &str = "100";

impl Check<'_> {
    pub(super) fn network(&mut self, tree: &TomlNode) -> Option<Network> {
        let (node, file) = self.section::<NetworkFile>(tree, "network");
        let file = file?;
        let (interfaces, gateways) = (list(file.interface), list(file.gateway));
        for (i, interface) in interfaces.iter().enumerate() {
            self.check_interface(node.at_item("interface", i), interface);
        }
        self.check_addresses(&node, file.mode, &file.addresses, "`[network]`, which is static");
        for (i, gateway) in gateways.iter().enumerate() {
            self.check_address(node.at_item("gateway", i), gateway);
        }
        for (i, server) in file.dns.iter().enumerate() {
            self.check_address(node.at_item("dns", i), server);
        }
        if file.mode != NetworkMode::Static && node.get("gateway").is_some() {
            let problem = Problem::NotUsed { key: "gateway", reason: "only `mode = \"static\"` takes it" };
            self.report(node.at_of("gateway"), problem);
        }
        let items = |key| node.get(key).map_or(&[][..], TomlNode::items);
        let bonds = items("bond").iter().zip(file.bond).filter_map(|(node, bond)| self.bond(node, bond)).collect();
        let vlans = items("vlan").iter().zip(file.vlan).filter_map(|(node, vlan)| self.vlan(node, vlan)).collect();
        let extra = items("extra").iter().zip(file.extra).map(|(node, extra)| self.extra(node, extra)).collect();
        let usual = if file.mode == NetworkMode::Dhcp { Ipv6Mode::Auto } else { Ipv6Mode::Off };
        Some(Network {
            mode: file.mode,
            ipv6: file.ipv6.unwrap_or(usual),
            interfaces,
            addresses: file.addresses,
            gateways,
            dns: file.dns,
            search: file.search,
            mtu: file.mtu,
            timeout_s: file.timeout_s,
            bonds,
            vlans,
            extra,
        })
    }

    fn bond(&mut self, node: &TomlNode, file: BondFile) -> Option<Bond> {
        self.check_link_name(node.at_of("name"), &file.name);
        for (i, interface) in file.interfaces.iter().enumerate() {
            self.check_interface(node.at_item("interfaces", i), interface);
        }
        if !BOND_MODES.contains(&file.mode.as_str()) {
            let choices = BOND_MODES.map(String::from).to_vec();
            self.report(node.at_of("mode"), Problem::NotAChoice { found: file.mode.clone(), choices });
        }
        let table = node.get("options").map_or(&[][..], TomlNode::entries);
        for entry in table.iter().filter(|entry| !BOND_OPTIONS.contains(&entry.key.as_str())) {
            let known = BOND_OPTIONS.map(String::from).to_vec();
            self.report(entry.key_at, Problem::UnknownKey { key: entry.key.clone(), known });
        }
        let text = |value| match value {
            Scalar::Bool(b) => u8::from(b).to_string(),
            Scalar::Int(n) => n.to_string(),
            Scalar::Text(text) => text,
        };
        let always = [("miimon".to_string(), MIIMON_MS.to_string()), ("mode".to_string(), file.mode)];
        let options = always.into_iter().chain(file.options.into_iter().map(|(k, v)| (k, text(v)))).collect();
        Some(Bond { name: file.name, interfaces: file.interfaces, options })
    }

    fn vlan(&mut self, node: &TomlNode, file: VlanFile) -> Option<Vlan> {
        self.check_interface(node.at_of("interface"), &file.interface);
        if !(1..=4094).contains(&file.id) {
            let problem = Problem::OutOfRange { found: file.id.into(), least: 1, most: 4094 };
            self.report(node.at_of("id"), problem);
        }
        let name = match file.name {
            Some(name) => name,
            None if is_mac(&file.interface) => {
                return self.need(None, "name", node, "the VLAN, as its link is known by MAC only");
            }
            None => format!("{}.{}", file.interface, file.id),
        };
        self.check_link_name(node.at_of("name"), &name);
        Some(Vlan { name, interface: file.interface, id: file.id })
    }

    fn extra(&mut self, node: &TomlNode, file: ExtraFile) -> ExtraInterface {
        self.check_interface(node.at_of("interface"), &file.interface);
        self.check_addresses(node, file.mode, &file.addresses, "the interface, which is static");
        ExtraInterface {
            interface: file.interface,
            mode: file.mode,
            ipv6: file.ipv6.unwrap_or(Ipv6Mode::Off),
            addresses: file.addresses,
            mtu: file.mtu,
        }
    }

    fn check_addresses(&mut self, node: &TomlNode, mode: NetworkMode, addresses: &[String], place: &str) {
        for (i, address) in addresses.iter().enumerate() {
            if !is_prefix(address) {
                let expected = "an address with its prefix length";
                let problem = Problem::BadValue { found: address.clone(), expected, example: "192.0.2.7/24" };
                self.report(node.at_item("addresses", i), problem);
            }
        }
        if mode == NetworkMode::Static {
            if addresses.is_empty() {
                self.need(None::<()>, "addresses", node, place);
            }
        } else if node.get("addresses").is_some() {
            let problem = Problem::NotUsed { key: "addresses", reason: "only `mode = \"static\"` takes it" };
            self.report(node.at_of("addresses"), problem);
        }
    }

    fn check_address(&mut self, at: At, text: &str) {
        if text.parse::<IpAddr>().is_err() {
            let problem = Problem::BadValue { found: text.into(), expected: "an IP address", example: "192.0.2.1" };
            self.report(at, problem);
        }
    }

    fn check_interface(&mut self, at: At, text: &str) {
        if !is_mac(text) {
            self.check_link_name(at, text);
        }
    }

    fn check_link_name(&mut self, at: At, text: &str) {
        let good = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
        if text.is_empty() || text.len() > LONGEST_NAME || text == "." || text == ".." || !text.bytes().all(good) {
            let expected = "the name of a network interface (at most 15 bytes) or its MAC";
            self.report(at, Problem::BadValue { found: text.into(), expected, example: "eth0" });
        }
    }

    pub(super) fn time(&mut self, tree: &TomlNode) -> Option<Time> {
        let (node, file) = self.section::<TimeFile>(tree, "time");
        let servers = file?.servers;
        for (i, server) in servers.iter().enumerate() {
            if server.parse::<IpAddr>().is_err() && !is_hostname(server) {
                let expected = "an address or a host name";
                let problem = Problem::BadValue { found: server.clone(), expected, example: "ntp.example.org" };
                self.report(node.at_item("servers", i), problem);
            }
        }
        Some(Time { servers })
    }
}

fn list(file: Option<OneOrMany>) -> Vec<String> {
    match file {
        None => Vec::new(),
        Some(OneOrMany::One(one)) => vec![one],
        Some(OneOrMany::Many(many)) => many,
    }
}

fn is_mac(text: &str) -> bool {
    let byte = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    text.split([':', '-']).filter(|part| byte(part)).count() == 6 && text.len() == 17
}

fn is_prefix(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let most = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    length.parse::<u8>().is_ok_and(|n| n <= most)
}
