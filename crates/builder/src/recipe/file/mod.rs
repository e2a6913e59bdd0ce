//! A recipe file as it is written. The JSON schema is derived from these types, and files are checked against that
//! schema, so that both always say the same. What must be there is checked once `extends` has been merged: a file may
//! hold just the keys that it changes.

mod image;
mod network;
mod registry;
mod state;
mod system;

pub use image::*;
pub use network::*;
pub use registry::*;
pub use state::*;
pub use system::*;

use super::component::ComponentFile;
use super::{Firmware, SegmentName};
use schemars::JsonSchema;
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
    pub time: Option<TimeFile>,
    pub hostname: Option<HostnameFile>,
    /// Kernel parameters, dotted names as in sysctl(8).
    #[serde(default)]
    pub sysctls: BTreeMap<String, Scalar>,
    pub zram: Option<ZramFile>,
    pub report: Option<ReportFile>,
    /// What PID1 does when a phase of the boot fails, by phase.
    #[serde(default)]
    pub policies: BTreeMap<String, PolicyFile>,
    pub root: Option<RootFile>,
    /// Folders that live elsewhere than in the root, by absolute path.
    #[serde(default)]
    pub state: BTreeMap<String, StateFile>,
    pub watchdog: Option<WatchdogFile>,
    /// Where containerd looks for images of a registry, by its host, or `_default`.
    #[serde(default)]
    pub registry: BTreeMap<String, RegistryFile>,
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
#[derive(Debug, Clone, Deserialize, JsonSchema)]
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
    /// Texts that it may be; empty: any.
    #[serde(default)]
    pub choices: Vec<String>,
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
    /// Modules loaded before the root is mounted, in order: names, `@set`, modalias patterns. The file system of the root's image comes
    /// after them by itself, unless it is named.
    #[serde(default)]
    pub early: Vec<String>,
    /// Further modules of the initrd when the root comes over the network: network cards, and what reaches the root.
    #[serde(default)]
    pub netroot: Vec<String>,
    /// Files of modaliases that were collected on real machines (globs, relative to this file): what serves them is taken.
    pub modaliases: Option<OneOrMany>,
    /// Leave out of modules what they can be loaded without: type information, unwinding tables, hooks of the function tracer,
    /// trace events, debug messages, names of functions, signatures. Not for Secure Boot.
    #[serde(default = "yes")]
    pub strip: bool,
    /// Modules in the root, loaded when a device asks for them.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Modules in the root, loaded at boot, in order.
    #[serde(default)]
    pub load: Vec<String>,
    /// Entries of these lists, as they are written there (`@cni`), that an extended recipe has and this image does without.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Named lists of modules, for `@name`.
    #[serde(default)]
    pub sets: BTreeMap<String, Vec<String>>,
    /// Whether the firmware that modules declare goes into the image.
    #[serde(default = "no_firmware")]
    pub firmware: Firmware,
    /// Globs below `lib/firmware/`: declared files that this image does without.
    #[serde(default)]
    pub firmware_skip: Vec<String>,
    /// `allowed`: secrets may be in it, which whoever can fetch the image can read. With `secrets_reason`.
    pub secrets: Option<SecretsWord>,
    /// Why they are there.
    pub secrets_reason: Option<String>,
}

fn no_firmware() -> Firmware {
    Firmware::None
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OverlayFile {
    /// By which recipes that extend this one can change it; without a name they write its `dir` and `to`.
    pub name: Option<String>,
    /// Folder, relative to this file. `x.j2` in it is a template and becomes `x`.
    pub dir: Option<String>,
    /// Folder in the image.
    #[serde(default)]
    pub to: String,
    /// Condition: `debug`, `!debug`, `name == value`, `name != value`.
    pub when: Option<String>,
    /// Take out this overlay, which an extended recipe has.
    #[serde(default)]
    pub remove: bool,
    /// Take the place of this overlay that an extended recipe has: none of its keys stay.
    #[serde(default)]
    pub replace: bool,
    /// Globs of files below the folder that are left out.
    #[serde(default)]
    pub exclude: Vec<String>,
    #[serde(default = "config_segment")]
    pub segment: SegmentName,
    /// Path below the folder -> octal permissions, perhaps with an owner: `0640`, `0640 0:42`.
    #[serde(default)]
    pub modes: BTreeMap<String, String>,
    /// `allowed`: secrets may be in it, which whoever can fetch the image can read. With `secrets_reason`.
    pub secrets: Option<SecretsWord>,
    /// Why they are there.
    pub secrets_reason: Option<String>,
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
    /// Take the place of the file of this path that an extended recipe has: none of its keys stay.
    #[serde(default)]
    pub replace: bool,
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
    /// `allowed`: secrets may be in it, which whoever can fetch the image can read. With `secrets_reason`.
    pub secrets: Option<SecretsWord>,
    /// Why they are there.
    pub secrets_reason: Option<String>,
    #[serde(default = "config_segment")]
    pub segment: SegmentName,
}

/// The one word of `secrets`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SecretsWord {
    Allowed,
}

fn config_segment() -> SegmentName {
    SegmentName::Config
}

pub(super) fn yes() -> bool {
    true
}

pub(super) fn program_mode() -> String {
    "0755".into()
}
