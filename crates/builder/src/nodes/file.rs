//! `nodes.toml` as it is written. Its JSON schema is derived from these types, and files are checked against it.

use crate::recipe::file::{OneOrMany, Scalar, SecretsWord};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Which machine boots what.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodesFile {
    pub server: Option<ServerFile>,
    pub menu: Option<MenuFile>,
    pub defaults: Option<DefaultsFile>,
    /// The Kubernetes cluster that the nodes join; `bootwright cluster add` writes it.
    pub cluster: Option<ClusterFile>,
    /// A machine.
    #[serde(default)]
    pub node: Vec<NodeFile>,
}

/// The boot server.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerFile {
    /// Address under which machines find the folder of images: `http://192.0.2.1:8080`.
    pub url: Option<String>,
    /// Interface that dnsmasq answers on.
    pub interface: Option<String>,
    /// Answer beside another DHCP server: an address of the network, `192.0.2.0`.
    pub proxy: Option<String>,
    /// Be the DHCP server: first address, last address, and if wanted netmask and lease time, as dnsmasq's `dhcp-range`.
    pub dhcp_range: Option<String>,
    /// Let nodes report how far they are to this server.
    #[serde(default)]
    pub report: bool,
}

/// What a machine that is no known node is offered.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MenuFile {
    /// Taken when nobody chooses: an image (`worker`, `worker-nbd`), `local`, `shell` or `reboot`. Default: what
    /// `[defaults]` boots, else the first image.
    pub default: Option<String>,
    /// Seconds until then; 0 waits for ever.
    #[serde(default = "timeout_s")]
    #[schemars(range(min = 0, max = 3600))]
    pub timeout_s: u32,
}

pub fn timeout_s() -> u32 {
    10
}

/// What holds for each node that does not say otherwise. A node's own list replaces the one here; `vars` are joined by name.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DefaultsFile {
    pub recipe: Option<String>,
    pub root: Option<OneOrMany>,
    pub ibft: Option<bool>,
    pub gateway: Option<String>,
    pub dns: Option<Vec<String>>,
    pub cmdline: Option<Vec<String>>,
    pub overlay: Option<OneOrMany>,
    #[serde(default)]
    pub modes: BTreeMap<String, String>,
    /// `allowed`: secrets may be in the files and words of a node, which whoever asks the boot server gets. With `secrets_reason`.
    pub secrets: Option<SecretsWord>,
    /// Why they are there.
    pub secrets_reason: Option<String>,
    #[serde(default)]
    pub vars: BTreeMap<String, Scalar>,
}

/// The Kubernetes cluster that the nodes join.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterFile {
    /// Names it in files and messages.
    pub name: String,
    /// API servers as nodes reach them: `https://192.0.2.1:6443`. A node takes the first that it reaches.
    pub servers: Vec<String>,
    /// Addresses of the cluster's DNS; without any, pods have the node's own name servers.
    #[serde(default)]
    pub dns: Vec<String>,
    /// DNS domain of the cluster.
    #[serde(default = "domain")]
    pub domain: String,
    /// The boot server's own kubeconfig, relative to this file. It is secret.
    pub credentials: String,
    /// The key that answers to nodes are signed with, relative to this file. It is secret; its public half lies beside it.
    pub signing_key: String,
    /// The certificate authority of API servers and nodes, PEM.
    pub ca: String,
}

pub fn domain() -> String {
    "cluster.local".into()
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeFile {
    /// Names it in menus and files.
    pub name: Option<String>,
    /// MAC addresses of the cards that it may boot from.
    pub mac: Option<OneOrMany>,
    /// The firmware's UUID (SMBIOS). A MAC that fits comes first: some boards all have the same UUID.
    pub uuid: Option<String>,
    /// Its host name. Default: `name`.
    pub hostname: Option<String>,
    /// Static address with prefix, `192.0.2.7/24`; without one the node asks DHCP.
    pub address: Option<String>,
    pub gateway: Option<String>,
    pub dns: Option<Vec<String>>,
    /// The recipe that it boots.
    pub recipe: Option<String>,
    /// The mode of the root, as in recipes: the image's own source; or addresses of its root, tried in turn.
    pub root: Option<OneOrMany>,
    /// Let iPXE connect to the iSCSI target first and hand the connection's parameters over (iBFT).
    pub ibft: Option<bool>,
    /// More words for the kernel command line.
    pub cmdline: Option<Vec<String>>,
    /// Folders of files laid over the node's root, relative to this file. `x.j2` is a template and becomes `x`.
    pub overlay: Option<OneOrMany>,
    /// Path below those folders -> octal permissions, perhaps with an owner: `0640`, `0640 0:42`. Joined by path with those of
    /// `[defaults]`.
    #[serde(default)]
    pub modes: BTreeMap<String, String>,
    /// `allowed`: secrets may be in the files and words of a node, which whoever asks the boot server gets. With `secrets_reason`.
    pub secrets: Option<SecretsWord>,
    /// Why they are there.
    pub secrets_reason: Option<String>,
    /// Variables for templates, beside `name`, `hostname`, `address`, `prefix`, `gateway`, `mac`, `uuid` and `recipe`.
    #[serde(default)]
    pub vars: BTreeMap<String, Scalar>,
}
