//! A recipe file as it is written, as a whole: its sections are in `file/` and `component/`.

use super::component::{ComponentFile, ImageFile};
use super::file::*;
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
    /// Container images that are there without a pull.
    #[serde(default)]
    pub image: Vec<ImageFile>,
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
    pub memory: Option<MemoryFile>,
    pub pack: Option<PackFile>,
    pub budget: Option<BudgetFile>,
    pub smoke: Option<SmokeFile>,
    /// What is laid over the recipe when a condition holds.
    #[serde(default)]
    pub variant: Vec<VariantFile>,
    /// Seconds that a shutdown may take before the machine is reset or switched off regardless.
    #[serde(default = "shutdown_timeout_s")]
    pub shutdown_timeout_s: u32,
}

/// Laid over the whole recipe, as a recipe that extends it would be, when its condition holds. Sections that have no conditions of their own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VariantFile {
    /// Condition: `debug`, `!debug`, `name == value`, `name != value`.
    pub when: Option<String>,
    pub kernel: Option<KernelFile>,
    #[serde(default)]
    pub service: Vec<ServiceFile>,
    #[serde(default)]
    pub sysctls: BTreeMap<String, Scalar>,
    pub zram: Option<ZramFile>,
    pub root: Option<RootFile>,
    pub memory: Option<MemoryFile>,
    pub pack: Option<PackFile>,
    pub budget: Option<BudgetFile>,
    pub smoke: Option<SmokeFile>,
}
