//! Go modules and Go itself for a build without a network.

use super::modules::{Modules, hash_dir};
use super::toolchain::{Toolchain, exactly};
use super::workspace::{copy_all, make_dir};
use super::{Go, build, patches, pinned_toolchain};
use crate::entry::Sha256;
use crate::fetch::{Context, FetchError, VendorFiller};
use crate::source::{Pin, SourceError};
use std::path::Path;

/// What a module proxy serves of a version.
const SERVED: [&str; 3] = ["info", "mod", "zip"];
/// What Go needs of its own folder to build programs, and its licence.
const NEEDED: [&str; 8] = ["VERSION", "LICENSE", "PATENTS", "go.env", "bin", "lib", "pkg", "src"];

impl Go<'_> {
    /// Has `go` ask for everything that a build needs twice: first from everywhere, then from the cache alone with nothing of its
    /// own. What it asked for the second time is what it will ask for in a build without a network.
    pub(super) fn fill(&self, pins: &[Pin], to: &VendorFiller<'_>, cx: &Context<'_>) -> Result<(), SourceError> {
        let found = self.toolchains(cx)?;
        let go = match pinned_toolchain(pins) {
            Some(pinned) => exactly(&found, pinned)?,
            None => &found[0],
        };
        self.ask_for_modules(pins, go, cx)?;
        let downloads = go.module_cache()?.join("cache/download");
        let empty = cx.cache.temp_dir()?;
        let alone = go.clone().only_from(&downloads).with_caches(empty.path());
        self.ask_for_modules(pins, &alone, cx)?;
        copy_downloads(&alone.module_cache()?.join("cache/download"), to)?;
        make_removable(empty.path())?;
        add_go(go, to)
    }

    /// Brings all modules that a build needs into the module cache of `go`.
    fn ask_for_modules(&self, pins: &[Pin], go: &Toolchain, cx: &Context<'_>) -> Result<(), SourceError> {
        let modules = Modules { toolchains: std::slice::from_ref(go), cx }.fetch(pins)?;
        let mut workspace = self.workspace(&modules, cx)?;
        // A patch can make importable what is a program.
        workspace.apply_patches(&patches::load(&self.spec.patches, cx.recipe_dir)?, go)?;
        build::list_packages(self.spec, &workspace, go).map(drop)
    }
}

impl Go<'_> {
    /// Those of this machine, and the one of the vendor folder where this machine has no other one that the lock pins. A build from a
    /// vendor folder has its modules from there.
    pub(super) fn toolchains_for(&self, pins: &[Pin], cx: &Context<'_>) -> Result<Vec<Toolchain>, SourceError> {
        let Some(vendor) = &cx.settings.vendor else { return self.toolchains(cx) };
        let here = self.toolchains(cx);
        let found = match pinned_toolchain(pins) {
            Some(pinned) if !here.iter().flatten().any(|go| go.version == pinned) => {
                let dir = vendor.toolchain(pinned);
                check_go(&dir, pinned)?;
                let found = Toolchain::find_in([dir.join("bin/go")], &self.programs(), true)?;
                found.into_iter().map(|go| go.with_caches(cx.cache.root())).collect()
            }
            _ => here?,
        };
        Ok(found.into_iter().map(|go| go.only_from(&vendor.go_proxy())).collect())
    }

    /// What went wrong with modules, as a matter of the vendor folder where they come from one.
    pub(super) fn of_vendor(&self, error: SourceError, cx: &Context<'_>) -> SourceError {
        let Some(vendor) = &cx.settings.vendor else { return error };
        let (name, path) = (self.programs(), vendor.go_proxy());
        SourceError::Fetch(FetchError::VendorDamaged { name, path, problem: without_advice(&error) })
    }
}

/// An error of `go`, which has other advice than a vendor folder needs.
fn without_advice(error: &SourceError) -> String {
    match error {
        SourceError::Fetch(FetchError::Offline { name }) => format!("`{name}` is not there"),
        SourceError::Fetch(FetchError::Gone { name, version, .. }) => format!("`{name}` {version} is not there"),
        other => other.to_string(),
    }
}

/// `from`: a module cache's folder of downloads.
fn copy_downloads(from: &Path, to: &VendorFiller<'_>) -> Result<(), SourceError> {
    let failed = |cause| SourceError::Io { action: "read", path: from.into(), cause };
    for found in walkdir::WalkDir::new(from).sort_by_file_name() {
        let found = found.map_err(|e| failed(e.into()))?;
        let is_served = found.path().extension().is_some_and(|end| SERVED.iter().any(|served| end == *served));
        // The records of the checksum database lie beside the modules.
        let below = found.path().strip_prefix(from).expect("a walk stays below its root");
        if found.file_type().is_file() && is_served && !below.starts_with("sumdb") {
            to.add_to_proxy(below, &std::fs::read(found.path()).map_err(failed)?)?;
        }
    }
    Ok(())
}

/// `go` leaves folders that their owner cannot write to.
fn make_removable(dir: &Path) -> Result<(), SourceError> {
    let mods = dir.join("go");
    crate::cache::remove_tree(&mods).map_err(|cause| SourceError::Io { action: "remove", path: mods, cause })
}

fn add_go(go: &Toolchain, to: &VendorFiller<'_>) -> Result<(), SourceError> {
    let root = go.root()?;
    let copy = |to: &Path| {
        make_dir(to)?;
        NEEDED
            .iter()
            .filter(|name| root.join(name).exists())
            .try_for_each(|name| copy_all(&root.join(name), &to.join(name)))
    };
    to.add_toolchain(&go.version, copy, sum)
}

/// Of a version of Go in a vendor folder.
fn check_go(toolchain: &Path, version: &str) -> Result<(), SourceError> {
    if !toolchain.exists() {
        return Err(SourceError::Fetch(FetchError::NotVendored { name: version.into(), path: toolchain.into() }));
    }
    let expected = crate::fetch::toolchain_sum(toolchain);
    if expected.is_some() && sum(toolchain).ok() == expected {
        return Ok(());
    }
    let (name, path, problem) =
        (version.into(), toolchain.into(), "its files are not those that were put there".into());
    Err(SourceError::Fetch(FetchError::VendorDamaged { name, path, problem }))
}

fn sum(dir: &Path) -> Result<Sha256, SourceError> {
    hash_dir(dir).map(|(sha256, _)| sha256)
}
