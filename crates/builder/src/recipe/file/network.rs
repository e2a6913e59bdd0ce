//! `[network]` and `[time]`, as written.

use super::{OneOrMany, Scalar};
use bootwright_contract as contract;
use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkFile {
    #[serde(default = "dhcp")]
    #[schemars(schema_with = "mode_schema")]
    pub mode: contract::NetworkMode,
    /// IPv6 beside static addresses: what routers say (`auto`), that and DHCPv6 (`dhcp`), or only the link-local address
    /// (`off`). Default: `auto` with `mode = "dhcp"`, else `off`.
    #[serde(default)]
    #[schemars(schema_with = "ipv6_schema")]
    pub ipv6: Option<contract::Ipv6Mode>,
    /// Interface name or MAC, or several, the preferred one first; default: `BOOTIF` or `ip=` on the command line, else
    /// the one with a carrier.
    pub interface: Option<OneOrMany>,
    /// `static` only: addresses with prefix, `192.0.2.7/24`, `2001:db8::7/64`.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// `static` only; two if one is IPv6.
    pub gateway: Option<OneOrMany>,
    /// Name servers; with `dhcp` they come in place of those of the lease.
    #[serde(default)]
    pub dns: Vec<String>,
    /// Search domains.
    #[serde(default)]
    pub search: Vec<String>,
    pub mtu: Option<u32>,
    /// Seconds to wait for a carrier, and then for a lease.
    #[serde(default = "timeout_s")]
    pub timeout_s: u32,
    /// Several links as one.
    #[serde(default)]
    pub bond: Vec<BondFile>,
    /// VLANs of a link or bond.
    #[serde(default)]
    pub vlan: Vec<VlanFile>,
    /// Interfaces beside the first one; they get no default gateway, and nothing waits for them.
    #[serde(default)]
    pub extra: Vec<ExtraFile>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BondFile {
    pub name: String,
    /// Names or MACs of its links.
    pub interfaces: Vec<String>,
    /// The kernel's word: `active-backup`, `802.3ad`, `balance-xor`, ...
    #[serde(default = "bond_mode")]
    pub mode: String,
    /// More of the kernel's options: `miimon` (100 unless given), `lacp_rate`, `xmit_hash_policy`, ...
    #[serde(default)]
    pub options: BTreeMap<String, Scalar>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VlanFile {
    /// 1 to 4094.
    pub id: u16,
    /// Name or MAC of the link below.
    pub interface: String,
    /// Default: `<interface>.<id>`, which needs a name below, no MAC.
    pub name: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtraFile {
    /// Name or MAC.
    pub interface: String,
    #[serde(default = "dhcp")]
    #[schemars(schema_with = "mode_schema")]
    pub mode: contract::NetworkMode,
    /// As in `[network]`; default `off`.
    #[serde(default)]
    #[schemars(schema_with = "ipv6_schema")]
    pub ipv6: Option<contract::Ipv6Mode>,
    /// `static` only.
    #[serde(default)]
    pub addresses: Vec<String>,
    pub mtu: Option<u32>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeFile {
    /// SNTP servers, addresses or names, beside those that DHCP names. None of ours is asked otherwise.
    #[serde(default)]
    pub servers: Vec<String>,
}

fn dhcp() -> contract::NetworkMode {
    contract::NetworkMode::Dhcp
}

fn bond_mode() -> String {
    "active-backup".into()
}

fn mode_schema(_: &mut schemars::SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["none", "dhcp", "static"] })
}

fn ipv6_schema(_: &mut schemars::SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["off", "auto", "dhcp"] })
}

fn timeout_s() -> u32 {
    60
}
