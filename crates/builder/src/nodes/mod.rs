//! `nodes.toml`: which machine boots what. This file holds the checked result.

mod check;
mod error;
pub mod file;
#[cfg(test)]
mod tests;
mod values;

pub use check::{load_nodes, nodes_schema, parse_nodes_text};
pub use error::NodesError;
pub use values::{
    Mac, is_api_server, is_dhcp_range, is_hostname, is_interface, parse_mac, parse_server_url, parse_uuid,
};

use crate::local::Modes;
use crate::recipe::{Origin, VarValue};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

/// A checked `nodes.toml`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Nodes {
    pub server: BootServer,
    pub menu: Menu,
    /// What `[defaults]` boots; a menu offers it first.
    pub image: Option<String>,
    /// In the order of the file.
    pub nodes: Vec<Node>,
    /// What the nodes join, if they join one.
    pub cluster: Option<Cluster>,
}

impl Nodes {
    /// Secrets are allowed for one of them.
    pub fn hold_secrets(&self) -> bool {
        self.nodes.iter().any(|node| node.secrets.is_some())
    }
}

/// The boot server, as machines see it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BootServer {
    /// Scheme, host and port, perhaps a path, no `/` at the end.
    pub url: Option<String>,
    /// Interface that dnsmasq answers on.
    pub interface: Option<String>,
    pub dhcp: Dhcp,
    /// Nodes post their timeline to `<url>/report`.
    pub report: bool,
}

/// What dnsmasq does about addresses.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Dhcp {
    /// Nothing is said: the configuration is for a DHCP server that is there.
    #[default]
    None,
    /// Only tell how to boot, on the network of that address.
    Proxy(Ipv4Addr),
    /// First, last, and what else dnsmasq's `dhcp-range` takes.
    Range(String),
}

/// What a machine that is no known node is offered.
#[derive(Debug, Clone, PartialEq)]
pub struct Menu {
    /// An image, or one of [`MENU_WORDS`].
    pub default: Option<String>,
    /// 0 waits for ever.
    pub timeout_s: u32,
}

impl Default for Menu {
    fn default() -> Self {
        Self { default: None, timeout_s: file::timeout_s() }
    }
}

/// What a menu offers beside images and nodes.
pub const MENU_WORDS: [&str; 3] = ["local", "shell", "reboot"];

/// A Kubernetes cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    pub name: String,
    /// API servers as nodes reach them, `https://HOST:PORT`.
    pub servers: Vec<String>,
    /// The certificates that the API servers' and all nodes' are signed by, PEM.
    pub ca: String,
    /// Addresses of the cluster's DNS.
    pub dns: Vec<IpAddr>,
    pub domain: String,
    /// The boot server's own kubeconfig.
    pub credentials: PathBuf,
    /// By which nodes know the boot server's answers; the public half is beside it, with `.pub` behind the name.
    pub signing_key: PathBuf,
}

/// One machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub origin: Origin,
    pub name: String,
    pub macs: Vec<Mac>,
    /// Lower case.
    pub uuid: Option<String>,
    pub hostname: String,
    pub address: Option<Address>,
    pub gateway: Option<IpAddr>,
    pub dns: Vec<IpAddr>,
    pub recipe: String,
    /// Folder of its image below `out/`: the recipe, with the kind of its root unless that is RAM.
    pub image: String,
    /// Addresses of its root; empty: what the image says.
    pub roots: Vec<String>,
    /// iPXE hands the iSCSI connection over.
    pub ibft: bool,
    pub cmdline: Vec<String>,
    /// Absolute.
    pub overlays: Vec<PathBuf>,
    /// Permissions and owners in the overlays that are not the usual ones.
    pub modes: Modes,
    /// Why secrets are allowed in its files and words.
    pub secrets: Option<String>,
    pub vars: BTreeMap<String, VarValue>,
}

/// A static address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    pub ip: IpAddr,
    pub prefix: u8,
}
