//! `bootwright serve`

use super::boot::ChainArgs;
use crate::error::Failure;
use crate::nodes::{Dhcp, Nodes, is_dhcp_range, is_interface};
use crate::serve::{LOADERS_PLACE, ServeOptions, serve};
use crate::ui::Ui;
use clap::Args;
use nix::ifaddrs::getifaddrs;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub chain: ChainArgs,
    /// Where HTTP listens
    #[arg(short, long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Interface of the machines' network: dnsmasq answers on it [default: as nodes.toml says]
    #[arg(short, long, value_name = "NAME", value_parser = parse_interface)]
    pub interface: Option<String>,
    /// Tell machines how to boot, beside the DHCP server of that network (proxyDHCP); needs root
    #[arg(long, value_name = "NETWORK", conflicts_with = "dhcp_range")]
    pub proxy: Option<Ipv4Addr>,
    /// Be the network's DHCP server: FIRST,LAST[,NETMASK][,LEASE]; needs root
    #[arg(long, value_name = "RANGE", value_parser = parse_range)]
    pub dhcp_range: Option<String>,
    /// Folder with iPXE's undionly.kpxe and ipxe.efi
    #[arg(long, value_name = "DIR", default_value = LOADERS_PLACE)]
    pub loaders: PathBuf,
}

/// Writes the boot chain and serves it until Ctrl-C.
pub fn run(args: &ServeArgs, ui: Ui) -> Result<(), Failure> {
    let mut nodes = args.chain.load()?;
    if args.interface.is_some() {
        nodes.server.interface = args.interface.clone();
    }
    match (args.proxy, &args.dhcp_range) {
        (Some(network), _) => nodes.server.dhcp = Dhcp::Proxy(network),
        (_, Some(range)) => nodes.server.dhcp = Dhcp::Range(range.clone()),
        _ => {}
    }
    if nodes.server.url.is_none() {
        nodes.server.url = own_address(args.listen.ip(), &nodes)
            .map(|ip| format!("http://{}", SocketAddr::new(ip, args.listen.port())));
    }
    nodes.server.report |= nodes.server.url.is_some();
    let written = args.chain.write(&nodes, &ui)?;
    let options = ServeOptions {
        listen: args.listen,
        out: args.chain.out.out.clone(),
        loaders: args.loaders.clone(),
        dhcp: may_answer_dhcp(&nodes, &ui)?,
    };
    Ok(serve(&options, &nodes, &written, ui)?)
}

fn parse_interface(name: &str) -> Result<String, String> {
    match is_interface(name) {
        true => Ok(name.into()),
        false => Err("not the name of a network interface".into()),
    }
}

fn parse_range(range: &str) -> Result<String, String> {
    match is_dhcp_range(range) {
        true => Ok(range.into()),
        false => Err("not FIRST,LAST[,NETMASK][,LEASE], such as 192.0.2.100,192.0.2.199,12h".into()),
    }
}

/// Ports 67 and 69 are root's.
fn may_answer_dhcp(nodes: &Nodes, ui: &Ui) -> Result<bool, Failure> {
    if nodes.server.dhcp == Dhcp::None {
        return Ok(false);
    }
    if let Some(name) = nodes.server.interface.as_deref().filter(|_| nodes.server.url.is_none()) {
        return Err(unusable_interface(name));
    }
    if nodes.server.url.is_none() {
        let help = "name it with --url http://ADDRESS:PORT, or the network's interface with --interface";
        return Err(super::usage("DHCP has to name this server, and its address is not known", help));
    }
    if !nix::unistd::geteuid().is_root() {
        ui.say("warning: only root may answer DHCP and TFTP (ports 67 and 69): serving HTTP only");
        return Ok(false);
    }
    Ok(true)
}

/// An interface that gave no address to be reached at.
fn unusable_interface(name: &str) -> Failure {
    let all =
        getifaddrs().map(|found| found.map(|one| one.interface_name).collect::<BTreeSet<_>>()).unwrap_or_default();
    match all.contains(name) {
        true => super::usage(
            &format!("the interface `{name}` has no IPv4 address"),
            "give it one, or name the address that machines reach this server at with --url http://ADDRESS:PORT",
        ),
        false => super::usage(
            &format!("there is no network interface `{name}`"),
            &format!("those of this machine are: {}", all.into_iter().collect::<Vec<_>>().join(", ")),
        ),
    }
}

/// The address that machines reach us at: the one that HTTP listens on, or the interface's first.
fn own_address(listen: IpAddr, nodes: &Nodes) -> Option<IpAddr> {
    if !listen.is_unspecified() {
        return Some(listen);
    }
    let wanted = nodes.server.interface.as_deref();
    let found = getifaddrs().ok()?.filter(|one| match wanted {
        Some(name) => one.interface_name == name,
        None => !one.flags.contains(nix::net::if_::InterfaceFlags::IFF_LOOPBACK),
    });
    let mut addresses = found.filter_map(|one| Some(IpAddr::V4(one.address?.as_sockaddr_in()?.ip())));
    let first = addresses.next()?;
    // With several networks and none named, a guess would be wrong as often as not.
    (wanted.is_some() || addresses.next().is_none()).then_some(first)
}
