//! What an image gives its node, as far as its tree, its recipe and its kernel package tell.

use super::mounts::{EFI_FIRMWARE, LATER, MADE_AT_BOOT, MADE_BY, MOUNTS};
use crate::assembly::TreeBuild;
use crate::entry;
use crate::profiles::{Need, NeedKind};
use crate::recipe::{CheckedRecipe, SegmentName};
use crate::tree::{Reason, Tree, resolve};
use bootwright_contract::modalias::module_name;
use bootwright_contract::paths::PROGRAM_FOLDERS;
use bootwright_contract::sysctl::SysctlNeed;
use bootwright_contract::{Ready, StatePlace};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What the kernel has unless something sets it (Documentation/admin-guide/sysctl/, Documentation/networking/ip-sysctl.rst).
const SYSCTL_DEFAULTS: &[(&str, &str)] = &[
    ("kernel.perf_event_paranoid", "2"),
    ("net.ipv4.conf.all.rp_filter", "0"),
    ("net.ipv4.ip_forward", "0"),
    ("net.ipv6.conf.all.forwarding", "0"),
    ("vm.max_map_count", "65530"),
];

/// How a need stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    Has,
    /// Only the running node tells.
    Unknown,
    Lacks,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq)]
pub enum PathKind {
    Dir,
    File { executable: bool },
    Other,
}

/// All of it. A test takes single things out of it.
#[derive(Debug, Clone)]
pub struct Contents {
    /// The kernel's release.
    pub release: String,
    /// Modules that can be loaded on the node, and those that PID1 has loaded.
    pub modules: BTreeSet<String>,
    pub builtin: BTreeSet<String>,
    /// Options that are set (`y`, `m` or a value), without `CONFIG_`. `None` where the kernel's component has no config.
    pub options: Option<BTreeMap<String, String>>,
    /// By path without leading `/`, symlinks followed in their folders. What a mount of the recipe hides is left out.
    pub files: BTreeMap<String, PathKind>,
    /// Symlinks and their targets, for paths that go through them.
    links: BTreeMap<String, entry::Kind>,
    /// Mount points with their types.
    pub mounts: BTreeMap<String, String>,
    /// Mount points that the machine, or a module that something loads, may make.
    pub may_be_mounted: BTreeSet<String>,
    /// Mounts are shared between node and pods: PID1 makes `/` so.
    pub shared: bool,
    pub sysctls: BTreeMap<String, String>,
    /// Sockets, files and folders that are made at boot or by programs of the image.
    pub made: BTreeSet<String>,
    /// Folders that the image does not decide: what is in them, only the node knows.
    pub open_folders: BTreeSet<String>,
}

impl Contents {
    /// `config`: the kernel's own, `boot/config-<release>` of its component.
    pub fn of(recipe: &CheckedRecipe, build: &TreeBuild, config: Option<&str>) -> std::io::Result<Self> {
        let mut contents = Self {
            release: build.kernel.release.clone(),
            modules: loadable(build),
            builtin: builtin(&build.tree, &build.kernel.release)?,
            options: config.map(parse_config),
            files: BTreeMap::new(),
            links: BTreeMap::new(),
            mounts: MOUNTS.iter().map(|(path, kind)| (path.to_string(), kind.to_string())).collect(),
            may_be_mounted: BTreeSet::new(),
            shared: true,
            sysctls: recipe.sysctls.clone(),
            made: MADE_AT_BOOT.iter().map(|path| path.to_string()).collect(),
            open_folders: ["/proc", "/sys", "/dev", "/run"].map(String::from).into(),
        };
        contents.add_files(&build.tree);
        contents.add_mounts(recipe);
        contents.add_later_mounts(build);
        for service in &recipe.services {
            if let Ready::Unix { path } | Ready::File { path } = &service.ready {
                contents.made.insert(path.clone());
            }
        }
        // PID1 writes it from that of the image (`crates/base/src/identity.rs`).
        if contents.files.contains_key("usr/lib/os-release") {
            contents.made.insert("/etc/os-release".into());
        }
        for (program, paths) in MADE_BY {
            if contents.program(program) {
                contents.made.extend(paths.iter().map(|path| path.to_string()));
            }
        }
        Ok(contents)
    }

    fn add_files(&mut self, tree: &Tree) {
        // The config segment is laid over the root.
        for segment in [SegmentName::Root, SegmentName::Config] {
            for found in tree.segment(segment) {
                let path = found.entry.path.clone();
                self.links.remove(&path);
                let node = match &found.entry.kind {
                    entry::Kind::Dir => PathKind::Dir,
                    entry::Kind::File(_) | entry::Kind::Hardlink(_) => {
                        PathKind::File { executable: found.entry.mode & 0o111 != 0 }
                    }
                    entry::Kind::Symlink(_) => {
                        self.files.remove(&path);
                        self.links.insert(path, found.entry.kind.clone());
                        continue;
                    }
                    _ => PathKind::Other,
                };
                self.files.insert(path, node);
            }
        }
    }

    fn add_mounts(&mut self, recipe: &CheckedRecipe) {
        // The builder refuses files below these.
        for tmpfs in &recipe.root.tmpfs {
            self.files.insert(tmpfs.path.trim_start_matches('/').into(), PathKind::Dir);
            self.mounts.insert(tmpfs.path.clone(), "tmpfs".into());
        }
        for state in &recipe.state {
            if !state.overlay {
                self.hide(&state.path);
            }
            self.open_folders.insert(state.path.clone());
            let kind = match (state.overlay, &state.place) {
                (true, _) => "overlay",
                (false, StatePlace::Volume { .. }) => "volume",
                (false, _) => "state",
            };
            self.mounts.insert(state.path.clone(), kind.into());
        }
    }

    fn add_later_mounts(&mut self, build: &TreeBuild) {
        let loaded = needed_by(build, SegmentName::Root, &build.kernel.load);
        for (path, kind, module) in LATER {
            let is_there = module.is_empty() || self.builtin.contains(*module) || loaded.contains(*module);
            if is_there {
                self.mounts.insert(path.to_string(), kind.to_string());
            } else if *module == EFI_FIRMWARE || self.has_module(module) {
                self.may_be_mounted.insert(path.to_string());
            }
        }
    }

    /// What is below a folder of `[state]` is not seen on the node, unless that is an overlay.
    fn hide(&mut self, path: &str) {
        let folder = path.trim_start_matches('/').to_string();
        let below = format!("{folder}/");
        self.files.retain(|path, _| !path.starts_with(&below));
        self.links.retain(|path, _| !path.starts_with(&below));
        self.files.insert(folder, PathKind::Dir);
    }

    pub fn standing(&self, need: &Need) -> Standing {
        need.names().map(|name| self.one(need.kind, name)).min().unwrap_or(Standing::Unknown)
    }

    fn one(&self, kind: NeedKind, name: &str) -> Standing {
        let known = |has: bool| if has { Standing::Has } else { Standing::Lacks };
        match kind {
            NeedKind::Module => known(self.has_module(name)),
            NeedKind::Program if name.starts_with('/') => known(self.is_program(name)),
            NeedKind::Program => known(self.program(name)),
            NeedKind::Path => self.path(&name.replace("${release}", &self.release)),
            NeedKind::Sysctl => self.sysctl(name),
            NeedKind::Option => match &self.options {
                Some(options) => known(options.contains_key(name)),
                None => Standing::Unknown,
            },
            NeedKind::Mount if self.may_be_mounted.contains(name) => Standing::Unknown,
            NeedKind::Mount => known(self.mounts.contains_key(name)),
            NeedKind::Shared => known(self.shared),
            NeedKind::Other => Standing::Unknown,
        }
    }

    pub fn has_module(&self, name: &str) -> bool {
        let name = module_name(name);
        self.modules.contains(&name) || self.builtin.contains(&name)
    }

    fn program(&self, name: &str) -> bool {
        PROGRAM_FOLDERS.iter().any(|folder| self.is_program(&format!("{folder}/{name}")))
    }

    fn is_program(&self, path: &str) -> bool {
        self.resolve(path).is_some_and(|end| self.files.get(&end) == Some(&PathKind::File { executable: true }))
    }

    fn path(&self, path: &str) -> Standing {
        let Some(end) = self.resolve(path) else { return Standing::Lacks };
        let absolute = format!("/{end}");
        let is_made = |made: &String| self.resolve(made).is_some_and(|made| made == end);
        if end.is_empty() || self.files.contains_key(&end) || self.mounts.contains_key(&absolute) {
            return Standing::Has;
        }
        match self.made.contains(&absolute) || self.made.iter().any(is_made) {
            true => Standing::Has,
            false if self.is_open(&absolute) => Standing::Unknown,
            false => Standing::Lacks,
        }
    }

    /// Nothing of the image decides what is there.
    fn is_open(&self, path: &str) -> bool {
        self.open_folders.iter().any(|folder| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
    }

    /// Where a path leads on the node; `None` for too many links.
    fn resolve(&self, path: &str) -> Option<String> {
        resolve(path, false, |at| self.links.get(at)).end
    }

    fn sysctl(&self, text: &str) -> Standing {
        let Some(need) = SysctlNeed::parse(text) else { return Standing::Unknown };
        let default = || SYSCTL_DEFAULTS.iter().find(|(key, _)| *key == need.key).map(|(_, value)| *value);
        match self.sysctls.get(need.key).map(String::as_str).or_else(default) {
            Some(found) if need.is_met_by(found) => Standing::Has,
            Some(_) => Standing::Lacks,
            None => Standing::Unknown,
        }
    }
}

/// Modules of the root, and those that are loaded before it: what `early` names, with all that it needs.
fn loadable(build: &TreeBuild) -> BTreeSet<String> {
    let mut found = needed_by(build, SegmentName::Boot, &build.kernel.early);
    found.extend(modules_of(build, SegmentName::Root).map(|(name, _)| name));
    found
}

/// Modules of a segment, each with what asked for it.
fn modules_of(build: &TreeBuild, segment: SegmentName) -> impl Iterator<Item = (String, String)> {
    build.tree.segment(segment).filter_map(|found| match &found.reason {
        Reason::Module { by, .. } => Some((module_name(&found.entry.path), module_name(by))),
        _ => None,
    })
}

/// The named modules, with those of the segment that they need.
fn needed_by(build: &TreeBuild, segment: SegmentName, names: &[String]) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = names.iter().map(|name| module_name(name)).collect();
    let all: Vec<(String, String)> = modules_of(build, segment).collect();
    loop {
        let is_new = |(name, by): &&(String, String)| !found.contains(name) && found.contains(by);
        let more: Vec<String> = all.iter().filter(is_new).map(|(name, _)| name.clone()).collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// `modules.builtin` of the root.
fn builtin(tree: &Tree, release: &str) -> std::io::Result<BTreeSet<String>> {
    let path = format!("usr/lib/modules/{release}/modules.builtin");
    let list = tree.find(&path).find_map(|found| match &found.entry.kind {
        entry::Kind::File(body) => Some(body),
        _ => None,
    });
    let Some(body) = list else { return Ok(BTreeSet::new()) };
    let bytes = body.read_start(body.size)?;
    Ok(String::from_utf8_lossy(&bytes).lines().filter(|line| !line.is_empty()).map(module_name).collect())
}

/// `CONFIG_X=y` a line (Documentation/kbuild/kconfig.rst); what is not set is a comment.
fn parse_config(text: &str) -> BTreeMap<String, String> {
    let set = text.lines().filter_map(|line| line.strip_prefix("CONFIG_")?.split_once('='));
    set.map(|(key, value)| (key.to_string(), value.to_string())).collect()
}
