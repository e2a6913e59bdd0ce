//! What the network shall be: the boot config with the command line over it.

use super::dhcp::lease::is_usable;
use super::ip_param::{IpParam, IpParamError, Method, parse_cidr, parse_ip_param, parse_mac};
use super::netlink::route::Link;
use crate::cmdline::Cmdline;
use bootwright_contract::{Network, NetworkMode};
use std::net::Ipv4Addr;

/// The whole plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub source: Source,
    pub select: Select,
    /// From `ip=`.
    pub hostname: Option<String>,
    /// Come before the lease's when not empty.
    pub dns: Vec<Ipv4Addr>,
    pub search: Vec<String>,
    pub mtu: Option<u32>,
    pub timeout_s: u32,
}

/// Where addresses come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Only the loopback link.
    None,
    Dhcp,
    Static {
        addresses: Vec<(Ipv4Addr, u8)>,
        gateway: Option<Ipv4Addr>,
    },
}

/// Which link is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Select {
    Mac([u8; 6]),
    Name(String),
    /// The first that has a carrier and, with DHCP, gets a lease.
    Carrier,
}

/// What the plan cannot be made from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error(transparent)]
    Ip(#[from] IpParamError),
    #[error("`BOOTIF={0}` is no MAC: expected `01-aa-bb-cc-dd-ee-ff`")]
    BootIf(String),
    #[error("boot config: `{key}` is no {expected}: `{found}`")]
    Config { key: &'static str, expected: &'static str, found: String },
    #[error("boot config: `network.addresses` is empty")]
    NoAddress,
}

/// Puts the command line's `ip=` and `BOOTIF=` over the boot config.
pub fn plan(config: &Network, cmdline: &Cmdline) -> Result<Plan, PlanError> {
    let param = cmdline.value("ip").map(parse_ip_param).transpose()?;
    let boot_if = match cmdline.value("BOOTIF") {
        Some(text) => Some(parse_mac(text).ok_or_else(|| PlanError::BootIf(text.into()))?),
        None => None,
    };
    let select = match (boot_if, &param, &config.interface) {
        (Some(mac), ..) => Select::Mac(mac),
        (None, Some(IpParam { device: Some(name), .. }), _) | (None, _, Some(name)) => select_named(name),
        _ => Select::Carrier,
    };
    let mut dns = param.as_ref().map(|p| p.dns.clone()).unwrap_or_default();
    if dns.is_empty() {
        dns = addresses("network.dns", &config.dns)?;
    }
    Ok(Plan {
        source: source(config, param.as_ref())?,
        select,
        hostname: param.as_ref().and_then(|p| p.hostname.clone()),
        dns,
        search: config.search.clone(),
        mtu: param.as_ref().and_then(|p| p.mtu).or(config.mtu),
        timeout_s: config.timeout_s,
    })
}

fn select_named(name: &str) -> Select {
    parse_mac(name).map_or_else(|| Select::Name(name.into()), Select::Mac)
}

fn source(config: &Network, param: Option<&IpParam>) -> Result<Source, PlanError> {
    if let Some(param) = param {
        return Ok(match (param.method, param.address) {
            (Method::Off, _) => Source::None,
            (Method::Static, Some(address)) => Source::Static { addresses: vec![address], gateway: param.gateway },
            _ => Source::Dhcp,
        });
    }
    match config.mode {
        NetworkMode::None => Ok(Source::None),
        NetworkMode::Dhcp => Ok(Source::Dhcp),
        NetworkMode::Static => {
            let addresses = config.addresses.iter().map(|text| {
                let bad = || bad("network.addresses", "usable address with prefix", text);
                parse_cidr(text).filter(|(address, _)| is_usable(*address)).ok_or_else(bad)
            });
            let addresses: Vec<_> = addresses.collect::<Result<_, _>>()?;
            if addresses.is_empty() {
                return Err(PlanError::NoAddress);
            }
            let gateway = config.gateway.iter().map(|text| parse_one("network.gateway", text)).next().transpose()?;
            Ok(Source::Static { addresses, gateway })
        }
    }
}

fn addresses(key: &'static str, texts: &[String]) -> Result<Vec<Ipv4Addr>, PlanError> {
    texts.iter().map(|text| parse_one(key, text)).collect()
}

fn parse_one(key: &'static str, text: &str) -> Result<Ipv4Addr, PlanError> {
    text.parse().map_err(|_| bad(key, "IPv4 address", text))
}

fn bad(key: &'static str, expected: &'static str, found: &str) -> PlanError {
    PlanError::Config { key, expected, found: found.into() }
}

impl Select {
    /// Whether the link may be used at all; by carrier only real Ethernet devices are.
    pub fn matches(&self, link: &Link) -> bool {
        match self {
            _ if link.loopback => false,
            Select::Mac(mac) => link.mac == *mac && !link.made_by_software,
            Select::Name(name) => link.name == *name,
            Select::Carrier => link.ethernet && !link.made_by_software,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::parse_cmdline;

    fn config(mode: NetworkMode) -> Network {
        Network {
            mode,
            interface: None,
            addresses: vec![],
            gateway: None,
            dns: vec!["10.9.9.9".into()],
            search: vec![],
            mtu: None,
            timeout_s: 60,
        }
    }

    #[test]
    fn the_command_line_comes_first() {
        let mac = Select::Mac([2, 0, 0, 0, 0, 1]);
        let mut config = config(NetworkMode::Dhcp);
        config.interface = Some("eth5".into());
        for (text, source, select) in [
            ("", Source::Dhcp, Select::Name("eth5".into())),
            ("ip=off", Source::None, Select::Name("eth5".into())),
            ("ip=eth1:dhcp", Source::Dhcp, Select::Name("eth1".into())),
            ("ip=eth1:dhcp BOOTIF=01-02-00-00-00-00-01", Source::Dhcp, mac.clone()),
        ] {
            let plan = plan(&config, &parse_cmdline(text)).expect(text);
            assert_eq!((plan.source, plan.select), (source, select), "{text}");
            assert_eq!(plan.dns, ["10.9.9.9".parse::<Ipv4Addr>().expect("an address")]);
        }
        config.interface = Some("02:00:00:00:00:01".into());
        assert_eq!(plan(&config, &parse_cmdline("")).expect("good").select, mac);
        let dns = plan(&config, &parse_cmdline("ip=1.2.3.4:::24:n1:eth0:off:1.1.1.1")).expect("good").dns;
        assert_eq!(dns, ["1.1.1.1".parse::<Ipv4Addr>().expect("an address")]);
    }

    #[test]
    fn bad_plans_say_why() {
        let mut fixed = config(NetworkMode::Static);
        assert_eq!(plan(&fixed, &parse_cmdline("")), Err(PlanError::NoAddress));
        for (address, message) in [("10.0.0.1", "`network.addresses`"), ("169.254.1.1/16", "169.254.1.1/16")] {
            fixed.addresses = vec![address.into()];
            let error = plan(&fixed, &parse_cmdline("")).expect_err(address).to_string();
            assert!(error.contains(message), "{error}");
        }
        let dhcp = config(NetworkMode::Dhcp);
        let error = plan(&dhcp, &parse_cmdline("BOOTIF=eth0")).expect_err("no MAC").to_string();
        assert!(error.contains("`BOOTIF=eth0`"), "{error}");
        assert!(plan(&dhcp, &parse_cmdline("ip=bogus")).is_err());
    }
}
