//! The sections of a recipe file as they are written. The JSON schema is derived from these types, and files are checked
//! against that schema, so that both always say the same. What must be there is checked once `extends` has been merged: a file may
//! hold just the keys that it changes.

mod image;
mod memory;
mod network;
mod registry;
mod state;
mod system;

pub use image::*;
pub use memory::*;
pub use network::*;
pub use registry::*;
pub use state::*;
pub use system::*;

use super::{Firmware, SegmentName};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

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
