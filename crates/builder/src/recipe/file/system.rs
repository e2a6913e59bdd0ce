//! Services and the other settings for PID1, as written.

use super::{SecretsWord, yes};
use bootwright_contract as contract;
use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceFile {
    pub name: String,
    /// Condition: `debug`, `!debug`, `name == value`, `name != value`.
    pub when: Option<String>,
    /// Take out the service of this name that an extended recipe has.
    #[serde(default)]
    pub remove: bool,
    /// Take the place of the one of this name that an extended recipe has: none of its keys stay.
    #[serde(default)]
    pub replace: bool,
    /// Absolute program path and arguments; `${ip}`, `${hostname}`, `${mac}` and `${gateway}` are filled in on the node.
    #[serde(default)]
    pub exec: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Services, or `network`, that must be ready first.
    #[serde(default)]
    pub after: Vec<String>,
    /// When it counts as ready; default: as soon as it runs.
    pub ready: Option<ReadyFile>,
    /// Seconds after which a start that did not become ready has failed.
    #[serde(default = "ready_timeout_s")]
    pub ready_timeout_s: u32,
    #[serde(default = "restart_always")]
    #[schemars(schema_with = "restart_schema")]
    pub restart: contract::Restart,
    /// First delay of the restart back-off, milliseconds; doubles up to 30 s.
    #[serde(default = "backoff_ms")]
    pub backoff_ms: u32,
    /// Signal name without `SIG`.
    #[serde(default = "stop_signal")]
    pub stop_signal: String,
    /// Seconds between the stop signal and SIGKILL.
    #[serde(default = "stop_timeout_s")]
    pub stop_timeout_s: u32,
    /// cgroups emptied once this service has stopped.
    #[serde(default)]
    pub stop_cgroups: Vec<String>,
    /// Bound of its log and of the log's one predecessor, each, KiB.
    #[serde(default = "log_kib")]
    pub log_kib: u32,
    /// Copy its output to the console.
    #[serde(default)]
    pub console: bool,
    /// The higher, the sooner it is ended when memory runs out; default 0, of a guarded service -500.
    #[schemars(range(min = -1000, max = 1000))]
    pub oom_score_adj: Option<i32>,
    /// What must go on when memory runs out: not the first that is ended, and what it needs most stays in memory.
    #[serde(default)]
    pub guarded: bool,
    /// Most memory that it may use, MiB; 0: no limit.
    #[serde(default)]
    pub memory_max_mib: u32,
    /// Most processes and threads; 0: no limit. Default: 15 % of what the machine can have.
    pub tasks_max: Option<u32>,
    /// Share of the processors beside other busy services.
    #[serde(default = "cpu_weight")]
    #[schemars(range(min = 1, max = 10000))]
    pub cpu_weight: u32,
    /// `allowed`: secrets may be in it, which whoever can fetch the image can read. With `secrets_reason`.
    pub secrets: Option<SecretsWord>,
    /// Why they are there.
    pub secrets_reason: Option<String>,
}

fn ready_timeout_s() -> u32 {
    60
}

fn restart_always() -> contract::Restart {
    contract::Restart::Always
}

fn restart_schema(_: &mut schemars::SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["always", "failure", "never"] })
}

fn backoff_ms() -> u32 {
    1000
}

fn stop_signal() -> String {
    "TERM".into()
}

fn stop_timeout_s() -> u32 {
    10
}

fn log_kib() -> u32 {
    1024
}

fn cpu_weight() -> u32 {
    100
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ReadyFile {
    Simple(SimpleReady),
    Probe(ReadyProbe),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SimpleReady {
    /// As soon as it runs.
    Started,
    /// When it has ended with status 0 (a one-shot).
    Exited,
}

/// Exactly one of them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadyProbe {
    /// Socket that accepts a connection.
    pub unix: Option<String>,
    /// URL that answers 200.
    pub http: Option<String>,
    /// Command that ends with status 0.
    pub exec: Option<Vec<String>>,
    /// File that exists.
    pub file: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostnameFile {
    /// Take the name that the DHCP server gives.
    #[serde(default = "yes")]
    pub dhcp: bool,
    /// Otherwise this name; default `node-` and the end of the MAC.
    pub fallback: Option<String>,
}

/// Swap on compressed memory.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportFile {
    /// Address that PID1 posts to how far the boot is, as JSON: `http://HOST[:PORT]/PATH`. An empty host (`http://:8080/report`)
    /// is the server that the machine was booted from.
    pub url: Option<String>,
    /// `allowed`: secrets may be in it, which whoever can fetch the image can read. With `secrets_reason`.
    pub secrets: Option<SecretsWord>,
    /// Why they are there.
    pub secrets_reason: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ZramFile {
    /// Uncompressed size, MiB.
    pub size_mib: Option<u32>,
    #[serde(default = "lz4")]
    pub algorithm: String,
    #[serde(default = "swappiness")]
    #[schemars(range(min = 0, max = 200))]
    pub swappiness: u32,
}

fn lz4() -> String {
    "lz4".into()
}

fn swappiness() -> u32 {
    100
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PolicyFile {
    Simple(SimplePolicy),
    Table(PolicyTable),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SimplePolicy {
    /// Go on without it.
    Degrade,
    /// A shell on the console if the image holds one, else halt with the reason on the console.
    Shell,
}

/// `retry` with `then`, or `reboot_after_s`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyTable {
    /// Try again that often; 0: for ever.
    pub retry: Option<u32>,
    /// What follows when no retry helped; default `degrade`.
    pub then: Option<Box<PolicyFile>>,
    /// Reboot after that many seconds.
    pub reboot_after_s: Option<u32>,
}
