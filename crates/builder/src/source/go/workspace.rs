//! The folder that a build runs in: a main module with `go.mod` and `go.sum`, below the cache's `tmp/`.

use super::super::SourceError;
use super::gomod::{GoMod, Replace, Require, write_go_mod};
use super::modules::{Downloaded, files_of, load_go_mod};
use crate::fetch::Context;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Module path of a throw-away module.
const MODULE: &str = "bootwright/build";

#[derive(Debug)]
pub struct Workspace {
    /// Holds `module/`, and what belongs to a build but not to its module. Removed on drop.
    pub root: TempDir,
    /// Arguments of every `go build` and `go list` in it.
    pub args: Vec<String>,
}

impl Workspace {
    /// Where `go` runs.
    pub fn module(&self) -> PathBuf {
        self.root.path().join("module")
    }

    fn create(cx: &Context<'_>) -> Result<Self, SourceError> {
        let root = cx.cache.temp_dir()?;
        let workspace = Self { root, args: vec!["-mod=readonly".into()] };
        make_dir(&workspace.module())?;
        Ok(workspace)
    }

    /// A copy of a main module of our own.
    pub fn of_dir(dir: &Path, cx: &Context<'_>) -> Result<Self, SourceError> {
        let workspace = Self::create(cx)?;
        copy_files(dir, &workspace.module(), |_| true)?;
        Ok(workspace)
    }

    /// A throw-away module that requires what `path` requires, at the same versions; `go.sum` is that of the module's
    /// own archive, with the checksums of those modules that it takes from folders of its repository.
    pub fn of_module(path: &str, modules: &[Downloaded], cx: &Context<'_>) -> Result<Self, SourceError> {
        let found = modules.iter().find(|m| m.path == path).ok_or_else(|| SourceError::BadInput {
            subject: path.into(),
            problem: "the lock does not pin it".into(),
            help: "renew the pins with `bootwright lock`".into(),
        })?;
        let mut sums = std::fs::read_to_string(found.dir.join("go.sum")).unwrap_or_default();
        for Downloaded { path, version, sum, go_mod_sum, .. } in modules {
            sums += &format!("{path} {version} {sum}\n{path} {version}/go.mod {go_mod_sum}\n");
        }
        let module = throw_away(load_go_mod(path, &found.go_mod)?, found, modules);
        let workspace = Self::create(cx)?;
        write(&workspace.module().join("go.mod"), write_go_mod(&module))?;
        write(&workspace.module().join("go.sum"), &sums)?;
        Ok(workspace)
    }
}

/// The `go.mod` of a module that stands in for `main` as the main module: only a main module's `replace` lines count.
fn throw_away(mut module: GoMod, main: &Downloaded, modules: &[Downloaded]) -> GoMod {
    module.module = MODULE.into();
    let published = |path: &str| modules.iter().find(|m| m.path == path);
    for require in &mut module.requires {
        if let Some(found) = published(&require.path) {
            require.version = found.version.clone();
        }
    }
    module.requires.push(Require { path: main.path.clone(), version: main.version.clone(), indirect: false });
    let kept = module.replaces.drain(..).filter_map(|replace| match (&replace.version, published(&replace.from)) {
        (Some(_), _) => Some(replace),
        (None, Some(found)) => {
            Some(Replace { to: replace.from.clone(), version: Some(found.version.clone()), ..replace })
        }
        (None, None) => None,
    });
    module.replaces = kept.collect();
    module
}

/// Copies the files of a main module (or of a module of Go's cache) that `wanted` says.
pub fn copy_files(from: &Path, to: &Path, wanted: impl Fn(&str) -> bool) -> Result<(), SourceError> {
    for (name, path) in files_of(from)?.into_iter().filter(|(name, _)| wanted(name)) {
        let target = to.join(&name);
        make_dir(target.parent().expect("it is below `to`"))?;
        // Not fs::copy: files of the module cache are read-only, and these are to be edited.
        let bytes = std::fs::read(&path).map_err(|cause| SourceError::Io { action: "read", path, cause })?;
        write(&target, bytes)?;
    }
    Ok(())
}

/// Copies a file, or a folder with all below it, as it is where links lead.
pub fn copy_all(from: &Path, to: &Path) -> Result<(), SourceError> {
    for found in walkdir::WalkDir::new(from).follow_links(true) {
        let found = found.map_err(|e| SourceError::Io { action: "read", path: from.into(), cause: e.into() })?;
        let below = found.path().strip_prefix(from).expect("a walk stays below its root");
        // Joined with nothing, a path would get a slash at its end.
        let target = if below.as_os_str().is_empty() { to.to_path_buf() } else { to.join(below) };
        if found.file_type().is_dir() {
            make_dir(&target)?;
        } else {
            let failed = |cause| SourceError::Io { action: "copy", path: found.path().into(), cause };
            std::fs::copy(found.path(), &target).map_err(failed)?;
        }
    }
    Ok(())
}

pub fn make_dir(path: &Path) -> Result<(), SourceError> {
    std::fs::create_dir_all(path).map_err(|cause| SourceError::Io { action: "make", path: path.into(), cause })
}

pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<(), SourceError> {
    std::fs::write(path, bytes).map_err(|cause| SourceError::Io { action: "write", path: path.into(), cause })
}
