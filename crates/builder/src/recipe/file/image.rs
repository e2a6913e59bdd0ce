//! `[root]`, `[pack]`, `[budget]` and `[smoke]`, as written.

use super::{OneOrMany, SecretsWord, program_mode};
use crate::recipe::RootMode;
use bootwright_contract as contract;
use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RootFile {
    /// Where the root is when the machine runs; `--root` comes before it.
    #[serde(default = "ram")]
    pub mode: RootMode,
    /// Where a network root comes from: URLs whose schemes are the modes, tried in turn. An empty host is the server that the
    /// machine was booted from.
    pub source: Option<OneOrMany>,
    /// Further modes that `bw.root=` may choose on the command line: the initrd of a network root holds their modules too.
    #[serde(default)]
    pub choices: Vec<RootMode>,
    /// The root as a compressed image below an overlay, or unpacked.
    #[serde(default = "squashfs")]
    #[schemars(schema_with = "root_image_schema")]
    pub image: contract::RootImage,
    /// Block (squashfs) or cluster (erofs) size, KiB.
    #[serde(default = "block_kib")]
    pub block_kib: u32,
    /// The same where the root is on the network: smaller blocks spare memory, larger ones requests. Default: `block_kib`.
    pub network_block_kib: Option<u32>,
    #[serde(default = "zstd")]
    pub compressor: Compressor,
    /// Level of the compressor; default: its own.
    pub level: Option<u32>,
    /// Size of the tmpfs that takes writes to `/`: `32M`, `25%`; with `[memory]` also a share, `system:40%+pods:15%`.
    #[serde(default = "overlay_size")]
    pub overlay_size: String,
    /// Read-ahead of the image's loop device, KiB; default: the kernel's own.
    pub read_ahead_kb: Option<u32>,
    /// The same where the root is on the network. Default: `read_ahead_kb`.
    pub network_read_ahead_kb: Option<u32>,
    /// More tmpfs mounts.
    #[serde(default)]
    pub tmpfs: Vec<TmpfsFile>,
    /// Bind mounts: folders that are shown elsewhere too.
    #[serde(default)]
    pub bind: Vec<BindFile>,
    /// What to do when the server of a network root is lost and stays so.
    #[serde(default)]
    pub lost: OrReboot<LostWord>,
    /// What to do when a server gives out another block of the image than was packed.
    #[serde(default)]
    pub corrupted: OrReboot<CorruptedWord>,
    /// Public key (PEM) whose signed roots are taken beside the one of this build; `build --sign` sets it as well.
    pub trust: Option<String>,
    /// With `trust`: refuse roots whose serial is lower than that of this build.
    #[serde(default)]
    pub refuse_downgrade: bool,
    /// `allowed`: secrets may be in it, which whoever can fetch the image can read. With `secrets_reason`.
    pub secrets: Option<SecretsWord>,
    /// Why they are there.
    pub secrets_reason: Option<String>,
}

/// A word for going on, or `{ reboot_after_s = 300 }`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OrReboot<W> {
    GoOn(W),
    Reboot(Reboot),
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LostWord {
    /// Try to reach it again, for ever; what needs the root waits.
    #[default]
    Wait,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CorruptedWord {
    /// Say so, on the console and in the report. What needs the block fails.
    #[default]
    Report,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reboot {
    /// Reboot that many seconds after it began.
    pub reboot_after_s: u32,
}

impl<W: Default> Default for OrReboot<W> {
    fn default() -> Self {
        Self::GoOn(W::default())
    }
}

impl<W> OrReboot<W> {
    /// Seconds; `None`: never.
    pub fn after_s(&self) -> Option<u32> {
        match self {
            Self::GoOn(_) => None,
            Self::Reboot(reboot) => Some(reboot.reboot_after_s),
        }
    }
}

fn ram() -> RootMode {
    RootMode::Ram
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
    /// `size=` of tmpfs(5): `64M`, `50%`; with `[memory]` also a share, `images:60%+pods:30%`.
    pub size: Option<String>,
    /// Octal permissions of its root folder.
    #[serde(default = "program_mode")]
    pub mode: String,
    /// It grows a little while it is full, up to 1 MiB and 256 files, so that what has to clear it can write. Of one tmpfs.
    #[serde(default)]
    pub reserve: bool,
}

/// Made after the mounts of `[state]`, and not where one of those lies at or above `path`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BindFile {
    /// Absolute path on the node.
    pub path: String,
    /// The folder that is shown there, made when it is missing: absolute path on the node.
    pub source: Option<String>,
    /// Octal permissions of the folder.
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
    /// Boot segment of a network root, which is most of what is loaded then. With xz it is a twentieth smaller, and the
    /// kernel takes ten times as long to unpack it.
    #[serde(default = "strongest")]
    pub netroot: String,
}

pub fn strong() -> String {
    "zstd:19".into()
}

fn strongest() -> String {
    "zstd:22".into()
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetFile {
    /// Kernel and initrd, MB (10^6 bytes).
    pub boot_files_mb: Option<f64>,
    /// Initrd of a network root, MB.
    pub netroot_initrd_mb: Option<f64>,
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
    /// What must be reached: `phases-done`, `ssh-answers`, `service:NAME`; default `phases-done`.
    #[serde(default)]
    pub expect: Vec<String>,
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
