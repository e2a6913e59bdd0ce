//! Programs built from Go modules: of other people's main packages by module and version, or of a folder of our own
//! whose `go.mod` and `go.sum` pin the rest.
//!
//! Modules come from where the user's GOPROXY says, or from the archives that Go's own cache on this machine holds; they are
//! unpacked and compiled in caches that only our builds use, and compared with `go.sum` before and after. What is built is kept in our
//! cache by all that decides its bytes, so that it is never built twice, and needs no Go when it is there.

mod build;
mod gomod;
mod licences;
mod modules;
mod patches;
#[cfg(test)]
mod tests;
mod toolchain;
mod vendor;
mod verify;
mod workspace;

pub use toolchain::{Toolchain, parse_go_version};

use super::{PackageFacts, Pin, Pool, Source, SourceError};
use crate::entry::{Body, BodyAt, Entry, Kind, Sha256};
use crate::fetch::{Context, FetchError, VendorFiller};
use crate::recipe::GoSpec;
use crate::tool::{Needs, Tool};
use build::Built;
use modules::{Downloaded, Modules};
use patches::PatchFile;
use std::path::{Path, PathBuf};
use toolchain::exactly;
use verify::changed_modules;
use workspace::Workspace;

/// Folder of the cache's derived things.
const KIND: &str = "go";
/// Part of every key: how programs are built, how they are laid down, and what is kept beside them.
const FORMAT: u32 = 2;

pub struct Go<'a> {
    pub spec: &'a GoSpec,
}

impl Source for Go<'_> {
    fn lock(&self, cx: &Context<'_>) -> Result<Vec<Pin>, SourceError> {
        self.lock_with(&self.toolchains(cx)?, cx)
    }

    fn fetch(&self, pins: &[Pin], cx: &Context<'_>) -> Result<(), SourceError> {
        self.fetch_with(|| self.toolchains_for(pins, cx), pins, cx)
    }

    fn vendor(&self, pins: &[Pin], to: &VendorFiller<'_>, cx: &Context<'_>) -> Result<(), SourceError> {
        self.check_current(pins, cx)?;
        self.fill(pins, to, cx)
    }

    fn is_current(&self, pins: &[Pin], cx: &Context<'_>) -> Result<bool, SourceError> {
        self.dir(cx).map_or(Ok(true), |dir| modules::is_pinned(&dir, pins))
    }

    fn needs(&self, pins: Option<&[Pin]>) -> Needs {
        let go = pins.and_then(pinned_toolchain).map(|version| version.trim_start_matches("go").to_string());
        Needs { build: [Tool::Go].into(), go, ..Needs::default() }
    }

    fn open(&self, pins: &[Pin], cx: &Context<'_>) -> Result<Pool, SourceError> {
        let patches = patches::load(&self.spec.patches, cx.recipe_dir)?;
        let key = self.key(pins, &patches);
        let Some(dir) = cx.cache.derived(KIND, &key) else {
            return Err(SourceError::Fetch(FetchError::Offline { name: self.programs() }));
        };
        let built = Built::load(&dir)?;
        let mut entries = self.entries(&built, &dir)?;
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let packages = built.modules.iter().map(facts).collect();
        let patches = patches.into_iter().map(|patch| patch.facts).collect();
        Ok(Pool { entries, packages, patches, ..Pool::default() })
    }
}

impl Go<'_> {
    /// The archives of modules, `(path, version)`, in that order: path, version and place of each.
    pub fn archives(
        &self,
        modules: &[(&str, &str)],
        cx: &Context<'_>,
    ) -> Result<Vec<(String, String, PathBuf)>, SourceError> {
        if modules.is_empty() {
            return Ok(Vec::new());
        }
        let toolchains = self.toolchains(cx)?;
        let found = Modules { toolchains: &toolchains, cx }.archives(modules)?;
        Ok(found.into_iter().map(|found| (found.path, found.version, found.zip)).collect())
    }

    fn toolchains(&self, cx: &Context<'_>) -> Result<Vec<Toolchain>, SourceError> {
        let found = Toolchain::find_all(&self.programs(), cx.settings.offline)?;
        Ok(found.into_iter().map(|go| go.with_caches(cx.cache.root())).collect())
    }

    /// The programs' names, for messages.
    fn programs(&self) -> String {
        let names = self.spec.packages.values().map(|path| path.rsplit('/').next().unwrap_or(path));
        names.collect::<Vec<_>>().join(", ")
    }

    fn dir(&self, cx: &Context<'_>) -> Option<PathBuf> {
        self.spec.dir.as_ref().map(|dir| cx.recipe_dir.join(dir))
    }

    fn lock_with(&self, toolchains: &[Toolchain], cx: &Context<'_>) -> Result<Vec<Pin>, SourceError> {
        let modules = Modules { toolchains, cx };
        let mut pins = match self.dir(cx) {
            Some(dir) => modules.lock_dir(&dir)?,
            None => modules.lock_module(&self.spec.module, &self.spec.version)?,
        };
        pins.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pins)
    }

    fn fetch_with(
        &self,
        toolchains: impl FnOnce() -> Result<Vec<Toolchain>, SourceError>,
        pins: &[Pin],
        cx: &Context<'_>,
    ) -> Result<(), SourceError> {
        self.check_current(pins, cx)?;
        let patches = patches::load(&self.spec.patches, cx.recipe_dir)?;
        let key = self.key(pins, &patches);
        if cx.cache.derived(KIND, &key).is_some() {
            return Ok(());
        }
        let programs = self.programs();
        let wait = || cx.ui.say(format_args!("waiting for another build of {programs}"));
        let _lock = cx.cache.lock_or_wait(&format!("{KIND}/{key}"), wait)?;
        if cx.cache.derived(KIND, &key).is_some() {
            return Ok(());
        }
        let found = toolchains()?;
        let go = match pinned_toolchain(pins) {
            Some(pinned) => exactly(&found, pinned)?,
            None => &found[0],
        };
        let modules = Modules { toolchains: std::slice::from_ref(go), cx }.fetch(pins);
        let mut workspace = self.workspace(&modules.map_err(|e| self.of_vendor(e, cx))?, cx)?;
        let module_cache = go.module_cache()?;
        for changed in changed_modules(&workspace, &module_cache)? {
            cx.ui.say(format_args!("module `{}` was changed in the cache: fetching it anew", changed.module));
            changed.discard(&module_cache)?;
        }
        workspace.apply_patches(&patches, go).map_err(|e| match e {
            SourceError::Fetch(_) => self.of_vendor(e, cx),
            e => e,
        })?;
        if cx.settings.vendor.is_some() {
            // Before the build, so that what a folder lacks is told as that.
            build::list_packages(self.spec, &workspace, go).map_err(|e| self.of_vendor(e, cx))?;
        }
        let task = cx.ui.task(&format!("building {programs} with {} (takes minutes)", go.version), None);
        let out = build::build(self.spec, &workspace, go, cx)?;
        drop(task);
        if let Some(changed) = changed_modules(&workspace, &module_cache)?.into_iter().next() {
            return Err(changed.into_error());
        }
        cx.cache.adopt_derived(KIND, &key, &out)?;
        Ok(())
    }

    fn check_current(&self, pins: &[Pin], cx: &Context<'_>) -> Result<(), SourceError> {
        if self.is_current(pins, cx)? {
            return Ok(());
        }
        Err(SourceError::BadInput {
            subject: self.spec.dir.as_ref().map(|dir| dir.display().to_string()).unwrap_or_default(),
            problem: "it is not what the lock pins".into(),
            help: "it changed since: renew the lock with `bootwright lock`, or build without --locked".into(),
        })
    }

    fn workspace(&self, modules: &[Downloaded], cx: &Context<'_>) -> Result<Workspace, SourceError> {
        match self.dir(cx) {
            Some(dir) => Workspace::of_dir(&dir, cx),
            None => Workspace::of_module(&self.spec.module, modules, cx),
        }
    }

    /// Names what the build depends on: the spec but for the places in the image, the patches' bytes, and the pins with the
    /// toolchain.
    fn key(&self, pins: &[Pin], patches: &[PatchFile]) -> String {
        let GoSpec { module, version, dir: _, packages, tags, ldflags, gcflags, patches: _ } = self.spec;
        let packages: Vec<&String> = packages.keys().collect();
        let patches: Vec<_> = patches.iter().map(PatchFile::key).collect();
        let parts = (FORMAT, module, version, packages, tags, ldflags, gcflags, patches, pins);
        Sha256::of(&serde_json::to_vec(&parts).expect("specs and pins are plain data")).to_string()
    }

    fn entries(&self, built: &Built, dir: &Path) -> Result<Vec<Entry>, SourceError> {
        let entry = |(package, to): (&String, &String)| {
            let program = built.programs.iter().find(|p| &p.package == package);
            let program = program.expect("the key holds the packages, all of them were built");
            let path = crate::entry::parse_entry_path(to).map_err(|problem| SourceError::BadInput {
                subject: to.clone(),
                problem: problem.to_string(),
                help: "give a path inside the image, such as `usr/bin/kubelet`".into(),
            })?;
            let at = BodyAt::File { path: dir.join(&program.file).into(), offset: 0 };
            let kind = Kind::File(Body { sha256: program.sha256, size: program.size, at });
            Ok(Entry::of_root(path, kind, 0o755))
        };
        self.spec.packages.iter().map(entry).collect()
    }
}

/// The version that the pins of a component name: `go1.26.8`.
fn pinned_toolchain(pins: &[Pin]) -> Option<&str> {
    pins.iter().find_map(|pin| pin.detail.get("toolchain")).map(String::as_str)
}

fn facts(module: &build::Module) -> PackageFacts {
    let mut facts = PackageFacts {
        name: module.path.clone(),
        version: module.version.clone(),
        purl: Some(format!("pkg:golang/{}@{}", module.path, module.version)),
        ..PackageFacts::default()
    };
    facts.set_licence(module.licence.clone());
    facts
}
