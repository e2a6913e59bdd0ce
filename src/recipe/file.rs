//! A recipe file as it is written. The JSON schema is derived from these types, and files are checked against that
//! schema, so that both always say the same. What must be there is checked once `extends` has been merged: a file may
//! hold just the keys that it changes.

use super::{Expectation, Firmware, SegmentName};
use bootwright_contract as contract;
use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;
use std::collections::BTreeMap;

/// A bootwright recipe: what an image is made of.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecipeFile {
    /// Name of the image, the folder below `out/`. Default: the file's name without `.toml`.
    pub name: Option<String>,
    /// One line on what it is for.
    #[serde(default)]
    pub summary: String,
    /// Recipes that this one builds on: a name in the same folder or a relative path. Later ones win, this file last.
    pub extends: Option<OneOrMany>,
    /// Variables: `${name}` in strings, `when`, templates, `--set name=value`.
    #[serde(default)]
    pub vars: BTreeMap<String, VarFile>,
    pub kernel: Option<KernelFile>,
    /// Sets of files from one source each.
    #[serde(default)]
    pub component: Vec<ComponentFile>,
    /// Folders laid into the image.
    #[serde(default)]
    pub overlay: Vec<OverlayFile>,
    /// Files, folders and links written in the recipe itself.
    #[serde(default)]
    pub file: Vec<InlineFileFile>,
    /// Programs that PID1 starts and watches.
    #[serde(default)]
    pub service: Vec<ServiceFile>,
    pub network: Option<NetworkFile>,
    pub hostname: Option<HostnameFile>,
    /// Kernel parameters, dotted names as in sysctl(8).
    #[serde(default)]
    pub sysctls: BTreeMap<String, Scalar>,
    pub zram: Option<ZramFile>,
    /// What PID1 does when a phase of the boot fails, by phase.
    #[serde(default)]
    pub policies: BTreeMap<String, PolicyFile>,
    pub root: Option<RootFile>,
    pub pack: Option<PackFile>,
    pub budget: Option<BudgetFile>,
    pub smoke: Option<SmokeFile>,
    /// Seconds that a shutdown may take before the machine is reset or switched off regardless.
    #[serde(default = "shutdown_timeout_s")]
    pub shutdown_timeout_s: u32,
}

pub fn shutdown_timeout_s() -> u32 {
    60
}

/// A string or a list of them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// A string, number or boolean.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Scalar {
    Bool(bool),
    Int(i64),
    Text(String),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VarFile {
    /// What values it takes.
    #[serde(rename = "type")]
    pub kind: Option<VarType>,
    /// Its value unless `--set` gives another one.
    pub default: Option<Scalar>,
    /// One line for people.
    #[serde(default)]
    pub help: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VarType {
    Bool,
    Int,
    Text,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KernelFile {
    /// Component whose files hold `boot/vmlinuz-*` and `lib/modules/<release>/`.
    pub component: Option<String>,
    /// Kernel command line, words.
    #[serde(default)]
    pub cmdline: Vec<String>,
    /// Modules loaded before the root is mounted, in order: names, `@set`, modalias patterns.
    #[serde(default)]
    pub early: Vec<String>,
    /// Modules in the root, loaded when a device asks for them.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Modules in the root, loaded at boot, in order.
    #[serde(default)]
    pub load: Vec<String>,
    /// Named lists of modules, for `@name`.
    #[serde(default)]
    pub sets: BTreeMap<String, Vec<String>>,
    /// Whether the firmware that modules declare goes into the image.
    #[serde(default = "no_firmware")]
    pub firmware: Firmware,
    /// Globs below `lib/firmware/`: declared files that this image does without.
    #[serde(default)]
    pub firmware_skip: Vec<String>,
}

fn no_firmware() -> Firmware {
    Firmware::None
}

/// Exactly one of `deb`, `url`, `go`, `oci` and `path`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComponentFile {
    pub name: String,
    /// Condition: `debug`, `!debug`, `name == value`, `name != value`.
    pub when: Option<String>,
    /// Take out the component of this name that an extended recipe has.
    #[serde(default)]
    pub remove: bool,
    pub deb: Option<DebFile>,
    pub url: Option<UrlFile>,
    pub go: Option<GoFile>,
    pub oci: Option<OciFile>,
    pub path: Option<PathFile>,
    /// Globs of the files wanted; absent: everything; `[]`: only what others need of it.
    pub paths: Option<Vec<String>>,
    /// Globs never taken, not even for a dependency.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Further libraries to take with what they need (dlopen, NSS), by file name.
    #[serde(default)]
    pub libraries: Vec<String>,
    /// Path in the source -> path in the image.
    #[serde(default)]
    pub rename: BTreeMap<String, String>,
    #[serde(default = "root_segment")]
    pub segment: SegmentName,
}

fn root_segment() -> SegmentName {
    SegmentName::Root
}

fn config_segment() -> SegmentName {
    SegmentName::Config
}

fn yes() -> bool {
    true
}

/// Debian packages, resolved and verified by apt.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DebFile {
    /// Suite: `trixie`.
    pub suite: Option<String>,
    /// One package; or `packages`.
    pub package: Option<String>,
    #[serde(default)]
    pub packages: Vec<String>,
    /// Package names (globs) that the resolution leaves out.
    #[serde(default)]
    pub without: Vec<String>,
    /// Archive areas.
    #[serde(default = "main_area")]
    pub areas: Vec<String>,
    /// Use the suite's security updates.
    #[serde(default = "yes")]
    pub security: bool,
    /// Follow Depends; false: just the packages named.
    #[serde(default = "yes")]
    pub depends: bool,
}

fn main_area() -> Vec<String> {
    vec!["main".into()]
}

/// A file by URL.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UrlFile {
    /// One place; or `urls`.
    pub url: Option<String>,
    /// The same file from several places, tried in turn.
    #[serde(default)]
    pub urls: Vec<String>,
    /// 64 hex digits.
    pub sha256: Option<String>,
    /// Bytes.
    pub size: Option<u64>,
    /// Unpack a tar. Default: when the URL ends as a tar does (`.tar`, `.tar.gz`, `.tgz`, `.tar.xz`, `.tar.zst`).
    pub unpack: Option<bool>,
    /// Leading path components dropped when unpacking.
    #[serde(default)]
    pub strip: u32,
    /// Path in the image of a file that is not unpacked.
    pub name: Option<String>,
    /// Octal permissions of a file that is not unpacked.
    #[serde(default = "program_mode")]
    pub mode: String,
}

fn program_mode() -> String {
    "0755".into()
}

/// Programs built from Go modules: `module` and `version`, or `dir`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GoFile {
    /// Module path.
    pub module: Option<String>,
    /// Module version: `v1.2.3`.
    pub version: Option<String>,
    /// Folder with a main module of one's own, relative to this file.
    pub dir: Option<String>,
    /// Go package -> path in the image.
    #[serde(default)]
    pub packages: BTreeMap<String, String>,
    /// Build tags.
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default = "small_ldflags")]
    pub ldflags: String,
    #[serde(default)]
    pub gcflags: String,
    /// Edits of source files of other people's packages, for this build.
    #[serde(default)]
    pub edits: Vec<EditFile>,
}

fn small_ldflags() -> String {
    "-s -w -buildid=".into()
}

/// One edit of a Go source file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EditFile {
    /// Import path and file name: `text/template/exec.go`.
    pub file: String,
    /// Text that is there exactly once.
    pub find: String,
    /// What stands there instead.
    pub replace: String,
}

/// An OCI image: `image`, or `layout`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OciFile {
    /// `registry/repository:tag` or `registry/repository@sha256:...`.
    pub image: Option<String>,
    /// OCI layout folder relative to this file, with an optional `:ref`.
    pub layout: Option<String>,
    /// `os/architecture`.
    #[serde(default = "amd64")]
    pub platform: String,
    /// Speak plain HTTP to the registry (loopback, lab).
    #[serde(default)]
    pub plain_http: bool,
}

fn amd64() -> String {
    "linux/amd64".into()
}

/// A file or folder of this machine.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PathFile {
    /// Relative to this file.
    pub path: Option<String>,
    /// Path in the image of the file, or the folder that the directory becomes (default: the root).
    #[serde(default)]
    pub to: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OverlayFile {
    /// Folder, relative to this file. `x.j2` in it is a template and becomes `x`.
    pub dir: String,
    /// Folder in the image.
    #[serde(default)]
    pub to: String,
    /// Condition: `debug`, `!debug`, `name == value`, `name != value`.
    pub when: Option<String>,
    #[serde(default = "config_segment")]
    pub segment: SegmentName,
}

/// Exactly one of `content`, `link`, `dir` and `init`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InlineFileFile {
    /// Path in the image.
    pub path: String,
    /// Condition: `debug`, `!debug`, `name == value`, `name != value`.
    pub when: Option<String>,
    /// Take out the file of this path that an extended recipe has.
    #[serde(default)]
    pub remove: bool,
    /// A file with this text.
    pub content: Option<String>,
    /// A symlink to this target.
    pub link: Option<String>,
    /// A folder.
    #[serde(default)]
    pub dir: bool,
    /// A further name of PID1.
    #[serde(default)]
    pub init: bool,
    /// Octal permissions; default 0644, folders and PID1 0755.
    pub mode: Option<String>,
    #[serde(default)]
    pub uid: u32,
    #[serde(default)]
    pub gid: u32,
    #[serde(default = "config_segment")]
    pub segment: SegmentName,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceFile {
    pub name: String,
    /// Condition: `debug`, `!debug`, `name == value`, `name != value`.
    pub when: Option<String>,
    /// Take out the service of this name that an extended recipe has.
    #[serde(default)]
    pub remove: bool,
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
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1000))]
    pub oom_score_adj: i32,
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
pub struct NetworkFile {
    #[serde(default = "dhcp")]
    #[schemars(schema_with = "network_mode_schema")]
    pub mode: contract::NetworkMode,
    /// Interface name or MAC; default: `BOOTIF` or `ip=` on the command line, else the one with a carrier.
    pub interface: Option<String>,
    /// `static` only: addresses with prefix, `192.0.2.7/24`.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// `static` only.
    pub gateway: Option<String>,
    /// Name servers; with `dhcp` they come before those of the lease.
    #[serde(default)]
    pub dns: Vec<String>,
    /// Search domains.
    #[serde(default)]
    pub search: Vec<String>,
    pub mtu: Option<u32>,
    /// Seconds to wait for a carrier, and then for a lease.
    #[serde(default = "network_timeout_s")]
    pub timeout_s: u32,
}

fn dhcp() -> contract::NetworkMode {
    contract::NetworkMode::Dhcp
}

fn network_mode_schema(_: &mut schemars::SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["none", "dhcp", "static"] })
}

fn network_timeout_s() -> u32 {
    60
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

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RootFile {
    #[serde(default = "ram")]
    #[schemars(schema_with = "root_mode_schema")]
    pub mode: contract::RootMode,
    /// The root as a compressed image below an overlay, or unpacked.
    #[serde(default = "squashfs")]
    #[schemars(schema_with = "root_image_schema")]
    pub image: contract::RootImage,
    /// Block (squashfs) or cluster (erofs) size, KiB.
    #[serde(default = "block_kib")]
    pub block_kib: u32,
    #[serde(default = "zstd")]
    pub compressor: Compressor,
    /// Level of the compressor; default: its own.
    pub level: Option<u32>,
    /// Size of the tmpfs that takes writes to `/`: `32M`, `25%`.
    #[serde(default = "overlay_size")]
    pub overlay_size: String,
    /// Read-ahead of the image's loop device, KiB; default: the kernel's own.
    pub read_ahead_kb: Option<u32>,
    /// More tmpfs mounts.
    #[serde(default)]
    pub tmpfs: Vec<TmpfsFile>,
}

fn ram() -> contract::RootMode {
    contract::RootMode::Ram
}

fn root_mode_schema(_: &mut schemars::SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["ram"] })
}

fn squashfs() -> contract::RootImage {
    contract::RootImage::Squashfs
}

fn root_image_schema(_: &mut schemars::SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["squashfs", "erofs", "cpio"] })
}

fn block_kib() -> u32 {
    128
}

fn zstd() -> Compressor {
    Compressor::Zstd
}

fn overlay_size() -> String {
    "25%".into()
}

/// Compressor of a squashfs or erofs image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compressor {
    Zstd,
    Xz,
    Gzip,
    Lz4,
    Lz4hc,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TmpfsFile {
    /// Absolute path on the node.
    pub path: String,
    /// `size=` of tmpfs(5): `64M`, `50%`.
    pub size: Option<String>,
    /// Octal permissions of its root folder.
    #[serde(default = "program_mode")]
    pub mode: String,
}

/// `none`, `gzip:<0-9>`, `xz:<0-9>`, `xz:<0-9>+x86`, `zstd:<1-22>`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PackFile {
    /// Boot segment, and the root segment when the root is a cpio.
    #[serde(default = "strong")]
    pub stable: String,
    /// Config segment.
    #[serde(default = "strong")]
    pub volatile: String,
}

pub fn strong() -> String {
    "zstd:19".into()
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetFile {
    /// Kernel and initrd, MB (10^6 bytes).
    pub boot_files_mb: Option<f64>,
    /// RAM that must do, MiB.
    pub ram_mib: Option<u64>,
    /// RAM that the workload needs beside the image, MiB.
    pub workload_mib: Option<u64>,
    /// Packed size of a component, MB, by component.
    #[serde(default)]
    pub components: BTreeMap<String, f64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SmokeFile {
    #[serde(default = "smoke_ram_mib")]
    #[schemars(range(min = 32))]
    pub ram_mib: u32,
    /// Virtual processors.
    #[serde(default = "smoke_smp")]
    #[schemars(range(min = 1))]
    pub smp: u32,
    /// Seconds for all expectations.
    #[serde(default = "smoke_deadline_s")]
    #[schemars(range(min = 1))]
    pub deadline_s: u32,
    /// What must be reached; default `phases-done`.
    #[serde(default)]
    pub expect: Vec<Expectation>,
    /// More words for the kernel command line.
    #[serde(default)]
    pub cmdline: Vec<String>,
}

pub fn smoke_ram_mib() -> u32 {
    512
}

pub fn smoke_smp() -> u32 {
    1
}

pub fn smoke_deadline_s() -> u32 {
    120
}
