//! Which modules go where: those asked for, and what they draw in.

use super::KmodError;
use super::kernel::KernelFiles;
use super::known::Known;
use super::modinfo::ModInfo;
use super::symbols::order_depends;
use crate::cache::Cache;
use crate::recipe::{Kernel, ModuleRequest};
use bootwright_contract::modalias::{fnmatch, module_name, serves};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The outcome, kept in the cache: reading the modules again would cost more than the rest of a build.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// Names to be loaded early, in order.
    pub early: Vec<String>,
    /// Modules that are loaded before any root of this recipe is there: those of `early`, and what they need.
    pub loaded: Vec<String>,
    /// Names to be loaded from the root, in order.
    pub load: Vec<String>,
    /// Modules of the boot segment, and why.
    pub boot: BTreeMap<String, Demand>,
    /// Modules of the root, and why; none of them is loaded early.
    pub root: BTreeMap<String, Demand>,
    /// Of all of them.
    pub infos: BTreeMap<String, ModInfo>,
    /// Modaliases of the fleet's machines that nothing serves.
    pub unserved: Vec<Unserved>,
}

/// A modalias that neither a module nor the kernel itself serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unserved {
    pub modalias: String,
    /// File and line.
    pub origin: String,
}

/// What drew a module in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Demand {
    /// The recipe line, or the module.
    pub by: String,
    /// `asked for`, `alias`, `device`, `depends`, `softdep`, `weakdep`.
    pub relation: String,
}

/// [`Demand::relation`] of what serves a machine's modalias.
const DEVICE: &str = "device";
/// Drivers that a root over the network may need.
const NETWORK_DRIVERS: &str = "kernel/drivers/net/";

pub fn select(kernel: &Kernel, files: &KernelFiles, cache: &Cache, jobs: usize) -> Result<Selection, KmodError> {
    let mut selector = Selector { files, known: Known::new(files, cache, jobs) };
    let mut early = BTreeMap::new();
    let early_names = selector.take_requests(&kernel.early, &mut early)?;
    selector.close(&mut early)?;
    // What the root needs does not depend on where it comes from: it is the same image.
    let mut boot = early.clone();
    let mut root = BTreeMap::new();
    selector.take_requests(&kernel.modules, &mut root)?;
    let unserved = selector.take_devices(&kernel.modaliases, &mut root)?;
    if let Some(netroot) = &kernel.netroot {
        selector.take_requests(netroot, &mut boot)?;
        let of_device = |why: &Demand| why.relation == DEVICE;
        let is_driver = |name: &String| files.modules[name].path.starts_with(NETWORK_DRIVERS);
        boot.extend(
            root.iter().filter(|(n, why)| of_device(why) && is_driver(n)).map(|(n, why)| (n.clone(), why.clone())),
        );
        selector.close(&mut boot)?;
    }
    let load = selector.take_requests(&kernel.load, &mut root)?;
    selector.close(&mut root)?;
    root.retain(|name, _| !early.contains_key(name));
    let mut infos = selector.known.into_infos();
    infos.retain(|name, _| boot.contains_key(name) || root.contains_key(name));
    order_depends(files, &mut infos, jobs)?;
    let load = load.into_iter().filter(|name| !early.contains_key(name)).collect();
    let loaded = early.into_keys().collect();
    Ok(Selection { early: early_names, loaded, load, boot, root, infos, unserved })
}

struct Selector<'a> {
    files: &'a KernelFiles,
    known: Known<'a>,
}

impl Selector<'_> {
    /// Adds what is asked for; returns the names in order, without those that are built in.
    fn take_requests(
        &mut self,
        requests: &[ModuleRequest],
        into: &mut BTreeMap<String, Demand>,
    ) -> Result<Vec<String>, KmodError> {
        let mut names: Vec<String> = Vec::new();
        for request in requests {
            let found = match request.text.contains(['*', '?', '[']) {
                true => self.by_pattern(&request.text)?,
                false => self.resolve(&request.text)?,
            };
            let found = found.ok_or_else(|| self.nothing_for(request))?;
            let is_name = found == [module_name(&request.text)];
            let relation = if is_name { "asked for" } else { "alias" };
            for name in found {
                let why = Demand { by: request.origin.to_string(), relation: relation.into() };
                into.entry(name.clone()).or_insert(why);
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        Ok(names)
    }

    /// The modules that a name stands for, as `kmod_module_new_from_lookup` of libkmod finds them: a module, a symbol's
    /// owners, what has such an alias. None of them for what is built in; `None` where there is nothing of that name.
    fn resolve(&mut self, text: &str) -> Result<Option<Vec<String>>, KmodError> {
        let name = module_name(text);
        if self.files.modules.contains_key(&name) {
            return Ok(Some(vec![name]));
        }
        if let Some(symbol) = text.strip_prefix("symbol:") {
            let owners = self.files.exporting(symbol, self.known.jobs)?;
            return Ok(Some(owners).filter(|owners| !owners.is_empty()));
        }
        let serving = self.having_alias(|alias| serves(alias, text))?;
        let is_builtin = self.files.builtin.contains(&name)
            || self.files.builtin_aliases.iter().any(|(_, alias)| serves(alias, text));
        Ok(Some(serving).filter(|serving| is_builtin || !serving.is_empty()))
    }

    /// Modules with an alias that a pattern of the recipe matches; or whose alias matches the pattern itself.
    fn by_pattern(&mut self, pattern: &str) -> Result<Option<Vec<String>>, KmodError> {
        let hit = |alias: &str| fnmatch(pattern, alias) || serves(alias, pattern);
        let found = self.having_alias(hit)?;
        let is_builtin = self.files.builtin_aliases.iter().any(|(_, alias)| hit(alias));
        Ok(Some(found).filter(|found| is_builtin || !found.is_empty()))
    }

    fn having_alias(&mut self, hit: impl Fn(&str) -> bool) -> Result<Vec<String>, KmodError> {
        let having = self.known.read_all()?.iter().filter(|(_, info)| info.aliases.iter().any(|alias| hit(alias)));
        Ok(having.map(|(name, _)| name.clone()).collect())
    }

    fn nothing_for(&self, request: &ModuleRequest) -> KmodError {
        let (release, origin) = (self.files.release.clone(), request.origin.clone());
        if request.text.contains([':', '*', '?', '[']) {
            return KmodError::NoAlias { pattern: request.text.clone(), release, origin };
        }
        let name = module_name(&request.text);
        let near = self.files.modules.keys().chain(&self.files.builtin);
        let suggestion = near
            .map(|other| (strsim::jaro_winkler(&name, other), other))
            .filter(|(likeness, _)| *likeness > 0.85)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, other)| other.clone());
        KmodError::NoModule { name: request.text.clone(), release, suggestion, origin }
    }

    /// Adds what serves the modaliases of machines; returns those that nothing does.
    fn take_devices(
        &mut self,
        devices: &[ModuleRequest],
        into: &mut BTreeMap<String, Demand>,
    ) -> Result<Vec<Unserved>, KmodError> {
        if devices.is_empty() {
            return Ok(Vec::new());
        }
        let infos = self.known.read_all()?;
        let mut unserved = Vec::new();
        for device in devices {
            let is_served_by = |alias: &String| serves(alias, &device.text);
            let mut served = self.files.builtin_aliases.iter().any(|(_, alias)| is_served_by(alias));
            for (name, _) in infos.iter().filter(|(_, info)| info.aliases.iter().any(is_served_by)) {
                served = true;
                let why = Demand { by: device.origin.to_string(), relation: DEVICE.into() };
                into.entry(name.clone()).or_insert(why);
            }
            if !served {
                unserved.push(Unserved { modalias: device.text.clone(), origin: device.origin.to_string() });
            }
        }
        Ok(unserved)
    }

    /// Adds what the modules need, and what that needs.
    fn close(&mut self, modules: &mut BTreeMap<String, Demand>) -> Result<(), KmodError> {
        let mut new: Vec<String> = modules.keys().cloned().collect();
        while !new.is_empty() {
            self.known.read(&new)?;
            let mut next = BTreeSet::new();
            for by in &new {
                for (name, relation) in self.needs(by)? {
                    if !modules.contains_key(&name) {
                        modules.insert(name.clone(), Demand { by: by.clone(), relation: relation.into() });
                        next.insert(name);
                    }
                }
            }
            new = next.into_iter().collect();
        }
        Ok(())
    }

    fn needs(&mut self, by: &str) -> Result<Vec<(String, &'static str)>, KmodError> {
        let info = self.known.read(&[by.to_string()])?[by].clone();
        let mut found = Vec::new();
        for name in &info.depends {
            let name = module_name(name);
            if self.files.modules.contains_key(&name) {
                found.push((name, "depends"));
            } else if !self.files.builtin.contains(&name) {
                let release = self.files.release.clone();
                return Err(KmodError::NoDependency { name, by: by.into(), release });
            }
        }
        // modprobe.d(5): one that does not exist is passed over.
        for name in info.softdep_names() {
            found.extend(self.resolve(name)?.into_iter().flatten().map(|name| (name, "softdep")));
        }
        for name in &info.weakdeps {
            found.extend(self.resolve(name)?.into_iter().flatten().map(|name| (name, "weakdep")));
        }
        Ok(found)
    }
}
