//! A recipe: what an image is made of. This file holds the checked result.
//!
//! `load_recipe` reads a file and all that it extends, reports every problem at once with line and column, fills in
//! the variables and returns a [`CheckedRecipe`]. It never touches the network.

mod allowance;
mod check;
pub mod component;
mod expectation;
pub mod file;
mod fleet;
mod lineage;
mod load;
mod merge;
pub mod node;
pub mod place;
pub mod problem;
pub mod recipe_file;
pub mod render;
mod schema;
pub mod sources;
mod vars;

pub use allowance::Allowance;
pub use component::{
    BuiltinImage, Component, DebSpec, GoSpec, ImageSpec, OciSpec, PathSpec, Reference, SourceSpec, UrlSpec,
    parse_image_name, parse_layout, parse_reference,
};
pub use expectation::{Expectation, WORDS as EXPECTATION_WORDS};
pub use lineage::Lineage;
pub(crate) use load::shown;
pub use load::{RECIPES_ENV, load_recipe, parse_recipe_text};
pub use place::Origin;
pub use problem::RecipeErrors;
pub(crate) use schema::check_schema;
pub use schema::recipe_schema;
pub use vars::{TemplateError, render_template};

pub use crate::root_mode::{RootMode, default_place, default_source, image_name};

use crate::local::Modes;
use bootwright_contract as contract;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A recipe with `extends` resolved, variables filled in, conditions decided, and every reference checked.
#[derive(Debug, Clone)]
pub struct CheckedRecipe {
    pub name: String,
    pub summary: String,
    /// The recipe's own file, absolute.
    pub path: PathBuf,
    /// Its lock file: `<name>.lock` beside it, `<name>.local.lock` when a `NAME.local.toml` has a say in it.
    pub lock_path: PathBuf,
    /// Locks whose pins it takes for what it does not change, whether they are there or not: the nearest first.
    pub inherited_locks: Vec<PathBuf>,
    /// Every recipe file that was read, absolute: the recipe first, then what it extends.
    pub files_read: Vec<PathBuf>,
    /// Which of them is laid over which.
    pub lineage: Lineage,
    pub vars: BTreeMap<String, VarValue>,
    pub kernel: Kernel,
    /// All of them, and after them the container images; the image takes those that are `enabled`.
    pub components: Vec<Component>,
    pub overlays: Vec<Overlay>,
    pub files: Vec<InlineFile>,
    pub root: Root,
    pub pack: Pack,
    /// Ready for the boot config; order as written.
    pub services: Vec<contract::Service>,
    pub network: contract::Network,
    pub time: contract::Time,
    pub hostname: contract::Hostname,
    pub sysctls: BTreeMap<String, String>,
    pub policies: BTreeMap<String, contract::Policy>,
    pub zram: Option<contract::Zram>,
    /// Parents first.
    pub state: Vec<contract::StateFolder>,
    pub watchdog: Option<contract::Watchdog>,
    pub memory: Option<MemoryNeeds>,
    /// Where PID1 posts how far the boot is.
    pub report: Option<String>,
    pub shutdown_timeout_s: u32,
    pub budget: Budget,
    pub smoke: Smoke,
    /// Secrets that are allowed outside of overlays and components.
    pub secrets: Vec<Allowance>,
}

impl CheckedRecipe {
    /// Name of the image's folder: [`image_name`].
    pub fn image_name(&self) -> String {
        image_name(&self.name, self.root.mode)
    }
}

#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(untagged)]
pub enum VarValue {
    Bool(bool),
    Int(i64),
    Text(String),
}

#[derive(Debug, Clone)]
pub struct Kernel {
    pub origin: Origin,
    /// Component whose files hold `boot/vmlinuz-*` and `lib/modules/<release>/`.
    pub component: String,
    /// Modules wanted in the boot segment and loaded before the root is mounted, in order. Sets are expanded.
    pub early: Vec<ModuleRequest>,
    /// Further modules of the boot segment when the root comes over the network, loaded when a device or the root asks for
    /// them; `None` when it does not.
    pub netroot: Option<Vec<ModuleRequest>>,
    /// Modaliases of real machines: what serves them comes into the root, and network drivers into the boot segment of a
    /// network root.
    pub modaliases: Vec<ModuleRequest>,
    /// Modules of the boot segment lose what they can be loaded without, their signatures too.
    pub strip: bool,
    /// Those of the root do too, and lie there unpacked: the image that they are in is compressed.
    pub strip_root: bool,
    /// Modules wanted in the root, found by coldplug or `request_module`.
    pub modules: Vec<ModuleRequest>,
    /// Modules wanted in the root and loaded at boot, in order.
    pub load: Vec<ModuleRequest>,
    /// Named lists of modules, with the lists that they name in turn laid open.
    pub sets: BTreeMap<String, Vec<String>>,
    /// Kernel command line, joined by blanks.
    pub cmdline: Vec<String>,
    pub firmware: Firmware,
    /// Firmware files (globs below `lib/firmware/`) that modules declare and that this image does without.
    pub firmware_skip: Vec<String>,
}

impl Kernel {
    /// Words of the kernel command line.
    pub fn cmdline_words(&self) -> impl Iterator<Item = &str> {
        self.cmdline.iter().flat_map(|part| part.split_ascii_whitespace())
    }
}

/// One module asked for: a name (`e1000e`), or a modalias pattern (`pci:v00008086d*`), with where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct ModuleRequest {
    pub text: String,
    pub origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// None is put into the image.
    None,
    /// Each file that a chosen module declares, but for `firmware_skip`, must be in a component.
    Declared,
}

/// The segment that something goes to.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum SegmentName {
    /// PID1, early modules: needed before the root is there. First.
    Boot,
    /// The root: programs, libraries, modules. Stable.
    Root,
    /// Container images that are baked in; no part of the root.
    #[schemars(skip)]
    Images,
    /// Configs and overlays laid over the root by PID1. Last.
    Config,
}

/// A folder of files laid into the image.
#[derive(Debug, Clone)]
pub struct Overlay {
    /// Where its folder was named: a recipe that changes the rest of it does not make it its own.
    pub origin: Origin,
    pub name: Option<String>,
    /// Absolute.
    pub dir: PathBuf,
    /// Path in the image (no leading `/`), empty for the root.
    pub to: String,
    /// Globs of files below the folder that are left out; templates are named without their `.j2`.
    pub exclude: Vec<String>,
    pub segment: SegmentName,
    /// Permissions and owners that are not the usual ones.
    pub modes: Modes,
    /// Why secrets are allowed in it.
    pub secrets: Option<String>,
}

impl Overlay {
    /// All of a folder, as a recipe gets it that says no more.
    pub fn of(dir: PathBuf, origin: Origin) -> Self {
        let (name, secrets, to, exclude) = Default::default();
        Self { origin, name, dir, to, exclude, segment: SegmentName::Config, modes: Modes::new(), secrets }
    }

    /// Its name, or that of its folder.
    pub fn shown(&self) -> String {
        let folder = || self.dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.name.clone().unwrap_or_else(folder)
    }
}

/// A file, folder or link written in the recipe itself.
#[derive(Debug, Clone)]
pub struct InlineFile {
    pub origin: Origin,
    /// Where the same path was written in recipes that this one extends: the nearest first.
    pub changes: Vec<Origin>,
    /// No leading `/`.
    pub path: String,
    pub body: InlineBody,
    /// Permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub segment: SegmentName,
}

#[derive(Debug, Clone, PartialEq)]
pub enum InlineBody {
    /// Content with variables filled in.
    Text(String),
    Symlink(String),
    Dir,
    /// A further name of PID1's binary (`usr/bin/mount`): a hard link to it.
    Init,
}

#[derive(Debug, Clone)]
pub struct Root {
    pub mode: RootMode,
    /// Where a network root comes from, tried in turn; never empty for one. Empty for [`RootMode::Ram`].
    pub sources: Vec<String>,
    /// Further modes that `bw.root=` may choose: their modules are in the initrd too.
    pub choices: Vec<RootMode>,
    /// The recipe names the sources; else they are [`default_source`]'s and the boot script names the server.
    pub names_sources: bool,
    /// Never `cpio` for a network root, which is an image.
    pub image: contract::RootImage,
    /// squashfs or erofs block (cluster) size in KiB.
    pub block_kib: u32,
    /// Compressor of the image: `zstd`, `xz`, `gzip`, `lz4`, `lz4hc`; with its level.
    pub compressor: String,
    pub level: Option<u32>,
    pub overlay_size: String,
    pub read_ahead_kb: Option<u32>,
    pub tmpfs: Vec<contract::Tmpfs>,
    /// `None`: never.
    pub lost_reboot_s: Option<u32>,
    pub corrupted_reboot_s: Option<u32>,
    /// File with the public key whose signed roots are taken.
    pub trust: Option<PathBuf>,
    pub refuse_downgrade: bool,
}

/// How segments are packed.
#[derive(Debug, Clone)]
pub struct Pack {
    /// Boot segment.
    pub boot: Compression,
    /// The root segment when the root is a cpio.
    pub stable: Compression,
    /// Config segment.
    pub volatile: Compression,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    None,
    /// gzip level 0-9.
    Gzip(u32),
    /// xz preset 0-9, CRC32, with the x86 filter when set.
    Xz {
        level: u32,
        x86: bool,
    },
    /// zstd level 1-22, window log bounded at 27.
    Zstd(i32),
}

#[derive(Debug, Clone, Default)]
pub struct Budget {
    /// Kernel + initrd, MB (10^6 bytes).
    pub boot_files_mb: Option<f64>,
    /// Initrd of a network root, MB.
    pub netroot_initrd_mb: Option<f64>,
    /// Smallest RAM that must do, MiB: peak at unpack and steady state must both fit.
    pub ram_mib: Option<u64>,
    /// RAM that the workload needs beside the image (processes, page cache), MiB: from a measurement.
    pub workload_mib: Option<u64>,
    /// Packed size a component may have, MB.
    pub components_mb: BTreeMap<String, f64>,
    /// Where `[budget]` stands.
    pub origin: Option<Origin>,
}

/// `[memory]`.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryNeeds {
    /// For the boot config.
    pub shares: contract::Memory,
    /// What must be left for pods with the RAM of the budget.
    pub workload_mib: Option<u64>,
}

#[derive(Debug, Clone)]
pub struct Smoke {
    pub ram_mib: u32,
    pub smp: u32,
    /// Seconds of wall time for all expectations.
    pub deadline_s: u32,
    pub expect: Vec<Expectation>,
    /// More words for the kernel command line.
    pub cmdline: Vec<String>,
}
